"""A learned prior over grids of codes, without which discrete codes do not sample.

Second stage, with encoder, codebook and decoder as they are after the first::

    vqvae.prior = CodePrior((7, 7), 256, 32, (7, 3, 3), rngs=rngs)
    prior = nnx.All(nnx.Param, nnx.PathContains("prior"))
    fit(vqvae, minimise(mean_over_batch(elbo), adam, prior), images, key=key, epochs=10)

The rate falls from tokens · log K, that of uniform codes, to -log p(z).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.random as jr
from flax import nnx
from jaxtyping import Array, Float, Int, Shaped

from .autoregressive import GatedLayer, check_kernels, from_previous, settle
from .distributions import Distribution, check_event, pytree
from .likelihoods import Categorical
from .networks import MLP
from .typing import PRNGKey, Scalar


class CodePrior(nnx.Module):
    """The gated PixelCNN of van den Oord et al. 2016 over codes: Π_i p(z_i | z_<i).

    As ``autoregressive.PixelCNN``, row by row, with one of ``codes`` integers at each
    place of a grid (rows, columns) instead of a coin; ``kernels`` and their reach are
    the same. With ``given``, a number of inputs, it is p(z | c): an MLP paints c on the
    grid, where it enters every layer.

        CodePrior((7, 7), 256, 32, (7, 3, 3), rngs=rngs)
    """

    def __init__(
        self,
        grid: tuple[int, ...],
        codes: int,
        width: int,
        kernels: tuple[int, ...],
        *,
        given: int = 0,
        rngs: nnx.Rngs,
    ):
        if len(grid) != 2:
            raise ValueError(
                f"Expected a grid (rows, columns), got {grid}: (1, n) is a row of n."
            )
        check_kernels(kernels)
        self.grid, self.codes = grid, codes
        self.embed = nnx.Linear(codes, width, use_bias=False, rngs=rngs)
        paint = MLP(given, 4 * width, (*grid, width), rngs=rngs) if given else None
        self.paint = nnx.data(paint)
        layers = [GatedLayer(width, width, k, given > 0, rngs=rngs) for k in kernels]
        self.layers = nnx.data(layers)
        self.hidden = nnx.Linear(width, width, rngs=rngs)
        self.head = nnx.Linear(width, codes, rngs=rngs)

    def __call__(
        self, encoder: Callable | None, *given: Shaped[Array, "..."]
    ) -> "AutoregressiveCodes":
        """p(z), whatever the encoder, or p(z | c).

        Raises:
            ValueError: for a c that was not announced, or of another size.

        """
        del encoder
        if bool(given) != (self.paint is not None):
            raise ValueError(
                f"Expected {'nothing' if self.paint is None else 'something'} to be "
                f"given, got shapes {[c.shape for c in given]}: build the prior with "
                "given=their size in all."
            )
        code = None if self.paint is None else jax.nn.relu(self.paint(*given))
        return AutoregressiveCodes(self, code)

    def logits(
        self,
        z: Shaped[Array, "rows columns"],
        code: Float[Array, "rows columns width"] | None = None,
    ) -> Float[Array, "rows columns codes"]:
        """Those of each code, given the codes before it.

        Raises:
            ValueError: for another grid.
            TypeError: for floats.

        """
        check_event(z, jnp.broadcast_to(0, self.grid), jnp.integer)
        # One-hot, so that 0 stands for what is outside.
        seen = self.embed(jax.nn.one_hot(z, self.codes))
        h = from_previous(self.layers, seen, code)
        return self.head(jax.nn.relu(self.hidden(jax.nn.relu(h))))


@pytree
class AutoregressiveCodes(Distribution):
    """Codes drawn one after the other: softmax(logits/T) of each, given those before.

    ``dataclasses.replace(p, temperature=0.8)`` is sharper, and a distribution too. At
    each place the choice is exact; the joint is not p(z)^(1/T). A prior without logits
    to speak of, as ``UniformCodes``, is the same at every temperature.
    """

    network: CodePrior
    code: Float[Array, "rows columns width"] | None = None
    temperature: float | Scalar = 1.0

    def log_prob(self, x: Shaped[Array, "rows columns"]) -> Scalar:
        """Σ_i log p(z_i | z_<i), exact, all places in one pass; -∞ for no such code."""
        return Categorical(self._logits(x)).log_prob(x)

    def sample(self, key: PRNGKey) -> Int[Array, "rows columns"]:
        """A whole grid: z_i = argmax_k (logit_ik/T + Gumbel noise); see ``settle``."""
        noise = jr.gumbel(key, (*self.network.grid, self.network.codes))

        def choose(z):
            return (self._logits(z) + noise).argmax(-1)

        return settle(choose, jnp.zeros(self.network.grid, int))

    def _logits(self, z):
        return self.network.logits(z, self.code) / self.temperature
