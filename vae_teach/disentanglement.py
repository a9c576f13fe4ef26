"""How far each latent stands for one true factor: scores of codes with known factors.

Codes are (n, d), most often posterior means; factors are (n, f), whole numbers. Every
score is in [0, 1], and 1 is one latent a factor; each is blind to something else, as
codes that are built for it show. scikit-learn fits the trees.
"""

from typing import NamedTuple

import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int

from .epochs import check_key
from .typing import PRNGKey

Codes = Float[np.ndarray | Array, "..."]
Factors = Int[np.ndarray | Array, "..."]


def mutual_information(
    codes: Codes, factors: Factors, *, bins: int = 20
) -> Float[np.ndarray, "d f"]:
    """I(z_j; v_k) in nats of every latent and factor, each z_j cut into ``bins``.

    The bins are equally wide. The frequencies themselves overstate it, by
    (K_zv - K_z - K_v + 1)/2n nats to first order, with K the occupied cells of n
    examples: that is subtracted (Miller 1955). Cutting z_j loses information, so this
    is low for a factor that z_j codes finely.

    Raises:
        ValueError: for codes and factors of different lengths, or fewer bins than two.

    """
    codes, factors = _checked(codes, factors)
    if bins < 2:
        raise ValueError(f"Expected two bins or more, got {bins}.")
    cut = np.stack([_bins(z, bins) for z in codes.T], 1)
    return np.array([[_information(z, v) for v in factors.T] for z in cut.T])


def mig(codes: Codes, factors: Factors, *, bins: int = 20) -> float:
    """The mutual information gap: the mean over factors of (I₁ - I₂)/H(v).

    I₁ and I₂ are the largest two I(z_j; v) over latents (Chen et al. 2018). 0 when two
    latents know a factor equally well; blind to a latent that knows several factors.
    """
    found = np.sort(mutual_information(codes, factors, bins=bins), 0)[::-1]
    _, factors = _checked(codes, factors)
    second = found[1] if len(found) > 1 else 0.0
    entropies = np.array([_entropy(v) for v in factors.T])
    return float(((found[0] - second) / entropies).mean())


def sap(codes: Codes, factors: Factors) -> float:
    """Attribute predictability: the mean over factors of the gap of the best latents.

    A latent's score for a factor is the balanced accuracy of thresholds on it alone,
    rescaled so that guessing is 0 (Kumar, Sattigeri & Balakrishnan 2018); judged on
    every second example, learned on the others.
    """
    codes, factors = _checked(codes, factors)
    scores = np.array([[_thresholds(z, v) for v in factors.T] for z in codes.T])
    scores = np.sort(np.vstack([scores, np.zeros_like(scores[:1])]), 0)[::-1]
    return float((scores[0] - scores[1]).mean())


class DCI(NamedTuple):
    """Disentanglement, completeness and informativeness, each in [0, 1]."""

    disentanglement: float
    completeness: float
    informativeness: float


def dci(codes: Codes, factors: Factors, *, seed: int = 0) -> DCI:
    """``entropy_scores`` of the importances in a forest of 50 trees for each factor.

    Informativeness is the mean accuracy of the forests on every second example, which
    they did not see (Eastwood & Williams 2018).
    """
    from sklearn.ensemble import RandomForestClassifier

    codes, factors = _checked(codes, factors)
    importance, accuracy = [], []
    for v in factors.T:
        # Every split sees all latents (1.0 is a share): with a few of them at random
        # those that know nothing would get importance too.
        forest = RandomForestClassifier(50, max_features=1.0, random_state=seed)  # type: ignore[arg-type]
        forest.fit(codes[::2], v[::2])
        importance.append(forest.feature_importances_)
        accuracy.append(forest.score(codes[1::2], v[1::2]))
    scores = entropy_scores(np.stack(importance, 1))
    return DCI(*scores, float(np.mean(accuracy)))


def entropy_scores(importance: Float[np.ndarray, "d f"]) -> tuple[float, float]:
    """Disentanglement and completeness of a matrix of importances, latents by factors.

    D = Σ_j ρ_j (1 - H_f(row j)), each row a distribution over the f factors, weighed by
    its share ρ_j of all importance; C = Σ_k ρ_k (1 - H_d(column k)), likewise. H_f is
    an entropy in base f. Both are 0 where no latent matters (Eastwood & Williams 2018).

    Raises:
        ValueError: for a negative importance, or fewer than two latents or factors.

    """
    importance = np.asarray(importance, float)
    if min(importance.shape) < 2 or (importance < 0).any():
        raise ValueError(
            "Expected importances of two latents and two factors or more, none of them "
            f"negative, got shape {importance.shape} and a least of {importance.min()}."
        )
    return _one_sided(importance), _one_sided(importance.T)


def factor_vae_score(
    codes: Codes, factors: Factors, key: PRNGKey, *, votes: int = 800, batch: int = 64
) -> float:
    """How often the latent that varies least tells which factor was held fixed.

    A vote draws a factor, a value of it and ``batch`` examples with that value; it goes
    to the latent with the least variance relative to its variance over all examples.
    Each latent then stands for the factor it got most votes for; half of the votes make
    that table, the others judge it (Kim & Mnih 2018). Guessing gives 1/f. Latents that
    are constant over the data take no part.

    Raises:
        ValueError: when every latent is constant.

    """
    check_key(key)
    codes, factors = _checked(codes, factors)
    spread = codes.var(0)
    moving = spread > 1e-8 * max(1.0, spread.max())
    if not moving.any():
        raise ValueError("Expected a latent that varies, got constant codes.")
    z = codes[:, moving] / np.sqrt(spread[moving])
    rng = np.random.default_rng(np.asarray(jr.key_data(key)))
    table = np.zeros((2, moving.sum(), factors.shape[1]))
    for vote in range(votes):
        k = rng.integers(factors.shape[1])
        alike = np.flatnonzero(factors[:, k] == rng.choice(factors[:, k]))
        latent = z[rng.choice(alike, batch)].var(0).argmin()
        table[vote % 2, latent, k] += 1
    judged = table[1, np.arange(len(table[0])), table[0].argmax(1)]
    return float(judged.sum() / table[1].sum())


def gaussian_total_correlation(codes: Codes) -> float:
    """½ (Σ_j log Σ_jj - log |Σ|) nats of the codes' covariance Σ.

    The total correlation of a normal with this covariance, so of the codes themselves
    where they are normal: 0 when uncorrelated, infinite when one is a sum of others.

    Raises:
        ValueError: for a latent that is constant.

    """
    codes = np.asarray(codes, float)
    covariance = np.atleast_2d(np.cov(codes.T))
    variances = np.diag(covariance)
    if not (variances > 0).all():
        raise ValueError(
            f"Expected latents that vary, got variances {variances}: leave the "
            "collapsed ones out."
        )
    correlation = covariance / np.sqrt(np.outer(variances, variances))
    sign, log_det = np.linalg.slogdet(correlation)
    return float(-0.5 * log_det) if sign > 0 else np.inf


def _checked(codes, factors):
    codes, factors = np.asarray(codes, float), np.asarray(factors)
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors):
        raise ValueError(
            "Expected codes (n, d) and factors (n, f) of the same examples, got shapes "
            f"{codes.shape} and {factors.shape}."
        )
    constant = [k for k, v in enumerate(factors.T) if (v == v[0]).all()]
    if constant:
        raise ValueError(
            f"Expected factors that vary, got one value in column {constant}: leave "
            "them out."
        )
    return codes, factors


def _bins(z, bins):
    edges = np.linspace(z.min(), z.max(), bins + 1)
    return np.digitize(z, edges[1:-1])


def _entropy(v):
    _, counts = np.unique(v, return_counts=True)
    p = counts / counts.sum()
    return -(p * np.log(p)).sum() + (len(p) - 1) / (2 * len(v))


def _information(z, v):
    joint = z.astype(np.int64) * (int(v.max()) - int(v.min()) + 1) + (v - v.min())
    return max(_entropy(z) + _entropy(v) - _entropy(joint), 0.0)


def _thresholds(z, v):
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.tree import DecisionTreeClassifier

    values = len(np.unique(v))
    tree = DecisionTreeClassifier(max_leaf_nodes=values, class_weight="balanced")
    tree.fit(z[::2, None], v[::2])
    accuracy = balanced_accuracy_score(v[1::2], tree.predict(z[1::2, None]))
    return max((accuracy - 1 / values) / (1 - 1 / values), 0.0)


def _one_sided(importance):
    rows = importance.sum(1)
    if not rows.sum():
        return 0.0
    p = importance / np.where(rows, rows, 1)[:, None]
    entropy = -(p * np.log(np.where(p, p, 1))).sum(1) / np.log(importance.shape[1])
    return float((rows / rows.sum() * (1 - entropy)).sum())
