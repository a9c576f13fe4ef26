"""How fast is a training step, against a loop in plain NNX and against the machine?

The floor of a step is the time of its matrix products at the best rate that any product
reaches here, plus one Adam update alone; all measured in turn, in one process.
"""

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from flax import nnx

from vae_teach.data import load
from vae_teach.models import VAE
from vae_teach.networks import ConvDecoder, ConvEncoder, PatchDecoder, PatchEncoder
from vae_teach.training import fit, minimise

from .machine import products, updates
from .nnx_loop import Loop
from .provenance import Report, about_data
from .small_vae import IMAGE, LATENTS, loss, matmul_flops, mlp_vae, parameters, tx, vae
from .timing import Job, interleaved

BATCH_SIZE, LEAST_RATIO = 128, 1.5
EPOCHS = {20: 1, BATCH_SIZE: 2, 512: 4}  # by batch size: a few tenths of a second each
LOOP = "nnx.jit loop"
PRODUCTS = {
    "2048 x 2048 x 2048": (2048, 2048, 2048),
    "4096 x 4096 x 4096": (4096, 4096, 4096),
    **{f"{size} x 784 x 400": (size, 784, 400, 784) for size in EPOCHS},
}

KEY = jr.key(0)
step = minimise(loss, tx)


class Table(NamedTuple):
    """Rows with the same columns."""

    name: str
    title: str
    rows: list[dict]


def main() -> int:
    """Measure, write and print; fail when the loop is not beaten as promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    data = load("mnist12k")
    report = Report("speed", data=about_data(data), rounds=rounds)
    for table in measure(jnp.asarray(data.train.images), rounds):
        for row in table.rows:
            report.add(table=table.name, **row)
        print(f"\n{table.title}\n{shown(table.rows)}", flush=True)
    return 0 if ratio_to_loop(report.content["rows"]) >= LEAST_RATIO else 1


def measure(images, rounds: int) -> Iterator[Table]:
    """Everything, in a minute or two."""
    yield same_work(images)
    yield against_loop(images, rounds)
    yield from against_machine(images, rounds)
    yield between_networks(images[: 20 * BATCH_SIZE], max(rounds // 3, 1))


def ratio_to_loop(rows: list[dict]) -> float:
    """How many times longer the loop's best step is than ``fit``'s."""
    return next(row["ratio"] for row in rows if row.get("name") == LOOP)


def same_work(images) -> Table:
    """The losses of one epoch, step by step: ``fit`` and the loop must agree."""
    _, history = fitting(mlp_vae(nnx.Rngs(0)), images).run()
    ours, theirs = history["loss"], np.asarray(Loop(0).epoch(images, BATCH_SIZE, KEY))
    row = {
        "steps": len(ours),
        "fit": float(ours[-1]),
        "loop": float(theirs[-1]),
        "largest_relative_difference": float(abs(theirs / ours - 1).max()),
    }
    return Table("same work", "Loss of fit and of the loop, at the last step", [row])


def against_loop(images, rounds: int) -> Table:
    """``fit``'s epoch, the same without its scan, and the loop's."""
    model = mlp_vae(nnx.Rngs(0))
    epoch = partial(Loop(0).epoch, images, BATCH_SIZE, KEY)
    jobs = {
        "fit": fitting(model, images),
        "fit, scan=False": fitting(model, images, scan=False),
        LOOP: Job(epoch, len(images) // BATCH_SIZE),
    }
    times = interleaved(jobs, rounds)
    rows = [
        {
            "name": name,
            **each._asdict(),
            "ratio": each.min_ms / times["fit"].min_ms,
            "ratio_of_medians": each.median_ms / times["fit"].median_ms,
        }
        for name, each in times.items()
    ]
    return Table("loop", f"One step at batch {BATCH_SIZE}", rows)


def against_machine(images, rounds: int) -> Iterator[Table]:
    """The best rate of matrix products here, and each batch size's step and floor."""
    model = mlp_vae(nnx.Rngs(0))
    made = {name: products(*sizes) for name, sizes in PRODUCTS.items()}
    jobs = {name: job for name, (job, _) in made.items()}
    jobs["Adam"] = updates(model, tx)
    jobs |= {f"fit {n}": fitting(model, images, n, e) for n, e in EPOCHS.items()}
    times = interleaved(jobs, rounds)
    # A FLOP a millisecond is 1e-6 GFLOP/s.
    rates = {
        name: flops / times[name].min_ms / 1e6 for name, (_, flops) in made.items()
    }
    rows = [{"name": name, "gflops": rate} for name, rate in rates.items()]
    yield Table("products", "Matrix products, best rate in GFLOP/s", rows)
    best, adam = max(rates.values()), times["Adam"].min_ms
    rows = [
        {
            "batch_size": size,
            **times[f"fit {size}"]._asdict(),
            **floor(matmul_flops(model, size), best, adam, times[f"fit {size}"].min_ms),
        }
        for size in EPOCHS
    ]
    yield Table("floor", "One step, and the share of it that is the floor", rows)


def floor(flops: int, gflops: float, adam_ms: float, step_ms: float) -> dict:
    """The floor of a step, in its two parts, and its share of the step."""
    products_ms = flops / gflops / 1e6
    return {
        "matmul_mflop": flops / 1e6,
        "products_ms": products_ms,
        "adam_ms": adam_ms,
        "share": (products_ms + adam_ms) / step_ms,
    }


def between_networks(images, rounds: int) -> Table:
    """Each network's step in a scan and in a loop, which CPU convolutions want."""
    models = {
        "MLP": mlp_vae(nnx.Rngs(0)),
        "patches": _patch_vae(nnx.Rngs(0)),
        "convolutions": _conv_vae(nnx.Rngs(0)),
    }
    jobs = {
        (name, scan): fitting(model, images, scan=scan)
        for name, model in models.items()
        for scan in (True, False)
    }
    times = interleaved(jobs, rounds)
    rows = [
        {
            "name": name,
            "parameters": parameters(model),
            "scan_ms": times[name, True].min_ms,
            "loop_ms": times[name, False].min_ms,
            "scan_over_loop": times[name, True].min_ms / times[name, False].min_ms,
        }
        for name, model in models.items()
    ]
    return Table("networks", f"fit, one step at batch {BATCH_SIZE}, best round", rows)


def fitting(
    model: VAE, images, size: int = BATCH_SIZE, epochs: int = 1, scan: bool = True
) -> Job:
    """``fit`` from call to return, the data on the device; a unit is a step."""
    given = {"key": KEY, "epochs": epochs, "batch_size": size, "scan": scan}
    return Job(
        partial(fit, model, step, images, **given), epochs * (len(images) // size)
    )


def _patch_vae(rngs):
    encoder = PatchEncoder(IMAGE, 4, 32, 2 * LATENTS, rngs=rngs)
    return vae(encoder, PatchDecoder(LATENTS, 32, 4, IMAGE, rngs=rngs))


def _conv_vae(rngs):
    encoder = ConvEncoder(IMAGE, (16, 32), 2 * LATENTS, rngs=rngs)
    return vae(encoder, ConvDecoder(LATENTS, (32, 16), IMAGE, rngs=rngs))


def shown(rows):
    """The rows as text, in aligned columns."""
    cells = [list(rows[0]), *([_cell(v) for v in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True))
        for line in cells
    )


def _cell(value):
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
