"""Train one method on one data set; every run gets a folder of its own with all it takes to repeat, resume and test it.

Differs from the published defaults in shuffling (--no_shuffle), in metrics over the whole validation split, and in what
--frame_num and --label_dim default to: what the data set holds. Each method has flags and defaults of its own:
python train.py --model_id HMMVED --help shows another's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from baselines import METHODS, build, method_of, recipe
from baselines.parser import MethodParser, preparse
from dataloader.batches import Split, open_split
from dataloader.console import InputError, add_dataset_flags, dataset_folder, run_script
from dataloader.device import add_device_flag, pick_device
from dataloader.files import require_writable
from dataloader.neighbours import Neighbours
from dataloader.store import FeatureStore
from engine.config import check_config
from engine.network import Training
from engine.recipe import RETRIEVAL, dimensions
from engine.run import Run
from engine.seeding import seed_everything

EPILOG = "Another method's flags and published defaults: python train.py --model_id NAME --help"
RESUMABLE = ("resume", "epochs", "device", "dataset_path")  # what may be typed beside --resume


def build_parser(model_id: str = "MMRA", preset: str | None = None) -> MethodParser:
    """The flags of one method; what it parses may name another, whose flags then hold."""
    parser = MethodParser(build_parser, named_method, model_id, preset, description=__doc__, epilog=EPILOG)
    parser.help_flags = f"--model_id {model_id} --help"
    flags = recipe(model_id).groups(preset)
    where = parser.add_argument_group("data and place")
    add_dataset_flags(where)
    where.add_argument("--save", default="train_results", help="folder in which the run's folder is made")
    where.add_argument(
        "--resume", metavar="RUN", help="go on with the run in this folder, from its last finished epoch"
    )
    add_device_flag(where)
    where.add_argument("--model_id", default="MMRA", help=f"method: {', '.join(METHODS)}")
    for title, named in flags.items():
        group = where if title == "data" else parser.add_argument_group(model_id if title == "model" else title)
        for name, flag in named.items():
            flag.add(group, name)
    return parser


def named_method(words: list[str]) -> tuple[str, str | None]:
    """The method and preset that a command line names; with --resume they are the run's."""
    given = preparse(words, "model_id", "preset", "resume")
    if given["resume"] is not None:
        return method_of(Run.open(given["resume"], "--resume")), None
    model_id = given["model_id"] or "MMRA"
    return model_id, given["preset"] if given["preset"] in recipe(model_id).presets else None


def main(args) -> None:
    run = Run.open(args.resume, "--resume") if args.resume else None
    if run is not None:
        args = resumed_settings(args, run)
    device = pick_device(args.device)
    method_recipe = recipe(args.model_id)
    check_feature_num(args)
    method_recipe.check(vars(args), getattr(args, "typed", {}))
    require_writable(run.folder if run else Path(args.save))
    store = FeatureStore.open(dataset_folder(args), need=("visual", "textual"))
    for warning in store.check_features("visual", "textual"):
        print(f"warning: {warning}", file=sys.stderr)
    neighbours = Neighbours.read(store) if method_recipe.retrieves(vars(args)) else None
    train, valid = (open_training_split(store, split, args, neighbours) for split in ("train", "valid"))
    check_labels(args, store, train, valid)
    # The items to be tested, without their labels: a transductive method learns from their features too.
    transductive = method_recipe.is_transductive
    unlabelled = open_split(store, "test", frame_num=args.frame_num).unlabelled() if transductive else None
    arguments = method_recipe.arguments(vars(args), dimensions(store, len(train.frames)))
    config = run_config(args, store, neighbours, arguments)
    if run is None:
        run = Run.create(args.save, f"{args.model_id}_{args.dataset_id}", config)
    else:
        check_same_data(run, config)
        run.change_settings(epochs=args.epochs)

    seed_everything(args.seed)
    method = build(args.model_id, store.family, arguments, Training.from_settings(vars(args)), device, run)
    run.log(
        f"{'resuming' if args.resume else 'run'} {run.folder}: {args.model_id} ({store.family}) on {store.folder}, "
        f"{len(train)} train and {len(valid)} valid videos, {method.device}"
    )
    history = method.fit(train, valid, unlabelled)
    report(run, history)


def resumed_settings(args: argparse.Namespace, run: Run) -> argparse.Namespace:
    """The run's own settings; a typed flag that says otherwise is an error, but for those in RESUMABLE."""
    model_id = method_of(run)
    check_config(run, recipe(model_id))
    if not recipe(model_id).is_network:
        raise InputError(
            f"--resume {run.folder}: {model_id} is fitted in one go and leaves no half-way state; train it anew"
        )
    settings = dict(run.config["settings"])
    if set(settings) != set(vars(args)) - {"typed", "resume"}:
        raise InputError(f"--resume {run.folder}: its config.json has other settings than this version; train anew")
    settings["metric"] = tuple(settings["metric"])
    for flag, value in args.typed.items():
        if flag not in RESUMABLE and value != settings[flag]:
            raise InputError(
                f"--{flag} {value} contradicts the run {run.folder}, which has {settings[flag]}; leave it out"
            )
    typed = {flag: args.typed[flag] for flag in RESUMABLE[1:] if flag in args.typed}
    return argparse.Namespace(**settings | typed, resume=args.resume)


def check_feature_num(args) -> None:
    if args.feature_num != 2:
        raise InputError(
            f"--feature_num {args.feature_num}: it is the number of feature kinds, and {args.model_id} takes 2, "
            "visual and textual (the width of the features is --feature_dim)"
        )


def open_training_split(store: FeatureStore, split: str, args, neighbours: Neighbours | None) -> Split:
    retrieval = {name: vars(args)[name] for name in RETRIEVAL} if neighbours is not None else {}
    return open_split(store, split, frame_num=args.frame_num, neighbours=neighbours, **retrieval)


def check_labels(args, store: FeatureStore, train: Split, valid: Split) -> None:
    label_dim = store.items.label_dim
    if args.label_dim not in (None, label_dim):
        names = ", ".join(store.info["label"]["names"])
        raise InputError(f"--label_dim {args.label_dim}: {store.folder} has {label_dim} ({names}); leave the flag out")
    metric = getattr(args, "metric", ())  # networks alone choose an epoch by it
    if "SRC" in metric or "nMSE" in metric:
        for t, name in enumerate(store.info["label"]["names"]):
            if np.ptp(valid.label[:, t]) == 0:
                raise InputError(
                    f"--metric {'+'.join(metric)}: all {len(valid)} labels {name} of split valid are equal, so "
                    f"nMSE and SRC are not defined in {store.folder}; take MAE or RMSE, or another split"
                )
    labels = np.concatenate([train.label, valid.label])
    if getattr(args, "loss", None) == "BCE" and (labels.min() < 0 or labels.max() > 1):
        raise InputError(
            f"--loss BCE: needs labels in [0, 1], {store.folder} has {labels.min():g} to {labels.max():g}; take MSE"
        )


def run_config(args, store: FeatureStore, neighbours: Neighbours | None, arguments: dict) -> dict:
    return {
        "command": ["python", Path(sys.argv[0]).name, *sys.argv[1:]],
        "settings": {flag: value for flag, value in vars(args).items() if flag not in ("typed", "resume")},
        "model": arguments,
        "data": {"family": store.family, "fingerprint": store.fingerprint, "label": store.info["label"]},
        "neighbours": None
        if neighbours is None
        else {"k": neighbours.k, "bank": neighbours.bank, "backend": neighbours.backend, "digest": neighbours.digest()},
    }


def check_same_data(run: Run, config: dict) -> None:
    for part, what in (("data", "data set"), ("neighbours", "neighbours"), ("model", "dimensions")):
        if run.config.get(part) != config[part]:
            raise InputError(
                f"--resume {run.folder}: the {what} changed since it was trained ({run.config.get(part)}, now "
                f"{config[part]}); bring the old ones back or train anew"
            )


def report(run: Run, history) -> None:
    if history.best_epoch:
        best = history.epochs[history.best_epoch - 1]
        measured = "  ".join(f"{name} {value:.4f}" for name, value in best["valid"].items())
        run.log(f"best {history.unit} {history.best_epoch} of {len(history.epochs)}: valid {measured}")
    if history.interrupted:
        kept = f"epoch {history.best_epoch} is kept" if history.best_epoch else "no epoch was finished"
        run.log(f"interrupted: {kept}; go on with: python train.py --resume {run.folder}")
        sys.exit(130)
    run.log(f"next: python test.py --model_path {run.folder}")


if __name__ == "__main__":
    run_script(build_parser(), main)
