"""Conditioning: networks that read a condition c, such as a label, in the middle.

Besides concatenation, which needs nothing new (``MLP`` joins its inputs), a condition
may scale and shift the features of each hidden layer. The weights then differ with c,
and not the first layer's bias alone.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PyTree, Shaped

from .models import Given
from .networks import MLP, Shape, joined
from .typing import PRNGKey, Scalar, Terms

Features = Float[Array, "*places width"]


class FiLM(nnx.Module):
    """h -> (1 + a(c)) h + b(c), with a and b linear in c (Perez et al. 2018).

    One scale and one shift a feature, the same at all places of a grid.
    """

    def __init__(self, width: int, condition: int, *, rngs: nnx.Rngs):
        self.width = width
        self.linear = nnx.Linear(condition, 2 * width, rngs=rngs)

    def __call__(self, h: Features, c: Shaped[Array, "..."]) -> Features:
        """The features, scaled and shifted."""
        scale, shift = self.scale_and_shift(c)
        return h * jnp.broadcast_to(scale, h.shape) + jnp.broadcast_to(shift, h.shape)

    def scale_and_shift(
        self, c: Shaped[Array, "..."]
    ) -> tuple[Float[Array, " width"], Float[Array, " width"]]:
        """1 + a(c) and b(c).

        Raises:
            ValueError: for a condition of another size, such as a label that is not
                one-hot.

        """
        c = joined((c,), self.linear.in_features)
        a, b = jnp.split(self.linear(c), 2)
        return 1 + a, b


class ConditionalNorm(nnx.Module):
    """``FiLM`` of features normalised to mean 0 and variance 1 (Dumoulin et al. 2017).

    The usual scale and shift after a normalisation, here read off c. The mean and the
    variance are over the features of each place, as in layer normalisation: those of
    conditional batch normalisation (de Vries et al. 2017) would couple the examples.
    """

    def __init__(self, width: int, condition: int, *, rngs: nnx.Rngs):
        self.norm = nnx.LayerNorm(width, use_scale=False, use_bias=False, rngs=rngs)
        self.film = FiLM(width, condition, rngs=rngs)

    def __call__(self, h: Features, c: Shaped[Array, "..."]) -> Features:
        """The features, normalised, scaled and shifted."""
        return self.film(self.norm(h), c)


class ModulatedMLP(nnx.Module):
    """An ``MLP`` each of whose hidden layers a condition modulates, before activation.

    ``modulation`` is ``FiLM`` or ``ConditionalNorm``, ``condition`` the size of c.

        ModulatedMLP(20, 400, (28, 28, 1), condition=10, modulation=FiLM, rngs=rngs)

    A decoder of ``Given`` as it is: it is called with z and c.
    """

    def __init__(
        self,
        *sizes: int | Shape,
        condition: int,
        modulation: Callable,
        activation: Callable = jax.nn.relu,
        rngs: nnx.Rngs,
    ):
        self.activation = activation
        self.mlp = MLP(*sizes, activation=activation, rngs=rngs)
        widths = [layer.out_features for layer in self.mlp.layers[:-1]]
        self.modulations = nnx.data(
            [modulation(w, condition, rngs=rngs) for w in widths]
        )

    def __call__(
        self, x: Shaped[Array, "..."], c: Shaped[Array, "..."]
    ) -> Float[Array, "..."]:
        """The last layer's output, in its shape, with no activation."""
        *hidden, last = self.mlp.layers
        h = joined((x,), self.mlp.width)
        for layer, modulate in zip(hidden, self.modulations, strict=True):
            h = self.activation(modulate(layer(h), c))
        return last(h).reshape(self.mlp.shape)


def given(bound: Callable) -> Callable:
    """The bound on log p(x|c): a function of a pair (x, c), the model given its c.

    Data are pairs of arrays: ``fit(vae, minimise(mean_over_batch(given(elbo)), adam),
    (images, one_hot), ...)``, and so for ``evaluate`` and every bound. To sample,
    ``Given(vae, c)`` is the model of one c.
    """

    def of_pair(
        model, example: tuple[PyTree, PyTree], key: PRNGKey, **weights
    ) -> tuple[Scalar, Terms]:
        x, c = example
        return bound(Given(model, c), x, key, **weights)

    return of_pair
