from dataclasses import replace

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from flax import nnx

from vae_teach.bounds import elbo
from vae_teach.conditioning import ConditionalNorm, FiLM, ModulatedMLP, given
from vae_teach.distributions import Bernoulli, Normal, kl
from vae_teach.models import VAE, Conditional, Given
from vae_teach.networks import MLP
from vae_teach.priors import ConditionalPrior, StandardNormal

MODULATIONS = FiLM, ConditionalNorm
C = jnp.array([0.3, -1.0])
H = jr.normal(jr.key(0), (3, 4, 5))


def rngs():
    return nnx.Rngs(0)


def film_of(layer):
    return layer if isinstance(layer, FiLM) else layer.film


def silent(layer):
    """The layer with weights of 0: scale 1 and shift 0 for every condition."""
    linear = film_of(layer).linear
    linear.kernel[...] = jnp.zeros_like(linear.kernel[...])
    return layer


# Layers


def test_film_with_weights_of_zero_is_the_identity():
    np.testing.assert_array_equal(silent(FiLM(5, 2, rngs=rngs()))(H, C), H)


def test_conditional_norm_with_weights_of_zero_is_a_normalisation():
    h = silent(ConditionalNorm(5, 2, rngs=rngs()))(7 * H + 3, C)
    np.testing.assert_allclose(h.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(h.var(-1), 1, rtol=1e-4)


@pytest.mark.parametrize("kind", MODULATIONS)
def test_each_feature_is_scaled_and_shifted_alike_at_all_places(kind):
    layer = kind(5, 2, rngs=rngs())
    a, b = np.split(np.asarray(C @ film_of(layer).linear.kernel[...]), 2)
    base = np.asarray(silent(kind(5, 2, rngs=rngs()))(H, C))
    np.testing.assert_allclose(layer(H, C), (1 + a) * base + b, rtol=1e-4, atol=1e-5)
    scale, shift = film_of(layer).scale_and_shift(C)
    np.testing.assert_allclose(scale, 1 + a, rtol=1e-5)
    np.testing.assert_allclose(shift, b, rtol=1e-5)


@pytest.mark.parametrize("kind", MODULATIONS)
def test_the_gradient_reaches_the_condition(kind):
    layer = kind(5, 2, rngs=rngs())
    assert (jax.grad(lambda c: (layer(H, c) ** 2).sum())(C) != 0).all()


def test_examples_do_not_meet_in_the_normalisation():
    layer = ConditionalNorm(5, 2, rngs=rngs())
    batch = jnp.stack([H, 100 * H])
    both = jax.vmap(layer, (0, None))(batch, C)
    np.testing.assert_allclose(both[0], layer(H, C), rtol=1e-5, atol=1e-6)


# Networks


@pytest.mark.parametrize("kind", MODULATIONS)
def test_a_modulated_mlp_is_its_layers_in_turn(kind):
    net = ModulatedMLP(3, 4, (2, 3), condition=2, modulation=kind, rngs=rngs())
    x = jr.normal(jr.key(1), (3,))
    first, last = net.mlp.layers
    h = jax.nn.relu(net.modulations[0](first(x), C))
    assert net(x, C).shape == (2, 3)
    np.testing.assert_array_equal(net(x, C), last(h).reshape(2, 3))
    assert (jax.jacrev(net, 1)(x, C) != 0).any((0, 1)).all()


def test_concatenation_is_a_shift_of_the_first_layer():
    """[x, c] W + b = x W_x + (b + c W_c): FiLM without its scale."""
    joined = MLP(3 + 2, 4, 6, rngs=rngs())
    net = ModulatedMLP(3, 4, 6, condition=2, modulation=FiLM, rngs=rngs())
    of_x, of_c = jnp.split(joined.layers[0].kernel[...], [3])
    net.mlp.layers[0].kernel[...] = of_x
    net.mlp.layers[1].kernel[...] = joined.layers[1].kernel[...]
    no_scale = jnp.concatenate([jnp.zeros_like(of_c), of_c], 1)
    net.modulations[0].linear.kernel[...] = no_scale
    x = jr.normal(jr.key(1), (3,))
    np.testing.assert_allclose(net(x, C), joined(x, C), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        joined.layers[0](jnp.concatenate([x, C]))
        - joined.layers[0](jnp.concatenate([x, 0 * C])),
        C @ of_c,
        rtol=1e-4,
        atol=1e-6,
    )


def test_an_input_of_another_size_is_refused():
    net = ModulatedMLP(3, 4, 6, condition=2, modulation=FiLM, rngs=rngs())
    with pytest.raises(ValueError, match=r"inputs of 3 numbers in all.*\(4,\)"):
        net(jnp.zeros(4), C)


# Models that are given c


def cvae(prior):
    encoder = Conditional(MLP(6 + 2, 2 * 3, rngs=rngs()), Normal.from_log_variance)
    net = ModulatedMLP(3, 4, 6, condition=2, modulation=FiLM, rngs=rngs())
    return VAE(prior, encoder, Conditional(net, Bernoulli))


def learned():
    network = MLP(2, 2 * 3, rngs=nnx.Rngs(1))
    return ConditionalPrior(Conditional(network, Normal.from_log_variance))


X = jnp.array([0.0, 1, 1, 0, 1, 0])


def test_a_bound_of_pairs_is_that_of_the_model_given_c():
    for prior in (StandardNormal(3), learned()):
        model = cvae(prior)
        found = given(elbo)(model, (X, C), jr.key(0), beta=0.3)
        q, p = model.encoder(X, C), prior(None, C)
        distortion = -model.decoder(q.sample(jr.key(0)), C).log_prob(X)
        np.testing.assert_allclose(found[1]["rate"], kl(q, p), rtol=1e-5)
        np.testing.assert_allclose(found[0], distortion + 0.3 * kl(q, p), rtol=1e-5)
        expected = elbo(Given(model, C), X, jr.key(0), beta=0.3)
        np.testing.assert_array_equal(found[0], expected[0])


def test_a_learned_prior_reads_the_condition_and_a_standard_one_does_not():
    plain, model = cvae(StandardNormal(3)), cvae(learned())
    for z in (Given(plain, C).p_z(), Given(plain, -C).p_z()):
        np.testing.assert_array_equal(z.loc, 0)
    one, other = Given(model, C).p_z(), Given(model, -C).p_z()
    assert (one.loc != other.loc).all()
    rate = jax.grad(lambda c: kl(Normal(0 * one.loc, one.scale), model.prior(None, c)))
    assert (rate(C) != 0).all()


def test_the_rate_is_zero_where_the_prior_of_c_is_the_posterior():
    network = MLP(2, 2 * 3, rngs=nnx.Rngs(1))
    conditional = Conditional(network, Normal.from_log_variance)
    model = cvae(ConditionalPrior(conditional))
    # An encoder that reads c alone, by the weights of the prior.
    kernel = network.layers[0].kernel[...]
    blind = jnp.concatenate([jnp.zeros((6, 6)), kernel])
    model.encoder.network.layers[0].kernel[...] = blind
    rates = jax.vmap(lambda c: given(elbo)(model, (X, c), jr.key(0))[1]["rate"])
    np.testing.assert_allclose(rates(jr.normal(jr.key(2), (5, 2))), 0, atol=1e-5)
    assert replace(Given(model, C), c=-C).p_z().loc.shape == (3,)


@pytest.mark.parametrize("kind", [None, *MODULATIONS])
def test_the_last_layer_has_no_activation(kind):
    """Its negative gives the negative: a ReLU there keeps all pixels above one half."""
    if kind:
        net = ModulatedMLP(3, 4, 6, condition=2, modulation=kind, rngs=rngs())
    else:
        net = MLP(3 + 2, 4, 6, rngs=rngs())
    z = jr.normal(jr.key(1), (3,))
    logits = net(z, C)
    last = (net.mlp if kind else net).layers[-1]
    last.kernel[...] = -last.kernel[...]
    np.testing.assert_array_equal(net(z, C), -logits)
    last.bias[...] = jnp.full(6, -20.0)
    assert (Bernoulli(net(z, C)).mean < 1e-6).all()


def test_encoder_decoder_and_prior_each_read_the_condition():
    model, z = cvae(learned()), jnp.ones(3)
    one, other = Given(model, C), Given(model, -C)
    assert (one.q_z(X).loc != other.q_z(X).loc).any()
    assert (one.p_x(z).logits != other.p_x(z).logits).any()
    assert (one.p_z().loc != other.p_z().loc).any()


def test_draws_from_the_prior_are_those_of_the_condition():
    p = Given(cvae(learned()), C).p_z()
    z = jax.vmap(p.sample)(jr.split(jr.key(3), 4000))
    error = p.scale / len(z) ** 0.5
    assert (abs(z.mean(0) - p.loc) < 4 * error).all()
    assert (abs(z.std(0) - p.scale) < 4 * error / 2**0.5).all()
    assert (abs(p.loc) > 4 * error).any()  # draws from N(0, ...) would be told apart


def test_the_rate_is_a_sum_over_the_latents():
    """KL(N(1, I) || N(0, I)) = d/2; its mean over the latents would be 1/2."""
    for d in (1, 3, 8):
        encoder = Conditional(lambda x, c, d=d: jnp.ones(d), lambda v: Normal(v, v))
        decoder = Conditional(lambda z, c: jnp.zeros(6), Bernoulli)
        model = VAE(StandardNormal(d), encoder, decoder)
        rate = given(elbo)(model, (X, C), jr.key(0))[1]["rate"]
        np.testing.assert_allclose(rate, d / 2, rtol=1e-6)


@pytest.mark.parametrize("kind", MODULATIONS)
def test_a_label_that_is_not_one_hot_is_refused(kind):
    layer = kind(5, 10, rngs=rngs())
    with pytest.raises(ValueError, match=r"inputs of 10 numbers in all.*\(\)"):
        layer(H, jnp.array(3))
