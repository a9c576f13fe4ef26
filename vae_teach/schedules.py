"""Schedules of a weight: ``step -> value``, counted in training steps, as in optax."""

import optax


def linear(steps: int, *, end: float = 1.0) -> optax.Schedule:
    """From 0 to ``end`` over ``steps`` steps, then constant: min(step / steps, 1) end.

    The KL annealing of Bowman et al. 2016, with a straight ramp. Count in steps, not
    epochs: an epoch of a larger data set is longer.
    """
    if steps < 1:
        raise ValueError(f"Expected one step or more, got {steps}.")
    return optax.linear_schedule(0.0, end, steps)
