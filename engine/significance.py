"""Do two rows' errors differ, or is it chance? Paired tests on the same test items, and Holm's correction."""

from __future__ import annotations

import numpy as np
from scipy import stats

FLIPS = 9999
BATCH_BYTES = 64 << 20  # of flipped differences held at once


def paired_tests(
    prediction: np.ndarray, others: list[np.ndarray], truth: np.ndarray, creators: np.ndarray | None, seed: int
) -> list[tuple[float, bool]]:
    """Against each of the others: two-sided p of the items' absolute errors, and whether `prediction` has the smaller.

    prediction, others (seeds, n, label_dim); truth (n, label_dim). An item's error is its mean over seeds and targets.
    Sign flips of the creators' summed differences where creators (n,) are known, as their videos are not independent;
    else Wilcoxon's signed ranks of the items. p is 1 where no item's error differs.
    """
    error = absolute_error(prediction, truth)  # (n,)
    differences = [error - absolute_error(other, truth) for other in others]
    if creators is None:
        return [wilcoxon(difference) for difference in differences]
    summed = [np.bincount(creators, weights=difference) for difference in differences]
    return sign_flips(np.array(summed), seed) if summed else []


def sign_flips(differences: np.ndarray, seed: int) -> list[tuple[float, bool]]:
    """(tests, n) independent differences: p of a sum as far from 0, were each as likely to have the other sign.

    The flips are the same for all tests. scipy's permutation_test does the same, one flip after another: a minute for
    10,000 creators.
    """
    rng, sums = np.random.default_rng(seed), differences.sum(axis=1)
    step, as_far = max(1, BATCH_BYTES // (8 * differences.shape[1])), np.zeros(len(differences))
    for start in range(0, FLIPS, step):
        signs = rng.integers(0, 2, (min(step, FLIPS - start), differences.shape[1])) * 2.0 - 1  # (flips, n)
        as_far += (np.abs(signs @ differences.T) >= np.abs(sums) * (1 - 1e-12)).sum(axis=0)  # (tests,)
    p_values = (as_far + 1) / (FLIPS + 1)  # the signs as they are count too
    return [(float(p), bool(total < 0)) for p, total in zip(p_values, sums, strict=True)]


def wilcoxon(difference: np.ndarray) -> tuple[float, bool]:
    """Two-sided signed-rank test of differences (n,): p, and whether the negative ones outrank the others."""
    ranked = difference[difference != 0]  # as scipy does: an item whose errors are equal has no rank
    if not len(ranked):
        return 1.0, False
    signed_ranks = np.sign(ranked) * stats.rankdata(np.abs(ranked))
    return float(stats.wilcoxon(difference).pvalue), bool(signed_ranks.sum() < 0)


def absolute_error(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(seeds, n, label_dim) -> (n,)"""
    return np.abs(prediction - truth).mean(axis=(0, 2))


def holm(p_values: list[float]) -> list[float]:
    """p values, each corrected for all of them being looked at (Holm, 1979): in the order given."""
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    corrected = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * factors), 1)
    return corrected[np.argsort(order, kind="stable")].tolist()
