"""`--engine`: this machine's processes, or Ray on a cluster; what that has, and how its processes become like ours.

Ray is imported on use: nothing of it is needed for the engine `local`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.console import InputError, in_one_line

LOCAL, RAY = "local", "ray"
AGAIN = 3  # times that what has lost the process it ran in, or its node, is begun anew
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def add_engine_flag(group, what: str) -> None:
    """what: is made, and by how many at a time."""
    group.add_argument(
        "--engine",
        choices=(LOCAL, RAY),
        default=LOCAL,
        help="local: processes of this machine; ray: the cluster that RAY_ADDRESS names, or one that is started here, "
        f"{what} (requirements-scale.txt)",
    )


def check_engine(engine: str, device: str) -> None:
    """InputError where Ray is asked for and not installed, or is to take one device of this machine."""
    if engine != RAY:
        return
    if not importlib.util.find_spec("ray"):
        raise InputError("--engine ray: Ray is not installed: pip install -r requirements-scale.txt")
    if ":" in device:
        raise InputError(f"--device {device}: --engine ray takes devices as they are free; give auto, cuda or cpu")


def join() -> Any:
    """Ray, in touch with the cluster that RAY_ADDRESS names, or else with one that is started here and ends with us."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray's makers are told nothing of what is done here.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # It warns of its own way to start the actors of Ray Data.
    import ray

    if not ray.is_initialized():
        # Without an address Ray would join whatever cluster somebody has started on this machine.
        address = os.environ.get("RAY_ADDRESS") or "local"
        terminated = signal.getsignal(signal.SIGTERM)
        host, _, port = address.rpartition("://")[2].rpartition(":")
        try:
            if port.isdigit():  # Ray itself would try for ten minutes.
                socket.create_connection((host, int(port)), timeout=10).close()
            ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, OverflowError, RuntimeError, ValueError) as error:
            raise InputError(f"--engine ray: no cluster at {address} ({in_one_line(error)})") from None
        if callable(terminated):  # Ray has put its own way to end in place of the command's.
            signal.signal(signal.SIGTERM, terminated)
    return ray


def room(ray: Any, device: str, share: int = 1) -> tuple[int, dict[str, float]]:
    """How many tasks the cluster has room for at once, and what each takes: a device, or of one a part in `share`.

    That is a GPU for the device `cuda`, else as many cores as the smallest node has. InputError where there is none.
    """
    parts = 10_000  # Ray counts in parts of so many, and rounds.
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if device == "cuda":
        number = share * int(sum(node.get("GPU", 0) for node in nodes))
        takes = {"num_gpus": parts // share / parts}
    else:
        cores = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
        each = parts * min(cores, default=1) // share
        number, takes = sum(parts * count // each for count in cores), {"num_cpus": each / parts}
        if any(node.get("GPU") for node in nodes):
            print(
                "note: the GPUs of the cluster are not used, as the device here is none; start the command on a node "
                "that has one",
                file=sys.stderr,
            )
    if not number:
        raise InputError(f"--engine ray: no node of the cluster has a {'GPU' if device == 'cuda' else 'core'}")
    return number, takes


@contextlib.contextmanager
def lost(ray: Any) -> Iterator[None]:
    """In the block what Ray cannot make good, as a process that ends each time that it is begun, is an InputError."""
    try:
        yield
    except ray.exceptions.RayError as error:
        if isinstance(error, ray.exceptions.RayTaskError):  # of what the task itself raised, which is a bug
            raise
        raise InputError(
            "--engine ray: processes or nodes of the cluster were lost, those in their place too "
            f"({in_one_line(error)}); the same command goes on with what is left"
        ) from None


def surroundings() -> dict[str, Any]:
    """What the same bits and the same relative paths need of a process elsewhere, for `settle`."""
    return {"folder": str(Path.cwd()), "variables": {name: os.environ.get(name) for name in THREADS}}


def settle(folder: str, variables: dict[str, str | None]) -> None:
    """Make this process of a cluster like the one that told its `surroundings`; InputError where that cannot be."""
    try:
        os.chdir(folder)
    except OSError as error:
        raise InputError(
            f"{folder}: not on {socket.gethostname()} ({error.strerror}); what a command works on must lie in the same "
            "place on each node of the cluster"
        ) from None
    for name, value in variables.items():
        os.environ.pop(name, None)  # Ray sets one by itself.
        if value is not None:
            os.environ[name] = value
