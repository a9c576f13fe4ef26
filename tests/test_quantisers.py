import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from flax import nnx
from sklearn.cluster import KMeans

from vae_teach.quantisers import (
    FiniteScalar,
    LearnedCodebook,
    MovingCodebook,
    straight_through,
    unit,
)

CODEBOOKS = LearnedCodebook, MovingCodebook


def spread(codebook, seed=7):
    """The codebook with its vectors where the tokens are."""
    shape = codebook.table[...].shape
    codebook.table[...] = jr.normal(jr.key(seed), shape)
    return codebook


def codebook(kind, codes=5, size=3, **given):
    return spread(kind(codes, size, rngs=nnx.Rngs(0), **given))


def grid(*shape, seed=1):
    return jr.normal(jr.key(seed), shape)


# Nearest neighbours


@pytest.mark.parametrize("kind", CODEBOOKS)
@pytest.mark.parametrize("project", [jax.nn.identity, unit])
def test_a_token_gets_the_nearest_code_and_its_vector(kind, project):
    q, h = codebook(kind, project=project), grid(4, 2, 3)
    found = q(h)
    y, table = project(h), project(q.table[...])
    distances = ((y[:, :, None] - table[None, None]) ** 2).sum(-1)
    np.testing.assert_array_equal(found.codes, distances.argmin(-1))
    np.testing.assert_array_equal(found.vectors, table[found.codes])
    np.testing.assert_array_equal(q.vectors(found.codes), found.vectors)
    np.testing.assert_allclose(found.commitment, distances.min(-1).sum(), rtol=1e-5)


def test_unit_codes_are_told_apart_by_direction_alone():
    q, h = codebook(LearnedCodebook, project=unit), grid(6, 3)
    np.testing.assert_array_equal(q(h).codes, q(7 * h).codes)
    np.testing.assert_allclose((q(h).vectors ** 2).sum(-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(unit(jnp.zeros(3)), 0)
    assert np.isfinite(jax.grad(lambda v: unit(v).sum())(jnp.zeros(3))).all()


@pytest.mark.parametrize("kind", CODEBOOKS)
def test_vectors_start_in_a_cube_of_side_two_over_their_number(kind):
    table = kind(200, 30, rngs=nnx.Rngs(0)).table[...] * 200
    assert abs(table).max() <= 1
    # The variance of U(-1, 1) is 1/3, that of its square 4/45.
    assert abs((table**2).mean() - 1 / 3) < 4 * (4 / 45 / table.size) ** 0.5


# Gradients


@pytest.mark.parametrize("kind", CODEBOOKS)
def test_straight_through_the_encoder_gets_the_gradient_at_the_code(kind):
    """Not none, which is what the choice itself has, nor the one at its own output."""
    q, h = codebook(kind), grid(4, 3)
    weights = jnp.array([1.0, -2.0, 0.5])

    def loss(vectors):
        return jnp.sin(vectors @ weights).sum()

    e = q(h).vectors
    found = jax.grad(lambda h: loss(q(h).vectors))(h)
    np.testing.assert_array_equal(found, jax.grad(loss)(e))
    assert abs(found - jax.grad(loss)(h)).max() > 0.1
    assert (jax.grad(lambda h: loss(q.vectors(q.codes(h))))(h) == 0).all()


def test_straight_through_is_the_code_to_the_last_bit():
    y, e = 1e3 * grid(1000), grid(1000, seed=2)
    np.testing.assert_array_equal(jax.jit(straight_through)(y, e), e)


def test_the_codebook_loss_moves_a_code_by_twice_its_way_to_each_of_its_tokens():
    q, h = codebook(LearnedCodebook), grid(20, 3)
    graphdef, params, rest = nnx.split(q, nnx.Param, ...)

    def loss(params):
        return nnx.merge(graphdef, params, rest)(h).codebook

    (found,) = jax.tree.leaves(jax.grad(loss)(params))
    codes, e = q(h).codes, q.table[...]
    expected = np.zeros_like(e)
    for k, y in zip(codes, h, strict=True):
        expected[k] += 2 * (e[k] - y)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert (jax.grad(lambda h: q(h).codebook)(h) == 0).all()


@pytest.mark.parametrize("kind", CODEBOOKS)
def test_the_commitment_moves_a_token_to_its_code(kind):
    q, h = codebook(kind), grid(20, 3)
    found = jax.grad(lambda h: q(h).commitment)(h)
    np.testing.assert_allclose(found, 2 * (h - q(h).vectors), rtol=1e-5)


def test_nothing_has_a_gradient_in_a_moving_codebook():
    q, h = codebook(MovingCodebook), grid(20, 3)
    assert jax.tree.leaves(nnx.state(q, nnx.Param)) == []
    graphdef, state = nnx.split(q)

    def loss(state):
        found = nnx.merge(graphdef, state)(h)
        return found.vectors.sum() + found.codebook + found.commitment

    for slope in jax.tree.leaves(jax.grad(loss)(state)):
        assert (slope == 0).all()
    assert q(h).codebook == 0


def test_a_learned_codebook_has_no_averages_to_move_it_a_second_time():
    assert not hasattr(codebook(LearnedCodebook), "move")


# Moving averages


def test_one_step_without_memory_is_one_step_of_lloyds():
    q, tokens = codebook(MovingCodebook, 6), grid(500, 3)
    assert len(np.unique(q.codes(tokens))) == 6  # no cluster is empty
    start = np.asarray(q.table[...])
    lloyd = KMeans(6, init=start, n_init=1, max_iter=1, algorithm="lloyd")
    q.move(tokens, 0.0)
    expected = lloyd.fit(np.asarray(tokens)).cluster_centers_
    np.testing.assert_allclose(q.table[...], expected, atol=1e-5)
    np.testing.assert_array_equal(q.counts[...].sum(), 500)


def test_one_step_is_a_gradient_step_at_each_codes_own_rate():
    """SGD on Σ|e - y|² with the rate 1/(2n): what a codebook loss would have to do."""
    q, tokens = codebook(MovingCodebook), grid(200, 3)
    e, codes = q.table[...], q.codes(tokens)
    n = jnp.bincount(codes, length=5)[:, None]
    slopes = jax.grad(lambda e: ((e[codes] - tokens) ** 2).sum())(e)
    q.move(tokens, 0.0)
    np.testing.assert_allclose(q.table[...], e - slopes / (2 * n), atol=1e-5)


def test_averages_are_the_ratio_of_weighted_sums_with_no_bias_of_the_start():
    """After T batches: Σ_t γ^(T-t) Σy / Σ_t γ^(T-t) n, whatever the vectors were."""
    q, decay = codebook(MovingCodebook, 1), 0.7
    batches = grid(5, 8, 3)
    for tokens in batches:
        q.move(tokens, decay)
    weights = decay ** jnp.arange(5.0)[::-1]
    expected = weights @ batches.mean(1) / weights.sum()
    np.testing.assert_allclose(q.table[...][0], expected, rtol=1e-5)


def test_a_code_without_tokens_stays_where_it_is_for_ever():
    """Smoothed counts would draw it to the origin, and bare ones end at 0/0."""
    q = codebook(MovingCodebook, 2)
    q.table[...] = jnp.array([[0.0, 0.0, 0.0], [50.0, 0.0, 0.0]])
    q.move(jnp.array([[49.0, 1.0, 0.0], [0.0, 0.0, 0.0]]), 0.5)
    before = q.table[...]
    np.testing.assert_array_equal(before[1], [49.0, 1.0, 0.0])
    graphdef, state = nnx.split(q)

    def again(state, _):
        q = nnx.merge(graphdef, state, copy=True)
        q.move(jnp.zeros((4, 3)), 0.5)
        return nnx.split(q)[1], None

    state, _ = jax.lax.scan(again, state, None, 300)
    q = nnx.merge(graphdef, state)
    assert q.counts[...][1] == 0  # underflown
    np.testing.assert_array_equal(q.table[...][1], before[1])
    assert np.isfinite(q.table[...]).all()


def test_unit_codes_move_as_in_spherical_k_means():
    q, tokens = codebook(MovingCodebook, 3, project=unit), unit(grid(50, 3))
    codes = q.codes(tokens)
    q.move(tokens, 0.0)
    sums = jax.ops.segment_sum(tokens, codes, 3)
    np.testing.assert_allclose(q.vectors(jnp.arange(3)), unit(sums), rtol=1e-4)


@pytest.mark.parametrize("kind", CODEBOOKS)
def test_placed_codes_are_at_their_places_and_the_others_where_they_were(kind):
    q = codebook(kind)
    before, y = q.table[...], grid(5, 3)
    chosen = jnp.arange(5) % 2 == 0
    q.place(chosen, y)
    np.testing.assert_array_equal(q.table[...][::2], y[::2])
    np.testing.assert_array_equal(q.table[...][1::2], before[1::2])


def test_a_placed_code_forgets_what_it_had_counted():
    """With its old counts it would crawl from its new place, by 1 - γ of the way."""
    q, before, after = codebook(MovingCodebook, 1), grid(50, 3), grid(4, 3, seed=2)
    q.move(before, 0.9)
    q.place(jnp.ones(1, bool), after[:1])
    q.move(after, 0.9)
    np.testing.assert_allclose(q.table[...][0], after.mean(0), rtol=1e-5)


# Finite scalars


@pytest.mark.parametrize("levels", [(2,), (3, 5), (8, 6, 5)])
def test_codes_and_level_vectors_are_one_to_one(levels):
    q = FiniteScalar(levels)
    assert q.size == np.prod(levels)
    codes = jnp.arange(q.size)
    vectors = q.vectors(codes)
    assert len(np.unique(vectors, axis=0)) == q.size
    np.testing.assert_array_equal(q.codes(vectors), codes)
    for j, count in enumerate(levels):
        np.testing.assert_allclose(
            np.unique(vectors[:, j]), np.linspace(-1, 1, count), atol=1e-6
        )


def test_a_finite_scalar_is_the_nearest_neighbour_in_its_own_table():
    q, h = FiniteScalar((4, 3, 5)), 1.5 * grid(10, 20, 3)
    table = q.vectors(jnp.arange(q.size))
    tokens = jnp.tanh(h)[:, :, None]
    nearest = ((tokens - table[None, None]) ** 2).sum(-1).argmin(-1)
    found = q(h)
    np.testing.assert_array_equal(found.codes, nearest)
    np.testing.assert_array_equal(found.vectors, table[nearest])


def test_every_combination_of_levels_is_within_reach_of_the_encoder():
    q = FiniteScalar((8, 5))
    found = q(3 * grid(4000, 2))
    assert len(np.unique(found.codes)) == q.size


def test_the_gradient_goes_through_the_rounding_and_the_bound():
    q, h = FiniteScalar((5, 4)), grid(7, 2)
    found = jax.grad(lambda h: q(h).vectors.sum())(h)
    np.testing.assert_allclose(found, 1 - jnp.tanh(h) ** 2, rtol=1e-5)
    assert jax.tree.leaves(nnx.state(q)) == []
    assert q(h).codebook == q(h).commitment == 0


# Errors


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"tokens of 3 numbers.*got shape \(4, 2\)"):
        codebook(MovingCodebook)(jnp.zeros((4, 2)))
    with pytest.raises(ValueError, match=r"2 numbers a token.*got shape \(4, 3\)"):
        FiniteScalar((4, 4))(jnp.zeros((4, 3)))
    for levels in ((), (4, 1)):
        with pytest.raises(ValueError, match="two levels or more"):
            FiniteScalar(levels)
