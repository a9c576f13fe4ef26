"""What does a category among the latents carry, and how wrong is a relaxed gradient?

The second and third table of ``benchmarks.few_labels``, and the digits that all of them
share.
"""

import time
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from flax import nnx
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import normalized_mutual_info_score

from vae_teach import metrics
from vae_teach.bounds import elbo, elbo_relaxed
from vae_teach.discrete import OneHotCategorical, RelaxedCategorical
from vae_teach.disentanglement import mutual_information
from vae_teach.distributions import Bernoulli, Normal
from vae_teach.joint import Product, elbo_enumerated, joint_capacity, part_rates
from vae_teach.losses import mean_over_batch
from vae_teach.models import VAE, Conditional
from vae_teach.networks import MLP
from vae_teach.priors import Fixed, StandardNormal
from vae_teach.training import fit_many, minimise

SHAPE, HIDDEN, CLASSES = (14, 14, 1), 128, 10
LATENTS, JOINT_LATENTS = 20, 10
BATCH, RATE = 100, 3e-3
TEMPERATURES = (0.1, 0.2, 0.35, 0.67, 1.0, 1.5, 3.0)
DIGITS, DRAWS = 32, 500  # of the gradients
GOES_ON = "continuous 2, τ = 0.67"  # the model whose gradients are judged

ELBO_STEP = minimise(mean_over_batch(elbo), optax.adam(RATE))


class Digits(NamedTuple):
    """Images (n, 14, 14, 1) and their classes."""

    x: jax.Array
    y: jax.Array


def digits(data, n=None):
    """Both splits, each 2 x 2 pixels replaced by their mean."""
    return [
        Digits(pooled(split.images[:n]), jnp.asarray(split.labels[:n]))
        for split in (data.train, data.test)
    ]


def pooled(images):
    """The mean of each 2 x 2 pixels: 28 x 28 becomes 14 x 14."""
    height, width, _ = SHAPE
    return jnp.asarray(images).reshape(-1, height, 2, width, 2, 1).mean((2, 4))


def plain_vae(rngs, latents=LATENTS) -> VAE:
    """A VAE that is told nothing of the classes."""
    encoder = MLP(SHAPE, HIDDEN, 2 * latents, rngs=rngs)
    return VAE(
        StandardNormal(latents),
        Conditional(encoder, Normal.from_log_variance),
        Conditional(MLP(latents, HIDDEN, SHAPE, rngs=rngs), Bernoulli),
    )


def many(make, step, images, seeds, epochs, **weights) -> list:
    """One model a seed, all at once."""
    init_keys, keys = (jr.split(key, seeds) for key in jr.split(jr.key(0)))
    models = jax.vmap(lambda key: make(nnx.Rngs(key)))(init_keys)
    weights = {name: jnp.full(seeds, value) for name, value in weights.items()}
    models, _ = fit_many(
        models, step, images, keys=keys, epochs=epochs, batch_size=BATCH, **weights
    )
    return [jax.tree.map(lambda leaf, n=n: leaf[n], models) for n in range(seeds)]


# A category among the latents


def joint(v) -> Product:
    """The output of an encoder as normal latents and one choice."""
    continuous, choice = v[:-CLASSES], v[-CLASSES:]
    return Product((Normal.from_log_variance(continuous), OneHotCategorical(choice)))


def joint_vae(rngs, latents=JOINT_LATENTS) -> VAE:
    """A VAE with normal latents and a choice among ten."""
    encoder = MLP(SHAPE, HIDDEN, 2 * latents + CLASSES, rngs=rngs)
    decoder = MLP(latents + CLASSES, HIDDEN, SHAPE, rngs=rngs)
    prior = joint(jnp.zeros(2 * latents + CLASSES))
    return VAE(
        Fixed(prior), Conditional(encoder, joint), Conditional(decoder, Bernoulli)
    )


class Variant(NamedTuple):
    """How one model is made and trained."""

    make: partial
    step: object
    weights: dict


def summed_capacity(model, x, key, *, continuous, beta):
    """``joint_capacity`` with the exact sum over the categories, and no temperature."""
    _, terms = elbo_enumerated(model, x, key)
    first, second = part_rates(model.q_z(x), model.p_z())
    value = terms["distortion"] + beta * jnp.abs(first - continuous) + second
    return value, terms


def variants() -> dict[str, Variant]:
    """The rows of the table of joint latents."""
    adam = optax.adam(RATE)
    relaxed = minimise(mean_over_batch(elbo_relaxed), adam)
    capacity = minimise(mean_over_batch(joint_capacity), adam)
    whole = minimise(mean_over_batch(elbo_enumerated), adam)
    summed = minimise(mean_over_batch(summed_capacity), adam)
    found = {
        "continuous alone": Variant(partial(plain_vae, latents=10), ELBO_STEP, {}),
        "one normal latent": Variant(partial(plain_vae, latents=1), ELBO_STEP, {}),
        "one choice": Variant(partial(joint_vae, latents=0), whole, {}),
    }
    for t in (0.3, 0.67, 1.5):
        given = {"temperature": t}
        found[f"joint, τ = {t}"] = Variant(joint_vae, relaxed, given)
    for c, t in ((2, 0.67), (2, 0.3), (2, 1.5), (0.5, 0.67), (4, 0.67), (6, 0.67)):
        given = {"temperature": t, "continuous": c, "beta": 10.0}
        found[f"continuous {c}, τ = {t}"] = Variant(joint_vae, capacity, given)
    given = {"temperature": 0.67, "continuous": 2, "discrete": 2, "beta": 10.0}
    found["continuous 2, discrete 2"] = Variant(joint_vae, capacity, given)
    given = {"continuous": 2, "beta": 10.0}
    found["continuous 2, summed"] = Variant(joint_vae, summed, given)
    return found


@jax.jit
def _posteriors(model, x):
    q, p = jax.vmap(model.q_z)(x), model.p_z()
    if isinstance(q, Product):
        rates = jax.vmap(lambda q: part_rates(q, p))(q).mean(0)
        return q.parts[0].loc, jax.nn.softmax(q.parts[1].logits), rates
    return q.loc, None, None


def measures(model, test: Digits) -> dict:
    """What a model is worth, and what its latents know of the class, in nats."""
    rate, _, bound = metrics.rate_and_distortion(model, test.x, jr.key(1))
    found = {"elbo": float(bound), "rate": float(rate)}
    means, shares, rates = _posteriors(model, test.x)
    y = np.asarray(test.y)
    if means.size:
        known = mutual_information(means, y[:, None], bins=50)
        found["best_latent"] = float(known.max())
    if shares is not None:
        found |= agreement(np.asarray(shares, np.float64), y)
    if rates is not None:
        found |= {"continuous": float(rates[0]), "discrete": float(rates[1])}
    return found


def agreement(shares, y) -> dict:
    """Of q(y|x) with the classes: ``accuracy`` is after the best matching of names.

    ``information`` is I(x; y), the entropy of the mean less the mean entropy;
    ``about_class`` that of the likeliest category and the class.
    """
    chosen = shares.argmax(1)
    table = np.zeros((CLASSES, CLASSES))
    np.add.at(table, (chosen, y), 1)
    matched = table[linear_sum_assignment(-table)].sum()
    codes = chosen[:, None].astype(float)
    return {
        "information": _entropy(shares.mean(0)) - _entropy(shares).mean(),
        "about_class": float(mutual_information(codes, y[:, None], bins=10).item()),
        "accuracy": float(matched / len(y)),
        "nmi": float(normalized_mutual_info_score(y, chosen)),
        "categories": int(
            (np.bincount(chosen, minlength=CLASSES) > 0.01 * len(y)).sum()
        ),
    }


def _entropy(shares):
    return -(shares * np.log(shares.clip(1e-30))).sum(-1)


def joint_latents(report, train, test, seeds, epochs) -> VAE:
    """Every variant from every seed; one of the models goes on to the gradients."""
    kept = None
    for name, (make, step, weights) in variants().items():
        start = time.process_time()
        models = many(make, step, train.x, seeds, epochs, **weights)
        seconds = time.process_time() - start
        found = [measures(model, test) for model in models]
        row = {key: [one[key] for one in found] for key in found[0]}
        report.add(
            table="joint", name=name, weights=weights, **row, cpu_seconds=seconds
        )
        short = {k: np.round(np.mean(v), 2).item() for k, v in row.items()}
        print(f"{name:26}", short, flush=True)
        kept = models[0] if name == GOES_ON else kept
    return kept


# The gradient of a relaxed draw


def estimates(model, images, logits, temperature, key):
    """Gradients of E_q(y)[-log p(x|z, y)] in the logits: exact, and many of each kind.

    z is the posterior mean. Shapes (n, 10), and (n, draws, 10) for the relaxed draw,
    the straight-through draw and the score function with the exact mean as a baseline.
    """

    def of_one(x, logits, key):
        z = model.q_z(x).parts[0].loc

        def cost(y):
            return -model.p_x(jnp.concatenate([z, y])).log_prob(x)

        costs, pi = jax.vmap(cost)(jnp.eye(CLASSES)), jax.nn.softmax(logits)
        exact = pi * (costs - pi @ costs)

        def draws(key):
            def relaxed(logits):
                return RelaxedCategorical(logits, temperature).sample(key)

            soft, pull = jax.vjp(relaxed, logits)
            chosen = soft.argmax()
            hard = jax.nn.one_hot(chosen, CLASSES)
            score = (costs[chosen] - pi @ costs) * (hard - pi)
            return pull(jax.grad(cost)(soft))[0], pull(jax.grad(cost)(hard))[0], score

        return exact, jax.vmap(draws)(jr.split(key, DRAWS))

    return jax.lax.map(
        lambda a: of_one(*a), (images, logits, jr.split(key, len(images)))
    )


def gradients(report, model, test):
    """Bias and standard deviation of one draw, in lengths of the exact gradient."""
    x = test.x[:DIGITS]
    trained = jax.vmap(lambda x: model.q_z(x).parts[1].logits)(x)
    run = jax.jit(estimates)
    for stage, logits in (("uniform", 0 * trained), ("trained", trained)):
        for temperature in TEMPERATURES:
            exact, drawn = run(model, x, logits, temperature, jr.key(2))
            row = {"stage": stage, "temperature": temperature}
            for kind, draws in zip(
                ("relaxed", "straight", "score"), drawn, strict=True
            ):
                row[kind] = bias_and_spread(exact, draws)
            report.add(table="gradients", **row)
            print(row, flush=True)


def bias_and_spread(exact, draws) -> dict:
    """Root mean squares over the digits, relative to that of the exact gradient."""
    exact, draws = np.asarray(exact, np.float64), np.asarray(draws, np.float64)
    length = (exact**2).sum()
    variance = draws.var(1, ddof=1).sum()
    # The mean of the draws is off by its own noise, too: that is no bias.
    squared = ((draws.mean(1) - exact) ** 2).sum() - variance / draws.shape[1]
    return {
        "bias": float(np.sqrt(max(squared, 0) / length)),
        "spread": float(np.sqrt(variance / length)),
    }
