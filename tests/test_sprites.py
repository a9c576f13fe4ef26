"""Sprites: what is drawn is where, as large and as turned as its factors say."""

import numpy as np
import pytest

from vae_teach.sprites import FINE, PLAY, REACH, SHAPES, SIZES, factors, render

FULL = 5  # the largest scale


def image(side=32, **values):
    middle = dict(shape=0, scale=FULL, rotation=0, x=16, y=16) | values
    return np.asarray(render(factors(**{k: [v] for k, v in middle.items()}), side=side))


def centre(image):
    """Of mass, in the frame of the drawing: x to the right, y down, from -1 to 1."""
    (picture,) = image[..., 0]
    at = (np.arange(len(picture)) + 0.5) / len(picture) * 2 - 1
    return picture.sum(0) @ at / picture.sum(), picture.sum(1) @ at / picture.sum()


def test_all_combinations_are_those_of_dsprites():
    assert np.prod([*SIZES.values()]) == 737_280
    rows = factors(shape=[2], rotation=[0])
    assert rows.shape == (6 * 32 * 32, 5)
    assert len(np.unique(rows, axis=0)) == len(rows)
    assert {tuple(row[[0, 2]]) for row in rows} == {(2, 0)}


@pytest.mark.parametrize("side", [32, 64])
def test_images_are_grey_only_at_edges(side):
    images = np.asarray(render(factors(x=[0, 31], y=[16], rotation=[3]), side=side))
    assert images.shape == (3 * 6 * 2, side, side, 1)
    assert images.min() == 0
    assert images.max() == 1
    grey = (images > 0) & (images < 1)
    assert grey.mean() < 0.1
    # No sprite is cut off.
    assert (images[:, [0, -1]] == 0).all()
    assert (images[:, :, [0, -1]] == 0).all()


@pytest.mark.parametrize("shape", range(len(SHAPES)))
def test_place_moves_the_middle(shape):
    step = 2 * PLAY / (SIZES["x"] - 1)
    start = np.array(centre(image(shape=shape, x=3, y=20)))
    right = np.array(centre(image(shape=shape, x=13, y=20)))
    lower = np.array(centre(image(shape=shape, x=3, y=29)))
    fine = 2 / (32 * FINE)  # edges are right to half of it
    np.testing.assert_allclose(right - start, [10 * step, 0], atol=fine)
    np.testing.assert_allclose(lower - start, [0, 9 * step], atol=fine)


def test_a_square_has_its_area():
    for scale in range(SIZES["scale"]):
        half = REACH * (0.5 + 0.5 * scale / FULL)
        area = image(side=64, scale=scale).mean() * 4
        assert area == pytest.approx((2 * half) ** 2, rel=0.05)


@pytest.mark.parametrize("shape", range(len(SHAPES)))
def test_area_grows_with_the_square_of_the_scale_and_not_with_the_rest(shape):
    # Turned, because the edges of an upright square all round the same way.
    given = dict(side=64, shape=shape, rotation=3)
    small, large = (image(**given, scale=s).sum() for s in (0, FULL))
    assert large / small == pytest.approx(4, rel=0.06)
    turned = image(side=64, shape=shape, rotation=7).sum()
    assert turned == pytest.approx(large, rel=0.02)


def test_rotation_has_the_symmetry_of_the_shape():
    quarter, half = SIZES["rotation"] // 4, SIZES["rotation"] // 2

    def gap(shape, turn):
        return abs(image(shape=shape) - image(shape=shape, rotation=turn)).max()

    assert gap(0, quarter) < 0.3  # a square, but for rounding at its edges
    assert gap(1, half) < 0.3  # an ellipse
    assert gap(1, quarter) == 1
    assert gap(2, half) == 1  # a heart


def test_a_subset_is_rendered_as_the_whole():
    rows = factors(shape=[1], scale=[2], x=[4], y=[9])
    whole = np.asarray(render(rows))
    np.testing.assert_array_equal(np.asarray(render(rows[7:9])), whole[7:9])


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: factors(colour=[0]), "colour"),
        (lambda: factors(shape=[3]), "below"),
        (lambda: factors(x=[]), "one row"),
        (lambda: render(np.array([[0, 0, 40, 0, 0]])), "below"),
        (lambda: render(np.array([[0, -1, 0, 0, 0]])), "below"),
    ],
)
def test_it_says_what_it_needs(call, match):
    with pytest.raises(ValueError, match=match):
        call()
