import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as npd
import pytest
import scipy.stats

from vae_teach.distributions import Bernoulli, FixedScale, Normal, kl

SHAPE = (3, 4)


def normal(seed):
    key_loc, key_scale = jr.split(jr.key(seed))
    return Normal(jr.normal(key_loc, SHAPE), jnp.exp(jr.normal(key_scale, SHAPE)))


FAMILIES = {
    "Normal": normal(0),
    "FixedScale": FixedScale(0.3)(jr.normal(jr.key(1), SHAPE)),
    "Bernoulli": Bernoulli(2 * jr.normal(jr.key(2), SHAPE)),
}


@pytest.fixture(params=FAMILIES)
def family(request):
    return FAMILIES[request.param]


def test_a_sample_has_the_event_shape_and_a_finite_log_prob(family):
    x, log_p = family.sample_and_log_prob(jr.key(0))
    assert x.shape == SHAPE
    assert log_p.shape == ()
    np.testing.assert_array_equal(log_p, family.log_prob(x))
    assert np.isfinite(log_p)


def test_the_sample_mean_is_the_mean(family):
    x = jax.vmap(family.sample)(jr.split(jr.key(0), 4000))
    standard_error = x.std(0) / np.sqrt(len(x))
    assert (abs(x.mean(0) - family.mean) < 4.5 * standard_error).all()


def test_log_prob_refuses_another_shape(family):
    with pytest.raises(ValueError, match=r"event of shape \(3, 4\), got \(1, 4\)"):
        family.log_prob(jnp.zeros((1, 4)))


def test_log_prob_refuses_integers():
    with pytest.raises(TypeError, match=r"Expected floats, got uint8.*255"):
        Bernoulli(jnp.zeros(SHAPE)).log_prob(jnp.zeros(SHAPE, jnp.uint8))


def test_normal_is_scipys():
    p, x = normal(0), jr.normal(jr.key(9), SHAPE)
    expected = scipy.stats.norm.logpdf(x, p.loc, p.scale).sum()
    np.testing.assert_allclose(p.log_prob(x), expected, rtol=1e-5)


def test_bernoulli_is_scipys():
    p = Bernoulli(3 * jr.normal(jr.key(0), SHAPE))
    x = p.sample(jr.key(1))
    expected = scipy.stats.bernoulli.logpmf(x, p.mean).sum()
    np.testing.assert_allclose(p.log_prob(x), expected, rtol=1e-4)


def test_bernoulli_of_gray_pixels_is_minus_the_cross_entropy():
    logits, x = jr.normal(jr.key(0), SHAPE), jr.uniform(jr.key(1), SHAPE)
    p = jax.nn.sigmoid(logits)
    expected = (x * jnp.log(p) + (1 - x) * jnp.log(1 - p)).sum()
    np.testing.assert_allclose(Bernoulli(logits).log_prob(x), expected, rtol=1e-5)


def test_bernoulli_is_finite_at_logits_that_break_log_of_sigmoid():
    p = Bernoulli(jnp.array([1e4, -1e4, 20.0]))
    assert np.isinf(jnp.log(1 - p.mean[2]))
    np.testing.assert_allclose(p.log_prob(jnp.array([1.0, 0.0, 0.0])), -20.0)


def test_the_slope_of_bernoulli_is_that_of_its_formula():
    logits = jnp.array([-1e4, -30.0, -1.0, 0.0, 0.5, 30.0, 1e4])
    x = jnp.linspace(0, 1, 7)
    slope = jax.grad(lambda logits: Bernoulli(logits).log_prob(x))(logits)
    np.testing.assert_allclose(slope, x - jax.nn.sigmoid(logits), rtol=1e-5)
    curvature = jax.hessian(lambda v: Bernoulli(v).log_prob(x[:1]))(jnp.array([0.5]))
    p = jax.nn.sigmoid(0.5)
    np.testing.assert_allclose(curvature, [[-p * (1 - p)]], rtol=1e-5)


@pytest.mark.parametrize("value", [-1.0, 1.1, jnp.nan])
def test_bernoulli_has_no_mass_outside_the_unit_interval(value):
    x = jnp.array([0.5, value])
    assert Bernoulli(jnp.zeros(2)).log_prob(x) == -jnp.inf


def test_from_log_variance_halves_the_last_axis():
    v = jnp.array([1.0, -2.0, 0.0, jnp.log(9.0)])
    p = Normal.from_log_variance(v)
    np.testing.assert_allclose(p.loc, [1, -2])
    np.testing.assert_allclose(p.scale, [1, 3], rtol=1e-6)


def test_fixed_scale_compares_by_value():
    assert FixedScale(0.1) == FixedScale(0.1) != FixedScale(0.2)
    assert hash(FixedScale(0.1)) == hash(FixedScale(0.1))


def test_kl_is_numpyros():
    q, p = normal(0), normal(1)
    theirs = npd.kl_divergence(npd.Normal(q.loc, q.scale), npd.Normal(p.loc, p.scale))
    np.testing.assert_allclose(kl(q, p), theirs.sum(), rtol=1e-5)


def test_kl_is_the_mean_log_ratio_of_samples():
    q, p = normal(0), normal(1)

    def log_ratio(key):
        z, log_q = q.sample_and_log_prob(key)
        return log_q - p.log_prob(z)

    ratios = jax.vmap(log_ratio)(jr.split(jr.key(5), 20_000))
    standard_error = ratios.std() / np.sqrt(len(ratios))
    assert abs(ratios.mean() - kl(q, p)) < 4 * standard_error
    assert standard_error < 0.02 * kl(q, p)


def test_kl_is_zero_at_equality_and_at_least_zero_elsewhere():
    assert abs(kl(normal(0), normal(0))) < 1e-5
    assert all(kl(normal(i), normal(i + 1)) > 0 for i in range(5))


def test_kl_without_a_closed_form_points_to_the_monte_carlo_elbo():
    with pytest.raises(TypeError, match="elbo_mc"):
        kl(Bernoulli(jnp.zeros(2)), Normal(jnp.zeros(2), jnp.ones(2)))


def test_kl_refuses_to_broadcast():
    with pytest.raises(ValueError, match="shape"):
        kl(Normal(jnp.zeros(1), jnp.ones(1)), Normal(jnp.zeros(2), jnp.ones(2)))


def test_a_batch_of_distributions_is_the_same_class_under_vmap():
    loc, x = jr.normal(jr.key(0), (5, 3)), jr.normal(jr.key(1), (5, 3))
    batch = jax.vmap(FixedScale(0.5))(loc)
    assert isinstance(batch, Normal)
    found = jax.vmap(Normal.log_prob)(batch, x)
    expected = scipy.stats.norm.logpdf(x, loc, 0.5).sum(-1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
