"""What methods of boosted trees (CatBoost) share: how features reach them, and their progress."""

from __future__ import annotations

import catboost
import numpy as np
from tqdm import tqdm


def features_of(
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
    if not categories and all(name.isdigit() for name in names):  # features without names, as plain arrays have them
        return numbers
    return catboost.Pool(features_of(numbers, names[: width - categories], words, names[width - categories :]))


class Progress:
    """CatBoost's callback after each tree."""

    def __init__(self, bar: tqdm, loss: str):
        self.bar, self.loss = bar, loss

    def after_iteration(self, info) -> bool:
        self.bar.set_postfix(valid=f"{info.metrics['validation'][self.loss][-1]:.4f}", refresh=False)
        self.bar.update()
        return True
