"""--engine ray: on a real cluster of two nodes the bits of this machine alone, whatever is killed on the way."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import pickle
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import crashing
import numpy as np
import pandas as pd
import pytest
import torch
from bare import bare_store, call
from comparing import SMALL
from conftest import ROOT
from safetensors.torch import load_file, save_file
from test_hostile_videos import start, wait_for
from tiny import make_store, refused
from tiny_sounds import tones, write_clap, write_clip

from baselines.comparison import running
from common import cluster
from common.console import InputError
from feature_engineering import audio_engineering, captioning, textual_engineering, visual_engineering
from feature_engineering.decoding import pixels
from feature_engineering.encoding import captioner, images, sounds
from feature_engineering.encoding.texts import TextEncoder
from feature_engineering.jobs.on_ray import Actor, made_of
from feature_engineering.jobs.progress import Progress
from feature_engineering.settings import EncoderSettings, TextSettings

RAY = ("--engine", "ray")
IDS = [*(f"v{k}" for k in range(5)), "broken", "crash", "missing", *(f"w{k}" for k in range(3))]
NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}

with_ray = pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="Ray: pip install -r requirements-scale.txt")


def test_without_ray_nothing_begins(tmp_path, monkeypatch):
    store = bare_store(tmp_path)
    before = sorted(store.folder.iterdir())
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: None)
    with refused("--engine ray: Ray is not installed: pip install -r requirements-scale.txt"):
        call(textual_engineering, tmp_path, *RAY)
    assert sorted(path for path in store.folder.iterdir() if path.name != ".lock") == before


def test_what_fails_on_a_node_is_its_result(tmp_path, monkeypatch):
    rows = {name: np.array([value]) for name, value in (("number", 3), ("start", 8), ("stop", 12))}
    here = cluster.surroundings()
    (made,) = map(pickle.loads, Actor(None, here | {"folder": str(tmp_path / "none")}, 1)(rows)["made"])
    assert isinstance(made, InputError) and re.search(r"none: not on .* in the same place on each node", str(made))
    shards, actor = [], Actor(None, here, 1)

    def work(given):
        shards.extend(given)
        yield 3, "vectors"
        raise InputError("item a: broken")

    actor._work = work
    (made,) = map(pickle.loads, actor(rows)["made"])
    assert isinstance(made, InputError) and str(made) == "item a: broken" and shards == [(3, range(8, 12))]


def test_one_device_of_this_machine_is_refused(tmp_path, compare, monkeypatch):
    store = bare_store(tmp_path)
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: "as if it were installed")
    said = "--device cuda:1: --engine ray takes devices as they are free; give auto, cuda or cpu"
    with refused(said):
        call(textual_engineering, tmp_path, *RAY, "--device", "cuda:1")
    assert said in compare(store, tmp_path / "table", *RAY, "--device", "cuda:1")
    assert not (tmp_path / "table").exists()


@pytest.mark.parametrize(("jobs", "cells"), [(1, 2), (2, 4), (3, 6), (4, 8), (7, 15), (12, 25)])
def test_so_many_cells_at_a_time_on_each_node(jobs, cells):
    """Of nodes with 7 and 8 cores, where Ray rounds what a task takes to ten thousandths; and of two GPUs."""
    nodes = [{"Alive": True, "Resources": {"CPU": cores}} for cores in (7.0, 8.0)]
    number, takes = cluster.room(SimpleNamespace(nodes=lambda: nodes), "cpu", jobs)
    assert number == cells and round(takes["num_cpus"], 4) == takes["num_cpus"] > 0
    assert jobs <= 7 / takes["num_cpus"] < jobs + 1
    nodes[0]["Resources"]["GPU"] = 2.0
    number, takes = cluster.room(SimpleNamespace(nodes=lambda: nodes), "cuda", jobs)
    assert number == 2 * jobs and jobs <= 1 / takes["num_gpus"] < jobs + 1


def test_an_encoder_elsewhere_is_loaded_there_and_is_the_same(clip, bert, tmp_path):
    """Of texts; one that reads them with the model of pictures too, as --source fused has it."""
    pictures = images.ImageEncoder(EncoderSettings(str(clip), device="cpu"))
    alone = TextEncoder(EncoderSettings(str(shutil.copytree(bert, tmp_path / "bert")), 7), TextSettings(pooling="cls"))
    both = TextEncoder(EncoderSettings(str(clip)), TextSettings(), model=pictures.model)
    batch = np.random.default_rng(0).standard_normal((2, 3, 32, 32), np.float32)
    for encoder, given in ((pictures, batch), (alone, ["a red ball"]), (both, ["a red ball"])):
        there = pickle.loads(pickle.dumps(encoder))
        assert there is not encoder and there.model is not encoder.model and there.batch_size == encoder.batch_size
        assert np.array_equal(there(given).detach(), encoder(given).detach())
        assert there(given).shape == encoder(given).shape
    moved = pickle.dumps(alone)
    weights = load_file(tmp_path / "bert/model.safetensors")
    save_file({k: v + 1 for k, v in weights.items()}, tmp_path / "bert/model.safetensors", {"format": "pt"})
    with refused("bert: other weights on .* than here"):
        pickle.loads(moved)


# ---- a cluster -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_nodes():
    """A cluster of two nodes of a core each, which this process has joined: that of the driver and another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_health_check_period_ms", "500")  # A dead node is missed after two seconds, not twenty.
        patch.setenv("RAY_health_check_initial_delay_ms", "0")
        from ray.cluster_utils import Cluster

        made = Cluster(initialize_head=True, head_node_args=NODE | {"include_dashboard": False})
        made.other = made.add_node(**NODE)
        patch.setenv("RAY_ADDRESS", made.address)
        ray = cluster.join()
        made.wait_for_nodes()
        yield made
        ray.shutdown()
        made.shutdown()


@pytest.fixture
def clips(tmp_path, monkeypatch) -> Path:
    """Videos, one broken, one missing, one that crashes what decodes its frames; shards of four, so that there are
    three."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for k, item_id in enumerate(IDS):
        sounding = tones(1 + k / 4, 8000, 0.1 + k / 20) if k % 4 else None
        write_clip(folder / f"{item_id}.mp4", sounding, 8000, frames=3 + k)
    (folder / "broken.mp4").write_bytes((folder / "broken.mp4").read_bytes()[:500])
    (folder / "missing.mp4").unlink()
    for module in (images, captioner, sounds):
        monkeypatch.setattr(module, "SHARD_ITEMS", 4)
    monkeypatch.setattr(pixels, "from_video", crashing.from_video)
    return folder


def made(script, place: Path, *flags) -> dict[str, bytes]:
    """What a script leaves in the folder of a new data set."""
    bare_store(place, ids=IDS, titles=[f"a red ball {'and the dog ' * (k % 3)}{k}" for k in range(len(IDS))])
    call(script, place, *flags)
    return content(place / "set")


def content(folder: Path) -> dict[str, bytes]:
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    return {name: content for name, content in files.items() if name not in (".lock", "manifest.jsonl")}


def listed(files: dict[str, bytes]) -> dict[str, str]:
    rows = csv.DictReader(files["skipped.csv"].decode().splitlines())
    return {row["item_id"]: row["reason"] for row in rows}


@with_ray
@pytest.mark.slow
def test_a_node_is_lost_half_way(two_nodes, clips, vit, tmp_path, monkeypatch):
    """Frames and sound, three shards; the node that is not the driver's is killed when the first is noted."""
    clap, commit = write_clap(tmp_path / "clap"), Progress.commit
    flags = ("--encoder", vit, "--videos", clips, "--frame_num", 3, "--batch_size", 5, "--audio_encoder", clap)
    here = made(visual_engineering, tmp_path / "here", *flags, "--workers", 1)
    noted = []

    def lose_a_node(self, number, *args, **notes) -> None:
        commit(self, number, *args, **notes)
        if not noted:
            two_nodes.remove_node(two_nodes.other, allow_graceful=False)
            two_nodes.other = two_nodes.add_node(**NODE)  # as one that comes back
        noted.append(number)

    monkeypatch.setattr(Progress, "commit", lose_a_node)
    assert made(visual_engineering, tmp_path / "there", *flags, "--workers", 1, *RAY) == here
    assert sorted(noted) == [0, 0, 1, 1, 2, 2]
    assert {"broken", "missing"} <= listed(here).keys() and {"visual.npy", "audio.npy"} <= here.keys()


@with_ray
@pytest.mark.slow
@pytest.mark.parametrize("what", ["captions", "audio"])
def test_the_same_bits(what, two_nodes, clips, blip, tmp_path, monkeypatch, capsys):
    for module in (captioner, sounds):  # one shard, and so one actor, is quicker
        monkeypatch.setattr(module, "SHARD_ITEMS", len(IDS))
    flags = ("--videos", clips, "--workers", 1, "--batch_size", 3)
    if what == "captions":
        script, flags = captioning, ("--encoder", blip, "--frame_num", 2, *flags)
    else:
        script, flags = audio_engineering, ("--encoder", write_clap(tmp_path / "clap"), *flags)
    here = made(script, tmp_path / "one", *flags)
    said = capsys.readouterr().out
    assert made(script, tmp_path / "two", *flags, *RAY) == here and len(here) > 3
    assert capsys.readouterr().out.replace("/two", "/one") == said
    lost = listed(here)
    assert {"broken", "missing"} <= lost.keys()
    assert ("the decoder crashed" in lost.get("crash", "")) == (what == "captions")


@with_ray
@pytest.mark.slow
def test_the_driver_killed_half_way_and_the_same_command_again(two_nodes, bert, tmp_path, monkeypatch):
    """With a cluster that is started for the command, which ends with it; then on the one of two nodes."""
    number, flags = 640, ("--encoder", bert, "--batch_size", 1)
    for place in ("one", "two"):
        texts = [f"a red ball {k}" for k in range(number)]
        bare_store(tmp_path / place, ids=[f"v{k}" for k in range(number)], titles=texts)
    call(textual_engineering, tmp_path / "one", *flags)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS")
        process = start("feature_engineering/textual_engineering.py", tmp_path / "two", *flags, *RAY)
    path = tmp_path / "two/set/textual.progress/done.jsonl"
    wait_for(process, path, 1)
    process.kill()
    process.communicate()
    before = {json.loads(line)["shard"] for line in path.read_text().splitlines()}
    noted, commit = [], Progress.commit

    def note(self, number, *args, **notes) -> None:
        commit(self, number, *args, **notes)
        noted.append(number)

    monkeypatch.setattr(Progress, "commit", note)
    call(textual_engineering, tmp_path / "two", *flags, *RAY)
    assert 0 < len(before) < number // 16 and sorted([*before, *noted]) == list(range(number // 16))
    assert content(tmp_path / "one/set") == content(tmp_path / "two/set")


@with_ray
@pytest.mark.slow
def test_a_shard_whose_process_always_dies_ends_the_command(two_nodes):
    encoder = SimpleNamespace(engine="ray", model=torch.nn.Linear(1, 1))
    made = made_of([(0, range(4))], crashing.work, encoder, 4, "video")
    with made as results, refused("--engine ray: .* were lost, those in their place too"):
        list(results)


# ---- the table -----------------------------------------------------------------------------------


@with_ray
@pytest.mark.slow
def test_the_table_of_cells_on_a_cluster(two_nodes, compare, tmp_path, capsys):
    """Two cells that train and one that fails: the predictions of this machine's, and its reason."""
    store = make_store(tmp_path / "data/tiny")
    rows = ("--methods", "MMRA", "--flags", f"MMRA: {SMALL}", "--row", "broken=MMRA --num_of_retrieved_items 7")
    assert compare(store, tmp_path / "one", *rows, "--seeds", 1) == 1
    assert compare(store, tmp_path / "two", *rows, "--seeds", 1, *RAY) == 1
    said = capsys.readouterr().err
    assert "1 cell failed: broken, seed 1: train.py: error: --num_of_retrieved_items 7: " in said
    one, two = (pd.read_csv(tmp_path / name / "tiny/table.csv") for name in ("one", "two"))
    measured = [name for name in one if name.endswith(("_mean", "_std")) and "seconds" not in name]
    assert one["row"].tolist() == two["row"].tolist() and len(measured) > 5
    assert one[measured].equals(two[measured])
    one, two = (tmp_path.glob(f"{name}/tiny/cells/*/seed1/*/predictions.csv") for name in ("one", "two"))
    assert next(one).read_bytes() == next(two).read_bytes()
    assert compare(store, tmp_path / "two", *rows[:4], "--seeds", 1) == 0
    assert "1 of 1 cells are finished already" in capsys.readouterr().out


@with_ray
@pytest.mark.slow
def test_a_cell_whose_process_always_dies_has_failed(two_nodes, compare, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(running, "_on_node", crashing.on_node)
    rows = ("--methods", "MMRA", "--flags", f"MMRA: {SMALL}", "--seeds", 1)
    assert compare(make_store(tmp_path / "data/tiny"), tmp_path / "one", *rows, *RAY) == 1
    assert "1 cell failed: MMRA, seed 1: --engine ray: processes" in capsys.readouterr().err
