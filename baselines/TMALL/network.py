"""TMALL: transductive multi-modal learning (Chen et al., "Micro Tells Macro", MM 2016)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.layers import load_strictly


class TMALL(nn.Module):
    """A linear map of [visual, textual] into a common space, and a linear predictor on it. visual: mean of the frames.

    Transductive: the common space is to relate items as each modality does, and the items to be tested, whose labels
    it never sees, take part in that. The published penalty compares the modalities with each other, which no weight
    can change; this one compares the common space with each of them, as the paper's does, within batches.
    """

    transductive = True

    def __init__(
        self,
        *,
        visual_dim: int = 768,
        textual_dim: int = 768,
        frame_num: int = 10,
        label_dim: int = 1,
        common_dim: int = 256,
        graph_weight: float = 1.0,
        use_visual: bool = True,
        use_textual: bool = True,
    ):
        super().__init__()
        self.graph_weight, self.use_visual, self.use_textual = graph_weight, use_visual, use_textual
        matrix = torch.empty(visual_dim * use_visual + textual_dim * use_textual, common_dim)
        self.shared_space_matrix = nn.Parameter(nn.init.xavier_uniform_(matrix))
        self.popularity_prediction = nn.Linear(common_dim, label_dim)

    def forward(self, batch) -> Tensor:
        return self.popularity_prediction(self.common_space(self.vectors(batch)))  # (B, label_dim)

    def vectors(self, batch) -> list[Tensor]:
        """Of each modality that is used: visual (B, Dv), the mean of the frames, and textual (B, Dt)."""
        visual = [batch.features["visual"].mean(dim=1)] if self.use_visual else []
        return visual + ([batch.features["textual"]] if self.use_textual else [])

    def common_space(self, vectors: list[Tensor]) -> Tensor:
        return torch.cat(vectors, dim=1) @ self.shared_space_matrix  # (B, common_dim)

    def loss(self, batch, unlabelled) -> Tensor:
        """MSE on the labelled items and the graphs' disagreement on these and the `unlabelled` together."""
        labelled, others = self.vectors(batch), self.vectors(unlabelled)
        common = self.common_space(labelled)  # (B, common_dim)
        error = F.mse_loss(self.popularity_prediction(common).float(), batch.label)
        graph = similarity_graph(torch.cat([common, self.common_space(others)]))  # (B + U, B + U)
        both = (torch.cat(pair) for pair in zip(labelled, others, strict=True))  # (B + U, D) of each modality
        return error + self.graph_weight * sum(F.mse_loss(graph, similarity_graph(features)) for features in both)

    def load_published(self, weights: Mapping[str, Tensor | np.ndarray]) -> None:
        """Take the tensors of a published weight file, by its names; ValueError unless all fit exactly."""
        load_strictly(self, weights)


def similarity_graph(items: Tensor) -> Tensor:
    """Cosine of each pair of items (n, d) -> (n, n)."""
    unit = F.normalize(items.float(), dim=1)
    return (unit @ unit.T).float()
