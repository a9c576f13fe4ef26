"""The collapse explorer: its file, its record, its numbers, its controls."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from browsing import changes, kernel, out, picture, press, settle
from flax import nnx

from benchmarks import collapse
from tools import make_collapse, make_weights
from vae_teach import data, metrics, theory
from vae_teach.explorers import CollapseExplorer, payload
from vae_teach.explorers.explorer import HERE
from vae_teach.linear import water_filling

ROOT = "document.querySelector('.vx-collapse').explorer"


@pytest.fixture(scope="module")
def contents():
    return payload.unpack(CollapseExplorer().payload())


@pytest.fixture(scope="module")
def arrays(contents):
    return contents[0]


@pytest.fixture(scope="module")
def facts(contents):
    return contents[1]


@pytest.fixture(scope="module")
def record():
    return json.loads((HERE / "weights/collapse.json").read_text())


@pytest.fixture(scope="module")
def result():
    return json.loads(collapse.PACKAGED.read_text())


@pytest.fixture(scope="module")
def dataset():
    return data.load("mnist12k")


def linear_model(arrays, k):
    """The k-th linear VAE in JAX, with the weights that the page has."""
    size = len(arrays["values"])
    model = collapse.linear_vae(nnx.Rngs(0), size)
    encoder, decoder = model.encoder.network, model.decoder.network
    encoder.mean.kernel[...] = jnp.asarray(arrays["encode"][k].reshape(size, -1))
    encoder.log_variance[...] = jnp.asarray(arrays["log_variances"][k].ravel())
    decoder.kernel[...] = jnp.asarray(arrays["decode"][k].reshape(-1, size))
    return model


# The file and its record.


def test_file_has_the_digits_and_their_spectrum(arrays, facts, dataset):
    mean, values, vectors = make_collapse.principal(dataset.train.images)
    size = collapse.COMPONENTS
    np.testing.assert_allclose(arrays["values"], values[:size], rtol=1e-4)
    np.testing.assert_allclose(arrays["mean"][:, 0], mean, atol=1e-4)
    whole, found = vectors[:, :20], arrays["vectors"][:, :20]
    np.testing.assert_allclose(found @ found.T, whole @ whole.T, atol=0.01)
    assert facts["total"] == pytest.approx(values.sum(), rel=1e-4)
    gray = np.round(255 * dataset.test.images.reshape(2000, -1)).astype(np.uint8)
    for digit, label in zip(arrays["digits"], make_collapse.CLASSES, strict=True):
        rows = np.flatnonzero((gray == digit).all(1))
        assert label in dataset.test.labels[rows]


def test_every_line_has_a_model(arrays, facts):
    levels = collapse.lines(arrays["values"].astype(np.float64))
    np.testing.assert_allclose(facts["linear"], list(levels.values()), rtol=1e-4)
    for name in ("encode", "log_variances", "decode"):
        assert len(arrays[name]) == len(levels)
    assert arrays["decoded"].shape == (len(collapse.BETAS), 10, 784)
    assert [row["level"] for row in CollapseExplorer().start["deep"]] == pytest.approx(
        [collapse.VARIANCE * beta for beta in collapse.BETAS]
    )


def test_record_says_how_the_weights_were_made(record, dataset, facts):
    assert record["command"] == "python -m tools.make_collapse"
    assert record["data"]["train_sha256"] == make_weights.fingerprint(dataset)
    assert {"jax", "flax", "optax", "numpy", "python"} == record["versions"].keys()
    assert record["bytes"] == len(CollapseExplorer().payload())
    assert len(record["seeds"]) == facts["seeds"] >= 3
    for name, said in (("steps", collapse.MARKS[-1]), ("epochs", collapse.EPOCHS)):
        assert record[name] == facts[name] == said


def test_deep_numbers_are_those_of_the_benchmark(result):
    deep = [row for row in result["rows"] if row["table"] == "deep"]
    longer = {r["beta"]: r for r in result["rows"] if r["table"] == "longer"}
    for said, row in zip(CollapseExplorer().start["deep"], deep, strict=True):
        assert said["active"] == row["active"]
        assert said["rate"] == row["rate"]
        for name, f in (("mean", np.mean), ("least", np.min), ("most", np.max)):
            np.testing.assert_allclose(said[name], f(row["rates"], 0), atol=6e-4)
        assert ("longer" in said) == (row["beta"] in longer)
        if "longer" in said:
            assert said["longer"]["active"] == longer[row["beta"]]["active"]
            assert said["longer"]["epochs"] == result["long_epochs"]


def test_rounded_linear_models_keep_what_was_recorded(arrays, record, result):
    values = arrays["values"].astype(np.float64)
    rows = [row for row in result["rows"] if row.get("learning_rate") == 1e-3]
    for k, (said, row) in enumerate(
        zip(record["metrics"]["linear"], rows, strict=True)
    ):
        rates = collapse.rates_of(linear_model(arrays, k), values, rotate=False)
        assert rates.sum() == pytest.approx(said["rounded"], abs=1e-3)
        assert int((rates > collapse.ACTIVE).sum()) == said["active"]
        assert said["active"] == said["predicted"] == row["predicted"]
        assert said["largest_change"] <= 1e-3
        np.testing.assert_allclose(rates, row["rates"][0], atol=2e-3)


def test_deep_digits_are_decoded_images_of_the_right_models(arrays, dataset):
    """The squared error of the ten shown digits grows with the line, to collapse."""
    gray = arrays["digits"].astype(np.float64) / 255
    decoded = arrays["decoded"].astype(np.float64) / 255
    errors = ((decoded - gray[None]) ** 2).sum(2).mean(1)
    assert (np.diff(errors) > -0.2).all()
    spread = float(dataset.test.images.reshape(2000, -1).var(0).sum())
    assert errors[0] < spread / 2


def test_brief_retraining_lands_where_the_record_says(record, dataset):
    brief = record["brief"]
    train, test = jnp.asarray(dataset.train.images), jnp.asarray(dataset.test.images)
    keys = make_collapse.seed_keys(1, len(record["seeds"]))
    models = collapse.train_deep(train, [brief["beta"]], keys, brief["epochs"])
    found = collapse.measure(make_collapse.at(models, 0), train, test)
    for name in ("rate", "squared_error"):
        said = brief[name]
        assert said["margin"] <= 0.2 * said["mean"]
        assert abs(found[name] - said["mean"]) <= said["margin"], (name, found)


def test_wrong_state_is_refused():
    for state, words in [
        ({"family": "wide"}, "family"),
        ({"beta": 0.0}, "positive beta"),
        ({"variance": -1.0}, "positive variance"),
        ({"guess": 21}, "guess from 0 to 20"),
    ]:
        with pytest.raises(ValueError, match=words):
            CollapseExplorer(**state)


# The numbers.


def test_page_predicts_what_the_theory_does(visit, dataset, arrays):
    points = [(b, v) for b in (0.5, 1.3, 4.0, 9.9) for v in (0.25, 0.6, 1.0)]
    call = "points => points.map(([beta, variance]) => "
    call += f"({ROOT}.change({{ beta, variance }}), {ROOT}.numbers()))"
    found = visit("collapse").evaluate(call, points)
    for (beta, variance), numbers in zip(points, found, strict=True):
        predicted = theory.predict_active_units(dataset.train.images, variance, beta)
        assert numbers["count"] == min(predicted, 20)
        exact = water_filling(arrays["values"], beta * variance, 20).rates[:20]
        np.testing.assert_allclose(numbers["law"], exact, atol=1e-4)


@pytest.mark.parametrize("family", ["linear", "deep"])
def test_the_nearest_trained_line_is_shown(visit, facts, family):
    levels = np.array(
        [row["level"] for row in CollapseExplorer().start["deep"]]
        if family == "deep"
        else facts["linear"]
    )
    lines = np.geomspace(0.1, 14, 25)
    call = f"([family, lines]) => lines.map((t) => ({ROOT}.change({{ family, "
    call += f"beta: 2 * t, variance: 0.5 }}), {ROOT}.numbers().place))"
    found = visit("collapse").evaluate(call, [family, lines.tolist()])
    expected = np.abs(np.log(lines[:, None] / levels)).argmin(1)
    np.testing.assert_array_equal(found, expected)


def test_javascript_runs_the_linear_models_as_jax_does(visit, arrays, facts):
    page = visit("collapse")
    count = len(facts["linear"])
    images = page.evaluate(
        f"n => [...Array(n).keys()].map((k) => {ROOT}.reconstruct('linear', k)"
        ".map((x) => [...x]))",
        count,
    )
    rates = page.evaluate(f"{ROOT}.rows('linear').map((row) => row.mean)")
    vectors, mean = jnp.asarray(arrays["vectors"]), jnp.asarray(arrays["mean"][:, 0])
    scores = (jnp.asarray(arrays["digits"] / 255.0) - mean[None]) @ vectors
    # Data with the training digits' covariance: the nats are a mean over them.
    few = jnp.diag(jnp.sqrt(len(vectors[0]) * jnp.asarray(arrays["values"])))
    for k in range(count):
        model = linear_model(arrays, k)
        decode = jax.vmap(lambda x, model=model: model.p_x(model.q_z(x).mean).mean)
        expected = decode(scores) @ vectors.T + mean[None]
        np.testing.assert_allclose(images[k], expected, atol=1e-3)
        nats = np.sort(metrics.rate_per_unit(model, few))[::-1]
        np.testing.assert_allclose(rates[k], nats, atol=1e-3)


def test_above_the_largest_eigenvalue_all_digits_are_the_average(visit, arrays):
    found = visit("collapse").evaluate(
        f"() => {ROOT}.reconstruct('linear', 0).map((x) => [...x])"
    )
    np.testing.assert_allclose(found, np.tile(arrays["mean"].T, (10, 1)), atol=1e-3)


def test_deep_digits_are_the_ones_that_were_decoded(visit, arrays):
    for k in (0, 8):
        found = visit("collapse").evaluate(
            f"k => {ROOT}.reconstruct('deep', k).map((x) => [...x])", k
        )
        np.testing.assert_allclose(found, arrays["decoded"][k] / 255, atol=1e-6)


# The controls.


def test_training_is_covered_until_the_reader_predicts(visit):
    page = visit("collapse")
    for name in ("law", "kept", "nats"):
        assert out(page, name) == "?"
    press(page, "[data-in=guess]", *["ArrowRight"] * 4)
    settle(page)
    assert out(page, "guess") == out(page, "yours") == "9"
    changes(
        page,
        lambda: press(page, "[data-do=show]", "Enter"),
        *[lambda n=n: out(page, n) for n in ("law", "kept", "nats")],
        *[lambda n=n: picture(page, n) for n in ("scree", "nats", "along", "digits")],
    )
    assert out(page, "law") == out(page, "kept") == "12"
    assert out(page, "nats") == out(page, "measured").strip("/ nats")


def test_another_question_moves_the_line_and_covers_it(visit, facts):
    page, seen = visit("collapse"), set()
    for _ in facts["linear"]:
        press(page, "[data-do=show]", "Enter")
        settle(page)
        assert out(page, "law") == out(page, "kept")
        seen.add(out(page, "law"))
        press(page, "[data-do=show]", "Enter")
        settle(page)
        assert out(page, "law") == "?"
    assert len(seen) == len(facts["linear"])


def test_sliders_move_what_is_measured(visit):
    page = visit("collapse")
    press(page, "[data-do=show]", "Enter")
    settle(page)
    for name in ("beta", "variance"):
        changes(
            page,
            lambda name=name: press(page, f"[data-in={name}]", *["PageUp"] * 2),
            *[lambda n=n: out(page, n) for n in (name, "law", "kept", "nats")],
            *[lambda n=n: picture(page, n) for n in ("nats", "along", "digits")],
        )
    press(page, "[data-in=beta]", "End")
    settle(page)
    assert out(page, "kept") == out(page, "law") == "0"


def test_families_are_switched_by_keyboard(visit):
    page = visit("collapse")
    press(page, "[data-do=show]", "Enter")
    settle(page)
    changes(
        page,
        lambda: press(page, "[data-in=linear]", "ArrowRight"),
        lambda: out(page, "measured"),
        *[lambda n=n: picture(page, n) for n in ("nats", "along", "digits")],
    )
    assert "seeds" in out(page, "seeds")


def test_verdict_compares_the_three_counts(visit):
    page, note = visit("collapse"), ".vx-note"
    press(page, "[data-do=show]", "Enter")
    page.wait_for_timeout(500)
    assert page.inner_text(note).startswith(
        "You predicted 5; training kept 12, as many"
    )
    press(page, "[data-in=guess]", *["ArrowRight"] * 7)
    page.wait_for_timeout(500)
    assert page.inner_text(note).endswith("You were right.")
    press(page, "[data-in=beta]", "End")
    page.wait_for_timeout(500)
    assert "every digit becomes the average digit" in page.inner_text(note)


def test_collapse_talks_with_a_kernel(visit):
    script = """
        k.type("guess", 7);
        await k.frames(2);
        const told = k.sent.at(-1);
        k.model.set("shown", true);
        k.model.set("beta", 10.5);
        await k.frames(2);
        const shown = k.get("out=kept").textContent;
        k.clean();
        return [told.guess, told.family, shown, k.get("do=show").textContent];
    """
    found = kernel(visit("elbo"), CollapseExplorer(), script)
    assert found == [7, "linear", "0", "Cover, and ask me another"]


@pytest.mark.timing
def test_frames_are_fast(visit):
    times = visit("collapse").evaluate(f"""async () => {{
        const times = [];
        for (let k = 0; k < 40; k++) {{
            const begun = performance.now();
            {ROOT}.change({{ beta: 10 ** (k / 30 - 0.3), shown: true }});
            {ROOT}.draw();
            times.push(performance.now() - begun);
            await new Promise(requestAnimationFrame);
        }}
        return times;
    }}""")
    assert np.median(times) < 40, times  # generous: the aim is 16 ms
