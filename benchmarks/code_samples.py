"""Codes as data: priors over grids of them, what these cost, and what they draw."""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from flax import nnx

from vae_teach import metrics
from vae_teach.code_priors import CodePrior
from vae_teach.likelihoods import Categorical
from vae_teach.losses import mean_over_batch
from vae_teach.sharpness import sharpness
from vae_teach.training import fit, minimise

from .blur import packed
from .latent_codes import features, sure
from .variant_models import ADAM, KERNELS, WIDTH

DRAWS, SHOWN = 1000, 10  # samples that are judged, and samples that are kept
TEMPERATURES = (0.5, 0.75, 1.0, 1.25, 1.5)


def codes_of(model, images):
    """The grid of codes of every image."""
    return _codes_of(model, images)


@jax.jit
def _codes_of(model, images):
    return jax.lax.map(lambda x: model.q_z(x).value, images, batch_size=200)


@jax.jit
def decoded(model, codes):
    """The mean of p(x|z) of every grid of codes."""
    return jax.lax.map(lambda z: model.p_x(z).mean, codes, batch_size=200)


@jax.jit
def rate_of(p, codes):
    """-log p(z), the mean over all grids: in nats an image."""
    return jax.lax.map(lambda z: -p.log_prob(z), codes, batch_size=200).mean()


@partial(jax.jit, static_argnames="n")
def drawn(p, n, key):
    """Grids of codes from a prior."""
    return jax.vmap(p.sample)(jr.split(key, n))


# Three priors


def uniform(grid, size) -> Categorical:
    """Every code at every place alike."""
    return Categorical(jnp.zeros((*grid, size)))


def frequencies(codes, size) -> Categorical:
    """Independent places, each with the shares of its codes.

    Every code is counted 1/K times more than it was seen, so that none is impossible.
    """
    counts = jax.nn.one_hot(codes, size).sum(0) + 1 / size
    return Categorical(jnp.log(counts))


def minus_log_p(prior, z, key):
    """The cross-entropy of one grid of codes, in nats: the second stage's loss."""
    del key
    return -prior(None).log_prob(z), {}


SECOND_STAGE = minimise(mean_over_batch(minus_log_p), ADAM)


def learned(codes, size, epochs, seed):
    """A PixelCNN over the codes: p(z), trained on them alone."""
    prior = CodePrior(codes.shape[1:], size, WIDTH, KERNELS, rngs=nnx.Rngs(seed))
    key = jr.fold_in(jr.key(3), seed)
    prior, _ = fit(prior, SECOND_STAGE, codes, key=key, epochs=epochs)
    return prior(None)


def priors_of(codes, size, epochs, seed) -> dict:
    """The three of them, fitted to the codes."""
    return {
        "uniform": uniform(codes.shape[1:], size),
        "frequencies": frequencies(codes, size),
        "learned": learned(codes, size, epochs, seed),
    }


# What samples are worth


def judged(images, real) -> dict:
    """Precision and recall against the real digits; shares that are read as digits."""
    near = metrics.precision_and_recall(features(real), features(images))
    return {
        "precision": float(near.precision),
        "recall": float(near.recall),
        "digits": sure(images),
        "sharpness": float(sharpness(images).mean() / sharpness(real).mean()),
    }


def shown(images) -> str:
    """The first few, as in ``blur.FORMAT``."""
    return packed(np.asarray(images[:SHOWN]))
