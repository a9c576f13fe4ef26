"""Train what the traverse and the rotate explorer carry: part of ``make weights``.

The β-VAEs of ``benchmarks.disentanglement``, every seed of every β, trained as there;
of each β the page has the best and the median seed by the MIG. Every number on a page
is measured here; those that depend on the decoder, with the decoder as it is rounded.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import jax.random as jr
import numpy as np

from benchmarks import disentanglement, seed_tables, sprite_scores, sprite_vae
from tools import make_rotate, sprite_models
from tools.make_weights import provenance
from vae_teach import data
from vae_teach.explorers import payload
from vae_teach.explorers.explorer import HERE
from vae_teach.explorers.traverse import BETAS, SEEDS, STARTS
from vae_teach.metrics import rate_and_distortion
from vae_teach.models import VAE

TURNED = (4.0, "best")  # the model of the rotate explorer
DRAWS = 16  # of z for each test sprite in a distortion
BRIEF_BETA, BRIEF_EPOCHS = 4.0, 1  # a training that a test repeats
Models = dict[tuple[float, int], VAE]


def train(images, seeds: int, epochs: int, folder: Path | None = None) -> Models:
    """The models by β and seed: those of the benchmark's folder, or trained anew."""
    found = disentanglement.trained("β-VAE", range(seeds), images, epochs, folder)
    return {name: model for name, (model, _, _) in found.items()}


def chosen(models: Models, dataset: data.Dataset) -> list[dict]:
    """The best and the median seed at each β."""
    scores = [
        {"beta": beta, "which": seed, "mig": sprite_models.measure(model, dataset).mig}
        for (beta, seed), model in models.items()
    ]
    rows = []
    for beta in BETAS:
        group = [row | {"seed": row["which"]} for row in scores if row["beta"] == beta]
        found = seed_tables.best_and_median(group, "mig")
        rows += [
            {"beta": beta, "seed": name, "which": seed}
            | {"migs": [round(row["mig"], 4) for row in group]}
            for name, seed in zip(SEEDS, found, strict=True)
        ]
    return rows


def starts(factors: np.ndarray) -> list[int]:
    """Sprites to begin from, of every shape."""
    rng = np.random.default_rng(1)
    shapes = [np.flatnonzero(factors[:, 0] == k % 3) for k in range(STARTS)]
    return [int(rng.choice(alike)) for alike in shapes]


def content(rows: list[dict], models: Models, dataset: data.Dataset) -> tuple:
    """What the page carries, and its facts: ``rows`` says which models."""
    where, factors = sprite_models.lit(dataset), np.asarray(dataset.test.factors)
    begin = starts(factors)
    parts, codes = {}, []
    rows = [{**row} for row in rows]
    for k, row in enumerate(rows):
        model = models[row["beta"], row["which"]]
        model = sprite_models.in_order(model, dataset)
        carried = sprite_models.rounded(model, f"decoder{k}", where)
        row |= numbers(model, carried, f"decoder{k}", where, dataset)
        shown = jnp.asarray(dataset.test.images[begin])
        codes.append(sprite_scores.codes(model, shown).astype(np.float32))
        parts |= carried
    gray = np.round(255 * dataset.test.images[begin]).astype(np.uint8)
    arrays = {
        **parts,
        "lit": where.astype(np.uint8),
        "sprites": gray.reshape(len(begin), -1),
        "codes": payload.rounded(np.stack(codes), 16),
    }
    facts = {
        "betas": BETAS,
        "factors": dataset.factor_names,
        "side": dataset.test.images.shape[1],
        "sprites": len(dataset.train.images) + len(dataset.test.images),
        "test": len(dataset.test.images),
        "seeds": len(models) // len(BETAS),
        "starts": factors[begin].tolist(),
        "models": rows,
    }
    return payload.pack(arrays, facts), facts


def numbers(model: VAE, carried, name: str, where, dataset: data.Dataset) -> dict:
    """What the page says of a model, and what rounding the decoder cost, in nats."""
    arrays = {key: part.values for key, part in carried.items()}
    page = sprite_models.with_decoder(model, arrays, name, where)
    keys = jr.split(jr.key(1), DRAWS)
    found, test = sprite_models.measure(model, dataset), dataset.test.images
    exact, here = (
        np.mean([rate_and_distortion(m, jnp.asarray(test), k).distortion for k in keys])
        for m in (model, page)
    )
    values = {
        "mig": found.mig,
        "rates": found.rates,
        "known": found.known,
        "distortion": here,
        "rounding": here - exact,
    }
    return {name: np.round(v, 4).tolist() for name, v in values.items()}


def brief(dataset: data.Dataset, seeds: int) -> dict:
    """A training short enough for a test to repeat: one β, every seed."""
    models = sprite_vae.train(
        "β-VAE", (BRIEF_BETA,), range(seeds), dataset.train.images, BRIEF_EPOCHS
    )
    test = jnp.asarray(dataset.test.images)
    rows = [rate_and_distortion(m, test, jr.key(1)) for m in models.values()]
    said = {}
    for name in ("rate", "distortion"):
        values = [float(getattr(row, name)) for row in rows]
        mean, sd = np.mean(values), np.std(values, ddof=1)
        margin = max(5 * sd, 0.03 * mean)
        said[name] = np.round([mean, sd, margin], 4).tolist()  # mean, sd, margin
    return {"beta": BRIEF_BETA, "epochs": BRIEF_EPOCHS, **said}


def write(name: str, blob: bytes, record: dict):
    """A file of an explorer, and how it was made."""
    (HERE / f"weights/{name}.bin").write_bytes(blob)
    text = json.dumps(record | {"bytes": len(blob)}, indent=1) + "\n"
    (HERE / f"weights/{name}.json").write_text(text, "utf-8")
    print(f"{name}.bin: {len(blob):,} bytes, {record['cpu_seconds']} s of CPU")


def main():
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=disentanglement.SEEDS)
    parser.add_argument("--epochs", type=int, default=sprite_vae.EPOCHS)
    parser.add_argument("--models", type=Path, help="a folder of trained ones")
    args, begun = parser.parse_args(), time.process_time()
    dataset = data.load("sprites")
    models = train(dataset.train.images, args.seeds, args.epochs, args.models)
    rows = chosen(models, dataset)
    about = provenance(dataset) | {
        "command": " ".join(["python -m tools.make_traverse", *sys.argv[1:]]),
        "seeds": list(range(args.seeds)),
        "epochs": args.epochs,
    }
    blob, facts = content(rows, models, dataset)
    record = about | facts | {"brief": brief(dataset, args.seeds)}
    spent = {"cpu_seconds": round(time.process_time() - begun)}
    write("traverse", blob, record | spent)
    turned = next(row for row in rows if (row["beta"], row["seed"]) == TURNED)
    blob, facts = make_rotate.content(models, turned, dataset)
    write("rotate", blob, about | facts | spent)


if __name__ == "__main__":
    main()
