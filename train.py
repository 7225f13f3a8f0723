"""Train one method on one data set; every run gets a folder of its own with all it takes to repeat, resume and test it.

Differs from the published defaults in shuffling (--no_shuffle), in metrics over the whole validation split, and in what
--frame_num and --label_dim default to: what the data set holds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from baselines import METHODS, build
from dataloader.batches import Split, open_split
from dataloader.console import InputError, Parser, add_dataset_flags, dataset_folder, number, run_script, whole_number
from dataloader.device import add_device_flag, pick_device
from dataloader.files import require_writable
from dataloader.neighbours import Neighbours
from dataloader.store import FeatureStore
from engine.config import check_config
from engine.metrics import METRICS
from engine.network import LOSSES, OPTIMISERS, PRECISIONS, Training
from engine.run import Run
from engine.seeding import seed_everything

RESUMABLE = ("resume", "epochs", "device", "dataset_path")  # what may be typed beside --resume


def metric_names(text: str) -> tuple[str, ...]:
    names = tuple(text.split("+"))
    if unknown := [name for name in names if name not in METRICS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is unknown; known, and summed with +: {', '.join(METRICS)}")
    return names


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    where = parser.add_argument_group("data and place")
    add_dataset_flags(where)
    where.add_argument("--save", default="train_results", help="folder in which the run's folder is made")
    where.add_argument(
        "--resume", metavar="RUN", help="go on with the run in this folder, from its last finished epoch"
    )
    add_device_flag(where)

    model = parser.add_argument_group("model")
    model.add_argument(
        "--model_id", default="MMRA", help=f"method: {', '.join(METHODS)}; MMRA takes the data's family's"
    )
    model.add_argument("--feature_num", type=int, default=2, help="kinds of features: 2, visual and textual")
    model.add_argument("--feature_dim", type=whole_number(1), default=768, help="D, width of the embeddings")
    model.add_argument("--label_dim", type=whole_number(1), help="number of targets; must agree with the data set")
    model.add_argument("--alpha", type=number(0), default=0.6, help="weight of the negative attention")
    model.add_argument(
        "--frame_num", type=whole_number(1), help="frames used of each video; all the data set has if not given"
    )

    retrieval = parser.add_argument_group("retrieval")
    retrieval.add_argument(
        "--num_of_retrieved_items", type=whole_number(1), default=10, help="K, neighbours aggregated"
    )
    retrieval.add_argument(
        "--similarity_temperature",
        type=number(0, above=True),
        default=1.0,
        help="neighbours weigh softmax(similarity / this); 1 is published and nearly uniform, 0.1 prefers the nearest",
    )
    retrieval.add_argument(
        "--no_retrieval",
        action="store_true",
        help="ablation: no neighbours, and zeros for what their branch would give",
    )

    fit = parser.add_argument_group("training")
    fit.add_argument("--seed", type=whole_number(0), default=2024, help="of weights and shuffling")
    fit.add_argument("--epochs", type=whole_number(1), default=100, help="at most")
    fit.add_argument("--batch_size", type=whole_number(1), default=64, help="videos a step")
    fit.add_argument(
        "--early_stop_turns", type=whole_number(1), default=20, help="epochs without a better one, then stop"
    )
    fit.add_argument("--loss", default="MSE", choices=LOSSES, help="BCE is for labels in [0, 1]")
    fit.add_argument("--optim", default="Adam", choices=OPTIMISERS, help="optimiser")
    fit.add_argument("--lr", type=number(0, above=True), default=1e-5, help="learning rate")
    fit.add_argument("--weight_decay", type=number(0), default=0.0, help="of the optimiser")
    fit.add_argument(
        "--metric",
        type=metric_names,
        default="MAE+nMSE",
        help="what chooses the epoch, on the whole valid split: one of "
        f"{', '.join(METRICS)}, or a sum of them with + (SRC counts negative)",
    )
    fit.add_argument("--precision", default="fp32", choices=PRECISIONS, help="of the matrix products")
    fit.add_argument("--no_shuffle", action="store_true", help="train in the order of the data set, as published")
    return parser


def main(args) -> None:
    run = Run.open(args.resume, "--resume") if args.resume else None
    if run is not None:
        args = resumed_settings(args, run)
    device = pick_device(args.device)
    check_method(args)
    check_retrieval_flags(args)
    require_writable(run.folder if run else Path(args.save))
    store = FeatureStore.open(dataset_folder(args), need=("visual", "textual"))
    for warning in store.check_features("visual", "textual"):
        print(f"warning: {warning}", file=sys.stderr)
    neighbours = None if args.no_retrieval else Neighbours.read(store)
    train, valid = (open_training_split(store, split, args, neighbours) for split in ("train", "valid"))
    check_labels(args, store, train, valid)
    arguments = {
        "visual_dim": store.visual.shape[2],
        "textual_dim": store.textual.shape[1],
        "feature_dim": args.feature_dim,
        "frame_num": len(train.frames),
        "alpha": args.alpha,
        "label_dim": store.items.label_dim,
        "use_retrieval": not args.no_retrieval,
    }
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
        f"{len(train)} train and {len(valid)} valid videos, {device}"
    )
    history = method.fit(train, valid)
    report(run, history)


def resumed_settings(args: argparse.Namespace, run: Run) -> argparse.Namespace:
    """The run's own settings; a typed flag that says otherwise is an error, but for those in RESUMABLE."""
    check_config(run)
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


def check_method(args) -> None:
    if args.model_id not in METHODS:
        raise InputError(f"--model_id {args.model_id}: unknown method; known: {', '.join(METHODS)}")
    if args.feature_num != 2:
        raise InputError(
            f"--feature_num {args.feature_num}: it is the number of feature kinds, and {args.model_id} takes 2, "
            "visual and textual (the width of the features is --feature_dim)"
        )


def check_retrieval_flags(args) -> None:
    for flag in ("num_of_retrieved_items", "similarity_temperature"):
        if args.no_retrieval and flag in getattr(args, "typed", {}):
            raise InputError(f"--{flag} does nothing with --no_retrieval; leave one of them out")


def open_training_split(store: FeatureStore, split: str, args, neighbours: Neighbours | None) -> Split:
    return open_split(
        store,
        split,
        frame_num=args.frame_num,
        neighbours=neighbours,
        num_of_retrieved_items=args.num_of_retrieved_items,
        similarity_temperature=args.similarity_temperature,
    )


def check_labels(args, store: FeatureStore, train: Split, valid: Split) -> None:
    label_dim = store.items.label_dim
    if args.label_dim not in (None, label_dim):
        names = ", ".join(store.info["label"]["names"])
        raise InputError(f"--label_dim {args.label_dim}: {store.folder} has {label_dim} ({names}); leave the flag out")
    if "SRC" in args.metric or "nMSE" in args.metric:
        for t, name in enumerate(store.info["label"]["names"]):
            if np.ptp(valid.label[:, t]) == 0:
                raise InputError(
                    f"--metric {'+'.join(args.metric)}: all {len(valid)} labels {name} of split valid are equal, so "
                    f"nMSE and SRC are not defined in {store.folder}; take MAE or RMSE, or another split"
                )
    labels = np.concatenate([train.label, valid.label])
    if args.loss == "BCE" and (labels.min() < 0 or labels.max() > 1):
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
        run.log(f"best epoch {history.best_epoch} of {len(history.epochs)}: valid {measured}")
    if history.interrupted:
        kept = f"epoch {history.best_epoch} is kept" if history.best_epoch else "no epoch was finished"
        run.log(f"interrupted: {kept}; go on with: python train.py --resume {run.folder}")
        sys.exit(130)
    run.log(f"next: python test.py --model_path {run.folder}")


if __name__ == "__main__":
    run_script(build_parser(), main)
