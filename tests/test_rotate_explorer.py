"""The rotate explorer: its file, its numbers, its controls."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from browsing import (
    arrays_and_facts,
    changes,
    frame_times,
    kernel,
    out,
    outputs,
    picture,
    press,
    record_of,
    settle,
)

from tools import make_rotate, sprite_models
from vae_teach.disentanglement import mutual_information
from vae_teach.explorers import RotateExplorer
from vae_teach.explorers.rotate import PLANES

ROOT = "document.querySelector('.vx-rotate').explorer"


@pytest.fixture(scope="module")
def contents():
    return arrays_and_facts("rotate")


@pytest.fixture(scope="module")
def arrays(contents):
    return contents[0]


@pytest.fixture(scope="module")
def facts(contents):
    return contents[1]


@pytest.fixture(scope="module")
def record():
    return record_of("rotate")


def entropies(arrays):
    """H(v) = I(v; v), with a bin for each value."""
    v = arrays["factors"].astype(int)
    return np.diag(mutual_information(v.astype(float), v, bins=int(v.max()) + 1))


def rotation(degrees):
    t = np.deg2rad(degrees)
    return np.array([[np.cos(t), np.sin(t)], [-np.sin(t), np.cos(t)]])


def mig_of(information, entropies):
    top = np.sort(information, 0)[::-1]
    return float(((top[0] - top[1]) / entropies).mean())


def expected(arrays, facts, plane, degrees):
    """Information of the two turned latents, and the MIG, by the package."""
    codes = arrays["codes"][:, [facts["carried"].index(j) for j in plane["latents"]]]
    turned = codes.astype(float) @ rotation(degrees).T
    two = mutual_information(turned, arrays["factors"].astype(int))
    whole = np.array(facts["information"])
    whole[plane["latents"]] = two
    return two, mig_of(whole, entropies(arrays))


# The file and its record.


def test_record_says_how_the_file_was_made(record, facts):
    assert record["command"] == "python -m tools.make_traverse"
    assert {"jax", "flax", "optax", "numpy", "python"} == record["versions"].keys()
    assert record["bytes"] == len(RotateExplorer().payload())
    for name in ("beta", "seed", "mig", "mig_error", "planes"):
        assert record[name] == facts[name]


def test_codes_are_those_that_were_measured(arrays, facts):
    for plane in facts["planes"]:
        two, score = expected(arrays, facts, plane, 0)
        said = np.array(facts["information"])[plane["latents"]]
        np.testing.assert_allclose(two, said, atol=5e-3)  # 16 bits move some to a bin
        assert score == pytest.approx(facts["mig"], abs=3e-3)


def test_turning_changes_no_elbo_with_the_turned_posterior(facts):
    for plane in facts["planes"]:
        turned, diagonal = np.array(plane["turned"]), np.array(plane["diagonal"])
        assert np.ptp(turned) < 2e-3  # float32
        assert diagonal[[0, 90]] == pytest.approx(turned[[0, 90]], abs=2e-3)


def test_an_unused_latent_makes_a_diagonal_posterior_pay(facts):
    """It turns a narrow latent into one that is as wide as the prior."""
    lost = [p["turned"][45] - p["diagonal"][45] for p in facts["planes"]]
    assert lost[2] > 1
    assert lost[2] > lost[0]


def test_mig_falls_by_more_than_its_error(arrays, facts):
    for plane in facts["planes"]:
        _, turned = expected(arrays, facts, plane, 45)
        assert facts["mig"] - turned > 4 * facts["mig_error"], plane["title"]


class Blind:
    """A model whose decoder does not look at z: its ELBO is a constant less the KL."""

    def __init__(self, loc, scale):
        self.loc, self.scale = loc, scale

    def q_z(self, x):
        from vae_teach.distributions import Normal

        return Normal(self.loc, self.scale)

    def p_x(self, z):
        from vae_teach.distributions import Bernoulli

        return Bernoulli(jnp.zeros(3) + 0 * z[0])


def test_bounds_of_a_blind_decoder_are_its_divergences():
    loc, scale = np.array([0.7, -0.2, 1.1]), np.array([0.3, 0.9, 0.1])
    jax.tree_util.register_pytree_node(
        Blind, lambda m: ((m.loc, m.scale), None), lambda _, leaves: Blind(*leaves)
    )
    model, x = Blind(jnp.asarray(loc), jnp.asarray(scale)), jnp.ones((2, 3))
    turn = rotation(30)
    turned, diagonal = make_rotate.elbos(model, (0, 2), jnp.float32(30), x, jr.key(0))
    covariance = turn @ np.diag(scale[[0, 2]] ** 2) @ turn.T
    narrow = 1 / np.diag(np.linalg.inv(covariance))

    def divergence(s):
        mean, other = turn @ loc[[0, 2]], 0.5 * (loc[1] ** 2 + scale[1] ** 2 - 1)
        whole = mean @ mean + np.trace(s) - 2 - np.linalg.slogdet(s)[1]
        return 0.5 * whole + other - np.log(scale[1])

    assert turned == pytest.approx(-3 * np.log(2) - divergence(covariance), abs=1e-5)
    assert diagonal == pytest.approx(
        -3 * np.log(2) - divergence(np.diag(narrow)), abs=1e-5
    )


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"angle": 91}, "whole degrees"),
        ({"angle": 2.5}, "whole degrees"),
        ({"plane": PLANES}, "plane from 0 to 2"),
    ],
)
def test_wrong_state_is_refused(state, words):
    with pytest.raises(ValueError, match=words):
        RotateExplorer(**state)


# The numbers.


def test_page_measures_as_the_package_does(visit, arrays, facts):
    page, angles = visit("rotate"), [0, 7, 20, 45, 71, 90]
    call = "([plane, angles]) => angles.map((angle) => "
    call += f"({ROOT}.change({{ plane, angle }}), {ROOT}.numbers()))"
    own = entropies(arrays)
    np.testing.assert_allclose(page.evaluate(f"{ROOT}.entropies"), own, atol=1e-9)
    for k, plane in enumerate(facts["planes"]):
        for angle, found in zip(angles, page.evaluate(call, [k, angles]), strict=True):
            two, score = expected(arrays, facts, plane, angle)
            # A code on the edge of a bin may fall to either side.
            np.testing.assert_allclose(found["two"], two / own, atol=2e-3)
            assert found["mig"] == pytest.approx(score, abs=2e-3)


def test_javascript_decodes_as_jax_does(visit, arrays, facts):
    page, plane = visit("rotate"), facts["planes"][1]
    page.evaluate(f"{ROOT}.change({{ plane: 1, angle: 30 }})")
    found = page.evaluate(f"{ROOT}.pictures().turned.map((x) => [...x])")
    z = arrays["draws"].astype(float)
    z[:, plane["latents"]] = z[:, plane["latents"]] @ rotation(30)
    model = sprite_models.page_model(arrays, "decoder")
    expected = jax.vmap(lambda z: model.p_x(z).mean.ravel())(z.astype(np.float32))
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_samples_come_back_where_z_turns_too(visit):
    call = f"a => ({ROOT}.change({{ angle: a }}), {ROOT}.pictures().gap)"
    page = visit("rotate")
    assert max(page.evaluate(call, angle) for angle in (0, 33, 90)) < 1e-5
    page.evaluate(f"{ROOT}.change({{ angle: 20 }})")
    settle(page)
    assert picture(page, "trained") != picture(page, "turned")
    page.fill("[data-in=angle]", "0")
    settle(page)
    assert picture(page, "trained") == picture(page, "turned")


# The controls.


def test_planes_are_chosen_by_keyboard_and_reset(visit):
    page = visit("rotate")
    start = outputs(page)
    changes(
        page,
        lambda: page.select_option("[data-in=plane]", "2"),
        *[lambda n=n: out(page, n) for n in ("mig", "diagonal_change")],
        *[lambda n=n: picture(page, n) for n in ("codes", "along", "turned", "angles")],
    )
    press(page, "[data-do=reset]", "Enter")
    settle(page)
    assert outputs(page) == start


def test_rotate_talks_with_a_kernel(visit):
    script = """
        k.type("angle", 45);
        await k.frames(2);
        const told = k.sent.at(-1).angle;
        k.model.set("plane", 2);
        k.model.set("angle", 0);
        await k.frames(2);
        k.clean();
        return [told, k.get("out=angle").value, k.get("in=plane").value];
    """
    assert kernel(visit("elbo"), RotateExplorer(), script) == [45, "0°", "2"]


@pytest.mark.timing
def test_frames_are_fast(visit):
    times = frame_times(visit("rotate"), ROOT, "{ angle: 2 * k }")
    assert np.median(times) < 40, times  # generous: the aim is 16 ms
