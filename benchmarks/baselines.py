"""The baselines: SVR against scikit-learn's own time on the same arrays, and the peak memory of training each method.

Memory is measured over a whole train.py of a few epochs or trees (SHORT), which is when the most is held; a full fit of
the trees takes hours at MicroLens' size, but no more memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from baselines import METHODS, recipe
from benchmarks.synthetic import random_store, report
from common.console import InputError, Parser, run_script, whole_number
from dataloader.batches import open_split
from dataloader.opening import shapes_of
from engine.recipe import RIVALS
from engine.run import Run
from engine.settings import TrainingSettings

ROOT = Path(__file__).resolve().parent.parent
SHORT = {
    "Hyfea": ("--trees", "2"),
    "MFTM": ("--trees", "2", "--epochs", "1"),
    "SVR": ("--max_train_items", "4000"),
    "RetrievalBoost": ("--trees", "2"),
}
# Not a blend, which trains others, and not what wants packages that not everyone has.
MEASURED = [name for name in METHODS if not recipe(name).blends and recipe(name).installed_by != RIVALS]
LIMIT_GB = {"Hyfea": 8.0, "MFTM": 8.0, "SVR": 8.0}  # networks: 3


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    measured = parser.add_argument_group("what is measured")
    measured.add_argument("--items", type=whole_number(100), default=19738, help="in the data set for memory")
    measured.add_argument("--frames", type=whole_number(1), default=10, help="F")
    measured.add_argument("--dim", type=whole_number(1), default=768, help="D")
    measured.add_argument("--methods", nargs="+", choices=METHODS, default=MEASURED, help="whose memory")
    measured.add_argument("--svr_items", type=whole_number(100), default=4000, help="in the data set for SVR's time")
    measured.add_argument("--repeats", type=whole_number(0), default=3, help="pairs of SVR and scikit-learn")
    return parser


def main(args) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if args.repeats:
            svr_against_scikit_learn(Path(folder), args.svr_items, args.dim, args.repeats)
        # In a process of its own: Linux would count this one's peak as its child's.
        size = {"frames": args.frames, "dim": args.dim, "k": 50}  # as many as any method takes
        making = get_context("spawn").Process(
            target=random_store, args=(Path(folder) / "random", args.items), kwargs=size
        )
        making.start()
        making.join()
        for name in args.methods:
            start = time.perf_counter()
            peak = peak_of_training(folder, name)
            seconds, limit = time.perf_counter() - start, LIMIT_GB.get(name, 3.0)
            more = {"items": args.items, "frames": args.frames, "dim": args.dim, "seconds": seconds}
            short = " ".join(SHORT.get(name, ("--epochs", "1")))
            report(name, f"GB resident, peak of train.py {short}", peak / 1e9, limit, "what it may take, GB", **more)


def svr_against_scikit_learn(folder: Path, items: int, dim: int, repeats: int) -> None:
    """In turn, so that a machine whose speed drifts slows both. Ours includes standardising and the two short fits.

    scikit-learn's is as by default, so holds 200 MB of the kernel: all of it up to --svr_items 9000, as ours does.
    """
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVR

    store = random_store(folder / "svr", items, frames=1, dim=dim, k=1)
    train, valid = open_split(store, "train"), open_split(store, "valid")
    inputs = np.concatenate([train.read("visual", slice(None))[:, 0], train.read("textual", slice(None))], axis=1)
    shapes = {"shapes": shapes_of(store), "label_dim": 1}
    pairs = []
    for _ in range(repeats):
        run = Run.create(folder / "runs", "SVR", {})
        ours = recipe("SVR").build(store.family, shapes, TrainingSettings(), torch.device("cpu"), run)
        start = time.perf_counter()
        ours._fit(train, valid)
        middle = time.perf_counter()
        SVR().fit(StandardScaler().fit_transform(inputs.astype(np.float64)), train.label[:, 0])
        pairs.append((middle - start, time.perf_counter() - middle))
    mine, theirs = np.median(pairs, axis=0)
    ratio = float(np.median([a / b for a, b in pairs]))
    size = {"train": len(train), "features": inputs.shape[1]}
    report("SVR", "seconds to fit", float(mine), float(theirs), "scikit-learn, s", ratio, **size)


def peak_of_training(folder: str, name: str) -> int:
    """Bytes: the operating system's own count of the finished process."""
    flags = ["--dataset_path", folder, "--dataset_id", "random", "--save", f"{folder}/runs", "--model_id", name]
    words = [sys.executable, "train.py", *flags, *SHORT.get(name, ("--epochs", "1"))]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise InputError(f"train.py ended with exit code {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss * 1024


if __name__ == "__main__":
    run_script(build_parser(), main)
