"""Small data and every variant of the package: the table of the contract tests."""

from functools import partial

import jax.numpy as jnp
import jax.random as jr
import optax
from flax import nnx

from vae_teach import schedules
from vae_teach.adversarial import VAEGAN, Critic, against_critic, critic_loss
from vae_teach.autoregressive import PixelCNN, drop_previous
from vae_teach.bounds import (
    capacity,
    elbo,
    elbo_free_bits,
    elbo_mc,
    elbo_relaxed,
    elbo_stl,
    iwae,
)
from vae_teach.code_priors import CodePrior
from vae_teach.conditioning import ConditionalNorm, FiLM, ModulatedMLP, given
from vae_teach.dependence import dip_vae, tc_vae
from vae_teach.discrete import OneHotCategorical
from vae_teach.distributions import Bernoulli, FixedScale, Normal
from vae_teach.factor import FactorVAE, factor_critic_loss, factor_loss
from vae_teach.joint import Product, elbo_enumerated, joint_capacity
from vae_teach.likelihoods import ContinuousBernoulli, Laplace
from vae_teach.losses import binarized, free_bits, mean_over_batch, optimal_scale
from vae_teach.models import VAE, Conditional
from vae_teach.networks import (
    MLP,
    ConvDecoder,
    ConvEncoder,
    GridDecoder,
    GridEncoder,
    PatchDecoder,
    PatchEncoder,
)
from vae_teach.perceptual import FeatureDistance, StructuralDistance
from vae_teach.priors import ConditionalPrior, StandardNormal, UniformCodes
from vae_teach.quantisers import FiniteScalar, LearnedCodebook, MovingCodebook, unit
from vae_teach.scales import CappedScale, FlooredScale, LearnedScale
from vae_teach.semi_supervised import M2, m2
from vae_teach.training import alternate, minimise
from vae_teach.two_levels import TwoLevelPrior, TwoLevels
from vae_teach.vq import VQVAE, moving_averages, restarts, vq

SHAPE, LATENTS = (6, 4, 1), 3
CODES, SIZE = 5, 3  # codes of a grid, and numbers in the vector of each


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


def learned_scale_vae(rngs):
    return vae(rngs, family=LearnedScale(0.5))


def floored_scale_vae(rngs):
    model = vae(rngs)
    height, width, _ = SHAPE
    network = MLP(LATENTS, 16, (height, width, 2), rngs=rngs)
    model.decoder = Conditional(network, FlooredScale(0.05))
    return model


def laplace(loc):
    return Laplace(loc, jnp.full_like(loc, 0.5))


def slopes(image):
    return jnp.diff(image, axis=0)


def vae_and_critic(rngs):
    critic = Critic(MLP(SHAPE, 16, 8, rngs=rngs), 8, rngs=rngs)
    return VAEGAN(vae(rngs, family=FixedScale(0.5)), critic)


def vae_and_critic_of_codes(rngs):
    return FactorVAE(vae(rngs), Critic(MLP(LATENTS, 16, 8, rngs=rngs), 8, rngs=rngs))


def committed_vae(rngs):
    model = vae(rngs)
    model.encoder.family = CappedScale(0.8)
    return model


def autoregressive_vae(rngs):
    model = vae(rngs)
    model.decoder = PixelCNN(LATENTS, SHAPE, 4, (3, 3), rngs=rngs)
    return model


def vqvae(rngs, quantiser, prior=None, patch=2, size=SIZE):
    decoder = GridDecoder(size, 8, patch, SHAPE, rngs=rngs)
    return VQVAE(
        prior or UniformCodes((3, 2), CODES),
        GridEncoder(SHAPE, patch, 8, SIZE, rngs=rngs),
        quantiser,
        Conditional(decoder, Bernoulli),
    )


def learned_codes(rngs):
    return vqvae(rngs, LearnedCodebook(CODES, SIZE, project=unit, rngs=rngs))


def finite_scalars(rngs):
    return vqvae(rngs, FiniteScalar((4, 2, 2)), UniformCodes((3, 2), 4 * 2 * 2))


def two_levels(rngs):
    prior = TwoLevelPrior(
        CodePrior((3, 2), CODES, 4, (3,), rngs=rngs),
        CodePrior((6, 4), CODES, 4, (3,), given=6 * CODES, rngs=rngs),
        codes=CODES,
    )
    levels = TwoLevels(
        GridEncoder((6, 4, SIZE), 2, 8, SIZE, rngs=rngs),
        MovingCodebook(CODES, SIZE, rngs=rngs),
        nnx.Linear(2 * SIZE, SIZE, rngs=rngs),
        MovingCodebook(CODES, SIZE, rngs=rngs),
    )
    return vqvae(rngs, levels, prior, patch=1, size=2 * SIZE)


def conditional_vae(rngs):
    def modulated(modulation, *sizes):
        condition = SHAPE[0]
        return ModulatedMLP(
            *sizes, condition=condition, modulation=modulation, rngs=rngs
        )

    prior = Conditional(MLP(SHAPE[0], 2 * LATENTS, rngs=rngs), Normal.from_log_variance)
    decoder = Conditional(modulated(FiLM, LATENTS, 16, SHAPE), Bernoulli)
    encoder = gaussian(modulated(ConditionalNorm, SHAPE, 16, 2 * LATENTS))
    return VAE(ConditionalPrior(prior), encoder, decoder)


def given_the_row(model, x, key):
    """``elbo`` of a pair (x, c), where c says which row is bright."""
    return given(elbo)(model, (x, x[:, 0, 0]), key)


def uniform(encoder):
    return OneHotCategorical(jnp.zeros((3, 2, CODES)))


def discrete_vae(rngs):
    """A Gumbel dVAE: the decoder's first layer is a table of embeddings."""
    encoder = GridEncoder(SHAPE, 2, 8, CODES, rngs=rngs)
    decoder = GridDecoder(CODES, 8, 2, SHAPE, rngs=rngs)
    return VAE(
        uniform,
        Conditional(encoder, OneHotCategorical),
        Conditional(decoder, Bernoulli),
    )


def joint(v):
    continuous, choice = v[: 2 * LATENTS], v[2 * LATENTS :]
    return Product((Normal.from_log_variance(continuous), OneHotCategorical(choice)))


def joint_prior(encoder):
    return joint(jnp.zeros(2 * LATENTS + 4))


def joint_vae(rngs):
    encoder = MLP(SHAPE, 16, 2 * LATENTS + 4, rngs=rngs)
    decoder = MLP(LATENTS + 4, 16, SHAPE, rngs=rngs)
    return VAE(
        joint_prior, Conditional(encoder, joint), Conditional(decoder, Bernoulli)
    )


def m2_model(rngs):
    pixels = SHAPE[0] * SHAPE[1]
    encoder = gaussian(MLP(pixels + 4, 16, 2 * LATENTS, rngs=rngs))
    decoder = Conditional(MLP(LATENTS + 4, 16, SHAPE, rngs=rngs), Bernoulli)
    classifier = Conditional(MLP(SHAPE, 16, 4, rngs=rngs), OneHotCategorical)
    return M2(VAE(StandardNormal(LATENTS), encoder, decoder), classifier)


def with_labels(loss):
    """The loss of images that show their own label: known where a pixel says so."""

    def labelled(model, batch, key, **weights):
        row = batch[:, :, 0, 0].argmax(1)
        label = jnp.where(row % 2 == 0, row // 2, -1)
        return loss(model, (batch, label), key, **weights)

    return labelled


ADAM = optax.adam(1e-2)
SLOW = optax.conditionally_mask(ADAM, schedules.every(3))
ENCODER = nnx.All(nnx.Param, nnx.PathContains("encoder"))
DECODER = nnx.All(nnx.Param, nnx.PathContains("decoder"))
OF_VAE = nnx.All(nnx.Param, nnx.PathContains("vae"))
OF_CRITIC = nnx.All(nnx.Param, nnx.PathContains("critic"))
MEAN_ELBO = mean_over_batch(elbo)
PLAIN = minimise(MEAN_ELBO, ADAM)
CAPACITIES = {"continuous": 2.0, "discrete": 1.0}

# name: (rngs -> model, step)
VARIANTS = {
    "VAE": (vae, PLAIN),
    "Gaussian likelihood": (partial(vae, family=FixedScale(0.5)), PLAIN),
    "continuous Bernoulli": (partial(vae, family=ContinuousBernoulli), PLAIN),
    "Laplace likelihood": (partial(vae, family=laplace), PLAIN),
    "feature distance": (
        partial(vae, family=FeatureDistance(4.0, pixels=4.0, features=slopes)),
        PLAIN,
    ),
    "structural similarity": (
        partial(vae, family=StructuralDistance(20.0, scales=1, window=3)),
        PLAIN,
    ),
    "patch networks": (patch_vae, PLAIN),
    "convolutions": (conv_vae, PLAIN),
    "beta-VAE": (vae, minimise(mean_over_batch(partial(elbo, beta=4.0)), ADAM)),
    "Monte-Carlo ELBO": (vae, minimise(mean_over_batch(elbo_mc), ADAM)),
    "sticking the landing": (vae, minimise(mean_over_batch(elbo_stl), ADAM)),
    "relaxed categorical": (
        discrete_vae,
        minimise(mean_over_batch(partial(elbo_relaxed, temperature=0.7)), ADAM),
    ),
    "joint latents": (
        joint_vae,
        minimise(mean_over_batch(partial(elbo_relaxed, temperature=0.7)), ADAM),
    ),
    "enumerated category": (
        joint_vae,
        minimise(mean_over_batch(elbo_enumerated), ADAM),
    ),
    "joint capacity": (
        joint_vae,
        minimise(
            mean_over_batch(
                partial(joint_capacity, temperature=0.7, beta=4.0, **CAPACITIES)
            ),
            ADAM,
        ),
    ),
    "M2": (
        m2_model,
        minimise(with_labels(mean_over_batch(partial(m2, alpha=2.0))), ADAM),
    ),
    "VQ-VAE": (learned_codes, minimise(mean_over_batch(vq), ADAM)),
    "two levels of codes": (
        two_levels,
        alternate(
            networks=minimise(mean_over_batch(vq), ADAM),
            codebooks=moving_averages(0.9),
            restarts=restarts(0.8),
        ),
    ),
    "finite scalars": (finite_scalars, minimise(mean_over_batch(vq), ADAM)),
    "conditional VAE": (
        conditional_vae,
        minimise(mean_over_batch(given_the_row), ADAM),
    ),
    "IWAE": (vae, minimise(mean_over_batch(partial(iwae, samples=4)), ADAM)),
    "free bits": (vae, minimise(partial(free_bits, floor=0.5), ADAM)),
    "free bits of each example": (
        vae,
        minimise(mean_over_batch(partial(elbo_free_bits, floor=0.5)), ADAM),
    ),
    "capacity": (
        vae,
        minimise(mean_over_batch(partial(capacity, target=2.0, beta=4.0)), ADAM),
    ),
    "beta-TCVAE": (vae, minimise(partial(tc_vae, size=64, beta=6.0), ADAM)),
    "DIP-VAE-II": (
        vae,
        minimise(partial(dip_vae, correlation=10.0, variance=5.0), ADAM),
    ),
    "committed rate": (committed_vae, PLAIN),
    "learned scale": (learned_scale_vae, PLAIN),
    "floored scale": (floored_scale_vae, PLAIN),
    "optimal scale": (
        partial(vae, family=FixedScale(1.0)),
        minimise(optimal_scale, ADAM),
    ),
    "KL annealing": (vae, minimise(MEAN_ELBO, ADAM, beta=schedules.linear(16))),
    "cyclical annealing": (vae, minimise(MEAN_ELBO, ADAM, beta=schedules.cyclical(8))),
    "fresh binarization": (vae, minimise(binarized(MEAN_ELBO), ADAM)),
    "autoregressive decoder": (
        autoregressive_vae,
        minimise(binarized(mean_over_batch(drop_previous(elbo, 0.3))), ADAM),
    ),
    "alternate": (
        vae,
        alternate(
            decoder=minimise(MEAN_ELBO, ADAM, DECODER),
            encoder=minimise(MEAN_ELBO, ADAM, ENCODER),
        ),
    ),
    "VAE-GAN": (
        vae_and_critic,
        alternate(
            vae=minimise(against_critic(MEAN_ELBO), ADAM, OF_VAE),
            critic=minimise(critic_loss, ADAM, OF_CRITIC),
        ),
    ),
    "FactorVAE": (
        vae_and_critic_of_codes,
        alternate(
            vae=minimise(partial(factor_loss, gamma=5.0), ADAM, OF_VAE),
            critic=minimise(factor_critic_loss, ADAM, OF_CRITIC),
        ),
    ),
    "aggressive encoder": (
        vae,
        alternate(
            encoder=minimise(MEAN_ELBO, ADAM, ENCODER),
            decoder=minimise(MEAN_ELBO, SLOW, DECODER),
        ),
    ),
}
