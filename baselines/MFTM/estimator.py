"""MFTM: the mean of boosted trees (LightGBM) and an attentive network for tables (TabNet; Arik and Pfister, 2021)."""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from baselines.MFTM import forest
from baselines.MFTM.tabnet import Progress, TabNet
from common.console import InputError
from common.files import written_beside
from dataloader.batches import Split
from engine.estimator import Estimator, boosting_history, unreadable
from engine.method import History

TABNET = "tabnet.zip"  # pytorch-tabnet's own format: a JSON of settings and a state_dict, read with weights_only


class MFTM(Estimator):
    """tabnet_weight TabNet + (1 - tabnet_weight) LightGBM, on all frames one after the other, then the text (or what
    else there is, flattened).

    LightGBM has a forest for each target, TabNet one network for all. history.jsonl is TabNet's. Its batches are
    pytorch-tabnet's default of 1,024, or all of train where that is less, as a smaller last batch is dropped.
    """

    def __init__(
        self,
        *,
        trees: int = 100,
        epochs: int = 200,
        early_stop_turns: int = 20,
        lr: float = 0.02,
        tabnet_weight: float = 0.5,
        **dimensions,
    ):
        super().__init__(**dimensions)
        self.trees, self.epochs, self.early_stop_turns, self.lr = trees, epochs, early_stop_turns, lr
        self.tabnet_weight = tabnet_weight
        self.forests, self.tabnet = [], None

    def _fit(self, train: Split, valid: Split) -> History:
        inputs, label = self.inputs(train), train.label.astype(np.float32)
        self.forests = forest.fit(inputs, label, trees=self.trees, seed=self.seed)
        self.tabnet = self._tabnet(optimizer_params={"lr": self.lr})
        valid_label = valid.label.astype(np.float32)
        bar = tqdm(total=self.epochs, desc="TabNet", leave=False, disable=None, unit="epoch", dynamic_ncols=True)
        with bar, _quiet():
            try:
                self.tabnet.fit(
                    inputs,
                    label,
                    eval_set=[(self.inputs(valid), valid_label)],
                    eval_name=["valid"],
                    eval_metric=["mse"],
                    max_epochs=self.epochs,
                    patience=self.early_stop_turns,
                    batch_size=min(1024, len(train)),
                    callbacks=[Progress(bar)],
                    compute_importance=False,
                )
            except RuntimeError as error:  # its sparsemax finds no place among NaN
                raise InputError(f"TabNet cannot be fitted with --lr {self.lr:g} ({error}); lower it") from None
        curves = self.tabnet.history.history
        return boosting_history(curves["loss"], np.sqrt(curves["valid_mse"]), "epoch")

    def _tabnet(self, **more) -> TabNet:
        with _quiet():
            return TabNet(seed=self.seed, verbose=0, device_name="cpu", **more)

    def predict(self, split: Split) -> np.ndarray:
        inputs = self.inputs(split)
        with torch.no_grad():
            network = self.tabnet.predict(inputs)  # (n, label_dim)
        return (self.tabnet_weight * network + (1 - self.tabnet_weight) * forest.predict(self.forests, inputs)).astype(
            np.float32
        )

    def save(self, folder: Path) -> None:
        forest.save(self.forests, folder)
        # The library makes a folder, and an archive of it.
        with written_beside(folder / TABNET) as partial, tempfile.TemporaryDirectory(dir=folder) as place, _quiet():
            shutil.move(self.tabnet.save_model(str(Path(place) / "tabnet")), partial)

    def load(self, folder: Path) -> None:
        self.forests = forest.load(folder, self.label_dim, self.width)
        self.tabnet = self._tabnet()
        try:
            with _quiet():
                self.tabnet.load_model(str(folder / TABNET))
        except Exception as error:  # zipfile, json, pickle, torch and the constructor each have their own
            raise unreadable(folder / TABNET, "a TabNet model", error) from None
        if (self.tabnet.input_dim, self.tabnet.output_dim) != (self.width, self.label_dim):
            raise InputError(
                f"{folder / TABNET}: made for {self.tabnet.input_dim} features and {self.tabnet.output_dim} targets, "
                f"this run has {self.width} and {self.label_dim}"
            )


@contextlib.contextmanager
def _quiet():
    """pytorch-tabnet prints and warns of what train.py says itself."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
