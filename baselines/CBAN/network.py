"""CBAN: crossmodal bipolar attention network (Cheung and Lam, 2022)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from model.layers import CrossModalBranch, load_strictly


class CBAN(CrossModalBranch):
    """MMRA's branch with tanh, alpha 1, and additive attention: scores and pooling weights are tanh, not softmax.

    The learned matrices have a row for each of the frame_num frames; the published code has 4 rows.
    uni_modal_linear_1 and uni_modal_linear_2 are in its weight files and act on nothing.
    """

    def __init__(
        self,
        *,
        visual_dim: int = 768,
        textual_dim: int = 768,
        frame_num: int = 10,
        label_dim: int = 1,
        feature_dim: int = 768,
    ):
        sizes = {"visual_dim": visual_dim, "textual_dim": textual_dim, "feature_dim": feature_dim}
        super().__init__(torch.tanh, alpha=1.0, **sizes)
        self.add_attention_linear_1 = nn.Linear(feature_dim, 1)
        self.add_attention_linear_2 = nn.Linear(feature_dim, 1)
        self.add_attention_linear_3 = nn.Linear(feature_dim, 1)
        self.add_attention_matrix_1 = nn.Parameter(nn.init.xavier_uniform_(torch.empty(frame_num, feature_dim)))
        self.add_attention_matrix_2 = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, feature_dim)))
        self.predict_linear = nn.Linear(2 * feature_dim, label_dim)

    def forward(self, batch) -> Tensor:
        visual, textual = super().forward(batch.features["visual"], batch.features["textual"])  # (B, D) each
        weight = torch.tanh(self.add_attention_linear_3(textual + self.add_attention_matrix_2))  # (B, 1)
        return self.predict_linear(torch.cat([visual, weight * textual], dim=1))  # (B, label_dim)

    def attention_scores(self, embedded: Tensor, query: Tensor) -> Tensor:
        return torch.tanh(self.add_attention_linear_1(embedded + query.unsqueeze(1))).squeeze(2)  # (B, F)

    def frame_weights(self, visual_fused: Tensor) -> Tensor:
        return torch.tanh(self.add_attention_linear_2(visual_fused + self.add_attention_matrix_1)).squeeze(2)  # (B, F)

    def load_published(self, weights: Mapping[str, Tensor | np.ndarray]) -> None:
        """Take the tensors of a published weight file, by its names; ValueError unless all fit exactly."""
        load_strictly(self, weights)
