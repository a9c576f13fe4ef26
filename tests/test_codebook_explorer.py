"""The codebook explorer: its file and record, its arithmetic, its controls."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from browsing import (
    arrays_and_facts,
    box,
    changes,
    frame_times,
    kernel,
    out,
    outputs,
    picture,
    point,
    press,
    record_of,
    settle,
    sweep,
)

from tools import make_codebook
from tools.make_weights import fingerprint
from vae_teach import data
from vae_teach.explorers import CodebookExplorer
from vae_teach.explorers.codebook import CODES, DIGITS, GRID
from vae_teach.metrics import rate_and_distortion
from vae_teach.vq import usage

ROOT = "document.querySelector('.vx-codebook').explorer"
PLACES, PATCH = GRID * GRID, make_codebook.PATCH
WHICH = pytest.mark.parametrize("which", make_codebook.MODELS)


@pytest.fixture(scope="module")
def contents():
    return arrays_and_facts("codebook")


@pytest.fixture(scope="module")
def arrays(contents):
    return contents[0]


@pytest.fixture(scope="module")
def facts(contents):
    return contents[1]


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(data.load("mnist12k").test.images)


@pytest.fixture(scope="module")
def models(arrays):
    return {which: make_codebook.unpacked(arrays, which) for which in ("off", "on")}


@pytest.fixture
def page(visit):
    return visit("codebook")


def choose(page, **state):
    page.evaluate(f"s => {ROOT}.change(s)", state)


def around(place):
    """The image, true where the code at a place can change it."""
    row, column = divmod(place, GRID)
    near = np.zeros((GRID, GRID), bool)
    near[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = True
    return near.repeat(PATCH, 0).repeat(PATCH, 1)


# The file and its record.


def test_record_says_how_the_weights_were_made(facts):
    record = record_of("codebook")
    assert record["command"] == "python -m tools.make_codebook"
    assert record["data"]["train_sha256"] == fingerprint(data.load("mnist12k"))
    assert {"jax", "flax", "optax", "numpy", "python"} == record["versions"].keys()
    assert record["bytes"] == len(CodebookExplorer().payload())
    assert len(record["seeds"]) >= 3
    for name, said in facts.items():
        assert record[name] == said, name


@WHICH
def test_read_outs_are_those_of_the_counts(arrays, facts, which):
    said, counts = facts["models"][which], arrays[f"{which}.counts"]
    shares = counts / counts.sum()
    assert counts.sum() == facts["train"] * PLACES
    assert said["share"] == pytest.approx((counts > 0).mean(), abs=1e-4)
    entropy = -(shares * np.log(np.maximum(shares, 1e-12))).sum()
    assert said["perplexity"] == pytest.approx(np.exp(entropy), rel=1e-3)
    assert said["rate"] == pytest.approx(PLACES * np.log(CODES), abs=1e-3)
    # A prior that knows the neighbours codes for less than one that counts alone.
    assert said["learned_rate"] < PLACES * entropy
    assert abs(said["rounding"]) < 1  # nats of distortion
    assert said["shares"][0] == said["share"]


@WHICH
def test_page_model_has_the_recorded_distortion(models, facts, images, which):
    found = rate_and_distortion(models[which], images, jr.key(0))
    said = facts["models"][which]["distortion"]
    assert float(found.distortion) == pytest.approx(said, abs=0.1)


def test_counts_are_those_of_the_training_digits(models, arrays):
    train = jnp.asarray(data.load("mnist12k").train.images)
    counts = usage(models["on"], train).counts
    # Another machine may round a tie otherwise.
    assert np.abs(counts - arrays["on.counts"]).sum() < 1e-3 * len(train) * PLACES


def test_notice_is_true(facts):
    """In every seed: most codes are dead without restarts, few with them."""
    assert max(facts["models"]["off"]["shares"]) < 0.5
    assert min(facts["models"]["on"]["shares"]) > 0.9


@WHICH
def test_samples_of_the_learned_prior_have_living_codes(arrays, which):
    """A uniform code is dead as often as codes are; one of the prior seldom."""
    alive, grids = arrays[f"{which}.counts"] > 0, arrays[f"{which}.samples"]
    assert grids.shape == (make_codebook.SAMPLES, PLACES)
    assert alive[grids].mean() > 0.98
    assert len(np.unique(grids, axis=0)) == len(grids)


def test_averages_are_blank_for_dead_codes_alone(arrays):
    for which in make_codebook.MODELS:
        dead = arrays[f"{which}.counts"] == 0
        assert (arrays[f"{which}.average"][dead] == 0).all()
    assert len(np.unique(arrays["on.average"], axis=0)) > CODES / 2


def test_variance_that_codes_explain_is_known_in_two_cases():
    """1 where a code has its own patch, 0 where the codes know nothing."""
    codes = np.repeat([0, 1], 4)
    own = np.repeat([[0.0, 1.0], [1.0, 0.0]], 4, 0)[:, None]
    means, explained = make_codebook.by_code(codes, own)
    assert explained == pytest.approx(1)
    np.testing.assert_allclose(means[:2], [[0, 1], [1, 0]])
    other = np.tile([[0.0], [1.0]], (4, 1))[:, None]
    assert make_codebook.by_code(codes, other)[1] == pytest.approx(0)


def test_brief_retraining_lands_where_the_record_says():
    brief = record_of("codebook")["brief"]
    train = jnp.asarray(data.load("mnist12k").train.images)
    (model,) = make_codebook.train(train, [0], brief["steps"], restarted=False)
    found = rate_and_distortion(model, train[:2_000], jr.key(0)).distortion
    mean, _, margin = brief["distortion"]
    assert abs(float(found) - mean) < margin + 0.02 * mean  # a part of the digits


# The page.


@WHICH
def test_javascript_quantises_and_decodes_as_jax_does(page, models, images, which):
    choose(page, restarts=which == "on")
    model, some = models[which], images[::100]
    call = f"xs => xs.map((x) => {ROOT}.encode(Float32Array.from(x)))"
    found = np.array(page.evaluate(call, some.reshape(len(some), -1).tolist()))
    exact = make_codebook.codes_of(model, some).reshape(len(some), -1)
    assert (found == exact).mean() > 0.995  # float32 may break a tie otherwise
    random = np.random.default_rng(0).integers(0, CODES, (6, PLACES))
    for codes in (found[:6], random):
        call = f"all => all.map((codes) => [...{ROOT}.decode(codes)])"
        pixels = page.evaluate(call, codes.tolist())
        grids = jnp.asarray(codes).reshape(-1, GRID, GRID)
        means = jax.vmap(lambda z: model.p_x(z).mean.ravel())(grids)
        np.testing.assert_allclose(pixels, means, atol=1e-3)


def test_surprise_is_the_distortion_of_the_digit(page, models, arrays):
    digit = 7
    choose(page, digit=digit)
    found = page.evaluate(f"() => {ROOT}.numbers()")
    x = jnp.asarray(arrays["digits"][digit] / 255, jnp.float32).reshape(28, 28, 1)
    z = jnp.asarray(found["codes"]).reshape(GRID, GRID)
    exact = -models["on"].p_x(z).log_prob(x)
    assert found["surprise"] == pytest.approx(float(exact), rel=1e-4)
    assert found["distinct"] == len(set(found["codes"]))


@pytest.mark.parametrize("place", [0, 24, 34])
def test_a_swap_changes_the_patches_around_it_alone(page, place):
    start = page.evaluate(f"() => {ROOT}.numbers()")
    codes = list(start["codes"])
    codes[place] = (codes[place] + 100) % CODES
    choose(page, place=place, codes=codes)
    now = page.evaluate(f"() => {ROOT}.numbers()")
    before, after = (np.array(run["decoded"]) for run in (start, now))
    change = ((after - before) ** 2).reshape(28, 28)
    assert change[~around(place)].max() == 0
    row, column = (PATCH * v for v in divmod(place, GRID))
    own = change[row : row + PATCH, column : column + PATCH].sum()
    assert now["change"]["own"] == pytest.approx(own, rel=1e-4, abs=1e-7)
    assert now["change"]["all"] == pytest.approx(change.sum(), rel=1e-4, abs=1e-7)


def test_palette_has_what_the_decoder_draws_at_the_place(page):
    place, code = 17, 5
    call = f"""([place, code]) => {{
        const {{ codes }} = {ROOT}.numbers(), swapped = [...codes];
        swapped[place] = code;
        return [[...{ROOT}.here(codes, place)[code]], [...{ROOT}.decode(swapped)]];
    }}"""
    patch, whole = page.evaluate(call, [place, code])
    row, column = (PATCH * v for v in divmod(place, GRID))
    whole = np.array(whole).reshape(28, 28)
    cut = whole[row : row + PATCH, column : column + PATCH]
    np.testing.assert_allclose(patch, cut.ravel(), atol=1e-5)


def test_every_control_by_keyboard_and_reset(page):
    start = outputs(page)
    image, palette = (lambda n=n: picture(page, n) for n in ("decoded", "palette"))
    grid = lambda: picture(page, "codes")  # noqa: E731
    press(page, "[data-canvas=codes]", "ArrowUp", "ArrowLeft")
    settle(page)
    assert page.evaluate(f"() => {ROOT}.state().place") == 16
    keys = ["ArrowDown", "ArrowRight", "ArrowDown"]
    changes(page, lambda: press(page, "[data-canvas=palette]", *keys), grid, image)
    press(page, "[data-do=undo]", "Enter")
    settle(page)
    assert page.is_disabled("[data-do=undo]")
    assert page.evaluate(f"() => {ROOT}.state().codes") is None
    changes(page, lambda: press(page, "[data-in=here]", "ArrowRight"), palette)
    off = lambda: press(page, "[data-in=on]", "ArrowRight")  # noqa: E731
    changes(page, off, lambda: out(page, "used"), grid, palette, image)
    for name, canvas in (("draw", "prior"), ("next", "x"), ("clear", "codes")):
        act = lambda name=name: press(page, f"[data-do={name}]", "Enter")  # noqa: E731
        changes(page, act, lambda canvas=canvas: picture(page, canvas))
    select = lambda: page.select_option("[data-in=class]", "8")  # noqa: E731
    changes(page, select, lambda: picture(page, "x"), grid)
    press(page, "[data-do=reset]", "Enter")
    settle(page)
    assert outputs(page) == start


def test_a_digit_is_drawn_and_a_code_swapped_by_pointer(visit):
    page = visit("codebook", 390)
    seven = [(0.3, 0.2), (0.7, 0.2), (0.6, 0.5), (0.45, 0.85)]
    grid = lambda: picture(page, "codes")  # noqa: E731
    changes(page, lambda: sweep(page, "[data-canvas=x]", seven), grid)
    drawn = page.evaluate(f"() => {ROOT}.numbers().distinct")
    assert drawn > 3
    area = box(page, "[data-canvas=codes]")
    page.mouse.click(*point(area, 3.5 / GRID, 3.5 / GRID))
    for spot in ((0.03, 0.03), (0.6, 0.4)):
        area = box(page, "[data-canvas=palette]")
        page.mouse.click(*point(area, *spot))
        settle(page)
        order = int(spot[1] * 16) * 16 + int(spot[0] * 16)
        assert page.input_value("[data-in=rank]") == str(order + 1)
    now = page.evaluate(f"() => {ROOT}.numbers()")
    different = np.flatnonzero(np.array(now["codes"]) != np.array(now["encoded"]))
    assert list(different) == [24]


def test_wrong_state_is_refused():
    for state, words in [
        ({"digit": DIGITS}, "digit to be one of"),
        ({"place": PLACES}, "place to be one of"),
        ({"look": "there"}, "look to be one of"),
        ({"codes": [0] * 48}, "49 integers"),
        ({"codes": [CODES] * PLACES}, "from 0 to 255"),
    ]:
        with pytest.raises(ValueError, match=words):
            CodebookExplorer(**state)


def test_codebook_talks_with_a_kernel(visit):
    script = """
        k.type("rank", 200);
        await k.frames(2);
        const told = k.sent.at(-1).codes.length;
        k.model.set("codes", Array(49).fill(7));
        await k.frames(2);
        const shown = k.get("out=rank").value;
        k.model.set("codes", null);
        k.model.set("restarts", false);
        await k.frames(2);
        const used = k.get("out=used").textContent;
        k.clean();
        return [told, shown, Number(used)];
    """
    told, shown, used = kernel(visit("elbo"), CodebookExplorer(), script)
    assert (told, shown) == (PLACES, "code 7")
    assert used < CODES / 2


@pytest.mark.timing
def test_frames_are_fast(page):
    change = "{ codes: Array.from({ length: 49 }, (_, i) => (7 * i + k) % 256) }"
    times = frame_times(page, ROOT, change)
    assert np.median(times) < 60, times  # generous: the aim is 16 ms
