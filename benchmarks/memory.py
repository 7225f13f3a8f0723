"""What train.py keeps resident at its peak at the size of MicroLens-100k, against the bytes it cannot do without."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

from benchmarks.synthetic import random_store, report
from common.console import InputError, Parser, run_script, whole_number
from dataloader.names import DTYPES
from dataloader.store import FeatureStore
from model.MicroLens.MMRA import MMRA

Process = get_context("spawn").Process
ROOT = Path(__file__).resolve().parent.parent
STATE_BYTES = 16  # a parameter: weight, gradient, two moments of Adam, float32


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    measured = parser.add_argument_group("what is measured")
    measured.add_argument("--items", type=whole_number(100), default=19738, help="in the data set")
    measured.add_argument("--frames", type=whole_number(1), default=10, help="F")
    measured.add_argument("--dim", type=whole_number(1), default=768, help="D")
    measured.add_argument("--dtype", nargs="+", choices=DTYPES, default=DTYPES, help="of the stored features")
    return parser


def main(args) -> None:
    for dtype in args.dtype:
        with tempfile.TemporaryDirectory() as folder:
            # In a process of its own: Linux would count this one's peak as its child's.
            shape = {"frames": args.frames, "dim": args.dim, "k": 10, "dtype": dtype}
            making = Process(target=random_store, args=(Path(folder) / "random", args.items), kwargs=shape)
            making.start()
            making.join()
            start = time.perf_counter()
            store = FeatureStore.open(Path(folder) / "random")
            opening = time.perf_counter() - start
            features = sum(store.features[name].nbytes for name in store.arrays)
            dims = {"visual_dim": args.dim, "textual_dim": args.dim, "feature_dim": args.dim}
            state = STATE_BYTES * sum(p.numel() for p in MMRA(**dims).parameters())
            size = {"items": args.items, "frames": args.frames, "dim": args.dim, "dtype": dtype}
            report("memory", "s to open the store", opening, 1.0, "a second", **size)
            peak = peak_of_training(folder, args.dim)
            # The features, what train and valid retrieved of them (0.9 of the items), the network and its optimiser.
            needed = 1.9 * features + state
            report(
                "memory", "MB resident, peak of train.py", peak / 1e6, needed / 1e6, "arrays and network, MB", **size
            )


def peak_of_training(folder: str, dim: int) -> int:
    """Bytes: the operating system's own count of the finished process."""
    flags = ["--dataset_path", folder, "--dataset_id", "random", "--save", f"{folder}/runs", "--epochs", "1"]
    words = [sys.executable, "train.py", *flags, "--feature_dim", str(dim)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise InputError(f"train.py ended with exit code {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss * 1024


if __name__ == "__main__":
    run_script(build_parser(), main)
