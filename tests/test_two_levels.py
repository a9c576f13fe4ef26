from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from flax import nnx
from variants import SHAPE, images

from vae_teach.bounds import elbo
from vae_teach.code_priors import CodePrior
from vae_teach.distributions import Bernoulli
from vae_teach.likelihoods import Categorical
from vae_teach.models import Conditional
from vae_teach.networks import GridDecoder, GridEncoder
from vae_teach.priors import Fixed, UniformCodes
from vae_teach.quantisers import MovingCodebook
from vae_teach.two_levels import TopDown, TwoLevelPrior, TwoLevels
from vae_teach.vq import VQVAE, moving_averages, restarts, usage, vq

TOP, BOTTOM, COARSE, FINE = 5, 3, (3, 2), (6, 4)


def spread(codes, size, seed):
    codebook = MovingCodebook(codes, size, rngs=nnx.Rngs(0))
    codebook.table[...] = jr.normal(jr.key(seed), (codes, size))
    return codebook


def two_levels(rngs):
    return TwoLevels(
        GridEncoder((*FINE, 4), 2, 8, 2, rngs=rngs),
        spread(TOP, 2, 1),
        nnx.Linear(2 + 4, 3, rngs=rngs),
        spread(BOTTOM, 3, 2),
    )


def model(prior=None):
    rngs = nnx.Rngs(0)
    uniform = TwoLevelPrior(
        UniformCodes(COARSE, TOP), UniformCodes(FINE, BOTTOM), codes=TOP
    )
    return VQVAE(
        prior or uniform,
        GridEncoder(SHAPE, 1, 8, 4, rngs=rngs),
        two_levels(rngs),
        Conditional(GridDecoder(2 + 3, 8, 1, SHAPE, rngs=rngs), Bernoulli),
    )


def learned(rngs=None):
    rngs = rngs or nnx.Rngs(4)
    return TwoLevelPrior(
        CodePrior(COARSE, TOP, 4, (3,), rngs=rngs),
        CodePrior(FINE, BOTTOM, 4, (3,), given=6 * TOP, rngs=rngs),
        codes=TOP,
    )


def test_the_rate_is_the_sum_of_both_levels():
    x = images(1)[0]
    _, terms = elbo(model(), x, jr.key(0))
    expected = 6 * np.log(TOP) + 24 * np.log(BOTTOM)
    np.testing.assert_allclose(terms["rate"], expected, rtol=1e-6)
    vae = model(learned())
    top, bottom = vae.q_z(x).value
    p = vae.p_z()
    expected = -p.top.log_prob(top) - p.given(top).log_prob(bottom)
    _, terms = elbo(vae, x, jr.key(0))
    np.testing.assert_allclose(terms["rate"], expected, rtol=1e-5)
    value, of_vq = vq(vae, x, jr.key(0))
    np.testing.assert_array_equal(of_vq["distortion"], terms["distortion"])
    np.testing.assert_allclose(
        value,
        terms["distortion"] + terms["rate"] + 0.25 * of_vq["commitment"],
        rtol=1e-6,
    )


def test_each_fine_vector_lies_beside_the_coarse_one_above_it():
    q = two_levels(nnx.Rngs(0))
    top, bottom = jnp.arange(6).reshape(COARSE) % TOP, jnp.ones(FINE, int)
    found = q.vectors((top, bottom))
    assert found.shape == (*FINE, 2 + 3)
    for row, column in np.ndindex(*FINE):
        of_top = q.top.table[...][top[row // 2, column // 2]]
        np.testing.assert_array_equal(found[row, column, :2], of_top)
        np.testing.assert_array_equal(found[row, column, 2:], q.bottom.table[...][1])


def test_codes_vectors_and_losses_are_those_of_the_two_quantisers():
    q, h = two_levels(nnx.Rngs(0)), jr.normal(jr.key(0), (*FINE, 4))
    found = q(h)
    np.testing.assert_array_equal(q.vectors(found.codes), found.vectors)
    inputs = q.inputs(h)
    parts = [part(y) for part, y in zip((q.top, q.bottom), inputs, strict=True)]
    for part, codes in zip(parts, found.codes, strict=True):
        np.testing.assert_array_equal(part.codes, codes)
    expected = sum(part.commitment for part in parts)
    np.testing.assert_allclose(found.commitment, expected, rtol=1e-6)
    assert q.size == (TOP, BOTTOM)


def test_fine_codes_know_the_coarse_vectors_and_both_reach_the_encoder():
    q, h = two_levels(nnx.Rngs(0)), jr.normal(jr.key(0), (*FINE, 4))
    before = q(h).codes[1]
    q.top.table[...] = 3 * q.top.table[...] + 1
    assert (q(h).codes[1] != before).any()

    def level(part, h):
        return q(h).vectors[..., part].sum()

    for part in (slice(2), slice(2, 5)):
        assert (jax.grad(partial(level, part))(h) != 0).any()


def test_a_sample_is_a_pair_of_grids_and_the_fine_follows_the_coarse():
    vae = model(learned())
    top, bottom = vae.p_z().sample(jr.key(0))
    assert (top.shape, bottom.shape) == (COARSE, FINE)
    assert vae.p_x((top, bottom)).mean.shape == SHAPE
    one, other = (vae.p_z().given(t).log_prob(bottom) for t in (top, (top + 1) % TOP))
    assert one != other


def test_the_probabilities_of_all_pairs_sum_to_one():
    coarse = Fixed(Categorical(jnp.array([[[0.3, -1.0]]])))(None)
    p = TopDown(coarse, CodePrior((1, 2), 3, 4, (3,), given=2, rngs=nnx.Rngs(0)), 2)
    pairs = [
        (jnp.full((1, 1), t), jnp.array([[a, b]]))
        for t in range(2)
        for a in range(3)
        for b in range(3)
    ]
    log_p = jnp.stack([p.log_prob(pair) for pair in pairs])
    np.testing.assert_allclose(jax.nn.logsumexp(log_p), 0, atol=1e-5)


def test_both_codebooks_are_moved_restarted_and_counted():
    vae, x = model(), images(8)
    for step in (moving_averages(0.5), restarts(0.0, below=100.0)):
        moved, _, _ = step.update(vae, step.init(vae), x, jr.key(0))
        pairs = zip(vae.quantiser.codebooks, moved.quantiser.codebooks, strict=True)
        for before, after in pairs:
            assert (before.table[...] != after.table[...]).any()
    top, bottom = usage(vae, x)
    assert (top.counts.sum(), bottom.counts.sum()) == (8 * 6, 8 * 24)
    assert (len(top.counts), len(bottom.counts)) == (TOP, BOTTOM)


def test_grids_that_do_not_fit_are_refused():
    q = two_levels(nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"multiple of the coarse.*\(6, 3\)"):
        q.vectors((jnp.zeros(COARSE, int), jnp.zeros((6, 3), int)))
