"""Clips and a table of them, helpers; and as a fixture a data set of them with small encoders, and runs on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bare import write_clip
from tiny import trained

import retriever
from dataloader.store import FeatureStore
from feature_engineering import retrieval_engineering, textual_engineering, visual_engineering

N = 40
WORDS = ("red ball", "blue ball", "red cat", "blue dog")


def clips(folder: Path, ids) -> None:
    folder.mkdir(exist_ok=True)
    for item_id in ids:
        rng = np.random.default_rng(int(item_id[1:]))
        write_clip(folder / f"{item_id}.mp4", rng.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8))


def rows_of(ids) -> pd.DataFrame:
    number = np.array([int(item_id[1:]) for item_id in ids])
    return pd.DataFrame(
        {
            "item_id": ids,
            "title": [WORDS[i % 4] for i in number],
            "tag": [f"t{i % 3}" for i in number],
            "creator": [f"c{i % 7}" for i in number],
            "views": 10 + number * 37 % 101,
        }
    )


def call(script, place: Path, *flags) -> None:
    words = ("--dataset_path", place, "--dataset_id", "mine", *flags)
    script.main(script.build_parser().parse_args([str(word) for word in words]))


@pytest.fixture(scope="session")
def made(tmp_path_factory, vit, bert, load_script):
    """A data set of 40 clips with two frames, titles, tags and creators; runs of two methods; ten more clips."""
    place = tmp_path_factory.mktemp("mine")
    old, new = [f"v{i}" for i in range(N)], [f"v{i}" for i in range(N, N + 10)]
    clips(place / "videos", old)
    clips(place / "new", new)
    rows_of(old).to_csv(place / "old.csv", index=False)
    rows_of(new).to_csv(place / "new.csv", index=False)
    columns = ("--text_column", "title", "--count_column", "views", "--user_column", "creator")
    importing = load_script("data/import_features.py")
    call(importing, place, "--table", place / "old.csv", *columns, "--metadata_columns", "tag")
    videos = ("--videos", place / "videos", "--frame_num", 2, "--workers", 1)
    call(visual_engineering, place, "--encoder", vit, *videos)
    call(textual_engineering, place, "--encoder", bert, "--normalise", "standard+l2")
    call(retrieval_engineering, place, "--source", "features")
    call(retriever, place, "--num_of_retrieved_items", 6, "--source", "retrieval", "textual")
    store = FeatureStore.open(place / "mine")
    boosted = ("--trees", 20, "--num_of_retrieved_items", 5)
    runs = {"RetrievalBoost": trained(store, place / "runs", "--model_id", "RetrievalBoost", *boosted)}
    network = ("--epochs", 2, "--feature_dim", 16, "--num_of_retrieved_items", 4)
    runs["MMRA"] = trained(store, place / "runs", "--model_id", "MMRA", *network)
    return place, runs
