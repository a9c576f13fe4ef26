"""The benchmark of collapse predicted before training: its parts, and its result."""

import json

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from flax import nnx

from benchmarks import collapse, provenance
from vae_teach import metrics, theory
from vae_teach.bounds import elbo
from vae_teach.data import load
from vae_teach.linear import water_filling

FILE = provenance.RESULTS / "collapse-cpu.json"
VALUES = np.array([4.0, 2.5, 1.6, 1.58, 0.7, 0.4, 0.2, 0.1])


@pytest.fixture(scope="module")
def content():
    return json.loads(FILE.read_text())


@pytest.fixture(scope="module")
def centred():
    """Data whose mean is 0 and whose covariance is diag(VALUES), to rounding."""
    x = np.asarray(jr.normal(jr.key(0), (512, len(VALUES))), np.float64)
    x -= x.mean(0)
    x = x @ np.linalg.inv(np.linalg.cholesky(x.T @ x / len(x))).T
    return jnp.asarray(x * np.sqrt(VALUES), jnp.float32)


@pytest.fixture(scope="module")
def model():
    """A linear VAE that is no optimum: every part of its loss counts."""
    model = collapse.linear_vae(nnx.Rngs(0), len(VALUES), 4)
    model.encoder.network.log_variance[...] = jnp.array([-1.0, 0.3, -0.2, -2.0])
    return model


# The loss and the law


@pytest.mark.parametrize("beta", [1.0, 6.0])
def test_loss_on_the_covariance_is_the_mean_over_data_and_q(model, centred, beta):
    batch = jnp.asarray(VALUES, jnp.float32)[None]
    value, terms = collapse.exact_elbo(model, batch, jr.key(0), beta=beta)
    draws = 64
    bound = jax.vmap(lambda x, k: elbo(model, x, k, beta=beta), (0, 0))
    keys = jr.split(jr.key(1), (draws, len(centred)))
    values, found = jax.jit(jax.vmap(bound, (None, 0)))(centred, keys)
    means = values.mean(1)
    error = float(means.std(ddof=1)) / draws**0.5
    assert abs(float(means.mean() - value)) <= 4 * error < 0.02 * value
    np.testing.assert_allclose(found["rate"].mean(), terms["rate"], rtol=1e-4)


def test_rates_from_the_covariance_are_those_of_the_data(model, centred):
    found = collapse.rates_of(model, VALUES, rotate=False)
    expected = np.sort(metrics.rate_per_unit(model, centred))[::-1]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_rotation_of_the_latents_is_undone(model):
    """Of the best linear VAE, turned: the rates of the principal axes come back."""
    level, values = 1.2, np.asarray(VALUES)
    kept = np.sqrt(np.maximum(values[:4] - level, 0))
    decode = np.eye(4, len(values)) * kept[:, None]
    encode = np.eye(len(values), 4) * (kept / np.maximum(values[:4], level))
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    turned = nnx.clone(model)
    turned.encoder.network.mean.kernel[...] = jnp.asarray(encode @ turn, jnp.float32)
    turned.decoder.network.kernel[...] = jnp.asarray(turn.T @ decode, jnp.float32)
    # The posterior of all four is no longer diagonal, so only the means are turned.
    turned.encoder.network.log_variance[...] = jnp.zeros(4)
    straight = 0.5 * (encode**2 * values[:, None]).sum(0)
    found = collapse.rates_of(turned, values, rotate=True)
    np.testing.assert_allclose(found, np.sort(straight)[::-1], atol=1e-5)
    assert np.abs(collapse.rates_of(turned, values, rotate=False) - found).max() > 0.01


def test_each_line_is_in_the_middle_of_a_wide_gap():
    found = collapse.lines(VALUES, 4)
    assert list(found) == [0, 1, 2, 4]  # 1.6 and 1.58 are too close
    for n, level in found.items():
        assert (level < VALUES).sum() == n
        nearest = min(np.maximum(VALUES / level, level / VALUES))
        assert nearest >= collapse.GAP**0.5 * 0.999999


# A tiny run of all of it


def test_linear_vae_is_trained_to_its_prediction():
    rows = collapse.linear_rows(VALUES, 2, 1e-2, marks=(20, 2500), latents=4)
    assert [row["predicted"] for row in rows] == [0, 1, 2, 4]
    for row in rows:
        assert np.shape(row["active"]) == (2, 2)
        assert {active[-1] for active in row["active"]} == {row["predicted"]}
        expected = np.tile(row["predicted_rates"], (2, 1))
        np.testing.assert_allclose(row["rotated"], expected, atol=0.02)
        predicted = row["predicted_squared_error"]
        np.testing.assert_allclose(row["squared_error"], predicted, rtol=0.01)
    # At first all are in use.
    assert rows[0]["active"][0][0] == 4


def test_deep_vae_is_counted_for_every_beta_and_seed():
    images = jr.uniform(jr.key(0), (128, 28, 28, 1))
    rows = collapse.deep_rows(images, images[:64], 2, betas=(0.5, 400.0), epochs=60)
    for row in rows:
        assert row["above"] == theory.predict_active_units(images, 0.5, row["beta"])
        for name in ("active", "active_units", "rate", "squared_error"):
            assert len(row[name]) == 2
        np.testing.assert_allclose(np.sum(row["rates"], 1), row["rate"], rtol=1e-4)
    assert min(rows[0]["active"]) > max(rows[1]["active"])


def test_squared_error_is_that_of_a_draw_of_z():
    images = jr.uniform(jr.key(2), (400, 28, 28, 1))
    model = collapse.deep_vae(nnx.Rngs(0))

    def one(x, key):
        return ((x - model.p_x(model.q_z(x).sample(key)).mean) ** 2).sum()

    errors = jax.jit(jax.vmap(one))(images, jr.split(jr.key(3), 400))
    margin = 4 * 2**0.5 * float(errors.std()) / 20
    found = collapse.squared_error(model, images)
    assert abs(found - float(errors.mean())) <= margin < 0.1 * found


# The committed result


def rows_of(content, table):
    return [row for row in content["rows"] if row["table"] == table]


def test_the_package_has_the_result_of_the_benchmark(content):
    assert json.loads(collapse.PACKAGED.read_text()) == content


def test_the_result_has_every_row(content, monkeypatch):
    monkeypatch.delenv("VAE_TEACH_DATA", raising=False)
    data = load("mnist12k")
    assert content["data"] == provenance.about_data(data)
    assert content["commands"].keys() == {"linear", "deep", "longer"}
    for made in content["commands"].values():
        assert made["command"].startswith("python -m benchmarks.collapse")
    values = theory.spectrum(data.train.images.reshape(10_000, -1)).eigenvalues
    np.testing.assert_allclose(
        content["eigenvalues"], values[: collapse.COMPONENTS], rtol=1e-4
    )
    levels = collapse.lines(values)
    assert len(levels) >= 10
    assert min(levels) == 0
    linear, deep = rows_of(content, "linear"), rows_of(content, "deep")
    assert [row["learning_rate"] for row in linear] == [
        rate for rate in collapse.RATES for _ in levels
    ]
    for row, n in zip(linear, [*levels] * len(collapse.RATES), strict=True):
        assert row["predicted"] == n
        assert row["level"] == pytest.approx(levels[n], rel=1e-4)
    longer = rows_of(content, "longer")
    assert tuple(row["beta"] for row in deep) == collapse.BETAS
    assert tuple(row["beta"] for row in longer) == collapse.LONGER
    for row in linear + deep + longer:
        assert len(row["active"]) == len(row["rates"]) == content["seeds"] >= 3
        filled = water_filling(values, row["level"], collapse.LATENTS)
        expected = filled.rates[: collapse.LATENTS]
        np.testing.assert_allclose(row["predicted_rates"], expected, atol=1e-4)
        assert row["level"] == pytest.approx(
            row["beta"] * content["variance"], rel=1e-5
        )


def test_the_linear_vae_came_to_what_was_predicted(content):
    assert content["marks"][-1] == 20_000
    for row in rows_of(content, "linear"):
        for seed in range(content["seeds"]):
            rates = np.array(row["rates"][seed])
            counted = row["active"][seed][-1]
            assert counted == (rates > content["threshold"]).sum()
            assert abs(counted - row["predicted"]) <= 1
            total = sum(row["predicted_rates"])
            assert rates.sum() == pytest.approx(total, rel=0.03, abs=1e-3)
            rotated = np.array(row["rotated"][seed])
            assert np.abs(rotated - row["predicted_rates"]).max() <= 0.05
            error = row["predicted_squared_error"]
            # Squared errors were added up over COMPONENTS directions alone.
            assert row["squared_error"][seed] == pytest.approx(error, rel=0.01)


def test_collapse_took_time(content):
    """More latents are in use early on, and the slower rate needs more steps."""
    marks = content["marks"]
    for row in rows_of(content, "linear"):
        counts = np.array(row["active"])
        assert (counts[:, 0] >= counts[:, -1]).all()
    late = {
        rate: sum(
            np.abs(
                np.array(row["active"])[:, marks.index(4000)] - row["predicted"]
            ).sum()
            for row in rows_of(content, "linear")
            if row["learning_rate"] == rate
        )
        for rate in collapse.RATES
    }
    fast, slow = (late[rate] for rate in collapse.RATES)
    assert slow > fast


def test_the_law_counts_the_eigenvalues_for_the_deep_vae_too(content):
    values = np.array(content["eigenvalues"])
    for row in rows_of(content, "deep") + rows_of(content, "longer"):
        assert row["above"] == (values > row["level"]).sum()
        assert row["predicted"] == min(row["above"], content["latents"])
        for seed, rates in enumerate(row["rates"]):
            counted = (np.array(rates) > content["threshold"]).sum()
            assert row["active"][seed] == counted
            assert sum(rates) == pytest.approx(row["rate"][seed], rel=1e-3, abs=1e-4)


def test_the_deep_vae_errs_less_than_the_law_and_trains_on(content):
    """Where its latents tell something: a curved decoder does more with them."""
    short = {row["beta"]: row for row in rows_of(content, "deep")}
    for row in rows_of(content, "longer"):
        before = np.array(short[row["beta"]]["squared_error"])
        assert (np.array(row["squared_error"]) < before).all()
    for row in short.values():
        if row["level"] <= 2.25:
            assert max(row["squared_error"]) < row["predicted_squared_error"]
