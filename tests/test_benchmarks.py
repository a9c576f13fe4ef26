import json
import math
from importlib.metadata import version

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from flax import nnx

from benchmarks import machine, provenance, published, recipes, speed, timing
from benchmarks.small_vae import (
    IMAGE,
    as_pytorch_initialises,
    linear_layers,
    loss,
    matmul_flops,
    mlp_vae,
    parameters,
    tx,
)
from vae_teach.data import Dataset, Split, load

FILES = sorted(provenance.RESULTS.glob("*-?pu.json"))  # what a Report writes


@pytest.fixture(scope="module")
def images():
    return jr.uniform(jr.key(0), (256, *IMAGE))


@pytest.fixture(scope="module")
def model():
    return mlp_vae(nnx.Rngs(0))


# The work of a step


def test_the_count_of_the_work_is_the_one_on_paper(model):
    assert parameters(model) == 652_824
    assert matmul_flops(model, 128) == 419_840_000


def test_the_count_of_the_work_is_that_of_the_compiler(model):
    gradient = jax.jit(jax.grad(lambda model, x: loss(model, x, jr.key(0))[0]))
    cost = gradient.lower(model, jnp.ones((128, *IMAGE))).cost_analysis()
    # The compiler also counts what is no matrix product: somewhat less than 1 %.
    assert 1 <= cost["flops"] / matmul_flops(model, 128) <= 1.02


def test_the_floor_of_a_step_by_hand():
    row = speed.floor(419_840_000, gflops=200.0, adam_ms=0.9, step_ms=4.0)
    np.testing.assert_allclose(row["products_ms"], 2.0992)
    np.testing.assert_allclose(row["share"], (2.0992 + 0.9) / 4)


def test_products_count_two_operations_for_each_multiply_add():
    job, flops = machine.products(3, 8, 5, 8, at_least=0.0)
    assert (job.units, flops) == (1, 2 * 3 * (8 * 5 + 5 * 8))
    assert job.run().shape == (3, 8)


def test_the_updates_alone_are_those_of_the_optimiser(model):
    moved, (adam, _) = machine.updates(model, tx, times=7).run()
    assert adam.count == 7
    before = jax.tree.leaves(nnx.state(model, nnx.Param))
    for a, b in zip(jax.tree.leaves(moved), before, strict=True):
        # Gradients keep their sign, so each of Adam's steps is about 1e-3.
        np.testing.assert_allclose(jnp.abs(a - b).max(), 7e-3, rtol=0.2)


# Timing


def test_jobs_take_turns_after_a_warm_up():
    runs = []
    jobs = {
        name: timing.Job(lambda name=name: runs.append(name) or jnp.zeros(()), 2)
        for name in "ab"
    }
    times = timing.interleaved(jobs, rounds=3)
    assert runs == list("ab" * 4)
    assert all(0 < t.min_ms <= t.median_ms for t in times.values())


def test_times_are_milliseconds_a_unit(monkeypatch):
    clock = iter([0.0, 9.0, 0.0, 1.0, 0.0, 4.0, 0.0, 3.0])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    times = timing.interleaved({"a": timing.Job(lambda: jnp.zeros(()), 10)}, rounds=3)
    assert times["a"] == (pytest.approx(100.0), pytest.approx(300.0))


def test_the_loop_does_the_work_of_fit(images):
    (row,) = speed.same_work(images).rows
    assert row["steps"] == 2
    assert row["largest_relative_difference"] <= 1e-5


# PyTorch's initialisation


def test_pytorch_draws_weights_and_biases_uniformly_within_its_bound(model):
    drawn = as_pytorch_initialises(model, jr.key(3))
    for layer in linear_layers(drawn):
        bound = 1 / math.sqrt(layer.in_features)
        for values in (layer.kernel[...], layer.bias[...]):
            n = values.size
            assert jnp.abs(values).max() <= bound
            # sd of U(-b, b): b/√3; its standard error: b/√15n, as E x⁴ = b⁴/5.
            assert abs(values.mean()) <= 4 * bound / math.sqrt(3 * n)
            error = abs(values.std() - bound / math.sqrt(3))
            assert error <= 4 * bound / math.sqrt(15 * n)


def test_initialising_leaves_the_model_and_depends_on_the_key(model):
    before = model.encoder.network.layers[0].kernel[...]
    one, other = (as_pytorch_initialises(model, jr.key(k)) for k in (0, 1))
    first = [m.encoder.network.layers[0].kernel[...] for m in (model, one, other)]
    np.testing.assert_array_equal(before, first[0])
    assert len({float(kernel[0, 0]) for kernel in first}) == 3


# What is written


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def test_a_report_is_whole_after_every_row(results):
    report = provenance.Report("some", rounds=2)
    file = results / f"some-{jax.default_backend()}.json"
    for n in (1, 2):
        report.add(number=n)
        content = json.loads(file.read_text())
        assert content["rows"][-1] == {"number": n}
        assert len(content["rows"]) == n
    assert content["rounds"] == 2
    assert [f.name for f in results.iterdir()] == [file.name]
    assert content["provenance"]["jax"] == version("jax")


def test_the_hash_of_the_data_is_of_its_bytes():
    a, b = (Split(np.full((2, 1, 1, 1), x, np.float32), None) for x in (0.2, 1.0))
    about = provenance.about_data(Dataset("some", a, b, "made here"))
    # Of the bytes 51, 51, 255, 255.
    expected = "17259e4e9f21aa306f955a95192e83a529b0fbf38636b5a57fa36f43f72f28c9"
    assert about["sha256"] == expected
    assert (about["train"], about["test"]) == (2, 2)


def test_a_run_gives_one_number_an_epoch(images):
    row = published.train(images, images[:100], "pytorch", seed=0, epochs=2)
    assert len(row["test_loss"]) == len(row["train_loss"]) == 2
    assert row["test_loss"][1] < row["test_loss"][0]


def test_the_gate_is_on_the_mean_of_pytorch_rows_alone():
    curve = [0.0, 0.0, 0.0, 109.7, 0.0, 0.0, 106.6, 0.0, 0.0]
    rows = [
        {"init": init, "test_loss": [*curve, last]}
        for init, last in [("pytorch", 105.4), ("pytorch", 106.4), ("other", 200.0)]
    ]
    found = {v["epoch"]: v for v in published.verdicts(rows)}
    assert found[10]["mean"] == pytest.approx(105.9)
    assert found[10]["sd"] == pytest.approx(math.sqrt(0.5))
    assert all(v["within"] for v in found.values())
    rows[0]["test_loss"][-1] = 106.0
    assert not published.verdicts(rows)[-1]["within"]


# Recipes


def test_a_recipe_is_judged_from_every_seed(images):
    recipe = recipes.BASE._replace(epochs=3, batch_size=64)
    row = recipes.train_all_seeds(recipe, images, images[:100])
    assert (row["steps"], row["parameters"]) == (
        12,
        parameters(recipes.mlp(nnx.Rngs(0))),
    )
    elbos = row["elbo"]
    assert len(set(elbos)) == len(row["active"]) == recipes.SEEDS
    # Sums of 784 pixels, negated: below 0, above coins with logits of some size.
    assert all(-784 < elbo < -200 for elbo in elbos)
    longer = recipes.train_all_seeds(recipe._replace(epochs=9), images, images[:100])
    assert min(longer["elbo"]) > max(elbos)


def test_seeds_at_once_are_seeds_one_by_one(images):
    recipe = recipes.BASE._replace(epochs=1, batch_size=64)
    at_once = recipes.train_all_seeds(recipe, images, images[:100])
    one_by_one = recipes.train_all_seeds(
        recipe._replace(scan=False), images, images[:100]
    )
    np.testing.assert_allclose(at_once["elbo"], one_by_one["elbo"], rtol=1e-4)


def test_a_recipe_that_fails_says_when(images):
    recipe = recipes.KNOBS["learning rate"]["0.1"]._replace(batch_size=32)
    row = recipes.train_all_seeds(recipe._replace(epochs=20), 50 * images, images)
    assert row["failed_at"] == 0
    assert "elbo" not in row


# The committed results


@pytest.mark.parametrize("name", ["published", "recipes", "speed"])
def test_every_benchmark_has_its_result_on_a_cpu(name):
    assert provenance.RESULTS / f"{name}-cpu.json" in FILES


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_result_says_how_it_was_made(file):
    content = json.loads(file.read_text())
    made = content["provenance"]
    assert made.keys() == provenance.provenance().keys()
    name, platform = file.stem.rsplit("-", 1)
    assert made["command"].startswith(f"python -m benchmarks.{name}")
    assert made["platform"] == platform
    assert all(made[key] for key in made.keys() - {"uncommitted", "commit", "load"})
    assert content["data"]["source"]
    assert len(content["data"]["sha256"]) == 64
    assert content["rows"]


def results_of(name):
    files = [file for file in FILES if file.stem.rsplit("-", 1)[0] == name]
    return pytest.mark.parametrize("file", files, ids=lambda file: file.stem)


@results_of("published")
def test_the_published_number_was_met(file):
    content = json.loads(file.read_text())
    data, rows = content["data"], content["rows"]
    assert (data["train"], data["test"]) == (60_000, 10_000)
    runs = [(row["init"], row["seed"]) for row in rows]
    assert runs == [(i, s) for i in published.INITS for s in published.SEEDS]
    for row in rows:
        assert len(row["test_loss"]) == len(row["train_loss"]) == published.EPOCHS
        assert 0 < row["seconds"] <= row["seconds_with_compilation"]
    assert all(verdict["within"] for verdict in published.verdicts(rows))


@results_of("speed")
def test_the_promised_speed_was_met(file, monkeypatch):
    monkeypatch.delenv("VAE_TEACH_DATA", raising=False)
    content = json.loads(file.read_text())
    assert content["data"] == provenance.about_data(load("mnist12k"))
    rows = content["rows"]
    (same,) = (row for row in rows if row["table"] == "same work")
    assert same["largest_relative_difference"] <= 1e-3
    assert speed.ratio_to_loop(rows) >= speed.LEAST_RATIO


@results_of("speed")
def test_a_step_takes_longer_than_its_floor(file, model):
    rows = json.loads(file.read_text())["rows"]
    best = max(row["gflops"] for row in rows if row["table"] == "products")
    floors = [row for row in rows if row["table"] == "floor"]
    assert [row["batch_size"] for row in floors] == list(speed.EPOCHS)
    for row in floors:
        flops = matmul_flops(model, row["batch_size"])
        again = speed.floor(flops, best, row["adam_ms"], row["min_ms"])
        assert {key: row[key] for key in again} == pytest.approx(again, rel=1e-4)
        assert 0 < row["share"] <= 1


def test_the_package_has_the_recipes_of_the_benchmark():
    results = json.loads((provenance.RESULTS / "recipes-cpu.json").read_text())
    assert json.loads(recipes.PACKAGED.read_text()) == results


@results_of("recipes")
def test_every_recipe_has_its_row(file, monkeypatch):
    monkeypatch.delenv("VAE_TEACH_DATA", raising=False)
    content = json.loads(file.read_text())
    assert content["data"] == provenance.about_data(load("mnist12k"))
    rows = [row for row in content["rows"] if row["table"] == "recipes"]
    expected = [(k, v) for k, knob in recipes.KNOBS.items() for v in knob]
    assert [(row["knob"], row["value"]) for row in rows] == expected
    for row in rows:
        recipe = recipes.KNOBS[row["knob"]][row["value"]]
        assert row["steps"] == 10_000 // recipe.batch_size * recipe.epochs
        if "failed_at" in row:
            assert row["failed_at"] < row["steps"]
            continue
        assert len(row["elbo"]) == len(row["active"]) == recipes.SEEDS
        assert np.isfinite(row["elbo"]).all()
        seconds = row["steps"] * row["step_ms"] / 1e3
        assert row["seconds"] == pytest.approx(seconds, rel=1e-4)


@results_of("recipes")
def test_networks_were_timed_at_every_size(file):
    rows = json.loads(file.read_text())["rows"]
    timed = [row for row in rows if row["table"] == "networks"]
    expected = [(name, side) for name in recipes.NETWORKS for side in recipes.SIDES]
    assert [(row["network"], row["side"]) for row in timed] == expected
    assert all(min(row["scan_ms"], row["loop_ms"]) > 0 for row in timed)
