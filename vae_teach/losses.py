"""Losses of a BATCH, to be minimised: ``(model, batch, key) -> (value, terms)``.

The value is a mean over the batch of sums over the event, in nats per example.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PyTree

from .distributions import check_event, kl
from .typing import PRNGKey, Scalar, Terms


def mean_over_batch(bound: Callable) -> Callable:
    """The mean of a per-example bound over a batch, with one key an example."""

    def loss(model, batch, key, **weights):
        values, terms = _over_batch(partial(bound, model, **weights), batch, key)
        return values.mean(), jax.tree.map(jnp.mean, terms)

    return loss


def free_bits(
    model,
    batch: PyTree,
    key: PRNGKey,
    *,
    floor: float | Scalar,
    beta: float | Scalar = 1.0,
) -> tuple[Scalar, Terms]:
    """The mean distortion + β Σ_j max(floor, KL_j), KL_j the batch's mean of latent j.

    A latent below ``floor`` nats is charged ``floor`` (Kingma et al. 2016): nothing
    pushes its KL down, and nothing pulls it up. At a floor of 0 the mean of ``elbo``.
    ``bounds.elbo_free_bits`` clamps each example instead, which charges as much or more
    (Jensen). Terms: ``distortion``, ``rate``, the true KL, and ``clamped_rate``, which
    is charged: a collapse shows in ``rate`` alone.
    """

    def one(x, key):
        q = model.q_z(x)
        distortion = -model.p_x(q.sample(key)).log_prob(x)
        return distortion, jax.vmap(kl)(q, model.p_z())

    distortions, rates = _over_batch(one, batch, key)
    distortion, rates = distortions.mean(), rates.mean(0)
    clamped = jnp.maximum(rates, floor).sum()
    terms = {"distortion": distortion, "rate": rates.sum(), "clamped_rate": clamped}
    return distortion + beta * clamped, terms


def optimal_scale(
    model,
    batch: Float[Array, "n ..."],
    key: PRNGKey,
    *,
    beta: float | Scalar = 1.0,
) -> tuple[Scalar, Terms]:
    """The mean ``elbo`` of a decoder N(., σ² I), at the σ² best for this very batch.

    That is σ² = MSE, over examples and pixels, at which -log p(x|z) of d pixels is d/2
    (log 2π MSE + 1) in the mean (the optimal σ of Rybkin, Daniilidis & Levine 2021).
    Of the decoder's distribution only the mean counts. To use the model later give its
    decoder the MSE of the whole data as σ², which is ``evaluate`` of this loss with
    ``batch_size=len(data)``. Terms: ``distortion``, ``rate``, ``variance``, the σ².
    """

    def one(x, key):
        q = model.q_z(x)
        mean = model.p_x(q.sample(key)).mean
        check_event(x, mean)
        return ((x - mean) ** 2).mean(), kl(q, model.p_z())

    errors, rates = _over_batch(one, batch, key)
    variance, rate = errors.mean(), rates.mean()
    distortion = batch[0].size / 2 * (jnp.log(2 * jnp.pi * variance) + 1)
    terms = {"distortion": distortion, "rate": rate, "variance": variance}
    return distortion + beta * rate, terms


def binarized(loss: Callable) -> Callable:
    """The loss on a fresh binarization of the batch: each pixel is 1 with its value.

    Salakhutdinov & Murray 2008; drawn anew at every call, so at every training step.
    """

    def on_coins(model, batch, key, **weights):
        key_x, key = jr.split(key)
        return loss(model, binarize(batch, key_x), key, **weights)

    return on_coins


def binarize(x: Float[Array, "..."], key: PRNGKey) -> Float[Array, "..."]:
    """One draw of independent coins with probabilities x in [0, 1], as floats.

    Compared with 16 random bits a pixel, half the cost of a uniform float; 0 and 1 stay
    exact, the rest is right to 2⁻¹⁶. NaN where x is outside [0, 1].
    """
    bits = jr.bits(key, x.shape, jnp.uint16)
    coins = (bits < jnp.ceil(x * 65536)).astype(x.dtype)
    return jnp.where((x >= 0) & (x <= 1), coins, jnp.nan)


def _over_batch(f, batch, key):
    """``f(x, key)`` of each example, each with a key of its own."""
    return jax.vmap(f)(batch, jr.split(key, len(jax.tree.leaves(batch)[0])))
