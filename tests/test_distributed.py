"""Training by several processes, as torchrun starts them: what they find and write, how they end and go on."""

from __future__ import annotations

from common.ends import say

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from tiny import make_store, refused, store_of_creators, trained

import train
from common import distributed
from common.console import Parser, run_script
from dataloader.batches import open_split
from dataloader.store import FeatureStore

README = (ROOT / "README.md").read_text("utf-8")
WAIT = 180  # seconds, at most
MMRA = ("--feature_dim", 8, "--num_of_retrieved_items", 5, "--lr", 1e-3, "--device", "cpu")
LARK = ("--model_id", "LARK", "--feature_dim", 8, "--ensemble", 2, "--num_of_retrieved_items", 5, "--device", "cpu")
CERTAIN = ("--dropout", 0, "--drop_neighbour", 0)  # nothing is drawn at random but weights and order
LONG = ("--epochs", 2000, "--early_stop_turns", 2000)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> FeatureStore:
    """61 videos to train on, 21 of valid: neither is a multiple of the number of processes."""
    return make_store(tmp_path_factory.mktemp("data") / "tiny", sizes={"train": 61, "valid": 21, "test": 20})


@pytest.fixture(scope="module")
def creators(tmp_path_factory) -> FeatureStore:
    return store_of_creators(tmp_path_factory.mktemp("data"), sizes={"train": 61, "valid": 40, "test": 20}, creators=20)


def started(launcher: tuple, *words) -> subprocess.Popen:
    """train.py by torchrun; its errors are told from its output."""
    command = [sys.executable, "-m", "torch.distributed.run", *map(str, launcher), "train.py", *map(str, words)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    """Exit code, output and errors; a process that hangs is killed with what it started."""
    try:
        out, err = process.communicate(timeout=WAIT)
    except subprocess.TimeoutExpired:
        for pid in ranks(process).values():
            os.kill(pid, signal.SIGKILL)
        process.kill()
        raise
    return process.returncode, out, err


def together(processes: int, store: FeatureStore, save: Path, *flags) -> Path:
    """The folder of the run that so many processes have trained."""
    where = ("--dataset_path", store.folder.parent, "--dataset_id", store.folder.name, "--save", save)
    before = set(save.glob("*"))
    code, _, err = ended(started(("--nproc_per_node", processes), *where, *flags))
    assert code == 0, err
    (run,) = set(save.glob("*")) - before
    return run


def ranks(agent: subprocess.Popen) -> dict[int, int]:
    """Rank -> process, of those that this torchrun has started."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            words = dict(one.partition("=")[::2] for one in (path / "environ").read_text().split("\0"))
            if parent == agent.pid and "RANK" in words:
                found[int(words["RANK"])] = int(path.name)
    return found


def interrupted(save: Path, agent: subprocess.Popen, stop) -> tuple[Path, str, str]:
    """The run of `agent` after `stop()`, which is called when it has finished an epoch; its output and errors."""
    until = time.monotonic() + WAIT
    while not any(save.glob("*/last.pt")) and agent.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    stop()
    code, out, err = ended(agent)
    assert code != 0, out
    (run,) = save.glob("*")
    return run, out, err


def history(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def losses(run: Path) -> list[float]:
    return [record["train_loss"] for record in history(run)]


def said(err: str) -> list[str]:
    """Lines of ours among those of torchrun, which begins its own otherwise."""
    return [line for line in err.splitlines() if line.startswith("train.py: ")]


def files(run: Path) -> list[str]:
    return sorted(path.name.partition("tfevents")[0] for path in run.iterdir())


def same_weights(one: Path, other: Path) -> bool:
    states = [torch.load(run / "last.pt", weights_only=True) for run in (one, other)]
    return states[0]["epoch"] == states[1]["epoch"] and all(
        torch.equal(values, states[1]["module"][name]) for name, values in states[0]["module"].items()
    )


# ---- what it finds -----------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_find_what_one_does_and_one_of_them_writes(store, tmp_path):
    """An epoch is a step of 61 videos, of which one process has 30 and the other 31; ten steps."""
    flags = (*MMRA, "--batch_size", 64, "--epochs", 10)
    alone, run = trained(store, tmp_path / "alone", *flags), together(2, store, tmp_path / "two", *flags)
    np.testing.assert_allclose(losses(run), losses(alone), rtol=0, atol=1e-5)
    for one, other in zip(history(run), history(alone), strict=True):
        assert one["valid"] == pytest.approx(other["valid"], abs=1e-5)
        assert one["best_epoch"] == other["best_epoch"]
    assert files(run) == files(alone)
    log, of_one = ((folder / "log.txt").read_text().splitlines() for folder in (run, alone))
    assert len(log) == len(of_one) and log[0] == of_one[0].replace(str(alone), str(run)) + ", 2 processes"
    config = json.loads((run / "config.json").read_text())
    assert config["processes"] == [2] and "processes" not in json.loads((alone / "config.json").read_text())
    assert config["command"][:4] == ["torchrun", "--nproc_per_node", "2", "train.py"]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
def test_a_last_batch_with_fewer_videos_than_processes(creators, tmp_path, processes):
    """61 videos by 20: the last batch has one, whose process alone moves the weights. 12 steps."""
    flags = (*LARK, *CERTAIN, "--batch_size", 20, "--epochs", 3, "--lr", 1e-3)
    alone, run = (
        trained(creators, tmp_path / "alone", *flags),
        together(processes, creators, tmp_path / "more", *flags),
    )
    np.testing.assert_allclose(losses(run), losses(alone), rtol=0, atol=1e-5)
    np.testing.assert_allclose(*([one["score"] for one in history(each)] for each in (run, alone)), rtol=0, atol=1e-5)
    assert files(run) == files(alone)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["CBAN", "Contextual_LSTM", "TabM", "HMMVED"])
def test_every_other_network_is_trained_too(store, tmp_path, name):
    if name == "TabM":
        pytest.importorskip("tabm")
    flags = ("--model_id", name, "--batch_size", 20, "--epochs", 2, "--lr", 1e-3, "--device", "cpu")
    flags += ("--dropout", 0) if name == "TabM" else ()
    alone, run = trained(store, tmp_path / "alone", *flags), together(2, store, tmp_path / "two", *flags)
    draws = name == "HMMVED"  # of a Gaussian, so that two processes find something else than one
    np.testing.assert_allclose(losses(run), losses(alone), rtol=0.1 if draws else 0, atol=0 if draws else 1e-5)
    assert not draws or losses(run) != losses(alone)


def test_each_batch_is_shared_out_whole(store, monkeypatch):
    split, device = open_split(store, "train"), torch.device("cpu")

    def rows(rank: int, count: int) -> list[list[int]]:
        monkeypatch.setitem(distributed._state, "rank", rank)
        monkeypatch.setitem(distributed._state, "count", count)
        return [b.rows.tolist() for b in split.batches(8, device, torch.Generator().manual_seed(3), together=True)]

    whole = rows(0, 1)
    parts = [rows(rank, 3) for rank in range(3)]
    for batch, *shared in zip(whole[:-1], *(part[:-1] for part in parts), strict=True):
        assert [row for part in shared for row in part] == batch and max(map(len, shared)) - min(map(len, shared)) <= 1
    assert len(whole[-1]) == 5
    weights = []
    for rank in range(3):  # of two videos, of which one process has none and is given one that weighs nothing
        monkeypatch.setitem(distributed._state, "rank", rank)
        weights.append(distributed.weighed(torch.ones(()), 2).item())
    assert sorted(weights) == [0, 1.5, 1.5]


# ---- how it goes on ----------------------------------------------------------------------------


@pytest.mark.slow
def test_another_number_of_processes_goes_on(store, tmp_path):
    flags = (*MMRA, "--batch_size", 20)
    alone = trained(store, tmp_path / "alone", *flags, "--epochs", 6)
    run = together(2, store, tmp_path / "runs", *flags, "--epochs", 2)
    train.main(train.build_parser().parse_args(["--resume", str(run), "--epochs", "4"]))
    code, _, err = ended(started(("--nproc_per_node", 2), "--resume", run, "--epochs", 6))
    assert code == 0, err
    assert json.loads((run / "config.json").read_text())["processes"] == [2, 1, 2]
    np.testing.assert_allclose(losses(run), losses(alone), rtol=0, atol=1e-5)
    assert files(run)[-1] == "manifest.jsonl" and len(history(run)) == 6


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 2])
def test_a_process_that_is_killed_ends_all_in_a_line_and_the_run_goes_on(creators, tmp_path, rank):
    """With dropout, by three processes: what each draws, and in which order they add, is as if nobody had been."""
    where = (
        "--dataset_path",
        creators.folder.parent,
        "--dataset_id",
        creators.folder.name,
        "--save",
        tmp_path / "runs",
    )
    flags = (*LARK, "--batch_size", 20)
    agent = started(("--nproc_per_node", 3), *where, *flags, *LONG)
    run, _, err = interrupted(tmp_path / "runs", agent, lambda: os.kill(ranks(agent)[rank], signal.SIGKILL))
    (line,) = said(err)
    assert f"another process of this training has ended, or torchrun was told to end; --resume {run} goes" in line
    epochs = len(history(run)) + 2
    code, _, err = ended(started(("--nproc_per_node", 3), "--resume", run, "--epochs", epochs))
    assert code == 0, err
    whole = together(3, creators, tmp_path / "whole", *flags, "--epochs", epochs, "--early_stop_turns", 2000)
    assert losses(run) == losses(whole) and same_weights(run, whole)


@pytest.mark.slow
def test_torchrun_may_start_them_again(store, tmp_path):
    flags = (*MMRA, "--batch_size", 20)
    run = trained(store, tmp_path, *flags, "--epochs", 1)
    agent = started(("--nproc_per_node", 2, "--max_restarts", 1), "--resume", run, "--epochs", 60)
    until = time.monotonic() + WAIT
    while len(history(run)) < 3 and agent.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(ranks(agent)[1], signal.SIGKILL)
    code, out, err = ended(agent)
    assert code == 0 and len(said(err)) == 1 and out.count("resuming ") == 2
    assert [record["epoch"] for record in history(run)] == list(range(1, 61))


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["torchrun", "one process"])
def test_ctrl_c_ends_all_and_says_how_to_go_on(store, tmp_path, whom):
    where = ("--dataset_path", store.folder.parent, "--dataset_id", store.folder.name, "--save", tmp_path / "runs")
    flags = (*MMRA, "--batch_size", 20)
    agent = started(("--nproc_per_node", 2), *where, *flags, *LONG)

    def stop() -> None:
        os.kill(agent.pid if whom == "torchrun" else ranks(agent)[1], signal.SIGINT)

    run, out, err = interrupted(tmp_path / "runs", agent, stop)
    best = history(run)[-1]["best_epoch"]
    command = f"torchrun --nproc_per_node 2 train.py --resume {run}"
    assert out.splitlines()[-1] == f"interrupted: epoch {best} is kept; go on with: {command}" and not said(err)
    epochs = len(history(run)) + 2
    code, _, err = ended(started(("--nproc_per_node", 2), "--resume", run, "--epochs", epochs))
    assert code == 0, err
    whole = together(2, store, tmp_path / "whole", *flags, "--epochs", epochs, "--early_stop_turns", 2000)
    assert losses(run) == losses(whole) and same_weights(run, whole)


# ---- two machines ------------------------------------------------------------------------------


def two_machines(*each: tuple) -> list[tuple[int, str, str]]:
    """How the README's two commands end, with these flags behind them, where both machines are this one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    agents = []
    for command, words in zip(re.findall("^torchrun (.*)$", README, re.MULTILINE), each, strict=True):
        launcher, _, flags = command.replace("10.0.0.1", "127.0.0.1").partition(" train.py ")
        agents.append(started((*launcher.split(), "--master_port", port), *flags.split(), *words))
    return [ended(agent) for agent in agents]


@pytest.mark.slow
def test_two_machines_are_two_commands(store, tmp_path):
    """Two processes on each. The second one's --save cannot even be made, as the first one alone writes."""
    where = ("--dataset_path", store.folder.parent, "--dataset_id", store.folder.name)
    flags = (*MMRA, "--epochs", 10)
    alone = trained(store, tmp_path / "alone", "--preset", "recommended", *flags)
    first, second = two_machines(
        (*where, *flags, "--save", tmp_path / "runs"), (*where, *flags, "--save", "/proc/nowhere")
    )
    assert (first[0], second[0]) == (0, 0), (first[2], second[2])
    assert second[1] == ""
    (run,) = (tmp_path / "runs").iterdir()
    np.testing.assert_allclose(losses(run), losses(alone), rtol=0, atol=1e-5)
    assert files(run) == files(alone)
    config = json.loads((run / "config.json").read_text())
    assert config["processes"] == [4] and config["settings"]["label_scale"] == "standard"
    assert config["command"][:5] == ["torchrun", "--nnodes", "2", "--node_rank", "0"]


@pytest.mark.slow
def test_a_machine_with_other_data_is_refused(store, tmp_path):
    other = make_store(tmp_path / "tiny", sizes={"train": 61, "valid": 21, "test": 21})
    first, second = two_machines(
        *(
            ("--dataset_path", one.folder.parent, "--dataset_id", "tiny", "--save", tmp_path / "runs", *MMRA, *LONG)
            for one in (store, other)
        )
    )
    assert first[0] and second[0]
    assert "another process of this training has ended" in said(first[2])[0]
    assert said(second[2]) == [
        f"train.py: error: {other.folder}: other data set than where process 0 runs; copy the data set from there"
    ]


# ---- what is refused ---------------------------------------------------------------------------


def test_what_processes_cannot_share_is_refused(store, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "tests")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name, why in (
        ("SVR", "is no network"),
        ("Blend", "is no network"),
        ("TMALL", "compares all videos of a batch"),
    ):
        with refused(f"--model_id {name}: it {why}.*train it without torchrun"):
            trained(store, tmp_path, "--model_id", name)
    with refused(r"--cross_conformal: .* python train.py --resume <run> --cross_conformal 3"):
        trained(store, tmp_path, *MMRA, "--cross_conformal", 3)
    assert not any(tmp_path.iterdir())


def test_other_flags_than_the_first_process_has_are_refused(store, tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "agreed", lambda value: value | {"save": "elsewhere", "lr": 0.5})
    with refused("--lr 0.001: process 0 was given 0.5; give all of them the same flags"):
        trained(store, tmp_path, *MMRA)
    assert not any(tmp_path.iterdir())


def test_a_script_whose_processes_would_all_do_the_same_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["script"])
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "tests")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for together, code in ((False, 2), (True, 0)):
        with pytest.raises(SystemExit) as end:
            run_script(Parser(prog="script"), lambda args: None, together=together)
        assert end.value.code == code
    assert re.fullmatch("script: error: torchrun started several of it.*\n", capsys.readouterr().err)


def test_of_a_machines_processes_the_first_to_end_says_why(tmp_path, monkeypatch, capsys):
    """And the others give torchrun, for its report, what that one said."""
    for rank in range(2):
        report = tmp_path / str(rank) / "error.json"
        report.parent.mkdir()
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(report))
        say(f"train.py: error: of {rank}")
        assert json.loads(report.read_text())["message"]["message"] == "train.py: error: of 0"
    assert capsys.readouterr().err == "train.py: error: of 0\n"
