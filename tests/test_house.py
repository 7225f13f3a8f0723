"""The rooms: who may import whom, and that no floor names one above it."""

from __future__ import annotations

import ast
import re
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT

from common.console import InputError
from common.devices import pick_device, pick_precision

ROOMS = {  # room -> the rooms that it may import
    "common": set(),
    "model": set(),
    "dataloader": {"common"},
    "engine": {"common", "dataloader", "model"},
    "baselines": {"common", "dataloader", "engine", "model"},
    "feature_engineering": {"common", "dataloader"},
    "prediction": {"common", "dataloader", "engine", "baselines", "feature_engineering"},
    "benchmarks": {"common", "dataloader", "engine", "model", "baselines", "feature_engineering", "prediction"},
}
ALL = {*ROOMS, "commands", "train", "retriever", "test", "data"}
# Above these rooms: what they must not name, not even in a message.
ABOVE = re.compile(r"\b(retriever|train|test|compare|tune|preprocess|import_features|\w+_engineering)\.py\b")


def files(room: str):
    for path in sorted((ROOT / room).rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), path.read_text("utf-8")


def imported(text: str) -> set[str]:
    """The top-level names that a file imports when it runs; what is for a type checker alone is no import."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_down(room):
    for name, text in files(room):
        allowed = ROOMS[room] | {room}
        if "build_parser" in text or "__main__" in text:
            allowed |= {"commands"}
        assert imported(text) & ALL <= allowed, f"{name} imports {imported(text) & ALL - allowed}"


@pytest.mark.parametrize("room", ["common", "model", "dataloader", "engine"])
def test_no_floor_names_one_above_it(room):
    for name, text in files(room):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not ABOVE.search(node.value), f"{name}: {node.value[:80]!r}"


def test_a_baseline_imports_no_other():
    for folder in (ROOT / "baselines").iterdir():
        if folder.is_dir() and folder.name not in ("comparison", "tuning"):
            for path in folder.glob("*.py"):
                others = re.findall(r"from baselines\.(\w+)", path.read_text("utf-8"))
                assert set(others) <= {folder.name}, path


def test_every_room_says_what_belongs_in_it():
    for path in ROOT.rglob("__init__.py"):
        if ".venv" not in path.parts and "tests" not in path.parts:
            assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), path


def test_what_a_device_cannot_do_is_refused_in_one_place(monkeypatch):
    cuda = SimpleNamespace(type="cuda")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "an old card")
    assert pick_precision("auto", cuda) is torch.float32  # what it has
    with pytest.raises(InputError, match="--precision bf16: an old card has no bfloat16; take fp32"):
        pick_precision("bf16", cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert pick_precision("auto", cuda) is pick_precision("bf16", cuda) is torch.bfloat16
    cpu = torch.device("cpu")
    assert pick_precision("auto", cpu) is torch.float32 and pick_precision("bf16", cpu) is torch.bfloat16
    for name in ("nonsense", "cuda:77", "meta", "xpu"):
        with pytest.raises(InputError, match=f"--device {name}: not on this machine"):
            pick_device(name)
