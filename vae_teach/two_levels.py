"""Two levels of codes: coarse ones, and fine ones that know the coarse (VQ-VAE-2).

::

    prior = TwoLevelPrior(
        CodePrior((7, 7), 64, 32, (7, 3), rngs=rngs),
        CodePrior((14, 14), 64, 32, (7, 3), given=7 * 7 * 64, rngs=rngs),
        codes=64,
    )
    VQVAE(prior, encoder, TwoLevels(...), GridDecoder(16 + 16, 32, 2, shape, rngs=rngs))
"""

from collections.abc import Callable
from dataclasses import field

import jax
import jax.numpy as jnp
import jax.random as jr
from flax import nnx
from jaxtyping import Array, Float, Int, PyTree

from .distributions import Distribution, pytree
from .quantisers import Codebook, Codes, Quantised, Tokens
from .typing import PRNGKey, Scalar

Pair = tuple[Int[Array, "..."], Int[Array, "..."]]


class TwoLevels(nnx.Module):
    """Coarse codes, and fine codes given these: VQ-VAE-2 (Razavi et al. 2019).

    ``coarsen`` takes the encoder's output to the coarse grid, where ``top`` quantises
    it; ``refine`` gets the coarse vectors beside the encoder's output, and ``bottom``
    quantises the result. Codes are a pair (top, bottom); vectors are those of both side
    by side at each place of the fine grid, for any decoder::

        TwoLevels(
            GridEncoder((14, 14, 16), 2, 32, 16, rngs=rngs),  # to a grid of 7 x 7
            MovingCodebook(64, 16, rngs=rngs),
            nnx.Linear(16 + 16, 16, rngs=rngs),
            MovingCodebook(64, 16, rngs=rngs),
        )
    """

    def __init__(self, coarsen: Callable, top, refine: Callable, bottom):
        self.coarsen, self.top = coarsen, top
        self.refine, self.bottom = refine, bottom

    @property
    def codebooks(self) -> list[Codebook]:
        """Those of the two levels."""
        return [*self.top.codebooks, *self.bottom.codebooks]

    @property
    def size(self) -> tuple[int, int]:
        """How many codes each level has."""
        return self.top.size, self.bottom.size

    def __call__(self, h: Tokens) -> Quantised:
        """Both levels' codes and vectors, and the sums of their losses."""
        top = self.top(self.coarsen(h))
        bottom = self.bottom(self.refine(_beside(top.vectors, h)))
        vectors = _beside(top.vectors, bottom.vectors)
        losses = (a + b for a, b in zip(top[2:], bottom[2:], strict=True))
        return Quantised((top.codes, bottom.codes), vectors, *losses)

    def inputs(self, h: Tokens) -> list[Float[Array, "..."]]:
        """What each codebook gets."""
        y = self.coarsen(h)
        fine = self.refine(_beside(self.top(y).vectors, h))
        return [*self.top.inputs(y), *self.bottom.inputs(fine)]

    def vectors(self, codes: Pair) -> Tokens:
        """The vectors of a pair of code grids."""
        top, bottom = codes
        return _beside(self.top.vectors(top), self.bottom.vectors(bottom))


@pytree
class TopDown(Distribution):
    """p(top) p(bottom | top), of a pair of code grids."""

    top: Distribution
    bottom: PyTree  # a prior that is also given the top codes, as one-hot vectors
    codes: int = field(metadata={"static": True})

    def sample(self, key: PRNGKey) -> Pair:
        """The top, then a bottom for this top."""
        key_top, key_bottom = jr.split(key)
        top = self.top.sample(key_top)
        return top, self.given(top).sample(key_bottom)

    def log_prob(self, x: Pair) -> Scalar:
        """Log p(top) + log p(bottom | top)."""
        top, bottom = x
        return self.top.log_prob(top) + self.given(top).log_prob(bottom)

    def given(self, top: Codes) -> Distribution:
        """p(bottom | top)."""
        return self.bottom(None, jax.nn.one_hot(top, self.codes))


class TwoLevelPrior(nnx.Module):
    """The prior of two levels, from one of each: ``TopDown``.

    ``top`` and ``bottom`` are ``UniformCodes`` or ``CodePrior``, and ``codes`` is how
    many codes the top has. A bottom of ``CodePrior`` is made with ``given``.
    """

    def __init__(self, top: Callable, bottom: Callable, *, codes: int):
        self.top, self.bottom, self.codes = top, bottom, codes

    def __call__(self, encoder: Callable | None) -> TopDown:
        """p(top) p(bottom | top), whatever the encoder."""
        return TopDown(self.top(encoder), self.bottom, self.codes)


def _beside(coarse, fine):
    """Each coarse vector repeated over its part of the fine grid, beside the fine."""
    for axis, (few, many) in enumerate(
        zip(coarse.shape[:-1], fine.shape[:-1], strict=True)
    ):
        if many % few:
            raise ValueError(
                f"Expected a fine grid of a multiple of the coarse one, got "
                f"{fine.shape[:-1]} and {coarse.shape[:-1]}."
            )
        coarse = jnp.repeat(coarse, many // few, axis)
    return jnp.concatenate([coarse, fine], -1)
