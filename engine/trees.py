"""What methods of boosted trees (CatBoost) share: how features reach them, and their progress."""

from __future__ import annotations

import catboost
import numpy as np
from tqdm import tqdm


def features_of(numbers: np.ndarray, words: np.ndarray) -> catboost.FeaturesData:
    """Numbers (n, a) and words (n, b), as CatBoost takes them without a copy for each column.

    They are called by their places, as names of a user's columns may be equal, or of characters that it cannot save.
    """
    names = [str(place) for place in range(numbers.shape[1] + words.shape[1])]
    data = {"num_feature_data": numbers, "num_feature_names": names[: numbers.shape[1]]} if numbers.shape[1] else {}
    if words.shape[1]:
        encoded = np.array([word.encode("utf-8", "replace") for word in words.ravel()], object)
        data |= {"cat_feature_data": encoded.reshape(words.shape), "cat_feature_names": names[numbers.shape[1] :]}
    return catboost.FeaturesData(**data)


def nothing(width: int, categories: int) -> catboost.Pool:
    """A video of which nothing is said, as a forest of so many features takes it; categories come last."""
    numbers, words = np.zeros((1, width - categories), np.float32), np.full((1, categories), "", object)
    return catboost.Pool(features_of(numbers, words))


class Progress:
    """CatBoost's callback after each tree."""

    def __init__(self, bar: tqdm, loss: str):
        self.bar, self.loss = bar, loss

    def after_iteration(self, info) -> bool:
        self.bar.set_postfix(valid=f"{info.metrics['validation'][self.loss][-1]:.4f}", refresh=False)
        self.bar.update()
        return True
