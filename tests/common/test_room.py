"""A full disk: one line with the file's name and what it takes; what was there stays; with room it goes on."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from tiny import make_store, refused, trained

import train
from common.files import write_json, written_beside
from common.room import naming
from engine.run import Run

resource = pytest.importorskip("resource")
NETWORK = ("--feature_dim", 8, "--lr", "1e-3", "--epochs", 2, "--num_of_retrieved_items", 5)
NEEDS = r"no room on the disk: it takes (more than the )?[\d.,]+ [kM]B"


@contextlib.contextmanager
def largest_file(size: int):
    """No file becomes larger than `size` bytes: as on a full disk, writing ends with an error in the middle."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def files(folder) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory):
    return files(trained(store, tmp_path_factory.mktemp("whole"), *NETWORK))


@pytest.mark.parametrize(("size", "name"), [(100, "config.json"), (2800, "best.safetensors"), (2_000_000, "last.pt")])
def test_training_that_finds_no_room_goes_on_to_the_same_bits(store, whole, tmp_path, size, name):
    with largest_file(size), refused(f"{re.escape(name)}: {NEEDS}"):
        trained(store, tmp_path, *NETWORK)
    assert not [path for path in tmp_path.rglob("*") if "partial" in path.name]
    if name == "config.json":
        assert not list(tmp_path.iterdir())  # no run was begun
        return
    (run,) = tmp_path.iterdir()
    train.main(train.build_parser().parse_args(["--resume", str(run)]))
    found = files(run)
    assert all(found[name] == whole[name] for name in ("best.safetensors", "last.pt"))
    assert [one | {"seconds": 0} for one in Run(run, {}).history()] == [
        one | {"seconds": 0} for one in map(json.loads, whole["history.jsonl"].decode().splitlines())
    ]


@pytest.mark.parametrize(
    ("method", "flags", "size", "name"),
    [
        ("Hyfea", ("--trees", 20, "--depth", 4), 2900, "best.cbm"),
        ("MFTM", ("--trees", 5, "--epochs", 1), 4000, "lightgbm_0.txt"),
        ("MFTM", ("--trees", 1, "--epochs", 1), 8000, "tabnet.zip"),
        ("SVR", (), 2900, "best.npz"),
    ],
)
def test_what_a_library_saves(store, tmp_path, capfd, method, flags, size, name):
    with largest_file(size), refused(f"{re.escape(name)}: {NEEDS}"):
        trained(store, tmp_path, "--model_id", method, *flags)
    (run,) = tmp_path.iterdir()
    assert {path.name for path in run.iterdir()} - {".lock", "manifest.jsonl"} <= {
        "config.json",
        "log.txt",
        "lightgbm_0.txt",
    }
    assert capfd.readouterr().err == ""


def test_what_is_written_beside_its_place(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    before = files(tmp_path)
    with largest_file(500):
        with refused(rf"a.json: {NEEDS}.* \(File too large\)"):
            write_json(path, {"a": "x" * 1000})
        with refused(f"a.json: {NEEDS}"), written_beside(path) as partial:
            np.save(partial.open("wb"), np.zeros(1000))
        with refused(f"a.json: {NEEDS}"), written_beside(path) as partial:
            partial.write_bytes(b"x" * 400)
            raise RuntimeError("of a library that says nothing of the disk")
    assert files(tmp_path) == before
    with pytest.raises(RuntimeError, match="a bug"), written_beside(path):
        raise RuntimeError("a bug")  # where there is room it is told of as it is


def test_an_error_of_reading_names_its_file(tmp_path):
    with refused(f"{tmp_path}/a: Input/output error"), naming(tmp_path / "a"):
        raise OSError(5, "Input/output error")
    with pytest.raises(FileNotFoundError), naming(tmp_path / "a"):
        (tmp_path / "b").read_bytes()  # which names its own


ON_A_SMALL_DISK = """
import subprocess, sys
from pathlib import Path
import train
from common.console import InputError

place, best, words = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
def sized(size):
    subprocess.run(["mount", "-o", f"remount,size={size}", place], check=True)
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "none", place], check=True)
for pages in (2, 4, 8, 30, 100, 224, 230, 240, 900, 1000):
    save = place / str(pages)
    sized(4096 * pages)
    try:
        train.main(train.build_parser().parse_args([*words, "--save", str(save)]))
        print("SAID", pages, "nothing")
    except (InputError, OSError) as error:  # of which run_script makes a line
        print("SAID", pages, error)
    sized(20 << 20)
    for run in save.glob("*/config.json"):
        train.main(train.build_parser().parse_args(["--resume", str(run.parent)]))
        print("BITS", pages, (run.parent / "best.safetensors").read_bytes() == best.read_bytes())
    subprocess.run(["rm", "-rf", save], check=True)
"""


@pytest.mark.slow
def test_small_disks(store, tmp_path):
    whole = trained(store, tmp_path / "whole", *NETWORK)
    place = tmp_path / "disk"
    place.mkdir()
    unshared = ["unshare", "--map-root-user", "--mount"]
    if subprocess.run([*unshared, "mount", "-t", "tmpfs", "none", place], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    where = ["--dataset_path", store.folder.parent, "--dataset_id", "tiny"]
    words = [*unshared, sys.executable, "-c", ON_A_SMALL_DISK, place, whole / "best.safetensors", *where, *NETWORK]
    done = subprocess.run([*map(str, words)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    said = [line for line in done.stdout.splitlines() if line.startswith("SAID")]
    bits = [line for line in done.stdout.splitlines() if line.startswith("BITS")]
    assert len(said) == 10 and sum("no room on the disk" in line for line in said) >= 8, said
    assert len(bits) >= 8 and all(line.endswith("True") for line in bits), bits
