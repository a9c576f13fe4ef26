"""Scores of one VAE of the sprites against the true factors, and its place in nats."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from vae_teach import disentanglement as scores
from vae_teach import metrics
from vae_teach.data import Dataset
from vae_teach.surgery import elbo_surgery

EVERY = 4  # of all sprites: what trees and thresholds are fitted and judged on
SURGERY = 2000  # training sprites that define q(z)


def judged(model, data: Dataset) -> dict:
    """One number a score, and which latent knows which factor."""
    train, test = (jnp.asarray(split.images) for split in (data.train, data.test))
    rate, distortion, elbo = metrics.rate_and_distortion(model, test, jr.key(0))
    parts = elbo_surgery(model, train[:SURGERY], jr.key(1))
    on_test, everywhere = codes(model, test), codes(model, train)
    everywhere = np.concatenate([everywhere, on_test])
    factors = np.concatenate([data.train.factors, data.test.factors])
    some = everywhere[::EVERY], factors[::EVERY]
    nmi = normalised(everywhere, factors)
    dci = scores.dci(*some)
    return {
        "rate": float(rate),
        "distortion": float(distortion),
        "elbo": float(elbo),
        "tc": float(parts.total_correlation),
        "mutual_information": float(parts.mutual_information),
        "gaussian_tc": total_correlation(everywhere),
        "active": int(active(everywhere).sum()),
        "kl": np.asarray(metrics.rate_per_unit(model, test)),
        "mig": scores.mig(everywhere, factors),
        "sap": scores.sap(*some),
        "dci_d": dci.disentanglement,
        "dci_c": dci.completeness,
        "dci_i": dci.informativeness,
        "factor_vae": scores.factor_vae_score(everywhere, factors, jr.key(2)),
        "nmi": nmi,
        "moved": moved(nmi),
        "nearest": nearest(everywhere, factors, len(train)),
        "rotation": rotation(everywhere, factors),
    }


@jax.jit
def _means(model, images):
    return jax.lax.map(lambda x: model.q_z(x).mean, images, batch_size=256)


def codes(model, images) -> np.ndarray:
    """The posterior mean of every image."""
    return np.asarray(_means(model, jnp.asarray(images)), np.float64)


def normalised(codes, factors) -> np.ndarray:
    """I(z_j; v_k)/H(v_k), latents by factors; the entropy that of these examples."""
    entropies = [np.log(len(np.unique(v))) for v in np.asarray(factors).T]
    return scores.mutual_information(codes, factors) / np.array(entropies)


def moved(nmi) -> list[int | None]:
    """The latent that alone moves a factor, or None, for each factor.

    One that has more than half of the factor's entropy, and at least twice what the
    second has.
    """
    nmi = np.asarray(nmi)
    first, second = np.sort(nmi, 0)[::-1][:2]
    alone = (first > 0.5) & (first >= 2 * second)
    return [
        int(j) if yes else None for j, yes in zip(nmi.argmax(0), alone, strict=True)
    ]


def nearest(codes, factors, train: int) -> dict:
    """What the latents together know: the training code nearest to each test code.

    ``same``: the share of test sprites for which it is the same sprite but for the
    rotation, which is always another: each sprite is in the data once. ``turned``: for
    each shape the share that is this sprite and one step from its rotation, on the
    circle for squares. Another rotation of the sprite at random would be for 0.22
    of the squares and 0.2 of the others.
    """
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=1).fit(codes[:train])
    found = index.kneighbors(codes[train:], return_distance=False)[:, 0]
    asked = factors[train:]
    away = np.abs(factors[:train][found] - asked)
    steps, shape = away[:, 2], asked[:, 0]
    steps = np.where(shape == 0, np.minimum(steps, 10 - steps), steps)
    same = (np.delete(away, 2, 1) == 0).all(1)
    turned = [(same & (steps == 1))[shape == s].mean() for s in np.unique(shape)]
    return {"same": float(same.mean()), "turned": np.array(turned)}


def rotation(codes, factors) -> np.ndarray:
    """The largest NMI of a latent with the rotation, within each shape.

    The ten rotations lie within a quarter turn, 9° apart. A square repeats after it:
    its rotations close a circle, on which 81° is next to 0°, and no one latent follows
    a circle without a break. Those of an ellipse are half of its circle, those of a
    heart a quarter. Over all shapes one latent would have to turn all three.
    """
    shape, rotations = factors[:, 0], factors[:, 2:3]
    return np.array(
        [
            normalised(codes[shape == s], rotations[shape == s]).max()
            for s in np.unique(shape)
        ]
    )


def active(codes) -> np.ndarray:
    """Which latents have a mean that changes with the image (variance above 0.01)."""
    return np.var(codes, 0) > 0.01


def total_correlation(codes) -> float:
    """The Gaussian TC of the active latents; 0 where fewer than two are."""
    used = codes[:, active(codes)]
    return scores.gaussian_total_correlation(used) if used.shape[1] > 1 else 0.0


def entropy(images) -> float:
    """The mean over images of Σ -x log x - (1 - x) log(1 - x), the least distortion."""
    from scipy.stats import entropy

    x = np.asarray(images, float).reshape(len(images), -1)
    return float(entropy([x, 1 - x]).sum(1).mean())
