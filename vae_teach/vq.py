"""VQ-VAE: a VAE whose posterior is one grid of codes, with no doubt.

::

    codebook = MovingCodebook(256, 16, rngs=rngs)
    vqvae = VQVAE(UniformCodes((7, 7), 256), encoder, codebook, decoder)
    step = alternate(
        networks=minimise(mean_over_batch(vq), adam),
        codebook=moving_averages(),
        restarts=restarts(),
    )

With a ``LearnedCodebook`` there is no player ``moving_averages``, with ``FiniteScalar``
no player but the first. ``elbo`` and ``metrics`` take the model as any other.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from flax import nnx
from jaxtyping import Array, Int, PyTree

from .distributions import Distribution, kl, pytree
from .epochs import count
from .quantisers import MovingCodebook, Quantised
from .training import Step
from .typing import PRNGKey, Scalar, Terms


@pytree
class PointMass(Distribution):
    """All mass on one event of integers: entropy 0, and KL(q || p) = -log p(value)."""

    value: PyTree[Int[Array, "..."]]

    def sample(self, key: PRNGKey) -> PyTree[Int[Array, "..."]]:
        """The value."""
        del key
        return self.value

    def log_prob(self, x: PyTree[Int[Array, "..."]]) -> Scalar:
        """0 at the value, minus infinity elsewhere."""
        same = jax.tree.map(lambda a, b: (a == b).all(), x, self.value)
        return jnp.where(jnp.stack(jax.tree.leaves(same)).all(), 0.0, -jnp.inf)


@kl.register
def _(q: PointMass, p: Distribution) -> Scalar:
    """-log p(value): to a uniform prior the number of tokens times log K."""
    return -p.log_prob(q.value)


class VQVAE(nnx.Module):
    """p(z) p(x|e_z) with codes z, and q(z|x) all on one z (van den Oord et al. 2017).

    ``encoder(x)`` is an array (*grid, d), a piece of ``quantisers`` makes codes of it,
    integers (*grid,), and the decoder gets their vectors (*grid, d). With the prior
    ``UniformCodes`` the rate is tokens · log K for every x and cannot collapse, but the
    codes may still be few, or ignored by the decoder.
    """

    def __init__(
        self, prior: Callable, encoder: Callable, quantiser: Callable, decoder: Callable
    ):
        self.prior, self.encoder = prior, encoder
        self.quantiser, self.decoder = quantiser, decoder

    def p_z(self) -> Distribution:
        """The prior p(z) over whole grids of codes."""
        return self.prior(self.encoder)

    def q_z(self, x: PyTree) -> PointMass:
        """The codes of one example, for certain."""
        return PointMass(self.quantise(x).codes)

    def p_x(self, z: PyTree) -> Distribution:
        """The likelihood p(x|z) of one grid of codes."""
        return self.decoder(self.quantiser.vectors(z))

    def quantise(self, x: PyTree) -> Quantised:
        """Codes, straight-through vectors and losses of one example."""
        return self.quantiser(self.encoder(x))


def vq(
    model: VQVAE,
    x: PyTree,
    key: PRNGKey,
    *,
    commitment: float | Scalar = 0.25,
) -> tuple[Scalar, Terms]:
    """-log p(x|e) - log p(z) + |sg(y) - e|² + commitment |y - sg(e)|² of ONE example.

    The first two are ``elbo`` of the model, here with a gradient to the encoder, which
    goes straight through the choice of codes. Squares are sums over the tokens, as the
    distortion is over the pixels, so neither batch nor grid size shifts the balance.
    ``MovingCodebook`` has no third part, and ``FiniteScalar`` no fourth either. The
    prior, if it has parameters, is trained by the second; codes get no gradient there.

    Terms: ``distortion``, ``rate``, ``codebook`` and ``commitment``, un-weighted.
    """
    del key
    found = model.quantise(x)
    distortion = -model.decoder(found.vectors).log_prob(x)
    rate = kl(PointMass(found.codes), model.p_z())
    terms = {
        "distortion": distortion,
        "rate": rate,
        "codebook": found.codebook,
        "commitment": found.commitment,
    }
    penalty = found.codebook + commitment * found.commitment
    return distortion + rate + penalty, terms


def moving_averages(decay: float = 0.99) -> Step:
    """A player for ``alternate``: each ``MovingCodebook`` steps to the batch's tokens.

    See ``MovingCodebook.move``. Term: ``commitment``, as in ``vq``, before the step.

    Raises:
        TypeError: for a model with no codebook of this kind, or one of another kind.

    """

    def init(model):
        kinds = [type(c) for c in model.quantiser.codebooks]
        if not kinds or any(kind is not MovingCodebook for kind in kinds):
            raise TypeError(
                "Expected a MovingCodebook, got "
                f"{[kind.__name__ for kind in kinds] or 'no codebook'}: a codebook "
                "that the loss trains is not to be moved twice, leave this player out."
            )
        return ()

    def update(model, state, batch, key):
        del key
        model, distances = _copy(model), jnp.zeros(())
        for codebook, y in _tokens(model, batch):
            distances += ((y - codebook.vectors(codebook.codes(y))) ** 2).sum()
            codebook.move(y, decay)
        return model, state, {"commitment": distances / count(batch)}

    return Step(init, update)


def restarts(decay: float = 0.97, below: float = 0.1) -> Step:
    """A player for ``alternate``: codes that no token takes are put where tokens are.

    u ← γu + (1 - γ) s, from 1, with s the share of the batch's tokens that a code has,
    in units of 1/K. Where u falls under ``below`` the code moves to a random token of
    the batch, with u = 1 (the restarts of Dhariwal et al. 2020). A code with no token
    at all has log(below)/log(γ) steps, 76 here.

    Term: ``restarted``, how many codes were moved.

    Raises:
        TypeError: for a model without a codebook.

    """

    def init(model):
        codebooks = model.quantiser.codebooks
        if not codebooks:
            raise TypeError("Expected a codebook to restart codes of, got none.")
        return [jnp.ones(codebook.size) for codebook in codebooks]

    def update(model, state, batch, key):
        model, moved, restarted = _copy(model), [], jnp.zeros(())
        keys = jr.split(key, len(state))
        pairs = _tokens(model, batch)
        for (codebook, y), usage, k in zip(pairs, state, keys, strict=True):
            n = jnp.bincount(codebook.codes(y), length=codebook.size)
            usage = decay * usage + (1 - decay) * n * codebook.size / len(y)
            dead = usage < below
            # Other rows for other codes, as far as there are as many rows.
            rows = jnp.resize(jr.permutation(k, len(y)), codebook.size)
            codebook.place(dead, y[rows])
            moved.append(jnp.where(dead, 1.0, usage))
            restarted += dead.sum()
        return model, moved, {"restarted": restarted}

    return Step(init, update)


class Usage(NamedTuple):
    """How often codes are used.

    ``counts`` of the tokens of each of K codes, the ``share`` of codes that have any,
    and the ``perplexity``, e to the entropy of the counts: from 1 to K.
    """

    counts: Int[Array, " k"]
    share: Scalar
    perplexity: Scalar


@jax.jit
def usage(model: VQVAE, data: PyTree) -> PyTree:
    """The ``Usage`` of the codes by all tokens of ALL of the data; a pair of them for
    two levels.

    Give a whole data set: n tokens have a perplexity of at most n, so that of a batch
    tells of the batch. With the counts as a prior, equal and independent for each
    token, the rate is tokens · log perplexity.
    """
    count(data)
    codes = jax.lax.map(lambda x: model.q_z(x).value, data, batch_size=256)
    return jax.tree.map(_usage, codes, model.quantiser.size)


def _usage(codes, size):
    counts = jnp.bincount(codes.ravel(), length=size)
    shares = counts / codes.size
    entropy = jax.scipy.special.entr(shares).sum()
    return Usage(counts, (counts > 0).mean(), jnp.exp(entropy))


def _copy(model):
    """A copy whose variables may be set: the model given stays as it was."""
    return nnx.merge(*nnx.split(model), copy=True)


def _tokens(model, batch):
    """Each codebook with all of its tokens of the batch, (n, d)."""
    inputs = jax.vmap(lambda x: model.quantiser.inputs(model.encoder(x)))(batch)
    tokens = [y.reshape(-1, y.shape[-1]) for y in inputs]
    return list(zip(model.quantiser.codebooks, tokens, strict=True))
