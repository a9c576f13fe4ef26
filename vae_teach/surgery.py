"""ELBO surgery: what of the rate is information, and what distance to the prior.

With q(z) = 1/N Σ_n q(z|x_n), the aggregated posterior of the N given examples,

    E KL(q(z|x) || p(z)) = I_q(x; z) + KL(q(z) || p(z))             (rate)
    KL(q(z) || p(z)) = TC(z) + Σ_j KL(q(z_j) || p(z_j))             (its second part)

(Hoffman & Johnson 2016; Chen et al. 2018).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jax.nn import logsumexp
from jaxtyping import Array, Float, PyTree

from .distributions import Normal
from .epochs import check_key, count
from .typing import PRNGKey


class Surgery(NamedTuple):
    """The parts of the rate, in nats: means over a data set, or one of each example.

    ``rate = mutual_information + marginal_kl`` and
    ``marginal_kl = total_correlation + dimension_wise_kl``, up to rounding.
    """

    rate: Float[Array, "..."]
    mutual_information: Float[Array, "..."]
    marginal_kl: Float[Array, "..."]
    total_correlation: Float[Array, "..."]
    dimension_wise_kl: Float[Array, "..."]


def elbo_surgery(model, data: PyTree, key: PRNGKey) -> Surgery:
    """I_q(x; z), KL(q(z) || p(z)), TC(z) and Σ_j KL(q(z_j) || p(z_j)) of a data set.

    The means of ``surgery_terms``: five numbers, in nats per example.
    """
    return Surgery(*map(jnp.mean, surgery_terms(model, data, key)))


@jax.jit
def surgery_terms(model, data: PyTree, key: PRNGKey) -> Surgery:
    """The parts of the rate at one z ~ q(z|x) of each example: five arrays (n,).

    log q(z|x)/p(z) = log q(z|x)/q(z) + log q(z)/p(z), and the last one is
    log q(z)/Π_j q(z_j) + log Π_j q(z_j)/p(z). All are at the same z, so they add up at
    every example. The rate is thus an estimate, too; ``metrics.rate_per_unit`` has it
    exact. The sd of an array over √n is at least the standard error of its mean.

    q(z) is the exact mixture over ALL of ``data``: there is no minibatch and no bias,
    but the data ARE its definition. So I_q <= ln n whatever the encoder, and what the
    rate has beyond ln n counts as mismatch: the posteriors are then n islands. A linear
    VAE of rate R on normal data matches the prior in the population; on n examples its
    ``marginal_kl`` is on average at least R - ln n, and at most
    log(1 + (exp(2 R) - 1) / n). Compare only data sets of one size. Time grows with n²
    times the latents, memory with n.

    Args:
        model: its q_z(x) and p_z() are ``Normal``, of independent latents.
        data: the examples, on the first axis of every array.
        key: the only source of randomness.

    Raises:
        TypeError: for a posterior or prior of another family, or an old-style key.
        ValueError: for no data, arrays of several lengths, or a prior of another shape.

    """
    check_key(key)
    n = count(data)
    p = _normal(model.p_z(), "prior p_z()")
    q = jax.lax.map(lambda x: _normal(model.q_z(x), "q_z(x)"), data, batch_size=256)
    z = jax.vmap(Normal.sample)(q, jr.split(key, n))
    log_p = jax.vmap(p.log_prob)(z)
    z, loc, scale = (leaf.reshape(n, -1) for leaf in (z, q.loc, q.scale))
    log_q_of_x = _log_densities(z, loc, scale).sum(1)

    def log_sums(z):
        log_q_of_all = _log_densities(z[None], loc, scale)
        return logsumexp(log_q_of_all.sum(1)), logsumexp(log_q_of_all, 0).sum()

    # A few z at a time, each against all of the data.
    log_q, log_product = jax.lax.map(
        log_sums, z, batch_size=max(1, _AT_ONCE // loc.size)
    )
    log_q -= jnp.log(n)
    log_product -= z.shape[1] * jnp.log(n)
    return Surgery(
        rate=log_q_of_x - log_p,
        mutual_information=log_q_of_x - log_q,
        marginal_kl=log_q - log_p,
        total_correlation=log_q - log_product,
        dimension_wise_kl=log_product - log_p,
    )


_AT_ONCE = 2**19  # log densities in memory, 2 MiB of them: what a CPU's cache holds


def _log_densities(z, loc, scale):
    """Log N(z_j; μ_j, σ_j²) of every latent on its own."""
    return jax.scipy.stats.norm.logpdf(z, loc, scale)


def _normal(distribution, name):
    if isinstance(distribution, Normal):
        return distribution
    raise TypeError(
        f"Expected {name} to be a Normal, of independent latents, got "
        f"{type(distribution).__name__}: its aggregated posterior is no mixture of "
        "diagonal normals, or its prior does not split into latents."
    )
