"""Few labels and many examples: M2, a VAE with the class as a second latent.

p(x, y, z) = p(y) p(z) p(x|y, z), with p(y) uniform over k classes, and the posterior
q(y|x) q(z|x, y), of which q(y|x) is a classifier (Kingma, Rezende, Mohamed & Welling
2014). A label that is known is data; one that is not is summed over, exactly.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.random as jr
from flax import nnx
from jaxtyping import Array, Float, Int, PyTree

from .bounds import elbo
from .discrete import OneHotCategorical
from .epochs import check_key
from .models import VAE, Given
from .typing import PRNGKey, Scalar, Terms

UNKNOWN = -1  # the label of an example that has none


class M2(nnx.Module):
    """A VAE whose encoder and decoder also read a one-hot class, and a classifier.

    ``vae.encoder(x, y)``, ``vae.decoder(z, y)``, and ``classifier(x)``, a
    ``OneHotCategorical`` with logits (k,).
    """

    def __init__(self, vae: VAE, classifier: Callable):
        self.vae, self.classifier = vae, classifier

    def q_y(self, x: PyTree) -> OneHotCategorical:
        """The approximate posterior q(y|x), which is the classifier."""
        return self.classifier(x)


def class_losses(model: M2, x: PyTree, key: PRNGKey) -> Float[Array, " k"]:
    """Negative bounds L(x, y) on log p(x, y) of one example, one for each class y.

    E_{q(z|x, y)}[-log p(x|y, z)] + KL(q(z|x, y) || p(z)) + log k: ``elbo`` with the
    class given. All classes share the noise of z, so that differences have less of it.
    """
    k = model.q_y(x).logits.size

    def given(y):
        return elbo(Given(model.vae, y), x, key)[0]

    return jax.vmap(given)(jnp.eye(k)) + jnp.log(float(k))


def m2(
    model: M2,
    example: tuple[PyTree, Int[Array, ""]],
    key: PRNGKey,
    *,
    alpha: float | Scalar,
) -> tuple[Scalar, Terms]:
    """The loss of one example (x, label), labelled or not; its label is then -1.

    With ℓ_y the ``class_losses``: ℓ_label - α log q(label|x) where the label is known,
    Σ_y q(y|x) (ℓ_y + log q(y|x)) where it is not. These bound -log p(x, y) and -log
    p(x) from above; -α log q trains the classifier on the labels, which the first bound
    does not. Data are pairs of arrays, (images, labels), in one random order. Kingma et
    al. 2014 weigh the mean of -log q over the labelled by a tenth of the number of
    examples: α = 0.1 n / n_labelled here.

    Terms: ``bound``, without -α log q, and ``classification``, the -log q(label|x) of a
    labelled example, 0 of another: multiply its mean by n / n_labelled.
    """
    x, label = example
    losses, log_q = class_losses(model, x, key), _log_q(model, x)
    known = label != UNKNOWN
    chosen = jax.nn.one_hot(label, len(losses))
    q = jnp.where(known, chosen, jnp.exp(log_q))
    bound = (q * losses).sum() + jnp.where(known, 0, (q * log_q).sum())
    classification = -(chosen * log_q).sum()
    terms = {"bound": bound, "classification": classification}
    return bound + alpha * classification, terms


def keep_labels(
    labels: Int[Array, " n"], key: PRNGKey, *, per_class: int
) -> Int[Array, " n"]:
    """The labels of ``per_class`` random examples of each class, -1 for all others.

    Raises:
        ValueError: where a class has fewer examples.

    """
    check_key(key)
    sizes = jnp.bincount(labels)
    if not 1 <= per_class <= sizes.min():
        raise ValueError(
            f"Expected from 1 to {sizes.min()} labels a class, as many as the smallest "
            f"class has, got {per_class}."
        )
    order = jr.permutation(key, len(labels))
    shuffled = labels[order]
    # The place of each example among those of its class, in the random order.
    same = jax.nn.one_hot(shuffled, len(sizes), dtype=jnp.int32)
    place = (same.cumsum(0) * same).sum(1)
    kept = jnp.where(place <= per_class, shuffled, UNKNOWN)
    return jnp.zeros_like(labels).at[order].set(kept)


def _log_q(model, x):
    return jax.nn.log_softmax(model.q_y(x).logits)
