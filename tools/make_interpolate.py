"""Train what the interpolate explorer carries: part of ``make weights``.

One recipe for each number of latents. The page has the decoder, rounded, and the ends;
straight and spherical paths it computes. The shortest paths are found here, with the
rounded decoder, and so is the judge's verdict along all paths.
"""

import argparse
import json
import sys
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float
from scipy import stats

from tools import decoders
from tools.make_weights import provenance
from vae_teach import data
from vae_teach.bounds import elbo
from vae_teach.distributions import Bernoulli, Normal
from vae_teach.explorers import payload, trained
from vae_teach.explorers.interpolate import DIGITS, DRAWS, LATENTS, TIMES
from vae_teach.interpolation import geodesic, linear, path_length, spherical
from vae_teach.losses import mean_over_batch
from vae_teach.metrics import digit_classifier, rate_and_distortion, rate_per_unit
from vae_teach.models import VAE, Conditional
from vae_teach.networks import MLP
from vae_teach.priors import StandardNormal
from vae_teach.training import fit, minimise

EPOCHS, BATCH, RATE = 60, 128, 1.5e-3
INWARD, OUTWARD = (256, 64), (64, 72)  # widths of encoder and decoder
BRIEF, SEEDS = 1, 3  # epochs of a short training, and its seeds
STEPS = {2: 33, 20: 11, 128: 11}  # points of a shortest path
FREE = 24  # directions that it may take: its cost grows with the cube of both
CLASSES = (0, 1, 2, 3, 4, 5, 7, 9)  # the first test digit of each is an end
PAIRS = 1_000  # of test digits, and of draws, for what is said of all
SURE, IN_USE = 0.95, 0.01  # of the judge; nats of a latent


def build(latents: int, rngs: nnx.Rngs) -> VAE:
    """The VAE with so many latents."""
    layers = partial(MLP, activation=jax.nn.gelu, rngs=rngs)
    return VAE(
        StandardNormal(latents),
        Conditional(
            layers(decoders.IMAGE, *INWARD, 2 * latents), Normal.from_log_variance
        ),
        Conditional(layers(latents, *OUTWARD, decoders.IMAGE), Bernoulli),
    )


def train(latents: int, x, seed: int, epochs: int) -> VAE:
    """On the ELBO, by Adam."""
    rate = optax.cosine_decay_schedule(RATE, epochs * (len(x) // BATCH), 0.02)
    step, key = minimise(mean_over_batch(elbo), optax.adam(rate)), jr.key(seed)
    begin = build(latents, nnx.Rngs(seed))
    return fit(begin, step, x, key=key, epochs=epochs, batch_size=BATCH)[0]


def as_carried(vae: VAE) -> VAE:
    """The same with the decoder that the page has."""
    network = decoders.rounded(vae.decoder.network)
    return VAE(vae.prior, vae.encoder, Conditional(network, Bernoulli))


def ends(vae: VAE, digits) -> tuple[Normal, Float[Array, "n d"]]:
    """The posteriors of the shown digits, and the draws of the prior."""
    q: Any = jax.vmap(vae.q_z)(digits)
    return q, jr.normal(jr.key(7), (DRAWS, q.loc.shape[1]))


def shortest(
    vae: VAE, points: Float[Array, "n d"]
) -> Float[np.ndarray, "pairs steps d"]:
    """The geodesic of each pair of points, in the order of ``combinations``.

    It is free in the FREE directions that the first layer sees most, which are all
    where there are no more latents; across them it goes along the straight line.
    """
    steps = STEPS[points.shape[1]]
    basis = jnp.linalg.svd(vae.decoder.network.layers[0].kernel[...], False)[0]
    basis = basis[:, :FREE]

    @jax.jit
    def one(a, b):
        rest = [end - basis @ (basis.T @ end) for end in (a, b)]

        def place(free):  # the coordinates in the basis, and how far across it
            return basis @ free[1:] + (1 - free[0]) * rest[0] + free[0] * rest[1]

        begin, end = (jnp.append(t, basis.T @ z) for t, z in ((0.0, a), (1.0, b)))
        path = geodesic(lambda free: _image(vae, place(free)), begin, end, steps=steps)
        return jax.vmap(place)(path)

    return np.stack([np.asarray(one(a, b)) for a, b in combinations(points, 2)])


def _image(vae, z):
    return vae.p_x(z).mean


def refined(path: Float[np.ndarray, "steps d"]) -> Float[np.ndarray, "times d"]:
    """The points at the page's positions of t, straight between those that it has."""
    have, want = np.linspace(0, 1, len(path)), np.linspace(0, 1, TIMES)
    columns = [np.interp(want, have, column) for column in path.T]
    return np.stack(columns, 1).astype(np.float32)


def paths(points, inner) -> Float[np.ndarray, "pairs 3 times d"]:
    """Linear, spherical and shortest path of each pair; ``inner`` is of the last."""
    found = []
    for (a, b), middle in zip(combinations(np.asarray(points), 2), inner, strict=True):
        whole = np.concatenate([a[None], middle, b[None]])
        plain = [
            f(jnp.asarray(a), jnp.asarray(b), steps=TIMES) for f in (linear, spherical)
        ]
        found.append([*map(np.asarray, plain), refined(whole)])
    return np.array(found)


def verdicts(vae: VAE, z: Float[Array, "n d"]) -> Float[Array, "n 10"]:
    """The judge's probabilities of the ten digits for decoded points."""
    return _verdicts(digit_classifier(), vae, z)


@jax.jit
def _verdicts(judge, vae, z):
    def one(z):
        return jax.nn.softmax(judge(_image(vae, z)))

    return jax.lax.map(one, z, batch_size=256)


def shell(latents: int) -> list[float]:
    """Of the norm of N(0, I): 2.5 %, mean and 97.5 %."""
    chi = stats.chi(latents)
    return [round(float(v), 4) for v in (chi.ppf(0.025), chi.mean(), chi.ppf(0.975))]


def population(vae: VAE, x) -> dict:
    """Of pairs of test digits and of prior draws: norms, and the judge at the middle.

    Codes are means of q(z|x), then draws of it. ``inside`` is the share in the shell.
    """
    q = jax.lax.map(vae.q_z, x, batch_size=256)
    latents = q.loc.shape[1]
    keys = jr.split(jr.key(11), 2)
    kinds = {
        "mean": q.loc,
        "draw": jax.vmap(Normal.sample)(q, jr.split(keys[0], len(x))),
        "prior": jr.normal(keys[1], q.loc.shape),
    }
    return {name: _pairs(vae, codes, shell(latents)) for name, codes in kinds.items()}


def _pairs(vae, codes, band):
    a, b = codes[:PAIRS], codes[PAIRS : 2 * PAIRS]
    middles = [jax.vmap(partial(f, steps=3))(a, b)[:, 1] for f in (linear, spherical)]
    sure = [verdicts(vae, z).max(1) > SURE for z in (codes, *middles)]
    norms = [np.linalg.norm(z, axis=1) for z in (codes, *middles)]
    return {
        "norm": [_short(n.mean()) for n in norms],
        "norm_sd": [_short(n.std()) for n in norms],
        "inside": [_short(((band[0] < n) & (n < band[2])).mean()) for n in norms],
        "sure": [_short(s.mean()) for s in sure],
    }


def _short(value):
    return round(float(value), 4)


def measure(vae: VAE, x) -> dict[str, float]:
    """Rate and distortion of test digits, in nats, and how many latents are in use."""
    found, rates = rate_and_distortion(vae, x, jr.key(1)), rate_per_unit(vae, x)
    return {
        "rate": _short(found.rate),
        "distortion": _short(found.distortion),
        "used": int((rates > IN_USE).sum()),
    }


def along(vae: VAE, curves: Float[np.ndarray, "pairs 3 times d"]) -> dict:
    """Means over the carried pairs, for each of the three paths."""
    lengths = jax.jit(jax.vmap(partial(path_length, partial(_image, vae))))
    norms = np.linalg.norm(curves, axis=-1)
    middle = verdicts(
        vae, jnp.asarray(curves[:, :, TIMES // 2].reshape(-1, curves.shape[-1]))
    )
    sure = np.asarray(middle.max(1) > SURE).reshape(-1, 3)
    ends = [
        np.asarray(jax.vmap(partial(_image, vae))(jnp.asarray(curves[:, 0, k])))
        for k in (0, -1)
    ]
    chord = np.sqrt(((ends[0] - ends[1]) ** 2).sum((1, 2, 3))).mean()
    return {
        "length": [_short(lengths(jnp.asarray(curves[:, k])).mean()) for k in range(3)],
        "chord": _short(chord),
        "farthest": [_short(v) for v in norms.max(2).mean(0)],
        "sure": [_short(v) for v in sure.mean(0)],
    }


def share(curves: Float[np.ndarray, "pairs 3 times d"], unused) -> float:
    """Of the squared norm of the shortest paths: how much is in unused latents."""
    squares = (curves[:, 2] ** 2).sum((0, 1))
    return _short(squares[unused].sum() / squares.sum())


def carried(vae: VAE, digits, test) -> tuple[dict, dict]:
    """The arrays of one model, and what is said of it."""
    page, (q, draws) = as_carried(vae), ends(vae, digits)
    latents = draws.shape[1]
    arrays = decoders.packed(vae.decoder.network, f"{latents}.decoder")
    facts = {"shell": shell(latents), "pairs": {}}
    unused = np.asarray(rate_per_unit(page, test)) <= IN_USE
    for name, points in (("digits", q.loc), ("prior", draws)):
        inner = payload.rounded(shortest(page, points)[:, 1:-1].reshape(-1, latents))
        curves = paths(points, inner.values.reshape(-1, STEPS[latents] - 2, latents))
        odds = np.asarray(verdicts(page, jnp.asarray(curves.reshape(-1, latents))))
        arrays |= {
            f"{latents}.{name}": np.asarray(points),
            f"{latents}.{name}.inner": inner,
            f"{latents}.{name}.digit": odds.argmax(1).astype(np.uint8),
            f"{latents}.{name}.certainty": np.round(255 * odds.max(1)).astype(np.uint8),
        }
        facts["pairs"][name] = along(page, curves) | {"unused": share(curves, unused)}
    noisy = jnp.sqrt((q.loc**2 + q.scale**2).sum(1))
    facts["noisy"] = [_short(v) for v in noisy]
    facts |= measure(page, test) | {"all": population(page, test)}
    return arrays, facts


def brief(train_images, test) -> dict:
    """A training short enough for a test to repeat."""
    found = [
        measure(train(2, train_images, seed, BRIEF), test) for seed in range(SEEDS)
    ]
    said = {}
    for name in ("rate", "distortion"):
        values = [row[name] for row in found]
        mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))
        said[name] = {"mean": mean, "sd": sd, "margin": max(5 * sd, 0.03 * mean)}
    return {"latents": 2, "epochs": BRIEF, "seeds": list(range(SEEDS)), **said}


def main():
    """Train, find paths, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=trained.FOLDER)
    out = parser.parse_args().out
    dataset = data.load("mnist12k")
    images, test = (jnp.asarray(part.images) for part in (dataset.train, dataset.test))
    rows = np.array([np.flatnonzero(dataset.test.labels == c)[0] for c in CLASSES])
    arrays, models, costs = {}, {}, {}
    for latents in LATENTS:
        vae = train(latents, images, 0, EPOCHS)
        arrays_of, models[str(latents)] = carried(vae, test[rows], test)
        arrays |= arrays_of
        exact, page = measure(vae, test), models[str(latents)]
        costs[str(latents)] = _short(page["distortion"] - exact["distortion"])
        print(latents, json.dumps(models[str(latents)]), flush=True)
    gray = np.round(255 * dataset.test.images[rows]).astype(np.uint8)
    arrays["digits"] = gray.reshape(DIGITS, 784)
    facts = {
        "classes": CLASSES,
        "sure": SURE,
        "tests": len(test),
        "pairs": PAIRS,
        "epochs": EPOCHS,
        "examples": len(images),
        "models": models,
        "rounding": costs,
        "free": FREE,
    }
    blob = payload.pack(arrays, facts)
    record = provenance(dataset) | {
        "command": " ".join(["python -m tools.make_interpolate", *sys.argv[1:]]),
        "seed": 0,
        "widths": [INWARD, OUTWARD],
        "steps": STEPS,
        "bytes": len(blob),
        "brief": brief(images, test),
        **facts,
    }
    (out / "interpolate.bin").write_bytes(blob)
    (out / "interpolate.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"interpolate.bin: {len(blob):,} bytes")


if __name__ == "__main__":
    main()
