"""Codebooks: which codes are used, what a batch tells of that, and k-means online."""

import time
from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from flax import nnx
from sklearn.cluster import KMeans

from vae_teach.distributions import Bernoulli
from vae_teach.epochs import epoch_of_many, plan
from vae_teach.losses import mean_over_batch
from vae_teach.metrics import rate_and_distortion
from vae_teach.quantisers import MovingCodebook
from vae_teach.vq import restarts, usage, vq

from . import variant_models as models
from .code_rates import BATCH, each, made, mlp_codes, of_images, players

AT_TOKENS = "moving averages, start at tokens"
KINDS = {
    "codebook loss": (models.learned_codes, models.OF_CODES),
    "codebook loss, restarts": (models.learned_codes, models.WITH_RESTARTS),
    "unit vectors": (models.unit_codes, models.OF_CODES),
    "moving averages": (models.moving_codes, models.WITH_AVERAGES),
    "moving averages, restarts": (models.moving_codes, models.WITH_BOTH),
    AT_TOKENS: (models.moving_codes, models.WITH_AVERAGES),
    "finite scalars": (models.finite_scalars, models.OF_CODES),
}
NUMBERS, SQUARE = (64, 256, 1024), (4, 4)  # numbers of codes, on this grid
COMMITMENTS = (0.0, 0.25, 1.0, 4.0)


def by_number(codes) -> dict:
    """Cheaper models with so many codes: MLPs and a grid of 4 x 4."""
    make = partial(mlp_codes, grid=SQUARE, codes=codes, family=Bernoulli)
    return {
        "moving averages": (make, models.WITH_AVERAGES),
        "moving averages, restarts": (make, models.WITH_BOTH),
    }


def by_commitment(weight):
    """The same with another weight of the commitment."""
    make = partial(mlp_codes, grid=SQUARE, codes=models.CODES, family=Bernoulli)
    return make, players(models.ADAM, partial(vq, commitment=weight))


def trained(make, step, train, seeds, epochs, *, at_tokens=False):
    """All seeds' models, the usage after each epoch, and what it took."""
    stacked, keys = made(make, seeds)
    if at_tokens:
        stacked = jax.vmap(_placed, (0, None, 0))(
            stacked, train[:BATCH], jr.split(jr.key(5), seeds)
        )
    train, lengths = plan(train, BATCH, epochs, None)
    carry, history = (stacked, jax.vmap(step.init)(stacked)), [_used(stacked, train)]
    moved, cpu, wall = [], time.process_time(), time.perf_counter()
    for e, length in enumerate(lengths):
        given = {"step": step, "batch_size": BATCH, "length": length}
        now = jax.vmap(jr.fold_in, (0, None))(keys, e)
        carry, terms = epoch_of_many(carry, train, now, **given)
        history.append(_used(carry[0], train))
        if "restarts/restarted" in terms:
            moved.append(terms["restarts/restarted"].sum(1))
    on_the_way = {
        "epoch": list(range(epochs + 1)),
        "share": np.stack([found.share for found in history], 1).tolist(),
        "perplexity": np.stack([found.perplexity for found in history], 1).tolist(),
    }
    if moved:
        on_the_way["restarted"] = np.stack(moved, 1).tolist()
    return each(carry[0]), {
        "steps": sum(lengths),
        "share": on_the_way["share"],
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "history": on_the_way,
    }


_used = jax.jit(jax.vmap(usage, (0, None)))


def _placed(model, batch, key):
    """Every code at a token of the batch: all of them count as dead."""
    step = restarts(0.0, below=jnp.inf)
    return step.update(model, step.init(model), batch, key)[0]


def usage_row(make, step, train, test, labels, seeds, epochs, **given):
    """One model a seed, and the row of what became of its codes."""
    found, row = trained(make, step, train, seeds, epochs, **given)
    columns = [of_model(model, test, labels) for model in found]
    row |= {name: [one[name] for one in columns] for name in columns[0]}
    row["share"] = [shares[-1] for shares in row["history"]["share"]]
    row["perplexity"] = [values[-1] for values in row["history"]["perplexity"]]
    return found, row


def of_model(model, test, labels) -> dict:
    """On the test digits: distortion in nats, and the encoder's outputs."""
    terms = rate_and_distortion(model, test, jr.key(2))
    norm, commitment = _tokens_of(model, test)
    return {
        "distortion": float(terms.distortion),
        **of_images(model, test, labels),
        "test_share": float(usage(model, test).share),
        "token_norm": float(norm),
        "commitment": float(commitment),
    }


@jax.jit
def _tokens_of(model, test):
    """The root of the mean |h|² of a token, and the mean |y - e|² of a token."""

    def one(x):
        h = model.encoder(x)
        tokens = h.size / h.shape[-1]
        return (h**2).sum() / tokens, model.quantise(x).commitment / tokens

    squares, errors = jax.lax.map(one, test, batch_size=200)
    return jnp.sqrt(squares.mean()), errors.mean()


# Batches


def by_batch(model, x, sizes=(16, 256), commitment=0.25) -> list[dict]:
    """The loss of the same examples in batches of two sizes, without the constant rate.

    ``summed`` is a loss whose penalty is a sum over the batch beside a mean distortion,
    and ``share`` what is left of the distortion in it.
    """
    rows = []
    for size in sizes:
        batches = x.reshape(-1, size, *x.shape[1:])
        terms = {k: float(v.mean()) for k, v in _of_batches(model, batches).items()}
        penalty = terms["codebook"] + commitment * terms["commitment"]
        summed = terms["distortion"] + size * penalty
        rows.append(
            {
                "batch_size": size,
                "loss": terms["distortion"] + penalty,
                "distortion": terms["distortion"],
                "penalty": penalty,
                "summed": summed,
                "share": terms["distortion"] / summed,
            }
        )
    return rows


@jax.jit
def _of_batches(model, batches):
    """The terms of the loss, in its own words, of each batch."""
    loss = mean_over_batch(vq)
    return jax.lax.map(lambda batch: loss(model, batch, jr.key(0))[1], batches)


def of_batches(codes, size, number, most=50) -> dict:
    """Share and perplexity of the codes in batches of ``size`` images, their means."""
    count = min(len(codes) // size, most)
    batches = codes[: count * size].reshape(count, -1)
    counts = jax.vmap(lambda z: jnp.bincount(z, length=number))(batches)
    shares = counts / batches.shape[1]
    entropy = jax.scipy.special.entr(shares).sum(1)
    return {
        "share": float((counts > 0).mean()),
        "perplexity": float(jnp.exp(entropy).mean()),
    }


# k-means, online

FEW, TOKENS, OF_BATCH, STEPS, EVERY = 32, 20_000, 512, 600, 20
DECAYS = (0.0, 0.9, 0.99)


def tokens_of(model, images):
    """The encoder's outputs, token by token."""
    h = jax.vmap(model.encoder)(images[: TOKENS // models.GRID[0] ** 2])
    return h.reshape(-1, h.shape[-1])


def online(tokens, decay, key) -> list[float]:
    """Mean |y - e|² over all tokens, every few steps of the moving averages.

    They start at ``start(tokens)``, and see a few tokens a step.
    """
    return _online(tokens, start(tokens), decay, key).tolist()


def start(tokens):
    """As many tokens as there are codes."""
    return tokens[jr.permutation(jr.key(8), len(tokens))[:FEW]]


@jax.jit
def _online(tokens, first, decay, key):
    codebook = MovingCodebook(*first.shape, rngs=nnx.Rngs(0))
    codebook.table[...] = first
    graphdef, state = nnx.split(codebook)

    def error(state):
        q = nnx.merge(graphdef, state)
        return ((tokens - q.vectors(q.codes(tokens))) ** 2).sum(1).mean()

    def step(state, key):
        q = nnx.merge(graphdef, state, copy=True)
        q.move(tokens[jr.randint(key, (OF_BATCH,), 0, len(tokens))], decay)
        return nnx.split(q)[1], None

    def some(state, key):
        state, _ = jax.lax.scan(step, state, jr.split(key, EVERY))
        return state, error(state)

    _, errors = jax.lax.scan(some, state, jr.split(key, STEPS // EVERY))
    return jnp.concatenate([error(state)[None], errors])


def lloyd(tokens) -> float:
    """The error that k-means ends at, from the same start."""
    first = np.asarray(start(tokens))
    found = KMeans(FEW, init=first, n_init=1, max_iter=500, tol=0).fit(tokens)
    return float(found.inertia_ / len(tokens))
