"""What is the latent space of a VAE like, in 2, in 20 and in 128 dimensions?

One recipe, three seeds each: does the decoder jump, what do paths between codes cross,
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
from vae_teach.distributions import Bernoulli, Normal
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

from .provenance import Report, about_data
from .recipes import mlp
from .small_vae import IMAGE, loss

PACKAGED = Path(vae_teach.__file__).parent / "datasets" / "latent_space.json"
SIZES, SEEDS, EPOCHS, BATCH, HIDDEN = (2, 20, 128), 3, 20, 100, 128
COMPONENTS, SECOND_EPOCHS = (1, 5, 20), 60
DRAWS, POINTS = 1000, 9
PAIRS = {"linear": 200, "spherical": 200, "geodesic": 16}  # the last is slow
WALKS = 10  # on which jumps are looked for
FINE = 10, 100, 1000  # steps of each walk
HOLE = -float(np.log(10))  # log q(z)/p(z) of a place that codes use ten times less
SURE = 0.9


class Autoencoder(nnx.Module):
    """The VAE's networks, without clouds."""

    def __init__(self, size, rngs):
        self.encoder = MLP(IMAGE, HIDDEN, size, rngs=rngs)
        self.decoder = Conditional(MLP(size, HIDDEN, IMAGE, rngs=rngs), Bernoulli)


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


# Each table


def of_model(model, test) -> dict:
    """Rate and distortion on the test digits, and what the rate consists of."""
    rate, distortion, bound = metrics.rate_and_distortion(model, test, jr.key(2))
    parts = elbo_surgery(model, test, jr.key(3))._asdict()
    parts = {f"surgery_{name}": value for name, value in parts.items()}
    active = metrics.active_units(model, test)
    q = posteriors(model, test)
    z = jax.vmap(Normal.sample)(q, jr.split(jr.key(4), len(test)))
    norms = {"norm_of_means": q.mean, "norm_of_draws": z}
    norms = {k: jnp.linalg.norm(v, axis=1).mean() for k, v in norms.items()}
    shares = {"sure_of_means": q.mean, "sure_of_draws": z}
    shares = {k: sure(pictures(model.decoder, v)) for k, v in shares.items()}
    given = {"rate": rate, "distortion": distortion, "elbo": bound, "active": active}
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
    z, asked = (np.asarray(codes_of(model, images)) for images in (x, y))
    found = {}
    for name, measure in {"slant": slant, "thickness": thickness}.items():
        known, wanted = measure(x), measure(y)
        each = [np.corrcoef(latent, wanted)[0, 1] ** 2 for latent in asked.T]
        weights, *_ = np.linalg.lstsq(z - z.mean(0), known - known.mean(), rcond=None)
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

    By two descriptions of the codes: all training digits' clouds, and ten normals. The
    means of log q(z)/p(z) are over codes of test digits: with any density for q(z) they
    are at most KL(q(z) || p(z)), q(z) that of all digits.
    """
    z = jr.normal(jr.key(14), (DRAWS, *model.p_z().loc.shape))
    held_out = sample_codes(model, test, jr.key(8))[:DRAWS]
    is_sure = verdicts(pictures(model.decoder, z))[1] > SURE
    clouds = Mixture(jnp.zeros(len(train)), posteriors(model, train))
    normals = ex_post_mixture(model, train, jr.key(10), components=10)
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
