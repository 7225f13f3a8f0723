"""What the tests share: the data that not every machine has, and running a script as a user does."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import skops.io  # noqa: F401 before transformers: at its first import it asks every module for all that it could load

# Two test processes on two cores: a thread each, or they wait for one another. What tests start inherits it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
pytest_plugins = ["tiny_encoders", "comparing", "encoded", "browsing"]
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared data (MMRA_SHARED, by default ../shared beside the repository), or skip."""
    folder = Path(os.environ.get("MMRA_SHARED", ROOT / "../shared")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}; MMRA_SHARED names another place")
    return folder


@pytest.fixture(scope="session")
def run() -> Callable[..., subprocess.CompletedProcess]:
    """run("data/NUS/preprocess.py", "--raw", folder): a script, from the repository's root, its output captured."""

    def run_script(*command, **options) -> subprocess.CompletedProcess:
        words = [sys.executable, *map(str, command)]
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", **options)

    return run_script


@pytest.fixture(scope="session")
def load_script() -> Callable[[str], ModuleType]:
    """load_script("data/import_features.py"): a script outside the packages, as a module to call in-process."""

    def load(path: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
        return module

    return load
