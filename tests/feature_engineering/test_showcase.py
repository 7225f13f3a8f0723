"""Pictures with titles: in whatever script, as far as an installed font has it, and counts in digits."""

from __future__ import annotations

import io
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib import get_data_path
from PIL import Image
from test_videos import write
from tiny import make_store, remade, searched

from common import fonts
from common.fonts import FIRST, fonts_for
from dataloader.neighbours import Neighbours
from feature_engineering import showcase
from feature_engineering.decoding import pixels
from feature_engineering.decoding.videos import capture
from feature_engineering.showcase import HEIGHT, SHAPE, in_digits, one_line, show_neighbours, side_by_side


@pytest.fixture
def only_one_font(monkeypatch):
    """A machine that has no font but the one of matplotlib."""
    path = str(Path(get_data_path()) / "fonts/ttf/DejaVuSans.ttf")
    monkeypatch.setattr(fonts, "_installed", lambda: ((FIRST, path),))
    fonts._family_of.cache_clear()
    yield
    fonts._family_of.cache_clear()


def test_a_title_is_drawn_where_a_font_has_all_of_it(only_one_font):
    for text in ("a dog & $1", "ünïcödé, привет, ελληνικά", "", "😂 two\nlines"):
        assert fonts_for(text) == [FIRST]
    for text in ("今天", "dog 🔥", "مرحبا", "שלום", "नमस्ते", "\U0010fffe"):
        assert fonts_for(text) is None


def test_other_fonts_help_where_they_are_installed():
    found = fonts_for("今天 dog")
    if found is None:
        pytest.skip("no font with Chinese characters is installed")
    assert found[0] == FIRST and len(found) == 2
    assert fonts_for("مرحبا") is None  # letters that join, from right to left: matplotlib cannot


@pytest.mark.parametrize(
    ("count", "said"),
    [(12690, "12,690"), (1.269e7, "12,690,000"), (3.0, "3"), (0.0, "0"), (3.456, "3.46"), (1234.5, "1,234")],
)
def test_counts_are_digits(count, said):
    assert in_digits(count) == said


def test_titles_are_cut_by_their_width():
    assert one_line("a  b\n c") == "a b c" and one_line("x" * 46) == "x" * 46
    assert one_line("x" * 47) == "x" * 45 + "…" and one_line("今" * 24) == "今" * 22 + "…"


@pytest.mark.parametrize("size", [(1920, 1080), (1080, 1920), (480, 480), (640, 480), (2000, 100), (10, 900)])
def test_strips_are_about_as_wide_as_their_cells(size):
    strip = side_by_side([Image.new("RGB", size)] * 5)
    assert strip.height == HEIGHT
    if 0.5 <= size[0] / size[1] <= 2:
        assert 0.75 * SHAPE <= strip.width / strip.height <= 1.25 * SHAPE


def test_a_picture_with_titles_in_all_scripts(tmp_path, only_one_font, monkeypatch):
    """matplotlib warns of a character that no font has, which would be an empty box."""
    store = make_store(tmp_path / "set")
    texts = np.array(["今天", "مرحبا", "🔥", "$x_1$", "a\ttab", ""] * len(store), object)[: len(store)]
    store = searched(remade(store, replace(store.items, text=texts)), "retrieval")
    (store.folder / "frames").mkdir()
    for item_id in store.items.item_id:
        Image.new("RGB", (40, 30), "teal").save(store.folder / f"frames/{item_id}_0.png")
    in_this_process = lambda function, tasks, **_: [function(*task) for task in tasks]  # noqa: E731
    monkeypatch.setattr(showcase, "in_workers", in_this_process)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = show_neighbours(store, Neighbours.read(store), 2, None, None)
    with Image.open(path) as picture:
        white = (np.asarray(picture.convert("L")) > 250).mean()
    assert white < 0.8  # of single frames, which fill less than strips do


@pytest.mark.parametrize(("number", "middle"), [(7, 3), (2, 1), (1, 0)])
def test_a_thumbnail_is_the_middle_frame(tmp_path, monkeypatch, number, middle):
    """Of a video and of its frames as pictures alike; of one that has fewer frames than are asked for too."""

    def draw(k: int) -> np.ndarray:
        image = np.zeros((480, 640, 3), np.uint8)
        image[:, :, k % 3], image[:240, :, 1] = 255, 40 * k
        return image

    monkeypatch.setattr(pixels, "_processor", lambda images, return_tensors: {"pixel_values": [np.zeros((3, 2, 2))]})
    video = write(tmp_path / "v.mp4", number, size=(640, 480), draw=draw)
    frames, real, _, of_video = pixels.from_video(video, 3)
    assert frames.shape == (3, 3, 2, 2) and real == min(number, 3)
    paths = [tmp_path / f"v_{k}.png" for k in range(real)]
    for path, image in zip(paths, capture(video, 3).images, strict=False):
        Image.fromarray(image).save(path)
    for jpeg in (of_video, pixels.from_images(paths, 3)[3]):
        with Image.open(io.BytesIO(jpeg)) as picture:
            found = np.asarray(picture.convert("RGB")).astype(int)
        assert found.shape == (72, 96, 3)
        expected = np.asarray(Image.fromarray(draw(middle)).resize((96, 72)))
        assert np.abs(found - expected)[[10, 60]].mean() < 12
