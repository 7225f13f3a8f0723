"""Make the figures of growing.md anew: bilibili_8k week by week, by a run that takes new counts into its bank, or not.

A run is trained on what was counted by the first of December 2021. Each week's videos are predicted before any of their
counts is appended: by that run with the bank that it was trained with, by the same run with all that is counted by then
(test.py --bank grown), and by one that is trained anew each week.

Everything goes on where it was stopped. On two cores it takes some twenty minutes.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
from making import COLUMNS, Making, parser_of, python

from common.console import run_script
from common.files import read_json

START, WEEKS, DAYS = pd.Timestamp("2021-12-01"), 4, 7
METHOD, SEEDS = "RetrievalBoost", (2024, 2025, 2026)
HOW = {"frozen bank": ("once", "trained"), "growing bank": ("once", "grown"), "trained anew": ("anew", "trained")}


def main(args) -> None:
    making = Making(args.encoder, args.work / "growing", args.jobs)
    folder, where = making.work, making.place("growing")
    asked, counted = by_week(args.table, folder)
    if not (folder / "data" / "growing" / "dataset.json").exists():
        shares = ("--split_by", "time", "--shares", 85, 10, 5)
        python("data/import_features.py", "--table", folder / "start.csv", *where, *COLUMNS, *shares)
        encoder = ("--encoder", making.encoder, "--normalise", "standard+l2", "--overwrite")
        python("feature_engineering/textual_engineering.py", *where, *encoder)
        making.neighbours("growing")
    runs = {seed: {"once": trained(folder, where, "once", seed)} for seed in SEEDS}
    for week in range(1, WEEKS + 1):
        for seed in SEEDS:
            # Where nothing was counted in the week before, nothing is to be learned anew.
            news = week > 1 and counted[week - 1] is not None
            before = runs[seed].get("anew", runs[seed]["once"])
            runs[seed]["anew"] = trained(folder, where, f"anew{week}", seed) if news else before
            for name, (run, bank) in HOW.items():
                output = folder / "predictions" / f"week{week}_{seed}_{name.replace(' ', '_')}"
                if not (output / "metrics.json").exists():
                    words = ("--model_path", runs[seed][run], "--table", asked[week], "--output", output)
                    python("test.py", *words, "--bank", bank)
        if week < WEEKS and counted[week] is not None:
            python("data/import_features.py", "--append", counted[week], *where)
            making.search("growing")
    show(folder)


def by_week(table: Path, folder: Path) -> tuple[dict[int, Path], dict[int, Path | None]]:
    """Tables of the videos published in each week, and of those counted in it, None where none was; what was counted
    before is start.csv."""
    rows = pd.read_csv(table, dtype=str)
    published, counted = (pd.to_datetime(rows[name], format="mixed") for name in ("uploaded", "measured"))
    folder.mkdir(parents=True, exist_ok=True)
    rows[counted <= START].to_csv(folder / "start.csv", index=False)
    tables: tuple[dict, dict] = ({}, {})
    for week in range(1, WEEKS + 1):
        begin, end = START + pd.Timedelta(days=DAYS * (week - 1)), START + pd.Timedelta(days=DAYS * week)
        for found, times, name in zip(tables, (published, counted), ("published", "counted"), strict=True):
            # What was published before the start and is counted now was never asked for; it is learned all the same.
            chosen = rows[(times > begin) & (times <= end) & (counted > START)]
            found[week] = folder / f"{name}{week}.csv" if len(chosen) else None
            chosen.to_csv(folder / f"{name}{week}.csv", index=False)
    return tables


def trained(folder: Path, where: tuple, name: str, seed: int) -> Path:
    """The run of this name, trained if there is none that was finished."""
    place = folder / "runs" / f"{name}_{seed}"
    found = sorted(place.glob(f"{METHOD}_*/valid.json"))
    if not found:
        shutil.rmtree(place, ignore_errors=True)
        python("train.py", *where, "--model_id", METHOD, "--seed", seed, "--save", place)
        found = sorted(place.glob(f"{METHOD}_*/valid.json"))
    return found[0].parent


def show(folder: Path) -> None:
    lines = []
    for week in range(1, WEEKS + 1):
        for seed in SEEDS:
            for name in HOW:
                output = folder / "predictions" / f"week{week}_{seed}_{name.replace(' ', '_')}"
                metrics = read_json(output / "metrics.json")
                lines.append({"week": week, "seed": seed, "how": name, "videos": metrics["n"]})
                lines[-1] |= {metric: metrics["metrics"][metric]["value"] for metric in ("nMSE", "MAE", "SRC")}
    table = pd.DataFrame(lines)
    table.to_csv(folder / "growing.csv", index=False)
    mean = table.groupby(["week", "videos", "how"], sort=False)[["nMSE", "MAE", "SRC"]].agg(["mean", "std"])
    print(f"\nof {len(SEEDS)} seeds ({folder / 'growing.csv'})\n{mean.to_string(float_format='%.3f')}")


if __name__ == "__main__":
    run_script(parser_of(__doc__.splitlines()[0], ("all",), bilibili=True), main)
