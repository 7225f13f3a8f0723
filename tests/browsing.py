"""A browser, as a fixture."""

from __future__ import annotations

import shutil

import pytest


@pytest.fixture(scope="session")
def browser():
    """Chromium without a window; skip where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright (requirements-browser.txt)")
    with playwright.sync_playwright() as started:
        installed = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        try:
            one = started.chromium.launch(executable_path=installed, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium to be started ({str(error).splitlines()[0]})")
        yield one
        one.close()
