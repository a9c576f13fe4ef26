"""Training: a step is a pair of pure functions, and fitting is a scan over steps."""

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Key, PyTree

from .checkpoints import Folder, fingerprint
from .epochs import check_key, count, epoch, epoch_by_step, epoch_of_many, plan
from .failures import NonFiniteError, first_failure, is_finite
from .typing import History, PRNGKey, Terms


class Step(NamedTuple):
    """One update of a model, in the shape of an ``optax.GradientTransformation``.

    ``init(model, **weights) -> state``
    ``update(model, state, batch, key) -> (model, state, terms)``
    """

    init: Callable
    update: Callable


def minimise(
    loss: Callable,
    tx: optax.GradientTransformation,
    wrt=nnx.Param,
    **schedules: optax.Schedule,
) -> Step:
    """Step down the gradient of ``loss`` in the variables that ``wrt`` selects.

    Each schedule (step -> value, as in optax) is passed to ``loss`` under its name, and
    so is each constant weight given to ``fit``; both are recorded among the terms.
    """

    def init(model, **weights):
        weights = {k: jnp.asarray(v, jnp.float32) for k, v in weights.items()}
        return jnp.zeros((), jnp.int32), weights, tx.init(nnx.state(model, wrt))

    def update(model, state, batch, key):
        count, weights, opt_state = state
        given = weights | {name: f(count) for name, f in schedules.items()}
        graphdef, params, rest = nnx.split(model, wrt, ...)

        def objective(params):
            # Copied, because a loss may change variables that are no parameters.
            model = nnx.merge(graphdef, params, rest, copy=True)
            value, terms = loss(model, batch, key, **given)
            terms = {"loss": value} | terms | given
            return value, (terms, nnx.split(model, wrt, ...)[2])

        grads, (terms, rest) = jax.grad(objective, has_aux=True)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        model = nnx.merge(graphdef, optax.apply_updates(params, updates), rest)
        return model, (count + 1, weights, opt_state), terms

    return Step(init, update)


def alternate(**players: Step) -> Step:
    """Let each player step in turn on the same batch; terms are named player/term."""

    def init(model):
        return {name: step.init(model) for name, step in players.items()}

    def update(model, states, batch, key):
        terms = {}
        keys = jr.split(key, len(players))
        for (name, step), k in zip(players.items(), keys, strict=True):
            model, state, new = step.update(model, states[name], batch, k)
            states = states | {name: state}
            terms |= {f"{name}/{term}": value for term, value in new.items()}
        return model, states, terms

    return Step(init, update)


def fit(
    model,
    step: Step,
    data: PyTree,
    *,
    key: PRNGKey,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int = 128,
    validate: Callable[[Any, PRNGKey], Terms] | None = None,
    checkpoint: str | Path | None = None,
    every: int = 1,
    scan: bool = True,
    **weights,
) -> tuple[Any, History]:
    """Train for ``epochs`` over ``data`` or for ``steps``, and return (model, history).

    ``history`` holds one number a step for each term of the step, and one number an
    epoch for each term of ``validate``, named validation/term.

    Args:
        model: an ``nnx.Module``; it is left as it was.
        step: what to do with a batch, from ``minimise`` or ``alternate``.
        data: a pytree of arrays with the examples on their first axis.
        key: the only source of randomness: epoch e uses ``fold_in(key, e)``, which is
            split into a key for the order and one for the steps, again folded in.
        epochs: passes over the data, each in a new random order. What is left after
            the last full batch sits one epoch out.
        steps: instead of ``epochs``; the last pass may then be a part of one.
        batch_size: examples a step.
        validate: ``(model, key) -> terms`` after every epoch, always with one key.
        checkpoint: a folder. The run is saved there, and continues from there when
            called again: to the last bit, on a CPU.
        every: epochs between checkpoints.
        scan: one compiled scan an epoch. False compiles one step instead, for
            convolutional models on a CPU (https://github.com/jax-ml/jax/issues/12868).
        **weights: constant weights of the loss, such as ``beta=4.0``. They are traced:
            another value does not compile anew.

    Raises:
        NonFiniteError: at the first NaN or infinity among terms or parameters.
        ValueError: for data, sizes or a checkpoint that cannot be trained on.
        TypeError: for integer images, or an old-style key.

    """
    check_key(key)
    data, lengths = plan(data, batch_size, epochs, steps)
    one_pass = epoch if scan else epoch_by_step
    run = partial(one_pass, data=data, step=step, batch_size=batch_size)
    folder = None
    if checkpoint is not None:
        same = fingerprint(data, key, batch_size, weights)
        folder = Folder(checkpoint, every, same)
    carry = model, step.init(model, **weights)
    return _train(run, carry, lengths, jr.fold_in, key, validate, folder)


def fit_many(
    models,
    step: Step,
    data: PyTree,
    *,
    keys: Key[Array, " n"],
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int = 128,
    **weights,
) -> tuple[Any, History]:
    """Fit n models at once, one a key: ``fit`` under ``vmap``.

    ``models`` and ``weights`` have a leading axis of n: make the models by
    ``jax.vmap(lambda k: make(nnx.Rngs(k)))(init_keys)``, and sweep a weight by
    ``beta=jnp.array([...])``. The history's arrays are (n, steps).

    Raises:
        NonFiniteError: when any of the models fails; all n are in the error.
        ValueError: as ``fit``, and for a weight without one value a model.

    """
    check_key(keys, 1)
    data, lengths = plan(data, batch_size, epochs, steps)
    run = partial(epoch_of_many, data=data, step=step, batch_size=batch_size)
    for name, value in weights.items():
        if jnp.shape(value) != keys.shape:
            raise ValueError(
                f"Expected {name} with one value for each of the {len(keys)} models, "
                f"got shape {jnp.shape(value)}."
            )
    carry = models, jax.vmap(step.init)(models, **weights)
    return _train(run, carry, lengths, jax.vmap(jr.fold_in, (0, None)), keys)


# No epoch gets this number, so validation draws what no epoch draws.
_VALIDATION = 2**32 - 1


def _train(run, carry, lengths, fold_in, key, validate=None, folder=None):
    """Run the epochs, from the newest checkpoint on where there is one."""
    done, history = 0, {}
    if folder:
        done, carry, history = folder.restore(carry, len(lengths))
    for e in _progress(range(done, len(lengths))):

        def one_epoch(carry, length, e=e):
            return run(carry, key=fold_in(key, e), length=length)

        new, terms = one_epoch(carry, lengths[e])
        terms = {name: np.asarray(values) for name, values in terms.items()}
        if not is_finite(new[0], terms):
            failure = first_failure(one_epoch, carry, terms, sum(lengths[:e]))
            history = {k: v[..., : failure[0]] for k, v in _joined(history, terms)}
            raise NonFiniteError(*failure, history)
        carry = new
        if validate:
            found = validate(carry[0], fold_in(key, _VALIDATION))
            terms |= {f"validation/{k}": np.asarray(v)[None] for k, v in found.items()}
        history = dict(_joined(history, terms))
        if folder and (e + 1) % folder.every == 0 and lengths[e] == lengths[0]:
            folder.save(e + 1, carry, history)
    return carry[0], history


def _joined(history, terms):
    for name, new in terms.items():
        yield name, np.concatenate([history[name], new], -1) if history else new


def _progress(epochs):
    """A bar in a terminal or a live notebook; silence where a book or a test runs."""
    live = {"JPY_SESSION_NAME", "COLAB_RELEASE_TAG"} & os.environ.keys()
    if not (live or sys.stderr.isatty()):
        return epochs
    from tqdm.auto import tqdm

    return tqdm(epochs, unit="epoch", leave=False)


@partial(jax.jit, static_argnames=("loss", "batch_size"))
def evaluate(
    loss: Callable, model, data: PyTree, key: PRNGKey, *, batch_size: int = 128
) -> Terms:
    """Mean of the loss and of its terms over ALL of ``data``, the last batch too.

    Batches are weighted by their size, so a mean over examples is exact. A loss that
    couples the examples of a batch depends on ``batch_size``.

    Raises:
        ValueError: for empty data, or arrays of different lengths.
        TypeError: for an old-style key.

    """
    check_key(key)
    n = count(data)
    size = min(batch_size, n)
    full, rest = divmod(n, size)
    key_full, key_rest = jr.split(key)

    def one(batch_and_key):
        value, terms = loss(model, *batch_and_key)
        return {"loss": value} | terms

    def batches(leaf):
        return leaf[: full * size].reshape(full, size, *leaf.shape[1:])

    inputs = jax.tree.map(batches, data), jr.split(key_full, full)
    means = jax.tree.map(jnp.mean, jax.lax.map(one, inputs))
    if not rest:
        return means
    tail = one((jax.tree.map(lambda leaf: leaf[n - rest :], data), key_rest))
    return jax.tree.map(lambda m, t: ((n - rest) * m + rest * t) / n, means, tail)
