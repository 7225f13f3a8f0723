"""The programs of benchmarks/ that take hours, on data sets on which they take seconds."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("faiss", reason="requirements-scale.txt is not installed")
SMALL = ("--items", 2000, "--width", 16, "--k", 10, "--train_k", 10)


@pytest.mark.slow
def test_a_million_in_small_goes_on_where_it_ended(tmp_path, run):
    first = run("-m", "benchmarks.million", *SMALL, "--backend", "exact", "--work", tmp_path)
    assert first.returncode == 0, first.stderr
    words = (*SMALL, "--backend", "exact", "hnsw", "--train", "MMRA", "--work", tmp_path)
    whole = run("-m", "benchmarks.million", *words)
    assert whole.returncode == 0, whole.stderr
    assert whole.stdout.startswith(first.stdout)  # with the seconds of then: what is measured is not measured again
    lines = [json.loads(line) for line in whole.stdout.splitlines()]
    assert [line["step"] for line in lines] == ["data", "retrieve", "retrieve", "train"]
    exact, graph, trained = lines[1:]
    assert exact["recall"] is None and 0.9 < graph["recall"]["10"] <= 1 and 0 < graph["of_exact"] < 1
    assert exact["peak_mb"] > 0 and trained["seconds_an_epoch"] > 0 and trained["nMSE"] > 0
    some = run("-m", "benchmarks.million", *SMALL, "--backend", "ivfpq", "--asking", "1000", "--work", tmp_path)
    assert some.returncode == 0, some.stderr
    codes = json.loads(some.stdout.splitlines()[-1])
    assert codes["asking"] == 1000 and codes["seconds"] > codes["seconds_of_those"] > 0
    assert 0.9 < codes["recall"]["10"] <= 1 and codes["said"].startswith("ivfpq of 1600 vectors")
    (tmp_path / "set_2000_16" / "items.parquet").write_bytes(b"")
    words = (*SMALL, "--backend", "ivf", "--work", tmp_path)
    failed = run("-m", "benchmarks.million", *words)
    assert failed.returncode == 2 and "retriever.py" in failed.stderr and "items.parquet" in failed.stderr
