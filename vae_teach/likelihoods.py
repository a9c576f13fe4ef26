"""Families for pixels and symbols: what a decoder may say about gray levels.

A ``Categorical`` and a ``DiscretizedLogistic`` give each of finitely many levels a
mass, a ``ContinuousBernoulli`` gives [0, 1] a density, a ``Laplace`` all numbers. Like
the families of ``distributions`` they describe one event, in nats.
"""

from dataclasses import field

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, Shaped

from .distributions import Distribution, check_event, kl, no_closed_form, pytree
from .typing import PRNGKey, Scalar


@pytree
class Categorical(Distribution):
    """Independent choices among k categories: integers from 0 to k - 1.

    The last axis of ``logits`` holds one choice; its softmax is taken here. Categories
    have no order: a model must learn that gray level 7 is near gray level 8.
    """

    logits: Float[Array, "*event k"]

    def sample(self, key: PRNGKey) -> Int[Array, "*event"]:
        """One integer a choice."""
        return jr.categorical(key, self.logits)

    @property
    def probs(self) -> Float[Array, "*event k"]:
        """The softmax of the logits: the mean of the one-hot vector."""
        return jax.nn.softmax(self.logits)

    @property
    def mean(self) -> Float[Array, "*event"]:
        """Σ_j j π_j: of use where categories are levels, none where they are names."""
        return self.probs @ jnp.arange(self.logits.shape[-1], dtype=self.logits.dtype)

    def log_prob(self, x: Shaped[Array, "*event"]) -> Scalar:
        """Σ log π_x; minus infinity when an integer is not from 0 to k - 1."""
        check_event(x, self.logits[..., 0], jnp.integer)
        log_p = jax.nn.log_softmax(self.logits)
        last = self.logits.shape[-1] - 1
        x = x.astype(int)
        chosen = jnp.take_along_axis(log_p, x.clip(0, last)[..., None], -1)[..., 0]
        return jnp.where((x >= 0) & (x <= last), chosen, -jnp.inf).sum()


@kl.register
def _(q: Categorical, p: Distribution) -> Scalar:
    """Σ π_q (log π_q - log π_p); to the uniform distribution ln k minus the entropy."""
    if not isinstance(p, Categorical):
        raise no_closed_form(q, p)
    check_event(q.logits, p.logits)
    log_q, log_p = jax.nn.log_softmax(q.logits), jax.nn.log_softmax(p.logits)
    log_ratio = jnp.where(log_q > -jnp.inf, log_q - log_p, 0)  # 0 log 0 = 0
    return (q.probs * log_ratio).sum()


@pytree
class ContinuousBernoulli(Distribution):
    """The density on [0, 1] in proportion to λˣ (1 - λ)¹⁻ˣ, λ = sigmoid(logits).

    Minus the cross-entropy plus log C(λ), with C(λ) = 2 artanh(1 - 2λ)/(1 - 2λ) and
    C(½) = 2: what the Bernoulli of gray pixels lacks (Loaiza-Ganem & Cunningham 2019).
    In terms of the logit l it is eˣˡ / Z(l), with Z(l) = (eˡ - 1)/l.
    """

    logits: Float[Array, "*event"]

    def sample(self, key: PRNGKey) -> Float[Array, "*event"]:
        """The inverse CDF of a uniform number, differentiable in the logits."""
        t, eps = self.logits, jnp.finfo(self.logits.dtype).eps
        u = jr.uniform(key, t.shape, t.dtype, eps)
        near = jnp.abs(t) < 0.03  # where (eᵗ - 1)/t loses the digits of its slope
        series = u + u * (1 - u) * t * (1 / 2 + (1 - 2 * u) * t / 6)
        # For t = -a < 0 the CDF is (1 - e⁻ᵃˣ)/(1 - e⁻ᵃ); the other side is its mirror.
        a = jnp.where(near, 1, jnp.abs(t))
        mirrored = -jnp.log1p(jnp.where(t < 0, u, 1 - u) * jnp.expm1(-a)) / a
        x = jnp.where(t < 0, mirrored, 1 - mirrored)
        return jnp.where(near, series, x)

    @property
    def mean(self) -> Float[Array, "*event"]:
        """E[x] = (log Z)'(l) = ½ + ½ coth(l/2) - 1/l, which is not sigmoid(l)."""
        ones = jnp.ones_like(self.logits)
        return jax.jvp(_log_normaliser, (self.logits,), (ones,))[1]

    def log_prob(self, x: Shaped[Array, "*event"]) -> Scalar:
        """Σ [x l - log Z(l)]; minus infinity when a value is outside [0, 1]."""
        check_event(x, self.logits)
        log_p = x * self.logits - _log_normaliser(self.logits)
        return jnp.where((x >= 0) & (x <= 1), log_p, -jnp.inf).sum()


def _log_normaliser(logits):
    """l/2 + log(sinh(h)/h) with h = |l|/2; a series near 0, where it is 0/0."""
    near = jnp.abs(logits) < 1
    s = 0.25 * logits**2
    series = s * (1 / 6 - s * (1 / 180 - s * (1 / 2835 - s / 37800)))
    h = jnp.where(near, 1, 0.5 * jnp.abs(logits))
    exact = h + jnp.log(-jnp.expm1(-2 * h)) - jnp.log(2 * h)
    return 0.5 * logits + jnp.where(near, series, exact)


@pytree
class DiscretizedLogistic(Distribution):
    """Logistic variables rounded to the gray levels 0, 1/(n-1), ..., 1; n = ``levels``.

    A level has the logistic's mass within half a step of it; the first and the last
    also take the tails (Salimans et al. 2017). Two numbers a pixel, and neighbouring
    levels are alike by construction.
    """

    loc: Float[Array, "*event"]
    log_scale: Float[Array, "*event"]
    levels: int = field(default=256, metadata={"static": True})

    @classmethod
    def from_log_scale(
        cls, v: Float[Array, "*event"], levels: int = 256
    ) -> "DiscretizedLogistic":
        """Read the last axis as (loc, log scale), each half of it."""
        loc, log_scale = jnp.split(v, 2, axis=-1)
        return cls(loc, log_scale, levels)

    def sample(self, key: PRNGKey) -> Float[Array, "*event"]:
        """Levels, as floats in [0, 1]."""
        noise = jr.logistic(key, self.loc.shape, self.loc.dtype)
        k = jnp.round(self._top * (self.loc + jnp.exp(self.log_scale) * noise))
        return k.clip(0, self._top) / self._top

    @property
    def mean(self) -> Float[Array, "*event"]:
        """E[x] = Σ_k P(x ≥ k/(n-1)) / (n-1), over k from 1 to n - 1."""
        edges = (jnp.arange(1, self.levels) - 0.5) / self._top
        precision = jnp.exp(-self.log_scale)
        above = jax.vmap(lambda edge: jax.nn.sigmoid((self.loc - edge) * precision))
        return above(edges).sum(0) / self._top

    def log_prob(self, x: Shaped[Array, "*event"]) -> Scalar:
        """Σ log mass of the levels; minus infinity when a value is no level.

        Between a and b, in units of the scale, the mass is sigmoid(b) - sigmoid(a)
        = sigmoid(b) sigmoid(-a) (1 - eᵃ⁻ᵇ): no difference of nearly equal numbers.
        """
        check_event(x, self.loc)
        k = jnp.round(x * self._top)
        half, precision = 0.5 / self._top, jnp.exp(-self.log_scale)
        centred = k / self._top - self.loc
        below = jax.nn.log_sigmoid((centred + half) * precision)
        above = jax.nn.log_sigmoid((half - centred) * precision)
        width = jnp.log(-jnp.expm1(-2 * half * precision))
        inside = below + above + width
        log_p = jnp.where(k == 0, below, jnp.where(k == self._top, above, inside))
        is_level = (abs(x * self._top - k) < 1e-3) & (k >= 0) & (k <= self._top)
        return jnp.where(is_level, log_p, -jnp.inf).sum()

    @property
    def _top(self) -> int:
        return self.levels - 1


@pytree
class Laplace(Distribution):
    """Independent Laplace variables: log p is minus the absolute error over the scale.

    Density e^(-|x - loc|/scale) / 2 scale, variance 2 scale². The ``loc`` of highest
    likelihood is the median, where that of a ``Normal`` is the mean; the best shared
    scale is the mean absolute error.
    """

    loc: Float[Array, "*event"]
    scale: Float[Array, "*event"]

    def sample(self, key: PRNGKey) -> Float[Array, "*event"]:
        """Loc + scale ε with ε ~ Laplace(0, 1): differentiable in both."""
        return self.loc + self.scale * jr.laplace(key, self.loc.shape, self.loc.dtype)

    @property
    def mean(self) -> Float[Array, "*event"]:
        """E[x] = loc, also the median."""
        return self.loc

    def log_prob(self, x: Shaped[Array, "*event"]) -> Scalar:
        """-Σ [|x - loc|/scale + log 2 scale]."""
        check_event(x, self.loc)
        return -(jnp.abs(x - self.loc) / self.scale + jnp.log(2 * self.scale)).sum()


@kl.register
def _(q: Laplace, p: Distribution) -> Scalar:
    """Σ [log b_p/b_q + (δ + b_q e^(-δ/b_q))/b_p - 1], δ = |loc_q - loc_p|."""
    if not isinstance(p, Laplace):
        raise no_closed_form(q, p)
    check_event(q.loc, p.loc)
    distance = jnp.abs(q.loc - p.loc)
    expected = distance + q.scale * jnp.exp(-distance / q.scale)
    return (jnp.log(p.scale / q.scale) + expected / p.scale - 1).sum()
