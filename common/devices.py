"""`--device` and `--precision`: where the arithmetic runs and in what; what a machine cannot do is refused here."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from common.console import InputError

if TYPE_CHECKING:
    import torch


PRECISIONS = ("fp32", "bf16")


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


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """`fp32`, `bf16`, or `auto`, which is bf16 on CUDA where it has it -> what `device` computes in.

    Any CPU computes in bf16, one without units for it slower than in fp32.
    """
    import torch

    has_bf16 = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    if name == "auto":
        name = "bf16" if device.type == "cuda" and has_bf16 else "fp32"
    if name == "bf16" and not has_bf16:
        raise InputError(f"--precision bf16: {torch.cuda.get_device_name(device)} has no bfloat16; take fp32")
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[name]
