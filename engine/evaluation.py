"""One judgement for all methods: metrics with intervals, predictions.csv, pictures."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from common.cells import write_table
from common.files import write_json
from common.manifest import is_whole
from dataloader.batches import Split
from dataloader.describing import heading
from dataloader.items import creators
from dataloader.opening import Data
from dataloader.store import FeatureStore
from dataloader.yardsticks import yardsticks
from engine.bootstrap import CONFIDENCE, Interval, resample
from engine.caveats import too_few, undefined
from engine.coverage import Banded
from engine.difficulty import doubts_of
from engine.figures import draw_doubts, draw_errors, draw_predictions, draw_training, plt, save
from engine.method import Prediction
from engine.metrics import METRICS, batch_means, measure
from engine.run import HISTORY, Run
from engine.yardsticks import shortfalls


@dataclass(frozen=True)
class Judged:
    """What `judge` found and wrote into `folder`: the table of predictions.csv, metrics.json and the pictures.

    report: None where no truth is known. run: the name of its folder.
    """

    folder: Path
    run: str
    title: str
    data: Data
    split: Split
    table: pd.DataFrame
    report: dict | None
    pictures: Mapping[str, plt.Figure]


DOUBTS = {"spread": "spread among the members", "neighbours_spread": "spread among the neighbours' labels"}


def judge(
    out: Path,
    run: Run,
    data: Data,
    prediction: Prediction,
    split: str,
    batch_size: int,
    seed: int,
    metrics: Sequence[str],
    adaptive: bool = False,
) -> Judged:
    """predictions.csv and, where the truth is known, metrics.json and pictures; print `metrics`.

    adaptive: intervals learn, in the order of time, of what was counted before (engine/adaptive.py).
    """
    items = data.splits[split]
    doubts = doubts_of(data, items, prediction)
    banded = Banded.of(run, data, items, prediction, adaptive)
    table, report, pictures = predictions(data, items, prediction.mean, doubts, banded.bands), None, {}
    prediction = prediction.mean  # (n, label_dim)
    title = f"{run.config['settings']['model_id']} on {data.store.dataset_id}, {split}"
    if split != "predict":
        said = heading(data.store, data.neighbours, metadata=data.kinds is not None)
        report = evaluate(data.store, items, prediction, split, batch_size, seed) | {"heading": said}
        said = undefined(report, prediction, items.label, data.store.label) + too_few(data.store.items, split)
        said += shortfalls(yardsticks(data.store, items.rows), split, prediction, items.label, data.store.label)
        report |= {"warnings": said} if said else {}
        report |= {"intervals": found} if (found := banded.report(items, prediction)) else {}
        print_report(report, metrics, run, data.store)
        banded.show(report.get("intervals"), data.store.label)
        pictures = draw(run, items, prediction, doubts, title)
    for name, picture in pictures.items():
        save(picture, out / "figures" / name)
    if report:
        write_json(out / "metrics.json", report)
    write_table(out / "predictions.csv", table, "%.12g")
    print(f"{len(items)} predictions in {out / 'predictions.csv'}")
    return Judged(out, run.folder.resolve().name, title, data, items, table, report, pictures)


def evaluate(store: FeatureStore, split: Split, prediction: np.ndarray, name: str, batch_size: int, seed: int) -> dict:
    """Metrics over the whole split with intervals, one by one where there are several targets, and the batch means."""
    truth, names, user = split.label, split.target.names, split.user
    group = creators(user) if (user != "").any() else None
    targets = {}
    for t, target in enumerate(names):
        resampled = resample([prediction[None, :, [t]]], truth[:, [t]], seed, group, split.target)
        targets[target] = {metric: interval_of(resampled.interval(0, metric)) for metric in METRICS}
    whole = measure(prediction, truth, split.target)
    data = {"dataset_id": store.dataset_id, "fingerprint": store.fingerprint}
    report = data | {"split": name, "n": len(split), "confidence": CONFIDENCE}
    report |= {"creators": len(set(user) - {""})}
    if len(names) == 1:
        report["metrics"] = targets[names[0]]
    else:
        report |= {"metrics": {m: {"value": value} for m, value in whole.items()}, "targets": targets}
    means = batch_means(prediction, truth, batch_size, split.target)
    return report | {"published_batch_means": {"batch_size": batch_size} | means}


def interval_of(found: Interval) -> dict:
    """Low and high by creators where they are known, whose videos fare alike; by videos beside them then."""
    videos = {} if found.unit == "videos" else {"low_videos": found.low_videos, "high_videos": found.high_videos}
    return {"value": found.value, "low": found.low, "high": found.high} | videos


def print_report(report: dict, metrics: Sequence[str], run: Run, store: FeatureStore) -> None:
    of = f" of {report['creators']} creators" if report["creators"] else ""
    print(f"{run.folder} on split {report['split']} of {store.folder}: {report['n']} videos{of}")
    print(report["heading"])
    size = report["published_batch_means"]["batch_size"]
    drawn = f"{'95 % by creators':>18}  {'95 % by videos':>18}" if of else f"{'95 % bootstrap':>18}"
    print(f"{'':<10}  {'whole split':>11}  {drawn}  mean of batches of {size} (published)")
    for target, measured in (report.get("targets") or {"": report["metrics"]}).items():
        for name in metrics:
            m = measured[name]
            batch = report["published_batch_means"][name] if not target else None
            line = f"{target} {name}".strip().ljust(10) + f"  {m['value']:>11.4f}  {m['low']:>8.4f} .. {m['high']:.4f}"
            line += f"  {m['low_videos']:>8.4f} .. {m['high_videos']:.4f}" if of else ""
            print(line if batch is None else f"{line}  {batch:.4f}")
    if "targets" in report:
        for name in metrics:
            value, batch = report["metrics"][name]["value"], report["published_batch_means"][name]
            gap = f"{'':>18}  {'':>18}" if of else f"{'':>18}"
            print(f"mean {name}".ljust(10) + f"  {value:>11.4f}  {gap}  {batch:.4f}")
    print("\n".join(report.get("warnings", [])), end="\n" * bool(report.get("warnings")))


def predictions(
    data: Data,
    split: Split,
    prediction: np.ndarray,
    doubts: Mapping[str, np.ndarray],
    bands: Mapping[str, np.ndarray],
) -> pd.DataFrame:
    """A row an item: id, prediction and its intervals as label and as count, what speaks for an error, truth, and the
    ids of its first neighbours as JSON."""
    items, names, neighbours = data.store.items, split.target.names, data.nearest
    columns = {"item_id": items.item_id[split.rows]}
    counts = split.target.inverse(prediction)
    for t, name in enumerate(names):
        suffix = f"_{name}" if len(names) > 1 else ""
        columns[f"prediction{suffix}"] = prediction[:, t]
        if split.target.of_counts:
            columns[f"prediction_count{suffix}"] = counts[:, t]
        for band, values in bands.items():
            columns[f"{band}{suffix}"] = values[:, t]
            if split.target.of_counts:
                columns[f"{band}_count{suffix}"] = split.target.inverse(values[:, t])
        columns |= {f"{doubt}{suffix}": values[:, t] for doubt, values in doubts.items()}
        columns[f"truth{suffix}"] = split.label[:, t]
        columns[f"truth_count{suffix}"] = items.popularity[split.rows, t]
    ids = np.full((len(split), 0), -1) if neighbours is None else neighbours.ids[split.rows, : data.k]
    columns["neighbours"] = [json.dumps(items.item_id[row[row >= 0]].tolist(), ensure_ascii=False) for row in ids]
    return pd.DataFrame(columns)


def draw(
    run: Run, split: Split, prediction: np.ndarray, doubts: Mapping[str, np.ndarray], title: str
) -> dict[str, plt.Figure]:
    """Name of the file -> picture."""
    pictures = {}
    for t, name in enumerate(split.target.names):
        axis = f"log2({name} + {split.target.offset:g})" if split.target.of_counts else name
        suffix = f"_{name}" if len(split.target.names) > 1 else ""
        predicted, true = prediction[:, t], split.label[:, t]
        pictures[f"predicted_against_true{suffix}.png"] = draw_predictions(predicted, true, axis, title)
        if doubts:
            said = {DOUBTS[doubt]: values[:, t] for doubt, values in doubts.items()}
            pictures[f"error_over_doubt{suffix}.png"] = draw_doubts(said, predicted - true, axis, title)
        pictures[f"error_over_popularity{suffix}.png"] = draw_errors(predicted, true, axis, title)
    path = run.folder / HISTORY
    if not is_whole(path):
        print(f"warning: {path}: damaged, so that there is no picture of the training", file=sys.stderr)
    elif history := run.history():
        metric = "+".join(run.config["settings"].get("metric", ("RMSE",)))
        pictures["training.png"] = draw_training(history, metric)
    return pictures
