"""The paper's table in one command: methods x seeds on one data set, with trivial rows and paired tests.

Every cell is a normal run of train.py and test.py; finished cells are skipped, interrupted ones continued, so the same
command goes on where it stopped. --ablation adds MMRA with parts left out and its sensitivity to K, alpha, temperature
and frames. Results are in <save>/<dataset_id>/, with --folds in its folder <by>_<N>/: table.md, .csv, .tex and .png,
significance.csv, cells.csv.
"""

from __future__ import annotations

import commands

import shlex
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from baselines import METHODS, recipe
from baselines.comparison import ablation
from baselines.comparison.cells import Cell, Row, notes
from baselines.comparison.children import Failed
from baselines.comparison.folds import check_folds
from baselines.comparison.parts import Part, parts_of, those_that_can, truth_of, users_of
from baselines.comparison.report import Report, origin_of
from baselines.comparison.results import Result, trained_result, trivial_results, write_trivial_predictions
from baselines.comparison.rows import plan_rows
from baselines.comparison.running import run_cells
from baselines.comparison.trivial import TRIVIAL
from common.cells import read_table
from common.cluster import add_engine_flag, check_engine
from common.console import InputError, Parser, listed, run_script, whole_number
from common.devices import add_device_flag, pick_device
from common.files import require_writable
from common.lock import locked
from dataloader.names import FOLDS_BY
from dataloader.neighbours import Neighbours
from dataloader.place import Lacks, add_dataset_flags, folder_of
from dataloader.store import FeatureStore


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    where, rows = parser.add_argument_group("data and place"), parser.add_argument_group("rows")
    tested = parser.add_argument_group("what they are tested on")
    add_dataset_flags(where)
    where.add_argument("--save", default="compare_results", help="folder for cells and results: <save>/<dataset_id>/")
    rows.add_argument(
        "--methods",
        nargs="*",
        default=list(METHODS),
        metavar="METHOD",
        help="rows, with their default flags; none after it and no --row: the trivial rows alone",
    )
    rows.add_argument(
        "--flags",
        action="append",
        default=[],
        metavar='"METHOD: FLAGS"',
        help='flags of train.py for the row METHOD of --methods, as in "MMRA: --feature_dim 384 --lr 1e-4"; repeatable',
    )
    rows.add_argument(
        "--row",
        action="append",
        default=[],
        metavar='"NAME=METHOD FLAGS"',
        help='one more row, with these flags alone, as in "MMRA, wide=MMRA --feature_dim 1024"; repeatable',
    )
    rows.add_argument(
        "--seeds",
        nargs="+",
        type=whole_number(0),
        default=[2024, 2025, 2026],
        help="of every row; with --folds, if not given, the first of these alone",
    )
    tested.add_argument(
        "--folds",
        type=whole_number(2),
        metavar="N",
        help="instead of the data set's own split: test N parts of it in turn, each with all that is fitted on train "
        "fitted anew; metrics are of all test items together. Each fold is a data set of its own, beside the results",
    )
    tested.add_argument(
        "--folds_by",
        choices=FOLDS_BY,
        help="creator: a creator's videos on one side (the default where creators are known); time: tested on what "
        "came after all that was trained on, the oldest block never; random (the default where they are not)",
    )
    rows.add_argument(
        "--reference",
        default="MMRA",
        metavar="ROW",
        help="the row that the others are tested against; a trivial one too",
    )
    rows.add_argument("--ablation", action="store_true", help="also ablate and vary the reference row, which is MMRA")
    where.add_argument(
        "--jobs",
        type=whole_number(1),
        default=1,
        help="cells at a time, with --engine ray on each GPU, or on a node of as many cores as the smallest; the "
        "processor's threads are divided among them",
    )
    add_engine_flag(where, "with a cell a task")
    add_device_flag(where)
    return parser


def main(args) -> None:
    typed = args.typed.get("reference")
    rows = plan_rows(args.methods, args.flags, args.row, args.seeds, typed, args.ablation)
    check_engine(args.engine, args.device)
    pick_device(args.device)
    place = folder_of(args.save, args.dataset_id)
    require_writable(place)
    store = FeatureStore.open(folder_of(args.dataset_path, args.dataset_id))
    rows, left_out = those_that_can(rows, store, typed, args.ablation)
    reference = typed or (rows[0].name if rows else args.reference)
    for warning in store.check_features(*store.modalities):
        print(f"warning: {warning}", file=sys.stderr)
    by = folds_by(args.folds, args.folds_by, store)
    seeds = args.seeds if "seeds" in args.typed or not by else args.seeds[:1]  # one seed a fold is enough
    if by:
        place = place / f"{by}_{args.folds}"
    else:
        check_splits(store)
    if args.ablation:
        keep_larger_table(place, rows)
    neighbours = Neighbours.read(store) if (store.folder / "neighbours.npz").exists() else None
    wanting = [row.name for row in rows if recipe(row.method).retrieves(row.settings)]
    if neighbours is None and wanting:
        raise InputError(
            f"row {wanting[0]}: {store.folder} has no neighbours yet (--methods and --row may name what retrieves "
            "nothing)",
            Lacks("neighbours", store.folder),
        )
    if by:
        check_folds(store, args.folds, by)
    # What ends this process from outside is then raised here, and the children are ended too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with locked(place):
            device = str(pick_device(args.device))
            parts = parts_of(store, neighbours, place, by, args.folds, args.jobs, device)
            truth = truth_of(parts)
            words = ["python", "baselines/compare.py", *sys.argv[1:]]
            origin = origin_of(store, parts[0].neighbours, len(truth), by, args.folds, seeds, shlex.join(words))
            report = Report(place, truth, store.label, users_of(parts), origin, left_out)
            comparison = Comparison(place, parts, seeds, args.jobs, args.engine, report, reference)
            failures = comparison.run(rows, args.ablation)
    except KeyboardInterrupt:
        print(f"\ninterrupted; what is finished is kept in {place}, and the same command continues", file=sys.stderr)
        sys.exit(130)
    except Failed as error:
        raise InputError(f"{place}: the folds could not be made: {error}") from None
    if failures:
        print(
            f"compare.py: {len(failures)} cell{'s' * (len(failures) > 1)} failed: {'; '.join(failures)}",
            file=sys.stderr,
        )
        sys.exit(1)


def check_splits(store: FeatureStore) -> None:
    for split in ("train", "valid", "test"):
        store.rows(split)
    if len(store.rows("test")) < 2:
        raise InputError(f"{store.folder}: one item in split test; the tests between rows need at least 2")


def folds_by(folds: int | None, by: str | None, store: FeatureStore) -> str | None:
    """What the folds are grouped by; None without --folds."""
    if not folds:
        if by:
            raise InputError("--folds_by is for --folds, which is not given")
        return None
    return by or ("creator" if "user" in store.items.origin else "random")


# ---- what the files say ------------------------------------------------------------------------


def keep_larger_table(place: Path, rows: list[Row]) -> None:
    """InputError where table.csv has rows that --ablation, beside its own files, would write over."""
    path = place / "table.csv"
    try:
        table = read_table(path, ["row", "method", "made_by"])
    except (FileNotFoundError, ValueError):  # none, or damaged
        return
    there = table[table["method"] != "trivial"]
    if lost := sorted(set(there["row"]) - {row.name for row in rows}):
        raise InputError(
            f"--ablation: {path} has rows that would be lost ({listed(lost)}); --save in another folder, or type what "
            f"made it with --ablation: {there['made_by'].iloc[0]}"
        )


# ---- the work ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    place: Path
    parts: list[Part]
    seeds: list[int]
    jobs: int
    engine: str
    report: Report
    reference: str

    def run(self, rows: list[Row], ablate: bool) -> list[str]:
        """The table, and the ablation of the first row; what failed, in words."""
        for note in (note for part in self.parts for note in notes(part.setting, rows, self.seeds)):
            print(note)
        trivial = trivial_results(self.parts)
        if self.reference in TRIVIAL and self.reference not in [result.name for result in trivial]:
            raise InputError(f"--reference {self.reference}: the data set has not what this row takes")
        write_trivial_predictions(self.place, self.parts, trivial)
        results = self.results(rows)
        # The reference comes first; where it is a row of --methods or --row it does already.
        ordered = sorted([*results, *trivial], key=lambda result: result.name != self.reference)
        print(self.report.write_comparison(ordered))
        if ablate:
            results += self.ablate(rows[0], results[0])
        failed = {(r.name, cell): reason for r in results for cell, reason in r.failed.items()}
        return [f"{name}, {cell}: {reason}" for (name, cell), reason in failed.items()]

    def results(self, rows: list[Row]) -> list[Result]:
        cells = [Cell(part.setting, row, seed) for row in rows for seed in self.seeds for part in self.parts]
        outcomes = run_cells(cells, self.jobs, self.engine)
        return [trained_result(self.parts, row, self.seeds, outcomes) for row in rows]

    def ablate(self, reference: Row, result: Result) -> list[Result]:
        if not result.cells:
            print("no ablation: its reference row has no finished run")
            return []
        first = self.parts[0]
        stored = first.neighbours.k if first.neighbours else 0
        variants, left_out = ablation.plan(reference, result.cells[0].run, first.store, stored)
        for what in left_out:
            print(f"left out of the ablation: {what}")
        rows = {variant.row.name: variant.row for variant in variants}
        results = dict(zip(rows, self.results(list(rows.values())), strict=True))
        print(self.report.write_ablation(variants, results, left_out))
        return list(results.values())


if __name__ == "__main__":
    run_script(build_parser(), main, commands.remedy)
