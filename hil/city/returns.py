"""Sales undone: a void by the till and shift that sold, a refund after it or at another till.

A void must be the sale's postings with the other sign, and happens once; what it gives back is what
was posted, suspense included. A refund gives back at most what the account paid. It may come before
its sale, which another till recorded: then it lies in suspense as `unknown_sale` until that comes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from edge.messages import Posting, Refund, SaleFact, Stream, Void, decode_fact
from hil.city.accounts import AMOUNT_MINOR_MAX, sums_to_zero, turned
from hil.city.families import Families
from hil.city.ledger import Ledger
from hil.city.lists import Publisher
from hil.city.meals import Entered, MealBook
from hil.city.meaning import SuspenseReason, line_at, money_of
from hil.city.preorders import Preorders
from hil.city.registry import Registry
from hil.city.sales import set_aside, spent_minor
from hil.city.store import Store, StreamKey


class Returns:
    """Keeps to the transaction of the caller."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        registry: Registry,
        publisher: Publisher,
        families: Families,
        meals: MealBook,
        preorders: Preorders,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._registry = registry
        self._publisher = publisher
        self._families = families
        self._meals = meals
        self._preorders = preorders

    def void(self, entered: Entered, fact: Void, now_ms: int) -> SuspenseReason | None:
        row = self.find(entered.device, fact.sale_epoch, fact.sale)
        if row is None:
            return SuspenseReason.UNKNOWN_SALE
        sale, sold, voided, data = row
        if voided:
            return SuspenseReason.VOIDED_ALREADY
        if _counted(fact.postings) != _counted(turned(sold.postings)):
            return SuspenseReason.BAD_AMOUNTS
        if self._refunded(sale):
            return SuspenseReason.REFUNDED_ALREADY
        self._store.execute(
            "UPDATE sale SET voided = 1 WHERE device = ? AND epoch = ? AND sequence = ?"
            " AND digest = ?",
            sale.parts,
        )
        postings = turned(self._ledger.postings_of(sale.reference))
        if postings:
            self._ledger.post(
                "void",
                f"void:{sale.reference}",
                postings,
                now_ms=now_ms,
                spends=[(account, date, -n) for account, date, n in data["spends"]],
                items=[(account, date, what, -n) for account, date, what, n in data["items"]],
            )
        self._meals.undo(sale, now_ms)
        self._preorders.undo(sale, sold, now_ms)
        self._given_back(entered, fact, sold, postings, "voided", now_ms)
        return None

    def refund(
        self, key: StreamKey, entered: Entered, fact: Refund, now_ms: int
    ) -> SuspenseReason | None:
        """The sale may be another till's, and not here yet: then this waits for it."""
        row = self.find(fact.sale_device, fact.sale_epoch, fact.sale)
        if row is None:
            self._store.execute(
                "INSERT INTO waiting VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (*key.parts, entered.sequence, fact.sale_device, fact.sale_epoch, fact.sale),
            )
            return SuspenseReason.UNKNOWN_SALE
        sale, sold, voided, _ = row
        if voided:
            return SuspenseReason.VOIDED_ALREADY
        mine = [p for p in fact.postings if p.account == fact.account]
        if (
            fact.account != sold.account
            or not sums_to_zero(fact.postings)
            or any(p.amount_minor < 0 for p in mine)
            or any(abs(p.amount_minor) > AMOUNT_MINOR_MAX for p in fact.postings)
            or {p.account for p in fact.postings} - {p.account for p in sold.postings}
        ):
            return SuspenseReason.BAD_AMOUNTS
        back, given = self._refunded(sale), Counter[str]()
        for posting in mine:
            given[posting.purse] += posting.amount_minor
        for purse, amount in given.items():
            paid = spent_minor([p for p in sold.postings if p.purse == purse], sold.account)
            if back[purse] + amount > paid:
                return SuspenseReason.REFUNDED_ALREADY
        for purse, amount in given.items():
            self._store.execute(
                "INSERT INTO refunded VALUES (?, ?, ?, ?, ?) ON CONFLICT"
                " (device, epoch, sequence, purse) DO UPDATE SET"
                " amount_minor = refunded.amount_minor + excluded.amount_minor",
                (sale.device, sale.epoch, sale.sequence, purse, amount),
            )
        postings = fact.postings
        held = self._ledger.postings_of(sale.reference)
        if sold.account not in {p.account for p in held}:
            postings = set_aside(postings, sold.account, self._registry.site)
        if postings:
            self._ledger.post("refund", f"refund:{entered.reference}", postings, now_ms=now_ms)
        self._given_back(entered, fact, sold, postings, "refunded", now_ms)
        return None

    def refund_waiting(self, entered: Entered, now_ms: int) -> None:
        """Refunds that came before this sale."""
        found = self._store.rows(
            "SELECT device, stream, epoch, sequence FROM waiting"
            " WHERE sale_device = ? AND sale_epoch = ? AND sale = ?",
            (entered.device, entered.epoch, entered.sequence),
        )
        for device, stream, epoch, sequence in found:
            place = (device, stream, epoch, sequence)
            where = "device = ? AND stream = ? AND epoch = ? AND sequence = ?"
            self._store.execute(f"DELETE FROM waiting WHERE {where}", place)
            row = self._store.one(f"SELECT bytes FROM fact WHERE {where}", place)
            fact = None if row is None else decode_fact(row[0])
            if not isinstance(fact, Refund):
                continue  # It came restated: a person has it in suspense.
            key = StreamKey(device=device, stream=Stream(stream), epoch=epoch)
            waited = Entered(device=device, epoch=epoch, sequence=sequence)
            reason = self.refund(key, waited, fact, now_ms)
            if reason is None:
                self._store.execute(f"DELETE FROM suspense WHERE {where}", place)
            else:
                self._store.execute(
                    f"UPDATE suspense SET reason = ? WHERE {where}", (reason.value, *place)
                )

    def find(
        self, device: str, epoch: str, sequence: int
    ) -> tuple[Entered, SaleFact, bool, dict[str, Any]] | None:
        """The sale under this key: the one that came under it before one that was restated."""
        row = self._store.one(
            "SELECT digest, voided, data FROM sale WHERE device = ? AND epoch = ? AND sequence = ?"
            " ORDER BY digest LIMIT 1",
            (device, epoch, sequence),
        )
        if row is None:
            return None
        digest, voided, text = row
        data = json.loads(text)
        sold = decode_fact(data.pop("fact").encode())
        assert isinstance(sold, SaleFact)
        entered = Entered(device=device, epoch=epoch, sequence=sequence, digest=digest)
        return entered, sold, bool(voided), data

    def _refunded(self, sale: Entered) -> Counter[str]:
        found = self._store.rows(
            "SELECT purse, amount_minor FROM refunded"
            " WHERE device = ? AND epoch = ? AND sequence = ?",
            sale.parts[:3],
        )
        return Counter(dict(found))

    def _given_back(
        self,
        entered: Entered,
        fact: Void | Refund,
        sold: SaleFact,
        postings: Sequence[Posting],
        kind: str,
        now_ms: int,
    ) -> None:
        """The account's row goes out, and the family hears what came back."""
        if self._registry.purses_of(sold.account) is not None:
            self._publisher.touch_account(sold.account, now_ms)
        name = self._registry.person_name(sold.cardholder)
        if name is None:
            return
        place = self._registry.place(now_ms)
        amount = sum(p.amount_minor for p in postings if p.account == sold.account)
        back = f", {money_of(amount, place)} returned" if amount else ""
        text = f"{name}: {kind}{back}"
        self._families.add(line_at(fact, place, cardholder=sold.cardholder, kind=kind, text=text))


def _counted(postings: Sequence[Posting]) -> Counter[tuple[str, str, int]]:
    return Counter((p.account, p.purse, p.amount_minor) for p in postings)
