"""What do the codes of a VQ-VAE do: are they used, do they sample, are they sharper?

Codebooks and their cures by the usage counted over all training digits; priors over the
codes by nats and by samples; squared error and sharpness at equal rate against normal
latents; a decoder that may ignore its codes. More digits, seeds and epochs, on a GPU:
``VAE_TEACH_DATA=tfds python -m benchmarks.codes --seeds 5 --epochs 10``.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import vae_teach
from vae_teach.data import load
from vae_teach.losses import binarize
from vae_teach.vq import usage

from . import code_rates, code_samples, codebooks
from .code_rates import fitted, nats, of_images, rate
from .code_samples import DRAWS, TEMPERATURES, codes_of, decoded, rate_of
from .cures import pooled
from .provenance import Report, about_data
from .variant_models import ADAM, CODES, GRID

PACKAGED = Path(vae_teach.__file__).parent / "datasets" / "codes.json"
SEEDS, EPOCHS = 3, 4
CURED, LEARNED = "moving averages, restarts", "codebook loss, restarts"
SIZES = (1, 4, 16, 64)  # images in a batch; of all images: the table of usage
IMAGES = (
    "base64 of zlib of uint8, (10, 28, 28): ten images of the first seed, as unpacked "
    "by benchmarks.blur.unpacked"
)


def main():
    """Every table, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    arguments = parser.parse_args()
    data = load("mnist12k")
    given = {"images": IMAGES, **settings(), **vars(arguments)}
    report = Report("codes", data=about_data(data), **given)
    for row in rows(data, **vars(arguments)):
        report.add(**row)
        hidden = ("history", "images", "error")
        print({k: v for k, v in row.items() if k not in hidden}, flush=True)
    if jax.default_backend() == "cpu":
        PACKAGED.write_text(json.dumps(json.loads(report.path.read_text())) + "\n")


def settings() -> dict:
    """What all rows share."""
    return {
        "batch_size": code_rates.BATCH,
        "grid": GRID,
        "draws": DRAWS,
        "longer": code_rates.LONGER,
        "tokens": codebooks.TOKENS,
        "clusters": codebooks.FEW,
    }


def rows(data, seeds: int, epochs: int) -> Iterator[dict]:
    """All of the rows, in the order of the chapter's questions."""
    train, test = (jnp.asarray(split.images) for split in (data.train, data.test))
    labels = jnp.asarray(data.test.labels)
    split = train, test, labels
    kept = {}
    for kind, (make, step) in codebooks.KINDS.items():
        at_tokens = kind == codebooks.AT_TOKENS
        kept[kind], row = codebooks.usage_row(
            make, step, *split, seeds, epochs, at_tokens=at_tokens
        )
        codes = kept[kind][0].quantiser.size
        yield {"table": "usage", "kind": kind, "codes": codes, **row}
    yield from priors(kept[CURED], train, test, epochs)
    yield from rates(*split, seeds, epochs)
    yield from batches(kept, train)
    yield from ignored(train, test, seeds, epochs)
    yield from online(kept[CURED], train)
    yield from numbers(*split, seeds, epochs)


def columns(found: list[dict]) -> dict:
    """One list, a number a seed, for each name."""
    return {name: [one[name] for one in found] for name in found[0]}


# Priors


def priors(models, train, test, epochs):
    """What the code grids of the trained models cost, and what samples look like."""
    real = test[:DRAWS]
    others = test[DRAWS : 2 * DRAWS]
    start = time.process_time()
    size = models[0].quantiser.size
    fitted = [
        code_samples.priors_of(codes_of(model, train), size, epochs, seed)
        for seed, model in enumerate(models)
    ]
    took = time.process_time() - start
    held = [(codes_of(m, train), codes_of(m, test)) for m in models]
    for name in fitted[0]:
        pairs = [
            [float(rate_of(p[name], codes)) for codes in both]
            for p, both in zip(fitted, held, strict=True)
        ]
        row = {"train_rate": [a for a, _ in pairs], "rate": [b for _, b in pairs]}
        yield {"table": "priors", "prior": name, **row, "cpu_seconds": took}
    yield samples("digits", [others] * len(models), real)
    seen = [decoded(m, codes_of(m, others)) for m in models]
    yield samples("codes of digits", seen, real)
    for name in fitted[0]:
        for temperature in TEMPERATURES if name == "learned" else (1.0,):
            drawn = [
                of_prior(m, p[name], temperature, jr.fold_in(jr.key(4), seed))
                for seed, (m, p) in enumerate(zip(models, fitted, strict=True))
            ]
            yield samples(name, drawn, real, temperature=temperature)


def of_prior(model, p, temperature, key):
    """Decoded draws of a prior at this temperature."""
    p = replace(p, temperature=temperature) if temperature != 1 else p
    return decoded(model, code_samples.drawn(p, DRAWS, key))


def samples(name, images, real, **given) -> dict:
    """The row of such images, one set a seed."""
    found = columns([code_samples.judged(one, real) for one in images])
    shown = code_samples.shown(images[0])
    return {"table": "samples", "codes": name, **given, **found, "images": shown}


# Rates


def rates(train, test, labels, seeds, epochs):
    """Codes and normal latents by rate, squared error and sharpness."""
    for about, models in code_rates.code_rows(train, seeds, epochs):
        found = [
            of_codes(m, *about_codes(about), train, test, epochs, n)
            | of_images(m, test, labels)
            for n, m in enumerate(models)
        ]
        yield {"table": "rates", "latents": "codes", **about, **columns(found)}
    for about, models in code_rates.normal_rows(train, seeds, epochs):
        found = [{"rate": rate(m, test)} | of_images(m, test, labels) for m in models]
        yield {"table": "rates", "latents": "normal", **about, **columns(found)}


def about_codes(about):
    """The grid and the number of codes of a row."""
    return tuple(about["grid"]), about["codes"]


def of_codes(model, grid, size, train, test, epochs, seed) -> dict:
    """The rate of the test digits' codes under three priors, and their usage."""
    codes = codes_of(model, train)
    fitted = code_samples.priors_of(codes, size, epochs, seed)
    held = codes_of(model, test)
    found = {name: float(rate_of(p, held)) for name, p in fitted.items()}
    return {
        "rate": nats(grid, size),
        "frequencies_rate": found["frequencies"],
        "learned_rate": found["learned"],
        "share": float(usage(model, train).share),
    }


# Batches


def batches(kept, train):
    """The loss by the size of the batch, and usage by the images that are counted."""
    for kind in (LEARNED, CURED):
        found = [codebooks.by_batch(model, train[:256]) for model in kept[kind]]
        for each in zip(*found, strict=True):
            row = columns(list(each))
            row["batch_size"] = row["batch_size"][0]
            yield {"table": "batches", "kind": kind, **row}
    codes = [codes_of(model, train) for model in kept[CURED]]
    for size in SIZES:
        found = [codebooks.of_batches(z, size, CODES) for z in codes]
        yield {"table": "counted", "kind": CURED, "images": size, **columns(found)}


# A decoder that may ignore its codes


def ignored(train, test, seeds, epochs):
    """Nats of digits at their own codes and at those of others, for three decoders."""
    train, test = pooled(train), binarize(pooled(test), jr.key(0))
    train = binarize(train, jr.key(1))
    for name, decoder in code_rates.DECODERS.items():
        start = time.process_time()
        models = fitted(
            partial(code_rates.few_codes, decoder=decoder),
            code_rates.players(ADAM),
            train,
            seeds,
            max(1, epochs // 4),
            code_rates.STEP_BATCH,
        )
        took = time.process_time() - start
        found = []
        for model in models:
            one = code_rates.swapped(model, test[:1000])
            used = usage(model, train)
            one |= {"share": used.share, "perplexity": used.perplexity}
            found.append({k: float(v) for k, v in one.items()})
        constant = nats(code_rates.FEW, code_rates.NUMBER)
        yield {
            "table": "ignored",
            "decoder": name,
            "rate": constant,
            **columns(found),
            "cpu_seconds": took,
        }


# Online k-means; numbers of codes; commitment


def online(models, train):
    """The error of moving averages on fixed tokens, and that of Lloyd's algorithm."""
    tokens = [codebooks.tokens_of(model, train) for model in models]
    steps = np.arange(0, codebooks.STEPS + 1, codebooks.EVERY).tolist()
    for decay in codebooks.DECAYS:
        error = [
            codebooks.online(y, decay, jr.fold_in(jr.key(6), n))
            for n, y in enumerate(tokens)
        ]
        yield {"table": "online", "decay": decay, "step": steps, "error": error}
    yield {"table": "lloyd", "error": [codebooks.lloyd(y) for y in tokens]}


def numbers(train, test, labels, seeds, epochs):
    """Usage by the number of codes, and the weight of the commitment, of MLPs."""
    split, length = (train, test, labels), code_rates.LONGER * epochs
    for codes in codebooks.NUMBERS:
        for kind, (make, step) in codebooks.by_number(codes).items():
            _, row = codebooks.usage_row(make, step, *split, seeds, length)
            yield {"table": "numbers", "kind": kind, "codes": codes, **row}
    for weight in codebooks.COMMITMENTS:
        make, step = codebooks.by_commitment(weight)
        _, row = codebooks.usage_row(make, step, *split, seeds, length)
        yield {"table": "commitment", "commitment_weight": weight, **row}


if __name__ == "__main__":
    main()
