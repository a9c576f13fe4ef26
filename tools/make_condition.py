"""Train what the condition explorer carries: part of ``make weights``.

One recipe for each number of latents. The page has the decoder, rounded, and what the
encoder made of some test digits. p(z|y) is found after training, and the judge reads
every draw here, as the rounded decoder shows it.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from tools.film_models import (
    CLASSES,
    LOSS,
    carried,
    encode,
    lit,
    one_hot,
    page_decoder,
    pairs,
    train,
)
from tools.make_weights import provenance
from vae_teach import data
from vae_teach.conditioning import ModulatedMLP
from vae_teach.distributions import Normal
from vae_teach.explorers import payload, trained
from vae_teach.explorers.condition import DIGITS, DRAWS, LATENTS, PRIORS
from vae_teach.metrics import digit_classifier
from vae_teach.models import VAE
from vae_teach.samplers import FullNormal
from vae_teach.training import evaluate

EPOCHS, SEEDS = 50, 3
ON_MAP = 30  # test digits of each class on the map
BRIEF, BRIEF_LATENTS = 1, 4  # epochs of a short training, and its model


# What z knows, and what y makes of it


def class_priors(q: Normal, labels) -> FullNormal:
    """p(z|y) for each y: the normal with the largest E[log p(z)] over z ~ q(z|x, y).

    That is the one with the mean and the covariance of the codes of the class.
    """
    loc, scale, found = np.asarray(q.loc), np.asarray(q.scale), []
    for y in range(CLASSES):
        here, spread = loc[labels == y], (scale[labels == y] ** 2).mean(0)
        covariance = np.cov(here.T, bias=True) + np.diag(spread)
        found.append((here.mean(0), np.linalg.cholesky(covariance)))
    means, roots = zip(*found, strict=True)
    return FullNormal(jnp.float32(np.stack(means)), jnp.float32(np.stack(roots)))


def told(priors: FullNormal, z, labels) -> float:
    """How often the class can be told from z alone: the y of the largest p(z|y)."""
    log_p = jax.vmap(lambda z: jax.vmap(lambda p: p.log_prob(z))(priors))(z)
    return float((np.asarray(log_p).argmax(1) == labels).mean())


def read(network: ModulatedMLP, z, y) -> np.ndarray:
    """The digit that the judge reads in each z decoded with its y."""
    return np.asarray(_read(network, digit_classifier(), jnp.asarray(z), one_hot(y)))


@jax.jit
def _read(network, judge, z, c):
    def one(pair):
        return judge(jax.nn.sigmoid(network(*pair))).argmax()

    return jax.lax.map(one, (z, c), batch_size=500)


def draws_of(priors: FullNormal, noise) -> dict[str, np.ndarray]:
    """The same noise as draws of each prior for every class: (10, draws, latents)."""
    learned = jnp.einsum("yij,nj->yni", priors.cholesky, noise) + priors.loc[:, None]
    normal = jnp.broadcast_to(noise[None], learned.shape)
    return dict(zip(PRIORS, map(np.asarray, (normal, learned)), strict=True))


def verdicts(network: ModulatedMLP, z) -> np.ndarray:
    """What the judge reads in (10, n) codes, the first axis being y."""
    y = np.repeat(np.arange(CLASSES), z.shape[1])
    found = read(network, z.reshape(len(y), -1), y)
    return found.astype(np.uint8).reshape(z.shape[:2])


def share(found) -> float:
    """How much of (10, n) verdicts is the class asked for."""
    return float((np.asarray(found) == np.arange(CLASSES)[:, None]).mean())


def slant(images) -> np.ndarray:
    """By how many columns the ink moves with each row upwards, in each image."""
    x = np.asarray(images, float).reshape(-1, 28, 28)
    x = x / x.sum((1, 2), keepdims=True)
    columns, rows = np.arange(28)[None, None], -np.arange(28)[None, :, None]
    u = columns - (x * columns).sum((1, 2), keepdims=True)
    v = rows - (x * rows).sum((1, 2), keepdims=True)
    return (x * u * v).sum((1, 2)) / (x * v**2).sum((1, 2))


def swaps(network: ModulatedMLP, z, split: data.Split) -> dict[str, float]:
    """Codes of test digits decoded as each other class: what is read, what is kept.

    The slant is compared between digits of one class before and one class after the
    swap: a 7 slants more than a 0, and that is no style.
    """
    paint = jax.jit(jax.vmap(lambda z, c: jax.nn.sigmoid(network(z, c))))
    right, kept, before = [], [], slant(split.images)
    for y in range(CLASSES):
        other = split.labels != y
        as_y = np.full(len(z), y)
        right.append((read(network, z, as_y) == y)[other].mean())
        after = slant(paint(z, one_hot(as_y)))
        for source in {*range(CLASSES)} - {y}:
            here = split.labels == source
            kept.append(np.corrcoef(before[here], after[here])[0, 1])
    return {"swaps": float(np.mean(right)), "slant": float(np.mean(kept))}


def numbers(network, priors: FullNormal, found, q: Normal, split) -> dict[str, float]:
    """What the page says of one model, from ``q`` of the test digits and verdicts."""
    z = q.loc + q.scale * jr.normal(jr.key(3), q.loc.shape)
    again = read(network, z, split.labels) == split.labels
    values = {name: share(found[name]) for name in PRIORS}
    values |= {"codes": again.mean(), "told": told(priors, z, split.labels)}
    values |= swaps(network, q.loc, split)
    return {name: round(float(value), 4) for name, value in values.items()}


# The page


def shown(split: data.Split) -> tuple[list[int], list[int]]:
    """Rows of test digits: those to begin from, two a class, and those on the map."""
    rows = [np.flatnonzero(split.labels == y)[:ON_MAP] for y in range(CLASSES)]
    some = [int(row) for one in rows for row in one[: DIGITS // CLASSES]]
    return some, np.concatenate(rows).tolist()


def axes(q: Normal, priors: FullNormal) -> np.ndarray:
    """Pairs of directions to look at the codes along: (11, 2, latents).

    First those in which all codes vary most, then, for each y, of the eigenvectors of
    E[z zᵀ|y] the two in which its own differ most from N(0, I), by the KL of p(z|y).
    Of two latents there is but one pair.
    """
    latents = q.loc.shape[1]
    if latents == 2:
        return np.tile(np.eye(2, dtype=np.float32), (1 + CLASSES, 1, 1))
    loc, spread = np.asarray(q.loc), (np.asarray(q.scale) ** 2).mean(0)
    _, whole = np.linalg.eigh(np.cov(loc.T) + np.diag(spread))
    found = [whole[:, :-3:-1].T]
    for y in range(CLASSES):
        mean, root = np.asarray(priors.loc[y]), np.asarray(priors.cholesky[y])
        _, along = np.linalg.eigh(root @ root.T + np.outer(mean, mean))
        variance = ((along.T @ root) ** 2).sum(1)
        rate = variance + (along.T @ mean) ** 2 - 1 - np.log(variance)  # 2 KL
        found.append(along[:, np.argsort(-rate)[:2]].T)
    return np.stack(found).astype(np.float32)


def noise() -> payload.Rounded:
    """Draws of N(0, I), as the page has them; fewer latents take the first columns."""
    exact = np.asarray(jr.normal(jr.key(2), (DRAWS, max(LATENTS))))
    return payload.rounded(exact, 16)


def part_of(model: VAE, latents: int, dataset: data.Dataset, where) -> tuple:
    """Of one model: what the page carries, and what it says."""
    name, test = f"{latents}", dataset.test
    parts = carried(model.decoder.network, name, where)
    arrays = {key: part.values for key, part in parts.items()}
    network = page_decoder(arrays | {"lit": where}, name)
    q, q_test = (encode(model, pairs(split)) for split in (dataset.train, test))
    exact, labels = class_priors(q, dataset.train.labels), np.asarray(test.labels)
    loc, cholesky = (
        payload.rounded(np.asarray(part), 16) for part in (exact.loc, exact.cholesky)
    )
    priors = FullNormal(jnp.asarray(loc.values), jnp.asarray(cholesky.values))
    found = {
        prior: verdicts(network, z)
        for prior, z in draws_of(priors, noise().values[:, :latents]).items()
    }
    codes, (begin, on_map) = np.asarray(q_test.loc), shown(test)
    extra = {
        "loc": loc,
        "cholesky": cholesky,
        "axes": axes(q, priors),
        "codes": payload.rounded(codes[begin], 16),
        "map": payload.rounded(codes[on_map]),
        **found,
    }
    split = data.Split(test.images, labels)
    said = numbers(network, priors, found, q_test, split)
    return parts | {f"{name}.{key}": array for key, array in extra.items()}, said


def content(models: dict[int, list[VAE]], dataset: data.Dataset) -> tuple[bytes, dict]:
    """What the page carries, and its facts.

    Of each size it has the seed that is the median by the share of N(0, I).
    """
    where, (begin, on_map) = lit(dataset.train.images), shown(dataset.test)
    gray = np.round(255 * dataset.test.images[begin]).astype(np.uint8)
    labels = np.asarray(dataset.test.labels, np.uint8)
    arrays: dict[str, Any] = {
        "lit": where.astype(np.uint8),
        "digits": gray.reshape(len(begin), -1),
        "labels": labels[begin],
        "map_labels": labels[on_map],
        "noise": noise(),
    }
    rows = []
    for latents, seeds in models.items():
        found = [part_of(model, latents, dataset, where) for model in seeds]
        said = [row for _, row in found]
        which = int(np.argsort([row["normal"] for row in said])[len(said) // 2])
        arrays |= found[which][0]
        spread = {
            name: round(float(np.std([row[name] for row in said], ddof=1)), 4)
            for name in said[0]
        }
        about = {"latents": latents, "seed": which, "spread": spread, "seeds": said}
        rows.append(about | said[which])
    facts = {"examples": len(dataset.train.images), "tests": len(dataset.test.images)}
    facts |= {"seeds": SEEDS}
    facts |= {"rows": [{k: v for k, v in row.items() if k != "seeds"} for row in rows]}
    return payload.pack(arrays, facts), facts | {"rows": rows}


def brief(dataset: data.Dataset) -> dict:
    """A training short enough for a test to repeat: the loss on the test digits."""
    values = [brief_loss(dataset, seed) for seed in range(SEEDS)]
    mean, sd = np.mean(values), np.std(values, ddof=1)
    loss = np.round([mean, sd, max(5 * sd, 0.02 * mean)], 3)  # mean, sd, margin
    return {"epochs": BRIEF, "latents": BRIEF_LATENTS, "loss": loss.tolist()}


def brief_loss(dataset: data.Dataset, seed: int) -> float:
    """Rate plus distortion after a short training."""
    model = train(BRIEF_LATENTS, seed, pairs(dataset.train), BRIEF)
    terms = evaluate(LOSS, model, pairs(dataset.test), jr.key(1))
    return float(terms["loss"])


def main():
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--out", type=Path, default=trained.FOLDER)
    args, begun = parser.parse_args(), time.process_time()
    dataset = data.load("mnist12k")
    models = {
        latents: [
            train(latents, seed, pairs(dataset.train), args.epochs)
            for seed in range(SEEDS)
        ]
        for latents in LATENTS
    }
    blob, measured = content(models, dataset)
    record = provenance(dataset) | {
        "command": " ".join(["python -m tools.make_condition", *sys.argv[1:]]),
        "epochs": args.epochs,
        "bytes": len(blob),
        **measured,
        "brief": brief(dataset),
        "cpu_seconds": round(time.process_time() - begun),
    }
    (args.out / "condition.bin").write_bytes(blob)
    text = json.dumps(record, indent=1) + "\n"
    (args.out / "condition.json").write_text(text, "utf-8")
    print(f"condition.bin: {len(blob):,} bytes, {record['cpu_seconds']} s of CPU")


if __name__ == "__main__":
    main()
