"""How much fine detail images have, by their power spectrum: blur in numbers.

An image is taken as periodic, without a window: Parseval's identity is then exact, and
dark borders, as digits have, join without a seam. Where opposite borders differ the
seam adds power at all frequencies along the axes; compare such images with images of
the same kind only.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class PowerSpectrum(NamedTuple):
    """Power by ring of frequencies, the first ring that of the mean, which is removed.

    Frequencies are in cycles per pixel; ``modes`` counts the coefficients in a ring, so
    that Σ modes power / Σ modes is the variance of the pixels of an image.
    """

    frequency: Float[Array, " rings"]
    power: Float[Array, " rings"]
    modes: Float[Array, " rings"]


@jax.jit
def power_spectrum(images: Float[Array, "n height width channels"]) -> PowerSpectrum:
    """|X(u, v)|² / (height width), averaged over rings, images and channels.

    X is the discrete Fourier transform of a channel less its mean, u and v are in
    cycles per pixel. Ring k holds the frequencies √(u² + v²) nearest to k / max(height,
    width), up to √½ in the corners. White noise has its variance at every frequency; a
    blur by a Gaussian of s pixels multiplies the power at f by exp(-4π² s² f²).

    Raises:
        ValueError: unless the images are (n, height, width, channels), of 2 pixels or
            more, one image or more.

    """
    radius = _radius(images)
    size = max(radius.shape)
    rings = np.rint(radius * size).astype(int)
    modes = jnp.asarray(np.bincount(rings.ravel()), jnp.float32)
    power = jax.lax.map(_power, images, batch_size=256).mean((0, 3))
    total = jnp.zeros_like(modes).at[rings].add(power)
    frequency = jnp.arange(len(modes), dtype=jnp.float32) / size
    return PowerSpectrum(frequency, total / modes, modes)


@partial(jax.jit, static_argnames="cutoff")
def sharpness(
    images: Float[Array, "n height width channels"], *, cutoff: float = 0.2
) -> Float[Array, " n"]:
    """Share of each image's energy at frequencies above ``cutoff``, from 0 to 1.

    Energy is Σ |X(u, v)|² over the frequencies and channels, the mean of each channel
    removed. A SHARE: neither a dimmer image nor one of less contrast counts as blurred,
    only one that has lost more of its fine detail than of its coarse shapes. Noise has
    fine detail, and counts as sharp. The number by itself means little: report its mean
    relative to the mean of the data. A constant image has no detail: 0.

    Args:
        images: each (height, width, channels).
        cutoff: in cycles per pixel; 0.2 is detail finer than a period of 5 pixels,
            above all the edges of strokes 2 to 3 pixels wide.

    Raises:
        ValueError: unless the images are (n, height, width, channels), of 2 pixels or
            more, and some but not all of their frequencies are above ``cutoff``.

    """
    radius = _radius(images)
    above = radius > cutoff
    if not (cutoff >= 0 and above.any()):
        raise ValueError(
            f"Expected a cutoff from 0 to below the highest frequency of the images, "
            f"{radius.max():.3g} cycles per pixel, got {cutoff}."
        )

    def share(image):
        power = _power(image).sum(-1)
        total = power.sum()
        # Below this all that is left beside the mean is rounding.
        noise = image.size * (4 * jnp.finfo(image.dtype).eps * abs(image).max()) ** 2
        return jnp.where(total <= noise, 0, (power * above).sum() / total)

    return jax.lax.map(share, images, batch_size=256)


def _power(image):
    """|X(u, v)|² / (height width) of each channel, the mean removed."""
    centred = image - image.mean((0, 1), keepdims=True)
    height, width, _ = image.shape
    return abs(jnp.fft.fft2(centred, axes=(0, 1))) ** 2 / (height * width)


def _radius(images):
    """√(u² + v²) of each coefficient, in cycles per pixel, in the order of the FFT."""
    shape = images.shape
    if images.ndim != 4 or min(shape) < 1 or shape[1] * shape[2] < 2:
        raise ValueError(
            "Expected one image or more, (n, height, width, channels), of 2 pixels or "
            f"more, got shape {shape}: reshape, as in x.reshape(-1, 28, 28, 1)."
        )
    return np.hypot(np.fft.fftfreq(shape[1])[:, None], np.fft.fftfreq(shape[2])[None])
