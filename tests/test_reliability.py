"""What is damaged is found, what is interrupted goes on, what is shared is locked, and a power cut costs nothing."""

from __future__ import annotations

import commands

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from bare import bare_store, call
from breakage import holding, recorded, restore, stopped_at
from conftest import ROOT
from nus_release import Release
from safetensors.torch import load_file
from tiny import make_store, refused, run_test, trained

import train
from baselines import opened
from common import manifest
from common.console import InputError
from dataloader.neighbours import Neighbours
from dataloader.store import FeatureStore
from engine.run import Run
from feature_engineering import retrieval_engineering, textual_engineering
from feature_engineering.encoding.captions import read_captions, write_captions
from feature_engineering.jobs.progress import Progress

FROM_FEATURES = ("--source", "features", "--lexical_weight", 0)
NETWORK = ("--feature_dim", "8", "--lr", "1e-3", "--epochs", "3", "--num_of_retrieved_items", "5")


def spoiled(content: bytes, rng: random.Random) -> list[bytes]:
    """With a byte changed in three places, and with the second half zero."""
    found = []
    for _ in range(3):
        place = rng.randrange(len(content))
        found.append(content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :])
    half = len(content) // 2
    return [*found, content[:half] + bytes(len(content) - half)]


def each_damage(folder: Path, names):
    """Damage one file after the other in each way, and mend it again; its name."""
    rng = random.Random(0)
    for name in names:
        content = (folder / name).read_bytes()
        for damaged in spoiled(content, rng):
            (folder / name).write_bytes(damaged)
            yield name
        (folder / name).write_bytes(content)


# ---- damage ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[FeatureStore, Path, Path]:
    """A data set, a run of a network and one of what a library fits; copied, not changed, by the tests."""
    place = tmp_path_factory.mktemp("made")
    store = make_store(place / "tiny")
    network = trained(store, place / "mmra", *NETWORK)
    return store, network, trained(store, place / "svr", "--model_id", "SVR")


@pytest.fixture
def copies(made, tmp_path) -> tuple[FeatureStore, Path, Path]:
    store, *runs = made
    folder = shutil.copytree(store.folder, tmp_path / "tiny")
    places = [shutil.copytree(run, tmp_path / run.parent.name / run.name) for run in runs]
    return FeatureStore.open(folder), *places


def test_damage_in_a_run_is_found_before_anything_is_predicted(copies, load_script):
    store, network, svr = copies
    where = ["--dataset_path", store.folder.parent]
    assert {"config.json", "best.safetensors", "history.jsonl", "last.pt"} <= set(manifest.noted(network))
    for run in (network, svr):
        run_test(load_script, "--model_path", run, *where)
        beside = {"last.pt", "history.jsonl", "valid.json", "metrics.json", "predictions.csv"}
        names = sorted(set(manifest.noted(run)) - beside)
        assert len(names) == 2
        for name in each_damage(run, names):
            with pytest.raises(InputError, match=f"{run / name}: "):
                run_test(load_script, "--model_path", run, *where)
        for _ in each_damage(run, ["predictions.csv"]):
            assert manifest.damaged(run) == ["predictions.csv"]
            opened(run, "--model_path")  # it is made anew from the run, and not read
    for name in each_damage(network, ["last.pt", "history.jsonl"]):
        opened(network, "--model_path")  # the best epoch is whole
        with pytest.raises(InputError, match=rf"{name}: damaged.*the best epoch is whole and can be tested"):
            opened(network, "--resume")
    for run, record in ((network, "history.jsonl"), (svr, "valid.json")):
        for name in each_damage(run, [record]):
            with pytest.raises(InputError, match=f"{name}: damaged.*the run still predicts"):
                Run(run, {}).valid()
    for content in (b"[" * 10**5, b"null\n7\n", b"\xff\x00", b""):  # of a damaged manifest, whose lines are lost
        (svr / manifest.FILE).write_bytes(content)
        opened(svr, "--model_path")
    (svr / manifest.FILE).unlink()  # of an earlier version
    run_test(load_script, "--model_path", svr, *where)


def test_damage_in_a_data_set_is_found(copies, tmp_path, load_script):
    store, network, _ = copies
    where = ["--model_path", network, "--dataset_path", tmp_path]
    write_captions(store.folder / "captions.jsonl", {"v001": ["a", "b"]}, {"encoder": {"name": "x"}})
    for name in each_damage(store.folder, ["captions.jsonl"]):
        with pytest.raises(InputError, match=name):
            read_captions(store.folder / name)
    for name in each_damage(store.folder, ["dataset.json", "neighbours.npz"]):
        with pytest.raises(InputError, match=f"{store.folder / name}: "):
            run_test(load_script, *where)
    for name in each_damage(store.folder, ["items.parquet"]):
        try:  # a changed byte that no column is made of changes nothing
            assert FeatureStore.open(store.folder).items.digest() == store.items.digest()
        except InputError as error:
            assert f"{store.folder / name}: " in str(error)
    values = np.load(store.folder / "visual.npy")
    values[3, 1, 2] += 1e-3
    for act in (lambda: run_test(load_script, *where), lambda: store.keep(np.arange(len(store)) > 0)):
        np.save(store.folder / "visual.npy", values)
        with pytest.raises(InputError, match=r"visual.npy: not the array that was written"):
            act()


def test_neighbours_are_known_again_by_their_similarities_too(copies, tmp_path, load_script):
    store, network, _ = copies
    where, found = ["--model_path", network, "--dataset_path", tmp_path], Neighbours.read(store)
    rng = np.random.default_rng(0)
    noise = rng.uniform(-1e-6, 1e-6, found.similarity.shape).astype("f4")
    one = found.similarity.copy()
    one[7, 2] += 0.01
    others = (-found.similarity, rng.permutation(found.similarity), found.similarity[:, ::-1], one)
    for similarity in others:  # each written as the project writes it, so that its bytes are whole
        made_anew(found, similarity).write(store)
        with pytest.raises(InputError, match="neighbours are those trained with, but their similarities are not"):
            run_test(load_script, *where)
        with pytest.raises(InputError, match="similarities are not; bring the old ones back"):
            resume(network, tmp_path)
    made_anew(found, found.similarity + noise, backend="of another machine").write(store)
    run_test(load_script, *where)
    resume(network, tmp_path)


def made_anew(found: Neighbours, similarity: np.ndarray, backend: str = "tests") -> Neighbours:
    return Neighbours(found.ids, similarity, found.k, found.bank, backend, found.fingerprint)


def resume(run: Path, dataset_path: Path, *more) -> None:
    words = ["--resume", run, "--dataset_path", dataset_path, *more]
    train.main(train.build_parser().parse_args([str(word) for word in words]))


def test_a_refused_resume_leaves_the_run_as_it_was(copies, tmp_path):
    _, network, _ = copies
    (network / manifest.FILE).unlink()  # so that it is refused late
    (network / "last.pt").write_bytes((network / "last.pt").read_bytes()[:-200])
    before = (network / "config.json").read_bytes()
    with pytest.raises(InputError, match="last.pt"):
        resume(network, tmp_path, "--epochs", "9")
    assert (network / "config.json").read_bytes() == before


@pytest.mark.parametrize("damage", ["lost", "cut", "of other items"])
def test_features_that_cannot_be_opened_are_made_anew_by_their_script(tmp_path, bert, damage):
    """With the same bytes: those of texts, and those of retrieval that are made of them."""
    bare_store(tmp_path)
    makers = {"textual": (textual_engineering, "--encoder", bert), "retrieval": (retrieval_engineering, *FROM_FEATURES)}
    for script, *flags in makers.values():
        call(script, tmp_path, *flags)
    for name, (script, *flags) in makers.items():
        path = tmp_path / "set" / f"{name}.npy"
        content = path.read_bytes()
        if damage == "lost":
            path.unlink()
        elif damage == "cut":
            path.write_bytes(content[:-7])
        else:
            np.save(path, np.load(path)[1:])
        with pytest.raises(InputError, match=re.escape(str(path))) as raised:
            call(script, tmp_path, *flags)
        assert f"feature_engineering/{name}_engineering.py " in commands.remedy(raised.value.lacks)
        assert "--overwrite" in commands.remedy(raised.value.lacks)
        assert call(script, tmp_path, *flags, "--overwrite") and path.read_bytes() == content


@pytest.mark.parametrize("part", ["features.npy", "done.jsonl", "head"])
def test_a_damaged_shard_of_a_job_is_made_anew(tmp_path, part, capsys):
    vectors = np.random.default_rng(0).standard_normal((10, 3, 4)).astype("f4")

    def work(progress: Progress, most: int) -> list[int]:
        made = []
        for number, units in list(progress.pending())[:most]:
            progress.commit(number, vectors[units.start : units.stop], captured={f"u{units.start}": {"real": 3}})
            made.append(number)
        return made

    def begun() -> Progress:
        return Progress.open(tmp_path / "job.progress", {"a": 1}, [f"u{i}" for i in range(10)], 2, restart=False)

    assert work(begun(), 3) == [0, 1, 2]
    path = tmp_path / "job.progress" / ("done.jsonl" if part == "done.jsonl" else "features.npy")
    content = path.read_bytes()
    if part == "done.jsonl":
        content = content.replace(b'{"u2": {"real": 3}}', b'{"u2": {"real": 2}}')
    elif part == "head":
        content = content.replace(b"'<f4'", b"'<i4'")
    else:
        content = content[: -6 * 48 - 5] + b"\x77" + content[-6 * 48 - 4 :]  # in the last row of shard 1
    assert content != path.read_bytes()
    path.write_bytes(content)
    progress = begun()
    assert "damaged" in capsys.readouterr().out
    assert work(progress, 9) == ([0, 1, 2, 3, 4] if part == "head" else [1, 3, 4])
    np.testing.assert_array_equal(progress.features, vectors)
    assert begun().notes("captured") == {f"u{i}": {"real": 3} for i in range(0, 10, 2)}
    for name in each_damage(tmp_path / "job.progress", ["settings.json", "units.json"]):
        with pytest.raises(InputError, match=name):
            begun()


# ---- interrupted imports -------------------------------------------------------------------------


def nus(place: Path) -> list:
    release = Release(place / "raw").write()
    rng = np.random.default_rng(0)
    names = ("histogram_feature.npz", "text_sentence2vec_feature.npz")
    for name in names:
        np.savez(release.folder / name, arr_0=rng.random((40, 5), "f4"))
    orders = [f"{name}=video_id" for name in (*names, "ground_truth.txt", "video_text.txt")]
    return ["data/NUS/preprocess.py", "--raw", release.folder, "--order", *orders]


def table(place: Path, *features: str) -> list:
    rng = np.random.default_rng(0)
    rows = "".join(f"{i:03},title {i},{i},{i % 7}\n" for i in range(40))
    (place / "t.csv").write_text(f"item_id,text,count,length\n{rows}")
    for name in features:
        np.save(place / f"{name}.npy", rng.random((40, 6), "f4"))
    flags = [word for name in features for word in (f"--{name}", place / f"{name}.npy")]
    named = ["--count_column", "count", "--metadata_columns", "length"]
    return ["data/import_features.py", "--table", place / "t.csv", *named, *flags]


IMPORTS = {
    "NUS": nus,
    "features": lambda place: table(place, "visual", "textual"),
    "metadata alone": table,
}


@pytest.mark.parametrize(
    "name", ["features", *(pytest.param(name, marks=pytest.mark.slow) for name in ("NUS", "metadata alone"))]
)
def test_an_import_that_is_killed_goes_on_with_the_same_command(tmp_path, load_script, monkeypatch, capsys, name):
    path, *flags = IMPORTS[name](tmp_path)
    script = load_script(path)

    def start(folder: str, *more) -> FeatureStore:
        words = [*flags, "--dataset_path", tmp_path / folder, "--dataset_id", "own", *more]
        script.main(script.build_parser().parse_args([str(word) for word in words]))
        return FeatureStore.open(tmp_path / folder / "own")

    whole, number = start("whole"), 0
    while stopped_at(monkeypatch, (number := number + 1), lambda at=number: start(f"killed{at}")):
        folder = tmp_path / f"killed{number}" / "own"
        if (folder / "dataset.json").exists():
            with refused("unfinished, as its import was stopped; the same command goes on"):
                FeatureStore.open(folder)
        assert start(f"killed{number}").fingerprint == whole.fingerprint
    assert number > {"NUS": 6, "features": 9, "metadata alone": 4}[name]
    capsys.readouterr()
    before = (whole.folder / "dataset.json").read_bytes()
    assert start("whole").fingerprint == whole.fingerprint
    assert f"{whole.folder}: finished already, nothing was missing" in capsys.readouterr().out
    assert (whole.folder / "dataset.json").read_bytes() == before
    with pytest.raises(InputError, match="a data set of other items or labels is here already; --overwrite"):
        start("whole", "--split_by", "random", "--split_seed", "7") if name == "NUS" else start(
            "whole", "--log_offset", "2"
        )


# ---- two at once ---------------------------------------------------------------------------------


def test_one_writer_at_a_time_and_any_number_of_readers(copies, tmp_path, load_script):
    store, network, _ = copies
    retriever = load_script("retriever.py")
    where = ["--dataset_path", str(tmp_path), "--dataset_id", "tiny"]
    writers = {
        network: lambda: resume(network, tmp_path, "--epochs", "4"),
        store.folder: lambda: retriever.main(
            retriever.build_parser().parse_args([*where, "--num_of_retrieved_items", "5"])
        ),
    }
    for folder, write in writers.items():
        with holding(folder) as (holder, child):
            before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
            for alive in ("holder", "what it started"):
                who = rf"{folder}: `-c .*` \(process {holder.pid} on .*, since 20.*\), or what it started, is writing"
                with pytest.raises(InputError, match=who):
                    write()
                if alive == "holder":
                    run_test(load_script, "--model_path", network, "--dataset_path", tmp_path, "--save", tmp_path)
                    holder.kill()  # what it started holds the lock too
                    holder.wait()
            assert {path: path.read_bytes() for path in before} == before
            os.kill(child, signal.SIGKILL)
        deadline = time.monotonic() + 20
        while True:
            try:
                write()  # nobody holds it any more
                break
            except InputError:
                assert time.monotonic() < deadline
                time.sleep(0.05)


@pytest.mark.slow
def test_two_resumptions_at_once_end_in_one_run(copies, tmp_path):
    _, network, _ = copies
    resume(twin := shutil.copytree(network, tmp_path / "twin"), tmp_path, "--epochs", "60")
    words = [sys.executable, "train.py", "--resume", str(network), "--dataset_path", str(tmp_path), "--epochs", "60"]
    both = []
    for _ in range(2):
        both.append(subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        time.sleep(0.1)
    said = [one.communicate()[1] for one in both]
    codes = [one.returncode for one in both]
    assert sorted(codes) == [0, 2], said
    assert "is writing here; wait until that has ended" in said[codes.index(2)]
    assert same_weights(network, twin)


def same_weights(run: Path, other: Path) -> bool:
    one, two = (load_file(folder / "best.safetensors") for folder in (run, other))
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


# ---- power cuts ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_power_cut_in_training_costs_at_most_the_epoch(made, tmp_path, monkeypatch):
    """At each moment what is on the disk is a run without damage, which goes on to the same bits, or no run yet."""
    store, whole, _ = made
    (save := tmp_path / "runs").mkdir()
    with recorded(save, monkeypatch) as disk:
        trained(store, save, *NETWORK)
    assert len(disk.states) > 20
    resumed = 0
    for number, state in enumerate(disk.states):
        place = restore(state, tmp_path / f"cut{number}")
        runs = [path.parent for path in place.glob("*/config.json")]
        for run in runs:
            assert manifest.damaged(run) == []
            resume(run, store.folder.parent)
            resumed += 1
            assert same_weights(run, whole)
            history, other = ([json.loads(line) for line in (one / "history.jsonl").open()] for one in (run, whole))
            assert [one | {"seconds": 0} for one in history] == [one | {"seconds": 0} for one in other]
    assert resumed > 15


@pytest.mark.slow
def test_a_power_cut_in_an_import_costs_nothing(tmp_path, load_script, monkeypatch):
    path, *flags = table(tmp_path, "visual", "textual")
    script = load_script(path)

    def start(folder: Path) -> FeatureStore:
        words = [*flags, "--dataset_path", folder, "--dataset_id", "own"]
        script.main(script.build_parser().parse_args([str(word) for word in words]))
        return FeatureStore.open(folder / "own")

    (tmp_path / "data").mkdir()
    with recorded(tmp_path / "data", monkeypatch) as disk:
        whole = start(tmp_path / "data")
    assert len(disk.states) > 20
    for number, state in enumerate(disk.states):
        store = start(restore(state, tmp_path / f"cut{number}"))
        assert store.fingerprint == whole.fingerprint and store.check_features(*store.features) == []
