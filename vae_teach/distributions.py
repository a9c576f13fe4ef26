"""Distributions over one event: ``log_prob`` is a scalar, in nats.

Each family is a frozen pytree. A batch of distributions is the same class with a
leading axis on its leaves, made and consumed by ``jax.vmap``.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import singledispatch
from typing import dataclass_transform

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PyTree, Shaped

from .typing import PRNGKey, Scalar


@dataclass_transform(frozen_default=True)
def pytree(cls):
    """Make ``cls`` a frozen dataclass that is a pytree.

    Every field is a child, but for those with metadata ``static=True``.
    """
    return jax.tree_util.register_dataclass(dataclass(frozen=True)(cls))


class Distribution(ABC):
    """What every family gives: a sample, a log density, and both in one pass."""

    @abstractmethod
    def sample(self, key: PRNGKey) -> PyTree:
        """One sample."""

    @abstractmethod
    def log_prob(self, x: PyTree) -> Scalar:
        """Log density or log mass of one event, summed over its axes, in nats."""

    def sample_and_log_prob(self, key: PRNGKey) -> tuple[PyTree, Scalar]:
        """One sample and its log density."""
        x = self.sample(key)
        return x, self.log_prob(x)


@pytree
class Normal(Distribution):
    """Independent normals, N(loc, diag(scale²)): the usual posterior of a VAE."""

    loc: Float[Array, "*event"]
    scale: Float[Array, "*event"]

    @classmethod
    def from_log_variance(cls, v: Float[Array, "*event"]) -> "Normal":
        """Read the last axis as (μ, log σ²), each half of it; σ = exp(½ log σ²)."""
        loc, log_variance = jnp.split(v, 2, axis=-1)
        return cls(loc, jnp.exp(0.5 * log_variance))

    def sample(self, key: PRNGKey) -> Float[Array, "*event"]:
        """μ + σ ε with ε ~ N(0, I): differentiable in μ and σ."""
        return self.loc + self.scale * jr.normal(key, self.loc.shape, self.loc.dtype)

    @property
    def mean(self) -> Float[Array, "*event"]:
        """E[x] = μ."""
        return self.loc

    def log_prob(self, x: Shaped[Array, "*event"]) -> Scalar:
        """-½ Σ [((x - μ)/σ)² + log 2πσ²]."""
        check_event(x, self.loc)
        return jax.scipy.stats.norm.logpdf(x, self.loc, self.scale).sum()


@dataclass(frozen=True)
class FixedScale:
    """The family of normals with one known scale; equal by value: never recompiled."""

    scale: float

    def __call__(self, loc: Float[Array, "*event"]) -> Normal:
        """N(loc, scale²)."""
        return Normal(loc, jnp.full_like(loc, self.scale))


@pytree
class Bernoulli(Distribution):
    """Independent coins with log odds ``logits``.

    Gray pixels in [0, 1] are allowed as events, the common practice on MNIST;
    ``log_prob`` is then minus the cross-entropy, and no longer a normalised density.
    """

    logits: Float[Array, "*event"]

    def sample(self, key: PRNGKey) -> Float[Array, "*event"]:
        """Zeros and ones, as floats."""
        return jr.bernoulli(key, self.mean).astype(self.logits.dtype)

    @property
    def mean(self) -> Float[Array, "*event"]:
        """E[x] = sigmoid(logits)."""
        return jax.nn.sigmoid(self.logits)

    def log_prob(self, x: Shaped[Array, "*event"]) -> Scalar:
        """Σ [x l - log(1 + eˡ)]; minus infinity when a value is outside [0, 1]."""
        check_event(x, self.logits)
        x, logits = x.ravel(), self.logits.ravel()  # one long axis is faster on a CPU
        log_p = x * logits - _softplus(logits)
        return jnp.where((x >= 0) & (x <= 1), log_p, -jnp.inf).sum()


@singledispatch
def kl(q: Distribution, p: Distribution) -> Scalar:
    """KL(q || p) in closed form, in nats.

    Each family registers its own. For normals it is
    ½ Σ [σ_q²/σ_p² + ((μ_q - μ_p)/σ_p)² - 1 - log σ_q²/σ_p²]
    (Kingma & Welling 2014, appendix B).

    Raises:
        TypeError: if the pair has no closed form here.

    """
    raise no_closed_form(q, p)


@kl.register
def _(q: Normal, p: Distribution) -> Scalar:
    if not isinstance(p, Normal):
        raise no_closed_form(q, p)
    check_event(q.loc, p.loc)
    var_ratio = (q.scale / p.scale) ** 2
    distance = ((q.loc - p.loc) / p.scale) ** 2
    return 0.5 * (var_ratio + distance - 1 - jnp.log(var_ratio)).sum()


def no_closed_form(q: Distribution, p: Distribution) -> TypeError:
    """The error of a pair whose KL nobody has registered."""
    pair = f"{type(q).__name__} and {type(p).__name__}"
    return TypeError(
        f"Expected a pair like two Normals, got {pair}, which have no closed-form KL "
        "here: use bounds.elbo_mc, which estimates it from the sample."
    )


@jax.custom_jvp
def _softplus(x):
    """log(1 + eˣ); value and slope share one exponential: steps take a tenth less."""
    return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


@_softplus.defjvp
def _softplus_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    e = jnp.exp(-jnp.abs(x))
    slope = jnp.where(x > 0, 1, e) / (1 + e)
    return jnp.maximum(x, 0) + jnp.log1p(e), slope * dx


def check_event(x: Shaped[Array, "..."], like: Shaped[Array, "..."], kind=None):
    """Refuse an event of another shape than ``like``, or of another kind of number.

    Raises:
        ValueError: for another shape.
        TypeError: for integers, or for floats where ``kind`` is ``jnp.integer``.

    """
    if jnp.shape(x) != like.shape:
        raise ValueError(
            f"Expected one event of shape {like.shape}, got {jnp.shape(x)}: "
            "vmap over a batch, and give the network the shape of the data."
        )
    kind = kind or jnp.floating
    if jnp.issubdtype(x.dtype, kind):
        return
    if kind is jnp.integer:
        raise TypeError(
            f"Expected integers, got {x.dtype}: bring gray pixels to k levels by "
            "jnp.round(x * (k - 1)).astype(int)."
        )
    raise TypeError(
        f"Expected floats, got {x.dtype}: bring 8-bit images to [0, 1] by "
        "x.astype(float) / 255."
    )
