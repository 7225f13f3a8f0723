"""retriever.py's search against the bare float32 matrix product of the same shapes, and the memory it takes."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.synthetic import report
from common.console import InputError, Parser, run_script, whole_number
from common.devices import add_device_flag, pick_device
from dataloader.search.exact import search

BLOCK = 1024


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    measured = parser.add_argument_group("what is measured")
    measured.add_argument("--items", type=whole_number(2), default=19738, help="queries")
    measured.add_argument("--bank", type=whole_number(2), default=15790, help="the first so many items are the bank")
    measured.add_argument("--dim", type=whole_number(1), default=1024, help="of the vectors")
    measured.add_argument("--k", type=whole_number(1), default=20, help="neighbours an item")
    measured.add_argument("--repeats", type=whole_number(0), default=5, help="pairs of search and bare product")
    add_device_flag(measured)
    return parser


def main(args) -> None:
    device = pick_device(args.device)
    vectors = np.random.default_rng(0).standard_normal((args.items, args.dim), dtype=np.float32)
    if not args.k < args.bank <= args.items:
        raise InputError(f"--bank {args.bank}: more than --k {args.k} and at most --items {args.items} are needed")
    bank = np.arange(args.bank)
    shape = {"items": args.items, "bank": args.bank, "dim": args.dim, "k": args.k, "device": str(device)}

    before, start = resident(), time.perf_counter()
    search(vectors, bank, args.k, device=device)
    shape["first_run_s"] = round(time.perf_counter() - start, 1)
    extra = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    report("retrieval", "extra memory, MB", extra / 1e6, vectors.nbytes / 1e6, "the vectors, MB", **shape)

    if not args.repeats:
        return
    pairs = []
    for _ in range(args.repeats):  # in turn, so that a machine whose speed drifts slows both
        start = time.perf_counter()
        search(vectors, bank, args.k, device=device)
        middle = time.perf_counter()
        bare_product(vectors, args.bank, device)
        pairs.append((middle - start, time.perf_counter() - middle))
    searching, bare = np.median(pairs, axis=0)
    ratio = float(np.median([a / b for a, b in pairs]))
    report("retrieval", "seconds", float(searching), float(bare), "the bare matrix product, s", ratio, **shape)


def resident() -> int:
    """Bytes resident now, by the kernel's own count (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def bare_product(vectors: np.ndarray, bank: int, device: torch.device) -> None:
    """Every query times every key, in blocks into one buffer; numpy on a CPU, which beats torch there."""
    if device.type == "cpu":
        out = np.empty((BLOCK, bank), dtype=np.float32)
        for start in range(0, len(vectors), BLOCK):
            query = vectors[start : start + BLOCK]
            np.matmul(query, vectors[:bank].T, out=out[: len(query)])
        return
    queries = torch.from_numpy(vectors).to(device)
    for start in range(0, len(vectors), BLOCK):
        torch.mm(queries[start : start + BLOCK], queries[:bank].T)
    torch.cuda.synchronize(device)


if __name__ == "__main__":
    run_script(build_parser(), main)
