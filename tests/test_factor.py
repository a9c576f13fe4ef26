"""FactorVAE: the permutation, and a critic whose best answer is known."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from flax import nnx
from variants import images, vae_and_critic_of_codes

from vae_teach.bounds import elbo
from vae_teach.distributions import FixedScale, Normal
from vae_teach.factor import (
    FactorVAE,
    factor_critic_loss,
    factor_loss,
    permute_latents,
)
from vae_teach.losses import mean_over_batch
from vae_teach.metrics import rate_and_distortion
from vae_teach.models import VAE
from vae_teach.priors import StandardNormal
from vae_teach.training import fit, minimise

RHO, NOISE = 0.8, 0.3
TOTAL_CORRELATION = -0.5 * np.log(1 - RHO**2)


def only(part):
    return nnx.All(nnx.Param, nnx.PathContains(part))


def noisy(x):
    """q(z|x) of the pair: q(z) then has unit variances and the correlation ρ."""
    return Normal(x, jnp.full_like(x, NOISE))


def pair(n, key=0):
    """Examples, such that q(z) = N(0, [[1, ρ], [ρ, 1]]): of covariance less NOISE²."""
    covariance = jnp.array([[1, RHO], [RHO, 1]]) - NOISE**2 * jnp.eye(2)
    return jr.normal(jr.key(key), (n, 2)) @ jnp.linalg.cholesky(covariance).T


class Quadratic(nnx.Module):
    """Log odds a (z₁² + z₂²) + b z₁ z₂ + c: what the log ratio of a pair is."""

    def __init__(self, coefficients=(0.0, 0.0, 0.0)):
        self.coefficients = nnx.Param(jnp.array(coefficients))

    def __call__(self, z):
        terms = jnp.stack([(z**2).sum(), z[0] * z[1], jnp.ones(())])
        return self.coefficients[...] @ terms


# log N(z; 0, Σ) - log N(z; 0, I), written out.
LOG_RATIO = (-(RHO**2) / 2 / (1 - RHO**2), RHO / (1 - RHO**2), TOTAL_CORRELATION)


def judged(critic):
    return FactorVAE(VAE(StandardNormal(2), noisy, FixedScale(1.0)), critic)


# The permutation


def check_permutation(permute):
    """Each latent keeps its values; no two are correlated, though all are copies."""
    n = 4000
    z = jnp.tile(jr.normal(jr.key(0), (n, 1)), 3) + jnp.array([[0.0, 10, 20]])
    found = np.asarray(permute(z, jr.key(1)))
    np.testing.assert_array_equal(np.sort(found, 0), np.sort(z, 0))
    correlation = np.corrcoef(found.T)[np.triu_indices(3, 1)]
    assert (abs(correlation) < 4 / np.sqrt(n)).all()


def test_the_permutation_keeps_every_latent_and_ties_no_two():
    check_permutation(permute_latents)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda z, key: jr.permutation(key, z, axis=1, independent=True),
        lambda z, key: jr.permutation(key, z, axis=0),
        lambda z, key: z,
    ],
    ids=["within each example", "whole examples", "not at all"],
)
def test_a_wrong_permutation_is_found_out(wrong):
    with pytest.raises(AssertionError):
        check_permutation(wrong)


# Known answers


def test_the_log_ratio_gives_the_total_correlation_of_a_pair():
    x = pair(100_000)
    model = judged(Quadratic(LOG_RATIO))
    _, terms = factor_loss(model, x, jr.key(1), gamma=0.0)
    z = (
        jr.normal(jr.key(2), (2, 2000)).T
        @ jnp.linalg.cholesky(jnp.array([[1, RHO], [RHO, 1]])).T
    )
    error = jax.vmap(model.critic)(z).std() / np.sqrt(len(x))
    assert abs(terms["total_correlation"] - TOTAL_CORRELATION) < 4 * error
    assert 4 * error < 0.05 * TOTAL_CORRELATION


def test_a_trained_critic_finds_the_log_ratio():
    steps = 600
    tx = optax.adam(optax.cosine_decay_schedule(0.05, steps))
    step = minimise(factor_critic_loss, tx, only("critic"))
    run = dict(key=jr.key(1), steps=steps, batch_size=4000)
    trained, _ = fit(judged(Quadratic()), step, pair(20_000), **run)
    found = trained.critic.coefficients[...]
    np.testing.assert_allclose(found, LOG_RATIO, atol=0.1)
    _, terms = factor_loss(trained, pair(100_000, 3), jr.key(4), gamma=0.0)
    np.testing.assert_allclose(terms["total_correlation"], TOTAL_CORRELATION, atol=0.05)


def test_a_critic_that_says_nothing_pays_log_2_a_term_and_finds_no_correlation():
    model, x = judged(Quadratic()), pair(50)
    value, terms = factor_critic_loss(model, x, jr.key(0))
    found = [terms["joint"], terms["permuted"]]
    np.testing.assert_allclose(found, np.log(2), rtol=1e-6)
    np.testing.assert_allclose(value, 2 * np.log(2), rtol=1e-6)
    assert factor_loss(model, x, jr.key(0), gamma=9.0)[1]["total_correlation"] == 0


def test_the_critic_sees_codes_in_one_term_and_permuted_codes_in_the_other():
    """At the log ratio, against means over fresh draws of both."""
    n = 200_000
    _, terms = factor_critic_loss(judged(Quadratic(LOG_RATIO)), pair(n), jr.key(1))
    rng = np.random.default_rng(0)
    apart = rng.normal(size=(n, 2))
    joint = apart @ np.linalg.cholesky([[1, RHO], [RHO, 1]]).T

    def score(z):
        a, b, c = LOG_RATIO
        return a * (z**2).sum(1) + b * z[:, 0] * z[:, 1] + c

    for name, sign, z in (("joint", -1, joint), ("permuted", 1, apart)):
        cost = np.logaddexp(0, sign * score(z))
        error = cost.std() * np.sqrt(2 / n)
        assert abs(terms[name] - cost.mean()) < 4 * error


def test_gamma_weighs_the_total_correlation_alone():
    model, x = vae_and_critic_of_codes(nnx.Rngs(0)), images()
    (none, terms), (six, _) = (
        factor_loss(model, x, jr.key(0), gamma=g) for g in (0.0, 6.0)
    )
    expected, parts = mean_over_batch(elbo)(model, x, jr.key(0))
    np.testing.assert_allclose(none, expected, rtol=1e-6)
    for name in ("rate", "distortion"):
        np.testing.assert_allclose(terms[name], parts[name], rtol=1e-6)
    assert terms["total_correlation"] != 0
    np.testing.assert_allclose(
        six - none, 6 * terms["total_correlation"], rtol=1e-3, atol=1e-5
    )


# Who learns from whom


def gradients(loss, model):
    """Whether each part of the model has a gradient of the loss."""
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def of(params):
        return loss(nnx.merge(graphdef, params, rest), images(), jr.key(0))[0]

    grads = jax.grad(of)(params)
    return {
        name: any((g != 0).any() for g in jax.tree.leaves(part))
        for name, part in {
            "encoder": grads["vae"]["encoder"],
            "decoder": grads["vae"]["decoder"],
            "critic": grads["critic"],
        }.items()
    }


def test_the_critics_loss_teaches_nothing_but_the_critic():
    found = gradients(factor_critic_loss, vae_and_critic_of_codes(nnx.Rngs(0)))
    assert found == {"encoder": False, "decoder": False, "critic": True}


def test_the_encoder_learns_from_the_critic_and_the_decoder_does_not():
    def correlation(model, batch, key):
        terms = factor_loss(model, batch, key, gamma=1.0)[1]
        return terms["total_correlation"], terms

    found = gradients(correlation, vae_and_critic_of_codes(nnx.Rngs(0)))
    assert found["encoder"]
    assert not found["decoder"]


@pytest.mark.parametrize(
    ("player", "other", "loss"),
    [
        ("vae", "critic", lambda m, x, k: factor_loss(m, x, k, gamma=5.0)),
        ("critic", "vae", factor_critic_loss),
    ],
)
def test_a_step_of_one_player_leaves_the_other(player, other, loss):
    step = minimise(loss, optax.adam(1e-2), only(player))
    model = vae_and_critic_of_codes(nnx.Rngs(0))
    trained, _ = fit(model, step, images(), key=jr.key(0), epochs=1, batch_size=16)

    def leaves(part):
        return [jax.tree.leaves(nnx.state(getattr(m, part))) for m in (model, trained)]

    for a, b in zip(*leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)
    assert all((a != b).any() for a, b in zip(*leaves(player), strict=True))


def test_it_is_its_vae_to_bounds_and_metrics():
    model = vae_and_critic_of_codes(nnx.Rngs(0))
    whole, part = (
        rate_and_distortion(m, images(), jr.key(0)) for m in (model, model.vae)
    )
    np.testing.assert_array_equal(whole, part)
