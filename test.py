"""Evaluate a run of train.py on a split, or predict videos that came after it: of a table, a folder, or one alone.

Rebuilds everything from the run's folder; a flag that contradicts it is an error. Writes metrics.json, predictions.csv
and pictures, with --report a page of it all too: for split test into the run's folder, for the others into a folder of
that split's name in it; with --save into <save>/<name of the run> instead.

With --table, --videos or --text the run meets videos that are in no data set: they are encoded as those that it was
trained on were, retrieve from these, and are predicted: <output>/predictions.csv. Nothing else is written, and the same
command goes on where it was stopped.
"""

from __future__ import annotations

import commands

import sys
from dataclasses import replace
from pathlib import Path

from baselines import opened, recipe
from baselines.parser import MethodParser, preparse
from common.console import InputError, in_words, number, run_script, whole_number
from common.devices import add_device_flag, pick_device, pick_precision
from common.seeding import seed_everything
from common.settings import Flag, add_flags, made
from dataloader.modalities import in_order, named_files
from dataloader.names import GROWN, SPLITS, TRAINED
from dataloader.place import folder_of
from engine.metrics import METRICS
from engine.recipe import TRAINING
from engine.run import BEST, LAST
from feature_engineering.settings import DecodingSettings

# Flags that say how to evaluate; the others say how the run was trained, and must agree with it.
OWN = ("model_path", "split", "batch_size", "metric", "save", "seed", "device", "dataset_path", "dataset_id")
OWN += ("allow_other_data", "bank", "report", "adaptive")
NEW = ("table", "videos", "frames", "text", "features", "output", "encoders", "horizon", "sheet", "encoding")
NEW += ("workers", "timeout")  # flags for new videos
OF_A_SPLIT = ("split", "metric", "save", "allow_other_data", "batch_size", "adaptive")  # and those that are not


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
        "--bank",
        default=TRAINED,
        choices=(TRAINED, GROWN),
        help="of a data set that has grown since: retrieve from what the run was trained with, or from all that has a "
        "count by now",
    )
    what.add_argument(
        "--adaptive",
        action="store_true",
        help="intervals of videos in the order of time, wider after misses, of those whose labels were counted before",
    )
    what.add_argument(
        "--report",
        action="store_true",
        help="also write report.html: one page of all of it, for any browser",
    )
    add_flags_of_new(parser)
    published = parser.add_argument_group("flags of training", "given by the run; typed, they must agree with it")
    published.add_argument("--model_id", help="as trained")
    for name, flag in flags_of_the_run(model_id).items():
        flag.add(published, name)
    return parser


def add_flags_of_new(parser: MethodParser) -> None:
    new = parser.add_argument_group("new videos")
    new.add_argument(
        "--table",
        type=Path,
        help="one video a row, read as the data set's own table was: titles, what else is known, and counts, where "
        "there are any, to be compared with",
    )
    new.add_argument(
        "--videos",
        type=Path,
        help="folder of the videos, named by their ids; without a table, all in it; or the file of one",
    )
    new.add_argument("--frames", type=Path, help="folder of pictures, <item id>_<i>.jpg, in place of videos")
    new.add_argument("--text", help="the title of a single video")
    new.add_argument(
        "--features",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=FILE",
        help="ready vectors, one row a row of the table, where those of the data set came from a file too",
    )
    new.add_argument("--output", type=Path, help="folder for the predictions (required with these)")
    new.add_argument(
        "--encoders",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=FOLDER",
        help="where the encoder of these features is now, if it was moved",
    )
    new.add_argument(
        "--horizon",
        type=number(0),
        help="days after publication for which a count is meant; the data set's own, or their median, without it",
    )
    new.add_argument("--sheet", help="of an Excel file")
    new.add_argument("--encoding", help="of a text file; UTF-8, UTF-16 or what its characters show, without it")
    add_flags(new, DecodingSettings, without=["on_error"])


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
        if flag not in (*OWN, *NEW) and value != trained[flag]:
            here, there = in_words(value), in_words(trained[flag])
            raise InputError(f"--{flag} {here} contradicts the run, which was trained with {there}")
    new = [name for name in ("table", "videos", "frames", "text") if name in args.typed]
    idle = [name for name in (OF_A_SPLIT if new else NEW) if name in args.typed]
    if idle and new:
        raise InputError(f"--{idle[0]} is for a split of the data set, and does nothing with --{new[0]}")
    if idle:
        raise InputError(f"--{idle[0]} is for new videos: --table, --videos or --text names them")
    if new and args.output is None:
        raise InputError(f"--{new[0]}: --output <folder> says where the predictions go")
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
    if new:
        from prediction.newcomers import Asked, predict_newcomers
        from prediction.predictor import Predictor

        given = {name: getattr(args, name) for name in (*new, "horizon", "sheet", "encoding")}
        asked = Asked(**given, features=named_files(args.features, "features"))
        encoders = named_files(args.encoders, "encoders")
        predictor = Predictor(run, how, settings, store, device, bank=args.bank, encoders=encoders)
        command = ["python", "test.py", *sys.argv[1:]]
        decoding, how_to = made(DecodingSettings, vars(args)), {"seed": args.seed, "with_page": args.report}
        predict_newcomers(predictor, asked, args.output, decoding, command, **how_to)
        return
    from baselines.testing import test

    judged = test(
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
        bank=args.bank,
        adaptive=args.adaptive,
    )
    if args.report:
        from prediction.report import write_report

        print(f"{write_report(judged)}: a page of it, which opens in any browser")


if __name__ == "__main__":
    run_script(build_parser(), main, commands.remedy)
