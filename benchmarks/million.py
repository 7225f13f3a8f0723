"""What a data set of a million videos costs: its index, the search of all items, its recall, and training on it.

Everything is done by the project's own commands, each in a process of its own whose memory is watched. Every figure is
a line of <work>/results.jsonl; what stands there is not measured again, so that the program goes on where it ended.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np

from benchmarks.titles import ROWS_AT_ONCE, titled_store
from common.console import InputError, Parser, run_script, whole_number
from dataloader.modalities import RETRIEVAL
from dataloader.neighbours import Neighbours
from dataloader.search.approximate import SPARE
from dataloader.search.exact import unit
from dataloader.search.index import library, open_index
from dataloader.store import FeatureStore

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = 1000  # items whose search is counted
WIDEST_TRAINED = 512  # beyond, the data set has the vectors that are searched alone
METHODS = {"MMRA": "MMRA --feature_dim 128", "LARK": "LARK --feature_dim 128 --ensemble 1"}


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    measured = parser.add_argument_group("what is measured")
    measured.add_argument("--items", type=whole_number(1000), nargs="+", default=[1_000_000], help="of each data set")
    measured.add_argument("--width", type=whole_number(8), default=384, help="of the vectors, stored as float16")
    measured.add_argument("--backend", nargs="*", default=[], help="of retriever.py, one after the other")
    measured.add_argument(
        "--asking",
        type=whole_number(SAMPLE),
        help="so many seeded items ask, and the time of all is theirs in proportion; of all if not given",
    )
    measured.add_argument("--k", type=whole_number(1), default=50, help="neighbours an item")
    measured.add_argument("--train", nargs="*", choices=METHODS, default=[], help="one epoch of each, and its test")
    measured.add_argument("--train_k", nargs="+", type=whole_number(1), default=[10, 50], help="neighbours in training")
    measured.add_argument("--work", type=Path, required=True, help="folder of the data sets, the runs and the results")
    return parser


def main(args) -> None:
    args.work.mkdir(parents=True, exist_ok=True)
    results = Results(args.work / "results.jsonl")
    for items in args.items:
        name = f"set_{items}_{args.width}"
        size = {"items": items, "width": args.width}
        results.once({"step": "data"} | size, lambda name=name, items=items: made(args, name, items))
        for backend in args.backend:
            key = {"step": "retrieve", "backend": backend, "k": args.k} | size
            key |= {"asking": args.asking or items}
            results.once(key, lambda name=name, backend=backend: retrieved(args, name, backend))
        for method in args.train:
            for k in args.train_k:
                key = {"step": "train", "method": method, "k": k} | size
                results.once(key, lambda name=name, method=method, k=k: trained(args, name, method, k))


class Results:
    """Figures by what they are of, as JSON lines."""

    def __init__(self, path: Path):
        self.path = path
        self.lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def once(self, key: dict, measure) -> None:
        line = next((line for line in self.lines if key.items() <= line.items()), None)
        if line is None:
            line = key | {name: float(f"{v:.4g}") if isinstance(v, float) else v for name, v in measure().items()}
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
            self.lines.append(line)
        print(json.dumps(line), flush=True)


def made(args, name: str, items: int) -> dict:
    shutil.rmtree(args.work / name, ignore_errors=True)  # one that was not finished
    start = time.perf_counter()
    # In a process of its own, so that its memory is not counted as that of others.
    frames = 1 if args.width <= WIDEST_TRAINED else 0
    process = get_context("spawn").Process(target=titled_store, args=(args.work / name, items, args.width, frames))
    process.start()
    process.join()
    if process.exitcode:
        raise InputError(f"{args.work / name}: making the data set ended with exit code {process.exitcode}")
    return {"seconds": time.perf_counter() - start, "vectors_mb": items * args.width * 2 / 1e6}


def retrieved(args, name: str, backend: str) -> dict:
    """Seconds, memory and recall of retriever.py, and how much of exact search's arithmetic its effort is."""
    folder = args.work / name
    index_file = folder / "index" / f"{RETRIEVAL}.{backend}.faiss"
    index_file.with_suffix(".json").unlink(missing_ok=True)  # one that is there would not be made
    if args.asking:
        asked = ["--folder", folder, "--backend", backend, "--k", args.k, "--asking", args.asking]
        done = watched("-m", "benchmarks.searching", *asked)
        figures = done | json.loads(done.pop("last"))
        vectors = FeatureStore.open(folder, need=[RETRIEVAL]).features[RETRIEVAL]
    else:
        where = ["--dataset_path", args.work, "--dataset_id", name, "--num_of_retrieved_items", args.k]
        began, done = time.time(), watched("retriever.py", *where, "--backend", backend, "--device", "cpu")
        store = FeatureStore.open(folder, need=[RETRIEVAL])
        found, vectors = Neighbours.read(store), store.features[RETRIEVAL]
        figures = done | {"recall": found.recall, "said": found.backend}
        if backend == "exact":
            return figures
        figures["seconds_to_index"] = index_file.with_suffix(".json").stat().st_mtime - began
    figures |= {"index_mb": index_file.stat().st_size / 1e6}
    figures |= {"memory_of_vectors": done["peak_mb"] / (vectors.nbytes / 1e6)}
    bank = FeatureStore.open(folder).rows("train")
    index = open_index(folder, RETRIEVAL, backend, vectors, bank, None)
    return figures | counts(index, vectors, int(figures["said"].rpartition(" ")[2]), args.k)


def counts(index, vectors: np.ndarray, effort: int, k: int) -> dict:
    """Distances computed for an item, the lists' centres and what is compared exactly among them, against exact's.

    And milliseconds an item in the index, against those of a bare float32 product with the whole bank.
    """
    faiss = library()
    stats = faiss.cvar.hnsw_stats if index.kind == "hnsw" else faiss.cvar.indexIVF_stats
    rows = np.sort(np.random.default_rng(2).choice(len(vectors), min(SAMPLE, len(vectors)), replace=False))
    stats.reset()
    query, proposals = unit(vectors[rows]), index.widening * k + SPARE  # (Q, D)
    start = time.perf_counter()
    index.propose(query, proposals, len(index.rows), effort)
    seconds, product = time.perf_counter() - start, 0.0
    for place in range(0, len(index.rows), ROWS_AT_ONCE):
        keys = unit(vectors[index.rows[place : place + ROWS_AT_ONCE]])
        start = time.perf_counter()
        query @ keys.T
        product += time.perf_counter() - start
    centres = 0 if index.kind == "hnsw" else index._inverted.nlist
    vectors_compared = stats.ndis / len(rows) + centres + proposals
    return {
        "distances_an_item": float(vectors_compared),
        "of_exact": float(vectors_compared / len(index.rows)),
        "ms_an_item_in_the_index": 1000 * seconds / len(rows),
        "ms_an_item_of_the_bare_product": 1000 * product / len(rows),
    }


def trained(args, name: str, method: str, k: int) -> dict:
    """One epoch on split train, and test.py after it."""
    where = ["--dataset_path", args.work, "--dataset_id", name, "--save", args.work / "runs", "--device", "cpu"]
    flags = ["--model_id", *METHODS[method].split(), "--num_of_retrieved_items", k, "--epochs", 1]
    done = watched("train.py", *where, *flags)
    run = Path(re.search(r"--model_path (\S+)", done.pop("last"))[1])
    epochs = [json.loads(record).get("seconds", 0.0) for record in (run / "history.jsonl").read_text().splitlines()]
    tested = watched("test.py", "--model_path", run, "--device", "cpu")
    found = json.loads((run / "metrics.json").read_text())["metrics"]
    return {
        "seconds_an_epoch": max(epochs),
        **{f"train_{key}": value for key, value in done.items()},
        **{f"test_{key}": value for key, value in tested.items() if key != "last"},
        **{metric: found[metric]["value"] for metric in ("nMSE", "SRC")},
    }


def watched(*words) -> dict:
    """Seconds of python with these words, and MB resident at its peaks: in all, its own, of files that are mapped."""
    words = [sys.executable, *map(str, words)]
    peaks = {"VmHWM": 0, "RssAnon": 0, "RssFile": 0}
    with TemporaryFile("w+") as output, TemporaryFile("w+") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(words, cwd=ROOT, stdout=output, stderr=errors, text=True)
        while process.poll() is None:
            for line in _status(process.pid):
                field, _, value = line.partition(":")
                if field in peaks:
                    peaks[field] = max(peaks[field], int(value.split()[0]))
            time.sleep(0.2)
        seconds = time.perf_counter() - start
        last, wrong = (file.seek(0) or file.read().strip().rpartition("\n")[2] for file in (output, errors))
    if process.returncode:
        raise InputError(f"{' '.join(words)}: exit code {process.returncode}: {wrong}")
    mb = {name: value * 1024 / 1e6 for name, value in peaks.items()}
    figures = {"seconds": seconds, "peak_mb": mb["VmHWM"]}
    return figures | {"own_mb": mb["RssAnon"], "of_files_mb": mb["RssFile"], "last": last}


def _status(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return []


if __name__ == "__main__":
    run_script(build_parser(), main)
