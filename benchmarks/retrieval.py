"""retriever.py's search against the bare float32 matrix product of the same shapes, and the memory it takes.

With --fused, the vectors are those of two sources side by side, as retrieval_engineering.py makes them, and the rival
is the search of one source as wide as both.
"""

from __future__ import annotations

import resource
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.synthetic import report
from common.arrays import blocks
from common.console import InputError, Parser, run_script, whole_number
from common.devices import add_device_flag, pick_device
from dataloader.search.exact import search
from feature_engineering.jobs.comparing import directions, side_by_side

BLOCK = 1024


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    measured = parser.add_argument_group("what is measured")
    measured.add_argument("--items", type=whole_number(2), default=19738, help="queries")
    measured.add_argument("--bank", type=whole_number(2), default=15790, help="the first so many items are the bank")
    measured.add_argument("--dim", type=whole_number(1), default=1024, help="of the vectors")
    measured.add_argument(
        "--fused", type=whole_number(1), nargs=2, metavar=("DIM", "DIM"), help="of two sources, in place of --dim"
    )
    measured.add_argument("--k", type=whole_number(1), default=20, help="neighbours an item")
    measured.add_argument("--repeats", type=whole_number(0), default=5, help="pairs of search and bare product")
    add_device_flag(measured)
    return parser


def main(args) -> None:
    device = pick_device(args.device)
    if args.fused:
        return fused(args, device)
    vectors = np.random.default_rng(0).standard_normal((args.items, args.dim), dtype=np.float32)
    if not args.k < args.bank <= args.items:
        raise InputError(f"--bank {args.bank}: more than --k {args.k} and at most --items {args.items} are needed")
    bank = np.arange(args.bank)
    shape = {"items": args.items, "bank": args.bank, "dim": args.dim, "k": args.k, "device": str(device)}

    search(vectors[: min(args.bank, 512)], np.arange(min(args.bank, 512)), 1, device=device)  # loads torch's own code
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


def fused(args, device: torch.device) -> None:
    rng, bank = np.random.default_rng(0), np.arange(args.bank)
    sides = [rng.standard_normal((args.items, dim), dtype=np.float32) for dim in args.fused]
    joined = side_by_side([(weight, directions(side)) for weight, side in zip((1.0, 0.5), sides, strict=True)])
    both = np.concatenate([joined[rows] for rows in blocks(joined)])
    one = rng.standard_normal(both.shape, dtype=np.float32)
    pairs = []
    for _ in range(max(1, args.repeats)):
        seconds = []
        for vectors in (both, one):
            start = time.perf_counter()
            search(vectors, bank, args.k, device=device)
            seconds.append(time.perf_counter() - start)
        pairs.append(seconds)
    ours, rival = np.median(pairs, axis=0)
    shape = {"items": args.items, "bank": args.bank, "dims": args.fused, "k": args.k, "device": str(device)}
    ratio = float(np.median([a / b for a, b in pairs]))
    report("fused retrieval", "seconds", float(ours), float(rival), "one source of the joined width, s", ratio, **shape)


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
