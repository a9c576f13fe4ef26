import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from flax import nnx
from variants import images, vae

from vae_teach.bounds import elbo, elbo_free_bits
from vae_teach.distributions import FixedScale
from vae_teach.losses import (
    binarize,
    binarized,
    free_bits,
    mean_over_batch,
    optimal_scale,
)
from vae_teach.metrics import rate_per_unit


def noisy(model, x, key, *, beta=1.0):
    return beta * (x.sum() + jr.normal(key)), {"sum": x.sum()}


def test_the_mean_over_a_batch_sums_the_event_and_gives_each_example_a_key():
    x, key = jr.normal(jr.key(0), (5, 2, 3)), jr.key(1)
    value, terms = mean_over_batch(noisy)(None, x, key, beta=2.0)
    noise = jax.vmap(jr.normal)(jr.split(key, 5))
    assert len(set(noise.tolist())) == 5
    expected = 2 * (x.sum((1, 2)) + noise).mean()
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(terms["sum"], x.sum() / 5, rtol=1e-5)


def test_a_batch_may_be_a_pytree():
    pair = jnp.ones((4, 2)), jnp.arange(4.0)

    def bound(model, pair, key):
        return pair[0].sum() + pair[1], {}

    value, _ = mean_over_batch(bound)(None, pair, jr.key(0))
    np.testing.assert_allclose(value, 2 + 1.5)


def test_binarization_keeps_the_mean_of_each_pixel():
    p = np.linspace(0, 1, 11, dtype=np.float32)
    x = np.asarray(binarize(jnp.tile(p, (20_000, 1)), jr.key(0)))
    assert set(np.unique(x)) == {0.0, 1.0}
    assert (abs(x.mean(0) - p) <= 4 * np.sqrt(p * (1 - p) / len(x))).all()


def test_black_and_white_pixels_stay():
    x = jnp.concatenate([jnp.zeros(100_000), jnp.ones(100_000)])
    np.testing.assert_array_equal(binarize(x, jr.key(1)), x)


def test_binarization_does_not_hide_pixels_outside_the_unit_interval():
    assert np.isnan(binarize(jnp.array([0.5, 1.5, -0.1]), jr.key(0))[1:]).all()


def test_each_call_binarizes_anew_and_loses_no_key():
    loss = binarized(lambda model, x, key: (x.sum(), {"key": jr.key_data(key).sum()}))
    gray = jnp.full((50, 40), 0.5)
    a, b = (loss(None, gray, jr.key(i)) for i in (0, 1))
    assert a[0] != b[0]
    assert a[1]["key"] != b[1]["key"]


# Free bits. The model is an untrained VAE, whose latents have KLs of different size.

X, KEY = images(16), jr.key(5)
MODEL = vae(nnx.Rngs(3), family=FixedScale(0.5))
FREE_BITS = {"batch": free_bits, "each": mean_over_batch(elbo_free_bits)}


def gradients(loss, **weights):
    """The gradient of a loss at the model, all of it in one vector."""
    graphdef, state = nnx.split(MODEL)

    def f(state):
        return loss(nnx.merge(graphdef, state), X, KEY, **weights)[0]

    return jnp.concatenate([g.ravel() for g in jax.tree.leaves(jax.grad(f)(state))])


@pytest.fixture(params=FREE_BITS)
def either(request):
    return FREE_BITS[request.param]


@pytest.mark.parametrize("beta", [1.0, 3.0])
def test_free_bits_of_zero_are_the_elbo(either, beta):
    value, terms = either(MODEL, X, KEY, floor=0.0, beta=beta)
    expected, plain = mean_over_batch(elbo)(MODEL, X, KEY, beta=beta)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(terms["clamped_rate"], plain["rate"], rtol=1e-5)


def test_the_rate_of_free_bits_is_not_clamped(either):
    floor = 10.0
    value, terms = either(MODEL, X, KEY, floor=floor, beta=2.0)
    _, plain = mean_over_batch(elbo)(MODEL, X, KEY)
    for name in ("rate", "distortion"):
        np.testing.assert_allclose(terms[name], plain[name], rtol=1e-5)
    assert terms["clamped_rate"] == 3 * floor
    np.testing.assert_allclose(value, plain["distortion"] + 2 * 3 * floor, rtol=1e-5)


def test_below_the_floor_the_kl_of_a_latent_has_no_gradient():
    kls = np.sort(np.asarray(rate_per_unit(MODEL, X)))
    between = float(kls[0] + kls[1]) / 2
    assert kls[0] < 0.95 * between < between < 0.95 * kls[1]
    lowest = int(np.argmin(np.asarray(rate_per_unit(MODEL, X))))

    def kl_of(chosen):
        def loss(model, batch, key):
            per_unit = rate_per_unit(model, batch)
            return per_unit[jnp.array(chosen)].sum(), {}

        return gradients(loss)

    only_kl = gradients(free_bits, floor=between) - gradients(
        free_bits, floor=between, beta=0.0
    )
    others = [j for j in range(3) if j != lowest]
    np.testing.assert_allclose(only_kl, kl_of(others), atol=2e-5)
    assert abs(kl_of([lowest])).max() > 1e-2  # what the clamp has taken away
    none = gradients(free_bits, floor=100.0) - gradients(free_bits, floor=0.0, beta=0.0)
    np.testing.assert_array_equal(none, 0)


def test_an_example_below_the_floor_has_no_gradient_where_each_is_clamped():
    per_example = jax.vmap(lambda x: rate_per_unit(MODEL, x[None]))(X)
    floor = float(jnp.median(per_example))

    def above_the_floor(model, batch, key):
        kls = jax.vmap(lambda x: rate_per_unit(model, x[None]))(batch)
        return jnp.where(kls > floor, kls, 0).sum(1).mean(), {}

    each = FREE_BITS["each"]
    only_kl = gradients(each, floor=floor) - gradients(each, floor=floor, beta=0.0)
    np.testing.assert_allclose(only_kl, gradients(above_the_floor), atol=2e-5)
    batch = gradients(free_bits, floor=floor) - gradients(
        free_bits, floor=0.0, beta=0.0
    )
    assert abs(only_kl - batch).max() > 1e-3


def test_clamping_each_example_charges_more_than_clamping_their_mean():
    """Jensen: max(floor, .) is convex."""
    per_example = jax.vmap(lambda x: rate_per_unit(MODEL, x[None]))(X)
    floor = float(jnp.median(per_example))
    charged = [f(MODEL, X, KEY, floor=floor)[1] for f in FREE_BITS.values()]
    of_batch, of_each = (float(terms["clamped_rate"]) for terms in charged)
    assert of_each > of_batch + 0.01
    assert of_batch >= float(charged[0]["rate"])
    expected = np.maximum(np.asarray(per_example), floor).sum(1).mean()
    np.testing.assert_allclose(of_each, expected, rtol=1e-5)
    for terms in charged:  # the same examples, one batch at a time of one
        np.testing.assert_allclose(terms["rate"], per_example.sum() / 16, rtol=1e-5)
    alone = free_bits(MODEL, X[:1], KEY, floor=floor)[1]
    each = FREE_BITS["each"](MODEL, X[:1], KEY, floor=floor)[1]
    np.testing.assert_allclose(alone["clamped_rate"], each["clamped_rate"], rtol=1e-6)


# The decoder variance that is best for a batch.


def mean_elbo_at(variance, beta=1.0):
    model = vae(nnx.Rngs(3), family=FixedScale(variance**0.5))
    return float(mean_over_batch(elbo)(model, X, KEY, beta=beta)[0])


@pytest.mark.parametrize("beta", [1.0, 3.0])
def test_the_optimal_scale_is_the_elbo_at_the_variance_it_reports(beta):
    value, terms = optimal_scale(MODEL, X, KEY, beta=beta)
    variance = float(terms["variance"])
    np.testing.assert_allclose(value, mean_elbo_at(variance, beta), rtol=1e-5)
    assert all(float(value) < mean_elbo_at(c * variance, beta) for c in (0.8, 1.25))
    expected = terms["distortion"] + beta * terms["rate"]
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_the_optimal_scale_has_the_gradient_of_the_elbo_at_that_scale():
    _, terms = optimal_scale(MODEL, X, KEY)
    at = vae(nnx.Rngs(3), family=FixedScale(float(terms["variance"]) ** 0.5))

    def gradient(loss, model):
        graphdef, state = nnx.split(model)
        return jax.grad(lambda s: loss(nnx.merge(graphdef, s), X, KEY)[0])(state)

    found = jax.tree.leaves(gradient(optimal_scale, MODEL))
    expected = jax.tree.leaves(gradient(mean_over_batch(elbo), at))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


def test_the_optimal_scale_does_not_depend_on_that_of_the_decoder():
    other = vae(nnx.Rngs(3), family=FixedScale(0.01))
    assert optimal_scale(MODEL, X, KEY)[0] == optimal_scale(other, X, KEY)[0]


def test_the_optimal_scale_refuses_a_decoder_of_another_shape():
    with pytest.raises(ValueError, match="one event of shape"):
        optimal_scale(MODEL, X[..., 0], KEY)
