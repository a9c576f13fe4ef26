"""What the codes of a digit tell, and what sums of them decode to.

The measures of ``benchmarks.latent_space`` that read pictures: by the judge of digits,
by the slant and the thickness of their strokes.
"""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from flax import nnx

from vae_teach import metrics
from vae_teach.distributions import Bernoulli
from vae_teach.models import Conditional
from vae_teach.networks import MLP
from vae_teach.samplers import sample_codes

from .small_vae import IMAGE

HIDDEN = 128
SURE = 0.9
SILENT = 1e-3  # the variance of a latent's means that is as good as none


class Autoencoder(nnx.Module):
    """The VAE's networks, without clouds."""

    def __init__(self, size, rngs):
        self.encoder = MLP(IMAGE, HIDDEN, size, rngs=rngs)
        self.decoder = Conditional(MLP(size, HIDDEN, IMAGE, rngs=rngs), Bernoulli)


# Pictures and their judge

JUDGE = metrics.digit_classifier()


@jax.jit
def pictures(decoder, z):
    """The mean image of every code, over any leading axes."""
    flat = jax.vmap(lambda z: decoder(z).mean)(z.reshape(-1, z.shape[-1]))
    return flat.reshape(*z.shape[:-1], *IMAGE)


@jax.jit
def verdicts(images):
    """Which digit each image shows, and how sure the judge is of that."""
    flat = images.reshape(-1, *IMAGE)
    logits = jax.vmap(JUDGE)(flat)
    chances = jax.nn.softmax(logits).reshape(*images.shape[:-3], 10)
    return chances.argmax(-1), chances.max(-1)


def sure(images):
    """The share of images that the judge calls a digit."""
    return float((verdicts(images)[1] > SURE).mean())


features = jax.jit(jax.vmap(JUDGE.features))


@jax.jit
def posteriors(model, images):
    """q(z|x) of every image."""
    return jax.vmap(model.q_z)(images)


def codes_of(model, images):
    """The middle of every cloud, or the point of a plain autoencoder."""
    if isinstance(model, Autoencoder):
        return jax.vmap(model.encoder)(images)
    return posteriors(model, images).mean


# What is in the codes


ROW, COLUMN = np.mgrid[: IMAGE[0], : IMAGE[1]]


def slant(images):
    """The shear of the ink, Cov(row, column) / Var(row): positive leans right."""
    ink = np.asarray(images, np.float64)[..., 0]
    ink = ink / ink.sum((-2, -1), keepdims=True)
    up = (ink * ROW).sum((-2, -1), keepdims=True) - ROW
    right = COLUMN - (ink * COLUMN).sum((-2, -1), keepdims=True)
    return (ink * up * right).sum((-2, -1)) / (ink * up**2).sum((-2, -1))


def thickness(images):
    """Pixels across a stroke: twice the ink over its total variation."""
    ink = np.asarray(images, np.float64)[..., 0]
    ink = np.pad(ink, [(0, 0)] * (ink.ndim - 2) + [(1, 1)] * 2)
    down = np.diff(ink, axis=-2)[..., :-1]
    right = np.diff(ink, axis=-1)[..., :-1, :]
    return 2 * ink.sum((-2, -1)) / np.hypot(down, right).sum((-2, -1))


def of_attributes(model, data) -> dict:
    """What a code tells of its digit: by the best single latent, and by all.

    R² on test digits, of slant and thickness, from means; nats of ln 10 on the class,
    from draws. Then what a step does: the best latent and the best direction of the
    slant, moved from -2 to 2 standard deviations.
    """
    x, y = (jnp.asarray(s.images) for s in (data.train, data.test))
    z, asked = (np.asarray(codes_of(model, i), np.float64) for i in (x, y))
    found = {}
    for name, measure in {"slant": slant, "thickness": thickness}.items():
        known, wanted = measure(x), measure(y)
        each = [np.corrcoef(latent, wanted)[0, 1] ** 2 for latent in asked.T]
        weights = direction(z, known)
        guess = known.mean() + (asked - z.mean(0)) @ weights
        found[f"{name}_latent"] = np.nanmax(each)
        found[f"{name}_direction"] = 1 - np.mean((guess - wanted) ** 2) / wanted.var()
        if name == "slant":
            best = np.nanargmax(each)
            one = np.eye(z.shape[1])[best] * z[:, best].std()
            one *= np.sign(np.corrcoef(z[:, best], known)[0, 1])
            step = np.cov(z.T) @ weights
            steps = {"latent": one, "direction": step / np.sqrt(weights @ step)}
    for name, step in steps.items():
        ends = [jnp.asarray(asked[:500] + sign * step, jnp.float32) for sign in (-2, 2)]
        low, high = (pictures(model.decoder, end) for end in ends)
        gained = (slant(high) - slant(low)).mean() / slant(y).std()
        same = verdicts(low)[0] == verdicts(high)[0]
        found |= {f"gained_{name}": gained, f"kept_{name}": same.mean()}
    drawn, judged = (
        np.asarray(sample_codes(model, images, jr.key(n)))
        for n, images in enumerate((x, y))
    )
    return found | about_class(drawn, judged, data.train.labels, data.test.labels)


def direction(z, known):
    """The direction that tells ``known``: least squares, deaf to silent latents.

    A latent whose mean hardly moved in training may move on a test digit, and its
    weight would be anything.
    """
    centred = z - z.mean(0)
    covariance = centred.T @ centred / len(z) + SILENT * np.eye(z.shape[1])
    return np.linalg.solve(covariance, centred.T @ (known - known.mean()) / len(z))


def about_class(z, asked, known, wanted) -> dict:
    """Nats that a draw tells of the class: H(class) - cross-entropy on test digits.

    Of one latent by the frequencies in its 20 quantiles, of all by a linear classifier.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    shares = np.bincount(known, minlength=10) / len(known)
    entropy = -np.log(shares[wanted]).mean()
    chances = LinearDiscriminantAnalysis().fit(z, known).predict_proba(asked)
    # Nobody is surer than one in ten thousand, after as many digits.
    chances = 0.999 * chances + 0.001 / 10
    every = entropy + np.log(chances[np.arange(len(wanted)), wanted]).mean()
    each = []
    for train, test in zip(z.T, asked.T, strict=True):
        edges = np.quantile(train, np.linspace(0, 1, 21)[1:-1])
        table = np.ones((20, 10))
        np.add.at(table, (np.searchsorted(edges, train), known), 1)
        table /= table.sum(1, keepdims=True)
        chosen = table[np.searchsorted(edges, test), wanted]
        each.append(entropy + np.log(chosen).mean())
    return {"class_latent": max(each), "class_all": every, "class_entropy": entropy}


def analogies(model, data, n=300) -> dict:
    """Make an A of each B: z + mean(A) - mean(B), and what it is compared with.

    ``read`` as A by the judge, ``sure`` of it; ``slant`` and ``thickness`` are the
    correlations with those of the B that one began with, within each pair of classes.
    """
    labels, asked = data.train.labels, data.test.labels[:n]
    known = codes_of(model, jnp.asarray(data.train.images))
    images = jnp.asarray(data.test.images[:n])
    z = codes_of(model, images)
    means = jnp.stack([known[labels == c].mean(0) for c in range(10)])
    rng = np.random.default_rng(0)
    others = [rng.choice(np.flatnonzero(labels == c), len(z)) for c in range(10)]
    shift = means[None] - means[asked][:, None]
    noise = jr.normal(jr.key(7), shift.shape)
    lengths = jnp.linalg.norm(shift, axis=-1, keepdims=True)
    noise *= lengths / jnp.linalg.norm(noise, axis=-1, keepdims=True)
    made = {
        "difference": z[:, None] + shift,
        "mean of A": jnp.broadcast_to(means[None], shift.shape),
        "another A": known[np.stack(others)].swapaxes(0, 1),
        "random step": z[:, None] + noise,
    }
    return {name: of_sums(model, codes, images, asked) for name, codes in made.items()}


def of_sums(model, codes, images, labels) -> dict:
    """Whether codes (n, 10) decode to the ten classes, and what of the images stays."""
    drawn = pictures(model.decoder, codes)
    digit, how = (np.asarray(v) for v in verdicts(drawn))
    read, new = digit == np.arange(10)[None], labels[:, None] != np.arange(10)[None]
    shares = {"read": read[new].mean(), "sure": (read & (how > SURE))[new].mean()}
    measures = {"slant": slant, "thickness": thickness}.items()
    return shares | {k: _kept(f(images), f(drawn), labels, new) for k, f in measures}


def _kept(before, after, labels, new):
    """Correlation over the digits, the mean of each pair of classes removed."""
    before = np.repeat(before[:, None], 10, 1)
    for c in range(10):
        for values in (before, after):
            values[labels == c] -= values[labels == c].mean(0)
    if after[new].std() < 1e-6:  # one picture for all
        return 0.0
    return np.corrcoef(before[new], after[new])[0, 1]
