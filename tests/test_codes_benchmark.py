"""The committed tables on codes: complete, and what they support, judged again."""

import json
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from flax import nnx

from benchmarks import code_rates, code_samples, codebooks, codes, provenance
from benchmarks.cures import pooled
from vae_teach.bounds import elbo
from vae_teach.code_priors import CodePrior
from vae_teach.data import load
from vae_teach.distributions import Bernoulli, Distribution
from vae_teach.losses import binarize, mean_over_batch
from vae_teach.priors import UniformCodes
from vae_teach.quantisers import MovingCodebook, Quantised
from vae_teach.training import fit_many
from vae_teach.vq import VQVAE, usage, vq

FILES = sorted(provenance.RESULTS.glob("codes-?pu.json"))
ON_CPU = json.loads((provenance.RESULTS / "codes-cpu.json").read_text())


def table(name, content=ON_CPU):
    return [row for row in content["rows"] if row["table"] == name]


def one(name, **given):
    (row,) = (r for r in table(name) if all(r.get(k) == v for k, v in given.items()))
    return row


def difference(a, b):
    """Of the means of two lists over seeds, in standard errors."""
    a, b = np.array(a), np.array(b)
    error = np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
    return (a.mean() - b.mean()) / error


# The pipeline, live


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(load("mnist12k").train.images[:256])


@pytest.fixture(scope="module")
def model():
    """Four codes, an MLP, not trained."""
    model = code_rates.mlp_codes(nnx.Rngs(0), (2, 2), 16)
    model.quantiser.table[...] = jr.normal(jr.key(1), (16, 8))
    return model


def test_training_with_usage_on_the_way_is_training(images):
    make, step = codebooks.by_number(16)["moving averages, restarts"]
    found, row = codebooks.trained(make, step, images, 2, 2)
    models, keys = code_rates.made(make, 2)
    given = {"keys": keys, "epochs": 2, "batch_size": code_rates.BATCH}
    expected, _ = fit_many(models, step, images, **given)
    for a, b in zip(found, code_rates.each(expected), strict=True):
        for x, y in zip(*(jax.tree.leaves(m) for m in (a, b)), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
    used = [usage(model, images) for model in found]
    history = row["history"]
    assert history["epoch"] == [0, 1, 2]
    np.testing.assert_allclose(
        [s[-1] for s in history["share"]], [u.share for u in used]
    )
    assert np.shape(history["restarted"]) == (2, 2)


def test_a_start_at_tokens_puts_every_code_at_one(images):
    model = code_rates.mlp_codes(nnx.Rngs(0), (2, 2), 16)
    placed = codebooks._placed(model, images, jr.key(0))
    tokens = jax.vmap(model.encoder)(images).reshape(-1, 8)
    gaps = abs(placed.quantiser.table[...][:, None] - tokens[None]).max(-1).min(1)
    np.testing.assert_array_equal(gaps, 0)
    assert usage(placed, images).share == 1


def test_the_loss_is_that_of_an_example_and_the_summed_one_is_not(model, images):
    few, many = codebooks.by_batch(model, images)
    for name in ("loss", "distortion", "penalty"):
        np.testing.assert_allclose(few[name], many[name], rtol=1e-5)
    value, terms = mean_over_batch(vq)(model, images, jr.key(0))
    np.testing.assert_allclose(many["loss"], value - terms["rate"], rtol=1e-5)
    for row in (few, many):
        assert row["summed"] == row["distortion"] + row["batch_size"] * row["penalty"]


class Ten(Distribution):
    """A likelihood of ten nats, whatever the image."""

    def sample(self, key):
        raise NotImplementedError

    def log_prob(self, x):
        return -10 + 0 * x.sum()


def test_a_penalty_summed_over_the_batch_leaves_the_image_its_share(images):
    """Ten nats and a penalty of three: 17 % in batches of 16, 1.3 % in those of 256."""

    def quantise(h):
        code, none = jnp.zeros(1, int), jnp.zeros(())
        return Quantised(code, h, none, jnp.array(12.0))

    prior = UniformCodes((1,), 2)
    model = VQVAE(prior, jax.nn.identity, quantise, lambda e: Ten())
    shares = [row["share"] for row in codebooks.by_batch(model, images)]
    np.testing.assert_allclose(shares, [10 / 58, 10 / 778], rtol=1e-5)


def test_counts_of_a_batch_are_those_of_its_own_codes():
    z = jnp.array([[0, 0], [1, 1], [0, 1], [2, 3]])
    all_of_them = codebooks.of_batches(z, 4, 8)
    shares = np.array([3, 3, 1, 1]) / 8
    expected = np.exp(-(shares * np.log(shares)).sum())
    np.testing.assert_allclose(all_of_them["perplexity"], expected, rtol=1e-6)
    assert all_of_them["share"] == 0.5
    by_two = codebooks.of_batches(z, 2, 8)
    np.testing.assert_allclose(by_two["perplexity"], (2 + 4) / 2, rtol=1e-6)


def test_frequencies_are_the_counts_of_each_place():
    z = jnp.array([[[0, 1]], [[0, 2]], [[0, 1]], [[1, 1]]])
    p = code_samples.frequencies(z, 4)
    expected = -np.log((3.25 / 5) * (3.25 / 5))
    np.testing.assert_allclose(-p.log_prob(jnp.array([[0, 1]])), expected, rtol=1e-5)
    assert np.isfinite(p.log_prob(jnp.array([[3, 3]])))
    rate = code_samples.rate_of(code_samples.uniform((1, 2), 4), z)
    np.testing.assert_allclose(rate, 2 * np.log(4), rtol=1e-6)


def test_the_second_stage_on_codes_is_the_rate_of_the_whole_model(model, images):
    prior = CodePrior((2, 2), 16, 4, (3,), rngs=nnx.Rngs(2))
    z = code_samples.codes_of(model, images[:8])
    found = mean_over_batch(code_samples.minus_log_p)(prior, z, jr.key(0))[0]
    whole = code_rates.mlp_codes(nnx.Rngs(0), (2, 2), 16)
    whole.quantiser.table[...], whole.prior = model.quantiser.table[...], prior
    terms = mean_over_batch(elbo)(whole, images[:8], jr.key(0))[1]
    np.testing.assert_allclose(found, terms["rate"], rtol=1e-5)
    np.testing.assert_allclose(
        code_samples.rate_of(prior(None), z), terms["rate"], rtol=1e-5
    )


def test_information_of_a_decoder_without_codes_is_zero_and_of_a_reader_log_n():
    """Both ends of the bound: nothing to tell, and every digit told from the others."""
    test = binarize(pooled(load("mnist12k").test.images[:120]), jr.key(0))
    model = code_rates.few_codes(nnx.Rngs(0), code_rates.factorised)
    layers = model.decoder.decoder.network.layers
    layers[0].kernel[...] = 0 * layers[0].kernel[...]
    found = code_rates.swapped(model, test)
    np.testing.assert_allclose(found["information"], 0, atol=1e-4)
    np.testing.assert_allclose(found["swapped_distortion"], found["distortion"])

    pixels = MovingCodebook(2, 1, rngs=nnx.Rngs(0))
    pixels.table[...] = jnp.array([[0.0], [1.0]])
    told = VQVAE(
        UniformCodes((14, 14), 2),
        jax.nn.identity,
        pixels,
        lambda e: Bernoulli(20 * e - 10),
    )
    found = code_rates.swapped(told, test)
    np.testing.assert_allclose(found["information"], np.log(100), rtol=1e-3)


def test_moving_averages_without_memory_of_all_tokens_end_where_lloyd_does():
    """scikit-learn's iteration, and ours: the same fixed point from one start."""
    tokens = jr.normal(jr.key(0), (600, 2))
    tokens = tokens + 3 * jr.randint(jr.key(1), (600, 1), 0, 4)
    q = MovingCodebook(codebooks.FEW, 2, rngs=nnx.Rngs(0))
    q.table[...] = codebooks.start(tokens)
    for _ in range(60):
        q.move(tokens, 0.0)
    error = ((tokens - q.vectors(q.codes(tokens))) ** 2).sum(1).mean()
    np.testing.assert_allclose(codebooks.lloyd(tokens), error, rtol=1e-3)
    online = codebooks.online(tokens, 0.9, jr.key(2))
    assert len(online) == codebooks.STEPS // codebooks.EVERY + 1
    assert online[-1] < 0.8 * online[0]


# The committed results


def test_the_package_has_the_codes_of_the_benchmark():
    assert json.loads(codes.PACKAGED.read_text()) == ON_CPU


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_row_is_there(file):
    content = json.loads(file.read_text())
    find = partial(table, content=content)
    assert content["seeds"] >= 3
    assert [row["kind"] for row in find("usage")] == list(codebooks.KINDS)
    assert [r["prior"] for r in find("priors")] == ["uniform", "frequencies", "learned"]
    found = [(r["codes"], r.get("temperature")) for r in find("samples")]
    assert found == [
        ("digits", None),
        ("codes of digits", None),
        ("uniform", 1.0),
        ("frequencies", 1.0),
        *(("learned", t) for t in codes.TEMPERATURES),
    ]
    rates = [row.get("target") for row in find("rates")]
    assert rates[-len(sum(code_rates.TARGETS.values(), ())) :] == [
        target for targets in code_rates.TARGETS.values() for target in targets
    ]
    assert [row["decoder"] for row in find("ignored")] == list(code_rates.DECODERS)
    assert [row["decay"] for row in find("online")] == list(codebooks.DECAYS)
    assert [row["codes"] for row in find("numbers")[::2]] == list(codebooks.NUMBERS)
    weights = [row["commitment_weight"] for row in find("commitment")]
    assert weights == list(codebooks.COMMITMENTS)
    for row in content["rows"]:
        for name, values in row.items():
            if isinstance(values, list) and name not in ("grid", "step"):
                assert len(values) == content["seeds"], name
                assert np.isfinite(np.array(values, float)).all()


def test_the_data_are_the_embedded_digits(monkeypatch):
    monkeypatch.delenv("VAE_TEACH_DATA", raising=False)
    assert ON_CPU["data"] == provenance.about_data(load("mnist12k"))
    settings = {
        k: list(v) if isinstance(v, tuple) else v for k, v in codes.settings().items()
    }
    assert {key: ON_CPU[key] for key in settings} == settings
    made = ON_CPU["provenance"]
    assert made.keys() == provenance.provenance().keys()
    assert made["command"].startswith("python -m benchmarks.codes")


# What the tables support: differences in standard errors, three of them or more


def test_few_codes_are_used_and_restarts_use_all():
    for kind in ("codebook loss", "moving averages"):
        assert max(one("usage", kind=kind)["share"]) < 0.6
        assert min(one("usage", kind=f"{kind}, restarts")["share"]) > 0.9
    for kind in (codebooks.AT_TOKENS, "unit vectors", "finite scalars"):
        assert max(one("usage", kind=kind)["share"]) < 0.6


def test_restarts_of_moving_averages_are_paid_back_in_distortion():
    plain, cured = (
        one("usage", kind=kind)["distortion"]
        for kind in ("moving averages", codes.CURED)
    )
    assert difference(plain, cured) > 3


def test_the_history_starts_at_the_start_and_ends_at_the_row():
    for row in table("usage"):
        history = row["history"]
        assert history["epoch"] == list(range(ON_CPU["epochs"] + 1))
        for name in ("share", "perplexity"):
            np.testing.assert_allclose([v[-1] for v in history[name]], row[name])


def test_more_codes_need_restarts_more():
    for number in (64, 256):
        assert min(one("numbers", kind="moving averages", codes=number)["share"]) == 1
    assert max(one("numbers", kind="moving averages", codes=1024)["share"]) < 0.9
    assert min(one("numbers", kind=codes.CURED, codes=1024)["share"]) > 0.99


def test_without_commitment_the_encoder_runs_away():
    rows = {row["commitment_weight"]: row for row in table("commitment")}
    norms = [np.mean(rows[w]["token_norm"]) for w in codebooks.COMMITMENTS]
    assert norms == sorted(norms, reverse=True)
    assert norms[0] > 20 * norms[1]
    assert difference(rows[0.0]["distortion"], rows[0.25]["distortion"]) > 3


def test_the_loss_of_an_example_knows_no_batch():
    for kind in (codes.LEARNED, codes.CURED):
        few, many = (one("batches", kind=kind, batch_size=n) for n in (16, 256))
        for name in ("loss", "distortion", "penalty"):
            np.testing.assert_allclose(few[name], many[name], rtol=1e-5)
        assert max(np.divide(many["share"], few["share"])) < 0.2


def test_a_batch_has_less_perplexity_than_the_data():
    means = [np.mean(row["perplexity"]) for row in table("counted")]
    whole = np.mean(one("usage", kind=codes.CURED)["perplexity"])
    assert [*means, whole] == sorted([*means, whole])
    assert means[0] < 49


def test_a_learned_prior_costs_the_least_nats():
    rate = {row["prior"]: row["rate"] for row in table("priors")}
    np.testing.assert_allclose(rate["uniform"], 49 * np.log(256), rtol=1e-4)
    assert difference(rate["uniform"], rate["frequencies"]) > 3
    assert difference(rate["frequencies"], rate["learned"]) > 3
    for row in table("priors"):  # and it has not learned its digits by heart
        np.testing.assert_allclose(row["rate"], row["train_rate"], rtol=0.02)


def test_a_learned_prior_draws_more_digits():
    drawn = {(row["codes"], row.get("temperature")): row for row in table("samples")}
    shares = [
        drawn[name]["digits"]
        for name in (
            ("codes of digits", None),
            ("learned", 1.0),
            ("frequencies", 1.0),
            ("uniform", 1.0),
        )
    ]
    for better, worse in pairwise(shares):
        assert difference(better, worse) > 3
    recalls = [drawn[n, 1.0]["recall"] for n in ("learned", "frequencies", "uniform")]
    for better, worse in pairwise(recalls):
        assert difference(better, worse) > 3


def test_precision_is_not_what_a_temperature_buys():
    """The classifier reads more of the cold samples; "precision" is not higher.

    It is all but 1 of uniform codes, of which next to none is read as a digit.
    """
    cold, warm = (one("samples", codes="learned", temperature=t) for t in (0.5, 1.5))
    assert difference(cold["digits"], warm["digits"]) > 3
    assert difference(cold["precision"], warm["precision"]) < 3
    noise = one("samples", codes="uniform")
    assert min(noise["precision"]) > 0.99
    assert max(noise["digits"]) < 0.01


def test_rates_are_what_they_are_said_to_be():
    for row in table("rates"):
        if row["latents"] == "normal":
            np.testing.assert_allclose(row["rate"], row["target"], rtol=0.03)
        else:
            expected = np.prod(row["grid"]) * np.log(row["codes"])
            np.testing.assert_allclose(row["rate"], expected, rtol=1e-4)
            assert max(row["learned_rate"]) < min(row["frequencies_rate"])


@pytest.mark.parametrize(
    ("grid", "number", "target"),
    [([2, 2], 256, 22.2), ([4, 4], 16, 44.4), ([4, 4], 256, 88.7)],
)
def test_at_the_rate_of_uniform_codes_they_are_sharper_and_further_off(
    grid, number, target
):
    row = one("rates", network="MLP", grid=grid, codes=number)
    normal = one("rates", network="MLP", target=target)
    np.testing.assert_allclose(np.mean(row["rate"]), np.mean(normal["rate"]), rtol=0.01)
    assert difference(row["sharpness"], normal["sharpness"]) > 3
    assert difference(row["squared_error"], normal["squared_error"]) > 3


def test_no_decoder_ignores_its_codes():
    for row in table("ignored"):
        np.testing.assert_allclose(row["rate"], 4 * np.log(64), rtol=1e-5)
        assert 4 < min(row["information"]) <= max(row["information"]) <= np.log(100)
        assert difference(row["swapped_distortion"], row["distortion"]) > 3


def test_moving_averages_come_near_k_means_and_need_memory_for_it():
    (best,) = (row["error"] for row in table("lloyd"))
    ends = {row["decay"]: [e[-1] for e in row["error"]] for row in table("online")}
    for decay in (0.9, 0.99):
        assert max(np.divide(ends[decay], best)) < 1.1
    assert all(a > b for a, b in zip(ends[0.0], ends[0.9], strict=True))
