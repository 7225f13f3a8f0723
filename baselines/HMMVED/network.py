"""HMMVED: a multimodal variational encoder and decoder (Xie et al., 2021)."""

from __future__ import annotations

from torch import nn

from model.layers import VariationalFusion


class HMMVED(VariationalFusion):
    """Latent 50, decoded by Linear(50, 20), ReLU, Linear(20, label_dim). frame_num: any number will do."""

    def __init__(
        self,
        *,
        visual_dim: int = 768,
        textual_dim: int = 768,
        frame_num: int = 10,
        label_dim: int = 1,
        latent_dim: int = 50,
        kl_weight: float = 0.05,
        use_visual: bool = True,
        use_textual: bool = True,
    ):
        decoder = nn.Sequential(nn.Linear(latent_dim, 20), nn.ReLU(), nn.Linear(20, label_dim))
        sizes = {"visual_dim": visual_dim, "textual_dim": textual_dim, "latent_dim": latent_dim}
        sides = {"use_visual": use_visual, "use_textual": use_textual}
        super().__init__(decoder, kl_weight=kl_weight, **sizes, **sides)
