"""Goal: an officer, a guardian and a cashier can do their work on the station's own page, with a
finger and with a keyboard, and read it in two languages.

Method: a real station of each kind (real files, a real edge process, cards through its socket) and
real Chromium; what was done is read from the page and from the station's screen answer. Every page
must come through without a complaint of the browser: a script or a picture that the page's own
policy stops is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright import sync_api

from edge.control import ask
from edge.model import Category, StaffRole
from hil.screenshot import CHROMIUM
from hil.world.faces import face_png
from tests.support.screen_station import ScreenStation, Someone, running

Page = sync_api.Page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.process,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="needs Debian's chromium"),
]
SHOW_MS_MAX = 30_000
ANNA = Someone(id="p1", name="Смирнова Анна", group="7Б", photo=face_png(1))
PETER = Someone(  # Of a schedule that nobody knows: the officer decides.
    id="p2", name="Кузнецов Пётр", group="7Б", rights={"school": "evening"}, photo=face_png(2)
)
OFFICER = Someone(
    id="o1",
    name="Орлов Виктор",
    category=Category.STAFF,
    roles=(StaffRole.OFFICER,),
    pin="2580",
)
CASHIER = Someone(
    id="k1", name="Белова Ирина", category=Category.STAFF, roles=(StaffRole.CASHIER,), pin="1470"
)
SENIOR = Someone(
    id="s1",
    name="Старшова Ольга",
    category=Category.STAFF,
    roles=(StaffRole.SUPERVISOR,),
    pin="36903690",
)
VANYA = Someone(id="c1", name="Ваня Морозов", group="Ромашка", photo=face_png(3))
MASHA = Someone(id="c2", name="Маша Морозова", group="Солнышко", photo=face_png(4))
MOTHER = Someone(
    id="g1", name="Морозова Елена", category=Category.GUARDIAN, wards={"c1": "мама", "c2": "мама"}
)
FATHER = Someone(id="g2", name="Морозов Илья", category=Category.GUARDIAN, wards={"c1": "папа"})
PEOPLE = (ANNA, PETER, OFFICER, CASHIER, SENIOR, VANYA, MASHA, MOTHER, FATHER)


@contextmanager
def opened(chromium: sync_api.Browser, address: str) -> Iterator[Page]:
    """The page in a browser; at its end nothing was complained of."""
    page = chromium.new_page(viewport={"width": 1280, "height": 860})
    try:
        page.set_default_timeout(SHOW_MS_MAX)
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(address)
        yield page
        assert said == []
    finally:
        page.close()


@pytest.fixture
def entrance(chromium: sync_api.Browser, tmp_path: Path) -> Iterator[tuple[ScreenStation, Page]]:
    with (
        running(tmp_path / "s", station="entrance", people=PEOPLE) as station,
        opened(chromium, station.address) as page,
    ):
        page.wait_for_selector("#lanes .tile")
        yield station, page


@pytest.fixture
def till(chromium: sync_api.Browser, tmp_path: Path) -> Iterator[tuple[ScreenStation, Page]]:
    with (
        running(tmp_path / "s", station="till", people=PEOPLE) as station,
        opened(chromium, station.address) as page,
    ):
        page.wait_for_selector("#menu button")
        yield station, page


def screen(station: ScreenStation) -> dict[str, Any]:
    return ask(station.settings.socket_path("edge"), {"request": "screen"})


def sign_in(station: ScreenStation, page: Page, who: Someone) -> None:
    """With the keyboard alone, but for the card."""
    page.focus("#sign-in")
    page.keyboard.press("Enter")
    page.wait_for_selector("#sign[open]")
    station.tap(who)
    page.wait_for_selector(".pad")
    for digit in who.pin:
        page.keyboard.press(digit)
    page.keyboard.press("Enter")
    page.wait_for_selector(".who")
    assert page.inner_text(".who b") == who.name


def senior(station: ScreenStation, page: Page) -> None:
    """A supervisor's card and PIN, for what was just pressed."""
    page.wait_for_selector("#sign[open]")
    station.tap(SENIOR)
    page.wait_for_selector(".pad")
    for digit in SENIOR.pin:
        page.keyboard.press(digit)
    page.keyboard.press("Enter")


def test_an_officer_signs_in_and_lets_a_referred_child_in(
    entrance: tuple[ScreenStation, Page],
) -> None:
    station, page = entrance
    station.tap(PETER)
    page.wait_for_selector('.tile[data-state="ask"][data-colour="amber"]')
    page.wait_for_selector("#referrals [data-referral]")
    assert page.is_disabled("#referrals .yes")
    assert "Кузнецов" not in page.inner_text("#referrals"), "names are for who signed in"
    sign_in(station, page, OFFICER)
    page.wait_for_selector("#referrals img")
    sync_api.expect(page.locator("#referrals img")).to_have_js_property("naturalWidth", 120)
    assert "Кузнецов Пётр" in page.inner_text("#referrals")
    page.click("#referrals .yes")
    page.wait_for_selector('.tile[data-state="granted"][data-colour="green"]')
    station.walk()
    page.wait_for_selector('.tile[data-state="taken"]')
    page.wait_for_selector("#referrals:not(:has([data-referral]))")
    sync_api.expect(page.locator("#inside .big")).to_have_text("1", timeout=SHOW_MS_MAX)


def test_an_officer_refuses_opens_by_hand_and_reads_the_muster(
    entrance: tuple[ScreenStation, Page],
) -> None:
    station, page = entrance
    sign_in(station, page, OFFICER)
    station.tap(PETER)
    page.click("#referrals .no")
    page.wait_for_selector('.tile[data-state="refused"][data-colour="red"]')
    page.click("#open")
    page.select_option("#open-why", "visitor")
    page.click("#open-go")
    page.wait_for_selector('.tile[data-colour="green"]')
    station.walk()
    station.tap(ANNA)
    page.wait_for_selector('.tile[data-state="granted"]')
    station.walk()
    sync_api.expect(page.locator("#inside .big")).to_have_text("1", timeout=SHOW_MS_MAX)
    page.click("#muster-open")
    page.wait_for_selector("#muster")
    assert "Смирнова Анна" in page.inner_text("#muster")
    page.click("#muster button")
    page.wait_for_selector("#toast")
    page.keyboard.press("Escape")
    page.wait_for_selector("#muster", state="detached")


def test_lockdown_and_fire_stand_on_the_page_until_they_are_ended(
    entrance: tuple[ScreenStation, Page],
) -> None:
    station, page = entrance
    sign_in(station, page, OFFICER)
    page.click("#lock")
    page.click("#lock-go")
    page.wait_for_selector("#alarms .bad")
    assert screen(station)["lockdown"]
    page.click('[data-key="unlock"]')
    page.wait_for_selector("#alarms:empty", state="attached")
    station.move("north.fire", active=True)
    page.wait_for_selector("#alarms .bad")
    page.click('[data-key="fire-north"]')
    page.wait_for_selector("#toast")  # It still sounds.
    station.move("north.fire", active=False)
    page.wait_for_selector("#alarms .amber")
    page.click('[data-key="fire-north"]')
    page.wait_for_selector("#alarms:empty", state="attached")


def test_a_wrong_pin_is_said_and_another_is_asked_for(
    entrance: tuple[ScreenStation, Page],
) -> None:
    station, page = entrance
    page.click("#sign-in")
    page.wait_for_selector("#sign[open]")
    station.tap(OFFICER)
    page.wait_for_selector(".pad")
    for digit in "9999":
        page.click(f'[data-key="pad-{digit}"]')
    page.click('[data-key="pad-ok"]')
    sync_api.expect(page.locator("#sign .notice")).to_have_text("Неверный ПИН")
    page.wait_for_selector(".pad")
    assert page.locator(".dots .full").count() == 0
    page.click('[data-key="cancel"]')
    page.wait_for_selector("#sign", state="hidden")
    assert page.inner_text("#staff span") == "Никто не вошёл"


def test_english_on_request_and_nothing_is_kept(entrance: tuple[ScreenStation, Page]) -> None:
    _, page = entrance
    page.click("#lang")
    assert page.get_attribute("html", "lang") == "en"
    sync_api.expect(page.locator("#sign-in")).to_have_text("Sign in")
    page.reload()
    sync_api.expect(page.locator("#title")).to_have_text("Security")
    kept = "[localStorage.length, sessionStorage.length, document.cookie]"
    assert page.evaluate(kept) == [0, 0, ""]


def test_a_page_whose_station_is_gone_says_so(chromium: sync_api.Browser, tmp_path: Path) -> None:
    with running(tmp_path / "s", station="entrance", people=PEOPLE) as station:
        page = chromium.new_page()
        page.set_default_timeout(SHOW_MS_MAX)
        page.goto(station.address)
        page.wait_for_selector("#lanes .tile")
        assert page.is_hidden("#lost")
        page.context.set_offline(True)
        page.evaluate("window.stop()")
        page.wait_for_selector("#lost:not([hidden])", timeout=2 * SHOW_MS_MAX)
        assert "НЕТ СВЯЗИ" in page.inner_text("#lost")
        page.close()


def test_a_guardian_marks_two_children(chromium: sync_api.Browser, tmp_path: Path) -> None:
    with (
        running(tmp_path / "s", station="preschool", people=PEOPLE) as station,
        opened(chromium, f"{station.address}/guardian") as page,
    ):
        page.wait_for_selector("#choice .big")
        station.tap(MOTHER)
        page.wait_for_selector(".child")
        assert "Морозова Елена" in page.inner_text("#choice .big")
        assert page.is_disabled("#brought")
        for child in (VANYA, MASHA):
            page.click(f'[data-child="{child.id}"]')
            page.wait_for_selector(f'[data-child="{child.id}"][aria-pressed="true"]')
        assert page.is_disabled("#no-child")
        page.click("#brought")
        page.wait_for_selector(".hello.good")
        station.walk()
        station.tap(FATHER)
        page.wait_for_selector(".child")
        assert page.locator(".child").count() == 1
        page.focus(f'[data-child="{VANYA.id}"]')
        page.keyboard.press("Space")
        page.wait_for_selector(f'[data-child="{VANYA.id}"][aria-pressed="true"]')
        assert "в группе" in page.inner_text(f'[data-child="{VANYA.id}"]')
        page.focus("#collected")
        page.keyboard.press("Enter")
        page.wait_for_selector(".hello.good")
        assert screen(station)["handover"] == {"dialogue": ""}


def ring(page: Page, *products: str) -> None:
    for product in products:
        button = page.locator(f'#menu [data-product="{product}"]')
        for tab in page.locator("#categories button").all():
            if button.count():
                break
            tab.click()
        button.click()
        page.wait_for_selector(f'#basket [data-product="{product}"]')


def test_a_cashier_signs_in_sells_and_voids(till: tuple[ScreenStation, Page]) -> None:
    station, page = till
    assert page.is_disabled("#menu button")
    sign_in(station, page, CASHIER)
    ring(page, "borsch", "kompot")
    page.click('[data-key="more-kompot"]')
    sync_api.expect(page.locator("#total")).to_have_text("135.00 ₽")
    page.click("#charge")
    page.wait_for_selector('#tile [data-colour="blue"]')
    station.tap(ANNA)
    page.wait_for_selector('#tile [data-state="sold"][data-colour="green"]')
    assert page.inner_text("#tile .word") == "ВЫДАТЬ"
    assert "135.00 ₽" in page.inner_text("#tile .answer")
    assert "Смирнова" not in page.inner_text("body")
    page.click("#acts summary")
    page.click("#act-sales")
    page.click("#sales .no")
    page.wait_for_selector("#sales", state="detached")
    page.wait_for_selector('#tile [data-state="sold"]', state="detached")
    assert page.locator("#act-void_last").count() == 0, "what is undone is not undone again"
    page.keyboard.press("Escape")
    page.click("#act-close_out")
    page.click("#close-go")
    page.wait_for_selector("#report")
    assert "Отмен\t1" in page.inner_text("#report")


def test_every_press_counts_also_under_a_button_drawn_anew_and_quicker_than_the_till(
    till: tuple[ScreenStation, Page],
) -> None:
    station, page = till
    sign_in(station, page, CASHIER)
    ring(page, "borsch")
    more, line = '[data-key="more-borsch"]', page.locator('#basket [data-product="borsch"]')
    hands: tuple[tuple[Callable[[], None], Callable[[], None]], ...] = (
        (page.mouse.down, page.mouse.up),
        (lambda: page.keyboard.down(" "), lambda: page.keyboard.up(" ")),
    )
    for rung, (press, release) in zip((2, 4), hands, strict=True):
        page.hover(more)
        page.focus(more)
        press()
        lines = {"lines": [["borsch", rung]]}
        assert page.request.post(f"{station.address}/do/ring", data=lines).ok
        sync_api.expect(line).to_contain_text(f"{rung}+")
        release()
        sync_api.expect(line).to_contain_text(f"{rung + 1}+")
    four_times = "one => { for (let at = 0; at < 4; at++) one.click(); }"
    page.evaluate(four_times, page.query_selector(more))
    sync_api.expect(line).to_contain_text("9+")  # Quicker than the till answers.


def test_a_refund_is_a_supervisors_and_what_is_wrong_is_said_in_russian(
    till: tuple[ScreenStation, Page],
) -> None:
    station, page = till
    sign_in(station, page, CASHIER)
    ring(page, "borsch")
    page.click("#charge")
    page.wait_for_selector('#tile [data-colour="blue"]')
    station.tap(ANNA)
    page.wait_for_selector('#tile [data-state="sold"]')
    sale = screen(station)["screens"][0]["last_sale"]["sale"]
    page.click("#acts summary")
    page.click("#act-sales")
    page.click("#refund-open")
    page.fill("#refund-sale", str(sale + 1_000))
    page.click("#refund-find")
    sync_api.expect(page.locator("#toast")).to_contain_text("Этой продажи здесь нет")
    page.fill("#refund-sale", str(sale))
    page.click("#refund-find")
    page.click("#refund-all")
    sync_api.expect(page.locator("#refund-total")).to_have_text("85.00 ₽")
    page.click("#refund-go")
    senior(station, page)
    sync_api.expect(page.locator("#refunded")).to_contain_text("На счёт (вернёт город): 85.00 ₽")
    assert not screen(station)["staff"]["proved"], "used up"


def test_a_supervisor_answers_for_a_meal_on_credit(till: tuple[ScreenStation, Page]) -> None:
    station, page = till
    sign_in(station, page, CASHIER)
    ring(page, "kasha")
    page.click("#acts summary")
    page.click("#act-emergency")
    senior(station, page)
    page.wait_for_selector('#tile [data-colour="blue"]')
    station.tap(ANNA)
    page.wait_for_selector('#tile [data-state="sold"]')
    assert page.inner_text(".who b") == CASHIER.name, "the cashier stays signed in"
