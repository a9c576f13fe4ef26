"""Compute what the loss-scale explorer carries: part of ``make weights``.

Eigenvalues and eigenvectors of the covariance of the training digits, their mean, and a
few test digits: a linear VAE at every σ², solved.
"""

import numpy as np
from jaxtyping import Float64

from vae_teach import data
from vae_teach.explorers import payload
from vae_teach.explorers.explorer import HERE

COMPONENTS = 128  # eigenvectors; all eigenvalues are kept
CLASSES = (2, 0, 4, 7, 5)  # the first test digit of each is shown


def spectrum(
    x: Float64[np.ndarray, "n d"],
) -> tuple[
    Float64[np.ndarray, " d"], Float64[np.ndarray, " d"], Float64[np.ndarray, "d d"]
]:
    """Mean, eigenvalues in falling order, eigenvectors in columns; sums divided by n.

    The largest entry of each eigenvector is made positive, as its sign is arbitrary.
    """
    mean = x.mean(0)
    values, vectors = np.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(0)[None], 0)
    return mean, values, vectors * np.sign(largest)


def content(dataset: data.Dataset) -> bytes:
    """The packed arrays, eigenvectors at 8 bits."""
    images = dataset.train.images
    x = images.reshape(len(images), -1).astype(np.float64)
    mean, values, vectors = spectrum(x)
    chosen = [np.flatnonzero(dataset.test.labels == label)[0] for label in CLASSES]
    digits = np.round(255 * dataset.test.images[chosen]).astype(np.uint8)
    arrays = {
        "mean": payload.rounded(mean[:, None].astype(np.float32), 16),
        "values": values.astype(np.float32),
        "vectors": payload.rounded(vectors[:, :COMPONENTS].astype(np.float32)),
        "digits": digits.reshape(len(CLASSES), -1),
    }
    return payload.pack(arrays, {"name": dataset.name, "examples": len(images)})


def main():
    """Compute and write."""
    file = HERE / "weights/loss_scale.bin"
    file.write_bytes(content(data.load("mnist12k")))
    print(f"{file.name}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
