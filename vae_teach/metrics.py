"""What a trained model is worth on a whole data set, in nats.

Each measure is a pure function of a model and data, compiled, that goes through the
data in pieces; the examples are on the first axis of every array of ``data``.
"""

from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PyTree

from . import classifier
from .bounds import elbo, iwae
from .distributions import kl
from .epochs import check_key, count
from .losses import mean_over_batch
from .training import evaluate
from .typing import PRNGKey, Scalar


@partial(jax.jit, static_argnames=("samples", "batch_size"))
def log_likelihood(
    model, data: PyTree, key: PRNGKey, *, samples: int = 500, batch_size: int = 4
) -> Float[Array, " n"]:
    """Estimate log p(x) of each example by importance sampling: log 1/K Σ_k w_k.

    The weights are w = p(x|z) p(z) / q(z|x) at z ~ q(z|x). In expectation each number
    is a lower bound on log p(x), which it reaches as K grows (Burda, Grosse &
    Salakhutdinov 2016), or at once where q is the posterior. The mean over the examples
    and its standard error are the caller's to take.

    Args:
        model: p_z(), q_z(x) and p_x(z) of one example.
        data: the examples.
        key: the only source of randomness.
        samples: K, the draws of z for each example.
        batch_size: examples at a time. Memory holds ``batch_size * samples`` outputs of
            the decoder; about 2,000 suit the caches of a CPU.

    """
    check_key(key)
    keys = jr.split(key, count(data))

    def one(inputs):
        return -iwae(model, *inputs, samples=samples)[0]

    return jax.lax.map(one, (data, keys), batch_size=batch_size)


@jax.jit
def rate_per_unit(model, data: PyTree) -> Float[Array, " z"]:
    """KL(q(z_j|x) || p(z_j)) of each latent, its mean over the data.

    They sum to the rate. Near 0 a unit has collapsed: its code ignores x.
    """
    p = model.p_z()
    return _over_data(lambda x: jax.vmap(kl)(model.q_z(x), p), data).mean(0)


@jax.jit
def active_units(
    model, data: PyTree, *, threshold: float | Scalar = 0.01
) -> Int[Array, ""]:
    """How many units j have Var_x(E_q[z_j]) > threshold: their code changes with x.

    The measure, and the threshold, of Burda, Grosse & Salakhutdinov 2016.
    """
    means = _over_data(lambda x: model.q_z(x).mean, data)
    return (means.var(0) > threshold).sum()


class RateDistortion(NamedTuple):
    """Means over a data set, in nats per example; elbo = -(rate + distortion)."""

    rate: Scalar
    distortion: Scalar
    elbo: Scalar


# One function for all calls: a new one each time would compile each time.
_loss = mean_over_batch(elbo)


def rate_and_distortion(model, data: PyTree, key: PRNGKey) -> RateDistortion:
    """E_x[KL(q(z|x) || p(z))], E_x E_q[-log p(x|z)] and the ELBO, over ALL of the data.

    The KL is exact, the expectation over q one draw of z for each example. The ELBO is
    the bound on log p(x) (β = 1), whatever the model was trained with (Alemi et al.
    2018).
    """
    terms = evaluate(_loss, model, data, key)
    return RateDistortion(terms["rate"], terms["distortion"], -terms["loss"])


@cache
def digit_classifier() -> classifier.Classifier:
    """The trained judge of digits: ``judge(x)`` gives logits, ``judge.features(x)`` 64.

    It takes one 28 x 28 x 1 image in [0, 1]. It was also shown images that are no
    digits and taught to doubt them, so that its confidence means something on a bad
    sample. Accuracy and record: ``classifier.record()``.
    """
    # Arrays and no tracers, also where the first to ask for it is being compiled.
    with jax.ensure_compile_time_eval():
        return classifier.load()


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1]: of fakes that look real, of reals that the fakes reach."""

    precision: Scalar
    recall: Scalar


@partial(jax.jit, static_argnames="neighbours")
def precision_and_recall(
    real: Float[Array, "n d"], fake: Float[Array, "m d"], *, neighbours: int = 3
) -> PrecisionRecall:
    """How many fakes lie among the reals, and how many reals among the fakes.

    "Among" is: within a ball around one of them that reaches its k-th nearest neighbour
    of its own set (Kynkäänniemi et al. 2019). The rows are features, such as those of
    ``digit_classifier``. Sets of different sizes are not comparable: balls shrink.
    An outlier among the reals has a wide ball, which may raise the precision.

    Raises:
        ValueError: unless both are (count, d) with one d, and more rows than
            ``neighbours``.

    """
    shapes = real.shape, fake.shape
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise ValueError(f"Expected features (n, d) and (m, d), got shapes {shapes}.")
    if not 1 <= neighbours < min(len(real), len(fake)):
        raise ValueError(
            f"Expected neighbours from 1 to fewer than the rows of {shapes}, got "
            f"{neighbours}: give more rows."
        )
    precision = _among(fake, real, neighbours)
    return PrecisionRecall(precision, _among(real, fake, neighbours))


def _among(points, others, k):
    """The share of ``points`` in a ball of ``others``; all distances are squared."""

    def distances(point):
        return ((others - point[None]) ** 2).sum(-1)

    def inside(point):
        return (distances(point) <= radii).any()

    # The nearest of its own set is the point itself.
    def radius(point):
        return -jax.lax.top_k(-distances(point), k + 1)[0][k]

    radii = jax.lax.map(radius, others, batch_size=64)
    return jnp.mean(jax.lax.map(inside, points, batch_size=64))


def _over_data(f, data):
    """``f`` of every example, some at a time: memory does not grow with the data."""
    count(data)
    return jax.lax.map(f, data, batch_size=256)
