"""What a table of models says beyond its seeds: a row is a method, a strength, a seed.

Pure functions of rows, which are dicts with ``method``, ``strength``, ``seed`` and one
number a score.
"""

from itertools import pairwise

import numpy as np
from scipy import stats

SHUFFLES = 1000


def by_group(rows) -> dict:
    """The rows of each (method, strength), in the order in which they first appear."""
    groups = {}
    for row in rows:
        groups.setdefault((row["method"], row["strength"]), []).append(row)
    return groups


def spread(values) -> dict:
    """Mean, standard deviation (n - 1) and standard error of the mean."""
    sd = float(np.std(values, ddof=1))
    return {"mean": float(np.mean(values)), "sd": sd, "se": sd / len(values) ** 0.5}


def best_and_median(rows, score: str) -> tuple[int, int]:
    """The seeds of the highest and of the middle score; of two middles the lower."""
    order = sorted(rows, key=lambda row: row[score])
    return order[-1]["seed"], order[(len(order) - 1) // 2]["seed"]


def variance_shares(rows, score: str) -> dict:
    """What of a score's variance over all models do the names of its row explain?

    ``method``: by the means of the methods; ``strength``: by those of method and
    strength together; ``seed``: by those of the seeds, whose initial weights and order
    of batches all methods share. ``rest`` is what differs between seeds of one method
    and strength.
    """
    values = np.array([row[score] for row in rows])
    found = {
        "method": explained(values, [row["method"] for row in rows]),
        "strength": explained(
            values, [f"{row['method']} {row['strength']}" for row in rows]
        ),
        "seed": explained(values, [row["seed"] for row in rows]),
    }
    return found | {"rest": 1 - found["strength"]["r2"]}


def explained(values, labels) -> dict:
    """R² of the means of k groups of n values, and what it is of groups at random.

    Means of a few seeds explain something by chance: (k - 1)/(n - 1) on average. The
    adjusted R² takes that off, 1 - (1 - R²)(n - 1)/(n - k), and may be below 0.
    ``high`` is the R² that 5 % of random orders of the values exceed.
    """
    values = np.asarray(values, float)
    names, index = np.unique(np.asarray(labels), return_inverse=True)
    n, k = len(values), len(names)

    def r2(v):
        means = np.bincount(index, v) / np.bincount(index)
        return 1 - ((v - means[index]) ** 2).sum() / ((v - v.mean()) ** 2).sum()

    rng, share = np.random.default_rng(0), r2(values)
    at_random = [r2(rng.permutation(values)) for _ in range(SHUFFLES)]
    return {
        "r2": float(share),
        "adjusted": float(1 - (1 - share) * (n - 1) / (n - k)),
        "chance": (k - 1) / (n - 1),
        "high": float(np.quantile(at_random, 0.95)),
    }


def neighbours(groups: dict, score: str) -> list[dict]:
    """Groups by their mean, highest first, each pair of neighbours compared.

    ``hidden``: the spread over seeds hides their order, as Welch's t test of the two
    has p > 0.05.
    """
    values = {name: [row[score] for row in rows] for name, rows in groups.items()}
    order = sorted(values, key=lambda name: -np.mean(values[name]))
    return [
        {
            "first": list(a),
            "second": list(b),
            "difference": float(np.mean(values[a]) - np.mean(values[b])),
            "se": float(np.hypot(*(stats.sem(values[name]) for name in (a, b)))),
            "hidden": welch(values[a], values[b]) > 0.05,
        }
        for a, b in pairwise(order)
    ]


def welch(a, b) -> float:
    """The two-sided p of equal means, by Welch's t; 1 or 0 where nothing has spread."""
    n = np.array([len(a), len(b)])
    errors = np.array([np.var(a, ddof=1), np.var(b, ddof=1)]) / n
    difference = abs(np.mean(a) - np.mean(b))
    if not errors.sum():
        return float(difference == 0)
    freedom = errors.sum() ** 2 / (errors**2 / (n - 1)).sum()
    return float(2 * stats.t.sf(difference / np.sqrt(errors.sum()), freedom))


def best_strengths(rows, score: str) -> dict:
    """The group of each method with the highest mean, chosen by the score itself."""
    groups, best = by_group(rows), {}
    for name, members in groups.items():
        mean = np.mean([row[score] for row in members])
        if mean > best.get(name[0], (-np.inf,))[0]:
            best[name[0]] = mean, name
    return {name: groups[name] for _, name in best.values()}


def ranks(rows, criterion: str, score: str, sign: int) -> dict:
    """Does a number that needs no labels rank the models by a score that needs them?

    ``rho`` is Spearman's correlation of sign x criterion with the score over all
    models, ``within`` its mean over the groups, where only the seed differs. ``pick``
    is the score of the model that the criterion prefers, ``above`` the share of the
    other models that it beats.
    """
    x = sign * np.array([row[criterion] for row in rows])
    y = np.array([row[score] for row in rows])
    inside = [
        _spearman([sign * row[criterion] for row in g], [row[score] for row in g])
        for g in by_group(rows).values()
    ]
    rho, p = _spearman(x, y)
    pick = y[x.argmax()]
    return {
        "criterion": criterion,
        "sign": sign,
        "rho": rho,
        "p": p,
        "within": spread([rho for rho, _ in inside]),
        "pick": float(pick),
        "above": float((y < pick).sum() / (len(y) - 1)),
    }


def _spearman(x, y):
    """The correlation and its p; 0 and 1 where all are equal."""
    if not np.ptp(x) or not np.ptp(y):
        return 0.0, 1.0
    return map(float, stats.spearmanr(x, y))
