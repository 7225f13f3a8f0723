"""LARK: label-anchored retrieval with a correction. Ours.

    prediction(x) = f(x) + sum over k of a(x, x_k) (y_k - f(x_k)),    a = softmax over the K neighbours and a sink

f is zero at the start, and a the softmax of similarities: it begins as the neighbours' mean label and learns away from
it. What f explains is taken from the neighbours' labels, so that they say of x what its own features cannot. The sink
has weight and says nothing: where no neighbour is near, f is left alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model.layers import METADATA, scaled

FREQUENCIES, OF_NUMBER = 8, 8  # of a number's sines and cosines, and what a layer of its own makes of them
SLOWEST = 0.1  # deviation of the frequencies at the start, in turns for each standard deviation of the number
OF_PAIR = 32  # hidden, of what is judged by what is known of a pair
VIDEOS, PAIRS = 2048, 1 << 14  # that are computed at once: memory stays the same however many neighbours there are
FAR = -1e9  # a score that leaves no weight


class LARK(nn.Module):
    """`ensemble` members, trained side by side and saved as one, whose mean is the prediction.

    shapes: of an item's features by modality, visual (F, D) or (D,) each, metadata with label statistics of the
    neighbours among its columns; numbers: how many of these are numbers. sources: of the candidates, in the order of
    their similarities. use_correction False: f is zero, the labels alone. use_retrieval False: f alone.
    """

    def __init__(
        self,
        *,
        shapes: dict[str, list[int]],
        label_dim: int,
        sources: list[str] | None = None,
        numbers: int = 0,
        similarity_temperature: float = 0.1,
        feature_dim: int = 64,
        dropout: float = 0.2,
        drop_neighbour: float = 0.2,
        ensemble: int = 4,
        use_correction: bool = True,
        use_retrieval: bool = True,
    ):
        super().__init__()
        self.members = nn.ModuleList()
        for _ in range(ensemble):
            own = Own(shapes, numbers, feature_dim, dropout, label_dim if use_correction or not use_retrieval else 0)
            judgement = (
                Judgement(len(sources or ()), feature_dim, similarity_temperature, drop_neighbour)
                if use_retrieval
                else None
            )
            self.members.append(Member(own, judgement))

    def forward(self, batch) -> Tensor:
        """A Batch (dataloader/batches.py) with each of its neighbours -> (members, B, label_dim).

        The prediction is their mean. In training each is to be right by itself: of their mean they could err together.
        """
        return torch.stack([member(batch.features, batch.neighbours) for member in self.members])


class Member(nn.Module):
    """The equation, once."""

    def __init__(self, own: Own, judgement: Judgement | None):
        super().__init__()
        self.own, self.judgement = own, judgement

    def forward(self, features: dict[str, Tensor], near) -> Tensor:
        """Features of B videos, and the NeighbourBatch `near` with those of the U that any names -> (B, label_dim)."""
        x, f = self.own(features)  # (B, D), (B, label_dim)
        if self.judgement is None:
            return f
        count = len(next(iter(near.features.values())))
        parts = [{name: values[s] for name, values in near.features.items()} for s in slices(count, VIDEOS)]
        x_k, f_k = map(torch.cat, zip(*in_parts(self.own, [(part,) for part in parts]), strict=True))
        rows = slices(len(x), max(1, PAIRS // near.there.shape[1]))
        return f + torch.cat(in_parts(self.from_labels, [(x[s], x_k, f_k, near.of(s)) for s in rows]))

    def from_labels(self, x: Tensor, x_k: Tensor, f_k: Tensor, near) -> Tensor:
        """What the neighbours say (B, label_dim) beyond f."""
        a = self.judgement(x, x_k, near)  # (B, K)
        # Not a matrix product, which --precision bf16 would round labels for.
        return (a.unsqueeze(2) * (near.label - f_k[near.place])).sum(dim=1)


class Own(nn.Module):
    """A video as a vector (n, D), and f of it (n, label_dim), what is expected of it by itself; label_dim 0: zero."""

    def __init__(self, shapes: dict[str, list[int]], numbers: int, dim: int, dropout: float, label_dim: int):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.frame_score = nn.ModuleDict({name: nn.Linear(s[-1], 1) for name, s in shapes.items() if len(s) == 2})
        self.project = nn.ModuleDict({name: nn.Linear(s[-1], dim) for name, s in shapes.items()})
        self.numbers = Numbers(numbers, dim) if numbers else None
        self.block = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(2 * dim, dim)
        )
        self.norm = nn.LayerNorm(dim)
        self.f = nn.Linear(dim, label_dim) if label_dim else None
        if self.f is not None:
            zero(self.f)

    def forward(self, features: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        features = scaled(features)
        total = sum(layer(self._vector(name, features[name])) for name, layer in self.project.items())  # (n, D)
        if self.numbers is not None:
            total = total + self.numbers(features[METADATA])
        x = self.norm(total + self.dropout(self.block(total)))
        return x, x.new_zeros(len(x), 1) if self.f is None else self.f(x)

    def _vector(self, name: str, values: Tensor) -> Tensor:
        """(n, D), or (n, F, D) whose frames are weighed -> (n, D)."""
        if name in self.frame_score:
            weight = self.frame_score[name](values).softmax(dim=1)  # (n, F, 1)
            values = (weight * values).sum(dim=1)
        return values


class Numbers(nn.Module):
    """Numbers (n, C) -> (n, D) by sines and cosines of learned frequencies, as a step in a number is hard to learn.

    PLR of Gorishniy et al., "On Embeddings for Numerical Features in Tabular Deep Learning", 2022.
    """

    def __init__(self, count: int, dim: int):
        super().__init__()
        self.frequency = nn.Parameter(SLOWEST * torch.randn(count, FREQUENCIES))
        self.weight = nn.Parameter(torch.randn(count, 2 * FREQUENCIES, OF_NUMBER) / (2 * FREQUENCIES) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(count, OF_NUMBER))
        self.out = nn.Linear(count * OF_NUMBER, dim)

    def forward(self, metadata: Tensor) -> Tensor:
        numbers = metadata[:, : len(self.frequency)]  # (n, C)
        angle = 2 * torch.pi * numbers.unsqueeze(2) * self.frequency  # (n, C, q)
        waves = torch.cat([angle.sin(), angle.cos()], dim=2)  # (n, C, 2q)
        return self.out(F.relu(torch.einsum("ncq,cqd->ncd", waves, self.weight) + self.bias).flatten(1))


class Judgement(nn.Module):
    """a (B, K): how much each neighbour's label says, from its similarities, both videos, and what they have in common.

    In training neighbours are left out at random.
    """

    def __init__(self, sources: int, dim: int, temperature: float, drop_neighbour: float):
        super().__init__()
        self.drop_neighbour = drop_neighbour
        self.of_similarity = nn.Parameter(torch.full((sources,), 1 / (max(1, sources) * temperature)))
        self.of_pair = nn.Sequential(nn.Linear(2 * sources + 4, OF_PAIR), nn.ReLU(), nn.Linear(OF_PAIR, 1))
        self.query, self.key = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.sink = nn.Parameter(torch.zeros(1))
        zero(self.of_pair[2])
        zero(self.query)

    def forward(self, x: Tensor, x_k: Tensor, near) -> Tensor:
        """Videos (B, D), those that any of them names (U, D), a NeighbourBatch -> (B, K)."""
        named, known = ~near.similarity.isnan() & near.there.unsqueeze(2), ~near.days.isnan()  # (B, K, S), (B, K)
        similarity, days = near.similarity.where(named, 0), near.days.nan_to_num()
        # A source has no similarity for a candidate that only other sources named: the mean of those it has is taken.
        mean = similarity.sum(dim=1, keepdim=True) / named.sum(dim=1, keepdim=True).clamp(min=1)  # (B, 1, S)
        similarity = similarity.where(named, mean)
        gap = torch.log1p(days.abs()) / 3  # about 1 for three weeks
        pair = [gap, (days < 0).to(gap), known.to(gap), near.same_creator.to(gap)]
        pair = torch.cat([similarity, named.to(gap), torch.stack(pair, dim=2)], dim=2)  # (B, K, 2 S + 4)
        score = (similarity * self.of_similarity).sum(dim=2) + self.of_pair(pair).squeeze(2)
        key = self.key(x_k)[near.place]  # (B, K, D)
        score = score + torch.einsum("bd,bkd->bk", self.query(x), key) / key.shape[2] ** 0.5
        there = near.there
        if self.training:
            there = there & (torch.rand(there.shape, device=there.device) >= self.drop_neighbour)
        score = torch.cat([score.masked_fill(~there, FAR), self.sink.expand(len(score), 1)], dim=1)  # (B, K + 1)
        return score.softmax(dim=1)[:, :-1]


def slices(count: int, most: int) -> list[slice]:
    """Of `count` in a row, at most `most` each; one where there are none."""
    return [slice(start, start + most) for start in range(0, max(1, count), most)]


def in_parts(make: Callable, parts: list[tuple]) -> list:
    """What `make` makes of each; where these are several, what one holds is let go, and made again for gradients."""
    if len(parts) == 1 or not torch.is_grad_enabled():
        return [make(*part) for part in parts]
    return [checkpoint(make, *part, use_reentrant=False) for part in parts]


def zero(layer: nn.Linear) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
