"""A picture of what was retrieved: frames of some items beside those of their nearest neighbours, with popularity."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # It draws into files and needs no display.
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from common.console import InputError
from common.files import written_beside
from common.fonts import fonts_for
from dataloader.importing.video_files import Videos, read_named
from dataloader.neighbours import Neighbours
from dataloader.store import FeatureStore
from feature_engineering.decoding.naming import find_images, refuse_hostile_ids
from feature_engineering.decoding.pictures import read_image
from feature_engineering.decoding.videos import capture
from feature_engineering.decoding.workers import Failure, in_workers

SHOWN_NEIGHBOURS = 4
FRAMES = 5  # of each video at most, evenly from its first to its last; as many are shown as fit
HEIGHT = 160  # pixels of a frame
SHAPE = 3  # how much wider than high a strip of frames is
WIDTH, TITLE = 3.5, 0.45  # inches: of a strip, and of the two lines over it
CHARACTERS = 46  # of a title, at most
TIMEOUT = 60  # seconds for a video


def show_neighbours(
    store: FeatureStore, neighbours: Neighbours, count: int, videos: Path | None, frames: Path | None
) -> Path:
    """Write neighbours.png into the store's folder: `count` items of split test (else of predict), a row each.

    InputError where there are neither videos nor pictures of them.
    """
    if not videos or read_named(store.folder) is None:
        refuse_hostile_ids(store)
    queries = next(rows for split in ("test", "predict", "valid", "train") if len(rows := store.items.rows(split)))
    queries = queries[np.linspace(0, len(queries) - 1, min(count, len(queries))).astype(int)]
    grid = [[query, *(row for row in neighbours.ids[query, :SHOWN_NEIGHBOURS] if row >= 0)] for query in queries]
    rows = list(dict.fromkeys(row for line in grid for row in line))
    strips = load_strips([store.items.item_id[row] for row in rows], store.folder, videos, frames)
    columns = max(len(line) for line in grid)
    # Each strip is about SHAPE times as wide as it is high, so cells of that shape leave little of the picture white.
    size = (WIDTH * columns, (WIDTH / SHAPE + TITLE) * len(grid))
    figure, axes = plt.subplots(len(grid), columns, figsize=size, squeeze=False)
    place = {"left": 0.01, "right": 0.99, "bottom": 0.01, "top": 1 - TITLE / size[1], "wspace": 0.03}
    figure.subplots_adjust(**place, hspace=TITLE / (WIDTH / SHAPE))
    for line, line_axes in zip(grid, axes, strict=True):
        for axis in line_axes:
            axis.set_axis_off()
        for rank, (row, axis) in enumerate(zip(line, line_axes, strict=False)):
            draw_item(axis, store, row, strips, rank, None if rank == 0 else neighbours.similarity[line[0], rank - 1])
    path = store.folder / "neighbours.png"
    with written_beside(path) as partial:
        figure.savefig(partial, format="png", dpi=100)
    plt.close(figure)
    return path


def draw_item(axis, store: FeatureStore, row: int, strips: dict, rank: int, similarity: float | None) -> None:
    items, label = store.items, store.label.names
    strip = strips.get(items.item_id[row])
    if strip is None:
        axis.text(0.5, 0.5, "no frames", ha="center", va="center", transform=axis.transAxes)
    else:
        axis.imshow(strip)
    counts, values = items.popularity[row], items.label[row]
    known = [f"{in_digits(count)} {name}" for name, count in zip(label, counts, strict=True) if np.isfinite(count)]
    known = known or [f"{value:.4g} {name}" for name, value in zip(label, values, strict=True) if np.isfinite(value)]
    head = "query" if rank == 0 else f"neighbour {rank}, {similarity:.3f}"
    # A title that no installed font can draw would be a row of boxes; its id tells as well which video it is.
    text = one_line(items.text[row])
    families = fonts_for(text)
    under = text if text and families else one_line(items.item_id[row])
    axis.set_title(
        f"{head}: {', '.join(known) or 'popularity unknown'}\n{under}",
        fontsize=9,
        fontweight="bold" if rank == 0 else "normal",
        fontfamily=families,
        parse_math=False,
    )


def in_digits(count: float) -> str:
    """12,690 and not 1.269e+04."""
    return f"{count:,.0f}" if count == round(count) or count >= 100 else f"{count:,.3g}"


def one_line(text: str) -> str:
    """As much of a text as fits over a strip; Chinese and its kin are twice as wide."""
    text, width = " ".join(text.replace("\ufe0f", "").split()), 0  # that character is none, but a wish for colour
    for number, character in enumerate(text):
        width += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if width > CHARACTERS:
            return text[: number - 1].rstrip() + "…"
    return text


def load_strips(item_ids: list[str], folder: Path, videos: Path | None, frames: Path | None) -> dict[str, Image.Image]:
    """Item id -> some frames side by side; items without any are left out."""
    if videos:
        files = Videos(videos, read_named(folder))
        load, where = strip_of_video, videos
        tasks = [(item_id, (path,)) for item_id in item_ids if (path := files.of(item_id)[0])]
    else:
        where = frames or folder / "frames"
        found = find_images(where, item_ids) if where.is_dir() else {}
        load = strip_of_images
        tasks = [(item_id, (found[item_id],)) for item_id in item_ids if item_id in found]
    if not tasks:
        raise InputError(f"{where}: no frames of the items to show; give --videos <folder> or --frames <folder>")
    results = in_workers(load, (task for _, task in tasks), workers=2, timeout=TIMEOUT)
    return {
        item_id: strip for (item_id, _), strip in zip(tasks, results, strict=True) if not isinstance(strip, Failure)
    }


def strip_of_video(path: Path) -> Image.Image:
    captured = capture(path, FRAMES, threads=1)
    return side_by_side([Image.fromarray(image) for image in captured.images[: captured.real]])


def strip_of_images(paths: list[Path]) -> Image.Image:
    chosen = np.unique(np.linspace(0, len(paths) - 1, FRAMES).astype(int))
    return side_by_side([read_image(paths[i]) for i in chosen])


def side_by_side(images: list[Image.Image]) -> Image.Image:
    """As many of them, evenly, as make a strip SHAPE times as wide as it is high: more of upright ones."""
    fitting = max(1, round(SHAPE * images[0].height / images[0].width))
    images = [images[i] for i in np.unique(np.linspace(0, len(images) - 1, min(fitting, len(images))).astype(int))]
    scaled = [image.resize((max(1, round(image.width * HEIGHT / image.height)), HEIGHT)) for image in images]
    strip = Image.new("RGB", (sum(image.width for image in scaled), HEIGHT))
    left = 0
    for image in scaled:
        strip.paste(image, (left, 0))
        left += image.width
    return strip
