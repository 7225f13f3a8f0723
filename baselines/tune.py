"""Search better settings of a method, on split valid alone: trials of its flags, several seeds and data sets each.

What is tried stands with the method; --space replaces or adds to it. The first trial is the defaults. The same command
goes on where it stopped, also after a kill. Results are in <save>/<name>/: study.md, best.json, trials.csv, and
study.db, Optuna's file.
"""

from __future__ import annotations

import commands

import shlex
import signal
import sys
from pathlib import Path

from baselines import METHODS
from baselines.tuning.plan import make_plan
from common.console import InputError, Parser, number, run_script, whole_number
from common.devices import add_device_flag, pick_device
from common.files import require_writable
from common.lock import locked
from dataloader.place import folder_of

MINUTES = 30


class TuneParser(Parser):
    def parse_args(self, args=None, namespace=None):
        """As ever; a value of --flags that is one flag alone is no flag of this script."""
        words = sys.argv[1:] if args is None else list(args)
        if "--flags" in words[:-1]:
            at = words.index("--flags")
            words = [*words[:at], f"--flags={words[at + 1]}", *words[at + 2 :]]
        return super().parse_args(words, namespace)


def build_parser() -> Parser:
    parser = TuneParser(description=__doc__)
    where, what = parser.add_argument_group("data and place"), parser.add_argument_group("what is searched")
    where.add_argument("--dataset_path", default="data", help="folder that holds the data sets")
    where.add_argument(
        "--dataset_id",
        nargs="+",
        required=True,
        metavar="NAME",
        help="data sets: folders in --dataset_path; of several, a trial's value is the mean of its nMSE over that "
        "of the defaults",
    )
    where.add_argument("--save", default="tune_results", help="folder for results: <save>/<name>/")
    where.add_argument("--name", help="of this search; if not given, that of the method and of the data sets")
    where.add_argument(
        "--jobs",
        type=whole_number(1),
        default=1,
        help="trainings of a trial at a time; the processor's threads are divided among them, and whether the rest of "
        "a trial is worth it is asked after each so many",
    )
    add_device_flag(where)
    what.add_argument("--model_id", required=True, help=f"method: {', '.join(METHODS)}")
    what.add_argument(
        "--space",
        nargs="+",
        default=[],
        metavar="FLAG=VALUES",
        help='what is tried of a flag, as in "lr=1e-4:1e-2:log" "depth=4:8" "optim=Adam|AdamW"; in place of what '
        "stands with the method, or beside it",
    )
    what.add_argument("--flags", default="", metavar='"FLAGS"', help="flags of train.py that every trial has")
    what.add_argument("--seeds", nargs="+", type=whole_number(0), default=[11, 12], help="of every trial")
    what.add_argument(
        "--trials",
        type=whole_number(1),
        help="until there are so many, the defaults and what failed among them, over all starts of this command",
    )
    what.add_argument(
        "--minutes",
        type=number(0, above=True),
        help="no trial begins after so many, over all starts of this command; "
        f"{MINUTES} where neither this nor --trials is given",
    )
    return parser


def main(args) -> None:
    plan = make_plan(args.model_id, args.flags, args.space)
    if len(set(args.seeds)) < len(args.seeds):
        raise InputError(f"--seeds {' '.join(map(str, args.seeds))}: each seed once")
    name = args.name or f"{args.model_id}_{'+'.join(args.dataset_id)}"
    place = named_folder(args.save, name)
    require_writable(place)
    minutes = args.minutes or (None if args.trials else MINUTES)
    # What computes is imported after all that can be refused without it.
    from baselines.comparison.children import Children, threads_each
    from baselines.tuning.data import open_data_sets
    from baselines.tuning.report import row_of, write_report
    from baselines.tuning.search import Search, is_spent
    from baselines.tuning.study import best_of, finished, library, open_study

    library()
    device = str(pick_device(args.device))
    data = open_data_sets(plan, args.dataset_path, args.dataset_id)
    stored = [one.k for one in data if one.k is not None]
    plan = plan.only_stored(min(stored)) if stored else plan
    made_of = {
        "method": args.model_id,
        "flags": shlex.join(plan.fixed),
        "seeds": " ".join(map(str, args.seeds)),
        "data": {one.name: str(one) for one in data},
        "space": {name: str(tried) for name, tried in plan.space.items()},
    }
    from optuna.exceptions import StorageInternalError

    # What ends this process from outside is then raised here, and the children are ended too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    command = shlex.join(["python", "baselines/tune.py", *sys.argv[1:]])
    children = None
    try:
        with locked(place):
            children = Children(threads_each(args.jobs))
            search = Search(
                open_study(place / "study.db", made_of), plan, data, args.seeds, place, device, args.jobs, children
            )
            before = len(finished(search.study))
            if is_spent(before, search.seconds, args.trials, minutes):
                print(f"finished already: {before} trials; more with a larger --trials or --minutes")
            for one in plan.left_out:
                print(f"left out of the search: {one}")
            search.run(args.trials, minutes, lambda: write_report(search, command))
            print(write_report(search, command))
    except KeyboardInterrupt:
        if children:
            children.stop()
        print(f"\ninterrupted; what is finished is kept in {place}, and the same command continues", file=sys.stderr)
        sys.exit(130)
    except StorageInternalError as error:
        raise InputError(f"{place / 'study.db'}: {error.__cause__ or error}; the same command continues") from None
    trials, fixed = finished(search.study), shlex.join(plan.fixed)
    best = best_of(trials)
    if best is None:
        print(f"tune.py: no trial came to a value; why says {place / 'study.md'}", file=sys.stderr)
        sys.exit(1)
    if best is trials[0]:
        return commands.say_next(
            "next: more trials, with a larger --trials or --minutes; the defaults are the best yet"
        )
    for one in data:
        commands.say_next(f"next: {commands.tuned_comparison(one.folder, plan.method, fixed, row_of(search, best))}")


def named_folder(save: str, name: str) -> Path:
    try:
        return folder_of(save, name)
    except InputError:
        raise InputError(f"--name {name!r}: the name of a folder in --save is expected, without slashes") from None


if __name__ == "__main__":
    run_script(build_parser(), main, commands.remedy)
