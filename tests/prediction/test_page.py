"""The page as a file: what is in it, that no title becomes markup, its size; and what test.py --report puts into it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pages import HOSTILE, SVG, jpeg, page_of_videos
from tiny import make_store, trained

import engine.evaluation
from dataloader.thumbnails import FILE, write_thumbnails
from engine.figures import draw_training
from prediction.page import HEAD, Video, write_page
from prediction.report import coverage_of


class Elements(HTMLParser):
    """The elements of a page with their attributes, and what stands in <script> and <style>."""

    def __init__(self, html: str):
        super().__init__()
        self.elements, self.raw = [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        if self.elements and self.elements[-1][0] in ("script", "style"):
            self.raw.append((self.elements[-1][0], data))


def read(path: Path) -> dict:
    """The data of a page."""
    html = path.read_text("utf-8")
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', html, re.DOTALL)[1])


def test_whatever_titles_hold_they_stay_data(tmp_path):
    html = write_page(tmp_path / "page.html", page_of_videos()).read_text("utf-8")
    found = Elements(html)
    assert [tag for tag, _ in found.elements].count("script") == 2
    assert not any(tag in ("img", "b", "i", "svg") for tag, _ in found.elements)
    assert not any(name.startswith("on") for _, attributes in found.elements for name in attributes)
    data = read(tmp_path / "page.html")
    texts = {item_id: text for item_id, text, _ in data["items"]}
    assert {texts[f"v{i}"] for i in range(len(HOSTILE))} == set(HOSTILE)
    assert data["title"] == "A & B <b>test</b>" and data["pictures"] == {"a": SVG}


def test_it_loads_nothing_and_lets_nothing_else_act(tmp_path):
    html = write_page(tmp_path / "page.html", page_of_videos(2)).read_text("utf-8")
    found = Elements(html)
    for _, attributes in found.elements:
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith("data:")
    policy = next(a["content"] for tag, a in found.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;") and "unsafe" not in policy
    for kind, raw in (("style", html.split("<style>")[1].split("</style>")[0]), ("script", html.split("<script>")[1])):
        text = raw.split("</script>")[0]
        assert f"{kind}-src 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in policy
    assert "url(" not in html and "@import" not in html and "fetch(" not in html


def test_a_picture_is_in_it_once_and_five_neighbours_at_most(tmp_path):
    page = page_of_videos(3)
    same = page.videos[0].neighbours[0]
    page = replace(page, videos=[replace(video, neighbours=(same, *video.neighbours[1:])) for video in page.videos])
    html = write_page(tmp_path / "page.html", page).read_text("utf-8")
    data = read(tmp_path / "page.html")
    assert [len(video["near"]) for video in data["videos"]] == [5, 5, 5]
    assert len(data["items"]) == len(data["jpegs"]) == 3 + 1 + 3 * 4
    for item_id, _, number in data["items"]:
        head, rest = data["jpegs"][number]
        assert base64.b64decode(data["heads"][head] + rest) == page.thumbnails[item_id]
        assert html.count(rest) == 1
    assert len(data["heads"]) == 1  # files of one size begin alike


@pytest.mark.parametrize("words", [5, 400])
def test_1000_videos_stay_under_10_mb(tmp_path, words):
    """With pictures as large as those of square videos, all different, and titles in Chinese of any length."""
    rng, begin = np.random.default_rng(0), base64.b64decode(base64.b64encode(jpeg(0))[:HEAD])
    page = page_of_videos(
        1000,
        text=lambda i: "今天好" * words,
        jpegs=lambda seed: begin + rng.bytes(1950 - len(begin)),
        pictures={f"p{i}": SVG + " " * 130_000 for i in range(4)},
    )
    assert write_page(tmp_path / "page.html", page).stat().st_size < 10_000_000
    data = read(tmp_path / "page.html")
    assert all(data["items"][video["item"]][2] >= 0 for video in data["videos"])  # their own come first
    assert "neighbours are left out, for the page's size" in data["lines"][-1]


def test_half_a_character_and_videos_of_which_nothing_is_known(tmp_path):
    page = replace(page_of_videos(2), videos=[Video("a\ud800", "b\udfff", page_of_videos(2).videos[0].estimates)])
    write_page(tmp_path / "page.html", replace(page, metrics=(), pictures={}, thumbnails={}))
    assert read(tmp_path / "page.html")["items"] == [["a?", "b?", -1]]


# ---- test.py --report ------------------------------------------------------------------------------


def test_report_of_a_run(tmp_path, load_script, capsys, monkeypatch):
    one = {"training.png": draw_training([{"epoch": 1, "best_epoch": 1, "train_loss": 1.0, "valid": {}}], "nMSE")}
    monkeypatch.setattr(engine.evaluation, "draw", lambda *_: one)  # drawing all of them takes seconds
    store = make_store(tmp_path / "tiny", label_dim=2)
    write_thumbnails(store.folder / FILE, {one: jpeg(i) for i, one in enumerate(store.items.item_id)})
    run, script = (
        trained(store, tmp_path / "runs", "--epochs", 1, "--num_of_retrieved_items", 5),
        load_script("test.py"),
    )
    for split in ("test", "predict"):
        script.main(script.build_parser().parse_args(["--model_path", str(run), "--split", split, "--report"]))
        assert "report.html: a page of it" in capsys.readouterr().out
        folder = run if split == "test" else run / split
        data, table = read(folder / "report.html"), pd.read_csv(folder / "predictions.csv", dtype={"item_id": str})
        assert [data["items"][v["item"]][0] for v in data["videos"]] == table["item_id"].tolist()
        for t, name in enumerate(("target0", "target1")):
            found = [video["estimates"][t] for video in data["videos"]]
            np.testing.assert_allclose([one["label"] for one in found], table[f"prediction_{name}"], rtol=1e-6)
            np.testing.assert_allclose([one["count"] for one in found], table[f"prediction_count_{name}"], rtol=1e-6)
            true = [np.nan if one["true_count"] is None else one["true_count"] for one in found]
            np.testing.assert_allclose(true, table[f"truth_count_{name}"], rtol=1e-6)
        first = data["videos"][0]
        assert [data["items"][n[0]][0] for n in first["near"]] == json.loads(table["neighbours"][0])[:5]
        assert sum(n[2] for n in first["near"]) == pytest.approx(1, abs=1e-3)
        assert all(number >= 0 for _, _, number in data["items"])
        told = {(one["target"], one["name"]) for one in data["metrics"]}
        assert (("target1", "nMSE") in told, "training" in data["pictures"]) == (split == "test",) * 2
        assert any("too few to tell" in line for line in data["warnings"]) == (split == "test")


def test_what_intervals_hold_is_said():
    levels = {"80": {"coverage": 0.8125}, "95": {"coverage": 1.0}}
    assert list(coverage_of({})) == []
    assert list(coverage_of({"intervals": {"targets": {"views": levels}}})) == [
        "intervals of 80 % hold 81.2 % of these videos",
        "intervals of 95 % hold 100.0 % of these videos",
    ]


def test_intervals_of_the_table_are_shown_as_counts(tmp_path, load_script, monkeypatch):
    """Where predictions.csv has them; and a method without neighbours, on data without thumbnails."""
    plain = engine.evaluation.predictions

    def with_intervals(*args):
        table = plain(*args)
        bounds = {"lower_80": -1, "upper_80": 1, "lower_95": -2, "upper_95": 2}
        return table.assign(**{name: table["prediction"] + off for name, off in bounds.items()})

    monkeypatch.setattr(engine.evaluation, "predictions", with_intervals)
    store = make_store(tmp_path / "tiny", k=None)
    run, script = trained(store, tmp_path / "runs", "--model_id", "SVR"), load_script("test.py")
    script.main(script.build_parser().parse_args(["--model_path", str(run), "--report"]))
    for video in read(run / "report.html")["videos"]:
        one = video["estimates"][0]
        assert [r["percent"] for r in one["ranges"]] == [80, 95] and video["near"] == []
        assert one["ranges"][0]["high"] == pytest.approx(2 * (one["count"] + 1) - 1, rel=1e-5)
