from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from flax import nnx
from sklearn.cluster import KMeans
from variants import SHAPE, images

from vae_teach.bounds import elbo
from vae_teach.distributions import Bernoulli, Normal, kl
from vae_teach.likelihoods import Categorical
from vae_teach.losses import mean_over_batch
from vae_teach.metrics import log_likelihood, rate_and_distortion
from vae_teach.models import Conditional
from vae_teach.networks import MLP
from vae_teach.priors import Fixed, UniformCodes
from vae_teach.quantisers import FiniteScalar, LearnedCodebook, MovingCodebook
from vae_teach.training import alternate, fit
from vae_teach.vq import VQVAE, PointMass, moving_averages, restarts, usage, vq

TOKENS, CODES, SIZE = 6, 5, 3


def spread(codebook, scale=1.0):
    codebook.table[...] = scale * jr.normal(jr.key(3), codebook.table[...].shape)
    return codebook


def codebook(kind=LearnedCodebook):
    return spread(kind(CODES, SIZE, rngs=nnx.Rngs(1)))


def vqvae(quantiser, size=SIZE):
    rngs = nnx.Rngs(0)
    encoder = MLP(SHAPE, 8, (TOKENS, size), rngs=rngs)
    decoder = Conditional(MLP((TOKENS, size), 8, SHAPE, rngs=rngs), Bernoulli)
    prior = UniformCodes((TOKENS,), quantiser.size)
    return VQVAE(prior, encoder, quantiser, decoder)


KINDS = {
    "codebook loss": lambda: vqvae(codebook()),
    "moving averages": lambda: vqvae(codebook(MovingCodebook)),
    "finite scalars": lambda: vqvae(FiniteScalar((3, 4)), 2),
}


@pytest.fixture(params=KINDS)
def model(request):
    return KINDS[request.param]()


def reader(codes=CODES):
    """Its data are one-hot vectors, which are the codes; for counting."""
    q = MovingCodebook(codes, codes, rngs=nnx.Rngs(0))
    q.table[...] = jnp.eye(codes)
    encode, decode = jax.nn.identity, lambda e: Bernoulli(e)
    return VQVAE(UniformCodes((TOKENS,), codes), encode, q, decode)


# The posterior


def test_a_point_mass_has_entropy_zero_and_the_kl_of_its_value():
    codes = jnp.array([2, 0, 1])
    q, p = PointMass(codes), Categorical(jr.normal(jr.key(0), (3, 4)))
    z, log_q = q.sample_and_log_prob(jr.key(0))
    np.testing.assert_array_equal(z, codes)
    assert log_q == 0
    assert q.log_prob(codes.at[1].set(1)) == -jnp.inf
    assert kl(q, p) == -p.log_prob(codes)
    with pytest.raises(TypeError, match="Expected floats, got int32"):
        kl(q, Normal(jnp.zeros(3), jnp.ones(3)))


def test_the_rate_is_tokens_times_log_k_for_every_example(model):
    value, terms = jax.vmap(lambda x: elbo(model, x, jr.key(0)))(images(8))
    expected = TOKENS * np.log(model.quantiser.size)
    np.testing.assert_allclose(terms["rate"], expected, rtol=1e-6)
    np.testing.assert_allclose(value, terms["distortion"] + expected, rtol=1e-6)


def test_the_metrics_of_every_vae_hold(model):
    found = rate_and_distortion(model, images(9), jr.key(0))
    values, terms = jax.vmap(lambda x: elbo(model, x, jr.key(0)))(images(9))
    np.testing.assert_allclose(found.elbo, -values.mean(), rtol=1e-5)
    np.testing.assert_allclose(found.distortion, terms["distortion"].mean(), rtol=1e-5)
    # One code a grid: more samples give no tighter bound.
    bound = log_likelihood(model, images(9), jr.key(0), samples=3)
    np.testing.assert_allclose(bound, -values, rtol=1e-5)


# The loss of one example


def test_the_loss_is_the_elbo_and_its_penalties(model):
    x = images(1)[0]
    value, terms = vq(model, x, jr.key(0), commitment=0.7)
    bound, of_elbo = elbo(model, x, jr.key(0))
    np.testing.assert_array_equal(terms["distortion"], of_elbo["distortion"])
    expected = bound + terms["codebook"] + 0.7 * terms["commitment"]
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    by_hand = {LearnedCodebook: (True, True), MovingCodebook: (False, True)}
    has = by_hand.get(type(model.quantiser), (False, False))
    assert (terms["codebook"] > 0, terms["commitment"] > 0) == has


def test_reconstruction_reaches_the_encoder(model):
    """The choice of codes alone has no gradient, which is what ``elbo`` shows."""
    x = images(1)[0]
    graphdef, params, rest = nnx.split(model, nnx.PathContains("encoder"), ...)

    def distortion(bound, params):
        return bound(nnx.merge(graphdef, params, rest), x, jr.key(0))[1]["distortion"]

    for leaf in jax.tree.leaves(jax.grad(partial(distortion, vq))(params)):
        assert (leaf != 0).any()
    for leaf in jax.tree.leaves(jax.grad(partial(distortion, elbo))(params)):
        assert (leaf == 0).all()


def test_the_encoder_gets_the_decoders_gradient_at_the_code(model):
    x = images(1)[0]
    h = model.encoder(x)
    e = model.quantiser(h).vectors

    def distortion(vectors):
        return -model.decoder(vectors).log_prob(x)

    found = jax.grad(lambda h: distortion(model.quantiser(h).vectors))(h)
    bounded = isinstance(model.quantiser, FiniteScalar)
    slope = 1 - jnp.tanh(h) ** 2 if bounded else 1.0
    np.testing.assert_allclose(found, jax.grad(distortion)(e) * slope, rtol=1e-5)


def test_no_term_of_an_example_depends_on_the_batch_size(model):
    """A penalty summed over the batch would be 16 times as large."""
    few, many = images(16), jnp.tile(images(16), (16, 1, 1, 1))
    loss = mean_over_batch(partial(vq, commitment=0.25))
    (value, terms), (again, of_many) = (loss(model, x, jr.key(0)) for x in (few, many))
    np.testing.assert_allclose(again, value, rtol=1e-5)
    for name, term in terms.items():
        np.testing.assert_allclose(of_many[name], term, rtol=1e-5)


# Players


def test_the_player_of_moving_averages_is_one_step_of_k_means():
    model = KINDS["moving averages"]()
    batch = jr.uniform(jr.key(5), (64, *SHAPE))
    tokens = np.asarray(jax.vmap(model.encoder)(batch)).reshape(-1, SIZE)
    model.quantiser.table[...] = jnp.asarray(tokens[:CODES])
    start = np.asarray(model.quantiser.table[...])
    step = moving_averages(decay=0.0)
    moved, _, terms = step.update(model, step.init(model), batch, jr.key(0))
    lloyd = KMeans(CODES, init=start, n_init=1, max_iter=1).fit(tokens)
    table = moved.quantiser.table[...]
    np.testing.assert_allclose(table, lloyd.cluster_centers_, atol=1e-5)
    np.testing.assert_array_equal(model.quantiser.table[...], start)
    before = jax.vmap(lambda x: vq(model, x, jr.key(0))[1]["commitment"])(batch)
    np.testing.assert_allclose(terms["commitment"], before.mean(), rtol=1e-4)


def test_a_codebook_is_moved_by_its_loss_or_by_averages_and_never_by_both():
    for kind in ("codebook loss", "finite scalars"):
        with pytest.raises(TypeError, match="Expected a MovingCodebook, got"):
            moving_averages().init(KINDS[kind]())
    with pytest.raises(TypeError, match="Expected a codebook"):
        restarts().init(KINDS["finite scalars"]())


@pytest.mark.parametrize("kind", ["codebook loss", "moving averages"])
def test_dead_codes_restart_at_tokens_of_the_batch(kind):
    model, batch = KINDS[kind](), jr.uniform(jr.key(5), (8, *SHAPE))
    tokens = jax.vmap(model.encoder)(batch).reshape(-1, SIZE)
    far = jnp.full((CODES, SIZE), 100.0).at[2].set(tokens.mean(0))
    model.quantiser.table[...] = far
    step = restarts(decay=0.5, below=0.3)
    state = step.init(model)
    # After one step an unused code has u = 0.5, after two 0.25.
    one, state, terms = step.update(model, state, batch, jr.key(0))
    assert terms["restarted"] == 0
    np.testing.assert_array_equal(one.quantiser.table[...], far)
    two, state, terms = step.update(one, state, batch, jr.key(1))
    assert terms["restarted"] == CODES - 1
    table = two.quantiser.table[...]
    np.testing.assert_array_equal(table[2], far[2])
    for k in (0, 1, 3, 4):
        assert (abs(tokens - table[k][None]).max(-1) == 0).any()
    assert len(np.unique(table, axis=0)) == CODES  # at different tokens
    assert usage(model, batch).share == 1 / CODES
    assert usage(two, batch).share == 1
    # They have a fresh chance, and their own counts.
    np.testing.assert_array_equal(jnp.delete(state[0], 2), 1)


def test_restarts_draw_other_tokens_with_another_key():
    model, batch = KINDS["codebook loss"](), jr.uniform(jr.key(5), (8, *SHAPE))
    step = restarts(decay=0.0, below=10.0)  # all of them
    tables = [
        step.update(model, step.init(model), batch, jr.key(k))[0].quantiser.table[...]
        for k in (0, 0, 1)
    ]
    np.testing.assert_array_equal(tables[0], tables[1])
    assert (tables[0] != tables[2]).any()


def test_moving_averages_alone_are_k_means_and_its_objective_falls():
    model = KINDS["moving averages"]()
    step = alternate(codes=moving_averages(0.5))
    _, history = fit(model, step, images(), key=jr.key(0), epochs=6, batch_size=32)
    distance = history["codes/commitment"]
    assert distance[-1] < 0.7 * distance[0]


# Usage


@pytest.mark.parametrize("codes", [2, CODES])
def test_the_perplexity_of_uniform_use_is_k_and_of_one_code_one(codes):
    each = jnp.arange(codes * TOKENS).reshape(codes, TOKENS) % codes
    even = usage(reader(codes), jax.nn.one_hot(each, codes))
    np.testing.assert_allclose(even.perplexity, codes, rtol=1e-5)
    np.testing.assert_array_equal(even.counts, TOKENS)
    assert even.share == 1
    one = usage(reader(codes), jax.nn.one_hot(0 * each, codes))
    np.testing.assert_allclose(one.perplexity, 1, rtol=1e-6)
    np.testing.assert_allclose(one.share, 1 / codes)


def test_usage_counts_all_tokens_of_all_the_data():
    codes = jr.categorical(jr.key(0), jnp.array([1.0, 0, 3, 0, 0]), shape=(300, TOKENS))
    found = usage(reader(), jax.nn.one_hot(codes, CODES))
    np.testing.assert_array_equal(found.counts, np.bincount(codes.ravel(), minlength=5))
    shares = np.bincount(codes.ravel()) / codes.size
    expected = np.exp(-(shares * np.log(shares)).sum())
    np.testing.assert_allclose(found.perplexity, expected, rtol=1e-5)
    batch = usage(reader(), jax.nn.one_hot(codes[:1], CODES))
    assert batch.perplexity < found.perplexity


def test_with_the_counts_as_prior_the_rate_is_tokens_times_log_perplexity():
    codes = jr.categorical(jr.key(0), jnp.array([1.0, 0, 3, 0, 0]), shape=(50, TOKENS))
    model, data = reader(), jax.nn.one_hot(codes, CODES)
    found = usage(model, data)
    logits = jnp.broadcast_to(jnp.log(found.counts)[None], (TOKENS, CODES))
    model.prior = Fixed(Categorical(logits))
    rates = jax.vmap(lambda x: elbo(model, x, jr.key(0))[1]["rate"])(data)
    np.testing.assert_allclose(
        rates.mean(), TOKENS * np.log(found.perplexity), rtol=1e-5
    )


def test_the_prior_draws_whole_grids_and_not_one_code():
    p = vqvae(FiniteScalar((8, 8)), 2).p_z()
    z = jax.vmap(p.sample)(jr.split(jr.key(0), 500))
    assert z.shape == (500, TOKENS)
    assert z.min() == 0
    assert z.max() == 63
    assert (z[:, :1] != z[:, 1:]).mean() > 0.9
