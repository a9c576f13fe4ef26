"""The blur explorer: its file and record, its numbers, its controls."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from browsing import box, changes, kernel, out, picture, point, press, settle, sweep

from tools import blur_models, make_blur
from tools.make_weights import fingerprint
from vae_teach import data
from vae_teach.explorers import BlurExplorer, payload
from vae_teach.explorers.explorer import HERE
from vae_teach.sharpness import power_spectrum, sharpness

ROOT = "document.querySelector('.vx-blur').explorer"
MIDDLE, LAST = 12, blur_models.POSITIONS - 1


@pytest.fixture(scope="module")
def contents():
    return payload.unpack(BlurExplorer().payload())


@pytest.fixture(scope="module")
def arrays(contents):
    return contents[0]


@pytest.fixture(scope="module")
def facts(contents):
    return contents[1]


@pytest.fixture(scope="module")
def record():
    return json.loads((HERE / "weights/blur.json").read_text())


@pytest.fixture(scope="module")
def dataset():
    return data.load("mnist12k")


@pytest.fixture(scope="module")
def few(dataset):
    return make_blur.as_images(make_blur.few_digits(dataset))


@pytest.fixture(scope="module")
def vae(arrays):
    return make_blur.page_model({k: v for k, v in arrays.items() if "coder." in k})


@pytest.fixture
def page(visit):
    return visit("blur")


# The file and its record.


def test_page_is_small_enough():
    explorer = BlurExplorer()
    parts = explorer.payload(), explorer.module().encode(), explorer.picture()
    assert sum(map(len, parts)) <= 450_000


def test_record_says_how_the_weights_were_made(record, facts, dataset):
    assert record["command"].startswith("python -m tools.make_blur")
    assert record["data"]["train_sha256"] == fingerprint(dataset)
    assert {"jax", "flax", "optax", "numpy", "python"} == record["versions"].keys()
    assert record["bytes"] == len(BlurExplorer().payload())
    for size in (blur_models.PLANE, blur_models.REAL):
        said = size._asdict() | {"widths": list(size.widths)}
        assert said in record["models"].values()
    for name, said in facts.items():
        assert record[name] == said, name


def test_digits_are_those_of_the_data(arrays, dataset, few):
    pixels = np.stack([arrays["digits"] >> 4, arrays["digits"] & 15], -1)
    np.testing.assert_array_equal(
        pixels.reshape(len(few), 784), few.reshape(-1, 784) * 15
    )
    assert (arrays["labels"] == dataset.train.labels[: len(few)]).all()
    images = dataset.train.images[: len(few)].reshape(-1, 784)
    assert abs(images - few.reshape(-1, 784)).max() <= 1 / 30 + 1e-6
    for digit, label in zip(arrays["tests"], make_blur.CLASSES, strict=True):
        same = np.round(255 * dataset.test.images.reshape(-1, 784)) == digit
        assert label in dataset.test.labels[same.all(1)]


@pytest.mark.parametrize("position", [0, 8, MIDDLE, 16, LAST])
def test_rounded_model_reproduces_the_read_outs(vae, few, facts, position):
    t = blur_models.dials()[position]
    found = blur_models.measure(vae, t, few) | blur_models.sharing(vae, t, few, few)
    found["sharpness"] = found["sharpness"] / sharpness(few, cutoff=0.2).mean()
    for name, said in facts["plane"][position].items():
        assert float(found[name]) == pytest.approx(said, rel=2e-3, abs=5e-3), name


def test_read_outs_are_consistent_with_what_they_mean(facts, dataset):
    images = dataset.test.images
    assert facts["spread"]["real"] == pytest.approx(
        ((images - images.mean(0)) ** 2).sum((1, 2, 3)).mean(), abs=0.01
    )
    for world, most in (("plane", facts["few"]), ("real", facts["many"])):
        rows = facts[world]
        assert [row["rate"] for row in rows] == sorted(
            (row["rate"] for row in rows), reverse=True
        )
        # One digit each at one end, all of them at the other, where nothing is coded.
        assert rows[0]["sharing"] == pytest.approx(1, abs=0.2)
        assert rows[-1]["sharing"] > 0.8 * most
        assert rows[-1]["error"] == pytest.approx(facts["spread"][world], rel=0.02)
        assert rows[0]["sharpness"] > 0.6
        assert rows[-1]["sharpness"] < 0.1


def test_sharing_follows_the_rate(facts):
    """A code of R nats can tell e^R digits apart, so that N e^-R or more share it."""
    for world, many in (("plane", facts["few"]), ("real", facts["many"])):
        for row in facts[world]:
            # exp of the mean entropy is N e^-I, and the information I is at most R.
            assert row["sharing"] >= 0.9 * many * np.exp(-row["rate"]), (world, row)


def test_spectra_are_those_of_the_data_and_fall_as_it_blurs(arrays, facts, dataset):
    spectrum = power_spectrum(jnp.asarray(dataset.test.images))
    np.testing.assert_allclose(arrays["data"], spectrum.power, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(facts["frequency"], spectrum.frequency, atol=1e-4)
    fine = np.asarray(spectrum.frequency) > facts["cutoff"]
    energy = (arrays["power"] * np.asarray(spectrum.modes))[:, fine].sum(1)
    whole = (arrays["data"] * np.asarray(spectrum.modes))[fine].sum()
    assert whole > energy[0] > 20 * energy[-1]
    assert (np.diff(energy) < 0.02 * energy[0]).all()


def test_brief_retraining_lands_where_the_record_says(record, few):
    brief = record["brief"]
    model = make_blur.train_plane(few, 0, brief["epochs"])
    found = blur_models.measure(model, blur_models.dials()[brief["position"]], few)
    for name in ("rate", "error"):
        said = brief[name]
        assert abs(float(found[name]) - said["mean"]) <= said["margin"], (name, found)


# The decoder is the average.


def test_where_codes_are_shared_the_decoder_is_the_average_of_the_data(facts):
    shared = [row for row in facts["plane"] if row["sharing"] > 2]
    assert len(shared) >= 4
    for row in shared:
        # Two digits are 109 apart: what is left is a few percent of that.
        assert row["apart"] < 0.08 * 2 * facts["spread"]["plane"], row


def test_javascript_equals_jax(page, vae, few):
    call = f"""([at, zs]) => {{
        {ROOT}.retune(at);
        return [zs.map((z) => {{
            const {{ weights, average, decoded }} = {ROOT}.look(z);
            return [[...weights], [...average], [...decoded]];
        }}), {ROOT}.codes().map(({{ mean, sd }}) => [...mean, ...sd])];
    }}"""
    rng = np.random.default_rng(0)
    for at in range(0, blur_models.POSITIONS, 4):
        model = blur_models.At(vae, blur_models.dials()[at])
        q = jax.vmap(model.q_z)(few)
        near = q.loc[:4] + 0.5 * q.scale[:4]
        z = np.r_[rng.normal(size=(4, 2)), near].astype(np.float32)
        shown, codes = page.evaluate(call, [at, z.tolist()])
        scale = np.maximum(1, abs(np.asarray(q.loc)).max())
        np.testing.assert_allclose(
            codes, np.concatenate([q.loc, q.scale], 1), atol=1e-3 * scale
        )
        decoded = jax.vmap(lambda z, m=model: m.p_x(z).mean.ravel())(jnp.asarray(z))
        np.testing.assert_allclose([s[2] for s in shown], decoded, atol=1e-3)
        # From the codes of the page: where sd is small, w turns on their last digits.
        loc, sd = np.split(np.asarray(codes), 2, axis=1)
        for one, (weights, average, _) in zip(z, shown, strict=True):
            log = -(((one - loc) / sd) ** 2 / 2 + np.log(sd)).sum(1)
            w = np.exp(log - log.max())
            w = w / w.sum()
            np.testing.assert_allclose(weights, w, atol=1e-3)
            expected = w @ np.asarray(few).reshape(len(few), -1)
            np.testing.assert_allclose(average, expected, atol=1e-3)


@pytest.mark.parametrize("at", [14, 16, LAST])
def test_average_equals_that_of_jax(page, vae, few, at):
    model = blur_models.At(vae, blur_models.dials()[at])
    q = jax.vmap(model.q_z)(few)
    for z in q.loc[:6]:
        call = f"([at, z]) => ({ROOT}.retune(at), [...{ROOT}.look(z).average])"
        found = page.evaluate(call, [at, [float(v) for v in z]])
        w = blur_models.weights(q, z)
        np.testing.assert_allclose(found, jnp.tensordot(w, few, 1).ravel(), atol=1e-3)


# The controls.


def test_every_control_moves_what_it_should_by_keyboard(page):
    numbers = [f"{w}-{n}" for w in ("plane", "real") for n in ("rate", "error")]
    everything = ("plane", "average", "decoded", "sharers", "pairs", "power")
    changes(
        page,
        lambda: press(page, "[data-in=at]", *["ArrowLeft"] * 6),
        *[lambda n=n: out(page, n) for n in (*numbers, "plane-sharpness")],
        *[lambda n=n: picture(page, n) for n in everything],
    )
    for k, key in ((0, "ArrowRight"), (1, "ArrowUp")):
        changes(
            page,
            lambda k=k: press(page, f"[data-in=z{k}]", *["ArrowRight"] * 30),
            lambda k=k: out(page, f"z{k}"),
            lambda: picture(page, "decoded"),
        )
        changes(
            page,
            lambda key=key: press(page, "[data-canvas=plane]", *[key] * 5),
            lambda k=k: out(page, f"z{k}"),
        )
    assert page.input_value("[data-in=digit]") == ""
    changes(
        page,
        lambda: press(page, "[data-in=digit]", *["ArrowDown"] * 3),
        lambda: out(page, "z0"),
        lambda: picture(page, "average"),
    )


def test_a_click_and_a_drag_move_the_point(page):
    spots = [lambda n=n: out(page, n) for n in ("z0", "z1", "apart")]
    area = box(page, "[data-canvas=plane]")
    changes(page, lambda: page.mouse.click(*point(area, 0.4, 0.3)), *spots)
    changes(
        page,
        lambda: sweep(page, "[data-canvas=plane]", [(0.4, 0.3), (0.6, 0.7)]),
        *spots,
    )
    changes(
        page,
        lambda: page.mouse.click(*point(box(page, "[data-in=at]"), 0.2)),
        lambda: out(page, "at"),
    )


def test_a_finger_moves_the_point(visit):
    page = visit("blur", 390, has_touch=True, is_mobile=True)
    area = box(page, "[data-canvas=plane]")
    changes(
        page,
        lambda: page.touchscreen.tap(*point(area, 0.35, 0.6)),
        lambda: out(page, "z0"),
        lambda: picture(page, "average"),
    )


def test_the_point_stays_with_its_digit_until_it_is_moved(page, vae, few, arrays):
    seven = few[np.flatnonzero(arrays["labels"] == 7)[0]]
    for at in (4, MIDDLE):
        page.locator("[data-in=at]").fill(str(at))
        settle(page)
        q = blur_models.At(vae, blur_models.dials()[at]).q_z(seven)
        found = [float(out(page, f"z{k}").replace("−", "-")) for k in (0, 1)]
        np.testing.assert_allclose(found, q.loc, atol=0.02)
    press(page, "[data-canvas=plane]", "ArrowRight")
    settle(page)
    kept = [out(page, f"z{k}") for k in (0, 1)]
    press(page, "[data-in=at]", "ArrowRight")
    settle(page)
    assert [out(page, f"z{k}") for k in (0, 1)] == kept


def test_read_outs_are_the_recorded_ones(page, facts):
    for at in (0, MIDDLE, LAST):
        page.locator("[data-in=at]").fill(str(at))
        settle(page)
        for world in ("plane", "real"):
            said = facts[world][at]
            for name in ("rate", "error"):
                assert float(out(page, f"{world}-{name}")) == pytest.approx(
                    said[name], abs=0.0501
                )
            shown = float(out(page, f"{world}-sharpness").rstrip("%"))
            assert shown == pytest.approx(100 * said["sharpness"], abs=0.501)


def test_blur_talks_with_a_kernel(visit):
    script = """
        k.model.set("variance", 0.1);
        await k.frames(2);
        const shown = k.get("out=at").value, before = k.get("out=z0").value;
        k.type("z0", 0.5);
        await k.frames(2);
        const told = k.sent.at(-1);
        k.model.set("z", [-0.5, 0.25]);
        await k.frames(2);
        const moved = [k.get("out=z0").value, k.get("out=z1").value];
        k.type("at", 20);
        await k.frames(2);
        k.clean();
        return [shown, told.z[0], moved, k.sent.at(-1).variance];
    """
    found = kernel(visit("elbo"), BlurExplorer(variance=0.5), script)
    assert found == ["σ² = 0.12", pytest.approx(0.5), ["−0.50", "0.25"], 6]


def test_wrong_state_is_refused():
    with pytest.raises(ValueError, match="positive variance"):
        BlurExplorer(variance=0.0)


@pytest.mark.timing
def test_frames_are_fast(page):
    times = page.evaluate(f"""async () => {{
        const times = [];
        for (let k = 0; k < 40; k++) {{
            const begun = performance.now();
            {ROOT}.retune(k % 21);
            {ROOT}.draw();
            times.push(performance.now() - begun);
            await new Promise(requestAnimationFrame);
        }}
        return times;
    }}""")
    assert np.median(times) < 60, times  # generous: the aim is 16 ms
