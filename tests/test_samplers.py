"""Fitted priors: against scikit-learn, a known aggregated posterior, and a hole."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as npd
import optax
import pytest
import scipy.stats
from flax import nnx
from sklearn.mixture import GaussianMixture
from variants import gaussian

from vae_teach.bounds import elbo, elbo_mc
from vae_teach.distributions import FixedScale, Normal, kl
from vae_teach.losses import mean_over_batch
from vae_teach.models import VAE, Conditional
from vae_teach.networks import MLP
from vae_teach.priors import Fixed, StandardNormal
from vae_teach.samplers import FullNormal, Mixture, ex_post_mixture, sample_codes
from vae_teach.scales import LearnedScale
from vae_teach.training import evaluate, fit, minimise

D, NOISE = 2, 0.3
MC = mean_over_batch(elbo_mc)
# Two clusters of codes, at ±3 on the first latent, with a hole at the prior's mode.
WITHIN = np.array([[0.5, 0.3], [0.3, 0.4]])


def clusters(covariance):
    cholesky = jnp.linalg.cholesky(jnp.asarray(covariance, jnp.float32))
    centres = jnp.array([[-3.0, 0.5], [3.0, 0.0]])
    each = jax.vmap(lambda centre: FullNormal(centre, cholesky))(centres)
    return Mixture(jnp.log(jnp.array([0.3, 0.7])), each)


TRUE = clusters(WITHIN)


def normals(key=0, k=3):
    keys = jr.split(jr.key(key), 3)
    scales = jnp.exp(0.3 * jr.normal(keys[0], (k, D)))
    below = 0.5 * jr.normal(keys[1], (k,))
    lower = jax.vmap(jnp.diag)(scales).at[:, 1, 0].set(below)
    return jax.vmap(FullNormal)(2 * jr.normal(keys[2], (k, D)), lower)


def draws(p, n, key=1):
    return jax.vmap(p.sample)(jr.split(jr.key(key), n))


def noisy(x):
    """q(z|x) = N(x, NOISE²): the codes are the examples, and their noise."""
    return Normal(x, jnp.full_like(x, NOISE))


def holey():
    return VAE(StandardNormal(D), noisy, FixedScale(NOISE))


def examples(n, key=0):
    """Such that q(z) is TRUE: its clusters less the noise of q(z|x)."""
    return draws(clusters(WITHIN - NOISE**2 * np.eye(D)), n, key)


# The distributions


def test_full_normal_is_scipys():
    p = jax.tree.map(lambda leaf: leaf[0], normals())
    x = jr.normal(jr.key(5), (D,))
    theirs = scipy.stats.multivariate_normal(p.loc, p.cholesky @ p.cholesky.T)
    np.testing.assert_allclose(p.log_prob(x), theirs.logpdf(x), rtol=1e-5)


def test_full_normal_samples_have_its_moments():
    p = jax.tree.map(lambda leaf: leaf[0], normals())
    n = 40_000
    x = draws(p, n)
    covariance = np.asarray(p.cholesky @ p.cholesky.T)
    sd = np.sqrt(np.diag(covariance))
    assert (abs(x.mean(0) - p.mean) < 4 * sd / np.sqrt(n)).all()
    error = np.sqrt((np.outer(sd, sd) ** 2 + covariance**2) / n)
    assert (abs(np.cov(x.T) - covariance) < 4 * error).all()


def test_mixture_is_scikit_learns():
    weights, each = jnp.array([0.2, 0.5, 0.3]), normals()
    theirs = GaussianMixture(3)
    theirs.weights_, theirs.means_ = np.asarray(weights), np.asarray(each.loc)
    precisions = np.linalg.inv(np.asarray(each.cholesky, float))
    theirs.precisions_cholesky_ = precisions.transpose(0, 2, 1)
    x = 3 * jr.normal(jr.key(4), (50, D))
    found = jax.vmap(Mixture(jnp.log(weights), each).log_prob)(x)
    np.testing.assert_allclose(found, theirs.score_samples(x), rtol=1e-4, atol=1e-4)


def test_mixture_of_independent_normals_is_numpyros():
    """Weights need not be normalised, and components may be of any family."""
    logits = jnp.array([1.0, -2.0, 3.0])
    loc, scale = jr.normal(jr.key(0), (3, D)), jnp.full((3, D), 0.7)
    theirs = npd.MixtureSameFamily(
        npd.Categorical(logits=logits), npd.Normal(loc, scale).to_event(1)
    )
    x = jr.normal(jr.key(1), (20, D))
    found = jax.vmap(Mixture(logits, Normal(loc, scale)).log_prob)(x)
    np.testing.assert_allclose(found, jax.vmap(theirs.log_prob)(x), rtol=1e-5)


def test_samples_are_the_mixtures_in_shares_and_within():
    n = 20_000
    x = np.asarray(draws(TRUE, n))
    left = x[:, 0] < 0
    assert abs(left.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / n)
    for inside, loc in zip((left, ~left), TRUE.components.loc, strict=True):
        error = np.sqrt(np.diag(WITHIN) / inside.sum())
        assert (abs(x[inside].mean(0) - loc) < 4 * error).all()
        np.testing.assert_allclose(np.cov(x[inside].T), WITHIN, atol=0.03)


@pytest.mark.parametrize("q", [Normal(jnp.zeros(D), jnp.ones(D)), TRUE])
def test_the_kl_to_a_mixture_points_to_the_monte_carlo_elbo(q):
    with pytest.raises(TypeError, match="elbo_mc"):
        kl(q, TRUE)


# Fitted after training


def test_codes_are_draws_of_the_aggregated_posterior():
    x = examples(600)
    z = sample_codes(holey(), x, jr.key(0))
    expected = x + NOISE * jax.vmap(lambda k: jr.normal(k, (D,)))(
        jr.split(jr.key(0), len(x))
    )
    np.testing.assert_allclose(z, expected, rtol=1e-5, atol=1e-6)


def test_a_fitted_mixture_recovers_the_log_density():
    fitted = ex_post_mixture(holey(), examples(8000), jr.key(0), components=2)
    z = draws(TRUE, 4000, key=9)
    gap = jax.vmap(TRUE.log_prob)(z) - jax.vmap(fitted.log_prob)(z)
    # KL(true || fitted) of 11 parameters: about 11/2n nats.
    assert gap.mean() < 4 * 11 / (2 * 8000) + 4 * gap.std() / np.sqrt(len(z))
    assert abs(gap).max() < 0.5
    order = np.argsort(fitted.components.loc[:, 0])
    np.testing.assert_allclose(
        jnp.exp(fitted.log_weights)[order], [0.3, 0.7], atol=4 * np.sqrt(0.21 / 8000)
    )


def test_one_normal_is_the_moments_of_the_codes():
    x = examples(500)
    one = ex_post_mixture(holey(), x, jr.key(0), components=1)
    z = sample_codes(holey(), x, jr.split(jr.key(0))[0])
    covariance = one.components.cholesky[0] @ one.components.cholesky[0].T
    np.testing.assert_allclose(one.components.loc[0], z.mean(0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(covariance, np.cov(z.T, bias=True), rtol=1e-3)


def test_with_the_fitted_prior_the_held_out_elbo_rises_by_the_distance_of_the_prior():
    """By KL(q(z) || N(0, I)), as far as the mixture is q(z); distortion stays."""
    model, held_out = holey(), examples(4000, key=7)
    prior = ex_post_mixture(model, examples(8000), jr.key(0), components=2)
    fitted = VAE(Fixed(prior), model.encoder, model.decoder)
    before, after = (
        evaluate(MC, m, held_out, jr.key(3), batch_size=1000) for m in (model, fitted)
    )
    np.testing.assert_array_equal(before["distortion"], after["distortion"])
    z = draws(TRUE, 40_000, key=11)
    ratios = jax.vmap(lambda z: TRUE.log_prob(z) - model.p_z().log_prob(z))(z)
    error = ratios.std() / np.sqrt(4000) * np.sqrt(1.1)
    assert abs(before["loss"] - after["loss"] - ratios.mean()) < 4 * error
    assert ratios.mean() > 20 * error


def test_no_prior_does_better_on_the_data_than_their_aggregated_posterior():
    model, x = holey(), examples(200)
    aggregated = Mixture(jnp.zeros(len(x)), jax.vmap(model.q_z)(x))
    fitted = ex_post_mixture(model, x, jr.key(0), components=2)
    rates = [
        evaluate(MC, VAE(Fixed(p), noisy, FixedScale(NOISE)), x, jr.key(3))["rate"]
        for p in (aggregated, fitted, StandardNormal(D)(noisy))
    ]
    assert rates == sorted(rates)
    assert rates[0] < np.log(200)


def test_one_mixture_a_class_is_a_mixture_again():
    model, x = holey(), examples(3000)
    labels = (x[:, 0] > 0).astype(int)
    each = [
        ex_post_mixture(model, x[labels == c], jr.key(c), components=1) for c in (0, 1)
    ]
    shares = jnp.log(jnp.bincount(labels) / len(x))
    whole = Mixture(shares, jax.tree.map(lambda *leaves: jnp.stack(leaves), *each))
    z = draws(TRUE, 2000, key=9)
    gap = jax.vmap(TRUE.log_prob)(z) - jax.vmap(whole.log_prob)(z)
    assert abs(gap.mean()) < 4 * 11 / (2 * 3000) + 4 * gap.std() / np.sqrt(len(z))
    for c, sign in ((0, -1), (1, 1)):
        assert (sign * draws(each[c], 500)[:, 0] > 0).all()


def test_training_leaves_a_fixed_prior():
    rngs = nnx.Rngs(0)
    decoder = Conditional(MLP(D, 8, D, rngs=rngs), FixedScale(1.0))
    model = VAE(Fixed(TRUE), gaussian(MLP(D, 8, 2 * D, rngs=rngs)), decoder)
    step = minimise(MC, optax.adam(1e-2))
    trained, history = fit(model, step, examples(256), key=jr.key(0), epochs=20)
    assert history["loss"][-4:].mean() < history["loss"][:4].mean()
    leaves = map(jax.tree.leaves, (trained.p_z(), TRUE))
    for a, b in zip(*leaves, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("components", [0, 21])
def test_the_components_must_fit_the_codes(components):
    with pytest.raises(ValueError, match=r"codes \(20, 2\) and"):
        ex_post_mixture(holey(), examples(20), jr.key(0), components=components)


def test_codes_must_be_vectors():
    model = VAE(StandardNormal(D), noisy, FixedScale(NOISE))
    with pytest.raises(ValueError, match="reshape the codes"):
        ex_post_mixture(model, jnp.zeros((9, 2, 2)), jr.key(0), components=1)


# Two stages


def test_a_second_vae_learns_the_codes_of_the_first():
    """Few samples are in the hole (a bridge stays), and its bound on log q(z) is tight.

    Tighter than the prior's density, that is, and never above the truth.
    """
    codes = sample_codes(holey(), examples(4000), jr.key(0))
    rngs = nnx.Rngs(0)
    encoder = gaussian(MLP(D, 64, 2 * D, rngs=rngs))
    decoder = Conditional(MLP(D, 64, D, rngs=rngs), LearnedScale())
    second = VAE(StandardNormal(D), encoder, decoder)
    step = minimise(mean_over_batch(elbo), optax.adam(3e-3))
    second, _ = fit(second, step, codes, key=jr.key(1), epochs=60, batch_size=200)

    def sample(key):
        key_u, key_z = jr.split(key)
        return second.p_x(second.p_z().sample(key_u)).sample(key_z)

    z = jax.vmap(sample)(jr.split(jr.key(2), 2000))
    plain = draws(second.p_z(), 2000)
    in_hole = [float((abs(z[:, 0]) < 1).mean()) for z in (z, plain)]
    assert in_hole[0] < in_hole[1] / 3
    fresh = sample_codes(holey(), examples(2000, key=5), jr.key(6))
    bound = evaluate(mean_over_batch(elbo), second, fresh, jr.key(3))["loss"]
    entropy = -jax.vmap(TRUE.log_prob)(fresh).mean()
    plain = -jax.vmap(second.p_z().log_prob)(fresh).mean()
    assert entropy < bound < plain - 1
