"""Which item goes into which split."""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import GroupShuffleSplit, train_test_split

from dataloader.console import InputError

# The published protocol: a fifth is held out, and half of that is test, the other half valid.
HELD_OUT, HELD_OUT_SEED = 0.2, 9
VALID, VALID_SEED = 0.5, 18
FEWEST = 10  # below this a split of the published protocol is empty


def published_split(n: int) -> np.ndarray:
    """(n,) split names, by the published protocol: 80 / 10 / 10, scikit-learn's seeds 9 and 18."""
    _require(n, "items")
    train, held_out = train_test_split(np.arange(n), test_size=HELD_OUT, random_state=HELD_OUT_SEED)
    test, valid = train_test_split(held_out, test_size=VALID, random_state=VALID_SEED)
    return _named(n, train, valid, test)


def user_split(users: np.ndarray) -> np.ndarray:
    """Like the published split, but every user's items lie on one side of it."""
    _require(len(np.unique(users)), "users")
    everyone = np.arange(len(users))
    train, held_out = _grouped(everyone, users, HELD_OUT, HELD_OUT_SEED)
    test, valid = _grouped(held_out, users, VALID, VALID_SEED)
    return _named(len(users), train, valid, test)


def time_split(times: np.ndarray) -> np.ndarray:
    """The oldest 80 % train, the next 10 % valid, the newest 10 % test; equal times keep the order of the file."""
    _require(len(times), "items")
    order = np.argsort(times, kind="stable")
    n = len(order)
    return _named(n, order[: n * 8 // 10], order[n * 8 // 10 : n * 9 // 10], order[n * 9 // 10 :])


def _grouped(rows: np.ndarray, groups: np.ndarray, size: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    splitter = GroupShuffleSplit(n_splits=1, test_size=size, random_state=seed)
    first, second = next(splitter.split(rows, groups=groups[rows]))
    return rows[first], rows[second]


def _require(n: int, what: str) -> None:
    if n < FEWEST:
        raise InputError(f"{n} {what} are too few to split 80 / 10 / 10: at least {FEWEST} are needed")


def _named(n: int, train: np.ndarray, valid: np.ndarray, test: np.ndarray) -> np.ndarray:
    split = np.empty(n, dtype=object)
    split[train], split[valid], split[test] = "train", "valid", "test"
    return split
