"""What a CUDA device computes, against the processor and against itself; skipped where there is none."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from encoded import rows_of
from tiny import NETWORKS, SMALL, make_store, predictions, store_of_creators, trained

from dataloader.neighbours import Neighbours

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
CUDA, CPU = ("--device", "cuda"), ("--device", "cpu")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data") / "tiny", k=12)


@pytest.fixture(scope="module")
def creators(tmp_path_factory):
    return store_of_creators(tmp_path_factory.mktemp("data"), sizes={"train": 61, "valid": 40, "test": 20}, creators=20)


def flags_of(method: str, *more) -> tuple:
    small = [word for name, value in SMALL[method].items() for word in (f"--{name}", value)]
    return ("--model_id", method, *small, "--batch_size", 16, *more)


def weights(run) -> dict[str, torch.Tensor]:
    return torch.load(run / "last.pt", weights_only=True, map_location="cpu")["module"]


@pytest.mark.parametrize("method", NETWORKS)
def test_twice_the_same_bits_and_resumed_the_same(method, store, creators, tmp_path):
    data = creators if method in ("LARK", "TabM") else store
    once, twice = (trained(data, tmp_path / n, *flags_of(method, "--epochs", 4), *CUDA) for n in "12")
    part = trained(data, tmp_path / "3", *flags_of(method, "--epochs", 2), *CUDA)
    words = ["train.py", "--resume", str(part), "--epochs", "4", "--device", "cuda"]
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True, capture_output=True)
    for other in (twice, part):
        for name, values in weights(once).items():
            assert torch.equal(values, weights(other)[name]), name


@pytest.mark.parametrize("method", NETWORKS)
def test_what_it_trained_is_read_on_a_processor(method, store, creators, tmp_path, load_script):
    data = creators if method in ("LARK", "TabM") else store
    run = trained(data, tmp_path, *flags_of(method, "--epochs", 2), *CUDA)
    on_cuda, on_cpu = (predictions(load_script, run, *device) for device in (CUDA, CPU))
    np.testing.assert_allclose(on_cuda, on_cpu, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", ["MMRA", "CBAN", "TabM", "LARK"])
def test_its_losses_are_the_processors(method, store, creators, tmp_path):
    data = creators if method in ("LARK", "TabM") else store
    certain = {"LARK": ("--drop_neighbour", 0, "--dropout", 0), "TabM": ("--dropout", 0)}.get(method, ())
    found = []
    for device in (CUDA, CPU):
        run = trained(data, tmp_path / device[1], *flags_of(method, "--epochs", 3, *certain), *device)
        found.append([json.loads(line)["train_loss"] for line in (run / "history.jsonl").read_text().splitlines()])
    np.testing.assert_allclose(*found, rtol=1e-3)


def test_the_nearest_are_the_processors(store, tmp_path, run):
    words = ("--dataset_path", store.folder.parent, "--dataset_id", store.folder.name, "--num_of_retrieved_items", 9)
    found = []
    for device in (CUDA, CPU):
        done = run("retriever.py", *words, *device)
        assert done.returncode == 0, done.stderr
        found.append(Neighbours.read(store))
    assert np.array_equal(found[0].ids, found[1].ids)
    np.testing.assert_allclose(found[0].similarity, found[1].similarity, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_texts_become_what_they_become_on_a_processor(precision, bert, tmp_path, run):
    table = tmp_path / "videos.csv"
    rows_of([f"v{i}" for i in range(40)]).to_csv(table, index=False)
    found, columns = [], ("--text_column", "title", "--count_column", "views")
    for name, device in (("cuda", CUDA), ("cpu", CPU)):
        where = ("--dataset_path", tmp_path / name, "--dataset_id", "d")
        done = run("data/import_features.py", "--table", table, *columns, *where)
        assert done.returncode == 0, done.stderr
        flags = ("--encoder", bert, "--precision", precision, *device)
        done = run("feature_engineering/textual_engineering.py", *where, *flags)
        assert done.returncode == 0, done.stderr
        found.append(np.load(tmp_path / name / "d" / "textual.npy"))
    np.testing.assert_allclose(*found, atol=1e-4 if precision == "fp32" else 0.05)


def test_one_process_of_torchrun_by_nccl(store, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = ["--dataset_path", str(store.folder.parent), "--dataset_id", store.folder.name, "--save", str(tmp_path)]
    words = ["train.py", *where, *map(str, flags_of("MMRA", "--epochs", 2)), *CUDA]
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "1", "--master_port", str(port)]
    done = subprocess.run([sys.executable, *launcher, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (made,) = tmp_path.iterdir()
    alone = trained(store, tmp_path / "alone", *flags_of("MMRA", "--epochs", 2), *CUDA)
    for name, values in weights(alone).items():
        assert torch.allclose(values, weights(made)[name], atol=1e-5), name
