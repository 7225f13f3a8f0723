"""Whether the intervals of RetrievalBoost hold what they promise: on five splits of two data sets, as they were tested
and averaged over 20 re-divisions of calibration and test.

NUS in the published split, with creators apart and by time, Bilibili in the random and in the time split. Re-divided
are the scores of a run's calibration and test items: by creators, each with all its videos, where creators are apart,
else by video. It writes <work>/intervals.csv and the table of docs/results/intervals.md; it goes on where it was
stopped, and takes ten minutes on two cores.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from making import Making, parser_of, python

from common.cells import read_table
from common.console import run_script
from dataloader.items import Items, creators
from engine.intervals import Intervals, rank

NAMES = {
    "NUS": "Vine, published",
    "NUS_user": "Vine, creators apart",
    "bilibili_8k": "Bilibili, random",
    "bilibili_8k_time": "Bilibili, by time",
    "NUS_time": "Vine, by time",
}
APART, BY_TIME = ("NUS_user",), ("bilibili_8k_time", "NUS_time")
DIVISIONS = 20
PAGE = Path(__file__).with_suffix(".md")
TABLE = "<!-- the table, by intervals.py -->"  # the table stands between two of these


def main(args) -> None:
    making = Making(args.encoder, args.work, args.jobs)
    if args.part == "data":
        making.nus(args.raw)
        making.nus(args.raw, "NUS_user", "--split_by", "user")
        making.nus(args.raw, "NUS_time", "--split_by", "time")
        making.bilibili(args.table)
        return
    lines = []
    for dataset_id in NAMES:
        run = trained(making, dataset_id)
        lines += measured(making, dataset_id, run, "")
        if dataset_id in BY_TIME:  # into a folder of its own, beside what the plain ones are
            save = making.work / "intervals" / "adaptive"
            if not (save / run.name / "metrics.json").exists():
                python("test.py", "--model_path", run, "--adaptive", "--save", save)
            lines += measured(making, dataset_id, run, "adaptive", save / run.name)
    table = pd.DataFrame(lines)
    table.to_csv(making.work / "intervals.csv", index=False)
    before, _, after = PAGE.read_text("utf-8").split(TABLE)
    PAGE.write_text(f"{before}{TABLE}\n{as_markdown(table)}\n{TABLE}{after}", "utf-8")
    print(table.to_string(index=False))


def trained(making: Making, dataset_id: str) -> Path:
    """The folder of a run that has been tested."""
    save = making.work / "intervals" / dataset_id
    if not list(save.glob("*/predictions.csv")):
        python("train.py", "--model_id", "RetrievalBoost", *making.place(dataset_id), "--save", save)
        python("test.py", "--model_path", max(save.iterdir()))
    (found,) = (path.parent for path in save.glob("*/predictions.csv"))
    return found


def measured(making: Making, dataset_id: str, run: Path, how: str, tested: Path | None = None) -> list[dict]:
    """A line a level."""
    report = json.loads(((tested or run) / "metrics.json").read_text("utf-8"))
    intervals = Intervals.load(run)
    ((_, levels),) = report["intervals"]["targets"].items()
    lines = []
    for level, found in levels.items():
        line = {"data": NAMES[dataset_id] + f", {how}" * bool(how), "level": int(level)}
        line |= {"calibration": len(intervals.scores), "test": report["n"], "coverage": 100 * found["coverage"]}
        line |= {"allowed_low": 100 * found["allowed_low"], "allowed_high": 100 * found["allowed_high"]}
        line |= {"width": found["width"], "fifths": " ".join(f"{100 * one['coverage']:.0f}" for one in found["fifths"])}
        line |= {"widths": " ".join(f"{one['width']:.1f}" for one in found["fifths"])}
        if not how:
            shares = redivided(making, dataset_id, run, intervals, int(level))
            line |= {"redivided": 100 * np.mean(shares), "deviation": 100 * np.std(shares)}
        else:
            line["told"] = report["intervals"]["adaptive"]["told"]
        lines.append(line)
    return lines


def redivided(making: Making, dataset_id: str, run: Path, intervals: Intervals, level: int) -> list[float]:
    """Coverage of DIVISIONS re-divisions into as many for calibration and for test as there are."""
    table = read_table(run / "predictions.csv", ["item_id"], ["prediction", "lower_80", "upper_80", "truth"])
    items = Items.read(making.work / "data" / dataset_id / "items.parquet")
    user = pd.Series(items.user, items.item_id)[table["item_id"]].to_numpy()
    ours = np.sort(intervals.scores[:, 0])[::-1]
    # An interval is as wide as its expected error times the score that bounds it, which leads back to the error.
    expected = (table["upper_80"] - table["lower_80"]) / 2 / ours[rank(len(ours), 80) - 1]
    theirs = ((table["truth"] - table["prediction"]).abs() / expected).to_numpy()
    pool, size = np.concatenate([intervals.scores[:, 0], theirs]), len(ours)
    group = np.arange(len(pool))
    if dataset_id in APART:
        group = np.concatenate([intervals.creator, intervals.creator.max() + 1 + creators(user)])
    shares = []
    for seed in range(DIVISIONS):
        place = np.random.default_rng(seed).permutation(group.max() + 1)[group]  # of its group, in a drawn order
        order = np.argsort(place, kind="stable")
        cut = size + int((place[order[size:]] == place[order[size - 1]]).sum())  # a creator is in one of them
        drawn, held_out = pool[order[:cut]], pool[order[cut:]]
        bound = np.sort(drawn)[::-1][rank(len(drawn), level) - 1]
        shares.append(float((held_out <= bound).mean()))
    return shares


def as_markdown(table: pd.DataFrame) -> str:
    lines = [
        "| data set | calibration, test | promised | held | allowed | re-divided | mean width | by fifths | widths |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    for line in table.itertuples():
        again = "" if np.isnan(line.redivided) else f"{line.redivided:.1f} ± {line.deviation:.1f}"
        lines.append(
            f"| {line.data} | {line.calibration}, {line.test} | {line.level} % | {line.coverage:.1f} | "
            f"{line.allowed_low:.1f} to {line.allowed_high:.1f} | {again} | {line.width:.2f} | {line.fifths} | "
            f"{line.widths} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    run_script(parser_of(__doc__.splitlines()[0], ("data", "measure"), nus=True, bilibili=True), main)
