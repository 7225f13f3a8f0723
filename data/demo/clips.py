"""The demo's world: what its videos show and are called, how popular they are, and why."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw
from scipy.stats import spearmanr

SIZE, FPS, FRAMES = 96, 12, 24  # pixels a side, frames a second, two seconds
METRICS = ("nMSE", "SRC", "MAE")
SPLITS = {"train": 260, "valid": 50, "test": 90}

# A topic is an activity at a place; each goes by four words, of which a title takes three.
ACTIVITIES = (
    ("skateboard", "kickflip", "ollie", "skating"),
    ("pancakes", "recipe", "cooking", "breakfast"),
    ("dance", "moonwalk", "choreography", "shuffle"),
    ("puppy", "dog", "fetch", "tricks"),
    ("drums", "solo", "drumming", "cover"),
    ("yoyo", "spin", "juggling", "stunt"),
)
PLACES = (
    ("beach", "waves", "seaside", "sand"),
    ("rooftop", "skyline", "downtown", "city"),
    ("forest", "trail", "woods", "camp"),
    ("garage", "workshop", "basement", "home"),
    ("school", "classroom", "campus", "yard"),
    ("snow", "hill", "winter", "mountain"),
)
COLOURS = ((225, 170, 60), (90, 120, 235), (70, 185, 80), (215, 75, 60), (190, 90, 205), (80, 205, 210))  # one a place
STYLES = ("tutorial {}", "unexpected {}", "{} compilation", "pov {}")
BACKGROUNDS = (235, 30, 170, 100)  # grey level, one a style
FILLERS = ("today", "again", "finally", "tonight", "alone", "slowly", "together", "almost")
MISLEADING = 0.08  # the share of titles that name an activity which the video does not show

# log2(comments + 1) = LEVEL + effect of the topic + effect of the style + noise. A topic's effect is its own: it does
# not follow from the activity's and the place's, so what similar videos got says more than the words one by one.
LEVEL, TOPIC_STD, STYLE_STD, NOISE_STD = 7.0, 1.5, 0.5, 0.7


@dataclass(frozen=True)
class Video:
    item_id: str
    title: str
    comments: int
    split: str
    activity: int
    place: int
    style: int
    planted: float  # log2(comments + 1) without the noise: the best that anyone can predict


def plan(seed: int = 2024) -> list[Video]:
    """The videos of the demo, in random order of their splits."""
    rng = np.random.default_rng(seed)
    effects = _effects(rng)
    splits = rng.permutation(np.repeat(list(SPLITS), list(SPLITS.values())))
    return [_video(rng, number, str(split), *effects) for number, split in enumerate(splits)]


def arriving(count: int, seed: int = 2024) -> list[Video]:
    """Videos of the same world that nobody has seen before."""
    effects, rng, first = _effects(np.random.default_rng(seed)), np.random.default_rng([seed, 1]), sum(SPLITS.values())
    return [_video(rng, first + number, "predict", *effects) for number in range(count)]


def _effects(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Of each topic and of each style."""
    topic = _standardised(rng.normal(size=(len(ACTIVITIES), len(PLACES)))) * TOPIC_STD
    return topic, _standardised(rng.normal(size=len(STYLES))) * STYLE_STD


def _standardised(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std()


def _video(rng: np.random.Generator, number: int, split: str, topic_effect, style_effect) -> Video:
    activity, place, style = (int(rng.integers(len(names))) for names in (ACTIVITIES, PLACES, STYLES))
    planted = LEVEL + topic_effect[activity, place] + style_effect[style]
    comments = max(0, round(2 ** (planted + rng.normal() * NOISE_STD)) - 1)
    named = int(rng.integers(len(ACTIVITIES))) if rng.random() < MISLEADING else activity
    words = [*rng.choice(ACTIVITIES[named], 3, replace=False), *rng.choice(PLACES[place], 3, replace=False)]
    words += [rng.choice(FILLERS)] * int(rng.integers(2))
    title = STYLES[style].format(" ".join(words))
    return Video(f"clip_{number:03d}", title, comments, split, activity, place, style, float(planted))


def draw(video: Video) -> list[Image.Image]:
    """The frames of one video: the place is the colour, the activity the motion, both together the number of shapes."""
    rng = np.random.default_rng(int(video.item_id.rpartition("_")[2]))
    background = int(np.clip(BACKGROUNDS[video.style] + rng.integers(-15, 16), 0, 255))
    colour = tuple(int(c) for c in np.clip(np.array(COLOURS[video.place]) + rng.integers(-20, 21, 3), 0, 255))
    count = 1 + (video.activity + video.place) % 4
    centres, phases = rng.uniform(0.25, 0.75, (count, 2)) * SIZE, rng.random(count)
    frames = []
    for time in np.arange(FRAMES) / FRAMES:
        image = Image.new("RGB", (SIZE, SIZE), (background,) * 3)
        pen = ImageDraw.Draw(image)
        for centre, phase in zip(centres, phases, strict=True):
            _shape(pen, video.activity, centre, 2 * np.pi * (time + phase), colour)
        frames.append(image)
    return frames


def _shape(pen: ImageDraw.ImageDraw, activity: int, centre: np.ndarray, angle: float, colour) -> None:
    """One shape of `activity` at one moment of its motion: across, up and down, around, growing,
    trembling, or along the diagonal."""
    wave, swing = np.sin(angle), SIZE / 4
    offsets = (
        (wave * swing, 0),
        (0, wave * swing),
        (np.cos(angle) * swing, wave * swing),
        (0, 0),
        (4 * wave, 0),
        (wave * swing,) * 2,
    )
    radius = SIZE / 9 * (1.2 + 0.8 * wave if activity == 3 else 1)
    x, y = centre + offsets[activity]
    box = (x - radius, y - radius, x + radius, y + radius)
    (pen.rectangle if activity % 2 else pen.ellipse)(box, fill=colour)


def write_video(video: Video, folder: Path) -> None:
    """<folder>/<item id>.mp4, H.264; the same bytes every time."""
    # With threads, or with x264's macroblock tree on pictures this small, the bytes would differ from call to call.
    options = {"preset": "veryfast", "crf": "20", "x264-params": "mbtree=0"}
    with av.open(str(folder / f"{video.item_id}.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuv420p"
        stream.codec_context.thread_count = 1
        for image in draw(video):
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode())


def write_table(videos: list[Video], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["item_id", "title", "comments", "split"])
        writer.writerows([video.item_id, video.title, video.comments, video.split] for video in videos)


def labels(videos: list[Video], split: str) -> np.ndarray:
    """(n,) log2(comments + 1), the label that import_features.py makes of the counts."""
    return np.log2([video.comments + 1 for video in videos if video.split == split])


def scores(prediction: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """nMSE, SRC (NaN for a constant) and MAE over all items: (n,) both."""
    constant = np.ptp(prediction) == 0
    return {
        "nMSE": float(np.mean((prediction - truth) ** 2) / np.var(truth)),
        "SRC": float("nan") if constant else float(spearmanr(prediction, truth).statistic),
        "MAE": float(np.mean(np.abs(prediction - truth))),
    }


def reachable(videos: list[Video], split: str) -> dict[str, float]:
    """What the planted truth itself scores: all but the noise. Better than that is luck."""
    planted = np.array([video.planted for video in videos if video.split == split])
    return scores(planted, labels(videos, split))
