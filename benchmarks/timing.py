"""Times that can be compared on a machine that is never quiet."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np


class Job(NamedTuple):
    """Something to time: ``run`` does ``units`` of it, and returns what to wait for."""

    run: Callable
    units: int = 1


class Times(NamedTuple):
    """Milliseconds a unit: of the best round, and of the median one."""

    min_ms: float
    median_ms: float


def interleaved(jobs: dict[Any, Job], rounds: int) -> dict[Any, Times]:
    """Time the jobs in turn, round after round, after one run of each to warm up.

    What else the machine does then falls on all of them alike.
    """
    for job in jobs.values():
        seconds(job.run)
    found = [[seconds(job.run) for job in jobs.values()] for _ in range(rounds)]
    units = [job.units for job in jobs.values()]
    each = np.array(found) / units * 1e3
    pairs = zip(each.min(0).tolist(), np.median(each, 0).tolist(), strict=True)
    return {name: Times(*pair) for name, pair in zip(jobs, pairs, strict=True)}


def seconds(run: Callable) -> float:
    """Seconds until what ``run`` returns is there."""
    begin = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - begin
