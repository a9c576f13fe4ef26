"""Sprites: one white shape on black, drawn from five factors that are all known.

Shape, scale, rotation and place take the values of dSprites (Matthey et al. 2017); the
images are drawn here, at any size.
"""

from collections.abc import Sequence
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

SIZES = {"shape": 3, "scale": 6, "rotation": 40, "x": 32, "y": 32}
SHAPES = ("square", "ellipse", "heart")
REACH = 0.3  # half the side of the largest square; the image is 2 wide
PLAY = 0.5  # how far from the middle a sprite's own middle lies, at most
FINE = 4  # points a pixel and axis; their mean is the pixel


def factors(**values: Sequence[int]) -> Int[np.ndarray, "n 5"]:
    """Every combination of the values given; a factor not named takes all of its own.

    One row a sprite, in the order of ``SIZES``: ``factors(shape=[2], rotation=[0])``
    are the 6 x 32 x 32 upright hearts.

    Raises:
        ValueError: for an unknown factor, or a value that it does not have.

    """
    if unknown := values.keys() - SIZES.keys():
        raise ValueError(f"Expected some of {[*SIZES]}, got {sorted(unknown)}.")
    chosen = [values.get(name, range(size)) for name, size in SIZES.items()]
    rows = np.array([*product(*chosen)], np.int32).reshape(-1, len(SIZES))
    _check(rows)
    return rows


def render(
    factors: Int[Array | np.ndarray, "n 5"], *, side: int = 32
) -> Float[Array, "n side side 1"]:
    """The images of rows of factors, in [0, 1]: grey only where an edge cuts a pixel.

    Raises:
        ValueError: for a value that a factor does not have, or no row.

    """
    _check(np.asarray(factors))
    return _draw_all(jnp.asarray(factors), side)


def _check(rows):
    sizes = np.array([*SIZES.values()])
    if not len(rows) or (rows < 0).any() or (rows >= sizes).any():
        raise ValueError(
            f"Expected one row or more of whole numbers below {SIZES}, got shape "
            f"{rows.shape} and the largest values "
            f"{rows.max(0, initial=-1).tolist()}."
        )


@partial(jax.jit, static_argnames="side")
def _draw_all(rows, side):
    return jax.lax.map(partial(_draw, side=side), rows, batch_size=256)


def _draw(row, side):
    """One sprite: each fine point in the frame of the shape, and whether inside."""
    shape, scale, rotation, x, y = row
    at = (jnp.arange(side * FINE) + 0.5) / (side * FINE) * 2 - 1
    right, down = jnp.meshgrid(at, at)
    size = REACH * (0.5 + 0.5 * scale / (SIZES["scale"] - 1))
    u = (right - PLAY * (2 * x / (SIZES["x"] - 1) - 1)) / size
    v = (down - PLAY * (2 * y / (SIZES["y"] - 1) - 1)) / size
    angle = 2 * jnp.pi * rotation / SIZES["rotation"]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    inside = jax.lax.switch(shape, _INSIDE, cos * u + sin * v, cos * v - sin * u)
    fine = inside.reshape(side, FINE, side, FINE)
    return fine.mean((1, 3))[..., None]


def _square(u, v):
    return jnp.maximum(abs(u), abs(v)) < 1


def _ellipse(u, v):
    return u**2 + (2 * v) ** 2 < 1.5  # about as much white as in the others


def _heart(u, v):
    u, v = 1.1 * u, 1.1 * v
    return (u**2 + v**2 - 1) ** 3 + u**2 * v**3 < 0


_INSIDE = (_square, _ellipse, _heart)
