"""Intervals from outside: what train.py holds back, what test.py writes and says, and who is left as it was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from catboost import CatBoostRegressor
from safetensors.torch import load_file
from tiny import make_store, refused, remade, searched, store_of_creators, store_with_times, trained

from baselines import METHODS, opened, recipe
from baselines.predicting import predicted
from dataloader.calibration import CALIBRATION, calibrates, why_none
from dataloader.store import FeatureStore
from engine.intervals import Intervals
from engine.run import Run

SIZES = {"train": 200, "valid": 120, "test": 120, "predict": 3}
FAST = ("--model_id", "RetrievalBoost", "--num_of_retrieved_items", 6, "--trees", 30, "--depth", 3, "--components", 4)
BANDS = [f"{side}_{level}" for level in (80, 95) for side in ("lower", "upper")]


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Nor many resamples: they are tested elsewhere, and take most of the time here."""
    monkeypatch.setattr("engine.evaluation.draw", lambda *given: {})
    monkeypatch.setattr("engine.bootstrap.RESAMPLES", 50)


def evaluate(load_script, run: Path, *flags) -> None:
    script = load_script("test.py")
    script.main(script.build_parser().parse_args(["--model_path", str(run), *map(str, flags)]))


def held(store: FeatureStore) -> np.ndarray:
    """(N,) which items calibrate."""
    items = store.items
    return (items.split == "valid") & calibrates(items.item_id, items.user)


def with_other_calibration(store: FeatureStore) -> FeatureStore:
    """The same, but for labels of the items that calibrate."""
    items, rows = store.items, held(store)
    items.label[rows] = items.label[rows][::-1] + 3
    items.popularity[rows] = np.exp2(items.label[rows]) - 1
    return searched(remade(store, items), "retrieval", "textual")


def kept(run: Path) -> dict[str, object]:
    """What a run learned and chose: all that it saved but its intervals, and what names the data set and the time."""
    found = {path.name + path.parent.name[:4]: path.read_bytes() for path in run.rglob("*.npz")}
    found |= {"epochs": [{**line, "seconds": 0} for line in Run(run, {}).history()], "valid": Run(run, {}).valid()}
    found |= {path.name: load_file(path) for path in run.rglob("best.safetensors")}
    if (run / "weights.json").exists():
        found["weights"] = [one["weight"] for one in json.loads((run / "weights.json").read_text())["members"]]
    forests = [CatBoostRegressor().load_model(str(path)) for path in sorted(run.rglob("*.cbm"))]
    return found | {"forests": [forest.get_leaf_values().tolist() for forest in forests]}


def same(one, other) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_every_prediction_has_its_intervals(tmp_path, load_script, capsys):
    store = store_of_creators(tmp_path, sizes=SIZES, creators=200, label_dim=2)
    run = trained(store, tmp_path / "runs", *FAST)
    n, log = int(held(store).sum()), (run / "log.txt").read_text()
    assert f"{n} more of split valid are held back" in log and f"intervals: calibrated on {n} items" in log
    assert f"{120 - n} valid videos" in log
    capsys.readouterr()
    evaluate(load_script, run)
    printed, report = capsys.readouterr().out, json.loads((run / "metrics.json").read_text())["intervals"]
    table = pd.read_csv(run / "predictions.csv")
    assert report["calibration"] == n and report["range_by"] == "creators"
    for name, levels in report["targets"].items():
        suffix = f"_{name}"
        truth, prediction = table[f"truth{suffix}"], table[f"prediction{suffix}"]
        low, high, lowest, highest = (
            table[f"{band}{suffix}"] for band in ("lower_80", "upper_80", "lower_95", "upper_95")
        )
        assert ((lowest <= low) & (low < prediction) & (prediction < high) & (high <= highest)).all()
        assert (high - low).round(6).nunique() > 10 or name != "target0"  # not all alike
        for band in BANDS:
            count = np.maximum(np.exp2(table[f"{band}{suffix}"]) - 1, 0)
            np.testing.assert_allclose(table[f"{band}_count{suffix}"], count, rtol=1e-6)
        assert set(levels) == {"80", "95"}
        found = levels["80"]
        assert found["coverage"] == pytest.approx(((low <= truth) & (truth <= high)).mean())
        assert found["width"] == pytest.approx((high - low).mean())
        assert found["allowed_low"] < 0.8 < found["allowed_high"]
        assert found["allowed_low"] <= found["coverage"] <= found["allowed_high"]
        assert sum(part["n"] for part in found["fifths"]) == 120 and len(found["fifths"]) == 5
        assert f"intervals of 80 %: hold {100 * found['coverage']:.1f} %, allowed" in printed
    evaluate(load_script, run, "--split", "predict")
    assert pd.read_csv(run / "predict" / "predictions.csv").filter(regex="^(lower|upper)").notna().all().all()
    evaluate(load_script, run, "--split", "valid")  # those alone that chose
    assert len(pd.read_csv(run / "valid" / "predictions.csv")) == 120 - n
    (run / "intervals.json").unlink()  # as in runs of before there were any
    evaluate(load_script, run)
    assert "no intervals: none were calibrated" in capsys.readouterr().out
    assert not [name for name in pd.read_csv(run / "predictions.csv") if "lower" in name]


@pytest.mark.parametrize(
    "flags",
    [("--model_id", "LARK", "--epochs", 3, "--ensemble", 1, "--feature_dim", 8), ("--model_id", "Blend")],
    ids=lambda flags: flags[1],
)
def test_labels_that_calibrate_change_nothing_else(tmp_path, flags):
    """Neither what is fitted, nor the best epoch, nor weights, nor valid.json, by which a search is judged."""
    if flags[1] == "Blend":
        flags = (*flags, "--members", " ".join(map(str, FAST[1:])), "SVR")  # it holds items back as a member alone
    sizes = {"train": 100, "valid": 60, "test": 5}
    store = store_of_creators(tmp_path, sizes=sizes, creators=150)
    before = trained(store, tmp_path / "before", *flags)
    after = trained(with_other_calibration(store), tmp_path / "after", *flags)
    assert same(kept(before), kept(after)) and Run(before, {}).valid()
    # The scores are those of what the run predicts once it is opened again, with the weights that were kept.
    run, how, _ = opened(after, "")
    store, where = FeatureStore.open(store.folder), {"split": CALIBRATION, "batch_size": 7}
    data, prediction = predicted(how, run, run.config["settings"], store, torch.device("cpu"), **where)
    split, one = data.splits[CALIBRATION], Intervals.load(after)
    error = np.abs(split.label - prediction.mean)
    np.testing.assert_allclose(one.scores, error / one.expected_error(prediction, data, split), atol=1e-3)
    first, second = (json.loads((run / "intervals.json").read_text()) for run in (before, after))
    assert first["difficulty"] == second["difficulty"] and first["scores"] != second["scores"]
    assert len(one.scores) == held(store).sum() and ("spread" in one.difficulty[0].names) == (flags[1] == "Blend")


def test_others_keep_all_of_valid(tmp_path):
    ours = {name for name in METHODS if recipe(name).calibrates}
    assert ours == {"RetrievalBoost", "LARK", "Blend"}
    store = make_store(tmp_path / "data" / "tiny", sizes={"train": 60, "valid": 100, "test": 5})
    for flags in (("--model_id", "SVR"), ("--num_of_retrieved_items", 6, "--epochs", 1, "--feature_dim", 8)):
        run = trained(store, tmp_path / "runs", *flags)
        config, log = json.loads((run / "config.json").read_text()), (run / "log.txt").read_text()
        assert "100 valid videos" in log and "interval" not in log and "calibrates" not in config
        assert not (run / "intervals.json").exists()


def test_where_valid_is_too_small_nothing_is_held_back(tmp_path):
    store = store_of_creators(tmp_path / "a", sizes={"train": 60, "valid": 24, "test": 20}, creators=100)
    run = trained(store, tmp_path / "runs", *FAST)
    log = (run / "log.txt").read_text()
    assert "note: no intervals: split valid has 24 items, too few to hold 19" in log and "24 valid videos" in log
    few = store_of_creators(tmp_path / "b", sizes={"train": 60, "valid": 60, "test": 20}, creators=100)
    run = trained(few, tmp_path / "more", *FAST)
    assert 19 <= held(few).sum() < 40 and "note: intervals are calibrated on" in (run / "log.txt").read_text()


def test_where_the_bank_holds_valid_nothing_is_held_back(tmp_path):
    store = make_store(
        tmp_path / "data" / "tiny", sizes={"train": 60, "valid": 100, "test": 5}, bank=("train", "valid")
    )
    assert "the neighbours' bank is train+valid" in why_none(store)
    assert why_none(make_store(tmp_path / "more" / "tiny", sizes={"train": 60, "valid": 100, "test": 5})) is None


def test_the_split_by_time_says_what_is_lost_and_adapts(tmp_path, load_script, capsys):
    dated = store_with_times(tmp_path / "data", by_time=True)
    place = np.argsort(np.argsort(dated.items.time))
    split = np.repeat(np.array(["train", "valid", "test"], object), [150, 70, 80])[place]
    store = remade(dated, replace(dated.items, split=split))
    run = trained(store, tmp_path / "runs", "--model_id", "RetrievalBoost", "--trees", 30, "--no_retrieval")
    capsys.readouterr()
    evaluate(load_script, run)
    plain = pd.read_csv(run / "predictions.csv")
    assert "--adaptive learns of what was counted meanwhile" in capsys.readouterr().out
    evaluate(load_script, run, "--adaptive")
    adapted, printed = pd.read_csv(run / "predictions.csv"), capsys.readouterr().out
    report = json.loads((run / "metrics.json").read_text())["intervals"]
    assert "adaptive: for " in printed and 0 < report["adaptive"]["told"] < len(plain)
    assert (plain["upper_80"] != adapted["upper_80"]).any() and (plain["prediction"] == adapted["prediction"]).all()
    other = store_of_creators(tmp_path / "other", sizes=SIZES)
    undated = trained(other, tmp_path / "undated", *FAST)
    with refused("--adaptive: .* does not know when its videos were published"):
        evaluate(load_script, undated, "--adaptive")
    (undated / "intervals.json").unlink()
    with refused("--adaptive: .* has no intervals"):
        evaluate(load_script, undated, "--adaptive")


def test_a_baseline_has_intervals_on_request_and_is_the_same_as_without(tmp_path, load_script):
    sizes = {"train": 120, "valid": 40, "test": 100}
    store = store_of_creators(tmp_path, sizes=sizes, creators=60)
    network = ("--num_of_retrieved_items", 6, "--epochs", 2, "--feature_dim", 8, "--lr", 1e-2)
    for flags in (("--model_id", "SVR"), network):
        plain = trained(store, tmp_path / "plain", *flags)
        run = trained(store, tmp_path / "crossed", *flags, "--cross_conformal", 3)
        assert same(kept(plain), kept(run)) and not (run / "crossing").exists()
        evaluate(load_script, plain)
        evaluate(load_script, run)
        before, after = (pd.read_csv(one / "predictions.csv") for one in (plain, run))
        pd.testing.assert_frame_equal(before, after[before.columns])
        found = json.loads((run / "metrics.json").read_text())["intervals"]
        assert (
            found["calibration"] == 120 and "by 3 copies that were not fitted on them" in (run / "log.txt").read_text()
        )
        for level in found["targets"]["target0"].values():
            assert level["allowed_low"] - 0.03 <= level["coverage"]  # copies know less: rather more is held than less
    with refused("--cross_conformal: RetrievalBoost holds items of split valid back"):
        trained(store, tmp_path / "more", *FAST, "--cross_conformal", 3)
    with refused("--cross_conformal: TabR keeps predictions of split test alone"):
        trained(store, tmp_path / "more", "--model_id", "TabR", "--cross_conformal", 3)
