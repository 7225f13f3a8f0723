"""What a result cannot tell is said beside it, with the reason: on the screen and in metrics.json."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny import make_store, predictions, trained

from dataloader.batches import open_split
from dataloader.description import Label
from engine.caveats import too_few, undefined, why
from engine.evaluation import evaluate


def said_of(store, predict, batch_size: int = 256) -> str:
    """predict: labels (n, label_dim) -> predictions."""
    split = open_split(store, "test")
    prediction = predict(split.label.astype(np.float64))
    report = evaluate(store, split, prediction, "test", batch_size, 1)
    return "\n".join(undefined(report, prediction, split.label, store.label))


@pytest.mark.parametrize(
    ("test", "label", "predict", "said"),
    [
        (8, None, lambda truth: truth + 1, ""),
        (1, None, lambda truth: truth + 1, "nMSE is nan: there is one video"),
        (1, None, lambda truth: truth + 1, "intervals of MAE, RMSE, within2 are nan: fewer than two videos"),
        (
            8,
            lambda label, split: np.where((split == "test")[:, None], 0, label),
            lambda truth: truth + 1,
            "SRC is nan: the labels of all 8 videos are equal",
        ),
        (8, None, lambda truth: truth * 0, "PCC is nan: the predictions of all 8 videos are equal"),
        (2, None, lambda truth: truth + 1, "intervals of nMSE, SRC, PCC are nan: in more than 5% of the resamples"),
    ],
)
def test_what_is_nan_says_why(tmp_path, test, label, predict, said):
    store = make_store(tmp_path / "tiny", sizes={"train": 9, "valid": 9, "test": test}, k=None, label=label)
    found = said_of(store, predict)
    assert said in found and bool(said) == bool(found)


def test_targets_are_named_and_a_last_batch_of_one_too(tmp_path):
    store = make_store(tmp_path / "tiny", sizes={"train": 9, "valid": 9, "test": 9}, label_dim=2, k=None)
    found = said_of(store, lambda truth: truth * [0, 1] + 1, batch_size=4)
    assert "SRC of target0 is nan: the predictions of all 9 videos are equal" in found and "target1 is nan" not in found
    assert "means of batches of nMSE are nan: in one batch all labels or predictions are equal" in found
    assert why("within2", np.zeros(2), np.zeros(2), Label(("rating",))) == "labels are not counts"


def test_test_py_says_so_and_warns_of_few_videos(tmp_path, load_script, capsys):
    store = make_store(tmp_path / "tiny", sizes={"train": 60, "valid": 49, "test": 1}, k=None)
    run = trained(store, tmp_path / "runs", "--model_id", "SVR")
    few = "warning: split valid has 49 videos, too few to choose a model by (under 50)"
    assert few in (run / "log.txt").read_text()
    capsys.readouterr()
    predictions(load_script, run)
    out, report = capsys.readouterr().out, json.loads((run / "metrics.json").read_text())
    for line in ("nMSE is nan: there is one video", few, "warning: split test has 1 videos, too few to tell methods"):
        assert line in out and any(said.startswith(line) for said in report["warnings"])
    enough = make_store(tmp_path / "enough", sizes={"train": 9, "valid": 50, "test": 50}, k=None)
    assert too_few(enough.items, "test") == []
