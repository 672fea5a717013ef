"""The families' feed: lines that are added, and the warning when little money is left."""

from __future__ import annotations

from hil.city.ledger import Ledger
from hil.city.meaning import FeedLine, line_now, money_of
from hil.city.registry import Registry
from hil.city.store import Store


class Families:
    """Keeps to the transaction of the caller."""

    def __init__(self, store: Store, ledger: Ledger, registry: Registry) -> None:
        self._store = store
        self._ledger = ledger
        self._registry = registry

    def add(self, line: FeedLine) -> None:
        self._store.execute(
            "INSERT INTO feed (at_ms, at, cardholder, kind, text) VALUES (?, ?, ?, ?, ?)",
            (line.at_ms, line.at, line.cardholder, line.kind, line.text),
        )

    def tell(self, cardholder: str, kind: str, text: str, now_ms: int) -> None:
        """A line of the city's own, with the name before it; to nobody when there is no family."""
        name = self._registry.person_name(cardholder)
        if name is None:
            return
        place = self._registry.place(now_ms)
        self.add(line_now(place, cardholder=cardholder, kind=kind, text=f"{name}: {text}"))

    def look_at_balance(self, account: str, now_ms: int) -> None:
        """Warns once when all purses together fall below what the family chose; again after the
        balance was above it."""
        row = self._store.one(
            "SELECT low_balance_minor, warned FROM account WHERE account = ?", (account,)
        )
        if row is None or row[0] is None:
            return
        left = sum(self._ledger.balances(account).values())
        low = left < row[0]
        if low == bool(row[1]):
            return
        self._store.execute("UPDATE account SET warned = ? WHERE account = ?", (low, account))
        if low:
            amount = money_of(left, self._registry.place(now_ms))
            for (cardholder,) in self._store.rows(
                "SELECT cardholder FROM person WHERE account = ?", (account,)
            ):
                self.tell(cardholder, "low_balance", f"{amount} left", now_ms)
