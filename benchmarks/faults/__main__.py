"""The campaign of faults: kills, damage, hostile files, races and full disks against the project's scripts.

Trials follow from --seed and their numbers; the same command goes on with the next one. What came of each stands in
<work>/trials.jsonl. It ends with counts by outcome, and with exit code 1 where one of them must never be.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from benchmarks.faults.judging import FORBIDDEN
from benchmarks.faults.running import adopt, kill_orphans, load
from common.console import PROGRESS_BAR, Parser, number, run_script, whole_number
from common.files import whole_lines

KINDS = {"kill": 5, "damage": 8, "hostile": 1, "input": 4, "race": 2, "full disk": 2}  # how often one is tried


def build_parser() -> Parser:
    parser = Parser(prog="python -m benchmarks.faults", description=__doc__)
    tried = parser.add_argument_group("what is tried")
    tried.add_argument("--seed", type=whole_number(0), default=0, help="of all trials")
    tried.add_argument("--minutes", type=number(0, above=True), default=10.0, help="no trial begins after so many")
    tried.add_argument("--trials", type=whole_number(1), help="until there are so many, over all calls")
    tried.add_argument("--only", type=whole_number(0), metavar="NUMBER", help="this trial alone, as it was")
    tried.add_argument("--work", type=Path, default=Path("faults"), help="folder for the world and what came of trials")
    return parser


def main(args) -> None:
    load()
    adopt()
    from benchmarks.faults.world import build

    work = args.work.resolve() / f"seed{args.seed}"
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    world, path = build(work / "world"), work / "trials.jsonl"
    if args.only is not None:
        print(json.dumps(attempted(world, args.seed, args.only), indent=2))
        return
    done = [json.loads(line) for line in whole_lines(path)]
    until = time.monotonic() + 60 * args.minutes
    with tqdm(total=args.trials, initial=len(done), desc="trials", unit="trial", **PROGRESS_BAR) as bar:
        while time.monotonic() < until and (args.trials is None or len(done) < args.trials):
            done.append(attempted(world, args.seed, len(done)))
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(done[-1]) + "\n")
            bar.update()
    sys.exit(summarised(done))


def attempted(world, seed: int, trial: int) -> dict:
    """The trial of a number: its kind, its outcome, what was done."""
    from benchmarks.faults.trials import TRIALS, NotPossible

    rng = random.Random(f"{seed} {trial}")
    kind = rng.choices([*KINDS], [*KINDS.values()])[0]
    try:
        outcome = TRIALS[kind](world, rng, world.folder / "said")
    except NotPossible as why:
        return {"trial": trial, "kind": kind, "outcome": "not possible here", "told": str(why)}
    finally:
        kill_orphans()
    return {"trial": trial, "kind": outcome.kind, "outcome": outcome.outcome, "told": outcome.told}


def summarised(done: list[dict]) -> int:
    """Print the counts; the exit code."""
    counts = Counter((one["kind"], one["outcome"]) for one in done)
    for (kind, outcome), count in sorted(counts.items()):
        print(f"{kind:10} {outcome:20} {count:6}{'   <- must not be' * (outcome in FORBIDDEN)}")
    faults = [one for one in done if one["outcome"] in FORBIDDEN]
    print(f"{len(done)} trials, {len(faults)} with an outcome that must not be")
    for one in faults[:20]:
        print(f"trial {one['trial']} ({one['kind']}): {one['outcome']}: {one['told']}")
    return bool(faults)


if __name__ == "__main__":
    run_script(build_parser(), main)
