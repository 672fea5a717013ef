"""`make screenshot`: the READMEs' pictures, taken from miniatures that really run.

Starts a miniature of its own on a free port in a folder of its own, lives a morning of a school in
a few seconds (people come, one buys a soup, one leaves), takes the picture with Chromium, and ends
what it started. Then once more with all stations, for the pages of the stations themselves: there
the bench's officer and cashier sign in with their cards and PINs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edge.model import SetupProblem
from hil import remote
from hil.world import canteen as extras

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM: Final = "/usr/bin/chromium"  # Debian's package; nothing is downloaded for this.
CHROMIUM_ARGUMENTS: Final = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--no-first-run", "--force-color-profile=srgb"),
)
WIDTH: Final = 1440  # Our choice: a usual laptop; the README shows it at two thirds.
HEIGHT: Final = 900
START_S_MAX: Final = 120.0  # Our choice: twice what a miniature allows its slowest part.
PAGE_HEIGHT: Final = 800  # Our choice: a station's own screen is lower.
SHOW_MS_MAX: Final = 10_000  # Our choice: for one thing to appear on the page.
SETTLE_MS: Final = 500  # Our choice: the page's own transitions take 150 ms.
STOP_S_MAX: Final = 30.0


@contextmanager
def running(folder: Path, *, port: int = 0, stations: str = "few") -> Iterator[str]:
    """A miniature in `folder` until the end of the block; gives its address."""
    command = (
        *(sys.executable, "-m", "hil.run", "--port", str(port)),
        *("--folder", str(folder), "--stations", stations),
    )
    with subprocess.Popen(command) as process:
        try:
            yield _address(process, folder)
        finally:
            process.terminate()
            try:
                process.wait(timeout=STOP_S_MAX)
            except subprocess.TimeoutExpired:
                process.kill()  # Its children go with it.


@contextmanager
def opened(
    address: str, *, width: int = WIDTH, height: int = HEIGHT, shows: str = "#card-pupil"
) -> Iterator[Page]:
    """The page in a real browser, once it shows the state."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=list(CHROMIUM_ARGUMENTS)
        )
        try:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.goto(address)
            page.wait_for_selector(shows)
            yield page
        finally:
            browser.close()


def buy(page: Page, *products: str, card: str) -> None:
    """Press the products' buttons, then tap the card at the till."""
    for product in products:
        page.click(f'[data-category="{product.partition("-")[0]}"]')
        page.click(f'#menu [data-product="{product}"]')
        page.wait_for_selector(f'#basket [data-product="{product}"]')
    page.check("#at-till", force=True)
    page.click(f"#card-{card}")


def show_a_morning(page: Page) -> None:
    """Until the page is worth a picture: green, red, a sale, and messages to parents."""
    page.set_default_timeout(SHOW_MS_MAX)
    for card in ("staff", "banned-chocolate", "pupil"):
        page.check("#at-in", force=True)
        page.click(f"#card-{card}")
        page.wait_for_selector('#lane-in[data-state="taken"]')
        page.wait_for_selector('#lane-in[data-state="idle"]')
    buy(page, "drink-2", "soup-1", card="pupil")
    page.wait_for_selector('#till[data-state="sold"]')
    page.wait_for_selector('#feed [data-kind="bought"]')
    page.check("#at-out", force=True)
    page.click("#card-pupil")
    page.wait_for_selector('#feed [data-kind="left"]')
    page.check("#at-in", force=True)
    page.click("#card-stranger")
    page.wait_for_selector('#lane-in[data-colour="red"]')
    page.hover("#till .word")  # The pointer away from the cards.
    page.wait_for_timeout(SETTLE_MS)


def sign_in(page: Page, folder: Path, *, card: str, at: str, pin: str) -> None:
    """At a station's own page, with a card of the bench and its PIN."""
    page.click("#sign-in")
    page.wait_for_selector("#sign[open]")
    remote.ask(folder, "/tap", {"card": card, "at": at})
    page.wait_for_selector(".pad")
    for digit in pin:
        page.keyboard.press(digit)
    page.keyboard.press("Enter")
    page.wait_for_selector(".who")


def _show_officer(page: Page, folder: Path) -> None:
    sign_in(page, folder, card="officer", at="in", pin=extras.STAFF["officer"][1])
    remote.ask(folder, "/tap", {"card": "stranger", "at": "in"})
    page.wait_for_selector('.tile[data-colour="red"], .tile[data-colour="amber"]')


def _show_guardian(page: Page, folder: Path) -> None:
    remote.ask(folder, "/tap", {"card": "guardian", "at": "garden-in"})
    page.wait_for_selector("#choice img")


def _show_cashier(page: Page, folder: Path) -> None:
    sign_in(page, folder, card="cashier", at="till-2", pin=extras.STAFF["cashier"][1])
    for number in range(2):
        page.locator("#menu button").nth(number).click()
        page.wait_for_timeout(SETTLE_MS)


STATION_PAGES: Final = (
    ("officer", "entrance", "", "#lanes .tile", _show_officer),
    ("guardian", "preschool", "guardian", "#choice", _show_guardian),
    ("cashier", "till-2", "", "#menu button", _show_cashier),
)


def take_station_pages(folder: Path, out: Path) -> Iterator[Path]:
    """A picture of each page of a station of the running miniature."""
    pages = remote.ask(folder, "/state")["pages"]
    for name, station, path, shows, live in STATION_PAGES:
        address = f"{pages[station]}{path}"
        with opened(address, width=1280, height=PAGE_HEIGHT, shows=shows) as page:
            page.set_default_timeout(SHOW_MS_MAX)
            live(page, folder)
            page.wait_for_timeout(SETTLE_MS)
            page.screenshot(path=out / f"{name}.png")
            yield out / f"{name}.png"


def _address(process: subprocess.Popen[bytes], folder: Path) -> str:
    until_s = time.monotonic() + START_S_MAX
    while time.monotonic() < until_s:
        if process.poll() is not None:
            raise SetupProblem(f"the miniature ended with {process.returncode}; see above why")
        try:
            return remote.find(folder)
        except SetupProblem:
            time.sleep(0.1)  # It is starting.
    raise SetupProblem(f"the miniature was not ready within {START_S_MAX:.0f} s")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hil.screenshot", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs"), help="the folder")
    options: Any = parser.parse_args(arguments)
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="mk-") as folder,
            running(Path(folder)) as address,
            opened(address) as page,
        ):
            show_a_morning(page)
            page.screenshot(path=out / "page.png", full_page=True)
        print(out / "page.png")
        with (
            tempfile.TemporaryDirectory(prefix="mk-") as folder,
            running(Path(folder), stations="all"),
        ):
            for made in take_station_pages(Path(folder), out):
                print(made)
    except SetupProblem as problem:
        print(f"moskvenok: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
