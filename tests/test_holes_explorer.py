"""The holes explorer: its file and record, its numbers, its controls."""

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

from tools import make_holes
from tools.decoders import unpacked
from tools.make_weights import fingerprint
from vae_teach import data
from vae_teach.distributions import Normal
from vae_teach.explorers import HolesExplorer
from vae_teach.samplers import FullNormal, Mixture

ROOT = "document.querySelector('.vx-holes').explorer"
STEP = 2 * make_holes.REACH / (make_holes.SIDE - 1)


@pytest.fixture(scope="module")
def contents():
    return arrays_and_facts("holes")


@pytest.fixture(scope="module")
def arrays(contents):
    return contents[0]


@pytest.fixture(scope="module")
def facts(contents):
    return contents[1]


@pytest.fixture(scope="module")
def model(arrays):
    return make_holes.page_model(unpacked(arrays, "decoder"))


@pytest.fixture(scope="module")
def log_q(arrays):
    return arrays["log_q"].ravel()


@pytest.fixture
def page(visit):
    return visit("holes")


def prior_of(arrays, components):
    """A prior of the page as the package has it; 0 components is N(0, I)."""
    if not components:
        return Normal(jnp.zeros(2), jnp.ones(2))
    rows = jnp.asarray(arrays["mixtures"][components - 1 : 2 * components - 1])
    zero = jnp.zeros_like(rows[:, 3])
    lower = jnp.stack([rows[:, 3], zero, rows[:, 4], rows[:, 5]], 1)
    normals = FullNormal(rows[:, 1:3], lower.reshape(-1, 2, 2))
    return Mixture(rows[:, 0], normals)


# The file and its record.


def test_record_says_how_the_file_was_made(facts):
    record = record_of("holes")
    assert record["command"] == "python -m tools.make_holes"
    assert record["data"]["train_sha256"] == fingerprint(data.load("mnist12k"))
    assert {"jax", "flax", "optax", "numpy", "python"} == record["versions"].keys()
    assert record["bytes"] == len(HolesExplorer().payload())
    for name, said in facts.items():
        assert record[name] == said, name


def test_grid_has_the_aggregated_posterior(model, log_q):
    """At random nodes log q(z) is the mixture of the posteriors of all digits."""
    digits = jnp.asarray(data.load("mnist12k").train.images)
    q = jax.lax.map(model.q_z, digits, batch_size=500)
    aggregate = Mixture(jnp.zeros(len(digits)), q)
    some = np.random.default_rng(0).integers(0, len(log_q), 60)
    exact = make_holes.density(aggregate, make_holes.nodes()[some])
    exact = np.maximum(exact, make_holes.FLOOR)
    np.testing.assert_allclose(log_q[some], exact, atol=1e-3)
    assert np.exp(log_q).sum() * STEP**2 == pytest.approx(1, abs=2e-3)


def test_grid_has_the_verdicts_of_the_judge(model, arrays):
    some = np.random.default_rng(1).integers(0, make_holes.SIDE**2, 300)
    odds = make_holes.judged(model, make_holes.nodes()[some])
    np.testing.assert_array_equal(arrays["digit"][some], odds.argmax(1))
    np.testing.assert_allclose(
        arrays["certainty"][some] / 255, odds.max(1), atol=0.5 / 255 + 1e-3
    )


def test_baked_decoder_is_the_conditioned_one(model):
    """Rounded twice, it draws what the latent explorer's model draws at β = 1."""
    full = make_holes.conditioned.At(
        make_holes.trained.model(),
        jnp.float32(make_holes.conditioned.dial_of(make_holes.BETA)),
    )
    z = jax.random.normal(jax.random.key(0), (50, 2))
    one, other = (jax.vmap(lambda z, m=m: m.p_x(z).mean)(z) for m in (model, full))
    np.testing.assert_allclose(one, other, atol=0.05)


def test_sums_over_the_grid_agree_with_chance(facts):
    """Total variation and the share in holes, within 4 standard errors of draws."""
    record, rows = record_of("holes"), {row["components"]: row for row in facts["rows"]}
    for k, draws in record["by_chance"].items():
        for name in ("distance", "in_holes"):
            values = [one[name] for one in draws]
            error = np.sqrt(0.3 / (len(values) * 4_000))  # a share's, generously
            assert abs(np.mean(values) - rows[int(k)][name]) < 4 * error, (k, name)


def test_fitting_the_prior_fills_the_holes(facts):
    rows = {row["components"]: row for row in facts["rows"]}
    assert rows[32]["distance"] < rows[0]["distance"] / 2
    assert rows[32]["in_holes"] < rows[0]["in_holes"] / 5
    assert rows[32]["held_out"] > rows[0]["held_out"] + 0.15
    # What is left is the finite sample and the decoder.
    assert facts["least"] < rows[0]["distance"] / 2
    assert rows[32]["sure"] == pytest.approx(facts["itself"]["sure"], abs=0.02)


# The page.


def test_page_has_the_densities_and_sums_of_the_package(page, arrays, facts, log_q):
    z, odds = make_holes.nodes(), np.zeros((len(log_q), 10))
    odds[np.arange(len(odds)), arrays["digit"]] = arrays["certainty"] / 255
    for k in (0, 4, 128):
        table = page.evaluate(f"k => Array.from({ROOT}.table(k))", k)
        exact = make_holes.density(prior_of(arrays, k), z)
        np.testing.assert_allclose(table, exact, rtol=1e-4, atol=1e-3)
        again = make_holes.quadrature(log_q, exact, odds)
        name = "mixture" if k else "normal"
        page.evaluate(f"k => {ROOT}.change({{ components: k || 1 }})", k)
        found = page.evaluate(f"() => {ROOT}.numbers().rows.{name}")
        said = next(row for row in facts["rows"] if row["components"] == k)
        for part in ("distance", "in_holes", "sure", "commonest"):
            assert found[part] == pytest.approx(again[part], abs=1e-3), (k, part)
            assert found[part] == pytest.approx(said[part], abs=3e-3), (k, part)


def test_ratio_at_the_point_is_that_of_the_densities(page, arrays, log_q):
    for k, z in ((0, [0.5, -0.35]), (16, [-1.2, 0.4])):
        prior = "mixture" if k else "normal"
        state = {"z": z, "prior": prior, "components": k or 1}
        found = page.evaluate(f"s => ({ROOT}.change(s), {ROOT}.numbers())", state)
        np.testing.assert_allclose(found["z"], z, atol=1e-9)
        column, row = (round((v + make_holes.REACH) / STEP) for v in z)
        exact = log_q[row * make_holes.SIDE + column] - float(
            prior_of(arrays, k).log_prob(jnp.asarray(z))
        )
        assert np.log(found["ratio"]) == pytest.approx(exact, abs=1e-3)


def test_javascript_decodes_as_jax_does(page, model):
    z = np.random.default_rng(0).normal(size=(12, 2)).astype(np.float32)
    call = f"zs => zs.map((z) => [...{ROOT}.decode(z)])"
    pixels = page.evaluate(call, z.tolist())
    exact = jax.vmap(lambda z: model.p_x(z).mean)(jnp.asarray(z)).reshape(12, -1)
    np.testing.assert_allclose(pixels, exact, atol=1e-3)


def test_marked_holes_are_holes(page, log_q):
    z = make_holes.nodes()
    low = log_q < -0.5 * (z**2).sum(1) - np.log(2 * np.pi) + np.log(make_holes.HOLE)
    holes = page.evaluate(f"() => {ROOT}.holes()")
    assert len(holes) == 3
    for hole in holes:
        assert low[np.abs(z - np.array(hole)).sum(1).argmin()]


def test_samples_follow_their_prior(page, arrays):
    """Mean and covariance of 4,000 draws of a mixture, to 4 standard errors."""
    draws = np.array(page.evaluate(f"() => {ROOT}.samples(8, 4000)"))
    prior = prior_of(arrays, 8)
    weights = np.exp(np.asarray(prior.log_weights, np.float64))
    loc, lower = (
        np.asarray(part, np.float64)
        for part in (prior.components.loc, prior.components.cholesky)
    )
    mean = weights @ loc
    apart = loc - mean
    each = lower @ lower.swapaxes(1, 2) + apart[:, :, None] * apart[:, None]
    covariance = np.einsum("k,kij->ij", weights, each)
    error = np.sqrt(np.diag(covariance) / len(draws))
    assert (np.abs(draws.mean(0) - mean) < 4 * error).all()
    np.testing.assert_allclose(np.cov(draws.T), covariance, atol=0.15)


def test_priors_and_points_are_chosen_by_keyboard_and_reset(page):
    start = out(page, "ratio")
    changes(
        page,
        lambda: press(page, "[data-in=normal]", "ArrowRight"),
        lambda: out(page, "which"),
        lambda: picture(page, "map"),
    )
    changes(
        page,
        lambda: press(page, "[data-in=components]", "ArrowLeft"),
        lambda: out(page, "mixture-distance"),
        lambda: picture(page, "samples"),
    )
    changes(
        page,
        lambda: press(page, "[data-canvas=map]", "ArrowUp"),
        lambda: out(page, "z1"),
        lambda: picture(page, "decoded"),
    )
    press(page, "[data-do=reset]", "Enter")
    settle(page)
    assert out(page, "ratio") == start
    assert page.is_checked("[data-in=normal]")
    places = set()
    for _ in range(3):
        press(page, "[data-do=hole]", "Enter")
        settle(page)
        places.add(out(page, "z0") + out(page, "z1"))
        assert out(page, "ratio").startswith(("1/", "<"))
    assert len(places) == 3


def test_wrong_state_is_refused():
    for state, words in [
        ({"prior": "flat"}, "prior"),
        ({"components": 3}, "components among"),
        ({"z": [5.0, 0.0]}, "from -4 to 4"),
    ]:
        with pytest.raises(ValueError, match=words):
            HolesExplorer(**state)


def test_holes_talk_with_a_kernel(visit):
    script = """
        k.type("z0", 0.5);
        await k.frames(2);
        const told = k.sent.at(-1);
        k.model.set("prior", "mixture");
        await k.frames(2);
        const shown = k.get("out=which").textContent;
        k.clean();
        return [told.z[0], told.prior, shown];
    """
    found = kernel(visit("elbo"), HolesExplorer(), script)
    assert found == [pytest.approx(0.5), "normal", "mixture of 32"]
