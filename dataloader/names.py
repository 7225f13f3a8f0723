"""What command lines offer by name of a data set's content; nothing here takes time to import."""

from __future__ import annotations

from typing import Literal

SPLITS = ("train", "valid", "test", "predict")
KINDS = ("number", "category", "time", "yes/no")  # of columns of metadata
FAMILIES = ("MicroLens", "NUS")
DTYPES = ("float32", "float16")
MODES = ("none", "l2", "standard", "standard+l2")  # of --normalise
BANKS = {"train": ("train",), "train+valid": ("train", "valid")}  # which splits can be retrieved
SKETCHED = 8  # numbers in a run's sketch of similarities (dataloader/neighbours.py)
FOLDS_BY = ("creator", "time", "random")
# Summed once a run, each of the K by itself in every batch, or named columns of what their labels say.
NeighboursAs = Literal["aggregated", "each", "statistics"]
# Which bank, of a data set that has grown: what a run was trained with, or all that is known now.
TRAINED, GROWN = "trained", "grown"
# Who searches: all are compared, or FAISS proposes whom to compare.
AUTO = "auto"
BACKENDS = (AUTO, "exact", "hnsw", "ivf", "ivfpq")
