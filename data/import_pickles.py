"""Turn the published train.pkl, valid.pkl and test.pkl into a data set, neighbours included. Runs nothing they hold."""

from __future__ import annotations

import commands

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from common.arrays import digest_of, scan
from common.console import InputError, Parser, listed, run_script
from common.lock import locked
from dataloader.checks import not_finite
from dataloader.describing import describe
from dataloader.description import Label
from dataloader.importing.safe_pickle import plain, read_columns
from dataloader.importing.scaling import refuse_other
from dataloader.items import Items
from dataloader.names import DTYPES, FAMILIES, SPLITS
from dataloader.neighbours import Neighbours, path_of
from dataloader.place import add_dataset_flags, folder_of
from dataloader.store import FeatureStore

VISUAL = {"cls": "visual_feature_embedding_cls", "mean": "visual_feature_embedding_mean"}
TEXTUAL, RETRIEVAL = "textual_feature_embedding", "retrieval_feature"
NEIGHBOUR_IDS, SIMILARITY = "retrieved_item_id_list", "retrieved_item_similarity_list"


@dataclass(frozen=True)
class Part:
    """One of the three files; n items."""

    path: Path
    item_id: np.ndarray  # (n,) str
    text: np.ndarray  # (n,) str
    label: np.ndarray  # (n,) log2 of the count
    arrays: dict[str, np.ndarray]  # name in the store -> (n, ...)
    neighbour_ids: list[list[str]] | None  # None where the file has no neighbours
    similarity: list[list[float]] | None


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    place, features = parser.add_argument_group("data and place"), parser.add_argument_group("features")
    place.add_argument("--raw", type=Path, required=True, help="folder that holds train.pkl, valid.pkl and test.pkl")
    add_dataset_flags(place)
    place.add_argument("--family", default="MicroLens", choices=FAMILIES, help="whose MMRA model --model_id MMRA takes")
    features.add_argument(
        "--visual", default="cls", choices=VISUAL, help="a vector for every frame, or their mean as the one frame"
    )
    features.add_argument("--dtype", default="float32", choices=DTYPES, help="precision of the stored features")
    place.add_argument("--overwrite", action="store_true", help="replace a data set that is already there")
    return parser


def main(args) -> None:
    folder = folder_of(args.dataset_path, args.dataset_id)
    paths = [args.raw / f"{split}.pkl" for split in SPLITS[:3]]
    if missing := [path.name for path in paths if not path.is_file()]:
        raise InputError(f"--raw {args.raw}: no {', '.join(missing)}; train.pkl, valid.pkl and test.pkl were expected")
    parts = [read_part(path, VISUAL[args.visual], args.dtype) for path in paths]
    check_shapes(parts)
    items = joined_items(parts)
    if problems := items.problems():
        raise InputError(f"--raw {args.raw}: {'; '.join(problems)}")
    neighbours = find_neighbours(parts, items)

    label = Label(("label",), "log2", 0, "published files")
    with locked(folder):
        how = {"family": args.family, "label": label, "overwrite": args.overwrite}
        store = FeatureStore.create_or_continue(folder, items, **how)
        missing = write(store, parts, neighbours, VISUAL[args.visual], args.dtype)
        store.finish()
    if not missing:
        print(f"{folder}: finished already, nothing was missing")
    where = f"--dataset_path {shlex.quote(str(args.dataset_path))} --dataset_id {shlex.quote(args.dataset_id)}"
    print(describe(store))
    if neighbours is None:
        commands.say_next(f"next: python retriever.py {where}")
        return
    k = neighbours.k
    print(f"published neighbours: {k} an item, of the bank {neighbours.bank}")
    commands.say_next(f"next: python train.py {where} --num_of_retrieved_items {min(k, 10)}")


def write(store: FeatureStore, parts: list[Part], neighbours: Neighbours | None, visual: str, dtype: str) -> list[str]:
    """Write what the data set lacks, which is returned; InputError where it has other features or neighbours."""
    missing = []
    for name, column in {"visual": visual, "textual": TEXTUAL, "retrieval": RETRIEVAL}.items():
        arrays = [part.arrays[name] for part in parts]
        if name not in store.features:
            missing.append(name)
            write_array(store, name, arrays, dtype, column)
            continue
        sha = digest_of((len(store), *arrays[0].shape[1:]), np.dtype(dtype))
        for array in arrays:
            sha.update(np.ascontiguousarray(array))
        refuse_other(store, name, sha.hexdigest(), store.items)
    if neighbours is not None:
        neighbours = replace(neighbours, fingerprint=store.fingerprint)
        if not path_of(store.folder).exists():
            missing.append("neighbours")
            neighbours.write(store)
        else:
            found = Neighbours.read(store)
            if found.digest() != neighbours.digest() or not found.has_similarities(neighbours.sketch()):
                raise InputError(f"{path_of(store.folder)}: other neighbours are here already; --overwrite begins anew")
    return missing


def write_array(store: FeatureStore, name: str, arrays: list[np.ndarray], dtype: str, column: str) -> None:
    shape, start = (len(store), *arrays[0].shape[1:]), 0
    with store.add_array(name, shape, dtype, source=f"{column} of train.pkl, valid.pkl, test.pkl") as out:
        for array in arrays:
            out[start : start + len(array)] = array
            start += len(array)


# ---- one file --------------------------------------------------------------------------------


def read_part(path: Path, visual: str, dtype: str) -> Part:
    """Read one split; InputError names the file, the column and the first items of what does not fit."""
    required = ("item_id", "text", visual, TEXTUAL, RETRIEVAL, "label")
    columns = read_columns(path, required, optional=(NEIGHBOUR_IDS, SIMILARITY))
    if not len(columns["item_id"]):
        raise InputError(f"{path}: no items in it")
    item_id = strings(path, "item_id", columns.pop("item_id"))
    axes = {
        "visual": (visual, 2 if visual == VISUAL["cls"] else 1),
        "textual": (TEXTUAL, 1),
        "retrieval": (RETRIEVAL, 1),
    }
    arrays = {
        name: features(path, column, columns.pop(column), n, item_id, dtype) for name, (column, n) in axes.items()
    }
    if arrays["visual"].ndim == 2:
        arrays["visual"] = arrays["visual"][:, None, :]  # (n, 1, Dv)
    label = features(path, "label", columns.pop("label"), 0, item_id, "float64")
    text = ["" if missing(value) else value for value in map(plain, columns.pop("text"))]
    if bad := [row for row, value in enumerate(text) if not isinstance(value, str)]:
        raise InputError(f"{path}: text: {len(bad)} items without text (item ids {listed(item_id[bad])})")
    absent = [name for name in (NEIGHBOUR_IDS, SIMILARITY) if name not in columns]
    if len(absent) == 1:
        raise InputError(f"{path}: has neighbours but no column {absent[0]}")
    ids = similarity = None
    if not absent:
        ids, similarity = (sequences(path, name, columns.pop(name), item_id) for name in (NEIGHBOUR_IDS, SIMILARITY))
    return Part(path, item_id, np.array(text, object), label, arrays, ids, similarity)


def missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def strings(path: Path, column: str, values: np.ndarray) -> np.ndarray:
    """Ids as text; whole numbers are taken as they are written, anything else is an error."""
    values = [plain(value) for value in values.tolist()]
    if bad := [value for value in values if isinstance(value, bool) or not isinstance(value, str | int | np.integer)]:
        raise InputError(f"{path}: {column}: {len(bad)} values are neither text nor whole numbers ({listed(bad)})")
    return np.array([str(value) for value in values], object)


def sequences(path: Path, column: str, values: np.ndarray, item_id: np.ndarray) -> list[list]:
    """A list an item, with plain values in it."""
    values = [plain(value) for value in values]
    if bad := [i for i, value in zip(item_id, values, strict=True) if not isinstance(value, list | tuple | np.ndarray)]:
        raise InputError(f"{path}: {column}: {len(bad)} items without a list (item ids {listed(bad)})")
    return [[plain(entry) for entry in value] for value in values]


def features(path: Path, column: str, values: np.ndarray, axes: int, item_id: np.ndarray, dtype: str) -> np.ndarray:
    """The column's numbers, of `axes` axes an item and all of one shape -> (n, ...) of `dtype`."""
    out, shape, ragged = None, None, []
    with np.errstate(over="ignore"):  # A number that float16 cannot hold becomes infinite, and is told of below.
        for row, value in enumerate(values):
            array = numbers(plain(value), axes)
            if out is None and array is not None and array.size:
                shape, out = array.shape, np.empty((len(values), *array.shape), dtype)
            if array is None or out is None or array.shape != shape:
                ragged.append(row)
            else:
                out[row] = array
    if ragged:
        expected = (
            " x ".join(map(str, shape)) + " numbers" if shape else ("a number", "a list", "a list of lists")[axes]
        )
        raise InputError(
            f"{path}: {column}: {len(ragged)} of {len(values)} items do not hold {expected} "
            f"(item ids {listed(item_id[ragged])})"
        )
    bad, _, _ = scan(out.reshape(len(out), -1)) if axes else (~np.isfinite(out), 0, 0)
    if bad.any():
        raise InputError(f"{path}: {column}: {not_finite(bad, item_id)}" + (f" as {dtype}" if axes else ""))
    return out


def numbers(value: Any, axes: int) -> np.ndarray | None:
    """A number (axes 0), vector (1) or list of vectors of one length (2) as an array; None where it is none."""
    if isinstance(value, np.ndarray):
        return value if value.ndim == axes and value.dtype.kind in "fiu" else None
    if axes == 0:
        sound = isinstance(value, int | float | np.number) and not isinstance(value, bool | np.complexfloating)
        return np.array(value, np.float64) if sound else None
    if not isinstance(value, list | tuple):
        return None
    if axes == 2:
        rows = [numbers(plain(row), 1) for row in value]
        sound = rows and all(row is not None and row.shape == rows[0].shape for row in rows)
        return np.stack(rows) if sound else None
    try:
        # This goes one level deep and fails on a list in it, so a file with lists nested in each other many times
        # cannot make it unfold them.
        return np.fromiter(map(plain, value), np.float64, len(value))
    except (TypeError, ValueError, OverflowError):
        return None


# ---- the three together ----------------------------------------------------------------------


def check_shapes(parts: list[Part]) -> None:
    problems = [
        f"{part.path}: {name} features of shape {part.arrays[name].shape[1:]}, but {parts[0].path} has "
        f"{parts[0].arrays[name].shape[1:]}"
        for part in parts[1:]
        for name in part.arrays
        if part.arrays[name].shape[1:] != parts[0].arrays[name].shape[1:]
    ]
    if problems:
        raise InputError("; ".join(problems))


def joined_items(parts: list[Part]) -> Items:
    label = np.concatenate([part.label for part in parts])[:, None]  # (N, 1)
    with np.errstate(over="ignore"):
        popularity = np.round(np.exp2(label))
    return Items(
        item_id=np.concatenate([part.item_id for part in parts]),
        text=np.concatenate([part.text for part in parts]),
        popularity=popularity,
        label=label,
        split=np.repeat(np.array(SPLITS[:3], object), [len(part.item_id) for part in parts]),
    )


def find_neighbours(parts: list[Part], items: Items) -> Neighbours | None:
    """Of a data set that is not written yet, so that they have no fingerprint; None where no file has any."""
    without = [str(part.path) for part in parts if part.neighbour_ids is None]
    if without and len(without) < len(parts):
        raise InputError(f"{', '.join(without)}: no column {NEIGHBOUR_IDS}, which the other files have")
    if without:
        return None
    row_of = {item_id: row for row, item_id in enumerate(items.item_id)}
    k = max(len(found) for part in parts for found in part.neighbour_ids)
    if not k:
        raise InputError(f"{parts[0].path}: {NEIGHBOUR_IDS}: no item has a neighbour")
    ids, similarity = np.full((len(items), k), -1, np.int32), np.zeros((len(items), k), np.float32)
    row = 0
    for part in parts:
        for found, scores in zip(part.neighbour_ids, part.similarity, strict=True):
            rows, problem = neighbour_rows(found, scores, row, row_of, items.split)
            if problem:
                raise InputError(f"{part.path}: {NEIGHBOUR_IDS}: item {items.item_id[row]} {problem}")
            ids[row, : len(found)], similarity[row, : len(found)] = rows, scores
            row += 1
    bank = "train+valid" if (items.split[ids[ids >= 0]] == "valid").any() else "train"
    return Neighbours(ids, similarity, k=k, bank=bank, backend="published", fingerprint="")


def neighbour_rows(found, scores, row: int, row_of: dict, split: np.ndarray) -> tuple[list[int], str | None]:
    """The rows of the neighbours of item `row`, and what is wrong with them."""
    if len(scores) != len(found):
        return [], f"has {len(found)} neighbours, but {len(scores)} similarities"
    if not all(numbers(score, 0) is not None and np.isfinite(score) for score in scores):
        return [], f"has similarities that are not finite numbers ({listed(scores)})"
    if unknown := [neighbour for neighbour in map(str, found) if neighbour not in row_of]:
        return [], f"has neighbours that are in none of the three files ({listed(unknown)})"
    rows = [row_of[str(neighbour)] for neighbour in found]
    if row in rows:
        return [], "is its own neighbour"
    if held_out := [found[i] for i, neighbour in enumerate(rows) if split[neighbour] == "test"]:
        return [], f"has neighbours of split test, whose labels must not be seen ({listed(held_out)})"
    if len(set(rows)) < len(rows):
        return [], f"has a neighbour twice ({listed(found)})"
    return rows, None


if __name__ == "__main__":
    run_script(build_parser(), main, commands.remedy)
