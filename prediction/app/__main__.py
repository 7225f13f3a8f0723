"""A page in a browser that takes a title and a video, and shows prediction, interval and neighbours.

Loads a run of train.py, its data set and its encoders once, and answers on this machine alone: nothing that is dropped
is kept, and nothing is sent elsewhere. Questions are answered one at a time, in the order in which they came. Wants
pip install -r requirements-app.txt. Ctrl-C ends it.
"""

from __future__ import annotations

import commands

import signal
import sys
import tempfile
from pathlib import Path

from baselines import opened
from common.console import InputError, Parser, number, run_script, whole_number
from common.devices import add_device_flag, pick_device, pick_precision
from common.seeding import seed_everything
from dataloader.modalities import named_files
from dataloader.names import GROWN, TRAINED
from dataloader.place import folder_of
from feature_engineering.settings import DecodingSettings

SEED = 2024  # as test.py has it
MEGABYTE = 1_000_000


def build_parser() -> Parser:
    parser = Parser(prog="python -m prediction.app", description=__doc__)
    run, place = parser.add_argument_group("the run"), parser.add_argument_group("where it answers")
    run.add_argument("--model_path", required=True, metavar="RUN", help="folder of a run, or the checkpoint in it")
    run.add_argument("--dataset_path", help="folder that holds the data sets; the run's if not given")
    run.add_argument("--dataset_id", help="data set that it was trained on; the run's if not given")
    run.add_argument(
        "--bank",
        default=TRAINED,
        choices=(TRAINED, GROWN),
        help="of a data set that has grown since: retrieve from what the run was trained with, or from all that has a "
        "count by now",
    )
    run.add_argument(
        "--encoders",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=FOLDER",
        help="where the encoder of these features is now, if it was moved",
    )
    add_device_flag(run)
    place.add_argument(
        "--host", default="127.0.0.1", help="address that it answers at; 0.0.0.0: to all who reach this machine"
    )
    place.add_argument("--port", type=whole_number(0, 65535), default=7860, help="0: any that is free")
    place.add_argument("--max_mb", type=whole_number(1), default=200, help="largest video, in megabytes")
    place.add_argument(
        "--timeout", type=number(0, above=True), default=60.0, help="seconds that a video may take to be decoded"
    )
    return parser


def main(args) -> None:
    run, how, settings = opened(args.model_path, "--model_path")
    try:
        from prediction.app import serving
    except ModuleNotFoundError as error:
        raise InputError(
            f"the app needs the package {error.name}, which is not installed; pip install -r requirements-app.txt"
        ) from None
    socket = serving.bound(args.host, args.port)  # before all that takes long
    from dataloader.store import FeatureStore
    from prediction.app.answering import Answerer
    from prediction.predictor import Predictor

    folder = folder_of(
        settings["dataset_path"] if args.dataset_path is None else args.dataset_path,
        settings["dataset_id"] if args.dataset_id is None else args.dataset_id,
    )
    store = FeatureStore.open(folder)
    device = pick_device(args.device)
    if how.network:
        pick_precision(settings["precision"], device)
    seed_everything(SEED)
    encoders = named_files(args.encoders, "encoders")
    predictor = Predictor(run, how, settings, store, device, bank=args.bank, encoders=encoders)
    # Ended in whichever way, it leaves nothing of what was dropped behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="mmra_app_", ignore_cleanup_errors=True) as place:
        answerer = Answerer(predictor, DecodingSettings(workers=1, timeout=args.timeout), Path(place))
        print(f"loading {run.folder} and its encoders ...", flush=True)
        answerer.warm_up()
        serving.serve(answerer, socket, args.host, args.max_mb * MEGABYTE)


if __name__ == "__main__":
    run_script(build_parser(), main, commands.remedy)
