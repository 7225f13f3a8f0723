"""LightGBM's half of MFTM: a forest for each target."""

from __future__ import annotations

from pathlib import Path

import lightgbm
import numpy as np
from tqdm import tqdm

from common.console import InputError
from common.files import written_beside
from engine.estimator import unreadable

LAST_LINE = "pandas_categorical:null"  # of a saved forest


def fit(inputs: np.ndarray, label: np.ndarray, *, trees: int, seed: int) -> list[lightgbm.Booster]:
    """LightGBM's defaults on inputs (n, d), a forest for each column of label (n, label_dim)."""
    # Its choice between two ways to sum depends on the clock unless it is made here.
    parameters = {"seed": seed, "deterministic": True, "force_row_wise": True, "verbosity": -1}
    data = lightgbm.Dataset(inputs, np.ascontiguousarray(label[:, 0]), params=parameters, free_raw_data=False)
    total = trees * label.shape[1]
    with tqdm(total=total, desc="LightGBM", leave=False, disable=None, unit="tree", dynamic_ncols=True) as bar:
        found = []
        for column in label.T:
            data.set_label(np.ascontiguousarray(column))
            found.append(lightgbm.train(parameters, data, trees, callbacks=[lambda _: bar.update()]))
    return found


def predict(forests: list[lightgbm.Booster], inputs: np.ndarray) -> np.ndarray:
    """(n, d) -> (n, label_dim)."""
    return np.stack([forest.predict(inputs) for forest in forests], axis=1)


def path(folder: Path, target: int) -> Path:
    return folder / f"lightgbm_{target}.txt"  # LightGBM's own format


def save(forests: list[lightgbm.Booster], folder: Path) -> None:
    for target, forest in enumerate(forests):
        text = forest.model_to_string().encode()  # LightGBM, writing a file, prints what goes wrong by itself
        with written_beside(path(folder, target), len(text)) as partial:
            partial.write_bytes(text)


def load(folder: Path, label_dim: int, width: int) -> list[lightgbm.Booster]:
    found = []
    for target in range(label_dim):
        try:
            text = path(folder, target).read_text(encoding="utf-8")
            if not text.rstrip().endswith(LAST_LINE):  # LightGBM itself takes half a forest for a whole one
                raise ValueError("its end is missing")
            found.append(lightgbm.Booster(model_str=text))
        except Exception as error:  # its own, and those of a file and of bytes that are no text
            raise unreadable(path(folder, target), "a LightGBM model", error) from None
        if found[-1].num_feature() != width:
            raise InputError(
                f"{path(folder, target)}: made for {found[-1].num_feature()} features, this run has {width}"
            )
    return found
