"""What is said of a video's label by the wording of its text alone: by runs of characters, whatever the language."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dataloader.expectation import drawn_folds
from dataloader.items import creators
from dataloader.statistics import Statistics
from dataloader.store import FeatureStore

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import Ridge

RUNS = (2, 5)  # characters, within a word
MOST_RUNS, LEAST_USED = 100_000, 3  # different ones, the most frequent; texts that each is in
RIDGE = 2.0
MOST_FITTED = 100_000  # texts


@dataclass(frozen=True)
class Wording:
    """What the wording of all of train's texts says: TF-IDF, and a ridge regression on it."""

    vectors: TfidfVectorizer
    model: Ridge

    def says(self, texts: np.ndarray) -> np.ndarray:
        """(n,) -> (n, label_dim), NaN where nothing of a text is known."""
        if not len(texts):
            return np.empty((0, 1), np.float32)
        x = self.vectors.transform(texts)
        said = self.model.predict(x).reshape(len(texts), -1).astype(np.float32)
        return np.where(x.getnnz(axis=1)[:, None] > 0, said, np.nan)


def label_by_wording(store: FeatureStore, rows: np.ndarray, seed: int, apart: bool) -> list[Statistics]:
    """Of the items `rows` (n,), a column a target; NaN where there is no text; nothing where train has next to none.

    By a ridge regression on TF-IDF, of train's own items out of ten folds. apart: a creator's items are in one fold, as
    is right where tested creators are new ones, whose turns of phrase nobody has read. seed: of the folds.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import Ridge

    items, train = store.items, store.learned_rows
    of_train = np.isin(rows, train)
    chosen = np.random.default_rng(seed).permutation(len(train))[:MOST_FITTED]

    def fit_all() -> tuple[Wording, csr_matrix] | None:
        vectors = TfidfVectorizer(
            analyzer="char_wb", ngram_range=RUNS, min_df=LEAST_USED, max_features=MOST_RUNS, sublinear_tf=True
        )
        try:
            x = vectors.fit_transform(items.text[train])
        except ValueError:  # no run of characters is in three texts
            return None
        known = np.sort(chosen)
        return Wording(vectors, Ridge(alpha=RIDGE).fit(x[known], items.label[train[known]])), x

    found = store.remembered(("wording", seed), fit_all)
    if found is None:
        return []
    wording, x_train = found
    values = np.full((len(rows), items.label_dim), np.nan, np.float32)
    values[~of_train] = wording.says(items.text[rows[~of_train]])
    if of_train.any():
        if apart:
            number = creators(items.user[train])
            fold = drawn_folds(number.max() + 1, seed)[number]
        else:
            fold = drawn_folds(len(train), seed)
        place = np.searchsorted(train, rows[of_train])
        says = np.full((len(place), items.label_dim), np.nan, np.float32)
        for asked in np.unique(fold[place]):
            theirs, known = np.flatnonzero(fold[place] == asked), np.sort(chosen[fold[chosen] != asked])
            if len(known):
                model = Ridge(alpha=RIDGE).fit(x_train[known], items.label[train[known]])
                says[theirs] = model.predict(x_train[place[theirs]]).reshape(len(theirs), -1)
        says[x_train[place].getnnz(axis=1) == 0] = np.nan
        values[of_train] = says
    return [Statistics([f"{name} by the wording of its text" for name in store.label.names], values)]
