"""Goal: what a cashier does all day works on the real page: codes are scanned with a keyboard wedge
and with a scanner on a port, slips come out, a group is served, a hungry child is fed, pieces are
given back, dishes are weighed and ordered ones handed over.

Method: a real till (real files, a real edge process, a virtual printer on loopback, a scanner on a
pty) and real Chromium; what was done is read from the page, the paper and the journal.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright import sync_api

from edge.messages import AnyFact, GroupServed, MealServed, Refund, SaleFact, decode_fact
from edge.model import Tender
from edge.pos.barcode import check_digit
from hil.devices.printer import OUT, VirtualPrinter
from hil.devices.reader_serial import VirtualPort
from hil.screenshot import CHROMIUM
from tests.browser.test_screens import (
    ANNA,
    CASHIER,
    SENIOR,
    SHOW_MS_MAX,
    opened,
    ring,
    senior,
    sign_in,
)
from tests.support.screen_station import BARCODES, ScreenStation, Someone, running

Page = sync_api.Page
expect = sync_api.expect

pytest.importorskip("escpos", reason="extra `printer` is not installed")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.process,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="needs Debian's chromium"),
]
OLEG, DIMA, KOLYA, INNA = (
    Someone(id=f"f{n}", name=name, group="1А", fed=True, inside=name != "Гусев Коля")
    for n, name in enumerate(("Белкин Олег", "Волков Дима", "Гусев Коля", "Дятлова Инна"))
)
NEW = Someone(id="n1", name="Новиков Паша", account=False)
OLGA = Someone(
    id="p9",
    name="Орлова Ольга",
    ordered=(("borsch", 1, 8_000), ("salat", 1, 8_000), ("pelmeni", 1, 9_000)),
)
PEOPLE = (ANNA, CASHIER, SENIOR, OLEG, DIMA, KOLYA, INNA, NEW, OLGA)
LABEL = f"{BARCODES['salat']}00250"  # A scale's: 250 grams.
TOML = """[printer]
driver = "network"
host = "127.0.0.1"
tcp_port = {port}
[scanner]
port = "{scanner}"
weighed_prefixes = [21]
"""


@dataclass
class Till:
    station: ScreenStation
    page: Page
    roll: VirtualPrinter
    gun: VirtualPort

    def facts(self) -> list[AnyFact]:
        path = self.station.settings.journal_path
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
            rows = db.execute("SELECT body FROM facts ORDER BY life, sequence").fetchall()
        return [decode_fact(body) for (body,) in rows]

    def last_sale(self) -> SaleFact:
        return [fact for fact in self.facts() if isinstance(fact, SaleFact)][-1]

    def act(self, name: str) -> None:
        if not self.page.locator("#acts[open]").count():
            self.page.click("#acts summary")
        self.page.click(f"#act-{name}")

    def awaits_card(self) -> None:
        self.page.wait_for_selector('#tile [data-colour="blue"]')

    def sold(self) -> None:
        self.page.wait_for_selector('#tile [data-state="sold"][data-colour="green"]')

    def sell(self, *products: str, to: Someone = ANNA) -> None:
        ring(self.page, *products)
        self.page.click("#charge")
        self.awaits_card()
        self.station.tap(to)
        self.sold()

    def on_paper(self, many: int) -> list[str]:
        """The newest slip, once there are so many."""
        for _ in range(SHOW_MS_MAX // 50):
            if len(self.roll.slips) >= many:
                break
            self.page.wait_for_timeout(50)
        assert len(self.roll.slips) == many
        return [line.strip() for line in self.roll.slips[-1]]


@pytest.fixture
def till(chromium: sync_api.Browser, tmp_path: Path) -> Iterator[Till]:
    with VirtualPrinter() as roll, VirtualPort(tmp_path / "scanner") as gun:
        toml = TOML.format(port=roll.port, scanner=gun.path)
        with (
            running(tmp_path / "s", station="till", people=PEOPLE, more_toml=toml) as station,
            opened(chromium, station.address) as page,
        ):
            page.wait_for_selector("#menu button")
            sign_in(station, page, CASHIER)
            yield Till(station, page, roll, gun)


def test_codes_come_from_a_wedge_and_from_a_port(till: Till) -> None:
    page = till.page
    kompot = page.locator('#basket [data-product="kompot"]')
    for many in (1, 2):  # As a keyboard: digits at once, then Enter.
        page.keyboard.type(BARCODES["kompot"])
        page.keyboard.press("Enter")
        expect(kompot.locator(".step")).to_contain_text(str(many))
    till.gun.babble(f"{BARCODES['kompot']}\r\n".encode())
    expect(kompot.locator(".step")).to_contain_text("3")
    till.gun.babble(f"{LABEL}{check_digit(LABEL)}\r\n".encode())
    expect(page.locator('#basket [data-product="salat"]')).to_contain_text("250 г")
    expect(page.locator("#total")).to_have_text("175.00 ₽")
    till.gun.babble(b"4607001771562\r\n")
    expect(page.locator("#toast")).to_have_text("Штрих-код не найден: 4607001771562")
    page.keyboard.type("4006381333930")  # One digit off: its check digit says so.
    page.keyboard.press("Enter")
    expect(page.locator("#toast")).to_contain_text("прочитан с ошибкой")
    expect(page.locator("#total")).to_have_text("175.00 ₽")


def test_each_sale_and_the_days_end_come_out_on_paper(till: Till) -> None:
    page = till.page
    till.sell("borsch", "kompot")
    slip = till.on_paper(1)
    assert slip[0].startswith("ТАЛОН") and "Борщ                       85.00" in slip
    assert not any("Смирнова" in line or "счет" in line.lower() for line in slip)
    till.act("print_again")
    assert till.on_paper(2)[0] == slip[0]
    till.roll.paper = OUT
    till.act("print_again")
    expect(page.locator("#tile .answer")).to_contain_text("Нет бумаги в принтере")
    till.roll.paper = 0x12
    till.act("close_out")
    page.click("#close-go")
    page.wait_for_selector("#report")
    z = till.on_paper(3)
    assert z[0] == "Z-ОТЧЕТ 1" and "Со счета                  110.00" in z


def test_a_group_is_served_by_who_is_present_with_one_struck_off(till: Till) -> None:
    page = till.page
    till.act("groups")
    page.click("#box .wrap button")
    page.click("#by-presence")
    page.wait_for_selector('#by-presence[aria-pressed="true"]')
    row = page.locator("#box tr")
    expect(row.filter(has_text=KOLYA.name)).to_contain_text("Нет")
    struck = row.filter(has_text=DIMA.name)
    struck.locator("button").click()
    expect(struck).to_contain_text("Нет")
    page.click("#box .yes")
    expect(page.locator("#toast")).to_have_text("Накормлено: 2")
    served = {fact.cardholder for fact in till.facts() if isinstance(fact, MealServed)}
    assert served == {OLEG.id, INNA.id}
    (told,) = (fact for fact in till.facts() if isinstance(fact, GroupServed))
    assert told.served == 2 and DIMA.id in told.absent
    till.act("groups")
    page.click("#box .wrap button")
    expect(row.filter(has_text=OLEG.name)).to_contain_text("накормлен")
    expect(row.filter(has_text=DIMA.name)).to_contain_text("положено")


def test_a_hungry_child_is_fed_with_a_card_or_without(till: Till) -> None:
    page = till.page
    ring(page, "kasha")
    page.click("#charge")
    till.awaits_card()
    till.station.tap(NEW)
    page.wait_for_selector('#tile [data-state="refused"][data-colour="red"]')
    till.act("emergency")
    senior(till.station, page)
    till.awaits_card()
    expect(page.locator("#tile .answer")).to_contain_text("В долг")
    till.station.tap(NEW)
    till.sold()
    sale = till.last_sale()
    assert (sale.tender, sale.account) == (Tender.EMERGENCY, "")
    assert (sale.cardholder, sale.supervisor) == (NEW.id, SENIOR.id)
    expect(page.locator("#basket")).to_contain_text("Выберите блюда")
    ring(page, "borsch")
    till.act("emergency_nobody")
    expect(page.locator("#box")).to_contain_text("спросите ребёнка")
    page.click("#nobody-go")
    senior(till.station, page)
    till.sold()
    sale = till.last_sale()
    assert (sale.tender, sale.cardholder, sale.supervisor) == (Tender.EMERGENCY, "", SENIOR.id)
    assert "emergency:s0001" in {p.account for p in sale.postings}


def test_pieces_of_a_sale_are_given_back(till: Till) -> None:
    page = till.page
    ring(page, "borsch", "kompot")
    page.click('[data-key="more-borsch"]')
    expect(page.locator("#total")).to_have_text("195.00 ₽")
    page.click("#charge")
    till.awaits_card()
    till.station.tap(ANNA)
    till.sold()
    for left in (2, 1):
        till.act("sales")
        page.click("[data-refund]")
        borsch = page.locator('#refund-lines [data-product="borsch"]')
        expect(borsch.locator(".step b")).to_have_text(f"0 / {left}")
        assert page.is_disabled("#refund-go")
        borsch.locator('[data-back="1"]').click()
        expect(page.locator("#refund-total")).to_have_text("85.00 ₽")
        page.select_option("#refund-why", "spoilt")
        page.click("#refund-go")
        senior(till.station, page)
        expect(page.locator("#refunded")).to_contain_text("На счёт (вернёт город): 85.00 ₽")
        page.keyboard.press("Escape")
    refunds = [fact for fact in till.facts() if isinstance(fact, Refund)]
    assert [(x.why, x.supervisor, x.lines[0].quantity) for x in refunds] == [
        ("Испорчено", SENIOR.id, 1)
    ] * 2
    till.act("sales")
    page.click("[data-refund]")
    lines = page.locator("#refund-lines")
    expect(lines.locator('[data-product="borsch"]')).to_contain_text("не возвращается")
    page.keyboard.press("Escape")
    till.act("sales")
    page.click("#sales .no")
    expect(page.locator("#toast")).to_contain_text("Часть уже вернули")
    page.keyboard.press("Escape")
    till.act("close_out")
    page.click("#close-go")
    expect(page.locator("#report-back")).to_contain_text("170.00 ₽")


def test_a_dish_is_weighed_by_hand(till: Till) -> None:
    page = till.page
    page.get_by_role("tab", name="Салаты").click()
    page.click('#menu [data-product="salat"]')
    page.fill("#grams", "180")
    page.click("#box .main")
    expect(page.locator('#basket [data-product="salat"]')).to_contain_text("180 г")
    page.click("#charge")
    till.awaits_card()
    till.station.tap(ANNA)
    till.sold()
    expect(page.locator("#tile .answer")).to_contain_text("72.00 ₽")
    assert till.last_sale().lines[0].grams == 180


def test_an_order_is_weighed_and_replaced_and_handed_over(till: Till) -> None:
    page = till.page
    till.act("collect")
    till.awaits_card()
    till.station.tap(OLGA)
    page.wait_for_selector('#tile [data-state="notice"][data-colour="amber"]')
    expect(page.locator("#order")).to_be_visible()
    expect(page.locator('#order [data-product="pelmeni"]')).to_contain_text("нет в меню")
    expect(page.locator('#order [data-product="salat"]')).to_contain_text("взвесить")
    assert page.locator("#order-rest").count() == 0, "there is but one order"
    page.fill('[data-weigh="salat"]', "220")
    page.select_option('[data-instead="pelmeni"]', "kotleta")
    page.select_option("#order-why", "закончилось")
    page.click("#order-go")
    till.awaits_card()
    expect(page.locator("#order")).to_be_hidden()
    till.station.tap(OLGA)
    till.sold()
    sale = till.last_sale()
    assert {line.product: line.grams for line in sale.lines} == {
        "borsch": 0,
        "salat": 220,
        "kotleta": 0,
    }
    assert sale.preorders[0].substituted and sale.preorders[0].why == "закончилось"
    assert sale.total_minor == 8_000 + 8_800 + 9_000
    assert [(p.tender, p.amount_minor) for p in sale.tenders] == [
        (Tender.PREORDER, 25_000),
        (Tender.ACCOUNT, 800),
    ]
