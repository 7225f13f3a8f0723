"""MMRA as published for MicroLens: tanh, 10 frames."""

from __future__ import annotations

import torch

from model.network import MMRANetwork


class MMRA(MMRANetwork):
    activation = staticmethod(torch.tanh)
    published_frame_num = 10
