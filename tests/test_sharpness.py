"""The power spectrum and the sharpness of images whose spectra are known."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.ndimage
import scipy.signal

from vae_teach.data import load
from vae_teach.sharpness import power_spectrum, sharpness

SIZES = [(1, 28, 28, 1), (5, 16, 24, 3), (2, 9, 7, 2), (3, 1, 12, 1)]
NOISE = jr.normal(jr.key(0), (400, 20, 20, 2))
DIGITS = jnp.asarray(load().test.images[:300])


def wave(height, width, down, across):
    """One sinusoid, of ``down`` and ``across`` whole periods, as (1, h, w, 1)."""
    y, x = jnp.mgrid[:height, :width]
    phase = 2 * jnp.pi * (down * y / height + across * x / width)
    return (0.5 + 0.4 * jnp.cos(phase + 1))[None, :, :, None]


def blur(images, s):
    """A Gaussian of ``s`` pixels, on the torus."""
    kernel = scipy.ndimage.gaussian_filter
    return jnp.asarray(
        kernel(np.asarray(images, np.float64), (0, s, s, 0), mode="wrap", truncate=8),
        jnp.float32,
    )


@pytest.mark.parametrize(
    ("height", "width", "down", "across", "frequency"),
    [
        (28, 28, 0, 7, 0.25),
        (28, 28, 7, 0, 0.25),
        (20, 20, 3, 4, 0.25),
        (20, 20, 3, -4, 0.25),
        (12, 24, 3, 0, 0.25),
        (15, 30, 0, 6, 0.2),
        (16, 16, 8, 0, 0.5),
    ],
)
def test_a_sinusoid_has_all_its_energy_at_its_frequency(
    height, width, down, across, frequency
):
    image = wave(height, width, down, across)
    found = power_spectrum(image)
    energy = found.power * found.modes
    ring = int(jnp.argmax(energy))
    assert found.frequency[ring] == pytest.approx(frequency)
    assert energy[ring] == pytest.approx(float(energy.sum()), rel=1e-5)
    below, above = (
        sharpness(image, cutoff=frequency + by)[0] for by in (-0.001, 0.001)
    )
    assert (below, above) == (pytest.approx(1, abs=1e-5), pytest.approx(0, abs=1e-5))


def test_energy_is_split_as_the_squares_of_the_amplitudes():
    image = wave(28, 28, 0, 2) + 0.5 * wave(28, 28, 10, 0)
    np.testing.assert_allclose(sharpness(image), [0.2], rtol=1e-5)


@pytest.mark.parametrize("shape", SIZES)
def test_parseval_at_any_size_with_any_channels(shape):
    images = jr.uniform(jr.key(1), shape)
    found = power_spectrum(images)
    variance = ((images - images.mean((1, 2), keepdims=True)) ** 2).mean()
    assert found.modes.sum() == shape[1] * shape[2]
    np.testing.assert_allclose(
        (found.power * found.modes).sum() / found.modes.sum(), variance, rtol=1e-5
    )
    assert found.modes[0] == 1
    assert found.power[0] == pytest.approx(0, abs=1e-10)
    assert (found.modes > 0).all()


def test_white_noise_is_flat():
    found = power_spectrum(NOISE)
    # Each coefficient is exponential with mean 1, and those at f and -f are one.
    error = jnp.sqrt(2 / (found.modes * NOISE.shape[0] * NOISE.shape[-1]))
    assert (abs(found.power - 1)[1:] < 4.5 * error[1:]).all()
    radius = np.hypot(np.fft.fftfreq(20)[:, None], np.fft.fftfreq(20)[None])
    share = (radius > 0.3).sum() / (radius > 0).sum()
    values = sharpness(NOISE, cutoff=0.3)
    assert abs(values.mean() - share) < 4 * values.std() / np.sqrt(len(values))


@pytest.mark.parametrize("s", [0.8, 1.5])
def test_blur_multiplies_the_power_by_the_square_of_its_transfer_function(s):
    # The DFT of SciPy's own kernel: exp(-2π² s² f²), and what sampling folds onto it.
    spread = np.zeros((20, 20))
    spread[0, 0] = 1
    kernel = scipy.ndimage.gaussian_filter(spread, s, mode="wrap", truncate=8)
    transfer = abs(np.fft.fft2(kernel)) ** 2
    frequency = np.hypot(np.fft.fftfreq(20)[:, None], np.fft.fftfreq(20)[None])
    law = np.exp(-4 * np.pi**2 * s**2 * frequency**2)
    np.testing.assert_allclose(transfer, law, atol=0.01)
    # A single wave is alone in its ring: the ratio is exact.
    for k in (1, 2, 4):
        image = wave(20, 20, 0, k)
        ratio = power_spectrum(blur(image, s)).power / power_spectrum(image).power
        np.testing.assert_allclose(ratio[k], transfer[0, k], rtol=1e-3)
    # A ring of noise has the ring's mean of it, to 1 in the root of 32,000 draws.
    rings = np.rint(frequency * 20).astype(int).ravel()
    mean = np.bincount(rings, transfer.ravel()) / np.bincount(rings)
    ratio = power_spectrum(blur(NOISE, s)).power / power_spectrum(NOISE).power
    np.testing.assert_allclose(ratio[2:6], mean[2:6], rtol=0.02)


def test_the_spectrum_of_scipy():
    row = np.asarray(jr.normal(jr.key(2), (24,)))
    found = power_spectrum(jnp.asarray(row)[None, None, :, None])
    frequency, power = scipy.signal.periodogram(
        row, detrend="constant", return_onesided=False
    )
    np.testing.assert_allclose(found.frequency, np.arange(13) / 24, rtol=1e-6)
    both = np.bincount(np.rint(abs(frequency) * 24).astype(int), power)
    np.testing.assert_allclose(found.power * found.modes, both, rtol=1e-4, atol=1e-6)


def test_blurring_digits_lowers_their_sharpness_and_dimming_does_not():
    sharp = sharpness(DIGITS)
    levels = [sharpness(blur(DIGITS, s)).mean() / sharp.mean() for s in (0.5, 1, 2)]
    assert 1 > levels[0] > levels[1] > levels[2] > 0
    assert levels[1] < 0.2
    for changed in (0.3 * DIGITS, 1 - DIGITS, 0.5 + 0.1 * DIGITS):
        np.testing.assert_allclose(sharpness(changed), sharp, rtol=1e-3)


def test_the_average_of_many_digits_is_blurred():
    mean = sharpness(DIGITS.mean(0, keepdims=True))
    assert mean[0] < 0.1 * sharpness(DIGITS).mean()


def test_a_shift_on_the_torus_changes_nothing():
    moved = jnp.roll(DIGITS, (3, 5), (1, 2))
    np.testing.assert_allclose(sharpness(moved), sharpness(DIGITS), rtol=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0, -7.1, 1e4])
def test_a_constant_image_has_no_detail(value):
    images = jnp.full((2, 28, 28, 3), value)
    assert (sharpness(images) == 0).all()


def test_a_faint_image_still_counts_and_nan_stays_visible():
    faint = 1e-4 * wave(28, 28, 0, 7) + 0.1
    np.testing.assert_allclose(sharpness(faint), [1], rtol=1e-2)
    assert jnp.isnan(sharpness(DIGITS.at[0, 0, 0, 0].set(jnp.nan))[0])


def test_each_image_has_its_own_number_and_batches_change_nothing():
    many = jnp.concatenate([DIGITS, DIGITS])  # more than go through at a time
    np.testing.assert_allclose(sharpness(many)[:300], sharpness(DIGITS), rtol=1e-6)
    np.testing.assert_allclose(
        power_spectrum(many).power[1:], power_spectrum(DIGITS).power[1:], rtol=1e-5
    )


@pytest.mark.parametrize("shape", [(28, 28), (0, 28, 28, 1), (3, 1, 1, 1), (4, 784)])
@pytest.mark.parametrize("measure", [power_spectrum, sharpness])
def test_other_shapes_are_refused(measure, shape):
    with pytest.raises((TypeError, ValueError)):
        measure(jnp.ones(shape))


@pytest.mark.parametrize("cutoff", [-0.1, 0.71, float("nan")])
def test_a_cutoff_that_nothing_or_everything_passes_is_refused(cutoff):
    with pytest.raises(ValueError, match="Expected a cutoff from 0"):
        sharpness(DIGITS, cutoff=cutoff)
