"""One self-contained HTML page of predictions: it opens from the disk, loads nothing, and sorts, filters and zooms.

What is shown comes as plain data. Titles and ids are whatever people typed: they go into the page as JSON in which
nothing can end the script element, and are put on it as text. The page's own policy forbids it all network.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import jinja2

from common.files import without_nan, written_beside

SHOWN_NEIGHBOURS = 5
ROOM = 8400  # bytes of texts and pictures for each video, so that 1,000 videos stay under 10 MB with all else
LEAST = 1_000_000  # bytes of pictures that a page may have in any case
HEAD = 828  # characters (621 bytes, divisible by 3) that JPEG files of one size and quality begin with, all alike
LONGEST, SHORT = 1000, 200  # characters of a video's text, and of a neighbour's
UNSAFE = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


@dataclass(frozen=True)
class Neighbour:
    """counts: of each target, None where unknown. weight: its share in what the neighbours say; None where none is."""

    item_id: str
    text: str
    similarity: float
    weight: float | None
    counts: tuple[float | None, ...]


@dataclass(frozen=True)
class Range:
    """The true value lies in it for `percent` of videos; in the unit that is shown, counts where there are any."""

    percent: int
    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """What is predicted of one target: as label, as count where labels are of counts, and the truth where known."""

    label: float
    count: float | None = None
    ranges: tuple[Range, ...] = ()
    true_label: float | None = None
    true_count: float | None = None


@dataclass(frozen=True)
class Video:
    """estimates: one a target. notes: what else is to be known of it, a sentence each."""

    item_id: str
    text: str
    estimates: tuple[Estimate, ...]
    neighbours: tuple[Neighbour, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measured:
    """A line of the table of metrics; target: "" where there is one."""

    name: str
    value: float
    low: float
    high: float
    larger_is_better: bool
    target: str = ""


@dataclass(frozen=True)
class Page:
    """targets: names; unit: of the labels, in words. lines, warnings: over everything else. pictures: title -> SVG.

    thumbnails: item id -> JPEG, of the videos and of their neighbours; those that there are none of are shown without.
    """

    title: str
    targets: tuple[str, ...]
    unit: str
    videos: Sequence[Video]
    lines: Sequence[str] = ()
    warnings: Sequence[str] = ()
    metrics: Sequence[Measured] = ()
    pictures: Mapping[str, str] = field(default_factory=dict)
    thumbnails: Mapping[str, bytes] = field(default_factory=dict)


def write_page(path: Path, page: Page) -> Path:
    """Write the page, in place of what is there."""
    here = Path(__file__).parent
    script, style = (here / "page.js").read_text("utf-8"), (here / "page.css").read_text("utf-8")
    loader = jinja2.FileSystemLoader(here)
    template = jinja2.Environment(loader=loader, autoescape=True).get_template("page.html.j2")
    html = template.render(
        title=page.title,
        style=style,
        style_hash=policy_hash(style),
        script=script,
        script_hash=policy_hash(script),
        data=json_in_script(content(page)),
    )
    with written_beside(path) as partial:
        partial.write_bytes(html.encode("utf-8", "replace"))  # half of a pair of UTF-16 is no character
    return path


def json_in_script(content: dict) -> str:
    """JSON that a <script> element may hold, whatever the texts in it are."""
    return json.dumps(without_nan(content), ensure_ascii=False, separators=(",", ":")).translate(UNSAFE)


def policy_hash(text: str) -> str:
    """What the page's policy names a script or style by that may act; no other may."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def content(page: Page) -> dict:
    """What page.js reads: each item once, by number, with the number of its picture."""
    texts = {
        neighbour.item_id: neighbour.text[:SHORT]
        for video in page.videos
        for neighbour in video.neighbours[:SHOWN_NEIGHBOURS]
    }
    texts |= {video.item_id: video.text[:LONGEST] for video in page.videos}
    room = ROOM * len(page.videos) - sum(len(text.encode("utf-8", "replace")) for text in texts.values())
    chosen, left_out = choose_pictures(page, max(LEAST, room))
    number = {item_id: i for i, item_id in enumerate(chosen)}
    place = {item_id: i for i, item_id in enumerate(texts)}
    heads = list(dict.fromkeys(encoded[:HEAD] for encoded in chosen.values()))
    head = {text: i for i, text in enumerate(heads)}
    lines = list(page.lines)
    if left_out:
        lines.append(f"pictures of {left_out} neighbours are left out, for the page's size")
    return {
        "title": page.title,
        "targets": list(page.targets),
        "unit": page.unit,
        "lines": lines,
        "warnings": list(page.warnings),
        "metrics": [asdict(one) for one in page.metrics],
        "pictures": dict(page.pictures),
        "items": [[item_id, text, number.get(item_id, -1)] for item_id, text in texts.items()],
        "heads": heads,
        "jpegs": [[head[encoded[:HEAD]], encoded[HEAD:]] for encoded in chosen.values()],
        "videos": [
            {
                "item": place[video.item_id],
                "estimates": [short(asdict(one)) for one in video.estimates],
                "near": [
                    [
                        place[one.item_id],
                        round(one.similarity, 4),
                        one.weight and round(one.weight, 4),
                        list(one.counts),
                    ]
                    for one in video.neighbours[:SHOWN_NEIGHBOURS]
                ],
                "notes": list(video.notes),
            }
            for video in page.videos
        ],
    }


def short(found):
    """The same with numbers of ten digits, which is more than anyone reads and half of what they have."""
    if isinstance(found, dict):
        return {name: short(value) for name, value in found.items()}
    if isinstance(found, list | tuple):
        return [short(value) for value in found]
    return float(f"{found:.10g}") if isinstance(found, float) else found


def choose_pictures(page: Page, room: int) -> tuple[dict[str, str], int]:
    """Item id -> its picture in base64, and how many had no place: the videos' own first, then the nearest neighbours'.

    room: bytes for all.

    JPEG files of one size begin alike, which page.js puts before them; so that beginning is not counted.
    """
    ranks = [[video.item_id for video in page.videos]]
    for rank in range(SHOWN_NEIGHBOURS):
        ranks.append([video.neighbours[rank].item_id for video in page.videos if len(video.neighbours) > rank])
    chosen, left_out = {}, 0
    for item_id in dict.fromkeys(item_id for rank in ranks for item_id in rank):
        if item_id not in page.thumbnails:
            continue
        encoded = base64.b64encode(page.thumbnails[item_id]).decode()
        room -= max(0, len(encoded) - HEAD)
        if room >= 0:
            chosen[item_id] = encoded
        else:
            left_out += 1
    return chosen, left_out
