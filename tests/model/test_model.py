"""MMRA's networks against the reference vectors and against formulas written out in the plainest way."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
from tiny import batch_of

from dataloader.aggregation import weighted_sum
from dataloader.batches import Batch
from dataloader.neighbours import Neighbours

FAMILIES = ("MicroLens", "NUS")


def mmra(family: str, **arguments):
    return importlib.import_module(f"model.{family}.MMRA").MMRA(**arguments)


@pytest.fixture(params=FAMILIES)
def vectors(request, shared):
    with np.load(shared / "reference" / "vectors" / f"MMRA_{request.param}.npz", allow_pickle=False) as file:
        return request.param, {name: file[name] for name in file.files}


def published(vectors) -> tuple[torch.nn.Module, Batch]:
    """The reference's network and its batch, neighbours aggregated by the published softmax."""
    family, v = vectors
    _, _, frames, dim = v["retrieved_visual"].shape
    model = mmra(family, visual_dim=dim, textual_dim=dim, feature_dim=dim, frame_num=frames, alpha=float(v["alpha"]))
    model.load_published({n.removeprefix("weight."): a for n, a in v.items() if n.startswith("weight.")})
    weight = torch.softmax(torch.from_numpy(v["similarity"]), dim=1)  # (B, K)

    def summed(name: str) -> torch.Tensor:
        return torch.einsum("bk,bk...->b...", weight, torch.from_numpy(v[name]))

    return model, batch_of(
        visual=torch.from_numpy(v["visual"]),
        textual=torch.from_numpy(v["textual"])[:, 0],
        retrieved_visual=summed("retrieved_visual"),
        retrieved_textual=summed("retrieved_textual"),
        retrieved_label=summed("retrieved_label"),
        label=torch.from_numpy(v["label"]),
    )


def test_outputs_are_the_published_ones(vectors):
    model, batch = published(vectors)
    np.testing.assert_allclose(model(batch).detach(), vectors[1]["output"], atol=1e-5)


def test_adam_losses_are_the_published_ones(vectors):
    model, batch = published(vectors)
    v = vectors[1]
    tensors = batch.features | {"label": batch.label, "retrieved_label": batch.neighbours.label}
    tensors |= {f"retrieved_{name}": tensor for name, tensor in batch.neighbours.features.items()}
    adam = torch.optim.Adam(model.parameters(), lr=float(v["adam_lr"]), fused=True)
    size, losses = int(v["adam_batch"]), []
    for _ in range(5):
        for start in range(0, len(v["label"]), size):
            part = batch_of(**{n: t[start : start + size] for n, t in tensors.items()})
            loss = torch.nn.functional.mse_loss(model(part), part.label)
            adam.zero_grad()
            loss.backward()
            adam.step()
            losses.append(loss.item())
    np.testing.assert_allclose(losses, v["adam_losses"], rtol=1e-4)


def test_aggregated_once_is_aggregated_per_batch(vectors):
    """The whole list aggregated at once by the store's own code, against the published per-batch sums."""
    _, v = vectors
    similarity, visual = v["similarity"], v["retrieved_visual"]  # (B, K), (B, K, F, D)
    b, k = similarity.shape
    ids = np.arange(b * k, dtype=np.int32).reshape(b, k)
    neighbours = Neighbours(ids, similarity, k, "train", "tests", "")
    rows, weight = neighbours.weights(np.arange(b), k, temperature=1.0)
    model, batch = published(vectors)
    once = weighted_sum(visual.reshape(b * k, *visual.shape[2:]), rows, weight)
    np.testing.assert_allclose(once, batch.neighbours.features["visual"], atol=1e-6)
    output = model(batch)
    batch.neighbours.features["visual"] = torch.from_numpy(once)
    np.testing.assert_allclose(model(batch).detach(), output.detach(), atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_published_size(family):
    assert sum(p.numel() for p in mmra(family).parameters()) == 18_115_509
    assert mmra(family, feature_dim=8).frame_num == {"MicroLens": 10, "NUS": 4}[family]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_savings_equal_the_formulas_written_out(family):
    """Two unlike input dimensions, several targets: the branch as REFERENCE.md states it, each product in full."""
    torch.manual_seed(0)
    dv, dt, d, frames, alpha = 5, 7, 6, 4, 0.3
    model = mmra(family, visual_dim=dv, textual_dim=dt, feature_dim=d, frame_num=frames, alpha=alpha, label_dim=2)
    model = model.double()
    act = {"MicroLens": torch.tanh, "NUS": torch.relu}[family]

    def branch(own, visual, textual):  # (B, F, Dv), (B, 1, Dt)
        ve, te = act(own.visual_embedding(visual)), act(own.textual_embedding(textual))
        score = ve @ te.mT / d  # (B, F, 1)
        tp = score.softmax(dim=1) @ textual  # (B, F, Dt)
        vp = score.mT.softmax(dim=1) @ visual  # (B, 1, Dv): a softmax over its only row
        ts = act(own.dual_attention_linear_1(torch.cat([tp, -alpha * tp], -1)))
        vs = act(own.dual_attention_linear_2(torch.cat([vp, -alpha * vp], -1)))
        vf = act(own.cross_modal_linear_1(torch.cat([visual, ts], -1)))
        tf = act(own.cross_modal_linear_2(torch.cat([textual, vs], -1)))
        v = ((own.uni_modal_linear_1(vf) / d).softmax(dim=1) * vf).sum(1)
        return v, ((own.uni_modal_linear_2(tf) / d).softmax(dim=1) * tf).sum(1)

    batch = batch_of(
        visual=torch.randn(3, frames, dv).double(),
        textual=torch.randn(3, dt).double(),
        retrieved_visual=torch.randn(3, frames, dv).double(),
        retrieved_textual=torch.randn(3, dt).double(),
        retrieved_label=torch.randn(3, 2).double(),
    )
    v, t = branch(model.own, batch.features["visual"], batch.features["textual"][:, None])
    rv, rt = branch(model.retrieved, batch.neighbours.features["visual"], batch.neighbours.features["textual"][:, None])
    label = torch.relu(model.label_embedding_linear(batch.neighbours.label))
    vectors = [t, v, rt, rv, v * rv, v * rt, t * rv, t * rt, v * label, t * label]
    expected = model.prediction_module(torch.cat(vectors, -1))
    torch.testing.assert_close(model(batch), expected, atol=1e-12, rtol=1e-10)
    gradients = [
        torch.autograd.grad(o.square().sum(), model.parameters(), allow_unused=True) for o in (model(batch), expected)
    ]
    for ours, theirs in zip(*gradients, strict=True):
        if ours is None:  # uni_modal_linear_2 weighs a softmax of one row
            assert theirs.abs().max() == 0
        else:
            torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-9)


def test_load_published_is_strict():
    model = mmra("NUS", visual_dim=3, textual_dim=3, feature_dim=3)
    names = {"predict_linear_1.weight": torch.zeros(800, 31), "foreign.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match="own.visual_embedding.bias is missing") as error:
        model.load_published(names)
    assert "foreign.weight is unknown" in str(error.value)
    assert "prediction_module.0.weight has shape (800, 31), expected (800, 30)" in str(error.value)


def test_a_wrong_number_of_frames_is_refused():
    model = mmra("NUS", visual_dim=3, textual_dim=3, feature_dim=3)
    with pytest.raises(ValueError, match="5 frames given to a model of frame_num 4"):
        model(batch_of(visual=torch.zeros(2, 5, 3)))


def test_the_ablation_puts_zeros_for_all_that_is_retrieved():
    """Against the same network with its retrieved branch's results set to zero by hand."""
    torch.manual_seed(0)
    model = mmra("MicroLens", visual_dim=3, textual_dim=3, feature_dim=4, frame_num=2, use_retrieval=False)
    batch = batch_of(visual=torch.randn(5, 2, 3), textual=torch.randn(5, 3))
    v, t = model.own(batch.features["visual"], batch.features["textual"])
    expected = model.prediction_module(torch.cat([t, v, torch.zeros(5, 8 * 4)], dim=1))
    torch.testing.assert_close(model(batch), expected)


@pytest.mark.parametrize("left_out", ["visual", "textual", "retrieved_label"])
def test_what_an_ablation_leaves_out_gives_zeros(left_out):
    """Against the branch written out with zeros; other values of what is left out change nothing."""
    torch.manual_seed(0)
    dims = {"visual_dim": 3, "textual_dim": 5, "feature_dim": 4, "frame_num": 2}
    model = mmra("MicroLens", **dims, **{f"use_{left_out}": False})
    shapes = {"visual": (6, 2, 3), "textual": (6, 5), "label": (6, 1)}
    shapes |= {f"retrieved_{name}": shape for name, shape in shapes.items()}
    tensors = {name: torch.randn(shape) for name, shape in shapes.items()}
    batch = batch_of(**tensors)

    def branch(own, visual, textual):
        v, t = type(own).forward(own, visual, textual)
        if left_out == "visual":
            v = torch.zeros(6, 4)
            t = torch.tanh(own.cross_modal_linear_2(torch.cat([textual, torch.zeros(6, 4)], dim=1)))
        if left_out == "textual":
            fused = torch.tanh(own.cross_modal_linear_1(torch.cat([visual, torch.zeros(6, 2, 4)], dim=2)))
            v, t = ((own.uni_modal_linear_1(fused) / 4).softmax(dim=1) * fused).sum(1), torch.zeros(6, 4)
        return v, t

    v, t = branch(model.own, batch.features["visual"], batch.features["textual"])
    rv, rt = branch(model.retrieved, batch.neighbours.features["visual"], batch.neighbours.features["textual"])
    label = torch.relu(model.label_embedding_linear(batch.neighbours.label)) * (left_out != "retrieved_label")
    features = [t, v, rt, rv, v * rv, v * rt, t * rv, t * rt, v * label, t * label]
    torch.testing.assert_close(model(batch), model.prediction_module(torch.cat(features, dim=1)))
    before = model(batch)
    for name in {left_out, f"retrieved_{left_out}"} & set(tensors):
        tensors[name] = torch.randn_like(tensors[name])
    assert torch.equal(model(batch_of(**tensors)), before)
    if left_out in batch.features:  # a data set without them has none to give
        without = {name: tensor for name, tensor in tensors.items() if left_out not in name}
        assert torch.equal(model(batch_of(**without)), before)
