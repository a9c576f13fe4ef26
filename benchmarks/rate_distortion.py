"""Where do the models of the book lie on the plane of rate and distortion?

A sweep over β of one small VAE draws a frontier, on fixed binarized digits, where the
distortion is a true -log p(x|z). The other models are put on the same plane, and all
are asked whether they are where exact minimisers must be. On a CPU the rows are also
written into the package, where the chapter on rate and distortion reads them.
"""

import argparse
import json
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from flax import nnx

import vae_teach
from vae_teach import metrics
from vae_teach.bounds import capacity, elbo, iwae
from vae_teach.data import load
from vae_teach.epochs import count
from vae_teach.losses import binarize, free_bits, mean_over_batch
from vae_teach.schedules import linear
from vae_teach.surgery import Surgery, elbo_surgery
from vae_teach.training import fit_many, minimise

from .provenance import Report, about_data
from .recipes import mlp
from .small_vae import loss, parameters

PACKAGED = Path(vae_teach.__file__).parent / "datasets" / "rate_distortion.json"
BETAS = (0.1, 0.25, 0.5, 1.0, 1.6, 2.5, 4.0, 8.0, 16.0)
SEEDS, EPOCHS, BATCH = 3, 25, 100
JUDGED, SAMPLES = 250, 200  # test digits with a log p(x), and draws of z for each
SIZES = 125, 250, 500, 1000, 2000  # test digits that define q(z)


class Recipe(NamedTuple):
    """How one model of the plane is trained; ``same`` networks share a frontier."""

    make: partial = partial(mlp, hidden=(128,))
    loss: object = loss
    epochs: int = EPOCHS
    annealed: bool = False
    same: bool = True


BASE = Recipe()
OTHERS = {
    "two epochs": BASE._replace(epochs=2),
    "annealed": BASE._replace(annealed=True),
    "free bits": BASE._replace(loss=partial(free_bits, floor=2.0)),
    "capacity": BASE._replace(
        loss=mean_over_batch(partial(capacity, target=12.0, beta=10.0))
    ),
    "2 latents": Recipe(partial(mlp, latents=2, hidden=(128,)), same=False),
    "linear": Recipe(partial(mlp, hidden=()), same=False),
    "wider": Recipe(partial(mlp, hidden=(400,)), same=False),
    "IWAE": BASE._replace(loss=mean_over_batch(partial(iwae, samples=5))),
}


class Terms(NamedTuple):
    """The rate and the distortion of every example, in nats."""

    rate: np.ndarray
    distortion: np.ndarray


def main(arguments=None):
    """Train the sweep seed by seed, then the other models."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rate_distortion")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    run(load("mnist12k"), parser.parse_args(arguments).seeds)


def run(data, seeds, epochs=EPOCHS):
    """Every model from every seed, at ``epochs`` in place of ``EPOCHS``."""
    train, test = coins(data)
    report = Report("rate_distortion", data=about_data(data), seeds=seeds)
    frontier = {}
    for seed in range(seeds):
        betas = jnp.array(BETAS)
        models = fitted(BASE, train, [seed] * len(BETAS), epochs, beta=betas)
        for beta, model in zip(BETAS, models, strict=True):
            terms = add_point(report, "sweep", seed, model, train, test, beta=beta)
            frontier[seed, beta] = terms
            if seed == 0:
                add_surgery(report, model, beta, test)
        for low, high in pairwise(BETAS):
            pair = secant(frontier[seed, low], low, frontier[seed, high], high)
            report.add(table="secants", name="sweep", seed=seed, **pair)
    for name, recipe in OTHERS.items():
        length = recipe.epochs if recipe.epochs != EPOCHS else epochs
        models = fitted(recipe, train, range(seeds), length)
        for seed, model in enumerate(models):
            terms = add_point(report, name, seed, model, train, test)
            curve = {beta: frontier[seed, beta] for beta in BETAS}
            report.add(table="excess", name=name, seed=seed, **excess(terms, curve))
            if not recipe.same:
                continue
            for low, high in secants_at_one(terms, curve):
                pair = secant(*low, *high)
                report.add(table="secants", name=name, seed=seed, **pair)
    if jax.default_backend() == "cpu":
        PACKAGED.write_text(json.dumps(json.loads(report.path.read_text())) + "\n")


def coins(data):
    """Both splits, binarized once for all models."""
    splits = (data.train.images, data.test.images)
    return [
        binarize(jnp.asarray(images), jr.fold_in(jr.key(2008), n))
        for n, images in enumerate(splits)
    ]


def fitted(recipe: Recipe, images, seeds, epochs, **weights) -> list:
    """One model for each seed, all at once."""
    steps = count(images) // BATCH * epochs
    schedules = {"beta": linear(steps // 2)} if recipe.annealed else {}
    tx = optax.adam(optax.cosine_decay_schedule(4e-3, steps))
    step = minimise(recipe.loss, tx, **schedules)
    keys = [jr.split(jr.key(seed)) for seed in seeds]
    init_keys, keys = (jnp.stack(ks) for ks in zip(*keys, strict=True))
    models = jax.vmap(lambda key: recipe.make(nnx.Rngs(key)))(init_keys)
    given = {"epochs": epochs, "batch_size": BATCH}
    models, _ = fit_many(models, step, images, keys=keys, **given, **weights)
    return [jax.tree.map(lambda leaf, n=n: leaf[n], models) for n in range(len(seeds))]


def add_point(report, name, seed, model, train, test, **given) -> Terms:
    """A row: where a model lies, what its rate consists of, and its log p(x)."""
    on_train, on_test = terms_of(model, train), terms_of(model, test)
    parts = elbo_surgery(model, test[: SIZES[-1]], jr.key(3))
    log_p = metrics.log_likelihood(
        model, test[:JUDGED], jr.key(4), samples=SAMPLES, batch_size=10
    )
    judged = Terms(*(values[:JUDGED] for values in on_test))
    bounds = -(judged.rate + judged.distortion)
    row = report.add(
        table="points",
        name=name,
        seed=seed,
        **given,
        parameters=parameters(model),
        train=_means(on_train),
        test=_means(on_test),
        judged=_means(judged),
        surgery=_floats(parts),
        active=int(metrics.active_units(model, test)),
        log_p=_mean(log_p),
        gap=_mean(log_p - bounds),
        gap_error=_error(log_p - bounds),
    )
    print({key: row[key] for key in ("name", "seed", "train", "log_p")}, flush=True)
    return on_train


@jax.jit
def _terms_of(model, images):
    # One key for all models: the same noise wherever the latents are as many.
    inputs = images, jr.split(jr.key(1), len(images))
    return jax.lax.map(lambda a: elbo(model, *a)[1], inputs, batch_size=200)


def terms_of(model, images) -> Terms:
    """The rate, exact, and the distortion at one z, of every image."""
    terms = _terms_of(model, images)
    return Terms(*(np.asarray(terms[name], np.float64) for name in Terms._fields))


def add_surgery(report, model, beta, test):
    """The parts of the rate by the number of examples that define q(z)."""
    for n in SIZES:
        parts = elbo_surgery(model, test[:n], jr.key(3))
        report.add(table="surgery", beta=beta, n=n, **_floats(parts))


def secant(low: Terms, beta_low, high: Terms, beta_high) -> dict:
    """How far the loss at either β prefers the model that was trained for it.

    Of two exact minimisers of D + βR, at β_low < β_high, each is best at its own β:
    D_high - D_low >= β_low (R_low - R_high) and <= β_high (R_low - R_high).
    ``prefers_low`` is the first difference, ``prefers_high`` minus the second; both
    errors are of the mean over examples, whose terms share their noise.
    """
    drop, rise = low.rate - high.rate, high.distortion - low.distortion
    lower, upper = rise - beta_low * drop, beta_high * drop - rise
    return {
        "betas": [beta_low, beta_high],
        "rates": [_mean(low.rate), _mean(high.rate)],
        "distortions": [_mean(low.distortion), _mean(high.distortion)],
        "prefers_low": _mean(lower),
        "low_error": _error(lower),
        "prefers_high": _mean(upper),
        "high_error": _error(upper),
    }


def passes(pair: dict) -> bool:
    """Whether both are above 0, or below by no more than two standard errors."""
    return all(
        pair[f"prefers_{end}"] >= -2 * pair[f"{end}_error"] for end in ("low", "high")
    )


def secants_at_one(terms: Terms, curve: dict):
    """The pairs of a model trained at β = 1 with the sweep's neighbours of that β."""
    below = max(beta for beta in curve if beta < 1)
    above = min(beta for beta in curve if beta > 1)
    return [
        ((curve[below], below), (terms, 1.0)),
        ((terms, 1.0), (curve[above], above)),
    ]


def excess(terms: Terms, curve: dict) -> dict:
    """The least loss above the sweep's, over its β: the distance to the frontier."""
    above = {
        beta: (terms.distortion + beta * terms.rate)
        - (best.distortion + beta * best.rate)
        for beta, best in curve.items()
    }
    beta = min(above, key=lambda beta: above[beta].mean())
    return {"beta": beta, "nats": _mean(above[beta]), "error": _error(above[beta])}


def _means(terms: Terms) -> dict:
    return {name: _mean(values) for name, values in terms._asdict().items()}


def _mean(values) -> float:
    return float(np.mean(values))


def _error(values) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def _floats(parts: Surgery) -> dict:
    return {name: float(value) for name, value in parts._asdict().items()}


if __name__ == "__main__":
    main()
