"""Exact answers: linear models solved in closed form, and what they predict.

They are computed in double precision with NumPy; a model's arrays then have JAX's
default precision.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .distributions import Normal, pytree
from .typing import Scalar

Data = Float[Array, "n ..."] | Float[np.ndarray, "n ..."]


@pytree
class PPCA:
    """Probabilistic PCA: z ~ N(0, I), x|z ~ N(W z + μ, σ² I) (Tipping & Bishop 1999).

    A latent-variable model whose q(z|x) IS the posterior p(z|x), when the columns of W
    are orthogonal, as ``ppca`` makes them: a VAE with nothing left to approximate, for
    which every bound and every metric has a known answer. W may have columns of zeros,
    whose latents have collapsed.
    """

    mean: Float[Array, " d"]
    weights: Float[Array, "d q"]
    variance: Scalar
    eigenvalues: Float[Array, " d"]

    def p_z(self) -> Normal:
        """The prior N(0, I)."""
        row = self.weights[0]
        return Normal(jnp.zeros_like(row), jnp.ones_like(row))

    def p_x(self, z: Float[Array, " q"]) -> Normal:
        """The likelihood N(W z + μ, σ² I)."""
        loc = self.weights @ z + self.mean
        return Normal(loc, jnp.full_like(loc, jnp.sqrt(self.variance)))

    def q_z(self, x: Float[Array, " d"]) -> Normal:
        """The posterior N(M⁻¹ Wᵀ (x - μ), σ² M⁻¹) with M = WᵀW + σ² I, a diagonal."""
        return self._posterior(x, self.variance)

    def log_prob(self, x: Float[Array, " d"]) -> Scalar:
        """The evidence log p(x) = log N(x; μ, WWᵀ + σ² I) of one example, exact.

        With ẑ the posterior mean, the covariance C = WWᵀ + σ² I has
        (x - μ)ᵀ C⁻¹ (x - μ) = |x - μ - W ẑ|²/σ² + |ẑ|² and
        log |C| = Σ log m_i + (d - q) log σ².
        """
        d, q = self.weights.shape
        z = self._posterior(x, self.variance).mean
        residual = x - self.p_x(z).mean
        distance = (residual**2).sum() / self.variance + (z**2).sum()
        log_m = jnp.log((self.weights**2).sum(0) + self.variance)
        log_det = log_m.sum() + (d - q) * jnp.log(self.variance)
        return -0.5 * (distance + log_det + d * jnp.log(2 * jnp.pi))

    def _posterior(self, x, noise):
        m = (self.weights**2).sum(0) + noise
        return Normal((x - self.mean) @ self.weights / m, jnp.sqrt(noise / m))


class Spectrum(NamedTuple):
    """A data covariance: eigenvalues in falling order, eigenvectors as columns."""

    mean: Float[np.ndarray, " d"]
    eigenvalues: Float[np.ndarray, " d"]
    directions: Float[np.ndarray, "d d"]


def spectrum(x: Data) -> Spectrum:
    """Mean, eigenvalues λ_i and eigenvectors u_i of the covariance of ``x``.

    The sums of the covariance are divided by the number of examples.

    Raises:
        ValueError: for data that are no table (examples, features), or one example.

    """
    if np.ndim(x) != 2:
        raise ValueError(
            f"Expected (examples, features), got shape {np.shape(x)}: ravel each "
            "example, as in x.reshape(len(x), -1)."
        )
    mean, covariance = _moments(x)
    values, vectors = np.linalg.eigh(covariance)
    return Spectrum(mean, np.maximum(values[::-1], 0), vectors[:, ::-1])


def ppca(x: Data, size: int) -> PPCA:
    """Maximum-likelihood probabilistic PCA of ``x``, (examples, features).

    With the eigenpairs (λ_i, u_i) of the data covariance, in falling order:
    σ² = mean of λ_i beyond ``size``, W = U_q (Λ_q - σ² I)^½ (Tipping & Bishop 1999).
    The sign of each column of W is arbitrary.

    Raises:
        ValueError: for data that are no table, one example, a size that is not from 1
            to d - 1, or data that ``size`` directions explain with nothing left.

    """
    mean, values, vectors = spectrum(x)
    d = len(mean)
    if not 1 <= size < d:
        raise ValueError(
            f"Expected a size from 1 to {d - 1}, one less than the {d} features, got "
            f"{size}."
        )
    variance = best_variance(values, size)
    weights = vectors[:, :size] * np.sqrt(np.maximum(values[:size] - variance, 0))
    return PPCA(*map(jnp.asarray, (mean, weights, variance, values)))


def best_variance(
    eigenvalues: Float[Array, " d"] | Float[np.ndarray, " d"],
    size: int,
    beta: float = 1.0,
) -> float:
    """The decoder's σ² that is best for a linear β-VAE of ``size`` latents.

    With n latents in use, those with λ_i > β σ², it is the sum of the other eigenvalues
    over d - n β; at β = 1 the mean of the λ_i beyond ``size``. It equals the expected
    squared error per pixel. The derivative of the loss by log σ² is
    ½ [d - Σ_{i ≤ size} min(β, λ_i/σ²) - Σ_{i > size} λ_i/σ²], which never falls: where
    it is 0 no other σ² is better, and n β < d. All collapse when β ≥ λ_1 / mean λ.

    Args:
        eigenvalues: those of the data covariance, in falling order.
        size: how many latents there are, in use or not.
        beta: the weight of the KL.

    Raises:
        ValueError: for a size that is not from 1 to d, a beta that is not positive, or
            data that the latents explain in full: the loss falls for ever as σ² -> 0.

    """
    values = np.asarray(eigenvalues, np.float64)
    check_size(size, len(values))
    if not beta > 0:
        raise ValueError(f"Expected a positive beta, got {beta}.")
    # Latent i is in use when λ_i is above β times the σ² of i latents in use.
    rest = np.append(np.cumsum(values[::-1])[::-1], 0)
    room = len(values) - beta * np.arange(len(rest))
    used = (values[:size] * room[1 : size + 1] > beta * rest[1 : size + 1]).sum()
    if rest[used] <= 1e-12 * rest[0]:
        raise ValueError(
            f"Expected data that {size} directions do not explain in full, got noise "
            "of variance 0: take a smaller size, or more examples."
        )
    return float(rest[used] / room[used])


def implied_variance(sse_weight: float, kl_weight: float) -> float:
    """The decoder's σ² implied by a loss a SSE + b KL: σ² = b / 2a.

    SSE and KL are the sums over the SAME examples, and over every pixel and latent. A
    Gaussian decoder's -log p(x|z) is SSE/2σ² + constant, so b times the negative ELBO
    is the loss when b/2σ² = a. A mean in place of a sum divides a weight: with B
    examples a batch, D pixels and d latents,

    - SSE and KL both summed, or both a mean over the batch: a = b = 1, σ² = 1/2;
    - SSE a mean over batch and pixels, KL summed: a = 1/(B D), b = 1, σ² = B D/2;
    - both a mean over everything: a = 1/(B D), b = 1/(B d), σ² = D/2d.

    Raises:
        ValueError: for a weight that is not positive: no variance has that ELBO.

    """
    if not (sse_weight > 0 and kl_weight > 0):
        raise ValueError(
            f"Expected two positive weights, got {sse_weight} and {kl_weight}."
        )
    return kl_weight / (2 * sse_weight)


def predict_active_units(x: Data, variance: float, beta: float = 1.0) -> int:
    """How many latents a decoder N(., σ² I) leaves in use: the λ_i above β σ².

    λ_i are the eigenvalues of the covariance of the raveled examples. Exact for a
    linear VAE with enough latents (Lucas et al. 2019, who find it predictive for deep
    ones too).

    Raises:
        ValueError: for one example, or a variance or a beta that is not positive.

    """
    if not (variance > 0 and beta > 0):
        raise ValueError(
            f"Expected a positive variance and beta, got {variance} and {beta}."
        )
    _, covariance = _moments(np.reshape(x, (len(x), -1)))
    return int((np.linalg.eigvalsh(covariance) > beta * variance).sum())


def check_size(size: int, d: int):
    """Refuse a number of latents that is not from 1 to d.

    Raises:
        ValueError: for such a size.

    """
    if not 1 <= size <= d:
        raise ValueError(f"Expected a size from 1 to the {d} features, got {size}.")


def _moments(x):
    """Mean and covariance, its sums divided by n: those of maximum likelihood."""
    if len(x) < 2:
        raise ValueError(f"Expected two examples or more, got {len(x)}.")
    x = np.asarray(x, np.float64)
    mean = x.mean(0)
    return mean, (x - mean).T @ (x - mean) / len(x)
