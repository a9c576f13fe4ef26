"""The interpolate explorer: its file and record, its numbers, its controls."""

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from browsing import (
    arrays_and_facts,
    changes,
    kernel,
    out,
    picture,
    press,
    record_of,
    settle,
)
from scipy import stats

from tools import make_interpolate
from tools.decoders import unpacked
from tools.make_weights import fingerprint
from vae_teach import data
from vae_teach.distributions import Bernoulli, Normal
from vae_teach.explorers import InterpolateExplorer
from vae_teach.explorers.interpolate import DIGITS, DRAWS, LATENTS, TIMES
from vae_teach.interpolation import linear, path_length, spherical
from vae_teach.models import Conditional
from vae_teach.priors import StandardNormal

ROOT = "document.querySelector('.vx-interpolate').explorer"
PATHS = ("linear", "spherical", "shortest")
every_size = pytest.mark.parametrize("latents", LATENTS)


@pytest.fixture(scope="module")
def contents():
    return arrays_and_facts("interpolate")


@pytest.fixture(scope="module")
def arrays(contents):
    return contents[0]


@pytest.fixture(scope="module")
def facts(contents):
    return contents[1]


@pytest.fixture(scope="module")
def dataset():
    return data.load("mnist12k")


@pytest.fixture
def page(visit):
    return visit("interpolate")


def decoder(arrays, latents):
    """z to the pixels' means, with the weights of the page."""
    network = unpacked(arrays, f"{latents}.decoder")
    return jax.jit(lambda z: jax.nn.sigmoid(network(z)))


def curve(arrays, latents, ends, first, last):
    """The carried shortest path of a pair, first < last, at the page's positions."""
    points = arrays[f"{latents}.{ends}"]
    place = list(combinations(range(len(points)), 2)).index((first, last))
    inner = arrays[f"{latents}.{ends}.inner"]
    inner = inner.reshape(-1, make_interpolate.STEPS[latents] - 2, latents)[place]
    whole = np.concatenate([points[[first]], inner, points[[last]]])
    return make_interpolate.refined(whole)


def show(page, **state):
    """Set the state, and read the page's paths and their numbers."""
    return page.evaluate(f"s => ({ROOT}.change(s), {ROOT}.numbers())", state)


# The file and its record.


def test_record_says_how_the_weights_were_made(facts, dataset):
    record = record_of("interpolate")
    assert record["command"] == "python -m tools.make_interpolate"
    assert record["data"]["train_sha256"] == fingerprint(dataset)
    assert {"jax", "flax", "optax", "numpy", "python"} == record["versions"].keys()
    assert record["bytes"] == len(InterpolateExplorer().payload())
    assert record["epochs"] == make_interpolate.EPOCHS
    for name, said in facts.items():
        assert record[name] == said, name
    assert max(map(abs, facts["rounding"].values())) < 1


def test_ends_are_test_digits_and_draws(arrays, dataset):
    gray = np.round(255 * dataset.test.images.reshape(-1, 784))
    for digit, label in zip(arrays["digits"], make_interpolate.CLASSES, strict=True):
        assert label in dataset.test.labels[(gray == digit).all(1)]
    for latents in LATENTS:
        assert arrays[f"{latents}.digits"].shape == (DIGITS, latents)
        draws = arrays[f"{latents}.prior"]
        assert draws.shape == (DRAWS, latents)
        chi2 = stats.chi2(draws.size)
        assert chi2.ppf(1e-3) < (draws**2).sum() < chi2.ppf(1 - 1e-3)


@every_size
def test_shortest_paths_are_shorter(arrays, facts, latents):
    """On the positions of the page, over the pairs: than straight and spherical ones.

    No path is shorter than the distance of its end images.
    """
    decode = decoder(arrays, latents)
    for ends, count in (("digits", DIGITS), ("prior", DRAWS)):
        said = facts["models"][str(latents)]["pairs"][ends]
        assert said["length"][2] < min(said["length"][:2])
        assert said["chord"] < said["length"][2]
        for first, last in list(combinations(range(count), 2))[::9]:
            z = jnp.asarray(curve(arrays, latents, ends, first, last))
            straight = linear(z[0], z[-1], steps=TIMES)
            images = [decode(z[k]).ravel() for k in (0, -1)]
            lengths = [float(path_length(decode, path)) for path in (z, straight)]
            assert lengths[0] < 1.02 * lengths[1]  # found with fewer points
            assert lengths[0] > float(jnp.linalg.norm(images[0] - images[1]))


def test_brief_retraining_lands_where_the_record_says(dataset):
    brief, images = record_of("interpolate")["brief"], dataset.train.images
    model = make_interpolate.train(
        brief["latents"], jnp.asarray(images), 0, brief["epochs"]
    )
    found = make_interpolate.measure(model, jnp.asarray(dataset.test.images))
    for name in ("rate", "distortion"):
        said = brief[name]
        assert abs(found[name] - said["mean"]) <= said["margin"], (name, found)


def test_what_is_said_of_the_shell(facts):
    """Draws of the prior are in it by its definition, their middles by chance.

    The middle of two independent draws is N(0, I/2): exact shares, 4 standard errors.
    """
    for latents in LATENTS:
        said, chi = facts["models"][str(latents)], stats.chi(latents)
        low, _, high = said["shell"]
        assert [low, high] == pytest.approx(chi.ppf([0.025, 0.975]), abs=1e-3)
        exact = [0.95, np.diff(chi.cdf(np.sqrt(2) * np.array([low, high]))).item()]
        for share, p in zip(said["all"]["prior"]["inside"][:2], exact, strict=True):
            error = np.sqrt(max(p * (1 - p), 1e-3) / make_interpolate.PAIRS)
            assert abs(share - p) < 4 * error, (latents, share, p)
    many = facts["models"]["128"]["all"]
    assert many["mean"]["inside"][0] < 0.05  # encoded means: below it from the start
    assert many["draw"]["inside"][0] > 0.8


# The page.


@every_size
def test_paths_are_those_of_the_package(page, arrays, latents):
    prior = Normal(jnp.zeros(latents), jnp.ones(latents))
    decode = decoder(arrays, latents)
    for ends, first, last in (("digits", 1, 6), ("prior", 0, 3)):
        both = arrays[f"{latents}.{ends}"]
        a, b = jnp.asarray(both[first]), jnp.asarray(both[last])
        exact = {
            "linear": linear(a, b, steps=TIMES),
            "spherical": spherical(a, b, steps=TIMES),
            "shortest": jnp.asarray(curve(arrays, latents, ends, first, last)),
        }
        found = show(page, latents=latents, ends=ends, first=first, last=last)["now"]
        for path, z in exact.items():
            one = found[path]
            density = jax.vmap(prior.log_prob)(z)
            np.testing.assert_allclose(
                one["norm"], np.linalg.norm(z, axis=1), rtol=1e-4, atol=1e-3
            )
            np.testing.assert_allclose(one["density"], density, rtol=1e-4, atol=1e-2)
            length = float(path_length(decode, z))
            assert one["length"] == pytest.approx(length, abs=1e-2), (ends, path)


@every_size
def test_javascript_decodes_as_jax_does(page, arrays, latents):
    z = np.random.default_rng(0).normal(size=(8, latents)).astype(np.float32)
    call = f"([d, zs]) => zs.map((z) => [...{ROOT}.decode(d, z)])"
    pixels = page.evaluate(call, [latents, z.tolist()])
    exact = jax.vmap(decoder(arrays, latents))(jnp.asarray(z)).reshape(8, -1)
    np.testing.assert_allclose(pixels, exact, atol=1e-3)


def test_verdicts_are_those_of_the_judge(page, arrays):
    """Along one path of each kind, forwards and backwards."""
    vae = make_interpolate.VAE(
        StandardNormal(20),
        abs,  # nothing is encoded
        Conditional(unpacked(arrays, "20.decoder"), Bernoulli),
    )
    z = curve(arrays, 20, "digits", 2, 5)
    odds = make_interpolate.verdicts(vae, jnp.asarray(z))
    state = {"latents": 20, "ends": "digits"}
    forth = show(page, **state, first=2, last=5)["now"]["shortest"]
    back = show(page, **state, first=5, last=2)["now"]["shortest"]
    np.testing.assert_allclose(forth["judge"], odds.max(1), atol=0.01)
    np.testing.assert_allclose(back["judge"], forth["judge"][::-1])
    np.testing.assert_allclose(back["norm"], forth["norm"][::-1], rtol=1e-5)
    assert back["length"] == pytest.approx(forth["length"], abs=1e-4)


def test_controls_by_keyboard_and_reset(page):
    start = out(page, "linear-norm")
    changes(
        page,
        lambda: press(page, "[data-in=latents-20]", "ArrowRight"),
        lambda: out(page, "linear-norm"),
        *[lambda n=n: picture(page, n) for n in ("norm", "density", "shortest")],
    )
    changes(
        page,
        lambda: press(page, "[data-in=digits]", "ArrowRight"),
        lambda: out(page, "spherical-length"),
        lambda: picture(page, "judge"),
    )
    page.select_option("[data-in=first]", "1")  # the other end has it: they swap
    settle(page)
    assert page.input_value("[data-in=last]") == "0"
    changes(
        page,
        lambda: press(page, "[data-in=t]", "End"),
        *[lambda n=n: out(page, f"{n}-judge") for n in ("shortest",)],
        lambda: picture(page, "linear-now"),
    )
    # At the end all three are at the same latent.
    assert len({out(page, f"{path}-norm") for path in PATHS}) == 1
    press(page, "[data-do=reset]", "Enter")
    settle(page)
    assert out(page, "linear-norm") == start


def test_wrong_state_is_refused():
    for state, words in [
        ({"latents": 3}, "latents among"),
        ({"ends": "codes"}, "ends among"),
        ({"ends": "prior", "last": 6}, "from 0 to 3"),
        ({"first": 6}, "two ends"),
        ({"t": 1.5}, "t in"),
    ]:
        with pytest.raises(ValueError, match=words):
            InterpolateExplorer(**state)


def test_interpolate_talks_with_a_kernel(visit):
    script = """
        k.type("t", 0.25);
        await k.frames(2);
        const told = k.sent.at(-1);
        k.model.set("latents", 2);
        await k.frames(2);
        const shown = k.get("in=latents-2").checked;
        k.clean();
        return [told.t, told.latents, shown];
    """
    found = kernel(visit("elbo"), InterpolateExplorer(), script)
    assert found == [0.25, 20, True]
