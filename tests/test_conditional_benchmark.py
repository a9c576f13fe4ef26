"""The benchmark of conditional VAEs: its measures on known answers, and its result."""

import json
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from flax import nnx

from benchmarks import class_codes as measures
from benchmarks import conditional as benchmark
from benchmarks import provenance
from vae_teach.data import load
from vae_teach.distributions import Bernoulli, Normal, kl
from vae_teach.metrics import digit_classifier
from vae_teach.models import VAE
from vae_teach.priors import ConditionalPrior, StandardNormal
from vae_teach.samplers import FullNormal

FILES = sorted(provenance.RESULTS.glob("conditional-?pu.json"))
ON_CPU = json.loads((provenance.RESULTS / "conditional-cpu.json").read_text())
SIZES = benchmark.SIZES
SOURCES = {"prior", "temperature 0.75", "temperature 0.5", "all codes"}
SOURCES |= {"codes of the class", "fitted normals"}
COUNT = 600  # digits of the made-up splits
KEY = jr.key(0)


# Models whose answers are known: codes N(m_y, s²), pictures ten digits


@pytest.fixture(scope="module")
def shown():
    """A digit of each class that the judge is sure of."""
    test = load("mnist12k").test
    images = jnp.asarray(test.images)
    chances = np.asarray(jax.nn.softmax(jax.vmap(digit_classifier())(images)))
    best = [(chances[:, c] * (test.labels == c)).argmax() for c in range(10)]
    return images[jnp.array(best)]


@pytest.fixture(scope="module")
def data(shown):
    """Pairs and labels of two splits, and their images."""
    labels = np.arange(COUNT) % 10
    images = shown[labels]
    pairs = images, measures.one_hot(labels)
    return (pairs, pairs), (labels, labels), images


def model(distance, decoder, scale=1.0, prior=None, latents=10):
    """Codes at ``distance`` in a direction for each class."""

    def encoder(x, c):
        return Normal(distance * c[:latents], jnp.full(latents, scale))

    return partial(VAE, prior or StandardNormal(latents), encoder, decoder)()


def codes_of(model, data):
    return measures.Codes(model, *data[0], data[1])


def obedient(shown):
    """Shows the digit that it is asked for, whatever the code."""
    return lambda z, c: Bernoulli(40 * shown[c.argmax()] - 20)


def deaf(shown):
    """Shows the digit that the code says, whatever it is asked for."""
    return lambda z, c: Bernoulli(40 * shown[z.argmax()] - 20)


def test_the_kl_and_the_information_of_known_codes(data, shown):
    made = model(1.5, obedient(shown), scale=0.8)
    found = measures.of_codes(made, codes_of(made, data))
    expected = kl(Normal(jnp.eye(10)[0] * 1.5, jnp.full(10, 0.8)), made.p_z())
    # Of 600 digits, less what the fit of 65 numbers from 60 codes loses on others.
    assert expected - 1.5 < found["class_kl"] < expected + 0.1
    whole = found["information"] + found["aggregate_kl"]
    np.testing.assert_allclose(found["class_kl"], whole, rtol=1e-6)
    np.testing.assert_allclose(np.mean(found["kl_of_class"]), whole, rtol=1e-6)
    assert abs(found["mean_distance"] - 1.5) < 0.1
    assert abs(found["variance"] - 0.64) < 0.03


def test_a_prior_at_the_codes_leaves_nothing_of_the_kl(data, shown):
    there = ConditionalPrior(lambda c: Normal(1.5 * c, jnp.full(10, 0.8)))
    made = model(1.5, obedient(shown), scale=0.8, prior=there)
    found = measures.of_codes(made, codes_of(made, data))
    assert -1.5 < found["class_kl"] < 0.1
    assert found["mean_distance"] < 10**0.5 * 3 * 60**-0.5
    assert abs(found["variance"] - 1) < 0.05


@pytest.mark.parametrize(("distance", "accuracy"), [(0.0, 0.1), (20.0, 1.0)])
def test_probes_find_all_that_there_is_and_no_more(data, shown, distance, accuracy):
    found = measures.of_probes(codes_of(model(distance, obedient(shown)), data))
    error = (accuracy * (1 - accuracy) / COUNT) ** 0.5
    for name in ("probe_linear", "probe_mlp"):
        assert abs(found[name] - accuracy) <= 4 * error
    if accuracy == 1:
        np.testing.assert_allclose(found["probe_nats"], np.log(10), atol=1e-2)
    else:
        assert found["probe_nats"] < 0.01  # a bound, and below it for a bad guess


def accuracies(made, data):
    found = measures.sources(made, codes_of(made, data))
    real = measures.features(jnp.tile(data[2], (2, 1, 1, 1))[: measures.DRAWS])
    judged = {k: measures.of_pictures(made, *v, real) for k, v in found.items()}
    return {name: one["accuracy"] for name, one in judged.items()}


def test_pictures_of_an_obedient_decoder_are_what_was_asked_for(data, shown):
    found = accuracies(model(3.0, obedient(shown)), data)
    assert found == dict.fromkeys(SOURCES, 1.0)


def test_pictures_of_a_deaf_decoder_are_right_where_codes_are_of_the_class(data, shown):
    there = ConditionalPrior(lambda c: Normal(9 * c, jnp.full(10, 0.5)))
    made = model(9.0, deaf(shown), scale=0.5, prior=there)
    found = accuracies(made, data)
    chance, error = 0.1, (0.1 * 0.9 / measures.DRAWS) ** 0.5
    for name in ("codes of the class", "fitted normals", "prior", "temperature 0.5"):
        assert found[name] == 1
    # The mistake: a prior that was learned given y, and draws that are not given it.
    for name in ("all codes", "N(0, I)"):
        assert abs(found[name] - chance) < 4 * error


def test_a_swap_fails_for_a_deaf_decoder_until_the_code_is_moved(data, shown):
    for decoder, read, still in ((obedient, 1.0, 0.0), (deaf, 0.0, 1.0)):
        made = model(9.0, decoder(shown))
        found = measures.of_swaps(made, codes_of(made, data), data[2])
        assert (found["direct"]["read"], found["direct"]["still"]) == (read, still)
        assert (found["moved"]["read"], found["moved"]["still"]) == (1, 0)
        assert found["none"]["read"] == found["none"]["still"] == 1


def test_a_moved_code_has_its_place_in_the_other_class():
    roots = jnp.tril(jr.normal(KEY, (10, 3, 3))) + 3 * jnp.eye(3)[None]
    normals = FullNormal(jr.normal(jr.key(1), (10, 3)), roots)
    labels, place = np.array([4, 7]), jr.normal(jr.key(2), (2, 3))
    z = normals.loc[labels] + jnp.einsum("nij,nj->ni", roots[labels], place)
    found = measures.moved(normals, z, labels)
    for n, c in ((0, 1), (1, 5)):
        expected = normals.loc[c] + roots[c] @ place[n]
        np.testing.assert_allclose(found[n, c], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found[n, labels[n]], z[n], rtol=1e-4, atol=1e-5)


def test_style_is_a_correlation_within_pairs_of_classes():
    rng = np.random.default_rng(0)
    labels = np.arange(100) % 10
    style, of_class = rng.normal(size=(100, 1)), labels[:, None] + np.arange(10)[None]
    before, where = np.repeat(style, 10, 1), labels[:, None] != np.arange(10)[None]
    kept = partial(measures.kept, labels=labels, where=where)
    np.testing.assert_allclose(kept(before, 2 * style + 9.0 * of_class), 1, rtol=1e-6)
    assert kept(before, 9.0 * of_class) == 0
    assert abs(kept(before, rng.normal(size=(100, 10)))) < 4 / where.sum() ** 0.5


def test_the_bound_is_exact_where_the_code_says_nothing(data, shown):
    made = model(0.0, obedient(shown), latents=3)
    pairs = tuple(a[:20] for a in data[0][1])  # two digits of each class
    found = measures.of_bound(made, pairs)
    z = jnp.zeros(3)
    one = [made.decoder(z, c).log_prob(x) for x, c in zip(*pairs, strict=True)]
    assert float(found["rate"]) == 0
    np.testing.assert_allclose(found["elbo"], np.mean(one), rtol=1e-4)
    np.testing.assert_allclose(found["log_px"], found["elbo"], rtol=1e-4)


# Models


def shapes_of(row):
    return nnx.eval_shape(lambda: row.make(nnx.Rngs(0), latents=row.latents))


def test_models_of_one_size_have_one_budget():
    budgets = {}
    for row in benchmark.rows():
        leaves = jax.tree.leaves(nnx.state(shapes_of(row), nnx.Param))
        budgets.setdefault(row.latents, []).append(sum(leaf.size for leaf in leaves))
    assert budgets.keys() == set(SIZES)
    for counts in budgets.values():
        assert max(counts) < 1.05 * min(counts)


READERS = {
    "nowhere": (),
    "encoder and decoder": ("encoder", "decoder"),
    "decoder": ("decoder",),
    "prior": ("prior",),
}


PLACES = [row for row in benchmark.rows() if (row.latents, row.beta) == (20, 1)]


@pytest.mark.parametrize("row", PLACES, ids=lambda row: "-".join(row[1:4] + row[6:]))
def test_the_class_is_read_where_the_row_says(row):
    made = row.make(nnx.Rngs(0), latents=row.latents)
    x, z = jr.uniform(KEY, (28, 28, 1)), jr.normal(KEY, (row.latents,))
    one, other = jnp.eye(10)[:2]
    calls = {
        "encoder": lambda c: made.encoder(x, c).loc,
        "decoder": lambda c: made.decoder(z, c).logits,
        "prior": lambda c: made.prior(None, c).loc,
    }
    found = {name for name, f in calls.items() if not jnp.array_equal(f(one), f(other))}
    expected = set(READERS[row.place])
    assert found == expected | ({"prior"} if row.prior == "learned" else set())
    darkest = made.decoder(z, one).mean.min()
    assert (darkest >= 0.5) == (row.logits == "ReLU")


def test_one_number_a_seed_and_the_weight_of_the_rate_counts(data):
    row = benchmark.rows()[0]._replace(make=tiny)
    found = {}
    for beta in (0.0, 9.0):
        models, costs = benchmark.fitted(row._replace(beta=beta), data[0][0], 2, 5)
        assert min(costs.values()) > 0
        q = [measures.posteriors(m, data[0][1]) for m in models]
        found[beta] = [
            jax.vmap(kl, (0, None))(one, m.prior(None)).mean()
            for one, m in zip(q, models, strict=True)
        ]
        assert found[beta][0] != found[beta][1]
    assert max(found[9.0]) < min(found[0.0])


def tiny(rngs, latents):
    made = benchmark.variants.conditional(rngs, latents)
    for part, sizes in (("encoder", (794, 2 * latents)), ("decoder", (latents + 10,))):
        shape = () if part == "encoder" else ((28, 28, 1),)
        network = benchmark.variants.MLP(*sizes, *shape, rngs=rngs)
        getattr(made, part).network = network
    return made


# The committed results


def test_the_package_has_the_measurements():
    assert json.loads(benchmark.PACKAGED.read_text()) == ON_CPU


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_model_has_its_rows(file):
    content = json.loads(file.read_text())
    assert content["seeds"] >= 3
    for row in benchmark.rows():
        about = {k: v for k, v in row._asdict().items() if k != "make"}
        found = [r for r in content["rows"] if about.items() <= r.items()]
        tables = [r["table"] for r in found]
        forgotten = {"N(0, I)"} if row.prior == "learned" else set()
        assert {r["source"] for r in found if "source" in r} == SOURCES | forgotten
        assert {r["swap"] for r in found if "swap" in r} == {"none", "direct", "moved"}
        assert (tables.count("models"), tables.count("codes")) == (1, 1)
        for one in found:
            for values in (v for v in one.values() if isinstance(v, list)):
                assert len(values) == content["seeds"]
                assert np.isfinite(values).all()
            if one["table"] == "models":
                parts = np.array(one["rate"]) + one["distortion"]
                np.testing.assert_allclose(one["elbo"], -parts, rtol=1e-4)
            if one["table"] == "codes" and row.prior == "N(0, I)":
                parts = np.array(one["information"]) + one["aggregate_kl"]
                np.testing.assert_allclose(one["class_kl"], parts, atol=1e-4)
    assert len(content["rows"]) == 225


def test_the_data_are_the_embedded_digits(monkeypatch):
    monkeypatch.delenv("VAE_TEACH_DATA", raising=False)
    assert ON_CPU["data"] == provenance.about_data(load("mnist12k"))
    settings = benchmark.settings()
    assert {key: ON_CPU[key] for key in settings} == settings
    assert ON_CPU["provenance"]["command"].startswith(
        "python -m benchmarks.conditional"
    )


# What the tables support: differences in standard errors, three of them or more


def of(table, measure, latents=20, **which):
    """One number a seed; the plain conditional VAE where nothing else is said."""
    usual = {"network": "concatenation", "place": benchmark.BOTH, "prior": "N(0, I)"}
    usual |= {"beta": 1.0, "logits": "as they are"}
    wanted = usual | {"table": table, "latents": latents} | which
    (row,) = (r for r in ON_CPU["rows"] if wanted.items() <= r.items())
    return np.array(row[measure])


def read(latents=20, source="prior", **which):
    return of("samples", "accuracy", latents, source=source, **which)


def by(a, b):
    """How far a's mean over seeds is above b's, in standard errors."""
    error = np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
    return (a.mean() - b.mean()) / error


NEXT = list(pairwise(SIZES))
MODULATED = "FiLM", "conditional normalisation"


@pytest.mark.parametrize(("few", "more"), NEXT)
def test_more_latents_leak_more_and_obey_less(few, more):
    assert by(read(few), read(more)) > 3
    for measure in ("class_kl", "information", "probe_mlp"):
        assert by(of("codes", measure, more), of("codes", measure, few)) > 3
    swaps = (of("swaps", "read", n, swap="direct") for n in (few, more))
    assert by(*swaps) > 3


@pytest.mark.parametrize("latents", SIZES[1:])
def test_codes_of_the_class_obey_and_codes_of_all_classes_do_not(latents):
    """So it is q(z|y), not q(z), that the prior misses."""
    for source in ("codes of the class", "fitted normals"):
        assert by(read(latents, source), read(latents)) > 3
    assert by(read(latents, "all codes"), read(latents)) < 3


def test_codes_of_the_class_obey_at_every_size():
    assert min(read(n, "codes of the class").mean() for n in SIZES) > 0.94


def test_a_weight_on_the_rate_moves_the_distance_and_the_obedience():
    betas = (0.05, 0.3, 1.0, 3.0)
    for low, high in pairwise(betas):
        assert by(read(beta=high), read(beta=low)) > 3
        kls = (of("codes", "class_kl", beta=beta) for beta in (low, high))
        assert by(*kls) > 3


@pytest.mark.parametrize("latents", SIZES[1:])
def test_a_learned_prior_recovers_a_part_and_keeps_more_of_the_class(latents):
    given = {"prior": "learned"}
    assert by(read(latents, **given), read(latents)) > 3
    assert by(read(latents, **given), read(latents, "N(0, I)", **given)) > 3
    kls = (of("codes", "class_kl", latents, **w) for w in ({}, given))
    assert by(*kls) > 3
    probes = (of("codes", "probe_mlp", latents, **w) for w in (given, {}))
    assert by(*probes) > 3
    direct = (of("swaps", "read", latents, swap="direct", **w) for w in ({}, given))
    assert by(*direct) > 3


def test_a_prior_fitted_afterwards_obeys_more_than_the_learned_one():
    for latents in SIZES[2:]:
        learned = read(latents, prior="learned")
        assert by(read(latents, "fitted normals"), learned) > 3
    bounds = (of("models", "elbo", prior=p) for p in ("learned", "N(0, I)"))
    assert by(*bounds) > 3


def test_at_twenty_latents_most_of_the_class_is_in_the_code():
    assert of("codes", "probe_mlp").mean() > 0.8
    assert of("codes", "probe_nats").mean() > 0.75 * np.log(10)
    assert of("swaps", "read", swap="direct").mean() < 0.3
    assert of("swaps", "read", swap="moved").mean() > 0.9


@pytest.mark.parametrize("network", MODULATED)
@pytest.mark.parametrize("latents", [SIZES[0], SIZES[-1]])
def test_scales_and_shifts_beat_concatenation(network, latents):
    bounds = (
        of("models", "elbo", latents, network=n) for n in (network, "concatenation")
    )
    assert by(*bounds) > 3
    if latents == 20:
        leaks = (
            of("codes", "information", network=n) for n in ("concatenation", network)
        )
        assert by(*leaks) > 3
        assert by(read(network=network), read()) > 3


def test_the_class_is_worth_nats_and_most_where_the_code_is_small():
    plain = {"network": "none", "place": "nowhere"}
    gains = [
        of("models", "elbo", n) - of("models", "elbo", n, **plain) for n in (2, 20)
    ]
    assert min(gains[0]) > 20
    assert by(of("models", "elbo"), of("models", "elbo", **plain)) > 3
    assert abs(read(**plain).mean() - 0.1) < 0.03


def test_an_encoder_that_is_not_told_leaks_more():
    assert (
        by(of("codes", "information", place="decoder"), of("codes", "information")) > 3
    )
    assert by(read(), read(place="decoder")) > 3


def test_a_lower_temperature_buys_obedience_with_variety():
    cold = {"source": "temperature 0.5"}
    assert by(read(**cold), read()) > 3
    recalls = (of("samples", "recall", source=s) for s in ("prior", cold["source"]))
    assert by(*recalls) > 3


def test_a_normalised_layer_all_but_forgets_the_temperature():
    """Its first layer is linear: most of the scale of z is divided out again."""
    network = {"network": "conditional normalisation"}
    gain = read(source="temperature 0.5", **network).mean() - read(**network).mean()
    assert gain < 0.05
    assert read(source="temperature 0.5").mean() - read().mean() > 0.3


def test_two_mistakes_show():
    of_coins = 784 * np.log(2)
    assert abs(of("models", "elbo", logits="ReLU") + of_coins).max() < 2
    assert (of("samples", "darkest", source="prior", logits="ReLU") >= 0.5).all()
    mean_of_kl = {"beta": 0.05}
    assert by(of("models", "elbo"), of("models", "elbo", **mean_of_kl)) > 3
    assert read(**mean_of_kl).mean() < 0.25
