"""What does each knob of a small VAE cost, and what does it give? One knob at a time.

Every recipe differs from ``BASE`` in what its row names, and is trained from the same
three seeds on the embedded digits. On a CPU the rows are also written into the package,
where the chapter on recipes reads them.
"""

import contextlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from flax import nnx

import vae_teach
from vae_teach import metrics
from vae_teach.data import load
from vae_teach.distributions import Bernoulli, Normal
from vae_teach.models import VAE, Conditional
from vae_teach.networks import (
    MLP,
    ConvDecoder,
    ConvEncoder,
    PatchDecoder,
    PatchEncoder,
    Shape,
)
from vae_teach.priors import StandardNormal
from vae_teach.training import NonFiniteError, evaluate, fit, fit_many, minimise

from .provenance import Report, about_data
from .small_vae import IMAGE, as_pytorch_initialises, loss, parameters
from .timing import Job, interleaved

PACKAGED = Path(vae_teach.__file__).parent / "datasets" / "recipes.json"
SEEDS, ROUNDS = 3, 3


def vae(encoder, decoder, latents=20) -> VAE:
    """Gray pixels as Bernoulli means, and a head of means and log variances."""
    return VAE(
        StandardNormal(latents),
        Conditional(encoder, Normal.from_log_variance),
        Conditional(decoder, Bernoulli),
    )


def mlp(
    rngs, latents=20, hidden=(128,), activation=jax.nn.relu, shape: Shape = IMAGE
) -> VAE:
    """Pixels -> hidden -> 2 x latents, and its mirror."""
    given = {"activation": activation, "rngs": rngs}
    encoder = MLP(shape, *hidden, 2 * latents, **given)
    return vae(encoder, MLP(latents, *hidden[::-1], shape, **given), latents)


def patches(rngs, shape: Shape = IMAGE) -> VAE:
    """Patches of 4 x 4 pixels, 32 numbers each."""
    encoder = PatchEncoder(shape, 4, 32, 40, rngs=rngs)
    return vae(encoder, PatchDecoder(20, 32, 4, shape, rngs=rngs))


def convolutions(rngs, widths=(16, 32), shape: Shape = IMAGE) -> VAE:
    """Stride-2 convolutions of 4 x 4, and their mirror."""
    encoder = ConvEncoder(shape, widths, 40, rngs=rngs)
    return vae(encoder, ConvDecoder(20, widths[::-1], shape, rngs=rngs))


def from_pytorch(rngs) -> VAE:
    """The base network with PyTorch's initial weights."""
    return as_pytorch_initialises(mlp(rngs), rngs.params())


class Recipe(NamedTuple):
    """All that is chosen before training."""

    make: Callable = mlp
    tx: optax.GradientTransformation = optax.adam(1e-3)
    batch_size: int = 128
    epochs: int = 20
    scan: bool = True


BASE = Recipe()


def _rates(optimiser, *rates):
    return {f"{rate:g}": BASE._replace(tx=optimiser(rate)) for rate in rates}


def _clipped(clip, rate=1e-3):
    return BASE._replace(tx=optax.chain(clip, optax.adam(rate)))


def _made(make=mlp, epochs=20, **given):
    return BASE._replace(make=partial(make, **given), epochs=epochs)


momentum = partial(optax.sgd, momentum=0.9)
KNOBS = {
    "base": {"": BASE},
    "latents": {
        **{str(d): _made(latents=d) for d in (2, 5, 10, 50, 100)},
        **{f"{d}, 100 epochs": _made(latents=d, epochs=100) for d in (2, 50, 100)},
    },
    "learning rate": _rates(optax.adam, 3e-4, 3e-3, 5e-3, 1e-2, 3e-2, 1e-1),
    "batch": {
        **{str(n): BASE._replace(batch_size=n) for n in (32, 64, 256, 512)},
        **{
            f"{n}, rate 0.003": BASE._replace(batch_size=n, tx=optax.adam(3e-3))
            for n in (32, 64, 512)
        },
    },
    "epochs": {
        **{str(n): BASE._replace(epochs=n) for n in (5, 10, 50, 100)},
        "50, rate 0.005": BASE._replace(epochs=50, tx=optax.adam(5e-3)),
        "100, rate 0.003": BASE._replace(epochs=100, tx=optax.adam(3e-3)),
    },
    "AdamW": _rates(partial(optax.adamw, weight_decay=1e-2), 1e-3, 3e-3, 1e-2),
    "Adamax": _rates(optax.adamax, 3e-3, 1e-2, 3e-2),
    "RMSprop": _rates(optax.rmsprop, 3e-4, 1e-3, 3e-3),
    "SGD, momentum 0.9": _rates(momentum, 1e-3, 3e-3, 1e-2),
    "clipping": {
        "each element at 1": _clipped(optax.clip(1.0)),
        "norm at 1": _clipped(optax.clip_by_global_norm(1.0)),
        "norm at 1, rate 0.03": _clipped(optax.clip_by_global_norm(1.0), 3e-2),
    },
    "network": {
        "width 64": _made(hidden=(64,)),
        "width 256": _made(hidden=(256,)),
        "width 512": _made(hidden=(512,)),
        "two layers of 128": _made(hidden=(128, 128)),
        "tanh": _made(activation=jax.nn.tanh),
        "gelu": _made(activation=jax.nn.gelu),
        "PyTorch's first weights": BASE._replace(make=from_pytorch),
        "patches": _made(patches),
        "convolutions": _made(convolutions)._replace(scan=False),
    },
}


SIDES, BATCH_OF_SIDES = (28, 32, 64), 32
NETWORKS = {
    "MLP": partial(mlp, hidden=(400,)),
    "patches": patches,
    "convolutions": partial(convolutions, widths=(32, 64, 128)),
}


def main():
    """Time and train every recipe, and time the networks on larger images."""
    data = load("mnist12k")
    train, test = jnp.asarray(data.train.images), jnp.asarray(data.test.images)
    report = Report("recipes", data=about_data(data), seeds=SEEDS)
    for row in networks(train[: 4 * BATCH_OF_SIDES]):
        report.add(table="networks", **row)
    costs = step_ms(train)
    for knob, recipes in KNOBS.items():
        for value, recipe in recipes.items():
            row = train_all_seeds(recipe, train, test)
            if (ms := costs.get(_of_one_step(recipe))) is not None:
                row |= {"step_ms": ms, "seconds": ms * row["steps"] / 1e3}
            report.add(table="recipes", knob=knob, value=value, **row)
            print(f"{knob:18} {value:24} {row}", flush=True)
    if jax.default_backend() == "cpu":
        PACKAGED.write_text(json.dumps(json.loads(report.path.read_text())) + "\n")


def train_all_seeds(recipe: Recipe, train, test) -> dict:
    """What the recipe reached from each seed, or the step at which one failed."""
    steps = len(train) // recipe.batch_size * recipe.epochs
    row = {"parameters": parameters(recipe.make(nnx.Rngs(0))), "steps": steps}
    try:
        models = _fitted(recipe, train)
    except NonFiniteError as error:
        return row | {"failed_at": error.step}
    return row | {
        "elbo": [_elbo(model, test) for model in models],
        "train_elbo": [_elbo(model, train[: len(test)]) for model in models],
        "active": [int(metrics.active_units(model, test)) for model in models],
    }


def _fitted(recipe, images):
    """One model a seed: all at once, but for convolutions on a CPU."""
    step = minimise(loss, recipe.tx)
    key_init, key_fit = jr.split(jr.key(0))
    init_keys, keys = jr.split(key_init, SEEDS), jr.split(key_fit, SEEDS)
    given = {"epochs": recipe.epochs, "batch_size": recipe.batch_size}
    if not recipe.scan:
        return [
            fit(recipe.make(nnx.Rngs(i)), step, images, key=k, scan=False, **given)[0]
            for i, k in zip(init_keys, keys, strict=True)
        ]
    models = jax.vmap(lambda key: recipe.make(nnx.Rngs(key)))(init_keys)
    models, _ = fit_many(models, step, images, keys=keys, **given)
    return [jax.tree.map(lambda leaf, n=n: leaf[n], models) for n in range(SEEDS)]


def _elbo(model, images):
    return -float(evaluate(loss, model, images, jr.key(1), batch_size=500)["loss"])


def step_ms(images) -> dict[Recipe, float]:
    """Milliseconds a step of every recipe, the best of some epochs taken in turn."""
    jobs = {}
    for recipe in {_of_one_step(r) for knob in KNOBS.values() for r in knob.values()}:
        job = _epoch(recipe, images[:2560])
        with contextlib.suppress(NonFiniteError):  # what fails at once has no cost
            job.run()
            jobs[recipe] = job
    return {r: times.min_ms for r, times in interleaved(jobs, ROUNDS).items()}


def _of_one_step(recipe):
    return recipe._replace(epochs=1)


def _epoch(recipe, images):
    model, step = recipe.make(nnx.Rngs(0)), minimise(loss, recipe.tx)
    given = {"epochs": 1, "batch_size": recipe.batch_size, "scan": recipe.scan}
    run = partial(fit, model, step, images, key=jr.key(0), **given)
    return Job(run, len(images) // recipe.batch_size)


def networks(images) -> list[dict]:
    """A step of each network at each image size, in a scan and in a loop."""
    made = {
        (name, side): partial(make, shape=(side, side, 1))
        for name, make in NETWORKS.items()
        for side in SIDES
    }
    sized = {
        side: jax.image.resize(images, (len(images), side, side, 1), "linear")
        for side in SIDES
    }
    jobs = {
        (name, side, scan): _epoch(
            Recipe(make, batch_size=BATCH_OF_SIDES, scan=scan), sized[side]
        )
        for (name, side), make in made.items()
        for scan in (True, False)
    }
    times = interleaved(jobs, 2)
    return [
        {
            "network": name,
            "side": side,
            "batch_size": BATCH_OF_SIDES,
            "parameters": parameters(make(nnx.Rngs(0))),
            "scan_ms": times[name, side, True].min_ms,
            "loop_ms": times[name, side, False].min_ms,
        }
        for (name, side), make in made.items()
    ]


if __name__ == "__main__":
    main()
