"""The linear β-VAE against SciPy's optimisers, scikit-learn, and a trained one."""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import scipy.optimize
import scipy.stats
from flax import nnx
from sklearn.decomposition import PCA
from test_theory import DATA, SPECTRUM, covariance, with_spectrum

from vae_teach.bounds import elbo
from vae_teach.distributions import FixedScale, Normal, kl
from vae_teach.linear import linear_vae, water_filling
from vae_teach.losses import mean_over_batch
from vae_teach.metrics import rate_per_unit
from vae_teach.models import VAE, Conditional
from vae_teach.networks import MLP
from vae_teach.priors import StandardNormal
from vae_teach.scales import LearnedScale
from vae_teach.theory import best_variance, ppca, predict_active_units, spectrum
from vae_teach.training import fit, minimise

VALUES = np.array(SPECTRUM)
X = jnp.asarray(DATA, jnp.float32)


def expected_loss(parameters, values, beta, variance):
    """E[-log p(x|z)] + β KL in the eigenbasis, of any W, encoder V and variances."""
    w, v, log_variance = parameters
    s, d = jnp.exp(log_variance), len(values)
    residual = jnp.eye(d) - w @ v
    sse = (residual**2 @ values).sum() + (w**2 @ s).sum()
    rate = 0.5 * ((v**2 @ values).sum() + (s - 1 - log_variance).sum())
    log_p = -0.5 * (d * jnp.log(2 * jnp.pi * variance) + sse / variance)
    return beta * rate - log_p


def descend(loss, start):
    """The minimum of ``loss`` that SciPy finds from ``start``."""
    flat, unravel = jax.flatten_util.ravel_pytree(start)
    value_and_grad = jax.jit(jax.value_and_grad(lambda flat: loss(unravel(flat))))
    found = scipy.optimize.minimize(
        lambda p: [np.float64(a) for a in value_and_grad(jnp.asarray(p, jnp.float32))],
        flat,
        jac=True,
        method="L-BFGS-B",
        options={"ftol": 1e-12, "gtol": 1e-6, "maxiter": 5000},
    )
    return found.fun, unravel(jnp.asarray(found.x, jnp.float32))


def anywhere(q, seed=0):
    keys = jr.split(jr.key(seed), 2)
    w, v = 0.3 * jr.normal(keys[0], (6, q)), 0.3 * jr.normal(keys[1], (q, 6))
    return w, v, jnp.zeros(q)


@pytest.mark.parametrize(("beta", "variance"), [(1.0, 1.0), (2.0, 0.2), (0.3, 1.0)])
def test_no_other_linear_vae_has_a_smaller_loss(beta, variance):
    model = linear_vae(DATA, 4, beta=beta, variance=variance)
    loss = partial(
        expected_loss, values=jnp.asarray(VALUES), beta=beta, variance=variance
    )
    found, (w, v, log_variance) = descend(loss, anywhere(4))
    assert found == pytest.approx(
        float(model.distortion + beta * model.rates.sum()), abs=2e-4
    )
    # The encoder's variances, and with them W itself, up to order and signs.
    np.testing.assert_allclose(
        sorted(np.exp(log_variance)), sorted(model.q_z(X[0]).scale ** 2), atol=2e-3
    )
    np.testing.assert_allclose(
        sorted((w**2).sum(0)), sorted((model.weights**2).sum(0)), atol=0.02
    )
    kls = 0.5 * ((v**2) @ jnp.asarray(VALUES) + np.exp(log_variance) - 1 - log_variance)
    np.testing.assert_allclose(sorted(kls), sorted(model.rates), atol=2e-3)


@pytest.mark.parametrize(
    ("beta", "expected"), [(1.0, 1 / 3), (1.5, 2 / 3), (0.5, 2 / 9)]
)
def test_the_best_variance_of_three_latents(beta, expected):
    assert best_variance(VALUES, 3, beta) == pytest.approx(expected)
    assert best_variance(jnp.asarray(VALUES), 3, beta) == pytest.approx(expected)


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("beta", [0.1, 0.7, 1.0, 1.9, 2.5, 2.9, 3.0, 6.0])
def test_no_other_variance_has_a_smaller_loss(size, beta):
    """SciPy over the closed form, which is convex in the log of the variance."""

    def loss(log_variance):
        variance = np.exp(log_variance)
        level = beta * variance
        used = (level < VALUES) & (np.arange(6) < size)
        rate = 0.5 * np.log(VALUES[used] / level).sum()
        error = VALUES[~used].sum() + level * used.sum()
        return 3 * np.log(2 * np.pi * variance) + error / (2 * variance) + beta * rate

    found = scipy.optimize.minimize_scalar(
        loss, bounds=(-8, 4), method="bounded", options={"xatol": 1e-7}
    )
    variance = best_variance(VALUES, size, beta)
    assert variance == pytest.approx(np.exp(found.x), rel=1e-4)
    model = linear_vae(DATA, size, beta=beta)
    assert float(model.variance) == pytest.approx(variance, rel=1e-5)
    # It is the squared error per pixel.
    assert float(model.squared_error) / 6 == pytest.approx(variance, rel=1e-4)
    total = float(model.distortion + beta * model.rates.sum())
    assert total == pytest.approx(found.fun, abs=1e-4)


def test_with_all_parameters_learned_descent_finds_the_same():
    beta = 1.5

    def loss(parameters):
        *rest, log_variance = parameters
        return expected_loss(rest, jnp.asarray(VALUES), beta, jnp.exp(log_variance))

    _, (*_, log_variance) = descend(loss, (*anywhere(3), jnp.zeros(())))
    assert np.exp(log_variance) == pytest.approx(2 / 3, rel=2e-3)


def test_with_a_learned_variance_all_collapse_at_lambda_1_over_the_mean():
    critical = VALUES[0] / VALUES.mean()
    for beta, used in [(0.999 * critical, 1), (1.001 * critical, 0)]:
        model = linear_vae(DATA, 3, beta=beta)
        assert (model.rates > 0).sum() == used
    np.testing.assert_allclose(model.variance, VALUES.mean(), rtol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_at_beta_one_it_is_ppca_and_that_of_scikit_learn(size):
    model, pca = linear_vae(DATA, size), ppca(DATA, size)
    for name in ("mean", "weights", "variance", "eigenvalues"):
        np.testing.assert_array_equal(getattr(model, name), getattr(pca, name))
    ours, theirs = model.q_z(X[0]), pca.q_z(X[0])
    np.testing.assert_array_equal(ours.loc, theirs.loc)
    np.testing.assert_array_equal(ours.scale, theirs.scale)
    n = len(DATA)
    sklearns = PCA(size).fit(DATA).get_covariance() * (n - 1) / n
    np.testing.assert_allclose(covariance(model), sklearns, atol=1e-5)


@pytest.mark.parametrize("beta", [0.25, 1.0, 4.0])
def test_the_elbo_is_its_closed_form(beta):
    model = linear_vae(DATA, 4, beta=beta, variance=0.5)
    p = model.p_z()
    kls = jax.vmap(lambda x: kl(model.q_z(x), p))(X).mean()
    np.testing.assert_allclose(kls, model.rates.sum(), rtol=1e-4)
    np.testing.assert_allclose(rate_per_unit(model, X), model.rates, atol=1e-4)

    def draw(key):
        return mean_over_batch(partial(elbo, beta=beta))(model, X, key)[0]

    losses = jax.vmap(draw)(jr.split(jr.key(0), 400))
    expected = model.distortion + beta * model.rates.sum()
    error = losses.std() / np.sqrt(len(losses))
    assert abs(losses.mean() - expected) < 4 * error + 1e-4
    assert error < 0.02


@pytest.mark.parametrize("beta", [0.25, 1.0, 4.0])
def test_the_evidence_is_that_of_the_gaussian_at_every_beta(beta):
    """Not of the encoder, which is no posterior unless β is 1."""
    model = linear_vae(DATA, 3, beta=beta, variance=0.4)
    found = jax.vmap(model.log_prob)(X)
    c = covariance(model)
    expected = scipy.stats.multivariate_normal.logpdf(DATA, DATA.mean(0), c)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
    gap = found.mean() + float(model.distortion + model.rates.sum())
    assert gap == pytest.approx(0, abs=1e-4) if beta == 1 else gap > 0.05


@pytest.mark.parametrize("beta", [0.25, 1.0, 4.0])
def test_the_aggregated_posterior_is_the_prior(beta):
    model = linear_vae(DATA, 4, beta=beta, variance=0.5)
    q = jax.vmap(model.q_z)(X)
    np.testing.assert_allclose(q.loc.mean(0), 0, atol=1e-5)
    second = q.loc.T @ q.loc / len(X) + jnp.diag((q.scale**2).mean(0))
    np.testing.assert_allclose(second, np.eye(4), atol=1e-4)


@pytest.mark.parametrize("beta", [0.25, 1.0, 4.0])
def test_as_many_units_are_used_as_predicted(beta):
    model = linear_vae(DATA, 6, beta=beta, variance=0.5)
    used = (model.rates > 0).sum()
    assert used == predict_active_units(DATA, 0.5, beta)
    assert ((model.weights**2).sum(0) > 0).sum() == used
    np.testing.assert_allclose(
        model.q_z(X[0]).scale ** 2, np.minimum(1, beta * 0.5 / VALUES), rtol=1e-5
    )


def test_along_the_curve_distortion_falls_by_beta_for_each_nat_of_rate():
    variance = 0.3

    def point(beta):
        rates, errors = water_filling(VALUES, beta * variance, 4)
        return jnp.stack([errors.sum() / (2 * variance), rates.sum()])

    for beta in (0.1, 1.0, 3.0, 9.0):
        distortion, rate = jax.jacfwd(point)(jnp.float32(beta))
        np.testing.assert_allclose(distortion / rate, -beta, rtol=1e-4)


@pytest.mark.parametrize("level", [0.05, 0.4, 1.0, 2.5, 6.0])
def test_no_split_of_the_error_needs_a_smaller_rate(level):
    """Shannon: the least Σ ½ log λ/D over 0 < D ≤ λ, for a given Σ D."""
    rates, errors = water_filling(VALUES, level)
    total = float(errors.sum())
    share = total / VALUES.sum()
    found = scipy.optimize.minimize(
        lambda e: 0.5 * np.log(VALUES / e).sum(),
        0.999 * share * VALUES,
        jac=lambda e: -0.5 / e,
        bounds=[(1e-6, v) for v in VALUES],
        constraints={"type": "eq", "fun": lambda e: e.sum() - total},
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert float(rates.sum()) == pytest.approx(found.fun, abs=1e-4)
    np.testing.assert_allclose(errors, found.x, atol=5e-3)


def test_the_water_level_may_be_a_vector_under_vmap():
    levels = jnp.array([0.1, 1.0, 10.0])
    rates, errors = jax.vmap(partial(water_filling, VALUES, size=2))(levels)
    assert rates.shape == errors.shape == (3, 6)
    assert (rates[:, 2:] == 0).all()
    np.testing.assert_allclose(errors[0], [0.1, 0.1, *SPECTRUM[2:]], rtol=1e-5)
    np.testing.assert_allclose(errors[2], SPECTRUM, rtol=1e-5)
    np.testing.assert_allclose(rates[1, :2], [np.log(5) / 2, np.log(3) / 2], rtol=1e-5)


def test_the_rate_of_a_latent_is_continuous_at_its_collapse():
    """Its slope in log σ² is what jumps: from -1/2 to 0."""
    slope = jax.grad(lambda log_t: water_filling(VALUES, jnp.exp(log_t)).rates[1])
    below, above = (float(slope(np.log(3.0) + e)) for e in (-0.01, 0.01))
    assert (below, above) == pytest.approx((-0.5, 0.0))
    just_below = water_filling(VALUES, 3.0 - 1e-3).rates[1]
    assert 0 < just_below < 1e-3


EIGHT = (4.0, 2.5, 1.5, 0.9, 0.5, 0.3, 0.2, 0.1)


def trained(family, beta, data):
    """Linear networks, trained by ``fit``; the variance of q does not depend on x."""
    rngs = nnx.Rngs(0)
    model = VAE(
        StandardNormal(4),
        Conditional(MLP(8, 8, rngs=rngs), Normal.from_log_variance),
        Conditional(MLP(4, 8, rngs=rngs), family),
    )
    tx = optax.adam(optax.cosine_decay_schedule(0.02, 3000))
    step = minimise(mean_over_batch(elbo), tx)
    run = dict(steps=3000, batch_size=128, beta=beta)
    return fit(model, step, data, key=jr.key(1), **run)[0]


@pytest.mark.parametrize(("beta", "variance"), [(1.0, 0.6), (3.0, 0.4), (1.0, None)])
def test_a_trained_linear_vae_agrees(beta, variance):
    table = with_spectrum(EIGHT, n=1024)
    exact = linear_vae(table, 4, beta=beta, variance=variance)
    data = jnp.asarray(table, jnp.float32)
    family = LearnedScale() if variance is None else FixedScale(variance**0.5)
    model = trained(family, beta, data)
    found = np.sort(rate_per_unit(model, data))[::-1]
    np.testing.assert_allclose(found, exact.rates, atol=0.05)
    assert (exact.rates == 0).sum() == (beta > 1)
    if variance is None:
        learned = float(model.decoder.family.scale) ** 2
        assert learned == pytest.approx(float(exact.variance), rel=0.03)


def test_the_spectrum_is_that_of_the_data():
    mean, values, vectors = spectrum(DATA)
    np.testing.assert_allclose(mean, DATA.mean(0))
    np.testing.assert_allclose(values, SPECTRUM)
    moments = vectors * values @ vectors.T
    np.testing.assert_allclose(moments, np.cov(DATA.T, ddof=0), atol=1e-12)
    once, again = linear_vae(spectrum(DATA), 3), linear_vae(DATA, 3)
    for a, b in zip(jax.tree.leaves(once), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: linear_vae(DATA, 0), "size from 1 to the 6 features, got 0"),
        (lambda: linear_vae(DATA, 7, variance=1.0), "size from 1 to the 6 features"),
        (lambda: linear_vae(DATA, 2, beta=0.0), "positive beta"),
        (lambda: linear_vae(DATA, 2, beta=-1.0, variance=1.0), "variance and beta"),
        (lambda: linear_vae(DATA, 2, variance=0.0), "positive variance"),
        (lambda: linear_vae(DATA[:3], 2), "do not explain in full"),
        (lambda: linear_vae(DATA, 6, beta=0.5), "do not explain in full"),
        (lambda: linear_vae(DATA[0], 2), r"\(examples, features\)"),
        (lambda: linear_vae(DATA[:1], 2), "two examples or more"),
        (lambda: water_filling(VALUES, 1.0, 7), "size from 1 to the 6 features"),
        (lambda: best_variance(VALUES, 0), "size from 1 to the 6 features"),
    ],
)
def test_it_says_what_it_needs(call, match):
    with pytest.raises(ValueError, match=match):
        call()
