"""How the models of the table of variants are judged: on one likelihood, in nats.

Each judge takes the models of all seeds, stacked, and is one compiled program.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jax.nn import logsumexp

from vae_teach import metrics
from vae_teach.bounds import elbo
from vae_teach.conditioning import given
from vae_teach.losses import mean_over_batch
from vae_teach.models import Given
from vae_teach.priors import UniformCodes
from vae_teach.training import evaluate
from vae_teach.vq import VQVAE, usage

JUDGED, SAMPLES = 400, 128  # images of log p(x), and samples of z for each


class Digits(NamedTuple):
    """Binary images (n, 28, 28, 1), and their classes as one-hot vectors."""

    train: jax.Array
    train_classes: jax.Array
    test: jax.Array
    classes: jax.Array


def of_seeds(judge):
    """The same judge of models stacked on a first axis."""
    return jax.jit(jax.vmap(judge, (0, None)))


@of_seeds
def of_latents(model, data: Digits) -> dict:
    """Of normal latents."""
    return _bound(model, data.test) | {
        "log_px": _log_px(model, data.test[:JUDGED]).mean(),
        "active": metrics.active_units(model, data.test),
    }


@of_seeds
def of_pairs(model, data: Digits) -> dict:
    """Of normal latents given the class; the bound is on log p(x|y).

    p(x) = Σ_y p(y) p(x|y), with p(y) the shares in the training split. A unit is active
    where its mean varies among the images of one class.
    """
    pairs = data.test, data.classes
    terms = evaluate(_OF_PAIRS, model, pairs, jr.key(1), batch_size=500)
    x, y = data.test[:JUDGED], data.classes[:JUDGED]

    def of_class(c):
        return _log_px(Given(model, c), x)

    each = jax.lax.map(of_class, jnp.eye(y.shape[1])).T
    log_py = jnp.log(data.train_classes.mean(0))
    means = jax.lax.map(lambda p: model.encoder(*p).mean, pairs, batch_size=256)
    of_classes = data.classes.T @ means / data.classes.sum(0)[:, None]
    within = (means - data.classes @ of_classes).reshape(len(means), -1).var(0)
    return {
        "rate": terms["rate"],
        "distortion": terms["distortion"],
        "elbo": -terms["loss"],
        "log_px": logsumexp(each + log_py[None], 1).mean(),
        "log_px_given_y": (each * y).sum(1).mean(),
        "active": (within > 0.01).sum(),
    }


@of_seeds
def of_codes(model: VQVAE, data: Digits) -> dict:
    """Of codes for certain: the bound is exact, and all that there is."""
    used = usage(model, data.test)
    names = ("top", "bottom") if isinstance(model.quantiser.size, tuple) else ("codes",)
    levels = dict(zip(names, used if len(names) > 1 else (used,), strict=True))
    return _bound(model, data.test) | {
        "log_px": _bound(model, data.test[:JUDGED])["elbo"],
        "used": {k: v.share for k, v in levels.items()},
        "perplexity": {k: v.perplexity for k, v in levels.items()},
    }


@of_seeds
def of_choices(model, data: Digits) -> dict:
    """Of choices with a doubt: codes are counted where they are the likeliest."""
    codes = jax.lax.map(
        lambda x: model.q_z(x).logits.argmax(-1), data.test, batch_size=256
    )
    size = model.p_z().logits.shape[-1]
    shares = jnp.bincount(codes.ravel(), length=size) / codes.size
    return _bound(model, data.test) | {
        "log_px": _log_px(model, data.test[:JUDGED]).mean(),
        "used": {"codes": (shares > 0).mean()},
        "perplexity": {"codes": jnp.exp(jax.scipy.special.entr(shares).sum())},
    }


def kind(model) -> str:
    """What ``log_px`` of a row is."""
    if not isinstance(model, VQVAE):
        return "importance sampling"
    prior = getattr(model.prior, "top", model.prior)
    return f"bound, {'uniform' if isinstance(prior, UniformCodes) else 'learned'} prior"


_OF_PAIRS = mean_over_batch(given(elbo))


def _log_px(model, images):
    """With the same noise in every row."""
    return metrics.log_likelihood(
        model, images, jr.key(2), samples=SAMPLES, batch_size=8
    )


def _bound(model, images):
    rate, distortion, bound = metrics.rate_and_distortion(model, images, jr.key(1))
    return {"rate": rate, "distortion": distortion, "elbo": bound}
