import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as npd
import pytest
import scipy.integrate
import scipy.stats

from vae_teach.discrete import OneHotCategorical, RelaxedCategorical
from vae_teach.distributions import Normal, kl

LOGITS = jnp.array([0.5, -1.0, 1.2])


def draws(q, n, seed=0):
    return jax.vmap(q.sample)(jr.split(jr.key(seed), n))


@pytest.mark.parametrize("temperature", [0.1, 1.0, 5.0])
def test_a_sample_lies_on_the_simplex(temperature):
    q = RelaxedCategorical(jr.normal(jr.key(0), (4, 3)), temperature)
    x, log_p = q.sample_and_log_prob(jr.key(1))
    assert x.shape == (4, 3)
    assert log_p.shape == ()
    assert (x >= 0).all()
    np.testing.assert_allclose(x.sum(-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(x, q.sample(jr.key(1)))
    np.testing.assert_allclose(log_p, q.log_prob(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_largest_entry_is_categorical_whatever_the_temperature(temperature):
    n = 20_000
    winners = draws(RelaxedCategorical(LOGITS, temperature), n).argmax(-1)
    counts = np.bincount(winners, minlength=3)
    expected = n * jax.nn.softmax(LOGITS)
    assert scipy.stats.chisquare(counts, expected, sum_check=False).pvalue > 1e-3


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_two_entries_have_a_density_that_integrates_to_one(temperature):
    q = RelaxedCategorical(jnp.array([0.3, -0.6]), temperature)

    def density(logit):  # over log(x / (1 - x)), where the density has no poles
        x = 1 / (1 + np.exp(-logit))
        return float(jnp.exp(q.log_prob(jnp.array([x, 1 - x])))) * x * (1 - x)

    total, _ = scipy.integrate.quad(density, -16, 16, limit=100, epsabs=1e-5)
    tails = 2 * np.exp(-16 * temperature + 0.9)  # mass outside, at most
    assert abs(total - 1) < tails + 1e-4


@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0])
def test_three_entries_have_a_density_that_integrates_to_one(temperature):
    q = RelaxedCategorical(LOGITS, temperature)
    # Importance sampling from a Dirichlet whose own density scipy knows.
    proposal = scipy.stats.dirichlet([0.6, 0.6, 0.6])
    x = proposal.rvs(100_000, random_state=np.random.default_rng(0))
    x = np.maximum(x, 1e-30)
    log_p = jax.vmap(q.log_prob)(jnp.asarray(x, jnp.float32))
    log_r = scipy.special.gammaln(1.8) - 3 * scipy.special.gammaln(0.6)
    weights = np.exp(log_p - (log_r - 0.4 * np.log(x).sum(1)))
    error = weights.std() / np.sqrt(len(weights))
    assert abs(weights.mean() - 1) < 4 * error
    assert error < 0.01


@pytest.mark.parametrize("temperature", [0.2, 1.0, 3.0])
def test_two_entries_have_the_density_of_numpyros_relaxed_coin(temperature):
    x = draws(RelaxedCategorical(jnp.array([0.7, -0.4]), 1.0), 50)
    q = RelaxedCategorical(jnp.array([0.7, -0.4]), temperature)
    found = jax.vmap(q.log_prob)(x)
    theirs = npd.RelaxedBernoulliLogits(temperature, 0.7 + 0.4).log_prob(x[:, 0])
    np.testing.assert_allclose(found, theirs, rtol=1e-3, atol=1e-3)


def test_the_density_sums_over_the_event():
    logits = jr.normal(jr.key(0), (2, 4, 3))
    x = RelaxedCategorical(logits, 0.8).sample(jr.key(1))
    rows = zip(logits.reshape(-1, 3), x.reshape(-1, 3), strict=True)
    parts = [RelaxedCategorical(row, 0.8).log_prob(point) for row, point in rows]
    np.testing.assert_allclose(
        RelaxedCategorical(logits, 0.8).log_prob(x), sum(parts), rtol=1e-5
    )


def test_a_cold_sample_is_nearly_one_hot_and_its_density_stays_finite():
    q = RelaxedCategorical(10 * LOGITS, 0.01)
    x, log_p = jax.vmap(q.sample_and_log_prob)(jr.split(jr.key(0), 1000))
    assert (x == 0).any()  # underflow
    assert (x.max(-1) > 0.99).mean() > 0.95
    assert np.isfinite(log_p).all()
    assert np.isfinite(jax.vmap(q.log_prob)(x)).all()
    slope = jax.grad(lambda v: RelaxedCategorical(v, 0.01).log_prob(x[0]))(10 * LOGITS)
    assert np.isfinite(slope).all()


def test_a_sample_moves_smoothly_with_logits_and_temperature():
    def largest(logits, temperature):
        return RelaxedCategorical(logits, temperature).sample(jr.key(3))[0]

    by_logits, by_temperature = jax.grad(largest, (0, 1))(LOGITS, 0.7)
    step = 1e-2
    for found, plus, minus in [
        (by_logits[0], (LOGITS.at[0].add(step), 0.7), (LOGITS.at[0].add(-step), 0.7)),
        (by_temperature, (LOGITS, 0.7 + step), (LOGITS, 0.7 - step)),
    ]:
        expected = (largest(*plus) - largest(*minus)) / (2 * step)
        np.testing.assert_allclose(found, expected, rtol=1e-2)


def test_off_the_simplex_there_is_no_mass():
    q = RelaxedCategorical(LOGITS, 1.0)
    for point in ([0.2, 0.2, 0.2], [1.2, -0.3, 0.1], [1.0, 1.0, 1.0]):
        assert q.log_prob(jnp.array(point)) == -jnp.inf


def test_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"shape \(3,\), got \(2, 3\)"):
        RelaxedCategorical(LOGITS, 1.0).log_prob(jnp.full((2, 3), 1 / 3))


def test_vmap_gives_a_batch():
    batch = jax.vmap(lambda v: RelaxedCategorical(v, 0.5))(jr.normal(jr.key(0), (7, 3)))
    x = jax.vmap(RelaxedCategorical.sample)(batch, jr.split(jr.key(1), 7))
    assert x.shape == (7, 3)


def test_a_one_hot_sample_is_categorical():
    x = draws(OneHotCategorical(LOGITS), 20_000)
    assert ((x == 0) | (x == 1)).all()
    assert (x.sum(-1) == 1).all()
    expected = len(x) * OneHotCategorical(LOGITS).mean
    counts = np.asarray(x.sum(0))
    assert scipy.stats.chisquare(counts, expected, sum_check=False).pvalue > 1e-3


def test_the_mass_of_one_hot_vectors_sums_to_one():
    q = OneHotCategorical(LOGITS)
    log_p = jax.vmap(q.log_prob)(jnp.eye(3))
    np.testing.assert_allclose(jnp.exp(log_p), jax.nn.softmax(LOGITS), rtol=1e-5)
    two = OneHotCategorical(jnp.stack([LOGITS, -LOGITS]))
    np.testing.assert_allclose(
        two.log_prob(jnp.eye(3)[:2]),
        log_p[0] + OneHotCategorical(-LOGITS).log_prob(jnp.eye(3)[1]),
        rtol=1e-5,
    )


@pytest.mark.parametrize("point", [[0.5, 0.5, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
def test_a_vector_that_is_not_one_hot_has_no_mass(point):
    assert OneHotCategorical(LOGITS).log_prob(jnp.array(point)) == -jnp.inf


def test_the_kl_of_one_hot_vectors_is_the_mean_log_ratio():
    q, p = OneHotCategorical(jr.normal(jr.key(4), (2, 3))), jnp.zeros((2, 3))
    entropy = -(q.mean * jnp.log(q.mean)).sum()
    expected = 2 * np.log(3) - entropy  # to the uniform distribution
    np.testing.assert_allclose(kl(q, OneHotCategorical(p)), expected, rtol=1e-5)
    with pytest.raises(TypeError, match="OneHotCategorical and Normal"):
        kl(q, Normal(p, jnp.ones_like(p)))


def test_the_kl_of_relaxed_samples_is_larger_than_that_of_their_choices():
    logits = 2 * LOGITS

    def log_ratio(key):
        x, log_q = RelaxedCategorical(logits, 0.7).sample_and_log_prob(key)
        return log_q - RelaxedCategorical(jnp.zeros(3), 0.7).log_prob(x)

    ratios = jax.vmap(log_ratio)(jr.split(jr.key(5), 40_000))
    choices = kl(OneHotCategorical(logits), OneHotCategorical(jnp.zeros(3)))
    assert ratios.mean() - choices > 4 * ratios.std() / np.sqrt(len(ratios))
