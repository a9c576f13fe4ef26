from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import scipy.signal
from flax import nnx
from skimage.metrics import structural_similarity
from variants import images, vae

from vae_teach import epochs
from vae_teach.bounds import elbo
from vae_teach.data import load
from vae_teach.distributions import FixedScale, Normal
from vae_teach.losses import mean_over_batch, optimal_scale
from vae_teach.metrics import digit_classifier
from vae_teach.models import VAE, Conditional
from vae_teach.networks import MLP
from vae_teach.perceptual import (
    WEIGHTS,
    FeatureDistance,
    StructuralDistance,
    Unnormalised,
    multiscale_ssim,
    ssim,
)
from vae_teach.priors import StandardNormal
from vae_teach.training import evaluate, fit, minimise

SHAPE = (28, 28, 1)


def pair(shape, noise=0.2):
    """An image with large and small shapes, and a noisy copy."""
    key, key_noise = jr.split(jr.key(0))
    coarse = jax.image.resize(jr.uniform(key, (5, 5, shape[2])), shape, "linear")
    x = (coarse + 0.1 * jr.normal(key, shape)).clip(0, 1)
    return x, (x + noise * jr.normal(key_noise, shape)).clip(0, 1)


def digits(n=64):
    return jnp.asarray(load().train.images[:n])


# Structural similarity


@pytest.mark.parametrize("shape", [(28, 28, 1), (11, 11, 1), (40, 17, 3)])
@pytest.mark.parametrize("noise", [0.02, 0.5])
def test_one_scale_is_scikit_images(shape, noise):
    """Its mean leaves out the windows that reach beyond the image, as ours does."""
    x, y = pair(shape, noise)
    expected = structural_similarity(
        np.asarray(x, np.float64),
        np.asarray(y, np.float64),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
        channel_axis=-1,
    )
    np.testing.assert_allclose(ssim(x, y), expected, atol=2e-5)


def by_the_paper(x, y, scales):
    """Wang et al. 2003 with SciPy's convolutions in double precision, one channel."""
    bell = scipy.signal.windows.gaussian(11, 1.5)
    window = np.outer(bell, bell) / bell.sum() ** 2

    def mean(values):
        return scipy.signal.convolve2d(values, window, "valid")

    factors = []
    for _ in range(scales):
        c1, c2 = 0.01**2, 0.03**2
        mean_x, mean_y = mean(x), mean(y)
        sigma_xy = mean(x * y) - mean_x * mean_y
        sigma_2 = mean(x**2) - mean_x**2 + mean(y**2) - mean_y**2
        luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
        structure = (2 * sigma_xy + c2) / (sigma_2 + c2)
        factors.append((structure.mean(), (luminance * structure).mean()))
        height, width = (size - size % 2 for size in x.shape)
        low_pass = np.full((2, 2), 0.25)
        x, y = (
            scipy.signal.convolve2d(v[:height, :width], low_pass, "valid")[::2, ::2]
            for v in (x, y)
        )
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])[:scales]
    means = [f[0] for f in factors[:-1]] + [factors[-1][1]]
    return np.prod(np.array(means) ** (weights / weights.sum()))


@pytest.mark.parametrize(
    ("shape", "scales"), [((28, 28), 2), ((45, 61), 3), ((177, 190), 5), ((28, 28), 1)]
)
def test_several_scales_are_those_of_the_paper(shape, scales):
    x, y = pair((*shape, 1))
    both = (np.asarray(v[..., 0], np.float64) for v in (x, y))
    expected = by_the_paper(*both, scales)
    found = multiscale_ssim(x, y, scales=scales)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_the_published_weights_sum_to_one():
    np.testing.assert_allclose(sum(WEIGHTS), 1, atol=2e-4)


def test_one_scale_is_ssim_and_channels_are_averaged():
    x, y = pair((24, 30, 3))
    np.testing.assert_allclose(multiscale_ssim(x, y, scales=1), ssim(x, y), rtol=1e-5)
    each = [multiscale_ssim(x[..., [c]], y[..., [c]], scales=2) for c in range(3)]
    found = multiscale_ssim(x, y, scales=2)
    np.testing.assert_allclose(found, np.mean(each), rtol=1e-5)


@pytest.mark.parametrize("shape", [(22, 25, 1), (44, 44, 2)])
def test_similarity_is_one_for_equals_and_symmetric(shape):
    x, y = pair(shape)
    np.testing.assert_allclose(multiscale_ssim(x, x, scales=2), 1, atol=1e-5)
    there, back = (multiscale_ssim(*v, scales=2) for v in ((x, y), (y, x)))
    np.testing.assert_allclose(there, back, rtol=1e-5)
    assert there < 0.99


def test_similarity_of_constant_images_is_that_of_the_luminance():
    a, b = 0.3, 0.7
    x, y = jnp.full(SHAPE, a), jnp.full(SHAPE, b)
    expected = (2 * a * b + 1e-4) / (a**2 + b**2 + 1e-4)
    np.testing.assert_allclose(ssim(x, y), expected, rtol=1e-3)


def test_opposite_images_have_a_finite_slope():
    """The mean of the second factor is below 0, and its power would be NaN."""
    x, _ = pair(SHAPE)
    value, slope = jax.value_and_grad(partial(multiscale_ssim, scales=2))(x, 1 - x)
    assert 0 <= value < 0.1
    assert np.isfinite(slope).all()


def test_the_slope_is_that_of_differences():
    x, y = pair((24, 24, 1))
    direction = jr.normal(jr.key(5), x.shape)

    def along(t):
        return multiscale_ssim(x, y + t * direction, scales=2)

    h = 3e-3
    numeric = (along(h) - along(-h)) / (2 * h)
    np.testing.assert_allclose(jax.grad(along)(0.0), numeric, rtol=0.02)


@pytest.mark.parametrize(
    ("shape", "scales", "match"),
    [
        (SHAPE, 5, r"176 pixels.*5 scales.*got \(28, 28, 1\): take scales=2 or"),
        ((64, 21, 3), 2, r"22 pixels.*take scales=1 or"),
        ((10, 64, 1), 1, r"11 pixels.*1 scale with.*: take a smaller window"),
        (SHAPE, 0, "1 to 5 scales, got 0"),
        (SHAPE, 6, "1 to 5 scales, got 6"),
    ],
)
def test_too_many_scales_are_refused(shape, scales, match):
    x = jnp.zeros(shape)
    with pytest.raises(ValueError, match=match):
        multiscale_ssim(x, x, scales=scales)


@pytest.mark.parametrize(("side", "scales"), [(22, 2), (28, 2), (44, 3), (176, 5)])
def test_the_most_scales_allowed_are(side, scales):
    x = jnp.ones((side, side, 1))
    np.testing.assert_allclose(multiscale_ssim(x, x, scales=scales), 1, atol=1e-5)
    if scales < 5:
        with pytest.raises(ValueError, match=f"scales={scales} or"):
            multiscale_ssim(x, x, scales=scales + 1)


def test_a_smaller_window_allows_more_scales():
    x = jnp.ones(SHAPE)
    found = multiscale_ssim(x, x, scales=3, window=7)
    np.testing.assert_allclose(found, 1, atol=1e-5)


def test_images_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"shape \(28, 27, 1\), got \(28, 28, 1\)"):
        ssim(jnp.zeros(SHAPE), jnp.zeros((28, 27, 1)))


# Families


def total(x):
    """A feature: the sum of all pixels."""
    return x.sum(keepdims=True)


FAMILIES = {
    "features": FeatureDistance(2.0),
    "features and pixels": FeatureDistance(2.0, pixels=3.0),
    "structure": StructuralDistance(5.0),
}


@pytest.fixture(params=FAMILIES)
def family(request):
    return FAMILIES[request.param]


def test_distances_by_hand():
    x, y = jnp.zeros((2, 2, 1)), jnp.full((2, 2, 1), 0.5)
    features = FeatureDistance(3.0, pixels=10.0, features=total)
    # ½ 3 (4 · ½)² + ½ 10 (4 · ¼)
    np.testing.assert_allclose(features(y).log_prob(x), -(6.0 + 5.0), rtol=1e-6)
    x, y = pair(SHAPE)
    structure = StructuralDistance(3.0, pixels=10.0)
    expected = 3 * (1 - multiscale_ssim(x, y, scales=2)) + 5 * ((x - y) ** 2).sum()
    np.testing.assert_allclose(-structure(y).log_prob(x), expected, rtol=1e-5)


def test_pixels_alone_are_a_gaussian_but_for_its_constant():
    x, y = pair(SHAPE)
    given = FeatureDistance(0.0, pixels=1 / 0.2**2, features=total)
    slope = jax.grad(lambda y: given(y).log_prob(x))(y)
    of_normal = jax.grad(lambda y: FixedScale(0.2)(y).log_prob(x))(y)
    np.testing.assert_allclose(slope, of_normal, rtol=1e-4, atol=1e-4)


def test_no_image_is_closer_than_the_image_itself(family):
    x = digits(1)[0]
    distances = [-family(y).log_prob(x) for y in (x, x.at[14].add(0.2), 1 - x)]
    np.testing.assert_allclose(distances[0], 0, atol=1e-5)
    assert distances[0] < distances[1] < distances[2]


def test_a_distance_is_no_distribution(family):
    p = family(jnp.zeros(SHAPE))
    assert isinstance(p, Unnormalised)
    np.testing.assert_array_equal(p.mean, jnp.zeros(SHAPE))
    with pytest.raises(TypeError, match=r"density to sample from.*FixedScale"):
        p.sample(jr.key(0))
    with pytest.raises(ValueError, match=r"event of shape \(28, 28, 1\), got \(28, 28"):
        p.log_prob(jnp.zeros((28, 28)))


def test_families_compare_by_value():
    assert FeatureDistance() == FeatureDistance() != FeatureDistance(2.0)
    assert hash(StructuralDistance(5.0)) == hash(StructuralDistance(5.0))


def digit_vae(family, seed=0):
    rngs = nnx.Rngs(seed)
    encoder = Conditional(MLP(SHAPE, 16, 4, rngs=rngs), Normal.from_log_variance)
    decoder = Conditional(MLP(2, 16, SHAPE, rngs=rngs), family)
    return VAE(StandardNormal(2), encoder, decoder)


def test_the_feature_network_is_no_part_of_the_model_and_is_not_trained():
    """Its weights are neither parameters nor variables; fitting leaves them."""
    judge = digit_classifier()
    before = [np.array(a) for a in jax.tree.leaves(nnx.state(judge))]
    model, plain = digit_vae(FeatureDistance(10.0)), digit_vae(FixedScale(1.0))
    shapes = [
        [leaf.shape for leaf in jax.tree.leaves(nnx.state(m))] for m in (model, plain)
    ]
    assert shapes[0] == shapes[1]
    step = minimise(mean_over_batch(elbo), optax.adam(1e-2))
    given = dict(key=jr.key(0), epochs=20, batch_size=32)
    trained, history = fit(model, step, digits(), **given)
    after = jax.tree.leaves(nnx.state(judge))
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)
    assert trained.decoder.family.features == judge.features
    # And it was the distance in its features that fell.
    assert history["distortion"][-1] < 0.5 * history["distortion"][0]


def test_no_gradient_enters_the_feature_network_when_it_stands_beside_the_model():
    """The same object as a part of the model would be found, hence trained."""
    judge = digit_classifier()
    model = digit_vae(FeatureDistance(10.0))
    grads = jax.grad(lambda m: mean_over_batch(elbo)(m, digits(), jr.key(0))[0])(model)
    assert jax.tree.structure(grads) == jax.tree.structure(model)
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(grads))
    inside = digit_vae(judge)  # not what a family does: an NNX module as one
    assert len(jax.tree.leaves(inside)) == 8 + len(jax.tree.leaves(judge))


def test_two_equal_families_compile_one_program():
    step = minimise(mean_over_batch(elbo), optax.adam(1e-2))
    run = dict(data=digits(), step=step, key=jr.key(0), epochs=1, batch_size=32)
    fit(digit_vae(FeatureDistance(7.0)), **run)
    size = epochs.epoch._cache_size()
    fit(digit_vae(FeatureDistance(7.0), seed=1), **run)
    assert epochs.epoch._cache_size() == size


def test_a_gaussian_with_the_squared_error_as_its_variance_is_a_bound_again():
    """As the docstring says: ``optimal_scale``, then ``FixedScale``; both agree."""
    x = images()
    step = minimise(mean_over_batch(elbo), optax.adam(1e-2))
    family = StructuralDistance(20.0, scales=1, window=3)
    given = dict(key=jr.key(0), epochs=30, batch_size=32)
    model, _ = fit(vae(nnx.Rngs(0), family), step, x, **given)
    refitted = evaluate(optimal_scale, model, x, jr.key(1), batch_size=len(x))
    model.decoder.family = FixedScale(float(refitted["variance"]) ** 0.5)
    bound = evaluate(mean_over_batch(elbo), model, x, jr.key(1), batch_size=len(x))
    np.testing.assert_allclose(bound["loss"], refitted["loss"], rtol=1e-4)
