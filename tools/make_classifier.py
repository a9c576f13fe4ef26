"""Train the digit classifier: ``python -m tools.make_classifier``, or ``make weights``.

Writes its weights and a record of how they were made and what they are worth under
vae_teach/weights/. The design was chosen beforehand; the numbers are from the test
digits.
"""

import argparse
import io
import json
import sys
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from flax import nnx

from tools.make_weights import provenance
from vae_teach import classifier as judge
from vae_teach import data
from vae_teach.classifier import Classifier, layers
from vae_teach.explorers.payload import rounded
from vae_teach.training import fit, minimise

EPOCHS, BRIEF, BATCH = 100, 3, 128
SURE = 0.95


def train(split: data.Split, seed: int, epochs: int) -> Classifier:
    """A classifier trained on the digits of ``split``."""
    steps = epochs * (len(split.images) // BATCH)
    rate = optax.cosine_decay_schedule(2e-3, steps)
    step = minimise(judge.loss, optax.adamw(rate, weight_decay=0.1))
    digits = {"image": jnp.asarray(split.images), "label": jnp.asarray(split.labels)}
    begin, key = Classifier(nnx.Rngs(seed)), jr.key(seed + 1_000)
    return fit(begin, step, digits, key=key, epochs=epochs, batch_size=BATCH)[0]


def measure(model, split: data.Split) -> dict[str, float]:
    """Accuracy, of all and where it is sure, and whether it doubts what is no digit."""
    images, labels = jnp.asarray(split.images), jnp.asarray(split.labels)
    sure, right = _verdicts(model, images, labels)
    other = jnp.roll(images, 1, 0)
    differ = labels != jnp.roll(labels, 1)
    blends, _ = _verdicts(model, (images + other) / 2, labels)
    _, right_of_blurred = _verdicts(model, judge.blurred(images), labels)
    cut = jax.vmap(judge.shuffled)(images, jr.split(jr.key(0), len(images)))
    shuffled, _ = _verdicts(model, cut, labels)
    found = {
        "accuracy": right.mean(),
        "sure": sure.mean(),
        "accuracy_where_sure": right[sure].mean(),
        "accuracy_of_blurred": right_of_blurred.mean(),
        "sure_of_blends": blends[differ].mean(),
        "sure_of_shuffled": shuffled.mean(),
    }
    return {name: round(float(value), 4) for name, value in found.items()}


def _verdicts(model, images, labels):
    logits = jax.lax.map(model, images, batch_size=256)
    sure = jax.nn.softmax(logits).max(1) > SURE
    return sure, logits.argmax(1) == labels


def stored(model: Classifier) -> dict[str, Any]:
    """Its weights at 8 bits, with one scale a column, by the names of the file."""
    arrays = {}
    for name, layer in layers(model).items():
        weights = nnx.state(layer)
        kernel, bias = (np.asarray(weights[part][...]) for part in ("kernel", "bias"))
        arrays[f"{name}.kernel"], arrays[f"{name}.scale"] = rounded(kernel)
        arrays[f"{name}.bias"] = bias
    return arrays


def brief(dataset: data.Dataset, seeds: int) -> dict:
    """A training short enough for a test to repeat, and the least it should reach."""
    models = [train(dataset.train, seed, BRIEF) for seed in range(seeds)]
    found = [measure(model, dataset.test)["accuracy"] for model in models]
    least = np.mean(found) - max(4 * np.std(found, ddof=1), 0.01)
    return {"epochs": BRIEF, "accuracy": found, "least": round(float(least), 3)}


def main():
    """Train, write, and measure what was written."""
    parser = argparse.ArgumentParser(description=__doc__)
    options = (("epochs", EPOCHS), ("seeds", 3), ("seed", 0), ("out", judge.FOLDER))
    for name, default in options:
        parser.add_argument(f"--{name}", type=type(default), default=default)
    args = parser.parse_args()
    dataset = data.load("mnist12k")
    exact = train(dataset.train, args.seed, args.epochs)
    content = io.BytesIO()
    np.savez_compressed(content, **stored(exact))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "digit_classifier.npz").write_bytes(content.getvalue())
    record = provenance(dataset) | {
        "command": " ".join(["python -m tools.make_classifier", *sys.argv[1:]]),
        "seed": args.seed,
        "epochs": args.epochs,
        "bytes": len(content.getvalue()),
        "sure_above": SURE,
        "test": measure(judge.load(args.out), dataset.test),
        "test_before_rounding": measure(exact, dataset.test),
        "brief": brief(dataset, args.seeds),
    }
    text = json.dumps(record, indent=1) + "\n"
    (args.out / "digit_classifier.json").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
