"""retriever.py against brute force: blocks, duplicates, ties, banks; and what it says to bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import make_store, predictions, refused, trained

import retriever
from common.console import InputError
from dataloader.importing.splits import time_split
from dataloader.neighbours import Neighbours
from dataloader.search import exact
from dataloader.search.exact import search
from dataloader.store import FeatureStore


def brute_force(
    vectors: np.ndarray, bank: np.ndarray, k: int, allowed: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Every similarity in float64, rounded to float32; a stable sort leaves ties in the order of the rows.

    allowed: (N, N) whether row i may retrieve row j; -1 pads where there are no k.
    """
    x = vectors.astype(np.float64)
    length = np.sqrt((x * x).sum(axis=1))
    ids, similarity = [], []
    for i in range(len(x)):
        others = bank[bank != i]
        others = others if allowed is None else others[allowed[i, others]]
        s = ((x[others] * x[i]).sum(axis=1) / (length[others] * length[i])).astype(np.float32)
        best = np.argsort(-s, kind="stable")[:k]
        pads = k - len(best)
        ids.append(np.append(others[best], np.full(pads, -1)))
        similarity.append(np.append(s[best], np.zeros(pads, np.float32)))
    return np.array(ids), np.array(similarity)


@st.composite
def searches(draw):
    """Vectors of small whole numbers, so that ties and duplicates abound, or of random ones; any bank, k and block."""
    n, dim = draw(st.integers(3, 40)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if draw(st.booleans()):
        vectors = rng.integers(-2, 3, (n, dim)).astype(np.float32)
        vectors[~vectors.any(axis=1)] = 1
    else:
        vectors = rng.standard_normal((n, dim)).astype(np.float32)
    copies = draw(st.integers(0, n))
    vectors[rng.integers(0, n, copies)] = vectors[0]
    bank = np.sort(rng.choice(n, draw(st.integers(2, n)), replace=False))
    return vectors, bank, draw(st.integers(1, len(bank) - 1)), draw(st.integers(1, n + 3))


@settings(max_examples=150, deadline=None)
@given(searches())
def test_search_is_brute_force(case):
    vectors, bank, k, batch_size = case
    ids, similarity = search(vectors, bank, k, batch_size=batch_size)
    expected_ids, expected = brute_force(vectors, bank, k)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_allclose(similarity, expected, atol=2e-6)


@settings(max_examples=150, deadline=None)
@given(searches(), st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_what_was_not_yet_known_is_not_retrieved(case, seed, moments):
    """Against brute force, with few moments, so that many are equal, and items that are never known."""
    vectors, bank, k, batch_size = case
    rng = np.random.default_rng(seed)
    since, asked = (rng.integers(0, moments, len(vectors)) for _ in range(2))
    since[rng.random(len(vectors)) < 0.1] = np.iinfo(np.int64).max
    ids, similarity = search(vectors, bank, k, batch_size=batch_size, since=since, asked=asked)
    expected_ids, expected = brute_force(vectors, bank, k, since[None, :] <= asked[:, None])
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_allclose(similarity, expected, atol=2e-6)


def split_by_time(tmp_path, *, counted: bool) -> FeatureStore:
    """100 items an hour apart, counted up to three days later, of which one has no time of counting."""
    rng = np.random.default_rng(3)
    store = make_store(tmp_path / "tiny", k=None)
    n = len(store)
    time = np.datetime64("2024-01-01T00:00:00", "us") + rng.permutation(n) * np.timedelta64(1, "h")
    label_time = time + rng.integers(1, 72, n) * np.timedelta64(1, "h")
    label_time[store.rows("train")[0]] = "NaT"
    items = replace(store.items, time=time, **({"label_time": label_time} if counted else {}))
    items = replace(items, split=np.where(items.split == "predict", "predict", time_split(time)).astype(object))
    items.label[:] = np.where((items.split == "predict")[:, None], np.nan, np.nan_to_num(items.label, nan=1.0))
    items.popularity[:] = np.exp2(items.label) - 1
    arrays = {name: np.array(array) for name, array in store.features.items()}
    label = replace(store.label, split_by="time")
    new = FeatureStore.create(store.folder, items, family=store.family, label=label, overwrite=True)
    for name, array in arrays.items():
        with new.add_array(name, array.shape, array.dtype.name) as out:
            out[:] = array
    return new


@pytest.mark.parametrize("counted", [True, False])
def test_the_bank_of_a_time_split_obeys_time(tmp_path, capsys, load_script, counted):
    """No neighbour, also within train, of which the query's day did not know: by brute force over all pairs."""
    store = split_by_time(tmp_path, counted=counted)
    where = ["--dataset_path", str(tmp_path), "--dataset_id", "tiny"]
    retriever.main(retriever.build_parser().parse_args([*where, "--num_of_retrieved_items", "7"]))
    said, found, items = capsys.readouterr().out, Neighbours.read(store), store.items
    known, before = (items.label_time, np.less_equal) if counted else (items.time, np.less)
    allowed = before(known[None, :], items.time[:, None]) & ~np.isnat(known)[None, :]
    ids, _ = brute_force(store.features["retrieval"], store.rows("train"), 7, allowed)
    np.testing.assert_array_equal(found.ids, ids)
    assert (found.ids[store.rows("train")] < 0).any() and (found.ids[store.rows("test")] >= 0).all()
    rule = "counted by the time it was published" if counted else "published before it"
    assert f"(train, for each video those {rule})" in said and "items could know of no neighbour" in said
    run = trained(store, tmp_path / "runs", "--epochs", 1, "--num_of_retrieved_items", 7)
    assert rule in (run / "log.txt").read_text()
    predictions(load_script, run)
    assert f"split by time 80/10/10; bank train, for each video those {rule}" in (run / "metrics.json").read_text()
    # Neighbours that know of more, as earlier versions made them, are refused.
    search_all = search(store.features["retrieval"], store.rows("train"), 7)
    Neighbours(*search_all, 7, "train", "tests", store.fingerprint).write(store)
    with pytest.raises(InputError, match="made with another rule of what was known"):
        Neighbours.read(store)
    Neighbours(*search_all, 7, "train", "tests", store.fingerprint, found.known_by).write(store)
    with pytest.raises(InputError, match="neighbours of which nothing was known then"):
        Neighbours.read(store)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_many_chunks_many_duplicates(dtype):
    """More columns than one chunk, a third of all vectors the same: ties go to the lowest rows, at any block size."""
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((700, 16)).astype(dtype)
    vectors[rng.permutation(700)[:250]] = vectors[3]
    bank = np.flatnonzero(rng.random(700) < 0.8)
    expected, _ = brute_force(vectors, bank, 20)
    for batch_size in (1, 7, 333, 5000):
        np.testing.assert_array_equal(search(vectors, bank, 20, batch_size=batch_size)[0], expected)


@pytest.mark.parametrize("rough", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("common", [0, 0.2, 5])
@pytest.mark.parametrize("by_time", [False, True])
def test_rough_scores_lose_nobody(monkeypatch, rough, common, by_time):
    """Whether or not the processor multiplies in bfloat16, also where all are alike within what that can tell."""
    monkeypatch.setattr(exact, "_rough", lambda device: rough)
    monkeypatch.setattr(exact, "KEYS", 96)
    monkeypatch.setattr(exact, "FEWEST", 100)
    rng = np.random.default_rng(4)
    vectors = (rng.standard_normal((1500, 24)) + common).astype(np.float32)
    vectors[700:760] = vectors[3] * rng.uniform(0.5, 2, (60, 1))  # the same direction, if not the same vector
    vectors[800:900] = vectors[5]
    bank, times, allowed = np.flatnonzero(rng.random(1500) < 0.8), {}, None
    if by_time:
        times = {"since": np.arange(1500), "asked": np.arange(1500) - rng.integers(0, 30, 1500)}
        allowed = times["since"][None, :] <= times["asked"][:, None]
    ids, similarity = search(vectors, bank, 10, **times)
    expected_ids, expected = brute_force(vectors, bank, 10, allowed)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_allclose(similarity, expected, atol=2e-6)


def test_values_of_any_size():
    """Lengths that overflow float32 are no reason for NaN."""
    vectors = np.random.default_rng(2).standard_normal((50, 8)).astype(np.float32)
    scale = np.float32(10) ** np.linspace(-18, 18, 50, dtype=np.float32)[:, None]
    ids, similarity = search(vectors * scale, np.arange(50), 5)
    np.testing.assert_array_equal(ids, brute_force(vectors * scale, np.arange(50), 5)[0])
    assert np.isfinite(similarity).all()


def parsed(folder, *flags):
    return retriever.build_parser().parse_args(
        ["--dataset_path", str(folder.parent), "--dataset_id", folder.name, *map(str, flags)]
    )


@pytest.mark.parametrize("bank", ["train", pytest.param("train+valid", marks=pytest.mark.slow)])
def test_the_script_writes_neighbours_from_the_bank_alone(tmp_path, run, bank):
    store = make_store(tmp_path / "tiny", k=None)
    done = run("retriever.py", "--dataset_path", tmp_path, "--dataset_id", "tiny", "--bank", bank, "--batch_size", 7)
    assert (done.returncode, done.stderr) == (0, "")
    assert "python train.py" in done.stdout
    found = Neighbours.read(store)
    assert (found.k, found.bank, found.fingerprint) == (20, bank, store.fingerprint)
    rows = np.flatnonzero(np.isin(store.items.split, bank.split("+")))
    expected, similarity = brute_force(store.features["retrieval"], rows, 20)
    np.testing.assert_array_equal(found.ids, expected)
    np.testing.assert_allclose(found.similarity, similarity, atol=2e-6)
    assert not (found.ids == np.arange(len(store))[:, None]).any()


def test_no_data_set_names_the_command_that_makes_it(tmp_path, run):
    done = run("retriever.py", "--dataset_path", tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "python data/MicroLens-100k/preprocess.py --raw" in done.stderr


def test_k_beyond_the_bank(tmp_path):
    store = make_store(tmp_path / "tiny", k=None)
    with pytest.raises(InputError, match="--num_of_retrieved_items 60.*at most 59"):
        retriever.main(parsed(store.folder, "--num_of_retrieved_items", 60))
    assert not (store.folder / "neighbours.npz").exists()
    retriever.main(parsed(store.folder, "--num_of_retrieved_items", 59))


def test_vectors_without_a_direction_are_named(tmp_path):
    store = make_store(tmp_path / "tiny", k=None)
    array = np.load(store.folder / "retrieval.npy", mmap_mode="r+")
    array[5], array[7, 2], array[9, 0] = 0, np.nan, np.inf
    array.flush()
    with pytest.raises(InputError) as error:
        retriever.main(parsed(store.folder))
    assert "2 of 104 items have NaN or infinite values (item ids v007, v009)" in str(error.value)
    assert not (store.folder / "neighbours.npz").exists()


def test_an_item_that_cannot_be_compared_gets_no_neighbours_and_is_nobodys(tmp_path, capsys, load_script):
    """The others get what they would get without it; it is trained on, tested and predicted as one without any."""
    store = make_store(tmp_path / "data" / "tiny", k=None)
    train, test = store.rows("train"), store.rows("test")
    zero = [int(train[3]), int(test[2])]
    vectors = np.array(store.features["retrieval"])
    vectors[zero] = 0
    with store.add_array("retrieval", vectors.shape, "float32", overwrite=True) as out:
        out[:] = vectors
    retriever.main(parsed(store.folder, "--num_of_retrieved_items", 5))
    said = capsys.readouterr().out
    assert "2 items have vectors of zeros" in said and store.items.item_id[zero[0]] in said
    found = Neighbours.read(FeatureStore.open(store.folder))
    assert (found.ids[zero] == -1).all() and (found.similarity[zero] == 0).all()
    others = np.setdiff1d(np.arange(len(store)), zero)
    ids, similarity = brute(vectors, others, train, zero)
    np.testing.assert_array_equal(found.ids[others], ids)
    np.testing.assert_allclose(found.similarity[others], similarity, atol=1e-6)
    run = trained(store, tmp_path / "runs", "--feature_dim", 8, "--epochs", 1, "--num_of_retrieved_items", 5)
    assert np.isfinite(predictions(load_script, run)).all()


def brute(vectors, rows, train, zero):
    """Top 5 by float64 cosine of the rows among train without those that are zero and without the row itself."""
    unit = vectors / np.maximum(np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True), 1e-30)
    bank, ids, similarity = np.setdiff1d(train, zero), [], []
    for row in rows:
        among = bank[bank != row]
        score = unit[among] @ unit[row]
        best = np.lexsort((among, -score))[:5]
        ids.append(among[best])
        similarity.append(score[best])
    return np.array(ids), np.array(similarity)


def test_missing_vectors_and_devices(tmp_path):
    store = make_store(tmp_path / "tiny", k=None)
    with pytest.raises(InputError, match="--device cuda:77"):
        retriever.main(parsed(store.folder, "--device", "cuda:77"))
    fresh = FeatureStore.create(tmp_path / "bare", store.items, family="NUS", label=store.label)
    with refused(r"no retrieval features yet; make them with: .*retrieval_engineering"):
        retriever.main(parsed(fresh.folder))


def test_the_real_vine_videos_agree_with_brute_force(shared, tmp_path):
    """2,000 real caption features, repeated captions among them."""
    with np.load(shared / "data" / "nus_vine_10k" / "text_sentence2vec_feature.npz", allow_pickle=False) as file:
        vectors = file["arr_0"][:2000]
    bank = np.arange(0, 2000, 2)
    ids, similarity = search(vectors, bank, 20)
    expected, expected_similarity = brute_force(vectors, bank, 20)
    np.testing.assert_allclose(similarity, expected_similarity, atol=2e-6)
    np.testing.assert_array_equal(ids, expected)


def test_sources_are_checked_before_anything_is_written(tmp_path):
    store = make_store(tmp_path / "set")
    before, path = (store.folder / "neighbours.npz").read_bytes(), store.folder / "textual.npy"
    raw = path.read_bytes()
    path.write_bytes(raw[:-5] + bytes([raw[-5] ^ 1]) + raw[-4:])
    where = ["--dataset_path", str(tmp_path), "--dataset_id", "set", "--num_of_retrieved_items", "3"]
    with refused("textual.npy: not the array that was written"):
        retriever.main(retriever.build_parser().parse_args([*where, "--source", "retrieval", "textual"]))
    assert (store.folder / "neighbours.npz").read_bytes() == before
