"""MMRA as published for NUS: ReLU, 4 frames, and other names for the prediction layers."""

from __future__ import annotations

import torch

from model.network import MMRANetwork

PREDICTION_LAYERS = {
    "predict_linear_1.": "prediction_module.0.",
    "predict_linear_2.": "prediction_module.2.",
    "predict_linear_3.": "prediction_module.4.",
}


class MMRA(MMRANetwork):
    activation = staticmethod(torch.relu)
    published_frame_num = 4

    @staticmethod
    def own_name(published: str) -> str:
        for theirs, ours in PREDICTION_LAYERS.items():
            if published.startswith(theirs):
                return ours + published.removeprefix(theirs)
        return MMRANetwork.own_name(published)
