"""Make the figures of nus_vine_10k.md anew from the release: the data sets, the search on split valid, the tables.

--part data      the data set, <work>/data/NUS
--part vectors   the search for the weights of the retrieval vectors, by the neighbours' softmax labels
--part preset    the search for the settings of MMRA's preset `recommended`, with the vectors of --part data
--part tables    each method with creators apart, on the published split and by time

Both searches look at split valid alone, of the published split and of the five folds by creator, and rank by the mean
of the two nMSE. They end with a table, and write it to <work>/vectors.csv and <work>/preset.csv. Everything goes on
where it was stopped. On two cores data take a minute, vectors and preset half an hour each, tables an hour and a half.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from common.console import InputError, Parser, run_script, whole_number
from dataloader.description import FILE, Description

ROOT = Path(__file__).resolve().parents[2]
APART = ("--folds", "5", "--folds_by", "creator")
# (visual_weight, lexical_weight) of retrieval_engineering.py: the words first, then the frame beside the best of them
VECTORS = [(0.2, 0.0), (0.2, 0.5), (0.2, 0.7), (0.2, 1.0), (0.2, 1.4), (0.2, 2.0)]
VECTORS += [(0.0, 1.0), (0.1, 1.0), (0.3, 1.0), (0.4, 1.0)]
RECOMMENDED = "MMRA recommended=MMRA --preset recommended"
# what is varied around it, a setting at a time but for K and temperature, which belong together
VARIED = [
    *(f"--num_of_retrieved_items {k} --similarity_temperature {t}" for k, t in ((20, 0.08), (20, 0.15), (50, 0.15))),
    "--lr 3e-3",
]


def build_parser() -> Parser:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--raw", type=Path, required=True, help="folder of the release")
    parser.add_argument("--encoder", required=True, help="all-MiniLM-L6-v2: hub name or folder")
    parser.add_argument("--work", type=Path, default="nus_vine_10k", help="folder for data sets and results")
    parser.add_argument("--part", required=True, choices=("data", "vectors", "preset", "tables"), help="what to make")
    parser.add_argument("--jobs", type=whole_number(1), default=2, help="trainings at a time")
    return parser


def main(args) -> None:
    making = Making(args.raw, args.encoder, args.work, args.jobs)
    parts = {"data": making.data, "vectors": making.vectors, "preset": making.preset, "tables": making.tables}
    parts[args.part]()


@dataclass(frozen=True)
class Making:
    """Where the release and the encoder are, and where the data sets and results go."""

    raw: Path
    encoder: str
    work: Path
    jobs: int

    def data(self) -> None:
        if not (self.work / "data" / "NUS" / "neighbours.npz").exists():
            self.make_features()
            self.make_neighbours()

    def make_features(self, name: str = "data") -> None:
        where = self.place(name)
        python("data/NUS/preprocess.py", "--raw", self.raw, *where, "--overwrite")
        encoder = ("--encoder", self.encoder, "--normalise", "standard+l2", "--overwrite")
        python("feature_engineering/textual_engineering.py", *where, *encoder)

    def make_neighbours(self, *weights, name: str = "data") -> None:
        where = self.place(name)
        python("feature_engineering/retrieval_engineering.py", *where, "--source", "features", "--overwrite", *weights)
        python("retriever.py", *where, "--num_of_retrieved_items", 50)

    def vectors(self) -> None:
        if not is_encoded(self.work / "data_of_vectors" / "NUS"):
            self.make_features("data_of_vectors")
        lines = []
        for visual, lexical in VECTORS:
            save = self.work / "vectors" / f"visual_{visual:g}_words_{lexical:g}"
            tables = [save / "NUS" / "table.csv", save / "NUS" / "creator_5" / "table.csv"]
            if not all(table.exists() for table in tables):
                weights = ("--visual_weight", visual, "--lexical_weight", lexical)
                self.make_neighbours(*weights, name="data_of_vectors")
                for folds in ((), APART):
                    self.compare(save, "--methods", *folds, name="data_of_vectors")
            line = {"visual_weight": visual, "lexical_weight": lexical}
            lines.append(line | found(tables, "neighbours' labels, softmax"))
        show(lines, self.work / "vectors.csv")

    def preset(self) -> None:
        rows = [RECOMMENDED, *(f"{flags.replace('--', '')}=MMRA --preset recommended {flags}" for flags in VARIED)]
        save = self.work / "preset"
        words = ["--methods", *(word for row in rows for word in ("--row", row)), "--reference", "MMRA recommended"]
        self.compare(save, *words, "--seeds", 2024)
        self.compare(save, *words, *APART)
        tables = [save / "NUS" / "table.csv", save / "NUS" / "creator_5" / "table.csv"]
        names = [row.partition("=")[0] for row in rows]
        show([{"settings": name} | found(tables, name) for name in names], self.work / "preset.csv")

    def tables(self) -> None:
        recommended = ("--row", RECOMMENDED, "--reference", "MMRA recommended")
        save = self.work / "tables"
        self.compare(save, *recommended, *APART)
        self.compare(save, *recommended)
        self.compare(save, *recommended, "--folds", 3, "--folds_by", "time")

    def place(self, name: str) -> tuple:
        return ("--dataset_path", self.work / name, "--dataset_id", "NUS")

    def compare(self, save: Path, *words, name: str = "data") -> None:
        python("baselines/compare.py", *self.place(name), "--save", save, "--jobs", self.jobs, *words)


def is_encoded(folder: Path) -> bool:
    """The release brings textual features too, so that there are any does not tell."""
    if not (folder / FILE).exists():
        return False
    textual = Description.read(folder / FILE).features.get("textual")
    return textual is not None and "encoder" in textual.made


def found(tables: list[Path], row: str) -> dict[str, float]:
    """valid nMSE of a row on the published split and in the folds, and the mean of both, which ranks."""
    published, apart = (pd.read_csv(table).set_index("row").loc[row, "valid_nMSE_mean"] for table in tables)
    return {"published": published, "creators apart": apart, "mean": (published + apart) / 2}


def show(lines: list[dict], path: Path) -> None:
    table = pd.DataFrame(lines).sort_values("mean", kind="stable")
    table.to_csv(path, index=False)
    print(f"\nnMSE on split valid ({path})\n{table.to_string(index=False, float_format='%.4f')}")


def python(script: str, *words) -> None:
    command = [sys.executable, os.path.relpath(ROOT / script), *map(str, words)]
    print(f"\n$ {shlex.join(['python', *command[1:]])}", flush=True)
    if code := subprocess.run(command).returncode:
        raise InputError(f"{script} ended with exit code {code}; the same command goes on from here")


if __name__ == "__main__":
    run_script(build_parser(), main)
