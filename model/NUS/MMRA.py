"""MMRA as published for NUS: ReLU, 4 frames, and other names for the prediction layers."""

from __future__ import annotations

import torch

from model.layers import MMRANetwork

PREDICTION_LAYERS = {
    "predict_linear_1.": "prediction_module.0.",
    "predict_linear_2.": "prediction_module.2.",
    "predict_linear_3.": "prediction_module.4.",
}


class MMRA(MMRANetwork):
    def __init__(
        self,
        *,
        visual_dim: int = 768,
        textual_dim: int = 768,
        feature_dim: int = 768,
        frame_num: int = 4,
        alpha: float = 0.6,
        label_dim: int = 1,
    ):
        super().__init__(
            torch.relu,
            visual_dim=visual_dim,
            textual_dim=textual_dim,
            feature_dim=feature_dim,
            frame_num=frame_num,
            alpha=alpha,
            label_dim=label_dim,
        )

    @staticmethod
    def own_name(published: str) -> str:
        for theirs, ours in PREDICTION_LAYERS.items():
            if published.startswith(theirs):
                return ours + published.removeprefix(theirs)
        return MMRANetwork.own_name(published)
