"""Search for some items alone against search for all, and a store seen with others behind it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.arrays import Joined, OfRows
from dataloader.search import few
from dataloader.search.exact import search, unit
from dataloader.search.few import search_few


@given(st.data(), st.integers(0, 2**31))
def test_it_finds_what_the_search_for_all_finds(data, seed):
    rng = np.random.default_rng(seed)
    n, width, k = data.draw(st.integers(12, 60)), data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    # Few different values, so that vectors are equal and similarities tie; none is all zeros, which `search` is spared.
    vectors = rng.integers(-2, 3, (n, width)).astype(data.draw(st.sampled_from([np.float32, np.float16])))
    vectors[~vectors.any(axis=1)] = 1
    bank = np.sort(rng.choice(n, rng.integers(k + 1, n + 1), replace=False))
    times = {}
    if data.draw(st.booleans()):
        times = {"since": rng.integers(0, 20, n), "asked": rng.integers(0, 20, n)}
    asking = np.sort(rng.choice(n, rng.integers(1, n + 1), replace=False))
    expected = search(vectors, bank, k, **times)
    cut = data.draw(st.integers(1, n - 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(few, "BLOCK_BYTES", 4 * width * data.draw(st.integers(1, n)))
        found = search_few(Joined(vectors[:cut], vectors[cut:]), asking, bank, k, **times)
    np.testing.assert_array_equal(found[0], expected[0][asking])
    np.testing.assert_allclose(found[1], expected[1][asking], atol=1e-6)


def test_a_vector_of_zeros_has_no_neighbours_and_is_none():
    vectors = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32)
    ids, similarity = search_few(vectors, np.array([0, 3]), np.arange(4), 3)
    assert ids.tolist() == [[-1, -1, -1], [1, 2, -1]] and similarity[0].tolist() == [0, 0, 0]


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**31))
def test_joined_arrays_read_like_one(n, m, seed):
    rng = np.random.default_rng(seed)
    first, then = rng.normal(size=(n, 3, 2)), rng.normal(size=(m, 3, 2))
    whole, joined = np.concatenate([first, then]), Joined(first, then)
    rows = rng.integers(0, n + m, 7)
    frames = np.array([2, 0])
    for key in (
        rows,
        slice(1, n + m),
        (rows, slice(0, 2)),
        (rows[:, None], frames),
        rows > 1,
        (rows, 0),
        rows.reshape(7, 1),
    ):
        if isinstance(key, np.ndarray) and key.dtype == bool:
            key = np.arange(n + m) % 2 == 0
        np.testing.assert_array_equal(joined[key], whole[key])
    np.testing.assert_array_equal(np.asarray(joined), whole)
    assert joined.shape == whole.shape and len(joined) == n + m


def test_only_rows_that_were_searched_for_can_be_asked_for():
    found = OfRows(np.array([2, 5]), np.array([[1, 2], [3, 4]]), 9)
    assert found[np.array([5, 2]), :1].tolist() == [[3], [1]] and found.shape == (9, 2)
    with pytest.raises(IndexError):
        found[np.array([3])]


@pytest.mark.parametrize("dtype", ["<f2", ">f2", "<f4", ">f4", "<f8"])
def test_vectors_of_length_1_of_any_float_type(dtype):
    vectors = np.random.default_rng(0).standard_normal((5, 7)).astype(dtype)
    before, exact = vectors.copy(), vectors.astype(float)
    np.testing.assert_allclose(unit(vectors), exact / np.linalg.norm(exact, axis=1, keepdims=True), atol=1e-6)
    assert unit(vectors).dtype == np.float32 and np.array_equal(vectors, before)
