"""Data sets as arrays: ``load(name)`` gives images in [0, 1], labels and their source.

``mnist12k`` and ``sprites`` are embedded in the package and need nothing else. Any
other name is an image set of TensorFlow Datasets (TFDS): reading a prepared one needs
no TensorFlow.
"""

import importlib.resources
import os
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32, UInt8

from vae_teach import _tfds, sprites

_EMBEDDED = ("mnist12k", "sprites")


class Split(NamedTuple):
    """The examples of one split: row i of `images` belongs to entry i of the others.

    Intensities lie in [0, 1]; labels count from 0. Factors are the whole numbers that
    made an image, one column a factor. Where a set lacks labels or factors, these are
    None.
    """

    images: Float32[np.ndarray, "n height width channels"]
    labels: Int32[np.ndarray, " n"] | None
    factors: Int32[np.ndarray, "n f"] | None = None


class Dataset(NamedTuple):
    """A named data set: examples to fit, other examples to judge by, and their source.

    The source is one line: who made the set, which version of it, how it was split.
    `factor_names` names the columns of the factors; it is empty where there are none.
    """

    name: str
    train: Split
    test: Split
    source: str
    factor_names: tuple[str, ...] = ()


def load(name: str = "mnist12k") -> Dataset:
    r"""Load a data set as NumPy arrays.

    A stored byte $b \in \{0, \dots, 255\}$ becomes the intensity $b / 255$; sets that
    store binary images as 0 and 1 (``dsprites``, ``binarized_mnist``) keep these.

    ``sprites`` are drawn at each load by ``vae_teach.sprites``: 3 shapes, 4 scales, 10
    rotations and 8 x 8 places in every combination, of which a fixed random tenth is
    test. Factors are rows of ``sprites.factors``, labels the shapes. Rotations stay
    within a quarter turn, after which a square looks the same again: no two images are
    equal. The whole-number features ``label_*`` of a TFDS set (``dsprites``,
    ``shapes3d``) become its factors, in the order of their names, ``label_`` cut off.

    Environment: ``VAE_TEACH_DATA=tfds`` turns ``mnist12k`` into full MNIST;
    ``TFDS_DATA_DIR`` is the folder of prepared TFDS sets (``~/tensorflow_datasets``);
    ``VAE_TEACH_CACHE`` is the folder of decoded arrays (``~/.cache/vae_teach``).

    Source: Y. LeCun, C. Cortes, C. Burges, "MNIST handwritten digit database", 2010;
    https://www.tensorflow.org/datasets for all other sets. The factors of the sprites
    are those of L. Matthey, I. Higgins, D. Hassabis, A. Lerchner, "dSprites", 2017.

    Args:
        name: ``mnist12k`` (10,000 train and 2,000 test digits, each ``(28, 28, 1)``),
            ``sprites`` (6,912 train and 768 test images, each ``(32, 32, 1)``) or any
            TFDS set of 8-bit images of one size, such as ``fashion_mnist``. TFDS
            prepares a set at its first use, which needs a network (it tries for some
            minutes before it gives up) and often TensorFlow.

    Returns:
        Train and test splits, one float32 (4 bytes) per pixel and channel. Where TFDS
        has no ``test``, ``validation`` or else the last tenth of ``train`` stands in;
        ``source`` says so.

    Raises:
        ImportError: the name is not embedded and TFDS is not installed.
        ValueError: unknown name, or a set without 8-bit images of one size.
        RuntimeError: the set cannot be prepared or read; the message says what to do.
        MemoryError: the arrays would not fit into this machine's memory.

    """
    name = _full_size(name)
    if name == "sprites":
        return _sprites()
    if name not in _EMBEDDED:
        return _dataset(name, _tfds.arrays(name, _EMBEDDED))
    file = importlib.resources.files("vae_teach").joinpath(f"datasets/{name}.npz")
    with file.open("rb") as stream, np.load(stream) as arrays:
        return _dataset(name, dict(arrays))


def _full_size(name: str) -> str:
    wanted = os.environ.get("VAE_TEACH_DATA", "")
    if wanted not in ("", "tfds"):
        raise ValueError(
            f"VAE_TEACH_DATA is {wanted!r}: expected 'tfds' (full MNIST in place of "
            "mnist12k) or nothing; unset it."
        )
    return "mnist" if (name, wanted) == ("mnist12k", "tfds") else name


def _sprites() -> Dataset:
    rows = sprites.factors(
        scale=_spread("scale", 4),
        rotation=range(10),
        x=_spread("x", 8),
        y=_spread("y", 8),
    )
    rows = rows[np.random.RandomState(0).permutation(len(rows))]  # the same everywhere
    images = np.asarray(sprites.render(rows))
    cut = len(rows) // 10
    test, train = (
        Split(images[part].copy(), rows[part, 0].copy(), rows[part].copy())
        for part in (slice(cut), slice(cut, None))
    )
    source = (
        "Drawn by vae_teach.sprites: 3 shapes, 4 scales, 10 rotations, 8 x 8 places, "
        "values of dSprites (Matthey et al. 2017), a random tenth held out as test."
    )
    return Dataset("sprites", train, test, source, tuple(sprites.SIZES))


def _spread(factor: str, count: int) -> list[int]:
    values = np.linspace(0, sprites.SIZES[factor] - 1, count)
    return np.rint(values).astype(int).tolist()


def _dataset(name: str, arrays: Mapping[str, np.ndarray]) -> Dataset:
    white = 255 if arrays["train_images"].max(initial=0) > 1 else 1
    train, test = (
        _split(
            arrays[f"{part}_images"],
            arrays.get(f"{part}_labels"),
            arrays.get(f"{part}_factors"),
            white,
        )
        for part in ("train", "test")
    )
    names = tuple(arrays["factor_names"].tolist()) if "factor_names" in arrays else ()
    return Dataset(name, train, test, arrays["source"].item(), names)


def _split(
    images: UInt8[np.ndarray, "n height width channels"],
    labels: UInt8[np.ndarray, " n"] | Int32[np.ndarray, " n"] | None,
    factors: Int32[np.ndarray, "n f"] | None,
    white: int,
) -> Split:
    intensities = np.divide(images, white, dtype=np.float32)
    labels = None if labels is None else labels.astype(np.int32)
    return Split(intensities, labels, factors)
