"""Loading an encoder by transformers, pinned and offline where asked; what a data set says of it."""

from __future__ import annotations

import hashlib
import socket
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    StrictDataclassError,
)
from safetensors import SafetensorError

from common.console import InputError, in_one_line, listed
from common.devices import pick_precision
from feature_engineering.encoding.folders import READABLE, lacking_weights, refuse_layouts, require_weights
from feature_engineering.settings import EncoderSettings

# What libraries raise on files that are no encoder's.
LOADING = (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError, TypeError, EOFError)
LOADING += (AttributeError, StrictDataclassError)
HUB_FILES = ["*.json", "*.txt", "*.model", "*.jinja", "*.safetensors"]
UNUSED = ("pooler", "masked_spec_embed")  # parts of names of weights that act on no feature, and may be missing


@dataclass(frozen=True)
class Source:
    """An encoder's files: `label` and `revision` say in a data set what made it; None: the hash of the weights."""

    folder: Path
    label: str
    revision: str | None


class Encoder:
    """What every encoder is: made by `remake(settings, *more)`, and made anew of the same files where it is unpickled.

    engine: where its shards are made.
    """

    model: torch.nn.Module

    def __init__(self, source: Source, settings: EncoderSettings, remake: Callable[..., Encoder], *more: Any):
        self.source, self.batch_size, self.engine = source, settings.batch_size, settings.engine
        self._remake, self._settings, self._more = remake, settings, more

    def __reduce__(self) -> tuple:
        weights, source = next(self.model.parameters()), self.source
        files = f"{source.label}@{source.revision}" if source.revision else str(source.folder.resolve())
        precision = {torch.float32: "fp32", torch.bfloat16: "bf16"}[weights.dtype]
        same = replace(self._settings, encoder=files, device=weights.device.type, precision=precision)
        return _made_again, (revision_of(self.model, source), self._remake, same, *self._more)


def _made_again(revision: str, remake: Callable[..., Encoder], settings: EncoderSettings, *more: Any) -> Encoder:
    encoder = remake(settings, *more)
    if (found := revision_of(encoder.model, encoder.source)) != revision:
        where = f"on {socket.gethostname()}"
        raise InputError(f"--encoder {settings.encoder}: other weights {where} ({found}) than here ({revision})")
    return encoder


def fetch(name: str) -> Source:
    """`folder`, or `owner/name[@revision]` from the hub's cache, brought up to date where there is a network."""
    if Path(name).is_dir():
        # A data set says which encoder made its features, so the folder's own name is kept and not its whole path.
        return Source(Path(name), Path(name).resolve().name, None)
    repository, _, revision = name.partition("@")
    if name.startswith((".", "/", "~")):
        raise InputError(f"--encoder {name}: no such folder")
    try:
        folder = snapshot_download(repository, revision=revision or None, allow_patterns=HUB_FILES)
        if lacking := lacking_weights(Path(folder), repository):
            # Older repositories have .bin files alone. Those are pickles: they are read as plain tensors, and no code
            # in them is run.
            pickles = [f"{path}/*.bin" if path else "*.bin" for path in lacking]
            folder = snapshot_download(repository, revision=revision or None, allow_patterns=[*HUB_FILES, *pickles])
            _name_layouts(repository, revision or None, Path(folder))
    except LocalEntryNotFoundError:
        raise InputError(
            f"--encoder {name}: neither a folder nor in the hub's cache, and the hub cannot be reached; where there "
            f"is a network, get it with: hf download {repository}{f' --revision {revision}' * bool(revision)}"
        ) from None
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        raise InputError(f"--encoder {name}: neither a folder nor a model of the hub ({first_line(error)})") from None
    return Source(Path(folder), repository, Path(folder).name)


def _name_layouts(repository: str, revision: str | None, folder: Path) -> None:
    """InputError where the hub has weights in layouts alone that are not read, and so were not downloaded."""
    if not any(any(folder.rglob(pattern)) for pattern in READABLE):
        try:
            files = HfApi().list_repo_files(repository, revision=revision)
        except Exception:  # of many libraries; transformers will say what is missing, if not what is there
            return
        refuse_layouts(files, repository)


def load_pretrained(loader, source: Source, **options):
    """`loader.from_pretrained`, its many failures turned into one line that names the encoder."""
    with told_in_a_line(source):
        return loader.from_pretrained(source.folder, trust_remote_code=False, local_files_only=True, **options)


@contextmanager
def told_in_a_line(source: Source, library: str = "transformers") -> Iterator[None]:
    """Failures of a library that loads an encoder, as an InputError."""
    if not sys.stderr.isatty():
        transformers.utils.logging.disable_progress_bar()
    try:
        yield
    except InputError:
        raise
    except LOADING as error:
        if "trust_remote_code" in str(error):
            raise InputError(
                f"--encoder {source.label}: needs code that came with it (trust_remote_code), which is never executed"
            ) from None
        raise InputError(f"--encoder {source.label}: {library} cannot load it ({first_line(error)})") from None
    except Exception as error:
        # Where a file holds more than plain tensors, torch refuses it with an exception of pickle's.
        if type(error).__module__ not in ("_pickle", "pickle"):
            raise
        raise InputError(f"--encoder {source.label}: its weights are no plain tensors, so not loaded") from None


def load_encoder(source: Source, device: torch.device, precision: str, loader) -> torch.nn.Module:
    """An encoder in inference mode on `device`; never by executing code that came with it."""
    require_weights(source.folder, source.label)
    model, report = load_pretrained(loader, source, dtype=torch.float32, output_loading_info=True)
    require_complete(report, source.label)
    # The hash is of the weights of the checkpoint, before they are rounded.
    model.weights_hash = hash_of(model, report["missing_keys"])
    return model.eval().to(device, pick_precision(precision, device))


def require_complete(report: dict, label: str) -> None:
    """InputError where transformers reports, on loading, that weights are missing."""
    # A checkpoint may lack the weights of a pooler, as no feature is taken from behind one, and what hides sound from a
    # model that learns.
    if missing := sorted(key for key in report["missing_keys"] if not any(part in key for part in UNUSED)):
        raise InputError(f"--encoder {label}: its checkpoint lacks {len(missing)} of the weights ({listed(missing)})")


def provenance(model: torch.nn.Module, source: Source, **settings) -> dict:
    """What dataset.json says of an encoder: its name, hub commit or hash of its weights, and how it was run."""
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    said = {"name": source.label, "revision": revision_of(model, source), "dtype": dtype, **settings}
    # Where it lay, for videos that arrive later; the name and the revision say what it is.
    return {"encoder": said | ({"folder": str(source.folder.resolve())} if source.revision is None else {})}


def revision_of(model: torch.nn.Module, source: Source) -> str:
    return source.revision or f"weights-sha256:{model.weights_hash}"


def hash_of(model: torch.nn.Module, missing: Collection[str] = ()) -> str:
    """missing: weights that the checkpoint lacks, which are other ones each time that it is loaded."""
    sha = hashlib.sha256()
    for key, tensor in sorted((key, tensor) for key, tensor in model.state_dict().items() if key not in missing):
        sha.update(key.encode() + tensor.contiguous().numpy().tobytes())
    return sha.hexdigest()[:16]


def to_device(batch: np.ndarray, model: torch.nn.Module) -> torch.Tensor:
    """A batch on the model's device, in its precision; on CUDA from pinned memory, copied while the GPU computes."""
    parameter, tensor = next(model.parameters()), torch.from_numpy(batch)
    if parameter.device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(parameter.device, non_blocking=True).to(parameter.dtype)


def first_line(error: Exception) -> str:
    line = next((line for line in str(error).splitlines() if line.strip(" :")), type(error).__name__)
    return in_one_line(line.strip(" :"), most=1000)
