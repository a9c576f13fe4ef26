"""What does a conditional VAE gain from the class, and what keeps its samples from it?

One recipe, three seeds a row, digits binarized once: three ways and three places to put
the class in, beside a VAE that is not told it; 2 to 20 latents, with N(0, I) and with a
learned p(z|y) as the prior; and two mistakes. More digits, seeds and steps, on a GPU:
``VAE_TEACH_DATA=tfds python -m benchmarks.conditional --seeds 5 --epochs 20``.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from flax import nnx

import vae_teach
from vae_teach.data import load
from vae_teach.distributions import Bernoulli
from vae_teach.losses import binarize
from vae_teach.models import VAE
from vae_teach.training import fit_many

from . import class_codes as measures
from . import variant_models as variants
from .latent_codes import features
from .provenance import Report, about_data
from .small_vae import parameters

PACKAGED = Path(vae_teach.__file__).parent / "datasets" / "conditional.json"
SEEDS, EPOCHS, BATCH = 3, 12, 128
SIZES = 2, 4, 8, 20
WAYS = {
    "concatenation": variants.concatenation,
    "FiLM": variants.film,
    "conditional normalisation": variants.normalisation,
}
FIXED, LEARNED = "N(0, I)", "learned"
BOTH = "encoder and decoder"


class Row(NamedTuple):
    """What a model is, and the weight of its rate in training."""

    make: Callable
    network: str
    place: str
    prior: str
    latents: int
    beta: float = 1.0
    logits: str = "as they are"


# Models


class Blind(nnx.Module):
    """A network that is given a condition and does not read it."""

    def __init__(self, network: Callable):
        self.network = network

    def __call__(self, x, c):
        """The network's output at x."""
        del c
        return self.network(x)


def with_blind(model: VAE, rngs, latents, *parts) -> VAE:
    """The model, some of its networks replaced by those of ``variants.plain``."""
    other = variants.plain(rngs, latents)
    for part in parts:
        conditional = getattr(other, part)
        conditional.network = Blind(conditional.network)
        setattr(model, part, conditional)
    return model


def unconditional(rngs, latents) -> VAE:
    """Nothing reads the class."""
    model = variants.conditional(rngs, latents)
    return with_blind(model, rngs, latents, "encoder", "decoder")


def in_decoder(rngs, latents) -> VAE:
    """The decoder alone reads the class."""
    return with_blind(variants.conditional(rngs, latents), rngs, latents, "encoder")


def in_prior(rngs, latents) -> VAE:
    """The prior alone reads the class."""
    model = variants.with_class_prior(rngs, latents)
    return with_blind(model, rngs, latents, "encoder", "decoder")


def above_half(logits) -> Bernoulli:
    """The mistake: a ReLU before the sigmoid, so no pixel is below one half."""
    return Bernoulli(jax.nn.relu(logits))


def rectified(rngs, latents) -> VAE:
    """The model with this mistake."""
    model = variants.conditional(rngs, latents)
    model.decoder.family = above_half
    return model


def rows() -> list[Row]:
    """Every model that is trained."""
    joined, learned = variants.conditional, variants.with_class_prior
    found = []
    for size in SIZES:
        found += [
            Row(joined, "concatenation", BOTH, FIXED, size),
            Row(learned, "concatenation", BOTH, LEARNED, size),
        ]
    for size in (SIZES[0], SIZES[-1]):
        found.append(Row(unconditional, "none", "nowhere", FIXED, size))
        for name in ("FiLM", "conditional normalisation"):
            make = partial(joined, network=WAYS[name])
            found.append(Row(make, name, BOTH, FIXED, size))
    size = SIZES[-1]
    plain = Row(joined, "concatenation", BOTH, FIXED, size)
    return [
        *found,
        Row(in_decoder, "concatenation", "decoder", FIXED, size),
        Row(in_prior, "none", "prior", LEARNED, size),
        # A mean over the latents in the place of the sum is β = 1/latents.
        *(plain._replace(beta=beta) for beta in (1 / size, 0.3, 3.0)),
        plain._replace(make=rectified, logits="ReLU"),
    ]


# Training and judging


def digits():
    """Where the digits are from; pairs and labels of both splits; gray test images."""
    data = load("mnist12k")
    labels = [split.labels for split in (data.train, data.test)]
    gray = jnp.asarray(data.test.images)
    train = binarize(jnp.asarray(data.train.images), jr.key(0))
    images = train, binarize(gray, jr.key(1))
    pairs = [(x, measures.one_hot(y)) for x, y in zip(images, labels, strict=True)]
    return about_data(data), pairs, labels, gray


def fitted(row: Row, train, seeds: int, epochs: int) -> tuple[list, dict]:
    """One model a seed, all trained at once, and what that cost."""
    key_init, key_fit = jr.split(jr.key(2))
    make = jax.vmap(lambda key: row.make(nnx.Rngs(key), latents=row.latents))
    models, keys = make(jr.split(key_init, seeds)), jr.split(key_fit, seeds)
    wall, cpu = time.perf_counter(), time.process_time()
    given = {"keys": keys, "epochs": epochs, "batch_size": BATCH}
    beta = jnp.full(seeds, row.beta)
    models, _ = fit_many(models, variants.OF_PAIRS, train, beta=beta, **given)
    costs = {
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
    }
    return [jax.tree.map(lambda a, n=n: a[n], models) for n in range(seeds)], costs


def judged(model, pairs, labels, gray) -> dict:
    """Each table's measures of one model; ``samples`` and ``swaps`` have several."""
    codes = measures.Codes(model, *pairs, labels)
    real = features(gray[: measures.DRAWS])
    return {
        "models": {None: measures.of_bound(model, pairs[1])},
        "codes": {None: measures.of_codes(model, codes) | measures.of_probes(codes)},
        "samples": {
            name: measures.of_pictures(model, *given, real)
            for name, given in measures.sources(model, codes).items()
        },
        "swaps": measures.of_swaps(model, codes, gray),
    }


def add(report, row: Row, models, costs, found):
    """A row of each table, one number a seed for each measure."""
    about = row._replace(make=None)._asdict()
    del about["make"]
    extra = {"parameters": parameters(models[0]), **costs}
    for table in found[0]:
        for name in found[0][table]:
            each = [one[table][name] for one in found]
            columns = {k: [np.asarray(e[k]).tolist() for e in each] for k in each[0]}
            kind = {"samples": {"source": name}, "swaps": {"swap": name}}.get(table, {})
            costs = extra if table == "models" else {}
            report.add(table=table, **about, **kind, **costs, **columns)
            means = {k: round(float(np.mean(v)), 3) for k, v in columns.items()}
            print(table, *about.values(), name or "", means, flush=True)


def main():
    """Train and judge every row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    arguments = parser.parse_args()
    about, pairs, labels, gray = digits()
    digit = np.asarray(measures.verdicts(gray)[0])
    report = Report(
        "conditional",
        data=about,
        **vars(arguments),
        **settings(),
        read_of_digits=float((digit == labels[1]).mean()),
    )
    for row in rows():
        models, costs = fitted(row, pairs[0], arguments.seeds, arguments.epochs)
        found = [judged(model, pairs, labels, gray) for model in models]
        add(report, row, models, costs, found)
    if jax.default_backend() == "cpu":
        PACKAGED.write_text(json.dumps(json.loads(report.path.read_text())) + "\n")


def settings() -> dict:
    """What all rows share."""
    return {
        "batch_size": BATCH,
        "hidden": variants.HIDDEN,
        "judged": measures.JUDGED,
        "samples": measures.SAMPLES,
        "draws": measures.DRAWS,
        "probed": measures.PROBED,
        "swapped": measures.SWAPPED,
    }


if __name__ == "__main__":
    main()
