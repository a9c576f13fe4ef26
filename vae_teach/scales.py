"""Families of normals that differ in where their standard deviation comes from.

``distributions.FixedScale`` is a number one chooses, ``Normal.from_log_variance`` has
the network choose. Here: one number learned, and two limits to what a network chooses.
"""

from dataclasses import dataclass
from math import log

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from .distributions import Normal
from .typing import Scalar


class LearnedScale(nnx.Module):
    """N(loc, σ² I) with one learned σ, the same for all pixels and examples.

    A decoder's family: ``Conditional(network, LearnedScale())``. Trained on the ELBO
    σ² becomes the mean squared error per pixel, and the loss weighs the squared error
    as the data deserve (the shared σ of Rybkin, Daniilidis & Levine 2021). What is
    learned is log σ, from log ``scale`` on: Adam moves it one learning rate a step.

    Raises:
        ValueError: for a first scale that is not positive.

    """

    def __init__(self, scale: float = 1.0):
        if not scale > 0:
            raise ValueError(f"Expected a positive scale, got {scale}.")
        self.log_scale = nnx.Param(jnp.asarray(log(scale), jnp.float32))

    def __call__(self, loc: Float[Array, "*event"]) -> Normal:
        """N(loc, σ²)."""
        return Normal(loc, jnp.full_like(loc, self.scale))

    @property
    def scale(self) -> Scalar:
        """σ, in units of x."""
        return jnp.exp(self.log_scale[...])


@dataclass(frozen=True)
class FlooredScale:
    """Normals whose scale the network chooses, but not below ``minimum``.

    σ² = minimum² + eᵛ. Without a floor a decoder that chooses σ for each pixel has no
    largest likelihood: it grows for ever as σ -> 0 on a pixel predicted exactly (Mattei
    & Frellsen 2018). With gray levels 1/255 apart a floor of about 1/255 is natural.

    Raises:
        ValueError: for a minimum that is not positive.

    """

    minimum: float

    def __post_init__(self):
        """Refuse what is no floor."""
        if not self.minimum > 0:
            raise ValueError(f"Expected a positive minimum, got {self.minimum}.")

    def __call__(self, v: Float[Array, "*event"]) -> Normal:
        """Read the last axis as (μ, v), each half of it."""
        loc, v = jnp.split(v, 2, axis=-1)
        return Normal(loc, jnp.sqrt(self.minimum**2 + jnp.exp(v)))


@dataclass(frozen=True)
class CappedScale:
    """Normals whose scale the network chooses, but below m = ``maximum``.

    1/σ² = 1/m² + e⁻ᵛ. As the posterior q(z|x) before the prior N(0, I) it has a
    committed rate: each latent costs at least ½ (m² - 1) - log m nats, whatever the
    network does, so the KL cannot vanish (the idea of δ-VAEs, Razavi et al. 2019). It
    is a cost, no information: the same narrow normal for every x pays it and tells
    nothing.

    Raises:
        ValueError: for a maximum that is not between 0 and 1.

    """

    maximum: float

    def __post_init__(self):
        """Refuse what leaves nothing, or lets q equal the prior."""
        if not 0 < self.maximum < 1:
            raise ValueError(f"Expected a maximum in (0, 1), got {self.maximum}.")

    def __call__(self, v: Float[Array, "*event"]) -> Normal:
        """Read the last axis as (μ, v), each half of it."""
        loc, v = jnp.split(v, 2, axis=-1)
        log_share = jax.nn.log_sigmoid(v - 2 * log(self.maximum))
        return Normal(loc, self.maximum * jnp.exp(0.5 * log_share))

    @property
    def committed_rate(self) -> float:
        """The least KL of one latent to N(0, 1), in nats: ½ (m² - 1) - log m."""
        return 0.5 * (self.maximum**2 - 1) - log(self.maximum)
