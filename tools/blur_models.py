"""The VAEs of the blur explorer, one for every σ², and what is measured of them.

Each is conditioned on the decoder's σ² and trained with one squared error.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from flax import nnx
from jaxtyping import Array, Float

from vae_teach.bounds import elbo
from vae_teach.distributions import Normal, kl
from vae_teach.explorers.conditioned import At, Blended, Dial, Modulated, Stack, hats
from vae_teach.losses import mean_over_batch
from vae_teach.models import VAE, Conditional
from vae_teach.priors import StandardNormal
from vae_teach.sharpness import power_spectrum, sharpness
from vae_teach.training import fit, minimise
from vae_teach.typing import Scalar

POSITIONS = 21  # of the slider, in even steps of t
DIALS, VARIANCES = (0.0, 0.4, 1.0), (0.01, 0.5, 6.0)  # finest where most happens
CUTOFF, DRAWS = 0.2, 4  # cycles per pixel; of z for each digit
BATCH, GROUPS = 128, 16  # a batch is groups of examples, each at its own σ²
_one_variance = mean_over_batch(elbo)


class Size(NamedTuple):
    """Latents, widths of the hidden layers, epochs of 10,000 examples, Adam's rate."""

    latents: int
    widths: tuple[int, ...]
    epochs: int
    rate: float


KNOTS = 7
PLANE = Size(2, (128, 64), 120, 3e-3)
REAL = Size(128, (512,), 60, 2e-3)
FAST = 5.0  # how much faster than usual the plane's decoder changes with z, at first


def variance_of(t: Dial) -> Scalar:
    """σ² at the dial's t in [0, 1], piecewise exponential."""
    return jnp.exp(jnp.interp(t, jnp.array(DIALS), jnp.log(jnp.array(VARIANCES))))


def _gray(logits):
    """σ² is left to the weight of the KL, σ² KL + ½ SSE: only the product counts."""
    mean = jax.nn.sigmoid(logits)
    return Normal(mean, jnp.ones_like(mean))


class Pooled(Stack):
    """A stack that sees the means of 2 x 2 pixels: fewer weights to carry."""

    def __call__(self, x: Float[Array, "28 28 1"], t: Dial) -> Float[Array, "..."]:
        """The stack's output on 14 x 14 means."""
        return super().__call__(x.reshape(14, 2, 14, 2).mean((1, 3)), t)


class Filmed(Stack):
    """A stack with gains and shifts alone, set by t."""

    def __call__(self, x: Float[Array, "..."], t: Dial) -> Float[Array, "..."]:
        """The last layer's output, in its shape."""
        phi, h = hats(t, KNOTS), jnp.ravel(x)
        for layer in self.layers[:-1]:
            h = jax.nn.gelu(layer(h, phi))
        return self.layers[-1](h, phi).reshape(self.shape)


def plane_vae(rngs: nnx.Rngs) -> VAE:
    """The VAE that the page runs: two latents, matrices blended from KNOTS."""
    (wide, middle), z = PLANE.widths, PLANE.latents
    blended, modulated = (
        partial(layer, knots=KNOTS, rngs=rngs) for layer in (Blended, Modulated)
    )
    first = Blended(z, middle, KNOTS, rngs=rngs)
    first.kernel[...] *= FAST
    first.bias[...] += FAST * jr.normal(rngs.params(), (1, middle))
    inward = modulated(196, wide), blended(wide, middle), blended(middle, 2 * z)
    outward = first, blended(middle, wide), modulated(wide, 784)
    return _vae(z, Pooled(*inward, shape=(2 * z,)), Stack(*outward, shape=(28, 28, 1)))


def real_vae(rngs: nnx.Rngs) -> VAE:
    """The VAE of all digits: many latents, one hidden layer each way."""
    (wide,), z = REAL.widths, REAL.latents
    modulated = partial(Modulated, knots=KNOTS, rngs=rngs)
    inward = modulated(784, wide), modulated(wide, 2 * z)
    outward = modulated(z, wide), modulated(wide, 784)
    return _vae(z, Filmed(*inward, shape=(2 * z,)), Filmed(*outward, shape=(28, 28, 1)))


def _vae(latents, encoder, decoder):
    return VAE(
        StandardNormal(latents),
        Conditional(encoder, Normal.from_log_variance),
        Conditional(decoder, _gray),
    )


def loss(vae: VAE, batch: Float[Array, "n 28 28 1"], key):
    """½ SSE + σ² KL and a constant, at one σ² a group; the ends are drawn too."""
    key_t, key_z = jr.split(key)
    spread = (jnp.arange(GROUPS) + jr.uniform(key_t, (GROUPS,))) / GROUPS
    dials = jnp.clip(1.06 * spread - 0.03, 0, 1)
    groups = batch.reshape(GROUPS, -1, *batch.shape[1:])

    def at(group, t, key):
        return _one_variance(At(vae, t), group, key, beta=variance_of(t))

    values, terms = jax.vmap(at)(groups, dials, jr.split(key_z, GROUPS))
    return values.mean(), jax.tree.map(jnp.mean, terms)


def train(model: VAE, size: Size, x, seed: int, epochs: int | None = None) -> VAE:
    """One model for all σ²; few digits are gone through as often as make an epoch."""
    epochs, times = epochs or size.epochs, max(1, round(10_000 / len(x)))
    x = jnp.tile(x, (times, 1, 1, 1))
    schedule = optax.cosine_decay_schedule(size.rate, epochs * (len(x) // BATCH), 0.02)
    step = minimise(loss, optax.adam(schedule))
    return fit(model, step, x, key=jr.key(seed), epochs=epochs, batch_size=BATCH)[0]


@jax.jit
def measure(vae: VAE, t: Dial, x: Float[Array, "n 28 28 1"]) -> dict[str, Array]:
    """Rate and squared error, z drawn from q; the images decoded at its mean."""
    model = At(vae, t)
    q = jax.vmap(model.q_z)(x)
    image = jax.vmap(lambda z: model.p_x(z).mean)

    def error(key):
        z = jax.vmap(Normal.sample)(q, jr.split(key, len(x)))
        return ((image(z) - x) ** 2).sum((1, 2, 3)).mean()

    images = image(q.mean)
    return {
        "rate": jax.vmap(lambda q: kl(q, model.p_z()))(q).mean(),
        "error": jax.lax.map(error, jr.split(jr.key(1), DRAWS)).mean(),
        "sharpness": sharpness(images, cutoff=CUTOFF).mean(),
        "power": power_spectrum(images).power,
    }


@jax.jit
def sharing(
    vae: VAE, t: Dial, asked: Float[Array, "m 28 28 1"], x: Float[Array, "n 28 28 1"]
) -> dict[str, Array]:
    """How many of ``x`` share the code z ~ q(z|asked), and their average's distance.

    With w_i = q(z|x_i) / Σ_j q(z|x_j), exp of the mean entropy of w; and the mean
    squared distance from Σ w_i x_i to the decoder's image of z.
    """
    model = At(vae, t)
    q = jax.vmap(model.q_z)(x)

    def one(inputs):
        image, key = inputs
        z = model.q_z(image).sample(key)
        w = weights(q, z)
        average = jnp.tensordot(w, x, 1)
        entropy = -(w * jnp.log(jnp.maximum(w, 1e-30))).sum()
        return entropy, ((average - model.p_x(z).mean) ** 2).sum()

    entropy, apart = jax.lax.map(one, (asked, jr.split(jr.key(2), len(asked))))
    return {"sharing": jnp.exp(entropy.mean()), "apart": apart.mean()}


def weights(q: Normal, z: Float[Array, " z"]) -> Float[Array, " n"]:
    """q(z|x_i) / Σ_j q(z|x_j), of a batch of posteriors."""
    return jax.nn.softmax(jax.vmap(lambda one: one.log_prob(z))(q))


def dials() -> list[Dial]:
    """The t of each position of the slider."""
    return list(jnp.linspace(0, 1, POSITIONS))
