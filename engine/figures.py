"""The pictures that test.py draws."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from dataloader.files import written_beside

BINS = 10  # of the error's course over popularity, with equally many videos each


def draw_predictions(path: Path, prediction: np.ndarray, truth: np.ndarray, name: str, title: str) -> None:
    """Predicted against true labels of one target, (n,) both; darker where many videos lie."""
    figure, axes = plt.subplots(figsize=(5.5, 5))
    low, high = min(truth.min(), prediction.min()), max(truth.max(), prediction.max())
    margin = 0.03 * (high - low) or 1.0
    axes.plot([low, high], [low, high], color="0.6", linewidth=1, zorder=1, label="perfect prediction")
    axes.scatter(truth, prediction, s=9, alpha=min(1.0, 250 / len(truth)), linewidths=0, zorder=2)
    axes.axhline(truth.mean(), color="C1", linestyle=":", linewidth=1, label="mean of the truth")
    axes.set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin), aspect="equal")
    axes.set(xlabel=f"true {name}", ylabel=f"predicted {name}", title=title)
    axes.legend(loc="upper left", fontsize=8)
    _save(figure, path)


def draw_errors(path: Path, prediction: np.ndarray, truth: np.ndarray, name: str, title: str) -> None:
    """Error over popularity: mean and spread of prediction - truth in bins of equally many videos."""
    order = np.argsort(truth, kind="stable")
    bins = [part for part in np.array_split(order, min(BINS, len(order))) if len(part)]
    centre = [truth[part].mean() for part in bins]
    error = [prediction[part] - truth[part] for part in bins]
    figure, axes = plt.subplots(figsize=(6.5, 4))
    axes.scatter(truth, prediction - truth, s=7, alpha=min(0.5, 150 / len(truth)), color="0.5", linewidths=0)
    mean, spread = [e.mean() for e in error], [e.std() for e in error]
    axes.errorbar(
        centre, mean, yerr=spread, marker="o", capsize=3, label=f"mean and standard deviation by {len(bins)}ths"
    )
    axes.axhline(0, color="0.6", linewidth=1)
    axes.set(xlabel=f"true {name}", ylabel="predicted - true", title=title)
    axes.legend(fontsize=8)
    _save(figure, path)


def draw_training(path: Path, history: list[dict], metric: str) -> None:
    """Training loss, the validation metrics, and the epoch that was kept."""
    epochs = [record["epoch"] for record in history]
    best = history[-1]["best_epoch"]
    names = ["train_loss", *history[0]["valid"]]
    figure, rows = plt.subplots(1, len(names), figsize=(3.2 * len(names), 3))
    for axes, name in zip(rows, names, strict=True):
        values = [record[name] if name == "train_loss" else record["valid"][name] for record in history]
        axes.plot(epochs, [np.nan if value is None else value for value in values], marker=".", markersize=3)
        axes.axvline(best, color="C1", linestyle=":", linewidth=1, label=f"epoch {best} kept ({metric})")
        axes.set(title="train loss" if name == "train_loss" else f"valid {name}", xlabel="epoch")
    rows[0].legend(fontsize=7)
    _save(figure, path)


def _save(figure: plt.Figure, path: Path) -> None:
    figure.tight_layout()
    with written_beside(path) as partial:
        figure.savefig(partial, dpi=120, format="png")
    plt.close(figure)
