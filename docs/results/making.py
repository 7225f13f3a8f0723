"""What the scripts beside this one share: the two data sets made from their releases, and tables of them."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from common.console import STEP, InputError, Parser, whole_number
from dataloader.description import FILE, Description

ROOT = Path(__file__).resolve().parents[2]
APART = ("--folds", "5", "--folds_by", "creator")
RECOMMENDED = "MMRA recommended=MMRA --preset recommended"
# bilibili_8k: how its table is read, but for the split
COLUMNS = ("--id_column", "video_id", "--text_column", "title", "tags", "--count_column", "plays")
COLUMNS += ("--user_column", "creator", "--time_column", "uploaded", "--label_time_column", "measured")
COLUMNS += ("--metadata_columns", "all", "tags")
SPLITS = {"bilibili_8k": "random", "bilibili_8k_time": "time"}


def parser_of(description: str, parts: tuple[str, ...], *, nus: bool = False, bilibili: bool = False) -> Parser:
    parser = Parser(description=description)
    data, made = parser.add_argument_group("data and place"), parser.add_argument_group("what is made")
    if nus:
        data.add_argument("--raw", type=Path, required=True, help="folder of the NUS release of 10,000 Vine videos")
    if bilibili:
        data.add_argument("--table", type=Path, required=True, help="videos.csv of the 8,094 Bilibili videos")
    data.add_argument("--encoder", required=True, help="all-MiniLM-L6-v2: hub name or folder")
    data.add_argument("--work", type=Path, default="results", help="folder for data sets and results")
    made.add_argument("--part", required=True, choices=parts, help="what to make")
    made.add_argument("--jobs", type=whole_number(1), default=2, help="trainings at a time")
    return parser


@dataclass(frozen=True)
class Making:
    """Where the encoder is, and where data sets and results go. Everything goes on where it was stopped."""

    encoder: str
    work: Path
    jobs: int

    # ---- data sets -----------------------------------------------------------------------------

    def nus(self, raw: Path, dataset_id: str = "NUS", *split) -> None:
        if not (self.work / "data" / dataset_id / "neighbours.npz").exists():
            self.nus_features(raw, "data", dataset_id, *split)
            self.neighbours(dataset_id)

    def nus_features(self, raw: Path, name: str, dataset_id: str = "NUS", *split) -> None:
        where = self.place(dataset_id, name)
        python("data/NUS/preprocess.py", "--raw", raw, *where, "--overwrite", *split)
        encoder = ("--encoder", self.encoder, "--normalise", "standard+l2", "--overwrite")
        python("feature_engineering/textual_engineering.py", *where, *encoder)

    def bilibili(self, table: Path) -> None:
        for dataset_id, by in SPLITS.items():
            if not (self.work / "data" / dataset_id / "neighbours.npz").exists():
                where = self.place(dataset_id)
                split = ("--split_by", by, "--overwrite")
                python("data/import_features.py", "--table", table, *where, *COLUMNS, *split)
                encoder = ("--encoder", self.encoder, "--normalise", "standard+l2", "--overwrite")
                python("feature_engineering/textual_engineering.py", *where, *encoder)
                self.neighbours(dataset_id)

    def neighbours(self, dataset_id: str, *weights, name: str = "data") -> None:
        where = self.place(dataset_id, name)
        python("feature_engineering/retrieval_engineering.py", *where, "--source", "features", "--overwrite", *weights)
        self.search(dataset_id, name)

    def search(self, dataset_id: str, name: str = "data") -> None:
        where = self.place(dataset_id, name)
        python("retriever.py", *where, "--num_of_retrieved_items", 50, "--source", "retrieval", "textual")

    def is_encoded(self, dataset_id: str, name: str) -> bool:
        """The NUS release brings textual features too, so that there are any does not tell."""
        folder = self.work / name / dataset_id
        if not (folder / FILE).exists():
            return False
        textual = Description.read(folder / FILE).features.get("textual")
        return textual is not None and "encoder" in textual.made

    # ---- tables --------------------------------------------------------------------------------

    def place(self, dataset_id: str, name: str = "data") -> tuple:
        return ("--dataset_path", self.work / name, "--dataset_id", dataset_id)

    def compare(self, dataset_id: str, save: Path, *words, name: str = "data") -> None:
        python("baselines/compare.py", *self.place(dataset_id, name), "--save", save, "--jobs", self.jobs, *words)


def valid_nmse(table: Path, row: str) -> float:
    return pd.read_csv(table).set_index("row").loc[row, "valid_nMSE_mean"]


def show(lines: list[dict], path: Path) -> None:
    """A table of what was tried, the best mean first."""
    table = pd.DataFrame(lines).sort_values("mean", kind="stable")
    table.to_csv(path, index=False)
    print(f"\nnMSE on split valid ({path})\n{table.to_string(index=False, float_format='%.4f')}")


def python(script: str, *words) -> None:
    command = [sys.executable, os.path.relpath(ROOT / script), *map(str, words)]
    print(f"\n$ {shlex.join(['python', *command[1:]])}", flush=True)
    if code := subprocess.run(command, env=os.environ | {STEP: script}).returncode:
        raise InputError(f"{script} ended with exit code {code}; the same command goes on from here")
