"""Paths between two latents: straight, along a sphere, shortest for the decoder.

A path is (steps, d), its ends included. The log density along one is
``jax.vmap(prior.log_prob)(path)``, with p(z) as ``prior``.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from .typing import Scalar

Latent = Float[Array, "..."]


def linear(a: Latent, b: Latent, *, steps: int) -> Float[Array, "steps d"]:
    """(1 - t) a + t b at equally spaced t from 0 to 1.

    Between two draws of N(0, I) the middle has variance ½ per latent: its norm is about
    √½ of theirs, and in many dimensions the prior has next to no mass at that radius.

    Raises:
        ValueError: unless the ends are two vectors of one size, and two steps or more.

    """
    t = _times(a, b, steps)
    return (1 - t) * a[None] + t * b[None]


def spherical(a: Latent, b: Latent, *, steps: int) -> Float[Array, "steps d"]:
    """[sin((1 - t) Ω) a + sin(t Ω) b] / sin Ω, with Ω the angle between the ends.

    Ends of one norm are joined by the shorter arc of a great circle, at constant speed;
    at other norms it still turns from one to the other (White 2016). Parallel ends have
    Ω = 0, and the limit is the straight line. Opposite ends have Ω = π, and all great
    circles join them: that is an error, or NaN under ``jit`` and ``vmap``, which cannot
    raise; so is an end of zero, which has no direction.

    Raises:
        ValueError: for ends that are opposite (to half of the digits) or zero; unless
            the ends are two vectors of one size, and two steps or more.

    """
    t = _times(a, b, steps)
    u, v = a / jnp.linalg.norm(a), b / jnp.linalg.norm(b)
    apart, together = jnp.linalg.norm(u - v), jnp.linalg.norm(u + v)
    # An arc cosine would lose half of the digits at small angles.
    turns = 2 * jnp.arctan2(apart, together) / jnp.pi
    whole = jnp.sinc(turns)  # sin(Ω) / Ω, and 1 at 0
    from_a = (1 - t) * jnp.sinc((1 - t) * turns) / whole
    from_b = t * jnp.sinc(t * turns) / whole
    path = from_a * a[None] + from_b * b[None]
    lost = together <= jnp.sqrt(jnp.finfo(path.dtype).eps)
    path = jnp.where(lost, jnp.nan, path)
    if not isinstance(path, Tracer) and jnp.isnan(path).any():
        raise ValueError(
            "Expected finite ends, not zero and not opposite, got norms "
            f"{jnp.linalg.norm(a):.3g} and {jnp.linalg.norm(b):.3g} at an angle of "
            f"{180 * turns:.4g}°: choose another end, or go by way of a third latent."
        )
    return path


def path_length(decode: Callable, path: Float[Array, "steps d"]) -> Scalar:
    """Σ_t ‖g(z_{t+1}) - g(z_t)‖ in the output of the decoder g, as it stands on a path.

    The chords cut corners: this rises to the length of the curve with more points.
    """
    return jnp.sqrt((jnp.diff(_outputs(decode, path), axis=0) ** 2).sum(1)).sum()


def geodesic(
    decode: Callable, a: Latent, b: Latent, *, steps: int, iterations: int = 100
) -> Float[Array, "steps d"]:
    """The path whose images change least: a shortest curve under the decoder's metric.

    It minimises the energy Σ_t ‖g(z_{t+1}) - g(z_t)‖² of the points between fixed ends.
    A step dz moves the output g by √(dzᵀ JᵀJ dz), with J the Jacobian of g. Of all
    curves the one of least energy is shortest and has constant speed in the output
    (Arvanitidis et al. 2018; here without the decoder's variance).

    Levenberg and Marquardt's steps from the straight line, each of which must lower the
    energy. So it is a local minimum: where a shorter path goes around the other side of
    something, it stays on this side; and where a decoder has edges, as with ReLU, it
    may stop at one, a little early. The energy sees the points alone: take more steps
    until ``path_length`` settles. Time grows with (steps d)³, memory with (steps d)².
    To run it often, jit it with its decoder: ``jax.jit(partial(geodesic, decode,
    steps=16))``.

    Args:
        decode: g, from a latent (d,) to an image of any shape: ``p_x(z).mean``, say.
        a: where the path begins.
        b: where it ends.
        steps: points of the path, its ends included.
        iterations: the most steps that are tried; it stops at rounding before that.

    Raises:
        ValueError: unless the ends are two vectors of one size, and two steps or more.

    """
    start = linear(a, b, steps=steps)

    def energy(path):
        return (jnp.diff(_outputs(decode, path), axis=0) ** 2).sum()

    def going(state):
        return (state.tried < iterations) & (state.damping < _STUCK)

    def advance(state):
        path = state.path.at[1:-1].add(_step(decode, state.path, state.damping))
        found = energy(path)
        better = found < state.energy
        return _State(
            jnp.where(better, path, state.path),
            jnp.where(better, found, state.energy),
            jnp.where(better, jnp.maximum(state.damping / 4, 1e-6), 4 * state.damping),
            state.tried + 1,
        )

    first = _State(start, energy(start), jnp.full_like(start[0, 0], 1e-3), 0)
    return jax.lax.while_loop(going, advance, first).path


_STUCK = 1e3  # such a step is so short that only rounding is left to gain


class _State(NamedTuple):
    path: Array
    energy: Array
    damping: Array
    tried: Array | int


def _step(decode, path, damping):
    """The damped Gauss-Newton step of the inner points.

    Half the energy has the gradient J_tᵀ (2 g_t - g_{t-1} - g_{t+1}) at point t, and
    about the Hessian L_ts J_tᵀ J_s, with L the matrix of the second differences.
    """
    inner = path[1:-1]
    n, d = inner.shape
    g = _outputs(decode, path)
    jacobian = jax.vmap(jax.jacfwd(lambda z: jnp.ravel(decode(z))))(inner)
    gradient = jnp.einsum("tki,tk->ti", jacobian, 2 * g[1:-1] - g[:-2] - g[2:])
    second = 2 * jnp.eye(n) - jnp.eye(n, k=1) - jnp.eye(n, k=-1)
    hessian = jnp.einsum("ts,tki,skj->tisj", second, jacobian, jacobian)
    hessian = hessian.reshape(n * d, n * d)
    scale = jnp.trace(hessian) / max(n * d, 1) + jnp.finfo(path.dtype).tiny
    hessian += damping * scale * jnp.eye(n * d)
    return -jnp.linalg.solve(hessian, gradient.ravel()).reshape(n, d)


def _outputs(decode, path):
    return jax.vmap(lambda z: jnp.ravel(decode(z)))(path)


def _times(a, b, steps):
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(
            f"Expected two latents of one shape (d,), got {a.shape} and {b.shape}: "
            "vmap over a batch of pairs."
        )
    if steps < 2:
        raise ValueError(f"Expected two steps or more, the ends alone, got {steps}.")
    return jnp.linspace(0, 1, steps, dtype=a.dtype)[:, None]
