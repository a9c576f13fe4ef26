"""Quantisers: from the encoder's output to codes, which are integers, and to vectors.

A quantiser is the piece of ``vq.VQVAE`` between encoder and decoder. It takes the
encoder's output for ONE example, an array (*grid, d): d numbers at each place, a token.
``quantiser(h)`` gives the codes, and what a loss needs to train with them; the vectors
of codes are ``quantiser.vectors(codes)``.
"""

from collections.abc import Callable
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from flax import nnx
from jax.lax import stop_gradient
from jaxtyping import Array, Float, Int, PyTree, Shaped

from .typing import Scalar

Tokens = Float[Array, "*grid d"]
Codes = Int[Array, "*grid"]


class Quantised(NamedTuple):
    """What a quantiser makes of one encoder output.

    ``codes``: one integer a token; ``vectors``: those of the codes, with a gradient
    that goes straight through to the encoder; ``codebook``: |sg(y) - e|², which trains
    the codebook, or 0; ``commitment``: |y - sg(e)|², which trains the encoder. Both are
    sums over the tokens; sg stops the gradient.
    """

    codes: PyTree
    vectors: Tokens
    codebook: Scalar
    commitment: Scalar


def straight_through(y: Tokens, e: Tokens) -> Tokens:
    """The value e, to the last bit, with the gradient of y (Bengio et al. 2013).

    To round has slope 0 almost everywhere, so that no loss behind it would reach the
    encoder. What it should do to y is taken to be what it would do to e.
    """
    return stop_gradient(e) + (y - stop_gradient(y))


def unit(v: Tokens) -> Tokens:
    """Vectors of length 1: v / |v|, token by token."""
    return v / jnp.sqrt((v**2).sum(-1, keepdims=True) + 1e-12)


class Codebook(nnx.Module):
    """What both codebooks share: one vector a code, and a token gets the nearest.

    ``project`` is applied to tokens and vectors alike before they are compared: with
    ``unit`` only directions count (the l2-normalised codes of Yu et al. 2022). The
    vectors start as U(-1/codes, 1/codes), as in most published code: a small cloud at
    the origin, of which a few codes win all tokens (``vq.restarts`` is the cure).
    """

    def __init__(self, codes: int, size: int, kind, project: Callable, rngs: nnx.Rngs):
        self.size, self.project = codes, project
        start = jr.uniform(rngs.params(), (codes, size), minval=-1, maxval=1)
        self.table = kind(start / codes)

    @property
    def codebooks(self) -> list["Codebook"]:
        """The codebooks in this quantiser: itself."""
        return [self]

    def inputs(self, h: Tokens) -> list[Tokens]:
        """What each of ``codebooks`` gets, from the encoder's output."""
        return [self.project(h)]

    def codes(self, y: Tokens) -> Codes:
        """argmin_k |y - e_k|² of each token; the first of several.

        Raises:
            ValueError: for tokens of another size than the vectors.

        """
        table = self.project(self.table[...])
        if y.shape[-1:] != table.shape[1:]:
            raise ValueError(
                f"Expected tokens of {table.shape[1]} numbers, in an array (*grid, "
                f"{table.shape[1]}), got shape {y.shape}: give encoder and codebook "
                "one size."
            )
        tokens = y.reshape(-1, y.shape[-1])
        distances = (table**2).sum(-1)[None] / 2 - tokens @ table.T  # but for |y|²/2
        return distances.argmin(-1).reshape(y.shape[:-1])

    def vectors(self, codes: Codes) -> Tokens:
        """e_k of each code k."""
        return self.project(self.table[...])[codes]


class LearnedCodebook(Codebook):
    """A codebook trained by the codebook loss |sg(y) - e|² (van den Oord et al. 2017).

    Its vectors are parameters: ``minimise`` moves them by 2 (e - y) for each token y of
    the code.

        LearnedCodebook(256, 16, rngs=rngs)   # 256 codes of 16 numbers
    """

    def __init__(
        self,
        codes: int,
        size: int,
        *,
        project: Callable = jax.nn.identity,
        rngs: nnx.Rngs,
    ):
        super().__init__(codes, size, nnx.Param, project, rngs)

    def __call__(self, h: Tokens) -> Quantised:
        """Codes, vectors, and both losses."""
        y = self.project(h)
        codes = self.codes(y)
        e = self.vectors(codes)
        codebook, commitment = _squared(e, y), _squared(y, e)
        return Quantised(codes, straight_through(y, e), codebook, commitment)

    def place(self, chosen: Shaped[Array, " k"], y: Float[Array, "k d"]):
        """Put the chosen codes at other vectors."""
        self.table[...] = jnp.where(chosen[:, None], y, self.table[...])


class Tracked(nnx.Variable):
    """State of a codebook that no optimiser moves, and no gradient reaches."""


class MovingCodebook(Codebook):
    """A codebook of moving averages: e_k = m_k/N_k of the tokens of code k.

    N ← γN + (1 - γ) n and m ← γm + (1 - γ) Σ y, with n tokens in the batch (van den
    Oord et al. 2017, appendix A.1): online k-means, with γ = 0 one step of Lloyd's.
    Both averages start from 0, a bias that cancels in their ratio; a code without
    tokens stays where it is, and no smoothing is needed.

    It has no codebook loss and no parameters, so the two cannot both move it.
    ``vq.moving_averages`` does: without that player the vectors stay where they start.
    """

    def __init__(
        self,
        codes: int,
        size: int,
        *,
        project: Callable = jax.nn.identity,
        rngs: nnx.Rngs,
    ):
        super().__init__(codes, size, Tracked, project, rngs)
        self.counts = Tracked(jnp.zeros(codes))

    def __call__(self, h: Tokens) -> Quantised:
        """Codes, vectors, and the commitment; the codebook loss is 0."""
        y = self.project(h)
        codes = self.codes(y)
        e = stop_gradient(self.vectors(codes))
        return Quantised(codes, straight_through(y, e), jnp.zeros(()), _squared(y, e))

    def move(self, y: Float[Array, "n d"], decay: float | Scalar):
        """One step of the averages, from the tokens of a batch."""
        codes, e = self.codes(y), self.table[...]
        n = jnp.bincount(codes, length=self.size).astype(e.dtype)
        sums = jax.ops.segment_sum(y, codes, self.size)
        counts = decay * self.counts[...] + (1 - decay) * n
        # m/N after the step, from e = m/N before it; where N is 0, so is n.
        rate = (1 - decay) / counts.clip(jnp.finfo(e.dtype).tiny)
        self.table[...] = e + rate[:, None] * (sums - n[:, None] * e)
        self.counts[...] = counts

    def place(self, chosen: Shaped[Array, " k"], y: Float[Array, "k d"]):
        """Put the chosen codes at other vectors, with nothing counted for them yet."""
        self.table[...] = jnp.where(chosen[:, None], y, self.table[...])
        self.counts[...] = jnp.where(chosen, 0, self.counts[...])


class FiniteScalar(nnx.Module):
    """Finite scalar quantisation: round each of d numbers to its levels, and no table.

    Number j becomes one of L_j values evenly spaced from -1 to 1, the one nearest to
    tanh(h_j); a code is the number of the combination, of Π L_j (Mentzer et al. 2024,
    who for even L_j shift the levels so that 0 is one). Nothing is learned here, no
    loss is needed, and a code that no token has is one step from codes that have some.

        FiniteScalar((8, 6, 5))   # 240 codes; the encoder gives 3 numbers a token
    """

    codebooks = ()

    def __init__(self, levels: tuple[int, ...]):
        if not levels or min(levels) < 2:
            raise ValueError(f"Expected two levels or more a number, got {levels}.")
        self.levels, self.size = tuple(levels), prod(levels)

    def __call__(self, h: Tokens) -> Quantised:
        """Codes and vectors; both losses are 0."""
        if h.shape[-1:] != (len(self.levels),):
            raise ValueError(
                f"Expected {len(self.levels)} numbers a token, one for each of the "
                f"levels {self.levels}, got shape {h.shape}: change the encoder's size."
            )
        y = jnp.tanh(h)
        codes = self.codes(y)
        vectors = straight_through(y, self.vectors(codes))
        return Quantised(codes, vectors, jnp.zeros(()), jnp.zeros(()))

    def inputs(self, h: Tokens) -> list[Tokens]:
        """Nothing: there is no codebook."""
        del h
        return []

    def codes(self, y: Tokens) -> Codes:
        """The digits of the nearest levels, read as one number."""
        top = _along(self.levels, y.shape) - 1
        digits = jnp.round((y + 1) / 2 * top).astype(int)
        return (digits * _along(self._weights, y.shape)).sum(-1)

    def vectors(self, codes: Codes) -> Tokens:
        """The levels of each code, in [-1, 1]."""
        shape = (*codes.shape, len(self.levels))
        levels, weights = _along(self.levels, shape), _along(self._weights, shape)
        digits = codes[..., None] // weights % levels
        return 2 * digits / (levels - 1) - 1

    @property
    def _weights(self):
        return [prod(self.levels[:j]) for j in range(len(self.levels))]


def _squared(a, b):
    """The squared distance, with a gradient in a alone."""
    return ((a - stop_gradient(b)) ** 2).sum()


def _along(values, shape):
    """Numbers of the last axis, for an array of this shape."""
    return jnp.broadcast_to(jnp.asarray(values), shape)
