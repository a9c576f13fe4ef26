"""Small data and every variant of the package: the table of the contract tests."""

from functools import partial

import jax.numpy as jnp
import jax.random as jr
import optax
from flax import nnx

from vae_teach import schedules
from vae_teach.bounds import elbo, elbo_mc, iwae
from vae_teach.distributions import Bernoulli, FixedScale, Normal
from vae_teach.losses import binarized, mean_over_batch
from vae_teach.models import VAE, Conditional
from vae_teach.networks import MLP, ConvDecoder, ConvEncoder, PatchDecoder, PatchEncoder
from vae_teach.priors import StandardNormal
from vae_teach.training import alternate, minimise

SHAPE, LATENTS = (6, 4, 1), 3


def images(n=64):
    """Blobs of one bright pixel row each, in [0, 1]."""
    row = jr.randint(jr.key(1), (n,), 0, SHAPE[0])
    rows = (jnp.arange(SHAPE[0])[None] == row[:, None]).astype(jnp.float32)
    return jnp.broadcast_to(rows[:, :, None, None] * 0.9 + 0.05, (n, *SHAPE))


def gaussian(network):
    return Conditional(network, Normal.from_log_variance)


def vae(rngs, family=Bernoulli):
    encoder = gaussian(MLP(SHAPE, 16, 2 * LATENTS, rngs=rngs))
    decoder = Conditional(MLP(LATENTS, 16, SHAPE, rngs=rngs), family)
    return VAE(StandardNormal(LATENTS), encoder, decoder)


def patch_vae(rngs):
    encoder = gaussian(PatchEncoder(SHAPE, 2, 8, 2 * LATENTS, rngs=rngs))
    decoder = Conditional(PatchDecoder(LATENTS, 8, 2, SHAPE, rngs=rngs), Bernoulli)
    return VAE(StandardNormal(LATENTS), encoder, decoder)


def conv_vae(rngs):
    encoder = gaussian(ConvEncoder(SHAPE, (4, 8), 2 * LATENTS, rngs=rngs))
    decoder = Conditional(ConvDecoder(LATENTS, (8, 4), SHAPE, rngs=rngs), Bernoulli)
    return VAE(StandardNormal(LATENTS), encoder, decoder)


ADAM = optax.adam(1e-2)
ENCODER = nnx.All(nnx.Param, nnx.PathContains("encoder"))
DECODER = nnx.All(nnx.Param, nnx.PathContains("decoder"))
MEAN_ELBO = mean_over_batch(elbo)
PLAIN = minimise(MEAN_ELBO, ADAM)

# name: (rngs -> model, step)
VARIANTS = {
    "VAE": (vae, PLAIN),
    "Gaussian likelihood": (partial(vae, family=FixedScale(0.5)), PLAIN),
    "patch networks": (patch_vae, PLAIN),
    "convolutions": (conv_vae, PLAIN),
    "beta-VAE": (vae, minimise(mean_over_batch(partial(elbo, beta=4.0)), ADAM)),
    "Monte-Carlo ELBO": (vae, minimise(mean_over_batch(elbo_mc), ADAM)),
    "IWAE": (vae, minimise(mean_over_batch(partial(iwae, samples=4)), ADAM)),
    "KL annealing": (vae, minimise(MEAN_ELBO, ADAM, beta=schedules.linear(16))),
    "fresh binarization": (vae, minimise(binarized(MEAN_ELBO), ADAM)),
    "alternate": (
        vae,
        alternate(
            decoder=minimise(MEAN_ELBO, ADAM, DECODER),
            encoder=minimise(MEAN_ELBO, ADAM, ENCODER),
        ),
    ),
}
