import json

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from flax import nnx

from benchmarks import blur, provenance
from vae_teach.data import load
from vae_teach.distributions import FixedScale
from vae_teach.losses import mean_over_batch
from vae_teach.metrics import rate_and_distortion

FILES = sorted(provenance.RESULTS.glob("blur-?pu.json"))
SEEDLESS = {"table", "name", "images", "steps", "seconds", "cpu_seconds"}


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def content(request):
    return json.loads(request.param.read_text())


@pytest.fixture
def rows(content):
    return {(r["table"], r["name"]): r for r in content["rows"] if "name" in r}


def trained(rows):
    return {key: row for key, row in rows.items() if key[0] in blur.ROWS}


# How a row is judged


@pytest.fixture(scope="module")
def model():
    return blur.vae(nnx.Rngs(0), FixedScale(0.3))


@pytest.fixture(scope="module")
def digits():
    data = load("mnist12k")
    return jnp.asarray(data.test.images), jnp.asarray(data.test.labels)


def test_a_bound_is_the_elbo_of_the_refitted_gaussian(model, digits):
    test, labels = digits
    plain = blur.of_mean(model)
    variance, error = jnp.float32(0.3**2), jnp.float32(0.1)
    found = blur.of_images(plain, test, labels, variance, error, jr.key(2))
    key = jr.split(jr.key(2))[0]
    negative = mean_over_batch(blur.elbo)(model, test, key)[0]
    np.testing.assert_allclose(found["gaussian_elbo"], -negative, rtol=1e-5)
    refitted = blur.Refitted(plain, jnp.float32(0.3))
    exact = rate_and_distortion(refitted, test, jr.key(5))
    np.testing.assert_allclose(exact.rate, found["rate"], rtol=1e-5)
    np.testing.assert_allclose(exact.elbo, found["gaussian_elbo"], rtol=0.01)


def test_an_untrained_model_shows_gray(model, digits):
    """Nothing of the digits: a squared error above that of their mean, and no recall.

    Precision does not see it: in the features gray lies inside the ball of an outlier.
    """
    test, labels = digits
    variance, error = blur.errors(blur.of_mean(model), test, jr.key(0))
    found = blur.of_images(
        blur.of_mean(model), test, labels, variance, error, jr.key(2)
    )
    assert found["squared_error"] > test.var(0).sum()
    assert found["recognised"] < 0.3
    assert found["recall"] < 0.01


def test_the_mean_of_two_channels_is_the_first():
    model = blur.vae(nnx.Rngs(0), blur.FlooredScale(0.1), channels=2)
    z = jr.normal(jr.key(0), (blur.LATENTS,))
    mean = blur.of_mean(model).p_x(z).mean
    np.testing.assert_array_equal(mean, model.p_x(z).mean)
    assert mean.shape == blur.IMAGE
    assert ((mean > 0) & (mean < 1)).all()
    assert isinstance(model.decoder.family, blur.FlooredScale)  # left as it was


def test_pictures_come_back_from_their_packing():
    images = jr.uniform(jr.key(0), (3, 28, 28, 1))
    found = blur.unpacked(blur.packed(images))
    np.testing.assert_allclose(found, images[..., 0], atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize("row", ["equal rate/VAE-GAN", "own rate/sigma of each pixel"])
def test_a_row_is_trained_from_every_seed(row, digits, monkeypatch):
    """A short run has the columns of the long one, and another number a seed."""
    monkeypatch.setattr(blur, "JUDGED", 200)
    test, labels = (a[:200] for a in digits)
    train = jnp.asarray(load("mnist12k").train.images[:640])
    shown = blur.shown(digits[0], digits[1])
    monkeypatch.setattr(blur, "shown", lambda *given: shown)
    table, name = row.split("/")
    given = blur.ROWS[table][name]._replace(epochs=2)
    found = blur.of_row(given, train, test, labels)
    assert found["steps"] == 10
    for column in found.keys() - SEEDLESS:
        assert len(found[column]) == blur.SEEDS
    for column in ("rate", "squared_error", "sharpness", "gaussian_elbo"):
        assert len(set(found[column])) == blur.SEEDS
    assert blur.unpacked(found["images"]).shape == (12, 28, 28)


# The committed results


def test_the_package_has_the_rows_of_the_benchmark():
    results = json.loads((provenance.RESULTS / "blur-cpu.json").read_text())
    assert json.loads(blur.PACKAGED.read_text()) == results
    assert blur.PACKAGED.stat().st_size < 150_000


def test_every_row_is_there(content, rows, monkeypatch):
    monkeypatch.delenv("VAE_TEACH_DATA", raising=False)
    assert content["data"] == provenance.about_data(load("mnist12k"))
    expected = [(table, name) for table, part in blur.ROWS.items() for name in part]
    assert list(trained(rows)) == expected
    assert content["epochs"] == blur.EPOCHS
    for (table, name), row in trained(rows).items():
        given = blur.ROWS[table][name]
        assert row["steps"] == given.epochs * (10_000 // blur.BATCH_SIZE)
        for column in row.keys() - SEEDLESS:
            assert len(row[column]) == blur.SEEDS
            assert np.isfinite(row[column]).all()
        assert blur.unpacked(row["images"]).shape == (12, 28, 28)


def test_rates_were_held(content, rows):
    for (table, name), row in rows.items():
        if table == "equal rate":
            np.testing.assert_allclose(row["rate"], content["target"], atol=1)
        if name.endswith(" nats"):
            nats = float(name.split()[0])
            np.testing.assert_allclose(row["rate"], nats, atol=0.05 * nats + 0.5)


def test_a_bound_follows_from_its_errors_and_its_rate(rows):
    """-784/2 log 2πσ² - SSE/2σ² - rate, σ² the training split's squared error."""
    for row in trained(rows).values():
        squared, rate = np.array(row["squared_error"]), np.array(row["rate"])
        variance = np.array(row["train_squared_error"]) / 784
        expected = -392 * np.log(2 * np.pi * variance) - squared / 2 / variance - rate
        np.testing.assert_allclose(row["gaussian_elbo"], expected, atol=0.05)


def test_a_learned_variance_is_the_squared_error(rows):
    row = rows["own rate", "shared learned sigma"]
    mse = np.array(row["train_squared_error"]) / 784
    np.testing.assert_allclose(row["variance"], mse, rtol=0.01)


def test_a_learned_variance_beats_the_best_linear_model(content, rows):
    """A lower bound of one against the exact evidence of the other."""
    exact = rows["exact", "PPCA"]
    assert exact["latents"] == content["latents"]
    row = rows["own rate", "shared learned sigma"]
    assert min(row["own_elbo"]) > exact["log_likelihood"]


def test_the_best_linear_model_is_as_recorded(rows, digits, monkeypatch):
    monkeypatch.delenv("VAE_TEACH_DATA", raising=False)
    train = jnp.asarray(load("mnist12k").train.images)
    found = blur.of_ppca(train, digits[0])
    recorded = rows["exact", "PPCA"]["log_likelihood"]
    np.testing.assert_allclose(found["log_likelihood"], recorded, rtol=1e-3)


def test_the_same_squared_error_is_sharper_at_a_higher_rate(rows):
    held = {
        row["rate"][0]: row
        for (table, name), row in rows.items()
        if table == "squared error" or (table, name) == ("equal rate", "squared error")
    }
    in_order = [held[rate] for rate in sorted(held)]
    sharpness = np.array([row["sharpness"] for row in in_order])
    spread = sharpness.std(1, ddof=1).max()
    assert (sharpness[1:].mean(1) > sharpness[:-1].mean(1) - 3 * spread).all()
    assert sharpness[-1].min() > 1.5 * sharpness[0].max()


def test_samples_of_a_variance_for_each_pixel_are_noise(rows):
    row = rows["own rate", "sigma of each pixel"]
    assert min(row["noisy_sharpness"]) > 1.2 * max(row["sharpness"])
