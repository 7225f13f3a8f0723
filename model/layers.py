"""Blocks that two or more networks use."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


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

    def forward(self, visual: Tensor, textual: Tensor) -> tuple[Tensor, Tensor]:
        nothing = visual.new_zeros(len(visual), self.feature_dim)  # (B, D)
        if not self.use_textual:
            return self._visual(visual, None), nothing
        if not self.use_visual:
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


class MMRANetwork(nn.Module):
    """MMRA: a video's own branch, the branch of what it retrieved, and the label that came with it.

    Zhong et al., "Predicting Micro-video Popularity via Multi-modal Retrieval Augmentation", SIGIR 2024.
    The data sets' models differ by activation and frames only (model/MicroLens/MMRA.py, model/NUS/MMRA.py).

    frame_num: F, the family's published number without it. The ablations put zeros for what they leave out:
    use_retrieval False for all that the retrieved branch, which does not run, and the retrieved label would give,
    use_retrieved_label False for the label alone, use_visual or use_textual False for that side of both branches.
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
        if batch.visual.shape[1] != self.frame_num:
            raise ValueError(f"{batch.visual.shape[1]} frames given to a model of frame_num {self.frame_num}")
        v, t = self.own(batch.visual, batch.textual)  # (B, D) each
        r_v = r_t = label = torch.zeros_like(v)  # (B, D)
        if self.uses_retrieval:
            r_v, r_t = self.retrieved(batch.retrieved_visual, batch.retrieved_textual)  # (B, D) each
        if self.uses_retrieval and self.uses_retrieved_label:
            label = F.relu(self.label_embedding_linear(batch.retrieved_label))  # (B, D)
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
