"""Discrete latents: one-hot vectors, and the smooth draws that stand in for them.

A draw of a category jumps: no small change of the logits changes it a little. A
relaxed draw moves smoothly, and ``bounds.elbo_relaxed`` trains a network with it.
"""

from functools import singledispatch
from math import lgamma

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Shaped

from .distributions import (
    Distribution,
    Normal,
    check_event,
    kl,
    no_closed_form,
    pytree,
)
from .likelihoods import Categorical
from .typing import PRNGKey, Scalar


@pytree
class OneHotCategorical(Distribution):
    """Independent choices among k categories, as one-hot vectors: codes for a network.

    ``likelihoods.Categorical`` is the same with integers. Samples carry no gradient.
    """

    logits: Float[Array, "*event k"]

    def sample(self, key: PRNGKey) -> Float[Array, "*event k"]:
        """A 1 for each choice, the rest 0, as floats."""
        chosen = jr.categorical(key, self.logits)
        return jax.nn.one_hot(chosen, self.logits.shape[-1], dtype=self.logits.dtype)

    @property
    def mean(self) -> Float[Array, "*event k"]:
        """E[x] = π, the softmax of the logits."""
        return jax.nn.softmax(self.logits)

    def log_prob(self, x: Shaped[Array, "*event k"]) -> Scalar:
        """Σ x log π; minus infinity where x is not one-hot."""
        check_event(x, self.logits)
        one_hot = ((x == 0) | (x == 1)).all() & (x.sum(-1) == 1).all()
        log_p = jnp.where(x > 0, jax.nn.log_softmax(self.logits), 0).sum()
        return jnp.where(one_hot, log_p, -jnp.inf)


@kl.register
def _(q: OneHotCategorical, p: Distribution) -> Scalar:
    """That of the same choices as integers."""
    if not isinstance(p, OneHotCategorical):
        raise no_closed_form(q, p)
    return kl(Categorical(q.logits), Categorical(p.logits))


@pytree
class RelaxedCategorical(Distribution):
    """Independent Concrete, or Gumbel-softmax, distributions on the simplex.

    softmax((logits + G)/τ) along the last axis, with G ~ Gumbel(0, 1) and temperature
    τ > 0. The largest entry of a sample is a draw from Categorical(logits), exactly and
    at every τ; as τ falls to 0 the sample tends to its one-hot vector (Jang, Gu & Poole
    2017; Maddison, Mnih & Teh 2017).
    """

    logits: Float[Array, "*event k"]
    temperature: Float[Array, "..."] | float

    def sample(self, key: PRNGKey) -> Float[Array, "*event k"]:
        """softmax((logits + G)/τ): differentiable in logits and τ."""
        return jnp.exp(self._log_sample(key))

    def log_prob(self, x: Shaped[Array, "*event k"]) -> Scalar:
        """Σ log[(k-1)! τ^(k-1) Π_i α_i x_i^(-τ-1) / (Σ_i α_i x_i^(-τ))^k].

        Here α = e^logits, and the outer sum is over the event. Minus infinity where x
        is off the simplex. An entry that has underflowed to 0 is read as the smallest
        normal float: ``sample_and_log_prob`` has no such floor.
        """
        check_event(x, self.logits)
        inside = (x >= 0).all() & (abs(x.sum(-1) - 1) < 1e-4).all()
        floor = jnp.finfo(self.logits.dtype).tiny
        return jnp.where(inside, self._log_density(jnp.log(x.clip(floor))), -jnp.inf)

    def sample_and_log_prob(
        self, key: PRNGKey
    ) -> tuple[Float[Array, "*event k"], Scalar]:
        """One sample and its log density, from log x: right at every temperature."""
        log_x = self._log_sample(key)
        return jnp.exp(log_x), self._log_density(log_x)

    def _log_sample(self, key):
        noise = jr.gumbel(key, self.logits.shape, self.logits.dtype)
        return jax.nn.log_softmax((self.logits + noise) / self.temperature)

    def _log_density(self, log_x):
        t, k = self.temperature, self.logits.shape[-1]
        score = self.logits - t * log_x
        per_point = (score - log_x).sum(-1) - k * jax.nn.logsumexp(score, -1)
        return (per_point + lgamma(k) + (k - 1) * jnp.log(t)).sum()


@singledispatch
def relaxed(q: Distribution, temperature: float | Scalar) -> Distribution:
    """What to sample in place of q, so that the sample has a gradient.

    ``RelaxedCategorical`` for one-hot choices; a ``Normal`` is its own; a product of
    both, part by part.

    Raises:
        TypeError: for a family without such a stand-in.

    """
    raise TypeError(
        f"Expected one-hot choices, normals or a Product of these, got "
        f"{type(q).__name__}: its draws have no smooth stand-in here."
    )


@relaxed.register
def _(q: OneHotCategorical, temperature) -> RelaxedCategorical:
    return RelaxedCategorical(q.logits, temperature)


@relaxed.register
def _(q: Normal, temperature) -> Normal:
    del temperature
    return q
