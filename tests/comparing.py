"""baselines/compare.py in the process of the tests, its cells too: seconds instead of minutes."""

from __future__ import annotations

import contextlib
import io
import signal
from pathlib import Path

import pytest

import baselines.testing
import engine.bootstrap
import engine.significance
from baselines.comparison import children
from common.console import InputError

SMALL = "--feature_dim 8 --lr 1e-3 --epochs 2 --num_of_retrieved_items 5"


@pytest.fixture(scope="session")
def scripts_here(load_script):
    """The scripts that compare.py starts, as modules, and what takes the place of Children._wait."""
    children_of = ("train.py", "test.py", "retriever.py", "feature_engineering/retrieval_engineering.py")
    scripts = {name: load_script(name) for name in children_of}

    def wait(self, words, file) -> int:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = exit_code(lambda: scripts[words[0]].main(scripts[words[0]].build_parser().parse_args(words[1:])))
        file.write(printed.getvalue().encode() + (b"" if code in (0, 130) else f"error {code}\n".encode()))
        return 0 if code == 0 else 2

    return scripts, wait


@pytest.fixture(scope="session")
def children_here(scripts_here):
    """Children whose scripts run in this process."""

    class Here(children.Children):
        _wait = scripts_here[1]

    return Here(None)


@pytest.fixture(scope="module")
def compare(load_script, scripts_here):
    """compare(store, save, *flags) in this process, its cells too: seconds instead of minutes; its exit code."""
    script, (_, wait) = load_script("baselines/compare.py"), scripts_here

    def call(store, save, *flags):
        where = ("--dataset_path", store.folder.parent, "--dataset_id", store.folder.name, "--save", save)
        words = [str(word) for word in (*where, *flags)]
        handler = signal.getsignal(signal.SIGTERM)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(children.Children, "_wait", wait)
            patch.setattr(baselines.testing, "draw", lambda *_: None)  # a run's pictures have tests elsewhere
            patch.setattr(engine.bootstrap, "RESAMPLES", 100)
            patch.setattr(engine.significance, "FLIPS", 99)
            try:
                return exit_code(lambda: script.main(script.build_parser().parse_args(words)))
            finally:
                signal.signal(signal.SIGTERM, handler)

    return call


def exit_code(work) -> int | str:
    try:
        work()
    except SystemExit as end:
        return end.code
    except InputError as error:
        return str(error)
    return 0


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
