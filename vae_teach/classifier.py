"""A judge of digits: which one an image shows, and whether it shows one at all.

``metrics.digit_classifier`` loads the trained one; the loss here trains another.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Shaped

from .networks import MLP
from .typing import PRNGKey, Scalar, Terms

FOLDER = Path(__file__).parent / "weights"
SHAPE = (28, 28, 1)
SHIFT = 2  # pixels, at most
PATCH = 7
DOUBT = 0.1  # the weight of images that show no digit


class Classifier(nnx.Module):
    """A multilayer perceptron 784-256-64-10 with logits for the ten digits."""

    def __init__(self, rngs: nnx.Rngs):
        self.body = MLP(SHAPE, 256, 64, rngs=rngs)
        self.head = nnx.Linear(64, 10, rngs=rngs)

    def features(self, x: Shaped[Array, "..."]) -> Float[Array, " 64"]:
        """The last hidden layer, where images of one digit lie together.

        Raises:
            ValueError: for anything but one image of shape (28, 28, 1).

        """
        if x.shape != SHAPE:
            raise ValueError(
                f"Expected one image of shape {SHAPE}, got {x.shape}: vmap over a "
                "batch, and reshape rows of 784 pixels."
            )
        return jax.nn.relu(self.body(x))

    def __call__(self, x: Shaped[Array, "..."]) -> Float[Array, " 10"]:
        """Logits of the ten digits for one image in [0, 1]; same error."""
        return self.head(self.features(x))


def loss(
    model: Classifier, batch: dict[str, Array], key: PRNGKey
) -> tuple[Scalar, Terms]:
    """Cross-entropy on digits as samples show them, and doubt about what is no digit.

    Digits are shifted, blurred and dimmed, because a decoder's are. Two of them on top
    of each other, and one cut in patches and shuffled, are taught equal probabilities
    for all ten (outlier exposure: Hendrycks, Mazeika & Dietterich 2019); without them a
    network is sure of itself on many a blot.

    ``batch`` has ``image`` (n, 28, 28, 1) in [0, 1] and ``label`` (n,), n even. Nats.
    """
    image, label = batch["image"], batch["label"]
    keys = jr.split(key, 6)
    image = jax.vmap(shifted)(image, jr.split(keys[0], len(image)))
    digits = optax.softmax_cross_entropy_with_integer_labels(
        jax.vmap(model)(_as_decoded(image, keys[1])), label
    ).mean()
    first, second = jnp.split(image, 2)
    blends = _as_decoded(_blended(first, second, keys[2]), keys[3])
    cut = jax.vmap(shuffled)(second, jr.split(keys[4], len(second)))
    differ = jnp.not_equal(*jnp.split(label, 2))
    none = differ * _to_uniform(model, blends)
    none = (none + _to_uniform(model, _as_decoded(cut, keys[5]))).mean() / 2
    return digits + DOUBT * none, {"digits": digits, "none": none}


def shifted(image: Float[Array, "28 28 1"], key: PRNGKey) -> Float[Array, "28 28 1"]:
    """Moved by up to SHIFT pixels each way; what leaves one edge enters the other."""
    return jnp.roll(image, jr.randint(key, (2,), -SHIFT, SHIFT + 1), (0, 1))


def blurred(images: Float[Array, "n 28 28 1"]) -> Float[Array, "n 28 28 1"]:
    """Smoothed with a bell of sd 1.2 pixels: three passes of (1, 2, 1)/4 each way."""
    for axis in 3 * (1, 2):
        around = jnp.roll(images, 1, axis) + jnp.roll(images, -1, axis)
        images = (around + 2 * images) / 4
    return images


def shuffled(image: Float[Array, "28 28 1"], key: PRNGKey) -> Float[Array, "28 28 1"]:
    """Its 16 patches in a random order: strokes without their places."""
    side = SHAPE[0] // PATCH
    grid = image.reshape(side, PATCH, side, PATCH).swapaxes(1, 2)
    patches = jr.permutation(key, grid.reshape(-1, PATCH, PATCH))
    grid = patches.reshape(side, side, PATCH, PATCH).swapaxes(1, 2)
    return grid.reshape(SHAPE)


def load(folder: Path = FOLDER) -> Classifier:
    """The trained classifier: its weights are stored at 8 bits, as it was tested."""
    classifier = Classifier(nnx.Rngs(0))
    with np.load(folder / "digit_classifier.npz") as file:
        arrays = dict(file)
    for name, layer in layers(classifier).items():
        kernel = arrays[f"{name}.kernel"] * arrays[f"{name}.scale"]
        for part, value in (("kernel", kernel), ("bias", arrays[f"{name}.bias"])):
            getattr(layer, part)[...] = jnp.asarray(value)
    return classifier


def layers(classifier: Classifier) -> dict[str, nnx.Linear]:
    """Its linear layers by name, as in the file of weights."""
    first, second = classifier.body.layers
    return {"first": first, "second": second, "head": classifier.head}


def record() -> dict:
    """How the weights were made, and what they are worth on the test digits."""
    return json.loads((FOLDER / "digit_classifier.json").read_text("utf-8"))


def _as_decoded(images, key):
    """Each more or less blurred, and darker or brighter."""
    key_blur, key_light = jr.split(key)
    each = (len(images), 1, 1, 1)
    share = jr.uniform(key_blur, each)
    light = jr.uniform(key_light, each, minval=0.6, maxval=1.3)
    return (light * ((1 - share) * images + share * blurred(images))).clip(0, 1)


def _blended(first, second, key):
    """Two digits on top of each other, from the mean of both to nearly their sum."""
    key_share, key_light = jr.split(key)
    each = (len(first), 1, 1, 1)
    share = jr.uniform(key_share, each, minval=0.35, maxval=0.65)
    light = jr.uniform(key_light, each, minval=1.0, maxval=2.0)
    return (light * (share * first + (1 - share) * second)).clip(0, 1)


def _to_uniform(model, images):
    """Cross-entropy from equal probabilities, of each image."""
    return -jax.nn.log_softmax(jax.vmap(model)(images)).mean(-1)
