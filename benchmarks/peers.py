"""``fit`` against a plain PyTorch loop, on the same model, weights and data.

PyTorch is no requirement of the package; where it is missing, this says how to get it.
"""

import importlib.util
import sys
from functools import partial
from importlib.metadata import version

import jax.numpy as jnp
from flax import nnx

from vae_teach.data import load

from .provenance import Report, about_data
from .small_vae import mlp_vae
from .speed import EPOCHS, fitting, shown
from .timing import Job, interleaved

ROUNDS = 5
PEERS = {"PyTorch": False, "PyTorch, fused Adam": True}


def main():
    """Measure each batch size, write and print."""
    if importlib.util.find_spec("torch") is None:
        sys.exit("PyTorch is not installed: pip install torch==2.13.0, and run again.")
    data = load("mnist12k")
    about = {"data": about_data(data), "torch": version("torch"), "rounds": ROUNDS}
    report = Report("peers", **about)
    images = jnp.asarray(data.train.images)
    for size, epochs in EPOCHS.items():
        rows = compare(images, size, epochs)
        for row in rows:
            report.add(batch_size=size, **row)
        print(f"\nOne step at batch {size}\n{shown(rows)}", flush=True)


def compare(images, batch_size: int, epochs: int) -> list[dict]:
    """``fit``'s step and the peers', one row each."""
    from .torch_loop import Loop

    model, steps = mlp_vae(nnx.Rngs(0)), len(images) // batch_size
    jobs = {"fit": fitting(model, images, batch_size, epochs)}
    for name, fused in PEERS.items():
        epoch = partial(Loop(model, images, fused=fused).epoch, batch_size)
        jobs[name] = Job(epoch, steps)
    times = interleaved(jobs, ROUNDS)
    best = times["fit"].min_ms
    return [
        {"name": name, **each._asdict(), "ratio": each.min_ms / best}
        for name, each in times.items()
    ]


if __name__ == "__main__":
    main()
