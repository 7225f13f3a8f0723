"""Features under the ids of their items, in .npz and in what torch saves; what is no plain array is refused."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import torch
from tiny import refused

from dataloader.importing.feature_files import load_features

IDS = np.array(["7", "a b", "日本"], object)


def write(path, arrays: dict) -> None:
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        torch.save({int(k) if k.isdigit() else k: torch.from_numpy(v) for k, v in arrays.items()}, path)


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".pth"])
@pytest.mark.parametrize("shape", [(4,), (2, 3)])
def test_an_array_of_each_item_under_its_id(tmp_path, suffix, shape):
    rng = np.random.default_rng(0)
    arrays = {item_id: rng.normal(size=shape).astype(np.float32) for item_id in ("日本", "other", "7", "a b")}
    path = tmp_path / f"f{suffix}"
    write(path, arrays)
    found = load_features(path, "audio" if len(shape) == 1 else "visual", IDS)
    np.testing.assert_array_equal(found, np.stack([arrays[item_id] for item_id in IDS]))
    write(path, {name: array for name, array in arrays.items() if name != "a b"})
    with refused(r"no row for 1 items \(a b\)"):
        load_features(path, "visual", IDS)
    write(path, arrays | {"7": np.zeros((5, 5), np.float32)})
    with refused("arrays of several shapes"):
        load_features(path, "visual", IDS)


def test_one_tensor_stands_in_the_order_of_the_table(tmp_path):
    torch.save(torch.arange(12, dtype=torch.bfloat16).reshape(3, 4), tmp_path / "f.pt")
    np.testing.assert_array_equal(load_features(tmp_path / "f.pt", "textual", IDS), np.arange(12.0).reshape(3, 4))


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("made_by_a_pickle",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(Hostile()), "truncated, or not a file of plain tensors"),
        (b"PK\x03\x04 cut short", "truncated, or not a file of plain tensors"),
        ({"7": [1, 2]}, "a tensor was expected, or a dictionary of item ids and tensors"),
        ({}, "a tensor was expected, or a dictionary of item ids and tensors"),
        (torch.eye(3).to_sparse(), "a tensor that is no plain array"),
        (torch.full((3, 2), float("nan")), "NaN or infinite"),
        ({"nobody": torch.zeros(3)}, "no item has an array in it"),
    ],
)
def test_what_is_no_plain_array_is_refused(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    if isinstance(content, bytes):
        (tmp_path / "f.pt").write_bytes(content)
    else:
        torch.save(content, tmp_path / "f.pt")
    with refused(message):
        load_features(tmp_path / "f.pt", "textual", IDS)
    assert not (tmp_path / "made_by_a_pickle").exists()
