"""Scores of codes whose score is known."""

import jax.random as jr
import numpy as np
import pytest

from vae_teach.disentanglement import (
    dci,
    entropy_scores,
    factor_vae_score,
    gaussian_total_correlation,
    mig,
    mutual_information,
    sap,
)

N, F, VALUES = 10_000, 5, 10
RNG = np.random.default_rng(0)
FACTORS = RNG.integers(VALUES, size=(N, F))
IDENTITY = FACTORS.astype(float)
# 45 degrees: each pair of factors is turned, so that two latents share two factors.
PAIR = np.array([[1.0, 1.0], [-1.0, 1.0]]) / np.sqrt(2)
TURNED = np.concatenate([IDENTITY[:, :2] @ PAIR, IDENTITY[:, 2:4] @ PAIR], 1)
CODES = {
    "identity": IDENTITY,
    "permuted, scaled, bent": (IDENTITY[:, ::-1] - 3) ** 3 * [1, -2, 3, 0.1, 9],
    "each twice": np.concatenate([IDENTITY, IDENTITY], 1),
    "one for all": np.stack([IDENTITY @ VALUES ** np.arange(F), np.zeros(N)], 1),
}


def entropy(v):
    p = np.bincount(v) / len(v)
    return -(p[p > 0] * np.log(p[p > 0])).sum()


def test_information_of_a_copy_is_the_entropy():
    found = mutual_information(IDENTITY, FACTORS)
    for k in range(F):
        miller = (VALUES - 1) / (2 * N)
        assert found[k, k] == pytest.approx(entropy(FACTORS[:, k]) + miller, abs=1e-9)


def test_information_of_strangers_is_zero_without_the_bias():
    # 20 x 10 cells: uncorrected the mean would be 171/2n.
    n, runs = 2000, 200
    codes = RNG.uniform(size=(n, runs))
    factor = RNG.integers(VALUES, size=(n, 1))
    import vae_teach.disentanglement as module

    raw = []
    for z in codes.T:
        cut = module._bins(z, 20)
        joint = entropy(cut * VALUES + factor[:, 0])
        raw.append(entropy(cut) + entropy(factor[:, 0]) - joint)
    biased, error = np.mean(raw), np.std(raw) / np.sqrt(runs)
    bias = 19 * 9 / (2 * n)
    assert abs(biased - bias) < 4 * error + 0.02 * bias  # the second order of the bias
    # What is negative is cut at 0, so half of the noise remains, and none of the bias.
    assert mutual_information(codes, factor).mean() < np.std(raw)


def test_information_is_that_of_scikit_learn_less_the_bias():
    from sklearn.metrics import mutual_info_score

    noisy = IDENTITY + RNG.normal(size=IDENTITY.shape)
    found = mutual_information(noisy, FACTORS, bins=8)
    edges = np.linspace(noisy[:, 0].min(), noisy[:, 0].max(), 9)
    cut = np.digitize(noisy[:, 0], edges[1:-1])
    cells = len(np.unique(cut * VALUES + FACTORS[:, 0]))
    bias = (cells - len(np.unique(cut)) - VALUES + 1) / (2 * N)
    expected = mutual_info_score(cut, FACTORS[:, 0]) - bias
    assert found[0, 0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("identity", 0.98, 1.0),
        ("permuted, scaled, bent", 0.5, 1.0),
        ("each twice", 0.0, 1e-9),
    ],
)
def test_mig_of_known_codes(name, low, high):
    assert low <= mig(CODES[name], FACTORS) <= high + 1e-9


def test_mig_of_turned_codes_is_near_zero():
    assert mig(TURNED, FACTORS[:, :4]) < 0.1
    assert mig(IDENTITY[:, :4], FACTORS[:, :4]) > 0.9


def test_mig_of_one_bit_of_eight_values_is_a_third():
    eight = RNG.integers(8, size=(N, 1))
    bit = np.stack([eight[:, 0] >= 4, np.zeros(N)], 1).astype(float)
    # The entropies of n draws differ from log 2 and log 8 by O(1/n).
    assert mig(bit, eight) == pytest.approx(1 / 3, abs=5 / np.sqrt(N) / 3)


def test_mig_of_a_noisy_channel_is_its_capacity():
    # A coin through a channel that errs with probability e: (log 2 - H(e))/log 2.
    coin, e = RNG.integers(2, size=(N, 1)), 0.1
    seen = coin[:, 0] ^ (RNG.uniform(size=N) < e)
    codes = np.stack([seen, np.zeros(N)], 1).astype(float)
    capacity = 1 + (e * np.log(e) + (1 - e) * np.log(1 - e)) / np.log(2)
    slope = np.log((1 - e) / e) / np.log(2)
    error = slope * np.sqrt(e * (1 - e) / N)
    assert mig(codes, coin) == pytest.approx(capacity, abs=4 * error)


def test_sap_of_known_codes():
    assert sap(IDENTITY, FACTORS) > 0.99
    assert sap(CODES["permuted, scaled, bent"], FACTORS) > 0.8
    assert sap(CODES["each twice"], FACTORS) < 0.01
    assert sap(np.zeros((N, 3)), FACTORS) == 0
    assert sap(TURNED, FACTORS[:, :4]) < 0.1


@pytest.mark.parametrize(
    ("importance", "expected"),
    [
        (np.eye(5), (1.0, 1.0)),
        (np.zeros((5, 5)), (0.0, 0.0)),
        (np.vstack([np.eye(5), np.eye(5)]), (1.0, 1 - np.log(2) / np.log(10))),
        (np.hstack([np.eye(5), np.eye(5)]), (1 - np.log(2) / np.log(10), 1.0)),
        (np.vstack([np.ones((1, 5)), np.zeros((4, 5))]), (0.0, 1.0)),
    ],
)
def test_scores_of_importances_are_exact(importance, expected):
    assert entropy_scores(importance) == pytest.approx(expected, abs=1e-12)


def test_dci_through_trees_is_near_the_exact_one():
    small, few = IDENTITY[:3000], FACTORS[:3000]
    found = dci(small, few)
    assert found == pytest.approx((1, 1, 1), abs=0.1)
    twice = dci(np.concatenate([small, small], 1), few)
    assert twice.disentanglement == pytest.approx(1, abs=0.1)
    assert twice.completeness == pytest.approx(1 - np.log(2) / np.log(10), abs=0.1)
    turned = dci(TURNED[:3000], few[:, :4])
    assert turned.disentanglement < 0.6


def test_factor_vae_score_of_known_codes():
    key = jr.key(0)
    assert factor_vae_score(IDENTITY, FACTORS, key) > 0.99
    assert factor_vae_score(CODES["permuted, scaled, bent"], FACTORS, key) > 0.99
    noise = RNG.normal(size=(N, F))
    error = np.sqrt(1 / F * (1 - 1 / F) / 400)
    assert factor_vae_score(noise, FACTORS, key) < 1 / F + 4 * error
    # Blind by design: two copies of each factor change nothing.
    assert factor_vae_score(CODES["each twice"], FACTORS, key) > 0.99


def test_factor_vae_score_leaves_collapsed_latents_out():
    codes = np.concatenate([IDENTITY, np.full((N, 2), 3.0)], 1)
    assert factor_vae_score(codes, FACTORS, jr.key(0)) > 0.99


def test_total_correlation_of_a_pair():
    rho, n = 0.8, 40_000
    first, noise = RNG.normal(size=(2, n))
    pair = np.stack([first, rho * first + np.sqrt(1 - rho**2) * noise], 1)
    # d/d rho of -½ log(1 - rho²) times the error of a correlation.
    error = rho / (1 - rho**2) * (1 - rho**2) / np.sqrt(n)
    expected = -0.5 * np.log(1 - rho**2)
    assert gaussian_total_correlation(pair) == pytest.approx(expected, abs=4 * error)
    stretched = pair * [100.0, 0.01]
    assert gaussian_total_correlation(stretched) == pytest.approx(
        gaussian_total_correlation(pair), rel=1e-6
    )
    assert gaussian_total_correlation(np.repeat(pair[:, :1], 2, 1)) > 10


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: mig(IDENTITY[:-1], FACTORS), "same examples"),
        (lambda: mig(IDENTITY, FACTORS[:, 0]), "same examples"),
        (lambda: mig(IDENTITY, np.ones((N, 2), int)), "leave them out"),
        (lambda: mutual_information(IDENTITY, FACTORS, bins=1), "two bins"),
        (lambda: entropy_scores(-np.eye(3)), "negative"),
        (lambda: entropy_scores(np.ones((1, 3))), "two latents"),
        (lambda: factor_vae_score(np.ones((N, 2)), FACTORS, jr.key(0)), "constant"),
        (lambda: gaussian_total_correlation(np.ones((N, 2))), "leave the collapsed"),
    ],
)
def test_it_says_what_it_needs(call, match):
    with pytest.raises((ValueError, TypeError), match=match):
        call()
