"""Evaluate a run of train.py on a split, or write predictions for videos whose popularity nobody knows yet.

Rebuilds everything from the run's folder; a flag that contradicts it is an error. Writes metrics.json, predictions.csv
and pictures: for split test into the run's folder, for the others into a folder of that split's name in it; with --save
into <save>/<name of the run> instead.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import commands
from baselines import opened, recipe
from baselines.parser import MethodParser, preparse
from common.console import InputError, in_words, run_script, whole_number
from common.devices import add_device_flag, pick_device, pick_precision
from common.seeding import seed_everything
from common.settings import Flag
from dataloader.modalities import in_order
from dataloader.names import SPLITS
from dataloader.place import folder_of
from engine.metrics import METRICS
from engine.recipe import TRAINING
from engine.run import BEST, LAST

# Flags that say how to evaluate; the others say how the run was trained, and must agree with it.
OWN = ("model_path", "split", "batch_size", "metric", "save", "seed", "device", "dataset_path", "dataset_id")
OWN += ("allow_other_data", "adaptive")


def build_parser(model_id: str = "MMRA", preset: None = None) -> MethodParser:
    """The flags of an evaluation of one method; what it parses names a run, whose method's flags then hold."""
    parser = MethodParser(build_parser, named_method, model_id, preset, description=__doc__)
    what, where = parser.add_argument_group("what is evaluated"), parser.add_argument_group("place")
    what.add_argument("--model_path", required=True, metavar="RUN", help="folder of a run, or the checkpoint in it")
    what.add_argument("--split", default="test", choices=SPLITS[1:], help="predict: videos without a label")
    what.add_argument("--batch_size", type=whole_number(1), default=256, help="also of the published batch means")
    what.add_argument("--metric", nargs="+", choices=METRICS, default=list(METRICS), help="what is printed")
    where.add_argument("--save", help="folder for the results, as <save>/<run>/; the run's own folder if not given")
    what.add_argument("--seed", type=whole_number(0), default=2024, help="of the bootstrap")
    add_device_flag(where)
    where.add_argument("--dataset_path", help="folder that holds the data sets; the run's if not given")
    where.add_argument("--dataset_id", help="data set to evaluate on; the run's if not given")
    what.add_argument(
        "--allow_other_data", action="store_true", help="evaluate on data that are not the ones trained on"
    )
    what.add_argument(
        "--adaptive",
        action="store_true",
        help="intervals of videos in the order of time, wider after misses, of those whose labels were counted before",
    )
    published = parser.add_argument_group("flags of training", "given by the run; typed, they must agree with it")
    published.add_argument("--model_id", help="as trained")
    for name, flag in flags_of_the_run(model_id).items():
        flag.add(published, name)
    return parser


def flags_of_the_run(model_id: str) -> dict[str, Flag]:
    """The flags of train.py that say what was trained. Those that say how (--lr, --epochs ...) are not flags here."""
    flags = recipe(model_id).flags()
    kept = {name: flag for name, flag in flags.items() if name not in TRAINING or name == "loss"}
    return {
        name: replace(flag, default=flag.default if isinstance(flag.default, bool) else None, help="as trained")
        for name, flag in kept.items()
        if name != "seed"  # test.py has a --seed of its own, that of the bootstrap
    }


def named_method(words: list[str]) -> tuple[tuple[str, None], tuple | None]:
    """The method of the run that a command line names, and the run."""
    path = preparse(words, "model_path")["model_path"]
    if path is None:
        return ("MMRA", None), None
    run = opened(path, "--model_path")
    return (run[2]["model_id"], None), run


def main(args) -> None:
    run, how, trained = args.opened
    settings = run.config["settings"]
    if Path(args.model_path).name == LAST:
        raise InputError(f"--model_path {args.model_path}: {LAST} is for --resume; give the run's folder or its {BEST}")
    for flag, value in args.typed.items():
        if flag == "modalities":
            value = in_order(value)
        if flag not in OWN and value != trained[flag]:
            here, there = in_words(value), in_words(trained[flag])
            raise InputError(f"--{flag} {here} contradicts the run, which was trained with {there}")
    # What takes long to import, torch most of all, is imported after all that can be refused without it.
    from dataloader.store import FeatureStore

    folder = folder_of(
        settings["dataset_path"] if args.dataset_path is None else args.dataset_path,
        settings["dataset_id"] if args.dataset_id is None else args.dataset_id,
    )
    store = FeatureStore.open(folder)
    device = pick_device(args.device)
    if how.network:
        pick_precision(settings["precision"], device)
    seed_everything(args.seed)
    from baselines.testing import test

    test(
        how,
        run,
        settings,
        store,
        device,
        split=args.split,
        batch_size=args.batch_size,
        metrics=args.metric,
        save=args.save,
        seed=args.seed,
        allow_other_data=args.allow_other_data,
        adaptive=args.adaptive,
    )


if __name__ == "__main__":
    run_script(build_parser(), main, commands.remedy)
