"""A strong decoder: p(x|z) = Π_i p(x_i | x_<i, z) over binary pixels, row by row.

It can learn p(x) without z, which is why VAEs with such a decoder collapse.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from flax import nnx
from jaxtyping import Array, Bool, Float, PyTree, Shaped

from .distributions import Bernoulli, Distribution, check_event, pytree
from .networks import MLP, Image, Shape, windows
from .typing import PRNGKey, Scalar

Mask = Bool[Array, "height width 1"]


class PixelCNN(nnx.Module):
    """The gated PixelCNN of van den Oord et al. 2016: z -> p(x|z).

    One stack of features for the rows above a pixel and one for its own row, so that no
    earlier pixel is hidden. ``kernels`` are odd, one a layer: with m = Σ (k - 1)/2 a
    pixel depends on 1 + m rows above it, there on m columns to either side, and on
    1 + m pixels to its left. Fewer or smaller kernels make a weaker decoder.

        PixelCNN(20, (14, 14, 1), 16, (9, 3, 3), rngs=rngs)

    A decoder as it is: ``VAE(prior, encoder, PixelCNN(...))``. An MLP paints z as
    features of every pixel, which enter the gates of the first layer, or with ``skip``
    those of every layer (the skip connections of Dieng et al. 2019).
    """

    def __init__(
        self,
        size: int,
        shape: Shape,
        width: int,
        kernels: tuple[int, ...],
        *,
        skip: bool = False,
        rngs: nnx.Rngs,
    ):
        if len(shape) != 3 or shape[2] != 1:
            raise ValueError(f"Expected a shape (height, width, 1), got {shape}.")
        check_kernels(kernels)
        self.shape = shape
        self.paint = MLP(size, 4 * width, (*shape[:2], width), rngs=rngs)
        layers = [
            GatedLayer(width if n else 1, width, kernel, skip or n == 0, rngs=rngs)
            for n, kernel in enumerate(kernels)
        ]
        self.layers = nnx.data(layers)
        self.hidden = nnx.Linear(width, width, rngs=rngs)
        self.head = nnx.Linear(width, 1, rngs=rngs)

    def __call__(self, z: Float[Array, " size"]) -> "Autoregressive":
        """p(x|z)."""
        return Autoregressive(self, z)

    def logits(
        self,
        x: Shaped[Array, "*event"],
        z: Float[Array, " size"],
        keep: Mask | None = None,
    ) -> Image:
        """The log odds of each pixel being 1, given z and the pixels before it.

        Raises:
            ValueError: for an image of another shape.
            TypeError: for integers.

        """
        check_event(x, jnp.broadcast_to(0.0, self.shape))
        seen = 2 * x - 1  # so that 0 stands for what is not seen: outside, or dropped
        seen = seen if keep is None else jnp.where(keep, seen, 0)
        h = from_previous(self.layers, seen, jax.nn.relu(self.paint(z)))
        return self.head(jax.nn.relu(self.hidden(jax.nn.relu(h))))


def check_kernels(kernels: tuple[int, ...]):
    """Refuse a kernel without a middle column.

    Raises:
        ValueError: for none, or an even one.

    """
    if not kernels or any(k < 1 or k % 2 == 0 for k in kernels):
        raise ValueError(
            f"Expected odd kernels, one a layer, got {kernels}: a kernel has a "
            "middle column, such as (7, 3, 3)."
        )


def from_previous(
    layers: Iterable[Callable],
    seen: Float[Array, "height width i"],
    code: Float[Array, "height width o"] | None,
) -> Float[Array, "height width o"]:
    """Features of each pixel, from the pixels before it alone, and from ``code``."""
    # Shifted here by one pixel; from here on a pixel may see its own place.
    above = jnp.pad(seen, ((1, 0), (0, 0), (0, 0)))[:-1]
    left = jnp.pad(seen, ((0, 0), (1, 0), (0, 0)))[:, :-1]
    for layer in layers:
        above, left = layer(above, left, code)
    return left


class GatedLayer(nnx.Module):
    """tanh(a) sigmoid(b) in both stacks; the upper one feeds the one of the own row."""

    def __init__(self, i: int, o: int, kernel: int, told: bool, *, rngs: nnx.Rngs):
        self.reach = (kernel - 1) // 2
        rows = self.reach + 1
        self.above = nnx.Linear(rows * kernel * i, 2 * o, rngs=rngs)
        self.left = nnx.Linear(rows * i, 2 * o, rngs=rngs)
        self.down = nnx.Linear(2 * o, 2 * o, use_bias=False, rngs=rngs)
        self.out = nnx.Linear(o, o, rngs=rngs)
        code = nnx.Linear(o, 2 * o, use_bias=False, rngs=rngs) if told else None
        self.code = nnx.data(code)

    def __call__(
        self,
        above: Float[Array, "height width i"],
        left: Float[Array, "height width i"],
        code: Float[Array, "height width o"] | None,
    ) -> tuple[Float[Array, "height width o"], Float[Array, "height width o"]]:
        """Both stacks, after the layer."""
        m = self.reach
        a = self.above(windows(above, m, 0, m, m))
        if self.code is not None and code is not None:
            a = a + self.code(code)
        b = self.left(windows(left, 0, 0, m, 0)) + self.down(a)
        out = self.out(_gate(b))
        return _gate(a), out + left if out.shape == left.shape else out


def _gate(a):
    value, gate = jnp.split(a, 2, -1)
    return jnp.tanh(value) * jax.nn.sigmoid(gate)


@pytree
class Autoregressive(Distribution):
    """Coins tossed one after the other, in the order of ``x.ravel()``.

    ``network.logits(x, z, keep)`` are their log odds; what it says of a pixel may
    depend on the pixels before it alone. ``keep``, where there is one, says which
    pixels it sees. There is no ``mean``, which has no closed form: average samples.
    """

    network: PixelCNN
    z: Float[Array, "*batch size"]
    keep: Bool[Array, "*batch height width 1"] | None = None

    def log_prob(self, x: Shaped[Array, "*event"]) -> Scalar:
        """Σ_i log p(x_i | x_<i, z), exact, all pixels in one pass.

        Minus infinity when a pixel is neither 0 nor 1: bring gray images through
        ``losses.binarized``.
        """
        log_p = Bernoulli(self.network.logits(x, self.z, self.keep)).log_prob(x)
        return jnp.where(((x == 0) | (x == 1)).all(), log_p, -jnp.inf)

    def sample(self, key: PRNGKey) -> Image:
        """Zeros and ones, as floats, with no gradient.

        Pixel i is 1 where u_i < sigmoid(logit_i), u_i uniform; see ``settle``. A digit
        of 14 x 14 takes about ten passes of the network, and not one for each of its
        196 pixels.
        """
        noise = jr.logistic(key, self.network.shape)

        def toss(x):
            logits = self.network.logits(x, self.z, self.keep)
            return (logits + noise > 0).astype(noise.dtype)

        return settle(toss, jnp.zeros_like(noise))


def settle(toss: Callable, first: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
    """The x with ``x = toss(x)``, where pixel i of toss(x) depends on x_<i alone.

    All pixels are guessed, then computed from the guess, until none changes: after n
    rounds the first n are right, and most are right far sooner (Song et al. 2021).
    """

    def once_more(carry):
        _, x, rounds = carry
        return x, toss(x), rounds + 1

    def moved(carry):
        before, x, rounds = carry
        return (before != x).any() & (rounds < first.size)

    return jax.lax.while_loop(moved, once_more, (first, toss(first), 1))[1]


def drop_previous(bound: Callable, rate: float) -> Callable:
    """The bound with previous pixels hidden from the decoder, each with this chance.

    The word dropout of Bowman et al. 2016, for pixels: what the decoder cannot see it
    has to read from z. The pixels to predict stay as they are. For each mask it is a
    bound on log p(x) of a decoder that sees less, so it says nothing of the model that
    sees all: train with it, and report the bound without it.

    Raises:
        ValueError: for a rate outside [0, 1].

    """
    if not 0 <= rate <= 1:
        raise ValueError(f"Expected a rate in [0, 1], got {rate}.")

    def hidden(model, x, key, **weights):
        key_keep, key = jr.split(key)
        keep = jr.bernoulli(key_keep, 1 - rate, x.shape)
        return bound(_Masked(model, keep), x, key, **weights)

    return hidden


class _Masked(NamedTuple):
    """The model, with a decoder that sees the kept pixels alone."""

    model: PyTree
    keep: Mask

    def p_z(self):
        return self.model.p_z()

    def q_z(self, x):
        return self.model.q_z(x)

    def p_x(self, z):
        return replace(self.model.p_x(z), keep=self.keep)
