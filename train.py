"""Train one method on one data set; every run gets a folder of its own with all it takes to repeat, resume and test it.

Differs from the published defaults in shuffling (--no_shuffle), in metrics over the whole validation split, and in what
--frame_num and --label_dim default to: what the data set holds. Each method has flags and defaults of its own:
python train.py --model_id HMMVED --help shows another's.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import commands
from baselines import METHODS, method_of, recipe
from baselines.parser import MethodParser, preparse
from common.console import InputError, in_words, run_script
from common.devices import add_device_flag
from dataloader.place import add_dataset_flags
from engine.config import check_config, trained_with
from engine.run import Run

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
    typed, run = args.typed, None
    settings = {flag: value for flag, value in vars(args).items() if flag not in ("typed", "resume")}
    if args.resume:
        run = Run.open(args.resume, "--resume")
        settings, typed = resumed_settings(run, settings, typed), {}
    recipe(settings["model_id"]).check(settings, typed)
    # Importing torch takes seconds, so it is imported after all that can be refused without it.
    from baselines.training import train

    train(settings, typed, run, ["python", Path(sys.argv[0]).name, *sys.argv[1:]])


def resumed_settings(run: Run, offered: Mapping[str, Any], typed: Mapping[str, Any]) -> dict[str, Any]:
    """The run's own settings; a typed flag that says otherwise is an error, but for those in RESUMABLE.

    offered: the settings that this version has.
    """
    model_id = method_of(run)
    check_config(run, recipe(model_id))
    if not recipe(model_id).network:
        raise InputError(
            f"--resume {run.folder}: {model_id} is fitted in one go and leaves no half-way state; train it anew"
        )
    settings = dict(run.config["settings"])
    if set(settings) != set(offered):
        raise InputError(f"--resume {run.folder}: its config.json has other settings than this version; train anew")
    settings["metric"] = tuple(settings["metric"])
    trained = trained_with(run) | {"metric": settings["metric"]}
    for flag, value in typed.items():
        if flag not in RESUMABLE and value != trained[flag]:
            raise InputError(
                f"--{flag} {in_words(value)} contradicts the run {run.folder}, which has {in_words(trained[flag])}; "
                "leave it out"
            )
    return settings | {flag: typed[flag] for flag in RESUMABLE[1:] if flag in typed}


if __name__ == "__main__":
    run_script(build_parser(), main, commands.remedy)
