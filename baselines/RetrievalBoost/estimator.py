"""RetrievalBoost: boosted trees on metadata, features and the labels of neighbours and of the creator. Ours."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import catboost
import numpy as np
import torch
from tqdm import tqdm

from common.console import PROGRESS_BAR, InputError, listed
from common.files import read_json, write_json, written_beside
from dataloader.batches import Split
from dataloader.components import Components
from dataloader.encoding import for_trees, of_time
from dataloader.statistics import BEYOND
from engine.estimator import Estimator, boosting_history, read_arrays, unreadable
from engine.figures import draw_effects, save
from engine.method import History
from engine.trees import Progress, features_of, nothing

PROJECTIONS = "projections.npz"  # plain arrays; read without pickle
PARTS = ("mean", "axes")  # of the Components of each kind of features
NAMES = "features.json"  # of what the forests were fitted on, in their order
WEIGHTS, USUAL = "weights", "usual"  # of the anchors, and the mean of train, among them
SHRUNKEN = "of the creator, shrunken"
SURE = 2.0
ANCHORS = ("of the creator, mean", SHRUNKEN, "neighbours, weighted")  # ends of statistics' names


class RetrievalBoost(Estimator):
    """CatBoost on principal components of each kind of features, typed metadata and label statistics.

    The statistics (dataloader/statistics.py) are out of fold for train, or by time, and of some videos without their
    creator's. `ensemble` forests differ in their seed. Several targets: one forest for all (MultiRMSE).

    prediction = forests + sum over the anchors of w (anchor - forests), where one is known: the creator's mean, the
    same shrunken, for new creators the mean of train, and the neighbours' weighted mean of each source. w, from 0 to 1,
    is least squares on split valid, and 0 where what that gains is within SURE standard errors: on a few hundred items
    least squares always gains something.
    """

    typed_columns = True

    def __init__(
        self,
        *,
        components: int = 32,
        trees: int = 3000,
        depth: int = 6,
        lr: float = 0.05,
        early_stop_turns: int = 100,
        ensemble: int = 2,
        use_retrieval: bool = True,
        **dimensions,
    ):
        super().__init__(**dimensions)
        self.components, self.trees, self.depth, self.lr = components, trees, depth, lr
        self.early_stop_turns, self.ensemble = early_stop_turns, ensemble
        self.dims = {name: shape[-1] for name, shape in self.shapes.items() if name in self.widths}
        self.projections: dict[str, Components] = {}  # by modality
        self.names: list[str] = []  # of the features, in their order
        self.forests: list[catboost.CatBoostRegressor] = []
        self.weights = np.zeros((0, self.label_dim))  # (anchors, label_dim)
        self.usual = np.zeros(self.label_dim)  # the mean of train

    # ---- inputs --------------------------------------------------------------------------------

    def _fit_projections(self, train: Split) -> None:
        for name in self.widths if self.components else ():
            read = partial(train.read, name)
            self.projections[name] = Components.fit(read, len(train), self.components, self.seed)

    def pool(self, split: Split, labelled: bool = True) -> catboost.Pool:
        parts, names = [], []
        words, of_words = np.empty((len(split), 0), object), []
        if split.metadata is not None:
            numbers, words, of_numbers, of_words = for_trees(split.metadata)
            parts.append(numbers)
            names += of_numbers
        if "time" not in (split.metadata.kinds.values() if split.metadata is not None else ()):
            times = of_time(split.time)  # unknown ones are facts of their own
            parts.append(np.stack(list(times.values()), axis=1).astype(np.float32))
            names += [f"published: {name}" for name in times]
        if split.statistics is not None:
            parts.append(split.statistics.values)
            names += split.statistics.names
        for name in self.widths if self.components else ():
            parts.append(self.projections[name].project(partial(split.read, name), len(split)))
            names += [f"{name} component {place}" for place in range(1, parts[-1].shape[1] + 1)]
        numbers = np.concatenate([np.empty((len(split), 0), np.float32), *parts], axis=1)  # (n, a)
        if labelled and not of_words and np.isnan(numbers).all():  # times are always columns, known or not
            raise InputError("RetrievalBoost: no features, metadata or neighbours are left to learn from")
        names += of_words
        if self.names not in ([], names):
            raise InputError(
                f"RetrievalBoost: fitted on {len(self.names)} features, given {len(names)}, or others "
                f"({listed(sorted(set(self.names) ^ set(names)))}); train anew"
            )
        self.names = names
        return catboost.Pool(features_of(numbers, words), split.label if labelled else None)

    # ---- fitting -------------------------------------------------------------------------------

    def _fit(self, train: Split, valid: Split) -> History:
        loss = "RMSE" if self.label_dim == 1 else "MultiRMSE"
        self._fit_projections(train)
        self.usual = train.label.mean(axis=0)
        fitted, checked, history = self.pool(train), self.pool(valid), None
        for member in range(self.ensemble):
            forest = catboost.CatBoostRegressor(
                iterations=self.trees,
                depth=self.depth,
                learning_rate=self.lr,
                loss_function=loss,
                early_stopping_rounds=self.early_stop_turns,
                random_seed=self.seed + member,
                thread_count=torch.get_num_threads(),
                allow_writing_files=False,
                logging_level="Silent",
            )
            what = f"trees, forest {member + 1} of {self.ensemble}"
            with tqdm(total=self.trees, desc=what, leave=False, unit="tree", **PROGRESS_BAR) as bar:
                try:
                    forest.fit(fitted, eval_set=checked, callbacks=[Progress(bar, loss)])
                except catboost.CatBoostError as error:
                    raise InputError(f"{self.run.folder}: CatBoost cannot be fitted: {error}") from None
            self.forests.append(forest)
            curves = forest.get_evals_result()
            history = history or boosting_history(curves["learn"][loss], curves["validation"][loss], "tree")
        self._explain()
        self._weigh_anchors(valid)
        return history

    def _weigh_anchors(self, valid: Split) -> None:
        from scipy.optimize import lsq_linear

        forests = self._forests(valid).mean(axis=0)
        gap = self._anchors(valid, forests) - forests  # (anchors, n, label_dim)
        self.weights = np.zeros((len(gap), self.label_dim))
        for target in range(self.label_dim if len(gap) else 0):
            left = valid.label[:, target] - forests[:, target]
            found = lsq_linear(gap[:, :, target].T, left, (0, 1)).x
            gain = left**2 - (left - found @ gap[:, :, target]) ** 2  # (n,)
            if gain.mean() > SURE * gain.std() / np.sqrt(len(gain)):
                self.weights[:, target] = found
        if self.weights.any():
            self.run.log(f"anchors weigh {', '.join(f'{weight:.2f}' for weight in self.weights.mean(axis=1))}")

    def _anchors(self, split: Split, forests: np.ndarray) -> np.ndarray:
        """(anchors, n, label_dim); what is not known is what the forests say."""
        found = []
        for ending in ANCHORS if split.statistics is not None else ():
            names = enumerate(split.statistics.names)
            columns = [place for place, name in names if name.endswith(ending) and BEYOND not in name]
            for start in range(0, len(columns), self.label_dim):
                values = split.statistics.values[:, columns[start : start + self.label_dim]]  # (n, label_dim)
                found.append(np.where(np.isnan(values), forests, values))
                if ending == SHRUNKEN:
                    found.append(np.where(np.isnan(values), self.usual, forests))
        return np.stack(found) if found else np.empty((0, *forests.shape))

    def _explain(self) -> None:
        """How much of the prediction each feature changes, as a picture: CatBoost's own measure, the forests' mean."""
        effects = np.mean([forest.get_feature_importance() for forest in self.forests], axis=0)
        total: dict[str, float] = {}
        for name, effect in zip(self.names, effects, strict=True):
            kind = name.rpartition(" component ")[0]
            total[f"{kind} features" if kind else name] = total.get(f"{kind} features" if kind else name, 0) + effect
        ordered = sorted(total.items(), key=lambda one: -one[1])
        self.run.log(f"what it looks at: {listed((f'{name} {effect:.0f} %' for name, effect in ordered), 8)}")
        save(draw_effects(ordered, "what RetrievalBoost looks at"), self.run.folder / "figures" / "effects.png")

    def predict(self, split: Split) -> np.ndarray:
        return self.predict_members(split).mean(axis=0)

    def predict_members(self, split: Split) -> np.ndarray:
        """(forests, n, label_dim) float32; the anchors draw all of them alike."""
        forests = self._forests(split)
        mean = forests.mean(axis=0)
        anchors = self._anchors(split, mean)
        if len(anchors) != len(self.weights):
            raise InputError(
                f"RetrievalBoost: {len(self.weights)} weights in its {PROJECTIONS}, expected {len(anchors)}"
            )
        drawn = np.einsum("at,ant->nt", self.weights, anchors - mean)
        return (forests + drawn).astype(np.float32)

    def _forests(self, split: Split) -> np.ndarray:
        """(forests, n, label_dim)"""
        pool = self.pool(split, labelled=False)
        return np.stack([forest.predict(pool).reshape(-1, self.label_dim) for forest in self.forests])

    # ---- files ---------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        write_json(folder / NAMES, {"names": self.names})
        arrays = {f"{name}.{part}": getattr(found, part) for part in PARTS for name, found in self.projections.items()}
        with written_beside(folder / PROJECTIONS) as beside, beside.open("wb") as file:
            np.savez(file, **arrays, **{WEIGHTS: self.weights, USUAL: self.usual})
        for member, forest in enumerate(self.forests):
            with written_beside(folder / file_of(member)) as beside:
                forest.save_model(str(beside), format="cbm")

    def load(self, folder: Path) -> None:
        names = self.widths if self.components else ()
        wanted = [WEIGHTS, USUAL, *(f"{name}.{part}" for name in names for part in PARTS)]
        arrays = read_arrays(folder / PROJECTIONS, "the arrays of a RetrievalBoost", wanted)
        sound = all(array.dtype.kind == "f" for array in arrays.values())
        self.weights, self.usual = arrays[WEIGHTS], arrays[USUAL]
        self.projections = {name: Components(*(arrays[f"{name}.{part}"] for part in PARTS)) for name in names}
        sound &= self.usual.shape == (self.label_dim,)
        sound &= self.weights.ndim == 2 and self.weights.shape[1] == self.label_dim
        for name, found in self.projections.items():
            sound &= found.axes.ndim == 2 and found.axes.shape[1] == self.dims[name]
            sound &= found.mean.shape == found.axes.shape[1:]
        try:
            names = read_json(folder / NAMES).get("names")
        except OSError as error:
            raise unreadable(folder / NAMES, "the features of a RetrievalBoost", error) from None
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise InputError(f"{folder / NAMES}: not the names of a RetrievalBoost's features")
        self.names = names
        if not sound:
            raise InputError(f"{folder / PROJECTIONS}: arrays for other features than this run's")
        self.forests = []
        for member in range(self.ensemble):
            path = folder / file_of(member)
            try:
                forest = catboost.CatBoostRegressor().load_model(str(path), format="cbm")
                empty = nothing(len(forest.feature_names_), len(forest.get_cat_feature_indices()))
                fits = forest.predict(empty).size == self.label_dim and len(forest.feature_names_) == len(self.names)
            except Exception as error:  # its own, and what bytes that are no text make of names
                raise unreadable(path, "a CatBoost model", error) from None
            if not fits:
                raise InputError(f"{path}: made for other features or targets than this run's")
            self.forests.append(forest)


def file_of(member: int) -> str:
    return f"best_{member}.cbm"  # CatBoost's own format
