"""Multilayer perceptrons as explorers carry them: rounded, by layer; ``mlp`` in JS."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vae_teach.explorers import payload
from vae_teach.networks import MLP

IMAGE = (28, 28, 1)


def packed(network: MLP, name: str) -> dict[str, payload.Rounded]:
    """Its matrices at 8 bits, its biases at 16, as ``name.0.kernel`` and so on."""
    found, layers = {}, _layers(network)
    for i, layer in enumerate(layers):
        kernel, bias = (np.asarray(part[...]) for part in (layer.kernel, layer.bias))
        found[f"{name}.{i}.kernel"] = payload.rounded(kernel)
        found[f"{name}.{i}.bias"] = payload.rounded(bias[:, None], 16)
    return found


def unpacked(arrays: Mapping[str, np.ndarray], name: str) -> MLP:
    """The network from a latent to the logits of an image, as the page has it."""
    kernels, biases = [], []
    while f"{name}.{len(kernels)}.kernel" in arrays:
        biases.append(arrays[f"{name}.{len(biases)}.bias"].ravel())
        kernels.append(arrays[f"{name}.{len(kernels)}.kernel"])
    widths = [len(kernel) for kernel in kernels]
    network = MLP(*widths, IMAGE, activation=jax.nn.gelu, rngs=nnx.Rngs(0))
    for layer, kernel, bias in zip(_layers(network), kernels, biases, strict=True):
        layer.kernel[...], layer.bias[...] = jnp.asarray(kernel), jnp.asarray(bias)
    return network


def rounded(network: MLP) -> MLP:
    """The network with the weights that a page would have."""
    parts = {name: part.values for name, part in packed(network, "w").items()}
    return unpacked(parts, "w")


def _layers(network: MLP) -> list[Any]:
    return list(network.layers)
