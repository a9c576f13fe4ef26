from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from flax import nnx
from variants import LATENTS, SHAPE, images, vae

from vae_teach.adversarial import VAEGAN, Critic, against_critic, critic_loss
from vae_teach.bounds import capacity, elbo
from vae_teach.distributions import FixedScale, Normal
from vae_teach.losses import mean_over_batch
from vae_teach.metrics import rate_and_distortion
from vae_teach.models import VAE, Conditional
from vae_teach.networks import MLP
from vae_teach.priors import StandardNormal
from vae_teach.training import alternate, fit, minimise

WIDTH = 5
MEAN_ELBO = mean_over_batch(elbo)
LOG_2 = np.log(2)


def only(part):
    return nnx.All(nnx.Param, nnx.PathContains(part))


def vae_and_critic(seed=0):
    rngs = nnx.Rngs(seed)
    critic = Critic(MLP(SHAPE, 8, WIDTH, rngs=rngs), WIDTH, rngs=rngs)
    return VAEGAN(vae(rngs, family=FixedScale(0.5)), critic)


def undecided(model):
    """The same with a critic that says 0 of every image."""
    model = nnx.clone(model)
    for p in (model.critic.head.kernel, model.critic.head.bias):
        p[...] = jnp.zeros_like(p[...])
    return model


def gradients(loss, model, key=0, wrt=nnx.Param):
    """Of every parameter that ``wrt`` selects, by the part of the model it is in."""
    graphdef, params, rest = nnx.split(model, wrt, ...)

    def of(params):
        return loss(nnx.merge(graphdef, params, rest), images(), jr.key(key))[0]

    flat = nnx.to_flat_state(jax.grad(of)(params))
    found = {}
    for path, leaf in flat:
        found.setdefault(path[0], []).append(np.asarray(jax.tree.leaves(leaf)[0]))
        if path[0] == "vae":
            part = found.setdefault(path[1], [])
            part.append(np.asarray(jax.tree.leaves(leaf)[0]))
    return found


def moved(gradients):
    return any((g != 0).any() for g in gradients)


# Known answers


def test_a_critic_that_says_nothing_pays_log_2_a_term():
    value, terms = critic_loss(undecided(vae_and_critic()), images(), jr.key(0))
    np.testing.assert_allclose([terms["real"], terms["fake"]], LOG_2, rtol=1e-6)
    np.testing.assert_allclose(value, 2 * LOG_2, rtol=1e-6)


def test_fooling_a_critic_that_says_nothing_costs_log_2():
    model = undecided(vae_and_critic())
    key_loss = jr.split(jr.key(0), 3)[0]
    plain, expected = MEAN_ELBO(model, images(), key_loss)
    value, terms = against_critic(MEAN_ELBO, realism=3.0)(model, images(), jr.key(0))
    np.testing.assert_allclose(terms["fooling"], LOG_2, rtol=1e-6)
    np.testing.assert_allclose(value, plain + 3 * LOG_2, rtol=1e-6)
    for name in ("rate", "distortion"):
        np.testing.assert_array_equal(terms[name], expected[name])


@pytest.mark.parametrize("logit", [-30.0, -1.0, 2.0, 30.0])
def test_losses_at_a_known_logit(logit):
    model = undecided(vae_and_critic())
    model.critic.head.bias[...] = jnp.full((1,), logit)
    _, terms = critic_loss(model, images(), jr.key(0))
    expected = np.logaddexp(0, [-logit, logit])
    np.testing.assert_allclose([terms["real"], terms["fake"]], expected, rtol=1e-5)
    _, terms = against_critic(MEAN_ELBO)(model, images(), jr.key(0))
    np.testing.assert_allclose(terms["fooling"], expected[0], rtol=1e-5)
    # Non-saturating: where the critic is sure of a fake the slope is -1, not 0.
    slope = jax.grad(lambda c: jax.nn.softplus(-c))(logit)
    np.testing.assert_allclose(slope, -jax.nn.sigmoid(-logit), rtol=1e-5)


class Quadratic(nnx.Module):
    """Log odds a x² + b x + c: enough for the ratio of two normals."""

    def __init__(self):
        self.coefficients = nnx.Param(jnp.zeros(3))

    def features(self, x):
        """As a critic's."""
        return x

    def __call__(self, x):
        return jnp.polyval(self.coefficients[...], x[0])


class Shift(nnx.Module):
    """z -> z + μ: samples of the prior become N(μ, 1), whatever the encoder does."""

    def __init__(self, by):
        self.by = nnx.Param(jnp.full((1,), by))

    def __call__(self, z):
        return z + self.by[...]


def test_the_best_critic_is_the_log_ratio_of_the_densities():
    """Reals N(0, ½²); fakes N(1, 1), half as reconstructions: q(z|x) is the prior."""
    encoder = Conditional(
        lambda x: jnp.zeros(2), Normal.from_log_variance
    )  # N(0, 1) at every x
    decoder = Conditional(Shift(1.0), FixedScale(1.0))
    model = VAEGAN(VAE(StandardNormal(1), encoder, decoder), Quadratic())
    reals = 0.5 * jr.normal(jr.key(0), (20_000, 1))
    steps = 1500
    tx = optax.adam(optax.cosine_decay_schedule(0.05, steps))
    step = minimise(critic_loss, tx, only("critic"))
    run = dict(key=jr.key(1), steps=steps, batch_size=4000)
    trained, _ = fit(model, step, reals, **run)

    def log_ratio(x):
        ends = jax.scipy.stats.norm.logpdf
        return ends(x, 0.0, 0.5) - ends(x, 1.0, 1.0)

    x = jnp.linspace(-1, 1.5, 11)
    found = jax.vmap(trained.critic)(x[:, None])
    np.testing.assert_allclose(found, log_ratio(x), atol=0.1)
    assert abs(log_ratio(x)).max() > 1  # as far as an undecided critic would be off


def test_fakes_are_half_reconstructions_half_samples():
    """With a decoder that shows z, and codes far from the prior, by their means."""
    decoder = Conditional(Shift(0.0), FixedScale(1.0))
    encoder = Conditional(
        lambda x: jnp.concatenate([10 + x, jnp.full(1, -20.0)]),
        Normal.from_log_variance,
    )
    model = VAEGAN(VAE(StandardNormal(1), encoder, decoder), Quadratic())
    model.critic.coefficients[...] = jnp.array([0.0, 1.0, 0.0])  # C(x) = x
    x = jnp.full((4000, 1), 5.0)
    _, terms = critic_loss(model, x, jr.key(0))
    prior = jax.nn.softplus(jr.normal(jr.key(1), (100_000,))).mean()
    np.testing.assert_allclose(terms["fake"], (15 + prior) / 2, atol=0.02)


# Who learns from whom


def test_the_critics_loss_teaches_nothing_but_the_critic():
    found = gradients(critic_loss, vae_and_critic())
    assert moved(found["critic"])
    assert not moved(found["vae"])


def test_the_encoder_learns_nothing_from_the_critic():
    """But from its features, when they are asked for."""
    for features, learns in ((0.0, False), (1.0, True)):

        def nothing(model, batch, key):
            return jnp.zeros(()), {}

        found = gradients(against_critic(nothing, features=features), vae_and_critic())
        assert moved(found["encoder"]) == learns
        assert moved(found["decoder"])


@pytest.mark.parametrize(("player", "other"), [("vae", "critic"), ("critic", "vae")])
def test_a_step_of_one_player_leaves_the_other(player, other):
    losses = {"vae": against_critic(MEAN_ELBO, features=1.0), "critic": critic_loss}
    step = minimise(losses[player], optax.adam(1e-2), only(player))
    model = vae_and_critic()
    trained, _ = fit(model, step, images(), key=jr.key(0), epochs=1, batch_size=16)

    def leaves(part):
        return [
            [np.asarray(a) for a in jax.tree.leaves(nnx.state(getattr(m, part)))]
            for m in (model, trained)
        ]

    for a, b in zip(*leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)
    assert all((a != b).any() for a, b in zip(*leaves(player), strict=True))


def test_features_are_compared_where_the_head_reads_them():
    """½ |f(x) - f(x̃)|², zero where the decoder returns the image: here, a constant."""
    model = vae_and_critic()
    constant = jnp.full((8, *SHAPE), 0.25)
    last = model.vae.decoder.network.layers[-1]
    last.kernel[...] = jnp.zeros_like(last.kernel[...])
    last.bias[...] = jnp.full_like(last.bias[...], 0.25)
    player = against_critic(MEAN_ELBO, features=2.0)
    assert player(model, constant, jr.key(0))[1]["features"] == 0
    x = images(8)
    critic = model.critic
    differ = jax.vmap(critic.features)(x) - jax.vmap(critic.features)(constant)
    _, terms = player(model, x, jr.key(0))
    expected = 0.5 * (differ**2).sum(1).mean()
    np.testing.assert_allclose(terms["features"], expected, rtol=1e-5)
    assert expected > 0


# Through ``fit``


def test_it_is_its_vae_to_bounds_and_metrics():
    model = vae_and_critic()
    whole, part = (
        rate_and_distortion(m, images(), jr.key(0)) for m in (model, model.vae)
    )
    np.testing.assert_array_equal(whole, part)
    assert model.p_z().loc.shape == (LATENTS,)


def test_weights_of_the_loss_pass_through_to_a_held_rate():
    """``against_critic`` keeps the loss it is given: here its rate is held."""
    held = against_critic(mean_over_batch(partial(capacity, beta=30.0)), realism=2.0)
    tx = optax.adam(1e-2)
    step = alternate(
        vae=minimise(held, tx, only("vae"), target=optax.constant_schedule(3.0)),
        critic=minimise(critic_loss, optax.adam(1e-3, b1=0.5), only("critic")),
    )
    run = dict(key=jr.key(0), epochs=150, batch_size=32)
    model, history = fit(vae_and_critic(), step, images(), **run)
    rate = rate_and_distortion(model, images(), jr.key(1)).rate
    np.testing.assert_allclose(rate, 3.0, atol=0.2)
    assert {"vae/fooling", "vae/rate", "critic/real", "critic/fake"} <= history.keys()


def test_the_head_has_the_width_of_the_features():
    critic = vae_and_critic().critic
    x = images(1)[0]
    features = critic.features(x)
    assert features.shape == (WIDTH,)
    assert (features >= 0).all()
    expected = features @ critic.head.kernel[...][:, 0] + critic.head.bias[0]
    np.testing.assert_allclose(critic(x), expected, rtol=1e-5)
