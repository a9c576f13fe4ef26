"""The benchmark of disentanglement: its tables, its rules, a small run, its result."""

import json
from itertools import pairwise

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from flax import nnx

from benchmarks import disentanglement as benchmark
from benchmarks import provenance, seed_tables
from benchmarks import sprite_probes as probes
from benchmarks import sprite_scores as judge
from benchmarks import sprite_vae as recipe
from vae_teach import metrics, sprites
from vae_teach.data import Dataset, Split, load
from vae_teach.distributions import Bernoulli
from vae_teach.training import Step

RESULT = provenance.RESULTS / "disentanglement-cpu.json"


def table(score):
    """Rows of three methods, two strengths of each and five seeds."""
    return [
        {"method": m, "strength": s, "seed": n, "mig": float(score(k, s, n))}
        for k, m in enumerate("abc")
        for s in (1.0, 2.0)
        for n in range(5)
    ]


# What the names of a model explain


def test_a_score_that_only_the_method_sets():
    shares = seed_tables.variance_shares(table(lambda k, s, n: k), "mig")
    assert shares["method"]["r2"] == pytest.approx(1)
    assert shares["strength"]["r2"] == pytest.approx(1)
    assert shares["seed"]["r2"] == pytest.approx(0)
    assert shares["rest"] == pytest.approx(0)
    assert shares["method"]["high"] < 1


def test_a_score_that_only_the_seed_sets():
    shares = seed_tables.variance_shares(table(lambda k, s, n: n), "mig")
    assert shares["method"]["r2"] == pytest.approx(0)
    assert shares["seed"]["r2"] == pytest.approx(1)
    assert shares["rest"] == pytest.approx(1)


def test_shares_of_a_sum_are_the_variances_of_its_terms():
    # Var of {0, 1, 2}, of {1, 2} and of {0, ..., 4}: 2/3, 1/4 and 2, all crossed.
    found = seed_tables.variance_shares(table(lambda k, s, n: k + s + n), "mig")
    total = 2 / 3 + 1 / 4 + 2
    assert found["method"]["r2"] == pytest.approx(2 / 3 / total)
    assert found["strength"]["r2"] == pytest.approx((2 / 3 + 1 / 4) / total)
    assert found["seed"]["r2"] == pytest.approx(2 / total)
    assert found["rest"] == pytest.approx(2 / total)


def test_groups_of_noise_explain_what_chance_says_and_nothing_adjusted():
    rng, labels = np.random.default_rng(0), np.arange(80) % 16
    found = [seed_tables.explained(rng.normal(size=80), labels) for _ in range(20)]
    assert found[0]["chance"] == pytest.approx(15 / 79)
    for name, expected in (("r2", 15 / 79), ("adjusted", 0.0)):
        values = [one[name] for one in found]
        error = np.std(values, ddof=1) / np.sqrt(len(values))
        assert abs(np.mean(values) - expected) < 3 * error
    # R² is Beta(15/2, 64/2) for normal values; a quantile of 1000 draws is good to 5 %.
    from scipy.stats import beta

    assert found[0]["high"] == pytest.approx(beta(7.5, 32).ppf(0.95), rel=0.05)


def test_the_median_seed_has_as_many_above_as_below():
    rows = [{"seed": n, "mig": m} for n, m in enumerate((0.3, 0.1, 0.5, 0.2, 0.4))]
    assert seed_tables.best_and_median(rows, "mig") == (2, 0)
    assert seed_tables.best_and_median(rows[:4], "mig") == (2, 3)


def test_the_order_is_hidden_where_the_spread_covers_the_difference():
    rows = table(lambda k, s, n: (0, 0.1, 5)[k] + 0.3 * n)
    pairs = seed_tables.neighbours(seed_tables.best_strengths(rows, "mig"), "mig")
    assert [(p["first"][0], p["second"][0]) for p in pairs] == [("c", "b"), ("b", "a")]
    assert [pair["hidden"] for pair in pairs] == [False, True]
    assert pairs[1]["difference"] == pytest.approx(0.1)
    # sd of 0.3 x (0..4) is 0.3 √2.5, and each mean is of five.
    assert pairs[0]["se"] == pytest.approx(0.3 * np.sqrt(2.5 / 5 * 2))


def test_welch_is_that_of_scipy():
    from scipy.stats import ttest_ind

    rng = np.random.default_rng(0)
    for shift, size in ((0, 5), (1, 5), (1, 9)):
        a, b = rng.normal(size=5), shift + 3 * rng.normal(size=size)
        expected = ttest_ind(a, b, equal_var=False).pvalue
        assert seed_tables.welch(a, b) == pytest.approx(expected)


def test_methods_without_any_spread_are_hidden_only_where_equal():
    rows = table(lambda k, s, n: min(k, 1))
    pairs = seed_tables.neighbours(seed_tables.best_strengths(rows, "mig"), "mig")
    assert [pair["hidden"] for pair in pairs] == [True, False]


def test_the_best_strength_of_a_method_is_that_of_the_highest_mean():
    rows = table(lambda k, s, n: k + (s if k == 1 else -s) + n)
    assert [*seed_tables.best_strengths(rows, "mig")] == [
        ("a", 1.0),
        ("b", 2.0),
        ("c", 1.0),
    ]


def test_a_criterion_may_rank_methods_and_not_seeds():
    rows = table(lambda k, s, n: 10 * k + n)
    rows = [
        row | {"elbo": 10 * "abc".index(row["method"]) - row["seed"]} for row in rows
    ]
    found = seed_tables.ranks(rows, "elbo", "mig", 1)
    assert found["rho"] > 0.7
    assert found["within"]["mean"] == pytest.approx(-1)
    assert found["pick"] == 20
    assert found["above"] == pytest.approx(20 / 29)
    turned = seed_tables.ranks(rows, "elbo", "mig", -1)
    assert turned["within"]["mean"] == pytest.approx(1)
    assert turned["rho"] == pytest.approx(-found["rho"])


# One latent for a factor


def test_one_latent_moves_a_factor_only_if_it_is_alone_and_knows_it():
    nmi = np.array(
        [
            # clear, too low, second too high, just both, twice over
            [0.9, 0.45, 0.8, 0.1, 0.9],
            [0.1, 0.10, 0.5, 0.3, 0.9],
            [0.2, 0.00, 0.1, 0.6, 0.0],
        ]
    )
    assert judge.moved(nmi) == [0, None, None, 2, None]


def test_identity_moves_each_factor_and_turned_latents_none():
    factors = load("sprites").train.factors
    codes = (factors - factors.mean(0)) / factors.std(0)
    nmi = judge.normalised(codes, factors)
    np.testing.assert_allclose(np.diag(nmi), 1, atol=0.01)
    assert judge.moved(nmi) == [0, 1, 2, 3, 4]
    turned = codes.copy()
    turned[:, 3:] = codes[:, 3:] @ np.array([[1, 1], [-1, 1]]) / np.sqrt(2)
    found = judge.moved(judge.normalised(turned, factors))
    assert found == [0, 1, 2, None, None]


def test_rotation_is_looked_for_within_each_shape():
    factors = load("sprites").train.factors
    shape, turned = factors[:, 0], factors[:, 2].astype(float)
    # Turned one way or the other by shape, and not at all for the ellipse.
    codes = np.select([shape == 0, shape == 1], [turned, 0 * turned], -turned)
    found = judge.rotation(np.stack([codes, 0 * codes], 1), factors)
    np.testing.assert_allclose(found, [1, 0, 1], atol=0.02)


def test_the_nearest_code_has_a_rotation_one_step_away_where_the_code_has_rotations():
    data = load("sprites")
    factors = np.concatenate([data.train.factors, data.test.factors])
    angle = factors[:, 2] / 10 * np.where(factors[:, 0] == 0, 2 * np.pi, np.pi)
    others = 100 * np.delete(factors, 2, 1)
    turns = np.stack([np.cos(angle), np.sin(angle)], 1)
    knows = judge.nearest(np.hstack([others, turns]), factors, len(data.train.factors))
    assert knows["same"] == 1
    # Not all: the two next to it, or the one of an end, may be test sprites.
    assert (knows["turned"] > 0.9).all()
    noise = np.random.default_rng(0).normal(size=turns.shape)
    blind = judge.nearest(np.hstack([others, noise]), factors, len(data.train.factors))
    assert blind["same"] == 1
    error = np.sqrt(0.2 * 0.8 / 256)
    np.testing.assert_allclose(blind["turned"], [2 / 9, 0.2, 0.2], atol=3 * error)


def test_a_square_looks_the_same_after_a_quarter_turn_and_no_other_does():
    tenth = sprites.SIZES["rotation"] // 4  # the first rotation that load() leaves out
    for shape, same in ((0, True), (1, False), (2, False)):
        start, end = sprites.render(
            sprites.factors(shape=[shape], scale=[5], rotation=[0, tenth], x=[9], y=[9])
        )
        assert (abs(start - end).max() < 0.3) == same


def test_total_correlation_leaves_collapsed_units_out():
    z = np.random.default_rng(0).normal(size=(500, 2))
    flat = np.full((500, 1), 0.1)
    same = judge.total_correlation(z)
    assert judge.total_correlation(np.hstack([z, flat])) == pytest.approx(same)
    assert judge.total_correlation(np.hstack([z[:, :1], flat])) == 0


def test_the_least_distortion_is_that_of_a_decoder_that_knows_the_image():
    images = load("sprites").test.images[:50]
    x = jnp.asarray(images).clip(1e-7, 1 - 1e-7)
    exact = Bernoulli(jnp.log(x) - jnp.log1p(-x))
    distortion = -exact.log_prob(jnp.asarray(images)) / 50
    assert judge.entropy(images) == pytest.approx(float(distortion), abs=0.01)


# The recipes


def few(train=192, test=96):
    whole = load("sprites")
    parts = [
        Split(s.images[:n], s.labels[:n], s.factors[:n])
        for s, n in ((whole.train, train), (whole.test, test))
    ]
    return Dataset("few", *parts, "some sprites", whole.factor_names)


def test_the_last_hidden_layer_is_small_enough_for_a_page():
    layers = recipe.vae(nnx.Rngs(0)).decoder.network.layers
    assert layers[-1].kernel.shape == (64, 1024)


def test_a_seed_has_one_start_in_every_method_and_strength():
    images, seen = few().train.images, {}
    nothing = Step(
        lambda model, **weights: jnp.zeros(()),
        lambda model, state, batch, key: (model, state, {"loss": state}),
    )
    for method in ("β-VAE", "DIP-VAE-II"):
        strengths = recipe.METHODS[method].strengths[:2]
        still = recipe.METHODS[method]._replace(step=lambda *_: nothing)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(recipe.METHODS, method, still)
            found = recipe.train(method, strengths, (0, 1), images, 1)
        seen |= {(method, *name): model for name, model in found.items()}
    for seed in (0, 1):
        first = recipe.vae(nnx.Rngs(jr.split(jr.key(seed), 3)[0]))
        for name, model in seen.items():
            if name[-1] == seed:
                jax.tree.map(np.testing.assert_array_equal, first, model)


def test_a_saved_model_comes_back(tmp_path):
    model = recipe.vae(nnx.Rngs(3))
    path = recipe.saved_as(tmp_path, "β-VAE", 4.0, 2)
    recipe.save(path, model, 1.5)
    again, seconds = recipe.restore(path)
    jax.tree.map(np.testing.assert_array_equal, model, again)
    assert (path.name, seconds) == ("β-VAE-4-2.npz", 1.5)


# The probes


def test_a_probe_finds_a_shape_that_only_pairs_of_latents_tell():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(1200, 3))
    shapes = (z[:, 0] * z[:, 1] > 0).astype(int)
    halves = z[::2], z[1::2], shapes[::2], shapes[1::2]
    found = probes.probe(*halves)
    assert found["forest"] > 0.9
    assert abs(found["linear"] - 0.5) < 3 * np.sqrt(0.25 / 600)


def test_the_latent_that_knows_the_shape_best_is_left_out():
    nmi = [[0.1, 0.9], [0.5, 0.0], [0.2, 0.3]]
    codes = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(probes.without_best(codes, nmi), [[0, 2], [3, 5]])


# A small run

METHODS = ("β-VAE", "FactorVAE")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A run of few sprites, two methods and two seeds, and the folder of its models."""
    folder = tmp_path_factory.mktemp("small")
    packaged = folder / "packaged.json"
    methods = {
        name: recipe.METHODS[name]._replace(
            strengths=recipe.METHODS[name].strengths[:1]
        )
        for name in METHODS
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provenance, "RESULTS", folder)
        patch.setattr(benchmark, "PACKAGED", packaged)
        patch.setattr(judge, "SURGERY", 100)
        patch.setattr(judge, "EVERY", 1)
        patch.setattr(probes, "TREES", 5)
        patch.setattr(benchmark, "REMOVED", {"shape removed": 1.0})
        patch.setattr(recipe, "METHODS", methods)
        benchmark.run(few(), seeds=2, epochs=1, save=folder / "models")
    return json.loads(packaged.read_text()), folder / "models"


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="packaged on a CPU")
def test_a_small_run_has_every_row_and_its_numbers_agree(small):
    check_rows(small[0], dict.fromkeys(METHODS, 1), ["shape removed"])
    assert small[0]["kept"] == []


def test_models_that_were_saved_are_not_trained_again(small):
    images, folder = few().train.images, small[1]
    with pytest.MonkeyPatch.context() as patch:
        one = recipe.METHODS["β-VAE"]._replace(strengths=(1.0,))
        patch.setitem(recipe.METHODS, "β-VAE", one)
        found = benchmark.trained("β-VAE", range(2), images, 1, folder)
    assert all(old for _, _, old in found.values())
    first = {(r["method"], r["seed"]): r for r in small[0]["rows"][:8:2]}
    for (_, seed), (model, seconds, _) in found.items():
        row = first["β-VAE", seed]
        assert seconds == pytest.approx(row["cpu_seconds"], abs=1e-3)
        rate = metrics.rate_per_unit(model, jnp.asarray(few().test.images))
        np.testing.assert_allclose(rate, row["kl"], atol=0.006)


def check_rows(content, strengths, removed):
    """``strengths``: how many each method has; ``removed``: models told the shape."""
    tables = {}
    for row in content["rows"]:
        tables.setdefault(row["table"], []).append(row)
    methods = content["methods"]
    names = [
        (method, strength)
        for method, about in methods.items()
        for strength in about["strengths"]
    ]
    assert {m: len(about["strengths"]) for m, about in methods.items()} == strengths
    seeds = range(content["seeds"])
    full = [(*name, seed) for name in names for seed in seeds]
    found = [(r["method"], r["strength"], r["seed"]) for r in tables["models"]]
    assert found == full
    check_models(content, tables["models"])
    told = [(n, benchmark.GIVEN, seed) for n in removed for seed in seeds]
    probed = [(r["method"], r["strength"], r["seed"]) for r in tables["probes"]]
    assert probed == full + told
    groups = tables["groups"]
    assert [(row["method"], row["strength"]) for row in groups] == names
    for row in groups:
        mine = [
            m["mig"]
            for m in tables["models"]
            if (m["method"], m["strength"]) == (row["method"], row["strength"])
        ]
        assert mine[row["best_seed"]] == max(mine)
        assert sorted(mine)[(len(mine) - 1) // 2] == mine[row["median_seed"]]
        assert row["mig"]["mean"] == pytest.approx(np.mean(mine), abs=1e-3)
        assert row["mig"]["sd"] == pytest.approx(np.std(mine, ddof=1), abs=1e-3)
    assert [row["score"] for row in tables["variance"]] == [*benchmark.SCORES]
    for row in tables["variance"]:
        assert 0 <= row["method"]["r2"] <= row["strength"]["r2"] + 1e-4
        assert row["rest"] == pytest.approx(1 - row["strength"]["r2"], abs=1e-3)
    for score in benchmark.SCORES:
        chain = [row for row in tables["methods"] if row["score"] == score]
        check_chain(chain, len(methods))
    check_chain(tables["strengths"], len(names))
    assert [row["criterion"] for row in tables["ranks"]] == [*benchmark.CRITERIA]


def check_models(content, models):
    latents, factors = content["latents"], len(content["factors"])
    for row in models:
        assert row["elbo"] == pytest.approx(-row["rate"] - row["distortion"], abs=0.01)
        assert row["distortion"] > content["entropy"]
        assert sum(row["kl"]) == pytest.approx(row["rate"], abs=0.005 * latents + 0.001)
        assert np.shape(row["nmi"]) == (latents, factors)
        assert all(0 <= row[name] <= 1 for name in benchmark.SCORES)
        for k, j in enumerate(row["moved"]):
            column = sorted(np.array(row["nmi"])[:, k])
            if j is not None:
                assert row["nmi"][j][k] == column[-1] >= 0.5
                assert column[-1] >= 2 * column[-2] - 0.02


def check_chain(pairs, count):
    assert len(pairs) == count - 1
    assert all(pair["difference"] >= 0 for pair in pairs)
    for a, b in pairwise(pairs):
        assert a["second"] == b["first"]


# The committed result


@pytest.fixture(scope="module")
def result():
    return json.loads(RESULT.read_text())


def test_the_package_has_the_result_and_it_is_small(result):
    text = benchmark.PACKAGED.read_text()
    assert json.loads(text) == result
    assert len(text.encode()) < 100_000


def test_the_result_is_of_the_embedded_sprites_and_whole(result):
    assert result["data"] == provenance.about_data(load("sprites"))
    assert result["seeds"] >= 5
    entropy = judge.entropy(load("sprites").test.images)
    assert result["entropy"] == pytest.approx(entropy, rel=1e-5)
    strengths = {m: len(about.strengths) for m, about in recipe.METHODS.items()}
    check_rows(result, strengths, benchmark.REMOVED)


def test_the_tables_of_the_result_follow_from_its_models(result):
    models = [row for row in result["rows"] if row["table"] == "models"]
    tables = [r for r in result["rows"] if r["table"] not in ("models", "probes")]
    again = [benchmark.rounded(row) for row in benchmark.summary(models)]
    assert len(tables) == len(again)
    for stored, found in zip(tables, json.loads(json.dumps(again)), strict=True):
        assert stored.keys() == found.keys()
        jax.tree.map(_same, stored, found)


def _same(stored, found):
    if isinstance(found, float):
        assert stored == pytest.approx(found, abs=2e-4)
    else:
        assert stored == found


def test_the_method_explains_less_of_the_gap_than_the_seed(result):
    (mig,) = (
        r for r in result["rows"] if r["table"] == "variance" and r["score"] == "mig"
    )
    assert mig["method"]["r2"] < mig["method"]["high"] < mig["rest"]
    pairs = [row for row in result["rows"] if row["table"] == "methods"]
    assert all(pair["hidden"] for pair in pairs if pair["score"] == "mig")


def test_a_latent_less_leaves_the_shape_and_a_critic_of_draws_takes_it(result):
    probed = {}
    for row in result["rows"]:
        if row["table"] == "probes" and row["strength"] == benchmark.GIVEN:
            probed.setdefault(row["method"], []).append(row)

    def right(method, codes):
        values = [row[codes]["forest"] for row in probed[method]]
        return np.mean(values), np.std(values, ddof=1) / len(values) ** 0.5

    mean, error = right("β-VAE", "without_best")
    assert mean - 3 * error > 0.9
    drawn, removed = right("β-VAE", "drawn"), right("shape removed", "drawn")
    assert drawn[0] - removed[0] > 3 * np.hypot(drawn[1], removed[1])
