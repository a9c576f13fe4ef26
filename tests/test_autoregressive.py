import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from flax import nnx

from vae_teach.autoregressive import PixelCNN, drop_previous
from vae_teach.bounds import elbo, iwae
from vae_teach.distributions import Normal
from vae_teach.losses import binarized, mean_over_batch
from vae_teach.models import VAE, Conditional
from vae_teach.networks import MLP
from vae_teach.priors import StandardNormal
from vae_teach.training import fit, fit_many, minimise

TINY = (2, 4, 1)
Z = jnp.array([0.5, -1.0])


def decoder(shape=TINY, kernels=(3, 3), width=4, **given):
    return PixelCNN(2, shape, width, kernels, **given, rngs=nnx.Rngs(0))


def coins(n, shape=TINY):
    return jr.bernoulli(jr.key(0), 0.5, (n, *shape)).astype(jnp.float32)


def every_image():
    """All 256 images of 2 x 4 pixels."""
    bits = np.arange(256)[:, None] >> np.arange(8)[None] & 1
    return jnp.asarray(bits, jnp.float32).reshape(-1, *TINY)


def vae(rngs, shape=TINY):
    encoder = Conditional(MLP(shape, 8, 4, rngs=rngs), Normal.from_log_variance)
    return VAE(StandardNormal(2), encoder, PixelCNN(2, shape, 4, (3, 3), rngs=rngs))


# The order of the pixels


@pytest.mark.parametrize(
    ("kernels", "reach"), [((3,), 1), ((1, 1), 0), ((5,), 2), ((3, 5), 3), ((3, 3), 2)]
)
def test_a_pixel_depends_on_every_earlier_one_it_reaches_and_on_no_other(
    kernels, reach
):
    shape = height, width, _ = 7, 9, 1
    net = decoder(shape, kernels, width=16)
    x = jr.normal(jr.key(0), shape)  # not binary: all that matters is the dependence
    slopes = jax.jacrev(lambda x: net.logits(x, Z)[..., 0])(x)[..., 0]
    row, column = np.mgrid[:height, :width]
    up = row[:, :, None, None] - row[None, None]
    aside = column[:, :, None, None] - column[None, None]
    above = (up >= 1) & (up <= 1 + reach) & (abs(aside) <= reach)
    before = (up == 0) & (aside >= 1) & (aside <= 1 + reach)
    np.testing.assert_array_equal(slopes != 0, above | before)


def test_later_pixels_leave_a_logit_as_it_was_to_the_last_bit():
    net = decoder()
    for i in range(8):
        flat = coins(1)[0].ravel()
        changed = flat.at[i:].set(1 - flat[i:])
        one, other = (net.logits(x.reshape(TINY), Z).ravel() for x in (flat, changed))
        np.testing.assert_array_equal(one[: i + 1], other[: i + 1])


@pytest.mark.parametrize("skip", [False, True])
def test_z_reaches_every_pixel(skip):
    net = decoder((5, 5, 1), width=16, skip=skip)
    slopes = jax.jacfwd(lambda z: net.logits(coins(1, (5, 5, 1))[0], z))(Z)
    assert (slopes != 0).all()
    told = [layer.code is not None for layer in net.layers]
    assert told == [True, skip]


# A distribution


@pytest.mark.parametrize("keep", [None, np.arange(8).reshape(TINY) % 3 > 0])
def test_the_probabilities_of_all_images_sum_to_one(keep):
    p = decoder()(Z)
    if keep is not None:
        p = p.__class__(p.network, p.z, jnp.asarray(keep))
    log_p = jax.vmap(p.log_prob)(every_image())
    np.testing.assert_allclose(jax.nn.logsumexp(log_p), 0, atol=1e-5)


def test_log_prob_is_the_chain_rule_pixel_by_pixel():
    net = decoder()
    p, (x,) = net(Z), coins(1)
    expected, seen = 0.0, jnp.zeros(TINY).ravel()
    for i, value in enumerate(x.ravel()):
        logit = net.logits(seen.reshape(TINY), Z).ravel()[i]
        expected += jax.nn.log_sigmoid(jnp.where(value == 1, logit, -logit))
        seen = seen.at[i].set(value)
    np.testing.assert_allclose(p.log_prob(x), expected, rtol=1e-5)


def test_samples_have_the_probabilities_of_log_prob():
    # Larger weights, so that pixels depend on each other clearly.
    p, n = jax.tree.map(lambda leaf: 2 * leaf, decoder())(Z), 20_000
    x = jax.jit(jax.vmap(p.sample))(jr.split(jr.key(3), n))
    numbers = (x.reshape(n, 8) @ (2.0 ** jnp.arange(8))).astype(int)
    counts = np.bincount(numbers, minlength=256)
    expected = n * np.exp(jax.vmap(p.log_prob)(every_image()))
    chi2 = ((counts - expected) ** 2 / expected).sum()
    # 255 degrees of freedom: mean 255, sd sqrt(2 * 255).
    assert abs(chi2 - 255) < 4 * np.sqrt(510)


def test_a_sample_is_what_one_pixel_after_the_other_gives():
    shape = (6, 5, 1)
    net = decoder(shape)
    for seed in range(3):
        noise = jr.logistic(jr.key(seed), shape).ravel()
        x = jnp.zeros(30)
        for i in range(30):
            logit = net.logits(x.reshape(shape), Z).ravel()[i]
            x = x.at[i].set((logit + noise[i] > 0).astype(x.dtype))
        np.testing.assert_array_equal(net(Z).sample(jr.key(seed)).ravel(), x)


def test_a_decoder_that_ignores_z_says_the_same_for_every_z():
    net, (x,) = decoder(skip=True), coins(1)
    assert net(Z).log_prob(x) != net(-Z).log_prob(x)
    for layer in net.layers:
        layer.code.kernel[...] = jnp.zeros_like(layer.code.kernel[...])
    np.testing.assert_array_equal(net(Z).log_prob(x), net(-Z).log_prob(x))


@pytest.mark.parametrize("value", [0.5, -1.0, 2.0, np.nan])
def test_a_pixel_that_is_no_coin_has_no_mass(value):
    x = coins(1)[0].at[0, 0, 0].set(value)
    assert decoder()(Z).log_prob(x) == -jnp.inf


# A decoder like any other


def test_batches_seeds_and_bounds_are_those_of_every_vae():
    x = 0.1 + 0.8 * coins(64)
    step = minimise(binarized(mean_over_batch(elbo)), optax.adam(1e-2))
    given = {"epochs": 2, "batch_size": 16}
    keys = jr.split(jr.key(1), 2)
    models = jax.vmap(lambda k: vae(nnx.Rngs(k)))(keys)
    _, history = fit_many(models, step, x, keys=keys, **given)
    one, alone = fit(
        jax.tree.map(lambda leaf: leaf[1], models), step, x, key=keys[1], **given
    )
    np.testing.assert_allclose(history["loss"][1], alone["loss"], rtol=1e-4)
    assert np.isfinite(history["loss"]).all()

    x = coins(3)
    batch = jax.vmap(one.p_x)(jnp.stack([Z, -Z, 2 * Z]))
    found = jax.jit(jax.vmap(lambda p, x: p.log_prob(x)))(batch, x)
    by_hand = [one.p_x(a * Z).log_prob(x[i]) for i, a in enumerate((1, -1, 2))]
    np.testing.assert_allclose(found, jnp.stack(by_hand), rtol=1e-5)


def test_iwae_rises_to_the_evidence():
    """p(x) by quadrature over two latents, on a grid of ±5 in steps of 0.1."""
    model, (x,) = vae(nnx.Rngs(2)), coins(1)
    side = jnp.linspace(-5, 5, 101)
    grid = jnp.stack(jnp.meshgrid(side, side), -1).reshape(-1, 2)
    log_joint = jax.jit(
        jax.vmap(lambda z: model.p_x(z).log_prob(x) + model.p_z().log_prob(z))
    )(grid)
    evidence = jax.nn.logsumexp(log_joint) + 2 * jnp.log(side[1] - side[0])
    one, many = (
        -jax.jit(jax.vmap(lambda k, n=n: iwae(model, x, k, samples=n)[0]))(
            jr.split(jr.key(n), 50)
        )
        for n in (1, 1000)
    )
    assert one.mean() < evidence
    error = 4 * many.std() / len(many) ** 0.5
    assert abs(many.mean() - evidence) < error + 1e-3


# Previous pixels dropped


def test_nothing_dropped_is_the_bound_itself():
    model, (x,) = vae(nnx.Rngs(0)), coins(1)
    given = drop_previous(elbo, 0.0)(model, x, jr.key(5), beta=0.3)
    expected = elbo(model, x, jr.split(jr.key(5))[1], beta=0.3)
    np.testing.assert_allclose(given[0], expected[0], rtol=1e-6)
    assert given[1].keys() == expected[1].keys()


def test_everything_dropped_leaves_pixels_independent_given_z():
    model = vae(nnx.Rngs(0))
    p = model.p_x(Z)
    blind = p.network.logits(every_image()[7], Z, jnp.zeros(TINY, bool))
    for x in every_image()[:5]:
        logits = p.network.logits(x, Z, jnp.zeros(TINY, bool))
        np.testing.assert_array_equal(logits, blind)


def test_dropping_hides_the_inputs_and_not_what_is_predicted():
    """At a rate of 1 the distortion is that of coins with the blind logits."""
    model, (x,) = vae(nnx.Rngs(0)), coins(1)
    _, terms = drop_previous(elbo, 1.0)(model, x, jr.key(5))
    z = model.q_z(x).sample(jr.split(jr.key(5))[1])
    blind = model.decoder.logits(x, z, jnp.zeros(TINY, bool))
    expected = -jax.nn.log_sigmoid(jnp.where(x == 1, blind, -blind)).sum()
    np.testing.assert_allclose(terms["distortion"], expected, rtol=1e-5)


def test_the_share_dropped_is_the_rate():
    seen = []

    def spy(model, x, key):
        seen.append(model.p_x(Z).keep)
        return jnp.zeros(()), {}

    x = jnp.zeros((50, 40, 1))
    model = vae(nnx.Rngs(0))
    drop_previous(spy, 0.3)(model, x, jr.key(0))
    (keep,) = seen
    assert abs(keep.mean() - 0.7) < 4 * np.sqrt(0.3 * 0.7 / keep.size)


# Errors


def test_what_cannot_work_is_refused():
    with pytest.raises(ValueError, match=r"\(height, width, 1\), got \(2, 4, 3\)"):
        decoder((2, 4, 3))
    with pytest.raises(ValueError, match=r"odd kernels.*got \(3, 2\)"):
        decoder(kernels=(3, 2))
    with pytest.raises(ValueError, match=r"odd kernels.*got \(\)"):
        decoder(kernels=())
    with pytest.raises(ValueError, match=r"rate in \[0, 1\], got 1.5"):
        drop_previous(elbo, 1.5)
    with pytest.raises(ValueError, match=r"event of shape .* vmap over a batch"):
        decoder()(Z).log_prob(coins(3))
    with pytest.raises(TypeError, match="Expected floats, got int32"):
        decoder()(Z).log_prob(jnp.zeros(TINY, int))
