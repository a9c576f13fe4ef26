"""Joint latents: one code with a continuous and a categorical part (Dupont 2018).

``Product`` joins distributions into one over a vector, so that a decoder, a prior and
every bound take a joint code as they take any other. Draws of a category have no
gradient: train with ``bounds.elbo_relaxed``, or with ``elbo_enumerated``, which sums
over the categories.
"""

from itertools import accumulate
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PyTree, Shaped

from .discrete import OneHotCategorical, relaxed
from .distributions import Distribution, Normal, kl, no_closed_form, pytree
from .typing import PRNGKey, Scalar, Terms


@pytree
class Product(Distribution):
    """Independent parts, Π_i p_i(x_i); an event is one vector, part after part.

    The posterior of a joint VAE, from the output v of its encoder, d normal latents and
    then one choice: ``Product((Normal.from_log_variance(v[: 2 * d]),
    OneHotCategorical(v[2 * d :])))``.
    """

    parts: tuple[Any, ...]  # distributions

    def sample(self, key: PRNGKey) -> Float[Array, " n"]:
        """One sample of each part, raveled, end to end."""
        keys = jr.split(key, len(self.parts))
        return _joined(p.sample(k) for p, k in zip(self.parts, keys, strict=True))

    @property
    def mean(self) -> Float[Array, " n"]:
        """The means of the parts, end to end."""
        return _joined(part.mean for part in self.parts)

    def log_prob(self, x: Shaped[Array, " n"]) -> Scalar:
        """Σ_i log p_i(x_i)."""
        events = zip(self.parts, self.split(x), strict=True)
        return jnp.stack([part.log_prob(event) for part, event in events]).sum()

    def sample_and_log_prob(self, key: PRNGKey) -> tuple[Float[Array, " n"], Scalar]:
        """One sample and its log density, each part by its own method."""
        keys = jr.split(key, len(self.parts))
        pairs = zip(self.parts, keys, strict=True)
        xs, log_ps = zip(*(p.sample_and_log_prob(k) for p, k in pairs), strict=True)
        return _joined(xs), jnp.stack(log_ps).sum()

    def split(self, x: Shaped[Array, " n"]) -> list[Shaped[Array, "..."]]:
        """The events of the parts, each in its own shape.

        Raises:
            ValueError: for a vector of another length.

        """
        likes = [_event(part) for part in self.parts]
        *ends, total = accumulate(like.size for like in likes)
        if x.shape != (total,):
            raise ValueError(
                f"Expected one vector of {total} numbers, the parts end to end, got "
                f"shape {x.shape}: vmap over a batch."
            )
        pieces = zip(jnp.split(x, ends), likes, strict=True)
        return [piece.reshape(like.shape) for piece, like in pieces]


def part_rates(q: Distribution, p: Distribution) -> Float[Array, " parts"]:
    """KL(q_i || p_i) of each part of two products, in nats; their sum is the KL.

    Raises:
        TypeError: unless both are products of as many parts.

    """
    if not isinstance(q, Product) or not isinstance(p, Product):
        raise no_closed_form(q, p)
    if len(q.parts) != len(p.parts):
        raise TypeError(
            f"Expected products of as many parts, got {len(q.parts)} in the posterior "
            f"and {len(p.parts)} in the prior."
        )
    return jnp.stack([kl(a, b) for a, b in zip(q.parts, p.parts, strict=True)])


@kl.register
def _(q: Product, p: Distribution) -> Scalar:
    """The sum over the parts."""
    return part_rates(q, p).sum()


@relaxed.register
def _(q: Product, temperature) -> Product:
    return Product(tuple(relaxed(part, temperature) for part in q.parts))


def elbo_enumerated(
    model, x: PyTree, key: PRNGKey, *, beta: float | Scalar = 1.0
) -> tuple[Scalar, Terms]:
    """``elbo`` of normal latents z and one choice y, with the exact sum over y.

    Σ_y q(y|x) E_{q(z|x)}[-log p(x|z, y)] + β KL at one z for all y. A bound like
    ``elbo``, and with a gradient in the logits of y: no relaxation and no temperature.
    It costs one pass of the decoder a category.

    Raises:
        TypeError: unless q(z|x) is a ``Product`` of a ``Normal`` and then one choice.

    """
    q = model.q_z(x)
    z, choice = _normal_and_choice(q)
    z = z.sample(key)

    def distortion_of(y):
        return -model.p_x(_joined([z, y])).log_prob(x)

    categories = jnp.eye(choice.logits.size)
    distortions = jax.vmap(distortion_of)(categories)
    distortion = (choice.mean * distortions).sum()
    rate = kl(q, model.p_z())
    return distortion + beta * rate, {"distortion": distortion, "rate": rate}


def joint_capacity(
    model,
    x: PyTree,
    key: PRNGKey,
    *,
    temperature: float | Scalar,
    continuous: float | Scalar,
    discrete: float | Scalar | None = None,
    beta: float | Scalar = 1.0,
) -> tuple[Scalar, Terms]:
    """E_q[-log p(x|z)] + β |KL_1 - continuous| + KL_2 at a relaxed z, in nats.

    ``bounds.capacity`` for the first of two parts: what it would like to carry cannot
    empty the second, a choice. With ``discrete`` given, β |KL_2 - discrete| stands for
    KL_2 (Dupont 2018, who raises both targets). That target can be met by one choice
    for all x, which says nothing of x: look at the mutual information. No bound: report
    ``elbo``. Terms: ``distortion``, ``continuous`` and ``discrete``, the KL of the two
    parts, un-weighted.
    """
    q = model.q_z(x)
    z = relaxed(q, temperature).sample(key)
    distortion = -model.p_x(z).log_prob(x)
    first, second = part_rates(q, model.p_z())
    charged = beta * jnp.abs(first - continuous)
    charged += second if discrete is None else beta * jnp.abs(second - discrete)
    terms = {"distortion": distortion, "continuous": first, "discrete": second}
    return distortion + charged, terms


def _joined(events):
    return jnp.concatenate([jnp.ravel(event) for event in events])


def _event(part):
    """Shape and type of one event, without drawing it."""
    return jax.eval_shape(lambda: part.sample(jr.key(0)))


def _normal_and_choice(q):
    """The two parts of a joint posterior."""
    kinds = [type(p) for p in q.parts] if isinstance(q, Product) else [type(q)]
    if kinds != [Normal, OneHotCategorical] or q.parts[1].logits.ndim != 1:
        raise TypeError(
            "Expected q_z(x) to be a Product of a Normal and one OneHotCategorical "
            f"with logits (k,), got {[kind.__name__ for kind in kinds]}: for other "
            "latents use bounds.elbo_relaxed."
        )
    return q.parts
