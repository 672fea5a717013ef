"""Goal: the golden purchase decisions hold, and they are whole: a city can rely on each.

Method: `tests/vectors/purchase` holds one decision a file: why it is so, everything it is given,
everything expected, in the wire's words (its README names the fields). Each is decided and
compared in full; together they show every reason that this list gives.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge.model import (
    Account,
    Cardholder,
    Category,
    Credential,
    Entitlement,
    LineItem,
    ListState,
    Now,
    PeerTill,
    Pieces,
    Preorder,
    Presentation,
    Product,
    PurchaseReason,
    PurchaseView,
    Spend,
    Tender,
    Version,
)
from edge.pos.basket import Basket
from edge.pos.decision import HeldAmount, PurchaseDecision, PurchasePolicy, decide_purchase
from edge.pos.tender import Ask

FOLDER = Path(__file__).parent.parent / "vectors" / "purchase"
VECTORS = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.json"))}

Json = dict[str, Any]


def product(data: Json) -> Product:
    return Product(**data | {"allergens": frozenset(data["allergens"])})


def list_state(data: Json | None) -> ListState | None:
    if data is None:
        return None
    list_epoch, number = data["version"]
    version = Version(list_epoch=list_epoch, number=number)
    return ListState(version=version, age_s=data["age_s"])


def cardholder(data: Json | None) -> Cardholder | None:
    if data is None:
        return None
    changed = {
        "category": Category(data["category"]),
        "allergens": frozenset(data["allergens"]),
        "windows_by_zone": {},
    }
    return Cardholder(**data | changed)


def rows(kind: type[Any], data: list[Json]) -> tuple[Any, ...]:
    """JSON's lists are tuples in the view."""
    return tuple(kind(**{name: tupled(value) for name, value in one.items()}) for one in data)


def tupled(value: Any) -> Any:
    return tuple(map(tupled, value)) if isinstance(value, list) else value


def ask(data: Json | None) -> Ask | None:
    if data is None:
        return None
    return Ask(**data | {"tenders": tuple(Tender(name) for name in data["tenders"])})


def account(data: Json | None) -> Account | None:
    if data is None:
        return None
    changed = {name: frozenset(data[name]) for name in ("banned_products", "banned_categories")}
    return Account(**data | changed)


def decide(data: Json) -> PurchaseDecision:
    """The decision on a vector's `given`. A field too many or too few raises."""
    given = dict(data)
    lines = tuple(
        LineItem(**line | {"product": product(line["product"])}) for line in given.pop("basket")
    )
    hold = given.pop("hold", None)
    credential = given.pop("credential")
    policy = given.pop("policy")
    limits = {int(tier): limit for tier, limit in policy["tier_limit_minor"].items()}
    view = PurchaseView(
        people=list_state(given.pop("people")),
        money=list_state(given.pop("money")),
        hot_listed=given.pop("hot_listed"),
        credential=None if credential is None else Credential(**credential),
        cardholder=cardholder(given.pop("cardholder")),
        account=account(given.pop("account")),
        tail=tuple(Spend(**spend) for spend in given.pop("tail")),
        vector={tuple(key): up_to for *key, up_to in given.pop("vector")},
        peers=rows(PeerTill, given.pop("peers", [])),
        pieces=rows(Pieces, given.pop("pieces", [])),
        entitlements=rows(Entitlement, given.pop("entitlements", [])),
        preorders=rows(Preorder, given.pop("preorders", [])),
        claims=frozenset(given.pop("claims", [])),
    )
    decision = decide_purchase(
        Presentation(**given.pop("presentation")),
        Basket(lines=lines),
        view,
        Now(**given.pop("now")),
        given.pop("business_date"),
        PurchasePolicy(**policy | {"tier_limit_minor": limits}),
        base_date=given.pop("base_date"),
        slot=given.pop("slot", ""),
        ask=ask(given.pop("ask", None)),
        hold=None if hold is None else HeldAmount(**hold),
    )
    assert given == {}, "every field of a vector counts"
    return decision


def as_json(decision: PurchaseDecision) -> Json:
    return {
        "sold": decision.sold,
        "reason": decision.reason.value,
        "caveats": [caveat.value for caveat in decision.caveats],
        "tender": decision.tender.value,
        "total_minor": decision.total_minor,
        "postings": [[p.account_id, p.purse, p.amount_minor] for p in decision.postings],
        "available_after_minor": decision.available_after_minor,
        "without": [line.product.product_id for line in decision.without],
        "total_without_minor": decision.total_without_minor,
        "short_minor": decision.short_minor,
        "tenders": [[p.tender.value, p.purse, p.amount_minor] for p in decision.paid],
        "meals": list(decision.meals),
        "preorders": [[one.preorder_id, one.substituted] for one in decision.preorders],
        "overridden": None if decision.overridden is None else decision.overridden.value,
        "needs_hold": decision.needs_hold,
        "needs_facts": decision.needs_facts,
    }


@pytest.mark.parametrize("name", VECTORS)
def test_the_decision_is_the_golden_one(name: str) -> None:
    vector = VECTORS[name]
    assert set(vector) == {"why", "given", "expected"}
    assert as_json(decide(vector["given"])) == vector["expected"], vector["why"]


def test_the_vectors_show_every_reason_that_is_given() -> None:
    shown = {PurchaseReason(vector["expected"]["reason"]) for vector in VECTORS.values()}
    assert shown == set(PurchaseReason)


@pytest.mark.parametrize("name", VECTORS)
def test_a_vector_says_why_in_one_line(name: str) -> None:
    why = VECTORS[name]["why"]
    assert why.endswith(".")
    assert "\n" not in why
