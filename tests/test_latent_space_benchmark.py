"""The benchmark of latent space: its measures on known answers, and its result."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from flax import nnx

from benchmarks import latent_codes, provenance
from benchmarks import latent_space as benchmark
from vae_teach.data import load
from vae_teach.distributions import Bernoulli, Normal
from vae_teach.models import VAE, Conditional
from vae_teach.networks import MLP
from vae_teach.priors import StandardNormal

RESULT = provenance.RESULTS / "latent_space-cpu.json"
KEY = jr.key(0)


# Jumps


def walks(draw):
    return benchmark.of_walks((draw, jnp.zeros((3, 2)), jnp.ones((3, 2))))


def test_a_linear_decoder_takes_equal_steps():
    found = walks(lambda z: z @ jr.normal(KEY, (2, 9)))
    for n in benchmark.FINE:
        np.testing.assert_allclose(found[f"ratio_{n}"], 1, rtol=2e-3)


def test_a_decoder_that_jumps_takes_all_of_them_at_once():
    found = walks(lambda z: jnp.where(z > 0.505, 1.0, 0.0))
    for n in benchmark.FINE:
        np.testing.assert_allclose(found[f"ratio_{n}"], n, rtol=1e-5)


def test_a_smooth_decoder_settles_at_its_largest_speed():
    found = walks(lambda z: z**3)  # at the end 3, over a chord of 1
    expected = [n * (1 - (1 - 1 / n) ** 3) for n in benchmark.FINE]
    ratios = [found[f"ratio_{n}"] for n in benchmark.FINE]
    np.testing.assert_allclose(ratios, expected, rtol=2e-3)


# Paths


@pytest.fixture(scope="module")
def model():
    """Untrained, of 3 latents; the decoder draws something at every code."""
    rngs = nnx.Rngs(0)
    return VAE(
        StandardNormal(3),
        Conditional(MLP(latent_codes.IMAGE, 6, rngs=rngs), Normal.from_log_variance),
        Conditional(MLP(3, latent_codes.IMAGE, rngs=rngs), Bernoulli),
    )


def test_a_path_is_measured_at_its_middle_and_its_ends(model):
    first = jnp.array([[2.0, 0, 0], [0, 2, 0]])
    last = jnp.array([[0, 2.0, 0], [0, 0, 2]])
    line = benchmark.of_path(model, first, last, "linear")
    arc = benchmark.of_path(model, first, last, "spherical")
    np.testing.assert_allclose(line["norm_ends"], 2, rtol=1e-6)
    np.testing.assert_allclose(line["norm_middle"], 2**0.5, rtol=1e-6)
    np.testing.assert_allclose(arc["norm_middle"], 2, rtol=1e-5)
    np.testing.assert_allclose(line["log_p_gain"], 1, rtol=1e-4)  # (4 - 2)/2
    np.testing.assert_allclose(arc["log_p_gain"], 0, atol=1e-5)
    draws = jr.normal(KEY, (100_000, 3))
    for found in (line, arc):
        norm = found["norm_middle"]
        inside = (jnp.linalg.norm(draws, axis=1) < norm).mean()
        error = (inside * (1 - inside) / len(draws)) ** 0.5
        assert abs(found["inside"] - inside) < 4 * error
        assert found["length"] >= 1
        assert found["unevenness"] >= 1


def test_the_shortest_path_is_no_longer_than_the_line(model):
    first, last = jr.normal(KEY, (2, 2, 3))
    line = benchmark.of_path(model, first, last, "linear")
    shortest = benchmark.of_path(model, first, last, "geodesic")
    assert 1 <= shortest["length"] <= line["length"]


# Attributes


def bar(width, lean=0.0):
    """A stroke of 20 pixels' height that leans by so many columns a row."""
    image = np.zeros((28, 28, 1), np.float32)
    for row in range(4, 24):
        left = 10 + round(lean * (14 - row))
        image[row, left : left + width] = 1
    return image


@pytest.mark.parametrize("width", [1, 2, 4])
def test_thickness_is_the_width_of_a_long_stroke(width):
    # 2 · 20w over a perimeter of 40 + 2w, its corners cut by a pixel's diagonal.
    found = latent_codes.thickness(bar(width)[None])[0]
    np.testing.assert_allclose(found, 40 * width / (40 + 2 * width), rtol=0.03)


def test_slant_is_the_shear():
    for lean in (-0.5, 0.0, 0.5):
        found = latent_codes.slant(bar(2, lean)[None])[0]
        np.testing.assert_allclose(found, lean, atol=0.03)


def test_the_direction_is_that_of_least_squares_and_deaf_to_silent_latents():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(500, 4)) * [1, 2, 0.5, 1e-4]
    told = z @ [1.0, -2.0, 3.0, 0.0] + 0.1 * rng.normal(size=500)
    found = latent_codes.direction(z, told)
    np.testing.assert_allclose(found[:3], [1, -2, 3], rtol=0.02)
    assert abs(found[3]) < 1
    careless, *_ = np.linalg.lstsq(z - z.mean(0), told - told.mean(), rcond=None)
    assert abs(careless[3]) > 10


def test_nats_of_the_class_are_those_that_a_code_tells():
    rng = np.random.default_rng(0)
    known, wanted = rng.integers(10, size=(2, 2000))

    def codes(labels):
        told = 20.0 * (labels[:, None] == np.arange(10))
        return told + rng.normal(size=told.shape)

    found = latent_codes.about_class(codes(known), codes(wanted), known, wanted)
    assert found["class_all"] > found["class_entropy"] - 0.02
    # One latent tells whether it is that class: the entropy of one in ten.
    one = -(0.1 * np.log(0.1) + 0.9 * np.log(0.9))
    np.testing.assert_allclose(found["class_latent"], one, atol=0.06)
    noise = rng.normal(size=(2, 2000, 3))
    nothing = latent_codes.about_class(*noise, known, wanted)
    assert nothing["class_latent"] < 0.02
    assert nothing["class_all"] < 0.02


def test_what_is_kept_is_a_correlation_within_pairs_of_classes():
    rng = np.random.default_rng(0)
    labels = rng.integers(10, size=400)
    before = rng.normal(size=400) + labels
    new = labels[:, None] != np.arange(10)[None]
    offsets = rng.normal(size=(10, 10))[labels]
    same = before[:, None] + offsets
    assert latent_codes._kept(before, same, labels, new) == pytest.approx(1)
    other = rng.normal(size=(400, 10)) + offsets
    assert abs(latent_codes._kept(before, other, labels, new)) < 4 / 3600**0.5
    assert latent_codes._kept(before, np.ones((400, 10)), labels, new) == 0


# Holes


def test_the_log_ratio_to_the_prior_is_that_of_the_densities():
    q, p = Normal(jnp.ones(3), jnp.full(3, 0.5)), Normal(jnp.zeros(3), jnp.ones(3))
    z = jr.normal(KEY, (20, 3))
    expected = [q.log_prob(one) - p.log_prob(one) for one in z]
    np.testing.assert_allclose(benchmark.log_ratio(q, p, z), expected, rtol=1e-4)


def test_the_second_stage_knows_where_codes_are():
    codes = jnp.concatenate([3 + jr.normal(KEY, (1000, 2)), jr.normal(KEY, (1000, 2))])
    second = benchmark.second_stage(codes, epochs=40)
    u = jr.normal(jr.key(1), (1000, 2))
    z = jax.vmap(lambda u, key: second.p_x(u).sample(key))(u, jr.split(KEY, 1000))
    np.testing.assert_allclose(z.mean(0), codes.mean(0), atol=0.4)
    np.testing.assert_allclose(jnp.cov(z.T), jnp.cov(codes.T), atol=1.0)


# The committed result


@pytest.fixture(scope="module")
def result():
    return json.loads(RESULT.read_text())


@pytest.fixture(scope="module")
def of(result):
    def numbers(table, size, measure, **which):
        wanted = {"table": table, "latents": size} | which
        (row,) = (r for r in result["rows"] if wanted.items() <= r.items())
        return np.array(row[measure])

    return numbers


def test_the_package_has_the_result(result):
    assert json.loads(benchmark.PACKAGED.read_text()) == result


def test_the_result_is_of_the_embedded_digits_and_whole(result, monkeypatch):
    monkeypatch.delenv("VAE_TEACH_DATA", raising=False)
    assert result["data"] == provenance.about_data(load("mnist12k"))
    assert result["seeds"] == benchmark.SEEDS >= 3
    assert result["provenance"]["command"] == "python -m benchmarks.latent_space"
    names = [(row["table"], row["latents"]) for row in result["rows"]]
    each = {"models": 1, "jumps": 4, "paths": 9, "attributes": 1, "arithmetic": 4}
    each |= {"priors": 3 + len(benchmark.COMPONENTS), "holes": 1}
    for size in benchmark.SIZES:
        counts = {table: names.count((table, size)) for table in each}
        assert counts == each
    for row in result["rows"]:
        columns = [v for v in row.values() if isinstance(v, list)]
        assert columns
        for values in columns:
            assert len(values) == benchmark.SEEDS
            assert np.isfinite(values).all()


@pytest.mark.parametrize("size", benchmark.SIZES)
def test_the_numbers_of_a_model_agree(of, size):
    row = partial(of, "models", size)
    np.testing.assert_allclose(row("elbo"), -row("rate") - row("distortion"), rtol=1e-4)
    parts = row("surgery_mutual_information") + row("surgery_marginal_kl")
    np.testing.assert_allclose(row("surgery_rate"), parts, rtol=1e-3)
    np.testing.assert_allclose(row("surgery_rate"), row("rate"), rtol=0.02)
    # More than this about 2,000 digits no code can tell.
    assert (row("surgery_mutual_information") <= np.log(2000) + 1e-3).all()
    assert (of("priors", size, "elbo_gain", prior="N(0, I)") == 0).all()


@pytest.mark.parametrize("size", benchmark.SIZES)
def test_the_middle_of_prior_draws_is_where_theory_says(of, size):
    """E|m| is √½ E|z|; of 200 pairs and 400 ends, to 4 standard errors."""
    row = partial(of, "paths", size, ends="prior", path="linear")
    pairs = benchmark.PAIRS["linear"]
    error = (0.25 / pairs + 0.5 / (2 * pairs) * 0.5) ** 0.5
    gap = row("norm_middle") - 0.5**0.5 * row("norm_ends")
    assert (abs(gap) < 4 * error).all()
    spread = (size / 8 / pairs + size / 8 / pairs) ** 0.5
    assert (abs(row("log_p_gain") - size / 4) < 5 * spread).all()


@pytest.mark.parametrize("size", benchmark.SIZES)
def test_networks_do_not_jump_and_pins_do(of, size):
    for decoder in ("VAE", "autoencoder", "untrained"):
        ratios = [of("jumps", size, f"ratio_{n}", decoder=decoder) for n in (100, 1000)]
        np.testing.assert_allclose(*ratios, rtol=0.1)
    ratios = [of("jumps", size, f"ratio_{n}", decoder="nearest") for n in (100, 1000)]
    np.testing.assert_allclose(ratios[1] / ratios[0], 10, rtol=0.1)


@pytest.mark.parametrize("size", benchmark.SIZES)
@pytest.mark.parametrize("ends", benchmark.ENDS)
def test_geodesics_are_shorter_and_more_even(of, size, ends):
    row = partial(of, "paths", size, ends=ends, path="geodesic")
    assert (row("length") < row("line_length")).all()
    assert (row("unevenness") < row("line_unevenness")).all()
