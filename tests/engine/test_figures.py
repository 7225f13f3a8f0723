"""Pictures of a run: scales that show something, units, and the same bits as SVG every time."""

from __future__ import annotations

import numpy as np
import pytest

from engine.figures import MOST_DRAWN, as_svg, draw_errors, draw_predictions, draw_training, plt, save

AXIS = "log2(loops + 1)"


def history(values) -> list[dict]:
    best = int(np.nanargmin(values)) + 1
    records = [{"epoch": i + 1, "train_loss": float(v), "best_epoch": best, "valid": {}} for i, v in enumerate(values)]
    return [record | {"valid": {"nMSE": None if np.isnan(record["train_loss"]) else 1.0}} for record in records]


@pytest.mark.parametrize(
    ("values", "top", "said"),
    [
        ([40, 1.5, 1.4, 1.3, 1.25, 1.2, 1.2], 1.5, "off the scale: epoch 1: 40"),
        ([900, 40, 30, 1.5, 1.4, *[1.3] * 6, *[1.2] * 7], 1.5, "epoch 1: 900, 2: 40 and 1 more"),
        ([3, 2.5, 2, 1.6, 1.4, 1.3, 1.2], 3, None),  # a curve, of which nothing is far
        ([40, 1, 1, 1, 1, 1, 1], 40, None),  # nothing else to be seen
        ([40, 1.2, 1.1], 40, None),
        ([float("nan"), 1.5, 1.4, 1.3, 1.25, 1.2], 1.5, None),
    ],
)
def test_a_first_epoch_far_off_leaves_the_others_to_be_seen(tmp_path, values, top, said):
    figure = draw_training(history(values), "nMSE")
    axes = figure.axes[0]
    assert top <= axes.get_ylim()[1] <= 1.1 * top
    assert any(said in text.get_text() for text in axes.texts) if said else not axes.texts
    save(figure, tmp_path / "training.png")


def test_both_axes_of_the_errors_have_a_unit():
    truth = np.linspace(0, 10, 50)
    axes = draw_errors(truth + 1, truth, AXIS, "t").axes[0]
    assert AXIS in axes.get_xlabel() and AXIS in axes.get_ylabel() and "1: twice as many" in axes.get_ylabel()
    assert draw_errors(truth + 1, truth, "rating", "t").axes[0].get_ylabel() == "predicted - true rating"
    plt.close("all")


def test_svg_is_lines_and_texts_and_the_same_every_time(tmp_path):
    rng, made = np.random.default_rng(0), []
    truth = rng.normal(8, 2, 4 * MOST_DRAWN)
    for _ in range(2):
        figure = draw_predictions(truth + 1, truth, AXIS, "数据 <b> & $x$")
        save(figure, tmp_path / "p.png")
        made.append(as_svg(figure))
    assert made[0] == made[1] and len(made[0]) < 200_000 and made[0].count("<image") == 1  # points as one picture
    assert "predicted log2(loops + 1)" in made[0] and "数据 &lt;b&gt; &amp; $x$" in made[0]
