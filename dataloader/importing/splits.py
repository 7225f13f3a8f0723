"""Which item goes into which split."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import GroupKFold, GroupShuffleSplit, KFold, train_test_split

from common.console import InputError, number, whole_number
from common.settings import setting
from dataloader.items import Items, creators

# The published protocol: a fifth is held out, and half of that is test, the other half valid.
HELD_OUT_SEED, VALID_SEED = 9, 18
FEWEST = 10  # below this a split of the published protocol is empty
VALID_OF_REST = 1 / 9  # of what a fold leaves: valid is to train as in the published protocol, 10 to 80


@dataclass(frozen=True)
class SplitSettings:
    """How the items are split into train, valid and test."""

    split_by: str | None = setting(
        None,
        "random, which is the published split where nothing else is typed (its other name is published); time: train "
        "is older than valid, and valid than test; user: a creator's items lie on one side; column: as --split_column "
        "says; without it column where that is given, else random",
        str,
        ("random", "published", "time", "user", "column"),
        kind=str,
    )
    shares: list[float] | None = setting(
        None,
        "of train, valid and test: 80 10 10 if not given",
        number(0, above=True, most=1e6),
        kind=list,
        nargs=3,
        metavar="S",
    )
    split_seed: int | None = setting(
        None, "of what is drawn at random, items or users; the published seeds if not given", whole_number(0, 2**31)
    )

    @property
    def of(self) -> tuple[float, float, float]:
        """The shares, which sum to 1."""
        shares = self.shares or [80.0, 10.0, 10.0]
        return tuple(share / sum(shares) for share in shares)

    @property
    def seeds(self) -> tuple[int, int]:
        """Of the two draws: what is held out, and what of it is valid."""
        seed = self.split_seed
        return (HELD_OUT_SEED, VALID_SEED) if seed is None else (seed, seed + VALID_SEED - HELD_OUT_SEED)

    def kind(self, column: str | None) -> str:
        """What they are split by; InputError for flags that say nothing together. column: --split_column."""
        by = self.split_by or ("column" if column else "random")
        if by == "column" and not column:
            raise InputError("--split_by column: --split_column says which, and is not given")
        if by != "column" and column:
            raise InputError(f"--split_by {by} and --split_column {column}: leave one of them out")
        if by == "column" and (self.shares or self.split_seed is not None):
            raise InputError("--shares and --split_seed do nothing beside --split_column")
        if by == "time" and self.split_seed is not None:
            raise InputError("--split_seed does nothing with --split_by time, where nothing is drawn")
        return "random" if by == "published" else by

    def in_words(self, column: str | None = None) -> str:
        """What dataset.json says of it."""
        by = self.kind(column)
        if by == "column":
            return f"column {column}"
        more = [] if self.shares is None else ["/".join(f"{100 * share:.3g}" for share in self.of)]
        more += [] if self.split_seed is None else [f"seed {self.split_seed}"]
        return " ".join([by, ", ".join(more)]) if more else "published" if by == "random" else by


def make_split(how: SplitSettings, by: str, labelled: np.ndarray, time: np.ndarray, user: np.ndarray) -> np.ndarray:
    """(N,) split names of the items that are `labelled` (N,); the others are of split predict.

    by: "random", "time" (N,), or "user" (N,) str, where one of an unknown creator is alone. By time those of an unknown
    time are of split predict too. InputError where there are too few.
    """
    split = np.full(len(labelled), "predict", dtype=object)
    rows = np.flatnonzero(labelled & ~np.isnat(time) if by == "time" else labelled)
    if by == "time":
        split[rows] = time_split(time[rows], how.of)
    elif by == "user":
        alone = np.array([name or f"\0{row}" for row, name in enumerate(user[rows])], object)
        split[rows] = user_split(alone, how.of, how.seeds)
    else:
        split[rows] = random_split(len(rows), how.of, how.seeds)
    return split


def published_split(n: int) -> np.ndarray:
    """(n,) split names, by the published protocol: 80 / 10 / 10, scikit-learn's seeds 9 and 18."""
    return random_split(n, SplitSettings().of, SplitSettings().seeds)


def random_split(n: int, shares: Sequence[float], seeds: Sequence[int]) -> np.ndarray:
    _require(n, "items")
    try:
        train, held_out = train_test_split(np.arange(n), test_size=_held_out(shares), random_state=seeds[0])
        test, valid = train_test_split(held_out, test_size=_valid(shares), random_state=seeds[1])
    except ValueError:  # scikit-learn's, for a side that would be empty
        return _named(n)
    return _named(n, train, valid, test)


def user_split(
    users: np.ndarray, shares: Sequence[float] = SplitSettings().of, seeds: Sequence[int] = SplitSettings().seeds
) -> np.ndarray:
    """Like the random split, but every user's items lie on one side of it; the shares are of users."""
    _require(len(np.unique(users)), "users")
    everyone = np.arange(len(users))
    try:
        train, held_out = _grouped(everyone, users, _held_out(shares), seeds[0])
        test, valid = _grouped(held_out, users, _valid(shares), seeds[1])
    except ValueError:  # scikit-learn's, for a side that would be empty
        return _named(len(users))
    return _named(len(users), train, valid, test)


def time_split(times: np.ndarray, shares: Sequence[float] = SplitSettings().of) -> np.ndarray:
    """The oldest 80 % train, the next 10 % valid, the newest 10 % test; equal times are never on two sides."""
    _require(len(times), "items of a known time")
    order, n = np.argsort(times, kind="stable"), len(times)
    wanted = [int(n * share + 1e-9) for share in (shares[0], shares[0] + shares[1])]
    if not 0 < wanted[0] < wanted[1] < n:
        return _named(n)
    first, second = (_at_a_change(times[order], border) for border in wanted)
    if not 0 < first < second < n:
        raise InputError("too many items are of the same time to be split by it: train, valid or test would be empty")
    return _named(n, order[:first], order[first:second], order[second:])


def _held_out(shares: Sequence[float]) -> float:
    return round(shares[1] + shares[2], 12)


def _valid(shares: Sequence[float]) -> float:
    """Of what is held out."""
    return round(shares[1] / (shares[1] + shares[2]), 12)


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
        raise InputError(f"{n} {what} are too few to be split: at least {FEWEST} are needed")


def _named(n: int, train: np.ndarray = (), valid: np.ndarray = (), test: np.ndarray = ()) -> np.ndarray:
    if not all(map(len, (train, valid, test))):
        raise InputError(f"{n} items with these --shares leave train, valid or test empty")
    split = np.empty(n, dtype=object)
    split[train], split[valid], split[test] = "train", "valid", "test"
    return split
