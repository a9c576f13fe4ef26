"""Negative bounds on log p(x) of ONE example, in nats.

A bound is a pure function ``(model, x, key) -> (value, terms)``: lower is better, and
``terms`` are what a learner wants to see of it.
"""

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import PyTree

from .distributions import kl
from .typing import PRNGKey, Scalar, Terms


def elbo(
    model, x: PyTree, key: PRNGKey, *, beta: float | Scalar = 1.0
) -> tuple[Scalar, Terms]:
    """E_q[-log p(x|z)] + β KL(q(z|x) || p(z)) at one z ~ q(z|x), the KL exact.

    β = 1 is the negative ELBO (Kingma & Welling 2014), any other β the objective of the
    β-VAE (Higgins et al. 2017). Terms: ``distortion`` and ``rate``, un-weighted.
    """
    q = model.q_z(x)
    distortion = -model.p_x(q.sample(key)).log_prob(x)
    rate = kl(q, model.p_z())
    return distortion + beta * rate, {"distortion": distortion, "rate": rate}


def elbo_mc(
    model, x: PyTree, key: PRNGKey, *, beta: float | Scalar = 1.0
) -> tuple[Scalar, Terms]:
    """The same, with the KL estimated at the same z: log q(z|x) - log p(z).

    For pairs of distributions whose KL has no closed form.
    """
    z, log_q = model.q_z(x).sample_and_log_prob(key)
    distortion = -model.p_x(z).log_prob(x)
    rate = log_q - model.p_z().log_prob(z)
    return distortion + beta * rate, {"distortion": distortion, "rate": rate}


def log_weight(model, x: PyTree, key: PRNGKey) -> Scalar:
    """Log w = log p(x|z) + log p(z) - log q(z|x) at one z ~ q(z|x); E_q[w] = p(x)."""
    return -elbo_mc(model, x, key)[0]


def iwae(model, x: PyTree, key: PRNGKey, *, samples: int = 1) -> tuple[Scalar, Terms]:
    """-log 1/K Σ_k w_k with K samples of z (Burda, Grosse & Salakhutdinov 2016).

    Falls to -log p(x) as K grows; one sample is ``elbo_mc``.
    """
    if samples < 1:
        raise ValueError(f"Expected one sample or more, got {samples}.")
    log_w = jax.vmap(log_weight, (None, None, 0))(model, x, jr.split(key, samples))
    return jnp.log(float(samples)) - jax.nn.logsumexp(log_w), {}
