"""Description: what a data set is, as dataset.json holds it. Nothing else reads or writes that file."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from common import manifest
from common.console import InputError
from common.files import read_json, write_json
from dataloader.modalities import METADATA, is_name
from dataloader.names import FAMILIES

FORMAT = 1
FILE = "dataset.json"
PACKAGES = ("torch", "transformers", "numpy", "pandas", "pyarrow", "scikit-learn")


@dataclass(frozen=True)
class Label:
    """What is predicted: the names of the targets, and how a label is made of a count.

    scale: "log2", log2(count + offset), or "none", as given. split_by: how the splits were made, in words.
    """

    names: tuple[str, ...]
    scale: str = "none"
    offset: float = 0
    split_by: str = ""

    @property
    def by_time(self) -> bool:
        """Whether what is tested is newer than what was trained on."""
        return self.split_by.partition(" ")[0].rstrip(",") == "time"

    @property
    def of_counts(self) -> bool:
        return self.scale != "none"

    def transform(self, count: np.ndarray) -> np.ndarray:
        """Counts -> labels; NaN or infinity for a count without a logarithm."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log2(count + self.offset) if self.of_counts else count

    def inverse(self, label: np.ndarray) -> np.ndarray:
        """Labels -> counts, none below 0; labels that were given as they are stay."""
        label = np.asarray(label, np.float64)
        with np.errstate(over="ignore"):
            return np.maximum(np.exp2(label) - self.offset, 0) if self.of_counts else label

    def in_words(self) -> str:
        return f"log2(count + {self.offset:g})" if self.of_counts else "as given"

    def split_in_words(self) -> str:
        said = {"": "unknown", "published": "random 80/10/10 with the published seeds"}
        return (
            said.get(self.split_by)
            or f"{self.split_by} 80/10/10" * (self.split_by in ("time", "user"))
            or self.split_by
        )

    def as_json(self) -> dict:
        split_by = {"split_by": self.split_by} if self.split_by else {}
        return {"names": list(self.names), "transform": self.scale, "offset": self.offset, **split_by}

    @classmethod
    def of_json(cls, label: dict) -> Label:
        return cls(tuple(label["names"]), label["transform"], label["offset"], label.get("split_by", ""))


@dataclass(frozen=True)
class Feature:
    """An array of the data set, or its metadata. made: what it came from (encoder, normalise, source, columns ...)."""

    shape: tuple[int, ...]
    dtype: str
    sha256: str
    made: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict:
        return {"shape": list(self.shape), "dtype": self.dtype, "sha256": self.sha256, **self.made}

    @classmethod
    def of_json(cls, described: dict) -> Feature:
        made = {key: value for key, value in described.items() if key not in ("shape", "dtype", "sha256")}
        return cls(tuple(described["shape"]), described["dtype"], described["sha256"], made)


@dataclass(frozen=True)
class Description:
    """family: whose MMRA it takes. items: digest of the table; imported: of the table as it was imported, before items
    were left out. lineage: what else is said of where it comes from (of a fold: what it is a fold of).
    """

    family: str
    label: Label
    items: str
    imported: str
    features: dict[str, Feature] = field(default_factory=dict)
    lineage: dict[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Changes with any id, text, label, split or feature of the data set; 16 hexadecimal digits."""
        content = {
            "items": self.items,
            "arrays": {name: feature.sha256 for name, feature in self.features.items()},
            "family": self.family,
            "label": self.label.as_json(),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def consequences(self) -> list[str]:
        """Columns of metadata that were counted after publication, and taken all the same."""
        return self.features[METADATA].made.get("consequences", []) if METADATA in self.features else []

    @property
    def added_columns(self) -> list[str]:
        """Columns of metadata that are no table's, as they were made of the videos."""
        return self.features[METADATA].made.get("added", []) if METADATA in self.features else []

    def with_feature(self, name: str, feature: Feature | None) -> Description:
        """The same with this array, or without it."""
        others = {key: value for key, value in self.features.items() if key != name}
        return replace(self, features=others if feature is None else others | {name: feature})

    def write(self, path: Path) -> None:
        content = {"format": FORMAT, "family": self.family, "label": self.label.as_json()}
        content |= {"items": self.items, "imported": self.imported}
        content["arrays"] = {name: feature.as_json() for name, feature in self.features.items()}
        versions = {package: importlib.metadata.version(package) for package in PACKAGES}
        write_json(path, content | self.lineage | {"versions": versions, "fingerprint": self.fingerprint})

    @classmethod
    def read(cls, path: Path) -> Description:
        info = read_json(path)
        label, arrays = info.get("label"), info.get("arrays")
        sound = (
            info.get("format") == FORMAT
            and info.get("family") in FAMILIES
            and isinstance(info.get("items"), str)
            and isinstance(label, dict)
            and isinstance(label.get("names"), list)
            and label.get("transform") in ("log2", "none")
            and isinstance(label.get("offset"), int | float)
            and isinstance(arrays, dict)
            and all(is_name(name) or name == METADATA for name in arrays)
            and all(isinstance(a, dict) and {"shape", "dtype", "sha256"} <= set(a) for a in arrays.values())
            and all(isinstance(a["shape"], list) and isinstance(a.get("made_of", {}), dict) for a in arrays.values())
            and all(isinstance(a.get("normalise", ""), str) for a in arrays.values())
            and all(isinstance(arrays.get(METADATA, {}).get(said, []), list) for said in ("consequences", "added"))
        )
        if not sound:
            raise InputError(f"{path}: not a {FILE} of format {FORMAT} (truncated or edited?); import the data anew")
        manifest.require_whole(path, "bring a copy of it back, or import the data anew")
        own = ("format", "family", "label", "items", "imported", "arrays", "versions", "fingerprint")
        return cls(
            info["family"],
            Label.of_json(info["label"]),
            info["items"],
            info.get("imported", ""),
            {name: Feature.of_json(described) for name, described in info["arrays"].items()},
            {key: value for key, value in info.items() if key not in own},
        )
