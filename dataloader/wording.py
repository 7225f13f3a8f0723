"""What is said of a video's label by the wording of its text alone: by runs of characters, whatever the language."""

from __future__ import annotations

import numpy as np

from dataloader.expectation import drawn_folds
from dataloader.items import creators
from dataloader.statistics import Statistics
from dataloader.store import FeatureStore

RUNS = (2, 5)  # characters, within a word
MOST_RUNS, LEAST_USED = 100_000, 3  # different ones, the most frequent; texts that each is in
RIDGE = 2.0
MOST_FITTED = 100_000  # texts


def label_by_wording(store: FeatureStore, rows: np.ndarray, seed: int, apart: bool) -> list[Statistics]:
    """Of the items `rows` (n,), a column a target; NaN where there is no text; nothing where train has next to none.

    By a ridge regression on TF-IDF, of train's own items out of ten folds. apart: a creator's items are in one fold, as
    is right where tested creators are new ones, whose turns of phrase nobody has read. seed: of the folds.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import Ridge

    items, train = store.items, store.items.rows("train")
    vectors = TfidfVectorizer(
        analyzer="char_wb", ngram_range=RUNS, min_df=LEAST_USED, max_features=MOST_RUNS, sublinear_tf=True
    )
    try:
        vectors.fit(items.text[train])
    except ValueError:  # no run of characters is in three texts
        return []
    if apart:
        number = creators(items.user[train])
        fold = drawn_folds(number.max() + 1, seed)[number]
    else:
        fold = drawn_folds(len(train), seed)
    place = np.full(len(store), -1)
    place[train] = fold
    x, x_train = vectors.transform(items.text[rows]), vectors.transform(items.text[train])
    chosen = np.random.default_rng(seed).permutation(len(train))[:MOST_FITTED]
    values = np.full((len(rows), items.label_dim), np.nan, np.float32)
    for asked in np.unique(place[rows]):  # -1: of other splits
        theirs, known = np.flatnonzero(place[rows] == asked), np.sort(chosen[fold[chosen] != asked])
        if len(known):
            model = Ridge(alpha=RIDGE).fit(x_train[known], items.label[train[known]])
            values[theirs] = model.predict(x[theirs]).reshape(len(theirs), -1)
    values[x.getnnz(axis=1) == 0] = np.nan
    return [Statistics([f"{name} by the wording of its text" for name in store.label.names], values)]
