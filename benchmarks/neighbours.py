"""What learning from each neighbour costs: in time against a limit and against MMRA, in memory over their number."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

from benchmarks.synthetic import random_store, report
from common.console import InputError, Parser, run_script, whole_number

Process = get_context("spawn").Process
ROOT = Path(__file__).resolve().parent.parent
LIMIT = 120.0  # seconds
MMRA = "MMRA --preset recommended --num_of_retrieved_items 50 --batch_size 256"
LARK = "LARK --ensemble 1"


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    size = parser.add_argument_group("size")
    size.add_argument("--items", type=whole_number(100), default=10_000, help="in the data set; 80 %% are trained on")
    size.add_argument("--frames", type=whole_number(1), default=1, help="F")
    size.add_argument("--dim", type=whole_number(1), default=384, help="D, of the features")
    size.add_argument("--k", nargs="+", type=whole_number(1), default=[10, 50, 200], help="neighbours an item")
    size.add_argument(
        "--epochs", type=whole_number(2), default=12, help="of a network, which stops by itself after about that"
    )
    return parser


def main(args) -> None:
    size = {"items": args.items, "frames": args.frames, "dim": args.dim}
    with tempfile.TemporaryDirectory() as folder:
        shape = {"frames": args.frames, "dim": args.dim, "k": max(50, *args.k), "creators": args.items // 4}
        making = Process(target=random_store, args=(Path(folder) / "random", args.items), kwargs=shape)
        making.start()
        making.join()
        whole, _, _ = trained(folder, "RetrievalBoost")
        report("neighbours", "s, RetrievalBoost, command to end", whole, LIMIT, "the limit, s", **size)
        epochs = f" --epochs {args.epochs} --early_stop_turns {args.epochs}"
        whole, epoch, _ = trained(folder, LARK + epochs)
        report("neighbours", f"s, a member of LARK, {args.epochs} epochs", whole, LIMIT, "the limit, s", **size)
        _, aggregated, _ = trained(folder, MMRA + epochs)
        report("neighbours", "s an epoch, a member of LARK, K = 50", epoch, aggregated, "MMRA's, K = 50, s", **size)
        peaks = {k: trained(folder, f"{LARK} --epochs 2 --num_of_retrieved_items {k}") for k in args.k}
        few = peaks[args.k[0]]
        for k, (_, epoch, peak) in peaks.items():
            more = size | {"k": k, "s_an_epoch": epoch}
            report(
                "neighbours", f"MB resident at the peak, LARK, K = {k}", peak, few[2], f"K = {args.k[0]}, MB", **more
            )


def trained(folder: str, flags: str) -> tuple[float, float, float]:
    """Seconds from the command to its end, seconds of the fastest epoch, and MB resident at the peak."""
    where = ["--dataset_path", folder, "--dataset_id", "random", "--save", f"{folder}/runs", "--device", "cpu"]
    start = time.perf_counter()
    words = [sys.executable, "train.py", *where, "--model_id", *flags.split()]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise InputError(f"train.py ended with exit code {os.waitstatus_to_exitcode(status)}: {' '.join(words)}")
    taken = time.perf_counter() - start
    records = (Path(re.search(r"--model_path (.*)", said)[1]) / "history.jsonl").read_text().splitlines()
    epochs = [json.loads(record).get("seconds", 0.0) for record in records]
    return taken, min(epochs), usage.ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    run_script(build_parser(), main)
