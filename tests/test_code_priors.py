from dataclasses import replace

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from flax import nnx
from variants import SHAPE, images

from vae_teach.bounds import elbo
from vae_teach.code_priors import CodePrior
from vae_teach.distributions import Bernoulli
from vae_teach.losses import mean_over_batch
from vae_teach.models import Conditional
from vae_teach.networks import GridDecoder, GridEncoder
from vae_teach.priors import Fixed, UniformCodes
from vae_teach.quantisers import FiniteScalar
from vae_teach.training import fit, minimise
from vae_teach.vq import VQVAE

GRID, CODES = (2, 2), 3


def prior(grid=GRID, **given):
    return CodePrior(grid, CODES, 4, (3, 3), rngs=nnx.Rngs(0), **given)


def certain(factor=2.0, **given):
    """Larger weights, so that codes depend on each other clearly; no two logits tie."""
    net = jax.tree.map(lambda leaf: factor * leaf, prior(**given))
    net.head.bias[...] = jnp.array([0.5, -0.4, 0.0])
    return net


def every_grid():
    """All 81 grids of 2 x 2 codes of 3."""
    digits = np.arange(81)[:, None] // 3 ** np.arange(4)[None] % 3
    return jnp.asarray(digits).reshape(-1, *GRID)


def number(z):
    return np.asarray(z.reshape(-1, 4) @ 3 ** jnp.arange(4))


C = jnp.array([0.5, -1.0])


@pytest.mark.parametrize("temperature", [1.0, 0.4])
@pytest.mark.parametrize("given", [0, 2])
def test_the_probabilities_of_all_grids_sum_to_one(temperature, given):
    p = certain(given=given)(None, *([C] if given else []))
    log_p = jax.vmap(replace(p, temperature=temperature).log_prob)(every_grid())
    np.testing.assert_allclose(jax.nn.logsumexp(log_p), 0, atol=1e-5)


def test_a_code_depends_on_earlier_ones_alone():
    net, shape = prior((3, 4)), (3, 4)
    z = jr.randint(jr.key(0), shape, 0, CODES)
    for i in range(12):
        flat = z.ravel()
        changed = flat.at[i].set((flat[i] + 1) % CODES).reshape(shape)
        one, other = (net.logits(g).reshape(12, CODES) for g in (z, changed))
        np.testing.assert_array_equal(one[: i + 1], other[: i + 1])
        if i + 1 < 12:
            assert (one[i + 1 :] != other[i + 1 :]).any()


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_samples_have_the_probabilities_of_log_prob(temperature):
    p, n = replace(certain()(None), temperature=temperature), 10_000
    z = jax.jit(jax.vmap(p.sample))(jr.split(jr.key(3), n))
    assert z.shape == (n, *GRID)
    counts = np.bincount(number(z), minlength=81)
    expected = np.asarray(n * np.exp(jax.vmap(p.log_prob)(every_grid())))
    often = expected > 5
    assert often.sum() > 10
    # The rare ones together are one more class.
    rest = max(expected[~often].sum(), 5)
    chi2 = ((counts - expected) ** 2)[often] / expected[often]
    chi2 = chi2.sum() + (counts[~often].sum() - expected[~often].sum()) ** 2 / rest
    freedom = often.sum()
    assert abs(chi2 - freedom) < 4 * np.sqrt(2 * freedom)


def test_temperature_changes_what_is_drawn():
    """At 0 the likeliest code each time; in between, entropy between the two."""
    p = certain()(None)
    keys = jr.split(jr.key(0), 500)

    def drawn(temperature):
        sample = replace(p, temperature=temperature).sample
        return number(jax.jit(jax.vmap(sample))(keys))

    def entropy(temperature):
        log_p = jax.vmap(replace(p, temperature=temperature).log_prob)(every_grid())
        return jax.scipy.special.entr(jnp.exp(log_p)).sum()

    (likeliest,) = np.unique(drawn(1e-5))
    z = jnp.zeros(GRID, int)
    for _ in range(4):  # one place right after each round
        z = p.network.logits(z).argmax(-1)
    assert likeliest == number(z)[0]
    assert (drawn(0.5) == likeliest).mean() > (drawn(1.0) == likeliest).mean() + 0.1
    assert entropy(0.5) < entropy(1.0) - 0.1 < entropy(3.0)
    # One step on its own: softmax(logits / T).
    first = p.network.logits(z)[0, 0]
    for temperature in (0.5, 2.0):
        log_p = jax.vmap(replace(p, temperature=temperature).log_prob)(every_grid())
        found = jax.ops.segment_sum(jnp.exp(log_p), every_grid()[:, 0, 0], CODES)
        np.testing.assert_allclose(found, jax.nn.softmax(first / temperature), 1e-4)


def test_what_is_given_reaches_every_code():
    net, z = prior((3, 3), given=2), jnp.ones((3, 3), int)

    def logits(c):
        p = net(None, c)
        return net.logits(z, p.code)

    assert (abs(jax.jacfwd(logits)(C)).sum(-1) > 0).all()


def test_what_is_no_code_has_no_mass_and_other_grids_are_refused():
    p = prior()(None)
    for code in (-1, CODES):
        assert p.log_prob(jnp.zeros(GRID, int).at[0, 1].set(code)) == -jnp.inf
    with pytest.raises(ValueError, match=r"event of shape \(2, 2\), got \(2, 3\)"):
        p.log_prob(jnp.zeros((2, 3), int))
    with pytest.raises(TypeError, match="Expected integers"):
        p.log_prob(jnp.zeros(GRID))
    with pytest.raises(ValueError, match=r"a grid \(rows, columns\), got \(4,\)"):
        prior((4,))
    with pytest.raises(ValueError, match="Expected nothing to be given"):
        prior()(None, C)
    with pytest.raises(ValueError, match="Expected something to be given"):
        prior(given=2)(None)


def test_the_second_stage_lowers_the_rate_and_leaves_the_first_as_it_was():
    rngs = nnx.Rngs(0)
    encoder = GridEncoder(SHAPE, 2, 8, 2, rngs=rngs)
    decoder = Conditional(GridDecoder(2, 8, 2, SHAPE, rngs=rngs), Bernoulli)
    uniform = UniformCodes((3, 2), 6)
    first = VQVAE(uniform, encoder, FiniteScalar((2, 3)), decoder)
    learned = CodePrior((3, 2), 6, 8, (3,), rngs=rngs)
    second = VQVAE(learned, encoder, FiniteScalar((2, 3)), decoder)
    of_prior = nnx.All(nnx.Param, nnx.PathContains("prior"))
    step = minimise(mean_over_batch(elbo), optax.adam(1e-2), of_prior)
    run = dict(key=jr.key(0), epochs=10, batch_size=16)
    fitted, history = fit(second, step, images(), **run)
    assert history["rate"][-1] < 0.7 * 6 * np.log(6)
    x = images(1)[0]
    _, terms = elbo(fitted, x, jr.key(0))
    _, before = elbo(first, x, jr.key(0))
    np.testing.assert_allclose(terms["distortion"], before["distortion"], rtol=1e-6)
    np.testing.assert_allclose(before["rate"], 6 * np.log(6), rtol=1e-6)
    assert fitted.p_x(fitted.p_z().sample(jr.key(0))).mean.shape == SHAPE
    # The distribution as a prior of its own.
    again = VQVAE(Fixed(fitted.p_z()), encoder, FiniteScalar((2, 3)), decoder)
    np.testing.assert_allclose(elbo(again, x, jr.key(0))[1]["rate"], terms["rate"])
