"""What the tests of a till's books ask of a city in memory, and postings as a till writes them."""

from __future__ import annotations

from typing import Any

from edge.messages import MealUse, Posting, TenderPart
from edge.model import Tender
from hil.city.intake import CityCore
from tests.city.sham import EPOCH, SITE, TODAY, Sham

ANN, ANNS = f"{SITE}c0001", f"{SITE}a0001"
CASHIER, SUPERVISOR = f"{SITE}c9003", f"{SITE}c9004"
OPENING = 1_500_00
BREAKFAST = MealUse(entitlement="primary-breakfast", slot="breakfast")


def balance(core: CityCore, account: str = ANNS) -> int:
    assert set(core.ledger.sums().values()) <= {0}
    return sum(core.ledger.balances(account).values())


def place(core: CityCore, word: str) -> int:
    return balance(core, f"{word}:{SITE}")


def reasons(core: CityCore) -> list[str]:
    return [reason for (reason,) in core.store.rows("SELECT reason FROM suspense ORDER BY id")]


def alarms(core: CityCore) -> dict[str, str]:
    return dict(core.store.rows("SELECT what, text FROM alarm"))


def feed(core: CityCore) -> list[str]:
    return [text for (text,) in core.store.rows("SELECT text FROM feed ORDER BY id")]


def name(core: CityCore) -> str:
    found = core.registry.person_name(ANN)
    assert found is not None
    return found


def pays(account: str, amount_minor: int) -> Posting:
    return Posting(account=account, purse="main", amount_minor=-amount_minor)


def sold(amount_minor: int) -> Posting:
    return pays(f"sales:{SITE}", -amount_minor)


def part(tender: Tender, amount_minor: int) -> TenderPart:
    return TenderPart(tender=tender, amount_minor=amount_minor)


def void_of(till: Sham, sale: int, amount_minor: int = 85_00, **changes: Any) -> dict[str, Any]:
    return {
        "sale_epoch": EPOCH,
        "sale": sale,
        "account": ANNS,
        "postings": (pays(ANNS, -amount_minor), sold(-amount_minor)),
        "business_date": TODAY,
        "why": "cashier",
        "cashier": CASHIER,
        **changes,
    }
