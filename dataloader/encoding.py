"""Typed metadata -> what a network or a tree can take, by transformers that saw split train alone."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from common.console import InputError, in_one_line
from common.files import written_beside
from dataloader.metadata import Metadata, known

if TYPE_CHECKING:
    from sklearn.compose import ColumnTransformer

FILE = "metadata.skops"  # in a run's folder: scikit-learn's transformers, in a format that holds no code
RARE = 5  # a category of fewer videos of train is one with the other rare and the never-seen ones
MOST_CATEGORIES = 100  # of a column; the others count as rare
QUANTILES = 1000
RARE_NAME = "infrequent_sklearn"  # what scikit-learn calls the column of rare categories
UNKNOWN = "(unknown)"  # as a category
EMPTY = {"number": np.float64, "category": object, "time": "M8[us]", "yes/no": np.int8}  # kind -> of its array
NAME = re.compile(r"(missingindicator_)?(c\d+)(?:_(.*))?", re.DOTALL)  # what scikit-learn makes of c0, c1 ...
CYCLES = {"hour": 24, "weekday": 7, "day of year": 365.25}


@dataclass(frozen=True)
class Encoding:
    """Metadata as numbers of about unit variance (n, Dm), fitted on train.

    Numbers become normal by their quantiles in train, unknown ones 0 and a column of their own that says so; a category
    becomes a column for each frequent value, one for the rare and never-seen; a time its hour, weekday and day of year
    on circles.
    """

    kinds: dict[str, str]  # of the columns it was fitted on
    transformer: ColumnTransformer

    @classmethod
    def fit(cls, train: Metadata) -> Encoding:
        from sklearn.compose import ColumnTransformer
        from sklearn.impute import SimpleImputer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, StandardScaler

        table, groups, _ = expanded(train)
        normal = QuantileTransformer(
            n_quantiles=min(QUANTILES, len(train)), output_distribution="normal", subsample=10**6, random_state=0
        )
        fill = SimpleImputer(strategy="constant", fill_value=0.0, add_indicator=True)
        center = SimpleImputer(strategy="constant", fill_value=0.0)
        yes_or_no = SimpleImputer(strategy="constant", fill_value=0.0, add_indicator=True)
        # What is nowhere known in train says nothing, and has no quantiles.
        there = {kind: [name for name in names if table[name].notna().any()] for kind, names in groups.items()}
        transformer = ColumnTransformer(
            [
                ("number", make_pipeline(normal, StandardScaler(), fill), there["number"]),
                ("circle", center, there["circle"]),
                ("yes/no", yes_or_no, there["yes/no"]),
                (
                    "category",
                    OneHotEncoder(
                        min_frequency=RARE,
                        max_categories=MOST_CATEGORIES,
                        handle_unknown="infrequent_if_exist",
                        sparse_output=False,
                    ),
                    there["category"],
                ),
            ],
            verbose_feature_names_out=False,
        )
        transformer.fit(table)
        encoding = cls(train.kinds, transformer)
        if not encoding.names:
            raise InputError("metadata: no column has a known value in split train")
        return encoding

    @property
    def numbers(self) -> int:
        """How many of the features are columns' numbers; these come first."""
        pipeline = dict(self.transformer.named_transformers_).get("number")
        return getattr(pipeline, "n_features_in_", 0)

    @property
    def names(self) -> list[str]:
        """Of the Dm features, each with the column that it comes from."""
        nothing = {kind: np.empty(0, EMPTY[kind]) for kind in EMPTY}
        _, _, said = expanded(Metadata({name: nothing[kind] for name, kind in self.kinds.items()}))
        found = []
        for name in map(str, self.transformer.get_feature_names_out()):
            missing, place, value = NAME.fullmatch(name).groups()
            of = said[place]
            if value is not None:
                of = f"{of} = {'(rare)' if value == RARE_NAME else value}"
            found.append(f"{of} is unknown" if missing else of)
        return found

    def transform(self, metadata: Metadata, where: Path) -> np.ndarray:
        """(n, Dm) float32; InputError where the columns are not those of train. where: they come from."""
        table, _, _ = expanded(metadata.only(self.kinds, where))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Found unknown categories")  # a category that train never saw
            return self.transformer.transform(table).astype(np.float32)

    def save(self, folder: Path) -> None:
        import skops.io

        with written_beside(folder / FILE) as partial, partial.open("wb") as file:
            file.write(skops.io.dumps({"kinds": self.kinds, "transformer": self.transformer}))

    @classmethod
    def load(cls, folder: Path) -> Encoding:
        import skops.io
        from sklearn.compose import ColumnTransformer

        path = folder / FILE
        try:
            content = skops.io.loads(path.read_bytes(), trusted=["numpy.dtype"])  # any other type is refused
            encoding = cls(content["kinds"], content["transformer"])
            sound = isinstance(encoding.kinds, dict) and isinstance(encoding.transformer, ColumnTransformer)
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; the run has not begun to train") from None
        except Exception as error:  # zipfile, json, numpy, skops and scikit-learn each have their own
            said = in_one_line(error)
            raise InputError(f"{path}: truncated or not the encoding of a run's metadata ({said})") from None
        if not sound:
            raise InputError(f"{path}: not the encoding of a run's metadata")
        return encoding


def expanded(metadata: Metadata) -> tuple[pd.DataFrame, dict[str, list[str]], dict[str, str]]:
    """A table (n, C) of columns c0, c1 ..., which of these are of what kind, and what each is to a reader.

    A time gives where it lies in its day, week and year, as sine and cosine. Not the day itself: of a data set that is
    split by time all that is tested lies beyond whatever train has seen.
    """
    groups: dict[str, list[str]] = {"number": [], "circle": [], "yes/no": [], "category": []}
    columns, said = {}, {}

    def add(kind: str, name: str, values: np.ndarray) -> None:
        place = f"c{len(columns)}"
        columns[place], said[place] = values, name
        groups[kind].append(place)

    for name, values in metadata.columns.items():
        if values.dtype.kind == "O":
            add("category", name, in_words(values))
        elif values.dtype.kind == "M":
            times = of_time(values)
            for part, length in CYCLES.items():
                angle = 2 * np.pi * times[part] / length
                add("circle", f"{name}: {part} sine", np.sin(angle))
                add("circle", f"{name}: {part} cosine", np.cos(angle))
            add("circle", f"{name} is unknown", np.isnat(values).astype(float))
        else:
            add("yes/no" if values.dtype.kind == "i" else "number", name, np.where(known(values), values, np.nan))
    return pd.DataFrame(columns, pd.RangeIndex(len(metadata))), groups, said


def in_words(categories: np.ndarray) -> np.ndarray:
    """(n,) str or None -> (n,) str."""
    return np.array([UNKNOWN if value is None else value for value in categories], object)


def of_time(times: np.ndarray) -> dict[str, np.ndarray]:
    """(n,) datetime64 -> hour, weekday (Monday 0), day of year, and day (since 1970): (n,) each, NaN where unknown."""
    days, years = times.astype("M8[D]"), times.astype("M8[Y]")
    nothing = np.isnat(times)
    found = {
        "hour": (times - days) / np.timedelta64(1, "h"),
        "weekday": (days.astype(np.int64) + 3) % 7,  # 1970 began on a Thursday
        "day of year": (times - years) / np.timedelta64(1, "D"),
        "day": (times - np.datetime64(0, "s")) / np.timedelta64(1, "D"),
    }
    return {name: np.where(nothing, np.nan, values) for name, values in found.items()}


def tree_columns(kinds: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """What `for_trees` makes of columns of these kinds: the names of numbers, and of categories."""
    return for_trees(Metadata({name: np.empty(0, EMPTY[kind]) for name, kind in kinds.items()}))[2:]


def for_trees(metadata: Metadata) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
    """Numbers (n, a) float32, NaN where unknown; categories (n, b) str; what both are to a reader.

    A time gives its hour, weekday, day of year and day.
    """
    numbers, categories = [], []
    for name, values in metadata.columns.items():
        if values.dtype.kind == "O":
            categories.append((name, in_words(values)))
        elif values.dtype.kind == "M":
            numbers += [(f"{name}: {part}", turned) for part, turned in of_time(values).items()]
        else:
            numbers.append((name, np.where(known(values), values, np.nan)))
    n = len(metadata)
    joined = np.stack([v for _, v in numbers], axis=1).astype(np.float32) if numbers else np.empty((n, 0), np.float32)
    words = np.stack([v for _, v in categories], axis=1) if categories else np.empty((n, 0), object)
    return joined, words, [name for name, _ in numbers], [name for name, _ in categories]
