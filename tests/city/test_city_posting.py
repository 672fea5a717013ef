"""Goal: every fact comes to the right postings, feed line or suspense reason, and to nothing else.

Method: one sale that posts and one way to spoil it per reason; every passage result against the
feed; the texts a family reads. All pure: a directory of three people stands for the city's records.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from edge.messages import (
    AccessFact,
    AnyFact,
    PassageFact,
    Posting,
    SaleFact,
    SaleLine,
    Stream,
    VersionMark,
)
from edge.model import AccessReason, ClockQuality, Direction, Outcome, PassageResult, Tender
from hil.city.accounts import sums_to_zero
from hil.city.posting import (
    NOTHING,
    Meaning,
    Place,
    SuspenseReason,
    meaning_of,
    money,
)

SITE = "s0001"
NOON_MS = 1_757_408_400_000  # Tuesday 2025-09-09, 12:00 in Moscow.
DAY_MS = 24 * 60 * 60 * 1000
MARK = VersionMark(1, 1)
PLACE = Place(site=SITE, time_zone=ZoneInfo("Europe/Moscow"), currency="RUB", now_ms=NOON_MS)


@dataclass(frozen=True)
class Records:
    """Two pupils with accounts of two purses, and a guardian without one."""

    def account_of(self, cardholder: str) -> str | None:
        return {"ann": "a1", "bob": "a2"}.get(cardholder)

    def purses_of(self, account: str) -> frozenset[str] | None:
        return {
            "a1": frozenset({"meals", "buffet"}),
            "a2": frozenset({"meals", "buffet"}),
        }.get(account)

    def product_name(self, product: str) -> str | None:
        return {"soup": "Борщ", "tea": "Чай"}.get(product)

    def person_name(self, cardholder: str) -> str | None:
        return {"ann": "Анна", "bob": "Борис", "eve": "Ева"}.get(cardholder)

    def relation(self, guardian: str, ward: str) -> str:
        return "мама" if (guardian, ward) == ("eve", "ann") else ""

    def token_owner(self, token: str) -> str | None:
        return "ann" if token == "t-ann" else None


def base(**changes: Any) -> dict[str, Any]:
    return {
        "device": "d1",
        "site": SITE,
        "stream": Stream.MAIN,
        "epoch": "0" * 16,
        "sequence": 2,
        "previous": "",
        "boot": "b",
        "mono_ms": 1,
        "wall_ms": NOON_MS,
        "clock": ClockQuality.NTP,
        **changes,
    }


def pay(account: str, amount_minor: int, purse: str = "meals") -> tuple[Posting, Posting]:
    return (
        Posting(account=account, purse=purse, amount_minor=-amount_minor),
        Posting(account=f"sales:{SITE}", purse=purse, amount_minor=amount_minor),
    )


SOUP = SaleLine(product="soup", category="soup", quantity=1, price_minor=85_00)
TEAS = SaleLine(product="tea", category="drink", quantity=2, price_minor=20_00)


def sale(**changes: Any) -> SaleFact:
    fields = {
        "account": "a1",
        "cardholder": "ann",
        "credential": "c",
        "tier": 1,
        "reader": "r",
        "lines": (SOUP, TEAS),
        "total_minor": 125_00,
        "tender": Tender.ACCOUNT,
        "postings": (*pay("a1", 85_00), *pay("a1", 40_00, "buffet")),
        "business_date": "2025-09-09",
        "people": MARK,
        "money": MARK,
        "menu": MARK,
        "caveats": (),
    }
    return SaleFact(**base(), **{**fields, **changes})


def passage(result: PassageResult = PassageResult.TAKEN, **changes: Any) -> PassageFact:
    fields: dict[str, Any] = {
        "access_point": "north-in",
        "zone": "school",
        "direction": Direction.IN,
        "passage": None,
        "cardholder": "ann",
    }
    given = {**base(), **fields, **changes}
    return PassageFact(result=result, **given)


def judge(fact: AnyFact) -> Meaning:
    return meaning_of(fact, Records(), PLACE)


def test_a_sale_posts_what_it_says_and_tells_the_family() -> None:
    fact = sale()
    meaning = judge(fact)
    assert meaning.postings == fact.postings and meaning.suspense is None
    assert meaning.spends == (("a1", "2025-09-09", 125_00),)
    assert meaning.feed is not None
    assert meaning.feed.text == "Анна bought Борщ 85.00 ₽, 2 × Чай 40.00 ₽"
    assert meaning.feed.at == "2025-09-09T12:00:00+03:00"


SPOILED: dict[SuspenseReason, list[Callable[[], SaleFact]]] = {
    SuspenseReason.BAD_DATE: [
        lambda: sale(business_date="yesterday"),
        lambda: sale(business_date="2025-W37-2"),
        lambda: sale(business_date=""),
    ],
    SuspenseReason.BAD_AMOUNTS: [
        lambda: sale(total_minor=124_99),
        lambda: sale(lines=()),
        lambda: sale(postings=pay("a1", 125_01)),
        lambda: sale(postings=pay("a1", 125_00)[:1]),
        lambda: sale(postings=(*pay("a1", 125_00), *pay("a2", 1))),
        lambda: sale(postings=(*pay("a1", 130_00), *pay("a1", -5_00))),
        lambda: sale(
            postings=(
                Posting(account="a1", purse="meals", amount_minor=-125_00),
                Posting(account=f"sales:{SITE}", purse="buffet", amount_minor=125_00),
            )
        ),
        lambda: sale(
            lines=(SaleLine(product="tea", category="drink", quantity=-1, price_minor=-1),),
            total_minor=1,
            postings=pay("a1", 1),
        ),
        lambda: sale(
            lines=(SaleLine(product="tea", category="drink", quantity=1, price_minor=10**30),),
            total_minor=10**30,
            postings=pay("a1", 10**30),
        ),
        lambda: sale(tender=Tender.ENTITLEMENT),
        lambda: sale(postings=()),
    ],
    SuspenseReason.UNKNOWN_CARDHOLDER: [lambda: sale(cardholder="nobody")],
    SuspenseReason.UNKNOWN_ACCOUNT: [
        lambda: sale(account="a9", postings=pay("a9", 125_00)),
        lambda: sale(cardholder="bob"),  # Another's account.
        lambda: sale(cardholder="eve"),
    ],
    SuspenseReason.UNKNOWN_PURSE: [lambda: sale(postings=pay("a1", 125_00, "gold"))],
    SuspenseReason.UNKNOWN_PRODUCT: [
        lambda: sale(
            lines=(SaleLine(product="caviar", category="x", quantity=1, price_minor=125_00),)
        )
    ],
}


@pytest.mark.parametrize(
    ("reason", "number"),
    [(reason, number) for reason, some in SPOILED.items() for number in range(len(some))],
)
def test_a_spoiled_sale_is_put_aside_for_its_reason(reason: SuspenseReason, number: int) -> None:
    fact = SPOILED[reason][number]()
    meaning = judge(fact)
    assert meaning.suspense is reason
    assert meaning.feed is None and meaning.spends == ()
    assert sums_to_zero(meaning.postings)
    assert fact.account not in {posting.account for posting in meaning.postings}


def test_the_money_of_an_unknown_customer_is_still_the_sites_sale() -> None:
    meaning = judge(sale(account="a9", postings=pay("a9", 125_00)))
    amounts = {posting.account: posting.amount_minor for posting in meaning.postings}
    assert amounts == {f"suspense:{SITE}": -125_00, f"sales:{SITE}": 125_00}


def test_another_sites_fact_is_put_aside() -> None:
    fact = SaleFact(**{name: getattr(sale(), name) for name in SaleFact.__struct_fields__})
    other = passage(site="s0002")
    assert judge(other).suspense is SuspenseReason.WRONG_SITE
    assert judge(fact).suspense is None


def test_a_free_meal_is_fed_without_a_price_and_posts_nothing() -> None:
    meaning = judge(sale(tender=Tender.ENTITLEMENT, postings=()))
    assert meaning.postings == () and meaning.spends == ()
    assert meaning.feed is not None
    assert meaning.feed.text == "Анна ate Борщ, 2 × Чай"


@pytest.mark.parametrize("result", PassageResult)
@pytest.mark.parametrize("cardholder", ["ann", None])
def test_the_feed_follows_taken_passages_of_somebody_alone(
    result: PassageResult, cardholder: str | None
) -> None:
    meaning = judge(passage(result, cardholder=cardholder))
    fed = result is PassageResult.TAKEN and cardholder is not None
    assert (meaning.feed is not None) is fed
    assert fed or meaning == NOTHING


def test_a_grant_tells_nobody_anything() -> None:
    fact = AccessFact(
        **base(),
        access_point="north-in",
        zone="school",
        direction=Direction.IN,
        reader="r",
        tier=1,
        credential="c",
        cardholder="ann",
        outcome=Outcome.GRANT,
        reason=AccessReason.AUTHORIZED,
        caveats=(),
        people=MARK,
        list_age_s=1,
        read_age_ms=1,
    )
    assert judge(fact) == NOTHING


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "Анна came 12:00"),
        ({"direction": Direction.OUT}, "Анна left 12:00"),
        ({"wall_ms": NOON_MS - 2 * DAY_MS}, "Анна came 07.09 12:00"),
        ({"clock": ClockQuality.FLOOR}, "Анна came at an unknown time"),
        ({"wall_ms": -1}, "Анна came 12:00"),
        ({"wall_ms": 10**30}, "Анна came 12:00"),
    ],
)
def test_what_the_family_reads(changes: dict[str, Any], text: str) -> None:
    meaning = judge(passage(**changes))
    assert meaning.feed is not None and meaning.feed.text == text


def test_a_till_that_believes_in_2099_hides_no_later_day_from_the_limits() -> None:
    assert judge(sale(business_date="2099-01-01")).spends[0][1] == "2025-09-10"
    assert judge(sale(business_date="2025-09-01")).spends[0][1] == "2025-09-01"


def test_money_is_written_as_people_write_it() -> None:
    assert [money(n) for n in (0, 5, 8500, 100001, -250)] == [
        "0.00",
        "0.05",
        "85.00",
        "1000.01",
        "-2.50",
    ]
