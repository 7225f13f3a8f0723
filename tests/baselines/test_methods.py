"""What every method of METHODS must do, whatever it is."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import pickle
import subprocess
import sys
import zipfile
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT
from tiny import METHODS, NETWORKS, SMALL, batch_of, make_store

import engine.network
import engine.settings
import train
from baselines import recipe
from common.console import InputError
from common.seeding import seed_everything
from dataloader.batches import Batch, NeighbourBatch, open_split
from dataloader.opening import Data, open_data
from dataloader.store import FeatureStore
from engine.recipe import PUBLISHED, argument
from engine.run import Run
from engine.settings import TrainingSettings

CPU = torch.device("cpu")
ESTIMATORS = [name for name in METHODS if name not in NETWORKS]
STORES = {
    "plain": {},
    "odd": {"frames": 1, "visual_dim": 9, "textual_dim": 4, "label_dim": 4, "dtype": "float16"},
}
# Published layers that nothing can train: they weigh a softmax of one row, or act on nothing.
NO_GRADIENT = {
    "MMRA": {"own.uni_modal_linear_2", "retrieved.uni_modal_linear_2"},
    "CBAN": {"uni_modal_linear_1", "uni_modal_linear_2"},
}
# A softmax does not see its bias; a sequence of one step has no state before it.
ZERO_GRADIENT = {
    "MMRA": {"own.uni_modal_linear_1.bias", "retrieved.uni_modal_linear_1.bias"},
    "Contextual_LSTM": {"lstm_text.weight_hh_l0"},
    "LARK": {f"members.{member}.own.frame_score.visual.bias" for member in range(2)},
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    base = tmp_path_factory.mktemp("stores")
    return {name: make_store(base / name, **how) for name, how in STORES.items()}


def settings(name: str) -> dict:
    """The method's flags with their defaults, but small."""
    return {flag: f.default for flag, f in recipe(name).flags().items()} | SMALL[name]


def opened(name: str, store, *names: str) -> Data:
    return open_data(FeatureStore.open(store.folder), recipe(name).wants(settings(name) | {"model_id": name}), names)


def splits(name: str, store, *names: str) -> list:
    return list(opened(name, store, *names).splits.values())


def make(name: str, store, folder: Path | None = None, seed: int = 2024, batch_size: int = 16):
    seed_everything(seed)
    data = opened(name, store)
    beside = ([*data.sources], data.encoding.numbers) if data.encoding else ()
    arguments = recipe(name).arguments(settings(name), data.shapes, data.used, store.items.label_dim, *beside)
    run = None if folder is None else Run.create(folder, name, {})
    training = TrainingSettings(epochs=2, lr=1e-3, seed=seed, batch_size=batch_size)
    return recipe(name).build(store.family, arguments, training, CPU, run)


def fit(name: str, store, folder: Path, seed: int = 2024):
    method = make(name, store, folder, seed)
    unlabelled = open_split(store, "test").unlabelled() if method.transductive else None
    method.fit(*splits(name, store, "train", "valid"), unlabelled)
    return method


@pytest.fixture(scope="module")
def fitted(stores, tmp_path_factory):
    """(name, store) -> the fitted method, once for all tests."""
    made = {}

    def get(name: str, which: str):
        if (name, which) not in made:
            made[name, which] = fit(name, stores[which], tmp_path_factory.mktemp("fitted"))
        return made[name, which], stores[which]

    return get


@pytest.mark.parametrize("which", STORES)
@pytest.mark.parametrize("name", METHODS)
def test_shape_save_and_load_and_batch_mates(fitted, name, which):
    method, store = fitted(name, which)
    (test,) = splits(name, store, "test")
    predicted = method.predict(test)
    assert predicted.shape == (20, store.items.label_dim) and predicted.dtype == np.float32
    assert np.isfinite(predicted).all() and np.ptp(predicted[:, 0]) > 0
    other = make(name, store, seed=1, batch_size=1)
    other.load(method.run.folder)
    np.testing.assert_allclose(other.predict(test), predicted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(method.predict(test.sample(np.array([3]))), predicted[3:4], rtol=1e-5, atol=1e-6)
    (unknown,) = splits(name, store, "predict")
    assert np.isfinite(method.predict(unknown)).all()


@pytest.mark.parametrize("name", METHODS)
def test_same_seed_same_predictions(fitted, name, tmp_path):
    method, store = fitted(name, "plain")
    (test,) = splits(name, store, "test")
    np.testing.assert_array_equal(fit(name, store, tmp_path / "same").predict(test), method.predict(test))
    if name != "SVR":  # draws nothing
        assert not np.array_equal(fit(name, store, tmp_path / "other", seed=7).predict(test), method.predict(test))


def random_batch(frames: int, visual_dim: int, textual_dim: int, label_dim: int, n: int = 6) -> Batch:
    draw = torch.Generator().manual_seed(1)
    shapes = {"visual": (n, frames, visual_dim), "textual": (n, textual_dim), "label": (n, label_dim)}
    shapes |= {f"retrieved_{name}": shape for name, shape in shapes.items()}
    return batch_of(**{name: torch.randn(shape, generator=draw) for name, shape in shapes.items()})


def with_each(batch: Batch, k: int = 4) -> Batch:
    """The same batch with k candidates an item, of two sources, with some columns of metadata, two of them numbers."""
    n, draw = len(batch.rows), torch.Generator().manual_seed(2)
    theirs = batch.neighbours.features | {"metadata": torch.randn(n, 5, generator=draw)}
    near = {"place": torch.randint(n, (n, k), generator=draw), "there": torch.rand(n, k, generator=draw) < 0.8}
    near |= {"label": torch.randn(n, k, batch.label.shape[1], generator=draw) * near["there"].unsqueeze(2)}
    similarity, named = torch.rand(n, k, 2, generator=draw), torch.rand(n, k, 2, generator=draw) < 0.7
    near |= {"similarity": similarity.where(named, torch.nan)}
    near |= {"same_creator": torch.rand(n, k, generator=draw) < 0.5, "days": torch.randn(n, k, generator=draw) * 9}
    own = batch.features | {"metadata": torch.randn(n, 5, generator=draw)}
    return replace(batch, features=own, neighbours=NeighbourBatch(theirs, **near))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("sizes", [(3, 5, 7, 1), (1, 8, 4, 4)])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_networks_loss_is_finite_and_reaches_every_parameter(name, sizes, precision):
    frames, visual_dim, textual_dim, label_dim = sizes
    torch.manual_seed(0)
    shapes = {"visual": (frames, visual_dim), "textual": (textual_dim,)}
    modalities = PUBLISHED
    if recipe(name).statistics:
        shapes, modalities = shapes | {"metadata": (5,)}, (*PUBLISHED, "metadata")
    arguments = recipe(name).arguments(settings(name), shapes, modalities, label_dim, ["retrieval", "textual"], 2)
    network = recipe(name).build("MicroLens", arguments, TrainingSettings(precision=precision), CPU)
    batch = with_each(random_batch(*sizes)) if recipe(name).statistics else random_batch(*sizes)
    for parameter in network.module.parameters():
        if not parameter.any():  # what starts at zero lets nothing through to what is before it
            torch.nn.init.normal_(parameter)
    members = (settings(name)["ensemble"],) if recipe(name).statistics else ()
    assert network.module(batch).shape == (*members, 6, sizes[-1])
    loss, _ = network._loss(batch, *([random_batch(*sizes, n=9)] if network.transductive else []))
    loss.backward()
    assert loss.dtype == torch.float32 and torch.isfinite(loss)
    without = {
        parameter.rpartition(".")[0]
        for parameter, value in network.module.named_parameters()
        if value.grad is None or not torch.isfinite(value.grad).all()
    }
    assert without == NO_GRADIENT.get(name, set())
    if sizes[0] > 1:  # of one frame the attention is 1 whatever the weights say
        dead = {n for n, p in network.module.named_parameters() if p.grad is not None and not p.grad.any()}
        assert dead <= ZERO_GRADIENT.get(name, set())


# ---- as a user runs them -----------------------------------------------------------------------


def words(name: str, store, save: Path, *more) -> list[str]:
    small = [word for flag, value in SMALL[name].items() for word in (f"--{flag}", value)]
    epochs = () if name in ESTIMATORS else ("--epochs", 2, "--lr", "1e-3")
    where = ("--dataset_path", store.folder.parent, "--dataset_id", store.folder.name, "--save", save)
    return [str(word) for word in (*where, "--model_id", name, *small, *epochs, *more)]


def train_here(*flags) -> None:
    train.main(train.build_parser().parse_args([str(flag) for flag in flags]))


def from_the_shell(script, *flags) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, script.__file__, *flags], cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def in_this_process(script, *flags) -> tuple[int, str, str]:
    """The same without a process of its own, which would take seconds to start: exit code, output and errors."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as errors:
        script.main(script.build_parser().parse_args(list(flags)))
    return 0, out.getvalue(), errors.getvalue()


@pytest.fixture(scope="module")
def ran(stores, tmp_path_factory, load_script):
    """Every method but MMRA (tests/test_train.py) trained and tested; one network and one library from the shell."""
    save, test = tmp_path_factory.mktemp("runs"), load_script("test.py")
    trained, tested, folders = {}, {}, {}
    for name in (name for name in METHODS if name != "MMRA"):
        run = from_the_shell if name in ("CBAN", "Hyfea") else in_this_process
        trained[name] = run(train, *words(name, stores["plain"], save / name))
        folders[name] = next((save / name).glob(f"{name}_plain_*"), None)
        tested[name] = run(test, "--model_path", str(folders[name]))
    return trained, tested, folders


@pytest.mark.parametrize("name", [name for name in METHODS if name != "MMRA"])
def test_trained_and_tested(ran, name):
    trained, tested, folders = (part[name] for part in ran)
    assert (trained[0], trained[2]) == (0, "") and (tested[0], tested[2]) == (0, "")
    assert f"next: python test.py --model_path {folders}" in trained[1] and "whole split" in tested[1]
    config = json.loads((folders / "config.json").read_text())
    assert config["settings"]["model_id"] == name and (config["neighbours"] is None) is (
        recipe(name).neighbours is None
    )
    assert {f: config["settings"][f] for f in SMALL[name]} == SMALL[name]
    names = {path.name for path in folders.iterdir()}
    assert {"config.json", "log.txt", "metrics.json", "predictions.csv", "figures"} <= names
    assert ("history.jsonl" in names) is (name != "SVR")
    assert ("last.pt" in names) is (name in NETWORKS) is ("best.safetensors" in names)
    assert np.isfinite(pd.read_csv(folders / "predictions.csv")["prediction"]).all()
    assert not [n for n in names if "partial" in n]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_is_fitted_in_one_go_cannot_be_resumed(ran, name):
    with pytest.raises(InputError, match=f"{name} is fitted in one go and leaves no half-way state; train it anew"):
        train_here("--resume", ran[2][name])


@pytest.mark.parametrize("name", NETWORKS)
def test_resumed_to_the_same_bits(stores, tmp_path, name):
    for part, epochs in (("whole", 3), ("half", 1)):
        train_here(*words(name, stores["plain"], tmp_path / part, "--epochs", epochs, "--seed", 3))
    ((half,), (whole,)) = ((tmp_path / part).iterdir() for part in ("half", "whole"))
    train_here("--resume", half, "--epochs", 3)
    kept = ("best.safetensors", "last.pt")
    assert [(half / file).read_bytes() for file in kept[:1]] == [(whole / file).read_bytes() for file in kept[:1]]
    states = [torch.load(folder / "last.pt", weights_only=True)["module"] for folder in (half, whole)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[1])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--model_id", "CBAN", "--latent_dim", "5"), "--latent_dim is not a flag of CBAN, but of MASSL, HMMVED"),
        (("--model_id", "SVR", "--epochs=3"), "--epochs is not a flag of SVR, but of MMRA, "),
        (("--model_id", "TMALL", "--num_of_retrieved_items", "5"), "not a flag of TMALL, but of MMRA"),
        (("--model_id", "HMMVED", "--loss", "MAE"), "--loss is not a flag of HMMVED, but of MMRA, Contextual_LSTM"),
        (("--trees", "5"), "--trees is not a flag of MMRA, but of Hyfea, MFTM, RetrievalBoost (see"),
        (("--model_id", "CBAN", "--alpha", "0.5"), "--alpha is not a flag of CBAN, but of MMRA (see"),
        (("--model_id", "CBAN", "--preset", "recommended"), "--preset is not a flag of CBAN"),
        (("--model_id", "HMMVED", "--kl_weight", "2"), "--kl_weight: 2: must be at most 1"),
        (("--model_id", "MASSL", "--latent_dim", "38"), "38 is too small: at least 39 is needed"),
    ],
)
def test_a_flag_of_another_method_is_refused(capsys, flags, message):
    with pytest.raises(SystemExit) as error:
        train.build_parser().parse_args(list(flags))
    err = capsys.readouterr().err
    assert error.value.code == 2 and err.count("\n") == 1 and message in err


@pytest.mark.parametrize("name", METHODS)
def test_settings_have_the_defaults_of_the_class(name):
    """A method's own flags are arguments of its class: one default, said twice, must be the same."""
    how = recipe(name)
    signature = inspect.signature(how.made()).parameters
    for one in fields(how.settings):
        argument_name, default = argument(one.name, one.default)
        assert signature[argument_name].default == default


@pytest.mark.parametrize(
    ("name", "package"),
    [("Hyfea", "catboost"), ("MFTM", "lightgbm"), ("MFTM", "pytorch_tabnet"), ("TabM", "tabm")],
)
def test_a_library_that_is_not_installed_is_named(stores, tmp_path, monkeypatch, name, package):
    for module in [m for m in sys.modules if m.startswith((f"baselines.{name}.", f"model.{name}", package))]:
        monkeypatch.delitem(sys.modules, module)
        parent, _, last = module.rpartition(".")
        if parent in sys.modules:
            monkeypatch.delattr(sys.modules[parent], last, raising=False)
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not there
    with pytest.raises(InputError, match=f"{name} needs the package {package}.*requirements-baselines.txt"):
        train_here(*words(name, stores["plain"], tmp_path))
    assert not list(tmp_path.iterdir())


def test_what_recipes_say_is_what_the_classes_are():
    for name in METHODS:
        how = recipe(name)
        made = how.made()
        assert how.network == issubclass(made, torch.nn.Module)
        assert how.own_loss == (how.network and hasattr(made, "loss"))
        assert how.transductive == getattr(made, "transductive", False)
    assert tuple(engine.network.LOSSES) == engine.settings.LOSSES
    assert tuple(engine.network.OPTIMISERS) == engine.settings.OPTIMISERS


@pytest.mark.parametrize("script", ["train.py", "test.py", "retriever.py", "baselines/tune.py"])
def test_a_command_line_answers_without_what_computes(run, script):
    code = f"""if True:
    import runpy, sys
    sys.argv = ["{script}", "--no_such_flag"]
    try:
        runpy.run_path("{script}", run_name="__main__")
    except SystemExit as end:
        assert end.code == 2
    slow = {{"torch", "pandas", "scipy", "matplotlib", "sklearn", "pyarrow", "optuna"}}
    print(sorted(slow & set(sys.modules)))
    """
    done = run("-c", code)
    assert done.returncode == 0 and done.stdout == "[]\n" and "error" in done.stderr


def test_help_is_of_the_method(capsys):
    for flags, there, absent in (
        (("--help",), ("--alpha", "--preset", "--model_id NAME --help"), "--latent_dim"),
        (("--model_id", "HMMVED", "--help"), ("--latent_dim", "(default: 50)", "(default: 0.0001)"), "--alpha"),
    ):
        with pytest.raises(SystemExit) as stop:
            train.build_parser().parse_args(list(flags))
        shown = " ".join(capsys.readouterr().out.split())
        assert stop.value.code == 0 and all(word in shown for word in there) and absent not in shown


def test_test_py_knows_the_flags_of_the_runs_method(ran, load_script, capsys):
    test = load_script("test.py")
    folder = ran[2]["HMMVED"]
    test.main(test.build_parser().parse_args(["--model_path", str(folder), "--latent_dim", "6", "--split", "predict"]))
    with pytest.raises(InputError, match="--latent_dim 7 contradicts the run, which was trained with 6"):
        test.main(test.build_parser().parse_args(["--model_path", str(folder), "--latent_dim", "7"]))
    with pytest.raises(SystemExit):
        test.build_parser().parse_args(["--model_path", str(folder), "--alpha", "0.6"])
    assert "--alpha is not a flag of HMMVED, but of MMRA" in capsys.readouterr().err


# ---- saved models that are none ----------------------------------------------------------------

FILES = {"SVR": ["best.npz"], "Hyfea": ["best.cbm"], "MFTM": ["tabnet.zip", "lightgbm_0.txt"]}
FILES |= {"RetrievalBoost": ["projections.npz", "features.json", "best_1.cbm"]}


def refused(method, folder: Path, file: str) -> None:
    with pytest.raises(InputError, match=file.replace(".", r"\.")):
        method.load(folder)


@pytest.mark.parametrize(("name", "file"), [(name, file) for name in ESTIMATORS for file in FILES[name]])
def test_a_damaged_model_is_named(fitted, tmp_path, name, file):
    method, store = fitted(name, "plain")
    names = [path.name for path in method.run.folder.iterdir() if path.is_file()]
    for n in names:
        (tmp_path / n).write_bytes((method.run.folder / n).read_bytes())
    fresh, content = make(name, store), (tmp_path / file).read_bytes()
    fresh.load(tmp_path)
    for damaged in (content[: len(content) // 2], content[:-30], b"", b"\x80\x04nonsense", pickle.dumps({"a": [1]})):
        (tmp_path / file).write_bytes(damaged)
        refused(fresh, tmp_path, file)
    (tmp_path / file).unlink()
    refused(fresh, tmp_path, file)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_model_of_another_shape_is_refused(fitted, stores, name):
    method, _ = fitted(name, "plain")
    with pytest.raises(InputError, match="features"):
        make(name, stores["odd"]).load(method.run.folder)


@pytest.mark.parametrize("name", ["MFTM", "SVR"])
def test_a_malicious_model_runs_nothing(fitted, tmp_path, name):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    method, store = fitted(name, "plain")
    for path in method.run.folder.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    if name == "SVR":
        np.savez(tmp_path / "best.npz", mean=np.array([Bomb()], object))
        file = "best.npz"
    else:
        file = "tabnet.zip"
        with zipfile.ZipFile(method.run.folder / file) as good, zipfile.ZipFile(tmp_path / file, "w") as bad:
            bad.writestr("model_params.json", good.read("model_params.json"))
            torch.save({"bomb": Bomb()}, tmp_path / "network.pt")
            bad.write(tmp_path / "network.pt", "network.pt")
    refused(make(name, store), tmp_path, file)
    assert not (tmp_path / "exploded").exists()


def test_damage_ends_in_one_line_and_exit_code_2(ran, run, tmp_path):
    folder = ran[2]["Hyfea"]
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "config.json").write_bytes((folder / "config.json").read_bytes())
    (copy / "best.cbm").write_bytes(b"CBM1")
    done = run("test.py", "--model_path", copy)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("test.py: error: ") and "best.cbm: truncated or not a CatBoost model" in done.stderr
