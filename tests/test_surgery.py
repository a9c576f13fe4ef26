"""ELBO surgery of codes whose aggregated posterior is known."""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from flax import nnx
from scipy.special import logsumexp
from scipy.stats import norm
from variants import images, vae

from vae_teach.distributions import Bernoulli, Normal, kl, pytree
from vae_teach.linear import linear_vae
from vae_teach.metrics import rate_per_unit
from vae_teach.surgery import elbo_surgery, surgery_terms
from vae_teach.theory import Spectrum

EPS = np.finfo(np.float32).eps
CENTRES = jr.normal(jr.key(0), (203, 3))  # no multiple of any piece


@pytree
class Codes:
    """q(z|x) = N(x, scale²): the data are the means of their codes."""

    scale: jax.Array

    def p_z(self):
        return Normal(jnp.zeros_like(self.scale), jnp.ones_like(self.scale))

    def q_z(self, x):
        return Normal(x, self.scale)


NARROW, WIDE = Codes(jnp.full(3, 0.1)), Codes(jnp.array([0.3, 1.0, 2.0]))


def over_keys(model, data, keys):
    """Each part, from many keys: (keys,)."""
    found = jax.vmap(partial(elbo_surgery, model, data))(keys)
    return jax.tree.map(lambda part: np.asarray(part, np.float64), found)


def agrees(values, expected, slack=0.0):
    error = values.std(ddof=1) / np.sqrt(len(values))
    return abs(values.mean() - expected) <= 4 * error + slack


# Identities


@pytest.mark.parametrize("model", [NARROW, WIDE], ids=["narrow", "wide"])
def test_the_parts_add_up_at_every_example(model):
    t = surgery_terms(model, CENTRES, jr.key(1))
    assert all(part.shape == (203,) for part in t)
    exact = partial(np.testing.assert_allclose, rtol=0, atol=100 * EPS)
    exact(t.rate, t.mutual_information + t.marginal_kl)
    exact(t.marginal_kl, t.total_correlation + t.dimension_wise_kl)
    means = elbo_surgery(model, CENTRES, jr.key(1))
    exact(means, [part.mean() for part in t])


@pytest.mark.parametrize("model", [NARROW, WIDE], ids=["narrow", "wide"])
def test_the_parts_are_the_definitions_in_double_precision(model):
    found = surgery_terms(model, CENTRES, jr.key(2))
    q = jax.vmap(model.q_z)(CENTRES)
    z = jax.vmap(Normal.sample)(q, jr.split(jr.key(2), 203))
    z, loc, scale = (np.asarray(a, np.float64) for a in (z, q.loc, q.scale))
    log_q = norm.logpdf(z[:, None], loc, scale)  # (z, mixture, latent)
    own = np.diagonal(log_q.sum(2))
    joint = logsumexp(log_q.sum(2), axis=1) - np.log(203)
    product = (logsumexp(log_q, axis=1) - np.log(203)).sum(1)
    log_p = norm.logpdf(z).sum(1)
    expected = own - log_p, own - joint, joint - log_p, joint - product, product - log_p
    np.testing.assert_allclose(found, expected, atol=2e-4, rtol=1e-5)


@pytest.mark.parametrize("model", [NARROW, WIDE], ids=["narrow", "wide"])
def test_the_rate_is_that_of_the_exact_kl(model):
    found = over_keys(model, CENTRES, jr.split(jr.key(3), 50))
    assert agrees(found.rate, float(rate_per_unit(model, CENTRES).sum()))


def test_the_spread_over_examples_bounds_the_noise():
    keys = jr.split(jr.key(4), 200)
    found = over_keys(WIDE, CENTRES, keys)
    terms = surgery_terms(WIDE, CENTRES, jr.key(21))
    for means, values in zip(found, terms, strict=True):
        # An sd from 200 is off by 5 %: sd/√400.
        assert means.std(ddof=1) <= 1.2 * values.std(ddof=1) / np.sqrt(203)


@pytest.mark.parametrize("model", [NARROW, WIDE], ids=["narrow", "wide"])
def test_information_is_at_most_the_log_of_the_examples(model):
    # Of every example: q(z) >= q(z|x) / n.
    found = surgery_terms(model, CENTRES, jr.key(5)).mutual_information
    assert (found <= np.log(203) + 100 * EPS).all()


@pytest.mark.parametrize("scale", [0.05, 0.3, 1.0, 2.0])
def test_information_is_at_most_the_rate(scale):
    found = over_keys(Codes(jnp.full(3, scale)), CENTRES, jr.split(jr.key(6), 20))
    assert found.mutual_information.mean() <= found.rate.mean()
    # Both are KLs: negative by noise alone.
    for part in (found.marginal_kl, found.mutual_information, found.total_correlation):
        assert part.mean() >= -4 * part.std(ddof=1) / np.sqrt(20)


# Known answers


def test_codes_that_do_not_overlap_tell_the_example():
    apart = 10.0 * jnp.arange(64.0)[:, None] + jnp.zeros((64, 2))
    found = elbo_surgery(Codes(jnp.ones(2)), apart, jr.key(7))
    # The nearest other code, 14 standard deviations away, weighs less than rounding.
    np.testing.assert_allclose(found.mutual_information, np.log(64), atol=1e-4)


@pytest.mark.parametrize("mean", [0.0, 1.5])
def test_equal_codes_tell_nothing_whatever_their_rate(mean):
    same = jnp.full((50, 2), mean)
    found = over_keys(Codes(jnp.full(2, 0.5)), same, jr.split(jr.key(8), 50))
    np.testing.assert_allclose(found.mutual_information, 0, atol=1e-5)
    np.testing.assert_allclose(found.total_correlation, 0, atol=1e-5)
    expected = 0.5 * 2 * (0.25 + mean**2 - 1 - np.log(0.25))
    assert agrees(found.marginal_kl, expected)


def test_a_grid_of_codes_has_no_total_correlation():
    axes = jnp.array([-1.0, 0.2, 2.0]), jnp.array([-2.0, 0.0, 0.1, 3.0])
    grid = jnp.stack([axis.ravel() for axis in jnp.meshgrid(*axes)], 1)
    found = surgery_terms(Codes(jnp.array([0.4, 0.7])), grid, jr.key(9))
    # A product of two mixtures is this mixture: the two logs agree at every z.
    np.testing.assert_allclose(found.total_correlation, 0, atol=20 * EPS)
    diagonal = jnp.stack([jnp.arange(4.0), jnp.arange(4.0)], 1)
    found = elbo_surgery(Codes(jnp.full(2, 0.01)), diagonal, jr.key(9))
    np.testing.assert_allclose(found.total_correlation, np.log(4), atol=1e-4)


def most(ratios, n):
    """Bounds the mean KL of a mixture of n normals to the normal that it samples.

    KL <= log(1 + χ²), and the mean of χ² is (Π_j 1/s_j² - 1) / n for means from
    N(0, 1 - s_j²): the ``ratios`` are the 1/s_j².
    """
    return np.log1p((np.prod(ratios) - 1) / n)


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6])
def test_the_total_correlation_of_a_correlated_pair(rho):
    n, noise = 1_000, 0.3
    covariance = jnp.array([[1 - noise, rho], [rho, 1 - noise]])
    codes = jr.multivariate_normal(jr.key(10), jnp.zeros(2), covariance, (12, n))
    model, keys = Codes(jnp.full(2, noise**0.5)), jr.split(jr.key(11), 12)
    found = jax.lax.map(lambda a: elbo_surgery(model, *a), (codes, keys))
    slack = most([(1 + rho) / noise, (1 - rho) / noise], n)
    total = np.asarray(found.total_correlation, np.float64)
    assert agrees(total, -0.5 * np.log(1 - rho**2), slack)
    assert agrees(np.asarray(found.dimension_wise_kl, np.float64), 0.0, slack)


def test_two_latents_against_sums_on_a_grid():
    centres = CENTRES[:15, :2]
    model = Codes(jnp.array([0.5, 0.8]))
    axis = np.linspace(-7, 7, 281)
    log_q = norm.logpdf(axis[:, None, None], centres, model.scale)  # (grid, n, latent)
    log_q = np.asarray(log_q, np.float64)
    joint = np.exp(log_q[:, None, :, 0] + log_q[None, :, :, 1]).mean(2)
    marginals = np.exp(log_q).mean(1)
    product = marginals[:, None, 0] * marginals[None, :, 1]
    prior = norm.pdf(axis)[:, None] * norm.pdf(axis)[None]
    area = (axis[1] - axis[0]) ** 2
    found = over_keys(model, centres, jr.split(jr.key(20), 1_000))
    for part, (a, b) in {
        "marginal_kl": (joint, prior),
        "total_correlation": (joint, product),
        "dimension_wise_kl": (product, prior),
    }.items():
        expected = (joint * np.log(a / b)).sum() * area
        assert expected > 0.05
        assert agrees(getattr(found, part), expected)


def normal_data(n, key):
    """Samples of a normal, and its exact linear VAE: a rate of ½ log 5 + ½ log 2.5."""
    eigenvalues = np.array([2.0, 1.0, 0.4, 0.4])
    truth = Spectrum(np.zeros(4), eigenvalues, np.eye(4))
    x = jr.normal(key, (n, 4)) * jnp.sqrt(jnp.asarray(eigenvalues))[None]
    return linear_vae(truth, 2, variance=0.4), x.astype(jnp.float32)


@pytest.mark.parametrize("n", [3, 30, 600])
def test_the_rate_of_a_linear_vae_is_information_up_to_its_finite_data(n):
    def one(key):
        model, x = normal_data(n, key)
        return elbo_surgery(model, x, jr.fold_in(key, 1))

    found = jax.lax.map(one, jr.split(jr.key(12), 50))
    marginal = np.asarray(found.marginal_kl, np.float64)
    rate, error = 0.5 * np.log(5 * 2.5), marginal.std(ddof=1) / np.sqrt(50)
    assert max(rate - np.log(n), 0) - 4 * error <= marginal.mean()
    assert marginal.mean() <= most([5.0, 2.5], n) + 4 * error
    information = np.asarray(found.mutual_information, np.float64)
    assert agrees(information + marginal, rate)


def test_more_rate_than_the_data_can_tell_apart_counts_as_mismatch():
    eigenvalues = np.full(8, 100.0)
    truth = Spectrum(np.zeros(8), eigenvalues, np.eye(8))
    model, x = linear_vae(truth, 8, variance=1.0), 10 * jr.normal(jr.key(13), (100, 8))
    found = elbo_surgery(model, x, jr.key(14))
    assert found.rate > 15
    np.testing.assert_allclose(found.mutual_information, np.log(100), atol=0.01)


# What it takes, what it refuses


def test_networks_are_measured_too_and_compiled_once():
    x = images(40)
    model = vae(nnx.Rngs(0))
    found = elbo_surgery(model, x, jr.key(15))
    assert all(part.shape == () and jnp.isfinite(part) for part in found)
    exact = jax.vmap(lambda x: kl(model.q_z(x), model.p_z()))(x).mean()
    terms = surgery_terms(model, x, jr.key(15))
    assert abs(found.rate - exact) <= 4 * terms.rate.std() / np.sqrt(40)
    compiled = surgery_terms._cache_size()
    elbo_surgery(vae(nnx.Rngs(1)), x, jr.key(16))
    assert surgery_terms._cache_size() == compiled


def test_pieces_change_nothing(monkeypatch):
    whole = surgery_terms(WIDE, CENTRES, jr.key(17))
    monkeypatch.setattr("vae_teach.surgery._AT_ONCE", 10 * CENTRES.size)
    anew = jax.jit(surgery_terms.__wrapped__)
    pieces = anew(WIDE, CENTRES, jr.key(17))
    np.testing.assert_allclose(whole, pieces, atol=100 * EPS)


@pytree
class Coins(Codes):
    def q_z(self, x):
        return Bernoulli(x)


@pytree
class CoinPrior(Codes):
    def p_z(self):
        return Bernoulli(jnp.zeros(3))


@pytree
class ShortPrior(Codes):
    def p_z(self):
        return Normal(jnp.zeros(2), jnp.ones(2))


@pytest.mark.parametrize(
    ("kind", "match"), [(Coins, r"q_z\(x\) to be a Normal"), (CoinPrior, "prior")]
)
def test_other_families_are_refused(kind, match):
    with pytest.raises(TypeError, match=match):
        elbo_surgery(kind(jnp.ones(3)), CENTRES, jr.key(18))


def test_no_examples_and_other_shapes_are_refused():
    with pytest.raises(ValueError, match="one example or more"):
        elbo_surgery(WIDE, CENTRES[:0], jr.key(19))
    with pytest.raises(ValueError, match="Expected one event of shape"):
        elbo_surgery(ShortPrior(jnp.ones(3)), CENTRES, jr.key(19))
    with pytest.raises(TypeError):
        elbo_surgery(WIDE, CENTRES, jr.PRNGKey(0))
