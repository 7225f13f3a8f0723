"""Each baseline's own facts: reference vectors, published defaults, and every deliberate difference."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from tiny import FORETOLD, batch_of, make_store

from baselines import METHODS, recipe
from baselines.SVR.estimator import kernel_mb
from baselines.TMALL.network import similarity_graph
from common.console import InputError
from common.seeding import seed_everything
from dataloader.batches import Batch, Unlabelled, open_split
from dataloader.opening import shapes_of
from engine.metrics import measure
from engine.recipe import PUBLISHED
from engine.run import Run
from engine.settings import TrainingSettings
from model.layers import kl_to_normal

CPU = torch.device("cpu")
NETWORKS = ("Contextual_LSTM", "TMALL", "MASSL", "CBAN", "HMMVED")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data") / "tiny", label_dim=2)


def estimator(name: str, store, folder, seed: int = 2024, **arguments):
    """An SVR, Hyfea or MFTM, made but not fitted."""
    run = Run.create(folder, name, {})
    arguments |= {"shapes": shapes_of(store), "label_dim": store.items.label_dim}
    return recipe(name).build(store.family, arguments, TrainingSettings(seed=seed), CPU, run)


def flat(split, frames: int | None = None) -> np.ndarray:
    """[frames one after the other, text] in the plainest way."""
    visual = split.features["visual"][split.rows][:, :frames]
    return np.concatenate([visual.reshape(len(split), -1), split.features["textual"][split.rows]], axis=1)


# ---- reference vectors and published defaults --------------------------------------------------


@pytest.fixture(params=NETWORKS)
def vectors(request, shared):
    with np.load(shared / "reference" / "vectors" / f"{request.param}.npz", allow_pickle=False) as file:
        return request.param, {name: file[name] for name in file.files}


def published(name: str, v: dict) -> tuple[torch.nn.Module, Batch, dict]:
    visual = torch.from_numpy(v["visual"])
    visual = visual if visual.ndim == 3 else visual[:, None]  # TMALL's are of one vector: their own mean
    sizes = {"visual_dim": visual.shape[2], "textual_dim": v["textual"].shape[1], "frame_num": visual.shape[1]}
    own = {"latent_size": "latent_dim", "hidden_size": "hidden_size"}
    sizes |= {ours: int(v[theirs]) for theirs, ours in own.items() if theirs in v}
    sizes |= {"feature_dim": visual.shape[2]} if name == "CBAN" else {}
    weights = {n.removeprefix("weight."): a for n, a in v.items() if n.startswith("weight.")}
    batch = batch_of(visual=visual, textual=torch.from_numpy(v["textual"]))
    return recipe(name).made()(**sizes).eval(), batch, weights


def test_outputs_are_the_published_ones(vectors):
    name, v = vectors
    network, batch, weights = published(name, v)
    network.load_published(weights)
    np.testing.assert_allclose(network(batch).detach(), v["output"], atol=1e-5)
    if "kld" in v:
        assert kl_to_normal(*network.posterior(batch)).item() == pytest.approx(float(v["kld"]), rel=1e-5)
    with pytest.raises(ValueError, match="other is unknown"):
        network.load_published(weights | {"other": np.zeros(1)})
    with pytest.raises(ValueError, match="is missing"):
        network.load_published(dict(list(weights.items())[1:]))


def test_published_defaults():
    expected = {
        "MMRA": {"lr": 1e-5, "epochs": 100, "early_stop_turns": 20, "alpha": 0.6, "num_of_retrieved_items": 10},
        "CBAN": {"lr": 1e-4, "epochs": 200, "early_stop_turns": 20, "feature_dim": 768},
        "Contextual_LSTM": {"lr": 1e-4, "epochs": 200, "early_stop_turns": 10, "hidden_size": 50},
        "HMMVED": {"lr": 1e-4, "epochs": 200, "early_stop_turns": 10, "latent_dim": 50, "kl_weight": 0.05},
        "MASSL": {"lr": 1e-4, "epochs": 200, "early_stop_turns": 10, "latent_dim": 256, "kl_weight": 0.05},
        "TMALL": {"lr": 1e-3, "epochs": 100, "early_stop_turns": 10, "common_dim": 256},
        "Hyfea": {"trees": 500, "depth": 10, "lr": 0.03, "early_stop_turns": 20, "border_count": 128},
        "MFTM": {"epochs": 200, "early_stop_turns": 20, "tabnet_weight": 0.5, "trees": 100},
        "TabM": {"lr": 2e-3, "weight_decay": 3e-4, "early_stop_turns": 16, "ensemble": 32, "blocks": 2, "dropout": 0.1},
        "SVR": {"C": 1.0, "epsilon": 0.1, "max_train_items": None},
    }
    assert {*expected, *FORETOLD, "RetrievalBoost", "LARK", "Blend"} == set(METHODS)  # the last three are ours
    for name, values in expected.items():
        found = {flag: f.default for flag, f in recipe(name).flags().items()}
        assert {flag: found[flag] for flag in values} == values
        if recipe(name).network and name != "TabM":
            assert (found["batch_size"], found["optim"], found["weight_decay"]) == (64, "Adam", 0.0)


# ---- the networks' deliberate differences ------------------------------------------------------


def random_batch(n: int = 5, frames: int = 4, dim: int = 16) -> Batch:
    draw = torch.Generator().manual_seed(0)
    shapes = {"visual": (n, frames, dim), "textual": (n, dim), "label": (n, 1)}
    return batch_of(**{name: torch.randn(shape, generator=draw) for name, shape in shapes.items()})


@pytest.mark.parametrize("name", ["HMMVED", "MASSL"])
def test_attention_is_over_frames_and_noise_for_training_alone(name):
    torch.manual_seed(0)
    network, batch = recipe(name).made()(visual_dim=16, textual_dim=16, frame_num=4), random_batch()
    dense = network.visual_dense_layer.eval()
    changed = batch.features["visual"].clone()
    changed[0, 1] += 1  # another frame of the same video: seen; another video: not
    before, after = dense(batch.features["visual"]), dense(changed)
    assert not torch.allclose(before[0], after[0]) and torch.allclose(before[1:], after[1:], atol=1e-6)
    network.eval()
    assert torch.equal(network(batch), network(batch))
    mean, _ = network.posterior(batch)
    assert torch.equal(network(batch), network.decoder(mean))
    network.train()
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(network.loss(batch).item())
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_variational_loss_is_the_published_one():
    torch.manual_seed(0)
    network, batch = recipe("HMMVED").made()(visual_dim=16, textual_dim=16, kl_weight=0.2).eval(), random_batch()
    mean, logvar = network.posterior(batch)
    # Each expert's precision, summed: the product of Gaussians in the plainest way.
    v = network.visual_encoder(network.visual_dense_layer(batch.features["visual"]))
    t = network.textual_encoder(batch.features["textual"])
    precision = (-network.visual_logvar_layer(v)).exp() + (-network.textual_logvar_layer(t)).exp()
    weighed = network.visual_mu_layer(v) * (-network.visual_logvar_layer(v)).exp()
    weighed = weighed + network.textual_mu_layer(t) * (-network.textual_logvar_layer(t)).exp()
    torch.testing.assert_close(mean, weighed / precision)
    torch.testing.assert_close(logvar, (1 / precision).log())
    normal = torch.distributions.Normal
    kl = torch.distributions.kl_divergence(normal(mean, (logvar / 2).exp()), normal(0.0, 1.0)).sum(1).mean()
    error = (network(batch) - batch.label).square().mean()
    torch.testing.assert_close(network.loss(batch), 0.8 * error + 0.2 * kl)


def test_massl_takes_other_latent_sizes():
    for latent_dim, last in ((256, 7), (39, 1), (64, 1), (300, 9)):
        network = recipe("MASSL").made()(visual_dim=5, textual_dim=16, latent_dim=latent_dim)
        assert network.decoder[13].in_features == last
        assert network.decoder(torch.zeros(3, latent_dim)).shape == (3, 1)
    with pytest.raises(ValueError, match="latent_dim 38: the convolutions leave nothing"):
        recipe("MASSL").made()(latent_dim=38)


def test_cban_has_a_row_for_each_frame_and_unused_layers():
    torch.manual_seed(0)
    for frames in (1, 4, 7):
        network = recipe("CBAN").made()(visual_dim=16, textual_dim=16, frame_num=frames, feature_dim=6)
        assert network.add_attention_matrix_1.shape == (frames, 6)
        before = network(batch := random_batch(frames=frames))
        for layer in (network.uni_modal_linear_1, network.uni_modal_linear_2):
            torch.nn.init.constant_(layer.weight, 9.0)
        assert torch.equal(network(batch), before) and before.shape == (5, 1)


def test_tmall_penalty_trains_the_common_space():
    torch.manual_seed(0)
    network, batch = recipe("TMALL").made()(visual_dim=16, textual_dim=16, graph_weight=3.0), random_batch()
    unlabelled = batch_of(visual=torch.randn(7, 4, 16), textual=torch.randn(7, 16))
    penalty = network.loss(batch, unlabelled) - (network(batch) - batch.label).square().mean()
    visual = torch.cat([batch.features["visual"], unlabelled.features["visual"]]).mean(dim=1)
    textual = torch.cat([batch.features["textual"], unlabelled.features["textual"]])
    common = torch.cat([visual, textual], dim=1) @ network.shared_space_matrix
    graphs = [torch.cosine_similarity(x[:, None], x[None], dim=-1) for x in (common, visual, textual)]
    expected = 3 * sum((graphs[0] - graph).square().mean() for graph in graphs[1:])
    torch.testing.assert_close(penalty, expected)
    (gradient,) = torch.autograd.grad(penalty, network.shared_space_matrix)
    assert gradient.abs().max() > 1e-4
    assert torch.isfinite(similarity_graph(torch.zeros(2, 3))).all()


def test_tmall_learns_from_test_features_and_cannot_reach_test_labels(tmp_path):
    def trained(store):
        seed_everything(0)
        arguments = recipe("TMALL").arguments({"common_dim": 4, "graph_weight": 1.0}, shapes_of(store), PUBLISHED, 1)
        method = recipe("TMALL").build(
            "MicroLens", arguments, TrainingSettings(epochs=2, lr=1e-2), CPU, Run.create(tmp_path, "x", {})
        )
        method.fit(open_split(store, "train"), open_split(store, "valid"), open_split(store, "test").unlabelled())
        return method.module.shared_space_matrix.detach()

    def shifted(labels, split):
        return labels + 3 * (split == "test")[:, None]

    plain = make_store(tmp_path / "a" / "tiny")
    relabelled = make_store(tmp_path / "b" / "tiny", label=shifted)
    assert torch.equal(trained(plain), trained(relabelled))
    other = make_store(tmp_path / "c" / "tiny")
    features = np.array(other.features["visual"])
    features[other.items.split == "test"] *= -1
    features[other.items.split == "test", :, 0] += 2
    with other.add_array("visual", features.shape, "float32", overwrite=True) as out:
        out[:] = features
    assert not torch.equal(trained(plain), trained(other))
    # By its structure: no part of it holds the store, its items or a label, nor do its batches.
    unlabelled = open_split(plain, "test").unlabelled()
    known = ["features", "rows", "frames", "time", "text", "metadata", "statistics", "fingerprint"]
    assert [field.name for field in fields(Unlabelled)] == known == [*vars(unlabelled)]
    arrays = [*unlabelled.features.values(), *(getattr(unlabelled, name) for name in known[1:5])]
    assert len(unlabelled.text) == 20 and unlabelled.metadata is unlabelled.statistics is None
    assert all(type(value) in (np.ndarray, np.memmap) for value in arrays)
    assert unlabelled.label is None and next(unlabelled.batches(4, CPU)).label is None


# ---- SVR, Hyfea, MFTM --------------------------------------------------------------------------


def test_svr_is_scikit_learns_on_standardised_first_frames(store, tmp_path):
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVR

    train, valid, test = (open_split(store, split) for split in ("train", "valid", "test"))
    method = estimator("SVR", store, tmp_path)
    method.fit(train, valid)
    for t in range(2):
        theirs = make_pipeline(StandardScaler(), SVR()).fit(flat(train, 1).astype(float), train.label[:, t])
        expected = theirs.predict(flat(test, 1).astype(float))
        np.testing.assert_allclose(method.predict(test)[:, t], expected, rtol=1e-4)
    log = (method.run.folder / "log.txt").read_text()
    assert "SVR on 60 videos: a kernel of 3,600 entries" in log and "--max_train_items N fits a seeded sample" in log


def test_svr_says_what_it_holds_of_the_kernel_which_changes_no_bit(store, tmp_path, monkeypatch):
    train, valid = (open_split(store, split) for split in ("train", "valid"))
    found = []
    for cache, said in ((2000, "(100% of its 0 MB held)"), (kernel_mb(60) / 4, "(25% of its 0 MB held)")):
        monkeypatch.setattr("baselines.SVR.estimator.CACHE_MB", cache)
        method = estimator("SVR", store, tmp_path)
        method.fit(train, valid)
        assert said in (method.run.folder / "log.txt").read_text()
        found.append(method.predict(valid))
    assert np.array_equal(*found)


@pytest.mark.parametrize(("each", "said"), [(0.05, "about 3 s"), (-0.05, "about 1 s"), (60, "about 60 minutes")])
def test_svr_announces_what_its_first_iterations_tell(store, tmp_path, monkeypatch, each, said):
    """Two targets of 60 videos: 60 iterations each at half the cost of the first ones, as all of the kernel is held."""
    train, valid = (open_split(store, split) for split in ("train", "valid"))
    monkeypatch.setattr(
        "baselines.SVR.estimator._seconds", lambda machine, iterations, inputs, label: 100 + iterations * each
    )
    method = estimator("SVR", store, tmp_path)
    method.fit(train, valid)
    assert f"which takes {said};" in (method.run.folder / "log.txt").read_text()


def test_svr_on_a_sample_and_on_constant_columns(tmp_path):
    store = make_store(tmp_path / "tiny", visual_dim=3)
    features = np.array(store.features["visual"])
    features[:, :, 1] = 0.1
    with store.add_array("visual", features.shape, "float32", overwrite=True) as out:
        out[:] = features
    train, valid, test = (open_split(store, split) for split in ("train", "valid", "test"))
    found = []
    for number, seed in enumerate((1, 1, 2)):
        method = estimator("SVR", store, tmp_path / str(number), seed, max_train_items=20)
        method.fit(train, valid)
        assert "SVR on 20 videos" in (method.run.folder / "log.txt").read_text()
        found.append(method.predict(test))
    assert np.isfinite(found[0]).all()
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[0], found[2])


def test_the_flat_input_is_every_frame_then_the_text_read_in_blocks(store, tmp_path, monkeypatch):
    split = open_split(store, "train")
    monkeypatch.setattr("engine.estimator.BLOCK_BYTES", 4 * 22 * 7)  # 7 videos at a time
    np.testing.assert_array_equal(estimator("Hyfea", store, tmp_path).inputs(split), flat(split))
    np.testing.assert_array_equal(estimator("SVR", store, tmp_path).inputs(split), flat(split, 1))
    two = replace(split, frames=np.array([0, 2]))
    expected = np.delete(flat(split), np.arange(5, 10), axis=1)
    method = recipe("Hyfea").build(
        "MicroLens", {"shapes": {"visual": [2, 5], "textual": [7]}, "label_dim": 2}, TrainingSettings(), CPU
    )
    np.testing.assert_array_equal(method.inputs(two), expected)


def test_hyfea_stops_early_and_says_which_tree(store, tmp_path):
    train, valid = (open_split(store, split) for split in ("train", "valid"))
    method = estimator("Hyfea", store, tmp_path, trees=300, depth=2, lr=0.5, early_stop_turns=3, border_count=7)
    history = method.fit(train, valid)
    assert len(history.epochs) == history.best_epoch + 3 < 300 and method.forest.tree_count_ == history.best_epoch
    assert method.forest.get_param("thread_count") == torch.get_num_threads()  # else --jobs would not divide them
    assert method.forest.get_all_params()["border_count"] == 7
    records = method.run.history()
    assert records[-1]["best_epoch"] == history.best_epoch and set(records[0]["valid"]) == {"RMSE"}


def test_mftm_is_the_mean_of_both(store, tmp_path):
    from baselines.MFTM import forest

    train, valid, test = (open_split(store, split) for split in ("train", "valid", "test"))
    method = estimator("MFTM", store, tmp_path, trees=5, epochs=2)
    method.fit(train, valid)
    trees, network = forest.predict(method.forests, flat(test)), method.tabnet.predict(flat(test))
    np.testing.assert_allclose(method.predict(test), (trees + network) / 2, rtol=1e-5)
    assert [record["epoch"] for record in method.run.history()] == [1, 2]
    kept = json.loads((method.run.folder / "valid.json").read_text())  # of both: history.jsonl is TabNet's
    assert kept == pytest.approx(measure(method.predict(valid), valid.label, valid.target))


@pytest.mark.parametrize("predicted", [np.nan, np.inf])
def test_a_model_that_predicts_nan_is_not_kept(store, tmp_path, monkeypatch, predicted):
    train, valid = (open_split(store, split) for split in ("train", "valid"))
    method = estimator("SVR", store, tmp_path)
    monkeypatch.setattr(method, "predict", lambda split: np.full((len(split), 2), predicted, np.float32))
    with pytest.raises(InputError, match="SVR predicts NaN or infinity for split valid and is not kept"):
        method.fit(train, valid)
    assert not (method.run.folder / "best.npz").exists()


def test_mftm_with_a_learning_rate_beyond_reason(store, tmp_path):
    train, valid = (open_split(store, split) for split in ("train", "valid"))
    with pytest.raises(InputError, match="--lr"):
        estimator("MFTM", store, tmp_path, trees=2, epochs=2, lr=1e30).fit(train, valid)


def test_tabnet_without_the_identity_is_the_librarys(tmp_path):
    from pytorch_tabnet.tab_model import TabNetRegressor

    from baselines.MFTM.tabnet import TabNet

    rng = np.random.default_rng(0)
    inputs, label = rng.standard_normal((64, 9), dtype=np.float32), rng.standard_normal((64, 1), dtype=np.float32)
    found = []
    for made in (TabNet, TabNetRegressor):
        model = made(seed=1, verbose=0, device_name="cpu")
        with pytest.warns(UserWarning):  # that there is no early stopping
            model.fit(inputs, label, max_epochs=2, batch_size=32, compute_importance=False)
        found.append(model.predict(inputs))
    np.testing.assert_allclose(*found, rtol=1e-5, atol=1e-6)


def test_tmall_without_items_to_test_is_refused_before_anything_is_written(tmp_path):
    import train

    store = make_store(tmp_path / "tiny", sizes={"train": 30, "valid": 10, "predict": 4})
    where = ["--dataset_path", str(store.folder.parent), "--dataset_id", "tiny", "--save", str(tmp_path / "runs")]
    with pytest.raises(InputError, match="split test is empty"):
        train.main(train.build_parser().parse_args([*where, "--model_id", "TMALL"]))
    assert not (tmp_path / "runs").exists()
