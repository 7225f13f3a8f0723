"""A page with what people put into titles, for the tests that read it and those that open it."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from prediction.page import Estimate, Measured, Neighbour, Page, Range, Video

HOSTILE = (
    '</script><script>document.title = "attacked"</script>',
    "<img src=x onerror=\"document.title = 'attacked'\">",
    "<!--<script>",
    "{{ 7 * 7 }} {% raw %} &amp; \u2028 \u2029 \x00 \\u003c",
    "今天的天气非常好",
    "مرحبا بالعالم 123",
    "🔥 fire 👩‍👩‍👧 🏳️‍🌈",
    "",
)
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="90" height="60"><rect width="90" height="60" fill="teal"/></svg>'


def jpeg(seed: int) -> bytes:
    file = io.BytesIO()
    colour = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(colour).resize((96, 72)).save(file, "jpeg", quality=60)
    return file.getvalue()


def page_of_videos(number: int = 130, *, text=lambda i: HOSTILE[i % len(HOSTILE)], jpegs=jpeg, pictures=None) -> Page:
    """Videos of predicted counts 0, 7, 14 ..., in another order, each with six neighbours of its own."""
    order = np.random.default_rng(0).permutation(number)
    videos = []
    for i in map(int, order):
        count = 7.0 * i
        near = tuple(Neighbour(f"n{i}_{k}", text(i + k), 0.9 - k / 10, (5 - k) / 15, (100.0 * k,)) for k in range(6))
        label, true = float(np.log2(count + 1)), count / 2 if i % 3 else None
        estimate = Estimate(label, count, (Range(80, count / 2, count * 2),), true and float(np.log2(true + 1)), true)
        videos.append(Video(f"v{i}", text(i), (estimate,), near, (f"note {i}",)))
    named = [*(video.item_id for video in videos), *(one.item_id for video in videos for one in video.neighbours)]
    return Page(
        title="A & B <b>test</b>",
        targets=("views",),
        unit="log2(count + 1)",
        videos=videos,
        lines=("label views <i>",),
        warnings=("warning: few",),
        metrics=(Measured("nMSE", 0.5, 0.4, float("nan"), False), Measured("SRC", float("nan"), 0.1, 0.2, True)),
        pictures={"a": SVG} if pictures is None else pictures,
        thumbnails={item_id: jpegs(seed) for seed, item_id in enumerate(named)},
    )
