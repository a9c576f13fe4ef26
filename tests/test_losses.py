import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from vae_teach import schedules
from vae_teach.losses import binarize, binarized, mean_over_batch


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


def test_linear_annealing_is_a_ramp_counted_in_steps():
    beta = schedules.linear(40)
    found = [float(beta(step)) for step in (0, 10, 40, 1000)]
    np.testing.assert_allclose(found, [0, 0.25, 1, 1])
    assert float(schedules.linear(10, end=4.0)(5)) == pytest.approx(2)
    with pytest.raises(ValueError, match="one step or more"):
        schedules.linear(0)
