"""Double entry: every entry's postings sum to zero in each purse, and so does everything together.

Balances and daily spend are kept with the postings, in their transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from edge.messages import Posting
from hil.city.accounts import AMOUNT_MINOR_MAX, PLACES, sums_to_zero
from hil.city.store import Store


class Ledger:
    """Entries and what they add up to."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def post(
        self,
        kind: str,
        reference: str,
        postings: Sequence[Posting],
        *,
        now_ms: int,
        spends: Sequence[tuple[str, str, int]] = (),
        items: Sequence[tuple[str, str, str, int]] = (),
    ) -> bool:
        """One entry. False when its reference is posted already: an entry happens once."""
        assert postings and sums_to_zero(postings), f"{reference}: postings do not sum to zero"
        assert all(abs(posting.amount_minor) <= AMOUNT_MINOR_MAX for posting in postings)
        entered = self._store.execute(
            "INSERT INTO entry (kind, reference, at_ms) VALUES (?, ?, ?)"
            " ON CONFLICT (reference) DO NOTHING RETURNING id",
            (kind, reference, now_ms),
        )
        if not entered.rows:
            return False
        ((entry,),) = entered.rows
        for posting in postings:
            values = (posting.account, posting.purse, posting.amount_minor)
            self._store.execute("INSERT INTO posting VALUES (?, ?, ?, ?)", (entry, *values))
            self._store.execute(
                "INSERT INTO balance VALUES (?, ?, ?) ON CONFLICT (account, purse) DO UPDATE SET"
                " amount_minor = balance.amount_minor + excluded.amount_minor",
                values,
            )
        for spend in spends:
            self._store.execute(
                "INSERT INTO spend VALUES (?, ?, ?) ON CONFLICT (account, date) DO UPDATE SET"
                " amount_minor = spend.amount_minor + excluded.amount_minor",
                spend,
            )
        for item in items:
            self._store.execute(
                "INSERT INTO item VALUES (?, ?, ?, ?) ON CONFLICT (account, date, category)"
                " DO UPDATE SET pieces = item.pieces + excluded.pieces",
                item,
            )
        return True

    def items(self, account: str, date: str) -> dict[str, int]:
        """Pieces bought on this business date, by category."""
        found = self._store.rows(
            "SELECT category, pieces FROM item WHERE account = ? AND date = ? AND pieces > 0"
            " ORDER BY category",
            (account, date),
        )
        return dict(found)

    def balances(self, account: str) -> dict[str, int]:
        """By purse."""
        found = self._store.rows(
            "SELECT purse, amount_minor FROM balance WHERE account = ?", (account,)
        )
        return dict(found)

    def spent(self, account: str) -> tuple[str, int, int]:
        """Last business date with spend, what was spent on it and in its week (from Monday)."""
        found = self._store.rows(
            "SELECT date, amount_minor FROM spend WHERE account = ? ORDER BY date DESC LIMIT 7",
            (account,),
        )
        if not found:
            return "", 0, 0
        last, day_minor = found[0]
        monday = date.fromisoformat(last) - timedelta(days=date.fromisoformat(last).weekday())
        week_minor = sum(amount for day, amount in found if date.fromisoformat(day) >= monday)
        return last, day_minor, week_minor

    def sums(self) -> dict[str, int]:
        """By purse, over all postings: zero, or something is wrong. Checks the balances too."""
        sums = dict(
            self._store.rows(
                "SELECT purse, CAST(SUM(amount_minor) AS BIGINT) FROM posting GROUP BY purse"
            )
        )
        drift = self._store.rows(
            "SELECT b.account, b.purse FROM balance b WHERE b.amount_minor !="
            " (SELECT COALESCE(SUM(p.amount_minor), 0) FROM posting p"
            "  WHERE p.account = b.account AND p.purse = b.purse)"
        )
        assert not drift, f"balances that are not their postings' sum: {drift[:5]}"
        return sums

    def place_totals(self, site: str) -> dict[str, dict[str, int]]:
        """What stands on the site's own accounts, by purse."""
        return {place: self.balances(f"{place}:{site}") for place in PLACES}

    def postings_of(self, reference: str) -> list[Posting]:
        """Of the entry with this reference; none when there is no such entry."""
        found = self._store.rows(
            "SELECT p.account, p.purse, p.amount_minor FROM posting p JOIN entry e"
            " ON e.id = p.entry WHERE e.reference = ?",
            (reference,),
        )
        return [Posting(account=a, purse=purse, amount_minor=n) for a, purse, n in found]
