"""One pass over the data, compiled whole, and the checks of what it is given."""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr


def _epoch(carry, data, key, step, batch_size, length):
    """``length`` steps over ``data`` in a new random order: a scan over its steps."""
    order, key = _batches(data, key, batch_size, length)

    def body(carry, inputs):
        i, rows = inputs
        *carry, terms = step.update(*carry, _rows(data, rows), jr.fold_in(key, i))
        return tuple(carry), terms

    return jax.lax.scan(body, carry, (jnp.arange(length), order))


_static = ("step", "batch_size", "length")
epoch = jax.jit(_epoch, static_argnames=_static)


@partial(jax.jit, static_argnames=_static)
def epoch_of_many(carry, data, key, *, step, batch_size, length):
    """The same for n models at once, with a key each."""
    run = partial(_epoch, step=step, batch_size=batch_size, length=length)
    return jax.vmap(run, (0, None, 0))(carry, data, key)


def epoch_by_step(carry, data, key, *, step, batch_size, length):
    """The same pass as ``epoch`` with one dispatch a step."""
    history = []
    order, key = _batches(data, key, batch_size, length)
    for i, rows in enumerate(order):
        carry, terms = _one_step(carry, data, rows, jr.fold_in(key, i), step)
        history.append(terms)
    return carry, jax.tree.map(lambda *terms: jnp.stack(terms), *history)


@partial(jax.jit, static_argnums=4)
def _one_step(carry, data, rows, key, step):
    *carry, terms = step.update(*carry, _rows(data, rows), key)
    return tuple(carry), terms


def _rows(data, rows):
    return jax.tree.map(lambda leaf: leaf[rows], data)


def _batches(data, key, batch_size, length):
    """Rows of one pass in random order, batch by batch, and the key of its steps."""
    n = len(jax.tree.leaves(data)[0])
    key_order, key_steps = jr.split(key)
    order = jr.permutation(key_order, n)[: length * batch_size]
    return order.reshape(length, -1), key_steps


def plan(data, batch_size, epochs, steps):
    """The data on the device, and the number of steps in each epoch."""
    data = jax.tree.map(jnp.asarray, data)
    n = count(data)
    if not 1 <= batch_size <= n:
        raise ValueError(
            f"Expected a batch size from 1 to the {n} examples of the data, got "
            f"{batch_size}."
        )
    if (epochs is None) == (steps is None) or (epochs or steps or 0) < 1:
        raise ValueError(
            f"Expected either epochs or steps, 1 or more, got {epochs=} and {steps=}."
        )
    per_epoch = n // batch_size
    whole, part = divmod(steps or epochs * per_epoch, per_epoch)
    return data, [per_epoch] * whole + [part] * (part > 0)


def count(data):
    """How many examples the data has."""
    sizes = {len(leaf) if leaf.ndim else 0 for leaf in jax.tree.leaves(data)}
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(
            "Expected one example or more, the same number in every array of the data, "
            f"got leading axes {sorted(sizes)}."
        )
    return sizes.pop()


def check_key(key, ndim=0):
    """Refuse keys of the old style and, with ``ndim``, keys of another rank."""
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        raise TypeError(
            f"Expected a key from jax.random.key(seed), got {key.dtype} of shape "
            f"{key.shape}: that is an old-style key, from jax.random.PRNGKey."
        )
    if key.ndim != ndim:
        raise ValueError(
            f"Expected {'one key' if ndim == 0 else 'one key a model'}, got keys of "
            f"shape {key.shape}."
        )
