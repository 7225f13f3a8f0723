"""The page in a browser, Chromium without a window: it renders, sorts and filters, and loads nothing.

Wants `pip install -r requirements-browser.txt`, and Debian's chromium or `playwright install chromium`.
"""

from __future__ import annotations

import pytest
from pages import HOSTILE, page_of_videos

from prediction.page import write_page

pytestmark = pytest.mark.slow
COUNTS = "Array.from(document.querySelectorAll('tr.row td:nth-child(2) span'), cell => cell.textContent)"


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    return write_page(tmp_path_factory.mktemp("page") / "page.html", page_of_videos()).as_uri()


@pytest.fixture(params=["desk", "phone"])
def opened(browser, address, request):
    """The page, opened without network. What the browser complains of, and what it asks for, fails the test."""
    size = {"width": 1200, "height": 900} if request.param == "desk" else {"width": 360, "height": 740}
    context = browser.new_context(viewport=size, is_mobile=request.param == "phone", offline=True)
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(f"console {message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("request", lambda asked: said.append(asked.url) if not asked.url.startswith(("data:", address)) else None)
    page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
    page.goto(address)
    page.wait_for_selector("tr.row")
    yield page
    assert said == []
    context.close()


def counts(page) -> list[float]:
    return [float(text.replace(",", "")) for text in page.evaluate(COUNTS)]


def test_it_renders(opened):
    assert opened.title() == "A & B <b>test</b>" and opened.inner_text("h1") == "A & B <b>test</b>"
    assert opened.inner_text("#lines") == "label views <i>" and opened.inner_text("#warnings") == "warning: few"
    lines = opened.locator("#metrics tr").all_inner_texts()
    assert [line.split("\t") for line in lines[1:]] == [
        ["nMSE", "0.500", "–", "smaller"],
        ["SRC", "nan", "0.100 – 0.200", "larger"],
    ]
    assert opened.inner_text("#count") == "130 of 130 videos"
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert opened.evaluate("getComputedStyle(document.querySelector('.video')).display") == "flex"  # the style acts
    assert opened.evaluate("document.querySelector('#pictures img').naturalWidth") == 90
    assert opened.evaluate("document.querySelector('tr.row img').naturalWidth") == 96


def test_sorting(opened):
    assert counts(opened) == sorted(counts(opened), reverse=True) and counts(opened)[0] == 7 * 129
    opened.click("#turn")
    assert counts(opened) == [7.0 * i for i in range(50)]
    opened.click("#more")
    opened.click("#more")
    assert counts(opened) == [7.0 * i for i in range(130)] and not opened.is_visible("#more")
    opened.select_option("#sort", label="true")
    true = opened.evaluate("Array.from(document.querySelectorAll('tr.row td:nth-child(4) span'), c => c.textContent)")
    assert true[0] == "448" and "–" not in true  # 128 / 2 * 7; what is unknown comes last
    opened.click("#turn")
    assert opened.evaluate(COUNTS.replace("(2)", "(4)"))[0] == "3.5"
    if opened.viewport_size["width"] > 640:
        opened.click("#videos th button:has-text('predicted')")
        assert counts(opened)[0] == 7 * 129
        assert opened.get_attribute("#videos th:nth-child(2)", "aria-sort") == "descending"


def test_finding(opened):
    opened.fill("#filter", "天气")
    rows = opened.locator("tr.row .title").all_inner_texts()
    assert len(rows) == 16 and set(rows) == {HOSTILE[4]} and opened.inner_text("#count") == "16 of 130 videos"
    opened.fill("#filter", "v129")
    assert counts(opened) == [7 * 129]
    opened.fill("#filter", "nothing has this")
    assert counts(opened) == []
    opened.fill("#filter", "<SCRIPT> attacked")
    assert set(opened.locator("tr.row .title").all_inner_texts()) == {HOSTILE[0]}


def test_titles_are_text_and_a_video_opens(opened):
    opened.fill("#filter", "<")
    shown = opened.locator("tr.row .title").all_inner_texts()
    assert {HOSTILE[0], HOSTILE[1]} <= set(shown)
    assert opened.evaluate("document.querySelectorAll('script').length") == 2
    opened.locator("tr.row button.video").first.click()
    details = opened.locator("tr.details")
    assert details.count() == 1 and opened.locator(".near > div").count() == 5
    told = details.inner_text()
    for words in ("80 %:", "similarity 0.900, weight 33.3 %", "400 views", "note "):
        assert words in told, words
    assert opened.evaluate("Array.from(document.querySelectorAll('.near img'), one => one.naturalWidth)") == [96] * 5
    assert opened.evaluate("document.querySelector('.bar > div').getBoundingClientRect().width") > 10
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    opened.locator("tr.row button.video").first.click()
    assert details.count() == 0
