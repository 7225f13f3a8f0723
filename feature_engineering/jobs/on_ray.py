"""Shards by Ray Data: an actor a device of the cluster, each with the encoder; what is done is noted by the driver.

A row of the data set of Ray is a shard, made as this machine would make it: its batches are the same ones, and its
files are decoded by processes that may crash. Ray gives the shards of a node that is lost to others.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import logging
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from tqdm import tqdm

from common.cluster import AGAIN, RAY, join, lost, room, settle, surroundings
from common.console import PROGRESS_BAR, InputError
from feature_engineering.jobs.progress import Shards

Work = Callable[[Shards], Iterator[tuple]]  # shards -> of each its number, and what was made of it


def made_of(shards: Shards, work: Work, encoder: Any, total: int, unit: str) -> contextlib.closing:
    """What `work` makes of the shards, here or, where the settings of its encoder say so, on a cluster, in any order.

    total: the units of all shards, those that are done already among them.
    """
    elsewhere = encoder.engine == RAY and shards
    return contextlib.closing(_on_cluster(shards, work, encoder, total, unit) if elsewhere else work(shards))


def _on_cluster(shards: Shards, work: Work, encoder: Any, total: int, unit: str) -> Iterator[tuple]:
    ray = join()
    data = importlib.import_module("ray.data")
    number, takes = room(ray, next(encoder.model.parameters()).device.type)
    context = data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # What it cannot make good is told in a line of ours.
    rows = [{"number": number, "start": units.start, "stop": units.stop} for number, units in shards]
    rows = data.from_items(rows, override_num_blocks=len(rows))
    told = ray.put(pickle.dumps(work)), surroundings(), torch.get_num_threads()
    pool = data.ActorPoolStrategy(size=min(number, len(shards)))
    takes["max_task_retries"] = AGAIN  # Without it a shard that always kills its actor would be begun for ever.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray wants such arguments by names of its own, and has none for this one yet.
        made = rows.map_batches(Actor, fn_constructor_args=told, batch_size=1, compute=pool, **takes)
    size = {number: len(units) for number, units in shards}
    bar = tqdm(total=total, initial=total - sum(size.values()), desc=f"{unit}s", unit=unit, **PROGRESS_BAR)
    with bar, lost(ray):
        for batch in made.iter_batches(batch_size=None, prefetch_batches=0):
            for result in map(pickle.loads, batch["made"]):
                if isinstance(result, Exception):
                    raise result
                yield result
                bar.update(size[result[0]])


class Actor:
    """Has the encoder, which is loaded with the first shard, so that what fails then is told as a result."""

    def __init__(self, work: Any, surroundings: dict, threads: int):
        self._told = work, surroundings, threads

    @functools.cached_property
    def _work(self) -> Work:
        work, surroundings, threads = self._told
        settle(**surroundings)
        torch.set_num_threads(threads)
        # Each process that decodes would else import Ray's own script, as that of the process which starts it.
        vars(sys.modules["__main__"]).pop("__file__", None)
        # What an encoder says when it is loaded, it has said once already.
        with io.StringIO() as said, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            return pickle.loads(join().get(work))

    def __call__(self, batch: dict) -> dict[str, list[bytes]]:
        rows = zip(*(batch[name].tolist() for name in ("number", "start", "stop")), strict=True)
        try:
            made = list(self._work([(number, range(start, stop)) for number, start, stop in rows]))
        except (InputError, OSError) as error:
            made = [error]
        return {"made": [pickle.dumps(one) for one in made]}
