"""Several processes that train one network together, as torchrun starts them; with one, nothing here does anything.

torchrun starts them and says who is who in environment variables, torch.distributed lets them speak to each other. What
follows is what this project adds: who takes which part, what is decided once, and how all of them end in one line.
"""

from __future__ import annotations

from common.ends import launched, say

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.console import InputError

if TYPE_CHECKING:
    import torch

_state = {"rank": 0, "count": 1, "interrupted": False, "run": None}


def count() -> int:
    """How many processes train together."""
    return _state["count"]


def is_first() -> bool:
    """Whether this process is the one that writes and speaks."""
    return _state["rank"] == 0


@contextlib.contextmanager
def joined(prog: str) -> Iterator[None]:
    """In the block the processes that torchrun started are one group; it ends in an InputError where one was lost."""
    if not launched():
        yield
        return
    # Before torch is imported: it would tell each process that all layers of a network act, which not all have.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    import torch
    from torch import distributed

    _end_when_told(prog)
    try:
        store, rank, number = next(distributed.rendezvous("env://"))
        # torchrun --max_restarts gives the next processes the same store, with the addresses of those that are no more.
        store = distributed.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, store=store, rank=rank, world_size=number)
        _state["rank"], _state["count"] = distributed.get_rank(), distributed.get_world_size()
        yield
    except RuntimeError as error:
        if not isinstance(error, distributed.DistError) and "gloo" not in str(error).lower():
            raise
        raise InputError(_lost()) from None
    distributed.destroy_process_group()
    _state["rank"], _state["count"] = 0, 1


def own_device(name: str) -> str:
    """`--device` for this process: cuda is the GPU of its number on its machine, auto that where all have one."""
    if count() == 1 or name == "cpu":
        return name
    import torch

    if name not in ("auto", "cuda"):
        raise InputError(f"--device {name}: each process takes a device of its own; give auto, cuda or cpu")
    number = int(os.environ["LOCAL_RANK"])
    there = number < torch.cuda.device_count()
    if name == "auto" and not all(gathered(there)):
        return "cpu"
    if there:
        torch.cuda.set_device(number)
    return f"cuda:{number}"


# ---- what they tell each other -----------------------------------------------------------------


def gathered(value: Any) -> list:
    """What each process gives, in their order; KeyboardInterrupt in all of them where one was interrupted."""
    if count() == 1:
        return [value]
    from torch import distributed

    found = [None] * count()
    distributed.all_gather_object(found, (value, _state["interrupted"]))
    if any(interrupted for _, interrupted in found):
        raise KeyboardInterrupt
    return [one for one, _ in found]


def agreed(value: Any) -> Any:
    """The first process's value in all of them, which give nothing."""
    if count() == 1:
        return value
    from torch import distributed

    held = [value]
    distributed.broadcast_object_list(held)
    return held[0]


def added(value: float, n: int) -> float:
    """Means over the parts of n items -> the mean over all; KeyboardInterrupt as of `gathered`."""
    if count() == 1:
        return value
    import torch
    from torch import distributed

    share = _share(n)
    both = torch.tensor([value * share if share else 0.0, float(_state["interrupted"])], dtype=torch.float64)
    distributed.all_reduce(both)
    if both[1]:
        raise KeyboardInterrupt
    return both[0].item()


# ---- who takes what ----------------------------------------------------------------------------


def part(n: int) -> slice:
    """Which of n items are this process's: as many in a row as the others have, or one less or more."""
    rank = _state["rank"]
    return slice(n * rank // count(), n * (rank + 1) // count())


def weighed(loss: torch.Tensor, n: int) -> torch.Tensor:
    """A mean over this process's part of n items -> what it adds to the mean of all processes' gradients."""
    return loss if count() == 1 else loss * (count() * _share(n))


def _share(n: int) -> float:
    own = part(n)
    return (own.stop - own.start) / n


def shared(module: torch.nn.Module) -> torch.nn.Module:
    """The module whose gradients are the mean of those of all processes.

    Torch is to look for parameters without a gradient in each step, as a network may have layers that never act.
    Looking for them it also keeps the order in which it adds gradients up, which else changes after the first step, so
    that a resumed run would end with other bits.
    """
    if count() == 1:
        return module
    from torch.nn.parallel import DistributedDataParallel

    return DistributedDataParallel(module, find_unused_parameters=True)


def seed_others(seed: int, epoch: int) -> None:
    """Give each process but the first, which goes on with its own, random numbers of its own for this epoch."""
    if not is_first():
        import numpy as np
        import torch

        torch.manual_seed(int(np.random.SeedSequence([seed, epoch, _state["rank"]]).generate_state(1)[0]))


# ---- how they end ------------------------------------------------------------------------------


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """In the block Ctrl-C ends all processes at the same step, so that none waits for another.

    From then on it does nothing: the terminal sends it to all, and torchrun once more, while the best epoch is loaded.
    """
    if count() == 1:
        yield
        return
    _state["interrupted"] = False
    before = signal.signal(signal.SIGINT, lambda *_: _state.update(interrupted=True))
    yield
    signal.signal(signal.SIGINT, before)


def goes_on_with(folder: Path) -> None:
    """The run that is trained, for what is said where a process is lost."""
    _state["run"] = folder


def _lost() -> str:
    run = f"; --resume {_state['run']} goes on with the run" if _state["run"] else ""
    return f"another process of this training has ended, or torchrun was told to end{run}"


def _end_when_told(prog: str) -> None:
    """torchrun tells the others to end when one has: they do so in a line, and at once.

    By a thread, as the main one may wait in the network's code for a process that is no more.
    """
    receiving, sending = os.pipe()
    os.set_blocking(sending, False)
    signal.set_wakeup_fd(sending, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda *_: None)

    def wait() -> None:
        while os.read(receiving, 1)[0] != signal.SIGTERM:
            pass
        say(f"{prog}: error: {_lost()}")
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
