"""Pictures: arrays in, matplotlib ``Axes`` out. Nothing is trained here.

Backgrounds are transparent, and every colour reads on a white and on a dark page. Each
part of the model has one colour, in plots, diagrams and explorers alike; the four stay
apart in every kind of colour blindness.
"""

from collections.abc import Sequence
from io import BytesIO
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from jaxtyping import Array, Float, Shaped
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from .typing import History

ENCODER = "#206edb"
LATENT = "#d464c5"
DECODER = "#c1430d"
DATA = "#27a75b"
GREY = "#767676"  # text, ticks and spines

PALETTE = (ENCODER, DECODER, LATENT, DATA)
WIDTH = 6.4  # inches of 100 pixels: the width of the book's column


def use_style():
    """Set matplotlib's defaults for the book, until they are set again."""
    text = ("text.color", "axes.labelcolor", "axes.titlecolor", "legend.labelcolor")
    lines = ("axes.edgecolor", "xtick.color", "ytick.color", "grid.color")
    clear = ("figure.facecolor", "axes.facecolor", "savefig.facecolor")
    style: dict[Any, Any] = {
        "axes.prop_cycle": cycler(color=PALETTE),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.constrained_layout.use": True,
        "figure.dpi": 100,
        "figure.figsize": (WIDTH, 3.2),
        "font.size": 10,
        "grid.alpha": 0.3,
        "legend.frameon": False,
        "savefig.pad_inches": 0.03,
    }
    style |= dict.fromkeys(text + lines, GREY) | dict.fromkeys(clear, "none")
    plt.rcParams.update(style)


def show_images(
    images: Shaped[Array | np.ndarray, "n ..."],
    *,
    rows: int = 1,
    ax: Axes | None = None,
    titles: Sequence[str] = (),
    row_titles: Sequence[str] = (),
) -> Axes:
    """A grid of images in one ``Axes``, row by row; black is 0, white is 1.

    Values outside [0, 1] are shown as the nearest of the two. Images are opaque and the
    gaps between them transparent: a light and a dark page show the same greys.

    Args:
        images: (n, height, width) or (n, height, width, channels), with 1 channel or 3.
        rows: rows of the grid; the last may be short.
        ax: where to draw; when not given, a new figure as high as the grid needs.
        titles: one for each column, above it.
        row_titles: one for each row, to its left.

    Raises:
        ValueError: for other shapes.
        TypeError: for integers.

    """
    tiles = _opaque(np.asarray(images))
    columns = -(-len(tiles) // rows)
    grid, pitch = _mosaic(tiles, rows, columns)
    if ax is None:
        inches = min(WIDTH, 1.1 * columns)
        height = inches * len(grid) / grid.shape[1] + 0.25 * bool(titles)
        ax = plt.subplots(figsize=(inches, height))[1]
    ax.imshow(grid, interpolation="nearest")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0, labeltop=True, labelbottom=False)
    first = (np.array(tiles.shape[1:3]) - 1) / 2
    ax.set_yticks(first[0] + pitch[0] * np.arange(len(row_titles)), row_titles)
    ax.set_xticks(first[1] + pitch[1] * np.arange(len(titles)), titles)
    return ax


def plot_history(
    history: History,
    terms: Sequence[str],
    *,
    ax: Axes | None = None,
    smooth: int = 50,
) -> Axes:
    """Terms of a fit's history against the training step.

    A term with a number a step is drawn thin, with its running mean over ``smooth``
    steps; a validation/ term is drawn in the colour of its training term, with a dot an
    epoch. Of several models, as ``fit_many`` makes them, each gets its own curve.

    Raises:
        KeyError: for a term that the history lacks.

    """
    missing = [term for term in terms if term not in history]
    if missing:
        raise KeyError(f"Expected terms among {sorted(history)}, got {missing}.")
    ax = ax or plt.subplots()[1]
    names = dict.fromkeys(map(_training_term, terms))
    colours = dict(zip(names, cycle(PALETTE), strict=False))
    steps = max(values.shape[-1] for values in history.values())
    for term in terms:
        draw = _plot_epochs if term.startswith(_VALIDATION) else _plot_steps
        colour = colours[_training_term(term)]
        lines = draw(ax, np.arange(1, steps + 1), history[term].T, smooth, colour)
        lines[0].set_label(term)
    ax.set(xlabel="training step", ylabel="nats per example")
    ax.legend()
    return ax


def plot_rates(
    rate_per_unit: Float[Array | np.ndarray, " z"], *, ax: Axes | None = None
) -> Axes:
    """The KL of each latent unit as a bar, largest first: what each one is used for."""
    ax = ax or plt.subplots()[1]
    rates = np.sort(np.asarray(rate_per_unit))[::-1]
    ax.bar(np.arange(1, len(rates) + 1), rates, color=LATENT)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="latent units, largest rate first", ylabel="KL, nats per example")
    return ax


def png(ax: Axes) -> bytes:
    """The figure of ``ax`` as a PNG, for a widget to show; the figure is closed."""
    buffer = BytesIO()
    plt.figure(ax.get_figure(root=True)).savefig(buffer, format="png")
    plt.close()
    return buffer.getvalue()


_VALIDATION = "validation/"


def _training_term(term):
    return term.removeprefix(_VALIDATION)


def _plot_steps(ax, steps, values, smooth, colour):
    ax.plot(steps, values, color=colour, linewidth=0.5, alpha=0.35)
    return ax.plot(_mean(steps, smooth), _mean(values, smooth), color=colour)


def _plot_epochs(ax, steps, values, smooth, colour):
    # The ends of the epochs: only near them when the last epoch was cut short.
    ends = np.linspace(len(steps) / len(values), len(steps), len(values))
    return ax.plot(ends, values, "o--", color=colour, markersize=4)


def _mean(values, window):
    """Means over ``window`` neighbours on the first axis, where all of them exist."""
    window = min(window, len(values))
    return np.lib.stride_tricks.sliding_window_view(values, window, 0).mean(-1)


def _opaque(images):
    """Red, green, blue and 1 for every pixel."""
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[3] not in (1, 3) or not len(images):
        raise ValueError(
            "Expected (n, height, width) or (n, height, width, channels) with 1 "
            f"channel or 3, got shape {images.shape}."
        )
    if not np.issubdtype(images.dtype, np.floating):
        raise TypeError(
            f"Expected floats, got {images.dtype}: bring 8-bit images to [0, 1] by "
            "x.astype(float) / 255."
        )
    colours = np.broadcast_to(images.clip(0, 1), (*images.shape[:3], 3))
    return np.concatenate([colours, np.ones_like(colours[..., :1])], axis=3)


def _mosaic(tiles, rows, columns):
    """The tiles in a grid with transparent gaps, and the distance between two."""
    n, height, width, _ = tiles.shape
    gap = max(1, width // 14)
    pitch = height + gap, width + gap
    grid = np.zeros((rows * columns, *pitch, 4))
    grid[:n, :height, :width] = tiles
    grid = grid.reshape(rows, columns, *pitch, 4).swapaxes(1, 2)
    grid = grid.reshape(rows * pitch[0], columns * pitch[1], 4)
    return grid[:-gap, :-gap], pitch
