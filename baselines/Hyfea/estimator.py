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
                    callbacks=[_Progress(bar, loss)],
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
        numbers, categories, of_numbers, of_categories = for_trees(split.metadata)
        of_vectors = [f"{name} {place}" for name, width in self.widths.items() for place in range(width)]
        numbers = np.concatenate([vectors, numbers], axis=1)
        return catboost.Pool(columns(numbers, [*of_vectors, *of_numbers], categories, of_categories), label)

    def save(self, folder: Path) -> None:
        with written_beside(folder / FILE) as partial:
            self.forest.save_model(str(partial), format="cbm")

    def load(self, folder: Path) -> None:
        try:
            forest = catboost.CatBoostRegressor().load_model(str(folder / FILE), format="cbm")
            width, categories = len(forest.feature_names_), len(forest.get_cat_feature_indices())
            fits = (
                width == self.width + self.columns
                and forest.predict(nothing(forest.feature_names_, categories)).size == self.label_dim
            )
        except catboost.CatBoostError as error:
            raise unreadable(folder / FILE, "a CatBoost model", error) from None
        if not fits:
            raise InputError(f"{folder / FILE}: made for {width} features, or for other targets than this run's")
        self.forest = forest


def columns(
    numbers: np.ndarray, of_numbers: list[str], words: np.ndarray, of_words: list[str]
) -> catboost.FeaturesData:
    """Numbers (n, a) and words (n, b) with their names, as CatBoost takes them without a copy for each column."""
    data = {"num_feature_data": numbers, "num_feature_names": of_numbers} if of_numbers else {}
    if of_words:
        encoded = np.array([word.encode("utf-8", "replace") for word in words.ravel()], object)
        data |= {"cat_feature_data": encoded.reshape(words.shape), "cat_feature_names": of_words}
    return catboost.FeaturesData(**data)


def nothing(names: list[str], categories: int) -> catboost.Pool | np.ndarray:
    """A video of which nothing is said, as a forest of these features takes it; categories come last."""
    width = len(names)
    numbers, words = np.zeros((1, width - categories), np.float32), np.full((1, categories), "", object)
    if not categories:
        return numbers
    return catboost.Pool(columns(numbers, names[: width - categories], words, names[width - categories :]))


class _Progress:
    """CatBoost's callback after each tree."""

    def __init__(self, bar: tqdm, loss: str):
        self.bar, self.loss = bar, loss

    def after_iteration(self, info) -> bool:
        self.bar.set_postfix(valid=f"{info.metrics['validation'][self.loss][-1]:.4f}", refresh=False)
        self.bar.update()
        return True
