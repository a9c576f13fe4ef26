"""Losses of a BATCH, to be minimised: ``(model, batch, key) -> (value, terms)``.

The value is a mean over the batch of sums over the event, in nats per example.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from .typing import PRNGKey


def mean_over_batch(bound: Callable) -> Callable:
    """The mean of a per-example bound over a batch, with one key an example."""

    def loss(model, batch, key, **weights):
        keys = jr.split(key, len(jax.tree.leaves(batch)[0]))
        values, terms = jax.vmap(partial(bound, model, **weights))(batch, keys)
        return values.mean(), jax.tree.map(jnp.mean, terms)

    return loss


def binarized(loss: Callable) -> Callable:
    """The loss on a fresh binarization of the batch: each pixel is 1 with its value.

    Salakhutdinov & Murray 2008; drawn anew at every call, so at every training step.
    """

    def on_coins(model, batch, key, **weights):
        key_x, key = jr.split(key)
        return loss(model, binarize(batch, key_x), key, **weights)

    return on_coins


def binarize(x: Float[Array, "..."], key: PRNGKey) -> Float[Array, "..."]:
    """One draw of independent coins with probabilities x in [0, 1], as floats.

    Compared with 16 random bits a pixel, half the cost of a uniform float; 0 and 1 stay
    exact, the rest is right to 2⁻¹⁶. NaN where x is outside [0, 1].
    """
    bits = jr.bits(key, x.shape, jnp.uint16)
    coins = (bits < jnp.ceil(x * 65536)).astype(x.dtype)
    return jnp.where((x >= 0) & (x <= 1), coins, jnp.nan)
