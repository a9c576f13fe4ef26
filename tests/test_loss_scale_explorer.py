"""The loss-scale explorer: its file, its presets, its numbers, its controls."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from browsing import changes, kernel, out, outputs, picture, press, settle

from tools import make_loss_scale
from vae_teach import data, theory
from vae_teach.distributions import kl
from vae_teach.explorers import LossScaleExplorer, payload
from vae_teach.explorers.loss_scale import PRESETS, REDUCED, SUMS

ROOT = "document.querySelector('.vx-loss_scale').explorer"


@pytest.fixture(scope="module")
def arrays():
    return payload.unpack(LossScaleExplorer().payload())[0]


@pytest.fixture(scope="module")
def dataset():
    return data.load("mnist12k")


@pytest.fixture(scope="module")
def x(dataset):
    return dataset.train.images.reshape(len(dataset.train.images), -1)


def ravel(images):
    return images.reshape(len(images), -1).astype(np.float64)


def weights(loss):
    """The loss of a batch as a SSE + b KL, each summed over its examples."""
    a = loss["error_weight"] * (0.5 if loss["half"] else 1)
    b = loss["kl_weight"]
    over = {
        "over_pixels": ("a", loss["pixels"]),
        "error_over_batch": ("a", loss["batch"]),
        "over_latents": ("b", loss["latents"]),
        "kl_over_batch": ("b", loss["batch"]),
    }
    for name, (which, count) in over.items():
        if loss[name] == "mean":
            a, b = (a / count, b) if which == "a" else (a, b / count)
    return a, b


def random_losses(count=50):
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield {
            "error_weight": float(10 ** rng.uniform(-2, 3)),
            "half": bool(rng.integers(2)),
            "kl_weight": float(10 ** rng.uniform(-5, 2)),
            **{name: str(rng.choice(["sum", "mean"])) for name in REDUCED},
            "pixels": int(rng.integers(1, 5000)),
            "latents": int(rng.integers(1, 800)),
            "batch": int(rng.integers(1, 600)),
        }


def linear_vae(x, variance, size):
    """The linear VAE at a fixed σ²: W = U (Λ - σ²)^½, columns of zeros where λ < σ²."""
    mean, values, vectors = make_loss_scale.spectrum(x)
    columns = vectors[:, :size] * np.sqrt(np.maximum(values[:size] - variance, 0))
    return theory.PPCA(*map(jnp.asarray, (mean, columns, variance, values)))


# The file.


def test_file_is_what_the_tool_makes(arrays, dataset):
    again, facts = payload.unpack(make_loss_scale.content(dataset))
    assert facts == {"name": "mnist12k", "examples": 10_000}
    np.testing.assert_array_equal(again["digits"], arrays["digits"])
    np.testing.assert_allclose(again["values"], arrays["values"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(again["mean"], arrays["mean"], atol=1e-4)
    # LAPACKs differ in the vectors of close eigenvalues: compare what the first span.
    whole, found = arrays["vectors"][:, :20], again["vectors"][:, :20]
    np.testing.assert_allclose(whole @ whole.T, found @ found.T, atol=1e-3)


def test_rounded_eigenvectors_are_nearly_orthonormal(arrays):
    vectors = arrays["vectors"]
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(128), atol=0.02)


def test_digits_are_test_digits(arrays, dataset):
    gray = np.round(255 * ravel(dataset.test.images)).astype(np.uint8)
    for digit, label in zip(arrays["digits"], make_loss_scale.CLASSES, strict=True):
        rows = np.flatnonzero((gray == digit).all(1))
        assert label in dataset.test.labels[rows]


# The presets.


def test_presets_imply_what_is_said_of_them():
    found = {
        preset.name: theory.implied_variance(*weights(preset.loss))
        for preset in PRESETS
    }
    said = {
        "SSE + KL, sums": 1 / 2,
        "½ SSE + KL, sums": 1,
        "MSE + KL": 784 / 2,
        "every mean: “normalised”": 784 / (2 * 20),
        "one mean of all, KL summed": 128 * 784 / 2,
        "Pythae, VAE": 1,
        "VAE Explainer, Keras notebook": 1 / 2,
        "disentangling-vae, “gaussian”": 1 / 510,
        "PyTorch-VAE, vae.yaml": 0.00025 * 64 * 64 * 3 / 2,
        "World Models in Keras, 2018": 64 * 64 * 3 / (2 * 10 * 32),
    }
    assert found.keys() == said.keys()
    for name, value in said.items():
        assert found[name] == pytest.approx(value), name


def test_presets_set_every_part_of_the_state():
    for preset in PRESETS:
        assert preset.loss.keys() == SUMS.keys() == LossScaleExplorer.state.keys()


def test_wrong_state_is_refused():
    with pytest.raises(ValueError, match="positive kl_weight"):
        LossScaleExplorer(kl_weight=0.0)
    with pytest.raises(ValueError, match="over_pixels"):
        LossScaleExplorer(over_pixels="average")


# The numbers.


def test_page_gives_the_variance_and_the_latents_in_use(visit, x):
    losses = [preset.loss for preset in PRESETS] + list(random_losses())
    call = f"losses => losses.map((s) => ({ROOT}.change(s), {ROOT}.numbers()))"
    found, values = visit("loss_scale").evaluate(call, losses), _eigenvalues(x)
    several = set()
    for loss, numbers in zip(losses, found, strict=True):
        a, b = weights(loss)
        variance = theory.implied_variance(a, b)
        assert numbers["variance"] == pytest.approx(variance, rel=1e-12)
        assert numbers["a"]["value"] / numbers["b"]["value"] == pytest.approx(a / b)
        above = int((values > variance).sum())
        assert numbers["active"] == min(above, loss["latents"])
        several.add(numbers["active"])
    assert len(several) > 10
    for loss in losses[:: len(losses) // 6]:
        variance = theory.implied_variance(*weights(loss))
        predicted = theory.predict_active_units(x, variance)
        assert int((values > variance).sum()) == predicted


def _eigenvalues(x):
    return make_loss_scale.spectrum(x.astype(np.float64))[1]


@pytest.mark.parametrize(
    ("variance", "size"), [(0.5, 20), (1.0, 20), (0.1, 64), (9.0, 5)]
)
def test_rate_and_error_are_those_of_the_linear_vae(visit, x, variance, size):
    loss = SUMS | {"half": True, "kl_weight": variance, "latents": size}
    found = visit("loss_scale").evaluate(
        f"s => ({ROOT}.change(s), {ROOT}.numbers())", loss
    )
    model = linear_vae(x.astype(np.float64), variance, size)
    q = jax.vmap(model.q_z)(jnp.asarray(x))
    rate = jax.vmap(lambda q: kl(q, model.p_z()))(q).mean()
    misses = jnp.asarray(x) - jax.vmap(lambda z: model.p_x(z).mean)(q.mean)
    # E_q |x - x̂|² adds the variance that W gives to z's spread.
    spread = ((model.weights**2).sum(0)[None] * q.scale**2).sum(1)
    error = ((misses**2).sum(1) + spread).mean()
    assert found["rate"] == pytest.approx(float(rate), abs=1e-3)
    assert found["error"] == pytest.approx(float(error), abs=1e-3)


@pytest.mark.parametrize(("variance", "latents"), [(0.5, 20), (2.0, 64), (0.01, 128)])
def test_reconstructions_are_those_of_python(visit, arrays, x, variance, latents):
    call = f"([t, n]) => {ROOT}.reconstruct(t, n).map((x) => [...x])"
    values, vectors = arrays["values"].astype(np.float64), arrays["vectors"]
    digits, mean = arrays["digits"] / 255, arrays["mean"][:, 0]
    active = min(int((values > variance).sum()), latents)
    found = visit("loss_scale").evaluate(call, [variance, active])
    used = vectors[:, :active].astype(np.float64)
    shrunk = (digits - mean) @ used * (1 - variance / values[:active])
    np.testing.assert_allclose(found, mean + shrunk @ used.T, atol=1e-3)
    model = linear_vae(x.astype(np.float64), variance, latents)
    exact = jax.vmap(lambda x: model.p_x(model.q_z(x).mean).mean)(jnp.asarray(digits))
    np.testing.assert_allclose(found, exact, atol=0.05)  # what 8 bits cost


def test_collapsed_reconstructions_are_all_the_mean(visit, arrays):
    found = visit("loss_scale").evaluate(
        f"() => {ROOT}.reconstruct(392, 0).map((x) => [...x])"
    )
    np.testing.assert_allclose(found, np.tile(arrays["mean"].T, (5, 1)), atol=1e-6)


# The controls.


def test_every_preset_is_chosen_by_keyboard_and_recognised(visit):
    page = visit("loss_scale")
    page.focus("[data-in=preset]")
    seen = {out(page, "variance")}
    for name in [preset.name for preset in PRESETS]:
        page.select_option("[data-in=preset]", label=name)
        settle(page)
        chosen = page.eval_on_selector(
            "[data-in=preset]", "(node) => node.selectedOptions[0].text"
        )
        assert chosen == name
        seen.add(out(page, "variance"))
    assert len(seen) == 8  # two pieces of code write what a textbook does
    press(page, "[data-in=error_weight]", "ArrowUp")
    settle(page)
    assert page.input_value("[data-in=preset]") == "your own"


def test_every_part_of_the_loss_is_entered_by_keyboard(visit):
    page = visit("loss_scale")
    start = outputs(page)
    for name in ("error_weight", "kl_weight", "latents", "pixels"):
        changes(
            page,
            lambda name=name: press(page, f"[data-in={name}]", "ArrowUp"),
            lambda: outputs(page),
        )
    for name in REDUCED:
        key = "s" if page.input_value(f"[data-in={name}]") == "mean" else "m"
        changes(
            page,
            lambda name=name, key=key: press(page, f"[data-in={name}]", key),
            lambda: out(page, "variance"),
        )
    changes(
        page,
        lambda: press(page, "[data-in=half]", "Space"),
        lambda: out(page, "a"),
        lambda: out(page, "variance"),
        lambda: picture(page, "scree"),
    )
    changes(
        page,
        lambda: page.select_option("[data-in=error_over_batch]", "mean"),
        lambda: out(page, "variance"),
    )
    changes(
        page,
        lambda: press(page, "[data-in=batch]", "ArrowUp"),
        lambda: out(page, "variance"),
    )
    press(page, "[data-do=reset]", "Enter")
    settle(page)
    assert outputs(page) == start


def test_numbers_are_typed_and_nonsense_is_refused(visit):
    page = visit("loss_scale")
    page.fill("[data-in=kl_weight]", "2.5e-4")
    settle(page)
    assert out(page, "variance") == "0.098"
    assert out(page, "active") == "20"
    for text in ("-3", "0", ""):
        page.fill("[data-in=kl_weight]", text)
        settle(page)
        assert out(page, "variance") == "0.098"
        assert page.get_attribute("[data-in=kl_weight]", "aria-invalid") == "true"
    page.focus("[data-in=preset]")
    settle(page)
    assert page.input_value("[data-in=kl_weight]") == "0.00025"
    page.fill("[data-in=latents]", "2.5")
    settle(page)
    assert out(page, "d") == "20"


def test_verdict_says_what_happens(visit):
    page, note = visit("loss_scale"), ".vx-note"
    page.wait_for_timeout(400)
    assert page.inner_text(note).startswith("Collapses: σ² = 392 is above every")
    for name, words in {
        "½ SSE + KL, sums": "12 of 20 latents in use: 12 eigenvalues are above σ² = 1.",
        "SSE + KL, sums": "20 of 20 latents in use: σ² = 0.5 leaves 23 eigenvalues",
    }.items():
        page.select_option("[data-in=preset]", label=name)
        page.wait_for_timeout(500)
        assert page.inner_text(note).startswith(words)


def test_other_images_are_said_to_have_other_eigenvalues(visit):
    page = visit("loss_scale")
    assert out(page, "whose") == "28 × 28 pixels"
    page.select_option("[data-in=preset]", label="PyTorch-VAE, vae.yaml")
    settle(page)
    assert "12,288 pixels have others" in out(page, "whose")


def test_loss_scale_talks_with_a_kernel(visit):
    script = """
        k.type("kl_weight", 0.01);
        await k.frames(2);
        const told = k.sent.at(-1);
        k.model.set("over_pixels", "sum");
        await k.frames(2);
        const shown = k.get("out=variance").textContent;
        k.clean();
        return [told.kl_weight, told.latents, shown, k.get("in=over_pixels").value];
    """
    found = kernel(visit("elbo"), LossScaleExplorer(), script)
    assert found == [0.01, 20, "0.005", "sum"]


@pytest.mark.timing
def test_frames_are_fast(visit):
    times = visit("loss_scale").evaluate(f"""async () => {{
        const times = [];
        for (let k = 0; k < 40; k++) {{
            const begun = performance.now();
            {ROOT}.change({{ kl_weight: 10 ** (k / 10 - 5), latents: 128 }});
            {ROOT}.draw();
            times.push(performance.now() - begun);
            await new Promise(requestAnimationFrame);
        }}
        return times;
    }}""")
    assert np.median(times) < 40, times  # generous: the aim is 16 ms
