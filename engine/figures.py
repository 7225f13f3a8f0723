"""The pictures of a run and of a comparison."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import spearmanr

from common.files import written_beside
from common.fonts import legible
from engine.bootstrap import Interval
from engine.metrics import METRICS

matplotlib.rcParams["text.parse_math"] = False  # a $ in a name is a $
SHOWN_EFFECTS = 25  # features
BINS = 10  # of the error's course over popularity, with equally many videos each
MOST_DRAWN = 1500  # points of a scatter that are drawn one by one in a picture of lines (SVG); more become pixels
FAR = 3  # times the spread of most epochs' values, beyond which a value is far from them
FLAT = 4  # how many times as high a scale must be with those that are far off as without, to leave them out of it


def draw_predictions(prediction: np.ndarray, truth: np.ndarray, name: str, title: str) -> plt.Figure:
    """Predicted against true labels of one target, (n,) both; darker where many videos lie."""
    figure, axes = plt.subplots(figsize=(5.5, 5))
    low, high = min(truth.min(), prediction.min()), max(truth.max(), prediction.max())
    margin = 0.03 * (high - low) or 1.0
    axes.plot([low, high], [low, high], color="0.6", linewidth=1, zorder=1, label="perfect prediction")
    points = {"linewidths": 0, "rasterized": len(truth) > MOST_DRAWN}
    axes.scatter(truth, prediction, s=9, alpha=min(1.0, 250 / len(truth)), zorder=2, **points)
    axes.axhline(truth.mean(), color="C1", linestyle=":", linewidth=1, label="mean of the truth")
    axes.set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin), aspect="equal")
    axes.set(xlabel=f"true {name}", ylabel=f"predicted {name}", title=title)
    axes.legend(loc="upper left", fontsize=8)
    return figure


def draw_errors(prediction: np.ndarray, truth: np.ndarray, name: str, title: str) -> plt.Figure:
    """Error over popularity: mean and spread of prediction - truth in bins of equally many videos.

    name: of the label, with its unit, which is that of both axes.
    """
    order = np.argsort(truth, kind="stable")
    bins = [part for part in np.array_split(order, min(BINS, len(order))) if len(part)]
    centre = [truth[part].mean() for part in bins]
    error = [prediction[part] - truth[part] for part in bins]
    figure, axes = plt.subplots(figsize=(6.5, 4))
    points = {"linewidths": 0, "rasterized": len(truth) > MOST_DRAWN}
    axes.scatter(truth, prediction - truth, s=7, alpha=min(0.5, 150 / len(truth)), color="0.5", **points)
    mean, spread = [e.mean() for e in error], [e.std() for e in error]
    axes.errorbar(
        centre, mean, yerr=spread, marker="o", capsize=3, label=f"mean and standard deviation by {len(bins)}ths"
    )
    axes.axhline(0, color="0.6", linewidth=1)
    twice = "\n(1: twice as many, -1: half as many)" if name.startswith("log2(") else ""
    axes.set(xlabel=f"true {name}", ylabel=f"predicted - true {name}{twice}", title=title)
    axes.legend(fontsize=8)
    return figure


def draw_doubts(doubts: Mapping[str, np.ndarray], error: np.ndarray, name: str, title: str) -> plt.Figure:
    """Whether errors (n,) go with what is known before: a panel each, root mean squared error in equal bins."""
    figure, panels = plt.subplots(1, len(doubts), figsize=(4.6 * len(doubts), 3.8), sharey=True, squeeze=False)
    for axes, (what, values) in zip(panels[0], doubts.items(), strict=True):
        known = np.flatnonzero(np.isfinite(values))
        order = known[np.argsort(values[known], kind="stable")]
        bins = [part for part in np.array_split(order, min(BINS, max(1, len(order)))) if len(part)]
        points = {"linewidths": 0, "rasterized": len(error) > MOST_DRAWN}
        axes.scatter(values, np.abs(error), s=7, alpha=min(0.5, 150 / len(error)), color="0.6", **points)
        rmse = [np.sqrt(np.mean(error[part] ** 2)) for part in bins]
        axes.plot([values[part].mean() for part in bins], rmse, marker="o", label=f"RMSE by {len(bins)}ths")
        varies = len(known) > 2 and np.ptp(values[known]) > 0 and np.ptp(error[known]) > 0
        rank = spearmanr(values[known], np.abs(error[known])).statistic if varies else np.nan
        axes.set(xlabel=f"{what},\nin units of {name}", title=f"rank correlation with the error {rank:.2f}")
        axes.legend(fontsize=8)
    panels[0][0].set(ylabel=f"|predicted - true| {name}")
    figure.suptitle(title, fontsize=10)
    return figure


def draw_training(history: list[dict], metric: str) -> plt.Figure:
    """Training loss, the validation metrics, and the epoch that was kept; a scale that shows most epochs."""
    epochs = [record["epoch"] for record in history]
    best = history[-1]["best_epoch"]
    names = ["train_loss", *history[0]["valid"]]
    columns = min(4, len(names))
    lines = -(-len(names) // columns)
    figure, grid = plt.subplots(lines, columns, figsize=(3.2 * columns, 3 * lines), squeeze=False)
    panels = grid.ravel()
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    for axes, name in zip(panels, names, strict=False):
        values = [record[name] if name == "train_loss" else record["valid"][name] for record in history]
        values = np.array([np.nan if value is None else value for value in values], float)
        axes.plot(epochs, values, marker="." if len(epochs) < 60 else None, markersize=3)
        show_most(axes, np.array(epochs), values)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.axvline(best, color="C1", linestyle=":", linewidth=1, label=f"epoch {best} kept ({metric})")
        axes.set(title="train loss" if name == "train_loss" else f"valid {name}", xlabel="epoch")
    panels[0].legend(fontsize=7)
    return figure


def show_most(axes: plt.Axes, epochs: np.ndarray, values: np.ndarray) -> None:
    """Where a few values, as of the first epoch, lie so far off that the others would be a flat line: leave them out of
    the scale, and say so."""
    known = np.isfinite(values)
    if known.sum() < 5:
        return
    low, high = np.quantile(values[known], [0.2, 0.8])
    reach = FAR * (high - low)
    near = known & (values >= low - reach) & (values <= high + reach)
    far = np.flatnonzero(known & ~near)
    if not len(far) or not 0 < np.ptp(values[near]) < np.ptp(values[known]) / FLAT:
        return
    margin = 0.08 * np.ptp(values[near])
    axes.set_ylim(values[near].min() - margin, values[near].max() + margin)
    said = ", ".join(f"{epochs[i]}: {values[i]:.3g}" for i in far[:2]) + (f" and {len(far) - 2} more" * (len(far) > 2))
    axes.text(0.98, 0.98, f"off the scale: epoch {said}", transform=axes.transAxes, ha="right", va="top", fontsize=7)


def draw_effects(effects: list[tuple[str, float]], title: str) -> plt.Figure:
    """The features that change a prediction most, largest first; effects in per cent."""
    shown = effects[:SHOWN_EFFECTS][::-1]
    figure, axes = plt.subplots(figsize=(7, 0.26 * len(shown) + 1.1))
    axes.barh([name[:60] for name, _ in shown], [effect for _, effect in shown])
    axes.set(xlabel="share of the change in the prediction, %", title=title)
    axes.tick_params(labelsize=8)
    return figure


def draw_rows(
    rows: list[str], panels: dict[str, list[tuple[Interval, list[float] | None]]], title: str, drawn: str
) -> plt.Figure:
    """A line a row and a panel a metric: its 95 % interval, and a tick a seed; the first row is the reference.

    A row that is not trained has None for its seeds, and is grey.
    """
    figure, columns = plt.subplots(
        1, len(panels), figsize=(2.2 + 3.1 * len(panels), 1.5 + 0.33 * len(rows)), sharey=True, squeeze=False
    )
    for axes, (metric, values) in zip(columns[0], panels.items(), strict=True):
        for y, (interval, seeds) in enumerate(values):
            if not np.isfinite(interval.value):
                continue
            colour = "0.45" if seeds is None else "C0"
            axes.plot([interval.low, interval.high], [y, y], color=colour, linewidth=1.6, alpha=0.6)
            axes.plot(interval.value, y, "o", color=colour, markersize=6)
            if seeds is not None and len(set(seeds)) > 1:
                axes.plot(seeds, [y + 0.24] * len(seeds), "|", color="0.35", markersize=5)
        if np.isfinite(values[0][0].value):
            axes.axvline(values[0][0].value, color="C1", linestyle=":", linewidth=1, zorder=0)
        axes.set(xlabel=f"{metric} ({'larger' if METRICS[metric].larger_is_better else 'smaller'} is better)")
        axes.grid(axis="x", color="0.92")
        axes.set_axisbelow(True)
    columns[0][0].set(yticks=range(len(rows)), yticklabels=rows, ylim=(len(rows) - 0.5, -0.5))
    subtitle = f"points: mean over seeds, ticks: seeds; lines: 95 % bootstrap over test {drawn}, each row by itself"
    figure.suptitle(f"{title}\n{subtitle}", fontsize=9)
    return figure


def draw_sweeps(sweeps: dict[str, dict], title: str) -> plt.Figure:
    """A column a sweep, a row a metric: the mean over seeds with its standard deviation, a dot a seed.

    sweeps: axis label -> {"values": [...], "kept": the reference's value, "metrics": {metric: seeds' values, each}}
    """
    metrics = list(next(iter(sweeps.values()))["metrics"])
    shape = (len(metrics), len(sweeps))
    size = (1 + 2.7 * shape[1], 0.7 + 1.9 * shape[0])
    figure, grid = plt.subplots(*shape, figsize=size, sharex="col", sharey="row", squeeze=False)
    for j, (label, sweep) in enumerate(sweeps.items()):
        x = np.arange(len(sweep["values"]))
        for i, metric in enumerate(metrics):
            axes, seeds = grid[i, j], sweep["metrics"][metric]
            mean = np.array([np.mean(one) if one else np.nan for one in seeds])
            spread = np.array([np.std(one, ddof=1) if len(one) > 1 else 0 for one in seeds])
            axes.fill_between(x, mean - spread, mean + spread, color="C0", alpha=0.18, linewidth=0)
            axes.plot(x, mean, marker="o", markersize=4)
            for at, one in enumerate(seeds):
                axes.plot([at] * len(one), one, ".", color="0.35", markersize=3)
            axes.axvline(sweep["values"].index(sweep["kept"]), color="C1", linestyle=":", linewidth=1)
            axes.set_xticks(x, [f"{value:g}" for value in sweep["values"]])
            axes.set(xlabel=label if i == len(metrics) - 1 else "", ylabel=metric if j == 0 else "")
            axes.set_xlim(-0.4, max(len(x) - 0.6, 0.4))
    subtitle = "lines: mean over seeds, bands: standard deviation, dots: seeds, dotted: the reference's value"
    figure.suptitle(f"{title}\n{subtitle}", fontsize=9)
    return figure


def save(figure: plt.Figure, path: Path, made: str = "") -> None:
    """Write a picture and close it; `made`, what made it, stands in the file's own description."""
    legible(figure)
    figure.tight_layout()
    with written_beside(path) as partial:
        figure.savefig(partial, dpi=120, format="png", metadata={"Description": made} if made else None)
    plt.close(figure)


def as_svg(figure: plt.Figure) -> str:
    """The same picture, once it is saved, as lines that stay sharp where one zooms; texts are texts."""
    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mmra"}):  # a salt: the same bits every time
        figure.savefig(file, format="svg", dpi=150, metadata={"Date": None})
    return file.getvalue()
