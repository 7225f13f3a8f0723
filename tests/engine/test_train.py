"""train.py from outside: what a run leaves behind, same seed same bits, kills, Ctrl-C, leaks, and bad input."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT
from tiny import SIZES, make_store, refused

import baselines
import engine.network
import train
from common.console import InputError
from dataloader.batches import open_split
from dataloader.neighbours import Neighbours
from engine.run import Run

SMALL = ("--feature_dim", "8", "--lr", "1e-3", "--epochs", "3")


def flags(store_folder: Path, save: Path, *more) -> list[str]:
    where = ["--dataset_path", store_folder.parent, "--dataset_id", store_folder.name, "--save", save]
    k = () if "--no_retrieval" in more else ("--num_of_retrieved_items", 5)
    return [str(flag) for flag in (*where, *SMALL, *k, *more)]


def trained(store_folder: Path, save: Path, *more) -> Path:
    """Train in this process; the run's folder."""
    before = set(save.glob("*"))
    train.main(train.build_parser().parse_args(flags(store_folder, save, *more)))
    (folder,) = set(save.glob("*")) - before
    return folder


def resumed(run: Path, *more) -> None:
    train.main(train.build_parser().parse_args(["--resume", str(run), *map(str, more)]))


def weights(run: Path) -> bytes:
    return (run / "best.safetensors").read_bytes()


def last_state(run: Path) -> dict:
    return torch.load(run / "last.pt", weights_only=True)


def same(a, b) -> bool:
    """Equal to the last bit, through nested containers of tensors."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def lines(run: Path) -> list[dict]:
    records = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


@pytest.fixture(scope="module")
def plain(store, tmp_path_factory) -> Path:
    return trained(store.folder, tmp_path_factory.mktemp("plain"), "--epochs", 1)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data") / "tiny")


# ---- what a run leaves behind ------------------------------------------------------------------


def test_a_run_as_a_user_sees_it(store, tmp_path, run):
    done = run("train.py", *flags(store.folder, tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    (folder,) = tmp_path.glob("MMRA_tiny_*")
    assert done.stdout.count("valid nMSE") == 4  # a line an epoch, and the best
    assert f"python test.py --model_path {folder}" in done.stdout
    assert (folder / "log.txt").read_text() == done.stdout
    names = {path.name.split(".out.")[0] for path in folder.iterdir()}
    expected = {"config.json", "log.txt", "history.jsonl", "events", "best.safetensors", "last.pt"}
    assert names == expected | {"manifest.jsonl", ".lock"}
    config = json.loads((folder / "config.json").read_text())
    assert config["settings"]["seed"] == 2024 and config["settings"]["num_of_retrieved_items"] == 5
    assert config["data"]["fingerprint"] == store.fingerprint
    assert config["neighbours"]["bank"] == "train"
    assert config["environment"]["versions"]["torch"] == torch.__version__
    assert config["environment"]["commit"]
    assert config["command"][:2] == ["python", "train.py"]


def test_same_seed_same_bits(store, tmp_path):
    first, second, other = (trained(store.folder, tmp_path / str(i), "--seed", s) for i, s in enumerate((7, 7, 8)))
    assert weights(first) == weights(second) != weights(other)
    assert lines(first) == lines(second) != lines(other)


def test_shuffling_is_the_default_and_can_be_turned_off(store, tmp_path):
    shuffled, published = (
        trained(store.folder, tmp_path),
        trained(store.folder, tmp_path, "--no_shuffle", "--seed", 2024),
    )
    assert weights(shuffled) != weights(published)
    split = open_split(store, "train")
    rows = [batch.rows for batch in split.batches(16, torch.device("cpu"))]
    assert torch.equal(torch.cat(rows), torch.from_numpy(split.rows))
    drawn = torch.cat([b.rows for b in split.batches(16, torch.device("cpu"), torch.Generator().manual_seed(1))])
    assert sorted(drawn.tolist()) == split.rows.tolist() != drawn.tolist()


def test_the_logged_loss_is_the_epochs_mean(store, tmp_path):
    """At a learning rate of almost nothing: the mean over all train items, last batch smaller than the others."""
    folder = trained(store.folder, tmp_path, "--optim", "SGD", "--lr", "1e-12", "--batch_size", 7, "--epochs", 1)
    from baselines import recipe
    from engine.settings import TrainingSettings

    config = Run.open(folder, "").config
    method = recipe("MMRA").build("MicroLens", config["model"], TrainingSettings(), torch.device("cpu"))
    method.load(folder)
    split = open_split(store, "train", neighbours=Neighbours.read(store), num_of_retrieved_items=5)
    expected = np.mean((method.predict(split) - split.label) ** 2)
    assert lines(folder)[0]["train_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "more",
    [
        ("--no_retrieval",),
        ("--no_retrieved_label",),
        ("--no_visual",),
        ("--no_textual",),
        ("--loss", "MAE"),
        ("--loss", "Huber"),
        ("--optim", "AdamW", "--weight_decay", "0.1"),
        ("--optim", "SGD"),
        ("--weight_decay", "0.1"),
        pytest.param(("--precision", "bf16"), id="precision"),
        ("--frame_num", 2),
        ("--similarity_temperature", "0.1"),
        ("--num_of_retrieved_items", 2),
        ("--alpha", "0.2"),
        ("--feature_dim", 9),
        ("--batch_size", 13),
        ("--lr", "2e-3"),
    ],
)
def test_every_flag_acts(store, plain, tmp_path, more):
    other = trained(store.folder, tmp_path, "--epochs", 1, *more)
    assert lines(plain)[0]["valid"] != lines(other)[0]["valid"]


def test_the_metric_chooses_the_epoch(store, tmp_path):
    """Each metric's own best epoch is the one that is kept (the scores differ, so --metric is read)."""
    scores = {}
    for metric in ("SRC", "MAE", "nMSE+RMSE"):
        records = lines(trained(store.folder, tmp_path / metric, "--lr", "0.02", "--epochs", 8, "--metric", metric))
        signs = {"SRC": -1.0}
        by_hand = [sum(signs.get(m, 1.0) * r["valid"][m] for m in metric.split("+")) for r in records]
        scores[metric] = [record["score"] for record in records]
        assert scores[metric] == pytest.approx(by_hand)
        assert records[-1]["best_epoch"] == int(np.argmin(by_hand)) + 1
    assert len({tuple(s) for s in scores.values()}) == 3


def test_the_ablation_sees_nothing_of_what_is_retrieved(store, tmp_path):
    """Other neighbours, other labels in the bank's place: the ablated run is the same, the plain one is not."""
    other = make_store(tmp_path / "other" / "tiny", bank=("train", "valid"))
    for more, same_bits in (((), False), (("--no_retrieval",), True)):
        runs = [trained(s.folder, tmp_path / f"{i}{same_bits}", *more) for i, s in enumerate((store, other))]
        assert (weights(runs[0]) == weights(runs[1])) is same_bits


def test_flags_that_would_do_nothing_are_refused(store, tmp_path):
    for flag in ("--num_of_retrieved_items", "--similarity_temperature"):
        words = [flag, "0.5" if "temp" in flag else "2"]
        words = ["--dataset_path", store.folder.parent, "--dataset_id", "tiny", "--no_retrieval", *words]
        with pytest.raises(InputError, match=f"{flag} does nothing with --no_retrieval"):
            train.main(train.build_parser().parse_args(list(map(str, words))))
    folder = trained(store.folder, tmp_path)
    with pytest.raises(InputError, match="--save .* contradicts the run"):
        resumed(folder, "--save", tmp_path / "elsewhere")


def test_ablations_that_contradict_each_other_are_refused(store, tmp_path):
    with pytest.raises(InputError, match="--no_visual and --no_textual together leave nothing"):
        trained(store.folder, tmp_path, "--no_visual", "--no_textual")
    with pytest.raises(InputError, match="--no_retrieved_label does nothing with --no_retrieval"):
        trained(store.folder, tmp_path, "--no_retrieval", "--no_retrieved_label")
    assert not list(tmp_path.iterdir())


def test_a_preset_gives_defaults_and_typed_flags_win(tmp_path):
    store = make_store(tmp_path / "data" / "tiny", k=55)
    where = ["--dataset_path", str(store.folder.parent), "--dataset_id", "tiny", "--save", str(tmp_path / "runs")]
    words = [*where, "--feature_dim", "8", "--epochs", "1", "--preset", "recommended", "--lr", "0.002"]
    train.main(train.build_parser().parse_args(words))
    (folder,) = (tmp_path / "runs").iterdir()
    settings = Run.open(folder, "").config["settings"]
    expected = {
        "preset": "recommended",
        "num_of_retrieved_items": 50,
        "similarity_temperature": 0.08,
        "optim": "Adam",
        "label_scale": "standard",
        "lr": 0.002,
    }
    assert {flag: settings[flag] for flag in expected} == expected
    resumed(folder, "--epochs", 2)
    assert len(lines(folder)) == 2
    assert train.build_parser().parse_args([]).preset == "published"
    defaults = train.build_parser().parse_args(["--preset", "recommended"])
    assert (defaults.lr, defaults.feature_dim) == (1e-4, 64)


def test_an_array_exchanged_on_disk_is_noticed(tmp_path):
    store = make_store(tmp_path / "tiny")
    path = store.folder / "visual.npy"
    np.save(path, np.load(path)[::-1])
    with pytest.raises(InputError, match=r"visual\.npy: not the array that was written"):
        trained(store.folder, tmp_path / "runs")


def test_labels_that_are_all_equal(tmp_path):
    store = make_store(tmp_path / "tiny", label=lambda labels, split: np.where(split[:, None] == "valid", 5.0, labels))
    with pytest.raises(InputError, match="all 20 labels target0 of split valid are equal"):
        trained(store.folder, tmp_path / "runs")
    trained(store.folder, tmp_path / "runs", "--metric", "MAE")


def test_several_targets_half_precision_and_both_families(tmp_path):
    store = make_store(tmp_path / "tiny", label_dim=3, dtype="float16", family="NUS")
    config = Run.open(trained(store.folder, tmp_path / "runs", "--label_dim", 3), "").config
    assert config["data"]["family"] == "NUS" and config["model"]["label_dim"] == 3


def test_the_best_epoch_is_the_one_kept_and_patience_ends_the_run(store, tmp_path):
    folder = trained(store.folder, tmp_path, "--lr", "0.02", "--epochs", 60, "--early_stop_turns", 3)
    records = lines(folder)
    scores = [record["valid"]["MAE"] + record["valid"]["nMSE"] for record in records]
    best = int(np.argmin(scores)) + 1
    assert records[-1]["best_epoch"] == best and len(records) == best + 3 < 60
    short = trained(store.folder, tmp_path / "short", "--lr", "0.02", "--epochs", best)
    assert weights(short) == weights(folder)


# ---- kills and Ctrl-C --------------------------------------------------------------------------


def start(store, save: Path, *more) -> tuple[subprocess.Popen, Path]:
    """Start training in a process of its own; returns once two epochs are written down."""
    words = [sys.executable, "train.py", *flags(store.folder, save, "--epochs", 400, "--early_stop_turns", 400, *more)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.time() + 120
    while time.time() < deadline and process.poll() is None:
        for history in save.glob("*/history.jsonl"):
            if len(history.read_text().splitlines()) >= 2 and (history.parent / "last.pt").exists():
                return process, history.parent
        time.sleep(0.002)
    raise AssertionError(process.communicate())


def test_a_killed_run_resumes_to_the_same_bits(store, tmp_path):
    process, folder = start(store, tmp_path / "killed")
    process.kill()
    assert process.wait() == -signal.SIGKILL
    done = len(lines(folder))
    assert 2 <= done < 400
    end = done + 4
    # The flag of the epochs may be raised or lowered; all other settings come from the run.
    resumed(folder, "--epochs", end)
    whole = trained(store.folder, tmp_path / "whole", "--epochs", end, "--early_stop_turns", 400)
    assert lines(folder) == lines(whole)
    assert weights(folder) == weights(whole)
    assert same(last_state(folder), last_state(whole))


@pytest.mark.parametrize("step", ["save_state", "write_history", "record_scalars"])
def test_killed_at_any_step_of_an_epochs_end(store, tmp_path, monkeypatch, step):
    whole = trained(store.folder, tmp_path / "whole", "--epochs", 4)
    place = engine.network if step == "save_state" else Run
    original, calls = getattr(place, step), []

    def dies_at_the_third(*arguments):
        calls.append(step)
        if len(calls) == 3:
            raise RuntimeError("killed")
        return original(*arguments)

    monkeypatch.setattr(place, step, dies_at_the_third)
    with pytest.raises(RuntimeError, match="killed"):
        trained(store.folder, tmp_path / "killed", "--epochs", 4)
    monkeypatch.undo()
    (folder,) = (tmp_path / "killed").iterdir()
    assert last_state(folder)["epoch"] == 2
    resumed(folder)
    assert lines(folder) == lines(whole)
    assert weights(folder) == weights(whole)
    assert same(last_state(folder), last_state(whole))


def test_killed_before_its_first_epoch(store, tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "record_scalars", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
    with pytest.raises(RuntimeError, match="killed"):
        trained(store.folder, tmp_path / "killed")
    monkeypatch.undo()
    (folder,) = (tmp_path / "killed").iterdir()
    resumed(folder)
    assert weights(folder) == weights(trained(store.folder, tmp_path / "whole"))


@pytest.mark.slow
def test_ctrl_c_keeps_the_best_epoch(store, tmp_path, run):
    process, folder = start(store, tmp_path)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert "interrupted: epoch" in out and f"python train.py --resume {folder}" in out
    done = run("test.py", "--model_path", folder)
    assert (done.returncode, done.stderr) == (0, "")


def test_resume_of_a_finished_run_changes_nothing_and_contradictions_are_refused(store, tmp_path):
    folder = trained(store.folder, tmp_path / "runs")
    before = weights(folder), lines(folder)
    resumed(folder)
    assert (weights(folder), lines(folder)) == before
    with pytest.raises(InputError, match="--lr 0.5 contradicts the run .* which has 0.001"):
        resumed(folder, "--lr", "0.5")
    resumed(folder, "--lr", "1e-3", "--epochs", 4)  # said again, it is no contradiction
    assert len(lines(folder)) == 4
    assert Run.open(folder, "").config["settings"]["epochs"] == 4
    other = make_store(tmp_path / "tiny", label=lambda labels, split: labels + 1)
    with pytest.raises(InputError, match="the data set changed since it was trained"):
        resumed(folder, "--dataset_path", other.folder.parent)


@pytest.mark.parametrize("name", ["last.pt", "config.json", "history.jsonl"])
def test_resume_from_a_damaged_run(store, tmp_path, name):
    folder = trained(store.folder, tmp_path)
    path = folder / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        resumed(folder)


# ---- nothing leaks -----------------------------------------------------------------------------


def shifted(split_name: str):
    def label(labels, split):
        labels = labels.copy()
        labels[split == split_name] += 3
        return labels

    return label


def test_a_test_label_changes_nothing_but_the_metrics(tmp_path, load_script):
    test = load_script("test.py")
    stores = [make_store(tmp_path / side / "tiny", label=f) for side, f in (("a", None), ("b", shifted("test")))]
    runs = [trained(s.folder, tmp_path / f"runs{i}") for i, s in enumerate(stores)]
    assert weights(runs[0]) == weights(runs[1])
    for folder in runs:
        test.main(test.build_parser().parse_args(["--model_path", str(folder)]))
    import pandas as pd

    tables = [pd.read_csv(folder / "predictions.csv") for folder in runs]
    pd.testing.assert_series_equal(tables[0]["prediction"], tables[1]["prediction"], check_exact=True)
    assert not np.allclose(tables[0]["truth"], tables[1]["truth"])


def test_with_bank_train_a_valid_label_changes_no_training_input(tmp_path):
    """The published bank shows it to training; both are asserted, so that this test can tell the two apart."""
    for bank, leaks in (("train",), False), (("train", "valid"), True):
        inputs = []
        for side, change in (("a", None), ("b", shifted("valid"))):
            store = make_store(tmp_path / f"{bank}{side}" / "tiny", label=change, bank=bank)
            split = open_split(store, "train", neighbours=Neighbours.read(store), num_of_retrieved_items=5)
            inputs.append(next(split.batches(len(split), torch.device("cpu"))))
        a, b = inputs
        assert torch.equal(a.label, b.label) and torch.equal(a.rows, b.rows)
        for mine, theirs in ((a, b), (a.neighbours, b.neighbours)):
            assert set(mine.features) == {"visual", "textual"}
            assert all(torch.equal(mine.features[name], theirs.features[name]) for name in mine.features)
        assert torch.equal(a.neighbours.label, b.neighbours.label) is not leaks


# ---- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--model_id", "XYZ"), "--model_id XYZ: unknown method; known: MMRA"),
        (("--feature_num", 3), "--feature_num 3: it is the number of feature kinds, and MMRA takes 2"),
        (("--label_dim", 2), "--label_dim 2: .* has 1 (target0)"),
        (("--frame_num", 4), "--frame_num 4: the data set stores 3 frames a video"),
        (("--num_of_retrieved_items", 7), r"--num_of_retrieved_items 7: .*holds 6 .*retriever.py.*_items 7"),
        (("--loss", "BCE"), r"--loss BCE: needs labels in \[0, 1\]"),
        (("--dataset_id", "absent"), "absent: no data set here .*tiny.*make it with: python data/import_features.py"),
        (("--device", "nonsense"), "--device nonsense: not on this machine"),
    ],
)
def test_bad_flags_are_named_and_nothing_is_written(store, tmp_path, more, message):
    message = message.replace("(target0)", r"\(target0\)")
    with refused(message):
        trained(store.folder, tmp_path / "runs", *more)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--lr", "0"), "--lr: 0: must be above 0 and finite"),
        (("--metric", "nMSE+F1"), "--metric: 'F1' is unknown; known, and summed with +: nMSE, SRC, MAE, RMSE"),
        (("--epochs", "0"), "--epochs: 0 is too small: at least 1 is needed"),
        (("--similarity_temperature", "nan"), "--similarity_temperature: nan: must be above 0"),
        (("--learning_rate", "1"), "unrecognized arguments: --learning_rate"),
    ],
)
def test_mistyped_flags_end_in_one_line_and_exit_code_2(capsys, more, message):
    with pytest.raises(SystemExit) as error:
        train.build_parser().parse_args(list(more))
    err = capsys.readouterr().err
    assert error.value.code == 2 and err.count("\n") == 1 and message in err


def test_labels_that_are_all_the_same_are_refused(tmp_path):
    store = make_store(tmp_path / "flat", label=lambda label, split: label * 0 + 3)
    with refused("60 items of split train all have the label 3 of target0, so that there is nothing to learn"):
        trained(store.folder, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_one_line_and_exit_code_2_from_the_shell(store, tmp_path, run):
    for more in (("--feature_num", "768"), ("--dataset_id", "absent"), ("--epochs", "x")):
        done = run("train.py", *flags(store.folder, tmp_path / "runs", *more))
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and done.stderr.startswith("train.py: error: ")
    (tmp_path / "file").write_text("in the way")
    done = run("train.py", *flags(store.folder, tmp_path / "file"))
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "file" in done.stderr
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_loss_that_turns_nan_names_epoch_and_batch(store, tmp_path):
    with pytest.raises(
        InputError, match=r"the loss became \w+ in epoch \d+, batch \d+ of 8: lower --lr \(now 1e\+18\)"
    ):
        trained(store.folder, tmp_path, "--optim", "SGD", "--lr", "1e18", "--batch_size", 8)
    (folder,) = tmp_path.iterdir()
    assert (folder / "config.json").exists() and not list(folder.glob("*.partial"))


@pytest.mark.parametrize("split", ["train", "valid"])
def test_an_empty_split_is_named(tmp_path, split):
    store = make_store(tmp_path / "tiny", sizes={**SIZES, split: 0}, bank=("train", "valid"))
    with pytest.raises(InputError, match=f"split {split} is empty"):
        trained(store.folder, tmp_path / "runs")


def test_features_that_are_not_finite(tmp_path):
    store = make_store(tmp_path / "tiny")
    array = np.load(store.folder / "visual.npy", mmap_mode="r+")
    array[4, 1, 2] = np.nan
    array.flush()
    with pytest.raises(InputError, match=r"visual\.npy: 1 of 104 items have NaN or infinite values \(item ids v004\)"):
        trained(store.folder, tmp_path / "runs")


def test_neighbours_of_another_store_or_bank(tmp_path):
    store = make_store(tmp_path / "tiny", k=None)
    with refused("no neighbours yet; make them with: python retriever.py"):
        trained(store.folder, tmp_path / "runs")
    ids = np.tile(np.flatnonzero(store.items.split == "test")[:6].astype(np.int32), (len(store), 1))
    ids[ids == np.arange(len(store))[:, None]] = -1
    similarity = np.ones(ids.shape, np.float32)
    Neighbours(ids, similarity, 6, "train", "tests", store.fingerprint).write(store)
    with pytest.raises(InputError, match="neighbours outside the bank train"):
        trained(store.folder, tmp_path / "runs")
    Neighbours(ids, similarity, 6, "train", "tests", "0123456789abcdef").write(store)
    with pytest.raises(InputError, match="made for another state of the data set .fingerprint 0123456789abcdef"):
        trained(store.folder, tmp_path / "runs")
    path = store.folder / "neighbours.npz"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="truncated or not a neighbours file"):
        trained(store.folder, tmp_path / "runs")
    trained(store.folder, tmp_path / "runs", "--no_retrieval")


def test_a_scale_that_saturates_is_warned_of(tmp_path, capsys):
    store = make_store(tmp_path / "tiny")
    with store.add_array("visual", store.features["visual"].shape, "float32", overwrite=True) as out:
        out[:] = np.random.default_rng(0).standard_normal(out.shape) * 5000
    trained(store.folder, tmp_path / "runs", "--no_retrieval", "--epochs", 1)
    assert "warning: " in (err := capsys.readouterr().err) and "visual=standard" in err


def test_what_the_device_cannot_do_is_refused_before_the_features_are_read(tmp_path, monkeypatch):
    store = make_store(tmp_path / "tiny")
    monkeypatch.setattr(train, "pick_device", lambda name: SimpleNamespace(type="cuda"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "an old card")
    monkeypatch.setattr("common.arrays.scan", None)
    words = ["--dataset_path", str(store.folder.parent), "--dataset_id", "tiny", "--save", str(tmp_path / "runs")]
    with pytest.raises(InputError, match="an old card has no bfloat16"):
        train.main(train.build_parser().parse_args([*words, "--precision", "bf16"]))
    assert not (tmp_path / "runs").exists()


def test_a_command_line_is_read_and_its_run_checked_once(tmp_path, load_script, monkeypatch):
    """Once for the method that it names, once for what it says; config.json once, whatever the method."""
    make_store(tmp_path / "tiny")
    script, counted = load_script("test.py"), []
    parsed, checked = argparse.ArgumentParser.parse_known_args, baselines.check_config
    monkeypatch.setattr(
        argparse.ArgumentParser, "parse_known_args", lambda *a, **k: counted.append("parsed") or parsed(*a, **k)
    )
    monkeypatch.setattr(baselines, "check_config", lambda *a: counted.append("checked") or checked(*a))
    where = ["--dataset_path", str(tmp_path), "--dataset_id", "tiny", "--save", str(tmp_path / "runs")]
    train.main(train.build_parser().parse_args([*where, "--model_id", "TMALL", "--epochs", "1"]))
    assert counted == ["parsed", "parsed"]
    (run,) = (tmp_path / "runs").iterdir()
    for made, flag in ((train, "--resume"), (script, "--model_path")):
        counted.clear()
        made.main(made.build_parser().parse_args([flag, str(run)]))
        assert sorted(counted) == ["checked", "parsed", "parsed"]
