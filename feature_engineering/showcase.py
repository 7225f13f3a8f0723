"""A picture of what was retrieved: frames of some items beside those of their nearest neighbours, with popularity."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # It draws into files and needs no display.
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from common.console import InputError
from common.files import written_beside
from dataloader.importing.video_files import Videos, read_named
from dataloader.neighbours import Neighbours
from dataloader.store import FeatureStore
from feature_engineering.decoding.naming import find_images, refuse_hostile_ids
from feature_engineering.decoding.pictures import read_image
from feature_engineering.decoding.videos import capture
from feature_engineering.decoding.workers import Failure, in_workers

SHOWN_NEIGHBOURS = 4
FRAMES = 3  # of each video: its first, its middle and its last
HEIGHT = 160  # pixels of a frame
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
    figure, axes = plt.subplots(
        len(grid), columns, figsize=(4.2 * columns, 2.1 * len(grid)), squeeze=False, layout="constrained"
    )
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
    known = [(name, items.popularity[row, t]) for t, name in enumerate(label) if np.isfinite(items.popularity[row, t])]
    known = known or [(name, items.label[row, t]) for t, name in enumerate(label) if np.isfinite(items.label[row, t])]
    popularity = ", ".join(f"{value:,.4g} {name}" for name, value in known) or "popularity unknown"
    head = "query" if rank == 0 else f"neighbour {rank}, {similarity:.3f}"
    text = items.text[row].encode("ascii", "replace").decode()  # The font of the figure has no emoji.
    axis.set_title(
        f"{head}: {popularity}\n{text[:48]}", fontsize=9, fontweight="bold" if rank == 0 else "normal", parse_math=False
    )


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
    return side_by_side([Image.fromarray(image) for image in capture(path, FRAMES, threads=1).images])


def strip_of_images(paths: list[Path]) -> Image.Image:
    chosen = np.unique(np.linspace(0, len(paths) - 1, FRAMES).astype(int))
    return side_by_side([read_image(paths[i]) for i in chosen])


def side_by_side(images: list[Image.Image]) -> Image.Image:
    scaled = [image.resize((max(1, round(image.width * HEIGHT / image.height)), HEIGHT)) for image in images]
    strip = Image.new("RGB", (sum(image.width for image in scaled), HEIGHT))
    left = 0
    for image in scaled:
        strip.paste(image, (left, 0))
        left += image.width
    return strip
