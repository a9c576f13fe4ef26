"""Which cure of posterior collapse works? One VAE, one data set, one number of steps.

The decoder is a gated PixelCNN on digits of 14 x 14 binary pixels. Each row changes one
thing. Whatever a row was trained on, it is judged as a VAE: at β = 1, the KL not
clamped, the decoder seeing all pixels. More digits, seeds and steps, on a GPU:
``VAE_TEACH_DATA=tfds python -m benchmarks.cures --seeds 10 --epochs 20``.
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
import optax
from flax import nnx

import vae_teach
from vae_teach import metrics, schedules
from vae_teach.autoregressive import PixelCNN, drop_previous
from vae_teach.bounds import elbo, elbo_free_bits
from vae_teach.data import load
from vae_teach.distributions import Bernoulli, Normal
from vae_teach.losses import binarize, binarized, free_bits, mean_over_batch
from vae_teach.models import VAE, Conditional
from vae_teach.networks import MLP
from vae_teach.priors import StandardNormal
from vae_teach.scales import CappedScale
from vae_teach.surgery import elbo_surgery
from vae_teach.training import Step, alternate, fit_many, minimise

from .provenance import Report, about_data
from .small_vae import parameters

PACKAGED = Path(vae_teach.__file__).parent / "datasets" / "cures.json"
SHAPE, LATENTS, HIDDEN = (14, 14, 1), 10, 128
WIDTH, KERNELS, FEWER = 16, (13, 1), (3,)
BATCH, RATE = 16, 3e-3
SEEDS, EPOCHS = 3, 1
EVERY = 25  # steps that one point of a history is the mean of
JUDGED, SAMPLES = 200, 32  # images of log p(x), and samples of z for each


def vae(rngs, kernels=KERNELS, *, skip=False, family=Normal.from_log_variance) -> VAE:
    """An MLP as the encoder, a PixelCNN as the decoder."""
    encoder = MLP(SHAPE, HIDDEN, 2 * LATENTS, rngs=rngs)
    decoder = PixelCNN(LATENTS, SHAPE, WIDTH, kernels, skip=skip, rngs=rngs)
    return VAE(StandardNormal(LATENTS), Conditional(encoder, family), decoder)


def factorised(rngs) -> VAE:
    """The decoder an MLP: the pixels independent, given z."""
    model = vae(rngs)
    decoder = MLP(LATENTS, HIDDEN, SHAPE, rngs=rngs)
    model.decoder = Conditional(decoder, Bernoulli)
    return model


class Cure(NamedTuple):
    """The model, the step that trains it, and the constant weights of its loss."""

    make: Callable
    step: Step
    weights: dict[str, float]


def cures(steps: int) -> dict[str, Cure]:
    """Every row, for a training of so many steps."""
    tx, half = optax.adam(RATE), steps // 2

    def on_coins(loss, **given):
        return minimise(binarized(loss), tx, **given)

    # One program for all rows that differ in numbers alone: it compiles once.
    step = on_coins(
        weighed, rising=schedules.linear(half), cycling=schedules.cyclical(steps // 4)
    )
    given = {"constant": 0.0, "linear": 0.0, "cyclical": 0.0, "floor": 0.0}
    plain = given | {"constant": 1.0}
    each = on_coins(mean_over_batch(partial(elbo_free_bits, floor=0.5)))
    hidden = on_coins(mean_over_batch(drop_previous(elbo, 0.5)))
    committed = partial(vae, family=CappedScale(0.5))
    return {
        "none": Cure(vae, step, plain),
        "linear annealing": Cure(vae, step, given | {"linear": 1.0}),
        "cyclical annealing": Cure(vae, step, given | {"cyclical": 1.0}),
        "free bits": Cure(vae, step, plain | {"floor": 0.5}),
        "β = 0.5": Cure(vae, step, plain | {"constant": 0.5}),
        "β = 0.2": Cure(vae, step, plain | {"constant": 0.2}),
        "previous pixels dropped": Cure(vae, hidden, {}),
        "smaller field": Cure(partial(vae, kernels=FEWER), step, plain),
        "factorised decoder": Cure(factorised, step, plain),
        "aggressive encoder": Cure(vae, _aggressive(tx, half), {}),
        "free bits of each example": Cure(vae, each, {}),
        "skip connections": Cure(partial(vae, skip=True), step, plain),
        "committed rate": Cure(committed, step, plain),
    }


def weighed(model, batch, key, *, rising, cycling, constant, linear, cyclical, floor):
    """``free_bits`` at β = constant + linear x rising + cyclical x cycling.

    ``rising`` and ``cycling`` are the two schedules at this step; at a floor of 0 it is
    the mean of ``elbo``.
    """
    beta = constant + linear * rising + cyclical * cycling
    value, terms = free_bits(model, batch, key, floor=floor, beta=beta)
    return value, terms | {"beta": beta}


def _aggressive(tx, until):
    """Five updates of the encoder for one of the decoder at first, then one for one."""
    loss = binarized(mean_over_batch(elbo))
    seldom = schedules.every(5)
    slow = optax.conditionally_mask(tx, lambda n: (n >= until) | seldom(n))
    encoder, decoder = (
        nnx.All(nnx.Param, nnx.PathContains(part)) for part in ("encoder", "decoder")
    )
    return alternate(
        encoder=minimise(loss, tx, encoder), decoder=minimise(loss, slow, decoder)
    )


def digits():
    """Gray training images, and the test images as one fixed draw of coins."""
    data = load("mnist12k")
    train, test = (pooled(split.images) for split in (data.train, data.test))
    return about_data(data), train, binarize(test, jr.key(0))


def pooled(images):
    """The mean of each 2 x 2 pixels: 28 x 28 becomes 14 x 14."""
    height, width, _ = SHAPE
    return jnp.asarray(images).reshape(-1, height, 2, width, 2, 1).mean((2, 4))


def main():
    """Train and judge every row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    arguments = parser.parse_args()
    about, train, test = digits()
    report = Report("cures", data=about, **vars(arguments), **settings())
    for name, cure in cures(len(train) // BATCH * arguments.epochs).items():
        row = train_all_seeds(cure, train, test, arguments.seeds, arguments.epochs)
        report.add(cure=name, **row)
        print(
            f"{name:26}", {k: v for k, v in row.items() if k != "history"}, flush=True
        )
    if jax.default_backend() == "cpu":
        PACKAGED.write_text(json.dumps(json.loads(report.path.read_text())) + "\n")


def settings() -> dict:
    """What all rows share."""
    return {
        "shape": SHAPE,
        "latents": LATENTS,
        "width": WIDTH,
        "kernels": KERNELS,
        "batch_size": BATCH,
        "learning_rate": RATE,
        "judged": JUDGED,
        "samples": SAMPLES,
    }


def train_all_seeds(cure: Cure, train, test, seeds: int, epochs: int) -> dict:
    """One number a seed for each measure, and the rate on the way."""
    key_init, key_fit = jr.split(jr.key(0))
    make = jax.vmap(lambda key: cure.make(nnx.Rngs(key)))
    models, keys = make(jr.split(key_init, seeds)), jr.split(key_fit, seeds)
    weights = {name: jnp.full(seeds, value) for name, value in cure.weights.items()}
    wall, cpu = time.perf_counter(), time.process_time()
    models, history = fit_many(
        models, cure.step, train, keys=keys, epochs=epochs, batch_size=BATCH, **weights
    )
    costs = {
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
    }
    each = [jax.tree.map(lambda leaf, n=n: leaf[n], models) for n in range(seeds)]
    found = [measures(model, test) for model in each]
    return {
        "steps": len(train) // BATCH * epochs,
        "parameters": parameters(each[0]),
        **{name: [one[name] for one in found] for name in found[0]},
        **costs,
        "history": thinned(history),
    }


def measures(model, test) -> dict:
    """Of one model, on the test images: in nats an image, but for the active units."""
    key_elbo, key_px, key_information = jr.split(jr.key(1), 3)
    rate, distortion, bound = metrics.rate_and_distortion(model, test, key_elbo)
    judged = test[:JUDGED]
    log_px = metrics.log_likelihood(model, judged, key_px, samples=SAMPLES)
    surgery = elbo_surgery(model, test[:2000], key_information)
    return {
        "rate": float(rate),
        "distortion": float(distortion),
        "elbo": float(bound),
        "log_px": float(log_px.mean()),
        "log_px_error": float(log_px.std(ddof=1) / len(judged) ** 0.5),
        "active": int(metrics.active_units(model, test)),
        "mutual_information": float(surgery.mutual_information),
    }


def thinned(history) -> dict:
    """Means of ``EVERY`` steps: of the un-clamped rate, and of β where it moves."""
    rates = next(v for k, v in history.items() if k in ("rate", "encoder/rate"))
    count = rates.shape[1] // EVERY

    def means(values):
        return values[:, : count * EVERY].reshape(len(values), count, EVERY).mean(2)

    found = {
        "step": (EVERY * np.arange(1, count + 1)).tolist(),
        "rate": means(rates).tolist(),
    }
    if "beta" in history:
        found["beta"] = means(history["beta"])[0].tolist()
    return found


if __name__ == "__main__":
    main()
