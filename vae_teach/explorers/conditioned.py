"""One VAE for every β: weights that are functions of β, trained at all of them at once.

Loss-conditional training (Dosovitskiy & Djolonga 2020): every batch holds many β.
The two large matrices, next to the pixels, serve all β, with gains and shifts that β
sets (FiLM, Perez et al. 2018); the small ones between are blended from one matrix a
knot.
"""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from flax import nnx
from jaxtyping import Array, Float

from ..bounds import elbo
from ..distributions import Bernoulli, Distribution, Normal, pytree
from ..losses import mean_over_batch
from ..models import VAE, Conditional
from ..priors import StandardNormal
from ..typing import PRNGKey, Scalar, Terms

KNOTS = 16
BETA_SCALE, BETA_TOP = 0.1, 64.0
GAIN_SPEED = 3.0  # Adam moves gains and shifts this much faster than a weight

Dial = Float[Array, ""]


def beta_of(t: Dial) -> Scalar:
    """β at the dial's t in [0, 1]: 0 at 0, logarithmic well above 0.1, 64 at 1."""
    return BETA_SCALE * jnp.expm1(t * jnp.log1p(BETA_TOP / BETA_SCALE))


def dial_of(beta: float) -> Dial:
    """The inverse: t = log(1 + β/0.1) / log(1 + 64/0.1)."""
    return jnp.log1p(beta / BETA_SCALE) / jnp.log1p(BETA_TOP / BETA_SCALE)


def hats(t: Dial, knots: int) -> Float[Array, " knots"]:
    """How much each knot counts at t: the two nearest, linearly."""
    return jnp.clip(1 - jnp.abs((knots - 1) * t - jnp.arange(knots)), 0, 1)


class Blended(nnx.Module):
    """x W(t) + b(t): a whole linear layer for each knot, and a blend of two at t."""

    def __init__(self, size: int, out: int, knots: int, *, rngs: nnx.Rngs):
        kernel = nnx.Linear(size, out, rngs=rngs).kernel[...]
        self.kernel = nnx.Param(jnp.tile(kernel, (knots, 1, 1)))
        self.bias = nnx.Param(jnp.zeros((knots, out)))

    def __call__(
        self, x: Float[Array, " size"], phi: Float[Array, " knots"]
    ) -> Float[Array, " out"]:
        """The blend of the matrices first: examples of one t then share it."""
        return x @ jnp.tensordot(phi, self.kernel[...], 1) + phi @ self.bias[...]


class Modulated(nnx.Module):
    """(x W) (1 + g(t)) + s(t): one matrix for all t, gains and shifts by knot."""

    def __init__(self, size: int, out: int, knots: int, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(nnx.Linear(size, out, rngs=rngs).kernel[...])
        self.gain = nnx.Param(jnp.zeros((knots, out)))
        self.shift = nnx.Param(jnp.zeros((knots, out)))

    def __call__(
        self, x: Float[Array, " size"], phi: Float[Array, " knots"]
    ) -> Float[Array, " out"]:
        """The large product first: it does not depend on β."""
        gain, shift = phi @ self.gain[...], phi @ self.shift[...]
        return x @ self.kernel[...] * (1 + GAIN_SPEED * gain) + GAIN_SPEED * shift


class Stack(nnx.Module):
    """A multilayer perceptron of (x, t), gelu between its layers."""

    def __init__(self, *layers: Blended | Modulated, shape: tuple[int, ...]):
        self.layers, self.shape = nnx.data(list(layers)), shape

    def __call__(self, x: Float[Array, "..."], t: Dial) -> Float[Array, "..."]:
        """The last layer's output, in its shape."""
        phi, h = hats(t, len(self.layers[1].kernel[...])), jnp.ravel(x)
        for layer in self.layers[:-1]:
            h = jax.nn.gelu(layer(h, phi))
        return self.layers[-1](h, phi).reshape(self.shape)


def build(rngs: nnx.Rngs, *, knots: int = KNOTS) -> VAE:
    """The explorer's VAE: 784-128-64-4 and back; its two networks also take t."""
    encoder = Stack(
        Modulated(784, 128, knots, rngs=rngs),
        Blended(128, 64, knots, rngs=rngs),
        Blended(64, 4, knots, rngs=rngs),
        shape=(4,),
    )
    decoder = Stack(
        Blended(2, 64, knots, rngs=rngs),
        Blended(64, 128, knots, rngs=rngs),
        Modulated(128, 784, knots, rngs=rngs),
        shape=(28, 28, 1),
    )
    return VAE(
        StandardNormal(2),
        Conditional(encoder, Normal.from_log_variance),
        Conditional(decoder, Bernoulli),
    )


@pytree
class At:
    """A conditioned VAE at one t: a latent-variable model like any other."""

    vae: VAE
    t: Dial

    def p_z(self) -> Distribution:
        """The prior, the same at every t."""
        return self.vae.p_z()

    def q_z(self, x: Float[Array, "28 28 1"]) -> Any:
        """q(z|x) at this t."""
        return self.vae.encoder(x, self.t)

    def p_x(self, z: Float[Array, " z"]) -> Any:
        """p(x|z) at this t."""
        return self.vae.decoder(z, self.t)


# A batch is GROUPS of examples, each group at its own t. Where the map changes most,
# β from 5 to 35, t is drawn most often; the two ends themselves are drawn too.
# Of the draws, a share SHARES[i] is below REACHED[i].
GROUPS = 16
SHARES = (0.0, 0.02, 0.14, 0.4, 0.9, 0.98, 1.0)
REACHED = (0.0, 0.0, 0.35, 0.62, 0.9, 1.0, 1.0)
_one_beta = mean_over_batch(elbo)


def loss(
    vae: VAE, batch: Float[Array, "n 28 28 1"], key: PRNGKey
) -> tuple[Scalar, Terms]:
    """The β-ELBO at one β a group; the n examples must make whole groups."""
    key_t, key_z = jr.split(key)
    shares = (jnp.arange(GROUPS) + jr.uniform(key_t, (GROUPS,))) / GROUPS
    groups = batch.reshape(GROUPS, -1, *batch.shape[1:])

    def at(group, share, key):
        t = jnp.interp(share, jnp.array(SHARES), jnp.array(REACHED))
        return _one_beta(At(vae, t), group, key, beta=beta_of(t))

    values, terms = jax.vmap(at)(groups, shares, jr.split(key_z, GROUPS))
    return values.mean(), jax.tree.map(jnp.mean, terms)
