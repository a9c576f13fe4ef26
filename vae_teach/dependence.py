"""Losses of a BATCH that charge how much the latents depend on each other, in nats.

They need the aggregated posterior q(z) = 1/N Σ_n q(z|x_n) of all N training examples,
and see a batch of B: the estimates of log q(z) are what they differ in.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PyTree

from .distributions import kl
from .typing import PRNGKey, Scalar, Terms


def weighted(batch: int, size: int) -> Float[Array, "b b"]:
    """Log weights of minibatch-weighted sampling: 1/NB for every example of the batch.

    What they give is low: q̂(z) = 1/NB Σ_j q(z|x_j) has mean near q(z)/B for a z whose
    own example adds little, and when the batch is all the data it is q(z)/N, exactly
    log N nats too low. The total correlation is then (d - 1) log N too high, for d
    latents (Chen et al. 2018, who leave constants out).
    """
    return jnp.full((batch, batch), -jnp.log(size * batch))


def stratified(batch: int, size: int) -> Float[Array, "b b"]:
    """Log weights that make q̂(z) unbiased: 1/N for z's own example, the rest shared.

    A batch always holds the example that z was drawn for: one of N, so its weight is
    1/N. The others stand for all the others: (1 - 1/N)/(B - 1) each. Exact when the
    batch is all the data. Chen et al. 2018 give one of the others another weight, with
    the same mean and more noise. As log is concave, log q̂(z) is still low on average.

    Raises:
        ValueError: for a batch of one, or one larger than the data.

    """
    if not 2 <= batch <= size:
        raise ValueError(
            f"Expected a batch from 2 to the {size} examples of the data, got {batch}."
        )
    others = jnp.log1p(-1 / size) - jnp.log(batch - 1)
    return jnp.where(jnp.eye(batch, dtype=bool), -jnp.log(size), others)


def tc_vae(
    model,
    batch: PyTree,
    key: PRNGKey,
    *,
    size: int,
    log_weights: Callable = stratified,
    beta: float | Scalar = 1.0,
) -> tuple[Scalar, Terms]:
    """Distortion + I(x; z) + β TC + Σ_j KL(q(z_j) || p(z_j)), the β-TCVAE.

    The rate of the ELBO in three parts, of which β weighs one, the total correlation TC
    = KL(q(z) || Π_j q(z_j)) (Chen et al. 2018). The three are estimated at one z an
    example and add up to its log q(z|x) - log p(z); at β = 1 this is ``elbo_mc``.

    Args:
        model: posterior and prior with independent latents.
        batch: B examples out of ``size``.
        key: the only source of randomness.
        size: N, the number of training examples.
        log_weights: ``stratified`` or ``weighted``.
        beta: the weight of the total correlation.

    """
    q, z, distortion = encoded(model, batch, key)
    p = model.p_z()
    own = _log_densities(q, z)
    # (i, j, latent): the density of z_i in the posterior of x_j.
    pairs = jax.vmap(lambda z: jax.vmap(lambda q: _log_each(q, z))(q))(z)
    weights = log_weights(len(z), size)
    joint = jax.nn.logsumexp(weights + pairs.sum(-1), 1)
    marginals = jax.nn.logsumexp(weights[..., None] + pairs, 1).sum(-1)
    prior = jax.vmap(p.log_prob)(z)
    information = (own - joint).mean()
    correlation = (joint - marginals).mean()
    dimension_wise = (marginals - prior).mean()
    terms = {
        "distortion": distortion,
        "rate": (own - prior).mean(),
        "mutual_information": information,
        "total_correlation": correlation,
        "dimension_wise_kl": dimension_wise,
    }
    return distortion + information + beta * correlation + dimension_wise, terms


def dip_vae(
    model,
    batch: PyTree,
    key: PRNGKey,
    *,
    correlation: float | Scalar,
    variance: float | Scalar,
) -> tuple[Scalar, Terms]:
    """The mean ELBO loss + λ Σ_{i≠j} C_ij² + λ' Σ_i (C_ii - 1)², the DIP-VAE-II.

    C = Cov_x[E_q z] + E_x[Cov_q z] is the covariance of the aggregated posterior, of
    this batch (its sums divided by B). It is the identity where q(z) = p(z), and the
    penalty asks for no more than that (Kumar, Sattigeri & Balakrishnan 2018). λ and λ'
    are ``correlation`` and ``variance``. Terms: ``distortion``, ``rate``, ``penalty``.
    """
    q, _, distortion = encoded(model, batch, key)
    rate = jax.vmap(kl, (0, None))(q, model.p_z()).mean()
    means = q.mean - q.mean.mean(0, keepdims=True)
    c = means.T @ means / len(means) + jnp.diag((q.scale**2).mean(0))
    diagonal = jnp.diag(c)
    off = (c**2).sum() - (diagonal**2).sum()
    penalty = correlation * off + variance * ((diagonal - 1) ** 2).sum()
    terms = {"distortion": distortion, "rate": rate, "penalty": penalty}
    return distortion + rate + penalty, terms


def encoded(
    model, batch: PyTree, key: PRNGKey
) -> tuple[Any, Float[Array, "b ..."], Scalar]:
    """The posteriors of a batch, a draw z of each, and the mean -log p(x|z)."""
    q = jax.vmap(model.q_z)(batch)
    n = len(jax.tree.leaves(batch)[0])
    z = jax.vmap(lambda q, key: q.sample(key))(q, jr.split(key, n))
    distortion = -jax.vmap(lambda z, x: model.p_x(z).log_prob(x))(z, batch).mean()
    return q, z, distortion


def _log_each(q, z):
    """Log q(z_j) of every latent j."""
    return jax.vmap(lambda q, z: q.log_prob(z))(q, z)


_log_densities = jax.vmap(lambda q, z: q.log_prob(z))
