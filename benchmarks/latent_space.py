"""What is the latent space of a VAE like, in 2, in 20 and in 128 dimensions?

One recipe, four seeds each: does the decoder jump, what do paths between codes cross,
what do draws from the prior decode to and what mends them, what do sums of codes and
single latents mean. A plain autoencoder, an untrained decoder and a decoder that jumps
stand beside the VAE. On a CPU the rows are also written into the package, where the
chapter on latent space reads them.
"""

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
from jax.scipy.special import gammainc

import vae_teach
from vae_teach import metrics
from vae_teach.bounds import elbo
from vae_teach.data import load
from vae_teach.distributions import Normal
from vae_teach.epochs import count
from vae_teach.interpolation import geodesic, linear, spherical
from vae_teach.losses import mean_over_batch
from vae_teach.models import VAE, Conditional
from vae_teach.networks import MLP
from vae_teach.priors import StandardNormal
from vae_teach.samplers import Mixture, ex_post_mixture, sample_codes
from vae_teach.scales import LearnedScale
from vae_teach.surgery import elbo_surgery
from vae_teach.training import fit, fit_many, minimise

from .latent_codes import (
    HIDDEN,
    SURE,
    Autoencoder,
    analogies,
    codes_of,
    features,
    of_attributes,
    pictures,
    posteriors,
    sure,
    verdicts,
)
from .provenance import Report, about_data
from .recipes import mlp
from .small_vae import loss

PACKAGED = Path(vae_teach.__file__).parent / "datasets" / "latent_space.json"
SIZES, SEEDS, EPOCHS, BATCH = (2, 20, 128), 4, 20, 100
COMPONENTS, SECOND_EPOCHS = (1, 5, 20), 60
DRAWS, POINTS = 1000, 9
PAIRS = {"linear": 200, "spherical": 200, "geodesic": 16}  # the last is slow
WALKS = 10  # on which jumps are looked for
FINE = 10, 100, 1000  # steps of each walk
HOLE = -float(np.log(10))  # log q(z)/p(z) of a place that codes use ten times less


def copies(model, batch, key):
    """Cross-entropy of the copies, in nats an image."""
    del key
    each = jax.vmap(lambda x: -model.decoder(model.encoder(x)).log_prob(x))(batch)
    return each.mean(), {}


def main():
    """Every row, for each number of latents."""
    data = load("mnist12k")
    about = {"epochs": EPOCHS, "draws": DRAWS, "points": POINTS, "pairs": PAIRS}
    report = Report("latent_space", data=about_data(data), seeds=SEEDS, **about)
    for size in SIZES:
        run(report, data, size)
    if jax.default_backend() == "cpu":
        PACKAGED.write_text(json.dumps(json.loads(report.path.read_text())) + "\n")


def run(report, data, size):
    """Train all seeds with so many latents, and judge them."""
    train, test = (jnp.asarray(s.images) for s in (data.train, data.test))
    start = time.process_time()
    vaes = fitted(partial(mlp, latents=size, hidden=(HIDDEN,)), loss, train)
    plain = fitted(partial(Autoencoder, size), copies, train)
    seconds = time.process_time() - start

    def add(table, rows, **given):
        columns = {name: [float(row[name]) for row in rows] for name in rows[0]}
        report.add(table=table, latents=size, **given, **columns)
        means = {name: round(np.mean(v), 3) for name, v in columns.items()}
        print(table, size, given, means, flush=True)

    add("models", [of_model(m, test) for m in vaes], cpu_seconds=seconds)
    add("jumps", [of_walks(jumping(m, train, test)) for m in vaes], decoder="nearest")
    for name, models in {"VAE": vaes, "autoencoder": plain}.items():
        walks = [of_walks(smooth(m, test)) for m in models]
        kept = [survives(m, test) for m in models]
        rows = [w | k for w, k in zip(walks, kept, strict=True)]
        add("jumps", rows, decoder=name)
    untrained = [mlp(nnx.Rngs(n), size, (HIDDEN,)) for n in range(SEEDS)]
    add("jumps", [of_walks(smooth(m, test)) for m in untrained], decoder="untrained")
    for ends in ENDS:
        for name in PATHS:
            rows = [of_paths(m, data, ends, name) for m in vaes]
            add("paths", rows, ends=ends, path=name)
    add("attributes", [of_attributes(m, data) for m in vaes])
    sums = [analogies(m, data) for m in vaes]
    for name in sums[0]:
        add("arithmetic", [found[name] for found in sums], method=name)
    priors = [fixes(m, data) for m in vaes]
    for name in priors[0]:
        add("priors", [found[name] for found in priors], prior=name)
    add("holes", [holes(m, train, test) for m in vaes])


# Training


def fitted(make, loss, images, epochs=EPOCHS) -> list:
    """One model a seed, all trained at once; keys depend on the seed alone."""
    models = jax.vmap(lambda key: make(rngs=nnx.Rngs(key)))(jr.split(jr.key(0), SEEDS))
    tx = optax.adam(optax.cosine_decay_schedule(4e-3, count(images) // BATCH * epochs))
    keys = jr.split(jr.key(1), SEEDS)
    given = {"keys": keys, "epochs": epochs, "batch_size": BATCH}
    models, _ = fit_many(models, minimise(loss, tx), images, **given)
    return [jax.tree.map(lambda leaf, n=n: leaf[n], models) for n in range(SEEDS)]


def second_stage(codes, epochs=SECOND_EPOCHS) -> VAE:
    """A VAE of the codes of another (Dai & Wipf 2019)."""
    size, rngs = codes.shape[1], nnx.Rngs(0)
    encoder = MLP(size, HIDDEN, 2 * size, rngs=rngs)
    decoder = MLP(size, HIDDEN, size, rngs=rngs)
    model = VAE(
        StandardNormal(size),
        Conditional(encoder, Normal.from_log_variance),
        Conditional(decoder, LearnedScale()),
    )
    given = {"key": jr.key(1), "epochs": epochs, "batch_size": 200}
    return fit(model, SECOND, codes, **given)[0]


SECOND = minimise(mean_over_batch(elbo), optax.adam(3e-3))


# Each table


def of_model(model, test) -> dict:
    """Rate and distortion on the test digits, and what the rate consists of."""
    rate, distortion, bound = metrics.rate_and_distortion(model, test, jr.key(2))
    parts = elbo_surgery(model, test, jr.key(3))._asdict()
    parts = {f"surgery_{name}": value for name, value in parts.items()}
    active = metrics.active_units(model, test)
    spare = (metrics.rate_per_unit(model, test) < 0.1).sum()
    q = posteriors(model, test)
    z = jax.vmap(Normal.sample)(q, jr.split(jr.key(4), len(test)))
    norms = {"norm_of_means": q.mean, "norm_of_draws": z}
    norms = {k: jnp.linalg.norm(v, axis=1).mean() for k, v in norms.items()}
    shares = {"sure_of_means": q.mean, "sure_of_draws": z}
    shares = {k: sure(pictures(model.decoder, v)) for k, v in shares.items()}
    given = {"rate": rate, "distortion": distortion, "elbo": bound}
    given |= {"active": active, "spare": spare}
    return given | parts | norms | shares


def pairs_of(z):
    """Codes of some digits, and of as many others."""
    half = len(z) // 2
    return z[:WALKS], z[half : half + WALKS]


def smooth(model, test):
    """The pictures of a decoder, and codes to walk between."""
    return partial(pictures, model.decoder), *pairs_of(codes_of(model, test))


def jumping(model, train, test):
    """The same for the decoder that shows the training digit of the nearest code."""
    known = codes_of(model, train)

    @jax.jit
    def nearest(z):
        # |z - k|² = |z|² + |k|² - 2 z·k, and |z|² does not change the order.
        return train[((known**2).sum(1)[None] - 2 * z @ known.T).argmin(1)]

    return nearest, *pairs_of(codes_of(model, test))


def of_walks(given) -> dict:
    """The largest of n steps on a line, times n, over the distance of its ends.

    Distances are of pictures: 1 for a linear decoder. With more steps it settles at the
    largest speed where a decoder is Lipschitz, and grows with n where it jumps.
    """
    draw, first, last = given
    found = {}
    for n in FINE:
        largest, apart = 0.0, 0.0
        for a, b in zip(first, last, strict=True):
            seen = draw(linear(a, b, steps=n + 1)).reshape(n + 1, -1)
            largest += jnp.linalg.norm(jnp.diff(seen, axis=0), axis=1).max()
            apart += jnp.linalg.norm(seen[-1] - seen[0])
        found[f"ratio_{n}"] = n * largest / apart
    return found


def survives(model, test) -> dict:
    """How often a picture keeps its digit when its code moves by half a spread."""
    z = codes_of(model, test)
    moved = z + 0.5 * z.std(0, keepdims=True) * jr.normal(jr.key(4), z.shape)
    still, shaken = (verdicts(pictures(model.decoder, c))[0] for c in (z, moved))
    return {"survives": (still == shaken).mean()}


def ends_of(model, data, ends):
    """Pairs of ends: middles of clouds, draws from them, or draws from the prior.

    The digits of a pair are of different classes.
    """
    count = max(PAIRS.values())
    if ends == "prior":
        return jr.normal(jr.key(5), (2, count, *model.p_z().loc.shape))
    labels = data.test.labels
    half = len(labels) // 2
    first = np.flatnonzero(labels[:half] != labels[half:])[:count]
    images = jnp.asarray(data.test.images)
    q = [posteriors(model, images[chosen]) for chosen in (first, first + half)]
    if ends == "means":
        return [one.mean for one in q]
    keys = jr.split(jr.key(6), (2, count))
    return [jax.vmap(Normal.sample)(one, k) for one, k in zip(q, keys, strict=True)]


ENDS = "means", "draws", "prior"


@partial(jax.jit, static_argnames="name")
def path_between(decoder, a, b, name):
    """One path of ``POINTS``."""
    if name == "geodesic":
        given = {"steps": POINTS, "iterations": 8}
        return geodesic(lambda z: decoder(z).mean, a, b, **given)
    return PATHS[name](a, b, steps=POINTS)


PATHS = {"linear": linear, "spherical": spherical, "geodesic": geodesic}


def of_paths(model, data, ends, name) -> dict:
    """Means over the pairs; of geodesics also those of the lines between their ends."""
    first, last = (z[: PAIRS[name]] for z in ends_of(model, data, ends))
    found = of_path(model, first, last, name)
    if name == "geodesic":
        line = of_path(model, first, last, "linear")
        found |= {f"line_{measure}": value for measure, value in line.items()}
    return found


def of_path(model, first, last, name) -> dict:
    """What the middle of a path is like, and the way there; means over the pairs."""
    found = zip(first, last, strict=True)
    paths = jnp.stack([path_between(model.decoder, a, b, name) for a, b in found])
    norms = jnp.linalg.norm(paths, axis=-1)
    middle, size = norms[:, POINTS // 2], paths.shape[-1]
    at_ends = jnp.array([0, -1])
    log_p = jax.vmap(jax.vmap(model.p_z().log_prob))(paths)
    gain = log_p[:, POINTS // 2] - log_p[:, at_ends].mean(1)
    images = pictures(model.decoder, paths)
    is_sure = verdicts(images)[1] > SURE
    flat = images.reshape(len(paths), POINTS, -1)
    steps = jnp.linalg.norm(jnp.diff(flat, axis=1), axis=-1)
    chord = jnp.linalg.norm(flat[:, -1] - flat[:, 0], axis=-1)
    return {
        "norm_ends": norms[:, at_ends].mean(),
        "norm_middle": middle.mean(),
        # The share of prior draws that lie nearer to the origin.
        "inside": gammainc(size / 2, middle**2 / 2).mean(),
        "log_p_gain": gain.mean(),
        "sure_ends": is_sure[:, at_ends].mean(),
        "sure_middle": is_sure[:, POINTS // 2].mean(),
        "sure_all": is_sure.all(1).mean(),
        "length": (steps.sum(1) / chord).mean(),
        "unevenness": (steps.max(1) / steps.mean(1)).mean(),
    }


# Priors


def fixes(model, data) -> dict:
    """What draws from each prior are worth; nats of ELBO are above those of N(0, I)."""
    train, labels = jnp.asarray(data.train.images), data.train.labels
    test = jnp.asarray(data.test.images)
    held_out = sample_codes(model, test, jr.key(8))
    log_p = jax.vmap(model.p_z().log_prob)(held_out)
    real = features(test[:DRAWS])
    keys = jr.split(jr.key(9), DRAWS)

    def judged(z, log_prior):
        images = pictures(model.decoder, z)
        among = metrics.precision_and_recall(real, features(images))
        shares = {"precision": among.precision, "recall": among.recall}
        return {"sure": sure(images), **shares, "elbo_gain": (log_prior - log_p).mean()}

    def of(prior):
        draw, log_prob = jax.vmap(prior.sample), jax.vmap(prior.log_prob)
        return judged(draw(keys), log_prob(held_out))

    found = {"N(0, I)": of(model.p_z())}
    for k in COMPONENTS:
        found[f"mixture of {k}"] = of(
            ex_post_mixture(model, train, jr.key(10), components=k)
        )
    found["one a class"] = of(by_class(model, train, labels))
    second = second_stage(sample_codes(model, train, jr.key(11)))
    u = jr.normal(jr.key(12), (DRAWS, held_out.shape[1]))
    z = jax.vmap(lambda u, key: second.p_x(u).sample(key))(u, keys)
    bound = -jax.vmap(lambda z, key: elbo(second, z, key)[0])(
        held_out, jr.split(jr.key(13), len(held_out))
    )
    return found | {"second stage": judged(z, bound)}


def by_class(model, images, labels) -> Mixture:
    """One full normal for the codes of each class, weighed by its share."""
    each = [
        ex_post_mixture(model, images[labels == c], jr.key(c), components=1)
        for c in range(10)
    ]
    normals = [mixture.components for mixture in each]
    joined = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *normals)
    return Mixture(jnp.log(jnp.bincount(labels, length=10) / len(labels)), joined)


def holes(model, train, test) -> dict:
    """Where the codes are and the prior is not, and the other way round.

    By two descriptions of the codes: all training digits' clouds, and twenty normals.
    Means of log q(z)/p(z) are over codes of test digits: with any density in the place
    of q(z) they are at most KL(q(z) || p(z)), q(z) that of all digits.
    """
    z = jr.normal(jr.key(14), (DRAWS, *model.p_z().loc.shape))
    held_out = sample_codes(model, test, jr.key(8))[:DRAWS]
    is_sure = verdicts(pictures(model.decoder, z))[1] > SURE
    clouds = Mixture(jnp.zeros(len(train)), posteriors(model, train))
    normals = ex_post_mixture(model, train, jr.key(10), components=COMPONENTS[-1])
    found = {}
    for name, q in {"clouds": clouds, "normals": normals}.items():
        hole = log_ratio(q, model.p_z(), z) < HOLE
        found |= {
            f"in_hole_{name}": hole.mean(),
            f"sure_in_hole_{name}": _mean(is_sure, hole),
            f"sure_outside_{name}": _mean(is_sure, ~hole),
            f"held_out_{name}": log_ratio(q, model.p_z(), held_out).mean(),
        }
    return found


@jax.jit
def log_ratio(q, p, z):
    """Log q(z)/p(z) of every z."""
    return jax.lax.map(lambda z: q.log_prob(z) - p.log_prob(z), z, batch_size=8)


def _mean(values, where):
    """The mean over some, and over none the mean over all."""
    where = where if where.any() else jnp.ones_like(where)
    return values[where].mean()


if __name__ == "__main__":
    main()
