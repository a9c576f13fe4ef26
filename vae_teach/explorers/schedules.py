"""The schedules explorer: ways to raise the KL's weight, and what came of them."""

from typing import Any, ClassVar, NamedTuple

import optax

from .. import schedules
from .explorer import HERE, Explorer

RATES = (0.003, 0.03)  # of Adam
LENGTHS = (400, 800, 1200)  # steps until beta is 1 for good
CYCLES = (2, 4)
MIDDLE, WIDTH = 1 / 2, 1 / 12  # of a sigmoid, as shares of its length


class Run(NamedTuple):
    """A schedule that was trained with: its shape, its length, its cycles."""

    shape: str
    length: int = 0
    cycles: int = 0

    def schedule(self) -> optax.Schedule:
        """Step -> beta, by ``vae_teach.schedules``."""
        return SHAPES[self.shape](self)


SHAPES = {
    "constant": lambda run: optax.constant_schedule(1.0),
    "linear": lambda run: schedules.linear(run.length),
    "sigmoid": lambda run: schedules.sigmoid(MIDDLE * run.length, WIDTH * run.length),
    "cyclical": lambda run: schedules.cyclical(run.length // run.cycles, run.cycles),
}
RUNS = (
    Run("constant"),
    *(Run(shape, length) for shape in ("linear", "sigmoid") for length in LENGTHS),
    *(Run("cyclical", length, cycles) for length in LENGTHS for cycles in CYCLES),
)


class SchedulesExplorer(Explorer):
    """Choose how beta rises, and see three networks that were trained so.

    Their rate, distortion and ELBO at beta = 1 on test digits while they train, and at
    the end their difference from three networks, begun alike, that had beta = 1 from
    the first step.
    State: ``learning_rate``, the schedule's ``shape``, its ``length`` in steps and its
    ``cycles``, each one of those above; ``step``, where the curves are read.

    Raises:
        ValueError: for a state that no network was trained with.

    """

    name = "schedules"
    title = "KL schedules, and where they lead"
    notice = (
        "In the last cycle the distortion rises with β, though nothing is wrong. At a "
        "learning rate of 0.003 no schedule ends above β = 1. At 0.03, where units get "
        "stuck, every schedule does, by tens of nats."
    )
    state: ClassVar[dict[str, Any]] = {
        "learning_rate": RATES[0],
        "shape": "cyclical",
        "length": 800,
        "cycles": 4,
        "step": 705,
    }

    def __init__(self, **state: Any):
        super().__init__(**state)
        trained = {
            "learning_rate": RATES,
            "shape": tuple(SHAPES),
            "length": LENGTHS,
            "cycles": CYCLES,
        }
        for name, values in trained.items():
            if self.start[name] not in values:
                raise ValueError(
                    f"Expected {name} to be one of {values}, got {self.start[name]!r}."
                )

    def payload(self) -> bytes:
        """Curves of every training, and what its networks are worth at the end."""
        return (HERE / "weights/schedules.bin").read_bytes()
