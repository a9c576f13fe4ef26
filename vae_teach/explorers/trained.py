"""The latent explorer's weights: from a trained model to the page, and back to JAX."""

import json
from functools import cache
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx

from ..models import VAE
from .conditioned import GAIN_SPEED, build
from .payload import Rounded, rounded, unpack

FOLDER = Path(__file__).parent / "weights"


def parts(vae: VAE) -> dict[str, np.ndarray]:
    """The parameters by name; gains and shifts as the page applies them."""
    found = {}
    for side in ("encoder", "decoder"):
        for i, layer in enumerate(getattr(vae, side).network.layers):
            for part in ("kernel", "bias", "gain", "shift"):
                if hasattr(layer, part):
                    speed = GAIN_SPEED if part in ("gain", "shift") else 1.0
                    value = getattr(layer, part)[...]
                    found[f"{side}.{i}.{part}"] = np.asarray(speed * value)
    return found


def round_parts(weights: dict[str, np.ndarray]) -> dict[str, Rounded]:
    """Large matrices at 8 bits; the rest, which costs little, at 16."""
    return {
        name: rounded(value, 8 if min(value.shape[-2:]) >= 64 else 16)
        for name, value in weights.items()
    }


def model_from(weights: dict[str, np.ndarray]) -> VAE:
    """The JAX model with these weights."""
    return fill(build(nnx.Rngs(0), knots=len(weights["encoder.1.bias"])), weights)


def fill(vae: VAE, weights: dict[str, np.ndarray]) -> VAE:
    """Give ``vae``, of stacked layers, these weights."""
    for name, value in weights.items():
        side, i, part = name.split(".")
        speed = GAIN_SPEED if part in ("gain", "shift") else 1.0
        layer = getattr(vae, side).network.layers[int(i)]
        getattr(layer, part)[...] = jnp.asarray(value) / speed
    return vae


def blob() -> bytes:
    """What the page carries."""
    return (FOLDER / "latent.bin").read_bytes()


@cache
def contents() -> tuple[dict[str, np.ndarray], dict]:
    """The arrays, rounding undone, and the facts."""
    return unpack(blob())


def model() -> VAE:
    """The model of the page: the committed weights, rounded."""
    arrays, _ = contents()
    return model_from({k: v for k, v in arrays.items() if "coder." in k})


def record() -> dict:
    """How the weights were made and what was measured."""
    return json.loads((FOLDER / "latent.json").read_text())
