"""Exact answers against independent ones: SciPy, scikit-learn, and other optimisers."""

from functools import partial

import jax
import jax.flatten_util
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.linalg
import scipy.stats
from sklearn.decomposition import PCA

from vae_teach.bounds import elbo, log_weight
from vae_teach.distributions import Normal
from vae_teach.theory import PPCA, implied_variance, ppca, predict_active_units

SPECTRUM = (5.0, 3.0, 1.2, 0.6, 0.3, 0.1)


def with_spectrum(spectrum, n=200, seed=0):
    """Data whose covariance has exactly these eigenvalues, in random directions."""
    rng = np.random.default_rng(seed)
    d = len(spectrum)
    columns = rng.standard_normal((n, d))
    white = np.linalg.qr(columns - columns.mean(0))[0] * np.sqrt(n)
    rotation = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return white * np.sqrt(spectrum) @ rotation.T + rng.standard_normal(d)


DATA = with_spectrum(SPECTRUM)
MODEL = ppca(DATA, 2)
X = jnp.asarray(DATA[0], jnp.float32)


def covariance(model):
    w = np.asarray(model.weights, np.float64)
    return w @ w.T + float(model.variance) * np.eye(len(w))


def true_posterior(model, x):
    """Mean and covariance of p(z|x), by conditioning the joint Gaussian."""
    w, c = np.asarray(model.weights, np.float64), covariance(model)
    gain = np.linalg.solve(c, w).T
    return gain @ (x - np.asarray(model.mean)), np.eye(w.shape[1]) - gain @ w


class WithPosterior:
    """A generative model and a posterior of one's choice."""

    def __init__(self, model, q):
        self.p_z, self.p_x, self.q_z = model.p_z, model.p_x, lambda x: q


def test_ppca_has_the_spectrum_of_the_data():
    np.testing.assert_allclose(MODEL.eigenvalues, SPECTRUM, rtol=1e-5)
    np.testing.assert_allclose(MODEL.variance, np.mean(SPECTRUM[2:]), rtol=1e-5)
    np.testing.assert_allclose(MODEL.mean, DATA.mean(0), rtol=1e-5)
    gram = MODEL.weights.T @ MODEL.weights
    expected = np.diag(np.array(SPECTRUM[:2]) - np.mean(SPECTRUM[2:]))
    np.testing.assert_allclose(gram, expected, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_ppca_is_that_of_scikit_learn(size):
    n, model = len(DATA), ppca(DATA, size)
    # It divides by n - 1: the covariance of its model is ours times n/(n - 1).
    theirs = PCA(size).fit(DATA).get_covariance() * (n - 1) / n
    np.testing.assert_allclose(covariance(model), theirs, atol=1e-5)


def test_the_evidence_is_that_of_a_gaussian():
    log_p = jax.vmap(MODEL.log_prob)(jnp.asarray(DATA, jnp.float32))
    c = covariance(MODEL)
    expected = scipy.stats.multivariate_normal.logpdf(DATA, DATA.mean(0), c)
    np.testing.assert_allclose(log_p, expected, atol=1e-4)


def test_the_evidence_of_the_data_has_its_closed_form():
    log_p = jax.vmap(MODEL.log_prob)(jnp.asarray(DATA, jnp.float32)).mean()
    log_det = np.log(SPECTRUM[:2]).sum() + 4 * np.log(np.mean(SPECTRUM[2:]))
    expected = -0.5 * (6 * np.log(2 * np.pi) + log_det + 6)
    np.testing.assert_allclose(log_p, expected, rtol=1e-5)


def test_no_other_weights_or_variance_are_more_likely():
    moments = jnp.asarray(np.cov(DATA.T, ddof=0), jnp.float32)

    def mean_log_p(w, log_variance):
        c = w @ w.T + jnp.exp(log_variance) * jnp.eye(6)
        # Up to a constant, the mean of log N(x; x̄, C) over the data.
        return -0.5 * (jnp.linalg.slogdet(c)[1] + jnp.linalg.solve(c, moments).trace())

    at = MODEL.weights, jnp.log(MODEL.variance)
    for gradient in jax.grad(mean_log_p, (0, 1))(*at):
        np.testing.assert_allclose(gradient, 0, atol=2e-5)
    for key in jr.split(jr.key(0), 20):
        step = 0.1 * jr.normal(key, (6, 2))
        assert mean_log_p(at[0] + step, at[1]) < mean_log_p(*at)


def test_q_is_the_posterior():
    q = MODEL.q_z(X)
    mean, cov = true_posterior(MODEL, DATA[0])
    np.testing.assert_allclose(q.loc, mean, atol=1e-5)
    np.testing.assert_allclose(np.diag(np.asarray(q.scale) ** 2), cov, atol=1e-5)
    np.testing.assert_allclose(
        q.scale**2, MODEL.variance / np.array(SPECTRUM[:2]), rtol=1e-5
    )


def test_log_w_is_the_evidence_at_every_z():
    log_w = jax.vmap(partial(log_weight, MODEL, X))(jr.split(jr.key(2), 50))
    # Sums of about 20 terms of size 10, each rounded to one part in 2²⁴.
    atol = 200 * np.finfo(np.float32).eps
    np.testing.assert_allclose(log_w, float(MODEL.log_prob(X)), atol=atol)
    assert np.ptp(jax.vmap(MODEL.q_z(X).sample)(jr.split(jr.key(2), 50))) > 1


@pytest.mark.parametrize("shift", [0.0, 0.3, -1.0])
@pytest.mark.parametrize("stretch", [0.5, 1.0, 2.0])
def test_the_gap_of_the_elbo_is_the_kl_to_the_posterior(shift, stretch):
    mean, cov = true_posterior(MODEL, DATA[0])
    loc, scale = mean + shift, stretch * np.array([0.4, 0.7])
    # KL of full Gaussians: ½ [tr(S⁻¹ S_q) + Δᵀ S⁻¹ Δ - q + log |S|/|S_q|].
    inverse, delta = np.linalg.inv(cov), mean - loc
    log_ratio = np.linalg.slogdet(cov)[1] - 2 * np.log(scale).sum()
    gap = np.trace(inverse * scale**2) + delta @ inverse @ delta - 2 + log_ratio
    q = Normal(jnp.asarray(loc, jnp.float32), jnp.asarray(scale, jnp.float32))
    bound = partial(elbo, WithPosterior(MODEL, q), X)
    found = MODEL.log_prob(X) + jax.vmap(bound)(jr.split(jr.key(3), 20_000))[0]
    assert abs(found.mean() - gap / 2) < 4 * found.std() / np.sqrt(20_000) + 1e-5


def test_with_a_wrong_posterior_the_weights_still_average_to_the_evidence():
    mean, _ = true_posterior(MODEL, DATA[0])
    q = Normal(jnp.asarray(mean + 0.2, jnp.float32), 2 * MODEL.q_z(X).scale)
    model = WithPosterior(MODEL, q)
    log_w = jax.vmap(partial(log_weight, model, X))(jr.split(jr.key(4), 20_000))
    w = np.exp(log_w - MODEL.log_prob(X))
    assert abs(w.mean() - 1) < 4 * w.std() / np.sqrt(len(w)) < 0.05
    assert w.std() > 0.5


def test_columns_of_zeros_are_collapsed_latents():
    model = PPCA(MODEL.mean, 0 * MODEL.weights, MODEL.variance, MODEL.eigenvalues)
    q = model.q_z(X)
    np.testing.assert_array_equal(q.loc, 0)
    np.testing.assert_allclose(q.scale, 1, rtol=1e-6)
    np.testing.assert_allclose(
        model.log_prob(X), model.p_x(q.loc).log_prob(X), rtol=1e-5
    )


def test_ppca_takes_data_with_constant_features_and_fewer_examples_than_features():
    x = np.pad(DATA[:5], [(0, 0), (0, 4)])
    model = ppca(jnp.asarray(x, jnp.float32), 3)
    log_p = jax.vmap(model.log_prob)(jnp.asarray(x, jnp.float32))
    expected = scipy.stats.multivariate_normal.logpdf(x, x.mean(0), covariance(model))
    np.testing.assert_allclose(log_p, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("x", "size", "match"),
    [
        (DATA, 0, "size from 1 to 5, .* 6 features, got 0"),
        (DATA, 6, "size from 1 to 5, .* 6 features, got 6"),
        (DATA[:1], 2, "two examples or more, got 1"),
        (DATA.reshape(200, 3, 2), 2, r"reshape\(len\(x\), -1\)"),
        (DATA[0], 2, r"\(examples, features\), got shape \(6,\)"),
        (DATA[:3], 2, "do not explain in full"),
        (np.ones((9, 4)), 2, "do not explain in full"),
    ],
)
def test_ppca_says_what_it_needs(x, size, match):
    with pytest.raises(ValueError, match=match):
        ppca(x, size)


def parts_of_the_loss(parameters, x, noise):
    """The squared error and the KL of a small VAE, both summed over a batch."""
    encoder, decoder = parameters
    loc, log_variance = jnp.split(jnp.tanh(x @ encoder), 2, axis=1)
    z = loc + jnp.exp(0.5 * log_variance) * noise
    sse = ((x - jnp.tanh(z @ decoder)) ** 2).sum()
    kl = -0.5 * (1 + log_variance - loc**2 - jnp.exp(log_variance)).sum()
    return sse, kl


@pytest.mark.parametrize(
    ("sse_weight", "kl_weight"),
    [(1.0, 1.0), (0.5, 1.0), (1 / (8 * 6), 1.0), (3.0, 0.7)],
)
def test_a_weighted_loss_has_the_gradient_of_the_elbo_with_the_implied_variance(
    sse_weight, kl_weight
):
    keys = jr.split(jr.key(0), 4)
    parameters = jr.normal(keys[0], (6, 4)), jr.normal(keys[1], (2, 6))
    x, noise = jr.normal(keys[2], (8, 6)), jr.normal(keys[3], (8, 2))

    def weighted(parameters):
        sse, kl = parts_of_the_loss(parameters, x, noise)
        return sse_weight * sse + kl_weight * kl

    def negative_elbo(parameters, variance):
        sse, kl = parts_of_the_loss(parameters, x, noise)
        return sse / (2 * variance) + x.size / 2 * jnp.log(2 * jnp.pi * variance) + kl

    found = jax.grad(weighted)(parameters)
    variance = implied_variance(sse_weight, kl_weight)
    expected = jax.grad(negative_elbo)(parameters, variance)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, kl_weight * b, rtol=2e-4, atol=1e-5)


def test_the_variance_implied_by_means_over_pixels_latents_and_batch():
    batch, pixels, latents = 128, 784, 20
    assert implied_variance(1.0, 1.0) == 0.5
    summed_kl = implied_variance(1 / (batch * pixels), 1.0)
    assert summed_kl == pytest.approx(batch * pixels / 2)
    everything = implied_variance(1 / (batch * pixels), 1 / (batch * latents))
    assert everything == pytest.approx(implied_variance(1 / pixels, 1 / latents))
    assert everything == pytest.approx(19.6)


@pytest.mark.parametrize("weights", [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (1.0, -2.0)])
def test_no_variance_is_implied_by_a_weight_that_is_not_positive(weights):
    with pytest.raises(ValueError, match="two positive weights"):
        implied_variance(*weights)


@pytest.mark.parametrize(
    ("variance", "beta", "expected"),
    [(1.0, 1.0, 3), (0.5, 2.0, 3), (1.0, 6.0, 0), (1.3, 1.0, 2), (0.05, 1.0, 6)],
)
def test_units_above_beta_sigma_squared_are_predicted_active(variance, beta, expected):
    assert predict_active_units(DATA, variance, beta) == expected


def test_images_are_raveled_and_predicted_alike():
    images = jnp.asarray(DATA.reshape(200, 3, 2, 1), jnp.float32)
    assert predict_active_units(images, 1.0) == 3


@pytest.mark.parametrize("beta", [0.5, 1.0, 1.5, 3.5])
def test_the_linear_beta_vae_keeps_the_units_predicted(beta):
    """The least expected loss over W, encoder and variances, by descent."""
    variance, q = 1.0, 4
    values = jnp.asarray(SPECTRUM)

    def loss(parameters):
        # In the eigenbasis: E|x - W z|² / 2σ² + β KL, with z = V x + noise.
        w, v, log_variance = parameters
        s = jnp.exp(log_variance)
        residual = jnp.eye(6) - w @ v
        sse = (residual**2 @ values).sum() + (w**2 @ s).sum()
        kl = 0.5 * ((v**2 @ values).sum() + (s - 1 - log_variance).sum())
        return sse / (2 * variance) + beta * kl

    keys = jr.split(jr.key(0), 2)
    start = 0.3 * jr.normal(keys[0], (6, q)), 0.3 * jr.normal(keys[1], (q, 6))
    flat, unravel = jax.flatten_util.ravel_pytree((*start, jnp.zeros(q)))
    value_and_grad = jax.jit(jax.value_and_grad(lambda flat: loss(unravel(flat))))
    found = scipy.optimize.minimize(
        lambda p: [np.float64(a) for a in value_and_grad(jnp.asarray(p, jnp.float32))],
        flat,
        jac=True,
        method="L-BFGS-B",
    )
    rates = 1 - np.exp(unravel(jnp.asarray(found.x, jnp.float32))[2])
    assert (rates > 0.05).sum() == min(q, predict_active_units(DATA, variance, beta))


@pytest.mark.parametrize(("variance", "beta"), [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.0)])
def test_a_prediction_needs_a_positive_variance_and_beta(variance, beta):
    with pytest.raises(ValueError, match="positive variance and beta"):
        predict_active_units(DATA, variance, beta)


def test_a_prediction_needs_two_examples():
    with pytest.raises(ValueError, match="two examples or more"):
        predict_active_units(DATA[:1], 1.0)
