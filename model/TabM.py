"""TabM: an ensemble of networks that share most of their weights (Gorishniy et al., "TabM", ICLR 2025)."""

from __future__ import annotations

import rtdl_num_embeddings
import tabm
import torch
from torch import Tensor, nn

from model.layers import METADATA, MOST, scaled

BINS = 48  # of a number, each with as many videos


class TabM(nn.Module):
    """The authors' layers on one vector of all that is known of a video; `ensemble` is their k.

    shapes: of an item's features by modality, visual (F, D) or (D,) each, metadata with label statistics of the
    neighbours among its columns; numbers: how many of these are numbers, the first ones, which are embedded piecewise
    linearly ("On Embeddings for Numerical Features in Tabular Deep Learning", 2022, in the version of TabM's paper).
    use_retrieval changes nothing here: without it the statistics are no columns.
    """

    def __init__(
        self,
        *,
        shapes: dict[str, list[int]],
        label_dim: int,
        numbers: int = 0,
        feature_dim: int = 256,
        blocks: int = 2,
        embedding_dim: int = 16,
        dropout: float = 0.1,
        ensemble: int = 32,
        use_retrieval: bool = True,
    ):
        super().__init__()
        self.names, self.numbers = list(shapes), numbers
        # The encoding of metadata makes numbers normal by their quantiles in train: quantiles of the normal are theirs.
        edges = torch.special.ndtri(torch.linspace(0, 1, BINS + 1, dtype=torch.float64)).clamp(-MOST, MOST).float()
        version = {"activation": False, "version": "B"}
        self.embed = (
            rtdl_num_embeddings.PiecewiseLinearEmbeddings([edges] * numbers, embedding_dim, **version)
            if numbers
            else None
        )
        # All that comes of one number, or of one vector, has one scale in a member at the start.
        parts = [embedding_dim] * numbers
        for name, shape in shapes.items():
            parts += [1] * (shape[-1] - numbers) if name == METADATA else [shape[-1]]
        self.every = tabm.EnsembleView(k=ensemble)
        self.layers = tabm.make_tabm_backbone(
            d_in=sum(parts),
            n_blocks=blocks,
            d_block=feature_dim,
            dropout=dropout,
            k=ensemble,
            arch_type="tabm",
            start_scaling_init="normal" if numbers else "random-signs",
            start_scaling_init_chunks=parts,
        )
        self.out = tabm.LinearEnsemble(feature_dim, label_dim, k=ensemble)

    def forward(self, batch) -> Tensor:
        """A Batch (dataloader/batches.py) -> (members, B, label_dim), each trained by itself; their mean predicts."""
        features = scaled(batch.features)
        parts = []
        if self.embed is not None:
            parts.append(self.embed(features[METADATA][:, : self.numbers]).flatten(1))  # (B, numbers * D)
        for name in self.names:
            values = features[name]
            if name == METADATA:
                values = values[:, self.numbers :]
            parts.append(values.mean(dim=1) if values.ndim == 3 else values)
        found = self.out(self.layers(self.every(torch.cat(parts, dim=1))))  # (B, members, label_dim)
        return found.movedim(1, 0)
