"""Typed metadata -> what a network or a tree can take, by transformers that saw split train alone."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from common.console import InputError
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
CYCLES = {"hour": 24, "weekday": 7, "day of year": 365.25}


@dataclass(frozen=True)
class Encoding:
    """Metadata as numbers of about unit variance (n, Dm), fitted on train.

    Numbers become normal by their quantiles in train, unknown ones 0 and a column of their own that says so; a category
    becomes a column for each frequent value, one for the rare and never-seen; a time its hour, weekday and day of year
    on circles, and its day, as a number.
    """

    kinds: dict[str, str]  # of the columns it was fitted on
    transformer: ColumnTransformer

    @classmethod
    def fit(cls, train: Metadata) -> Encoding:
        from sklearn.compose import ColumnTransformer
        from sklearn.impute import SimpleImputer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, StandardScaler

        parts = expanded(train)
        normal = QuantileTransformer(
            n_quantiles=min(QUANTILES, len(train)), output_distribution="normal", subsample=10**6, random_state=0
        )
        fill = SimpleImputer(strategy="constant", fill_value=0.0, add_indicator=True)
        center = SimpleImputer(strategy="constant", fill_value=0.0)
        yes_or_no = SimpleImputer(strategy="constant", fill_value=0.0, add_indicator=True)
        # What is nowhere known in train says nothing, and has no quantiles.
        there = {name: list(part.columns[part.notna().any()]) for name, part in parts.items()}
        transformer = ColumnTransformer(
            [
                ("number", make_pipeline(normal, StandardScaler(), fill), there["number"]),
                ("circle", center, there["circle"]),  # that a time is unknown is said beside its day
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
        transformer.fit(pd.concat(parts.values(), axis=1))
        encoding = cls(train.kinds, transformer)
        if not encoding.names:
            raise InputError("metadata: no column has a known value in split train")
        return encoding

    @property
    def names(self) -> list[str]:
        """Of the Dm features, each with the column that it comes from."""
        found, missing = [], "missingindicator_"
        categories = [column for column, kind in self.kinds.items() if kind == "category"]
        for name in map(str, self.transformer.get_feature_names_out()):
            column = max((c for c in categories if name.startswith(f"{c}_")), key=len, default="")
            if column:
                value = name.removeprefix(f"{column}_")
                name = f"{column} = {'(rare)' if value == RARE_NAME else value}"
            found.append(f"{name.removeprefix(missing)} is unknown" if name.startswith(missing) else name)
        return found

    def transform(self, metadata: Metadata, where: Path) -> np.ndarray:
        """(n, Dm) float32; InputError where the columns are not those of train. where: they come from."""
        parts = expanded(metadata.only(self.kinds, where))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Found unknown categories")  # a category that train never saw
            return self.transformer.transform(pd.concat(parts.values(), axis=1)).astype(np.float32)

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
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise InputError(f"{path}: truncated or not the encoding of a run's metadata ({reason})") from None
        if not sound:
            raise InputError(f"{path}: not the encoding of a run's metadata")
        return encoding


def expanded(metadata: Metadata) -> dict[str, pd.DataFrame]:
    """number, circle (sine and cosine of where in a day, week and year a time is), yes/no and category -> (n, ...)."""
    parts: dict[str, dict[str, np.ndarray]] = {"number": {}, "circle": {}, "yes/no": {}, "category": {}}
    for name, values in metadata.columns.items():
        if values.dtype.kind == "O":
            parts["category"][name] = np.array([UNKNOWN if value is None else value for value in values], object)
        elif values.dtype.kind == "M":
            for part, turned in of_time(values).items():
                if part not in CYCLES:
                    parts["number"][f"{name}: {part}"] = turned
                    continue
                angle = 2 * np.pi * turned / CYCLES[part]
                parts["circle"] |= {f"{name}: {part} sine": np.sin(angle), f"{name}: {part} cosine": np.cos(angle)}
        elif values.dtype.kind == "i":
            parts["yes/no"][name] = np.where(known(values), values, np.nan)
        else:
            parts["number"][name] = values
    index = pd.RangeIndex(len(metadata))
    return {kind: pd.DataFrame(columns, index) for kind, columns in parts.items()}


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
    nothing = {"number": np.empty(0), "time": np.empty(0, "M8[us]"), "yes/no": np.empty(0, np.int8)}
    columns = {name: nothing.get(kind, np.empty(0, object)) for name, kind in kinds.items()}
    return for_trees(Metadata(columns))[2:]


def for_trees(metadata: Metadata) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
    """Numbers (n, a) float32, NaN where unknown; categories (n, b) str; the names of both.

    A time gives its hour, weekday, day of year and day.
    """
    numbers, categories = {}, {}
    for name, values in metadata.columns.items():
        if values.dtype.kind == "O":
            categories[name] = np.array([UNKNOWN if value is None else value for value in values], object)
        elif values.dtype.kind == "M":
            numbers |= {f"{name}: {part}": turned for part, turned in of_time(values).items()}
        else:
            numbers[name] = np.where(known(values), values, np.nan)
    n = len(metadata)
    joined = np.stack([*numbers.values()], axis=1).astype(np.float32) if numbers else np.empty((n, 0), np.float32)
    words = np.stack([*categories.values()], axis=1) if categories else np.empty((n, 0), object)
    return joined, words, list(numbers), list(categories)
