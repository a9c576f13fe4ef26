"""Make the embedded digits.

Run ``TFDS_DATA_DIR=FOLDER python tools/make_mnist12k.py [OUT]``. FOLDER holds
``mnist/3.0.1`` of TensorFlow Datasets in array_record format; OUT is by default
``vae_teach/datasets/mnist12k.npz``. The arrays are the same on every machine; the
printed SHA-256 are those of ``LICENSE-mnist.md`` and ``tests/test_data.py``.
"""

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

OUT = Path(__file__).parents[1] / "vae_teach" / "datasets" / "mnist12k.npz"
PER_CLASS = {"train": 1000, "test": 200}
SOURCE = (
    "MNIST by Yann LeCun, Corinna Cortes and Christopher Burges, CC BY-SA 3.0 as "
    "commonly stated; of TensorFlow Datasets mnist/3.0.1 the first 1,000 train and "
    "200 test images of each digit, shuffled, by tools/make_mnist12k.py"
)


def choose(labels: np.ndarray, per_class: int) -> np.ndarray:
    """Indices of the first `per_class` examples of each digit, in a fixed random order.

    Shuffled, so that every batch and every slice holds all digits.
    """
    first = [np.flatnonzero(labels == digit)[:per_class] for digit in range(10)]
    # RandomState, since NumPy promises its stream never to change.
    return np.random.RandomState(0).permutation(np.concatenate(first))


def read(folder: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """All images and labels of one split of MNIST, as bytes, in TFDS's order."""
    import tensorflow_datasets as tfds

    mnist: Any = tfds.builder(
        "mnist:3.0.1", file_format="array_record", data_dir=folder
    )
    if not mnist.is_prepared():
        sys.exit(f"no mnist/3.0.1 in TFDS_DATA_DIR={folder}: prepare it there by TFDS")
    examples = list(mnist.as_data_source(split))
    images = np.stack([example["image"] for example in examples])
    return images, np.array([example["label"] for example in examples], np.uint8)


def main() -> None:
    """Write the file and print what it holds."""
    folder = os.environ.get("TFDS_DATA_DIR")
    if not folder:
        sys.exit("TFDS_DATA_DIR is not set: set it to the folder that holds mnist/")
    arrays = {"source": np.array(SOURCE)}
    for split, per_class in PER_CLASS.items():
        images, labels = read(folder, split)
        chosen = choose(labels, per_class)
        arrays[f"{split}_images"] = images[chosen]
        arrays[f"{split}_labels"] = labels[chosen]
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    np.savez_compressed(out, allow_pickle=False, **arrays)
    print(f"{out.name}: {out.stat().st_size:,} bytes")
    for name, array in arrays.items():
        if name != "source":
            print(f"{name} {hashlib.sha256(array.tobytes()).hexdigest()}")


if __name__ == "__main__":
    main()
