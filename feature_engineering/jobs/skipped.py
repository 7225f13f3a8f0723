"""Items that cannot be used: how --on_error is obeyed, and what is said of them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from common.console import InputError, listed
from dataloader.skipped import write_skipped
from dataloader.store import FeatureStore
from feature_engineering.jobs.progress import Progress

MOST_LOST = 0.05  # A job that loses a larger share of the items than this ends with a warning.


class NothingUsable(InputError):
    """Every item failed."""


def fail_on(reasons: dict[str, str], policy: str, place: Path) -> None:
    """InputError for the first of `reasons` (item id -> why) where the policy is to fail."""
    if policy == "fail" and reasons:
        raise InputError(
            f"{place}: item {'; item '.join(f'{item}: {why}' for item, why in list(reasons.items())[:3])}"
            f"{f' and {len(reasons) - 3} more' if len(reasons) > 3 else ''}; mend it, or pass over such items with "
            "--on_error skip"
        )


def leave_out(
    store: FeatureStore, progress: Progress, policy: str, stage: str, place: Path
) -> tuple[FeatureStore, np.ndarray]:
    """Act on the units of `progress` that failed: the data set as it is to be, and its rows among the units."""
    failed = progress.failed
    if len(store) < progress.total:
        # An earlier run has left the failed items out already, and was killed before it had removed its progress.
        return store, np.array([i for i, key in enumerate(progress.keys) if key not in failed])
    store, kept = leave_out_failed(store, failed, policy, stage, place)
    return store, np.flatnonzero(kept)


def leave_out_failed(
    store: FeatureStore, failed: dict[str, str], policy: str, stage: str, place: Path
) -> tuple[FeatureStore, np.ndarray]:
    """List the items that `failed` (item id -> why), leave them out where that is the policy: the data set, the mask.

    InputError where every item failed: the data set is left as it is.
    """
    total, path = len(store), write_skipped(store.folder, stage, failed, tried=store.items.item_id)
    shown = listed(f"{item}: {why}" for item, why in failed.items())
    if len(failed) == total:
        raise NothingUsable(f"{place}: none of the {total} items could be used ({shown}); see {path}")
    if not failed:
        return store, np.ones(total, bool)
    # A failure to decode has ended a run with the policy fail before. What is left was noted by an earlier run with
    # another policy, or the encoder failed on it (NaN).
    fail_on(failed, policy, place)
    what = "left out" if policy == "skip" else "given zeros"
    print(f"{len(failed)} of {total} items {what}, listed in {path} ({shown})")
    kept = np.array([policy != "skip" or item_id not in failed for item_id in store.items.item_id])
    return (store if kept.all() else store.keep(kept)), kept


def warn_of_losses(lost: int, total: int, path: Path, what: str = "items") -> None:
    """The last line of a job that lost many of its items, or of `what` it took of them."""
    if lost > MOST_LOST * total:
        sys.stdout.flush()
        print(f"warning: {lost} of {total} {what} ({lost / total:.0%}) could not be used; see {path}", file=sys.stderr)
