"""MASSL: as HMMVED, with a convolutional decoder (published code)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from baselines.MASSL import LEAST_LATENT
from model.layers import VariationalFusion


class MASSL(VariationalFusion):
    """Latent 256, decoded by linear layers and convolutions over the vector as one channel.

    frame_num: any number will do. Other latent sizes than the published 256 change the last layer's input.
    ValueError for a latent_dim that the convolutions leave nothing of.
    """

    def __init__(
        self,
        *,
        visual_dim: int = 768,
        textual_dim: int = 768,
        frame_num: int = 10,
        label_dim: int = 1,
        latent_dim: int = 256,
        kl_weight: float = 0.05,
        use_visual: bool = True,
        use_textual: bool = True,
    ):
        decoder = Decoder(latent_dim, label_dim)
        sizes = {"visual_dim": visual_dim, "textual_dim": textual_dim, "latent_dim": latent_dim}
        sides = {"use_visual": use_visual, "use_textual": use_textual}
        super().__init__(decoder, kl_weight=kl_weight, **sizes, **sides)


class Decoder(nn.Sequential):
    """(B, latent_dim) -> (B, label_dim). The dropout on the very output is the published one."""

    def __init__(self, latent_dim: int, label_dim: int):
        if latent_dim < LEAST_LATENT:
            raise ValueError(f"latent_dim {latent_dim}: the convolutions leave nothing of less than {LEAST_LATENT}")
        length = latent_dim
        for halvings, pooled in ((1, 1), (1, 1), (3, 1)):
            for _ in range(halvings):
                length = (length + 1) // 2
            length -= pooled
        super().__init__(
            nn.Linear(latent_dim, latent_dim),
            nn.Dropout(0.2),
            nn.ReLU(),
            nn.Linear(latent_dim, latent_dim),
            nn.ReLU(),
            _halving(),
            Pool(),
            _halving(),
            Pool(),
            _halving(),
            _halving(),
            _halving(),
            Pool(),
            nn.Linear(length, label_dim),
            nn.Dropout(0.2),
        )

    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z.unsqueeze(1)).squeeze(1)  # (B, 1, latent_dim) -> (B, label_dim)


class Pool(nn.Module):
    """The larger of each two neighbours, as MaxPool1d(2, stride=1), whose backward on CUDA does not repeat itself."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.maximum(x[..., :-1], x[..., 1:])  # (B, 1, L) -> (B, 1, L - 1)


def _halving() -> nn.Conv1d:
    return nn.Conv1d(1, 1, kernel_size=3, stride=2, padding=1)
