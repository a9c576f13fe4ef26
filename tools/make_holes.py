"""Compute what the holes explorer carries: part of ``make weights``.

The model is the latent explorer's at β = 1, whose decoder becomes a plain perceptron
and is rounded again. Nothing is trained but the mixtures, by EM.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from flax import nnx

from tools import decoders
from tools.make_weights import provenance
from vae_teach import data
from vae_teach.distributions import Bernoulli, Normal
from vae_teach.explorers import conditioned, payload, trained
from vae_teach.explorers.holes import COMPONENTS
from vae_teach.metrics import digit_classifier
from vae_teach.models import VAE, Conditional
from vae_teach.networks import MLP
from vae_teach.priors import StandardNormal
from vae_teach.samplers import Mixture, ex_post_mixture, sample_codes

BETA = 1.0
SIDE, REACH = 161, 4.0  # of the grid: a node every 0.05
SURE, HOLE = 0.95, 0.1  # of the judge; of q/p
FLOOR = -25.0  # of log q: below it nothing is to be seen
SEEDS = 3  # of EM and of the checks by chance


def baked(network: conditioned.Stack, t) -> MLP:
    """A conditioned decoder at one t, as the perceptron that it then is."""
    layers: list[Any] = list(network.layers)
    phi, first, second, last = conditioned.hats(t, conditioned.KNOTS), *layers
    gain = 1 + conditioned.GAIN_SPEED * (phi @ last.gain[...])
    parts = [
        (jnp.tensordot(phi, x.kernel[...], 1), phi @ x.bias[...])
        for x in (first, second)
    ]
    shift = conditioned.GAIN_SPEED * (phi @ last.shift[...])
    parts.append((last.kernel[...] * gain[None], shift))
    widths = [len(kernel) for kernel, _ in parts]
    mlp = MLP(*widths, network.shape, activation=jax.nn.gelu, rngs=nnx.Rngs(0))
    plain: list[Any] = list(mlp.layers)
    for layer, (kernel, bias) in zip(plain, parts, strict=True):
        layer.kernel[...], layer.bias[...] = kernel, bias
    return mlp


def page_model(decoder: MLP) -> VAE:
    """The page's decoder; the encoder is the latent explorer's at β = 1."""
    t = jnp.float32(conditioned.dial_of(BETA))
    network = trained.model().encoder.network

    def encoder(x):
        return Normal.from_log_variance(network(x, t))

    return VAE(StandardNormal(2), encoder, Conditional(decoder, Bernoulli))


def nodes() -> np.ndarray:
    """The points of the grid, (SIDE², 2): rows of equal z₂, both from low to high."""
    axis = np.linspace(-REACH, REACH, SIDE)
    return np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2).astype(np.float32)


def density(prior, z) -> np.ndarray:
    """Log density of a distribution at each of ``z``."""
    run = jax.jit(lambda z: jax.lax.map(prior.log_prob, z, batch_size=64))
    return np.asarray(run(jnp.asarray(z)))


def judged(model: VAE, z) -> np.ndarray:
    """The judge's probabilities of the ten digits for what each of ``z`` decodes to."""
    judge = digit_classifier()

    def one(z):
        likelihood: Any = model.p_x(z)
        return jax.nn.softmax(judge(likelihood.mean))

    return np.asarray(jax.lax.map(one, jnp.asarray(z), batch_size=256))


def quadrature(log_q, log_p, probabilities) -> dict[str, float]:
    """Sums over the grid: what prior p and aggregated posterior q have in common."""
    area = (2 * REACH / (SIDE - 1)) ** 2
    q, p = np.exp(log_q) * area, np.exp(log_p) * area
    shares = [p[probabilities.argmax(1) == digit].sum() for digit in range(10)]
    found = {
        "distance": np.abs(q - p).sum() / 2,
        "in_holes": p[log_q < log_p + np.log(HOLE)].sum(),
        "sure": p[probabilities.max(1) > SURE].sum(),
        "commonest": max(shares),
    }
    return {name: round(float(value), 4) for name, value in found.items()}


def by_chance(aggregate, prior, key, count: int = 4_000) -> dict[str, float]:
    """The same by draws of the prior: total variation is E_p[max(0, 1 - q/p)]."""
    z = jax.vmap(prior.sample)(jr.split(key, count))
    ratio = np.exp(density(aggregate, z) - density(prior, z))
    found = {"distance": np.maximum(0, 1 - ratio), "in_holes": ratio < HOLE}
    return {name: round(float(value.mean()), 4) for name, value in found.items()}


def least_distance(q: Normal, key) -> float:
    """What the distance would be, were as many codes drawn from N(0, I) itself.

    The posteriors keep their sd; their means get the rest of the prior's variance.
    """
    spread = jnp.sqrt(jnp.maximum(1 - q.scale**2, 0))
    means = spread * jr.normal(key, q.loc.shape)
    again = Mixture(jnp.zeros(len(means)), Normal(means, q.scale))
    z, normal = nodes(), Normal(jnp.zeros(2), jnp.ones(2))
    some = np.ones((len(z), 10)) / 10
    return quadrature(density(again, z), density(normal, z), some)["distance"]


def content(dataset: data.Dataset) -> tuple[bytes, dict]:
    """What the page carries, and its facts."""
    t = jnp.float32(conditioned.dial_of(BETA))
    exact = baked(trained.model().decoder.network, t)
    model = page_model(decoders.rounded(exact))
    train, test = (jnp.asarray(part.images) for part in (dataset.train, dataset.test))
    q = jax.lax.map(model.q_z, train, batch_size=256)
    aggregate, z = Mixture(jnp.zeros(len(train)), q), nodes()
    log_q = np.maximum(density(aggregate, z), FLOOR)
    probabilities = judged(model, z)
    coded = sample_codes(model, test, jr.key(1))
    priors: dict = {0: model.p_z()}
    for k in COMPONENTS:
        priors[k] = ex_post_mixture(model, train, jr.key(0), components=k)
    rows = [
        {"components": k, "held_out": round(float(density(prior, coded).mean()), 4)}
        | quadrature(log_q, density(prior, z), probabilities)
        for k, prior in priors.items()
    ]
    chance = [
        [by_chance(aggregate, priors[k], key) for key in jr.split(jr.key(2), SEEDS)]
        for k in (0, 32)
    ]
    restarts = [
        ex_post_mixture(model, train, jr.key(seed), components=32)
        for seed in range(1, 1 + SEEDS)
    ]
    facts = {
        "beta": BETA,
        "reach": REACH,
        "sure": SURE,
        "hole": HOLE,
        "examples": len(train),
        "tests": len(test),
        "rows": rows,
        "itself": quadrature(log_q, log_q, probabilities),
        "least": least_distance(q, jr.key(3)),
        "reconstructed": sure_of(model, test),
    }
    arrays = {
        **decoders.packed(exact, "decoder"),
        "log_q": payload.rounded(log_q.reshape(SIDE, SIDE).astype(np.float32), 16),
        "digit": probabilities.argmax(1).astype(np.uint8),
        "certainty": np.round(255 * probabilities.max(1)).astype(np.uint8),
        "mixtures": np.concatenate([rows_of(priors[k]) for k in COMPONENTS]),
    }
    measured = facts | {
        "by_chance": {"0": chance[0], "32": chance[1]},
        "restarts_of_32": [
            {"held_out": round(float(density(prior, coded).mean()), 4)}
            | quadrature(log_q, density(prior, z), probabilities)
            for prior in restarts
        ],
    }
    return payload.pack(arrays, facts), measured


def sure_of(model: VAE, images) -> float:
    """The share of reconstructions, at the mean of q, that the judge is sure of."""
    q = jax.lax.map(model.q_z, images, batch_size=256)
    return round(float((judged(model, q.mean).max(1) > SURE).mean()), 4)


def rows_of(mixture: Mixture) -> np.ndarray:
    """Log weight, mean and the three numbers of L of each component."""
    normals: Any = mixture.components
    lower = normals.cholesky.reshape(-1, 4)[:, np.array([0, 2, 3])]
    log_weights = jax.nn.log_softmax(mixture.log_weights)[:, None]
    rows = np.concatenate([log_weights, normals.loc, lower], 1)
    return rows.astype(np.float32)


def main():
    """Compute, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=trained.FOLDER)
    out = parser.parse_args().out
    dataset = data.load("mnist12k")
    blob, measured = content(dataset)
    record = provenance(dataset) | {
        "command": " ".join(["python -m tools.make_holes", *sys.argv[1:]]),
        "seed": 0,
        "bytes": len(blob),
        **measured,
    }
    (out / "holes.bin").write_bytes(blob)
    (out / "holes.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"holes.bin: {len(blob):,} bytes")


if __name__ == "__main__":
    main()
