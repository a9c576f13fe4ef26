"""The explorers in Chromium, from a file, without a network.

First what all have to do, then the latent and the ELBO explorer by themselves.
"""

import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from browsing import (
    EXPLORERS,
    LOOKS,
    box,
    changes,
    kernel,
    names,
    out,
    outputs,
    picture,
    pictures,
    point,
    press,
    settle,
    sweep,
)
from scipy import integrate, stats

from benchmarks.provenance import provenance
from vae_teach import data
from vae_teach.explorers import ElboExplorer, LatentExplorer, conditioned, trained

RESULTS = Path(__file__).parents[1] / "benchmarks/results/explorers.json"

every_explorer = pytest.mark.parametrize("name", EXPLORERS)


# What every explorer does.


@every_explorer
@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_fits_its_page(visit, name, width, scheme):
    page = visit(name, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    shade = "getComputedStyle(document.querySelector('.vae-explorer')).backgroundColor"
    assert (page.evaluate(shade) == "rgb(255, 255, 255)") == (scheme == "light")


@every_explorer
def test_theme_switch_repaints(visit, name):
    page = visit(name)

    def dark():
        page.evaluate("document.documentElement.dataset.theme = 'dark'")
        page.wait_for_timeout(100)

    changes(page, dark, lambda: pictures(page))


@every_explorer
def test_every_control_has_a_name(visit, name):
    nameless = """() => [...document.querySelectorAll(
        ".vae-explorer :is(input, select, button, canvas)")].filter((node) => !(
        node.getAttribute("aria-label") || node.labels?.[0]?.innerText.trim()
        || node.innerText?.trim())).map((node) => node.outerHTML)"""
    assert visit(name).evaluate(nameless) == []


def nudge(page, slider):
    """Move a slider by the keyboard, towards its farther end."""
    at, low, high = page.eval_on_selector(
        slider, "(node) => [node.value, node.min, node.max].map(Number)"
    )
    press(page, slider, *["ArrowRight" if 2 * at < low + high else "ArrowLeft"] * 9)


@every_explorer
def test_every_slider_moves_by_keyboard_and_reset_undoes_it(visit, name):
    page = visit(name)
    start, sliders = outputs(page), names(page, "in", "input[type=range]")
    assert sliders
    for which in sliders:
        slider = f"[data-in={which}]"
        if page.is_visible(slider) and page.is_enabled(slider):
            changes(
                page,
                lambda slider=slider: nudge(page, slider),
                lambda: outputs(page),
                lambda: pictures(page),
            )
    assert outputs(page) != start
    press(page, "[data-do=reset]", "Enter")
    settle(page)
    assert outputs(page) == start


# How long after the last event of a control the note changes, in milliseconds.
WAITS = """(note) => {
    let moved = 0;
    window.waits = [];
    document.addEventListener("input", () => { moved = performance.now(); }, true);
    new MutationObserver(() => moved && waits.push(performance.now() - moved))
        .observe(note, { childList: true, characterData: true, subtree: true });
}"""


@every_explorer
def test_note_is_polite_and_waits(visit, name):
    page = visit(name)
    note = page.locator(".vx-note")
    assert note.get_attribute("aria-live") == "polite"
    page.wait_for_timeout(400)
    assert note.inner_text()
    note.evaluate(WAITS)
    nudge(page, "input[type=range] >> visible=true")
    page.wait_for_function("waits.length")
    assert min(page.evaluate("waits")) > 290


@every_explorer
def test_picture_stands_in_without_scripts(chromium, files, name):
    context = chromium.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(files(name).as_uri())
    assert page.locator(".vx-still").is_visible()
    assert page.locator("noscript").is_visible()
    context.close()


def test_many_on_a_page_do_not_clash(visit):
    count = 2 * len(EXPLORERS)
    page = visit("many", count=count)
    ids = "[...document.querySelectorAll('[id]')].map((node) => node.id)"
    assert len(set(page.evaluate(ids))) == count
    groups = page.evaluate("""[...document.querySelectorAll(".vae-explorer")].flatMap(
        (root) => [...new Set([...root.querySelectorAll("input[type=radio]")]
            .map((radio) => radio.name))])""")
    assert len(set(groups)) == len(groups) > 0
    first, second = (page.locator(".vx-latent").nth(k) for k in (0, 1))
    second.locator("[data-in=spherical]").check()
    assert first.locator("[data-in=linear]").is_checked()


# The latent explorer, control by control.

SEVEN = [(0.3, 0.2), (0.7, 0.2), (0.6, 0.5), (0.45, 0.85)]


def test_latent_by_keyboard(visit):
    page = visit("latent")
    numbers = [lambda n=n: out(page, n) for n in ("t", "rate", "distortion", "elbo")]
    images = [
        lambda n=n: picture(page, n) for n in ("map", "decoded", "strip", "curve")
    ]
    right = ["ArrowRight"] * 40
    changes(page, lambda: press(page, "[data-in=t]", *right), *numbers, *images)
    for k in (0, 1):
        changes(
            page,
            lambda k=k: press(page, f"[data-in=z{k}]", *right),
            lambda k=k: out(page, f"z{k}"),
            images[1],
        )
    changes(
        page,
        lambda: press(page, "[data-canvas=map]", "ArrowUp"),
        lambda: out(page, "z1"),
    )
    changes(
        page,
        lambda: press(page, "[data-in=u]", *right[:9]),
        lambda: out(page, "u"),
        images[1],
    )
    changes(page, lambda: press(page, "[data-in=linear]", "ArrowRight"), images[2])
    changes(page, lambda: press(page, "[data-in=digits]", "ArrowRight"), images[0])
    changes(
        page, lambda: press(page, "[data-in=class]", "4"), lambda: picture(page, "x")
    )
    enter = {"next": "x", "sample": "decoded", "mean": "decoded", "prior": "decoded"}
    for name, canvas in enter.items():
        changes(
            page,
            lambda name=name: press(page, f"[data-do={name}]", "Enter"),
            lambda canvas=canvas: picture(page, canvas),
        )
    for name in ("from", "next", "to"):
        reader = "x" if name == "next" else "strip"
        changes(
            page,
            lambda name=name: press(page, f"[data-do={name}]", "Enter"),
            lambda reader=reader: picture(page, reader),
        )
    changes(
        page,
        lambda: press(page, "[data-do=clear]", "Enter"),
        lambda: picture(page, "x"),
    )
    press(page, "[data-do=reset]", "Enter")
    settle(page)
    assert out(page, "t") == "β = 1.00"


def test_latent_by_pointer(visit):
    page = visit("latent")

    def click_dial():
        page.mouse.click(*point(box(page, "[data-in=t]"), 0.9))

    changes(page, click_dial, lambda: out(page, "t"), lambda: out(page, "rate"))
    z = [
        lambda: out(page, "z0"),
        lambda: out(page, "z1"),
        lambda: picture(page, "decoded"),
    ]
    page.click("[data-do=reset]")
    settle(page)
    changes(
        page, lambda: sweep(page, "[data-canvas=map]", [(0.5, 0.5), (0.75, 0.3)]), *z
    )
    drawn = [lambda: picture(page, "x"), lambda: picture(page, "decoded"), *z[:2]]
    changes(page, lambda: sweep(page, "[data-canvas=x]", SEVEN), *drawn)
    changes(page, lambda: page.click("[data-do=to]"), lambda: picture(page, "strip"))


def test_a_click_on_a_digit_chooses_it(visit):
    page = visit("latent")
    spot = page.evaluate("""() => {
        const { explorer } = document.querySelector(".vx-latent");
        const { mean, extent } = explorer.code(35);
        return [(mean[0] / extent + 1) / 2, (1 - mean[1] / extent) / 2];
    }""")
    page.mouse.click(*point(box(page, "[data-canvas=map]"), *spot))
    settle(page)
    assert page.input_value("[data-in=class]") == "1"


def test_latent_by_touch(visit):
    page = visit("latent", 390, has_touch=True, is_mobile=True)
    touch = page.context.new_cdp_session(page)

    def finger(kind, *spots):
        points = [{"x": x, "y": y} for x, y in spots]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def draw():
        area = box(page, "[data-canvas=x]")
        finger("touchStart", point(area, *SEVEN[0]))
        for spot in SEVEN[1:]:
            finger("touchMove", point(area, *spot))
        finger("touchEnd")

    changes(page, draw, lambda: picture(page, "x"), lambda: out(page, "z0"))
    area = box(page, "[data-canvas=map]")
    changes(
        page,
        lambda: page.touchscreen.tap(*point(area, 0.3, 0.2)),
        lambda: out(page, "z0"),
    )


def test_read_outs_are_the_recorded_ones(visit):
    page, curve = visit("latent"), trained.record()["curve"]
    for end, row in (("0", curve[0]), ("1", curve[-1])):
        page.locator("[data-in=t]").fill(end)
        settle(page)
        assert float(out(page, "rate")) == pytest.approx(row["rate"], abs=0.051)
        assert float(out(page, "distortion")) == pytest.approx(
            row["distortion"], abs=0.051
        )
        assert int(out(page, "active")) == row["active"]


def test_page_states_its_evidence(visit):
    text, gap = out(visit("latent"), "evidence"), trained.record()["agreement"]
    for name in ("rate", "distortion", "objective"):
        assert f"{gap[name]:.2f} nats" in text


def test_javascript_equals_jax(visit):
    page, model = visit("latent"), trained.model()
    rng, images = np.random.default_rng(0), data.load("mnist12k").test.images
    call = """([t, zs, xs]) => {
        const { explorer } = document.querySelector(".vx-latent");
        explorer.retune(t);
        return [zs.map((z) => [...explorer.decode(z)]), xs.map((x) => {
            const { mean, sd } = explorer.encode(Float32Array.from(x));
            return [...mean, ...sd];
        })];
    }"""
    decode = jax.jit(
        jax.vmap(lambda t, z: conditioned.At(model, t).p_x(z).mean.ravel(), (None, 0))
    )
    encode = jax.jit(jax.vmap(lambda t, x: conditioned.At(model, t).q_z(x), (None, 0)))
    for t in np.linspace(0, 1, 12, dtype=np.float32):
        z = np.r_[rng.normal(size=(6, 2)), [[4, 4], [-4, 4]]].astype(np.float32)
        x = images[rng.integers(0, len(images), 5)]
        pixels, codes = page.evaluate(
            call, [float(t), z.tolist(), x.reshape(5, -1).tolist()]
        )
        np.testing.assert_allclose(pixels, decode(t, jnp.asarray(z)), atol=1e-3)
        q = encode(t, jnp.asarray(x))
        np.testing.assert_allclose(
            codes, np.concatenate([q.loc, q.scale], 1), atol=1e-3
        )


# The ELBO explorer.


def test_elbo_by_keyboard(visit):
    page = visit("elbo")
    gap, image = lambda: out(page, "gap"), lambda: picture(page, "density")
    for name in ("x", "mean", "logScale"):
        keys = ["ArrowRight"] * 7
        changes(
            page,
            lambda name=name, keys=keys: press(page, f"[data-in={name}]", *keys),
            gap,
            image,
            lambda name=name: out(page, name),
        )
    changes(page, lambda: press(page, "[data-in=fold]", "ArrowLeft"), gap, image)
    press(page, "[data-do=best]", "Enter")
    page.wait_for_timeout(900)
    assert float(gap()) == pytest.approx(0, abs=5e-4)
    press(page, "[data-do=reset]", "Enter")
    settle(page)
    assert page.locator("[data-in=fold]").is_checked()


def test_elbo_by_pointer(visit):
    page = visit("elbo", 390)
    gap, mean = lambda: out(page, "gap"), lambda: out(page, "mean")
    changes(
        page,
        lambda: sweep(page, "[data-canvas=density]", [(0.5, 0.5), (0.8, 0.5)]),
        gap,
        mean,
    )
    for name in ("x", "mean", "logScale"):
        changes(
            page,
            lambda name=name: page.mouse.click(
                *point(box(page, f"[data-in={name}]"), 0.3)
            ),
            gap,
        )
    changes(page, lambda: page.locator("[data-in=line]").click(), gap)


def test_the_gap_on_the_fold_is_about_log_two(visit):
    page = visit("elbo")
    page.click("[data-do=best]")
    page.wait_for_timeout(900)
    assert np.log(2) < float(out(page, "gap")) < np.log(2) + 0.06
    assert out(page, "gap") == out(page, "kl")


SETTINGS = [
    ("line", 1.3, 0.4, 0.7),
    ("line", -2.0, -1.6, 0.447),
    ("fold", 2.0, 1.3, 0.2),
    ("fold", 0.1, -0.3, 0.8),
    ("fold", 4.5, 0.0, 1.5),
    ("fold", -2.5, 0.4, 0.05),
]


@pytest.mark.parametrize(("kind", "x", "mean", "scale"), SETTINGS)
def test_gap_is_the_divergence_and_both_are_right(visit, kind, x, mean, scale):
    call = """([kind, x, mean, scale]) => {
        const { explorer } = document.querySelector(".vx-elbo");
        const evidence = explorer.logEvidence(kind, x);
        return [evidence, explorer.bound(kind, x, mean, scale).elbo,
          explorer.divergence(kind, x, mean, scale, evidence)];
    }"""
    evidence, elbo, kl = visit("elbo").evaluate(call, [kind, x, mean, scale])
    assert evidence - elbo == pytest.approx(kl, abs=1e-3)
    assert evidence == pytest.approx(_evidence(kind, x), abs=1e-3)
    assert elbo == pytest.approx(_elbo(kind, x, mean, scale), abs=1e-3)


def _log_joint(kind, x, z):
    f = z if kind == "line" else z**2
    return stats.norm.logpdf(z) + stats.norm.logpdf(x, f, 0.5)


def _evidence(kind, x):
    roots = [-2, -1, 0, 1, 2]
    joint = lambda z: np.exp(_log_joint(kind, x, z))  # noqa: E731
    return np.log(
        integrate.quad(joint, -9, 9, points=roots, limit=400, epsabs=1e-14)[0]
    )


def _elbo(kind, x, mean, scale):
    q = stats.norm(mean, scale)
    term = lambda z: q.pdf(z) * (_log_joint(kind, x, z) - q.logpdf(z))  # noqa: E731
    return integrate.quad(term, mean - 9 * scale, mean + 9 * scale, limit=400)[0]


# With a kernel.


def test_latent_talks_with_a_kernel(visit):
    script = """
        k.model.set("beta", 4);
        await k.frames(2);
        const shown = k.get("out=t").value, before = k.get("out=z0").value;
        k.type("u", 0.25);
        await k.frames(2);
        const on = k.get("out=z0").value;
        k.model.set("z", [0.5, -0.5]);
        await k.frames(2);
        const moved = k.get("out=z0").value;
        k.clean();
        return [shown, before === on, k.sent.at(-1).beta, moved];
    """
    shown, still, told, moved = kernel(visit("elbo"), LatentExplorer(), script)
    assert shown == "β = 4.00"
    assert not still
    assert told == pytest.approx(4)
    assert moved == "0.50"


def test_beta_moves_the_point_with_its_digit(visit):
    script = """
        const before = k.get("out=z1").value;
        k.type("t", 0.6);
        await k.frames(2);
        return [before, k.get("out=z1").value, k.sent.at(-1).z[1]];
    """
    before, after, told = kernel(visit("elbo"), LatentExplorer(), script)
    assert before != after
    assert float(after.replace("−", "-")) == pytest.approx(told, abs=0.006)


def test_elbo_talks_with_a_kernel(visit):
    script = """
        k.type("x", 1);
        await k.frames(2);
        const told = k.sent.at(-1);
        k.model.set("mean", -1);
        await k.frames(2);
        k.clean();
        return [told.x, told.mean, k.get("out=x").value, k.get("out=mean").value];
    """
    found = kernel(visit("elbo"), ElboExplorer(), script)
    assert found == [1, 0.5, "1.00", "−1.00"]


# Speed.

TIMES = """async () => {
    const { explorer } = document.querySelector(".vx-latent");
    const times = { point: [], beta: [] };
    for (let k = 0; k < 60; k++) {
        let begun = performance.now();
        explorer.move([Math.sin(k), Math.cos(k)]);
        explorer.draw();
        times.point.push(performance.now() - begun);
        begun = performance.now();
        explorer.retune(k / 60);
        explorer.draw();
        times.beta.push(performance.now() - begun);
        await new Promise(requestAnimationFrame);
    }
    const paint = performance.getEntriesByName("first-contentful-paint")[0].startTime;
    return { ...times, paint };
}"""


@pytest.mark.timing
def test_frames_and_first_paint_are_fast(visit):
    found = visit("latent").evaluate(TIMES)
    numbers = {"first_paint_ms": round(found["paint"], 1)}
    for name in ("point", "beta"):
        times = np.sort(found[name])
        numbers[f"{name}_median_ms"] = round(float(np.median(times)), 2)
        numbers[f"{name}_p95_ms"] = round(float(times[int(0.95 * len(times))]), 2)
    if "WRITE_BENCHMARKS" in os.environ:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        content = {"provenance": provenance(), **numbers}
        RESULTS.write_text(json.dumps(content, indent=1) + "\n")
    # Generous: a busy machine with two cores must pass. The aim is 16 ms and 1 s.
    assert numbers["point_median_ms"] < 40, numbers
    assert numbers["beta_median_ms"] < 60, numbers
    assert numbers["first_paint_ms"] < 3000, numbers
