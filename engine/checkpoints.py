"""Weights and training states of a run: plain tensors, read without running code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from common.archives import read_tensors, readable
from common.console import InputError
from common.files import written_beside

NO_WEIGHTS, NO_STATE = "truncated or not a safetensors file", "truncated or not a checkpoint of a run"
RECORD, VALUE = 512, 64  # bytes that a tensor takes beside what it holds, and any other value


def save_weights(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with written_beside(path, size_of(tensors)) as partial:
        save_file(tensors, partial)


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    try:
        with readable(path, NO_WEIGHTS):
            return load_file(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint; the run has not finished an epoch yet") from None


def save_state(path: Path, state: dict) -> None:
    with written_beside(path, size_of(state)) as partial:
        torch.save(state, partial)


def load_state(path: Path, device: torch.device) -> dict | None:
    """The state of the last finished epoch, None before the first; tensors and plain values only."""
    if not path.exists():
        return None
    state = read_tensors(path, NO_STATE, device)
    if not isinstance(state, dict):
        raise InputError(f"{path}: {NO_STATE}")
    return state


def size_of(content: Any) -> int:
    """Bytes that tensors in dictionaries and lists take as a file, nearly."""
    if isinstance(content, torch.Tensor):
        return content.numel() * content.element_size() + RECORD
    parts = content.values() if isinstance(content, Mapping) else content if isinstance(content, list | tuple) else ()
    return VALUE + sum(map(size_of, parts))


def alike(found: Any, expected: Any) -> bool:
    """Whether a state that was read has the form of one that would be written now: the same keys, and tensors of the
    same shape and type, which are as large as they say."""
    if isinstance(expected, torch.Tensor):
        return (
            isinstance(found, torch.Tensor)
            and (found.layout, found.dtype, found.shape) == (expected.layout, expected.dtype, expected.shape)
            and found.device.type != "meta"
            and found.numel() * found.element_size() <= found.untyped_storage().nbytes()
        )
    if isinstance(expected, Mapping):
        return (
            isinstance(found, Mapping)
            and found.keys() == expected.keys()
            and all(alike(found[name], part) for name, part in expected.items())
        )
    if isinstance(expected, list | tuple):
        same = isinstance(found, list | tuple) and len(found) == len(expected)
        return same and all(map(alike, found, expected))
    if type(expected) is float:
        return type(found) in (float, int)
    return type(found) is type(expected)


def fits(state: Mapping, expected: Mapping, optimiser: torch.optim.Optimizer) -> bool:
    """Whether training can go on with a state that was read.

    expected: a state as it would be written now, without the optimiser's. What a group of parameters is trained with
    must be what `optimiser` has; of a setting that only one of the two knows, its own is taken.
    """
    if not all(isinstance(state.get(name), dict) for name in ("random", "optimiser")):
        return False
    random = {name: part for name, part in state["random"].items() if name != "cuda"}
    others = {name: part for name, part in state.items() if name != "optimiser"} | {"random": random}
    if not alike(others, expected) or not 0 <= state["best_epoch"] <= state["epoch"] > 0:
        return False
    saved, own = state["optimiser"], optimiser.state_dict()["param_groups"]
    groups, moments = saved.get("param_groups"), saved.get("state")
    if not isinstance(groups, list) or len(groups) != len(own) or not isinstance(moments, dict):
        return False
    for group, now in zip(groups, own, strict=True):
        if not isinstance(group, dict) or "params" not in group:
            return False
        both = {name: value for name, value in now.items() if name in group}
        if any(not alike(group[name], value) or group[name] != value for name, value in both.items()):
            return False
    saved["param_groups"] = own
    names = () if isinstance(optimiser, torch.optim.SGD) else ("exp_avg", "exp_avg_sq")
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    for place, found in moments.items():
        if type(place) is not int or not 0 <= place < len(parameters):
            return False
        step = {"step": torch.tensor(0.0)} if names else {}
        if not alike(found, step | dict.fromkeys(names, parameters[place])):
            return False
    return state["best_score"] == state["best_score"]


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """The generators that dropout and sampling draw from."""
    state = {"cpu": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def set_random_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"].cpu())
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
