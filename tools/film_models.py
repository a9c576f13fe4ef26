"""Conditional VAEs as the condition explorer has them: built, trained, rounded."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from flax import nnx

from tools import decoders
from vae_teach import data
from vae_teach.bounds import elbo
from vae_teach.conditioning import FiLM, ModulatedMLP, given
from vae_teach.distributions import Bernoulli, Normal
from vae_teach.explorers import payload
from vae_teach.losses import mean_over_batch
from vae_teach.models import VAE, Conditional
from vae_teach.networks import MLP
from vae_teach.priors import StandardNormal
from vae_teach.training import fit, minimise

BATCH, RATE = 128, 2e-3
INWARD, OUTWARD = (256, 128), (64, 96)  # widths of encoder and decoder
CLASSES = 10
RARE, BLACK = 1e-3, -30.0  # mean of a pixel left out; its log odds
LOSS = mean_over_batch(given(elbo))


def build(latents: int, rngs: nnx.Rngs) -> VAE:
    """The encoder reads the class beside the image, the decoder by FiLM."""
    encoder = MLP(784 + CLASSES, *INWARD, 2 * latents, rngs=rngs)
    return VAE(
        StandardNormal(latents),
        Conditional(encoder, Normal.from_log_variance),
        Conditional(film_decoder(latents, rngs), Bernoulli),
    )


def film_decoder(latents: int, rngs: nnx.Rngs) -> ModulatedMLP:
    """From z by 64 and 96 features to the log odds of the pixels."""
    sizes = (latents, *OUTWARD, decoders.IMAGE)
    return ModulatedMLP(*sizes, condition=CLASSES, modulation=FiLM, rngs=rngs)


def pairs(split: data.Split) -> tuple[jax.Array, jax.Array]:
    """Images, and their classes as ten numbers."""
    return jnp.asarray(split.images), one_hot(split.labels)


def one_hot(y) -> jax.Array:
    """Classes as ten numbers each."""
    return jax.nn.one_hot(jnp.asarray(y), CLASSES)


def train(latents: int, seed: int, examples, epochs: int) -> VAE:
    """One model."""
    steps = epochs * (len(examples[0]) // BATCH)
    adam = optax.adam(optax.cosine_decay_schedule(RATE, steps, 0.02))
    model, step = build(latents, nnx.Rngs(seed)), minimise(LOSS, adam)
    run = partial(fit, key=jr.key(seed), epochs=epochs, batch_size=BATCH)
    return run(model, step, examples)[0]


@jax.jit
def encode(model: VAE, examples) -> Normal:
    """q(z|x, y) of each."""
    return jax.lax.map(lambda pair: model.encoder(*pair), examples, batch_size=256)


# The decoder as the page has it


def lit(images) -> np.ndarray:
    """The pixels that the page has: at the others hardly any digit has ink."""
    return np.asarray(images).reshape(len(images), -1).mean(0) > RARE


def carried(network: ModulatedMLP, name: str, where) -> dict[str, payload.Rounded]:
    """Its layers, the last of the pixels ``where``; scales, then shifts, by class."""
    parts = decoders.packed(network.mlp, name)
    kernel, bias = [*parts][-2:]
    integers, scale = parts[kernel]
    parts[kernel] = payload.Rounded(integers[:, where], scale[:, where])
    parts[bias] = payload.Rounded(parts[bias].integers[where], parts[bias].scale)
    for i, film in enumerate(network.modulations):
        tables = jax.vmap(film.scale_and_shift)(jnp.eye(CLASSES))
        parts[f"{name}.film.{i}"] = payload.rounded(np.concatenate(tables), 16)
    return parts


def page_decoder(arrays: Mapping[str, np.ndarray], name: str) -> ModulatedMLP:
    """The decoder that the page has, in JAX; black where it has no pixel."""
    where = arrays["lit"].astype(bool)
    network = film_decoder(len(arrays[f"{name}.0.kernel"]), nnx.Rngs(0))
    layers: list[Any] = list(network.mlp.layers)
    for i, layer in enumerate(layers):
        kernel, bias = arrays[f"{name}.{i}.kernel"], arrays[f"{name}.{i}.bias"][:, 0]
        if layer is layers[-1]:
            kernel = jnp.zeros(layer.kernel.shape).at[:, where].set(kernel)
            bias = jnp.full(layer.bias.shape, BLACK).at[where].set(bias)
        layer.kernel[...], layer.bias[...] = jnp.asarray(kernel), jnp.asarray(bias)
    films: list[Any] = list(network.modulations)
    for i, film in enumerate(films):
        scale, shift = np.split(arrays[f"{name}.film.{i}"], 2)
        film.linear.kernel[...] = jnp.concatenate([scale - 1, shift], 1)
        film.linear.bias[...] = jnp.zeros_like(film.linear.bias[...])
    return network
