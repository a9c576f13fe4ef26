"""Train what the explorers carry: ``make weights``.

Writes weights, pictures and a record of how they were made and what they are worth
under vae_teach/explorers/weights/. The design was chosen on a validation split held out
of the training digits; the numbers here are from the test digits.
"""

import argparse
import datetime
import hashlib
import json
import platform
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from flax import nnx

from vae_teach import data
from vae_teach.bounds import elbo
from vae_teach.distributions import Bernoulli, Normal
from vae_teach.explorers import conditioned, panel, payload, stills, trained
from vae_teach.losses import mean_over_batch
from vae_teach.metrics import active_units, rate_and_distortion
from vae_teach.models import VAE, Conditional
from vae_teach.networks import MLP
from vae_teach.priors import StandardNormal
from vae_teach.training import fit, fit_many, minimise

BETAS = [0.3, 1.0, 4.0, 8.0, 16.0]  # trained separately too, to compare
EPOCHS, BRIEF, BATCH = 150, 3, 128
GRID = 65  # read-outs along the dial
PER_CLASS = 30  # test digits on the map
DRAWS = 8  # of z for each digit in a measured distortion


def conditioned_vae(x, seed: int, epochs: int) -> VAE:
    """One model for all β."""
    model = conditioned.build(nnx.Rngs(seed))
    step = minimise(conditioned.loss, _adam(2e-3, epochs, x))
    return fit(model, step, x, key=jr.key(seed), epochs=epochs, batch_size=BATCH)[0]


def separate_vaes(x, seed: int, epochs: int) -> VAE:
    """A model for each of BETAS, of the same layers, all begun from one key."""
    step, betas = minimise(mean_over_batch(elbo), _adam(1.5e-3, epochs, x)), BETAS
    begin = jnp.repeat(jr.key(seed)[None], len(betas))
    models = jax.vmap(lambda key: _plain_vae(nnx.Rngs(key)))(begin)
    keys = jr.split(jr.key(seed), len(betas))
    run = partial(fit_many, epochs=epochs, batch_size=BATCH)
    return run(models, step, x, keys=keys, beta=jnp.array(betas))[0]


def _plain_vae(rngs):
    layers = partial(MLP, activation=jax.nn.gelu, rngs=rngs)
    encoder, decoder = layers((28, 28, 1), 128, 64, 4), layers(2, 64, 128, (28, 28, 1))
    return VAE(
        StandardNormal(2),
        Conditional(encoder, Normal.from_log_variance),
        Conditional(decoder, Bernoulli),
    )


def _adam(rate, epochs, x):
    steps = epochs * (len(x) // BATCH)
    return optax.adam(optax.cosine_decay_schedule(rate, steps, 0.02))


def measure(model, x) -> dict[str, float]:
    """Rate and distortion in nats, and active units."""
    draws = [rate_and_distortion(model, x, k) for k in jr.split(jr.key(1), DRAWS)]
    distortion = float(np.mean([draw.distortion for draw in draws]))
    active = int(active_units(model, x))
    return {"rate": float(draws[0].rate), "distortion": distortion, "active": active}


def at(model, beta: float):
    """The conditioned model at one β."""
    return conditioned.At(model, jnp.float32(conditioned.dial_of(beta)))


def compare(train, test, seeds: int, epochs: int) -> tuple[list[VAE], list[dict]]:
    """The conditioned models, and both kinds measured at each of BETAS."""
    ours = [conditioned_vae(train, seed, epochs) for seed in range(seeds)]
    theirs = [separate_vaes(train, seed, epochs) for seed in range(seeds)]
    rows = []
    for i, beta in enumerate(BETAS):
        one = [measure(at(model, beta), test) for model in ours]
        own = [measure(jax.tree.map(lambda a, i=i: a[i], m), test) for m in theirs]
        row = {"beta": beta, "conditioned": _spread(one), "separate": _spread(own)}
        rows.append(row)
    return ours, rows


def _spread(rows):
    def both(name):
        values = [row[name] for row in rows]
        return np.round([np.mean(values), np.std(values, ddof=1)], 3).tolist()

    return {name: both(name) for name in ("rate", "distortion")}


def agreement(rows: list[dict], seeds: int) -> dict[str, float]:
    """The largest gaps between the two kinds, of means over seeds."""
    gaps = []
    for row in rows:
        (r, d), (r0, d0) = (
            [row[kind][name][0] for name in ("rate", "distortion")]
            for kind in ("conditioned", "separate")
        )
        worse = row["beta"] * (r - r0) + d - d0
        percent = 100 * abs(r - r0) / r0 if r0 > 0.1 else 0.0
        gaps.append([abs(r - r0), percent, abs(d - d0), 100 * abs(d - d0) / d0, worse])
    names = ["rate", "rate_percent", "distortion", "distortion_percent", "objective"]
    largest = dict(zip(names, np.max(gaps, axis=0).round(3).tolist(), strict=True))
    better = round(max(0.0, -float(np.min(gaps, axis=0)[-1])), 3)
    return {"seeds": seeds, **largest, "objective_better": better}


def read_outs(model, x) -> list[dict]:
    """What the page shows along the dial."""
    dial = np.linspace(0, 1, GRID)
    rows = [measure(conditioned.At(model, jnp.float32(t)), x) for t in dial]
    return [{k: round(v, 3) for k, v in row.items()} for row in rows]


def rounding_cost(exact, page, x) -> dict[str, float]:
    """What rounding the weights changes, at its worst over β, in nats."""
    worst = {"rate": 0.0, "distortion": 0.0, "elbo": 0.0}
    for beta in [0.0, 0.1, *BETAS, 64.0]:
        before, after = measure(at(exact, beta), x), measure(at(page, beta), x)
        cost = {k: after[k] - before[k] for k in ("rate", "distortion")}
        cost["elbo"] = cost["rate"] + cost["distortion"]
        worst = {k: max(worst[k], abs(v)) for k, v in cost.items()}
    return {k: round(v, 4) for k, v in worst.items()}


def brief(train, test, seeds: int) -> dict:
    """A training short enough for a test to repeat, at β = 1 and 4."""
    models = [conditioned_vae(train, seed, BRIEF) for seed in range(seeds)]
    found, margin = {}, {}
    for beta in (1.0, 4.0):
        spread = _spread([measure(at(model, beta), test) for model in models])
        found[str(beta)] = spread
        margin[str(beta)] = {
            name: round(max(4 * sd, 0.02 * mean), 3)
            for name, (mean, sd) in spread.items()
        }
    return {"epochs": BRIEF, "seeds": seeds, "at": found, "margin": margin}


def fingerprint(dataset) -> str:
    """SHA-256 of the training images, as bytes of one gray level each."""
    gray = np.round(255 * dataset.train.images).astype(np.uint8)
    return hashlib.sha256(gray.tobytes()).hexdigest()


def provenance(dataset) -> dict:
    """Where the numbers come from."""
    packages = ("jax", "flax", "optax", "numpy")
    return {
        "command": " ".join(["python -m tools.make_weights", *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "data": {
            "name": dataset.name,
            "source": dataset.source,
            "train_sha256": fingerprint(dataset),
        },
        "versions": {p: version(p) for p in packages}
        | {"python": platform.python_version()},
    }


def facts_of(page, exact, rows, x, seeds: int) -> dict:
    """What the page says, measured on ``x`` with the rounded weights."""
    separate = [
        {"beta": row["beta"], **{k: mean for k, (mean, _) in row["separate"].items()}}
        for row in rows
    ]
    return {
        "knots": conditioned.KNOTS,
        "beta_scale": conditioned.BETA_SCALE,
        "beta_top": conditioned.BETA_TOP,
        "curve": read_outs(page, x),
        "separate": separate,
        "agreement": agreement(rows, seeds),
        "rounding": rounding_cost(exact, page, x),
    }


def shown_digits(test) -> dict[str, np.ndarray]:
    """The digits of the map, as many of each class."""
    chosen = [np.flatnonzero(test.labels == d)[:PER_CLASS] for d in range(10)]
    rows = np.concatenate(chosen)
    gray = np.round(255 * test.images[rows]).astype(np.uint8)
    labels = test.labels[rows].astype(np.uint8)
    return {"digits": gray.reshape(-1, 784), "labels": labels}


def write(out: Path, dataset, models, rows, epochs: int):
    """Weights, pictures and record, of the first of ``models``."""
    test, seeds = jnp.asarray(dataset.test.images), len(models)
    rounded = trained.round_parts(trained.parts(models[0]))
    page = trained.model_from({name: part.values for name, part in rounded.items()})
    facts, shown = (
        facts_of(page, models[0], rows, test, seeds),
        shown_digits(dataset.test),
    )
    files = {
        "latent.bin": payload.pack({**rounded, **shown}, facts),
        "latent.png": stills.latent(page, shown["digits"], shown["labels"]),
        "panel.png": panel.still(dataset),
    }
    sizes = {"weights": len(payload.pack(rounded, {})), "all": len(files["latent.bin"])}
    record = provenance(dataset) | {
        "epochs": epochs,
        "seeds": list(range(seeds)),
        "shown": 0,
        "bytes": sizes,
        "compared": rows,
        "brief": brief(jnp.asarray(dataset.train.images), test, seeds),
        **{k: v for k, v in facts.items() if k != "separate"},
    }
    files["latent.json"] = (json.dumps(record, indent=1) + "\n").encode()
    out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (out / name).write_bytes(content)


def main():
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("epochs", EPOCHS), ("seeds", 3), ("out", trained.FOLDER)):
        parser.add_argument(f"--{name}", type=type(default), default=default)
    args = parser.parse_args()
    dataset = data.load("mnist12k")
    train, test = jnp.asarray(dataset.train.images), jnp.asarray(dataset.test.images)
    models, rows = compare(train, test, args.seeds, args.epochs)
    write(args.out, dataset, models, rows, args.epochs)


if __name__ == "__main__":
    main()
