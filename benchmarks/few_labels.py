"""What do a category among the latents, and unlabelled digits, give?

Three questions on small digits. How well do few labels classify: M2 and M1, which also
see the unlabelled digits, against classifiers that do not? What does a categorical
latent carry beside continuous ones, and how does it agree with the digits' classes?
How far is the gradient of a relaxed draw from the exact one? On a CPU the rows are also
written into the package, where the chapter on discrete factors reads them.
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from flax import nnx
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

import vae_teach
from vae_teach.data import load
from vae_teach.discrete import OneHotCategorical
from vae_teach.distributions import Bernoulli, Normal
from vae_teach.losses import mean_over_batch
from vae_teach.models import VAE, Conditional
from vae_teach.networks import MLP
from vae_teach.priors import StandardNormal
from vae_teach.semi_supervised import M2, UNKNOWN, keep_labels, m2
from vae_teach.training import fit, minimise

from .joint_latents import (
    BATCH,
    CLASSES,
    ELBO_STEP,
    HIDDEN,
    JOINT_LATENTS,
    LATENTS,
    RATE,
    SHAPE,
    Digits,
    digits,
    gradients,
    joint_latents,
    many,
    plain_vae,
)
from .provenance import Report, about_data

PACKAGED = Path(vae_teach.__file__).parent / "datasets" / "few_labels.json"
SEEDS, EPOCHS, JOINT_EPOCHS = 5, 30, 10
PER_CLASS = {10: 2, 2: 1, 100: 1}  # labels a class, and draws of them for each seed
TILED = 500  # labelled examples in an epoch, by repeating them
TUNING_SEEDS = 100, 101  # draws of labels that choose settings, and are not judged


def labelled(train: Digits, seed: int, per_class: int):
    """All labels but those of a few are -1; and the rows of these few."""
    kept = keep_labels(train.y, jr.key(seed), per_class=per_class)
    return kept, np.flatnonzero(np.asarray(kept) != UNKNOWN)


# Few labels: each method is (train, labels kept, rows kept, seed, setting) -> predict


def classifier(rngs):
    """The same encoder for every method: 196, 128, and its outputs."""
    return Conditional(MLP(SHAPE, HIDDEN, CLASSES, rngs=rngs), OneHotCategorical)


def predicted(judge, x):
    """The likeliest class of every image."""
    return np.asarray(_logits(judge, x).argmax(1))


@jax.jit
def _logits(judge, x):
    return jax.vmap(lambda image: judge(image).logits)(x)


def cross_entropy(judge, batch, key, *, dropped):
    """-log q(y|x) with each pixel set to 0 with probability ``dropped``."""
    x, y = batch
    keep = jr.bernoulli(key, 1 - dropped, x.shape)
    log_q = jax.nn.log_softmax(_logits(judge, x * keep / (1 - dropped)))
    return -log_q[jnp.arange(len(y)), y].mean(), {}


# One for all fits: a new step would compile each time.
STEPS = {
    decay: minimise(cross_entropy, optax.adamw(1e-3, weight_decay=decay))
    for decay in (1e-4, 0.1, 1.0)
}
M2_STEP = minimise(mean_over_batch(m2), optax.adam(RATE))


def supervised(train, kept, rows, seed, setting):
    """The network on the labelled digits alone."""
    decay, dropped, steps = setting
    step, judge = STEPS[decay], classifier(nnx.Rngs(seed))
    data, size = (train.x[rows], kept[rows]), min(50, len(rows))
    judge, _ = fit(
        judge,
        step,
        data,
        key=jr.key(seed),
        steps=steps,
        batch_size=size,
        dropped=dropped,
    )
    return partial(predicted, judge)


def of_pixels(make, train, kept, rows, seed, setting):
    """A classifier of scikit-learn on the pixels of the labelled digits."""
    return of_codes(make, _flat, train, kept, rows, seed, setting)


def of_codes(make, encode, train, kept, rows, seed, setting):
    """The same on codes."""
    del seed
    model = make(setting).fit(encode(train.x[rows]), np.asarray(kept)[rows])
    return lambda x: model.predict(encode(x))


def _flat(x):
    return np.asarray(x).reshape(len(x), -1)


class LabelledEncoder(nnx.Module):
    """An MLP of image and class; the image's part of its first layer is used once."""

    def __init__(self, out: int, *, rngs: nnx.Rngs):
        pixels = SHAPE[0] * SHAPE[1]
        self.of_image = nnx.Linear(pixels, HIDDEN, rngs=rngs)
        self.of_class = nnx.Linear(CLASSES, HIDDEN, use_bias=False, rngs=rngs)
        self.out = nnx.Linear(HIDDEN, out, rngs=rngs)

    def __call__(self, x, y):
        """As ``MLP(...)(x, y)``: the first layer is linear in both."""
        return self.out(jax.nn.relu(self.of_image(x.ravel()) + self.of_class(y)))


def m2_model(rngs, latents=LATENTS) -> M2:
    """The classifier, and a VAE that is told the class."""
    vae = VAE(
        StandardNormal(latents),
        Conditional(LabelledEncoder(2 * latents, rngs=rngs), Normal.from_log_variance),
        Conditional(MLP(latents + CLASSES, HIDDEN, SHAPE, rngs=rngs), Bernoulli),
    )
    return M2(vae, classifier(rngs))


def tiled(train: Digits, kept, rows):
    """All digits, and the labelled ones again until they are ``TILED``."""
    more = np.tile(rows, max(0, TILED // len(rows) - 1))
    return (
        jnp.concatenate([train.x, train.x[more]]),
        jnp.concatenate([kept, kept[more]]),
    )


def trained_m2(train, kept, rows, seed, setting, epochs):
    """M2 on labelled and unlabelled digits."""
    data = tiled(train, kept, rows)
    model, _ = fit(
        m2_model(nnx.Rngs(seed)),
        M2_STEP,
        data,
        key=jr.key(seed),
        epochs=epochs,
        batch_size=BATCH,
        alpha=setting,
    )
    return partial(predicted, model.classifier)


@jax.jit
def _means(model, x):
    return jax.vmap(lambda image: model.q_z(image).mean)(x)


def encode(model, x):
    """Posterior means, for scikit-learn."""
    return np.asarray(_means(model, x))


def logistic(C):
    """Multinomial, with an L2 penalty."""
    return LogisticRegression(C=C, max_iter=2000)


GRIDS = {
    "logistic regression": (0.1, 1.0, 10.0),
    "nearest neighbour": (1, 3),
    "SVM": (1.0, 10.0, 100.0),
    "network": [(d, p, s) for d in STEPS for p in (0.0, 0.5) for s in (300, 1500)],
    "M1 + SVM": (1.0, 10.0, 100.0),
    "M1 + nearest neighbour": (1, 3),
    "M2": (1.0, 10.0),
}


def methods(m1: VAE, epochs: int):
    """Every method by its name; M1 comes trained."""
    codes = partial(encode, m1)
    return {
        "logistic regression": partial(of_pixels, logistic),
        "nearest neighbour": partial(of_pixels, KNeighborsClassifier),
        "SVM": partial(of_pixels, lambda C: SVC(C=C)),
        "network": supervised,
        "M1 + SVM": partial(of_codes, lambda C: SVC(C=C), codes),
        "M1 + nearest neighbour": partial(of_codes, KNeighborsClassifier, codes),
        "M2": partial(trained_m2, epochs=epochs),
    }


def tune(report, train, m1, per_class, epochs) -> dict:
    """The best setting of every method, by digits whose labels it did not get.

    Draws of labels other than those judged choose, with the labels of all other
    training digits: more than anybody with few labels has. M2 gets one draw.
    """
    chosen = {}
    for name, train_it in methods(m1, epochs).items():
        scores = {}
        for setting in GRIDS[name]:
            found = []
            for seed in TUNING_SEEDS[: 1 if name == "M2" else None]:
                kept, rows = labelled(train, seed, per_class)
                predict = train_it(train, kept, rows, seed, setting)
                right = predict(train.x) == np.asarray(train.y)
                found.append(float(np.delete(right, rows).mean()))
            scores[setting] = float(np.mean(found))
            report.add(table="tuning", method=name, setting=setting, accuracy=found)
        chosen[name] = max(scores, key=scores.get)
        print(f"{name:24}", scores, flush=True)
    return chosen


def few_labels(report, train, test, seeds, epochs):
    """Test accuracy of every method, at few labels and more."""
    start = time.process_time()
    vaes = many(plain_vae, ELBO_STEP, train.x, max(PER_CLASS.values()) * seeds, epochs)
    report.add(table="M1", cpu_seconds=time.process_time() - start)
    chosen = tune(report, train, vaes[0], 10, epochs)
    for per_class, times in PER_CLASS.items():
        for name in GRIDS:
            start, accuracy = time.process_time(), []
            for seed in range(times * seeds):
                kept, rows = labelled(train, seed, per_class)
                train_it = methods(vaes[seed], epochs)[name]
                predict = train_it(train, kept, rows, seed, chosen[name])
                accuracy.append(float((predict(test.x) == np.asarray(test.y)).mean()))
            row = report.add(
                table="labels",
                method=name,
                labels=per_class * CLASSES,
                setting=chosen[name],
                accuracy=accuracy,
                cpu_seconds=time.process_time() - start,
            )
            print(row, flush=True)


def run(data, seeds=SEEDS, epochs=EPOCHS, joint_epochs=JOINT_EPOCHS):
    """All three tables."""
    train, test = digits(data)
    report = Report("few_labels", data=about_data(data), seeds=seeds, **settings())
    model = joint_latents(report, train, test, seeds, joint_epochs)
    gradients(report, model, test)
    few_labels(report, train, test, seeds, epochs)
    if jax.default_backend() == "cpu":
        PACKAGED.write_text(json.dumps(json.loads(report.path.read_text())) + "\n")


def settings() -> dict:
    """What all rows share."""
    return {
        "shape": SHAPE,
        "hidden": HIDDEN,
        "latents": LATENTS,
        "joint_latents": JOINT_LATENTS,
        "epochs": EPOCHS,
        "joint_epochs": JOINT_EPOCHS,
        "batch_size": BATCH,
        "learning_rate": RATE,
        "tiled": TILED,
    }


def main(arguments=None):
    """Train and judge all rows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.few_labels")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    run(load("mnist12k"), parser.parse_args(arguments).seeds)


if __name__ == "__main__":
    main()
