"""Contextual_LSTM: recurrent networks over frames and text (after Ghosh et al., 2016)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from model.layers import load_strictly


class Contextual_LSTM(nn.Module):
    """The last states of an LSTM over the frames and of one over the text, a sequence of one step; two linear layers.

    No activation stands between the two, as published. frame_num: any number will do. use_visual, use_textual False:
    without that LSTM.
    """

    def __init__(
        self,
        *,
        visual_dim: int = 768,
        textual_dim: int = 768,
        frame_num: int = 10,
        label_dim: int = 1,
        hidden_size: int = 50,
        use_visual: bool = True,
        use_textual: bool = True,
    ):
        super().__init__()
        self.lstm_text = nn.LSTM(textual_dim, hidden_size, batch_first=True) if use_textual else None
        self.lstm_visual = nn.LSTM(visual_dim, hidden_size, batch_first=True) if use_visual else None
        self.fc1 = nn.Linear((use_visual + use_textual) * hidden_size, 200)
        self.fc2 = nn.Linear(200, label_dim)

    def forward(self, batch) -> Tensor:
        states = []
        if self.lstm_text is not None:
            _, (textual, _) = self.lstm_text(batch.features["textual"].unsqueeze(1))  # (1, B, hidden_size)
            states.append(textual[0])
        if self.lstm_visual is not None:
            _, (visual, _) = self.lstm_visual(batch.features["visual"])  # (1, B, hidden_size)
            states.append(visual[0])
        return self.fc2(self.fc1(torch.cat(states, dim=1)))  # (B, label_dim)

    def load_published(self, weights: Mapping[str, Tensor | np.ndarray]) -> None:
        """Take the tensors of a published weight file, by its names; ValueError unless all fit exactly."""
        load_strictly(self, weights)
