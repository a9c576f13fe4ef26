"""Train what the blur explorer carries: part of ``make weights``.

Two VAEs, each one model for all σ² of its decoder. One has 2 latents and sees only the
few digits that the page carries, so that the page can average them; the other has 128
latents and sees all training digits, and what it makes of test digits is computed here.
"""

import argparse
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array

from tools.blur_models import (
    CUTOFF,
    KNOTS,
    PLANE,
    POSITIONS,
    REAL,
    At,
    dials,
    measure,
    plane_vae,
    real_vae,
    sharing,
    train,
    variance_of,
)
from tools.make_weights import provenance
from vae_teach import data
from vae_teach.explorers import payload, trained
from vae_teach.models import VAE
from vae_teach.sharpness import power_spectrum, sharpness

TICKS = (0.01, 0.1, 0.5, 1, 2, 4, 6)
CLASSES = (2, 0, 4, 7, 5)  # the first test digit of each is shown
FEW, ASKED = 256, 100  # carried digits; training digits whose codes are drawn
BRIEF, BEGIN = 4, 12  # epochs of a short training; the position where it is measured


def few_digits(dataset: data.Dataset) -> np.ndarray:
    """The carried digits, at 16 levels of gray: (FEW, 784), from 0 to 15."""
    return np.round(15 * dataset.train.images[:FEW]).astype(np.uint8).reshape(FEW, 784)


def as_images(levels: np.ndarray) -> Array:
    """What the page and the small VAE see of them."""
    return jnp.asarray(levels.reshape(-1, 28, 28, 1) / np.float32(15))


def rows(vae: VAE, x, asked, shared) -> list[dict]:
    """Measured at each position; the sharpness relative to that of ``x``."""
    sharp, found = sharpness(x, cutoff=CUTOFF).mean(), []
    for t in dials():
        row = measure(vae, t, x) | sharing(vae, t, asked, shared)
        row["sharpness"] = row["sharpness"] / sharp
        found.append(row)
    return found


def numbers(found: list[dict]) -> list[dict[str, float]]:
    """The scalars of the rows, rounded for people."""
    return [
        {k: round(float(v), 3) for k, v in row.items() if v.ndim == 0} for row in found
    ]


def spread(x) -> float:
    """The squared error of the mean image: that of a VAE that has collapsed."""
    return round(float(((x - x.mean(0, keepdims=True)) ** 2).sum((1, 2, 3)).mean()), 2)


def pictures(vae: VAE, x) -> np.ndarray:
    """Reconstructions at the mean of q, in 256 grays: (positions, n, 784)."""

    def at(t):
        model = At(vae, t)
        return jax.vmap(lambda x: model.p_x(model.q_z(x).mean).mean)(x)

    images = np.asarray(jax.lax.map(at, jnp.stack(dials())))
    return np.round(255 * images).astype(np.uint8).reshape(POSITIONS, len(x), 784)


def page_model(weights: dict[str, np.ndarray]) -> VAE:
    """The small VAE with the weights of the page."""
    return trained.fill(plane_vae(nnx.Rngs(0)), weights)


def rounding_cost(exact: list[dict], page: list[dict]) -> dict[str, float]:
    """What rounding the weights changes, at its worst over the positions."""
    pairs = list(zip(numbers(exact), numbers(page), strict=True))
    return {
        name: round(max(abs(a[name] - b[name]) for a, b in pairs), 3)
        for name in ("rate", "error")
    }


def facts_of(few, test, many: int, measured: dict[str, list[dict]]) -> dict:
    """What the page says."""
    return {
        "variances": [float(f"{variance_of(t):.3g}") for t in dials()],
        "ticks": TICKS,
        "knots": KNOTS,
        "few": FEW,
        "many": many,
        "latents": REAL.latents,
        "cutoff": CUTOFF,
        "frequency": [round(float(f), 4) for f in power_spectrum(test).frequency],
        "spread": {"plane": spread(few), "real": spread(test)},
        "plane": numbers(measured["page"]),
        "real": numbers(measured["real"]),
        "rounding": rounding_cost(measured["exact"], measured["page"]),
    }


def content(dataset: data.Dataset, plane: VAE, real: VAE) -> tuple[bytes, dict]:
    """What the page carries, and its facts: those of the plane with rounded weights."""
    train, test = (jnp.asarray(part.images) for part in (dataset.train, dataset.test))
    levels, weights = few_digits(dataset), trained.round_parts(trained.parts(plane))
    few, page = as_images(levels), page_model({k: v.values for k, v in weights.items()})
    measured = {
        "page": rows(page, few, few, few),
        "exact": rows(plane, few, few, few),
        "real": rows(real, test, train[:ASKED], train),
    }
    labels = dataset.test.labels
    shown = test[jnp.array([np.flatnonzero(labels == c)[0] for c in CLASSES])]
    spectra = np.stack([row["power"] for row in measured["real"]])
    arrays = {
        **weights,
        "digits": 16 * levels[:, ::2] + levels[:, 1::2],
        "labels": np.asarray(dataset.train.labels)[:FEW].astype(np.uint8),
        "tests": np.round(255 * shown).astype(np.uint8).reshape(len(shown), 784),
        "guesses": pictures(real, shown),
        "data": np.asarray(power_spectrum(test).power, np.float32),
        "power": spectra.astype(np.float32),
    }
    facts = facts_of(few, test, len(train), measured)
    return payload.pack(arrays, facts), facts


def train_plane(few, seed: int, epochs: int | None = None) -> VAE:
    """The VAE of the plane from this seed."""
    return train(plane_vae(nnx.Rngs(seed)), PLANE, few, seed, epochs)


def brief(few) -> dict:
    """A training of the small VAE short enough for a test to repeat."""
    t, found = dials()[BEGIN], []
    for seed in range(3):
        found += numbers([measure(train_plane(few, seed, BRIEF), t, few)])
    said = {}
    for name in ("rate", "error"):
        values = [row[name] for row in found]
        mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))
        said[name] = {"mean": mean, "sd": sd, "margin": max(5 * sd, 0.03 * mean)}
    return {"epochs": BRIEF, "seeds": [0, 1, 2], "position": BEGIN, **said}


def record(dataset, facts: dict, size: int, few) -> dict:
    """How the weights were made and what was measured."""
    return provenance(dataset) | {
        "command": " ".join(["python -m tools.make_blur", *sys.argv[1:]]),
        "seed": 0,
        "models": {"plane": PLANE._asdict(), "real": REAL._asdict()},
        "bytes": size,
        "brief": brief(few),
        **facts,
    }


def main():
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=trained.FOLDER)
    out = parser.parse_args().out
    dataset = data.load("mnist12k")
    few = as_images(few_digits(dataset))
    plane = train_plane(few, 0)
    images = jnp.asarray(dataset.train.images)
    real = train(real_vae(nnx.Rngs(0)), REAL, images, 0)
    blob, facts = content(dataset, plane, real)
    (out / "blur.bin").write_bytes(blob)
    text = json.dumps(record(dataset, facts, len(blob), few), indent=1) + "\n"
    (out / "blur.json").write_text(text)
    print(f"blur.bin: {len(blob):,} bytes")


if __name__ == "__main__":
    main()
