"""Train what the collapse explorer carries: part of ``make weights``.

The models are those of ``benchmarks.collapse``, of its first seed and faster rate. Of
linear ones every number on the page is computed there, from the weights as they are
rounded here; of deep ones the counts and nats are those that the benchmark measured.
"""

import argparse
import json
import sys

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from flax import nnx

from benchmarks import collapse
from tools import make_weights
from vae_teach import data, theory
from vae_teach.explorers import payload
from vae_teach.explorers.explorer import HERE

CLASSES = range(10)  # the first test digit of each is shown
BRIEF_BETA, BRIEF_EPOCHS = 2.0, 1


def principal(images) -> theory.Spectrum:
    """Of the raveled digits; the largest entry of each direction made positive."""
    found = theory.spectrum(np.reshape(images, (len(images), -1)))
    vectors = found.directions
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(0)[None], 0)
    return found._replace(directions=vectors * np.sign(largest))


def at(models, k: int):
    """One of several models that were trained at once."""
    return jax.tree.map(lambda leaf: leaf[k], models)


def seed_keys(count: int, seeds: int):
    """The key of the first of the benchmark's seeds, for each of ``count`` models."""
    return jnp.repeat(jr.split(jr.key(0), seeds)[:1], count)


def linear_models(eigenvalues, seeds: int, steps: int):
    """One a line, trained as in the benchmark."""
    levels = list(collapse.lines(eigenvalues).values())
    keys, rate = seed_keys(len(levels), seeds), collapse.RATES[0]
    kept = eigenvalues[: collapse.COMPONENTS]
    return collapse.train_linear(kept, levels, keys, rate, steps)[0]


def rounded_parts(models) -> dict[str, payload.Rounded]:
    """Each matrix of each model at 16 bits with one scale: nothing, where it is 0."""
    names = "encode", "log_variances", "decode"
    parts = {}
    for name, part in zip(names, jax.vmap(collapse.linear_parts)(models), strict=True):
        column = np.asarray(part).reshape(len(part), -1, 1)
        parts[name] = payload.rounded(column, 16)
    return parts


def deep_models(images, seeds: int, epochs: int):
    """One a β, trained as in the benchmark."""
    keys = seed_keys(len(collapse.BETAS), seeds)
    return collapse.train_deep(images, collapse.BETAS, keys, epochs)


def reconstructions(models, digits):
    """Of every digit by every model, at the mean of q, as gray levels."""

    def one(model, x):
        return model.p_x(model.q_z(x).mean).mean

    run = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))
    found = np.clip(np.asarray(run(models, digits)), 0, 1)
    return np.round(255 * found).astype(np.uint8).reshape(*found.shape[:2], -1)


def brief(images, test, seeds: int) -> dict:
    """A training short enough for a test to repeat: one deep β, every seed."""
    keys = jr.split(jr.key(0), seeds)
    betas = [BRIEF_BETA] * seeds
    models = collapse.train_deep(images, betas, keys, BRIEF_EPOCHS)
    rows = [collapse.measure(at(models, k), images, test) for k in range(seeds)]
    found = {}
    for name in ("rate", "squared_error"):
        values = [row[name] for row in rows]
        mean, sd = np.mean(values), np.std(values, ddof=1)
        found[name] = {"mean": mean, "sd": sd, "margin": max(4 * sd, 0.02 * mean)}
    about = {"beta": BRIEF_BETA, "epochs": BRIEF_EPOCHS}
    return about | {k: _short(v) for k, v in found.items()}


def _short(values):
    return {name: round(float(value), 4) for name, value in values.items()}


def metrics_of(parts, models, eigenvalues) -> list[dict]:
    """Nats at each line: predicted, trained, and with the rounded weights."""
    kept, rows = eigenvalues[: collapse.COMPONENTS], []
    for k, (predicted, level) in enumerate(collapse.lines(eigenvalues).items()):
        exact = collapse.rates_of(at(models, k), kept, rotate=False)
        page = rounded_rates(parts, k, kept)
        row = {
            "level": level,
            "trained": exact.sum(),
            "rounded": page.sum(),
            "largest_change": np.abs(exact - page).max(),
        }
        used = {"predicted": predicted, "active": int((page > collapse.ACTIVE).sum())}
        rows.append(_short(row) | used)
    return rows


def rounded_rates(parts, k: int, eigenvalues):
    """Nats of each latent of the k-th linear model as the page has it, falling."""
    size = len(eigenvalues)
    model = collapse.linear_vae(nnx.Rngs(0), size)
    encoder, decoder = model.encoder.network, model.decoder.network
    values = {name: jnp.asarray(part.values[k]) for name, part in parts.items()}
    encoder.mean.kernel[...] = values["encode"].reshape(size, -1)
    encoder.log_variance[...] = values["log_variances"].ravel()
    decoder.kernel[...] = values["decode"].reshape(-1, size)
    return collapse.rates_of(model, eigenvalues, rotate=False)


def content(dataset, result: dict, steps: int, epochs: int) -> tuple[bytes, dict]:
    """What the page carries, and the metrics of its linear models."""
    images, seeds = jnp.asarray(dataset.train.images), result["seeds"]
    mean, values, vectors = principal(dataset.train.images)
    models = linear_models(values, seeds, steps)
    parts = rounded_parts(models)
    chosen = [np.flatnonzero(dataset.test.labels == label)[0] for label in CLASSES]
    digits = jnp.asarray(dataset.test.images[np.array(chosen)])
    deep = reconstructions(deep_models(images, seeds, epochs), digits)
    kept = vectors[:, : collapse.COMPONENTS].astype(np.float32)
    gray = np.round(255 * np.asarray(digits)).astype(np.uint8)
    arrays = {
        "mean": payload.rounded(mean[:, None].astype(np.float32), 16),
        "vectors": payload.rounded(kept),
        "values": values[: collapse.COMPONENTS].astype(np.float32),
        "digits": gray.reshape(len(CLASSES), -1),
        "decoded": deep,
        **parts,
    }
    levels = collapse.lines(values)
    facts = {
        "name": dataset.name,
        "examples": len(images),
        "total": round(float(values.sum()), 4),
        "threshold": collapse.ACTIVE,
        "steps": steps,
        "epochs": epochs,
        "hidden": collapse.HIDDEN,
        "seeds": seeds,
        "linear": [round(float(level), 6) for level in levels.values()],
    }
    return payload.pack(arrays, facts), {"linear": metrics_of(parts, models, values)}


def main():
    """Train, round, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=collapse.MARKS[-1])
    parser.add_argument("--epochs", type=int, default=collapse.EPOCHS)
    args = parser.parse_args()
    dataset = data.load("mnist12k")
    result = json.loads(collapse.PACKAGED.read_text())
    blob, measured = content(dataset, result, args.steps, args.epochs)
    train, test = jnp.asarray(dataset.train.images), jnp.asarray(dataset.test.images)
    record = make_weights.provenance(dataset) | {
        "command": " ".join(["python -m tools.make_collapse", *sys.argv[1:]]),
        "steps": args.steps,
        "epochs": args.epochs,
        "seeds": list(range(result["seeds"])),
        "shown": 0,
        "bytes": len(blob),
        "metrics": measured,
        "brief": brief(train, test, result["seeds"]),
    }
    (HERE / "weights/collapse.bin").write_bytes(blob)
    text = json.dumps(record, indent=1) + "\n"
    (HERE / "weights/collapse.json").write_text(text)
    print(f"collapse.bin: {len(blob):,} bytes")


if __name__ == "__main__":
    main()
