"""One new video against the bank of benchmarks/million.py: its neighbours and the network, against the encoder alone.

Retrieval is measured as test.py does it, which reads the whole bank, and by the index that retriever.py has left. The
encoders are ViT-B/16 on one video's frames, and CLIP-B/16's image tower on the same, of the real size with random
weights. MMRA's network is timed with the sum of its K neighbours, gathered from the memory-mapped arrays.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, ViTConfig, ViTModel

from benchmarks.synthetic import report
from benchmarks.titles import Titles
from common.arrays import Joined
from common.console import Parser, run_script, whole_number
from dataloader.aggregation import aggregate
from dataloader.batches import Split
from dataloader.modalities import RETRIEVAL
from dataloader.neighbours import Neighbours
from dataloader.search.approximate import Searching
from dataloader.search.few import search_few
from dataloader.search.index import open_index
from dataloader.store import FeatureStore
from engine.network import Network
from engine.settings import TrainingSettings
from model.MicroLens.MMRA import MMRA

NEW = 7  # the seed that new videos are drawn by


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    measured = parser.add_argument_group("what is measured")
    measured.add_argument("--work", type=Path, required=True, help="the folder of benchmarks/million.py")
    measured.add_argument("--items", type=whole_number(1000), default=1_000_000, help="of its data set")
    measured.add_argument("--width", type=whole_number(8), default=384, help="of its vectors")
    measured.add_argument("--queries", type=whole_number(20), default=200, help="new videos, one after the other")
    measured.add_argument("--frames", type=whole_number(1), default=10, help="of a video, that are encoded")
    return parser


def main(args) -> None:
    store = FeatureStore.open(args.work / f"set_{args.items}_{args.width}", need=[RETRIEVAL])
    found, vectors, bank = Neighbours.read(store), store.features[RETRIEVAL], store.rows("train")
    new = Titles(args.items, args.width).block(0, min(args.items, args.queries), NEW)  # (Q, D)
    both, asking = Joined(vectors, new.astype(vectors.dtype)), [np.array([args.items + i]) for i in range(len(new))]
    size = {"items": args.items, "width": args.width, "k": found.k}
    encoders = encoding(args.frames)
    limit = encoders["ViT-B/16"]
    report("serving", "s, CLIP-B/16's image tower, a video", encoders["CLIP-B/16"], limit, "ViT-B/16's, s")
    of_encoder = "ViT-B/16 on its frames, s"

    def said(what: str, seconds: list[float]) -> None:
        more = size | {"p99": float(np.quantile(seconds[1:], 0.99)), "first": seconds[0]}
        report("serving", f"p50 s, {what}", float(np.median(seconds[1:])), limit, of_encoder, **more)

    said("neighbours, the bank read", each(lambda i: search_few(both, asking[i], bank, found.k), 5))
    if found.recall is not None:
        kind, effort = found.backend.split()[0], int(found.backend.rpartition(" ")[2])
        start = time.perf_counter()
        index = open_index(store.folder, RETRIEVAL, kind, vectors, bank, None)
        opening = time.perf_counter() - start
        searching = Searching(both, index, found.k, None, None)
        report("serving", f"s to open the {kind} index", opening, limit, of_encoder, **size)
        said(f"neighbours, {kind}", each(lambda i: searching.block(asking[i], effort), len(new)))
    dims = {"visual_dim": args.width, "textual_dim": args.width, "feature_dim": 128, "frame_num": 1}
    network = Network(MMRA(**dims), TrainingSettings(), torch.device("cpu"))
    features, rows = {name: store.features[name] for name in ("visual", "textual")}, store.rows("test")

    def predict(i: int) -> np.ndarray:
        row, frames = rows[i : i + 1], np.arange(1)
        near = aggregate(store, found, row, found.k, 1.0, frames, features)
        own = (store.items.label[row], store.label, store.items.user[row], store.items.time[row], store.items.text[row])
        split = Split(features, row, frames, near, *own, metadata=None, fingerprint=store.fingerprint)
        return network.predict(split)

    said("MMRA with its neighbours gathered", each(predict, min(len(rows), args.queries)))


def encoding(frames: int) -> dict[str, float]:
    """Seconds for one video's frames, median of five, by encoder."""
    pixels = torch.randn(frames, 3, 224, 224)
    models = {
        "ViT-B/16": ViTModel(ViTConfig()),
        "CLIP-B/16": CLIPVisionModel(CLIPVisionConfig(patch_size=16)),
    }
    with torch.inference_mode():
        return {
            name: float(np.median(each(lambda _, model=model: model(pixels), 6)[1:])) for name, model in models.items()
        }


def each(work: Callable[[int], object], count: int) -> list[float]:
    """Seconds of each call; the first is cold."""
    taken = []
    for i in range(count):
        start = time.perf_counter()
        work(i)
        taken.append(time.perf_counter() - start)
    return taken


if __name__ == "__main__":
    run_script(build_parser(), main)
