"""What sharpens a VAE's images, at equal rate, and what does it cost?

Every row trains one network from the same three seeds on the embedded digits. Within
the table "equal rate" the rows differ in what the decoder is told to minimise, and
``bounds.capacity`` holds each at the same rate; "squared error" holds one objective at
other rates; "own rate" lets the objective choose. All are judged by the mean of p(x|z):
reconstructions are at one z ~ q(z|x), samples at z ~ p(z). On a CPU the rows are also
written into the package, where the chapter on blur reads them. Names of rows on the
command line train these alone, and keep the others as they are in the file.
"""

import base64
import json
import sys
import time
import zlib
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
from vae_teach import metrics, theory
from vae_teach.adversarial import VAEGAN, Critic, against_critic, critic_loss
from vae_teach.bounds import capacity, elbo
from vae_teach.data import load
from vae_teach.distributions import FixedScale, Normal, pytree
from vae_teach.likelihoods import Laplace
from vae_teach.losses import mean_over_batch, optimal_scale
from vae_teach.models import VAE, Conditional
from vae_teach.networks import MLP
from vae_teach.perceptual import FeatureDistance, StructuralDistance
from vae_teach.priors import StandardNormal
from vae_teach.scales import FlooredScale, LearnedScale
from vae_teach.sharpness import sharpness
from vae_teach.training import Step, alternate, evaluate, fit_many, minimise

from .provenance import Report, about_data
from .small_vae import IMAGE

PACKAGED = Path(vae_teach.__file__).parent / "datasets" / "blur.json"
SEEDS, EPOCHS, BATCH_SIZE = 3, 16, 128
LATENTS, HIDDEN = 64, 128
TARGET = 25.0  # nats, of the rows at equal rate
JUDGED = 1000  # examples, against as many samples; a quarter by importance sampling
SHOWN = (2, 3, 5, 7, 8, 9)  # one digit of each in the figures
FORMAT = (
    "base64 of zlib of uint8, (12, 28, 28): reconstructions of 6 test digits, then 6 "
    "samples of the prior, of the first seed; the row of the data has the digits alone"
)


class Unit(nnx.Module):
    """A network whose first output channel lies in [0, 1], as pixels do."""

    def __init__(self, network):
        self.network = network

    def __call__(self, z):
        """The network's output, sigmoid of the first channel."""
        v = self.network(z)
        return jnp.concatenate([jax.nn.sigmoid(v[..., :1]), v[..., 1:]], -1)


SQUARES = FixedScale(0.1)


def vae(rngs, family=SQUARES, channels=1) -> VAE:
    """784 -> 128 -> 2 x 64, and its mirror."""
    encoder = MLP(IMAGE, HIDDEN, 2 * LATENTS, rngs=rngs)
    decoder = MLP(LATENTS, HIDDEN, (*IMAGE[:2], channels), rngs=rngs)
    return VAE(
        StandardNormal(LATENTS),
        Conditional(encoder, Normal.from_log_variance),
        Conditional(Unit(decoder), family),
    )


def learned_scale_vae(rngs) -> VAE:
    """The shared learned σ."""
    return vae(rngs, LearnedScale(0.2))


def vae_and_critic(rngs) -> VAEGAN:
    """The VAE of squared error, and a critic of 784 -> 256 -> 64 -> 1."""
    critic = Critic(MLP(IMAGE, 256, 64, rngs=rngs), 64, rngs=rngs)
    return VAEGAN(vae(rngs), critic)


def laplace(loc):
    """The absolute error: all that is left of the scale is a weight."""
    return Laplace(loc, jnp.full_like(loc, 0.05))


def first_channel(v):
    """What a decoder with a variance a pixel says of the mean."""
    return Normal(v[..., :1], jnp.ones_like(v[..., :1]))


# Training


def falling(rate, epochs=EPOCHS, **given):
    """Adam with its rate lowered to 0 over the run, as a cosine."""
    steps = epochs * (10_000 // BATCH_SIZE)
    return optax.adam(optax.cosine_decay_schedule(rate, steps), **given)


def _is_scale(params):
    """Which of the parameters is log σ."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: "log_scale" in jax.tree_util.keystr(path), params
    )


TX, LONG = falling(5e-3), 40
# One number has to follow the squared error, which a whole network lowers.
OF_SCALE = optax.chain(falling(5e-3, LONG), optax.masked(optax.scale(10.0), _is_scale))


def at_rate(target, pull):
    """The mean of ``capacity``: ``pull`` has to exceed what a nat is worth in loss."""
    return mean_over_batch(partial(capacity, target=target, beta=pull))


def only(part):
    """The parameters of one of the two players."""
    return nnx.All(nnx.Param, nnx.PathContains(part))


ADVERSARIAL = alternate(
    vae=minimise(against_critic(at_rate(TARGET, 40.0), realism=100.0), TX, only("vae")),
    critic=minimise(critic_loss, falling(5e-4, b1=0.5), only("critic")),
)
OWN = minimise(mean_over_batch(elbo), TX)
HELD = minimise(mean_over_batch(capacity), TX)


class Row(NamedTuple):
    """All that is chosen before training."""

    make: Callable
    step: Step
    weights: tuple[tuple[str, float], ...] = ()
    epochs: int = EPOCHS


def _held(target, pull=40.0, family=SQUARES):
    return Row(partial(vae, family=family), minimise(at_rate(target, pull), TX))


ROWS = {
    "equal rate": {
        "squared error": _held(TARGET),
        "absolute error": _held(TARGET, family=laplace),
        "features and pixels": _held(
            TARGET, family=FeatureDistance(30.0, 100.0), pull=80.0
        ),
        "MS-SSIM": _held(TARGET, family=StructuralDistance(300.0), pull=4.0),
        "VAE-GAN": Row(vae_and_critic, ADVERSARIAL),
    },
    "own rate": {
        "shared learned sigma": Row(
            learned_scale_vae, minimise(mean_over_batch(elbo), OF_SCALE), epochs=LONG
        ),
        "sigma of each pixel": Row(
            partial(vae, family=FlooredScale(1 / 255), channels=2), OWN
        ),
        "sigma = 1": Row(partial(vae, family=FixedScale(1.0)), OWN, (("beta", 1.0),)),
        "sigma = 1, beta = 0.1": Row(
            partial(vae, family=FixedScale(1.0)), OWN, (("beta", 0.1),)
        ),
    },
    "squared error": {
        **{
            f"{rate} nats": Row(vae, HELD, (("target", rate), ("beta", pull)))
            for rate, pull in ((100, 40), (50, 40), (10, 200), (5, 400), (2, 1000))
        },
        "beta = 0.01": Row(vae, OWN, (("beta", 0.01),)),
    },
}
ORDER = [(table, name) for table, rows in ROWS.items() for name in rows]


def main(names: list[str]):
    """Train and judge every row, or those named."""
    data = load("mnist12k")
    train = jnp.asarray(data.train.images)
    test, labels = jnp.asarray(data.test.images), jnp.asarray(data.test.labels)
    about = {"target": TARGET, "latents": LATENTS, "epochs": EPOCHS, "images": FORMAT}
    about["kept"] = [name for _, name in ORDER if names and name not in names]
    report = Report("blur", data=about_data(data), seeds=SEEDS, **about)
    first = [
        {"table": "data", "images": packed(shown(test, labels)), **of_data(test)},
        {"table": "exact", "name": "PPCA", **of_ppca(train, test)},
    ]
    old = json.loads(report.path.read_text())["rows"] if names else []
    found = {(row["table"], row.get("name")): row for row in old}
    for table, name in sorted(ORDER, key=lambda row: _place(row[1], names)):
        if names and name not in names:
            continue
        row = of_row(ROWS[table][name], train, test, labels)
        found[table, name] = {"table": table, "name": name, **row}
        rows = first + [found[key] for key in ORDER if key in found]
        report.content["rows"] = rows[:-1]
        report.add(**rows[-1])
        package(report)
        print(table, name, {k: v for k, v in row.items() if k != "images"}, flush=True)


def _place(name, names):
    """In the order of the command line."""
    return names.index(name) if name in names else 0


def package(report):
    """Copy the rows of a CPU into the package."""
    if jax.default_backend() == "cpu":
        PACKAGED.write_text(json.dumps(json.loads(report.path.read_text())) + "\n")


def of_row(row: Row, train, test, labels) -> dict:
    """What the row reached from each seed, one number a seed."""
    models, cost = fitted(row, train)
    judgements = []
    for n in range(SEEDS):
        model = jax.tree.map(lambda leaf, n=n: leaf[n], models)
        model = model.vae if isinstance(model, VAEGAN) else model
        plain = of_mean(model)
        variance, error = errors(plain, train, jr.key(1))
        found = of_images(plain, test, labels, variance, error, jr.key(2))
        refitted = Refitted(plain, jnp.sqrt(variance))
        log_p = metrics.log_likelihood(
            refitted, test[: JUDGED // 4], jr.key(3), samples=64, batch_size=25
        )
        found |= {"gaussian_log_likelihood": log_p.mean()}
        judgements.append({k: float(v) for k, v in (found | own(model, test)).items()})
        if n == 0:
            images = packed(pictures(plain, shown(test, labels), jr.key(4)))
    columns = {k: [j[k] for j in judgements] for k in judgements[0]}
    return columns | cost | {"images": images}


def fitted(row: Row, train):
    """One model a seed, trained at once, and what that took after compilation."""
    key_init, key_fit = jr.split(jr.key(0))
    keys = jr.split(key_fit, SEEDS)
    models = jax.vmap(lambda key: row.make(nnx.Rngs(key)))(jr.split(key_init, SEEDS))
    run = partial(fit_many, models, row.step, train, keys=keys, batch_size=BATCH_SIZE)
    weights = {k: jnp.full(SEEDS, v, jnp.float32) for k, v in row.weights}
    run = partial(run, **weights)
    run(epochs=1)
    wall, cpu = time.perf_counter(), time.process_time()
    models, history = run(epochs=row.epochs)
    return models, {
        "steps": len(next(iter(history.values()))[0]),
        "seconds": (time.perf_counter() - wall) / SEEDS,
        "cpu_seconds": (time.process_time() - cpu) / SEEDS,
    }


# Judging


@pytree
class Refitted:
    """A model with the decoder N(its mean, scale² I): a normalised density again."""

    model: VAE
    scale: jax.Array

    def p_z(self):
        """The prior."""
        return self.model.p_z()

    def q_z(self, x):
        """The posterior."""
        return self.model.q_z(x)

    def p_x(self, z):
        """The Gaussian likelihood."""
        mean = self.model.p_x(z).mean
        return Normal(mean, jnp.full_like(mean, self.scale))


def of_mean(model: VAE) -> VAE:
    """The same but for all of p(x|z) beyond its mean: one program judges all rows."""
    decoder = model.decoder
    two = isinstance(decoder.family, FlooredScale)
    family = first_channel if two else FixedScale(1.0)
    return VAE(model.prior, model.encoder, Conditional(decoder.network, family))


@jax.jit
def errors(model, images, key):
    """Mean squared and mean absolute error of a pixel at z ~ q(z|x)."""
    error = images - reconstructions(model, images, key)
    return (error**2).mean(), jnp.abs(error).mean()


def reconstructions(model, images, key):
    """The mean of p(x|z) at one z ~ q(z|x) of each image."""

    def one(x, key):
        return model.p_x(model.q_z(x).sample(key)).mean

    return jax.vmap(one)(images, jr.split(key, len(images)))


def samples(model, n, key):
    """The mean of p(x|z) at n draws of z ~ p(z)."""
    one = jax.vmap(lambda key: model.p_x(model.p_z().sample(key)).mean)
    return one(jr.split(key, n))


@jax.jit
def of_images(model, test, labels, variance, error, key):
    """Errors are in units of an image; bounds in nats, at what was fitted in training.

    ``variance`` and ``error`` are the σ² of the Gaussian and the scale of the Laplace.
    """
    keys = jr.split(key, 2)
    terms = optimal_scale(model, test, keys[0])[1]
    seen = reconstructions(model, test, keys[0])
    drawn = samples(model, JUDGED, keys[1])
    judge = metrics.digit_classifier()
    right = jax.vmap(judge)(seen).argmax(-1) == labels
    features = jax.vmap(judge.features)
    near = metrics.precision_and_recall(features(test[:JUDGED]), features(drawn))
    pixels, rate = test[0].size, terms["rate"]
    squared = pixels * ((test - seen) ** 2).mean()
    absolute = pixels * jnp.abs(test - seen).mean()
    gaussian = 0.5 * (pixels * jnp.log(2 * jnp.pi * variance) + squared / variance)
    of_laplace = pixels * jnp.log(2 * error) + absolute / error
    return {
        "rate": rate,
        "squared_error": squared,
        "train_squared_error": pixels * variance,
        "sharpness": sharpness(seen).mean() / sharpness(test).mean(),
        "sample_sharpness": sharpness(drawn).mean() / sharpness(test).mean(),
        "recognised": right.mean(),
        "precision": near.precision,
        "recall": near.recall,
        "gaussian_elbo": -gaussian - rate,
        "laplace_elbo": -of_laplace - rate,
    }


_negative_elbo = mean_over_batch(elbo)


def own(model, test) -> dict:
    """What only a decoder with a σ of its own can be asked."""
    family = model.decoder.family
    if isinstance(family, LearnedScale):
        loss = evaluate(_negative_elbo, model, test, jr.key(5), batch_size=500)["loss"]
        return {"own_elbo": -loss, "variance": family.scale**2}
    if isinstance(family, FlooredScale):
        loss = evaluate(_negative_elbo, model, test, jr.key(5), batch_size=500)["loss"]
        return {"own_elbo": -loss} | of_noise(model, test, jr.key(6))
    return {}


def of_noise(model, test, key) -> dict:
    """Sharpness of x ~ p(x|z), relative to the data: noise of each pixel has much."""

    def one(x, key):
        key_z, key_x = jr.split(key)
        return model.p_x(model.q_z(x).sample(key_z)).sample(key_x)

    noisy = jax.vmap(one)(test, jr.split(key, len(test)))
    return {"noisy_sharpness": sharpness(noisy).mean() / sharpness(test).mean()}


def of_data(test) -> dict:
    """What the digits themselves score, against other digits where pairs are asked."""
    features = jax.vmap(metrics.digit_classifier().features)(test)
    near = metrics.precision_and_recall(features[:JUDGED], features[-JUDGED:])
    variance = test.var(0).sum()
    return {
        "mean_sharpness": float(sharpness(test).mean()),
        "squared_error": float(variance),
        "precision": float(near.precision),
        "recall": float(near.recall),
    }


def of_ppca(train, test) -> dict:
    """The best linear VAE with as many latents: its evidence on the test digits."""
    exact = theory.ppca(np.asarray(train).reshape(len(train), -1), LATENTS)
    log_p = jax.vmap(exact.log_prob)(test.reshape(len(test), -1))
    return {"latents": LATENTS, "log_likelihood": float(log_p.mean())}


# Pictures


def shown(test, labels):
    """The first digit of each label in the figures."""
    return test[jnp.array([int(jnp.argmax(labels == digit)) for digit in SHOWN])]


def pictures(model, digits, key):
    """Their reconstructions, and as many samples."""
    keys = jr.split(key)
    seen = reconstructions(model, digits, keys[0])
    return jnp.concatenate([seen, samples(model, len(digits), keys[1])])


def packed(images) -> str:
    """See ``FORMAT``."""
    levels = np.rint(np.asarray(images[..., 0]) * 255).clip(0, 255).astype(np.uint8)
    return base64.b64encode(zlib.compress(levels.tobytes(), 9)).decode()


def unpacked(text: str) -> np.ndarray:
    """The images of ``packed``, (n, 28, 28), in [0, 1]."""
    levels = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    return levels.reshape(-1, *IMAGE[:2]) / 255


if __name__ == "__main__":
    main(sys.argv[1:])
