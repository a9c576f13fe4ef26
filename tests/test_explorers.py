"""The explorers without a browser: weights, record, HTML, widget, panel."""

import json
import subprocess
import sys
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from browsing import EXPLORERS
from flax import nnx

from tools import make_weights
from vae_teach import data
from vae_teach.epochs import epoch
from vae_teach.explorers import LatentExplorer, conditioned, payload, trained
from vae_teach.explorers.explorer import HERE

every_explorer = pytest.mark.parametrize("make", EXPLORERS.values(), ids=EXPLORERS)


@pytest.fixture(scope="module")
def test_images():
    return jnp.asarray(data.load("mnist12k").test.images)


# Weights and their record.


def test_weights_are_small_enough_for_a_page():
    assert len(trained.blob()) <= 900_000
    assert trained.record()["bytes"]["all"] == len(trained.blob())


def test_record_says_how_the_weights_were_made():
    record, dataset = trained.record(), data.load("mnist12k")
    assert record["command"].startswith("python -m tools.make_weights")
    assert len(record["seeds"]) >= 3
    assert {"jax", "flax", "optax", "numpy", "python"} == record["versions"].keys()
    assert record["data"]["train_sha256"] == make_weights.fingerprint(dataset)
    for row in record["compared"]:
        for kind in ("conditioned", "separate"):
            for mean, spread in row[kind].values():
                assert np.isfinite(mean)
                assert spread >= 0


def test_page_shows_what_the_record_says():
    _, facts = trained.contents()
    record = trained.record()
    for name in ("agreement", "rounding", "curve"):
        assert facts[name] == record[name]


def test_agreement_is_the_largest_gap_of_the_compared_rows():
    record = trained.record()
    again = make_weights.agreement(record["compared"], len(record["seeds"]))
    assert again == record["agreement"]


def test_active_units_move():
    active = [row["active"] for row in trained.record()["curve"]]
    assert active[0] == 2
    assert active[-1] == 0
    assert active == sorted(active, reverse=True)


@pytest.mark.parametrize("row", [0, 20, 40, 64])
def test_rounded_model_reproduces_the_read_outs(row, test_images):
    t = np.linspace(0, 1, make_weights.GRID)[row]
    model = conditioned.At(trained.model(), jnp.asarray(t, jnp.float32))
    found, said = (
        make_weights.measure(model, test_images),
        trained.record()["curve"][row],
    )
    assert found["rate"] == pytest.approx(said["rate"], abs=0.005)
    assert found["distortion"] == pytest.approx(said["distortion"], abs=0.05)
    assert found["active"] == said["active"]


def test_brief_retraining_lands_where_the_record_says(test_images):
    brief, train = trained.record()["brief"], data.load("mnist12k").train.images
    model = make_weights.conditioned_vae(jnp.asarray(train), 0, brief["epochs"])
    for beta, said in brief["at"].items():
        found = make_weights.measure(make_weights.at(model, float(beta)), test_images)
        for name in ("rate", "distortion"):
            (mean, _), margin = said[name], brief["margin"][beta][name]
            assert abs(found[name] - mean) <= margin, (beta, name, found, said)


# Packing.


def test_pack_and_unpack_are_inverse():
    rng = np.random.default_rng(0)
    exact = rng.normal(size=(3, 5, 2)).astype(np.float32)
    small = payload.rounded(exact, 8)
    plain = np.arange(7, dtype=np.uint8)
    arrays, facts = payload.unpack(payload.pack({"w": small, "n": plain}, {"a": 1}))
    np.testing.assert_array_equal(arrays["w"], small.values)
    np.testing.assert_array_equal(arrays["n"], plain)
    assert facts == {"a": 1}


@pytest.mark.parametrize("bits", [8, 16])
def test_rounding_is_off_by_half_a_step_at_most(bits):
    exact = np.random.default_rng(0).normal(size=(4, 9, 6)).astype(np.float32)
    small = payload.rounded(exact, bits)
    assert (np.abs(small.values - exact) <= 0.51 * small.scale).all()


def test_zeros_survive_rounding():
    zeros = np.zeros((3, 2), np.float32)
    np.testing.assert_array_equal(payload.rounded(zeros).values, zeros)


# The conditioned model.


def test_dial_and_beta_are_inverse():
    for beta in (0.0, 0.1, 1.0, 16.0, 64.0):
        t = conditioned.dial_of(beta)
        assert float(conditioned.beta_of(t)) == pytest.approx(beta, rel=1e-4, abs=1e-6)


def test_hats_sum_to_one_and_pick_their_knot():
    for t in np.linspace(0, 1, 23):
        phi = conditioned.hats(jnp.float32(t), 16)
        assert float(phi.sum()) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(
        conditioned.hats(jnp.float32(0.2), 16), jnp.eye(16)[3], atol=1e-5
    )


def test_blended_layer_is_its_knot_at_a_knot():
    layer = conditioned.Blended(3, 2, 4, rngs=nnx.Rngs(0))
    layer.kernel[...] = jax.random.normal(jax.random.key(0), (4, 3, 2))
    x = jnp.arange(3.0)
    for k in range(4):
        np.testing.assert_allclose(
            layer(x, jnp.eye(4)[k]), x @ layer.kernel[...][k], rtol=1e-6
        )


def test_parts_and_model_are_inverse():
    parts = trained.parts(trained.model())
    again = trained.parts(trained.model_from(parts))
    for name, part in parts.items():
        np.testing.assert_allclose(again[name], part, rtol=1e-6)


# HTML and widget.


@every_explorer
def test_html_needs_nothing_from_outside(make):
    page = make().html()
    assert "http://" not in page
    assert "https://" not in page
    assert (
        "import " not in page.split('<script type="module">')[1].split("const bytes")[0]
    )
    assert page.count("<script") == page.count("</script>") == 2


@every_explorer
def test_every_explorer_has_a_still_picture_and_a_sentence(make):
    explorer = make()
    assert explorer.picture().startswith(b"\x89PNG")
    assert 40 < len(explorer.notice) < 250
    assert "<noscript>" in explorer.html()


# Bytes of weights, script and picture, where networks need more than 200 kB.
ROOM = {
    "latent": 900_000,
    "blur": 450_000,
    "codebook": 260_000,
    "condition": 420_000,
    "interpolate": 370_000,
    "holes": 280_000,
    "rotate": 250_000,
    "traverse": 620_000,
}


@every_explorer
def test_explorer_is_light(make):
    explorer = make()
    parts = explorer.payload(), explorer.module().encode(), explorer.picture()
    assert sum(map(len, parts)) <= ROOM.get(make.name, 200_000)


def test_two_explorers_have_two_names():
    one, two = (
        LatentExplorer().html().split('id="')[1].split('"')[0] for _ in range(2)
    )
    assert one != two


@every_explorer
def test_code_is_written_to_be_read(make):
    for name in (*make.modules, make.name):
        text = (HERE / f"{name}.js").read_text()
        assert max(map(len, text.splitlines())) <= 100, name


def test_unknown_state_is_refused():
    with pytest.raises(TypeError, match="beta"):
        LatentExplorer(betta=1.0)


@every_explorer
def test_bundle_has_widget_and_html(make):
    pytest.importorskip("anywidget")
    bundle, _ = make()._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert "text/html" in bundle
    assert "0x" not in bundle["text/plain"]


def test_widget_state_leaves_the_weights_out():
    pytest.importorskip("anywidget")
    widget = LatentExplorer(beta=4.0).widget()
    assert widget.beta == 4.0
    assert len(json.dumps(widget.get_state(), default=str)) < 100_000


def test_widget_sends_the_weights_when_asked():
    pytest.importorskip("anywidget")
    widget, sent = LatentExplorer().widget(), []
    widget.send = lambda content, buffers: sent.append((content, buffers))
    widget._handle_custom_msg({"ask": "payload"}, [])
    assert sent == [({"give": "payload"}, [trained.blob()])]


def test_colab_gets_html_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    bundle, _ = LatentExplorer()._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}


def test_explorers_work_without_widget_packages():
    code = """if True:
        import sys
        for name in ("anywidget", "ipywidgets", "traitlets"):
            sys.modules[name] = None
        from vae_teach.explorers import TrainPanel
        from vae_teach.explorers.explorer import Explorer
        for make in Explorer.__subclasses__():
            assert "text/html" in make()._repr_mimebundle_()[0]
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


# The panel.


@pytest.fixture
def panel():
    pytest.importorskip("ipywidgets")
    from vae_teach.explorers import TrainPanel

    dataset = data.load("mnist12k")
    few = data.Split(dataset.train.images[:512], dataset.train.labels[:512])
    test = data.Split(dataset.test.images[:300], dataset.test.labels[:300])
    return TrainPanel(few, test)


def test_panel_trains_without_compiling_for_another_beta(panel):
    panel.epochs.value = 1
    panel.button.click()
    compiled, first = epoch._cache_size(), panel.measured
    panel.beta.value, panel.epochs.value = 10.0, 2
    panel.button.click()
    assert epoch._cache_size() == compiled
    assert panel.measured.rate != first.rate
    assert bytes(panel.picture.value).startswith(b"\x89PNG")
    assert "units active" in panel.says.value
    assert not panel.button.disabled


def test_panel_takes_one_latent(panel):
    panel.epochs.value, panel.latents.value = 1, 1
    panel.button.click()
    assert panel.model.p_z().loc.shape == (1,)


def test_panel_on_colab_offers_the_widgets_alone(panel, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    bundle = panel._repr_mimebundle_()
    assert set(bundle) == {"application/vnd.jupyter.widget-view+json", "text/plain"}


def test_panel_is_a_picture_and_a_line_on_a_page(panel):
    page = panel._repr_mimebundle_()["text/html"]
    assert "needs a kernel" in page
    assert "data:image/png;base64," in page
