"""Is the shape gone from the codes? Probes of what a latent less, or a label, leaves.

A random forest and a logistic regression learn the shape from the posterior means of
the training sprites and are judged on those of the test sprites; guessing gives 1/3.
"""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from flax import nnx

from vae_teach.distributions import Bernoulli, Normal, kl
from vae_teach.epochs import count
from vae_teach.losses import mean_over_batch
from vae_teach.models import VAE, Conditional
from vae_teach.networks import MLP
from vae_teach.priors import StandardNormal
from vae_teach.training import fit_many, minimise

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


def given_shape(model: VAE, example, key, *, beta):
    """The β-VAE's loss of one (image, one-hot shape), the shape known to both networks.

    What the decoder is told need not be in z, and costs rate there: the conditional
    model of the variational fair autoencoder, without its further penalty (Louizos et
    al. 2016).
    """
    x, shape = example
    q = model.encoder(x, shape)
    distortion = -model.decoder(q.sample(key), shape).log_prob(x)
    rate = kl(q, model.p_z())
    return distortion + beta * rate, {"distortion": distortion, "rate": rate}


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


def train_conditional(images, shapes, beta: float, seeds, epochs: int) -> list[VAE]:
    """One model a seed, trained as ``sprite_vae`` trains."""
    data = jnp.asarray(images), one_hot(shapes)
    steps = count(data) // recipe.BATCH * epochs
    keys = jax.vmap(lambda seed: jr.split(jr.key(seed)))(jnp.array([*seeds]))
    models = jax.vmap(lambda key: conditional_vae(nnx.Rngs(key)))(keys[:, 0])
    models, _ = fit_many(
        models,
        minimise(mean_over_batch(given_shape), recipe.adam(steps)),
        data,
        keys=keys[:, 1],
        epochs=epochs,
        batch_size=recipe.BATCH,
        beta=jnp.full(len(keys), beta),
    )
    return [jax.tree.map(lambda leaf, n=n: leaf[n], models) for n in range(len(keys))]


def one_hot(shapes) -> jax.Array:
    """A row of three for each shape."""
    return jax.nn.one_hot(jnp.asarray(shapes), SHAPES)
