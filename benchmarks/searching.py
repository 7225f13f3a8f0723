"""What some of a data set's items cost to search by an index, and the index itself, where all would take hours.

Prints one line of JSON. Nothing but the index is written; the same seeded items ask each time.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np

from common.arrays import scan
from common.console import InputError, Parser, run_script, whole_number
from dataloader.modalities import RETRIEVAL
from dataloader.names import BACKENDS
from dataloader.search.approximate import SAMPLE, Searching, parts, search_approximately
from dataloader.search.index import open_index
from dataloader.store import FeatureStore


def build_parser() -> Parser:
    parser = Parser(prog="python -m benchmarks.searching", description=__doc__)
    measured = parser.add_argument_group("what is measured")
    measured.add_argument("--folder", type=Path, required=True, help="of the data set")
    measured.add_argument("--backend", choices=BACKENDS[2:], required=True, help="of retriever.py")
    measured.add_argument("--k", type=whole_number(1), default=50, help="neighbours an item")
    measured.add_argument("--asking", type=whole_number(SAMPLE), default=20_000, help="items that ask, seeded")
    return parser


def main(args) -> None:
    store = FeatureStore.open(args.folder, need=[RETRIEVAL])
    store.check_features(RETRIEVAL)
    vectors = store.features[RETRIEVAL]
    there = np.flatnonzero(~scan(vectors)[2])  # as in retriever.py, vectors of zeros are similar to nothing
    bank = np.intersect1d(there, store.rows("train"))
    if args.k >= len(bank):
        raise InputError(
            f"--k {args.k}: split train has {len(bank)} items that can be compared, and more than k are needed"
        )
    start = time.perf_counter()
    index = open_index(store.folder, RETRIEVAL, args.backend, vectors, bank, None)
    indexed = time.perf_counter() - start
    rng = np.random.default_rng(3)
    asking = np.sort(rng.choice(there, min(args.asking, len(there)), replace=False))
    # The effort is found once, whoever asks: its time does not count for each item.
    some = np.sort(rng.choice(asking, min(SAMPLE, len(asking)), replace=False))
    start = time.perf_counter()
    found = search_approximately(vectors, some, index, args.k)
    tuned = time.perf_counter() - start
    searching = Searching(vectors, index, args.k, None, None)
    start = time.perf_counter()
    for part in parts(asking):
        searching.block(part, found.effort)
    seconds = time.perf_counter() - start
    of_all = indexed + tuned + seconds * len(vectors) / len(asking)
    figures = {
        "recall": found.recall,
        "said": f"{index.described}, {index.effort_name} {found.effort}",
        "seconds_to_index": indexed,
        "seconds_for_the_effort": tuned,
        "asking": len(asking),
        "seconds_of_those": seconds,
        "seconds": of_all,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    run_script(build_parser(), main)
