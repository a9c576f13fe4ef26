import io
import sys

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from flax import nnx
from variants import ADAM, MEAN_ELBO, PLAIN, images, vae

from vae_teach import epochs
from vae_teach.training import (
    NonFiniteError,
    Step,
    evaluate,
    fit,
    fit_many,
    minimise,
)

RUN = dict(key=jr.key(0), batch_size=16)


def leaves(model):
    return [np.asarray(a) for a in jax.tree.leaves(nnx.state(model))]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(leaves(a), leaves(b), strict=True))


class Point(nnx.Module):
    """One parameter, to follow each step by hand."""

    def __init__(self, value=1.0):
        self.w = nnx.Param(jnp.float32(value))


def square(model, x, key, *, beta=1.0):
    del key
    return beta * ((model.w[...] - x) ** 2).mean(), {"w": model.w[...]}


def test_gradient_descent_is_what_it_says():
    step = minimise(square, optax.sgd(0.25))
    _, history = fit(
        Point(1.0), step, jnp.zeros(4), key=jr.key(0), steps=3, batch_size=4
    )
    np.testing.assert_allclose(history["w"], [1, 0.5, 0.25])
    np.testing.assert_allclose(history["loss"], [1, 0.25, 0.0625])


def test_an_epoch_sees_every_example_once_in_a_new_order():
    seen = Step(lambda model: 0, lambda model, n, x, key: (model, n, {"x": x[0]}))
    _, history = fit(
        Point(), seen, jnp.arange(10.0), key=jr.key(0), epochs=2, batch_size=1
    )
    first, second = history["x"].reshape(2, 10)
    assert sorted(first) == sorted(second) == list(range(10))
    assert (first != second).any()


def test_steps_are_counted_across_epochs_and_may_end_in_the_middle_of_one():
    by_epochs, whole = fit(vae(nnx.Rngs(0)), PLAIN, images(), epochs=2, **RUN)
    by_steps, same_history = fit(vae(nnx.Rngs(0)), PLAIN, images(), steps=8, **RUN)
    assert same(by_epochs, by_steps)
    _, short = fit(vae(nnx.Rngs(0)), PLAIN, images(), steps=6, **RUN)
    np.testing.assert_array_equal(whole["loss"], same_history["loss"])
    np.testing.assert_array_equal(short["loss"], whole["loss"][:6])


def test_the_key_decides_everything():
    model = vae(nnx.Rngs(0))
    a, b = (fit(model, PLAIN, images(), epochs=1, **RUN)[0] for _ in range(2))
    assert same(a, b)
    c, _ = fit(model, PLAIN, images(), key=jr.key(1), batch_size=16, epochs=1)
    assert not same(a, c)


def test_schedules_count_absolute_steps_over_epochs():
    step = minimise(MEAN_ELBO, ADAM, beta=lambda count: 0.1 * count)
    _, history = fit(vae(nnx.Rngs(0)), step, images(), epochs=2, **RUN)
    np.testing.assert_allclose(history["beta"], 0.1 * np.arange(8), rtol=1e-6)


def test_a_weight_is_passed_on_and_another_value_compiles_nothing():
    step, model = minimise(MEAN_ELBO, ADAM), vae(nnx.Rngs(0))
    _, one = fit(model, step, images(), epochs=2, beta=1.0, **RUN)
    size = epochs.epoch._cache_size()
    _, four = fit(model, step, images(), epochs=2, beta=4.0, **RUN)
    assert epochs.epoch._cache_size() == size
    expected = four["distortion"] + 4 * four["rate"]
    np.testing.assert_allclose(four["loss"], expected, rtol=1e-5)
    assert four["rate"][-1] < one["rate"][-1]
    _, plain = fit(model, PLAIN, images(), epochs=2, **RUN)
    np.testing.assert_allclose(one["loss"], plain["loss"], rtol=1e-6)


def test_fit_many_is_fit_of_each():
    keys = jr.split(jr.key(7), 2)
    models = jax.vmap(lambda k: vae(nnx.Rngs(k)))(jr.split(jr.key(8), 2))
    beta = jnp.array([0.5, 4.0])
    many, history = fit_many(
        models, PLAIN, images(), keys=keys, epochs=2, batch_size=16, beta=beta
    )
    for i, key in enumerate(jr.split(jr.key(7), 2)):
        one = jax.tree.map(lambda a, i=i: a[i], models)
        one, alone = fit(
            one, PLAIN, images(), key=key, epochs=2, batch_size=16, beta=beta[i]
        )
        np.testing.assert_allclose(history["loss"][i], alone["loss"], rtol=1e-4)
        for a, b in zip(leaves(many), leaves(one), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-3, atol=1e-4)


def test_fit_many_wants_one_weight_a_model():
    keys = jr.split(jr.key(7), 2)
    models = jax.vmap(lambda k: vae(nnx.Rngs(k)))(jr.split(jr.key(8), 2))
    with pytest.raises(ValueError, match="one value for each of the 2 models"):
        fit_many(
            models, PLAIN, images(), keys=keys, steps=1, batch_size=2, beta=jnp.ones(3)
        )


def test_the_validation_curve_has_a_point_an_epoch_under_one_key():
    keys = []

    def validate(model, key):
        keys.append(jr.key_data(key).tolist())
        return evaluate(MEAN_ELBO, model, images(20), key)

    model, history = fit(
        vae(nnx.Rngs(0)), PLAIN, images(), epochs=3, validate=validate, **RUN
    )
    assert history["validation/loss"].shape == (3,)
    assert history["loss"].shape == (12,)
    assert len(keys) == 3
    assert keys[0] == keys[1] == keys[2]
    last = evaluate(MEAN_ELBO, model, images(20), jr.wrap_key_data(jnp.uint32(keys[0])))
    np.testing.assert_allclose(history["validation/loss"][-1], last["loss"], rtol=1e-6)


def test_evaluate_covers_every_example():
    data = jr.normal(jr.key(0), (37, 2))

    def loss(model, x, key):
        return x.mean(), {"first": x[:, 0].mean()}

    for batch_size in (1, 16, 37, 100):
        found = evaluate(loss, None, data, jr.key(0), batch_size=batch_size)
        np.testing.assert_allclose(found["loss"], data.mean(), rtol=1e-4)
        np.testing.assert_allclose(found["first"], data[:, 0].mean(), rtol=1e-4)


# What training says when it cannot go on.


def spoil(model, x, key):
    """A loss that is NaN where an example is negative."""
    del key
    return jnp.sqrt(x).mean() + (model.w[...] - 1) ** 2, {"w": model.w[...]}


def test_a_nan_stops_and_keeps_the_model_before_it():
    data = jnp.full(32, 4.0).at[20].set(-1.0)
    step = minimise(spoil, optax.sgd(0.1))
    run = dict(key=jr.key(3), batch_size=4)
    with pytest.raises(NonFiniteError, match=r"At step \d+, the terms \['loss'\]") as e:
        fit(Point(3.0), step, data, epochs=5, **run)
    error = e.value
    assert error.terms == ["loss"]
    assert error.history["loss"].shape == (error.step,)
    assert np.isfinite(error.history["loss"]).all()
    good, history = fit(Point(3.0), step, abs(data), steps=max(error.step, 1), **run)
    if error.step:
        assert same(error.model, good)
        np.testing.assert_array_equal(error.history["w"], history["w"])


def test_the_step_of_a_nan_is_counted_over_the_whole_run():
    # Step 10 of 4 an epoch: sqrt of the weight, which has gone below zero by then.
    step = minimise(
        lambda model, x, key: (jnp.sqrt(model.w[...]) + 0 * x.mean(), {}),
        optax.sgd(0.25),
    )
    with pytest.raises(NonFiniteError) as e:
        fit(Point(1.0), step, jnp.ones(8), key=jr.key(0), epochs=9, batch_size=2)
    w, steps = 1.0, 0
    while w > 0:
        w, steps = w - 0.125 / np.sqrt(w), steps + 1
    assert steps > 4
    assert e.value.step == steps
    assert len(e.value.history["loss"]) == steps


def test_an_exploding_update_is_noticed_even_when_the_loss_is_finite():
    step = minimise(square, optax.sgd(1e38))
    with pytest.raises(NonFiniteError) as e:
        fit(Point(3.0), step, jnp.zeros(4), key=jr.key(0), steps=1, batch_size=4)
    assert (e.value.step, e.value.terms) == (0, [])
    assert e.value.model.w[...] == 3.0


def test_fit_many_stops_at_the_first_nan_of_any_model():
    models = jax.vmap(Point)(jnp.array([1.0, -2.0]))
    step = minimise(lambda m, x, key: (jnp.sqrt(m.w[...]) + 0 * x.mean(), {}), ADAM)
    with pytest.raises(NonFiniteError) as e:
        fit_many(
            models,
            step,
            jnp.ones(8),
            keys=jr.split(jr.key(0), 2),
            epochs=1,
            batch_size=2,
        )
    assert e.value.step == 0
    np.testing.assert_array_equal(e.value.model.w[...], [1.0, -2.0])


def test_pixels_outside_the_unit_interval_stop_a_bernoulli_at_once():
    with pytest.raises(NonFiniteError, match=r"Bernoulli wants \[0, 1\]") as e:
        fit(vae(nnx.Rngs(0)), PLAIN, 2 * images() - 1, epochs=1, **RUN)
    assert e.value.step == 0
    assert "distortion" in e.value.terms


@pytest.mark.parametrize(
    ("data", "run", "error", "match"),
    [
        (images(8), dict(epochs=1), ValueError, "from 1 to the 8 examples"),
        (images()[:0], dict(epochs=1), ValueError, "one example or more"),
        ((images(), images(8)), dict(epochs=1), ValueError, r"leading axes \[8, 64\]"),
        (images(), dict(), ValueError, "either epochs or steps"),
        (images(), dict(epochs=1, steps=1), ValueError, "either epochs or steps"),
        (images(), dict(epochs=0), ValueError, "1 or more"),
        (images()[:, :3], dict(epochs=1), ValueError, "Expected inputs of 24 numbers"),
        ((255 * images()).astype(np.uint8), dict(epochs=1), TypeError, "255"),
    ],
)
def test_data_that_cannot_be_trained_on(data, run, error, match):
    with pytest.raises(error, match=match):
        fit(vae(nnx.Rngs(0)), PLAIN, data, **RUN, **run)


def test_an_old_style_key_is_refused_in_words():
    with pytest.raises(TypeError, match=r"jax\.random\.key\(seed\).*old-style"):
        epochs.check_key(jax.random.PRNGKey(0))
    with pytest.raises(ValueError, match="one key, got keys of shape"):
        epochs.check_key(jr.split(jr.key(0), 2))


# The progress bar.


def bar_of(monkeypatch, *, tty, env=()):
    for name in ("JPY_SESSION_NAME", "COLAB_RELEASE_TAG"):
        monkeypatch.delenv(name, raising=False)
    for name in env:
        monkeypatch.setenv(name, "1")
    err = io.StringIO()
    err.isatty = lambda: tty
    monkeypatch.setattr(sys, "stderr", err)
    fit(
        Point(),
        minimise(square, ADAM),
        jnp.ones(8),
        key=jr.key(0),
        epochs=2,
        batch_size=4,
    )
    return err.getvalue()


def test_a_terminal_sees_a_bar_and_an_executed_book_does_not(monkeypatch):
    assert "0/2" in bar_of(monkeypatch, tty=True)
    assert bar_of(monkeypatch, tty=False) == ""
