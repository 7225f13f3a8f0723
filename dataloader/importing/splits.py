"""Which item goes into which split."""

from __future__ import annotations

import itertools

import numpy as np
from sklearn.model_selection import GroupKFold, GroupShuffleSplit, KFold, train_test_split

from common.console import InputError
from dataloader.items import Items, creators

# The published protocol: a fifth is held out, and half of that is test, the other half valid.
HELD_OUT, HELD_OUT_SEED = 0.2, 9
VALID, VALID_SEED = 0.5, 18
FEWEST = 10  # below this a split of the published protocol is empty
VALID_OF_REST = 1 / 9  # of what a fold leaves: valid is to train as in the published protocol, 10 to 80


def published_split(n: int) -> np.ndarray:
    """(n,) split names, by the published protocol: 80 / 10 / 10, scikit-learn's seeds 9 and 18."""
    _require(n, "items")
    train, held_out = train_test_split(np.arange(n), test_size=HELD_OUT, random_state=HELD_OUT_SEED)
    test, valid = train_test_split(held_out, test_size=VALID, random_state=VALID_SEED)
    return _named(n, train, valid, test)


def split_at_random(label: np.ndarray, problems: list[str]) -> np.ndarray:
    """(N,) the published split of the items that have all labels; the others are to be predicted."""
    labelled = np.isfinite(label).all(axis=1)
    split = np.full(len(label), "predict", dtype=object)
    if 0 < labelled.sum() < FEWEST:
        problems.append(
            f"{int(labelled.sum())} labelled items are too few for the published 80/10/10 split (at least {FEWEST}); "
            "give your own with --split_column"
        )
    elif labelled.any():
        split[labelled] = published_split(int(labelled.sum()))
    return split


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


def fold_splits(items: Items, folds: int, by: str) -> list[np.ndarray]:
    """`folds` assignments (N,) of split names, each testing another part of the labelled items.

    by: "creator": a creator's items lie on one side; items of unknown creators are taken one by one. "time": the items
    in the order of their times make folds + 1 blocks; a block is tested by what was trained on all before it, so the
    first is never tested; equal times are never on two sides. "random". valid is about a ninth of what is not tested:
    other creators, the newest, or at random. Items of split predict stay there, and by time those of unknown time go.
    """
    if by == "creator" and "user" not in items.origin:
        raise InputError("--folds_by creator: no creator of any item is known; take another or import them (user)")
    usable = items.split != "predict"
    if by == "time":
        usable &= ~np.isnat(items.time)
        if not usable.any():
            raise InputError("--folds_by time: no time of any item is known; take another or import them (time)")
    rows = np.flatnonzero(usable)
    group = creators(items.user[rows])
    number = len(np.unique(group)) if by == "creator" else len(rows)
    what = "creators" if by == "creator" else "items"
    if number < max(FEWEST, 2 * folds):
        raise InputError(f"--folds {folds}: {number} {what} are too few, at least {max(FEWEST, 2 * folds)} are needed")
    if by == "creator":
        parts = GroupKFold(folds).split(rows, groups=group)
    elif by == "time":
        rows = rows[np.argsort(items.time[rows], kind="stable")]
        borders = [len(rows) - len(rows) // (folds + 1) * (folds - fold) for fold in range(folds + 1)]
        borders = [_at_a_change(items.time[rows], border) for border in borders]
        parts = [(np.arange(a), np.arange(a, b)) for a, b in itertools.pairwise(borders)]
    else:
        parts = KFold(folds, shuffle=True, random_state=HELD_OUT_SEED).split(rows)
    found = []
    for rest, test in parts:
        if by == "creator":
            train, valid = _creators_for_valid(rest, group)
        elif by == "time":
            border = _at_a_change(items.time[rows], len(rest) - max(1, round(len(rest) * VALID_OF_REST)))
            train, valid = rest[:border], rest[border:]
        else:
            train, valid = train_test_split(rest, test_size=VALID_OF_REST, random_state=VALID_SEED)
        if not all(map(len, (train, valid, test))):
            raise InputError(f"--folds {folds} --folds_by {by}: a fold would have no train, valid or test items")
        split = np.full(len(items), "predict", object)  # what is tested in no fold, or trained on later, stays here
        split[rows[train]], split[rows[valid]], split[rows[test]] = "train", "valid", "test"
        found.append(split)
    return found


def _at_a_change(times: np.ndarray, border: int) -> int:
    """The border moved back to where equal times begin, so that none lie on both sides of it."""
    return int(np.searchsorted(times, times[border])) if border < len(times) else len(times)


def _creators_for_valid(rest: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A ninth of the creators at random for valid; where they have far from a ninth of the items, the best of draws."""
    wanted, best = len(rest) * VALID_OF_REST, None
    for draw in range(10):
        train, valid = _grouped(rest, group, VALID_OF_REST, VALID_SEED + draw)
        if best is None or abs(len(valid) - wanted) < abs(len(best[1]) - wanted):
            best = train, valid
        if abs(len(best[1]) - wanted) <= wanted / 2:
            break
    return best


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
