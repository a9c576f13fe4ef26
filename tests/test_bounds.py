"""Bounds against a linear-Gaussian model, whose evidence and posterior are exact.

p(z) = N(0, I), p(x|z) = N(Wz, s² I), with orthogonal columns of W, so that the true
posterior is a diagonal normal.
"""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from vae_teach.bounds import elbo, elbo_mc, iwae, log_weight
from vae_teach.distributions import Normal, kl

W = jnp.linalg.qr(jr.normal(jr.key(0), (6, 2)))[0] * jnp.array([[2.0, 1.0]])
S = 0.3
X = jr.normal(jr.key(1), (6,))
EVIDENCE = jax.scipy.stats.multivariate_normal.logpdf(
    X, jnp.zeros(6), W @ W.T + S**2 * jnp.eye(6)
)


def posterior(x):
    precision = 1 + (W**2).sum(0) / S**2
    return Normal(W.T @ x / S**2 / precision, precision**-0.5)


class Linear:
    """The exact generative model with a posterior of one's choice."""

    def __init__(self, q):
        self.q_z = q

    def p_z(self):
        return Normal(jnp.zeros(2), jnp.ones(2))

    def p_x(self, z):
        return Normal(W @ z, jnp.full(6, S))


def wrong(x):
    q = posterior(x)
    return Normal(q.loc + 0.1, 1.5 * q.scale)


def draws(bound, model, n, key):
    return jax.vmap(lambda k: bound(model, X, k)[0])(jr.split(key, n))


def mean_and_error(values):
    return values.mean(), values.std() / np.sqrt(len(values))


def test_with_the_exact_posterior_log_w_is_the_evidence_at_every_z():
    log_w = jax.vmap(partial(log_weight, Linear(posterior), X))(jr.split(jr.key(2), 50))
    np.testing.assert_allclose(log_w, EVIDENCE, atol=3e-5)


@pytest.mark.parametrize("shift", [0.0, 0.2, -1.0])
@pytest.mark.parametrize("stretch", [0.5, 1.0, 2.0])
def test_the_gap_of_the_elbo_is_the_kl_to_the_true_posterior(shift, stretch):
    p = posterior(X)
    q = Normal(p.loc + shift, stretch * p.scale)
    mean, error = mean_and_error(draws(elbo, Linear(lambda x: q), 40_000, jr.key(3)))
    gap = EVIDENCE + mean
    assert abs(gap - kl(q, p)) < 4 * error + 1e-4


@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
def test_exact_and_monte_carlo_rate_agree_in_the_mean(beta):
    model = Linear(wrong)
    exact = mean_and_error(draws(partial(elbo, beta=beta), model, 40_000, jr.key(4)))
    sampled = mean_and_error(
        draws(partial(elbo_mc, beta=beta), model, 40_000, jr.key(5))
    )
    error = np.hypot(exact[1], sampled[1])
    assert abs(exact[0] - sampled[0]) < 4 * error


def test_the_terms_add_up():
    value, terms = elbo(Linear(wrong), X, jr.key(0), beta=3.0)
    assert terms.keys() == {"distortion", "rate"}
    expected = terms["distortion"] + 3 * terms["rate"]
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(
        terms["rate"], kl(wrong(X), Normal(jnp.zeros(2), jnp.ones(2))), rtol=1e-6
    )


def test_iwae_rises_with_k_to_the_evidence():
    model, key = Linear(wrong), jr.key(6)
    bounds = [
        mean_and_error(-draws(partial(iwae, samples=k), model, 8_000, key))
        for k in (1, 4, 16, 64)
    ]
    for (low, error_low), (high, error_high) in pairwise(bounds):
        assert high - low > 4 * np.hypot(error_low, error_high)
        assert high < EVIDENCE + 4 * error_high
    # K (log p(x) - L_K) tends to half the variance of w / p(x): Gaussian pairs, exact.
    p, q = posterior(X), wrong(X)
    v = 2 * q.scale**2 - p.scale**2
    second = q.scale**2 / (p.scale * jnp.sqrt(v)) * jnp.exp((p.loc - q.loc) ** 2 / v)
    limit = (second.prod() - 1) / 2
    gap, error = EVIDENCE - bounds[-1][0], bounds[-1][1]
    assert abs(64 * gap - limit) < 64 * 4 * error + 0.1 * limit


def test_iwae_of_one_sample_is_the_monte_carlo_elbo():
    model, key = Linear(wrong), jr.key(7)
    value, _ = iwae(model, X, key, samples=1)
    expected, _ = elbo_mc(model, X, jr.split(key, 1)[0])
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_the_importance_weights_average_to_the_evidence():
    keys = jr.split(jr.key(8), 40_000)
    w = jnp.exp(jax.vmap(partial(log_weight, Linear(wrong), X))(keys) - EVIDENCE)
    mean, error = mean_and_error(w)
    assert abs(mean - 1) < 4 * error
    assert error < 0.02


def test_no_sample_is_refused():
    with pytest.raises(ValueError, match="one sample or more"):
        iwae(Linear(posterior), X, jr.key(0), samples=0)
