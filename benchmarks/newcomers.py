"""Ten new clips to predictions.csv, against their decoding and encoding alone, in one process with the models loaded.

The bank: --items videos with features of ViT-B/16 (random weights, F frames), of a sentence encoder and of their words.
Then what one video's search takes in time and memory, in banks of --items and of a tenth of them: the bank is read from
the disk, in blocks. Clips, captions and the sentence encoder are those of the folder MMRA_SHARED (default ../shared).
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from baselines import opened
from benchmarks.features import ROOT, clips, write_vit
from benchmarks.synthetic import report
from common.console import InputError, Parser, run_script, whole_number
from dataloader.description import Label
from dataloader.importing.splits import published_split
from dataloader.items import Items
from dataloader.search.few import search_few
from dataloader.search.retrieval import retrieve
from dataloader.store import FeatureStore
from feature_engineering.decoding.frames import plan_videos
from feature_engineering.encoding.images import ImageEncoder, encode_frames
from feature_engineering.encoding.texts import TextEncoder, encode_texts
from feature_engineering.jobs.comparing import WeightSettings, from_features, lexical_of
from feature_engineering.settings import DecodingSettings, EncoderSettings, StorageSettings, TextSettings
from prediction.newcomers import Asked, predict_newcomers
from prediction.predictor import Predictor

CLIPS, REPEATS = 10, 5
Process = get_context("spawn").Process


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    size = parser.add_argument_group("size")
    size.add_argument("--items", type=whole_number(1000), default=10_000, help="videos in the bank's data set")
    size.add_argument("--bank", type=whole_number(1000), default=200_000, help="videos in the bank that is searched")
    size.add_argument("--frames", type=whole_number(1), default=10, help="F")
    size.add_argument("--model_id", default="MMRA", help="the method that predicts")
    size.add_argument("--workers", type=whole_number(1), default=1, help="processes that decode")
    return parser


def main(args) -> None:
    shared = Path(os.environ.get("MMRA_SHARED", ROOT.parent / "shared"))
    if not shared.is_dir():
        raise InputError(f"{shared}: no such folder; MMRA_SHARED names the one with clips/, data/ and models/")
    with tempfile.TemporaryDirectory() as folder:
        clips_part(shared, Path(folder), args)
        bank_part(Path(folder), args.bank)


def clips_part(shared: Path, place: Path, args) -> None:
    make_bank(shared, place, args.items, args.frames)
    command = [sys.executable, "train.py", "--dataset_path", place, "--dataset_id", "bank", "--save", place / "runs"]
    command += ["--model_id", args.model_id, *(["--epochs", "1"] if args.model_id in ("MMRA", "LARK") else [])]
    subprocess.run([*map(str, command)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    (run,) = (place / "runs").iterdir()
    predictor = Predictor(*opened(run, "--model_path"), FeatureStore.open(place / "bank"), torch.device("cpu"))
    videos = place / "new"
    videos.mkdir()
    for item_id, path in list(clips(shared).items())[:CLIPS]:
        (videos / f"{item_id}{path.suffix}").symlink_to(path.resolve())
    titles = [f"a new clip, number {number}" for number in range(CLIPS)]
    table = pd.DataFrame({"item_id": [path.stem for path in sorted(videos.iterdir())], "text": titles})
    table.to_csv(place / "new.csv", index=False)
    decoding = DecodingSettings(workers=args.workers)
    asked, alone, whole = Asked(table=place / "new.csv", videos=videos), [], []
    for number in range(REPEATS + 1):
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            predict_newcomers(predictor, asked, place / f"out{number}", decoding, [])
        whole.append(time.perf_counter() - start)
        new = FeatureStore.open(place / f"out{number}" / "items")
        start = time.perf_counter()
        plan = plan_videos(new, videos, args.frames)
        encode_frames(place / f"v{number}", plan, predictor.encoders.images("visual"), decoding, overwrite=True)
        encode_texts(new.items.text, predictor.encoders.texts("textual"), place / f"t{number}", overwrite=True)
        alone.append(time.perf_counter() - start)
    # The first call counts words and fits what is learned of the bank; it does not count, as models are loaded in it.
    shape = {"clips": len(new), "frames": args.frames, "bank": args.items, "method": args.model_id}
    found, limit = statistics.median(whole[1:]), statistics.median(alone[1:])
    report("newcomers", "s, clips to predictions.csv", found, limit, "decoding and encoding alone, s", **shape)


def make_bank(shared: Path, place: Path, items: int, frames: int) -> None:
    """Random features with real words, which say that these encoders made them."""
    rng = np.random.default_rng(0)
    lines = (shared / "data/nus_vine_10k/video_text.txt").read_text("utf-8").splitlines()
    texts = np.array([lines[i % len(lines)].rpartition("::::")[2] for i in range(items)], object)
    label = rng.normal(6, 2, (items, 1))
    ids = np.array([f"bank{i}" for i in range(items)], object)
    table = Items(ids, texts, np.exp2(label), label, published_split(items))
    store = FeatureStore.create(place / "bank", table, family="MicroLens", label=Label(("count",), "log2", 0))
    vit = ImageEncoder(EncoderSettings(str(write_vit(place / "vit")), device="cpu"))
    words = TextEncoder(EncoderSettings(str(shared / "models/all-MiniLM-L6-v2"), device="cpu"), TextSettings())
    shapes = {"visual": ((items, frames, 768), vit.provenance()), "textual": ((items, 384), words.provenance())}
    for name, (shape, made) in shapes.items():
        with store.add_array(name, shape, "float16", **made) as out:
            for row in range(items):
                out[row] = rng.standard_normal(shape[1:], dtype=np.float32)
    from_features(store, WeightSettings(), StorageSettings("float16"), False, lexical_of(store))
    with contextlib.redirect_stdout(io.StringIO()):
        retrieve(FeatureStore.open(store.folder), 20, "train", torch.device("cpu"), 2048)


def bank_part(place: Path, bank: int) -> None:
    """One video's neighbours in a bank of 896 dimensions, and in one of a tenth of it."""
    rng, sizes = np.random.default_rng(0), (bank // 10, bank)
    for size in sizes:
        array = np.lib.format.open_memmap(place / f"{size}.npy", mode="w+", dtype=np.float16, shape=(size + 1, 896))
        for start in range(0, size + 1, 4096):
            block = array[start : start + 4096]
            block[:] = rng.standard_normal(block.shape, dtype=np.float32)
        array.flush()
    for size in sizes:
        searching = Process(target=search_one, args=(place / f"{size}.npy", size))
        searching.start()
        searching.join()


def search_one(path: Path, size: int) -> None:
    vectors = np.load(path, mmap_mode="r")
    before, taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    held = anonymous()
    for _ in range(REPEATS):
        start = time.perf_counter()
        search_few(vectors, np.array([size]), np.arange(size), 20)
        taken.append(time.perf_counter() - start)
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    start = time.perf_counter()
    for rows in range(0, size, 4096):
        vectors[rows : rows + 4096].astype(np.float32).sum()
    read = time.perf_counter() - start
    shape = {"bank": size, "mb_held_more": anonymous() - held, "mb_at_the_peak_with_the_file": more}
    report("newcomers", "s, one video's search", statistics.median(taken), read, "reading the bank once, s", **shape)


def anonymous() -> float:
    """MB of this process that are no file's pages."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return float("nan")


if __name__ == "__main__":
    run_script(build_parser(), main)
