"""The schedules explorer: its trainings, its numbers, its words, its controls."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from browsing import (
    box,
    changes,
    kernel,
    out,
    outputs,
    picture,
    point,
    press,
    settle,
    sweep,
)
from scipy import stats

from tools import make_schedules as tool
from tools.make_weights import fingerprint
from vae_teach import data
from vae_teach.explorers import SchedulesExplorer, payload
from vae_teach.explorers.explorer import HERE
from vae_teach.explorers.schedules import RATES, RUNS, Run

ROOT = "document.querySelector('.vx-schedules').explorer"
MEASURES = ("rate", "distortion", "active", "elbo")


@pytest.fixture(scope="module")
def record():
    return json.loads((HERE / "weights/schedules.json").read_text())


@pytest.fixture(scope="module")
def curves():
    """By learning rate, run, seed, point and measure."""
    return payload.unpack(SchedulesExplorer().payload())[0]["curves"]


@pytest.fixture(scope="module")
def dataset():
    return data.load("mnist12k")


def ends(record, rate, name):
    """A measure at the end, by run and seed."""
    rows = record["end"][RATES.index(rate)]
    return np.array([[row[name] for row in seeds] for seeds in rows])


def pooled_error(table):
    """By least squares: a level for each run and for each seed, and what is left."""
    runs, seeds = table.shape
    row, column = np.indices(table.shape).reshape(2, -1)
    design = np.concatenate([np.eye(runs)[row], np.eye(seeds)[column]], 1)
    fit, _, rank, _ = np.linalg.lstsq(design, table.ravel(), rcond=None)
    left = ((table.ravel() - design @ fit) ** 2).sum() / (table.size - rank)
    return np.sqrt(left * 2 / seeds)


def standard_error(table, i):
    """Of run i's difference from run 0: the larger of the pooled and its own."""
    if i == 0:
        return pooled_error(table)
    return max(pooled_error(table), stats.sem(table[i] - table[0]))


def state_of(run, rate=RATES[0], **more):
    chosen = {k: v for k, v in run._asdict().items() if v}
    return chosen | {"learning_rate": rate} | more


def show(page, *states):
    """What ``numbers()`` says in each state."""
    call = f"(states) => states.map((s) => ({ROOT}.change(s), {ROOT}.numbers()))"
    found = page.evaluate(call, list(states))
    settle(page)
    return found


def number(page, name):
    return float(out(page, name).strip("()").replace("−", "-").replace("+", ""))


# The trainings and their record.


def test_record_says_how_the_runs_were_made(record, dataset):
    assert record["command"].startswith("python -m tools.make_schedules")
    assert record["seeds"] == [0, 1, 2]
    assert {"jax", "flax", "optax", "numpy", "python"} == record["versions"].keys()
    assert record["data"]["train_sha256"] == fingerprint(dataset)
    assert record["runs"] == [run._asdict() for run in RUNS]
    assert record["steps"] == tool.STEPS


def test_page_shows_what_the_record_says(record):
    _, facts = payload.unpack(SchedulesExplorer().payload())
    assert facts.items() <= record.items()
    assert record["bytes"] == len(SchedulesExplorer().payload())


def test_curves_end_where_the_networks_do(record, curves):
    """500 digits against all 2,000: as far apart as two samples of digits may be."""
    for r, rate in enumerate(RATES):
        for name, column in (("rate", 0), ("distortion", 1)):
            last, end = curves[r, :, :, -1, column], ends(record, rate, name)
            np.testing.assert_allclose(last, end, rtol=0.05, atol=0.5)
    for rates in record["end"]:
        for row in (row for seeds in rates for row in seeds):
            assert row["elbo"] == pytest.approx(
                -row["rate"] - row["distortion"], abs=2e-3
            )


def test_seeds_begin_alike_whatever_the_schedule(curves):
    first = curves[:, :, :, 0, 1]
    np.testing.assert_allclose(
        first, np.broadcast_to(first[:1, :1], first.shape), atol=0.02
    )


@pytest.mark.parametrize("rate", RATES)
def test_a_brief_retraining_lands_where_the_record_says(record, dataset, rate):
    images, test = (jnp.asarray(s.images) for s in (dataset.train, dataset.test))
    run, brief = Run("linear", 400), record["brief"]
    found = tool.train(
        run, tool.step_at(rate), images, test[: tool.SHOWN], brief["steps"]
    )
    said = brief["at"][RATES.index(rate)]
    assert said["learning_rate"] == rate
    mean, margin = (said[k][RUNS.index(run)] for k in ("mean", "margin"))
    off = np.abs(found.curves[:, -1, :2].mean(0) - mean)
    assert (off <= margin).all(), (found.curves[:, -1], said)


# The schedules.


def test_page_draws_the_schedules_of_the_package(visit):
    page = visit("schedules")
    steps = np.arange(tool.STEPS + 1)
    call = f"([run, steps]) => steps.map((t) => {ROOT}.betaAt(run, t))"
    for run in RUNS:
        found = page.evaluate(call, [run._asdict(), steps.tolist()])
        exact = jax.vmap(run.schedule())(jnp.asarray(steps))
        np.testing.assert_allclose(found, exact, atol=1e-6)


def test_every_schedule_is_at_one_when_its_length_is_over():
    for run in RUNS:
        at = [float(run.schedule()(step)) for step in (run.length, tool.STEPS)]
        np.testing.assert_allclose(at, 1, atol=3e-3)


def test_networks_met_the_betas_of_their_run():
    loss = jax.jit(tool.loss)
    model = tool.make_vae(jax.random.key(0))
    x = jnp.full((4, 28, 28, 1), 0.3)
    for i in (0, 2, 5, 8):
        for step in (0, 130, 700):
            run = jnp.asarray(i, jnp.float32)
            value, terms = loss(model, x, jax.random.key(1), run=run, step=step)
            beta = RUNS[i].schedule()(step)
            expected = terms["distortion"] + beta * terms["rate"]
            np.testing.assert_allclose(value, expected, rtol=1e-5)


# The numbers.


@pytest.mark.parametrize("rate", RATES)
def test_differences_and_their_standard_errors(visit, record, rate):
    found = show(visit("schedules"), *(state_of(run, rate) for run in RUNS))
    for i, now in enumerate(found):
        assert now["i"] == i
        for name in MEASURES:
            table, said = ends(record, rate, name), now["ends"][name]
            assert said["mine"] == pytest.approx(table[i].mean())
            difference = (table[i] - table[0]).mean()
            assert said["difference"] == pytest.approx(difference, abs=1e-9)
            assert said["error"] == pytest.approx(standard_error(table, i), abs=1e-9)


def test_page_reads_the_curves_at_the_step(visit, curves):
    page = visit("schedules")
    for r, i, t in [(0, 2, 54), (0, 0, 7), (1, 9, 100), (1, 5, 31)]:
        show(page, state_of(RUNS[i], RATES[r], step=15 * t))
        rate, distortion, active = curves[r, i, :, t].mean(0)
        assert number(page, "rate") == pytest.approx(rate, abs=0.051)
        assert number(page, "distortion") == pytest.approx(distortion, abs=0.051)
        assert number(page, "elbo") == pytest.approx(-rate - distortion, abs=0.051)
        assert out(page, "rate_more").startswith(f"{active:.0f} of 20 units")
        if i:
            plain = curves[r, 0, :, t, 0].mean()
            assert number(page, "rate_plain") == pytest.approx(plain, abs=0.051)


def test_table_is_the_record(visit, record):
    page, run = visit("schedules"), Run("cyclical", 800, 4)
    show(page, state_of(run, RATES[1]))
    for name in MEASURES:
        table = ends(record, RATES[1], name)
        assert number(page, f"{name}_mine") == pytest.approx(
            table[RUNS.index(run)].mean(), abs=0.051
        )
        assert number(page, f"{name}_base") == pytest.approx(table[0].mean(), abs=0.051)
    error = out(page, "elbo_difference").split(" ± ")[1]
    assert float(error) == pytest.approx(
        standard_error(ends(record, RATES[1], "elbo"), RUNS.index(run)), abs=0.051
    )


def change(series, start, end):
    """Its mean over the seeds and the standard error of that."""
    changes = series[:, end] - series[:, start]
    return changes.mean(), stats.sem(changes)


def test_notice_holds(record, curves):
    gains = {
        rate: (ends(record, rate, "elbo")[1:] - ends(record, rate, "elbo")[0])
        for rate in RATES
    }
    assert (gains[RATES[0]].mean(1) < 0).all()
    assert (gains[RATES[1]].mean(1) > 20).all()
    for i, gain in enumerate(gains[RATES[1]], 1):
        error = standard_error(ends(record, RATES[1], "elbo"), i)
        assert gain.mean() > 3 * error, RUNS[i]
    for i in range(7, len(RUNS)):
        length, cycles = RUNS[i].length, RUNS[i].cycles
        start, end = length * (1 - 1 / cycles), length * (1 - 1 / cycles / 2)
        first, last = (int(np.ceil(step / tool.EVERY)) for step in (start, end))
        rising = curves[0, i, :, first : last + 1, 1]
        up, error = change(rising, rising.mean(0).argmin(), -1)
        assert up > 3 * error > 0, (RUNS[i], up, error)


@pytest.mark.parametrize("rate", RATES)
def test_page_says_where_the_distortion_rises(visit, curves, rate):
    page, r = visit("schedules"), RATES.index(rate)
    said = set()
    for i, run in enumerate(RUNS[1:], 1):
        [now] = show(page, state_of(run, rate))
        start, end = (now["rise"][k] // tool.EVERY for k in ("from", "to"))
        assert float(run.schedule()(tool.EVERY * end)) == pytest.approx(1, abs=3e-3)
        distortion, bound = curves[r, i, :, :, 1], -curves[r, i, :, :, :2].sum(-1)
        up, error = change(distortion, start, end)
        better, spread = change(bound, start, end)
        says = out(page, "rise")
        if up <= 3 * error:
            assert says.startswith("The distortion does not rise")
        else:
            assert f"the distortion by {up:.1f} ± {error:.1f} nats" in says
            assert ("Nothing is wrong" in says) == (better > 3 * spread)
        said.add(says[:10])
    assert len(said) == 2


def test_steps_are_not_epochs(visit):
    page = visit("schedules")
    show(page, state_of(Run("linear", 1200)))
    assert f"{1200 * 64 / 10_000:.1f} epochs of these 10,000" in out(page, "epochs")
    assert f"{1200 * 64 / 60_000:.1f} of the full 60,000" in out(page, "epochs")


# The controls.


def test_wrong_state_is_refused():
    for state in ({"length": 500}, {"shape": "cosine"}, {"cycles": 3}):
        with pytest.raises(ValueError, match="to be one of"):
            SchedulesExplorer(**state)


def test_every_choice_is_made_by_keyboard(visit):
    page = visit("schedules")
    read = [lambda: outputs(page), lambda: picture(page, "beta")]
    read += [lambda: picture(page, "all"), lambda: picture(page, "elbo")]
    for shape in ("linear", "sigmoid"):
        changes(
            page,
            lambda s=shape: press(page, f"[data-in=shape_{s}]", "ArrowRight"),
            *read,
        )
    assert page.is_visible("[data-in=cycles_2]")
    changes(page, lambda: press(page, "[data-in=cycles_4]", "ArrowLeft"), *read)
    changes(page, lambda: press(page, "[data-in=rate_0]", "ArrowRight"), *read[::2])
    press(page, "[data-in=shape_cyclical]", "ArrowRight")  # round to the first
    settle(page)
    assert out(page, "beta") == "1.00"
    assert not page.is_enabled("[data-in=length]")
    assert not page.is_visible("[data-in=cycles_2]")
    assert out(page, "elbo_difference") == "–"


@pytest.mark.parametrize("width", [1280, 390])
def test_a_drag_along_the_curves_moves_the_step(visit, width):
    page = visit("schedules", width)
    for name in ("beta", "rate", "distortion", "elbo"):
        changes(
            page,
            lambda name=name: sweep(
                page, f"[data-canvas={name}]", [(0.8, 0.5), (0.3, 0.5)]
            ),
            lambda: out(page, "step"),
            lambda: out(page, "elbo"),
            lambda name=name: picture(page, name),
        )
        page.click("[data-do=reset]")
        settle(page)


def test_a_finger_moves_the_step_and_chooses_a_schedule(visit):
    page = visit("schedules", 390, has_touch=True, is_mobile=True)
    area = box(page, "[data-canvas=rate]")
    changes(
        page,
        lambda: page.touchscreen.tap(*point(area, 0.25)),
        lambda: out(page, "step"),
    )
    area = box(page, "[data-canvas=all]")
    changes(
        page,
        lambda: page.touchscreen.tap(*point(area, 0.5, 0.02)),
        lambda: out(page, "elbo_mine"),
    )
    assert page.is_checked("[data-in=shape_constant]")


def test_every_line_of_the_overview_chooses_its_schedule(visit):
    page = visit("schedules")
    area = box(page, "[data-canvas=all]")
    lines = 1 - 22 / area["height"]
    for i, run in enumerate(RUNS):
        page.mouse.click(*point(area, 0.7, (i + 0.5) / len(RUNS) * lines))
        settle(page)
        assert page.evaluate(f"{ROOT}.numbers().i") == i, run


def test_verdict_says_what_was_measured(visit, record):
    page = visit("schedules")
    for rate in RATES:
        table = ends(record, rate, "elbo")
        for i in (0, 2, 9):
            show(page, state_of(RUNS[i], rate))
            page.wait_for_timeout(400)
            says, gain = page.inner_text(".vx-note"), (table[i] - table[0]).mean()
            if not i:
                assert says.startswith("No annealing")
            elif abs(gain) <= 3 * standard_error(table, i):
                assert "no difference" in says
            else:
                assert ("annealing helped:" if gain > 0 else "annealing cost") in says
            assert f"learning rate {rate}" in says


def test_schedules_talks_with_a_kernel(visit):
    script = """
        k.type("length", 2);
        await k.frames(2);
        const told = k.sent.at(-1);
        k.model.set("shape", "linear");
        k.model.set("learning_rate", 0.03);
        await k.frames(2);
        const shown = [k.get("in=shape_linear").checked, k.get("in=rate_1").checked];
        k.clean();
        return [told.length, told.shape, ...shown];
    """
    found = kernel(visit("elbo"), SchedulesExplorer(), script)
    assert found == [1200, "cyclical", True, True]


@pytest.mark.timing
def test_frames_are_fast(visit):
    times = visit("schedules").evaluate(f"""async () => {{
        const times = [], lengths = [400, 800, 1200];
        for (let k = 0; k < 40; k++) {{
            const begun = performance.now();
            {ROOT}.change({{ step: 15 * k, length: lengths[k % 3] }});
            {ROOT}.draw();
            times.push(performance.now() - begun);
            await new Promise(requestAnimationFrame);
        }}
        return times;
    }}""")
    assert np.median(times) < 40, times  # generous: the aim is 16 ms
