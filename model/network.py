"""MMRA itself; its models for the families, model/<family>/MMRA.py, differ by activation and frames alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.layers import CrossModalBranch, load_strictly


class MMRANetwork(nn.Module):
    """MMRA: a video's own branch, the branch of what it retrieved, and the label that came with it.

    Zhong et al., "Predicting Micro-video Popularity via Multi-modal Retrieval Augmentation", SIGIR 2024.
    The data sets' models differ by activation and frames only (model/MicroLens/MMRA.py, model/NUS/MMRA.py).

    frame_num: F, the family's published number without it. The ablations put zeros for what they leave out:
    use_retrieval False for all that the retrieved branch, which does not run, and the retrieved label would give,
    use_retrieved_label False for the label alone, use_visual or use_textual False for that side of both branches, which
    is also how a data set without these features is met.
    """

    activation: Callable[[Tensor], Tensor]
    published_frame_num: int

    def __init__(
        self,
        *,
        visual_dim: int = 768,
        textual_dim: int = 768,
        feature_dim: int = 768,
        frame_num: int | None = None,
        alpha: float = 0.6,
        label_dim: int = 1,
        use_retrieval: bool = True,
        use_retrieved_label: bool = True,
        use_visual: bool = True,
        use_textual: bool = True,
    ):
        super().__init__()
        self.frame_num = self.published_frame_num if frame_num is None else frame_num
        self.uses_retrieval, self.uses_retrieved_label = use_retrieval, use_retrieved_label
        arguments = {"visual_dim": visual_dim, "textual_dim": textual_dim, "feature_dim": feature_dim, "alpha": alpha}
        arguments |= {"use_visual": use_visual, "use_textual": use_textual}
        self.own = CrossModalBranch(self.activation, **arguments)
        self.retrieved = CrossModalBranch(self.activation, **arguments)
        self.label_embedding_linear = nn.Linear(label_dim, feature_dim)
        self.prediction_module = nn.Sequential(
            nn.Linear(10 * feature_dim, 800), nn.ReLU(), nn.Linear(800, 200), nn.ReLU(), nn.Linear(200, label_dim)
        )

    def forward(self, batch) -> Tensor:
        """A Batch (dataloader/batches.py) with the aggregated neighbours -> (B, label_dim)."""
        visual, textual = (batch.features.get(name) for name in ("visual", "textual"))
        if self.own.use_visual and visual.shape[1] != self.frame_num:
            raise ValueError(f"{visual.shape[1]} frames given to a model of frame_num {self.frame_num}")
        v, t = self.own(visual, textual)  # (B, D) each
        r_v = r_t = label = torch.zeros_like(v)  # (B, D)
        if self.uses_retrieval:
            retrieved = batch.neighbours.features
            r_v, r_t = self.retrieved(retrieved.get("visual"), retrieved.get("textual"))  # (B, D) each
        if self.uses_retrieval and self.uses_retrieved_label:
            label = F.relu(self.label_embedding_linear(batch.neighbours.label))  # (B, D)
        features = [t, v, r_t, r_v, v * r_v, v * r_t, t * r_v, t * r_t, v * label, t * label]
        return self.prediction_module(torch.cat(features, dim=1))  # (B, label_dim)

    def load_published(self, weights: Mapping[str, Tensor | np.ndarray]) -> None:
        """Take the tensors of a published weight file, by its names; ValueError unless all fit exactly."""
        load_strictly(self, {self.own_name(name): weights[name] for name in weights})

    @staticmethod
    def own_name(published: str) -> str:
        """A published parameter name -> ours: `retrieval_x` is layer x of the retrieved branch."""
        if published.startswith(("prediction_module.", "label_embedding_linear.")):
            return published
        rest = published.removeprefix("retrieval_")
        return f"{'own' if rest == published else 'retrieved'}.{rest}"
