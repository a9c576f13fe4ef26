"""Metrics of probabilistic PCA, where each has a known value."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from flax import nnx
from variants import LATENTS, images, vae

from vae_teach.distributions import Normal, pytree
from vae_teach.metrics import (
    active_units,
    log_likelihood,
    precision_and_recall,
    rate_and_distortion,
    rate_per_unit,
)
from vae_teach.theory import PPCA, ppca
from vae_teach.training import evaluate

D, SIZE = 6, 3
N = 203  # no multiple of any batch size
SCALES = jnp.array([[3.0, 2.0, 1.5, 0.7, 0.5, 0.4]])
X = jr.normal(jr.key(0), (N, D)) * SCALES + 1
MODEL = ppca(X, SIZE)
ACTIVE, LEFT = np.split(np.asarray(MODEL.eigenvalues, np.float64), [SIZE])
VARIANCE = LEFT.mean()
EVIDENCE = jax.vmap(MODEL.log_prob)(X)


@pytree
class WithPosterior:
    """A generative model, and its posterior moved and stretched."""

    exact: PPCA
    shift: jax.Array
    stretch: jax.Array

    def p_z(self):
        return self.exact.p_z()

    def p_x(self, z):
        return self.exact.p_x(z)

    def q_z(self, x):
        q = self.exact.q_z(x)
        return Normal(q.loc + self.shift, self.stretch * q.scale)


WRONG = WithPosterior(MODEL, jnp.array([0.2, 0.0, -0.1]), jnp.array(1.3))


@pytest.mark.parametrize("samples", [1, 7])
def test_with_the_exact_posterior_the_estimate_is_the_evidence(samples):
    found = log_likelihood(MODEL, X, jr.key(1), samples=samples)
    assert found.shape == (N,)
    # Sums of about 20 terms of size 10, each rounded to one part in 2²⁴.
    np.testing.assert_allclose(found, EVIDENCE, atol=200 * np.finfo(np.float32).eps)


def test_with_another_posterior_it_rises_to_the_evidence():
    def gap(samples):
        found = log_likelihood(WRONG, X, jr.key(2), samples=samples)
        return np.asarray(EVIDENCE - found)

    one, many = gap(1), gap(1000)
    assert one.mean() > 4 * one.std() / np.sqrt(N)
    # K times the gap tends to ½ Var(w / p(x)), here 0.6: 0.0006 nats at K = 1000.
    assert abs(many.mean()) < 4 * many.std() / np.sqrt(N) + 0.001
    assert many.std() < 0.1 * one.std()


def test_each_example_has_its_own_noise_and_batches_change_nothing():
    twice = jnp.stack([X[0], X[0]])
    a, b = log_likelihood(WRONG, twice, jr.key(3), samples=5)
    assert a != b
    found = [
        log_likelihood(WRONG, X[:9], jr.key(4), samples=5, batch_size=size)
        for size in (1, 4, 100)
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)
    np.testing.assert_allclose(found[0], found[2], rtol=1e-6)


def test_the_rate_of_each_unit_of_ppca():
    # ½ log λ_i/σ², exact in the mean over the data that the model was fitted to.
    expected = 0.5 * np.log(ACTIVE / VARIANCE)
    np.testing.assert_allclose(rate_per_unit(MODEL, X), expected, rtol=1e-4)


@pytest.mark.parametrize("model", [MODEL, WRONG], ids=["exact", "wrong"])
def test_the_rates_sum_to_the_rate(model):
    found = rate_and_distortion(model, X, jr.key(5))
    np.testing.assert_allclose(rate_per_unit(model, X).sum(), found.rate, rtol=1e-5)


def test_rate_distortion_and_elbo_of_ppca():
    keys = jr.split(jr.key(6), 40)
    found = [rate_and_distortion(MODEL, X, key) for key in keys]
    rate, distortion, elbo = np.array(found, np.float64).T
    np.testing.assert_allclose(elbo, -(rate + distortion), rtol=1e-5)
    np.testing.assert_allclose(rate, 0.5 * np.log(ACTIVE / VARIANCE).sum(), rtol=1e-4)
    # E|x - x̂|² = Σ min(λ_i, σ²) + Σ of those left out.
    sse = SIZE * VARIANCE + LEFT.sum()
    expected = D / 2 * np.log(2 * np.pi * VARIANCE) + sse / (2 * VARIANCE)
    error = distortion.std() / np.sqrt(len(keys))
    assert abs(distortion.mean() - expected) < 4 * error < 0.05
    assert abs(elbo.mean() - EVIDENCE.mean()) < 4 * error


@pytest.mark.parametrize(("threshold", "expected"), [(0.01, 2), (0.004, 3), (0.5, 1)])
def test_a_unit_is_active_when_its_mean_varies_more_than_the_threshold(
    threshold, expected
):
    # E_q[z_j] = w u_jᵀ(x - μ) / (w² + 1), with variance w² λ_j / (w² + 1)²: here
    # above 1, and 0.014 and 0.0079 to within 2%.
    directions = MODEL.weights / jnp.linalg.norm(MODEL.weights, axis=0, keepdims=True)
    sizes = jnp.sqrt(jnp.array([[4.0, 0.014, 0.0079]]))
    sizes = sizes / jnp.array([[1.0, *np.sqrt(ACTIVE[1:])]])
    one = jnp.ones(())
    model = PPCA(MODEL.mean, directions * sizes, one, MODEL.eigenvalues)
    found = active_units(model, X, threshold=threshold)
    assert found.shape == ()
    assert found == expected


def test_a_code_that_ignores_x_is_inactive_whatever_its_rate():
    blind = PPCA(MODEL.mean, 0 * MODEL.weights, MODEL.variance, MODEL.eigenvalues)
    model = WithPosterior(blind, jnp.array([0.0, 1.0, 2.0]), jnp.array(1.0))
    np.testing.assert_allclose(rate_per_unit(model, X), [0, 0.5, 2], atol=1e-5)
    assert active_units(model, X) == 0
    assert active_units(MODEL, X) == SIZE


def test_networks_and_images_are_measured_too_and_compiled_once():
    x, sizes = images(10), []
    for seed in (0, 1):
        model = vae(nnx.Rngs(seed))
        found = log_likelihood(model, x, jr.key(7), samples=3)
        rates = rate_per_unit(model, x)
        elbo = rate_and_distortion(model, x, jr.key(8)).elbo
        assert (found.shape, rates.shape) == ((10,), (LATENTS,))
        assert np.isfinite([*found, *rates, elbo]).all()
        assert active_units(model, x) in range(LATENTS + 1)
        measures = log_likelihood, rate_per_unit, active_units, evaluate
        sizes.append([measure._cache_size() for measure in measures])
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("measure", [log_likelihood, rate_and_distortion])
def test_an_old_style_key_is_refused(measure):
    with pytest.raises(TypeError):
        measure(MODEL, X, jr.PRNGKey(0))


@pytest.mark.parametrize("measure", [rate_per_unit, active_units])
def test_no_data_is_refused(measure):
    with pytest.raises(ValueError, match="one example or more"):
        measure(MODEL, X[:0])


CLUSTER = jr.normal(jr.key(9), (40, 2))
FAR = jnp.array([[1000.0, 0.0]])


@pytest.mark.parametrize(
    ("real", "fake", "expected"),
    [
        (X, X, (1, 1)),
        (CLUSTER, CLUSTER + FAR, (0, 0)),
        (jnp.concatenate([CLUSTER, CLUSTER + FAR]), CLUSTER, (1, 0.5)),
        (CLUSTER, jnp.concatenate([CLUSTER, CLUSTER + FAR]), (0.5, 1)),
        # All fakes at one real: each is among the reals, and they reach just that one.
        (CLUSTER, jnp.tile(CLUSTER[:1], (8, 1)), (1, 1 / 40)),
    ],
    ids=["identical", "disjoint", "half", "half is wrong", "one point"],
)
def test_precision_and_recall_where_they_are_known(real, fake, expected):
    found = precision_and_recall(real, fake)
    assert (found.precision, found.recall) == pytest.approx(expected)


def test_the_ball_reaches_the_kth_neighbour_and_no_further():
    real = jnp.array([[0.0], [1.0], [3.0], [7.0]])
    # Balls of k = 1: [-1, 1], [0, 2], [1, 5], [3, 11]; two of k = 2: [-3, 3], [1, 13].
    fake = jnp.array([[-1.0], [-1.01], [11.0], [11.01]])
    shares = [
        precision_and_recall(real, fake, neighbours=k).precision for k in (1, 2, 3)
    ]
    assert shares == pytest.approx([0.5, 1.0, 1.0])
    swapped = precision_and_recall(fake, real, neighbours=1)
    assert swapped.recall == pytest.approx(0.5)


@pytest.mark.parametrize("neighbours", [0, 3])
def test_more_rows_than_neighbours_are_needed(neighbours):
    with pytest.raises(ValueError, match="Expected neighbours from 1"):
        precision_and_recall(CLUSTER, CLUSTER[:3], neighbours=neighbours)


@pytest.mark.parametrize("fake", [X[:40], CLUSTER[0], CLUSTER[:, :, None]])
def test_features_of_other_shapes_are_refused(fake):
    with pytest.raises((TypeError, ValueError)):
        precision_and_recall(CLUSTER, fake)
