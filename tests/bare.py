"""A data set without features, and running a feature script on it."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from dataloader.description import Label
from dataloader.items import Items
from dataloader.store import FeatureStore

TEXTS = ("a red ball", "a red ball", "the dog runs far away", "dog", "ball on the beach today", "a")


def bare_store(
    tmp_path: Path, ids=("a", "b", "c", "d", "e", "f"), family="MicroLens", titles=TEXTS, user=None
) -> FeatureStore:
    """A data set `set` in `tmp_path`, without features."""
    n = len(ids)
    texts = np.array([titles[i % len(titles)] for i in range(n)], object)
    values = np.ones((n, 1))
    split = np.array(["train", "valid", "test"] * n, object)[:n]
    described = Label(("count",), "log2", 1)
    items = Items(np.array(ids, object), texts, values, values, split, user=user)
    return FeatureStore.create(tmp_path / "set", items, family=family, label=described, overwrite=True)


def call(script, tmp_path: Path, *flags) -> FeatureStore:
    """Run a script's main on the data set of `bare_store`; the data set afterwards."""
    where = ["--dataset_path", tmp_path, "--dataset_id", "set"]
    script.main(script.build_parser().parse_args([str(flag) for flag in (*where, *flags)]))
    return FeatureStore.open(tmp_path / "set")


def write_clip(path: Path, frames: np.ndarray) -> None:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        out.mux(stream.encode())
