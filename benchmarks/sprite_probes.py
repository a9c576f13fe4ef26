"""Is the shape gone from the codes? Probes of what a latent less, or a label, leaves.

A random forest and a logistic regression learn the shape from the codes of the training
sprites and are judged on those of the test sprites; guessing gives 1/3. A code is the
posterior mean, or a draw z ~ q(z|x): offsets smaller than the posterior's noise cost no
rate, a mean shows them and a draw does not.
"""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from flax import nnx

from vae_teach.adversarial import WithCritic
from vae_teach.distributions import Bernoulli, Normal, kl
from vae_teach.epochs import count
from vae_teach.models import VAE, Conditional
from vae_teach.networks import MLP
from vae_teach.priors import StandardNormal
from vae_teach.training import alternate, fit_many, minimise

from . import sprite_vae as recipe

SHAPES, TREES = 3, 50


def probe(train, test, train_shapes, test_shapes) -> dict[str, float]:
    """Test accuracy of a forest and of a linear classifier."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    forest = RandomForestClassifier(TREES, random_state=0)
    linear = make_pipeline(StandardScaler(), LogisticRegression())
    return {
        name: float(model.fit(train, train_shapes).score(test, test_shapes))
        for name, model in (("forest", forest), ("linear", linear))
    }


def without_best(codes, nmi) -> np.ndarray:
    """The codes less the latent that knows most of the shape."""
    return np.delete(codes, np.argmax(np.asarray(nmi)[:, 0]), 1)


def given_shape(model, batch, key, *, beta, penalty):
    """The β-VAE's loss of (images, one-hot shapes), and penalty x E[log c(shape | z)].

    Both networks are told the shape, so that it need not be in z, where it costs rate:
    the conditional model of the variational fair autoencoder (Louizos et al. 2016).
    That does not forbid it. The critic c, who guesses it from z, does: for the VAE to
    win, z must say nothing (as in Edwards & Storkey 2016).
    """
    x, shape = batch
    q, z = _encoded(model, batch, key)
    distortion = -jax.vmap(lambda x, z, shape: model.vae.decoder(z, shape).log_prob(x))(
        x, z, shape
    ).mean()
    rate = jax.vmap(kl, (0, None))(q, model.p_z()).mean()
    known = _log_guess(model, z, shape)
    terms = {"distortion": distortion, "rate": rate, "log_guess": known}
    return distortion + beta * rate + penalty * known, terms


def critic_loss(model, batch, key):
    """-E[log c(shape | z)], the codes fixed: log 3 for a critic that knows nothing."""
    z = jax.lax.stop_gradient(_encoded(model, batch, key)[1])
    known = _log_guess(model, z, batch[1])
    return -known, {"log_guess": known}


def _encoded(model, batch, key):
    q = jax.vmap(model.vae.encoder)(*batch)
    return q, drawn(q, key)


def _log_guess(model, z, shape):
    guesses = jax.nn.log_softmax(jax.vmap(model.critic)(z))
    return (guesses * shape).sum(1).mean()


def drawn(q, key):
    """One z of each posterior."""
    keys = jr.split(key, len(q.mean))
    return jax.vmap(lambda q, key: q.sample(key))(q, keys)


def conditional_vae(rngs: nnx.Rngs) -> VAE:
    """The VAE of the sprites, both networks with three more inputs."""
    sizes = int(np.prod(recipe.IMAGE)) + SHAPES, recipe.LATENTS + SHAPES
    encoder = MLP(sizes[0], *recipe.ENCODER, 2 * recipe.LATENTS, rngs=rngs)
    decoder = MLP(sizes[1], *recipe.DECODER, recipe.IMAGE, rngs=rngs)
    return VAE(
        StandardNormal(recipe.LATENTS),
        Conditional(encoder, Normal.from_log_variance),
        Conditional(decoder, Bernoulli),
    )


def train_conditional(images, shapes, beta, penalty, seeds, epochs) -> list[VAE]:
    """One model a seed, trained as ``sprite_vae`` trains."""
    data = jnp.asarray(images), one_hot(shapes)
    steps = count(data) // recipe.BATCH * epochs
    keys = jax.vmap(lambda seed: jr.split(jr.key(seed), 3))(jnp.array([*seeds]))
    models = jax.vmap(_with_critic)(keys[:, 0], keys[:, 2])
    loss = partial(given_shape, beta=beta, penalty=penalty)
    step = alternate(
        vae=minimise(loss, recipe.adam(steps), recipe.only("vae")),
        critic=minimise(critic_loss, recipe.critics_adam(), recipe.only("critic")),
    )
    models, _ = fit_many(
        models, step, data, keys=keys[:, 1], epochs=epochs, batch_size=recipe.BATCH
    )
    return [
        jax.tree.map(lambda leaf, n=n: leaf[n], models.vae) for n in range(len(keys))
    ]


def _with_critic(key, key_critic):
    critic = MLP(recipe.LATENTS, 128, 128, SHAPES, rngs=nnx.Rngs(key_critic))
    return WithCritic(conditional_vae(nnx.Rngs(key)), critic)


def one_hot(shapes) -> jax.Array:
    """A row of three for each shape."""
    return jax.nn.one_hot(jnp.asarray(shapes), SHAPES)
