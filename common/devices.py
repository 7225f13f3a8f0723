"""`--device`: where the arithmetic runs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from common.console import InputError

if TYPE_CHECKING:
    import torch


def add_device_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto (CUDA where there is one), cpu, cuda, cuda:1 ...")


def pick_device(name: str) -> torch.device:
    """`auto` or a torch device name -> a device that this machine has."""
    import torch  # a command line that only names the flag does not wait for it

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.ones(1, device=device).item()
    except (RuntimeError, AssertionError, ValueError, NotImplementedError):
        raise InputError(
            f"--device {name}: not on this machine ({torch.cuda.device_count()} CUDA devices); use --device cpu or auto"
        ) from None
    return device
