"""Goal: what a person does on the page happens at the stations, and what happens there is shown.

Method: a real miniature (broker, city, edge, sync, each a process) on free ports in its own folder,
and real Chromium. One miniature for the whole module: a person plays on one, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright import sync_api

from hil.screenshot import CHROMIUM, HEIGHT, WIDTH, buy, running

Page = sync_api.Page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.process,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="needs Debian's chromium"),
]
SHOW_MS_MAX = 15_000  # A lane's screen is shown for 4 s, a person at the lane takes 1 s.
BACK_MS_MAX = 60_000  # After an outage: back-off of the link, then everything drains.


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(tmp_path_factory.mktemp("mk")) as address:
        yield address


@contextmanager
def opened(
    chromium: sync_api.Browser, address: str, *, width: int = WIDTH, height: int = HEIGHT
) -> Iterator[Page]:
    """The page, once it shows the state."""
    page = chromium.new_page(viewport={"width": width, "height": height})
    try:
        page.goto(address)
        page.wait_for_selector("#card-pupil")
        yield page
    finally:
        page.close()


@pytest.fixture
def page(chromium: sync_api.Browser, address: str) -> Iterator[Page]:
    """The page, with everything at rest, and no complaint of its own at the end."""
    with opened(chromium, address) as page:
        page.set_default_timeout(SHOW_MS_MAX)
        for path, body in (("basket", {"lines": []}), ("network", {"on": True})):
            assert page.request.post(f"{address}/{path}", data=body).ok
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        for lane in ("in", "out"):
            page.wait_for_selector(f'#lane-{lane}[data-state="idle"]', timeout=30_000)
        yield page
        assert errors == []


def tap(page: Page, card: str, at: str) -> None:
    page.check(f"#at-{at}", force=True)
    page.click(f"#card-{card}")


def shows(page: Page, element: str, words: str) -> None:
    sync_api.expect(page.locator(element)).to_have_text(words, timeout=SHOW_MS_MAX)


def number(page: Page, element: str) -> int:
    return int(page.inner_text(element))


def test_a_pupil_comes_in_and_the_parents_hear_of_it(page: Page) -> None:
    tap(page, "pupil", "in")
    page.wait_for_selector('#lane-in[data-state="granted"][data-colour="green"]')
    assert page.inner_text("#lane-in .word") == "ПРОХОДИТЕ"
    page.wait_for_selector('#lane-in[data-state="taken"]')
    page.wait_for_selector('#feed [data-kind="came"]')
    name, _, _ = page.inner_text("#lane-in .who").partition(" · ")
    assert name in page.inner_text("#feed li")


def test_word_shape_and_colour_say_the_same(page: Page) -> None:
    tap(page, "blocked", "in")
    page.wait_for_selector('#lane-in[data-state="refused"][data-colour="red"]')
    assert page.get_attribute("#lane-in .shape use", "href") == "#shape-stop"
    assert page.inner_text("#lane-in .word") == "СТОП"
    assert "утерянная" in page.inner_text("#lane-in .reason")
    page.wait_for_selector('#lane-in[data-state="idle"][data-colour="grey"]')
    assert page.get_attribute("#lane-in .shape use", "href") == "#shape-wait"
    tap(page, "stranger", "out")  # The way out is free, and says so.
    page.wait_for_selector('#lane-out[data-state="granted"][data-colour="green"]')
    assert page.get_attribute("#lane-out .shape use", "href") == "#shape-go"


def test_who_turns_back_did_not_come(page: Page) -> None:
    page.click("#walk")
    page.wait_for_selector('#walk[aria-checked="false"]')
    tap(page, "staff", "in")
    page.wait_for_selector('#lane-in[data-state="not_taken"]')
    page.click("#walk")
    page.wait_for_selector('#walk[aria-checked="true"]')


def test_a_soup_is_sold_and_costs_what_it_says(page: Page) -> None:
    sold = page.locator('#feed [data-kind="bought"]')
    before = sold.count()
    buy(page, "soup-1", card="pupil")
    page.wait_for_selector('#till[data-state="sold"][data-colour="green"]')
    assert "85.00 ₽" in page.inner_text("#total")
    sync_api.expect(sold).to_have_count(before + 1, timeout=SHOW_MS_MAX)
    assert "Борщ" in page.inner_text("#feed li")
    page.wait_for_selector("#basket .nothing")


def test_a_slip_comes_out_and_a_roll_runs_out(page: Page) -> None:
    if page.request.get(page.url + "state").json().get("paper") is None:
        pytest.skip("extra `printer` is not installed")
    count = page.locator("#paper-count")
    before = int(count.inner_text())
    buy(page, "drink-1", card="wristband")  # The same card within 3 s would buy nothing more.
    page.wait_for_selector('#till[data-state="sold"]')
    sync_api.expect(count).to_have_text(str(before + 1), timeout=SHOW_MS_MAX)
    page.click("#paper summary")
    newest = page.locator("#paper pre").first
    sync_api.expect(newest).to_contain_text("НЕ ЯВЛЯЕТСЯ ФИСКАЛЬНЫМ ЧЕКОМ")
    page.click("#paper-out")
    page.wait_for_selector('#paper[data-state="out"]')
    page.click("#paper-fine")
    page.wait_for_selector('#paper[data-state="fine"]')


@pytest.mark.parametrize(
    ("card", "product", "words"),
    [
        ("poor", "soup-1", "Не хватает денег"),
        ("banned-chocolate", "chocolate-1", "Запрещено родителями"),
        ("blocked", "drink-1", "Карта утеряна"),
        ("stranger", "drink-1", "Неизвестная карта"),
    ],
)
def test_what_is_not_sold_says_why(page: Page, card: str, product: str, words: str) -> None:
    buy(page, product, card=card)
    page.wait_for_selector('#till[data-state="refused"]')
    assert words in page.inner_text("#till-reason")
    page.click("#clear")
    page.wait_for_selector("#basket .nothing")


def test_a_basket_can_be_changed_with_the_keyboard_alone(page: Page) -> None:
    page.focus('#menu [data-product="soup-2"]')
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.wait_for_selector('#basket [data-product="soup-2"]')
    shows(page, "#basket-total", "160.00 ₽")
    page.press('#basket [data-product="soup-2"] button', "Space")
    shows(page, "#basket-total", "80.00 ₽")
    page.keyboard.press("Tab")  # The basket was drawn again, and the keyboard is where it was.
    page.keyboard.press("Enter")
    shows(page, "#basket-total", "160.00 ₽")
    page.press("#clear", "Enter")
    page.wait_for_selector("#basket .nothing")


def test_without_a_network_everything_goes_on_and_leaves_later(page: Page) -> None:
    page.wait_for_selector('#count-entrance[data-waiting="no"]')
    before = number(page, "#acknowledged-entrance")
    page.click("#network")
    page.wait_for_selector('#wire[data-wire="cut"]')
    tap(page, "wristband", "in")
    page.wait_for_selector('#lane-in[data-state="taken"]')
    buy(page, "drink-2", card="pupil")
    page.wait_for_selector('#till[data-state="sold"]')
    page.wait_for_selector('#count-entrance[data-waiting="yes"]')
    page.wait_for_selector('#count-till[data-waiting="yes"]')
    assert number(page, "#acknowledged-entrance") == before
    page.click("#network")
    for station in ("entrance", "till"):
        page.wait_for_selector(f'#count-{station}[data-waiting="no"]', timeout=BACK_MS_MAX)
    assert number(page, "#acknowledged-entrance") > before


def test_the_city_blocks_a_card_and_takes_it_back(page: Page) -> None:
    page.click("#block-staff")
    page.wait_for_selector("#card-staff.hot")
    tap(page, "staff", "in")
    page.wait_for_selector('#lane-in[data-state="refused"]')
    page.click("#block-staff")
    page.wait_for_selector("#card-staff:not(.hot)")
    page.wait_for_selector('#lane-in[data-state="idle"]')
    tap(page, "staff", "in")
    page.wait_for_selector('#lane-in[data-state="granted"]')


def test_the_city_opens_a_lane_once(page: Page) -> None:
    page.click("#order-in")
    page.wait_for_selector('#lane-in[data-colour="green"]')


def test_a_reader_without_a_plug_is_out_of_order_and_comes_back(page: Page) -> None:
    page.click("#plug-in")
    page.wait_for_selector('#lane-in[data-colour="blue"]')
    tap(page, "pupil", "in")
    page.wait_for_selector("#alert:not([hidden])")
    assert "unplugged" in page.inner_text("#alert")
    page.click("#plug-in")
    page.wait_for_selector('#lane-in[data-state="idle"]', timeout=30_000)


def test_a_killed_process_is_missed_on_the_page_and_comes_back(page: Page) -> None:
    page.click("#process-entrance-edge button")
    page.wait_for_selector('#lane-in[data-state="silent"]')
    assert page.inner_text("#lane-in .word") == "НЕТ ОТВЕТА"
    page.wait_for_selector('#lane-in[data-state="idle"]', timeout=30_000)
    assert "перезапусков: 1" in page.inner_text("#process-entrance-edge")


def test_english_on_request(page: Page) -> None:
    page.click("#lang")
    shows(page, "#lane-in .word", "TAP YOUR CARD")
    assert page.get_attribute("html", "lang") == "en"
    tap(page, "blocked", "in")
    shows(page, "#lane-in .word", "STOP")
    shows(page, "#lane-in .reason", "Lost card: ask for your new one")


def test_another_site_in_the_same_browser_can_press_nothing(page: Page, address: str) -> None:
    """As a foreign page would try: no JSON type (that needs our consent), or another host name."""
    for headers in ({"Content-Type": "text/plain"}, {"Host": "evil.example"}):
        answer = page.request.post(
            f"{address}/network",
            headers={"Content-Type": "application/json", **headers},
            data='{"on": false}',
        )
        assert answer.status in (400, 415)
    assert page.get_attribute("#wire", "data-wire") == "on"


def test_nothing_comes_from_elsewhere(page: Page, address: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    page.wait_for_selector("#card-pupil")
    assert asked
    assert all(url.startswith((address, "data:")) for url in asked)


def test_all_stations_have_their_tile_and_their_page(
    chromium: sync_api.Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with (
        running(tmp_path_factory.mktemp("mk"), stations="all") as address,
        opened(chromium, address) as page,
    ):
        page.set_default_timeout(BACK_MS_MAX)
        for tile in ("till-2", "garden-in", "garden-out", "museum"):
            page.wait_for_selector(f'#tile-{tile}[data-colour="grey"]')
        tap(page, "guardian", "garden-in")
        page.wait_for_selector('#tile-garden-in[data-colour="green"]')
        guardian = page.get_attribute("#screen-guardian", "href")
        assert guardian is not None and guardian.endswith("/guardian")
        page.click("#lang")
        shows(page, "#tile-museum .word", "TAP YOUR CARD")
        page.click("#school-network")
        page.wait_for_selector('#school-network[aria-checked="false"]')
        assert page.get_attribute("#network", "aria-checked") == "true"
        page.click("#school-network")
        page.wait_for_selector('#school-network[aria-checked="true"]')
        page.set_viewport_size({"width": 390, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.goto(guardian)
        page.wait_for_selector("#choice img")
        assert page.context.cookies() == []


@pytest.mark.parametrize("width", [390, 800, 1280, 1920])
def test_nothing_sticks_out_at_any_width(
    chromium: sync_api.Browser, address: str, width: int
) -> None:
    with opened(chromium, address, width=width, height=800) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        clipped = page.evaluate(
            """[...document.querySelectorAll('.tile .word')]
               .filter(word => word.scrollWidth > word.clientWidth + 1).length"""
        )
        assert clipped == 0
