"""MMRA as published for MicroLens: tanh, 10 frames."""

from __future__ import annotations

import torch

from model.layers import MMRANetwork


class MMRA(MMRANetwork):
    def __init__(
        self,
        *,
        visual_dim: int = 768,
        textual_dim: int = 768,
        feature_dim: int = 768,
        frame_num: int = 10,
        alpha: float = 0.6,
        label_dim: int = 1,
    ):
        super().__init__(
            torch.tanh,
            visual_dim=visual_dim,
            textual_dim=textual_dim,
            feature_dim=feature_dim,
            frame_num=frame_num,
            alpha=alpha,
            label_dim=label_dim,
        )
