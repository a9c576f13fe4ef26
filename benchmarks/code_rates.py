"""Discrete codes against normal latents, at equal rate; and a decoder without need.

All models of ``rates`` minimise the squared error, in units of 2σ² = 0.02, and the mean
of p(x|z) is judged. The rate of codes is that of a prior over their grid, the rate of
normal latents is held where it is asked to be.
"""

from functools import partial
from math import prod

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from flax import nnx

from vae_teach.autoregressive import PixelCNN
from vae_teach.bounds import capacity
from vae_teach.distributions import Bernoulli, FixedScale, Normal
from vae_teach.losses import mean_over_batch
from vae_teach.metrics import rate_and_distortion
from vae_teach.models import VAE, Conditional
from vae_teach.networks import MLP, GridDecoder, GridEncoder
from vae_teach.priors import Fixed, StandardNormal, UniformCodes
from vae_teach.quantisers import MovingCodebook
from vae_teach.sharpness import sharpness
from vae_teach.training import alternate, fit_many, minimise
from vae_teach.vq import VQVAE, moving_averages, restarts, vq

from .blur import Unit, reconstructions
from .latent_codes import verdicts
from .variant_models import GRID, HIDDEN, IMAGE, PATCH, SIZE, WIDTH

BATCH, RATE, LONGER = 128, 3e-3, 3  # an MLP is cheap: it trains three times as long
LATENTS = 64
SQUARES = FixedScale(0.1)
# Grids and numbers of codes: the rates under uniform codes are tokens · log K.
OF_MLP = {(2, 2): (256,), (4, 4): (16, 256)}
OF_GRID = {GRID: (4, 16, 256)}
TARGETS = {"MLP": (10.0, 22.2, 44.4, 88.7), "grid": (40.0, 67.9, 135.8, 271.7)}
PULLS = {"MLP": 200.0, "grid": 40.0}


def mlp_codes(rngs, grid, codes, size=8, family=SQUARES) -> VQVAE:
    """784 -> 256 -> one vector a token, and its mirror."""
    encoder = MLP(IMAGE, HIDDEN, (*grid, size), rngs=rngs)
    decoder = MLP((*grid, size), HIDDEN, IMAGE, rngs=rngs)
    return VQVAE(
        UniformCodes(grid, codes),
        encoder,
        MovingCodebook(codes, size, rngs=rngs),
        Conditional(Unit(decoder) if family is SQUARES else decoder, family),
    )


def grid_codes(rngs, grid, codes) -> VQVAE:
    """One code for each patch of the image."""
    return VQVAE(
        UniformCodes(grid, codes),
        GridEncoder(IMAGE, PATCH, WIDTH, SIZE, rngs=rngs),
        MovingCodebook(codes, SIZE, rngs=rngs),
        Conditional(Unit(GridDecoder(SIZE, WIDTH, PATCH, IMAGE, rngs=rngs)), SQUARES),
    )


def mlp_vae(rngs) -> VAE:
    """``mlp_codes`` with 64 normal latents."""
    encoder = MLP(IMAGE, HIDDEN, 2 * LATENTS, rngs=rngs)
    decoder = MLP(LATENTS, HIDDEN, IMAGE, rngs=rngs)
    return VAE(
        StandardNormal(LATENTS),
        Conditional(encoder, Normal.from_log_variance),
        Conditional(Unit(decoder), SQUARES),
    )


def grid_vae(rngs) -> VAE:
    """``grid_codes`` with 16 normal latents for each patch."""
    shape = (*GRID, SIZE)
    encoder = GridEncoder(IMAGE, PATCH, WIDTH, 2 * SIZE, rngs=rngs)
    decoder = GridDecoder(SIZE, WIDTH, PATCH, IMAGE, rngs=rngs)
    return VAE(
        Fixed(Normal(jnp.zeros(shape), jnp.ones(shape))),
        Conditional(encoder, Normal.from_log_variance),
        Conditional(Unit(decoder), SQUARES),
    )


# Training


def made(make, seeds):
    """One model a seed, and the keys to train them with."""
    key_init, key_fit = jr.split(jr.key(0))
    models = jax.vmap(lambda key: make(nnx.Rngs(key)))(jr.split(key_init, seeds))
    return models, jr.split(key_fit, seeds)


def each(models) -> list:
    """The models of all seeds, one by one."""
    count = len(jax.tree.leaves(models)[0])
    return [jax.tree.map(lambda leaf, n=n: leaf[n], models) for n in range(count)]


def fitted(make, step, data, seeds, epochs, batch_size=BATCH, **weights) -> list:
    """One model a seed, all trained at once."""
    models, keys = made(make, seeds)
    weights = {name: jnp.full(seeds, value) for name, value in weights.items()}
    given = {"keys": keys, "epochs": epochs, "batch_size": batch_size}
    return each(fit_many(models, step, data, **given, **weights)[0])


def falling(data, epochs):
    """Adam with its rate lowered to 0 over the run, as a cosine."""
    steps = len(data) // BATCH * epochs
    return optax.adam(optax.cosine_decay_schedule(RATE, steps))


def players(tx, loss=vq):
    """Networks, a codebook of moving averages, restarts."""
    return alternate(
        networks=minimise(mean_over_batch(loss), tx),
        codebook=moving_averages(),
        restarts=restarts(),
    )


def code_rows(train, seeds, epochs):
    """VQ-VAEs at every rate: their names, and one model a seed."""
    for network, make, sizes in (
        ("MLP", mlp_codes, OF_MLP),
        ("grid", grid_codes, OF_GRID),
    ):
        length = epochs * (LONGER if network == "MLP" else 1)
        step = players(falling(train, length))
        for grid, numbers in sizes.items():
            for codes in numbers:
                build = partial(make, grid=grid, codes=codes)
                models = fitted(build, step, train, seeds, length)
                yield {"network": network, "grid": list(grid), "codes": codes}, models


def normal_rows(train, seeds, epochs):
    """VAEs with normal latents at every rate."""
    for network, make in (("MLP", mlp_vae), ("grid", grid_vae)):
        length = epochs * (LONGER if network == "MLP" else 1)
        step = minimise(mean_over_batch(capacity), falling(train, length))
        for target in TARGETS[network]:
            given = {"target": target, "beta": PULLS[network]}
            models = fitted(make, step, train, seeds, length, **given)
            yield {"network": network, "target": target}, models


def of_images(model, test, labels) -> dict:
    """The test digits' reconstructions, at one z ~ q(z|x) of each."""
    seen = _seen(model, test)
    return {
        "squared_error": float(((test - seen) ** 2).sum((1, 2, 3)).mean()),
        "sharpness": float(sharpness(seen).mean() / sharpness(test).mean()),
        "recognised": float((verdicts(seen)[0] == labels).mean()),
    }


@jax.jit
def _seen(model, test):
    return reconstructions(model, test, jr.key(2))


def rate(model, test) -> float:
    """The rate on the test digits, in nats."""
    return float(rate_and_distortion(model, test, jr.key(2)).rate)


def nats(grid, codes) -> float:
    """Tokens times log K."""
    return float(prod(grid) * jnp.log(codes))


# A decoder that may do without codes

SMALL, FEW, NUMBER, OF_EACH = (14, 14, 1), (2, 2), 64, 8
STEP_BATCH, STRANGERS = 16, 100


class Raveled(nnx.Module):
    """A decoder of one vector, for a grid of them."""

    def __init__(self, decoder):
        self.decoder = decoder

    def __call__(self, vectors):
        """The decoder's distribution."""
        return self.decoder(vectors.ravel())


def few_codes(rngs, decoder) -> VQVAE:
    """Four codes of 64 for a digit of 14 x 14 binary pixels."""
    return VQVAE(
        UniformCodes(FEW, NUMBER),
        MLP(SMALL, 128, (*FEW, OF_EACH), rngs=rngs),
        MovingCodebook(NUMBER, OF_EACH, rngs=rngs),
        Raveled(decoder(rngs)),
    )


def factorised(rngs) -> Conditional:
    """The pixels independent, given the codes."""
    return Conditional(MLP(prod(FEW) * OF_EACH, 128, SMALL, rngs=rngs), Bernoulli)


def pixelcnn(rngs, kernels) -> PixelCNN:
    """Each pixel given those before it, as far as the kernels reach."""
    return PixelCNN(prod(FEW) * OF_EACH, SMALL, 16, kernels, rngs=rngs)


DECODERS = {
    "PixelCNN": partial(pixelcnn, kernels=(13, 1)),
    "PixelCNN, smaller field": partial(pixelcnn, kernels=(3,)),
    "MLP": factorised,
}


@jax.jit
def swapped(model, test) -> dict:
    """Nats of a digit at its own codes, and at those of other digits.

    ``information`` is E[log p(x|z) - log mean_j p(x|z_j)] over the codes of a hundred
    digits, x's own among them: a lower bound on I(x; z), of log 100 at most.
    """
    codes = jax.vmap(lambda x: model.q_z(x).value)(test)

    def log_p(x, z):
        return model.p_x(z).log_prob(x)

    pairs = jax.lax.map(lambda pair: log_p(*pair), (test, codes), batch_size=100)
    others = (test, jnp.roll(codes, 1, 0))
    strangers = jax.lax.map(lambda pair: log_p(*pair), others, batch_size=100)
    few = codes[:STRANGERS]
    row = jax.vmap(log_p, (None, 0))
    table = jax.lax.map(lambda x: row(x, few), test[:STRANGERS])
    means = jax.nn.logsumexp(table, 1) - jnp.log(STRANGERS)
    return {
        "distortion": -pairs.mean(),
        "swapped_distortion": -strangers.mean(),
        "information": (jnp.diag(table) - means).mean(),
    }
