"""Priors: ``prior(encoder)`` is a distribution over one latent.

Where the model is given a condition, it is ``prior(encoder, c)``.

A prior gets the encoder as an argument and never holds it: two attributes that share a
submodule do not survive the tree mode of NNX.
"""

from collections.abc import Callable

import jax.numpy as jnp
from flax import nnx
from jaxtyping import PyTree

from .distributions import Distribution, Normal
from .likelihoods import Categorical


class StandardNormal(nnx.Module):
    """p(z) = N(0, I) over ``size`` latents: fixed, nothing is learned."""

    def __init__(self, size: int):
        self.size = size

    def __call__(self, encoder: Callable | None, *given: PyTree) -> Normal:
        """N(0, I), whatever the encoder and what is given."""
        del encoder, given
        return Normal(jnp.zeros(self.size), jnp.ones(self.size))


class Fixed(nnx.Module):
    """Any distribution as a prior, such as one fitted to the codes after training.

    Its arrays are no parameters: training leaves them.
    """

    def __init__(self, distribution: Distribution):
        self.distribution = nnx.data(distribution)

    def __call__(self, encoder: Callable | None, *given: PyTree) -> Distribution:
        """The distribution, whatever the encoder and what is given."""
        del encoder, given
        return self.distribution


class ConditionalPrior(nnx.Module):
    """A learned p(z|c), for a model that is given c (Sohn, Lee & Yan 2015).

    ``ConditionalPrior(Conditional(MLP(10, 2 * 20, rngs=rngs),
    Normal.from_log_variance))`` reads one of ten classes. With N(0, I) instead, the
    codes of all classes are asked to look alike; this lets each have its place.
    """

    def __init__(self, conditional: Callable):
        self.conditional = conditional

    def __call__(self, encoder: Callable | None, *given: PyTree) -> Distribution:
        """p(z|c), whatever the encoder."""
        del encoder
        return self.conditional(*given)


class UniformCodes(nnx.Module):
    """p(z) = K^-tokens: each of ``codes`` integers at each place of a grid alike."""

    def __init__(self, grid: tuple[int, ...], codes: int):
        self.grid, self.codes = grid, codes

    def __call__(self, encoder: Callable | None, *given: PyTree) -> Categorical:
        """The uniform distribution, whatever the encoder and what is given."""
        del encoder, given
        return Categorical(jnp.zeros((*self.grid, self.codes)))
