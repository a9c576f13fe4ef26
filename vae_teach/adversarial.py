"""A critic beside a VAE: the losses of two players, for ``training.alternate``.

::

    def only(part):
        return nnx.All(nnx.Param, nnx.PathContains(part))

    step = alternate(
        vae=minimise(against_critic(mean_over_batch(elbo)), tx, only("vae")),
        critic=minimise(critic_loss, tx, only("critic")),
    )
    model, history = fit(VAEGAN(vae, critic), step, images, key=key, epochs=50)
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.random as jr
from flax import nnx
from jaxtyping import Array, Float, PyTree

from .distributions import Distribution
from .typing import PRNGKey, Scalar, Terms


class Critic(nnx.Module):
    """A network of features and a linear map to one logit: how real x looks.

    ``network`` maps one example to ``width`` numbers.
    """

    def __init__(self, network: Callable, width: int, *, rngs: nnx.Rngs):
        self.network = network
        self.head = nnx.Linear(width, 1, rngs=rngs)

    def features(self, x: Float[Array, "..."]) -> Float[Array, " width"]:
        """The last hidden layer, where a reconstruction is compared with its image."""
        return jax.nn.relu(self.network(x))

    def __call__(self, x: Float[Array, "..."]) -> Scalar:
        """The log odds that x is real."""
        return self.head(self.features(x))[0]


class WithCritic(nnx.Module):
    """A VAE and a critic beside it; as a model it is the VAE.

    Bounds and metrics see the VAE's p_z, q_z and p_x.
    """

    def __init__(self, vae, critic: Callable):
        self.vae, self.critic = vae, critic

    def p_z(self) -> Distribution:
        """The prior of the VAE."""
        return self.vae.p_z()

    def q_z(self, x: PyTree) -> Distribution:
        """The approximate posterior of the VAE."""
        return self.vae.q_z(x)

    def p_x(self, z: PyTree) -> Distribution:
        """The likelihood of the VAE."""
        return self.vae.p_x(z)


class VAEGAN(WithCritic):
    """A VAE and a critic of its images (Larsen et al. 2016)."""


def critic_loss(model: VAEGAN, batch: PyTree, key: PRNGKey) -> tuple[Scalar, Terms]:
    """E[softplus(-C(x))] + E[softplus(C(x̃))]: the cross-entropy of real against fake.

    Of the fakes x̃ one half are reconstructions, the other decoded samples of the prior;
    they get no gradient. The best critic is C(x) = log p(x)/p̃(x), with p̃ the density of
    the fakes (Goodfellow et al. 2014); one that cannot tell them apart says 0, and pays
    2 log 2. Terms: ``real`` and ``fake``, the two expectations, in nats.
    """
    fakes = jax.lax.stop_gradient(_fakes(model, batch, key))
    real = jax.nn.softplus(-jax.vmap(model.critic)(batch)).mean()
    fake = jax.nn.softplus(jax.vmap(model.critic)(fakes)).mean()
    return real + fake, {"real": real, "fake": fake}


def against_critic(
    loss: Callable,
    *,
    realism: float = 1.0,
    features: float = 0.0,
) -> Callable:
    """The loss of a batch, plus what the critic asks of the images.

    ``realism`` E[softplus(-C(x̃))] + ½ ``features`` E|f(x) - f(x̃)|²

    The first is the non-saturating loss of a generator, which has a slope where the
    critic is sure (Goodfellow et al. 2014), over the fakes of ``critic_loss``; as in
    Larsen et al. 2016 the encoder gets no gradient of it. The second is their distance
    in the critic's features, of reconstructions, which encoder and decoder get.
    Adds the terms ``fooling``, log 2 where the critic says 0, and ``features``.
    """

    def player(model, batch, key, **weights):
        key_loss, key_fakes, key_z = jr.split(key, 3)
        value, terms = loss(model, batch, key_loss, **weights)
        fakes = _fakes(model, batch, key_fakes)
        fooling = jax.nn.softplus(-jax.vmap(model.critic)(fakes)).mean()
        value, terms = value + realism * fooling, terms | {"fooling": fooling}
        if not features:
            return value, terms
        seen = jax.vmap(model.critic.features)
        differ = seen(batch) - seen(_reconstructions(model, batch, key_z))
        distance = 0.5 * (differ**2).sum(-1).mean()
        return value + features * distance, terms | {"features": distance}

    return player


def _reconstructions(model, batch, key, pass_on=lambda z: z):
    def one(x, key):
        return model.p_x(pass_on(model.q_z(x).sample(key))).mean

    return jax.vmap(one)(batch, jr.split(key, len(batch)))


def _fakes(model, batch, key):
    """As many reconstructions as decoded samples of the prior; none moves q(z|x)."""
    key_q, key_p = jr.split(key)
    decoded = _reconstructions(model, batch, key_q, jax.lax.stop_gradient)

    def one(key):
        return model.p_x(model.p_z().sample(key)).mean

    return jnp.concatenate([decoded, jax.vmap(one)(jr.split(key_p, len(batch)))])
