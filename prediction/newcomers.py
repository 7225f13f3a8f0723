"""test.py for videos of no data set: a table, a folder or a single video -> predictions.csv."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common.cells import write_table
from common.console import InputError, listed
from common.files import require_writable, write_json
from common.lock import locked
from dataloader.importing.newcomers import Newcomers, already_there, one_video, read_newcomers, unused_id
from dataloader.importing.settings import TableSettings
from dataloader.importing.video_files import VIDEO_SUFFIXES
from dataloader.items import Items
from dataloader.skipped import lost_items
from dataloader.store import FeatureStore
from engine.difficulty import doubts_of
from engine.evaluation import Judged, evaluate, predictions
from engine.intervals import Intervals
from feature_engineering.jobs.likewise import OtherWork
from feature_engineering.jobs.origins import needs_videos
from feature_engineering.settings import DecodingSettings, FrameSettings
from prediction.predictor import BATCH_SIZE, Predicted, Predictor, contributions
from prediction.report import write_report

ITEMS = "items"  # in the folder of the output: the new videos and their features, as a data set of their own
FIRST = 10  # videos whose predictions are printed
FILE, RECORD = "predictions.csv", "prediction.json"


@dataclass(frozen=True)
class Asked:
    """What is known of the new videos: a table, or a title, or files alone; and ready features by name."""

    table: Path | None = None
    text: str | None = None
    videos: Path | None = None
    frames: Path | None = None
    features: Mapping[str, str] = field(default_factory=dict)
    horizon: float | None = None
    sheet: str | None = None
    encoding: str | None = None


def predict_newcomers(
    predictor: Predictor,
    asked: Asked,
    output: Path,
    decoding: DecodingSettings,
    command: list[str],
    *,
    seed: int = 0,
    with_page: bool = False,
) -> Path:
    """Write <output>/predictions.csv, a line for every video that was asked about; what is there already is gone on
    with. command: what repeats it. seed: of the bootstrap, where counts are known. with_page: report.html too."""
    require_writable(output)
    found, frames = gathered(predictor.store, asked)
    found, there = without_known(predictor.store, found)
    reasons = [*found.left_out, *there.items()]
    if not len(found.items):
        raise InputError(f"nothing is left to predict: {listed(f'{item}: {why}' for item, why in reasons)}")
    folder = output / ITEMS
    if asked.table is None and asked.text is None and not needs_videos(predictor.store, predictor.names):
        raise InputError("--videos: the run looks at no frames, nor listens; --table or --text says what it looks at")
    with locked(output):
        try:
            new = predictor.encode(found, folder, frames, decoding, asked.features)
        except OtherWork as error:
            where = (
                f"--output {output}: predictions of other videos, or of another table, are there; name another folder"
            )
            raise InputError(f"{where} ({error})") from None
        reasons += lost_items(folder).items()
        result = predictor.predict(new)
        measured, table = metrics(result, seed), table_of(result)
        if measured:
            write_json(output / "metrics.json", measured)
        path, lines = output / FILE, for_reading(result, table)
        lines = pd.concat([lines.assign(reason=""), pd.DataFrame(reasons, columns=["item_id", "reason"])])
        write_table(path, lines, "%.12g")
        store, run = predictor.store, predictor.run
        said = {"command": command, "run": str(run.folder.resolve())}
        said |= {"data": {"folder": str(store.folder.resolve()), "fingerprint": store.fingerprint}}
        write_json(output / RECORD, said | {"predicted": len(new), "not_predicted": len(reasons)})
        say(lines, path, reasons)
        if with_page:
            title = f"{predictor.settings['model_id']} on {len(new)} new video{'s' * (len(new) != 1)}"
            split = result.data.splits["predict"]
            judged = Judged(output, run.folder.name, title, result.data, split, table, measured, {})
            left_out = [f"not predicted: {item}: {why}" for item, why in reasons]
            print(f"{write_report(judged, left_out, [new.folder])}: a page of it, which opens in any browser")
    return path


def gathered(store: FeatureStore, asked: Asked) -> tuple[Newcomers, FrameSettings]:
    """The new videos, and where their frames come from."""
    label_dim, videos = store.items.label_dim, asked.videos
    if asked.table:
        reading = TableSettings(sheet=asked.sheet, encoding=asked.encoding, on_error="skip", keep="first")
        found = read_newcomers(store, asked.table, reading, "predict", asked.horizon)
        return found, FrameSettings(videos=videos, frames=asked.frames)
    if videos and videos.is_dir():
        if asked.text is not None:
            raise InputError(f"--text is of one video, and --videos {videos} is a folder; --table has a title for each")
        files = sorted(path for path in videos.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
        if not files:
            raise InputError(f"--videos {videos}: no video in it ({', '.join(VIDEO_SUFFIXES)})")
        stems = {path.stem: path.name for path in files}
        # Two files of one name are told apart by their suffixes.
        names = stems if len(stems) == len(files) else {path.name: path.name for path in files}
        single = [one_video("", item_id, None, label_dim).items for item_id in names]
        columns = ("item_id", "text", "popularity", "label", "split")
        items = Items(*(np.concatenate([getattr(one, name) for one in single]) for name in columns))
        return Newcomers(items, None, dict(names), [], items.item_id), FrameSettings(videos=videos)
    if videos:
        if not videos.is_file():
            raise InputError(f"--videos {videos}: no such file or folder")
        return one_video(asked.text or "", videos.stem, videos.name, label_dim), FrameSettings(videos=videos.parent)
    if asked.text is None:
        raise InputError("--table, --videos or --text says which videos are to be predicted")
    return one_video(asked.text, unused_id(store.items), None, label_dim), FrameSettings(frames=asked.frames)


def without_known(store: FeatureStore, found: Newcomers) -> tuple[Newcomers, dict[str, str]]:
    """Those that are not in the data set: the others might be their own nearest neighbours, label and all."""
    there = already_there(store, found.items)
    if not there:
        return found, {}
    new = np.array([item_id not in there for item_id in found.items.item_id])
    split = {item_id: store.items.split[row] for item_id, row in there.items()}
    why = {
        item_id: "is in the data set already"
        + (f": test.py --split {one} predicts it" if one in ("valid", "test", "predict") else ", and its count known")
        for item_id, one in split.items()
    }
    return found.take(new), why


def table_of(result: Predicted) -> pd.DataFrame:
    """A row a video: what is predicted, what speaks for an error, and what each part of the video changed."""
    data, items = result.data, result.data.splits["predict"]
    intervals = Intervals.load(result.run.folder)
    bands = intervals.of(result.prediction, data, items) if intervals is not None else {}
    table = predictions(data, items, result.prediction.mean, doubts_of(data, items, result.prediction), bands)
    table.insert(1, "text", items.text)
    for part, values in result.changed_by.items():
        for t, name in enumerate(items.target.names):
            suffix = f"_{name}" if len(items.target.names) > 1 else ""
            table.insert(table.columns.get_loc("neighbours"), f"changed_by_{part}{suffix}", values[:, t])
    return table


def for_reading(result: Predicted, table: pd.DataFrame) -> pd.DataFrame:
    """The same with whole counts, without what is unknown of all, and with what each neighbour weighs and has."""
    lines = table.copy()
    for column in [name for name in lines.columns if "count" in name]:
        lines[column] = lines[column].round().astype("Int64")
    lines = lines.dropna(axis=1, how="all")  # truths, where none is known
    bank, (ids, similarity, weight) = result.data.store.items, contributions(result.data)
    known = np.where(np.isnan(bank.popularity), bank.label, bank.popularity)  # (N, label_dim)
    said = []
    for near, alike, share in zip(ids, similarity, weight, strict=True):
        of_one = []
        for row, a, w in zip(near, alike, share, strict=True):
            if row >= 0:
                one = {"id": bank.item_id[row], "similarity": round(float(a), 4), "weight": round(float(w), 4)}
                of_one.append(one | {"contribution": plain(w * bank.label[row]), "count": plain(known[row])})
        said.append(json.dumps(of_one, ensure_ascii=False))
    return lines.assign(neighbours=said)


def plain(values: np.ndarray) -> Any:
    """(label_dim,) counts or labels, whole where they are: one, or a list of several."""
    numbers = [int(value) if float(value).is_integer() else round(float(value), 4) for value in values]
    return numbers[0] if len(numbers) == 1 else numbers


def metrics(result: Predicted, seed: int) -> dict | None:
    """How far off the predictions are, where counts of the new videos are known."""
    items = result.data.splits["predict"]
    known = np.flatnonzero(np.isfinite(items.label).all(axis=1))
    if not len(known):
        return None
    sample, mean = items.sample(known), result.prediction.mean[known]
    measured = evaluate(result.data.store, sample, mean, "predict", BATCH_SIZE, seed)
    shown = "  ".join(f"{name} {one['value']:.4f}" for name, one in measured["metrics"].items())
    print(f"{len(known)} of the videos have a count: {shown}")
    return measured


def say(lines: pd.DataFrame, path: Path, reasons: Sequence[tuple[str, str]]) -> None:
    """The first ones, as counts where labels are of counts, with their narrower intervals."""
    done = lines[lines["reason"] == ""]
    of_counts = any(name.startswith("prediction_count") for name in lines)
    columns = [name for name in lines if name.startswith("prediction_count" if of_counts else "prediction")]
    for _, row in done.head(FIRST).iterrows():
        numbers = ", ".join(in_digits(row, name) for name in columns)
        print(f"  {row['item_id']}  {numbers}  {row['text'][:60]}")
    print(f"{len(done)} predictions in {path}")
    if reasons:
        sys.stdout.flush()
        shown = listed(f"{item}: {why}" for item, why in reasons)
        print(f"warning: {len(reasons)} could not be predicted ({shown})", file=sys.stderr)


def in_digits(row: pd.Series, column: str) -> str:
    """A prediction and its narrower interval."""
    form = "{:,}" if "count" in column else "{:.4g}"
    target = column.removeprefix("prediction")
    count, suffix = ("_count", target.removeprefix("_count")) if target.startswith("_count") else ("", target)
    ends = [f"{side}_80{count}{suffix}" for side in ("lower", "upper")]
    if any(end not in row.index for end in ends):
        return form.format(row[column])
    low, high = (form.format(row[end]) for end in ends)
    return f"{form.format(row[column])} (80 %: {low} to {high})"
