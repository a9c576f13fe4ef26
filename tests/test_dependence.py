"""Losses that charge dependence: exact where the batch is the data."""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from vae_teach.bounds import elbo_mc
from vae_teach.dependence import dip_vae, stratified, tc_vae, weighted
from vae_teach.distributions import FixedScale, Normal, pytree

D = 3


@pytree
class Coded:
    """Examples are the parameters of their own posteriors: (2, d), means and scales."""

    def p_z(self):
        return Normal(jnp.zeros(D), jnp.ones(D))

    def q_z(self, x):
        return Normal(x[0], x[1])

    def p_x(self, z):
        return FixedScale(1.0)(jnp.stack([z, z]))


def examples(n, key=0, spread=1.0):
    means = spread * jr.normal(jr.key(key), (n, D))
    scales = jnp.exp(0.3 * jr.normal(jr.key(key + 1), (n, D)))
    return jnp.stack([means, 0.5 * scales], 1)


def run(batch, key=7, **given):
    return tc_vae(
        Coded(), batch, jr.key(key), size=given.pop("size", len(batch)), **given
    )


def exact_parts(batch, key=7):
    """The same from the mixture written out, in double precision, by NumPy."""
    q = jax.vmap(Coded().q_z)(batch)
    keys = jr.split(jr.key(key), len(batch))
    z = np.asarray(jax.vmap(lambda q, k: q.sample(k))(q, keys), float)
    loc, scale = np.asarray(q.loc, float), np.asarray(q.scale, float)
    away = (z[:, None] - loc[None]) / scale[None]
    log = -0.5 * away**2 - np.log(scale)[None] - 0.5 * np.log(2 * np.pi)

    def mean_density(logs):
        return np.log(np.exp(logs).mean(1))

    joint, each = mean_density(log.sum(-1)), mean_density(log).sum(-1)
    own = np.einsum("iid->i", log)
    prior = (-0.5 * z**2 - 0.5 * np.log(2 * np.pi)).sum(-1)
    return (own - joint).mean(), (joint - each).mean(), (each - prior).mean()


NAMES = "mutual_information", "total_correlation", "dimension_wise_kl"


def test_stratified_is_exact_when_the_batch_is_the_data():
    batch = examples(50)
    _, terms = run(batch)
    found = [float(terms[name]) for name in NAMES]
    np.testing.assert_allclose(found, exact_parts(batch), atol=1e-4)


def test_weighted_is_off_by_log_n_when_the_batch_is_the_data():
    batch = examples(400)
    right, off = run(batch)[1], run(batch, log_weights=weighted)[1]
    log_n = np.log(len(batch))
    gaps = [float(off[name] - right[name]) for name in NAMES]
    np.testing.assert_allclose(gaps, [log_n, (D - 1) * log_n, -D * log_n], atol=1e-4)


@pytest.mark.parametrize("log_weights", [stratified, weighted])
def test_the_parts_add_up_to_the_rate(log_weights):
    batch = examples(32)
    value, terms = run(batch, size=5000, log_weights=log_weights)
    total = sum(terms[name] for name in NAMES)
    np.testing.assert_allclose(total, terms["rate"], rtol=1e-5)
    np.testing.assert_allclose(value, terms["distortion"] + terms["rate"], rtol=1e-5)


def test_at_beta_one_it_is_the_monte_carlo_elbo():
    batch = examples(16)
    keys = jr.split(jr.key(7), len(batch))
    values, _ = jax.vmap(partial(elbo_mc, Coded()))(batch, keys)
    np.testing.assert_allclose(run(batch)[0], values.mean(), rtol=1e-5)


def test_beta_weighs_the_total_correlation_alone():
    batch = examples(16)
    (one, terms), (six, _) = run(batch), run(batch, beta=6.0)
    np.testing.assert_allclose(six - one, 5 * terms["total_correlation"], rtol=1e-4)


def relative_density(log_weights, n=64, batch=8, draws=100_000):
    """Mean and standard error of q̂(z)/q(z) over batches and z, in a known mixture."""
    data = examples(n, spread=2.0)

    def density(z, rows):
        q = jax.vmap(Coded().q_z)(rows)
        return jax.vmap(lambda q: q.log_prob(z))(q)

    def one(key):
        key_rows, key_z = jr.split(key)
        rows = jr.permutation(key_rows, n)[:batch]
        z = Coded().q_z(data[rows[0]]).sample(key_z)
        found = jax.nn.logsumexp(log_weights(batch, n)[0] + density(z, data[rows]))
        true = jax.nn.logsumexp(density(z, data)) - jnp.log(float(n))
        return jnp.exp(found - true)

    ratios = np.asarray(jax.lax.map(one, jr.split(jr.key(3), draws), batch_size=1000))
    return ratios.mean(), ratios.std() / np.sqrt(draws)


def test_only_the_stratified_estimate_is_unbiased():
    mean, error = relative_density(stratified)
    assert abs(mean - 1) < 2 * error
    low, error = relative_density(weighted)
    assert low < 1 - 20 * error


def test_log_of_the_estimate_is_low_and_rises_with_the_batch():
    data = examples(512, spread=2.0)
    exact = exact_parts(data)[0]
    found = []
    for size in (8, 32, 128, 512):
        batches = data.reshape(-1, size, 2, D)
        keys = jr.split(jr.key(7), len(batches))
        parts = [
            tc_vae(Coded(), b, k, size=512)[1]
            for b, k in zip(batches, keys, strict=True)
        ]
        found.append(np.mean([part["mutual_information"] for part in parts]))
    # log q(z) too low on average: the information too high, by less for larger batches.
    assert found == sorted(found, reverse=True)
    assert found[0] > exact + 0.1
    assert found[-1] == pytest.approx(exact, abs=0.1)


def test_dip_asks_for_the_identity():
    n = 40_000
    keys = jr.split(jr.key(1), 2)
    scale = 0.6
    means = jnp.sqrt(1 - scale**2) * jr.normal(keys[0], (n, D))
    matched = jnp.stack([means, jnp.full_like(means, scale)], 1)
    given = dict(correlation=10.0, variance=5.0)
    _, terms = dip_vae(Coded(), matched, keys[1], **given)
    assert terms["penalty"] < 100 * 10 / n  # squares of errors of order 1/√n
    tied = matched.at[:, 0, 1].set(matched[:, 0, 0])
    _, terms = dip_vae(Coded(), tied, keys[1], **given)
    expected = 10.0 * 2 * (1 - scale**2) ** 2
    assert terms["penalty"] == pytest.approx(expected, rel=0.05)


def test_dip_without_weights_is_the_elbo():
    batch = examples(16)
    value, terms = dip_vae(Coded(), batch, jr.key(7), correlation=0.0, variance=0.0)
    np.testing.assert_allclose(value, terms["distortion"] + terms["rate"], rtol=1e-6)
    np.testing.assert_allclose(
        terms["distortion"], run(batch)[1]["distortion"], rtol=1e-5
    )


def test_dip_covariance_is_that_of_draws():
    batch = examples(8, spread=3.0)
    q = jax.vmap(Coded().q_z)(batch)
    draws = jax.vmap(lambda q, k: jax.vmap(q.sample)(jr.split(k, 50_000)))(
        q, jr.split(jr.key(2), 8)
    )
    c = np.cov(np.asarray(draws).reshape(-1, D).T)
    off = (c**2).sum() - (np.diag(c) ** 2).sum()
    given = dict(correlation=1.0, variance=0.0)
    _, terms = dip_vae(Coded(), batch, jr.key(7), **given)
    assert terms["penalty"] == pytest.approx(off, rel=0.05)


@pytest.mark.parametrize("batch", [1, 11])
def test_a_batch_must_fit(batch):
    with pytest.raises(ValueError, match="from 2 to the 10"):
        stratified(batch, 10)
