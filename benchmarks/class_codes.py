"""What the codes of a conditional VAE tell of the class, and what they decode to.

The measures of ``benchmarks.conditional``. A model is given c, a one-hot class; the
pairs are (images, one-hot classes). Pictures are means of p(x|z, c), read by the judge.
"""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from flax import nnx

from vae_teach import metrics
from vae_teach.bounds import elbo, iwae
from vae_teach.conditioning import given
from vae_teach.losses import mean_over_batch
from vae_teach.networks import MLP
from vae_teach.priors import StandardNormal
from vae_teach.samplers import FullNormal
from vae_teach.training import evaluate, fit, minimise

from .latent_codes import SURE, features, slant, thickness, verdicts
from .variant_models import CLASSES

JUDGED, SAMPLES = 500, 128  # images of log p(x|y), and samples of z for each
DRAWS = 1000  # pictures of each source, and digits to compare them with
PROBED, SWAPPED = 10_000, 300  # digits that a probe learns from, digits to swap
TEMPERATURES = 0.75, 0.5
STYLE = {"slant": slant, "thickness": thickness}


def one_hot(labels) -> jax.Array:
    """A row of ten for each label."""
    return jax.nn.one_hot(jnp.asarray(labels), CLASSES)


@jax.jit
def posteriors(model, pairs):
    """q(z|x, y) of every pair."""
    return jax.vmap(model.encoder)(*pairs)


@jax.jit
def priors(model, labels):
    """p(z|y) of every label; N(0, I) where the prior does not read it."""
    return jax.vmap(lambda c: model.prior(None, c))(one_hot(labels))


@jax.jit
def pictures(model, z, labels):
    """The mean image of each code, decoded as a digit of this label."""
    return jax.vmap(lambda z, c: model.decoder(z, c).mean)(z, one_hot(labels))


@jax.jit
def draws(q, key):
    """One z of each of a batch of distributions."""
    keys = jr.split(key, len(jax.tree.leaves(q)[0]))
    return jax.vmap(lambda q, key: q.sample(key))(q, keys)


# The bound

_loss = mean_over_batch(given(elbo))


def of_bound(model, pairs) -> dict:
    """Rate, distortion and their sum at β = 1, negated; log p(x|y) of some images."""
    terms = evaluate(_loss, model, pairs, jr.key(1))
    log_px = log_likelihood(model, tuple(a[:JUDGED] for a in pairs), jr.key(2))
    return {
        "rate": terms["rate"],
        "distortion": terms["distortion"],
        "elbo": -terms["loss"],
        "log_px": log_px.mean(),
        "log_px_error": log_px.std(ddof=1) / len(log_px) ** 0.5,
    }


@jax.jit
def log_likelihood(model, pairs, key):
    """Log p(x|y) of each pair by importance sampling, as ``metrics.log_likelihood``."""
    bound = given(partial(iwae, samples=SAMPLES))
    inputs = pairs, jr.split(key, len(pairs[0]))
    return -jax.lax.map(lambda a: bound(model, *a)[0], inputs, batch_size=16)


# Codes


class Codes:
    """One z ~ q(z|x, y) of each training and test digit, and a normal for each class.

    ``normals`` has the moments of the training codes of each class, ``shares`` how
    frequent each is.
    """

    def __init__(self, model, train, test, labels):
        self.known, self.asked = (np.asarray(one) for one in labels)
        self.q = posteriors(model, test)
        self.z = draws(posteriors(model, train), jr.key(3))
        self.held_out = draws(self.q, jr.key(4))
        self.shares = np.bincount(self.known, minlength=CLASSES) / len(self.known)
        self.normals = normals(self.z, self.known)


def normals(z, labels) -> FullNormal:
    """The mean and the full covariance of the codes of each class."""
    z = np.asarray(z, np.float64)
    each = [z[labels == c] for c in range(CLASSES)]
    means = np.stack([one.mean(0) for one in each])
    roots = np.stack([np.linalg.cholesky(np.cov(one.T)) for one in each])
    return FullNormal(jnp.float32(means), jnp.float32(roots))


def of_codes(model, codes: Codes) -> dict:
    """How far q(z|y) is from p(z|y), and what z tells of y; nats on test digits.

    With a normal g_y fitted to training codes in the place of q(z|y), ``class_kl``, the
    mean of log g_y(z)/p(z|y), is at most E_y KL(q(z|y) || p(z|y)); it is what the bound
    gains from g_y as the prior. ``information``, of log g_y(z)/g(z) with g the mixture
    of all, is at most I(z; y), and ``aggregate_kl``, of log g(z)/p(z), at most KL(q(z)
    || p(z)). With p(z) = N(0, I) the first is the sum of the others.
    """
    asked, z = codes.asked, codes.held_out
    log_g, log_p = each_class(model, codes.normals, z)
    own = np.arange(len(asked)), asked
    log_shares = np.log(codes.shares)[None]
    joint, prior = (np.logaddexp.reduce(a + log_shares, 1) for a in (log_g, log_p))
    gain = log_g[own] - log_p[own]
    p = priors(model, np.arange(CLASSES))
    standard = (codes.z - p.loc[codes.known]) / p.scale[codes.known]
    moments = normals(standard, codes.known)
    variances = (moments.cholesky**2).sum(-1)
    return {
        "class_kl": gain.mean(),
        "information": (log_g[own] - joint).mean(),
        "aggregate_kl": (joint - prior).mean(),
        "kl_of_class": [gain[asked == c].mean() for c in range(CLASSES)],
        # In units of the prior's scale: 0 and 1 where q(z|y) has its moments.
        "mean_distance": np.sqrt((moments.loc**2).sum(1).mean()),
        "variance": variances.mean(),
    }


def each_class(model, normals, z):
    """Log g_c(z) and log p(z|c) of every code and class: two arrays (n, 10)."""
    p = priors(model, np.arange(CLASSES))
    found = (_log_probs(one, z) for one in (normals, p))
    return tuple(np.asarray(a, np.float64) for a in found)


@jax.jit
def _log_probs(distributions, z):
    each = jax.vmap(lambda d, z: d.log_prob(z), (0, None))
    return jax.vmap(each, (None, 0))(distributions, z)


def of_probes(codes: Codes) -> dict:
    """Accuracy with which y is read from draws of z, and the nats that a network finds.

    A linear classifier and an MLP, on test digits; at random 0.1. H(y) minus the
    cross-entropy of any classifier is at most I(z; y).
    """
    from sklearn.linear_model import LogisticRegression

    z, known, asked = codes.z[:PROBED], codes.known[:PROBED], codes.asked
    mean, scale = z.mean(0, keepdims=True), z.std(0, keepdims=True) + 1e-6
    z, held_out = (np.asarray((a - mean) / scale) for a in (z, codes.held_out))
    linear = LogisticRegression().fit(z, known).score(held_out, asked)
    chances = np.asarray(guesses(z, known, held_out), np.float64)
    entropy = -np.log(codes.shares[asked]).mean()
    return {
        "probe_linear": linear,
        "probe_mlp": (chances.argmax(1) == asked).mean(),
        "probe_nats": entropy + chances[np.arange(len(asked)), asked].mean(),
    }


def guesses(z, labels, asked):
    """Log chances of the classes of ``asked``, from an MLP fitted to (z, labels)."""
    network = MLP(z.shape[1], 128, CLASSES, rngs=nnx.Rngs(5))
    data = z, one_hot(labels)
    network, _ = fit(network, _PROBE, data, key=jr.key(6), epochs=20, batch_size=100)
    return jax.nn.log_softmax(jax.vmap(network)(asked))


def _cross_entropy(model, batch, key):
    del key
    z, c = batch
    return -(jax.nn.log_softmax(jax.vmap(model)(z)) * c).sum(1).mean(), {}


_PROBE = minimise(_cross_entropy, optax.adam(3e-3))


# Pictures


def sources(model, codes: Codes) -> dict:
    """Where the z of pictures come from: name -> (z, labels to decode it with)."""
    asked = np.arange(DRAWS) % CLASSES
    rng = np.random.default_rng(7)
    p = priors(model, asked)
    noise = jr.normal(jr.key(8), p.loc.shape)
    own = np.zeros(DRAWS, int)
    for c in range(CLASSES):
        members = np.flatnonzero(codes.asked == c)
        own[asked == c] = rng.choice(members, (asked == c).sum())
    found = {"prior": p.loc + p.scale * noise}
    if not isinstance(model.prior, StandardNormal):
        found["N(0, I)"] = noise  # the mistake: p(z|y) learned, and forgotten
    found |= {f"temperature {t}": p.loc + t * p.scale * noise for t in TEMPERATURES}
    return {name: (z, asked) for name, z in found.items()} | {
        "all codes": (codes.held_out[rng.choice(len(codes.asked), DRAWS)], asked),
        "codes of the class": (codes.held_out[own], asked),
        "fitted normals": (
            draws(jax.tree.map(lambda a: a[asked], codes.normals), jr.key(9)),
            asked,
        ),
    }


def of_pictures(model, z, asked, real) -> dict:
    """How many are read as the class asked for, and are like ``real``, the features."""
    images = pictures(model, z, asked)
    digit, how = (np.asarray(v) for v in verdicts(images))
    right = digit == asked
    among = metrics.precision_and_recall(real, features(images))
    return {
        "accuracy": right.mean(),
        "sure": (right & (how > SURE)).mean(),
        "precision": among.precision,
        "recall": among.recall,
        "darkest": images.min((1, 2, 3)).mean(),
    }


# Another class for the same z


def of_swaps(model, codes: Codes, images) -> dict:
    """Encode a digit as what it is, decode it as each of the nine others.

    ``direct`` keeps z; ``moved`` takes it from the place it has among the codes of its
    class to the same place among those of the other. Shares ``read`` as the new class
    and ``still`` as the old one; ``slant`` and ``thickness`` are correlations with
    those of the digit, within each pair of classes. ``none`` has the digit's own class.
    """
    labels, z = codes.asked[:SWAPPED], codes.q.loc[:SWAPPED]
    others = np.broadcast_to(np.arange(CLASSES)[None], (len(z), CLASSES))
    same = jnp.repeat(z[:, None], CLASSES, 1)
    new = labels[:, None] != others
    found = {}
    for name, made, where in (
        ("none", same, ~new),
        ("direct", same, new),
        ("moved", moved(codes.normals, z, labels), new),
    ):
        drawn = pictures(model, made.reshape(-1, z.shape[1]), others.ravel())
        digit = np.asarray(verdicts(drawn)[0]).reshape(others.shape)
        shares = {"read": digit == others, "still": digit == labels[:, None]}
        found[name] = {k: v[where].mean() for k, v in shares.items()}
        for style, measure in STYLE.items():
            after = measure(drawn).reshape(others.shape)
            before = np.repeat(measure(images[:SWAPPED])[:, None], CLASSES, 1)
            found[name][style] = kept(before, after, labels, where)
    return found


def moved(normals, z, labels):
    """μ' + L' L⁻¹ (z - μ) for each class as the new one: an array (n, 10, latents)."""
    old = jax.tree.map(lambda a: a[labels], normals)
    place = jax.vmap(partial(jax.scipy.linalg.solve_triangular, lower=True))(
        old.cholesky, z - old.loc
    )
    return normals.loc[None] + jnp.einsum("cij,nj->nci", normals.cholesky, place)


def kept(before, after, labels, where):
    """Correlation over all pairs, the mean of each pair of classes removed."""
    before, after = before.copy(), after.copy()
    for c in range(CLASSES):
        for values in (before, after):
            values[labels == c] -= values[labels == c].mean(0)
    if after[where].std() < 1e-6:  # one picture for all
        return 0.0
    return np.corrcoef(before[where], after[where])[0, 1]
