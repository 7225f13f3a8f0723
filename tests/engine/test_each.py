"""A method that looks at each of its neighbours: a few lines here and a line in METHODS are all that it takes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import make_store
from tiny import trained as trained_on
from torch import nn

import train
from baselines import METHODS
from common.console import number, whole_number
from common.settings import setting
from dataloader.batches import open_split
from dataloader.candidates import candidates
from dataloader.neighbours import Neighbours
from dataloader.store import FeatureStore
from engine.recipe import Recipe


@dataclass(frozen=True)
class AttentionSettings:
    hidden: int = setting(8, "width of queries and keys", whole_number(1))
    temperature: float = setting(1.0, "of the attention", number(0, above=True))


class NeighbourAttention(nn.Module):
    """The neighbours' labels, weighed by attention from the video's text to each neighbour's, and a correction."""

    def __init__(self, *, textual_dim: int, label_dim: int, hidden: int = 8, temperature: float = 1.0):
        super().__init__()
        self.temperature = temperature
        self.query, self.key = nn.Linear(textual_dim, hidden), nn.Linear(textual_dim, hidden)
        self.correction = nn.Linear(textual_dim, label_dim)

    def forward(self, batch):
        text, near = batch.features["textual"], batch.neighbours
        keys = self.key(near.features["textual"])[near.place]  # (B, K, H)
        score = torch.einsum("bh,bkh->bk", self.query(text), keys) / self.temperature + near.similarity[..., 0]
        weight = score.masked_fill(~near.there, -1e9).softmax(dim=1)  # (B, K)
        return torch.einsum("bk,bkl->bl", weight, near.label) + self.correction(text)  # (B, label_dim)


RECIPE = Recipe(
    f"{__name__}:NeighbourAttention",
    AttentionSettings,
    defaults={"lr": 1e-2, "num_of_retrieved_items": 4},
    modalities=("textual",),
    needs_all=True,
    neighbours="each",
)


@pytest.fixture
def store(tmp_path, monkeypatch) -> FeatureStore:
    monkeypatch.setitem(METHODS, "NeighbourAttention", __name__)
    return make_store(tmp_path / "data" / "tiny")


def trained(store, save, *flags):
    return trained_on(store, save, "--model_id", "NeighbourAttention", *flags)


def test_it_trains_resumes_to_the_same_bits_and_predicts(store, tmp_path, load_script, capsys):
    whole = trained(store, tmp_path / "whole", "--epochs", 4)
    half = trained(store, tmp_path / "half", "--epochs", 2)
    train.main(train.build_parser().parse_args(["--resume", str(half), "--epochs", "4"]))
    assert (whole / "best.safetensors").read_bytes() == (half / "best.safetensors").read_bytes()
    test_script = load_script("test.py")
    capsys.readouterr()
    test_script.main(test_script.build_parser().parse_args(["--model_path", str(half), "--metric", "nMSE"]))
    assert "20 predictions in" in capsys.readouterr().out
    table = pd.read_csv(half / "predictions.csv")
    assert len(table) == 20 and np.isfinite(table["prediction"]).all()
    assert table["neighbours"].str.count("v").eq(4).all()  # --num_of_retrieved_items is the recipe's
    words = ["--model_path", str(half), "--split", "predict"]
    test_script.main(test_script.build_parser().parse_args(words))
    assert np.isfinite(pd.read_csv(half / "predict" / "predictions.csv")["prediction"]).all()


def test_its_flags_are_those_of_its_settings(store, tmp_path):
    run = trained(store, tmp_path / "runs", "--epochs", 1, "--hidden", 5, "--num_of_retrieved_items", 6)
    config = (run / "config.json").read_text()
    assert '"hidden": 5' in config and '"num_of_retrieved_items": 6' in config
    with pytest.raises(SystemExit):
        trained(store, tmp_path / "runs", "--hidden", 0)


def test_a_batch_holds_each_neighbour_and_pads_are_zeros(tmp_path):
    """Against the neighbours looked up one by one, in a shuffled order; the test items' labels are out of reach."""
    store = make_store(tmp_path / "tiny", label_dim=2)
    found = Neighbours.read(store)
    found.ids[::3, 4:] = -1  # items that found fewer
    split = open_split(store, "test", frame_num=2)
    each = candidates(store, {"retrieval": found}, split.rows, store.features, creators=False, k=5, seed=0)
    split = replace(split, neighbours=each)
    seen = 0
    for batch in split.batches(7, torch.device("cpu"), torch.Generator().manual_seed(0)):
        near = batch.neighbours
        for i, row in enumerate(batch.rows.tolist()):
            for k, other in enumerate(found.ids[row, :5].tolist()):
                seen += 1
                assert near.there[i, k].item() is (other >= 0)
                there = other >= 0
                label = store.items.label[other] if there else np.zeros(2)
                visual, textual = store.features["visual"][other][[0, 2]], store.features["textual"][other]
                np.testing.assert_allclose(near.label[i, k], label, rtol=1e-6)
                if there:
                    place = near.place[i, k]
                    np.testing.assert_array_equal(near.features["visual"][place], visual)
                    np.testing.assert_array_equal(near.features["textual"][place], textual)
                assert near.similarity[i, k, 0].item() == (np.float32(found.similarity[row, k]) if there else 0)
    assert seen == 20 * 5
    foreign = store.items.split != "train"
    assert np.isnan(split.neighbours.label[foreign]).all()
    assert np.array_equal(split.neighbours.label[~foreign], store.items.label[~foreign])
