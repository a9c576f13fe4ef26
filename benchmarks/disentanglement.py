"""What disentangles sprites: the method, its strength, or the seed?

The question of Locatello et al. 2019 at a small scale. Every model is scored against
the true factors, with posterior means as codes; then the tables say how much of each
score the names of a model explain, and whether a number that needs no labels finds the
better models. The scores are of ALL sprites, the full grid of factor values, on which
the factors are independent and uniform; rate, distortion and probes are of the test
sprites. Rate and β are in nats a sprite, for the Bernoulli likelihood summed over 1,024
grey pixels; Higgins et al. 2017 would write β as β_norm = β x 8 latents / 1024 pixels.
"""

import argparse
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import vae_teach
from vae_teach.data import Dataset, load

from . import seed_tables as tables
from . import sprite_probes as probes
from . import sprite_scores as judge
from . import sprite_vae as recipe
from .provenance import Report, about_data

PACKAGED = Path(vae_teach.__file__).parent / "datasets" / "disentanglement.json"
SEEDS = 5
GIVEN = 4.0  # the β of the models that are told the shape
REMOVED = {"given the shape": 0.0, "shape removed": 100.0}  # the weight of their critic
SCORES = ("mig", "sap", "dci_d", "dci_c", "dci_i", "factor_vae")
CRITERIA = {
    "elbo": 1,
    "rate": -1,
    "distortion": -1,
    "tc": -1,
    "gaussian_tc": -1,
    "active": -1,
}


def main(arguments=None):
    """Train and judge every model, method by method."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.disentanglement")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--epochs", type=int, default=recipe.EPOCHS)
    parser.add_argument(
        "--save", type=Path, help="a folder of models; those in it are not trained"
    )
    run(load("sprites"), **vars(parser.parse_args(arguments)))


def run(data: Dataset, *, seeds: int, epochs: int, save: Path | None = None):
    """Every table; the file is complete after each method, and at the end."""
    kept, models = [], []
    about = settings(epochs) | {
        "entropy": judge.entropy(data.test.images),
        "kept": kept,
    }
    report = Report(
        "disentanglement",
        data=about_data(data),
        factors=list(data.factor_names),
        seeds=seeds,
        **about,
    )
    for method in recipe.METHODS:
        for (strength, seed), (model, seconds, old) in trained(
            method, range(seeds), data.train.images, epochs, save
        ).items():
            if old and method not in kept:
                kept.append(method)
            about_model = {"method": method, "strength": strength, "seed": seed}
            row = judge.judged(model, data) | {"cpu_seconds": seconds}
            models.append(report.add(table="models", **about_model, **rounded(row)))
            add_probes(report, about_model, model, row["nmi"], data)
        print(*group_lines(models, method), sep="\n", flush=True)
    add_conditional(report, data, seeds, epochs)
    for row in summary(models):
        report.add(**rounded(row))
    if jax.default_backend() == "cpu":
        content = json.loads(report.path.read_text())
        PACKAGED.write_text(json.dumps(content, separators=(",", ":")) + "\n")


def settings(epochs: int) -> dict:
    """What all models share."""
    return {
        "epochs": epochs,
        "latents": recipe.LATENTS,
        "encoder": list(recipe.ENCODER),
        "decoder": list(recipe.DECODER),
        "batch_size": recipe.BATCH,
        "learning_rate": recipe.RATE,
        "methods": {
            name: {"symbol": method.symbol, "strengths": list(method.strengths)}
            for name, method in recipe.METHODS.items()
        },
    }


def trained(method, seeds, images, epochs, save) -> dict:
    """The models of a method, their seconds, and whether they were in the folder."""
    strengths = recipe.METHODS[method].strengths
    names = [(strength, seed) for strength in strengths for seed in seeds]
    paths = [recipe.saved_as(save or "", method, *name) for name in names]
    if save and all(path.exists() for path in paths):
        return {
            name: (*recipe.restore(path), True)
            for name, path in zip(names, paths, strict=True)
        }
    start = time.process_time()
    models = recipe.train(method, strengths, seeds, images, epochs)
    seconds = (time.process_time() - start) / len(models)
    if save:
        for path, model in zip(paths, models.values(), strict=True):
            recipe.save(path, model, seconds)
    return {name: (model, seconds, False) for name, model in models.items()}


def add_probes(report, about_model, model, nmi, data):
    """The shape from all latents, and from all but the one that knows it best."""
    means, draws = all_codes(model.q_z, ((s.images,) for s in (data.train, data.test)))
    shapes = data.train.labels, data.test.labels
    less = (probes.without_best(z, nmi) for z in means)
    report.add(
        table="probes",
        **about_model,
        all=rounded(probes.probe(*means, *shapes)),
        without_best=rounded(probes.probe(*less, *shapes)),
        drawn=rounded(probes.probe(*draws, *shapes)),
    )


def all_codes(encoder, inputs) -> tuple[list, list]:
    """The means of q, and a draw of each, of the training and of the test inputs."""
    encode = jax.vmap(encoder)
    q = [encode(*map(jnp.asarray, each)) for each in inputs]
    means = [np.asarray(each.mean) for each in q]
    return means, [
        np.asarray(probes.drawn(each, jr.key(n))) for n, each in enumerate(q)
    ]


def add_conditional(report, data, seeds, epochs):
    """The same of models that are told the shape, without and with a critic."""
    splits = data.train, data.test
    shapes = [split.labels for split in splits]
    for name, penalty in REMOVED.items():
        models = probes.train_conditional(
            data.train.images, shapes[0], GIVEN, penalty, range(seeds), epochs
        )
        for seed, model in enumerate(models):
            inputs = ((s.images, probes.one_hot(s.labels)) for s in splits)
            means, draws = all_codes(model.encoder, inputs)
            report.add(
                table="probes",
                method=name,
                strength=GIVEN,
                seed=seed,
                all=rounded(probes.probe(*means, *shapes)),
                drawn=rounded(probes.probe(*draws, *shapes)),
            )


def summary(models):
    """The tables over seeds."""
    groups = tables.by_group(models)
    for (method, strength), rows in groups.items():
        best, median = tables.best_and_median(rows, "mig")
        yield {
            "table": "groups",
            "method": method,
            "strength": strength,
            "best_seed": best,
            "median_seed": median,
            "moved": [sum(j is not None for j in row["moved"]) for row in rows],
            **{
                name: tables.spread([row[name] for row in rows])
                for name in (*SCORES, *CRITERIA)
            },
        }
    for score in SCORES:
        shares = tables.variance_shares(models, score)
        yield {"table": "variance", "score": score, **shares}
    for score in SCORES:
        best = tables.best_strengths(models, score)
        for pair in tables.neighbours(best, score):
            yield {"table": "methods", "score": score, **pair}
    for pair in tables.neighbours(groups, "mig"):
        yield {"table": "strengths", "score": "mig", **pair}
    for criterion, sign in CRITERIA.items():
        found = tables.ranks(models, criterion, "mig", sign)
        yield {"table": "ranks", "score": "mig", **found}
    for score in SCORES[1:]:
        found = tables.ranks(models, score, "mig", 1)
        yield {"table": "agreement", "score": "mig", **found}


def group_lines(models, method):
    """What a watcher wants to see."""
    for (name, strength), rows in tables.by_group(models).items():
        if name == method:
            means = {k: np.mean([row[k] for row in rows]) for k in ("elbo", "rate")}
            mig = [row["mig"] for row in rows]
            yield f"{name} {strength:g} {means} MIG {mig}"


def rounded(value):
    """Four decimals; two in a matrix or a vector, which is all that one can see."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, np.ndarray):
        return np.round(value.astype(float), 2).tolist()
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
