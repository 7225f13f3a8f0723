"""How command lines end where a stream is closed or full, or Ctrl-C comes while they import; as a shell runs them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import ROOT
from tiny import make_store


def shell(line: str, *words) -> subprocess.CompletedProcess:
    command = ["bash", "-o", "pipefail", "-c", line, "bash", sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data") / "tiny")


@pytest.mark.slow
def test_stderr_is_closed(store, tmp_path):
    where = ["--dataset_path", store.folder.parent, "--dataset_id", "tiny", "--save", tmp_path]
    words = ["train.py", *where, "--feature_dim", 8, "--epochs", 1, "--num_of_retrieved_items", 5]
    done = shell('"$@" 2>&-', *words)
    assert done.returncode == 0 and "next: python test.py" in done.stdout
    (run,) = tmp_path.iterdir()
    assert (run / "log.txt").read_text() == done.stdout  # nothing else was written into it


@pytest.mark.slow
def test_nobody_reads_on_or_there_is_no_room_for_what_is_printed(store):
    piped = shell('"$@" | head -1', "-m", "dataloader.store", store.folder)
    assert piped.stderr == "" and piped.stdout.count("\n") == 1
    full = shell('"$@" > /dev/full', "-m", "dataloader.store", store.folder)
    assert full.returncode == 2 and full.stderr.count("\n") == 1 and "no room for what is printed" in full.stderr


@pytest.mark.parametrize("script", ["train.py", "feature_engineering/match_image_feature_to_video_item.py"])
def test_ctrl_c_while_it_imports(tmp_path, monkeypatch, script):
    """A numpy that sends it, as soon as it is imported, and makes another exception of it."""
    code = (
        "import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\nexcept BaseException:\n    raise ImportError"
    )
    (tmp_path / "numpy.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    done = shell('"$@"', ROOT / script, "--help")
    assert (done.returncode, done.stderr) == (130, f"\n{script.rpartition('/')[2]}: interrupted\n")
