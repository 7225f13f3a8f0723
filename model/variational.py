"""What the two variational baselines share: frames and text encoded as Gaussians, and their product decoded."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.layers import load_strictly

HEADS = 8  # of the attention over frames, as published


class FrameEncoder(nn.Module):
    """Frames (B, F, Dv) attended to each other; what the last one became, (B, Dv).

    The published code lets the items of a batch attend to each other instead, so that a prediction depends on its
    batch mates. 8 heads, or the largest number below that divides Dv.
    """

    def __init__(self, visual_dim: int):
        super().__init__()
        heads = max(h for h in range(1, HEADS + 1) if visual_dim % h == 0)
        layer = nn.TransformerEncoderLayer(visual_dim, heads, dim_feedforward=256, dropout=0.1, batch_first=True)
        self.transformer_encoder = nn.TransformerEncoder(layer, num_layers=1, enable_nested_tensor=False)

    def forward(self, visual: Tensor) -> Tensor:
        return self.transformer_encoder(visual)[:, -1]


class VariationalFusion(nn.Module):
    """A Gaussian over a latent vector from each modality, their product, and a decoder on what is drawn from it.

    Xie et al., "Micro-video Popularity Prediction via Multimodal Variational Information Bottleneck", 2021.
    In training z is drawn from the product; in prediction it is the product's mean (the published code draws there
    too, so that no prediction comes twice). Loss: (1 - kl_weight) MSE + kl_weight KL to N(0, I).

    decoder: (B, latent_dim) -> (B, label_dim).
    """

    def __init__(self, decoder: nn.Module, *, visual_dim: int, textual_dim: int, latent_dim: int, kl_weight: float):
        super().__init__()
        self.kl_weight = kl_weight
        self.visual_dense_layer = FrameEncoder(visual_dim)
        self.visual_encoder = _encoder(visual_dim)
        self.textual_encoder = _encoder(textual_dim)
        self.textual_mu_layer = nn.Linear(256, latent_dim)
        self.visual_mu_layer = nn.Linear(256, latent_dim)
        self.textual_logvar_layer = nn.Linear(256, latent_dim)
        self.visual_logvar_layer = nn.Linear(256, latent_dim)
        self.decoder = decoder

    def posterior(self, batch) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the product of both experts, (B, latent_dim) each: precisions add up."""
        visual = self.visual_encoder(self.visual_dense_layer(batch.visual))  # (B, 256)
        textual = self.textual_encoder(batch.textual)  # (B, 256)
        mean = torch.stack([self.visual_mu_layer(visual), self.textual_mu_layer(textual)]).float()  # (2, B, latent_dim)
        logvar = torch.stack([self.visual_logvar_layer(visual), self.textual_logvar_layer(textual)]).float()
        share = (-logvar).softmax(dim=0)  # (2, B, latent_dim), of each expert in the summed precision
        return (share * mean).sum(dim=0), -torch.logsumexp(-logvar, dim=0)

    def forward(self, batch) -> Tensor:
        return self._decoded(*self.posterior(batch))

    def _decoded(self, mean: Tensor, logvar: Tensor) -> Tensor:
        z = mean + torch.randn_like(mean) * (logvar / 2).exp() if self.training else mean  # (B, latent_dim)
        return self.decoder(z)  # (B, label_dim)

    def loss(self, batch) -> Tensor:
        mean, logvar = self.posterior(batch)
        error = F.mse_loss(self._decoded(mean, logvar).float(), batch.label)
        return (1 - self.kl_weight) * error + self.kl_weight * kl_to_normal(mean, logvar)

    def load_published(self, weights: Mapping[str, Tensor | np.ndarray]) -> None:
        """Take the tensors of a published weight file, by its names; ValueError unless all fit exactly."""
        load_strictly(self, weights)


def kl_to_normal(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL of N(mean, exp(logvar)) to N(0, I), summed over dimensions, mean over the batch."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(dim=1).mean()


def _encoder(dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU())
