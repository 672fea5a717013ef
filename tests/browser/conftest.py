"""One Chromium for a file: a start of it takes longer than most of what is done in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright import sync_api

from hil.screenshot import CHROMIUM, CHROMIUM_ARGUMENTS


@pytest.fixture(scope="module")
def chromium() -> Iterator[sync_api.Browser]:
    """Every page that is opened in it has cookies, storage and a cache of its own."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=list(CHROMIUM_ARGUMENTS)
        )
        yield browser
        browser.close()
