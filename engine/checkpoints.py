"""Weights and training states of a run: plain tensors, read without running code."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from common.console import InputError
from common.files import written_beside


def save_weights(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    with written_beside(path) as partial:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial)


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint; the run has not finished an epoch yet") from None
    except (SafetensorError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: truncated or not a safetensors file ({error})") from None


def save_state(path: Path, state: dict) -> None:
    with written_beside(path) as partial:
        torch.save(state, partial)


def load_state(path: Path, device: torch.device) -> dict | None:
    """The state of the last finished epoch, None before the first; tensors and plain values only."""
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch, zipfile and pickle each have their own; all mean the same here
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: truncated or not a checkpoint of a run ({reason})") from None
