"""Measure what the rotate explorer carries; ``tools.make_traverse`` writes it.

One of the traverse explorer's models, and the ELBO of what it becomes when two of
its latents are turned about each other.
"""

from functools import partial
from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int

from tools import sprite_models
from tools.sprite_models import Measured
from vae_teach import data
from vae_teach.disentanglement import mig, mutual_information
from vae_teach.explorers import payload
from vae_teach.models import VAE

ANGLES = range(91)
DRAWS = 4  # of z for each sprite in an ELBO
SPRITES = 384  # test sprites that an ELBO is measured on
SAMPLES = 16  # draws of the prior
RESAMPLES = 20  # of the sprites, for the error of the MIG

Pair = tuple[int, int]


def rotation(degrees: float | Array) -> Float[Array, "2 2"]:
    """R: the turned latents are R (z_i, z_j)."""
    t = jnp.deg2rad(degrees)
    return jnp.array([[jnp.cos(t), jnp.sin(t)], [-jnp.sin(t), jnp.cos(t)]])


def planes(known: Float[np.ndarray, "d f"]) -> list[Pair]:
    """Which pairs can be turned: see ``RotateExplorer``.

    The two latents that know most of a factor each, of different factors; the first of
    them and the next by KL; the first of them and the last by KL.
    """
    own = known.argmax(1)
    pairs = [p for p in combinations(range(len(own)), 2) if own[p[0]] != own[p[1]]]
    best = max(pairs, key=lambda pair: min(known.max(1)[list(pair)]))
    following = min(set(range(len(own))) - set(best))
    return [best, (best[0], following), (best[0], len(own) - 1)]


def title(pair: Pair, known: Float[np.ndarray, "d f"], names: tuple[str, ...]) -> str:
    """What the page calls a plane: its latents, and what each knows most of."""
    said = []
    for j in pair:
        most = names[known[j].argmax()]
        said.append(f"z{j + 1} ({most if known[j].max() >= 0.1 else 'not in use'})")
    return " and ".join(said)


@partial(jax.jit, static_argnames="pair")
def elbos(
    model: VAE, pair: Pair, degrees: Array, x: Float[Array, "n ..."], key: Array
) -> tuple[Array, Array]:
    """ELBO of the turned model with R q, and with the best diagonal posterior.

    R q has the covariance S = R Σ Rᵀ. Of the normals with independent latents, the one
    with the variances 1/(S⁻¹)_jj has the least KL to it (Bishop 2006, section 10.1.2).
    Both are drawn with R ε of the same noise ε: alike where S is diagonal.
    """
    turn, at = rotation(degrees), jnp.array(pair)

    def one(x, key):
        q: Any = model.q_z(x)
        noise = jr.normal(key, (DRAWS, *q.loc.shape))
        mean, variance = turn @ q.loc[at], q.scale[at] ** 2
        covariance = (turn * variance[None]) @ turn.T
        narrow = 1 / jnp.diag((turn / variance[None]) @ turn.T)
        others = _rate(q.loc, q.scale**2) - _rate(q.loc[at], variance)
        whole = noise[:, at] * q.scale[at][None] @ turn.T
        apart = noise[:, at] @ turn.T * jnp.sqrt(narrow)[None]

        def bound(rate, spread):
            z = q.loc[None] + q.scale[None] * noise
            z = z.at[:, at].set((mean[None] + spread) @ turn)  # the decoder's R⁻¹
            log_p = jax.vmap(lambda z: model.p_x(z).log_prob(x))(z).mean()
            return log_p - others - rate

        full, diagonal = _full_rate(mean, covariance), _rate(mean, narrow)
        return bound(full, whole), bound(diagonal, apart)

    turned, diagonal = jax.vmap(one)(x, jr.split(key, len(x)))
    return turned.mean(), diagonal.mean()


def _rate(mean, variance):
    """KL(N(mean, diag variance) || N(0, I))."""
    return 0.5 * (mean**2 + variance - 1 - jnp.log(variance)).sum()


def _full_rate(mean, covariance):
    """KL(N(mean, covariance) || N(0, I))."""
    log_det = jnp.linalg.slogdet(covariance)[1]
    return 0.5 * (mean @ mean + jnp.trace(covariance) - len(mean) - log_det)


def plane_facts(page: VAE, pair: Pair, found: Measured, names, x) -> dict:
    """What the page says of a plane."""
    run = partial(elbos, page, pair, x=x, key=jr.key(2))
    each = [run(jnp.float32(degrees)) for degrees in ANGLES]
    turned, diagonal = np.round(np.array(each, float).T, 3).tolist()
    most = found.known[list(pair)].argmax(1).tolist()
    return {
        "latents": pair,
        "title": title(pair, found.known, names),
        "colour": most[0],
        "names": [names[k] for k in most],
        "turned": turned,
        "diagonal": diagonal,
    }


def mig_error(codes: Float[np.ndarray, "n d"], factors: Int[np.ndarray, "n f"]):
    """The standard error of the MIG: its spread over resampled sprites."""
    rng, n = np.random.default_rng(0), len(codes)
    draws = [rng.integers(n, size=n) for _ in range(RESAMPLES)]
    return float(np.std([mig(codes[i], factors[i]) for i in draws], ddof=1))


def content(models, row: dict, dataset: data.Dataset) -> tuple[bytes, dict]:
    """What the page carries, and its facts; ``row`` says which of the models."""
    model = sprite_models.in_order(models[row["beta"], row["which"]], dataset)
    where, found = sprite_models.lit(dataset), sprite_models.measure(model, dataset)
    decoder = sprite_models.rounded(model, "decoder", where)
    values = {name: part.values for name, part in decoder.items()}
    page = sprite_models.with_decoder(model, values, "decoder", where)
    factors, names = sprite_models.everything(dataset)[1], dataset.factor_names
    chosen = planes(found.known)
    carried = sorted({j for pair in chosen for j in pair})
    few = jnp.asarray(dataset.test.images[:SPRITES])
    arrays = {
        **decoder,
        "lit": where.astype(np.uint8),
        "codes": payload.rounded(found.codes[:, carried].astype(np.float32), 16),
        "factors": factors.astype(np.uint8),
        "draws": np.asarray(jr.normal(jr.key(3), (SAMPLES, len(found.rates)))),
    }
    information = mutual_information(found.codes, factors)
    facts = {
        "beta": row["beta"],
        "seed": row["which"],
        "seeds": len(row["migs"]),
        "factors": names,
        "sizes": [int(v) + 1 for v in factors.max(0)],
        "side": dataset.test.images.shape[1],
        "elbo_sprites": len(few),
        "draws": DRAWS,
        "mig": round(found.mig, 4),
        "mig_error": round(mig_error(found.codes, factors), 4),
        "information": np.round(information, 6).tolist(),
        "rates": np.round(found.rates, 4).tolist(),
        "carried": carried,
        "planes": [plane_facts(page, pair, found, names, few) for pair in chosen],
    }
    return payload.pack(arrays, facts), facts
