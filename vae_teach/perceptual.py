"""Distances between images that stand in for the squared error of a decoder.

A family here gives a decoder a "log density" that is minus a distance, so that every
bound and loss runs on it as it is. It is not normalised: what is minimised bounds
nothing, and its value compares with no other. To get a bound back keep the trained
network and give it a Gaussian with σ² = MSE: ``losses.optimal_scale`` with ``evaluate``
reads the decoder's mean alone, and ``FixedScale(variance**0.5)`` then makes a model.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from .distributions import Distribution, check_event, pytree
from .metrics import digit_classifier
from .networks import Image
from .typing import PRNGKey, Scalar

SIGMA = 1.5
K1, K2 = 0.01, 0.03
# Of Wang, Simoncelli & Bovik 2003, from the finest scale on.
WEIGHTS = 0.0448, 0.2856, 0.3001, 0.2363, 0.1333


def ssim(x: Image, y: Float[Array, "..."], *, window: int = 11) -> Scalar:
    """Structural similarity of two images in [0, 1]: 1 where they are equal.

    The mean, over channels and over all windows that lie inside the image, of

        (2 μ_x μ_y + C1)/(μ_x² + μ_y² + C1) · (2 σ_xy + C2)/(σ_x² + σ_y² + C2)

    with the means, variances and covariance under a Gaussian window of sd 1.5 pixels,
    C1 = 0.01² and C2 = 0.03² (Wang, Bovik, Sheikh & Simoncelli 2004).

    Raises:
        ValueError: for images of different shapes, or smaller than the window.

    """
    _check(x, y, 1, window)
    luminance, structure = _similarity(x, y, window)
    return (luminance * structure).mean()


def multiscale_ssim(
    x: Image, y: Float[Array, "..."], *, scales: int = 5, window: int = 11
) -> Scalar:
    """Multi-scale structural similarity: ``ssim``'s factors at halved resolutions.

    With the second factor s_j, its mean over the windows at scale j, and the first,
    l, at the coarsest alone: mean over channels of mean(l s_M)^w_M Π_{j<M} s_j^w_j. A
    scale is the one before in means of 2 x 2 pixels. The published weights w are those
    of 5 scales; of the first M of them the sum is brought to 1. Negative means count
    as 0 (Wang, Simoncelli & Bovik 2003).

    Args:
        x: an image in [0, 1].
        y: another.
        scales: M, from 1 to 5. Images have to be ``window`` · 2ᴹ⁻¹ pixels high and
            wide: 176 for 5 scales, 22 for 2.
        window: pixels a side of the Gaussian window.

    Raises:
        ValueError: for images of different shapes or too small, or no such ``scales``.

    """
    _check(x, y, scales, window)
    weights = np.array(WEIGHTS[:scales]) / sum(WEIGHTS[:scales])
    product = 1.0
    for j, weight in enumerate(weights):
        if j:
            x, y = _halved(x), _halved(y)
        luminance, structure = _similarity(x, y, window)
        factor = structure * luminance if j == scales - 1 else structure
        # A power below 1 has no slope at 0.
        product *= jnp.maximum(factor.mean((0, 1)), 1e-6) ** weight
    return jnp.mean(product)


@pytree
class Unnormalised(Distribution):
    """Minus a distance in place of a log density: all that training asks of p(x|z)."""

    loc: Float[Array, "*event"]
    distance: Callable = field(metadata={"static": True})

    def sample(self, key: PRNGKey) -> Float[Array, "*event"]:
        """Refused.

        Raises:
            TypeError: always.

        """
        raise TypeError(
            "Expected a density to sample from, got a distance, which has none: show "
            "the mean, or give the decoder's network a FixedScale."
        )

    @property
    def mean(self) -> Float[Array, "*event"]:
        """The image itself."""
        return self.loc

    def log_prob(self, x: Shaped[Array, "*event"]) -> Scalar:
        """-distance(x, loc): no log density, whatever its name says."""
        check_event(x, self.loc)
        return -self.distance(x, self.loc)


@dataclass(frozen=True)
class FeatureDistance:
    """A decoder's family: ½ ``weight`` |f(x) - f(y)|² + ½ ``pixels`` |x - y|².

    The feature-perceptual loss of Hou, Shen, Sun & Qiu 2017 (DFC-VAE). f is a trained
    network that stays as it is: it is no part of the model, ``nnx.Param`` does not find
    it, and the gradient goes through it to y alone. ``pixels`` is the 1/σ² of a
    Gaussian; without it the images are free wherever f does not look.

    ``features`` takes one image. The default is ``metrics.digit_classifier``'s, of 64
    numbers, trained on the embedded digits.
    """

    weight: float = 1.0
    pixels: float = 0.0
    features: Callable = field(default_factory=lambda: digit_classifier().features)

    def __call__(self, loc: Float[Array, "*event"]) -> Unnormalised:
        """The member at this image."""
        return Unnormalised(loc, self.distance)

    def distance(
        self, x: Shaped[Array, "*event"], y: Shaped[Array, "*event"]
    ) -> Scalar:
        """As above: at least 0, which it is where x = y."""
        differ = self.features(x) - self.features(y)
        return 0.5 * (self.weight * (differ**2).sum() + self.pixels * _squares(x, y))


@dataclass(frozen=True)
class StructuralDistance:
    """A decoder's family: ``weight`` (1 - MS-SSIM(x, y)) + ½ ``pixels`` |x - y|².

    See ``multiscale_ssim``, also for the errors; 28 x 28 pixels allow 2 scales.
    """

    weight: float = 1.0
    pixels: float = 0.0
    scales: int = 2
    window: int = 11

    def __call__(self, loc: Float[Array, "*event"]) -> Unnormalised:
        """The member at this image."""
        return Unnormalised(loc, self.distance)

    def distance(
        self, x: Shaped[Array, "*event"], y: Shaped[Array, "*event"]
    ) -> Scalar:
        """As above: at least 0, which it is where x = y."""
        similarity = multiscale_ssim(x, y, scales=self.scales, window=self.window)
        return self.weight * (1 - similarity) + 0.5 * self.pixels * _squares(x, y)


def _squares(x, y):
    return ((x - y) ** 2).sum()


def _similarity(x, y, window):
    """Both factors of the similarity at every window inside: (height, width, c)."""
    rows, columns = (_bands(size, window) for size in x.shape[:2])

    def mean(values):
        return jnp.einsum("ih,jw,hwc->ijc", rows, columns, values)

    mean_x, mean_y = mean(x), mean(y)
    var_x, var_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + K1**2) / (mean_x**2 + mean_y**2 + K1**2)
    return luminance, (2 * covariance + K2**2) / (var_x + var_y + K2**2)


def _bands(size, window):
    """A moving Gaussian mean as a matrix, (size - window + 1, size).

    A matrix product, as gradients of convolutions in a scan are slow on a CPU.
    """
    bell = np.exp(-0.5 * ((np.arange(window) - (window - 1) / 2) / SIGMA) ** 2)
    starts = range(size - window + 1)
    bands = np.stack([np.pad(bell, (i, size - window - i)) for i in starts])
    return jnp.asarray(bands / bell.sum(), jnp.float32)


def _halved(x):
    """Means of 2 x 2 pixels; an odd last row or column is left out."""
    height, width, channels = (x.shape[0] // 2, x.shape[1] // 2, x.shape[2])
    x = x[: 2 * height, : 2 * width]
    return x.reshape(height, 2, width, 2, channels).mean((1, 3))


def _check(x, y, scales, window):
    check_event(x, y)
    if not 1 <= scales <= len(WEIGHTS):
        raise ValueError(f"Expected 1 to {len(WEIGHTS)} scales, got {scales}.")
    side, smallest = min(x.shape[:2]), window * 2 ** (scales - 1)
    if side < smallest:
        allowed = (side // window).bit_length()
        advice = f"take scales={allowed} or" if allowed else "take"
        raise ValueError(
            f"Expected images of {smallest} pixels or more a side for {scales} "
            f"scale{'s' * (scales > 1)} with a window of {window}, got {x.shape}: "
            f"{advice} a smaller window."
        )
