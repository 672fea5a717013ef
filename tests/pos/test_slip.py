"""Goal: what a till prints fits its roll, adds up, and tells nobody who eats free or whose card it
was.

Method: one sale paid in every way there is, compared letter by letter; lines of every width; names
of products that are too long or hold control characters.
"""

from __future__ import annotations

import msgspec
import pytest

from edge.messages import NO_DIGEST, CloseOut, CloseRange, MealUse, SaleFact, SaleLine, TenderPart
from edge.model import Caveat, Tender
from edge.pos.slip import LINES_MAX, NOT_FISCAL, check_slip, close_out_slip, sale_slip
from edge.settings import COLUMNS_MAX, COLUMNS_MIN
from tests.support import facts

NAMES = {"soup": "Суп гороховый с гренками и зеленью", "salad": "Салат"}
PLACE = {"site": "s0001", "device": "s0001-till-1", "when": "02.03.2026 12:10"}


def sale(**more: object) -> SaleFact:
    fact = facts.sale(facts.stamp(17, NO_DIGEST), account="a-secret")
    lines = (
        SaleLine(product="soup", category="hot", quantity=2, price_minor=8_500),
        SaleLine(product="salad", category="hot", quantity=1, price_minor=45_050, grams=110),
        SaleLine(product="gone", category="hot", quantity=1, price_minor=100),
    )
    usual: dict[str, object] = {"lines": lines, "total_minor": 17_000 + 4_956 + 100}
    return msgspec.structs.replace(fact, **usual | more)


def text(fact: SaleFact, width: int = 32) -> list[str]:
    return [line.text for line in sale_slip(fact, NAMES, width=width, **PLACE).lines]


def test_a_slip_names_what_was_sold_and_what_it_came_to() -> None:
    lines = text(sale())
    assert lines[0] == "ТАЛОН 17"
    assert "Салат                      49.56" in lines
    assert "  110 г x 450.50/кг" in lines and "  2 x 85.00" in lines
    assert "ИТОГО                     220.56" in lines
    assert lines[-1] == NOT_FISCAL


@pytest.mark.parametrize("tender", list(Tender))
def test_whoever_pays_the_slip_is_the_same(tender: Tender) -> None:
    paid = sale(
        tender=tender,
        tenders=(TenderPart(tender=tender, amount_minor=22_056),),
        meals=(MealUse(entitlement="e1", slot="lunch"),) if tender is Tender.ENTITLEMENT else (),
        caveats=(Caveat.UNCONFIRMED,),
        cardholder="c-secret",
        credential="k-secret",
        supervisor="s-secret",
        account="" if tender is Tender.CASH else "a-secret",
    )
    assert text(paid) == text(sale())
    assert "secret" not in "\n".join(text(paid))


@pytest.mark.parametrize("width", range(COLUMNS_MIN, COLUMNS_MAX + 1))
def test_every_line_fits_the_roll(width: int) -> None:
    names = dict.fromkeys(NAMES, "Очень\x1bдлинное название " * 20)
    most = SaleLine(product="soup", category="hot", quantity=99, price_minor=1_000_000)
    fact = sale(lines=(most,) * 40, total_minor=10**9)
    slip = sale_slip(fact, names, width=width, **PLACE)
    body = [line for line in slip.lines if not line.centred]
    assert max(len(line.text) for line in body) <= width and len(slip.lines) <= LINES_MAX
    assert all(line.text.isprintable() for line in slip.lines)
    assert slip.lines[-2].text.startswith("ИТОГО"), "the total is never cut off"


def test_the_days_end_adds_up_and_names_no_cashier() -> None:
    header = facts.stamp(30, NO_DIGEST)
    report = CloseOut(
        **header,
        number=3,
        ranges=tuple(CloseRange(epoch=f"{n:016x}", first=1, last=30) for n in range(50)),
        total_minor_by_tender={"account": 10_000, "cash": 550, "newer": 1},
        count_by_kind={"sale": 5, "void": 1, "stream_opened": 1},
        voids_by_cashier={"cook-secret": 1},
        overrides_by_cashier={"cook-secret": 2},
        unsent=4,
        business_date="2026-03-02",
        cashier="cook-secret",
    )
    slip = close_out_slip(report, width=32, **PLACE)
    lines = [line.text for line in slip.lines]
    assert lines[0] == "Z-ОТЧЕТ 3" and "ИТОГО                     105.51" in lines
    assert "Отмен                          1" in lines
    assert "Решений старшего               2" in lines
    assert "Повторов питания               0" in lines
    assert "secret" not in "\n".join(lines) and len(lines) <= LINES_MAX


def test_what_is_printed_is_in_the_printers_letters() -> None:
    """CP866, the Cyrillic page of these printers, has neither the rouble's sign nor guillemets."""
    slips = [sale_slip(sale(), NAMES, width=32, **PLACE), check_slip(**PLACE)]
    for slip in slips:
        for line in slip.lines:
            line.text.encode("cp866")
