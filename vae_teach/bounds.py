"""Negative bounds on log p(x) of ONE example, in nats.

A bound is a pure function ``(model, x, key) -> (value, terms)``: lower is better, and
``terms`` are what a learner wants to see of it.
"""

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import PyTree

from .discrete import relaxed
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


def elbo_stl(
    model, x: PyTree, key: PRNGKey, *, beta: float | Scalar = 1.0
) -> tuple[Scalar, Terms]:
    """``elbo_mc`` with another gradient of the same mean: that of the path z alone.

    Sticking the landing (Roeder, Wu & Duvenaud 2017). The parameters of q act on
    log q(z|x) through z and at fixed z. The second part, the score, has mean zero and
    is left out. At β = 1 what is left is the path gradient of -log w, which is zero at
    every z where q is the posterior: no noise. The value is that of ``elbo_mc``.
    """
    q = model.q_z(x)
    z = q.sample(key)
    distortion = -model.p_x(z).log_prob(x)
    rate = jax.lax.stop_gradient(q).log_prob(z) - model.p_z().log_prob(z)
    return distortion + beta * rate, {"distortion": distortion, "rate": rate}


def elbo_relaxed(
    model,
    x: PyTree,
    key: PRNGKey,
    *,
    temperature: float | Scalar,
    beta: float | Scalar = 1.0,
) -> tuple[Scalar, Terms]:
    """``elbo`` of a model with one-hot latents, at a relaxed sample: it has a gradient.

    z = softmax((logits + Gumbel)/temperature), the KL that of the choices (Jang, Gu &
    Poole 2017); normal latents beside them, as in a ``joint.Product``, are drawn as
    ever. A surrogate, and no bound: not for the discrete model, whose decoder
    never sees such a z, nor for the relaxed one, whose KL is larger, as the choice is a
    function of z (Maddison, Mnih & Teh 2017). Report ``elbo``, which is a bound.
    """
    q = model.q_z(x)
    z = relaxed(q, temperature).sample(key)
    distortion = -model.p_x(z).log_prob(x)
    rate = kl(q, model.p_z())
    return distortion + beta * rate, {"distortion": distortion, "rate": rate}


def elbo_free_bits(
    model,
    x: PyTree,
    key: PRNGKey,
    *,
    floor: float | Scalar,
    beta: float | Scalar = 1.0,
) -> tuple[Scalar, Terms]:
    """``elbo`` with β Σ_j max(floor, KL_j(x)), KL_j(x) that of latent j, exact.

    A latent below ``floor`` nats is charged ``floor``: its KL has no gradient, in
    either direction. Looser than ``elbo`` at β = 1, hence a bound. ``losses.free_bits``
    clamps the mean over a batch, as Kingma et al. 2016 do; this clamps each example,
    which charges as much or more. Terms: ``distortion``, ``rate``, the true KL, and
    ``clamped_rate``, which is charged.
    """
    q = model.q_z(x)
    distortion = -model.p_x(q.sample(key)).log_prob(x)
    rates = jax.vmap(kl)(q, model.p_z())
    clamped = jnp.maximum(rates, floor).sum()
    terms = {"distortion": distortion, "rate": rates.sum(), "clamped_rate": clamped}
    return distortion + beta * clamped, terms


def capacity(
    model,
    x: PyTree,
    key: PRNGKey,
    *,
    target: float | Scalar,
    beta: float | Scalar = 1.0,
) -> tuple[Scalar, Terms]:
    """E_q[-log p(x|z)] + β |KL - target| at one z ~ q(z|x), the KL exact, in nats.

    Holds the KL of each example near ``target``: above it KL is charged, below it
    rewarded. Burgess et al. 2018 take β = 1000 and raise the target from 0 to 25 nats,
    as ``schedules.linear(steps, end=25.0)`` does. No bound: report ``elbo``. Terms:
    ``distortion`` and ``rate``, un-weighted.
    """
    _, terms = elbo(model, x, key)
    distortion, rate = terms["distortion"], terms["rate"]
    return distortion + beta * jnp.abs(rate - target), terms


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
