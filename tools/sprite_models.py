"""β-VAEs of sprites as two explorers carry them: in order, rounded, measured."""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Bool, Float

from benchmarks import sprite_scores, sprite_vae
from tools.decoders import packed
from vae_teach import disentanglement as scores
from vae_teach.data import Dataset
from vae_teach.explorers.payload import Rounded
from vae_teach.metrics import rate_per_unit
from vae_teach.models import VAE

BLACK = -30.0  # log odds of a pixel that no sprite reaches


class Measured(NamedTuple):
    """Of one model: KL on test sprites; codes of all, and what they know."""

    rates: Float[np.ndarray, " d"]
    codes: Float[np.ndarray, "n d"]
    known: Float[np.ndarray, "d f"]  # I(z_j; v_k)/H(v_k)
    mig: float


def measure(model: VAE, data: Dataset) -> Measured:
    """As the benchmark does."""
    images, factors = everything(data)
    codes = sprite_scores.codes(model, images)
    known = sprite_scores.normalised(codes, factors)
    rates = np.asarray(rate_per_unit(model, jnp.asarray(data.test.images)), float)
    return Measured(rates, codes, known, scores.mig(codes, factors))


def everything(data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Images and factors of all sprites, on which the factors are independent."""
    splits = data.train, data.test
    images = np.concatenate([split.images for split in splits])
    return images, np.concatenate([np.asarray(split.factors) for split in splits])


def in_order(model: VAE, data: Dataset) -> VAE:
    """The same VAE, its latents sorted by their KL, the largest first."""
    rates = rate_per_unit(model, jnp.asarray(data.test.images))
    order, model = np.argsort(-np.asarray(rates)), nnx.clone(model)
    head, first = model.encoder.network.layers[-1], model.decoder.network.layers[0]
    columns = np.concatenate([order, len(order) + order])
    head.kernel[...] = head.kernel[...][:, columns]
    head.bias[...] = head.bias[...][columns]
    first.kernel[...] = first.kernel[...][order]
    return model


def lit(data: Dataset) -> Bool[np.ndarray, " pixels"]:
    """The pixels that some sprite reaches."""
    images = everything(data)[0]
    return images.reshape(len(images), -1).max(0) > 0


def rounded(
    model: VAE, name: str, where: Bool[np.ndarray, " pixels"]
) -> dict[str, Rounded]:
    """The decoder's layers at 8 bits, the last one of the pixels ``where`` alone."""
    parts = packed(model.decoder.network, name)
    kernel, bias = [*parts][-2:]
    integers, scale = parts[kernel]
    parts[kernel] = Rounded(integers[:, where], scale[:, where])
    parts[bias] = Rounded(parts[bias].integers[where], parts[bias].scale)
    return parts


def with_decoder(model: VAE, arrays: Mapping[str, np.ndarray], name: str, where) -> VAE:
    """The VAE with the decoder that the page has: black where it has no pixel."""
    model = nnx.clone(model)
    layers = model.decoder.network.layers
    for i, layer in enumerate(layers[:-1]):
        layer.kernel[...] = jnp.asarray(arrays[f"{name}.{i}.kernel"])
        layer.bias[...] = jnp.asarray(arrays[f"{name}.{i}.bias"].ravel())
    last, layer = f"{name}.{len(layers) - 1}", layers[-1]
    kernel = jnp.zeros(layer.kernel.shape).at[:, where].set(arrays[f"{last}.kernel"])
    bias = jnp.full(layer.bias.shape, BLACK).at[where].set(arrays[f"{last}.bias"][:, 0])
    layer.kernel[...], layer.bias[...] = kernel, bias
    return model


def page_model(arrays: Mapping[str, np.ndarray], name: str) -> VAE:
    """A VAE with the decoder of the page, and an encoder that knows nothing."""
    where = arrays["lit"].astype(bool)
    return with_decoder(sprite_vae.vae(nnx.Rngs(0)), arrays, name, where)
