"""Names of the ledger's own accounts, and the one rule of double entry. Pure.

Accounts that are not a cardholder's have a word and a colon in front: `sales:s0001`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from edge.messages import Posting

AMOUNT_MINOR_MAX: Final = 10**9  # Our choice: ten million roubles is no school meal.
# Accounts of a site that are nobody's purse.
PLACES: Final = (
    *("sales", "funding", "suspense", "cash", "meals", "preorders"),
    *("holds", "earmarks", "losses", "emergency"),
)


def sales(site: str) -> str:
    return f"sales:{site}"


def funding(site: str) -> str:
    """Where top-ups and opening balances come from."""
    return f"funding:{site}"


def suspense(site: str) -> str:
    """Where the money of a sale lies until a person says whose it is."""
    return f"suspense:{site}"


def cash(site: str) -> str:
    """What was paid in coins and notes: below zero by what lies in the drawers."""
    return f"cash:{site}"


def meals(site: str) -> str:
    """What entitlements have paid: below zero by what the city owes its kitchens."""
    return f"meals:{site}"


def preorders(site: str) -> str:
    """What families have paid for meals that were not handed over yet."""
    return f"preorders:{site}"


def holds(site: str) -> str:
    """What tills have set aside for a basket above the cap."""
    return f"holds:{site}"


def earmarks(site: str) -> str:
    """What the city wants to spend and no till may count on any more."""
    return f"earmarks:{site}"


def losses(site: str) -> str:
    """What a fault of ours has cost: a meal that two tills served."""
    return f"losses:{site}"


def emergency(site: str) -> str:
    """Who feeds a child of whom a till knows no account: below zero by what that has cost."""
    return f"emergency:{site}"


def turned(postings: Sequence[Posting]) -> tuple[Posting, ...]:
    """The same with the other sign."""
    return tuple(
        Posting(account=p.account, purse=p.purse, amount_minor=-p.amount_minor) for p in postings
    )


def move(source: str, target: str, purse: str, amount_minor: int) -> tuple[Posting, Posting]:
    """From one account to the other."""
    return (
        Posting(account=source, purse=purse, amount_minor=-amount_minor),
        Posting(account=target, purse=purse, amount_minor=amount_minor),
    )


def sums_to_zero(postings: Sequence[Posting]) -> bool:
    """In each purse: a sale from one purse may not be paid by another."""
    sums: dict[str, int] = defaultdict(int)
    for posting in postings:
        sums[posting.purse] += posting.amount_minor
    return not any(sums.values())
