"""What training does at its first NaN or infinity."""

import jax
import jax.numpy as jnp
import numpy as np


class NonFiniteError(FloatingPointError):
    """Training met a NaN or an infinity; carries the last finite model.

    Attributes:
        step: the step whose terms are not finite, counted from 0 over the whole run.
        terms: the names of those terms; empty when only a parameter is not finite.
        model: the model before the update that spoiled it.
        history: the terms of the steps before.

    """

    def __init__(self, step, terms, model, history):
        what = f"the terms {terms}" if terms else "a parameter, after the update,"
        super().__init__(
            f"At step {step}, {what} became NaN or infinite. What to try: data outside "
            "the likelihood's support (a Bernoulli wants [0, 1]); a smaller learning "
            "rate, or optax.clip_by_global_norm before it; logits rather than "
            "probabilities; a floor under a learned scale. The last finite model is "
            "this error's .model, and the terms up to here are its .history."
        )
        self.step, self.terms, self.model, self.history = step, terms, model, history


def is_finite(model, terms: dict) -> bool:
    """Whether every term and every floating-point leaf of the model is finite."""
    return all(np.isfinite(v).all() for v in terms.values()) and _finite(model)


def _finite(model):
    # In NumPy: a compiled check takes a third of a second anew for every model.
    leaves = [a for a in jax.tree.leaves(model) if jnp.issubdtype(a.dtype, jnp.inexact)]
    return all(np.isfinite(np.asarray(leaf)).all() for leaf in leaves)


def first_failure(run, carry, terms: dict, done: int):
    """(step, names, model) of the first failure in an epoch that began with ``carry``.

    The epoch is run again, up to the last step that leaves everything finite: nothing
    has to be kept or tested while all is well.
    """
    length = next(iter(terms.values())).shape[-1]
    bad = {k: ~np.isfinite(v).reshape(-1, length).all(0) for k, v in terms.items()}
    first = min([int(b.argmax()) for b in bad.values() if b.any()], default=length - 1)
    names = [name for name, b in bad.items() if b[first]]
    for steps in range(first, 0, -1):
        (model, _), _ = run(carry, steps)
        if _finite(model):
            return done + first, names, model
    return done + first, names, carry[0]
