"""Priors beyond N(0, I), fitted after training: the codes have holes, the prior none.

prior = ex_post_mixture(model, data, key, components=10)
model = VAE(Fixed(prior), model.encoder, model.decoder)

Fitted to one class at a time it samples that class. ``bounds.elbo_mc`` and
``metrics.log_likelihood`` take the new model as any other; a closed-form KL to a
mixture there is none.
"""

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PyTree, Shaped

from .distributions import Distribution, check_event, pytree
from .epochs import check_key, count
from .typing import PRNGKey, Scalar


@pytree
class FullNormal(Distribution):
    """N(loc, L Lᵀ), the latents correlated; L is lower triangular, its diagonal > 0."""

    loc: Float[Array, "*batch d"]
    cholesky: Float[Array, "*batch d d"]

    def sample(self, key: PRNGKey) -> Float[Array, " d"]:
        """μ + L ε with ε ~ N(0, I)."""
        return self.loc + self.cholesky @ jr.normal(key, self.loc.shape, self.loc.dtype)

    @property
    def mean(self) -> Float[Array, " d"]:
        """E[x] = μ."""
        return self.loc

    def log_prob(self, x: Shaped[Array, " d"]) -> Scalar:
        """-½ |L⁻¹(x - μ)|² - log det L - d/2 log 2π."""
        check_event(x, self.loc)
        noise = jax.scipy.linalg.solve_triangular(
            self.cholesky, x - self.loc, lower=True
        )
        log_det = jnp.log(jnp.diag(self.cholesky)).sum()
        return jax.scipy.stats.norm.logpdf(noise).sum() - log_det


@pytree
class Mixture(Distribution):
    """Σ_k π_k p_k(x): ``components`` is a batch of k distributions of one family.

    With ``components = jax.vmap(model.q_z)(data)`` and equal weights it is the
    aggregated posterior of these data.
    """

    log_weights: Float[Array, "*batch k"]
    components: Distribution

    def sample(self, key: PRNGKey) -> PyTree:
        """A component k with chance π_k, then one sample of it."""
        key_k, key_x = jr.split(key)
        k = jr.categorical(key_k, self.log_weights)
        return jax.tree.map(lambda leaf: leaf[k], self.components).sample(key_x)

    def log_prob(self, x: PyTree) -> Scalar:
        """Log Σ_k π_k p_k(x), the π_k normalised."""
        each = jax.vmap(lambda component: component.log_prob(x))(self.components)
        return jax.nn.logsumexp(jax.nn.log_softmax(self.log_weights) + each)


@jax.jit
def sample_codes(model, data: PyTree, key: PRNGKey) -> PyTree:
    """One z ~ q(z|x) of every example: draws from the aggregated posterior.

    As ``data`` of a second VAE they give the two-stage model of Dai & Wipf 2019.
    """
    check_key(key)
    keys = jr.split(key, count(data))

    def one(inputs):
        x, key = inputs
        return model.q_z(x).sample(key)

    return jax.lax.map(one, (data, keys), batch_size=256)


def ex_post_mixture(model, data: PyTree, key: PRNGKey, *, components: int) -> Mixture:
    """A mixture of full normals fitted to ``sample_codes``, by scikit-learn's EM.

    The ex-post density of Ghosh et al. 2020, for a VAE. To raise E[log p(z)] over
    draws of q(z|x) lowers the rate; encoder, decoder and distortion stay as they were.
    Judge it on held-out data, by ``bounds.elbo_mc``. Of several optima EM finds one.

    Raises:
        ValueError: for codes that are not vectors, or fewer examples than components.

    """
    from sklearn.mixture import GaussianMixture

    key_z, key_seed = jr.split(key)
    z = sample_codes(model, data, key_z)
    if z.ndim != 2 or not 1 <= components <= len(z):
        raise ValueError(
            f"Expected codes (n, d) and from 1 to n components, got codes {z.shape} "
            f"and {components} components: reshape the codes, or ask for fewer."
        )
    seed = int(jr.randint(key_seed, (), 0, 2**31 - 1))
    found = GaussianMixture(components, max_iter=500, random_state=seed).fit(z)
    cholesky = jnp.linalg.cholesky(jnp.asarray(found.covariances_, z.dtype))
    normals = jax.vmap(FullNormal)(jnp.asarray(found.means_, z.dtype), cholesky)
    return Mixture(jnp.log(jnp.asarray(found.weights_, z.dtype)), normals)
