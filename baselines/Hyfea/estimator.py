"""Hyfea: gradient-boosted trees on all features (CatBoost; after Lai et al., "HyFea", MM 2020)."""

from __future__ import annotations

from pathlib import Path

import catboost
import numpy as np
import torch
from tqdm import tqdm

from common.console import InputError
from common.files import written_beside
from dataloader.batches import Split
from dataloader.encoding import for_trees
from engine.estimator import Estimator, boosting_history, unreadable
from engine.method import History
from engine.trees import Progress, features_of, nothing

FILE = "best.cbm"  # CatBoost's own format


class Hyfea(Estimator):
    """CatBoost on all frames one after the other, then the text, or what else there is, flattened.

    Metadata are typed columns: numbers, which may be unknown, and categories, of which CatBoost makes numbers itself.
    Several targets: one forest for all (MultiRMSE).
    border_count: CatBoost's own default on a GPU, where the published code ran; on a CPU it would be 254.
    """

    typed_columns = True

    def __init__(
        self,
        *,
        trees: int = 500,
        depth: int = 10,
        lr: float = 0.03,
        early_stop_turns: int = 20,
        border_count: int = 128,
        **dimensions,
    ):
        super().__init__(**dimensions)
        self.trees, self.depth, self.lr, self.early_stop_turns = trees, depth, lr, early_stop_turns
        self.border_count = border_count
        self.forest = None

    def _fit(self, train: Split, valid: Split) -> History:
        loss = "RMSE" if self.label_dim == 1 else "MultiRMSE"
        self.forest = catboost.CatBoostRegressor(
            iterations=self.trees,
            depth=self.depth,
            learning_rate=self.lr,
            loss_function=loss,
            early_stopping_rounds=self.early_stop_turns,
            border_count=self.border_count,
            random_seed=self.seed,
            thread_count=torch.get_num_threads(),  # CatBoost does not look at OMP_NUM_THREADS; the trees are the same
            allow_writing_files=False,
            logging_level="Silent",
        )
        with tqdm(total=self.trees, desc="trees", leave=False, disable=None, unit="tree", dynamic_ncols=True) as bar:
            try:
                self.forest.fit(
                    self.pool(train),
                    eval_set=self.pool(valid),
                    callbacks=[Progress(bar, loss)],
                )
            except catboost.CatBoostError as error:
                raise InputError(f"{self.run.folder}: CatBoost cannot be fitted: {error}") from None
        curves = self.forest.get_evals_result()
        return boosting_history(curves["learn"][loss], curves["validation"][loss], "tree")

    def predict(self, split: Split) -> np.ndarray:
        predicted = self.forest.predict(self.pool(split, labelled=False))
        return predicted.reshape(-1, self.label_dim).astype(np.float32)

    def pool(self, split: Split, labelled: bool = True) -> catboost.Pool:
        vectors, label = self.inputs(split), split.label if labelled else None
        if split.metadata is None:
            return catboost.Pool(vectors, label)
        numbers, words, _, _ = for_trees(split.metadata)
        return catboost.Pool(features_of(np.concatenate([vectors, numbers], axis=1), words), label)

    def save(self, folder: Path) -> None:
        with written_beside(folder / FILE) as partial:
            self.forest.save_model(str(partial), format="cbm")

    def load(self, folder: Path) -> None:
        try:
            forest = catboost.CatBoostRegressor().load_model(str(folder / FILE), format="cbm")
            width, categories = len(forest.feature_names_), len(forest.get_cat_feature_indices())
            fits = (
                width == self.width + self.columns and forest.predict(nothing(width, categories)).size == self.label_dim
            )
        except Exception as error:  # its own, and what bytes that are no text make of names
            raise unreadable(folder / FILE, "a CatBoost model", error) from None
        if not fits:
            raise InputError(f"{folder / FILE}: made for {width} features, or for other targets than this run's")
        self.forest = forest
