"""The models of the table of variants: each is another with one piece swapped.

Every model is of binary digits of 28 x 28 pixels, independent given z. A builder is a
function of ``rngs``, and the steps that train its models are the constants below.
"""

from functools import partial

import jax.numpy as jnp
import optax
from flax import nnx

from vae_teach import schedules
from vae_teach.bounds import elbo, elbo_relaxed
from vae_teach.code_priors import CodePrior
from vae_teach.conditioning import ConditionalNorm, FiLM, ModulatedMLP, given
from vae_teach.discrete import OneHotCategorical
from vae_teach.distributions import Bernoulli, Normal
from vae_teach.losses import mean_over_batch
from vae_teach.models import VAE, Conditional
from vae_teach.networks import MLP, GridDecoder, GridEncoder
from vae_teach.priors import ConditionalPrior, Fixed, StandardNormal, UniformCodes
from vae_teach.quantisers import FiniteScalar, LearnedCodebook, MovingCodebook, unit
from vae_teach.training import alternate, minimise
from vae_teach.two_levels import TwoLevelPrior, TwoLevels
from vae_teach.vq import VQVAE, moving_averages, restarts, vq

IMAGE, PIXELS, CLASSES = (28, 28, 1), 784, 10
LATENTS, HIDDEN = 20, 256
PATCH, GRID, WIDTH = 4, (7, 7), 24
CODES, SIZE = 256, 16  # codes of a codebook, and numbers in the vector of each
LEVELS = (8, 6, 5)  # of finite scalars: 240 codes
KERNELS = (5, 3, 3)  # of the prior over codes
ADAM, TEMPERATURE = optax.adam(3e-3), 0.5
WARM_UP = 156  # steps in which the KL of the relaxed choices comes in


def gaussian(network) -> Conditional:
    """N(μ, diag(σ²)) from a network of (μ, log σ²)."""
    return Conditional(network, Normal.from_log_variance)


def plain(rngs, latents=LATENTS) -> VAE:
    """784 -> 256 -> latents, and its mirror; p(z) = N(0, I)."""
    encoder = MLP(PIXELS, HIDDEN, 2 * latents, rngs=rngs)
    decoder = MLP(latents, HIDDEN, IMAGE, rngs=rngs)
    return VAE(
        StandardNormal(latents), gaussian(encoder), Conditional(decoder, Bernoulli)
    )


# A class as the condition: three networks of two inputs, x or z, and c


def concatenation(rngs, inputs, *sizes) -> MLP:
    """The class beside the input, as ten more numbers."""
    return MLP(inputs + CLASSES, *sizes, rngs=rngs)


def film(rngs, *sizes) -> ModulatedMLP:
    """The class scales and shifts the hidden features."""
    return ModulatedMLP(*sizes, condition=CLASSES, modulation=FiLM, rngs=rngs)


def normalisation(rngs, *sizes) -> ModulatedMLP:
    """The same, of features that are first normalised."""
    norm = ConditionalNorm
    return ModulatedMLP(*sizes, condition=CLASSES, modulation=norm, rngs=rngs)


def conditional(rngs, latents=LATENTS, network=concatenation) -> VAE:
    """``plain``, with encoder and decoder that also read the class."""
    encoder = network(rngs, PIXELS, HIDDEN, 2 * latents)
    decoder = network(rngs, latents, HIDDEN, IMAGE)
    return VAE(
        StandardNormal(latents), gaussian(encoder), Conditional(decoder, Bernoulli)
    )


def with_class_prior(rngs, latents=LATENTS, network=concatenation) -> VAE:
    """``conditional``, with a normal for each class, learned, as the prior."""
    model = conditional(rngs, latents, network)
    model.prior = ConditionalPrior(gaussian(MLP(CLASSES, 2 * latents, rngs=rngs)))
    return model


# A grid of latents, one for each patch of the image


def grid_vae(rngs, size=2) -> VAE:
    """Normal latents on the grid: ``size`` of them at each place."""
    shape = (*GRID, size)
    encoder = GridEncoder(IMAGE, PATCH, WIDTH, 2 * size, rngs=rngs)
    decoder = GridDecoder(size, WIDTH, PATCH, IMAGE, rngs=rngs)
    return VAE(
        Fixed(Normal(jnp.zeros(shape), jnp.ones(shape))),
        gaussian(encoder),
        Conditional(decoder, Bernoulli),
    )


def vqvae(rngs, quantiser, prior=None, *, size=SIZE, levels=1) -> VQVAE:
    """One code at each place, ``size`` numbers the vector of each."""
    decoder = GridDecoder(levels * size, WIDTH, PATCH, IMAGE, rngs=rngs)
    return VQVAE(
        prior or UniformCodes(GRID, quantiser.size),
        GridEncoder(IMAGE, PATCH, WIDTH, size, rngs=rngs),
        quantiser,
        Conditional(decoder, Bernoulli),
    )


def learned_codes(rngs) -> VQVAE:
    """A codebook of parameters."""
    return vqvae(rngs, LearnedCodebook(CODES, SIZE, rngs=rngs))


def moving_codes(rngs) -> VQVAE:
    """A codebook of moving averages."""
    return vqvae(rngs, MovingCodebook(CODES, SIZE, rngs=rngs))


def unit_codes(rngs) -> VQVAE:
    """A codebook of parameters, of which only directions count."""
    return vqvae(rngs, LearnedCodebook(CODES, SIZE, project=unit, rngs=rngs))


def finite_scalars(rngs) -> VQVAE:
    """No codebook: three numbers, rounded to 8, 6 and 5 levels."""
    return vqvae(rngs, FiniteScalar(LEVELS), size=len(LEVELS))


def uniform(encoder) -> OneHotCategorical:
    """Every code at every place alike."""
    del encoder
    return OneHotCategorical(jnp.zeros((*GRID, CODES)))


def discrete_vae(rngs) -> VAE:
    """A Gumbel dVAE: q(z|x) a choice at each place, and codes one-hot vectors."""
    encoder = GridEncoder(IMAGE, PATCH, WIDTH, CODES, rngs=rngs)
    decoder = GridDecoder(CODES, WIDTH, PATCH, IMAGE, rngs=rngs)
    return VAE(
        uniform,
        Conditional(encoder, OneHotCategorical),
        Conditional(decoder, Bernoulli),
    )


def two_levels(rngs) -> VQVAE:
    """One code for the whole image above those of the patches: rate 50 log K, not 49.

    A second level on a grid of 14 x 14 would quadruple the rate instead.
    """
    levels = TwoLevels(
        GridEncoder((*GRID, SIZE), GRID[0], WIDTH, SIZE, rngs=rngs),
        MovingCodebook(CODES, SIZE, rngs=rngs),
        nnx.Linear(2 * SIZE, SIZE, rngs=rngs),
        MovingCodebook(CODES, SIZE, rngs=rngs),
    )
    top, bottom = UniformCodes((1, 1), CODES), UniformCodes(GRID, CODES)
    return vqvae(rngs, levels, TwoLevelPrior(top, bottom, codes=CODES), levels=2)


# A second stage: the model is trained, its prior is not


def with_code_prior(model, rngs) -> VQVAE:
    """The VQ-VAE with a PixelCNN over its codes as the prior, not yet trained."""
    model = nnx.clone(model)
    model.prior = CodePrior(GRID, CODES, WIDTH, KERNELS, rngs=rngs)
    return model


def with_two_code_priors(model, rngs) -> VQVAE:
    """The same for two levels: the lower one is given the upper."""
    model, made = nnx.clone(model), partial(CodePrior, rngs=rngs)
    top = made((1, 1), CODES, WIDTH, (3,))
    bottom = made(GRID, CODES, WIDTH, KERNELS, given=CODES)
    model.prior = TwoLevelPrior(top, bottom, codes=CODES)
    return model


# The steps

OF_IMAGES = minimise(mean_over_batch(elbo), ADAM)
OF_PAIRS = minimise(mean_over_batch(given(elbo)), ADAM)  # data: (images, one-hot)
OF_CODES = minimise(mean_over_batch(vq), ADAM)
WITH_RESTARTS = alternate(networks=OF_CODES, restarts=restarts())
WITH_AVERAGES = alternate(networks=OF_CODES, codebook=moving_averages())
WITH_BOTH = alternate(
    networks=OF_CODES, codebook=moving_averages(), restarts=restarts()
)
RELAXED = minimise(
    mean_over_batch(partial(elbo_relaxed, temperature=TEMPERATURE)),
    ADAM,
    beta=schedules.linear(WARM_UP),
)
OF_PRIOR = minimise(
    mean_over_batch(elbo), ADAM, nnx.All(nnx.Param, nnx.PathContains("prior"))
)
