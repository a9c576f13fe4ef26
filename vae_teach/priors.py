"""Priors: ``prior(encoder)`` is a distribution over one latent.

A prior gets the encoder as an argument and never holds it: two attributes that share a
submodule do not survive the tree mode of NNX.
"""

from collections.abc import Callable

import jax.numpy as jnp
from flax import nnx

from .distributions import Distribution, Normal


class StandardNormal(nnx.Module):
    """p(z) = N(0, I) over ``size`` latents: fixed, nothing is learned."""

    def __init__(self, size: int):
        self.size = size

    def __call__(self, encoder: Callable) -> Normal:
        """N(0, I), whatever the encoder."""
        del encoder
        return Normal(jnp.zeros(self.size), jnp.ones(self.size))


class Fixed(nnx.Module):
    """Any distribution as a prior, such as one fitted to the codes after training.

    Its arrays are no parameters: training leaves them.
    """

    def __init__(self, distribution: Distribution):
        self.distribution = nnx.data(distribution)

    def __call__(self, encoder: Callable) -> Distribution:
        """The distribution, whatever the encoder."""
        del encoder
        return self.distribution
