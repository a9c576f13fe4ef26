"""Still pictures of the explorers, for front-ends that run no scripts."""

import io

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from ..models import VAE
from .conditioned import At, dial_of

HUES = (
    *("#3b5fa0", "#b3590a", "#b8383c", "#1f7f7c", "#3f7d2f"),
    *("#86700a", "#82479b", "#c02f6b", "#7a5540", "#4f5d6e"),
)


def png(figure: Figure, colours: int = 128) -> bytes:
    """The figure as a small PNG, on white."""
    whole, small = io.BytesIO(), io.BytesIO()
    figure.savefig(whole, format="png", dpi=100, facecolor="white")
    image = (
        Image.open(whole).convert("RGB").quantize(colours, Image.Quantize.MAXCOVERAGE)
    )
    image.save(small, "png", optimize=True)
    return small.getvalue()


def codes(
    axes: Axes,
    means: Float[np.ndarray, "n 2"],
    labels: UInt8[np.ndarray, " n"],
    reach: float,
):
    """A map of encoded digits over the prior's circles at 1, 2 and 3 sd."""
    turn = np.linspace(0, 2 * np.pi, 100)
    for r in (1, 2, 3):
        axes.plot(r * np.cos(turn), r * np.sin(turn), color="#c9cfd6", lw=0.7)
    for mean, label in zip(means, labels, strict=True):
        style = {"ha": "center", "va": "center", "clip_on": True}
        axes.text(
            mean[0],
            mean[1],
            str(label),
            color=HUES[label],
            size=6,
            weight="bold",
            **style,
        )
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axes.set(xticks=[], yticks=[])


def plane(axes: Axes, model, reach: float, tiles: int = 13):
    """What the decoder makes of a grid of points in the latent plane."""
    at = ((np.arange(tiles) + 0.5) / tiles * 2 - 1) * reach
    grid = np.stack(np.meshgrid(at, -at), -1).reshape(-1, 2).astype(np.float32)
    images = jax.vmap(lambda z: model.p_x(z).mean)(jnp.asarray(grid))
    images = np.asarray(images).reshape(tiles, tiles, 28, 28).swapaxes(1, 2)
    axes.imshow(images.reshape(28 * tiles, -1), cmap="gray_r", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])


def latent(
    vae: VAE,
    digits: UInt8[np.ndarray, "n 784"],
    labels: UInt8[np.ndarray, " n"],
    betas: tuple[float, ...] = (0.0, 1.0, 8.0, 24.0),
) -> bytes:
    """The latent plane at four β: the encoded digits, and the decoded points."""
    x = jnp.asarray(digits.reshape(-1, 28, 28, 1) / 255, jnp.float32)
    figure = Figure(figsize=(8.4, 4.5), layout="constrained")
    panels = figure.subplots(2, len(betas))
    for (top, bottom), beta in zip(panels.T, betas, strict=True):
        model = At(vae, jnp.asarray(dial_of(beta), jnp.float32))
        means = np.asarray(jax.vmap(lambda x, m=model: m.q_z(x).loc)(x))
        reach = max(3.3, 1.06 * float(np.quantile(np.abs(means).max(1), 0.99)))
        codes(top, means, labels, reach)
        top.set_title(f"β = {beta:g}", size=11)
        plane(bottom, model, reach)
    panels[0, 0].set_ylabel("encoded digits")
    panels[1, 0].set_ylabel("decoded points")
    return png(figure)
