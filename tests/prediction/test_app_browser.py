"""The app as it is started, in Chromium without a window: a clip is dropped, a number and neighbours are seen.

Wants `pip install -r requirements-app.txt -r requirements-browser.txt`, and Debian's chromium or `playwright install
chromium`.
"""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from tiny import run_test, trained

from dataloader.store import FeatureStore

pytestmark = pytest.mark.slow
for package in ("fastapi", "uvicorn", "python_multipart"):
    pytest.importorskip(package, reason=f"no {package} (requirements-app.txt)")
MAX_MB, WAIT = 12, 120_000  # WAIT: milliseconds, as this may run beside much else
DROP = """async ([name, content]) => {
  const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name));
  for (const kind of ["dragenter", "dragover", "drop"]) {
    const event = new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: transfer });
    document.getElementById("drop").dispatchEvent(event);
  }
}"""


def started(run: Path, place: Path, *flags) -> tuple[subprocess.Popen, str]:
    """The app as a process of its own, and where it answers. place: for its temporary files."""
    words = [sys.executable, "-m", "prediction.app", "--model_path", run, "--port", 0, "--max_mb", MAX_MB, *flags]
    place.mkdir(exist_ok=True)
    how = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(list(map(str, words)), env={**os.environ, "TMPDIR": str(place)}, **how)
    for line in process.stdout:
        if line.startswith("http://"):
            return process, line.strip()
    raise AssertionError(process.stderr.read())


@pytest.fixture(scope="module")
def app(made, tmp_path_factory):
    """Where the app of the boosted run answers; afterwards Ctrl-C ends it quietly, and it leaves nothing behind."""
    _, runs = made
    place = tmp_path_factory.mktemp("tmp")
    process, address = started(runs["RetrievalBoost"], place)
    yield address
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (0, "", "")
    assert not list(place.glob("mmra_app_*"))


@pytest.fixture
def opened(browser, app):
    """opened(): a page of the app of its own. What the browser complains of, or asks others for, fails the test."""
    said, contexts = [], []

    def page(**how):
        context = browser.new_context(**how)
        contexts.append(context)
        one = context.new_page()
        one.set_default_timeout(WAIT)
        one.on("console", lambda message: said.append(f"console {message.type}: {message.text}"))
        one.on("pageerror", lambda error: said.append(f"error: {error}"))
        one.on("request", lambda asked: None if asked.url.startswith(("data:", f"{app}/")) else said.append(asked.url))
        one.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
        one.goto(app)
        return one

    yield page
    for context in contexts:
        context.close()
    assert [line for line in said if line != "about:srcdoc"] == []  # the frame itself


def drop(page, name: str, content: bytes) -> None:
    page.evaluate(DROP, [name, base64.b64encode(content).decode()])
    assert name in page.inner_text("#chosen")


def answered(page):
    """The frame with the report, once it is there."""
    page.click("#send")
    page.wait_for_selector("#answer iframe, #wrong:not(:empty)")
    assert page.inner_text("#wrong") == ""
    return page.frame_locator("#answer iframe")


def number_in(frame) -> float:
    return float(frame.locator("tr.row td:nth-child(2) span").inner_text(timeout=WAIT).replace(",", ""))


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
def test_a_clip_in_and_a_number_and_neighbours_out(made, opened, tmp_path, load_script, phone):
    place, runs = made
    size = {"width": 360, "height": 740} if phone else {"width": 1200, "height": 900}
    page = opened(viewport=size, is_mobile=phone)
    title = '</script><img src=x onerror="alert(1)"> red ball'
    page.fill("[name=title]", title)
    drop(page, "v43.mp4", (place / "new" / "v43.mp4").read_bytes())
    page.click("summary")
    page.fill("[name=known_0]", "c1")
    frame = answered(page)
    pd.DataFrame({"item_id": ["v43"], "title": [title], "creator": ["c1"]}).to_csv(tmp_path / "one.csv", index=False)
    words = ("--table", tmp_path / "one.csv", "--videos", place / "new", "--workers", 1, "--output", tmp_path / "out")
    run_test(load_script, "--model_path", runs["RetrievalBoost"], *words)
    expected = pd.read_csv(tmp_path / "out" / "predictions.csv").iloc[0]
    assert number_in(frame) == pytest.approx(expected["prediction_count"], abs=0.6)
    near = frame.locator(".near > div")
    assert near.count() == 5 and near.first.is_visible()  # without a click
    shown = near.locator(".id").all_inner_texts()
    assert shown == [one["id"] for one in json.loads(expected["neighbours"])][:5]
    assert frame.locator("tr.row .title").inner_text() == title
    pictures = frame.locator(".near img").evaluate_all("all => all.map((one) => one.naturalWidth)")
    assert len(pictures) == 5 and min(pictures) > 0
    assert re.fullmatch(r"Answered in \d+\.\d s\.", page.inner_text("#status"))
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # The frame is as high as what is in it, and has no way out of itself.
    page.wait_for_function("document.querySelector('iframe').clientHeight > 300")
    inside = frame.locator("body").evaluate("body => [body.offsetHeight, innerHeight, origin]")
    assert inside[0] <= inside[1] and inside[2] == "null"


def test_hostile_files_are_answered_with_a_sentence_and_the_next_is_predicted(made, opened):
    place, _ = made
    page = opened()
    clip = (place / "new" / "v44.mp4").read_bytes()
    noise = np.random.default_rng(0).bytes(300_000)
    hostile = {
        "noise.mp4": noise,
        "text.mp4": b"all work and no play " * 500_000,
        "half.mp4": clip[: len(clip) // 2],
        "zeros.webm": bytes(1_000_000),
        "playlist.mkv": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        "empty.mp4": b"",
    }
    for name, content in hostile.items():
        drop(page, name, content)
        page.click("#send")
        page.wait_for_selector("#wrong:not(:empty)")
        wrong = page.inner_text("#wrong")
        assert re.fullmatch(r"[^\n]{10,300}\.", wrong) and "/" not in wrong, f"{name}: {wrong}"
        assert page.locator("iframe").count() == 0
    drop(page, "clip.mp4", clip)
    assert np.isfinite(number_in(answered(page)))


def test_two_at_once_are_both_answered(made, opened):
    place, _ = made
    pages = [opened(), opened()]
    for page, clip in zip(pages, ("v45", "v46"), strict=True):
        page.fill("[name=title]", clip)
        drop(page, f"{clip}.mp4", (place / "new" / f"{clip}.mp4").read_bytes())
    for page in pages:
        page.click("#send")
    for page, clip in zip(pages, ("v45", "v46"), strict=True):
        page.wait_for_selector("#answer iframe")
        frame = page.frame_locator("#answer iframe")
        assert frame.locator("tr.row .title").inner_text() == clip and np.isfinite(number_in(frame))


def test_what_is_too_large_is_refused_by_page_and_app(opened, app):
    page = opened()
    drop(page, "large.mp4", bytes(MAX_MB * 1_000_000 + 1))
    assert page.inner_text("#wrong") == "large.mp4: 12.0 MB, and 12.0 MB is the most"
    page.click("#send")
    assert page.locator("iframe").count() == 0
    form = b'--x\r\nContent-Disposition: form-data; name="video"; filename="a.mp4"\r\n\r\n%s\r\n--x--\r\n'
    asked = urllib.request.Request(f"{app}/predict", form % bytes(14_000_000))
    asked.add_header("Content-Type", "multipart/form-data; boundary=x")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(asked)
    assert refused.value.code == 413 and "12 MB, which is the most" in json.load(refused.value)["error"]
    foreign = urllib.request.Request(f"{app}/predict", b"", {"Origin": "http://evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(foreign)


def test_who_goes_away_costs_nobody_anything(made, opened, app):
    """Eight pages are closed while they wait; the ninth is answered."""
    place, _ = made
    clip = (place / "new" / "v47.mp4").read_bytes()
    for _ in range(8):
        page = opened()
        drop(page, "a.mp4", clip)
        page.click("#send")
        page.close()
    page = opened()
    drop(page, "a.mp4", clip)
    assert np.isfinite(number_in(answered(page)))


def test_an_interval_is_shown_and_a_kill_leaves_nothing_behind(made, browser, tmp_path):
    place, _ = made
    network = ("--epochs", 1, "--feature_dim", 16, "--num_of_retrieved_items", 4, "--cross_conformal", 2)
    run = trained(FeatureStore.open(place / "mine"), tmp_path / "runs", "--model_id", "MMRA", *network)
    process, address = started(run, tmp_path / "tmp")
    page = browser.new_page()
    page.set_default_timeout(WAIT)
    page.goto(address)
    drop(page, "v48.mp4", (place / "new" / "v48.mp4").read_bytes())
    frame = answered(page)
    assert re.fullmatch(
        r"[\d,.]+ – [\d,.]+", frame.locator("tr.row td[data-name='80 % interval']").inner_text(timeout=WAIT)
    )
    page.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 128 + signal.SIGTERM
    assert not list((tmp_path / "tmp").glob("mmra_app_*"))
