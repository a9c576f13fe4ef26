"""Networks: arrays of ONE example in, arrays out, no probability.

Every network takes any number of inputs and says what it needs when it gets something
else. On a CPU prefer ``MLP`` and the patch networks: XLA runs the gradients of
convolutions inside a scan several times slower.
"""

from collections.abc import Callable
from itertools import pairwise
from math import prod

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Shaped

Shape = tuple[int, ...]
Image = Float[Array, "height width channels"]


class MLP(nnx.Module):
    """A multilayer perceptron on the concatenation of its inputs.

    ``sizes`` are the widths from input to output. A shape may stand for a width: the
    inputs are raveled, the output takes the last shape.

        MLP((28, 28, 1), 400, 2 * 20, rngs=rngs)   # image -> parameters of q(z|x)
        MLP(20, 400, (28, 28, 1), rngs=rngs)       # z -> logits of p(x|z)
    """

    def __init__(
        self, *sizes: int | Shape, activation: Callable = jax.nn.relu, rngs: nnx.Rngs
    ):
        if len(sizes) < 2:
            raise ValueError(f"Expected an input and an output size, got {sizes}.")
        widths = [prod(s) if isinstance(s, tuple) else s for s in sizes]
        self.width, self.activation = widths[0], activation
        self.shape = sizes[-1] if isinstance(sizes[-1], tuple) else (sizes[-1],)
        layers = [nnx.Linear(i, o, rngs=rngs) for i, o in pairwise(widths)]
        self.layers = nnx.data(layers)

    def __call__(self, *inputs: Shaped[Array, "..."]) -> Float[Array, "..."]:
        """The last layer's output, in its shape, with no activation."""
        h = joined(inputs, self.width)
        for layer in self.layers[:-1]:
            h = self.activation(layer(h))
        return self.layers[-1](h).reshape(self.shape)


def joined(inputs: tuple[Array, ...], width: int) -> Shaped[Array, " width"]:
    """The inputs, raveled, end to end."""
    h = jnp.concatenate([jnp.ravel(i) for i in inputs])
    if h.size == width:
        return h
    raise ValueError(
        f"Expected inputs of {width} numbers in all, got shapes "
        f"{[i.shape for i in inputs]}: vmap over a batch, or change sizes[0]."
    )


class PatchEncoder(nnx.Module):
    """Image -> vector: one linear map for all patches, then an MLP on their codes."""

    def __init__(
        self, shape: Shape, patch: int, width: int, out: int, *, rngs: nnx.Rngs
    ):
        self.shape, self.grid = shape, _grid(shape, patch)
        self.embed = nnx.Linear(patch * patch * shape[2], width, rngs=rngs)
        self.mlp = MLP(prod(self.grid[::2]) * width, 2 * width, out, rngs=rngs)

    def __call__(
        self, x: Shaped[Array, "height width channels"]
    ) -> Float[Array, " out"]:
        """The MLP's output on all patch codes."""
        _check_image(x, self.shape)
        codes = self.embed(_cut(x, self.grid))
        return self.mlp(jax.nn.relu(codes))


class PatchDecoder(nnx.Module):
    """Vector -> image: the mirror of ``PatchEncoder``."""

    def __init__(
        self, size: int, width: int, patch: int, shape: Shape, *, rngs: nnx.Rngs
    ):
        self.grid = rows, p, columns, _ = _grid(shape, patch)
        self.mlp = MLP(size, 2 * width, (rows, columns, width), rngs=rngs)
        self.paint = nnx.Linear(width, p * p * shape[2], rngs=rngs)

    def __call__(self, *inputs: Shaped[Array, "..."]) -> Image:
        """An image of the given shape, with no activation."""
        patches = self.paint(jax.nn.relu(self.mlp(*inputs)))
        return _join(patches, self.grid)


class GridEncoder(nnx.Module):
    """Image -> grid of vectors, one a patch; each sees the 3 x 3 patches around it.

    With ``out`` numbers a place, in an array (height / patch, width / patch, out). For
    codes that stay where they are in the image.
    """

    def __init__(
        self, shape: Shape, patch: int, width: int, out: int, *, rngs: nnx.Rngs
    ):
        self.shape, self.grid = shape, _grid(shape, patch)
        self.embed = nnx.Linear(patch * patch * shape[2], width, rngs=rngs)
        self.mix = nnx.Linear(9 * width, width, rngs=rngs)
        self.head = nnx.Linear(width, out, rngs=rngs)

    def __call__(
        self, x: Shaped[Array, "height width channels"]
    ) -> Float[Array, "rows columns out"]:
        """One vector a patch, with no activation."""
        _check_image(x, self.shape)
        h = jax.nn.relu(self.embed(_cut(x, self.grid)))
        return self.head(jax.nn.relu(self.mix(windows(h, 1, 1, 1, 1))))


class GridDecoder(nnx.Module):
    """Grid of vectors -> image: the mirror of ``GridEncoder``.

    The first layer is one matrix for all places: for one-hot vectors a table of
    embeddings.
    """

    def __init__(
        self, size: int, width: int, patch: int, shape: Shape, *, rngs: nnx.Rngs
    ):
        self.size, self.grid = size, _grid(shape, patch)
        self.embed = nnx.Linear(size, width, rngs=rngs)
        self.mix = nnx.Linear(9 * width, width, rngs=rngs)
        self.paint = nnx.Linear(width, patch * patch * shape[2], rngs=rngs)

    def __call__(self, vectors: Shaped[Array, "rows columns size"]) -> Image:
        """An image of the given shape, with no activation."""
        _check_image(vectors, (*self.grid[::2], self.size))
        h = jax.nn.relu(self.embed(vectors))
        h = jax.nn.relu(self.mix(windows(h, 1, 1, 1, 1)))
        return _join(self.paint(h), self.grid)


class ConvEncoder(nnx.Module):
    """Image of any size -> vector: stride-2 convolutions, then one linear layer."""

    def __init__(self, shape: Shape, widths: Shape, out: int, *, rngs: nnx.Rngs):
        _check_shape(shape)
        sides, channels = _halvings(shape, len(widths)), (shape[2], *widths)
        self.shape = shape
        sizes = pairwise(channels)
        convs = [nnx.Conv(i, o, (4, 4), strides=2, rngs=rngs) for i, o in sizes]
        self.convs = nnx.data(convs)
        self.head = nnx.Linear(prod(sides[-1]) * channels[-1], out, rngs=rngs)

    def __call__(
        self, x: Shaped[Array, "height width channels"]
    ) -> Float[Array, " out"]:
        """The linear layer's output on the raveled features."""
        _check_image(x, self.shape)
        for conv in self.convs:
            x = jax.nn.relu(conv(x))
        return self.head(x.ravel())


class ConvDecoder(nnx.Module):
    """Vector -> image of any size: the mirror of ``ConvEncoder``.

    Each transposed convolution doubles both sides; one row or column is cut where the
    encoder halved an odd side.
    """

    def __init__(self, size: int, widths: Shape, shape: Shape, *, rngs: nnx.Rngs):
        _check_shape(shape)
        self.sides, channels = _halvings(shape, len(widths))[::-1], (*widths, shape[2])
        self.stem = MLP(size, (*self.sides[0], widths[0]), rngs=rngs)
        sizes = pairwise(channels)
        convs = [
            nnx.ConvTranspose(i, o, (4, 4), strides=2, rngs=rngs) for i, o in sizes
        ]
        self.convs = nnx.data(convs)

    def __call__(self, *inputs: Shaped[Array, "..."]) -> Image:
        """An image of the given shape, with no activation."""
        h = self.stem(*inputs)
        for conv, (height, width) in zip(self.convs, self.sides[1:], strict=True):
            h = conv(jax.nn.relu(h))[:height, :width]
        return h


def windows(
    x: Shaped[Array, "height width channels"],
    up: int,
    down: int,
    left: int,
    right: int,
) -> Shaped[Array, "height width more"]:
    """Each place's neighbours, side by side in the last axis; zeros outside.

    A matrix product of these is a convolution. In a scan on a CPU its gradient is four
    times faster than that of ``lax.conv``.
    """
    height, width, _ = x.shape
    x = jnp.pad(x, ((up, down), (left, right), (0, 0)))
    rows, columns = range(up + down + 1), range(left + right + 1)
    x = jnp.concatenate([x[:, j : j + width] for j in columns], -1)
    return jnp.concatenate([x[i : i + height] for i in rows], -1)


def _cut(x, grid):
    """The patches of an image, each raveled: (rows, columns, patch² channels)."""
    rows, p, columns, _ = grid
    return x.reshape(rows, p, columns, p, -1).swapaxes(1, 2).reshape(rows, columns, -1)


def _join(patches, grid):
    """The image that ``_cut`` cuts into these patches."""
    rows, p, columns, _ = grid
    image = patches.reshape(rows, columns, p, p, -1).swapaxes(1, 2)
    return image.reshape(rows * p, columns * p, -1)


def _halvings(shape: Shape, times: int) -> list[Shape]:
    """Sides of the image before and after each stride-2 convolution."""
    sides = [shape[:2]]
    for _ in range(times):
        height, width = sides[-1]
        sides.append((-(-height // 2), -(-width // 2)))
    return sides


def _grid(shape: Shape, patch: int) -> Shape:
    _check_shape(shape)
    if shape[0] % patch or shape[1] % patch:
        raise ValueError(
            f"Expected sides divisible by the patch, got {shape[:2]} and {patch}: "
            "choose a common divisor of the sides."
        )
    return shape[0] // patch, patch, shape[1] // patch, patch


def _check_shape(shape: Shape):
    if len(shape) != 3:
        raise ValueError(f"Expected (height, width, channels), got {shape}.")


def _check_image(x, shape: Shape):
    if x.shape != shape:
        raise ValueError(
            f"Expected one image of shape {shape}, got {x.shape}: vmap over a batch, "
            "or build the network for this shape."
        )
