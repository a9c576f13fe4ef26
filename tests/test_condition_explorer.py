"""The condition explorer: its file, its record, its claims, its controls."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from browsing import (
    arrays_and_facts,
    changes,
    kernel,
    out,
    outputs,
    picture,
    press,
    record_of,
    settle,
    sweep,
)
from flax import nnx

from tools import film_models, make_condition
from tools.make_weights import fingerprint
from vae_teach import data
from vae_teach.distributions import Normal
from vae_teach.explorers import ConditionExplorer
from vae_teach.explorers.condition import DIGITS, DRAWS, LATENTS, PRIORS
from vae_teach.samplers import FullNormal

ROOT = "document.querySelector('.vx-condition').explorer"


@pytest.fixture(scope="module")
def contents():
    return arrays_and_facts("condition")


@pytest.fixture(scope="module")
def arrays(contents):
    return contents[0]


@pytest.fixture(scope="module")
def facts(contents):
    return contents[1]


@pytest.fixture(scope="module")
def record():
    return record_of("condition")


def class_priors(arrays, latents):
    """p(z|y) of the page."""
    parts = (arrays[f"{latents}.{name}"] for name in ("loc", "cholesky"))
    return FullNormal(*map(jnp.asarray, parts))


def draws(arrays, latents):
    """All draws of both priors, for every class."""
    noise = jnp.asarray(arrays["noise"][:, :latents])
    return make_condition.draws_of(class_priors(arrays, latents), noise)


# The file and its record.


def test_record_says_how_the_weights_were_made(record, facts):
    assert record["command"] == "python -m tools.make_condition"
    assert record["data"]["train_sha256"] == fingerprint(data.load("mnist12k"))
    assert {"jax", "flax", "optax", "numpy", "python"} == record["versions"].keys()
    assert record["bytes"] == len(ConditionExplorer().payload())
    assert record["epochs"] == make_condition.EPOCHS
    assert [row["latents"] for row in record["rows"]] == [*LATENTS]
    for row, carried in zip(record["rows"], facts["rows"], strict=True):
        seeds, which = row["seeds"], row["seed"]
        assert {k: v for k, v in row.items() if k != "seeds"} == carried
        assert len(seeds) == facts["seeds"]
        assert seeds[which].items() <= row.items()
        assert row["normal"] == np.median([seed["normal"] for seed in seeds])
        for name, sd in row["spread"].items():
            found = np.std([seed[name] for seed in seeds], ddof=1)
            assert sd == pytest.approx(found, abs=1e-4)


def test_digits_are_test_digits_two_of_each_class(arrays):
    test = data.load("mnist12k").test
    gray = np.round(255 * test.images.reshape(-1, 784))
    assert len(arrays["labels"]) == DIGITS
    assert (np.bincount(arrays["labels"]) == 2).all()
    for digit, label in zip(arrays["digits"], arrays["labels"], strict=True):
        assert label in test.labels[(gray == digit).all(1)]


def test_brief_retraining_lands_where_the_record_says(record):
    mean, _, margin = record["brief"]["loss"]
    found = make_condition.brief_loss(data.load("mnist12k"), seed=0)
    assert abs(found - mean) <= margin


@pytest.mark.parametrize("latents", LATENTS)
def test_shares_are_those_of_the_verdicts_and_these_the_judges(arrays, facts, latents):
    network = film_models.page_decoder(arrays, str(latents))
    row = next(row for row in facts["rows"] if row["latents"] == latents)
    some = np.arange(0, DRAWS, 10)
    for prior, z in draws(arrays, latents).items():
        said = arrays[f"{latents}.{prior}"]
        assert said.shape == (10, DRAWS)
        right = (said == np.arange(10)[:, None]).mean()
        assert row[prior] == pytest.approx(right, abs=1e-4)
        # Where two digits are as likely, another machine may choose the other.
        again = make_condition.verdicts(network, z[:, some])
        assert (again == said[:, some]).mean() > 0.98


def test_codes_are_decoded_to_their_digits(arrays):
    """With 20 latents each is nearest to its own reconstruction, of all digits."""
    network = film_models.page_decoder(arrays, "20")
    c = film_models.one_hot(arrays["labels"])
    decode = jax.vmap(lambda z, c: jax.nn.sigmoid(network(z, c)).ravel())
    found = np.asarray(decode(jnp.asarray(arrays["20.codes"]), c))
    gaps = ((found[:, None] - arrays["digits"][None] / 255) ** 2).sum(2)
    assert (gaps.argmin(1) == np.arange(DIGITS)).all()


# What the page says of size, prior and swap.


def of_seeds(record, name):
    """Its values, (sizes, seeds)."""
    return np.array([[seed[name] for seed in row["seeds"]] for row in record["rows"]])


def test_notice_is_true_of_every_seed():
    record = record_of("condition")
    normal, learned, told = (
        of_seeds(record, name) for name in ("normal", "learned", "told")
    )
    error = np.sqrt(0.25 / (10 * DRAWS))  # of a share, at most
    assert (normal[0] - normal[-1] > 3 * np.sqrt(2) * error).all()
    assert (told[-1] - told[0] > 3 * np.sqrt(2) * error).all()
    assert (learned[1:] > normal[1:]).all()
    assert (learned[-1] - normal[-1] > 3 * np.sqrt(2) * error).all()
    assert (learned[-1] - learned[0] < 0).all()  # not all of it comes back


def test_a_swap_keeps_the_slant_and_fails_as_the_prior_does():
    record = record_of("condition")
    slant, swaps, codes = (
        of_seeds(record, name) for name in ("slant", "swaps", "codes")
    )
    assert (slant > 0.5).all()
    assert (swaps[0] - swaps[-1] > 0.05).all()
    assert (codes > swaps).all()


# What measures.


def apart(priors, y, pair):
    """KL of p(z|y) from N(0, I) on the plane of two directions, in nats."""
    mean, root = pair @ priors.loc[y], pair @ priors.cholesky[y]
    covariance = np.asarray(root @ root.T)
    log_det = np.linalg.slogdet(covariance)[1]
    return 0.5 * float(np.trace(covariance) + mean @ mean - 2 - log_det)


@pytest.mark.parametrize("latents", LATENTS[1:])
def test_map_shows_where_the_codes_of_a_class_differ(arrays, latents):
    """More than in the directions of all codes, and in most others."""
    rng = np.random.default_rng(0)
    found, priors = arrays[f"{latents}.axes"], class_priors(arrays, latents)
    others = [np.linalg.qr(rng.normal(size=(latents, 2)))[0].T for _ in range(30)]
    for y, pair in enumerate(found[1:]):
        np.testing.assert_allclose(pair @ pair.T, np.eye(2), atol=1e-5)
        assert apart(priors, y, pair) >= apart(priors, y, found[0])
        chance = [apart(priors, y, other) for other in others]
        assert apart(priors, y, pair) > np.quantile(chance, 0.75)


def test_class_prior_has_mean_and_covariance_of_the_codes():
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 10
    loc = (rng.normal(size=(400, 3)) + labels[:, None]).astype(np.float32)
    scale = rng.uniform(0.2, 1.0, (400, 3)).astype(np.float32)
    priors = make_condition.class_priors(
        Normal(jnp.asarray(loc), jnp.asarray(scale)), labels
    )
    one = labels == 7
    draws = loc[one] + scale[one] * rng.normal(size=(20_000, 40, 3))
    np.testing.assert_allclose(priors.loc[7], draws.mean((0, 1)), atol=0.01)
    covariance = priors.cholesky[7] @ priors.cholesky[7].T
    np.testing.assert_allclose(covariance, np.cov(draws.reshape(-1, 3).T), atol=0.02)


@pytest.mark.parametrize(("apart", "expected"), [(0.0, 0.1), (20.0, 1.0)])
def test_class_is_told_where_the_priors_are_apart(apart, expected):
    labels = np.arange(2_000) % 10
    loc = apart * jnp.eye(10)
    priors = FullNormal(loc, jnp.broadcast_to(jnp.eye(10)[None], (10, 10, 10)))
    z = loc[labels] + jax.random.normal(jax.random.key(0), (2_000, 10))
    found = make_condition.told(priors, z, labels)
    assert found == pytest.approx(expected, abs=0.03)


def test_slant_is_that_of_a_line():
    images = np.zeros((2, 28, 28))
    for row in range(6, 22):
        images[0, row, 14] = 1
        images[1, row, 20 - row // 2] = 1
    np.testing.assert_allclose(make_condition.slant(images), [0, 0.5], atol=0.02)


def test_page_decoder_is_the_decoder_but_for_rounding():
    """Also where a pixel is left out: black; and its FiLM layers are the same."""
    network = film_models.film_decoder(4, nnx.Rngs(0))
    where = np.arange(784) % 3 > 0
    parts = film_models.carried(network, "4", where)
    arrays = {name: part.values for name, part in parts.items()} | {"lit": where}
    again = film_models.page_decoder(arrays, "4")
    z, c = jax.random.normal(jax.random.key(0), (4,)), jnp.eye(10)[3]
    for one, other in zip(network.modulations, again.modulations, strict=True):
        for a, b in zip(one.scale_and_shift(c), other.scale_and_shift(c), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)
    exact, found = (np.asarray(net(z, c)).ravel() for net in (network, again))
    np.testing.assert_allclose(found[where], exact[where], atol=0.05)
    assert (found[~where] == film_models.BLACK).all()


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"latents": 3}, "latents to be one of"),
        ({"y": 10}, "y to be one of"),
        ({"start": DIGITS + 1}, "start to be one of"),
        ({"draw": DRAWS}, "draw to be one of"),
        ({"plane": "best"}, "plane to be one of"),
        ({"prior": "flat"}, "prior to be one of"),
        ({"row": -1}, "row to be one of"),
        ({"latents": 4, "z": [0.0, 1.0]}, "z to be 4 numbers"),
    ],
)
def test_wrong_state_is_refused(state, words):
    with pytest.raises(ValueError, match=words):
        ConditionExplorer(**state)


# The page.


def test_javascript_equals_jax(visit, arrays):
    """Decoder and FiLM for every class, draws of both priors, and the map."""
    page, rng = visit("condition"), np.random.default_rng(0)
    call = f"""([latents, zs]) => {{
        const e = {ROOT};
        e.change({{ latents, y: 3, z: zs[0], plane: "class" }});
        return {{
            images: zs.map((z, y) => [...e.decode(z, y)]),
            features: zs.map((z, y) => [...e.features(z, y)]),
            films: e.films().map((f) => [[...f.scale], [...f.shift]]),
            draws: {list(PRIORS)}.map((p) =>
                zs.map((_, y) => [...e.draws(p, y, 5 + y)])),
            place: e.place(),
            outline: e.outline(),
        }};
    }}"""
    for latents in LATENTS:
        network = film_models.page_decoder(arrays, str(latents))
        z = rng.normal(size=(10, latents)).astype(np.float32)
        found = page.evaluate(call, [latents, z.tolist()])
        exact = jax.vmap(lambda z, c, net=network: jax.nn.sigmoid(net(z, c)).ravel())(
            jnp.asarray(z), jnp.eye(10)
        )
        np.testing.assert_allclose(found["images"], exact, atol=1e-3)
        film, first = network.modulations[0], network.mlp.layers[0]
        films = jax.vmap(film.scale_and_shift)(jnp.eye(10))
        np.testing.assert_allclose(found["films"], np.stack(films, 1), atol=1e-5)
        features = jax.nn.relu(jax.vmap(film)(first(jnp.asarray(z)), jnp.eye(10)))
        np.testing.assert_allclose(found["features"], features, atol=1e-3)
        for k, drawn in enumerate(draws(arrays, latents).values()):
            own = drawn[np.arange(10), 5 + np.arange(10)]
            np.testing.assert_allclose(found["draws"][k], own, atol=1e-4)
        pair, prior = arrays[f"{latents}.axes"][1 + 3], class_priors(arrays, latents)
        np.testing.assert_allclose(found["place"], pair @ z[0], atol=1e-4)
        # All points of the outline are two standard deviations from the mean.
        root = pair @ np.asarray(prior.cholesky[3])
        apart = np.array(found["outline"]) - pair @ np.asarray(prior.loc[3])
        distance = apart @ np.linalg.inv(root @ root.T) * apart
        np.testing.assert_allclose(np.sqrt(distance.sum(1)), 2, rtol=1e-3)


def press_digit(page, group, place):
    page.locator(f"[data-out={group}] button").nth(place).press("Enter")
    settle(page)


def test_y_moves_the_bars_and_z_does_not(visit, arrays):
    page = visit("condition")

    def bars():
        return page.evaluate(f"JSON.stringify({ROOT}.films()[{ROOT}.state().y])")

    def style():
        return page.evaluate(f"{ROOT}.style()")

    start, first, begun = outputs(page), bars(), style()
    changes(
        page,
        lambda: press_digit(page, "classes", 8),
        bars,
        *(lambda name=name: picture(page, name) for name in ("film", "decoded", "map")),
    )
    assert style() == begun
    eighth = bars()
    moves = [
        lambda: sweep(page, "[data-canvas=map]", [(0.5, 0.5), (0.75, 0.3)]),
        lambda: press(page, "[data-canvas=map]", "ArrowUp"),
        lambda: press(page, "[data-do=style]", "Enter"),
    ]
    for move in moves:
        changes(page, move, style, lambda: picture(page, "decoded"))
        assert bars() == eighth
    # A test digit brings its style and its class; another class is a swap.
    press_digit(page, "starts", 5)
    assert out(page, "y") == str(arrays["labels"][5])
    np.testing.assert_allclose(style(), arrays["2.codes"][5], atol=1e-6)
    press_digit(page, "classes", 0)
    np.testing.assert_allclose(style(), arrays["2.codes"][5], atol=1e-6)
    page.wait_for_timeout(350)
    assert f"a written {arrays['labels'][5]}, decoded as 0" in page.inner_text(
        ".vx-note"
    )
    # The draws, and how many of them are read as asked.
    for prior in ("learned", "normal"):
        page.check(f"[data-in={prior}]")
        settle(page)
        right = (arrays[f"2.{prior}"][0] == 0).mean()
        assert out(page, "share") == f"{100 * right:.0f} %"
    changes(
        page,
        lambda: press(page, "[data-do=others]", "Enter"),
        lambda: picture(page, "draws"),
    )
    press(page, "[data-do=reset]", "Enter")
    settle(page)
    assert (outputs(page), bars(), style()) == (start, first, begun)


def test_condition_talks_with_a_kernel(visit):
    script = """
        k.type("at0", 1.5);
        await k.frames(2);
        const told = k.sent.at(-1).z;
        k.model.set("latents", 20); // of another size now: the start's own z is shown
        await k.frames(2);
        k.model.set("y", 7);
        await k.frames(2);
        k.clean();
        return [told, k.get("out=latents").value, k.get("out=y").textContent];
    """
    told, latents, y = kernel(visit("elbo"), ConditionExplorer(), script)
    assert told[0] == pytest.approx(1.5)
    assert (latents, y) == ("20", "7")
