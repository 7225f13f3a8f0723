"""Evaluate a run of train.py on a split, or write predictions for videos whose popularity nobody knows yet.

Rebuilds everything from the run's folder; a flag that contradicts it is an error. Writes metrics.json, predictions.csv
and pictures: for split test into the run's folder, for the others into a folder of that split's name in it; with --save
into <save>/<name of the run> instead.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from baselines import build, method_of, recipe
from baselines.parser import MethodParser, preparse
from dataloader.batches import Split, open_split
from dataloader.console import InputError, run_script, whole_number
from dataloader.device import add_device_flag, pick_device
from dataloader.files import require_writable, write_json, written_beside
from dataloader.items import SPLITS, creators
from dataloader.neighbours import Neighbours
from dataloader.store import FeatureStore
from engine.bootstrap import CONFIDENCE, Interval, resample
from engine.config import check_config
from engine.figures import draw_errors, draw_predictions, draw_training
from engine.metrics import METRICS, batch_means, measure
from engine.network import Training
from engine.recipe import RETRIEVAL, TRAINING, Flag, dimensions
from engine.run import BEST, LAST, Run
from engine.seeding import seed_everything


def build_parser(model_id: str = "MMRA", preset: None = None) -> MethodParser:
    """The flags of an evaluation of one method; what it parses names a run, whose method's flags then hold."""
    parser = MethodParser(build_parser, named_method, model_id, preset, description=__doc__)
    parser.add_argument("--model_path", required=True, metavar="RUN", help="folder of a run, or the checkpoint in it")
    parser.add_argument("--split", default="test", choices=SPLITS[1:], help="predict: videos without a label")
    parser.add_argument("--batch_size", type=whole_number(1), default=256, help="also of the published batch means")
    parser.add_argument("--metric", nargs="+", choices=METRICS, default=list(METRICS), help="what is printed")
    parser.add_argument("--save", help="folder for the results, as <save>/<run>/; the run's own folder if not given")
    parser.add_argument("--seed", type=whole_number(0), default=2024, help="of the bootstrap")
    add_device_flag(parser)
    parser.add_argument("--dataset_path", help="folder that holds the data sets; the run's if not given")
    parser.add_argument("--dataset_id", help="data set to evaluate on; the run's if not given")
    parser.add_argument(
        "--allow_other_data", action="store_true", help="evaluate on data that are not the ones trained on"
    )
    published = parser.add_argument_group("flags of training", "given by the run; typed, they must agree with it")
    published.add_argument("--model_id", help="as trained")
    for name, flag in flags_of_the_run(model_id).items():
        flag.add(published, name)
    return parser


def flags_of_the_run(model_id: str) -> dict[str, Flag]:
    """Flags of train.py that say what was trained; those that say how are its alone, as ever."""
    flags = recipe(model_id).flags()
    kept = {name: flag for name, flag in flags.items() if name not in TRAINING or name == "loss"}
    return {
        name: replace(flag, default=flag.default if isinstance(flag.default, bool) else None, help="as trained")
        for name, flag in kept.items()
        if name != "seed"  # here it is of the bootstrap
    }


def named_method(words: list[str]) -> tuple[str, None]:
    """The method of the run that a command line names."""
    path = preparse(words, "model_path")["model_path"]
    return ("MMRA" if path is None else method_of(Run.open(path, "--model_path"))), None


def main(args) -> None:
    run = Run.open(args.model_path, "--model_path")
    settings = check_flags(args, run)
    device = pick_device(args.device)
    seed_everything(args.seed)
    folder = Path(args.dataset_path or settings["dataset_path"]) / (args.dataset_id or settings["dataset_id"])
    store = FeatureStore.open(folder, need=("visual", "textual"))
    neighbours = Neighbours.read(store) if recipe(settings["model_id"]).retrieves(settings) else None
    check_data(args, run, store, neighbours)
    out = output_folder(args, run, store)
    require_writable(out)
    # A network takes --batch_size items at a time here too.
    training = Training.from_settings(settings | {"batch_size": args.batch_size})
    method = build(settings["model_id"], run.config["data"]["family"], run.config["model"], training, device)
    method.load(run.folder)
    store.check_features("visual", "textual")
    retrieval = {name: settings[name] for name in RETRIEVAL} if neighbours is not None else {}
    frame_num = run.config["model"]["frame_num"]
    split = open_split(store, args.split, frame_num=frame_num, neighbours=neighbours, **retrieval)
    prediction = method.predict(split)  # (n, label_dim)
    if not np.isfinite(prediction).all():
        raise InputError(f"{run.folder}: predicts NaN or infinity for {int((~np.isfinite(prediction)).sum())} labels")
    k = retrieval.get("num_of_retrieved_items", 0)
    write_predictions(out / "predictions.csv", split, prediction, neighbours, k)
    if args.split != "predict":
        report = evaluate(split, prediction, args)
        write_json(out / "metrics.json", report)
        draw(out / "figures", run, split, prediction, args.split)
        print_report(report, args, run, store)
    print(f"{len(split)} predictions in {out / 'predictions.csv'}")


# ---- checks ------------------------------------------------------------------------------------


def check_flags(args, run: Run) -> dict:
    """The run's settings; InputError where it is no run or a typed flag contradicts it."""
    if Path(args.model_path).name == LAST:
        raise InputError(f"--model_path {args.model_path}: {LAST} is for --resume; give the run's folder or its {BEST}")
    model_id = method_of(run)
    check_config(run, recipe(model_id))
    settings, model = run.config["settings"], run.config["model"]
    for flag in ("model_id", *flags_of_the_run(model_id)):
        trained = model[flag] if flag in model else settings.get(flag)
        if flag in args.typed and args.typed[flag] != trained:
            raise InputError(f"--{flag} {args.typed[flag]} contradicts the run, which was trained with {trained}")
    return settings


def check_data(args, run: Run, store: FeatureStore, neighbours: Neighbours | None) -> None:
    """InputError where the data set is not the one trained on, or could not be used with this model at all."""
    trained, model = run.config["data"], run.config["model"]
    for name, value in dimensions(store, model["frame_num"]).items():
        if model[name] != value:
            raise InputError(f"{store.folder}: {name} {value}, but the model was trained with {model[name]}")
    if args.allow_other_data:
        return
    how = "--allow_other_data evaluates on it all the same"
    if store.fingerprint != trained.get("fingerprint"):
        raise InputError(
            f"{store.folder}: not the data trained on (fingerprint {store.fingerprint}, trained on "
            f"{trained.get('fingerprint')}); {how}"
        )
    known = run.config.get("neighbours") or {}
    if neighbours is not None and neighbours.digest() != known.get("digest"):
        raise InputError(
            f"{store.folder / 'neighbours.npz'}: not the neighbours trained with (bank {neighbours.bank}, "
            f"{neighbours.k} an item; trained with bank {known.get('bank')}, {known.get('k')} an item); {how}"
        )


def output_folder(args, run: Run, store: FeatureStore) -> Path:
    """The run's own folder is for split test of the data trained on; all else goes into folders within it."""
    out = Path(args.save) / run.folder.resolve().name if args.save else run.folder
    if store.fingerprint != run.config["data"]["fingerprint"]:
        out = out / f"{store.dataset_id}_{store.fingerprint}"
    return out if args.split == "test" else out / args.split


# ---- results -----------------------------------------------------------------------------------


def evaluate(split: Split, prediction: np.ndarray, args) -> dict:
    """Metrics over the whole split with intervals, one by one where there are several targets, and the batch means."""
    truth, names = split.label, split.store.info["label"]["names"]
    user = split.store.items.user[split.rows]
    group = creators(user) if (user != "").any() else None
    targets = {}
    for t, name in enumerate(names):
        resampled = resample([prediction[None, :, [t]]], truth[:, [t]], args.seed, group)
        targets[name] = {metric: interval_of(resampled.interval(0, metric)) for metric in METRICS}
    whole = measure(prediction, truth)
    data = {"dataset_id": split.store.dataset_id, "fingerprint": split.store.fingerprint}
    report = data | {"split": args.split, "n": len(split), "confidence": CONFIDENCE}
    report |= {"creators": len(set(user) - {""})}
    if len(names) == 1:
        report["metrics"] = targets[names[0]]
    else:
        report |= {"metrics": {m: {"value": value} for m, value in whole.items()}, "targets": targets}
    return report | {
        "published_batch_means": {"batch_size": args.batch_size} | batch_means(prediction, truth, args.batch_size)
    }


def interval_of(found: Interval) -> dict:
    """Low and high by creators where they are known, whose videos fare alike; by videos beside them then."""
    videos = {} if found.unit == "videos" else {"low_videos": found.low_videos, "high_videos": found.high_videos}
    return {"value": found.value, "low": found.low, "high": found.high} | videos


def print_report(report: dict, args, run: Run, store: FeatureStore) -> None:
    of = f" of {report['creators']} creators" if report["creators"] else ""
    print(f"{run.folder} on split {args.split} of {store.folder}: {report['n']} videos{of}")
    drawn = f"{'95 % by creators':>18}  {'95 % by videos':>18}" if of else f"{'95 % bootstrap':>18}"
    print(f"{'':<10}  {'whole split':>11}  {drawn}  mean of batches of {args.batch_size} (published)")
    for target, metrics in (report.get("targets") or {"": report["metrics"]}).items():
        for name in args.metric:
            m = metrics[name]
            batch = report["published_batch_means"][name] if not target else None
            line = f"{target} {name}".strip().ljust(10) + f"  {m['value']:>11.4f}  {m['low']:>8.4f} .. {m['high']:.4f}"
            line += f"  {m['low_videos']:>8.4f} .. {m['high_videos']:.4f}" if of else ""
            print(line if batch is None else f"{line}  {batch:.4f}")
    if "targets" in report:
        for name in args.metric:
            value, batch = report["metrics"][name]["value"], report["published_batch_means"][name]
            gap = f"{'':>18}  {'':>18}" if of else f"{'':>18}"
            print(f"mean {name}".ljust(10) + f"  {value:>11.4f}  {gap}  {batch:.4f}")


def write_predictions(path: Path, split: Split, prediction: np.ndarray, neighbours: Neighbours | None, k: int) -> None:
    """A row per item: id, prediction as label and as count, truth, and the ids of its neighbours as a JSON list."""
    store, items = split.store, split.store.items
    names = store.info["label"]["names"]
    columns = {"item_id": items.item_id[split.rows]}
    counts = np.maximum(store.to_count(prediction.astype(np.float64)), 0)
    for t, name in enumerate(names):
        suffix = f"_{name}" if len(names) > 1 else ""
        columns[f"prediction{suffix}"] = prediction[:, t]
        if store.info["label"]["transform"] != "none":
            columns[f"prediction_count{suffix}"] = counts[:, t]
        columns[f"truth{suffix}"] = split.label[:, t]
        columns[f"truth_count{suffix}"] = items.popularity[split.rows, t]
    ids = np.full((len(split), 0), -1) if neighbours is None else neighbours.ids[split.rows, :k]
    columns["neighbours"] = [json.dumps(items.item_id[row[row >= 0]].tolist(), ensure_ascii=False) for row in ids]
    with written_beside(path) as partial:
        pd.DataFrame(columns).to_csv(partial, index=False, float_format="%.12g")


def draw(folder: Path, run: Run, split: Split, prediction: np.ndarray, name: str) -> None:
    label = split.store.info["label"]
    for t, target in enumerate(label["names"]):
        axis = f"log2({target} + {label['offset']:g})" if label["transform"] == "log2" else target
        suffix = f"_{target}" if len(label["names"]) > 1 else ""
        title = f"{run.config['settings']['model_id']} on {split.store.dataset_id}, {name}"
        draw_predictions(
            folder / f"predicted_against_true{suffix}.png", prediction[:, t], split.label[:, t], axis, title
        )
        draw_errors(folder / f"error_over_popularity{suffix}.png", prediction[:, t], split.label[:, t], axis, title)
    if history := run.history():
        draw_training(folder / "training.png", history, "+".join(run.config["settings"].get("metric", ("RMSE",))))


if __name__ == "__main__":
    run_script(build_parser(), main)
