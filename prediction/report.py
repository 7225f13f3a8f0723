"""The page of a run that was judged on a split: what test.py --report writes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from dataloader.describing import heading
from dataloader.modalities import MODALITIES
from dataloader.thumbnails import read_thumbnails
from engine.evaluation import DOUBTS, Judged
from engine.figures import as_svg
from engine.metrics import METRICS
from prediction.page import SHOWN_NEIGHBOURS, Estimate, Measured, Neighbour, Page, Range, Video, write_page

REPORT = "report.html"
CHANGED = "changed_by_"  # a column of what a part of a video changed in its prediction
LOWER = re.compile(r"lower_(\d+)")  # of an interval that holds the truth for so many per cent of videos


def write_report(judged: Judged, lines: Sequence[str] = (), beside: Sequence[Path] = ()) -> Path:
    """Write report.html beside predictions.csv.

    lines: what else is to be said over it all. beside: folders of further data sets that have pictures of its videos.
    """
    return write_page(judged.folder / REPORT, page_of(judged, lines, beside))


def page_of(judged: Judged, more: Sequence[str] = (), beside: Sequence[Path] = ()) -> Page:
    store, report, split = judged.data.store, judged.report or {}, judged.split
    near = neighbours_of(judged)
    videos = tuple(
        Video(items_id, text, estimates, near[i], tuple(notes_of(judged, i)))
        for i, (items_id, text, estimates) in enumerate(
            zip(store.items.item_id[split.rows], store.items.text[split.rows], estimates_of(judged), strict=True)
        )
    )
    shown = {video.item_id for video in videos} | {one.item_id for video in videos for one in video.neighbours}
    said = report.get("heading") or heading(store, judged.data.neighbours, metadata=judged.data.kinds is not None)
    some = f"video{'s' * (len(split) != 1)}"
    videos_of = f"new {some}, beside those of {store.dataset_id}" if beside else f"{some} of {store.dataset_id}"
    lines = [f"{len(split)} {videos_of}; run {judged.run}", said]
    lines += [*coverage_of(report), *more]
    thumbnails: dict[str, bytes] = {}
    for folder in (store.folder, *beside):
        thumbnails |= read_thumbnails(folder, shown)
    return Page(
        title=judged.title,
        targets=split.target.names,
        unit=split.target.in_words(),
        videos=videos,
        lines=lines,
        warnings=report.get("warnings", []),
        metrics=list(metrics_of(report)),
        pictures={name.removesuffix(".png"): as_svg(figure) for name, figure in judged.pictures.items()},
        thumbnails=thumbnails,
    )


def metrics_of(report: dict) -> Iterator[Measured]:
    for target, measured in (report.get("targets") or {"": report.get("metrics", {})}).items():
        for name, one in measured.items():
            better = METRICS[name].larger_is_better
            yield Measured(name, one["value"], one["low"], one["high"], better, target)


def estimates_of(judged: Judged) -> list[tuple[Estimate, ...]]:
    """Of each video of the split, one estimate a target: from the columns of predictions.csv."""
    table, target = judged.table, judged.split.target
    each = []
    for name in target.names:
        suffix = f"_{name}" if len(target.names) > 1 else ""
        label, true_label, true_count = (table[f"{what}{suffix}"] for what in ("prediction", "truth", "truth_count"))
        count = target.inverse(label) if target.of_counts else [None] * len(table)
        levels = [int(found[1]) for column in table if (found := LOWER.fullmatch(column.removesuffix(suffix)))]
        bounds = {
            level: [target.inverse(table[f"{side}_{level}{suffix}"]) for side in ("lower", "upper")]
            for level in sorted(levels)
        }
        each.append(
            [
                Estimate(
                    float(label[i]),
                    None if count[i] is None else float(count[i]),
                    tuple(Range(level, float(low[i]), float(high[i])) for level, (low, high) in bounds.items()),
                    known(true_label[i]),
                    known(true_count[i]) if target.of_counts else None,
                )
                for i in range(len(table))
            ]
        )
    return list(zip(*each, strict=True))


def neighbours_of(judged: Judged) -> list[tuple[Neighbour, ...]]:
    """Of each video of the split the nearest ones; none of a method that does not retrieve."""
    data, rows = judged.data, judged.split.rows
    items, nearest = data.store.items, data.nearest
    if nearest is None:
        return [()] * len(rows)
    _, weight = nearest.weights(rows, data.k, data.temperature)  # (n, k)
    shown = min(SHOWN_NEIGHBOURS, weight.shape[1])
    counts = items.popularity if judged.split.target.of_counts else items.label
    return [
        tuple(
            Neighbour(
                items.item_id[other],
                items.text[other],
                float(nearest.similarity[row, k]),
                float(weight[i, k]),
                tuple(known(value) for value in counts[other]),
            )
            for k, other in enumerate(nearest.ids[row, :shown])
            if other >= 0
        )
        for i, row in enumerate(rows)
    ]


def notes_of(judged: Judged, i: int) -> Iterator[str]:
    """What speaks for an error of video i."""
    names, unit = judged.split.target.names, judged.split.target.in_words()
    for doubt, words in DOUBTS.items():
        for name in names:
            column = f"{doubt}_{name}" if len(names) > 1 else doubt
            if column in judged.table and np.isfinite(value := judged.table[column][i]):
                of = f" of {name}" if len(names) > 1 else ""
                yield f"{words}{of}: {value:.2f}, as {unit}"
    for column in judged.table:
        if column.startswith(CHANGED) and np.isfinite(value := judged.table[column][i]):
            part, _, of = column.removeprefix(CHANGED).partition("_")
            what = f"{part} features" if part in MODALITIES else part
            yield f"its {what} changed the prediction{f' of {of}' * bool(of)} by {value:+.2f}, as {unit}"


def known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def coverage_of(report: dict) -> Iterator[str]:
    """How many of these videos the intervals hold, where there are any."""
    targets = report.get("intervals", {}).get("targets", {})
    for name, levels in targets.items():
        of = f"{name}: " if len(targets) > 1 else ""
        for level, found in levels.items():
            yield f"{of}intervals of {level} % hold {100 * found['coverage']:.1f} % of these videos"
