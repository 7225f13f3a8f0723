"""Blend: a weighted mean of several methods, RetrievalBoost and LARK if nothing else is said. Ours."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import dataclass

from common.settings import setting
from engine.recipe import Recipe


def member(text: str) -> str:
    """An argparse type: a method and its flags, as train.py takes them."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    if not words or words[0].startswith("-"):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a method, and its flags behind it")
    return text


@dataclass(frozen=True)
class BlendSettings:
    members: list = setting(
        ("RetrievalBoost", "LARK"),
        'methods, each with flags of its own where it has any, as in "RetrievalBoost" "LARK --ensemble 8"; weights are '
        "least squares on split valid, none negative, their sum 1",
        member,
        kind=list,
        nargs="+",
        metavar='"METHOD FLAGS"',
    )


RECIPE = Recipe(
    "baselines.blending:Blend",
    BlendSettings,
    any_modality=True,
    takes_all=True,
    typed_columns=True,
    network=False,
    blends=True,
    calibrates=True,
)
