"""Paths between latents against surfaces whose shortest curves are known."""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from flax import nnx
from scipy.optimize import minimize

from vae_teach.interpolation import geodesic, linear, path_length, spherical
from vae_teach.networks import MLP
from vae_teach.priors import StandardNormal

STEPS = 17  # an odd number, so that one point is the middle


def pairs(n, d, key=0):
    return jr.normal(jr.key(key), (2, n, d))


def within(values, expected, sds=4):
    """Whether the mean of independent values is as expected, to 4 standard errors."""
    values = np.asarray(values, float)
    error = values.std(ddof=1) / np.sqrt(len(values))
    return abs(values.mean() - expected) < sds * error


def norm(z):
    return jnp.linalg.norm(z, axis=-1)


# Decoders whose outputs are known surfaces


def polar(z):
    r, angle = z
    return r * jnp.array([jnp.cos(angle), jnp.sin(angle)])


def sphere(z):
    """Latitude and longitude, on a sphere of radius 1."""
    up, around = z
    flat = jnp.cos(up)
    return jnp.array([flat * jnp.cos(around), flat * jnp.sin(around), jnp.sin(up)])


def cylinder(z):
    around, along = z
    return jnp.array([jnp.cos(around), jnp.sin(around), along])


TABLE = jr.normal(jr.key(5), (12, 3))


def flat(z):
    """Linear in sinh z: the shortest curve is straight in sinh z, and curved in z."""
    return (TABLE @ jnp.sinh(z)).reshape(3, 4)


def outputs(decode, path):
    return np.asarray(jax.vmap(lambda z: decode(z).ravel())(path))


def speeds(decode, path):
    return np.linalg.norm(np.diff(outputs(decode, path), axis=0), axis=1)


# All three


@pytest.mark.parametrize("path", [linear, spherical, partial(geodesic, sphere)])
@pytest.mark.parametrize("steps", [2, STEPS])
def test_ends_are_exact(path, steps):
    a, b = jnp.array([0.3, 1.1]), jnp.array([-0.7, 0.4])
    found = path(a, b, steps=steps)
    assert found.shape == (steps, 2)
    np.testing.assert_array_equal(found[0], a)
    np.testing.assert_array_equal(found[-1], b)


@pytest.mark.parametrize("path", [linear, spherical, partial(geodesic, sphere)])
def test_errors_say_what_was_expected(path):
    with pytest.raises(ValueError, match=r"one shape \(d,\), got \(2,\) and \(3,\)"):
        path(jnp.ones(2), jnp.ones(3), steps=4)
    with pytest.raises(ValueError, match=r"got \(4, 2\) and \(4, 2\): vmap"):
        path(jnp.ones((4, 2)), jnp.ones((4, 2)), steps=4)
    with pytest.raises(ValueError, match="two steps or more, the ends alone, got 1"):
        path(jnp.ones(2), jnp.zeros(2), steps=1)


# Straight and along a sphere


def test_linear_points_are_equally_spaced():
    a, b = pairs(1, 5)[:, 0]
    np.testing.assert_allclose(
        np.diff(linear(a, b, steps=5), axis=0),
        np.broadcast_to((b - a) / 4, (4, 5)),
        rtol=1e-4,
        atol=1e-6,
    )


def test_the_middle_of_a_straight_line_is_at_root_half_of_the_norm():
    d = 10
    a, b = pairs(4000, d)
    middle = jax.vmap(partial(linear, steps=3))(a, b)[:, 1]
    # z = (a + b)/2 is N(0, I/2): |z|² has mean d/2, and 2|z|² is that of N(0, I).
    assert within(norm(middle) ** 2, d / 2)
    difference = norm(middle) - jnp.sqrt(0.5) * norm(a)
    assert within(difference, 0)
    # The prior sees it: E log N(z) rises by half of the d/2 by which |z|² falls.
    log_prob = jax.vmap(StandardNormal(d)(len).log_prob)
    assert within(log_prob(middle) - log_prob(a), d / 4)


def test_spherical_keeps_the_norm_of_ends_of_one_norm_and_turns_evenly():
    a, b = (3 * z / norm(z)[:, None] for z in pairs(50, 6))
    paths = jax.vmap(partial(spherical, steps=STEPS))(a, b)
    np.testing.assert_allclose(norm(paths), 3, rtol=1e-5)
    steps = np.asarray(norm(jnp.diff(paths, axis=1)))
    np.testing.assert_allclose(steps, steps[:, :1].repeat(STEPS - 1, 1), rtol=1e-3)
    whole = np.arccos(np.clip((a * b).sum(1) / 9, -1, 1))
    chord = 2 * 3 * np.sin(whole / (STEPS - 1) / 2)
    np.testing.assert_allclose(steps[:, 0], chord, rtol=1e-3)


def test_spherical_at_a_right_angle_is_cosine_and_sine():
    a, b = jnp.array([2.0, 0, 0]), jnp.array([0, 0.5, 0])
    t = np.linspace(0, np.pi / 2, 9)
    expected = np.stack([2 * np.cos(t), 0.5 * np.sin(t), 0 * t], 1)
    np.testing.assert_allclose(spherical(a, b, steps=9), expected, atol=1e-6)


@pytest.mark.parametrize("turn", [0.0, 1e-6, 1e-3])
def test_spherical_of_parallel_ends_is_the_straight_line(turn):
    a = jnp.array([1.0, 2.0, -2.0])
    b = 1.5 * a + turn * jnp.array([2.0, 1, 2])
    found = spherical(a, b, steps=STEPS)
    np.testing.assert_allclose(found, linear(a, b, steps=STEPS), atol=2e-6)
    np.testing.assert_array_equal(spherical(a, a, steps=3)[0], a)


@pytest.mark.parametrize("b", [[-2.0, -4, 4], [-1.0, -2, 2.0001], [0.0, 0, 0]])
def test_spherical_of_opposite_or_zero_ends_is_an_error_or_nan(b):
    a, b = jnp.array([1.0, 2, -2]), jnp.array(b)
    with pytest.raises(ValueError, match="not zero and not opposite, got norms 3 and"):
        spherical(a, b, steps=5)
    assert jnp.isnan(jax.jit(partial(spherical, steps=5))(a, b)).all()


def test_spherical_of_nearly_opposite_ends_stays_on_its_sphere():
    a = jnp.array([1.0, 0, 0])
    b = jnp.array([-np.cos(0.01), np.sin(0.01), 0])
    found = spherical(a, b, steps=5)
    np.testing.assert_allclose(norm(found), 1, atol=1e-4)
    np.testing.assert_allclose(found[2], [0.005, 1, 0], atol=1e-3)


# Shortest


def test_on_a_linear_decoder_the_geodesic_is_the_straight_line():
    def decode(z):
        return TABLE @ z + 1

    a, b = pairs(1, 3)[:, 0]
    found = geodesic(decode, a, b, steps=STEPS)
    np.testing.assert_allclose(found, linear(a, b, steps=STEPS), atol=1e-4)
    np.testing.assert_allclose(
        path_length(decode, found), np.linalg.norm(TABLE @ (b - a)), rtol=1e-4
    )
    even = speeds(decode, found)
    np.testing.assert_allclose(even, even.mean(), rtol=1e-3)


def test_a_flat_decoder_is_seen_through():
    a, b = jnp.array([-2.0, 1.5, 0.3]), jnp.array([1.0, -0.5, 2.0])
    found = geodesic(flat, a, b, steps=STEPS)
    expected = jnp.arcsinh(linear(jnp.sinh(a), jnp.sinh(b), steps=STEPS))
    assert abs(expected - linear(a, b, steps=STEPS)).max() > 0.3
    np.testing.assert_allclose(found, expected, atol=5e-3)
    shortest = np.linalg.norm(flat(b) - flat(a))
    np.testing.assert_allclose(path_length(flat, found), shortest, rtol=1e-4)
    assert path_length(flat, linear(a, b, steps=STEPS)) > 1.01 * shortest


def test_in_polar_coordinates_the_geodesic_is_straight_in_the_output():
    a, b = jnp.array([1.0, 0.2]), jnp.array([2.0, 2.4])
    found = geodesic(polar, a, b, steps=STEPS)
    chord = linear(polar(a), polar(b), steps=STEPS)
    np.testing.assert_allclose(outputs(polar, found), chord, atol=2e-3)
    shortest = np.linalg.norm(polar(b) - polar(a))
    np.testing.assert_allclose(path_length(polar, found), shortest, rtol=1e-3)
    assert path_length(polar, linear(a, b, steps=STEPS)) > 1.1 * shortest


def test_on_a_sphere_the_geodesic_is_the_great_circle():
    a, b = jnp.array([0.9, 0.0]), jnp.array([0.8, 2.2])
    found = geodesic(sphere, a, b, steps=STEPS)
    arc = spherical(sphere(a), sphere(b), steps=STEPS)
    np.testing.assert_allclose(outputs(sphere, found), arc, atol=2e-3)
    angle = np.arccos(sphere(a) @ sphere(b))
    chords = 2 * (STEPS - 1) * np.sin(angle / (STEPS - 1) / 2)
    np.testing.assert_allclose(path_length(sphere, found), chords, rtol=1e-4)
    np.testing.assert_allclose(path_length(sphere, found), angle, rtol=0.01)


def test_on_a_cylinder_the_geodesic_is_a_helix():
    a, b = jnp.array([0.0, -1.0]), jnp.array([2.0, 1.5])
    found = geodesic(cylinder, a, b, steps=STEPS)
    np.testing.assert_allclose(found, linear(a, b, steps=STEPS), atol=2e-3)
    length = path_length(cylinder, found)
    np.testing.assert_allclose(length, np.hypot(2.0, 2.5), rtol=0.01)


def test_length_rises_to_that_of_the_curve():
    ends = jnp.array([1.0, 0.0]), jnp.array([1.0, 2.0])  # an arc of radius 1
    lengths = [path_length(polar, linear(*ends, steps=n)) for n in (2, 5, 9, 101)]
    expected = [2 * (n - 1) * np.sin(1 / (n - 1)) for n in (2, 5, 9, 101)]
    np.testing.assert_allclose(lengths, expected, rtol=1e-5)


def network(activation):
    return MLP(4, 32, 50, activation=activation, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("activation", [nnx.tanh, nnx.relu])
def test_of_a_network_the_geodesic_is_shorter_than_the_line(activation):
    decode = network(activation)
    a, b = pairs(6, 4)
    found = jax.jit(jax.vmap(partial(geodesic, decode, steps=STEPS)))(a, b)
    line = jax.vmap(partial(linear, steps=STEPS))(a, b)
    length = jax.vmap(partial(path_length, decode))
    assert (length(found) < length(line)).all()


def test_of_a_network_the_geodesic_is_as_scipy_finds_it():
    decode = network(nnx.tanh)
    a, b = pairs(1, 4)[:, 0]
    line = linear(a, b, steps=STEPS)

    @jax.jit
    @jax.value_and_grad
    def energy(inner):
        path = line.at[1:-1].set(inner.reshape(STEPS - 2, 4))
        return (jnp.diff(jax.vmap(decode)(path), axis=0) ** 2).sum()

    def in_double(inner):
        value, slope = energy(jnp.asarray(inner, jnp.float32))
        return float(value), np.asarray(slope, float)

    start = np.asarray(line[1:-1], float).ravel()
    oracle = minimize(in_double, start, jac=True, method="L-BFGS-B")
    found = geodesic(decode, a, b, steps=STEPS)
    least = float(energy(found[1:-1].ravel())[0])
    assert oracle.fun < 0.99 * in_double(start)[0]
    np.testing.assert_allclose(least, oracle.fun, rtol=1e-4)
    np.testing.assert_allclose(found[1:-1].ravel(), oracle.x, atol=0.02)
    # In the limit of many steps the speed is constant.
    moves = speeds(decode, found)
    assert np.ptp(moves) < 0.1 * np.ptp(speeds(decode, line))


def test_a_latent_that_the_decoder_ignores_stays_on_the_line():
    def decode(z):
        return polar(z[:2])

    a, b = jnp.array([1.0, 0.2, 3.0]), jnp.array([2.0, 2.0, -1.0])
    found = geodesic(decode, a, b, steps=STEPS)
    line = linear(a, b, steps=STEPS)
    np.testing.assert_allclose(found[:, 2], line[:, 2], atol=1e-5)
    alone = geodesic(polar, a[:2], b[:2], steps=STEPS)
    np.testing.assert_allclose(found[:, :2], alone, atol=2e-3)
    constant = geodesic(lambda z: jnp.ones(3), a, b, steps=STEPS)
    np.testing.assert_array_equal(constant, line)
