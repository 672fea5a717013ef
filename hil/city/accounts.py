"""Names of the ledger's own accounts, and the one rule of double entry. Pure.

Accounts that are not a cardholder's have a word and a colon in front: `sales:s0001`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from edge.messages import Posting

AMOUNT_MINOR_MAX: Final = 10**9  # Our choice: ten million roubles is no school meal.
PLACES: Final = ("sales", "funding", "suspense")


def sales(site: str) -> str:
    return f"sales:{site}"


def funding(site: str) -> str:
    """Where top-ups and opening balances come from."""
    return f"funding:{site}"


def suspense(site: str) -> str:
    """Where the money of a sale lies until a person says whose it is."""
    return f"suspense:{site}"


def sums_to_zero(postings: Sequence[Posting]) -> bool:
    """In each purse: a sale from one purse may not be paid by another."""
    sums: dict[str, int] = defaultdict(int)
    for posting in postings:
        sums[posting.purse] += posting.amount_minor
    return not any(sums.values())
