"""Schedules: ``step -> value``, counted in training steps, as in optax.

They are weights of a loss, ``minimise(loss, tx, beta=linear(1000))``; ``every`` is for
an optimiser. Count in steps, not epochs: an epoch of a larger data set is longer.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax


def linear(steps: int, *, end: float = 1.0) -> optax.Schedule:
    """From 0 to ``end`` over ``steps`` steps, then constant: min(step / steps, 1) end.

    As ``beta`` the KL annealing of Bowman et al. 2016, with a straight ramp; as the
    ``target`` of ``bounds.capacity``, in nats, the rising capacity of Burgess et al.
    2018.

    Raises:
        ValueError: for fewer steps than one.

    """
    _check_steps(steps)
    return optax.linear_schedule(0.0, end, steps)


def cyclical(cycle: int, cycles: int = 4, *, ramp: float = 0.5) -> optax.Schedule:
    """``cycles`` times from 0 to 1 within ``cycle`` steps; then 1 for good.

    In a cycle min(s / (ramp cycle), 1) at its step s = 0, 1, ...: a straight rise over
    the first share ``ramp`` of it, then 1 (Fu et al. 2019: 4 cycles, half of each a
    ramp).

    Raises:
        ValueError: for no step or cycle, or a ramp that is not in (0, 1].

    """
    _check_steps(cycle)
    if cycles < 1 or not 0 < ramp <= 1:
        raise ValueError(
            f"Expected one cycle or more and a ramp in (0, 1], got {cycles} and {ramp}."
        )

    def schedule(count):
        rising = jnp.minimum((count % cycle) / (ramp * cycle), 1.0)
        return jnp.where(count < cycle * cycles, rising, 1.0)

    return schedule


def sigmoid(midpoint: int | float, width: int | float) -> optax.Schedule:
    """1 / (1 + exp(-(step - midpoint) / width)): the ramp of Bowman et al. 2016.

    Half-way at ``midpoint``, from 0.12 to 0.88 within two ``width`` on either side;
    both in steps. At step 0 it is exp(-midpoint / width), about, and not 0.

    Raises:
        ValueError: for a width that is not positive.

    """
    if not width > 0:
        raise ValueError(f"Expected a positive width, got {width}.")
    return lambda count: jax.nn.sigmoid((jnp.asarray(count) - midpoint) / width)


def every(steps: int) -> Callable:
    """True at the last of each ``steps`` steps, when a slower player moves.

    With it the encoder gets ``steps`` updates for one of the decoder, each on a new
    batch, against an encoder that lags behind (He et al. 2019)::

        slow = optax.conditionally_mask(adam, every(5))
        alternate(encoder=minimise(loss, adam, encoder_variables),
                  decoder=minimise(loss, slow, decoder_variables))

    Raises:
        ValueError: for fewer steps than one.

    """
    _check_steps(steps)
    return lambda count: count % steps == steps - 1


def _check_steps(steps):
    if steps < 1:
        raise ValueError(f"Expected one step or more, got {steps}.")
