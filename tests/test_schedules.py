import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from flax import nnx
from variants import ADAM, DECODER, ENCODER, MEAN_ELBO, images, vae

from vae_teach.schedules import cyclical, every, linear, sigmoid
from vae_teach.training import alternate, fit, minimise


def values(schedule, steps):
    """At Python integers, which traced counts must agree with."""
    eager = [float(schedule(step)) for step in range(steps)]
    traced = jax.jit(jax.vmap(schedule))(jnp.arange(steps))
    np.testing.assert_allclose(traced, eager, rtol=1e-6, atol=1e-7)
    return eager


def test_linear_annealing_is_a_ramp_counted_in_steps():
    beta = linear(40)
    found = [float(beta(step)) for step in (0, 10, 40, 1000)]
    np.testing.assert_allclose(found, [0, 0.25, 1, 1])
    assert float(linear(10, end=4.0)(5)) == pytest.approx(2)
    with pytest.raises(ValueError, match="one step or more"):
        linear(0)


def test_four_cycles_rise_in_their_first_half_and_stay_in_their_second():
    cycle = [0, 0.25, 0.5, 0.75, 1, 1, 1, 1]
    np.testing.assert_allclose(
        values(cyclical(8), 40), [*cycle, *cycle, *cycle, *cycle, *[1] * 8], rtol=1e-6
    )


def test_a_cycle_may_be_all_ramp_or_hardly_any():
    np.testing.assert_allclose(
        values(cyclical(4, 2, ramp=1.0), 10), [0, 0.25, 0.5, 0.75] * 2 + [1, 1]
    )
    np.testing.assert_allclose(values(cyclical(5, 1, ramp=0.2), 7), [0] + [1] * 6)
    # A ramp need not end on a step.
    np.testing.assert_allclose(values(cyclical(3, 1), 4), [0, 2 / 3, 1, 1], rtol=1e-6)


def test_the_sigmoid_is_half_way_at_its_midpoint_and_symmetric():
    beta = sigmoid(100, 10)
    assert float(beta(100)) == 0.5
    np.testing.assert_allclose(beta(110), np.e / (1 + np.e), rtol=1e-6)
    np.testing.assert_allclose(beta(80) + beta(120), 1, rtol=1e-6)
    assert (np.diff(values(beta, 200)) >= 0).all()
    assert float(beta(0)) < 1e-4 < 0.9999 < float(beta(200))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: cyclical(0), "one step or more, got 0"),
        (lambda: cyclical(8, 0), "one cycle or more"),
        (lambda: cyclical(8, ramp=0.0), r"ramp in \(0, 1\]"),
        (lambda: cyclical(8, ramp=1.5), r"ramp in \(0, 1\]"),
        (lambda: sigmoid(10, 0), "positive width"),
        (lambda: every(0), "one step or more, got 0"),
    ],
)
def test_schedules_say_what_they_need(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_a_schedule_is_the_weight_of_each_step():
    run = dict(key=jr.key(0), batch_size=16, epochs=3)
    for schedule in (cyclical(4, 2), sigmoid(6, 2)):
        step = minimise(MEAN_ELBO, ADAM, beta=schedule)
        _, history = fit(vae(nnx.Rngs(0)), step, images(), **run)
        np.testing.assert_allclose(history["beta"], values(schedule, 12), rtol=1e-6)
        expected = history["distortion"] + history["beta"] * history["rate"]
        np.testing.assert_allclose(history["loss"], expected, rtol=1e-5)


def count_losses(model, batch, key):
    """Slope 1 for every parameter: each step of SGD moves it by one learning rate."""
    total = sum(leaf.sum() for leaf in jax.tree.leaves(nnx.state(model)))
    return total, {}


def test_the_decoder_moves_once_for_k_moves_of_the_encoder():
    k, rounds, model = 3, 4, vae(nnx.Rngs(0))
    sgd = optax.sgd(0.125)
    slow = optax.conditionally_mask(sgd, every(k))
    step = alternate(
        encoder=minimise(count_losses, sgd, ENCODER),
        decoder=minimise(count_losses, slow, DECODER),
    )
    run = dict(key=jr.key(0), batch_size=16)
    for steps, moves in [(k * rounds, rounds), (k * rounds + k - 1, rounds)]:
        trained, _ = fit(model, step, images(), steps=steps, **run)
        for part, n in [(DECODER, moves), (ENCODER, steps)]:
            pairs = (jax.tree.leaves(nnx.state(m, part)) for m in (model, trained))
            for before, after in zip(*pairs, strict=True):
                np.testing.assert_allclose(before - after, 0.125 * n, rtol=1e-4)


def test_a_slow_adam_counts_its_own_moves():
    """Where it waits, its moments wait too."""
    k, model = 2, vae(nnx.Rngs(0))
    slow = optax.conditionally_mask(ADAM, every(k))
    run = dict(key=jr.key(0), batch_size=16)
    few, _ = fit(model, minimise(count_losses, ADAM), images(), steps=3, **run)
    slowly, _ = fit(model, minimise(count_losses, slow), images(), steps=6, **run)
    for a, b in zip(
        *(jax.tree.leaves(nnx.state(m)) for m in (few, slowly)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
