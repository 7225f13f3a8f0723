"""What is expected of a video by itself, without neighbours or creator, and what of its label is beyond that.

Two videos of a creator are seldom alike in age, category or words; how far each went beyond its kind says more of the
creator than how far it went. It is what LARK subtracts too, here by a plain model, fitted in seconds.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
from tqdm import tqdm

from common.console import PROGRESS_BAR
from dataloader.components import Components
from dataloader.encoding import MOST_CATEGORIES, RARE, for_trees
from dataloader.metadata import Metadata
from dataloader.store import FeatureStore

FOLDS = 10
COMPONENTS = 32  # of each kind of features
MODEL = {"max_iter": 60, "learning_rate": 0.1, "max_leaf_nodes": 8, "min_samples_leaf": 20, "random_state": 0}


def drawn_folds(n: int, seed: int) -> np.ndarray:
    """(n,) the fold of each of train's n items."""
    return np.random.default_rng(seed).permutation(n) % FOLDS


def beyond_expectation(
    store: FeatureStore, features: Mapping[str, np.ndarray], metadata: Metadata | None, seed: int, of_train: bool = True
) -> np.ndarray | None:
    """(G, N, label_dim) float32: of train's items label minus expectation, NaN of all others; None without features.

    The first is by a model of all of train; number f + 1 by one that knows nothing of fold f, for the items of that
    fold. Of features by modality (N, ...) and metadata of all items. seed: of the folds. of_train: whether items of
    train will ask; for others the first is enough.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor

    train = store.rows("train")
    learned = np.isin(train, store.learned_rows)  # (n,)
    parts = [] if metadata is None else [as_numbers(metadata.take(train), learned)]
    for name in features:
        array = features[name]
        known = train[learned]
        fitted = Components.fit(lambda chosen, a=array, of=known: a[of[chosen]], len(known), COMPONENTS, seed)
        parts.append(fitted.project(lambda chosen, a=array: a[train[chosen]], len(train)))
    if not parts or not sum(part.shape[1] for part in parts):
        return None
    x, label, fold = np.concatenate(parts, axis=1), store.items.label[train], drawn_folds(len(train), seed)
    models = FOLDS + 1 if of_train else 1
    values = np.full((models, *store.items.label.shape), np.nan, np.float32)
    for place in tqdm(range(models), "what is expected", leave=False, unit="fold", **PROGRESS_BAR):
        known = learned & (fold != place - 1)
        for target in range(label.shape[1]):
            model = HistGradientBoostingRegressor(**MODEL).fit(x[known], label[known, target])
            values[place, train, target] = label[:, target] - model.predict(x)
    return values


def as_numbers(metadata: Metadata, learned: np.ndarray) -> np.ndarray:
    """(n, a) float32: numbers, NaN where unknown, and a column for each value of a category that is frequent among the
    items `learned` (n,)."""
    from sklearn.preprocessing import OneHotEncoder

    numbers, words, _, _ = for_trees(metadata)
    if not words.shape[1]:
        return numbers
    encoder = OneHotEncoder(
        min_frequency=RARE,
        max_categories=MOST_CATEGORIES,
        handle_unknown="infrequent_if_exist",
        sparse_output=False,
        dtype=np.float32,
    ).fit(words[learned])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Found unknown categories")  # of items that joined since
        return np.concatenate([numbers, encoder.transform(words)], axis=1)
