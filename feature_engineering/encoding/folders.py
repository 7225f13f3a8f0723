"""What an encoder's folder says: which modules it is made of, its prompts, and whether its weights can be read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from common.console import InputError, listed
from common.files import read_json
from common.room import naming

MODULES = "modules.json"  # A folder of sentence-transformers has it.
SENTENCES = "config_sentence_transformers.json"
READABLE = ("model*.safetensors", "pytorch_model*.bin")
UNREADABLE = {  # file name -> what such weights are called
    "*.onnx": "ONNX",
    "openvino_model*.xml": "OpenVINO",
    "tf_model*.h5": "TensorFlow",
    "flax_model*.msgpack": "Flax",
    "*.gguf": "GGUF",
    "adapter_model.*": "an adapter (PEFT)",
}
WITHOUT_WEIGHTS = ("Pooling", "Normalize", "Dropout")


@dataclass(frozen=True)
class Module:
    """One of the modules that sentence-transformers applies one after the other: its class, and where its files are."""

    type: str
    path: str

    @property
    def kind(self) -> str:
        return self.type.rpartition(".")[2]


def modules_of(folder: Path, label: str) -> list[Module]:
    """Of a folder of sentence-transformers, none of any other; InputError where a module is of the folder's code."""
    if not (folder / MODULES).exists():
        return []
    try:
        with naming(folder / MODULES):
            said = json.loads((folder / MODULES).read_text("utf-8"))
        modules = [Module(str(one["type"]), str(one["path"])) for one in said]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise InputError(
            f"--encoder {label}: its {MODULES} is no list of modules, each with a type and a path"
        ) from None
    if foreign := [one.type for one in modules if not one.type.startswith("sentence_transformers.")]:
        raise InputError(
            f"--encoder {label}: its modules are of code that came with it ({listed(foreign)}), which is not executed"
        )
    kind = _said(folder).get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        raise InputError(
            f"--encoder {label}: a {kind} of sentence-transformers, which gives a text no vector of its own"
        )
    return modules


def prompts_of(folder: Path) -> tuple[dict[str, str], str | None]:
    """The prompts of a folder of sentence-transformers by name, and the name of the one that is its default."""
    said = _said(folder)
    prompts = said.get("prompts") or {}
    return {name: prompt for name, prompt in prompts.items() if prompt}, said.get("default_prompt_name")


def _said(folder: Path) -> dict:
    return read_json(folder / SENTENCES) if (folder / SENTENCES).exists() else {}


def require_weights(folder: Path, label: str) -> None:
    """InputError where the weights are there in layouts alone that are not read. What is missing is told on loading."""
    refuse_layouts([path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()], label)


def refuse_layouts(files: Iterable[str], label: str) -> None:
    """`require_weights` of the paths of the files."""
    files = sorted(files)
    if any(fnmatch(PurePosixPath(file).name, pattern) for file in files for pattern in READABLE):
        return
    found = {kind: file for pattern, kind in UNREADABLE.items() for file in files if fnmatch(file, f"*{pattern}")}
    if found:
        kinds = " and ".join(f"{kind} ({file})" for kind, file in found.items())
        raise InputError(
            f"--encoder {label}: its weights are there as {kinds} alone, which is not read; take a model that has "
            "model.safetensors"
        )


def lacking_weights(folder: Path, label: str) -> list[str]:
    """Parts of a downloaded model that have no safetensors, as folders in it; "" is the model itself."""
    modules = modules_of(folder, label) or [Module("", "")]
    paths = [module.path for module in modules if module.kind not in WITHOUT_WEIGHTS]
    return [path for path in paths if not any((folder / path).glob("*.safetensors"))]
