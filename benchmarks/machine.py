"""What the machine can do: its best rate of matrix products, and the optimiser."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from flax import nnx

from .timing import Job, seconds


def products(rows: int, *sizes: int, at_least: float = 0.05) -> tuple[Job, int]:
    """Products of ``rows`` vectors with such matrices, and the FLOPs of one round.

    They go round in one compiled loop, from the last size back to the first, for
    ``at_least`` so many seconds, so that no call to start them is counted.
    """
    keys = jr.split(jr.key(0), len(sizes))
    pairs = list(pairwise(sizes))
    x = jr.normal(keys[0], (rows, sizes[0]))
    matrices = [
        jr.normal(k, pair) / pair[0] ** 0.5
        for k, pair in zip(keys[1:], pairs, strict=True)
    ]
    run = partial(_chain, x, matrices)
    seconds(partial(run, 1))
    times = max(1, round(at_least / seconds(partial(run, 1))))
    return Job(partial(run, times), times), 2 * rows * sum(i * o for i, o in pairs)


@jax.jit
def _chain(x, matrices, times):
    def once(_, x):
        for matrix in matrices:
            x = x @ matrix
        return x

    return jax.lax.fori_loop(0, times, once, x)


def updates(model: nnx.Module, tx: optax.GradientTransformation, times: int = 100):
    """The optimiser alone: ``times`` updates of the parameters, compiled whole."""
    params = nnx.state(model, nnx.Param)
    gradients = jax.tree.map(lambda p: jr.normal(jr.key(0), p.shape), params)
    # Scaled anew each time, or the loop would square the gradients once for all.
    scales = jnp.linspace(0.5, 1.5, times)
    run = partial(_updates, params, tx.init(params), gradients, scales, tx)
    return Job(run, times)


@partial(jax.jit, static_argnums=4)
def _updates(params, state, gradients, scales, tx):
    def once(carry, scale):
        params, state = carry
        scaled = jax.tree.map(lambda g: scale * g, gradients)
        changes, state = tx.update(scaled, state, params)
        return (optax.apply_updates(params, changes), state), None

    return jax.lax.scan(once, (params, state), scales)[0]
