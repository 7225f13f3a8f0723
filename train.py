"""Train one method on one data set; every run gets a folder of its own with all it takes to repeat, resume and test it.

Differs from the published defaults in shuffling (--no_shuffle), in metrics over the whole validation split, and in what
--frame_num and --label_dim default to: what the data set holds. Each method has flags and defaults of its own:
python train.py --model_id HMMVED --help shows another's.

Networks are trained on several devices, and machines, too: torchrun --nproc_per_node 2 train.py and the same flags
(docs/guide.md, Several devices and machines).
"""

from __future__ import annotations

import commands

import sys
from pathlib import Path

from baselines import METHODS, opened, recipe
from baselines.parser import MethodParser, preparse
from common import distributed
from common.console import InputError, in_words, run_script, whole_number
from common.devices import add_device_flag, pick_device, pick_precision
from common.files import require_writable
from common.seeding import seed_everything
from dataloader.modalities import in_order
from dataloader.place import add_dataset_flags, folder_of

EPILOG = "Another method's flags and published defaults: python train.py --model_id NAME --help"
RESUMABLE = ("resume", "epochs", "device", "dataset_path")  # what may be typed beside --resume
OWN = ("typed", "resume", "opened", "cross_conformal")  # no settings of a run


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
    where.add_argument(
        "--cross_conformal",
        type=whole_number(2),
        metavar="K",
        help="afterwards train K copies, each without a part of train, whose errors there give predictions intervals; "
        "for methods that hold no part of valid back for it",
    )
    add_device_flag(where)
    where.add_argument("--model_id", default="MMRA", help=f"method: {', '.join(METHODS)}")
    for title, named in flags.items():
        group = where if title == "data" else parser.add_argument_group(model_id if title == "model" else title)
        for name, flag in named.items():
            flag.add(group, name)
    return parser


def named_method(words: list[str]) -> tuple[tuple[str, str | None], tuple | None]:
    """The method and preset that a command line names; with --resume they are the run's, which is opened."""
    given = preparse(words, "model_id", "preset", "resume")
    if given["resume"] is not None:
        run = opened(given["resume"], "--resume")
        return (run[2]["model_id"], None), run
    model_id = given["model_id"] or "MMRA"
    return (model_id, given["preset"] if given["preset"] in recipe(model_id).presets else None), None


def main(args) -> None:
    run, how, typed = None, recipe(args.model_id), args.typed
    settings = {flag: value for flag, value in vars(args).items() if flag not in OWN}
    if args.resume:
        run, how, trained = args.opened
        if not how.network and not how.blends:
            raise InputError(
                f"--resume {run.folder}: {trained['model_id']} is fitted in one go and leaves no half-way state; train "
                "it anew"
            )
        if set(run.config["settings"]) != set(settings):
            raise InputError(f"--resume {run.folder}: its config.json has other settings than this version; train anew")
        settings = run.config["settings"]
        if how.network:
            settings = settings | {"metric": tuple(settings["metric"])}
            trained |= {"metric": settings["metric"]}
        for flag, value in typed.items():
            if flag == "modalities":
                value = in_order(value)
            if flag not in (*RESUMABLE, *OWN) and value != trained[flag]:
                raise InputError(
                    f"--{flag} {in_words(value)} contradicts the run {run.folder}, which has "
                    f"{in_words(trained[flag])}; leave it out"
                )
        settings = settings | {flag: typed[flag] for flag in RESUMABLE[1:] if flag in typed}
        typed = {}
    how.check(settings, typed)
    if args.cross_conformal:
        from baselines.crossing import require_crossing

        require_crossing(how, settings["model_id"])
    if distributed.launched():
        require_together(how, settings["model_id"], args.cross_conformal)
    with distributed.joined(Path(sys.argv[0]).name):
        require_alike(settings)
        train_on_store(how, settings, typed, run, args.cross_conformal)


def require_together(how, model_id: str, folds: int | None) -> None:
    """InputError for what several processes cannot share."""
    if not how.network or how.transductive:
        why = "compares all videos of a batch with each other" if how.network else "is no network of the one loop"
        raise InputError(f"--model_id {model_id}: it {why}, so processes cannot share it; train it without torchrun")
    if folds:
        raise InputError(
            "--cross_conformal: its copies are trained by one process; leave it out, and afterwards type: python "
            f"train.py --resume <run> --cross_conformal {folds}"
        )


def require_alike(settings: dict) -> None:
    """InputError where this process was given other flags than the first one; where its files lie is its own matter."""
    for flag, value in distributed.agreed(settings).items():
        own = settings.get(flag)
        if flag not in ("dataset_path", "save") and own != value:
            raise InputError(
                f"--{flag} {in_words(own)}: process 0 was given {in_words(value)}; give all of them the same flags"
            )


def train_on_store(how, settings: dict, typed: dict, run, folds: int | None) -> None:
    # What takes long to import, torch most of all, is imported after all that can be refused without it.
    from dataloader.checks import require_labels_that_differ
    from dataloader.store import FeatureStore

    folder = folder_of(settings["dataset_path"], settings["dataset_id"])
    store = FeatureStore.open(folder)
    require_labels_that_differ(store)
    device = pick_device(distributed.own_device(settings["device"]))
    if how.network:
        pick_precision(settings["precision"], device)
    if distributed.is_first():
        require_writable(run.folder if run else Path(settings["save"]))
    seed_everything(settings["seed"])
    if how.blends:
        from baselines.blending import train_blend as train
    else:
        from baselines.training import train

    command = [*commands.launcher().split(), Path(sys.argv[0]).name, *sys.argv[1:]]
    run, history = train(how, settings, typed, store, device, run, command)
    if history.interrupted:
        kept = f"epoch {history.best_epoch} is kept" if history.best_epoch else "no epoch was finished"
        kept = f"of the member in training {kept}" if how.blends else kept
        run.log(f"interrupted: {kept}; go on with: {commands.launcher()} train.py --resume {run.folder}")
        sys.exit(130)
    if folds:
        from baselines.crossing import cross_calibrate

        if not cross_calibrate(how, run, settings, store, device, folds):
            again = f"; python train.py --resume {run.folder} --cross_conformal {folds}" * how.network
            run.log(f"interrupted: the run is whole, its intervals are not there yet{again}")
            sys.exit(130)
    commands.say_next(f"next: python test.py --model_path {run.folder}", run.log)


if __name__ == "__main__":
    run_script(build_parser(), main, commands.remedy, together=True)
