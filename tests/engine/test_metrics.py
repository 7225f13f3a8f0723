"""Metrics by hand, on numbers small enough to check on paper."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from tiny import make_store

import train
from dataloader.description import Label
from engine.metrics import METRICS, Metric, batch_means, measure, selection_score

COUNTS = Label(("views",), "log2", 1)
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


def test_pearsons_r_and_the_share_within_a_factor_of_two():
    measured = measure(PREDICTION, TRUTH)
    assert measured["PCC"] == pytest.approx(stats.pearsonr(PREDICTION[:, 0], TRUTH[:, 0]).statistic)
    # 2 of 1 (at most twice), 1 of 2 (at least half), 3 of 3, 4 of 6
    within = METRICS["within2"].function
    assert within(PREDICTION.T, TRUTH[:, 0], np.ones((4, 1)))[0, 0] == 1
    # As counts, 2^label - 1, of labels log2(count + 1): 3 of 1, 1 of 3, 7 of 7, 15 of 63.
    assert measure(PREDICTION, TRUTH, Label(("views",), "log2", 1))["within2"] == 0.25
    counts, near = np.array([0.0, 0, 10, 10, 10, 10]), np.array([[0.4, 0.6, 5.0, 4.99, 20.0, 20.01]])
    assert within(near, counts, np.ones((6, 1)))[0, 0] == pytest.approx(3 / 6)
    # Exactly half and twice, through the logarithm and float32: they are met.
    label, two = Label(("views",), "log2", 1), np.array([[2.0], [6.0], [200.0], [20.0]])
    half = label.transform(np.array([[1.0], [3.0], [100.0], [10.0]]))
    assert measure(label.transform(two).astype(np.float32), half, label)["within2"] == 1
    assert np.isnan(within(np.array([[np.nan, 1]]), np.ones(2), np.ones((2, 1)))[0, 0])
    assert np.isnan(measured["within2"])  # Labels that are given as they are come from no counts.


def test_a_metric_is_one_line(monkeypatch, tmp_path, load_script):
    """A line in METRICS: test.py prints it with its interval and writes it down."""

    def largest(prediction, truth, weight):  # (P, n), (n,), (n, R) -> (P, R)
        return np.abs(prediction - truth).max(axis=1, keepdims=True) + 0 * weight[:1]

    monkeypatch.setitem(METRICS, "largest", Metric("largest", largest))
    make_store(tmp_path / "data" / "tiny")
    where = ["--dataset_path", str(tmp_path / "data"), "--dataset_id", "tiny", "--save", str(tmp_path / "runs")]
    words = [*where, "--model_id", "Contextual_LSTM", "--epochs", "1", "--metric", "largest"]
    train.main(train.build_parser().parse_args(words))
    (run,) = (tmp_path / "runs").iterdir()
    script = load_script("test.py")
    script.main(script.build_parser().parse_args(["--model_path", str(run), "--metric", "largest"]))
    table = pd.read_csv(run / "predictions.csv")
    expected = (table["prediction"] - table["truth"]).abs().max()
    found = json.loads((run / "metrics.json").read_text())["metrics"]["largest"]
    assert found["value"] == pytest.approx(expected, rel=1e-6) and found["low"] <= found["value"]


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
    assert batch_means(prediction, truth, 1000, COUNTS) == pytest.approx(measure(prediction, truth, COUNTS))
    by_hand = [
        np.mean((prediction[s : s + 300] - truth[s : s + 300]) ** 2) / np.var(truth[s : s + 300])
        for s in (0, 300, 600, 900)
    ]
    assert batch_means(prediction, truth, 300)["nMSE"] == pytest.approx(np.mean(by_hand))
    assert batch_means(prediction, truth, 32)["nMSE"] > measure(prediction, truth)["nMSE"]


def test_what_is_not_defined_is_nan_and_never_raises():
    constant = measure(np.ones((3, 1)), np.ones((3, 1)))
    assert np.isnan(constant["nMSE"]) and np.isnan(constant["SRC"]) and constant["MAE"] == 0
    assert np.isnan(constant["PCC"])
    assert np.isnan(measure(np.full((3, 1), 0.1), np.arange(3.0)[:, None])["PCC"])
    assert np.isnan(measure(np.ones((1, 1)), np.ones((1, 1)))["SRC"])
    assert np.isnan(measure(np.arange(3.0)[:, None], np.full((3, 1), 0.1))["nMSE"])  # 0.1 has no exact mean


def test_selection():
    measured = {"nMSE": 0.7, "SRC": 0.5, "MAE": 1.8, "RMSE": 2.0}
    assert selection_score(measured, ["MAE", "nMSE"]) == pytest.approx(2.5)
    assert selection_score(measured, ["SRC"]) == -0.5


def test_src_is_spearman_with_ties():
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 5, 60), rng.integers(0, 5, 60)
    expected = stats.pearsonr(stats.rankdata(a), stats.rankdata(b)).statistic
    assert measure(a[:, None], b[:, None])["SRC"] == pytest.approx(expected)


def test_a_prediction_that_is_not_finite_has_no_rank_correlation():
    truth, prediction = np.arange(5.0)[:, None], np.array([[0.0], [1], [np.nan], [3], [4]])
    assert np.isnan(measure(prediction, truth)["SRC"])


def test_one_extreme_label_hides_no_variance():
    truth = np.append(1e9, 100 + np.arange(20.0))
    weight = np.append(0.0, np.ones(20))[:, None]
    found = METRICS["nMSE"].function(np.full((1, 21), 109.5), truth, weight)
    assert found[0, 0] == pytest.approx(1)


@pytest.mark.parametrize("name", METRICS)
def test_weights_are_repetitions(name):
    """A resample's metric is that of its items written out, whatever is drawn how often, ties included."""
    rng = np.random.default_rng(3)
    truth, prediction = np.round(rng.normal(size=50), 1), np.round(rng.normal(size=(2, 50)), 1)
    weight = rng.integers(0, 4, (50, 20))
    found = METRICS[name].function(prediction, truth, weight.astype(float))
    assert found.shape == (2, 20)
    for r in range(20):
        items = np.repeat(np.arange(50), weight[:, r])
        for p in range(2):
            expected = METRICS[name].function(prediction[p : p + 1, items], truth[items], np.ones((len(items), 1)))[
                0, 0
            ]
            assert found[p, r] == pytest.approx(expected, rel=1e-9)
    items = np.repeat(np.arange(50), weight[:, 0])
    if name == "SRC":
        assert found[0, 0] == pytest.approx(stats.spearmanr(prediction[0, items], truth[items]).statistic)
