"""Network: any nn.Module as a Method, with the one training loop."""

from __future__ import annotations

import copy
import functools
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

import engine.events  # noqa: F401 a run writes with it; imported here so that a broken TensorBoard is told of at once
from common import distributed
from common.console import InputError, in_one_line
from common.devices import pick_precision
from dataloader.batches import Batch, Split, Unlabelled
from engine.checkpoints import (
    alike,
    fits,
    load_state,
    load_weights,
    random_state,
    save_state,
    save_weights,
    set_random_state,
)
from engine.label_scale import MEAN, SPREAD, LabelScale
from engine.method import History
from engine.metrics import measure, selection_score
from engine.run import BEST, LAST, Run
from engine.settings import TrainingSettings

LOSSES = {
    "MSE": F.mse_loss,
    "MAE": F.l1_loss,
    "Huber": F.huber_loss,
    "BCE": F.binary_cross_entropy_with_logits,  # the network's output is then a logit, its prediction the sigmoid
}
OPTIMISERS = {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW, "SGD": torch.optim.SGD}


class Network:
    """A module with `forward(batch) -> ([members,] B, label_dim)` and, where it is not plain, `loss(batch)`.

    A module that says `transductive` is given `loss(batch, unlabelled)`: a batch of the items it will be tested on too.
    Batches have `batch_size` items in training and in prediction. With `label_scale` the module sees and gives labels
    that are standardised by train; outside of it they are in their own unit.
    """

    def __init__(self, module: nn.Module, training: TrainingSettings, device: torch.device, run: Run | None = None):
        self.module, self.training, self.device, self.run = module.to(device), training, device, run
        if device.type == "cpu":
            keep_recurrent_in_float32(module)
        self.transductive = getattr(module, "transductive", False)
        self.scale: LabelScale | None = None  # known with train, or with the weights
        self.together: nn.Module | None = None  # the loss, where several processes train

    @functools.cached_property
    def precision(self) -> torch.dtype:
        return pick_precision(self.training.precision, self.device)

    # ---- prediction ----------------------------------------------------------------------------

    def predict(self, split: Split) -> np.ndarray:
        members = self.predict_members(split)
        return members[0] if len(members) == 1 else members.mean(axis=0)

    def predict_members(self, split: Split) -> np.ndarray:
        """(members, n, label_dim), of a network that is no ensemble one."""
        self.module.eval()
        with torch.inference_mode():
            outputs = [self._forward(b) for b in split.batches(self.training.batch_size, self.device)]
        output = torch.cat(outputs, dim=-2)
        output = output if output.dim() == 3 else output[None]
        if self.scale and len(self.scale.mean) != output.shape[-1]:
            raise InputError(f"{BEST}: a scale of {len(self.scale.mean)} labels, the network has {output.shape[-1]}")
        output = self.scale.back(output) if self.scale else output
        return (output.sigmoid() if self.training.loss == "BCE" else output).cpu().numpy()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32)

    def _forward(self, batch: Batch) -> Tensor:
        batch = self.scale.batch(batch) if self.scale else batch
        with self._autocast():
            return self.module(batch).float()  # ([members,] B, label_dim), standardised where there is a scale

    def _loss(self, batch: Batch, *unlabelled: Batch) -> tuple[Tensor, float]:
        """What is trained on, and the same as a number in the label's own unit, where the loss has one."""
        if hasattr(self.module, "loss"):
            batch = self.scale.batch(batch) if self.scale else batch
            with self._autocast():
                loss = self.module.loss(batch, *unlabelled)
            return loss, loss.item()
        loss, output = LOSSES[self.training.loss], self._forward(batch)
        label = batch.label.expand_as(output)  # an ensemble gives (members, B, label_dim)
        if self.scale is None:
            found = loss(output, label)
            return found, found.item()
        with torch.no_grad():
            value = loss(self.scale.back(output), label).item()
        return loss(output, self.scale.there(label)), value

    # ---- training ------------------------------------------------------------------------------

    def fit(self, train: Split, valid: Split, unlabelled: Unlabelled | None = None) -> History:
        """Train until `epochs` or early stop; goes on from the run's last epoch where there is one.

        The best epoch (on the whole valid split) is kept and loaded at the end; Ctrl-C ends the fit just so.
        InputError where the loss is no longer finite.

        Of several processes (common/distributed.py) each computes its part of every batch and of split valid; the first
        one alone reads and writes the run, decides, and has the best epoch at the end.
        """
        settings, optimiser = self.training, self.optimiser()
        if settings.label_scale == "standard":
            self.scale = LabelScale.of(train.label, self.device)
        generator = torch.Generator().manual_seed(settings.seed)
        history, best_score = self._resume(optimiser, generator)
        self.run.keep_config()
        own, writes = valid, distributed.is_first()
        if distributed.count() > 1:
            own = valid.sample(np.arange(len(valid))[distributed.part(len(valid))])
            self.together = distributed.shared(Objective(self))
        try:
            with distributed.ending_together():
                for epoch in range(len(history.epochs) + 1, settings.epochs + 1):
                    if epoch - 1 - history.best_epoch >= settings.early_stop_turns:
                        self.run.log(f"stopped: no better epoch for {settings.early_stop_turns}")
                        break
                    start = time.perf_counter()
                    train_loss = self.train_epoch(train, optimiser, generator, epoch, unlabelled)
                    measured = self._measured(own, valid)
                    score = selection_score(measured, settings.metric)
                    if score < best_score or (history.best_epoch == 0 and np.isfinite(score)):
                        best_score, history.best_epoch = score, epoch
                        if writes:
                            self.save(self.run.folder)
                    seconds = time.perf_counter() - start
                    record = {"epoch": epoch, "train_loss": train_loss, "valid": measured, "score": score}
                    history.epochs.append(record | {"best_epoch": history.best_epoch, "seconds": round(seconds, 3)})
                    if writes:
                        self._record(history, optimiser, generator, best_score)
        except KeyboardInterrupt:
            history.interrupted = True
        if history.best_epoch and writes:
            self.load(self.run.folder)
        elif not history.best_epoch and not history.interrupted:
            raise InputError(
                f"--metric {'+'.join(settings.metric)} was finite in no epoch: are all valid labels equal?"
            )
        return history

    def _measured(self, own: Split, valid: Split) -> dict[str, float]:
        """The metrics of split `valid`, of which this process predicts its `own` part."""
        parts = distributed.gathered(self.predict(own) if len(own) else None)
        predicted = np.concatenate([one for one in parts if one is not None])
        return distributed.agreed(measure(predicted, valid.label, valid.target))

    def optimiser(self) -> torch.optim.Optimizer:
        make, settings = OPTIMISERS[self.training.optim], self.training
        return make(self.module.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True)

    def train_epoch(
        self, train: Split, optimiser, generator: torch.Generator, epoch: int, unlabelled: Unlabelled | None = None
    ) -> float:
        """One pass over `train`, and beside it over `unlabelled`, as often as it takes; the mean loss of its items."""
        self.module.train()
        distributed.seed_others(self.training.seed, epoch)
        size, total, objective = self.training.batch_size, 0.0, self.together or self._loss
        batches = train.batches(size, self.device, None if self.training.no_shuffle else generator, together=True)
        count = -(-len(train) // size)
        beside = self._beside(unlabelled, generator)
        silent = None if distributed.is_first() else True
        bar = tqdm(batches, f"epoch {epoch}", count, leave=False, disable=silent, unit="batch", dynamic_ncols=True)
        for number, batch in enumerate(bar, start=1):
            items = min(size, len(train) - (number - 1) * size)  # of which the batch is this process's part
            loss, value = objective(batch, *next(beside))
            loss, value = distributed.weighed(loss, items), distributed.added(value, items)
            if not np.isfinite(value):
                raise InputError(
                    f"the loss became {value} in epoch {epoch}, batch {number} of {count}: lower --lr (now "
                    f"{self.training.lr:g}) or check the scale of the features; {self._kept()}"
                )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += value * items
            bar.set_postfix(loss=f"{value:.4f}", refresh=False)
        optimiser.zero_grad()  # a quarter of the network's memory, for evaluation and checkpoints to use
        return total / len(train)

    def _beside(self, unlabelled: Unlabelled | None, generator: torch.Generator) -> Iterator[tuple[Batch, ...]]:
        """What `loss` is given beside each batch: nothing, or a batch of `unlabelled`, again and again."""
        if not self.transductive:
            return itertools.repeat(())
        order = None if self.training.no_shuffle else generator
        passes = (unlabelled.batches(self.training.batch_size, self.device, order) for _ in itertools.count())
        return ((batch,) for batch in itertools.chain.from_iterable(passes))

    def _kept(self) -> str:
        if (self.run.folder / BEST).exists():
            return f"the best epoch so far is kept in {self.run.folder}"
        return f"no epoch was finished, {self.run.folder} holds no checkpoint"

    def _record(self, history: History, optimiser, generator: torch.Generator, best_score: float) -> None:
        """Write down a finished epoch. last.pt comes last: what a kill leaves behind it is done again, bit for bit."""
        last = history.epochs[-1]
        self.run.write_history(history.epochs)
        scalars = {"loss/train": last["train_loss"]} | {f"valid/{k}": v for k, v in last["valid"].items()}
        self.run.record_scalars(last["epoch"], scalars)
        save_state(
            self.run.folder / LAST,
            {
                "epoch": last["epoch"],
                "best_epoch": history.best_epoch,
                "best_score": best_score,
                "module": self.module.state_dict(),
                "optimiser": optimiser.state_dict(),
                "shuffle": generator.get_state(),
                "random": random_state(self.device),
            },
        )
        measured = "  ".join(f"{name} {value:.4f}" for name, value in last["valid"].items())
        best = "  best" if history.best_epoch == last["epoch"] else ""
        self.run.log(
            f"epoch {last['epoch']}/{self.training.epochs}  train loss {last['train_loss']:.4f}  valid {measured}  "
            f"({last['seconds']:.1f} s){best}"
        )

    def _resume(self, optimiser, generator: torch.Generator) -> tuple[History, float]:
        """The first process reads, so that all go on from the same epoch; to the CPU, as the others' devices differ."""
        path, several = self.run.folder / LAST, distributed.count() > 1
        state = load_state(path, torch.device("cpu") if several else self.device) if distributed.is_first() else None
        state = distributed.agreed(state)
        if state is None:
            return History(), float("inf")
        wrong = f"{self.run.folder}: {LAST} does not fit this run's config.json"
        shuffle, random = generator.get_state(), {"cpu": torch.get_rng_state()}
        expected = {"epoch": 0, "best_epoch": 0, "best_score": 0.0, "module": self.module.state_dict()}
        if not fits(state, expected | {"shuffle": shuffle, "random": random}, optimiser):
            raise InputError(f"{wrong}, or holds what training does not write; train anew")
        try:
            self.module.load_state_dict(state["module"])
            optimiser.load_state_dict(copy.deepcopy(state["optimiser"]))  # not as parts of the file, which goes away
            generator.set_state(state["shuffle"].cpu())
            set_random_state(state["random"], self.device)
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise InputError(f"{wrong} ({in_one_line(error)})") from None
        epochs = distributed.agreed(self.run.history() if distributed.is_first() else None)[: state["epoch"]]
        if len(epochs) != state["epoch"]:
            raise InputError(f"{self.run.folder}: history.jsonl has {len(epochs)} epochs, last.pt {state['epoch']}")
        return History(epochs, state["best_epoch"]), state["best_score"]

    # ---- checkpoints ---------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        scale = {} if self.scale is None else {MEAN: self.scale.mean, SPREAD: self.scale.spread}
        save_weights(folder / BEST, self.module.state_dict() | scale)

    def load(self, folder: Path) -> None:
        weights = load_weights(folder / BEST)
        if MEAN in weights and SPREAD in weights:
            mean, spread = (weights.pop(name).to(self.device) for name in (MEAN, SPREAD))
            self.scale = LabelScale(mean, spread)
        try:
            self.module.load_state_dict(weights)
        except RuntimeError as error:
            said = in_one_line(error, 300)
            raise InputError(f"{folder / BEST}: weights of another method or dimension ({said})") from None
        scale = self.scale and (self.scale.mean, self.scale.spread)
        one_a_target = scale is None or (scale[0].ndim == 1 and alike(*scale) and scale[0].is_floating_point())
        if not alike(weights, self.module.state_dict()) or not one_a_target:
            raise InputError(f"{folder / BEST}: weights of another type than training writes")


class Objective(nn.Module):
    """A network's loss as a module, whose gradients torch can share while they are computed."""

    def __init__(self, network: Network):
        super().__init__()
        self.module, self.network = network.module, network

    def forward(self, batch: Batch, *unlabelled: Batch) -> tuple[Tensor, float]:
        return self.network._loss(batch, *unlabelled)


def keep_recurrent_in_float32(module: nn.Module) -> None:
    """On a CPU without bfloat16 units oneDNN has no recurrent layer in bfloat16, and autocast would ask for one.

    So on every CPU they stay in float32, whatever --precision says, and give the same everywhere.
    """
    for layer in module.modules():
        if isinstance(layer, nn.RNNBase):

            def forward(x: Tensor, state=None, own=layer.forward):
                with torch.autocast("cpu", enabled=False):
                    return own(x.float(), state)

            layer.forward = forward
