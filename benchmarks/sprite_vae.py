"""The VAE of the sprites and its recipes: one network, five ways to train it.

Every way has a strength; models of one method train together, a strength and a seed
each. Seed s has the same initial weights and the same batches in every method.

The pixels are grey where an edge cuts them, and the decoder is Bernoulli: minus the log
likelihood of a grey x is the cross-entropy Σ -x log π - (1 - x) log(1 - π), in nats a
sprite. It is linear in x, so it is the mean over images of coins that are 1 with
probability x. The ELBO of a grey sprite is thus a bound on the mean log p(coins), with
a posterior that sees the grey one; the distortion is never below the coins' entropy.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from flax import nnx

from vae_teach import schedules
from vae_teach.adversarial import Critic
from vae_teach.bounds import capacity, elbo
from vae_teach.dependence import dip_vae, tc_vae
from vae_teach.distributions import Bernoulli, Normal
from vae_teach.epochs import count
from vae_teach.factor import FactorVAE, factor_critic_loss, factor_loss
from vae_teach.losses import mean_over_batch
from vae_teach.models import VAE, Conditional
from vae_teach.networks import MLP
from vae_teach.priors import StandardNormal
from vae_teach.training import Step, alternate, fit_many, minimise

IMAGE, LATENTS = (32, 32, 1), 8
ENCODER, DECODER = (128, 128), (128, 64)
BATCH, RATE, EPOCHS = 64, 4e-3, 25
GAMMA = 30.0  # what a nat off the capacity costs


class Method(NamedTuple):
    """The symbol of its strength, the strengths, and ``step(steps, size, strength)``.

    ``weights`` are the constant weights of the loss at one strength: traced, so that
    all strengths train as one. Where there are none the step has the strength.
    """

    symbol: str
    strengths: tuple[float, ...]
    step: Callable[..., Step]
    weights: Callable[[float], dict[str, float]] = lambda strength: {}


def vae(rngs: nnx.Rngs) -> VAE:
    """1024 -> 128 -> 128 -> 2 x 8, and 8 -> 128 -> 64 -> 1024, with ReLU."""
    return VAE(
        StandardNormal(LATENTS),
        Conditional(
            MLP(IMAGE, *ENCODER, 2 * LATENTS, rngs=rngs), Normal.from_log_variance
        ),
        Conditional(MLP(LATENTS, *DECODER, IMAGE, rngs=rngs), Bernoulli),
    )


def adam(steps: int):
    """What trains every VAE."""
    return optax.adam(optax.cosine_decay_schedule(RATE, steps))


def critics_adam():
    """Not slowed down: a critic that lags charges nothing."""
    return optax.adam(RATE / 2, b1=0.5, b2=0.9)


def only(part: str):
    """The parameters of one player."""
    return nnx.All(nnx.Param, nnx.PathContains(part))


def _beta(steps, size, strength):
    return minimise(mean_over_batch(elbo), adam(steps))


def _capacity(steps, size, strength):
    """The target rises to the strength over the first half, then stays."""

    def loss(model, x, key, *, rising, target):
        return capacity(model, x, key, target=rising * target, beta=GAMMA)

    rising = schedules.linear(steps // 2)
    return minimise(mean_over_batch(loss), adam(steps), rising=rising)


def _factor(steps, size, strength):
    loss = partial(factor_loss, gamma=strength)
    return alternate(
        vae=minimise(loss, adam(steps), only("vae")),
        critic=minimise(factor_critic_loss, critics_adam(), only("critic")),
    )


def _tc(steps, size, strength):
    return minimise(partial(tc_vae, size=size), adam(steps))


def _dip(steps, size, strength):
    return minimise(dip_vae, adam(steps))


METHODS = {
    "β-VAE": Method("β", (1.0, 2.0, 4.0, 8.0), _beta, lambda s: {"beta": s}),
    "capacity": Method("C", (4.0, 7.0, 10.0), _capacity, lambda s: {"target": s}),
    "FactorVAE": Method("γ", (5.0, 15.0, 45.0), _factor),
    "β-TCVAE": Method("β", (2.0, 4.0, 8.0), _tc, lambda s: {"beta": s}),
    "DIP-VAE-II": Method(
        "λ",
        (2.0, 10.0, 50.0),
        _dip,
        lambda s: {"correlation": s, "variance": s},
    ),
}


def train(
    method: str,
    strengths: Sequence[float],
    seeds: Iterable[int],
    images,
    epochs: int = EPOCHS,
) -> dict[tuple[float, int], VAE]:
    """The models of a method by (strength, seed).

    One alone is the same model in exact arithmetic. In float32 it is not: another
    number of models sums in another order, and training enlarges the difference.
    """
    chosen, seeds = METHODS[method], [*seeds]
    names = [(strength, seed) for strength in strengths for seed in seeds]
    together = [[*strengths]] if chosen.weights(1.0) else [[s] for s in strengths]
    models = []
    for group in together:
        pairs = [(strength, seed) for strength in group for seed in seeds]
        models += _fitted(chosen, pairs, jnp.asarray(images), epochs)
    return dict(zip(names, models, strict=True))


def _fitted(method, pairs, images, epochs):
    """One ``fit_many`` for all pairs of a strength and a seed."""
    steps = count(images) // BATCH * epochs
    keys = jax.vmap(lambda seed: jr.split(jr.key(seed), 3))(
        jnp.array([seed for _, seed in pairs])
    )
    each = [method.weights(strength) for strength, _ in pairs]
    weights = {name: jnp.array([w[name] for w in each]) for name in each[0]}
    models = jax.vmap(lambda key: vae(nnx.Rngs(key)))(keys[:, 0])
    if method.step is _factor:
        models = jax.vmap(_with_critic)(models, keys[:, 2])
    step = method.step(steps, count(images), pairs[0][0])
    models, _ = fit_many(
        models,
        step,
        images,
        keys=keys[:, 1],
        epochs=epochs,
        batch_size=BATCH,
        **weights,
    )
    models = models.vae if method.step is _factor else models
    return [jax.tree.map(lambda leaf, n=n: leaf[n], models) for n in range(len(pairs))]


def _with_critic(model, key):
    rngs, widths = nnx.Rngs(key), (128, 128, 128)
    critic = Critic(MLP(LATENTS, *widths, rngs=rngs), widths[-1], rngs=rngs)
    return FactorVAE(model, critic)


def saved_as(folder: str | Path, method: str, strength: float, seed: int) -> Path:
    """The file of one model."""
    return Path(folder) / f"{method}-{strength:g}-{seed}.npz"


def save(path: Path, model: VAE, seconds: float):
    """Write the weights, in the order of ``jax.tree.leaves``, and what they took."""
    path.parent.mkdir(parents=True, exist_ok=True)
    leaves = jax.tree.leaves(nnx.state(model, nnx.Param))
    np.savez(path, *map(np.asarray, leaves), seconds=seconds)


def restore(path: str | Path) -> tuple[VAE, float]:
    """The model that ``save`` wrote, and the seconds."""
    model = vae(nnx.Rngs(0))
    leaves, tree = jax.tree.flatten(nnx.state(model, nnx.Param))
    with np.load(path) as arrays:
        leaves = [jnp.asarray(arrays[f"arr_{n}"]) for n in range(len(leaves))]
        seconds = float(arrays["seconds"])
    nnx.update(model, jax.tree.unflatten(tree, leaves))
    return model, seconds
