"""The digit classifier: what its record says is what it does."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tools.make_classifier import measure, train
from tools.make_weights import fingerprint
from vae_teach import classifier, data
from vae_teach.metrics import digit_classifier

DIGITS = data.load("mnist12k")
TEST = jnp.asarray(DIGITS.test.images)
RECORD = classifier.record()


def test_it_is_worth_what_the_record_says():
    found = measure(digit_classifier(), DIGITS.test)
    assert found == pytest.approx(RECORD["test"], abs=0.002)
    assert found["accuracy"] >= 0.975
    assert found["accuracy_of_blurred"] >= 0.95


def test_where_it_is_sure_it_is_right_and_it_is_sure_of_digits_only():
    assert RECORD["sure_above"] == 0.95
    found = measure(digit_classifier(), DIGITS.test)
    assert found["accuracy_where_sure"] > 0.99
    assert found["sure"] > 0.85
    assert max(found["sure_of_blends"], found["sure_of_shuffled"]) < 0.15


def test_it_can_be_asked_for_first_where_something_is_compiled():
    digit_classifier.cache_clear()
    logits = jax.jit(lambda x: digit_classifier()(x))(TEST[0])
    np.testing.assert_allclose(digit_classifier()(TEST[0]), logits, rtol=1e-4)


def test_rounding_the_weights_costs_nothing_that_counts():
    exact = RECORD["test_before_rounding"]["accuracy"]
    assert RECORD["test"]["accuracy"] == pytest.approx(exact, abs=0.003)


def test_the_weights_are_there_small_and_made_from_these_digits():
    file = classifier.FOLDER / "digit_classifier.npz"
    assert file.stat().st_size == RECORD["bytes"] <= 250_000
    assert RECORD["data"]["train_sha256"] == fingerprint(DIGITS)
    assert RECORD["command"].startswith("python -m tools.make_classifier")


def test_training_it_anew_for_a_moment_comes_as_far():
    brief = RECORD["brief"]
    anew = train(DIGITS.train, seed=7, epochs=brief["epochs"])
    assert measure(anew, DIGITS.test)["accuracy"] >= brief["least"]


def test_logits_and_features_of_one_image():
    judge = digit_classifier()
    assert judge is digit_classifier()
    assert judge(TEST[0]).shape == (10,)
    features = judge.features(TEST[0])
    assert features.shape == (64,)
    np.testing.assert_allclose(judge.head(features), judge(TEST[0]), rtol=1e-6)


@pytest.mark.parametrize("shape", [(784,), (28, 28), (3, 28, 28, 1), (28, 28, 3)])
def test_anything_but_one_image_is_refused(shape):
    for call in (digit_classifier(), digit_classifier().features):
        with pytest.raises(ValueError, match=r"\(28, 28, 1\)"):
            call(jnp.zeros(shape))


def test_shifts_and_shuffles_keep_every_pixel_and_blurs_the_sum():
    for change in (classifier.shifted, classifier.shuffled):
        changed = change(TEST[0], jr.key(1))
        assert not (changed == TEST[0]).all()
        np.testing.assert_array_equal(
            jnp.sort(changed.ravel()), jnp.sort(TEST[0].ravel())
        )
    blurred = classifier.blurred(TEST[:5])
    np.testing.assert_allclose(
        blurred.sum((1, 2, 3)), TEST[:5].sum((1, 2, 3)), rtol=1e-5
    )
    # Each pass of (1, 2, 1)/4 adds a variance of 1/2.
    point = jnp.zeros((1, 28, 28, 1)).at[0, 14, 14, 0].set(1.0)
    rows = classifier.blurred(point).sum((0, 2, 3))
    variance = (rows * (jnp.arange(28) - 14.0) ** 2).sum()
    np.testing.assert_allclose(variance, 1.5, rtol=1e-5)


def test_the_loss_of_a_classifier_that_knows_nothing():
    blank = jax.tree.map(jnp.zeros_like, digit_classifier())
    batch = {"image": TEST[:8], "label": jnp.arange(8)}
    value, terms = classifier.loss(blank, batch, jr.key(2))
    np.testing.assert_allclose(terms["digits"], np.log(10), rtol=1e-6)
    # Blends count where the labels differ, and here they all do.
    np.testing.assert_allclose(terms["none"], np.log(10), rtol=1e-6)
    expected = (1 + classifier.DOUBT) * np.log(10)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    same = batch | {"label": jnp.zeros(8, int)}
    none = classifier.loss(blank, same, jr.key(2))[1]["none"]
    np.testing.assert_allclose(none, np.log(10) / 2, rtol=1e-6)
