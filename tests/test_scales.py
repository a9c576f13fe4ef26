import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from flax import nnx

from vae_teach.bounds import elbo
from vae_teach.distributions import Normal, kl
from vae_teach.losses import mean_over_batch
from vae_teach.models import VAE, Conditional
from vae_teach.networks import MLP
from vae_teach.priors import StandardNormal
from vae_teach.scales import CappedScale, FlooredScale, LearnedScale
from vae_teach.training import fit, minimise

V = jnp.concatenate([jnp.linspace(-3, 3, 9), jnp.linspace(-60, 60, 9)])


def standard(size):
    return Normal(jnp.zeros(size), jnp.ones(size))


def test_a_learned_scale_is_one_number_for_all_pixels():
    family = LearnedScale(0.5)
    p = family(jnp.arange(6.0).reshape(2, 3))
    np.testing.assert_allclose(p.scale, jnp.full((2, 3), 0.5), rtol=1e-6)
    assert jax.tree.leaves(nnx.state(family, nnx.Param))[0].shape == ()
    np.testing.assert_allclose(family.scale, 0.5, rtol=1e-6)


def test_a_learned_scale_reaches_the_mean_squared_error():
    """No latent matters here: what is left is the variance of the noise."""
    x = 0.3 * jr.normal(jr.key(0), (512, 6)) + jnp.arange(6.0)[None] / 6
    rngs = nnx.Rngs(0)
    model = VAE(
        StandardNormal(1),
        Conditional(MLP(6, 2, rngs=rngs), Normal.from_log_variance),
        Conditional(MLP(1, 6, rngs=rngs), LearnedScale()),
    )
    tx = optax.adam(optax.cosine_decay_schedule(0.03, 1500))
    step = minimise(mean_over_batch(elbo), tx)
    model, _ = fit(model, step, x, key=jr.key(1), steps=1500, batch_size=512)

    def squared_error(x, key):
        return ((x - model.p_x(model.q_z(x).sample(key)).mean) ** 2).mean()

    keys = jr.split(jr.key(2), 40)
    mse = jax.vmap(lambda k: jax.vmap(squared_error)(x, jr.split(k, len(x))))(keys)
    np.testing.assert_allclose(model.decoder.family.scale**2, mse.mean(), rtol=0.01)
    assert mse.mean() < 0.1  # from a variance of 1


def test_a_floor_is_kept_and_far_above_it_not_felt():
    p = FlooredScale(0.1)(jnp.concatenate([0 * V, V]))
    expected = np.sqrt(0.01 + np.exp(np.asarray(V, np.float64)))
    np.testing.assert_allclose(p.scale, expected, rtol=1e-5)
    assert (p.scale >= 0.1 * (1 - 1e-6)).all()
    assert p.loc.shape == V.shape


def test_a_floor_bounds_the_density_of_a_pixel_predicted_exactly():
    """Without one the slope of log p in v is -1/2 at every v: there is no best."""

    def log_p(family, v):
        return family(jnp.array([0.5, v])).log_prob(jnp.array([0.5]))

    free, floored = Normal.from_log_variance, FlooredScale(0.1)
    for v in (-10.0, -40.0):
        np.testing.assert_allclose(jax.grad(log_p, 1)(free, v), -0.5, rtol=1e-5)
        assert log_p(floored, v) <= -np.log(0.1 * np.sqrt(2 * np.pi)) + 1e-5
    assert abs(jax.grad(log_p, 1)(floored, -40.0)) < 1e-6


@pytest.mark.parametrize("maximum", [0.1, 0.5, 0.9])
def test_a_cap_commits_the_rate(maximum):
    family = CappedScale(maximum)
    p = family(jnp.concatenate([0 * V, V]))
    expected = 1 / np.sqrt(maximum**-2 + np.exp(-np.asarray(V, np.float64)))
    np.testing.assert_allclose(p.scale, expected, rtol=1e-4, atol=1e-30)
    assert (p.scale <= maximum * (1 + 1e-6)).all()

    def rate(v):
        return kl(family(v), standard(1))

    grid = jnp.stack(jnp.meshgrid(jnp.linspace(-2, 2, 21), V), -1).reshape(-1, 2)
    rates = jax.vmap(rate)(grid)
    assert (rates >= family.committed_rate - 1e-5).all()
    # It is reached, where the mean is 0 and the network asks for more variance.
    np.testing.assert_allclose(
        rate(jnp.array([0.0, 60.0])), family.committed_rate, rtol=1e-4
    )
    slopes = jax.vmap(jax.grad(rate))(grid)
    assert np.isfinite(slopes).all()


def test_a_committed_rate_is_a_cost_and_no_information():
    """The same narrow posterior for every x: KL, but z tells nothing of x."""
    family = CappedScale(0.5)
    q = family(jnp.array([0.0, 5.0]))
    assert kl(q, standard(1)) >= family.committed_rate > 0.3
    z = q.sample(jr.key(0))
    x = jnp.linspace(-1, 1, 5)
    # q(z|x) over the aggregate, the mean of q(z|x): their ratio is 1 at every x.
    of_each = jax.vmap(lambda x: family(jnp.array([0 * x[0], 5.0])).log_prob(z))(
        x[:, None]
    )
    aggregate = jax.nn.logsumexp(of_each) - jnp.log(5.0)
    np.testing.assert_allclose(of_each - aggregate, 0, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: LearnedScale(0.0), "positive scale"),
        (lambda: FlooredScale(0.0), "positive minimum"),
        (lambda: FlooredScale(-1.0), "positive minimum"),
        (lambda: CappedScale(1.0), r"maximum in \(0, 1\), got 1.0"),
        (lambda: CappedScale(0.0), r"maximum in \(0, 1\)"),
    ],
)
def test_families_say_what_they_need(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_families_without_parameters_compare_by_value():
    assert FlooredScale(0.1) == FlooredScale(0.1) != FlooredScale(0.2)
    assert hash(CappedScale(0.1)) == hash(CappedScale(0.1))
