"""What a data set holds, in words: what `python -m dataloader.store <folder>` and every import print."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from common.arrays import digest, scan
from common.console import Parser
from dataloader.audit import audit, audit_line
from dataloader.checks import scale_warning
from dataloader.items import Items
from dataloader.modalities import in_order
from dataloader.names import SPLITS
from dataloader.neighbours import Neighbours, path_of, sources_of
from dataloader.store import UNSCALED, FeatureStore


def build_parser() -> Parser:
    parser = Parser(prog="python -m dataloader.store", description="Print what a data set holds.")
    parser.add_argument("folder", help="the data set's folder: <dataset_path>/<dataset_id>")
    parser.add_argument_group("what is printed").add_argument(
        "--audit",
        action="store_true",
        help="print what makes results look better than they are: equal texts, near-equal vectors and creators across "
        "splits, neighbours from the future, metadata that follow from popularity, columns that say nothing",
    )
    return parser


def main(args) -> None:
    print((audit if args.audit else describe)(FeatureStore.open(args.folder)))


def describe(store: FeatureStore) -> str:
    """What `python -m dataloader.store` prints; reads every feature to count missing values."""
    items, label = store.items, store.label
    lines = [
        f"{store.folder}: {len(store)} items, family {store.family}, fingerprint {store.fingerprint}",
        "splits: "
        + ", ".join(f"{split} {len(items.rows(split))}" for split in SPLITS)
        + (f" (by {label.split_in_words()})" if label.split_by else ""),
    ]
    for target, name in enumerate(label.names):
        values = items.label[:, target][np.isfinite(items.label[:, target])]
        spread = (
            f"mean {values.mean():.3f}, std {values.std():.3f}, min {values.min():.3f}, "
            f"median {np.median(values):.3f}, max {values.max():.3f}"
            if len(values)
            else "no values"
        )
        lines.append(f"label {name} ({label.in_words()}): {spread}")
    lines.append(
        f"missing: {int((items.text == '').sum())} empty texts, "
        f"{int(np.isnan(items.popularity).any(axis=1).sum())} unknown counts, "
        f"{int(np.isnan(items.label).any(axis=1).sum())} items without a label"
    )
    lines += creators_and_times(items)
    for name in in_order(store.features):
        array, feature = store.features[name], store.description.features[name]
        bad, rms, zero = scan(array)
        origin = {key: value for key, value in feature.made.items() if key not in ("statistics", UNSCALED)}
        lines.append(
            f"{name}: {' x '.join(map(str, array.shape))} {array.dtype}, {array.nbytes / 1e6:,.1f} MB, "
            f"root mean square {rms:.3g}, {int(zero.sum())} all-zero items, {int(bad.sum())} with NaN or infinity"
            + ("; NOT the array that was written" if digest(array) != feature.sha256 else "")
            + (f"; {json.dumps(origin, ensure_ascii=False)}" if origin else "")
        )
        if (warning := scale_warning(name, rms)) and not bad.any():
            lines.append(f"  warning: {warning}")
    if store.metadata is not None:
        lines.append(f"metadata: {', '.join(f'{name} ({kind})' for name, kind in store.metadata.kinds.items())}")
    if not store.features:
        lines.append("features: none yet")
    there = [path_of(store.folder, source).relative_to(store.folder).as_posix() for source in sources_of(store)]
    lines.append(f"neighbours: {', '.join(there) or 'none'}")
    lines.append(audit_line(store))
    return "\n".join(lines)


def heading(store: FeatureStore, neighbours: Neighbours | None = None, *, metadata: bool = True) -> str:
    """What belongs over every result: what is predicted, in which unit, on which split, from which bank.

    metadata: they are used, so that it matters if any were counted after publication.
    """
    said = [f"label {name} ({store.label.in_words()})" for name in store.label.names]
    grown = store.label.by_time and store.learned is None and store.description.lineage.get("grew")
    since = ", ITS TRAIN HAS GROWN SINCE and may be newer than what is tested" if grown else ""
    said.append(f"split by {store.label.split_in_words()}{since}")
    if neighbours is not None:
        said.append(f"bank {neighbours.bank_in_words}")
    if metadata and (late := store.description.consequences):
        said.append(f"COUNTED AFTER PUBLICATION, and among the inputs: {', '.join(late)}")
    return "; ".join(said)


def creators_and_times(items: Items) -> list[str]:
    """How far the splits share creators, and the span of times of each; nothing where neither is known."""
    lines, train = [], set(items.user[items.rows("train")]) - {""}
    for split in SPLITS:
        rows, said = items.rows(split), []
        if len(rows) and "user" in items.origin:
            known = items.user[rows] != ""
            here = set(items.user[rows][known])
            said.append(f"{len(here)} creators of {known.sum()} of {len(rows)} videos")
            if split != "train":
                shared = pd.Series(items.user[rows]).isin(train).to_numpy() & known
                said[-1] += f", {len(here & train)} of them in train too, with {shared.sum()} videos here"
        for name, what in (("time", "published"), ("label_time", "counted")):
            times = getattr(items, name)[rows]
            if len(rows) and name in items.origin:
                known = times[~np.isnat(times)]
                span = (
                    f"{known.min().astype('M8[s]')} to {known.max().astype('M8[s]')}"
                    if len(known)
                    else "at no time known"
                )
                unknown = f" ({len(times) - len(known)} unknown)" if len(known) < len(times) else ""
                said.append(f"{what} {span}{unknown}")
        if said:
            lines.append(f"{split}: {'; '.join(said)}")
    return lines
