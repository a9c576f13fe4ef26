"""Train what the schedules explorer carries: part of ``make weights``.

One network, from the same seeds with every schedule, at two learning rates: its curves
on test digits while it trains, and what it is worth at the end. Writes them and a
record under vae_teach/explorers/weights/.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float

from tools.make_weights import provenance
from vae_teach import data, metrics
from vae_teach.bounds import elbo
from vae_teach.distributions import Bernoulli, Normal
from vae_teach.epochs import epoch_of_many
from vae_teach.explorers import payload
from vae_teach.explorers.explorer import HERE
from vae_teach.explorers.schedules import RATES, RUNS, Run
from vae_teach.losses import mean_over_batch
from vae_teach.models import VAE, Conditional
from vae_teach.networks import MLP
from vae_teach.priors import StandardNormal
from vae_teach.training import Step, minimise

STEPS, EVERY, BATCH = 1_500, 15, 64
SEEDS, HIDDEN, LATENTS = 3, 128, 20
SHOWN = 500  # test digits that the curves are measured on
DRAWS = 4  # of z for each digit in the distortion at the end
BRIEF = 150  # steps that a test repeats
MEASURES = ("rate", "distortion", "active")

Images = Float[Array, "n 28 28 1"]
_BETAS = jnp.stack([jax.vmap(r.schedule())(jnp.arange(STEPS)) for r in RUNS])
_elbo = mean_over_batch(elbo)


def make_vae(key) -> VAE:
    """784 -> 128 -> 2 x 20, and its mirror: gray pixels as Bernoulli means."""
    layers = partial(MLP, rngs=nnx.Rngs(key))
    return VAE(
        StandardNormal(LATENTS),
        Conditional(layers((28, 28, 1), HIDDEN, 2 * LATENTS), Normal.from_log_variance),
        Conditional(layers(LATENTS, HIDDEN, (28, 28, 1)), Bernoulli),
    )


def loss(model, batch, key, *, run, step):
    """The ELBO's with the beta of a run at a step: traced, so that all compile once."""
    return _elbo(model, batch, key, beta=_BETAS[run.astype(int), step])


def step_at(learning_rate: float) -> Step:
    """Adam on that loss."""
    return minimise(loss, optax.adam(learning_rate), step=lambda count: count)


class Trained(NamedTuple):
    """Models of one run, one a seed; their curves are (seeds, points, MEASURES)."""

    models: Any
    curves: np.ndarray


def train(run: Run, step: Step, train: Images, shown: Images, steps: int) -> Trained:
    """One model a seed, measured at the start and after each EVERY steps.

    The steps between two points are batches without replacement.
    """
    seeds = jnp.arange(SEEDS)
    models = jax.vmap(lambda seed: make_vae(jr.key(seed)))(seeds)
    which = jnp.full(SEEDS, RUNS.index(run))
    carry = models, jax.vmap(lambda m, r: step.init(m, run=r))(models, which)
    points = [measure(models, shown)]
    for block in range(steps // EVERY):
        keys = jax.vmap(lambda s, b=block: jr.fold_in(jr.key(s + 1_000), b))(seeds)
        given = {"step": step, "batch_size": BATCH, "length": EVERY}
        carry, _ = epoch_of_many(carry, train, keys, **given)
        points.append(measure(carry[0], shown))
    return Trained(carry[0], np.stack(points, 1))


def measure(models, x: Images) -> np.ndarray:
    """MEASURES of each model on ``x``, with the same draws of z at every call."""
    return np.asarray(_measure(models, x, jr.key(7)))


@jax.jit
def _measure(models, x, key):
    def one(model):
        found = metrics.rate_and_distortion(model, x, key)
        active = metrics.active_units(model, x).astype(float)
        return jnp.stack([found.rate, found.distortion, active])

    return jax.vmap(one)(models)


def measure_end(models, x: Images) -> list[dict[str, float]]:
    """What each model is worth on all of ``x``, DRAWS of z for each digit."""
    draws = [np.asarray(_measure(models, x, k)) for k in jr.split(jr.key(8), DRAWS)]
    rows = []
    for rate, distortion, active in np.mean(draws, 0):
        row = {"rate": rate, "distortion": distortion, "elbo": -(rate + distortion)}
        rows.append({k: round(float(v), 3) for k, v in row.items()})
        rows[-1]["active"] = round(float(active))
    return rows


class Results(NamedTuple):
    """By learning rate, run and seed."""

    curves: np.ndarray  # then by point and measure
    end: list[list[list[dict[str, float]]]]


def train_all(dataset: data.Dataset, runs: Sequence[Run], steps: int) -> Results:
    """Every run at every learning rate."""
    images, test = (jnp.asarray(s.images) for s in (dataset.train, dataset.test))
    curves, ends = [], []
    for rate in RATES:
        step = step_at(rate)
        for run in runs:
            found = train(run, step, images, test[:SHOWN], steps)
            curves.append(found.curves)
            ends.append(measure_end(found.models, test))
            print(rate, *run, [row["elbo"] for row in ends[-1]], flush=True)
    shape = len(RATES), len(runs), *curves[0].shape
    rows = [ends[i : i + len(runs)] for i in range(0, len(ends), len(runs))]
    return Results(np.stack(curves).reshape(shape), rows)


def facts_of(dataset: data.Dataset, results: Results, steps: int) -> dict:
    """What the page says beside the curves."""
    return {
        "train": len(dataset.train.images),
        "test": len(dataset.test.images),
        "shown": SHOWN,
        "batch": BATCH,
        "steps": steps,
        "every": EVERY,
        "latents": LATENTS,
        "hidden": HIDDEN,
        "rates": RATES,
        "runs": [run._asdict() for run in RUNS],
        "end": results.end,
    }


def brief(curves: np.ndarray) -> list[dict]:
    """After BRIEF steps, by learning rate and run, what a test has to find again."""
    found = curves[..., BRIEF // EVERY, :2]  # rate and distortion, by seed
    mean, spread = found.mean(2), found.std(2, ddof=1)
    margin = np.maximum(4 * spread, 0.02 * mean)
    return [
        {"learning_rate": rate, "mean": m.round(3).tolist(), "margin": s}
        for rate, m, s in zip(RATES, mean, margin.round(3).tolist(), strict=True)
    ]


def main():
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    steps, begun = parser.parse_args().steps, time.process_time()
    dataset = data.load("mnist12k")
    results = train_all(dataset, RUNS, steps)
    curves = payload.rounded(results.curves.astype(np.float32), 16)
    facts = facts_of(dataset, results, steps)
    content = payload.pack({"curves": curves}, facts)
    record = provenance(dataset) | {
        "command": " ".join(["python -m tools.make_schedules", *sys.argv[1:]]),
        "seeds": list(range(SEEDS)),
        "bytes": len(content),
        "cpu_seconds": round(time.process_time() - begun),
        **facts,
        "brief": {"steps": BRIEF, "at": brief(results.curves)},
    }
    (HERE / "weights/schedules.bin").write_bytes(content)
    text = json.dumps(record, indent=1) + "\n"
    (HERE / "weights/schedules.json").write_text(text, "utf-8")
    print(f"schedules.bin: {len(content):,} bytes, {record['cpu_seconds']} s of CPU")


if __name__ == "__main__":
    main()
