"""Faults of a city's bookkeeping, done to the books after the core has posted rightly.

Each takes back, or does ahead of time, what the core did: so the core has no fault in it, and what
a careless city would show stands in its lists. The sums stay zero; only the people are wronged.
"""

from __future__ import annotations

from typing import Final

from edge.messages import RowKind
from hil.city.accounts import emergency, move, turned
from hil.city.faults import Fault, Faults
from hil.city.intake import CityCore
from hil.city.rows import parts_key

# Fault -> kind of the ledger entries that it takes back.
TAKEN_BACK: Final = {
    Fault.HOLD_UNSEEN: "hold",
    Fault.VOID_IGNORED: "void",
    Fault.REFUND_IGNORED: "refund",
}
FAR: Final = 2**31  # A list epoch above any that a check meets.


class SpoiledBooks:
    """Keeps to the transaction of the caller, but for `hurry`."""

    def __init__(self, core: CityCore, faults: Faults) -> None:
        self._core = core
        self._faults = faults

    def spoil(self, now_ms: int) -> None:
        """After facts were posted."""
        for fault, kind in TAKEN_BACK.items():
            if self._faults[fault]:
                self._take_back(kind, now_ms)
        if self._faults[Fault.SPLIT_BILLED] and self._core.store.rows("SELECT 1 FROM suspense"):
            self._take_back("sale", now_ms)
        if self._faults[Fault.MEAL_TWICE]:
            self._keep_the_later(now_ms)
        if self._faults[Fault.REFUND_BY_SUM]:
            self._core.store.execute("DELETE FROM refunded_line")
        if self._faults[Fault.EMERGENCY_BILLED]:
            self._bill_the_fed(now_ms)

    def _take_back(self, kind: str, now_ms: int) -> None:
        core = self._core
        for (reference,) in core.store.rows(
            "SELECT reference FROM entry e WHERE kind = ? AND NOT EXISTS (SELECT 1 FROM entry t"
            " WHERE t.reference = 'taken-back:' || e.reference) ORDER BY id",
            (kind,),
        ):
            postings = turned(core.ledger.postings_of(reference))
            core.ledger.post("taken_back", f"taken-back:{reference}", postings, now_ms=now_ms)
            for posting in postings:
                if core.registry.purses_of(posting.account) is not None:
                    core.publisher.touch_account(posting.account, now_ms)

    def _keep_the_later(self, now_ms: int) -> None:
        store = self._core.store
        for *place, last in store.rows(
            "SELECT cardholder, date, slot, entitlement, MAX(id) FROM meal_use"
            " GROUP BY cardholder, date, slot, entitlement HAVING COUNT(*) > 1"
        ):
            store.execute(
                "UPDATE meal_use SET duplicate = CASE WHEN id = ? THEN 0 ELSE 1 END"
                " WHERE cardholder = ? AND date = ? AND slot = ? AND entitlement = ?",
                (last, *place),
            )
            self._core.publisher.money.touch(RowKind.MEAL_USED, parts_key(*place), now_ms)

    def _bill_the_fed(self, now_ms: int) -> None:
        core = self._core
        ours = emergency(core.site)
        for reference, cardholder in core.store.rows(
            "SELECT reference, cardholder FROM sale s WHERE account = '' AND NOT EXISTS"
            " (SELECT 1 FROM entry t WHERE t.reference = 'billed:' || s.reference)"
        ):
            account = core.registry.account_of(cardholder)
            if account is None:
                continue
            for posting in core.ledger.postings_of(reference):
                if posting.account == ours:
                    bill = move(account, ours, posting.purse, -posting.amount_minor)
                    core.ledger.post("billed", f"billed:{reference}", bill, now_ms=now_ms)
                    core.publisher.touch_account(account, now_ms)

    def hurry(self) -> None:
        """Every till is said to have seen whatever was earmarked."""
        store = self._core.store
        if not self._faults[Fault.EARMARK_HASTY]:
            return
        with store.transaction():
            for (device,) in store.rows("SELECT device FROM device WHERE station = 'till'"):
                store.execute(
                    "INSERT INTO base_seen VALUES (?, ?, 0, '', 1) ON CONFLICT (device)"
                    " DO UPDATE SET list_epoch = excluded.list_epoch",
                    (device, FAR),
                )
