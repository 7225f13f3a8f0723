"""TabR-S as pytabkit has it (Gorishniy et al., "TabR: Tabular Deep Learning Meets Nearest Neighbors", ICLR 2024)."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
import warnings

import numpy as np
import pytabkit
import torch

from common.console import InputError
from dataloader.batches import Split, Unlabelled
from dataloader.modalities import METADATA
from engine.foretold import Foretold


class TabR(Foretold):
    """On metadata as an array, label statistics among them, and components of feature vectors; pytabkit's defaults.

    Its own neighbours are videos of train, found by what it learns; what they say is their label. Split valid chooses
    the epoch. Repeats itself on one machine with as many threads.
    """

    def __init__(self, *, epochs: int = 100, early_stop_turns: int = 16, **how):
        super().__init__(**how)
        self.epochs, self.early_stop_turns = epochs, early_stop_turns

    def inputs_of(self, *splits: Split | Unlabelled) -> list[np.ndarray]:
        """(n, D) float32 of each, the first of which is train."""
        found = []
        for split, columns in zip(splits, self.columns_of_vectors(splits[0], *splits), strict=True):
            parts = [split.read(METADATA, slice(None))] if METADATA in self.widths else []
            found.append(np.concatenate([*parts, *(column[:, None] for column in columns.values())], axis=1))
        return found

    def foretell(self, train: Split, valid: Split, tested: Unlabelled, target: int) -> tuple[np.ndarray, np.ndarray]:
        if not self.components and METADATA not in self.widths:
            raise InputError("TabR: no features, metadata or neighbours are left to learn from")
        inputs = self.inputs_of(train, valid, tested)
        self.run.log(f"TabR on {inputs[0].shape[1]} columns, at most {self.epochs} epochs, which say nothing")
        with silent(), tempfile.TemporaryDirectory() as scratch:
            machine = pytabkit.TabR_S_D_Regressor(
                device="cpu",
                random_state=self.seed,
                n_threads=torch.get_num_threads(),
                tmp_folder=scratch,
                n_epochs=self.epochs,
                patience=self.early_stop_turns,
            )
            machine.fit(inputs[0], train.label[:, target], inputs[1], valid.label[:, target])
            return tuple(machine.predict(one).reshape(-1) for one in inputs[1:])


@contextlib.contextmanager
def silent():
    """pytabkit, and Lightning beneath it, print what they do, and change how torch is seeded and runs."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    logging.disable(logging.WARNING)
    nowhere = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
        os.environ.pop("PL_GLOBAL_SEED", None)
        torch.use_deterministic_algorithms(deterministic)
