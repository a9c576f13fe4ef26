"""What does each variant of the VAE cost, and what does it give? One table for all.

Every row is another row with one piece swapped: trained on the same digits, binarized
once, for the same number of epochs, and judged on one likelihood, log p(x) of 784
binary pixels in nats an image. A row is a builder of ``variant_models`` and one entry
of ``variants``. ``--rows NAME ...`` trains these alone, and keeps the others as they
are in the file. Full size, on a GPU:
``VAE_TEACH_DATA=tfds python -m benchmarks.variants --seeds 5 --epochs 20``.
"""

import argparse
import ast
import inspect
import json
import textwrap
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from flax import nnx

import vae_teach
from vae_teach import (
    autoregressive,
    bounds,
    code_priors,
    conditioning,
    discrete,
    distributions,
    models,
    networks,
    priors,
    quantisers,
    two_levels,
    vq,
)
from vae_teach.data import load
from vae_teach.distributions import kl
from vae_teach.losses import binarize
from vae_teach.training import Step, fit_many

from . import variant_judges as judges
from . import variant_models as made
from .provenance import Report, about_data
from .small_vae import parameters

DATASETS = Path(vae_teach.__file__).parent / "datasets"
SEEDS, EPOCHS, BATCH = 3, 5, 128


class Variant(NamedTuple):
    """A builder and its step; the row that it changes, and by which pieces.

    ``pieces`` are the definitions that this row needs, and neither row ``of`` nor those
    before it. The builder of a second stage takes the trained models of row ``of``.
    """

    make: Callable
    step: Step
    judge: Callable
    of: str
    swapped: str
    pieces: tuple
    second: bool = False


def variants() -> dict[str, Variant]:
    """Every row, in the order of the table."""
    images = partial(Variant, step=made.OF_IMAGES, judge=judges.of_latents)
    pairs = partial(Variant, step=made.OF_PAIRS, judge=judges.of_pairs)
    codes = partial(Variant, step=made.OF_CODES, judge=judges.of_codes)
    mlps = (networks.MLP, networks.joined)
    grids = (networks.GridEncoder, networks.GridDecoder, networks.windows)
    modulated = (conditioning.ModulatedMLP, conditioning.FiLM)
    averages = (quantisers.MovingCodebook, quantisers.Tracked, vq.moving_averages)
    pixelcnn = (
        code_priors.CodePrior,
        code_priors.AutoregressiveCodes,
        autoregressive.GatedLayer,
        autoregressive.from_previous,
        autoregressive.settle,
    )
    return {
        "VAE": images(
            make=made.plain,
            of="",
            swapped="",
            pieces=(
                *(made.plain, made.gaussian, *mlps, models.VAE, models.Conditional),
                *(priors.StandardNormal, distributions.Normal, bounds.elbo),
                *(distributions.Bernoulli, kl.dispatch(distributions.Normal)),
            ),
        ),
        "CVAE, concatenation": pairs(
            make=made.conditional,
            of="VAE",
            swapped="both networks also read the class, beside their input",
            pieces=(
                *(made.conditional, made.concatenation),
                *(models.Given, conditioning.given),
            ),
        ),
        "CVAE, FiLM": pairs(
            make=partial(made.conditional, network=made.film),
            of="CVAE, concatenation",
            swapped="the class scales and shifts the hidden features",
            pieces=(made.film, *modulated),
        ),
        "CVAE, conditional normalisation": pairs(
            make=partial(made.conditional, network=made.normalisation),
            of="CVAE, concatenation",
            swapped="the same, of normalised features",
            pieces=(made.normalisation, *modulated, conditioning.ConditionalNorm),
        ),
        "CVAE, learned p(z|y)": pairs(
            make=made.with_class_prior,
            of="CVAE, concatenation",
            swapped="the prior: a normal for each class",
            pieces=(made.with_class_prior, priors.ConditionalPrior),
        ),
        "VAE on a grid": images(
            make=made.grid_vae,
            of="VAE",
            swapped="networks of patches, and two latents for each patch",
            pieces=(made.grid_vae, *grids, priors.Fixed),
        ),
        "VQ-VAE": codes(
            make=made.learned_codes,
            of="VAE on a grid",
            swapped="the posterior: one code a patch, from a learned codebook",
            pieces=(
                *(made.learned_codes, made.vqvae, priors.UniformCodes, vq.VQVAE),
                *(quantisers.LearnedCodebook, quantisers.Codebook, vq.vq),
                *(quantisers.Quantised, quantisers.straight_through),
                *(vq.PointMass, kl.dispatch(vq.PointMass)),
            ),
        ),
        "VQ-VAE, averages": codes(
            make=made.moving_codes,
            step=made.WITH_AVERAGES,
            of="VQ-VAE",
            swapped="the codebook: moving averages, no codebook loss",
            pieces=(made.moving_codes, *averages),
        ),
        "VQ-VAE, averages and restarts": codes(
            make=made.moving_codes,
            step=made.WITH_BOTH,
            of="VQ-VAE, averages",
            swapped="codes without tokens are put where tokens are",
            pieces=(vq.restarts,),
        ),
        "VQ-VAE, learned p(z)": codes(
            make=made.with_code_prior,
            step=made.OF_PRIOR,
            of="VQ-VAE, averages and restarts",
            swapped="the prior: a PixelCNN over the codes, a second stage",
            pieces=(made.with_code_prior, *pixelcnn),
            second=True,
        ),
        "VQ-VAE, unit vectors": codes(
            make=made.unit_codes,
            of="VQ-VAE",
            swapped="codes and tokens are normalised to length 1",
            pieces=(made.unit_codes, quantisers.unit),
        ),
        "finite scalars": codes(
            make=made.finite_scalars,
            of="VQ-VAE",
            swapped="three numbers rounded to 8, 6 and 5 levels, no codebook",
            pieces=(made.finite_scalars, quantisers.FiniteScalar),
        ),
        "Gumbel dVAE": Variant(
            make=made.discrete_vae,
            step=made.RELAXED,
            judge=judges.of_choices,
            of="VAE on a grid",
            swapped="the posterior: a relaxed choice of a code for each patch",
            pieces=(
                *(made.discrete_vae, made.uniform, bounds.elbo_relaxed),
                *(discrete.OneHotCategorical, discrete.RelaxedCategorical),
                discrete.relaxed.dispatch(discrete.OneHotCategorical),
                kl.dispatch(discrete.OneHotCategorical),
            ),
        ),
        "VQ-VAE-2": codes(
            make=made.two_levels,
            step=made.WITH_BOTH,
            of="VQ-VAE, averages and restarts",
            swapped="one code for the whole image above those of the patches",
            pieces=(
                *(made.two_levels, two_levels.TwoLevels),
                *(two_levels.TwoLevelPrior, two_levels.TopDown),
            ),
        ),
        "VQ-VAE-2, learned p(z)": codes(
            make=made.with_two_code_priors,
            step=made.OF_PRIOR,
            of="VQ-VAE-2",
            swapped="the prior: a PixelCNN over the codes, given the upper one",
            pieces=(made.with_two_code_priors, *pixelcnn),
            second=True,
        ),
    }


def code_lines(thing) -> int:
    """How many lines its statements take, one each: no docstrings, no comments.

    The source is parsed and printed anew, so that how it was wrapped does not count.
    """
    tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:]
    return sum(bool(line.strip()) for line in ast.unparse(tree).splitlines())


def lines(variant: Variant) -> dict:
    """Of the pieces: those of the builders here, and those of the package."""
    here = [p for p in variant.pieces if inspect.getmodule(p) is made]
    package = [p for p in variant.pieces if p not in here]
    return {
        "lines_here": sum(map(code_lines, here)),
        "lines_package": sum(map(code_lines, package)),
    }


def digits() -> tuple[dict, judges.Digits]:
    """Each image one fixed draw of coins, with its class as a one-hot vector."""
    data = load("mnist12k")
    keys = jr.split(jr.key(0))
    train, test = (
        (
            binarize(jnp.asarray(split.images), key),
            jax.nn.one_hot(split.labels, made.CLASSES),
        )
        for split, key in zip((data.train, data.test), keys, strict=True)
    )
    return about_data(data), judges.Digits(*train, *test)


def main():
    """Train and judge the rows."""
    table = variants()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--rows", nargs="+", choices=table, metavar="NAME")
    arguments = parser.parse_args()
    about, data = digits()
    given = {"seeds": arguments.seeds, "epochs": arguments.epochs, **settings()}
    report = Report("variants", data=about, kept=[], **given)
    kept = kept_rows(report, table, arguments.rows) if arguments.rows else {}
    report.content["kept"] = list(kept)
    trained = {}
    for name in table:
        if name in kept:
            report.add(**kept[name])
            continue
        start = time.perf_counter()
        row = row_of(name, table, data, arguments.seeds, arguments.epochs, trained)
        report.add(name=name, **row)
        wall = time.perf_counter() - start
        shown = {k: v for k, v in row.items() if isinstance(v, list | dict | float)}
        print(f"{name:32} {wall:5.0f} s  {shown}", flush=True)
    text = json.dumps(json.loads(report.path.read_text()))
    packaged().write_text(text + "\n")


def packaged() -> Path:
    """Where chapters read the table: the embedded digits', or that of a GPU."""
    on_cpu = jax.default_backend() == "cpu"
    return DATASETS / ("variants.json" if on_cpu else "variants_full.json")


def kept_rows(report, table, names):
    """The rows of the file that are not to be trained, if they are comparable."""
    old = json.loads(report.path.read_text())
    new = json.loads(json.dumps(report.content))
    if any(
        old.get(k) != new[k] for k in new if k not in ("provenance", "kept", "rows")
    ):
        raise ValueError(
            f"Expected {report.path.name} to be of the same data, seeds, epochs and "
            "settings as the rows to train: leave --rows out."
        )
    rows = {row["name"]: row for row in old["rows"]}
    return {name: rows[name] for name in table if name in rows and name not in names}


def settings() -> dict:
    """What all rows share."""
    return {
        "batch_size": BATCH,
        "codes": made.CODES,
        "judged": judges.JUDGED,
        "samples": judges.SAMPLES,
    }


def row_of(name: str, table, data, seeds: int, epochs: int, trained: dict) -> dict:
    """One number a seed for each measure; ``trained`` gets the models."""
    variant = table[name]
    fitted, cost = fit_all(name, table, data, seeds, epochs, trained)
    one = jax.tree.map(lambda leaf: leaf[0], fitted)
    found = jax.tree.map(lambda leaf: leaf.tolist(), variant.judge(fitted, data))
    return {
        "of": variant.of,
        "swapped": variant.swapped,
        **lines(variant),
        "parameters": parameters(one),
        "kind": judges.kind(one),
        **found,
        **cost,
    }


def fit_all(name: str, table, data, seeds: int, epochs: int, trained: dict):
    """One model a seed, trained at once, and what that took after compilation."""
    variant = table[name]
    key_init, key_fit = jr.split(jr.key(0))
    init_keys, keys = jr.split(key_init, seeds), jr.split(key_fit, seeds)
    before = ()
    if variant.second:
        if variant.of not in trained:
            fit_all(variant.of, table, data, seeds, epochs, trained)
        before = (trained[variant.of],)
    start = jax.jit(jax.vmap(lambda key, *before: variant.make(*before, nnx.Rngs(key))))
    images = (data.train, data.train_classes)
    run = partial(
        fit_many,
        start(init_keys, *before),
        variant.step,
        images if variant.step is made.OF_PAIRS else data.train,
        keys=keys,
        batch_size=BATCH,
    )
    wall = time.perf_counter()
    run(epochs=1)
    first = time.perf_counter() - wall
    wall, cpu = time.perf_counter(), time.process_time()
    trained[name], history = run(epochs=epochs)
    seconds = time.perf_counter() - wall
    return trained[name], {
        "steps": len(next(iter(history.values()))[0]),
        "seconds": seconds / seeds,
        "cpu_seconds": (time.process_time() - cpu) / seeds,
        "compile_seconds": max(0.0, first - seconds / epochs),
    }


if __name__ == "__main__":
    main()
