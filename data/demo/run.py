"""MMRA from raw videos to a number in a few minutes: draws 400 clips and runs the project's own commands on them.

The clips, their titles and their comment counts are made up (clips.py says how), so the best that any method could
reach is known. The two encoders are random, nothing is downloaded: the figures say that the machinery works, not how
good MMRA is on real videos. It ends with two clips that are drawn after the training.
"""

from __future__ import annotations

import common.ends  # noqa: F401 before all that takes time: from here on Ctrl-C ends in one line

import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import clips
import numpy as np
from tqdm import tqdm

from common.console import STEP, Parser, run_script

ROOT = Path(__file__).resolve().parents[2]
DEMO = "data/demo"
SEED = 2024
DATASET = "--dataset_path data --dataset_id demo"
# These flags were chosen by MMRA's validation error; the run without retrieval differs in --no_retrieval alone.
TRAIN = f"python train.py {DATASET} --feature_dim 64 --lr 1e-3 --epochs 100 --early_stop_turns 20 --seed {SEED}"
RUNS = {"MMRA without retrieval": ("no_retrieval", " --no_retrieval"), "MMRA": ("mmra", "")}
MADE = ("raw", "later", "encoders", "frames", "predictions", *(f"runs/{name}" for name, _ in RUNS.values()))

VIDEOS = f"{DEMO}/raw/videos"
PREPARATION = (
    f"python data/import_features.py --table {DEMO}/raw/items.csv {DATASET} --text_column title "
    f"--count_column comments --split_column split --videos {VIDEOS} --frame_num 4 "
    f"--visual_encoder {DEMO}/encoders/vit --textual_encoder {DEMO}/encoders/bert "
    f"--retrieval_encoder {DEMO}/encoders/bert --caption_encoder none --normalise standard --overwrite",
    f"python retriever.py {DATASET} --show 8 --videos {VIDEOS}",
)


def main() -> None:
    start = time.perf_counter()
    for name in MADE:
        shutil.rmtree(ROOT / DEMO / name, ignore_errors=True)
    videos = draw_everything()
    for command in PREPARATION:
        run(command)
    folders = {}
    for method, (name, flags) in RUNS.items():
        run(f"{TRAIN} --save {DEMO}/runs/{name}{flags}")
        folders[method] = newest(f"{DEMO}/runs/{name}")
        run(f"python test.py --model_path {folders[method]}")
    print_table(videos, folders)
    predict_later(folders["MMRA"])
    print(f"pictures: data/demo/neighbours.png (what was retrieved), {folders['MMRA']}/figures/*.png")
    print(f"{time.perf_counter() - start:.0f} s in all")


def draw_everything() -> list[clips.Video]:
    """Videos, table and encoders, as a user would bring them."""
    import small_encoders  # torch and transformers take seconds to load: not before there is something to read

    raw, encoders = ROOT / DEMO / "raw", ROOT / DEMO / "encoders"
    (raw / "videos").mkdir(parents=True)
    videos = clips.plan(SEED)
    for video in tqdm(videos, desc="drawing", unit="video", disable=None, dynamic_ncols=True):
        clips.write_video(video, raw / "videos")
    clips.write_table(videos, raw / "items.csv")
    print(f"{DEMO}/raw: {len(videos)} clips drawn, with titles and comment counts; for example:")
    for video in videos[:3]:
        print(f"  {video.item_id}.mp4  {video.comments:5d} comments  {video.title!r}")
    small_encoders.write_image_encoder(encoders / "vit", SEED)
    small_encoders.write_text_encoder(encoders / "bert", [video.title for video in videos], SEED)
    print(
        f"{DEMO}/encoders: a small ViT and a small BERT with random weights (untrained; real data take real encoders)"
    )
    limit = clips.reachable(videos, "test")["nMSE"]
    print(f"the noise in the counts lets no method reach less than about nMSE {limit:.3f} on split test")
    print(f"now the project's own commands, as you could type them in {ROOT}:", flush=True)
    return videos


def predict_later(run_folder: str) -> None:
    """Two clips are drawn, as they might arrive tomorrow, and the run is asked about them."""
    place, later = ROOT / DEMO / "later", clips.arriving(2, SEED)
    (place / "videos").mkdir(parents=True)
    for video in later:
        clips.write_video(video, place / "videos")
    with (place / "items.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["item_id", "title"], *([video.item_id, video.title] for video in later)])
    print(f"\n{DEMO}/later: two more clips, of which nothing but the title is known")
    output = f"--output {DEMO}/predictions"
    run(
        f"python test.py --model_path {run_folder} --table {DEMO}/later/items.csv --videos {DEMO}/later/videos {output}"
    )
    print("what they got: " + ", ".join(f"{video.item_id} {video.comments:,}" for video in later))


def run(command: str) -> None:
    """Print a command and run it from the repository's root; its failure is the demo's."""
    print(f"\n$ {command}", flush=True)
    arguments = shlex.split(command)
    code = subprocess.run([sys.executable, *arguments[1:]], cwd=ROOT, env=os.environ | {STEP: "demo"}).returncode
    if code:
        sys.exit(code)


def newest(folder: str) -> str:
    """The run's folder that train.py made in `folder`, which was empty before."""
    (run_folder,) = (path for path in (ROOT / folder).iterdir() if path.is_dir())
    return run_folder.relative_to(ROOT).as_posix()


def print_table(videos: list[clips.Video], folders: dict[str, str]) -> None:
    """nMSE, SRC and MAE on split test: the runs' own metrics.json, between the mean and the limit."""
    test = clips.labels(videos, "test")
    mean = np.full(len(test), clips.labels(videos, "train").mean())
    rows = {"mean predictor": clips.scores(mean, test)}
    for method, folder in folders.items():
        metrics = json.loads((ROOT / folder / "metrics.json").read_text(encoding="utf-8"))["metrics"]
        rows[method] = {name: metric["value"] for name, metric in metrics.items()}
    rows["reachable limit"] = clips.reachable(videos, "test")
    print(f"\nsplit test, {len(test)} videos{'nMSE':>10}{'SRC':>8}{'MAE':>8}")
    for name, row in rows.items():
        cells = "".join(f"{row[metric]:8.3f}" if np.isfinite(row[metric]) else f"{'-':>8}" for metric in clips.METRICS)
        print(f"{name:24}{cells}")


if __name__ == "__main__":
    run_script(Parser(description=__doc__), lambda _: main())
