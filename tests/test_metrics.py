"""Metrics by hand, on numbers small enough to check on paper, and what intervals must hold."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from engine.metrics import METRICS, batch_means, intervals, measure, selection_score

TRUTH = np.array([[1.0], [2.0], [3.0], [6.0]])
PREDICTION = np.array([[2.0], [1.0], [3.0], [4.0]])


def test_by_hand():
    # errors 1, -1, 0, -2: squares sum to 6; the truth's mean is 3 and its squared deviations sum to 4 + 1 + 0 + 9 = 14
    measured = measure(PREDICTION, TRUTH)
    assert measured["nMSE"] == pytest.approx(6 / 14)
    assert measured["MAE"] == pytest.approx(4 / 4)
    assert measured["RMSE"] == pytest.approx(np.sqrt(6 / 4))
    # ranks 2 1 3 4 against 1 2 3 4: 1 - 6 * (1 + 1) / (4 * 15)
    assert measured["SRC"] == pytest.approx(1 - 12 / 60)


def test_the_mean_predictor_has_nmse_one():
    assert measure(np.full((4, 1), TRUTH.mean()), TRUTH)["nMSE"] == pytest.approx(1)


def test_several_targets_give_their_mean():
    truth, prediction = np.hstack([TRUTH, 10 * TRUTH]), np.hstack([PREDICTION, 10 * TRUTH])
    assert measure(prediction, truth)["nMSE"] == pytest.approx(6 / 14 / 2)
    assert measure(prediction, truth)["MAE"] == pytest.approx(0.5)


def test_published_batch_means_move_with_the_batch_size():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(1000, 1))
    prediction = 0.5 * truth + rng.normal(size=(1000, 1))
    assert batch_means(prediction, truth, 1000) == pytest.approx(measure(prediction, truth))
    by_hand = [
        np.mean((prediction[s : s + 300] - truth[s : s + 300]) ** 2) / np.var(truth[s : s + 300])
        for s in (0, 300, 600, 900)
    ]
    assert batch_means(prediction, truth, 300)["nMSE"] == pytest.approx(np.mean(by_hand))
    assert batch_means(prediction, truth, 32)["nMSE"] > measure(prediction, truth)["nMSE"]


def test_intervals_hold_the_value_and_agree_with_the_closed_form():
    rng = np.random.default_rng(1)
    truth = rng.normal(size=800)
    prediction = truth + rng.normal(size=800)
    bounds = intervals(prediction, truth, seed=0)
    for name, metric in METRICS.items():
        low, high = bounds[name]
        assert low < metric(prediction, truth) < high
    error = np.abs(prediction - truth)
    half = 1.96 * error.std() / np.sqrt(800)  # the normal interval of a mean
    assert bounds["MAE"] == pytest.approx((error.mean() - half, error.mean() + half), abs=0.2 * half)
    assert intervals(prediction, truth, seed=0) == bounds != intervals(prediction, truth, seed=1)


def test_what_is_not_defined_is_nan_and_never_raises():
    constant = measure(np.ones((3, 1)), np.ones((3, 1)))
    assert np.isnan(constant["nMSE"]) and np.isnan(constant["SRC"]) and constant["MAE"] == 0
    assert all(np.isnan(b).all() for b in intervals(np.ones(1), np.ones(1), seed=0).values())


def test_selection():
    measured = {"nMSE": 0.7, "SRC": 0.5, "MAE": 1.8, "RMSE": 2.0}
    assert selection_score(measured, ["MAE", "nMSE"]) == pytest.approx(2.5)
    assert selection_score(measured, ["SRC"]) == -0.5


def test_src_is_spearman_with_ties():
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 5, 60), rng.integers(0, 5, 60)
    expected = stats.pearsonr(stats.rankdata(a), stats.rankdata(b)).statistic
    assert METRICS["SRC"](a, b) == pytest.approx(expected)
