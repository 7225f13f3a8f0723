"""LARK: its equation against loops, where it begins, and what training leaves out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from dataloader.batches import Batch, NeighbourBatch
from model import LARK as module
from model.LARK import LARK

B, K, U, S = 5, 6, 7, 2
SHAPES = {"visual": [3, 4], "textual": [6], "metadata": [5]}


def features(n: int) -> dict[str, torch.Tensor]:
    return {name: torch.randn(n, *shape) for name, shape in SHAPES.items()}


def batch(label_dim: int = 2) -> Batch:
    torch.manual_seed(0)
    there = torch.rand(B, K) < 0.7
    there[0], there[1] = False, True
    similarity = torch.rand(B, K, S)
    similarity[torch.rand(B, K, S) < 0.4] = torch.nan
    near = {"label": torch.randn(B, K, label_dim) * there.unsqueeze(2), "place": torch.randint(U, (B, K))}
    near |= {"there": there, "similarity": similarity, "same_creator": torch.rand(B, K) < 0.4}
    days = torch.randn(B, K) * 20
    days[torch.rand(B, K) < 0.3] = torch.nan
    return Batch(
        features(B), NeighbourBatch(features(U), days=days, **near), torch.randn(B, label_dim), torch.arange(B)
    )


def made(**how) -> LARK:
    torch.manual_seed(1)
    default = {"shapes": SHAPES, "label_dim": 2, "sources": ["retrieval", "textual"], "numbers": 2, "feature_dim": 8}
    return LARK(**default | {"ensemble": 2} | how)


def disturbed(model: LARK) -> LARK:
    """As if trained: nothing is zero any more."""
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model


def filled(near: NeighbourBatch) -> np.ndarray:
    """(B, K, S): where a source does not name a candidate, its mean over those of the item that it names, or 0."""
    similarity = near.similarity.double().numpy().copy()
    for i in range(B):
        for s in range(S):
            named = ~np.isnan(similarity[i, :, s]) & near.there[i].numpy()
            mean = similarity[i, named, s].mean() if named.any() else 0
            similarity[i, ~named, s] = mean
    return similarity


def test_it_begins_as_the_mean_of_the_neighbours_labels():
    given, model = batch(), made().eval()
    near = given.neighbours
    weight = np.exp(filled(near).mean(axis=2) / 0.1) * near.there.numpy()
    weight /= 1 + weight.sum(axis=1, keepdims=True)  # 1: the sink
    wanted = np.einsum("bk,bkl->bl", weight, near.label.double().numpy())
    assert_close(model(given).mean(dim=0).double(), torch.from_numpy(wanted), rtol=1e-5, atol=1e-6)
    assert not model(given)[:, 0].any()  # nobody is near: nothing is said


def test_parts_of_many_neighbours_give_what_all_at_once_give(monkeypatch):
    """Values and gradients; in training nothing is dropped, so that both see the same."""
    given, model = batch(), disturbed(made(dropout=0.0, drop_neighbour=0.0)).train()
    found = []
    for videos, pairs in ((10**6, 10**6), (2, 2 * K), (1, 1)):
        monkeypatch.setattr(module, "VIDEOS", videos)
        monkeypatch.setattr(module, "PAIRS", pairs)
        model.zero_grad()
        predicted = model(given)
        (predicted**2).sum().backward()
        found.append([predicted.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    for parts in found[1:]:
        assert len(parts) == len(found[0]) > 20
        for one, whole in zip(parts, found[0], strict=True):
            assert_close(one, whole, rtol=1e-4, atol=1e-5)


def test_its_equation_item_by_item():
    """f and a come from the layers; what they are combined to is computed here, one pair at a time."""
    given, model = batch(), disturbed(made()).eval()
    near, total = given.neighbours, 0
    similarities = torch.from_numpy(filled(near)).float()
    for member in model.members:
        x, f = member.own(given.features)
        x_k, f_k = member.own(near.features)
        judge = member.judgement
        for i in range(B):
            scores, gains = [judge.sink.item()], [torch.zeros(2)]
            for k in range(K):
                if not near.there[i, k]:
                    continue
                u, similar = near.place[i, k], similarities[i, k]
                named = ~near.similarity[i, k].isnan()
                days = near.days[i, k]
                pair = torch.cat(
                    [
                        similar,
                        named.float(),
                        torch.tensor(
                            [
                                0 if days.isnan() else np.log1p(abs(days.item())) / 3,
                                float(days < 0),
                                float(not days.isnan()),
                                float(near.same_creator[i, k]),
                            ],
                            dtype=torch.float32,
                        ),
                    ]
                )
                score = (similar * judge.of_similarity).sum()
                score = score + judge.of_pair(pair) + judge.query(x[i]) @ judge.key(x_k[u]) / 8**0.5
                scores.append(score.item())
                gains.append(near.label[i, k] - f_k[u])
            a = torch.tensor(scores).softmax(dim=0)
            wanted = f[i] + sum(weight * gain for weight, gain in zip(a, gains, strict=True))
            assert_close(member(given.features, near)[i], wanted, rtol=1e-4, atol=1e-5)
        total = total + member(given.features, near)
    assert_close(model(given).mean(dim=0), total / 2)


def test_the_value_of_a_pad_says_nothing():
    given, model = batch(), disturbed(made()).eval()
    before, near = model(given), given.neighbours
    pads = ~near.there
    near.similarity[pads], near.days[pads], near.same_creator[pads], near.place[pads] = 0.9, 3.0, True, 0
    assert pads.any()
    assert_close(model(given), before)


def test_in_training_every_member_stands_by_itself_and_neighbours_are_left_out():
    given, model = batch(), disturbed(made(dropout=0.0, drop_neighbour=0.5)).train()
    torch.manual_seed(0)
    first, second = model(given), model(given)
    assert first.shape == (2, B, 2) and not torch.allclose(first, second)
    assert_close(first[:, 0], second[:, 0])  # it has none that could be left out
    whole = disturbed(made(dropout=0.0, drop_neighbour=0.0))
    torch.manual_seed(0)
    assert_close(whole.train()(given), whole.eval()(given))


@pytest.mark.parametrize("without", ["retrieval", "correction"])
def test_ablations(without):
    given, model = batch(), disturbed(made(**{f"use_{without}": False})).eval()
    near, found = given.neighbours, model(given).mean(dim=0)
    if without == "retrieval":
        wanted = sum(member.own(given.features)[1] for member in model.members) / 2
        assert_close(found, wanted)
        assert not [name for name, _ in model.named_parameters() if "judgement" in name]
    else:
        assert not [name for name, _ in model.named_parameters() if name.endswith("own.f.weight")]
        # a mean of labels lies among them, and of 0, which the sink says
        low, high = near.label.amin(dim=1).clamp(max=0), near.label.amax(dim=1).clamp(min=0)
        assert ((found >= low - 1e-6) & (found <= high + 1e-6)).all()


def test_a_frame_and_a_number_count_by_their_content():
    """The order of frames says nothing, their content does; scale says nothing of vectors, but of columns."""
    given, model = batch(), disturbed(made()).eval()
    before = model(given)

    def changed(name: str, change) -> torch.Tensor:
        own = given.features | {name: change(given.features[name])}
        return model(Batch(own, given.neighbours, given.label, given.rows))

    assert_close(changed("visual", lambda v: v.flip(1)), before)
    assert_close(changed("textual", lambda v: 7 * v), before)
    for name, change in (("visual", lambda v: v.roll(1, 2)), ("metadata", lambda v: 1.1 * v)):
        assert not torch.allclose(changed(name, change), before)
