"""The table of variants: its builders and judges, and the committed results."""

import inspect
import json

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from flax import nnx
from jax.nn import logsumexp

from benchmarks import provenance
from benchmarks import variant_judges as judges
from benchmarks import variant_models as made
from benchmarks import variants as benchmark
from benchmarks.small_vae import parameters
from vae_teach import variants
from vae_teach.bounds import elbo
from vae_teach.code_priors import CodePrior
from vae_teach.data import load
from vae_teach.models import Given

TABLE = benchmark.variants()
FILES = sorted(provenance.RESULTS.glob("variants-?pu.json"))
ON_CPU = json.loads((provenance.RESULTS / "variants-cpu.json").read_text())
COMMON = (
    *("name", "of", "swapped", "lines_here", "lines_package", "parameters", "kind"),
    *("rate", "distortion", "elbo", "log_px"),
    *("steps", "seconds", "cpu_seconds", "compile_seconds"),
)


def built(name):
    """A model as a row starts from it, a second stage on one not trained."""
    variant = TABLE[name]
    before = (built(variant.of),) if variant.second else ()
    return variant.make(*before, nnx.Rngs(0))


@pytest.fixture(scope="module")
def data():
    """As many digits as a judge needs, and none trained on."""
    train = jr.bernoulli(jr.key(0), 0.3, (256, *made.IMAGE)).astype(jnp.float32)
    classes = jax.nn.one_hot(jnp.arange(256) % 10, 10)
    return judges.Digits(train, classes, train[:16], classes[:16])


# Builders


@pytest.mark.parametrize("name", TABLE)
def test_the_step_of_a_row_trains_its_model(name, data):
    """Shapes of one update alone: no time to compile fifteen of them."""
    variant, model = TABLE[name], built(name)
    pairs = variant.step is made.OF_PAIRS
    batch = (data.train[:16], data.train_classes[:16]) if pairs else data.train[:16]

    def one(model):
        state = variant.step.init(model)
        model, _, terms = variant.step.update(model, state, batch, jr.key(0))
        return jax.tree.leaves(model), terms

    leaves, terms = jax.eval_shape(one, model)
    shapes = [leaf.shape for leaf in jax.tree.leaves(model)]
    assert [leaf.shape for leaf in leaves] == shapes
    assert {k.rpartition("/")[2] for k in terms} >= {"rate", "distortion", "loss"}


def test_the_three_conditionings_have_one_budget():
    names = [n for n in TABLE if n.startswith("CVAE")]
    sizes = [parameters(built(name)) for name in names]
    assert max(sizes) < 1.02 * min(sizes)
    assert min(sizes) > parameters(built("VAE"))


def test_a_second_stage_leaves_the_first_as_it_was():
    first = made.moving_codes(nnx.Rngs(0))
    second = made.with_code_prior(first, nnx.Rngs(1))
    assert isinstance(second.prior, CodePrior)
    assert not isinstance(first.prior, CodePrior)
    for part in ("encoder", "quantiser", "decoder"):
        a, b = (jax.tree.leaves(getattr(m, part)) for m in (first, second))
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


# What is counted as code


def test_lines_are_statements():
    def example(
        a,
        b=1,
    ):
        """Not counted."""
        # nor this

        return (
            a
            + b
        )  # fmt: skip

    class Empty(dict):
        """Nothing but a line that says so."""

    assert benchmark.code_lines(example) == 2
    assert benchmark.code_lines(Empty) == 1


def kinds(thing, seen=None):
    """The classes of the package that a model is made of."""
    seen = set() if seen is None else seen
    if isinstance(thing, list | tuple):
        for each in thing:
            kinds(each, seen)
    elif type(thing).__module__.startswith("vae_teach"):
        seen.add(type(thing))
        for part in vars(thing).values():
            kinds(part, seen)
    return seen


@pytest.mark.parametrize("name", TABLE)
def test_every_new_class_of_a_row_is_counted(name):
    """New against the row that it changes, and against those which that one changes."""
    old, row = set(), TABLE[name]
    while row.of:
        old |= kinds(built(row.of))
        row = TABLE[row.of]
        old |= set(row.pieces)
    pieces = TABLE[name].pieces
    assert kinds(built(name)) - old <= set(pieces)
    assert not old & set(pieces)
    assert all(inspect.getsource(piece) for piece in pieces)


# Judges


def stacked(model):
    return jax.tree.map(lambda leaf: leaf[None], model)


def test_log_px_of_a_conditional_model_is_the_sum_over_classes(data, monkeypatch):
    model = made.conditional(nnx.Rngs(0), latents=2)
    found = jax.tree.map(lambda leaf: leaf[0], judges.of_pairs(stacked(model), data))
    x = data.test
    each = jnp.stack([judges._log_px(Given(model, c), x) for c in jnp.eye(10)])
    shares = data.train_classes.mean(0)
    expected = logsumexp(each, 0, b=shares[:, None]).mean()
    np.testing.assert_allclose(found["log_px"], expected, rtol=1e-5)
    own = each[data.classes.argmax(1), jnp.arange(len(x))].mean()
    np.testing.assert_allclose(found["log_px_given_y"], own, rtol=1e-5)
    np.testing.assert_allclose(
        found["elbo"], -(found["rate"] + found["distortion"]), rtol=1e-5
    )


def test_a_unit_that_follows_the_class_alone_is_not_active(data):
    model = made.conditional(nnx.Rngs(0), latents=2)
    first = model.encoder.network.layers[0]
    first.kernel[...] = 50 * first.kernel[...].at[: made.PIXELS].set(0)
    found = judges.of_pairs(stacked(model), data)
    assert found["active"].tolist() == [0]


def test_the_bound_of_codes_is_the_elbo_of_each(data):
    model = made.finite_scalars(nnx.Rngs(0))
    found = jax.tree.map(lambda leaf: leaf[0], judges.of_codes(stacked(model), data))
    losses = jax.vmap(lambda x: elbo(model, x, jr.key(0))[0])(data.test)
    np.testing.assert_allclose(found["elbo"], -losses.mean(), rtol=1e-5)
    np.testing.assert_allclose(found["log_px"], found["elbo"], rtol=1e-5)
    np.testing.assert_allclose(found["rate"], 49 * np.log(240), rtol=1e-5)
    assert 0 < found["used"]["codes"] <= 1 <= found["perplexity"]["codes"] <= 240


def test_the_kind_of_a_row():
    names = {"VAE": "importance", "VQ-VAE": "uniform", "VQ-VAE-2": "uniform"}
    names |= {"VQ-VAE, learned p(z)": "learned", "VQ-VAE-2, learned p(z)": "learned"}
    for name, expected in names.items():
        assert expected in judges.kind(built(name))


def test_rows_alone_keep_the_others_if_they_are_comparable(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "RESULTS", tmp_path)
    report = provenance.Report("variants", data={}, kept=[], seeds=3, epochs=5)
    for name in ("VQ-VAE", "VAE"):
        report.add(name=name)
    again = provenance.Report("variants", data={}, kept=[], seeds=3, epochs=5)
    kept = benchmark.kept_rows(again, TABLE, ["VAE", "CVAE, FiLM"])
    assert kept == {"VQ-VAE": {"name": "VQ-VAE"}}
    longer = provenance.Report("variants", data={}, kept=[], seeds=3, epochs=6)
    with pytest.raises(ValueError, match="same data, seeds, epochs"):
        benchmark.kept_rows(longer, TABLE, ["VAE"])


# The committed results


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def result(request):
    return json.loads(request.param.read_text())


def test_the_package_has_the_tables():
    names = {"cpu": "variants.json", "gpu": "variants_full.json"}
    for file in FILES:
        copy = benchmark.DATASETS / names[file.stem.rpartition("-")[2]]
        assert json.loads(copy.read_text()) == json.loads(file.read_text())


def test_the_data_are_the_embedded_digits(monkeypatch):
    monkeypatch.delenv("VAE_TEACH_DATA", raising=False)
    assert ON_CPU["data"] == provenance.about_data(load("mnist12k"))
    assert {key: ON_CPU[key] for key in benchmark.settings()} == benchmark.settings()
    assert ON_CPU["provenance"].keys() == provenance.provenance().keys()
    assert ON_CPU["provenance"]["command"].startswith("python -m benchmarks.variants")


def test_every_row_is_there_and_complete(result):
    assert result["seeds"] >= 3
    assert [row["name"] for row in result["rows"]] == list(TABLE)
    steps = result["data"]["train"] // result["batch_size"] * result["epochs"]
    for row in result["rows"]:
        assert set(COMMON) <= row.keys()
        assert ("active" in row) != ("used" in row)
        assert (row["of"], row["steps"]) == (TABLE[row["name"]].of, steps)
        assert row["parameters"] == parameters(built(row["name"]))
        for measure in ("rate", "distortion", "elbo", "log_px"):
            assert len(row[measure]) == result["seeds"]
            assert np.isfinite(row[measure]).all()
        parts = np.array(row["rate"]) + row["distortion"]
        np.testing.assert_allclose(row["elbo"], -parts, rtol=1e-4)
        assert row["seconds"] > 0


def test_lines_of_the_rows_are_those_of_the_sources(result):
    """But for what the package has changed since, which must be little."""
    for row in result["rows"]:
        for key, now in benchmark.lines(TABLE[row["name"]]).items():
            assert row[key] == pytest.approx(now, rel=0.1, abs=5), (row["name"], key)


def test_log_px_is_no_less_than_its_bounds(result):
    """Of means over a part of the digits, and over all of them: hence the margin."""
    log_py = np.log(0.12)  # no class has a larger share
    for row in result["rows"]:
        log_px, bound = np.array(row["log_px"]), np.array(row["elbo"])
        if "log_px_given_y" in row:
            given = np.array(row["log_px_given_y"])
            assert (log_px > given + np.log(0.08)).all()
            assert (log_px < given - log_py).all()
            bound = bound + np.log(0.08)
        assert (log_px > bound - 5).all()


def test_uniform_codes_cost_what_they_must(result):
    rows = {row["name"]: row for row in result["rows"]}
    tokens = {"VQ-VAE-2": 50}
    for name, row in rows.items():
        if row["kind"] == "bound, uniform prior":
            codes = 240 if name == "finite scalars" else made.CODES
            expected = tokens.get(name, 49) * np.log(codes)
            np.testing.assert_allclose(row["rate"], expected, rtol=1e-5)
    assert sum(row["kind"] == "bound, uniform prior" for row in rows.values()) == 6


def test_a_learned_prior_lowers_the_rate_and_nothing_else(result):
    rows = {row["name"]: row for row in result["rows"]}
    for name in ("VQ-VAE, learned p(z)", "VQ-VAE-2, learned p(z)"):
        learned, uniform = rows[name], rows[TABLE[name].of]
        assert learned["kind"] == "bound, learned prior"
        assert learned["distortion"] == uniform["distortion"]
        assert learned["perplexity"] == uniform["perplexity"]
        # Below that of the counts as well, but for what two splits differ by.
        levels = {"codes": 49, "top": 1, "bottom": 49}
        counted = sum(
            levels[k] * np.log(v)
            for k, v in ((k, np.array(v)) for k, v in learned["perplexity"].items())
        )
        assert (np.array(learned["rate"]) < np.array(uniform["rate"])).all()
        assert (np.array(learned["rate"]) < counted).all()


def test_codes_are_no_more_than_there_are(result):
    for row in result["rows"]:
        for level, shares in row.get("used", {}).items():
            codes = 240 if row["name"] == "finite scalars" else made.CODES
            perplexity = np.array(row["perplexity"][level])
            assert (perplexity >= 1).all()
            assert (perplexity <= codes * np.array(shares) + 1e-3).all()


# What the embedded digits support: differences of three standard errors or more


def lead(name, other, measure="log_px"):
    rows = {row["name"]: row for row in ON_CPU["rows"]}
    a, b = (np.array(rows[n][measure]) for n in (name, other))
    if isinstance(rows[name][measure], dict):
        a, b = (np.array(rows[n][measure]["codes"]) for n in (name, other))
    return (a.mean() - b.mean()) / np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / len(a))


def test_restarts_bring_codes_into_use():
    assert lead("VQ-VAE, averages and restarts", "VQ-VAE", "used") > 3


def test_a_learned_prior_is_worth_more_than_any_swap_of_the_codebook():
    for name, row in TABLE.items():
        if row.judge is judges.of_codes and not row.second:
            assert lead("VQ-VAE, learned p(z)", name) > 3


# The reader


def test_the_table_of_a_chapter_has_what_was_asked_for():
    table = variants.variants_table("VAE", "VQ-VAE")
    assert [row[0] for row in table.rows] == ["VAE", "VQ-VAE"]
    rows = {row["name"]: row for row in ON_CPU["rows"]}
    mean = np.mean(rows["VQ-VAE"]["log_px"])
    assert f"≥ −{-mean:.1f} ±" in table.rows[1][4]
    assert table.rows[0][3] == f"{rows['VAE']['parameters']:,}"
    text = repr(table)
    assert all(cell in text for row in table.rows for cell in row)
    html = table._repr_html_()
    assert html.count("<tr>") == 3
    (row,) = variants.variants_table("CVAE, FiLM").rows
    given = np.mean(rows["CVAE, FiLM"]["log_px_given_y"])
    assert f"; x|y −{-given:.1f}" in row[4]
    assert "&lt;" not in html
    assert len(variants.variants_table().rows) == len(ON_CPU["rows"])


def test_a_row_that_is_none_is_refused():
    with pytest.raises(KeyError, match="Expected rows among"):
        variants.variants_table("VAE", "IWAE")
