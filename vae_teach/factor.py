"""FactorVAE: a critic of the CODES estimates their total correlation, which is charged.

::

    model = FactorVAE(vae, Critic(MLP(10, 256, 256, rngs=rngs), 256, rngs=rngs))
    step = alternate(
        vae=minimise(partial(factor_loss, gamma=30.0), tx, only("vae")),
        critic=minimise(factor_critic_loss, tx, only("critic")),
    )

``only`` is in ``adversarial``. Where ``dependence.tc_vae`` estimates the densities of
q(z) from a batch, this learns their ratio (Kim & Mnih 2018).
"""

import jax
import jax.random as jr
from jaxtyping import Array, Float, PyTree

from .adversarial import WithCritic
from .dependence import encoded
from .distributions import kl
from .typing import PRNGKey, Scalar, Terms


class FactorVAE(WithCritic):
    """A VAE and a critic of its codes (Kim & Mnih 2018): z -> the log odds of q(z)."""


def factor_loss(
    model: FactorVAE, batch: PyTree, key: PRNGKey, *, gamma: float | Scalar
) -> tuple[Scalar, Terms]:
    """The mean ELBO loss + γ E_q(z)[C(z)], both at one z ~ q(z|x) an example.

    The best critic is C(z) = log q(z)/Π_j q(z_j), and E_q(z)[C(z)] then the total
    correlation TC = KL(q(z) || Π_j q(z_j)), in nats. One that lags behind may say
    anything, below 0 too. Terms: ``distortion``, ``rate``, the KL in closed form, and
    ``total_correlation``, E[C(z)].
    """
    q, z, distortion = encoded(model, batch, key)
    rate = jax.vmap(kl, (0, None))(q, model.p_z()).mean()
    correlation = jax.vmap(model.critic)(z).mean()
    terms = {
        "distortion": distortion,
        "rate": rate,
        "total_correlation": correlation,
    }
    return distortion + rate + gamma * correlation, terms


def factor_critic_loss(
    model: FactorVAE, batch: PyTree, key: PRNGKey
) -> tuple[Scalar, Terms]:
    """E[softplus(-C(z))] + E[softplus(C(z̃))], z̃ from ``permute_latents`` of the z.

    The cross-entropy of codes z ~ q(z) against codes of independent latents, z̃ ~
    Π_j q(z_j); 2 log 2 for a critic that says 0. Codes get no gradient. z̃ permutes
    the same batch: Kim & Mnih permute a second one, which has the same mean, as each
    expectation is of one code at a time. Terms: ``joint`` and ``permuted``, in nats.
    """
    key_z, key_permute = jr.split(key)
    z = jax.lax.stop_gradient(encoded(model, batch, key_z)[1])
    joint = jax.nn.softplus(-jax.vmap(model.critic)(z)).mean()
    apart = jax.vmap(model.critic)(permute_latents(z, key_permute))
    permuted = jax.nn.softplus(apart).mean()
    return joint + permuted, {"joint": joint, "permuted": permuted}


def permute_latents(z: Float[Array, "b d"], key: PRNGKey) -> Float[Array, "b d"]:
    """Permute each latent across the batch, independently of the others.

    Every column keeps its values, hence q(z_j), and no longer knows the other columns.
    To permute within each example would mix the latents, and leave no q(z_j). Two
    latents of one row stay together with a chance of 1/B: a batch must not be small.
    """
    return jr.permutation(key, z, axis=0, independent=True)
