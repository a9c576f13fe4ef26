"""The benchmark of rate and distortion: its judgements, a small run, its result."""

import json
from itertools import pairwise

import jax
import numpy as np
import pytest

from benchmarks import provenance
from benchmarks import rate_distortion as benchmark
from vae_teach.data import Dataset, Split, load

RESULT = provenance.RESULTS / "rate_distortion-cpu.json"


def terms(rate, distortion):
    return benchmark.Terms(np.asarray(rate, float), np.asarray(distortion, float))


def on_parabola(beta):
    """The exact minimiser of D + βR on the frontier D = (10 - R)²: D' = -β."""
    rate = 10 - beta / 2
    noise = np.linspace(-3, 3, 100)  # shared: no difference of two has any
    return terms(rate + 0 * noise, (10 - rate) ** 2 + noise)


# Judgements


@pytest.mark.parametrize(("low", "high"), [(0.5, 1.0), (1.0, 4.0)])
def test_exact_minimisers_pass(low, high):
    pair = benchmark.secant(on_parabola(low), low, on_parabola(high), high)
    assert benchmark.passes(pair)
    # (β₂² - β₁²)/4 over (β₂ - β₁)/2: half-way between the two.
    (r_1, r_2), (d_1, d_2) = pair["rates"], pair["distortions"]
    assert (d_2 - d_1) / (r_1 - r_2) == pytest.approx((low + high) / 2)
    assert pair["prefers_low"] == pytest.approx((high - low) ** 2 / 4)
    assert pair["prefers_high"] == pytest.approx((high - low) ** 2 / 4)
    assert pair["low_error"] == pytest.approx(0, abs=1e-12)


def test_a_point_off_the_frontier_fails_on_both_sides():
    off = on_parabola(1.0)._replace(distortion=on_parabola(1.0).distortion + 0.5)
    below = benchmark.secant(on_parabola(0.5), 0.5, off, 1.0)
    above = benchmark.secant(off, 1.0, on_parabola(1.5), 1.5)
    assert not benchmark.passes(below)
    assert not benchmark.passes(above)
    assert below["prefers_high"] < 0 < below["prefers_low"]
    assert above["prefers_low"] < 0 < above["prefers_high"]


def test_a_point_at_another_beta_fails():
    pair = benchmark.secant(on_parabola(0.5), 0.5, on_parabola(3.0), 1.0)
    assert not benchmark.passes(pair)


def test_within_two_standard_errors_passes():
    noisy = on_parabola(1.0)
    noise = np.tile([-1.0, 1.0], 50)
    noisy = noisy._replace(distortion=noisy.distortion + 0.1 + noise)
    pair = benchmark.secant(on_parabola(0.5), 0.5, noisy, 1.0)
    assert pair["high_error"] == pytest.approx(1 / np.sqrt(99))
    assert pair["prefers_high"] == pytest.approx(1 / 16 - 0.1)
    assert benchmark.passes(pair)
    assert not benchmark.passes(pair | {"high_error": 0.018})


def test_the_excess_is_the_least_over_the_curve():
    curve = {beta: on_parabola(beta) for beta in (0.5, 1.0, 2.0)}
    off = on_parabola(1.0)._replace(distortion=on_parabola(1.0).distortion + 0.25)
    found = benchmark.excess(off, curve)
    assert (found["beta"], found["nats"]) == (1.0, pytest.approx(0.25))
    assert found["error"] == pytest.approx(0, abs=1e-12)


def test_a_model_at_one_meets_its_neighbours():
    curve = {beta: on_parabola(beta) for beta in (0.25, 0.5, 1.0, 1.6, 4.0)}
    pairs = benchmark.secants_at_one(on_parabola(1.0), curve)
    assert [(low[1], high[1]) for low, high in pairs] == [(0.5, 1.0), (1.0, 1.6)]
    assert all(benchmark.passes(benchmark.secant(*a, *b)) for a, b in pairs)


def test_the_coins_are_thrown_once():
    data = few()
    (train, test), again = benchmark.coins(data), benchmark.coins(data)
    assert set(np.unique(train)) == {0, 1}
    np.testing.assert_array_equal(train, again[0])
    np.testing.assert_array_equal(test, again[1])
    # Means of coins with these probabilities: sd below ½/√(784 · 200).
    assert abs(train.mean() - data.train.images.mean()) < 4 * 0.5 / np.sqrt(train.size)


# A small run


def few(train=200, test=100):
    data = load("mnist12k")
    a, b = (
        Split(split.images[:n], None)
        for split, n in ((data.train, train), (data.test, test))
    )
    return Dataset("few", a, b, "the first digits of mnist12k")


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A run of few digits, two values of beta and one other model."""
    monkeypatch.setattr(provenance, "RESULTS", tmp_path)
    monkeypatch.setattr(benchmark, "PACKAGED", tmp_path / "packaged.json")
    monkeypatch.setattr(benchmark, "BETAS", (0.5, 1.0, 2.0))
    monkeypatch.setattr(benchmark, "SIZES", (20, 100))
    monkeypatch.setattr(benchmark, "JUDGED", 20)
    monkeypatch.setattr(benchmark, "SAMPLES", 10)
    short = {"two epochs": benchmark.OTHERS["two epochs"]}
    monkeypatch.setattr(benchmark, "OTHERS", short)
    benchmark.run(few(), seeds=1, epochs=3)
    return json.loads((tmp_path / "packaged.json").read_text())


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="packaged on a CPU")
def test_a_small_run_has_every_row_and_its_numbers_agree(small):
    assert small["data"]["train"] == 200
    check_rows(small, (0.5, 1.0, 2.0), ["two epochs"], (20, 100), {"two epochs"})


def check_rows(content, betas, others, sizes, same):
    rows, seeds = content["rows"], range(content["seeds"])
    table = {
        name: [row for row in rows if row["table"] == name]
        for name in ("points", "secants", "excess", "surgery")
    }
    points = {(r["name"], r.get("beta"), r["seed"]): r for r in table["points"]}
    expected = [("sweep", beta, seed) for seed in seeds for beta in betas]
    expected += [(name, None, seed) for name in others for seed in seeds]
    assert [*points] == expected
    for row in points.values():
        parts = row["surgery"]
        whole = parts["mutual_information"] + parts["marginal_kl"]
        assert parts["rate"] == pytest.approx(whole, abs=1e-3)
        rest = parts["total_correlation"] + parts["dimension_wise_kl"]
        assert parts["marginal_kl"] == pytest.approx(rest, abs=1e-3)
        ceiling = np.log(min(sizes[-1], content["data"]["test"]))
        assert parts["mutual_information"] <= ceiling + 1e-3
        bound = -(row["judged"]["rate"] + row["judged"]["distortion"])
        assert row["log_p"] - row["gap"] == pytest.approx(bound, abs=0.01)
    assert [(row["beta"], row["n"]) for row in table["surgery"]] == [
        (beta, n) for beta in betas for n in sizes
    ]
    assert [(row["name"], row["seed"]) for row in table["excess"]] == [
        (name, seed) for name in others for seed in seeds
    ]
    found = [(row["name"], row["seed"], *row["betas"]) for row in table["secants"]]
    at_one = {name: pairwise_at_one(betas) for name in others if name in same}
    assert found == [
        ("sweep", seed, *pair) for seed in seeds for pair in pairwise(betas)
    ] + [(name, seed, *p) for name in at_one for seed in seeds for p in at_one[name]]
    for row in table["secants"]:
        check_secant(row, points)


def pairwise_at_one(betas):
    at = betas.index(1.0)
    return [(betas[at - 1], 1.0), (1.0, betas[at + 1])]


def check_secant(row, points):
    """The margins from the means that the points have."""
    ends = []
    for beta, rate, distortion in zip(
        row["betas"], row["rates"], row["distortions"], strict=True
    ):
        other = row["name"] != "sweep" and beta == 1.0
        key = (row["name"], None) if other else ("sweep", beta)
        train = points[(*key, row["seed"])]["train"]
        assert train["rate"] == pytest.approx(rate, rel=1e-4)
        assert train["distortion"] == pytest.approx(distortion, rel=1e-4)
        ends.append((beta, rate, distortion))
    (beta_1, r_1, d_1), (beta_2, r_2, d_2) = ends
    rounding = 0.01
    prefers_low = d_2 - d_1 - beta_1 * (r_1 - r_2)
    prefers_high = beta_2 * (r_1 - r_2) - (d_2 - d_1)
    assert row["prefers_low"] == pytest.approx(prefers_low, abs=rounding)
    assert row["prefers_high"] == pytest.approx(prefers_high, abs=rounding)


# The committed result


@pytest.fixture(scope="module")
def result():
    return json.loads(RESULT.read_text())


def test_the_package_has_the_result(result):
    assert json.loads(benchmark.PACKAGED.read_text()) == result


def test_the_result_is_of_the_embedded_digits_and_whole(result, monkeypatch):
    monkeypatch.delenv("VAE_TEACH_DATA", raising=False)
    assert result["data"] == provenance.about_data(load("mnist12k"))
    assert result["seeds"] == benchmark.SEEDS
    same = {name for name, recipe in benchmark.OTHERS.items() if recipe.same}
    others = [*benchmark.OTHERS]
    check_rows(result, benchmark.BETAS, others, benchmark.SIZES, same)


def test_the_secants_find_the_runs_that_have_not_converged(result):
    secants = [row for row in result["rows"] if row["table"] == "secants"]
    failed = [
        (row["name"], row["seed"], *row["betas"])
        for row in secants
        if not benchmark.passes(row)
    ]
    # Both of each seed of the short run, and one run of the sweep that lost its units.
    short = [
        ("two epochs", seed, *pair)
        for seed in range(result["seeds"])
        for pair in pairwise_at_one(benchmark.BETAS)
    ]
    others = [pair for pair in failed if pair not in short]
    assert [pair for pair in failed if pair in short] == short
    assert [pair for pair in others if pair[0] == "sweep"] == [("sweep", 0, 4.0, 8.0)]


def test_the_run_that_failed_is_worse_than_those_of_other_seeds(result):
    losses = [
        row["train"]["distortion"] + 8 * row["train"]["rate"]
        for row in result["rows"]
        if row["table"] == "points" and row.get("beta") == 8.0
    ]
    assert losses[0] > 3 + max(losses[1:])


def test_the_rate_of_the_sweep_falls_with_beta(result):
    for seed in range(result["seeds"]):
        rates = [
            row["train"]["rate"]
            for row in result["rows"]
            if row["table"] == "points" and row["name"] == "sweep"
            if row["seed"] == seed
        ]
        assert all(high < low for low, high in pairwise(rates))
