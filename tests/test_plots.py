"""Plots: the Axes and the data that were given, in colours that can be seen."""

from itertools import combinations

import matplotlib

matplotlib.use("Agg")

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb

from vae_teach.plots import (
    DATA,
    DECODER,
    ENCODER,
    GREY,
    LATENT,
    WIDTH,
    plot_history,
    plot_rates,
    png,
    show_images,
    use_style,
)

PAGES = ["#ffffff", "#14181e"]  # of the book's two modes
PARTS = [ENCODER, LATENT, DECODER, DATA]
DEFAULTS = dict(matplotlib.rcParams)
HISTORY = {
    "loss": np.linspace(9, 1, 40, dtype=np.float32),
    "rate": np.linspace(0, 4, 40, dtype=np.float32),
    "validation/loss": np.array([5.0, 3.0, 2.0, 1.5], np.float32),
}


@pytest.fixture(autouse=True)
def _clean():
    yield
    plt.close("all")
    matplotlib.rcParams.update(DEFAULTS)


def linear(colour):
    c = np.array(to_rgb(colour))
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def contrast(a, b):
    """The contrast ratio of WCAG 2."""
    low, high = sorted(linear(c) @ [0.2126, 0.7152, 0.0722] for c in (a, b))
    return (high + 0.05) / (low + 0.05)


# Machado, Oliveira & Fernandes 2009, severity 1: linear RGB as others see it.
SIGHT = {
    "all three cones": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
TO_XYZ = [
    [0.4124, 0.3576, 0.1805],
    [0.2126, 0.7152, 0.0722],
    [0.0193, 0.1192, 0.9505],
]


def lab(rgb):
    t = np.array(TO_XYZ) @ np.clip(rgb, 0, 1) / [0.9505, 1, 1.089]
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_contrast_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


def test_text_is_legible_on_both_pages():
    # No grey has 4.5 on both: the two pages have a contrast of 17.8 = 4.22² between
    # them. This one has 4.5, the limit for small text, on white.
    white, dark = (contrast(GREY, page) for page in PAGES)
    assert white >= 4.5
    assert dark >= 3.9


@pytest.mark.parametrize("colour", PARTS)
@pytest.mark.parametrize("page", PAGES)
def test_lines_are_visible_on_both_pages(colour, page):
    assert contrast(colour, page) >= 3  # the limit for graphics


@pytest.mark.parametrize("sight", SIGHT)
def test_no_two_parts_look_alike_however_one_sees_colours(sight):
    seen = [lab(SIGHT[sight] @ linear(colour)) for colour in [*PARTS, GREY]]
    distances = [np.linalg.norm(a - b) for a, b in combinations(seen, 2)]
    assert min(distances) >= 20  # about ten times what is just noticeable


def test_the_style_is_transparent_grey_and_as_wide_as_the_column():
    use_style()
    figure, ax = plt.subplots()
    ax.plot([1, 2], label="a")
    texts = [ax.title, ax.xaxis.label, ax.get_xticklabels()[0]]
    texts += ax.legend().get_texts()
    assert {to_hex(text.get_color()) for text in texts} == {GREY}
    assert to_hex(ax.spines["left"].get_edgecolor()) == GREY
    assert figure.get_facecolor()[3] == ax.get_facecolor()[3] == 0
    assert figure.get_size_inches()[0] * figure.dpi <= 660
    assert ax.lines[0].get_color() in PARTS


def test_images_are_in_order_with_transparent_gaps():
    images = np.arange(5)[:, None, None] / 5 * np.ones((5, 4, 3))
    _, ax = plt.subplots()
    assert show_images(images, rows=2, ax=ax) is ax
    grid = ax.images[0].get_array()
    assert grid.shape == (2 * 4 + 1, 3 * 3 + 2, 4)
    for i, (row, column) in enumerate([(0, 0), (0, 4), (0, 8), (5, 0), (5, 4)]):
        tile = grid[row : row + 4, column : column + 3]
        np.testing.assert_allclose(tile[..., :3], i / 5)
        np.testing.assert_array_equal(tile[..., 3], 1)
    np.testing.assert_array_equal(grid[4, :, 3], 0)
    np.testing.assert_array_equal(grid[:, 3, 3], 0)
    np.testing.assert_array_equal(grid[5:, 8:, 3], 0)


def test_images_may_have_a_channel_or_three_and_leave_the_unit_interval(caplog):
    red = jnp.zeros((2, 4, 4, 3)).at[..., 0].set(1.5)
    grid = show_images(red).images[0].get_array()
    np.testing.assert_array_equal(grid[0, 0], [1, 0, 0, 1])
    grey = show_images(jnp.full((2, 4, 4, 1), 0.25)).images[0].get_array()
    np.testing.assert_array_equal(grey[0, 0], [0.25, 0.25, 0.25, 1])
    assert not caplog.records  # matplotlib would clip too, with a message in the book


def test_titles_stand_at_the_centres_of_rows_and_columns():
    images = np.zeros((6, 5, 5), np.float32)
    ax = show_images(images, rows=2, titles=list("abc"), row_titles=["data", "model"])
    assert [t.get_text() for t in ax.get_xticklabels()] == list("abc")
    np.testing.assert_array_equal(ax.get_xticks(), [2, 8, 14])
    assert [t.get_text() for t in ax.get_yticklabels()] == ["data", "model"]
    np.testing.assert_array_equal(ax.get_yticks(), [2, 8])


def test_a_new_figure_fits_the_column_and_the_grid():
    for n, rows in [(1, 1), (10, 1), (20, 2), (100, 4)]:
        figure = show_images(np.zeros((n, 28, 28)), rows=rows).figure
        width, height = figure.get_size_inches()
        assert width <= WIDTH
        assert height == pytest.approx(width * rows / np.ceil(n / rows), rel=0.1)


@pytest.mark.parametrize(
    ("images", "error"),
    [
        (np.zeros((28, 28)), ValueError),
        (np.zeros((2, 28, 28, 2)), ValueError),
        (np.zeros((0, 28, 28)), ValueError),
        (np.zeros((2, 28, 28), np.uint8), TypeError),
    ],
)
def test_what_is_no_image_is_refused(images, error):
    with pytest.raises(error, match=r"Expected .*, got"):
        show_images(images)


def test_a_history_is_drawn_raw_and_smoothed_and_at_the_ends_of_epochs():
    _, ax = plt.subplots()
    terms = ["loss", "validation/loss", "rate"]
    assert plot_history(HISTORY, terms, ax=ax, smooth=5) is ax
    raw, smooth, epochs, _, rate = ax.lines
    np.testing.assert_array_equal(raw.get_xdata(), np.arange(1, 41))
    np.testing.assert_array_equal(raw.get_ydata(), HISTORY["loss"])
    # The running mean of a straight line is that line, without its ends.
    np.testing.assert_allclose(smooth.get_xdata(), np.arange(3, 39))
    np.testing.assert_allclose(smooth.get_ydata(), HISTORY["loss"][2:-2], rtol=1e-6)
    np.testing.assert_allclose(epochs.get_xdata(), [10, 20, 30, 40])
    np.testing.assert_array_equal(epochs.get_ydata(), HISTORY["validation/loss"])
    assert raw.get_color() == smooth.get_color() == epochs.get_color()
    assert rate.get_color() != raw.get_color()
    assert [t.get_text() for t in ax.get_legend().get_texts()] == terms


def test_a_history_shorter_than_the_window_and_of_several_models():
    many = {"loss": np.arange(12.0).reshape(3, 4)}
    ax = plot_history(many, ["loss"], smooth=50)
    raw = ax.lines[:3]
    np.testing.assert_array_equal([line.get_ydata() for line in raw], many["loss"])
    assert [line.get_ydata().tolist() for line in ax.lines[3:]] == [[1.5], [5.5], [9.5]]
    assert len(ax.get_legend().get_texts()) == 1


def test_a_term_that_the_history_lacks_is_named():
    with pytest.raises(KeyError, match=r"among \['loss', .*got \['kl'\]"):
        plot_history(HISTORY, ["loss", "kl"])
    assert not plt.get_fignums()


def test_rates_are_sorted_bars():
    _, ax = plt.subplots()
    assert plot_rates(jnp.array([0.5, 3.0, 0.0]), ax=ax) is ax
    assert [bar.get_height() for bar in ax.patches] == [3.0, 0.5, 0.0]
    assert "nats" in ax.get_ylabel()
    assert plot_rates(np.ones(4)) is not ax


def test_everything_draws_without_a_warning():
    use_style()
    show_images(np.zeros((6, 8, 8)), rows=2, titles=list("abc"), row_titles=["x", "y"])
    plot_history(HISTORY, [*HISTORY])
    plot_rates(np.arange(20.0))
    for number in plt.get_fignums():
        plt.figure(number).canvas.draw()


def test_a_png_is_the_figure_and_closes_it():
    ax = show_images(np.zeros((1, 4, 4)))
    number = ax.figure.number
    picture = png(ax)
    assert picture.startswith(b"\x89PNG")
    assert number not in plt.get_fignums()
