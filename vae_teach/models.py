"""Latent-variable models: p_z(), q_z(x) and p_x(z), distributions over ONE example.

Whatever has these three methods can be given to every bound, loss and metric.
"""

from collections.abc import Callable

from flax import nnx
from jaxtyping import PyTree

from .distributions import Distribution, pytree


class Conditional(nnx.Module):
    """A conditional distribution: a network that emits the parameters of a family."""

    def __init__(self, network: Callable, family: Callable):
        self.network, self.family = network, family

    def __call__(self, *inputs: PyTree) -> Distribution:
        """The member of the family at these inputs."""
        return self.family(self.network(*inputs))


class VAE(nnx.Module):
    """p(x, z) = p(z) p(x|z), with an amortised posterior q(z|x).

    Kingma & Welling 2014; Rezende, Mohamed & Wierstra 2014.
    """

    def __init__(self, prior: Callable, encoder: Callable, decoder: Callable):
        self.prior, self.encoder, self.decoder = prior, encoder, decoder

    def p_z(self) -> Distribution:
        """The prior p(z)."""
        return self.prior(self.encoder)

    def q_z(self, x: PyTree) -> Distribution:
        """The approximate posterior q(z|x) of one example."""
        return self.encoder(x)

    def p_x(self, z: PyTree) -> Distribution:
        """The likelihood p(x|z) of one latent."""
        return self.decoder(z)


@pytree
class Given:
    """A VAE whose encoder and decoder also read c, at one c: again a VAE, p(x, z|c).

    The networks take two inputs, ``encoder(x, c)`` and ``decoder(z, c)``, and the prior
    is also called with c: ``StandardNormal`` ignores it, ``priors.ConditionalPrior``
    is a learned p(z|c) (Sohn, Lee & Yan 2015).
    """

    model: VAE
    c: PyTree

    def p_z(self) -> Distribution:
        """The prior p(z|c)."""
        return self.model.prior(self.model.encoder, self.c)

    def q_z(self, x: PyTree) -> Distribution:
        """The approximate posterior q(z|x, c) of one example."""
        return self.model.encoder(x, self.c)

    def p_x(self, z: PyTree) -> Distribution:
        """The likelihood p(x|z, c) of one latent."""
        return self.model.decoder(z, self.c)
