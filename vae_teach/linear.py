"""The linear β-VAE, solved: what any β and any decoder variance leave in each latent.

The data enter through the eigenvalues λ_i of their covariance alone, and β and the
decoder's variance σ² through their product, the water level t = β σ².
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .distributions import Normal, pytree
from .theory import PPCA, Data, Spectrum, best_variance, check_size, spectrum
from .typing import Scalar


class WaterFilling(NamedTuple):
    """Per component: nats of rate, and expected squared error, in units of x²."""

    rates: Float[Array, " d"]
    errors: Float[Array, " d"]


def water_filling(
    eigenvalues: Float[Array, " d"] | Float[np.ndarray, " d"],
    level: float | Scalar,
    size: int | None = None,
) -> WaterFilling:
    """Rates ½ log(λ_i/t)₊ and errors min(λ_i, t) at the water level t: a linear β-VAE.

    A component under water, λ_i ≤ t, gets no rate and keeps its variance as error. So
    do all beyond the first ``size``, which have no latent. Without ``size`` these are
    the rate and distortion of a Gaussian source, Shannon's reverse water-filling: no
    code of this rate has a smaller error. As t rises along the curve of the sums R and
    Δ, dΔ/dR = -2 t. With D = (d/2) log 2πσ² + Δ/2σ² and t = β σ² that is dD/dR = -β.

    Args:
        eigenvalues: λ_i, in falling order.
        level: t = β σ², positive; ``jax.vmap`` over it for the curve.
        size: how many latents there are; all d of them if not given.

    Raises:
        ValueError: for a size that is not from 1 to d.

    """
    values = jnp.asarray(eigenvalues)
    d = len(values)
    check_size(d if size is None else size, d)
    used = (values > level) & (jnp.arange(d) < (d if size is None else size))
    ratio = jnp.where(used, values / level, 1)
    return WaterFilling(0.5 * jnp.log(ratio), values / ratio)


@pytree
class LinearVAE(PPCA):
    """The best linear β-VAE of data: a latent-variable model, exact for any β and σ².

    p(x|z) = N(W z + μ, σ² I) with W = U_q (Λ_q - t I)₊^½, t = β σ². The encoder is the
    best one for β, which is the posterior at β = 1 alone: then this is a ``PPCA``.
    Averaged over the data q(z|x) has mean 0 and covariance I, at every β. ``log_prob``
    is the evidence log p(x), exact, whatever the encoder.
    """

    beta: Scalar

    def q_z(self, x: Float[Array, " d"]) -> Normal:
        """N(M⁻¹ Wᵀ (x - μ), t M⁻¹), M = WᵀW + t I: the posterior, were the noise t.

        The variances are min(1, t/λ_i).
        """
        return self._posterior(x, self.beta * self.variance)

    @property
    def rates(self) -> Float[Array, " q"]:
        """KL(q(z_i|x) || p(z_i)), its mean over the data: ½ log(λ_i/t)₊, in nats."""
        return self._filled().rates[: self.weights.shape[1]]

    @property
    def squared_error(self) -> Scalar:
        """E|x - W z - μ|² over data and q: Σ_{i≤q} min(λ_i, t) + Σ_{i>q} λ_i."""
        return self._filled().errors.sum()

    @property
    def distortion(self) -> Scalar:
        """E_q[-log p(x|z)], its mean over the data: (d/2) log 2πσ² + Δ/2σ², in nats.

        Δ is ``squared_error``. The loss is ``distortion + beta * rates.sum()``.
        """
        d = len(self.eigenvalues)
        log_variance = jnp.log(2 * jnp.pi * self.variance)
        return 0.5 * (d * log_variance + self.squared_error / self.variance)

    def _filled(self):
        level = self.beta * self.variance
        return water_filling(self.eigenvalues, level, self.weights.shape[1])


def linear_vae(
    x: Data | Spectrum, size: int, *, beta: float = 1.0, variance: float | None = None
) -> LinearVAE:
    """The linear VAE with the least β-ELBO loss on ``x``, (examples, features).

    Its columns are the principal directions, scaled by √(λ_i - βσ²)₊: a direction with
    λ_i ≤ βσ² has collapsed (Lucas et al. 2019 for β = 1). Of all rotations of the
    latents, which do not change p(x), these are the ones a diagonal encoder can serve.

    Args:
        x: the data, or their ``spectrum``, found once for many β.
        size: how many latents there are, from 1 to d.
        beta: the weight of the KL.
        variance: the decoder's σ²; if not given, the best one for this ``beta``, as a
            learned σ finds it. At ``beta=1`` that is ``ppca``.

    Raises:
        ValueError: for data that are no table, a size, beta or variance out of range,
            and without a ``variance`` for data that the latents explain in full.

    """
    mean, values, vectors = x if isinstance(x, Spectrum) else spectrum(x)
    check_size(size, len(values))
    variance = best_variance(values, size, beta) if variance is None else variance
    if not (variance > 0 and beta > 0):
        raise ValueError(
            f"Expected a positive variance and beta, got {variance} and {beta}."
        )
    kept = np.sqrt(np.maximum(values[:size] - beta * variance, 0))
    weights = vectors[:, :size] * kept
    return LinearVAE(*map(jnp.asarray, (mean, weights, variance, values, beta)))
