"""Cells that are not finished: trained and tested, some at a time, by threads of this process or as tasks of Ray."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from tqdm import tqdm

from baselines.comparison.cells import Cell, Outcome, finished, seconds_of, train_cell
from baselines.comparison.children import PATIENCE, Children, Failed, side_by_side
from common.cluster import AGAIN, RAY, join, lost, room, settle, surroundings
from common.console import InputError
from common.files import read_json
from common.lock import locked

Outcomes = dict[Path, Outcome]  # a cell's folder -> how it came out


def run_cells(cells: list[Cell], jobs: int, engine: str) -> Outcomes:
    """Train and test what is not finished, `jobs` at a time, by Ray so many on each node.

    Ctrl-C ends the children (a network keeps its last epoch, to be resumed) and is raised again.
    """
    unique = {cell.folder: cell for cell in cells}
    outcomes = {key: found for key, cell in unique.items() if (found := finished(cell.setting, cell.row, cell.seed))}
    left = [cell for key, cell in unique.items() if key not in outcomes]
    bar = tqdm(total=len(unique), initial=len(outcomes), desc="cells", unit="cell", disable=None, dynamic_ncols=True)
    if outcomes:
        bar.write(f"{len(outcomes)} of {len(unique)} cells are finished already")
    run = _on_cluster if engine == RAY and left else _here
    with bar, closing(run(left, jobs)) as done:
        for cell, outcome in done:
            outcomes[cell.folder] = outcome
            bar.update()
            bar.write(_line(cell, outcome))
    return outcomes


def _here(cells: list[Cell], jobs: int) -> Iterator[tuple[Cell, Outcome]]:
    children = Children(cells[0].setting.threads if cells else None)
    return side_by_side(lambda cell: _attempt(cell, children), cells, jobs, children)


def _on_cluster(cells: list[Cell], jobs: int) -> Iterator[tuple[Cell, Outcome]]:
    """A task a cell. Ray gives the task of a node that is lost to another, which goes on with the cell's last epoch."""
    ray = join()
    _, takes = room(ray, cells[0].setting.device, share=jobs)
    task, here = ray.remote(**takes, max_retries=AGAIN)(_on_node), surroundings()
    waiting = {task.remote(cell, here): cell for cell in cells}
    try:
        while waiting:
            for done in ray.wait(list(waiting))[0]:
                yield waiting.pop(done), _result(ray, done)
    except BaseException:
        for one in waiting:
            ray.cancel(one)
        ray.wait(list(waiting), num_returns=len(waiting), timeout=PATIENCE + 5)
        raise


def _result(ray: Any, done: Any) -> Outcome:
    try:
        with lost(ray):
            return ray.get(done)
    except InputError as error:
        return Outcome(failure=str(error))


def _on_node(cell: Cell, here: dict) -> Outcome:
    # Ray's processes do not hear Ctrl-C, but the children that are ended by it must.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    try:
        settle(**here)
        # Should the command be killed and typed again, nobody else works on a cell whose children still run.
        with locked(cell.folder):
            return next(_here([cell], 1))[1]
    except (InputError, OSError) as error:
        return Outcome(failure=str(error))


def _attempt(cell: Cell, children: Children) -> Outcome:
    try:
        return _do(cell, children)
    except (Failed, InputError, OSError) as error:
        return Outcome(failure=str(error))


def _do(cell: Cell, children: Children) -> Outcome:
    run = train_cell(cell, children)
    setting = cell.setting
    words = ["test.py", "--model_path", str(run), "--dataset_path", setting.dataset_path, "--device", setting.device]
    children.run(words, cell.folder / "output.txt")
    return Outcome(run, seconds_of(run))


def _line(cell: Cell, outcome: Outcome) -> str:
    if outcome.run is None:
        return f"{cell}: failed: {outcome.failure}"
    metrics = read_json(outcome.run / "metrics.json")["metrics"]
    measured = "  ".join(
        f"{name} {metrics[name]['value']:.3f}" for name in metrics if metrics[name]["value"] is not None
    )
    return f"{cell}: {measured}  ({outcome.seconds:.0f} s)  {outcome.run}"
