"""The benchmark of few labels: its judgements, small pieces, its committed result."""

import json

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from flax import nnx
from sklearn.metrics import adjusted_mutual_info_score, mutual_info_score

from benchmarks import few_labels as benchmark
from benchmarks import joint_latents as joint
from benchmarks import provenance
from vae_teach.data import load
from vae_teach.networks import MLP
from vae_teach.semi_supervised import UNKNOWN

RESULT = provenance.RESULTS / "few_labels-cpu.json"


def one_hot(classes):
    return np.eye(10)[np.asarray(classes)]


# Judgements


def test_renamed_classes_agree_fully():
    y = np.arange(2000) % 10
    found = joint.agreement(one_hot((7 * y + 3) % 10), y)
    assert found["accuracy"] == 1
    assert found["nmi"] == pytest.approx(1)
    assert found["information"] == pytest.approx(np.log(10))
    assert found["about_class"] == pytest.approx(np.log(10), abs=0.03)
    assert found["categories"] == 10


def test_a_constant_choice_says_nothing():
    y = np.arange(2000) % 10
    found = joint.agreement(one_hot(np.full(2000, 4)), y)
    assert found["accuracy"] == pytest.approx(0.1)
    assert found["information"] == pytest.approx(0, abs=1e-9)
    assert found["about_class"] == pytest.approx(0, abs=1e-9)
    assert found["categories"] == 1


def test_two_classes_to_a_category():
    """Five categories of ten classes: half are right, log 5 nats are told."""
    y = np.arange(2000) % 10
    found = joint.agreement(one_hot(y // 2), y)
    assert found["accuracy"] == pytest.approx(0.5)
    assert found["information"] == pytest.approx(np.log(5))
    # scikit-learn's plug-in estimate, less the bias that we subtract.
    rough = mutual_info_score(y, y // 2)
    assert found["about_class"] == pytest.approx(rough, abs=0.03)
    assert found["nmi"] == pytest.approx(2 * np.log(5) / np.log(50), rel=1e-6)
    assert adjusted_mutual_info_score(y, y // 2) < 1


def test_bias_and_spread_of_known_draws():
    rng = np.random.default_rng(0)
    exact = rng.normal(size=(8, 10))
    draws = exact[:, None] * 1.5 + 0.2 * rng.normal(size=(8, 4000, 10))
    found = joint.bias_and_spread(exact, draws)
    length = np.sqrt((exact**2).sum())
    assert found["bias"] == pytest.approx(0.5, abs=0.01)
    assert found["spread"] == pytest.approx(0.2 * np.sqrt(80) / length, rel=0.02)


def test_the_score_function_has_no_bias_and_hot_draws_have(monkeypatch):
    monkeypatch.setattr(joint, "DRAWS", 400)
    model = joint.joint_vae(nnx.Rngs(0), latents=2)
    # Weights of a decoder to which the category matters.
    model.decoder.network.layers[0].kernel[...] *= 3
    x, logits = jr.uniform(jr.key(0), (3, *joint.SHAPE)), jnp.zeros((3, 10))
    run = jax.jit(joint.estimates)
    exact, (hot, _, score) = run(model, x, logits, 5.0, jr.key(1))
    np.testing.assert_allclose(exact.sum(1), 0, atol=1e-3)
    assert joint.bias_and_spread(exact, hot)["bias"] > 0.5
    of_score = joint.bias_and_spread(exact, score)
    assert of_score["bias"] < 4 * of_score["spread"] / np.sqrt(400)


# Pieces


@pytest.fixture(scope="module")
def train():
    return joint.digits(load("mnist12k"), 400)[0]


def test_the_encoder_of_two_inputs_is_an_mlp_of_both():
    encoder = benchmark.LabelledEncoder(6, rngs=nnx.Rngs(0))
    pixels = joint.SHAPE[0] * joint.SHAPE[1]
    mlp = MLP(pixels + 10, joint.HIDDEN, 6, rngs=nnx.Rngs(1))
    both = [encoder.of_image.kernel[...], encoder.of_class.kernel[...]]
    mlp.layers[0].kernel[...] = jnp.concatenate(both)
    mlp.layers[0].bias[...] = encoder.of_image.bias[...]
    mlp.layers[1].kernel[...] = encoder.out.kernel[...]
    x, y = jr.normal(jr.key(0), joint.SHAPE), jnp.eye(10)[3]
    np.testing.assert_allclose(encoder(x, y), mlp(x, y), rtol=1e-3, atol=1e-4)


def test_labelled_digits_are_repeated_and_nothing_leaks(train):
    kept, rows = benchmark.labelled(train, 0, 2)
    assert len(rows) == 20
    x, y = benchmark.tiled(train, kept, rows)
    assert (y != UNKNOWN).sum() == benchmark.TILED
    np.testing.assert_array_equal(x[: len(train.x)], train.x)
    known = np.asarray(y) != UNKNOWN
    seen = {image.tobytes() for image in np.asarray(x)[known]}
    assert seen == {np.asarray(train.x[row]).tobytes() for row in rows}


def test_the_network_learns_its_labels_and_an_svm_of_pixels_too(train):
    kept, rows = benchmark.labelled(train, 1, 2)
    network = benchmark.supervised(train, kept, rows, 1, (1e-4, 0.0, 60))
    svm = benchmark.of_pixels(lambda C: benchmark.SVC(C=C), train, kept, rows, 1, 10.0)
    for predict in (network, svm):
        right = predict(train.x) == np.asarray(train.y)
        assert right[rows].mean() > 0.9
        assert 0.3 < np.delete(right, rows).mean() < 0.9


# The committed result


@pytest.fixture(scope="module")
def result():
    return json.loads(RESULT.read_text())


def table(result, name):
    return [row for row in result["rows"] if row["table"] == name]


def test_the_package_has_the_result(result):
    assert json.loads(benchmark.PACKAGED.read_text()) == result


def test_the_result_is_of_the_embedded_digits_and_whole(result, monkeypatch):
    monkeypatch.delenv("VAE_TEACH_DATA", raising=False)
    assert result["data"] == provenance.about_data(load("mnist12k"))
    expected = json.loads(json.dumps(benchmark.settings()))
    assert {name: result[name] for name in expected} == expected
    found = [(row["method"], row["labels"]) for row in table(result, "labels")]
    assert found == [(m, 10 * n) for n in benchmark.PER_CLASS for m in benchmark.GRIDS]
    assert [row["name"] for row in table(result, "joint")] == [*joint.variants()]
    stages = [(row["stage"], row["temperature"]) for row in table(result, "gradients")]
    assert stages == [
        (s, t) for s in ("uniform", "trained") for t in joint.TEMPERATURES
    ]


def test_every_method_took_the_best_of_its_grid(result):
    for row in table(result, "labels"):
        tried = [r for r in table(result, "tuning") if r["method"] == row["method"]]
        assert len(tried) == len(benchmark.GRIDS[row["method"]])
        best = max(tried, key=lambda r: np.mean(r["accuracy"]))
        assert row["setting"] == best["setting"]
        times = benchmark.PER_CLASS[row["labels"] // 10]
        assert len(row["accuracy"]) == times * result["seeds"]


def test_unlabelled_digits_help_at_a_hundred_labels(result):
    found = {
        row["method"]: np.array(row["accuracy"])
        for row in table(result, "labels")
        if row["labels"] == 100
    }
    for name in ("network", "logistic regression", "nearest neighbour", "SVM"):
        lead = found["M2"] - found[name]
        assert lead.mean() > 3 * lead.std(ddof=1) / np.sqrt(len(lead))


def test_rates_and_information_of_joint_latents_agree(result):
    for row in table(result, "joint"):
        assert len(row["elbo"]) == result["seeds"]
        if "discrete" not in row:
            continue
        parts = np.array(row["continuous"]) + row["discrete"]
        np.testing.assert_allclose(row["rate"], parts, atol=2e-3)
        assert (np.array(row["information"]) <= np.array(row["discrete"]) + 1e-3).all()
        assert (np.array(row["discrete"]) <= np.log(10) + 1e-3).all()


def test_a_free_category_is_empty_and_a_target_is_met_by_a_constant(result):
    rows = {row["name"]: row for row in table(result, "joint")}
    assert max(rows["joint, τ = 0.67"]["discrete"]) < 0.3
    assert min(rows["continuous 2, discrete 2"]["discrete"]) > 1.5
    assert max(rows["continuous 2, discrete 2"]["information"]) < 0.5
    assert min(rows["continuous 2, summed"]["information"]) > 1
