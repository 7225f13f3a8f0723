"""thumbnails.parquet: pictures of the items that are there, none of what was damaged, and a small cost."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bare import bare_store
from PIL import Image

from dataloader.store import FeatureStore
from dataloader.thumbnails import FILE, MOST_BYTES, read_thumbnails, write_thumbnails
from feature_engineering.decoding.pictures import SIDE, rough, thumbnail


def picture(height: int, width: int, seed: int = 0) -> bytes:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return thumbnail(Image.fromarray(rough(image)))


@pytest.mark.parametrize(("height", "width"), [(1920, 1080), (1080, 1920), (96, 96), (7, 9), (1, 4000)])
def test_the_longer_side_has_96_pixels_at_most(height, width):
    small = Image.open(io.BytesIO(picture(height, width)))
    assert small.format == "JPEG" and max(small.size) == min(SIDE, max(height, width))
    assert len(picture(height, width)) < MOST_BYTES  # of noise, of which JPEG makes most


def test_items_that_are_left_out_lose_theirs(tmp_path):
    store = bare_store(tmp_path, ids=("a", "b", "c"))
    pictures = {one: picture(20, 30, seed) for seed, one in enumerate("abc")}
    write_thumbnails(store.folder / FILE, pictures)
    store.keep(np.array([True, False, True]))
    assert read_thumbnails(store.folder, "abc") == {"a": pictures["a"], "c": pictures["c"]}
    assert read_thumbnails(store.folder, "cx") == {"c": pictures["c"]}
    bare_store(tmp_path, ids=("a", "b", "c"))  # made anew, of other videos perhaps
    assert read_thumbnails(store.folder, "abc") == {}


@pytest.mark.parametrize("damage", ["garbage", "empty", "truncated", "columns", "types"])
def test_a_file_that_is_none_costs_the_pictures_and_a_line(tmp_path, capsys, damage):
    store = bare_store(tmp_path, ids=("a", "b"))
    path = store.folder / FILE
    write_thumbnails(path, {"a": picture(20, 30)})
    whole = path.read_bytes()
    if damage in ("columns", "types"):
        columns = {"item_id": [1, 2], "jpeg": [1.5, 2.5]} if damage == "types" else {"x": [1]}
        pq.write_table(pa.table(columns), path)
    else:
        path.write_bytes({"garbage": b"nonsense" * 99, "empty": b"", "truncated": whole[: len(whole) // 2]}[damage])
    assert read_thumbnails(store.folder, ["a"]) == {}
    said = capsys.readouterr().err
    assert said.startswith(f"warning: {path}: no pictures") and said.count("\n") == 1
    assert len(FeatureStore.open(store.folder).keep(np.array([True, False]))) == 1


def test_pictures_that_are_none_are_not_shown(tmp_path, capsys):
    good = picture(20, 30)
    write_thumbnails(tmp_path / FILE, {"a": good, "b": b"<svg onload=alert(1)>", "c": good + b" " * MOST_BYTES})
    assert read_thumbnails(tmp_path, "abc") == {"a": good}
    assert "2 of its pictures are none" in capsys.readouterr().err
