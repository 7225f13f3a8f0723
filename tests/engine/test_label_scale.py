"""--label_scale standard: whatever unit labels have, a network learns the same, and speaks in their unit."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny import make_store, predictions, refused, trained

import train
from baselines import METHODS, recipe

FLAGS = ("--label_scale", "standard", "--epochs", "3", "--lr", "1e-2")
SMALL = {
    "MMRA": ("--feature_dim", "8", "--num_of_retrieved_items", "5"),
    "CBAN": ("--feature_dim", "8"),
    "HMMVED": ("--latent_dim", "4"),
    "MASSL": ("--latent_dim", "40"),
    "TMALL": ("--common_dim", "4"),
    "Contextual_LSTM": ("--hidden_size", "4"),
    "LARK": ("--feature_dim", "8", "--ensemble", "1", "--num_of_retrieved_items", "5"),
    "TabM": ("--feature_dim", "8", "--ensemble", "2"),
}


@pytest.mark.parametrize("name", [name for name in METHODS if recipe(name).network])
def test_labels_in_another_unit_give_the_same_predictions_in_it(load_script, tmp_path, name):
    """Two targets of unlike scale, moved far from zero: each prediction moves with its target."""
    factor, offset = np.array([0.01, 3.0]), np.array([21.0, 40.0])
    plain = make_store(tmp_path / "plain" / "tiny", label_dim=2)
    moved = make_store(tmp_path / "moved" / "tiny", label_dim=2, label=lambda labels, split: labels * factor + offset)
    flags = (*FLAGS, "--model_id", name, *SMALL[name], "--metric", "nMSE")
    first = predictions(load_script, trained(plain, tmp_path / "a", *flags))
    second = predictions(load_script, trained(moved, tmp_path / "b", *flags))
    spread = plain.items.label[plain.rows("train")].std(axis=0)
    np.testing.assert_allclose((second - offset) / factor / spread, first / spread, atol=0.02)


def test_losses_and_metrics_are_in_the_labels_own_unit_and_a_resumed_run_ends_the_same(load_script, tmp_path):
    store = make_store(tmp_path / "tiny", label=lambda labels, split: 3 * labels + 40)
    flags = (*FLAGS, *SMALL["MMRA"], "--loss", "MAE")
    run = trained(store, tmp_path / "a", *flags)
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    deviation = np.abs(store.items.label[store.rows("train")] - store.items.label[store.rows("train")].mean()).mean()
    assert 0.3 * deviation < history[0]["train_loss"] < 2 * deviation  # not of labels of variance 1
    half = trained(store, tmp_path / "b", *flags[:2], "--epochs", 1, *flags[4:])
    train.main(train.build_parser().parse_args(["--resume", str(half), "--epochs", "3"]))
    assert (half / "best.safetensors").read_bytes() == (run / "best.safetensors").read_bytes()
    np.testing.assert_array_equal(predictions(load_script, half), predictions(load_script, run))


def test_what_it_cannot_be_is_refused(tmp_path):
    store = make_store(tmp_path / "tiny", label=lambda labels, split: labels / 100)
    with refused("--label_scale standard: --loss BCE takes labels in .0, 1. as they are"):
        trained(store, tmp_path / "a", *FLAGS, *SMALL["MMRA"], "--loss", "BCE")
    with pytest.raises(SystemExit):  # it is for networks
        trained(store, tmp_path / "a", *FLAGS[:2], "--model_id", "SVR")
    assert not (tmp_path / "a").exists()


def test_an_ensemble_that_gives_logits_is_judged_as_it_predicts(tmp_path, load_script):
    """By the mean of its members' probabilities, not by the probability of their mean logit."""
    store = make_store(tmp_path / "data" / "tiny", label=lambda labels, split: (labels > 5) * 0.8 + 0.1)
    flags = ("--label_scale", "none", "--loss", "BCE", "--lr", 0.05, "--feature_dim", 8, "--ensemble", 3)
    run = trained(store, tmp_path / "runs", "--model_id", "TabM", "--epochs", 3, "--num_of_retrieved_items", 6, *flags)
    script = load_script("test.py")
    script.main(script.build_parser().parse_args(["--model_path", str(run), "--split", "valid"]))
    records = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    best = records[records[-1]["best_epoch"] - 1]["valid"]["nMSE"]
    tested = json.loads((run / "valid" / "metrics.json").read_text())["metrics"]["nMSE"]["value"]
    assert tested == pytest.approx(best, rel=1e-4)
