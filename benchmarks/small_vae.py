"""The model that is measured: 784-400-20, as in pytorch/examples."""

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from flax import nnx

from vae_teach.bounds import elbo
from vae_teach.distributions import Bernoulli, Normal
from vae_teach.losses import mean_over_batch
from vae_teach.models import VAE, Conditional
from vae_teach.networks import MLP
from vae_teach.priors import StandardNormal

IMAGE = (28, 28, 1)
LATENTS = 20

loss = mean_over_batch(elbo)
tx = optax.adam(1e-3)


def vae(encoder, decoder) -> VAE:
    """Gray pixels as Bernoulli means, and a head of means and log variances."""
    return VAE(
        StandardNormal(LATENTS),
        Conditional(encoder, Normal.from_log_variance),
        Conditional(decoder, Bernoulli),
    )


def mlp_vae(rngs: nnx.Rngs) -> VAE:
    """784 -> 400 -> 2 x 20, and 20 -> 400 -> 784, with ReLU; 652,824 parameters."""
    return vae(
        MLP(IMAGE, 400, 2 * LATENTS, rngs=rngs), MLP(LATENTS, 400, IMAGE, rngs=rngs)
    )


def as_pytorch_initialises(model: VAE, key) -> VAE:
    """A copy with PyTorch's initial weights and biases: U(-1/√fan_in, 1/√fan_in)."""
    model = nnx.clone(model)
    layers = linear_layers(model)
    for layer, k in zip(layers, jr.split(key, len(layers)), strict=True):
        bound = layer.in_features**-0.5
        for parameter, k_ in zip((layer.kernel, layer.bias), jr.split(k), strict=True):
            parameter[...] = jr.uniform(
                k_, parameter.shape, minval=-bound, maxval=bound
            )
    return model


def linear_layers(model: VAE) -> list:
    """Those of an MLP's encoder, then of its decoder."""
    return [*model.encoder.network.layers, *model.decoder.network.layers]


def matmul_flops(model: VAE, batch_size: int) -> int:
    """Floating-point operations in the matrix products of one training step.

    Two a multiply-add; the backward pass has two products for each of the forward
    pass, but needs none for the gradient in the images.
    """
    sizes = [layer.in_features * layer.out_features for layer in linear_layers(model)]
    return batch_size * (6 * sum(sizes) - 2 * sizes[0])


def parameters(model: VAE) -> int:
    """How many numbers are trained."""
    return sum(jnp.size(p) for p in jax.tree.leaves(nnx.state(model, nnx.Param)))
