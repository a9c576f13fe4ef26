import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

from vae_teach.distributions import Bernoulli, Normal, kl
from vae_teach.likelihoods import (
    Categorical,
    ContinuousBernoulli,
    DiscretizedLogistic,
    Laplace,
)

SHAPE = (3, 4)
FAMILIES = {
    "Categorical": Categorical(2 * jr.normal(jr.key(0), (*SHAPE, 5))),
    "ContinuousBernoulli": ContinuousBernoulli(3 * jr.normal(jr.key(1), SHAPE)),
    "DiscretizedLogistic": DiscretizedLogistic(
        jr.uniform(jr.key(2), SHAPE), jr.normal(jr.key(3), SHAPE) - 3, levels=16
    ),
    "Laplace": Laplace(jr.normal(jr.key(4), SHAPE), jr.uniform(jr.key(5), SHAPE) + 0.1),
}
LEVELS = jnp.arange(256) / 255


@pytest.fixture(params=FAMILIES)
def family(request):
    return FAMILIES[request.param]


def samples(p, n=8000):
    return np.asarray(jax.vmap(p.sample)(jr.split(jr.key(7), n)), np.float64)


def test_a_sample_has_the_event_shape_and_a_finite_log_prob(family):
    x, log_p = family.sample_and_log_prob(jr.key(0))
    assert x.shape == SHAPE
    np.testing.assert_array_equal(log_p, family.log_prob(x))
    assert np.isfinite(log_p)


def test_the_sample_mean_is_the_mean(family):
    x = samples(family)
    standard_error = x.std(0) / np.sqrt(len(x))
    assert (abs(x.mean(0) - family.mean) < 4 * standard_error + 1e-6).all()


def test_log_prob_refuses_another_shape(family):
    x = family.sample(jr.key(0))
    with pytest.raises(ValueError, match=r"event of shape \(3, 4\), got \(1, 4\)"):
        family.log_prob(x[:1])


def test_a_batch_under_vmap_and_jit_is_what_a_loop_gives(family):
    x = jax.vmap(family.sample)(jr.split(jr.key(0), 3))
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf + 0.1, -leaf]), family)
    found = jax.jit(jax.vmap(type(family).log_prob))(batch, x)
    one_by_one = [
        jax.tree.map(lambda leaf, i=i: leaf[i], batch).log_prob(x[i]) for i in range(3)
    ]
    np.testing.assert_allclose(found, jnp.stack(one_by_one), rtol=1e-5)


class TestCategorical:
    def test_is_scipys(self):
        p = FAMILIES["Categorical"]
        x = p.sample(jr.key(1))
        one_hot = np.eye(5)[np.asarray(x)].reshape(-1, 5)
        probs = np.asarray(p.probs, np.float64).reshape(-1, 5)
        probs /= probs.sum(1, keepdims=True)
        expected = np.sum(scipy.stats.multinomial.logpmf(one_hot, 1, probs))
        np.testing.assert_allclose(p.log_prob(x), expected, rtol=1e-5)

    def test_sums_to_one_over_its_categories(self):
        p = Categorical(30 * jr.normal(jr.key(0), (256,)))
        log_p = jax.vmap(p.log_prob)(jnp.arange(256))
        np.testing.assert_allclose(jax.nn.logsumexp(log_p), 0, atol=1e-5)

    def test_sample_frequencies_are_the_probs(self):
        p = FAMILIES["Categorical"]
        x = samples(p)
        for k in range(5):
            error = np.sqrt(p.probs[..., k] * (1 - p.probs[..., k]) / len(x))
            assert (abs((x == k).mean(0) - p.probs[..., k]) < 4 * error).all()

    @pytest.mark.parametrize("value", [-1, 5])
    def test_has_no_mass_outside_its_categories(self, value):
        x = jnp.zeros(SHAPE, int).at[0, 0].set(value)
        assert FAMILIES["Categorical"].log_prob(x) == -jnp.inf

    def test_takes_8_bit_images(self):
        p = Categorical(jnp.zeros((2, 256)))
        x = jnp.array([0, 255], jnp.uint8)
        np.testing.assert_allclose(p.log_prob(x), -2 * np.log(256), rtol=1e-6)

    def test_refuses_floats(self):
        with pytest.raises(TypeError, match=r"integers, got float32.*jnp\.round"):
            FAMILIES["Categorical"].log_prob(jnp.zeros(SHAPE))

    def test_is_finite_at_extreme_logits(self):
        logits = jnp.array([[1e4, -1e4, 0.0], [-50.0, 50.0, 0.0]])
        x = jnp.array([1, 0])
        value, slope = jax.value_and_grad(lambda v: Categorical(v).log_prob(x))(logits)
        np.testing.assert_allclose(value, -2e4 - 100, rtol=1e-6)
        np.testing.assert_allclose(slope, [[-1, 1, 0], [1, -1, 0]], atol=1e-6)

    def test_kl_to_the_uniform_is_log_k_minus_the_entropy(self):
        q = FAMILIES["Categorical"]
        entropy = scipy.stats.entropy(np.asarray(q.probs), axis=-1).sum()
        uniform = Categorical(jnp.zeros((*SHAPE, 5)))
        np.testing.assert_allclose(kl(q, uniform), 12 * np.log(5) - entropy, rtol=1e-5)

    def test_kl_is_scipys(self):
        q, p = FAMILIES["Categorical"], Categorical(jr.normal(jr.key(9), (*SHAPE, 5)))
        expected = scipy.stats.entropy(q.probs, p.probs, axis=-1).sum()
        np.testing.assert_allclose(kl(q, p), expected, rtol=1e-5)

    def test_kl_of_a_certain_choice_is_minus_the_log_mass(self):
        q = Categorical(jnp.array([0.0, -jnp.inf, -jnp.inf]))
        p = Categorical(jnp.array([0.0, 1.0, 2.0]))
        np.testing.assert_allclose(kl(q, p), -p.log_prob(jnp.array(0)), rtol=1e-6)
        assert np.isfinite(jax.grad(lambda p: kl(q, p))(p).logits).all()

    def test_kl_refuses_other_families_and_other_shapes(self):
        q = Categorical(jnp.zeros(2))
        with pytest.raises(TypeError, match=r"Categorical and Normal.*elbo_mc"):
            kl(q, Normal(jnp.zeros(2), jnp.ones(2)))
        with pytest.raises(TypeError, match="Normal and Categorical"):
            kl(Normal(jnp.zeros(2), jnp.ones(2)), q)
        with pytest.raises(ValueError, match="shape"):
            kl(q, Categorical(jnp.zeros(3)))


class TestContinuousBernoulli:
    logits = jnp.array([-50, -8, -1.01, -0.99, -0.1, -1e-4, 0, 1e-6, 0.03, 1, 3, 50])

    @pytest.mark.parametrize("logit", [-20.0, -1.001, -0.999, -1e-3, 0, 0.5, 4.0])
    def test_integrates_to_one(self, logit):
        x, weights = np.polynomial.legendre.leggauss(60)
        p = ContinuousBernoulli(jnp.float32(logit))
        density = jnp.exp(jax.vmap(p.log_prob)(jnp.asarray((x + 1) / 2, jnp.float32)))
        np.testing.assert_allclose((density * weights / 2).sum(), 1, rtol=1e-5)

    def test_is_the_cross_entropy_plus_the_published_constant(self):
        logits, x = jnp.array([-4, -0.3, 1, 6]), jnp.array([0.2, 0.9, 0.5, 0.0])
        rate = scipy.special.expit(np.float64(logits))
        constant = 2 * np.arctanh(1 - 2 * rate) / (1 - 2 * rate)
        expected = Bernoulli(logits).log_prob(x) + np.log(constant).sum()
        found = ContinuousBernoulli(logits).log_prob(x)
        np.testing.assert_allclose(found, expected, rtol=1e-5)

    def test_is_uniform_at_a_logit_of_zero(self):
        p, x = ContinuousBernoulli(jnp.float32(0)), jnp.float32(0.3)
        assert p.log_prob(x) == 0
        np.testing.assert_allclose(p.mean, 0.5)
        # The Bernoulli's -log 2 there, corrected by log C(1/2) = log 2.
        np.testing.assert_allclose(
            p.log_prob(x) - Bernoulli(p.logits).log_prob(x), np.log(2), rtol=1e-6
        )

    def moments(self, logit):
        """Mean and variance by quadrature in double precision."""

        def weight(x):
            return np.exp(logit * (x - (logit > 0)))

        powers = [
            scipy.integrate.quad(lambda x, n=n: x**n * weight(x), 0, 1)[0]
            for n in range(3)
        ]
        mean = powers[1] / powers[0]
        return mean, powers[2] / powers[0] - mean**2

    def test_mean_is_that_of_its_integral(self):
        expected = [self.moments(float(logit))[0] for logit in self.logits]
        found = ContinuousBernoulli(self.logits).mean
        np.testing.assert_allclose(found, expected, rtol=2e-6)

    def test_slope_and_curvature_are_those_of_the_formula(self):
        x = jnp.linspace(0, 1, len(self.logits))

        def log_p(logits):
            return ContinuousBernoulli(logits).log_prob(x)

        mean, variance = np.array([self.moments(float(v)) for v in self.logits]).T
        slope, curvature = jax.grad(log_p)(self.logits), jax.hessian(log_p)(self.logits)
        np.testing.assert_allclose(slope, x - mean, rtol=1e-5, atol=2e-7)
        np.testing.assert_allclose(jnp.diag(curvature), -variance, rtol=2e-4)

    @pytest.mark.parametrize("logit", [-30.0, -2.0, -0.02, 0, 0.04, 5.0])
    def test_samples_have_its_distribution(self, logit):
        p = ContinuousBernoulli(jnp.full(10_000, logit, jnp.float32))
        x = p.sample(jr.key(0))
        assert ((x >= 0) & (x <= 1)).all()

        def cdf(x):
            return x if logit == 0 else np.expm1(logit * x) / np.expm1(logit)

        assert scipy.stats.kstest(np.float64(x), cdf).pvalue > 1e-3

    def test_samples_are_differentiable(self):
        def mean_of_samples(logit):
            logits = jnp.full(100_000, logit)
            return ContinuousBernoulli(logits).sample(jr.key(0)).mean()

        for logit in (-50.0, -2.0, -0.01, 0.0, 0.01, 2.0):
            slope = jax.grad(mean_of_samples)(logit)
            np.testing.assert_allclose(slope, self.moments(logit)[1], rtol=0.03)

    @pytest.mark.parametrize("value", [-0.01, 1.1, jnp.nan])
    def test_has_no_density_outside_the_unit_interval(self, value):
        p = ContinuousBernoulli(jnp.zeros(2))
        assert p.log_prob(jnp.array([0.5, value])) == -jnp.inf

    def test_refuses_integers(self):
        with pytest.raises(TypeError, match="Expected floats, got uint8"):
            ContinuousBernoulli(jnp.zeros(2)).log_prob(jnp.zeros(2, jnp.uint8))


class TestDiscretizedLogistic:
    @pytest.mark.parametrize("loc", [-0.4, 0.0, 0.5, 0.999, 3.0])
    @pytest.mark.parametrize("log_scale", [-9.0, -5.0, -2.0, 2.0])
    def test_sums_to_one_over_its_levels(self, loc, log_scale):
        p = DiscretizedLogistic(jnp.array(loc), jnp.array(log_scale))
        log_p = jax.vmap(p.log_prob)(LEVELS)
        np.testing.assert_allclose(jax.nn.logsumexp(log_p), 0, atol=2e-5)

    def test_is_the_difference_of_scipys_cdfs(self):
        loc, log_scale = 0.3, -3.0
        p = DiscretizedLogistic(jnp.array(loc), jnp.array(log_scale))
        edges = np.concatenate([[-np.inf], (np.arange(255) + 0.5) / 255, [np.inf]])
        cdf = scipy.stats.logistic.cdf(edges, loc, np.exp(log_scale))
        np.testing.assert_allclose(
            jnp.exp(jax.vmap(p.log_prob)(LEVELS)), np.diff(cdf), rtol=1e-4
        )

    def test_is_right_far_in_the_tail_where_the_cdfs_are_equal(self):
        p = DiscretizedLogistic(jnp.array(0.0), jnp.array(-6.0))
        x = LEVELS[200]
        # For x far above loc the mass is e⁻ᵃ (1 - e⁻ʷ), lower edge a and width w.
        precision = np.exp(6.0)
        a, w = (200 - 0.5) / 255 * precision, precision / 255
        expected = -a + np.log(-np.expm1(-w))
        np.testing.assert_allclose(p.log_prob(x), expected, rtol=1e-5)

    def test_samples_have_its_masses(self):
        p = FAMILIES["DiscretizedLogistic"]
        x = samples(p)
        for k in range(16):
            level = jnp.full(SHAPE, k / 15)
            mass = np.exp(jax.vmap(jax.vmap(lambda d, v: d.log_prob(v)))(p, level))
            error = np.sqrt(mass * (1 - mass) / len(x))
            found = (abs(x - k / 15) < 1e-5).mean(0)
            assert (abs(found - mass) < 4 * error + 2 / len(x)).all()

    def test_log_scale_is_the_second_half(self):
        v = jnp.array([[0.1, -1.0], [0.7, -2.0]])
        p = DiscretizedLogistic.from_log_scale(v, levels=4)
        np.testing.assert_allclose(p.loc, [[0.1], [0.7]])
        np.testing.assert_allclose(p.log_scale, [[-1.0], [-2.0]])
        assert p.levels == 4

    def test_the_number_of_levels_is_no_leaf(self):
        assert len(jax.tree.leaves(FAMILIES["DiscretizedLogistic"])) == 2

    @pytest.mark.parametrize("log_scale", [-50.0, -20.0, 0.0, 20.0, 50.0])
    def test_value_and_slope_are_finite_at_extreme_scales(self, log_scale):
        def log_p(loc, log_scale, x):
            return DiscretizedLogistic(loc, log_scale).log_prob(x)

        for loc in (-50.0, 0.2, 50.0):
            arguments = jnp.array(loc), jnp.array(log_scale)
            for x in LEVELS[jnp.array([0, 1, 100, 255])]:
                value, slopes = jax.value_and_grad(log_p, (0, 1))(*arguments, x)
                assert np.isfinite([value, *slopes]).all()

    @pytest.mark.parametrize("value", [-1 / 255, 256 / 255, 0.5, jnp.nan])
    def test_has_no_mass_between_or_beyond_its_levels(self, value):
        p = DiscretizedLogistic(jnp.zeros(2), jnp.zeros(2))
        assert p.log_prob(jnp.array([0.0, value])) == -jnp.inf
        assert np.isfinite(p.log_prob(jnp.array([0.0, 1.0])))


class TestLaplace:
    def test_is_scipys(self):
        p = FAMILIES["Laplace"]
        x = 3 * jr.normal(jr.key(1), SHAPE)
        expected = scipy.stats.laplace.logpdf(x, p.loc, p.scale).sum()
        np.testing.assert_allclose(p.log_prob(x), expected, rtol=1e-5)

    def test_samples_have_its_distribution(self):
        p = Laplace(jnp.full(10_000, 0.3), jnp.full(10_000, 0.2))
        cdf = scipy.stats.laplace(0.3, 0.2).cdf
        assert scipy.stats.kstest(np.float64(p.sample(jr.key(0))), cdf).pvalue > 1e-3

    def test_samples_are_differentiable(self):
        p = FAMILIES["Laplace"]
        slopes = jax.grad(lambda p: p.sample(jr.key(0)).sum())(p)
        np.testing.assert_array_equal(slopes.loc, 1)
        noise = (p.sample(jr.key(0)) - p.loc) / p.scale
        np.testing.assert_allclose(slopes.scale, noise, rtol=1e-4, atol=1e-5)

    def test_kl_is_a_sum_over_the_event(self):
        q = FAMILIES["Laplace"]
        p = Laplace(jr.normal(jr.key(8), SHAPE), jr.uniform(jr.key(9), SHAPE) + 0.2)
        flat = [Laplace(d.loc.ravel(), d.scale.ravel()) for d in (q, p)]
        np.testing.assert_allclose(kl(q, p), jax.vmap(kl)(*flat).sum(), rtol=1e-5)

    @pytest.mark.parametrize("loc", [0.0, 0.4, -7.0])
    def test_kl_is_its_integral(self, loc):
        q, p = scipy.stats.laplace(loc, 0.3), scipy.stats.laplace(0.5, 1.2)

        def integrand(x):
            return q.pdf(x) * (q.logpdf(x) - p.logpdf(x))

        ends, corners = (loc - 20, loc + 20), [loc, 0.5]
        expected = scipy.integrate.quad(integrand, *ends, points=corners, limit=200)[0]
        ours = [
            Laplace(jnp.array(a), jnp.array(b)) for a, b in ((loc, 0.3), (0.5, 1.2))
        ]
        np.testing.assert_allclose(kl(*ours), expected, rtol=1e-5)

    def test_kl_to_itself_is_zero(self):
        q = FAMILIES["Laplace"]
        np.testing.assert_allclose(kl(q, q), 0, atol=1e-5)

    def test_kl_refuses_other_families_and_other_shapes(self):
        q, normal = (f(jnp.zeros(2), jnp.ones(2)) for f in (Laplace, Normal))
        for pair in ((q, normal), (normal, q)):
            with pytest.raises(TypeError, match=r"have no closed-form KL.*elbo_mc"):
                kl(*pair)
        with pytest.raises(ValueError, match="shape"):
            kl(q, Laplace(jnp.zeros(3), jnp.ones(3)))

    def test_its_best_location_is_the_median_and_best_scale_the_absolute_error(self):
        x = jr.exponential(jr.key(0), (999,))
        grid = jnp.linspace(0.2, 1.4, 601)

        def log_p(loc, scale):
            return Laplace(jnp.full(999, loc), jnp.full(999, scale)).log_prob(x)

        loc = grid[jax.vmap(log_p, (0, None))(grid, 1.0).argmax()]
        np.testing.assert_allclose(loc, np.median(x), atol=0.002)
        assert abs(loc - x.mean()) > 0.2
        scale = grid[jax.vmap(log_p, (None, 0))(loc, grid).argmax()]
        np.testing.assert_allclose(scale, abs(x - loc).mean(), atol=0.002)

    def test_refuses_integers(self):
        with pytest.raises(TypeError, match="Expected floats, got uint8"):
            Laplace(jnp.zeros(2), jnp.ones(2)).log_prob(jnp.zeros(2, jnp.uint8))
