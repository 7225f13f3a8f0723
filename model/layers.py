"""Blocks that two or more networks use."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEADS = 8  # of the attention over frames, as published
METADATA = "metadata"  # columns of about unit variance, the numbers among them first
NORM = 0.4  # of a vector of features: with the norm of its many dimensions it would drown the columns
MOST = 3.0  # deviations: by quantiles a value beyond all of train's would be 5 away


class CrossModalBranch(nn.Module):
    """One side of MMRA: a video's frames and text, attended to each other, as two vectors.

    visual (B, F, Dv), textual (B, Dt) -> pooled visual (B, D), pooled textual (B, D). Zhong et al. 2024,
    with the published code's scaling: scores are divided by D, not sqrt(D): the weights start uniform to 1e-4.
    Layers carry the published names. use_visual, use_textual False are ablations: zeros stand for all that this
    side would give, its pooled vector and what the other side attends to; its layers do not run.
    """

    def __init__(
        self,
        activation: Callable[[Tensor], Tensor],
        *,
        visual_dim: int,
        textual_dim: int,
        feature_dim: int,
        alpha: float,
        use_visual: bool = True,
        use_textual: bool = True,
    ):
        super().__init__()
        self.use_visual, self.use_textual = use_visual, use_textual
        self.activation, self.feature_dim, self.alpha = activation, feature_dim, alpha
        self.visual_embedding = nn.Linear(visual_dim, feature_dim)
        self.textual_embedding = nn.Linear(textual_dim, feature_dim)
        self.dual_attention_linear_1 = nn.Linear(2 * textual_dim, feature_dim)
        self.dual_attention_linear_2 = nn.Linear(2 * visual_dim, feature_dim)
        self.cross_modal_linear_1 = nn.Linear(visual_dim + feature_dim, feature_dim)
        self.cross_modal_linear_2 = nn.Linear(textual_dim + feature_dim, feature_dim)
        self.uni_modal_linear_1 = nn.Linear(feature_dim, 1)
        self.uni_modal_linear_2 = nn.Linear(feature_dim, 1)  # published, but weighs a softmax of one row: never acts

    def forward(self, visual: Tensor | None, textual: Tensor | None) -> tuple[Tensor, Tensor]:
        """A side that is not used may be None."""
        if not self.use_textual:
            pooled = self._visual(visual, None)  # (B, D)
            return pooled, torch.zeros_like(pooled)
        if not self.use_visual:
            nothing = textual.new_zeros(len(textual), self.feature_dim)  # (B, D)
            return nothing, self._textual(textual, nothing)
        return self._visual(visual, textual), self._textual(textual, self._attended_visual(visual))

    def attention_scores(self, embedded: Tensor, query: Tensor) -> Tensor:
        """Embedded frames (B, F, D) and text (B, D) -> (B, F)."""
        return torch.bmm(embedded, query.unsqueeze(2)).squeeze(2) / self.feature_dim

    def frame_weights(self, visual_fused: Tensor) -> Tensor:
        """(B, F, D) -> (B, F), what each frame weighs in the pooled vector."""
        return (self.uni_modal_linear_1(visual_fused).squeeze(2) / self.feature_dim).softmax(dim=1)

    def _visual(self, visual: Tensor, textual: Tensor | None) -> Tensor:
        """Frames fused with the text they attend to (None: zeros stand for it), pooled (B, D)."""
        act, (batch, frames, visual_dim) = self.activation, visual.shape
        flat = visual.reshape(batch * frames, visual_dim)  # (B * F, Dv)
        # cross_modal_linear_1([V, T*]) without the concatenation: V asks for no gradient and is spared its product.
        for_visual, for_textual = self.cross_modal_linear_1.weight.split([visual_dim, self.feature_dim], dim=1)
        fused = F.linear(flat, for_visual, self.cross_modal_linear_1.bias)
        if textual is not None:
            fused = torch.addmm(fused, self._attended_textual(flat, frames, textual), for_textual.T)  # (B * F, D)
        visual_fused = act(fused).view(batch, frames, -1)  # (B, F, D)
        return torch.bmm(self.frame_weights(visual_fused).unsqueeze(1), visual_fused).squeeze(1)

    def _attended_textual(self, flat: Tensor, frames: int, textual: Tensor) -> Tensor:
        """T*: for each of the flat frames (B * F, Dv) the text as it attends to it, (B * F, D)."""
        act = self.activation
        embedded = act(self.visual_embedding(flat)).view(len(textual), frames, -1)  # (B, F, D)
        query = act(self.textual_embedding(textual))  # (B, D)
        attention = self.attention_scores(embedded, query).softmax(dim=1)  # (B, F)
        # The attended text is attention[f] * T: of rank one, so its layer is applied to T once, not to each frame.
        attended = F.linear(textual, self._folded(self.dual_attention_linear_1))  # (B, D)
        bias = self.dual_attention_linear_1.bias
        star = torch.addcmul(bias, attention.unsqueeze(2), attended.unsqueeze(1))  # (B, F, D)
        return act(star).view(len(flat), -1)  # (B * F, D)

    def _attended_visual(self, visual: Tensor) -> Tensor:
        """V*: the frames (B, F, Dv) as the text attends to them, (B, D)."""
        # The text's attention over frames is a softmax over an axis of length one: the plain sum of the frames.
        total = visual.sum(dim=1)  # (B, Dv)
        bias = self.dual_attention_linear_2.bias
        return self.activation(F.linear(total, self._folded(self.dual_attention_linear_2), bias))

    def _textual(self, textual: Tensor, visual_star: Tensor) -> Tensor:
        """Text fused with the frames it attends to, (B, D)."""
        return self.activation(self.cross_modal_linear_2(torch.cat([textual, visual_star], dim=1)))

    def _folded(self, dual_attention: nn.Linear) -> Tensor:
        """The layer's weight (D, 2 Dt) for [X, -alpha X], as the weight (D, Dt) for X that gives the same.

        So alpha rescales what the layer can learn and no more: the published design, kept as it is.
        """
        positive, negative = dual_attention.weight.chunk(2, dim=1)
        return positive - self.alpha * negative


def load_strictly(module: nn.Module, weights: Mapping[str, Tensor | np.ndarray]) -> None:
    """Copy `weights` into `module`; ValueError that lists every missing, unknown or misshapen tensor."""
    expected = module.state_dict()
    weights = {name: torch.as_tensor(value) for name, value in weights.items()}
    problems = [f"{name} is missing" for name in expected.keys() - weights.keys()]
    problems += [f"{name} is unknown" for name in weights.keys() - expected.keys()]
    problems += [
        f"{name} has shape {tuple(weights[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in expected.keys() & weights.keys()
        if weights[name].shape != expected[name].shape
    ]
    if problems:
        raise ValueError("; ".join(sorted(problems)))
    module.load_state_dict(weights)


# ---- what the two variational baselines share ---------------------------------------------------


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

    decoder: (B, latent_dim) -> (B, label_dim). use_visual, use_textual False: the other's Gaussian alone.
    """

    def __init__(
        self,
        decoder: nn.Module,
        *,
        visual_dim: int,
        textual_dim: int,
        latent_dim: int,
        kl_weight: float,
        use_visual: bool = True,
        use_textual: bool = True,
    ):
        super().__init__()
        self.kl_weight, self.use_visual, self.use_textual = kl_weight, use_visual, use_textual
        if use_visual:
            self.visual_dense_layer = FrameEncoder(visual_dim)
            self.visual_encoder = _encoder(visual_dim)
        if use_textual:
            self.textual_encoder = _encoder(textual_dim)
            self.textual_mu_layer = nn.Linear(256, latent_dim)
        if use_visual:
            self.visual_mu_layer = nn.Linear(256, latent_dim)
        if use_textual:
            self.textual_logvar_layer = nn.Linear(256, latent_dim)
        if use_visual:
            self.visual_logvar_layer = nn.Linear(256, latent_dim)
        self.decoder = decoder

    def posterior(self, batch) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the product of both experts, (B, latent_dim) each: precisions add up."""
        means, logvars = [], []
        if self.use_visual:
            visual = self.visual_encoder(self.visual_dense_layer(batch.features["visual"]))  # (B, 256)
            means, logvars = [self.visual_mu_layer(visual)], [self.visual_logvar_layer(visual)]
        if self.use_textual:
            textual = self.textual_encoder(batch.features["textual"])  # (B, 256)
            means, logvars = [*means, self.textual_mu_layer(textual)], [*logvars, self.textual_logvar_layer(textual)]
        mean, logvar = torch.stack(means).float(), torch.stack(logvars).float()  # (experts, B, latent_dim) each
        share = (-logvar).softmax(dim=0)  # of each expert in the summed precision
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


def scaled(features: dict[str, Tensor]) -> dict[str, Tensor]:
    """Vectors (n, F, D), (n, D) of norm NORM; columns as they are, but none further out than MOST."""
    return {
        name: values.clamp(-MOST, MOST) if name == METADATA else NORM * F.normalize(values, dim=-1)
        for name, values in features.items()
    }
