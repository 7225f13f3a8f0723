"""Loading an encoder by transformers, and what both feature scripts share around it."""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors import SafetensorError

from dataloader.console import InputError, add_dataset_flags, listed, whole_number
from dataloader.device import add_device_flag
from dataloader.files import require_writable
from dataloader.scaling import MODES, add_normalised
from dataloader.store import DTYPES, FeatureStore, next_steps

PROGRESS = {"disable": None, "dynamic_ncols": True}  # no bar where stderr is not a terminal


def add_encoder_flags(parser: argparse.ArgumentParser, batch_size: int) -> None:
    """The flags that the two feature scripts share."""
    add_dataset_flags(parser)
    parser.add_argument("--encoder", required=True, help="hub name, or folder that transformers loads the encoder from")
    parser.add_argument("--revision", help="revision (commit, tag) of a hub encoder; the newest without it")
    parser.add_argument("--batch_size", type=whole_number(1), default=batch_size, help="inputs encoded at once")
    add_device_flag(parser)
    parser.add_argument("--dtype", default="float32", choices=DTYPES, help="precision of the stored features")
    parser.add_argument(
        "--normalise",
        default="none",
        choices=MODES,
        help="l2: each vector to length 1; standard: each dimension to mean 0, variance 1 over split train; "
        "standard+l2: one after the other",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace features that are already there")


def load_pretrained(loader, name: str, revision: str | None, **options):
    """`loader.from_pretrained`, its many failures turned into one line that names the encoder."""
    if not sys.stderr.isatty():
        transformers.utils.logging.disable_progress_bar()
    try:
        return loader.from_pretrained(name, revision=revision, **options)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"--encoder {name}: transformers cannot load it ({reason}); give a hub name or a local folder"
        ) from None


def load_encoder(name: str, revision: str | None, device: torch.device, loader) -> torch.nn.Module:
    """An encoder in float32 and inference mode on `device`; never by executing code from the hub."""
    options = {"dtype": torch.float32, "trust_remote_code": False, "use_safetensors": True, "output_loading_info": True}
    model, report = load_pretrained(loader, name, revision, **options)
    if missing := sorted(key for key in report["missing_keys"] if "pooler" not in key):  # poolers are not used
        raise InputError(
            f"--encoder {name}: its checkpoint lacks {len(missing)} of the network's weights ({listed(missing)})"
        )
    return model.eval().to(device)


def provenance(model: torch.nn.Module, name: str, **settings) -> dict:
    """What dataset.json says of an encoder: its name, and its hub commit or the hash of its weights."""
    commit = getattr(model.config, "_commit_hash", None)
    if commit is None:
        sha = hashlib.sha256()
        for key, tensor in sorted(model.state_dict().items()):
            sha.update(key.encode() + tensor.cpu().contiguous().numpy().tobytes())
        commit = f"weights-sha256:{sha.hexdigest()[:16]}"
    # A local folder is named without its place: a data set says what made it, not where that lay.
    label = Path(name).name if Path(name).is_dir() else name
    return {"encoder": {"name": label, "revision": commit, **settings}}


def write_features(store: FeatureStore, names: list[str], array: np.ndarray, args, source: dict) -> None:
    for name in names:
        add_normalised(store, name, array, args.normalise, dtype=args.dtype, overwrite=args.overwrite, **source)
        shape = " x ".join(map(str, array.shape))
        print(f"{store.folder / name}.npy: {shape} {args.dtype}, data set fingerprint {store.fingerprint}")
    print(next_steps(store))


def check_before_encoding(store: FeatureStore, names: list[str], args: argparse.Namespace) -> None:
    """What would fail after hours of encoding, asked before them."""
    require_writable(store.folder)
    if "standard" in args.normalise:
        store.rows("train")  # its statistics; complains where the split is empty
    if args.revision and Path(args.encoder).is_dir():
        raise InputError(f"--revision {args.revision}: is for encoders from the hub, and {args.encoder} is a folder")
    if not args.overwrite and (there := [name for name in names if name in store.arrays]):
        raise InputError(f"{store.folder}: {' and '.join(there)} features are here already; --overwrite replaces them")
