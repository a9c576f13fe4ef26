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

from vae_teach.bounds import (
    capacity,
    elbo,
    elbo_free_bits,
    elbo_mc,
    elbo_relaxed,
    elbo_stl,
    iwae,
    log_weight,
)
from vae_teach.discrete import OneHotCategorical
from vae_teach.distributions import Normal, kl
from vae_teach.theory import ppca

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


def path_and_plain_gradients(model_of, n):
    """The gradient of both Monte-Carlo bounds by q's shift and log stretch, n draws."""

    def gradient(bound, key):
        return jax.grad(lambda v: bound(model_of(v), X, key)[0])(jnp.zeros(4))

    keys = jr.split(jr.key(9), n)
    return [jax.vmap(partial(gradient, b))(keys) for b in (elbo_stl, elbo_mc)]


def spoiled(loc, scale, v):
    return lambda x: Normal(loc + v[:2], scale * jnp.exp(v[2:]))


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_sticking_the_landing_has_the_value_of_the_monte_carlo_elbo(beta):
    value, terms = elbo_stl(Linear(wrong), X, jr.key(8), beta=beta)
    expected, expected_terms = elbo_mc(Linear(wrong), X, jr.key(8), beta=beta)
    assert value == expected
    assert terms == expected_terms


def test_the_path_gradient_is_unbiased():
    q = wrong(X)
    stl, plain = path_and_plain_gradients(
        lambda v: Linear(spoiled(q.loc, q.scale, v)), 40_000
    )
    error = np.hypot(stl.std(0), plain.std(0)) / np.sqrt(len(stl))
    assert (abs(stl.mean(0) - plain.mean(0)) < 4 * error).all()
    assert (abs(plain.mean(0)) > 10 * error).all()  # so that zero is not an answer


def test_the_path_gradient_has_no_noise_where_q_is_the_posterior():
    model = ppca(jr.normal(jr.key(10), (50, 6)) * jnp.arange(1.0, 7)[None], 2)
    q = model.q_z(X)

    class Model:
        p_z, p_x = model.p_z, model.p_x

        def __init__(self, v):
            self.q_z = spoiled(q.loc, q.scale, v)

    stl, plain = path_and_plain_gradients(Model, 1_000)
    assert abs(stl).max() < 1e-4
    assert (plain.std(0) > 0.3).all()


class Discrete:
    """Two choices among three, decoded by a curved map that pulls z towards X."""

    def __init__(self, logits):
        self.logits = logits

    def p_z(self):
        return OneHotCategorical(jnp.zeros((2, 3)))

    def q_z(self, x):
        return OneHotCategorical(self.logits)

    def p_x(self, z):
        return Normal(2 * z.ravel(), jnp.ones(6))


LOGITS = jr.normal(jr.key(11), (2, 3))


def test_a_cold_relaxation_has_the_value_of_the_discrete_elbo():
    cold = partial(elbo_relaxed, temperature=1e-3)
    n = 20_000
    relaxed, error = mean_and_error(draws(cold, Discrete(LOGITS), n, jr.key(12)))
    exact, other = mean_and_error(draws(elbo, Discrete(LOGITS), n, jr.key(13)))
    assert abs(relaxed - exact) < 4 * np.hypot(error, other)
    warm, _ = mean_and_error(
        draws(partial(elbo_relaxed, temperature=1.0), Discrete(LOGITS), n, jr.key(12))
    )
    assert warm < exact - 0.1  # the surrogate flatters


def test_the_relaxed_gradient_is_that_of_its_own_mean_and_close_to_the_discrete_one():
    pairs = jnp.stack(jnp.meshgrid(jnp.arange(3), jnp.arange(3)), -1).reshape(9, 2)

    def exact(logits):
        model = Discrete(logits)
        q, codes = model.q_z(X), jax.nn.one_hot(pairs, 3)
        log_q = jax.vmap(q.log_prob)(codes)
        distortion = jax.vmap(lambda z: -model.p_x(z).log_prob(X))(codes)
        return (jnp.exp(log_q) * distortion).sum() + kl(q, model.p_z())

    def relaxed(logits, key):
        return elbo_relaxed(Discrete(logits), X, key, temperature=0.1)[0]

    keys = jr.split(jr.key(14), 40_000)
    slopes = jax.vmap(jax.grad(relaxed), (None, 0))(LOGITS, keys)
    error = slopes.std(0) / np.sqrt(len(slopes))
    assert (abs(slopes.mean(0) - jax.grad(exact)(LOGITS)) < 4 * error + 0.05).all()
    discrete = jax.grad(lambda v: elbo(Discrete(v), X, jr.key(0))[0])(LOGITS)
    rate_alone = jax.grad(lambda v: kl(OneHotCategorical(v), Discrete(v).p_z()))(LOGITS)
    np.testing.assert_allclose(discrete, rate_alone, atol=1e-6)  # no path through z


RATE = float(kl(wrong(X), Linear(wrong).p_z()))


@pytest.mark.parametrize(("away", "sign"), [(-0.5, 1), (0.5, -1)])
def test_the_pull_of_a_capacity_changes_its_sign_at_the_target(away, sign):
    def value(v, weight):
        model = Linear(lambda x: Normal(wrong(x).loc + v, wrong(x).scale))
        return capacity(model, X, jr.key(0), target=RATE + away, beta=weight)[0]

    def rate(v):
        return kl(Normal(wrong(X).loc + v, wrong(X).scale), Linear(wrong).p_z())

    pull = jax.grad(value)(jnp.zeros(2), 3.0) - jax.grad(value)(jnp.zeros(2), 0.0)
    np.testing.assert_allclose(pull, 3 * sign * jax.grad(rate)(jnp.zeros(2)), rtol=1e-3)


def test_a_capacity_charges_the_distance_to_its_target_and_reports_the_rate():
    _, plain = elbo(Linear(wrong), X, jr.key(0))
    for target in (RATE - 2.0, RATE, RATE + 2.0):
        value, terms = capacity(Linear(wrong), X, jr.key(0), target=target, beta=10.0)
        assert terms == plain
        expected = plain["distortion"] + 10 * abs(RATE - target)
        np.testing.assert_allclose(value, expected, rtol=1e-5)
    # A target of 0 is the β-VAE.
    value, _ = capacity(Linear(wrong), X, jr.key(0), target=0.0, beta=4.0)
    expected, _ = elbo(Linear(wrong), X, jr.key(0), beta=4.0)
    np.testing.assert_allclose(value, expected, rtol=1e-6)


@pytest.mark.parametrize("floor", [0.0, 1.0, 50.0])
def test_free_bits_are_a_looser_bound(floor):
    value, terms = elbo_free_bits(Linear(wrong), X, jr.key(0), floor=floor)
    tight, plain = elbo(Linear(wrong), X, jr.key(0))
    assert value >= tight - 1e-5
    np.testing.assert_allclose(terms["rate"], plain["rate"], rtol=1e-5)
    # Each latent alone against the floor, in the closed form of two normals.
    q = wrong(X)
    kls = 0.5 * (q.scale**2 + q.loc**2 - 1 - 2 * jnp.log(q.scale))
    expected = np.maximum(np.asarray(kls), floor).sum()
    np.testing.assert_allclose(terms["clamped_rate"], expected, rtol=1e-5)


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
