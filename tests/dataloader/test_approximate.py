"""Approximate search: its rules against brute force, its recall against exact search, its index that grows."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import make_store, refused

import retriever
from dataloader.neighbours import Neighbours
from dataloader.search import approximate, retrieval
from dataloader.search.exact import search
from dataloader.search.index import open_index

pytest.importorskip("faiss")
pytestmark = pytest.mark.slow  # with the packages of requirements-scale.txt
KINDS = ("hnsw", "ivf", "ivfpq")


def quiet(_: str) -> None:
    pass


def clustered(rng: np.random.Generator, n: int, width: int) -> np.ndarray:
    centres = rng.standard_normal((12, width))
    return (centres[rng.integers(0, 12, n)] + 0.4 * rng.standard_normal((n, width))).astype(np.float32)


@given(st.data())
@settings(max_examples=12, deadline=None)
def test_the_rules_hold_exactly(tmp_path_factory, data):
    """No item retrieves itself, only the bank, only what was known; where it is few who may be, it is all of them."""
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    n, k, by_time = data.draw(st.integers(600, 800)), data.draw(st.integers(1, 8)), data.draw(st.booleans())
    vectors, bank = clustered(rng, n, 20), np.sort(rng.choice(n, n // 2, replace=False))
    vectors[rng.choice(n, 20)] = vectors[0]  # ties
    times = {"since": rng.integers(0, 50, n), "asked": rng.integers(0, 50, n)} if by_time else {}
    kind, folder = data.draw(st.sampled_from(KINDS)), tmp_path_factory.mktemp("index")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(approximate, "FEW", 20)
        index = open_index(folder, "retrieval", kind, vectors, bank, times.get("since"), say=quiet)
        found = approximate.search_approximately(vectors, np.arange(n), index, k, **times, say=quiet)
    exact, _ = search(vectors, bank, k, **times)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for row in range(n):
        ids = found.ids[row][found.ids[row] >= 0]
        assert row not in ids and np.isin(ids, bank).all() and len(set(ids.tolist())) == len(ids)
        assert len(ids) == (exact[row] >= 0).sum()  # as many as there are
        if by_time:
            assert (times["since"][ids] <= times["asked"][row]).all()
        said = found.similarity[row][: len(ids)]
        np.testing.assert_allclose(said, unit[ids] @ unit[row], atol=1e-6)
        assert ((np.diff(said) < 0) | ((np.diff(said) == 0) & (np.diff(ids) > 0))).all()
    measured = (exact[:, :, None] == found.ids[:, None])[exact >= 0].any(axis=1).mean()
    assert measured > 0.85 and (n > approximate.SAMPLE or found.recall[k] == pytest.approx(measured))


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_grows_and_is_made_anew_for_other_vectors(tmp_path, kind):
    rng, said = np.random.default_rng(0), []
    vectors, bank = clustered(rng, 600, 24), np.arange(0, 500)
    if kind == "ivfpq":
        with refused("made of 16 vectors or more, the bank has 10"):
            open_index(tmp_path, "retrieval", kind, vectors, bank[:10], None, say=said.append)
        said.clear()
    first = open_index(tmp_path, "retrieval", kind, vectors[:500], bank[:400], None, say=said.append)
    assert said.pop().endswith("made of 400 vectors")
    before = (tmp_path / f"index/retrieval.{kind}.faiss").stat()
    open_index(tmp_path, "retrieval", kind, vectors[:500], bank[:400], None, say=said.append)
    assert not said and (tmp_path / f"index/retrieval.{kind}.faiss").stat() == before
    grown = open_index(tmp_path, "retrieval", kind, vectors, np.append(bank[:400], range(500, 600)), None, said.append)
    assert "100 vectors are added to its 400" in said.pop() and grown.faiss_index.ntotal == 500
    assert grown.rows.tolist() == [*first.rows.tolist(), *range(500, 600)]
    refilled = open_index(tmp_path, "retrieval", kind, vectors, np.arange(600), None, say=said.append)
    assert "100 vectors are added to its 500" in said.pop()  # of old rows whose counts are known now
    assert sorted(refilled.rows.tolist()) == list(range(600))
    vectors[3] += 1
    place = tmp_path / "index"
    for what in (
        lambda: None,
        lambda: damage(place / f"retrieval.{kind}.faiss"),
        lambda: (place / f"retrieval.{kind}.faiss").unlink(),
        lambda: (place / f"retrieval.{kind}.rows.npy").write_bytes(b"none"),
        lambda: (place / f"retrieval.{kind}.json").write_text("[]"),
        lambda: (place / f"retrieval.{kind}.json").write_text('{"items": "x", "vectors": 1}'),
    ):
        what()
        open_index(tmp_path, "retrieval", kind, vectors, np.append(bank[:400], range(500, 600)), None, said.append)
        assert said.pop().endswith("made of 500 vectors")


def damage(path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def test_the_command_says_and_keeps_what_share_is_found(tmp_path, capsys, monkeypatch):
    store = make_store(tmp_path / "set", sizes={"train": 300, "valid": 50, "test": 50})
    where = ["--dataset_path", str(tmp_path), "--dataset_id", "set", "--num_of_retrieved_items", "5"]
    retriever.main(retriever.build_parser().parse_args([*where, "--backend", "exact"]))
    exact = Neighbours.read(store)
    assert exact.recall is None and "exact cosine" in exact.backend
    capsys.readouterr()
    retriever.main(retriever.build_parser().parse_args([*where, "--backend", "ivf"]))
    found, out = Neighbours.read(store), capsys.readouterr().out
    assert found.recall["5"] >= approximate.ASKED_FOR and "recall@5" in out
    assert (found.ids == exact.ids).mean() >= 0.9 and "ivf of" in found.backend
    described = found.described()
    assert json.loads(json.dumps(described))["backend"] == found.backend
    monkeypatch.setattr(retrieval, "MOST_EXACT", 200)
    retriever.main(retriever.build_parser().parse_args(where))
    assert Neighbours.read(store).backend.startswith("ivfpq of 300 vectors")


def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch):
    import sys

    make_store(tmp_path / "set")
    monkeypatch.setitem(sys.modules, "faiss", None)
    where = ["--dataset_path", str(tmp_path), "--dataset_id", "set", "--backend", "ivf"]
    with refused(r"pip install -r requirements-scale.txt; without it, --backend exact"):
        retriever.main(retriever.build_parser().parse_args(where))
