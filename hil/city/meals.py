"""Free meals used: each (cardholder, date, slot, entitlement) once, whatever tills served.

The earliest is kept: by the tills' clocks where they are trusted, which goes before where they are
not, else by when the city heard of it. Every other one is marked `duplicate_entitlement`: what
`meals:<site>` has paid for it becomes a loss of ours, and no family's account is ever touched.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge.messages import AnyFact, MealUse, RowKind
from hil.city.accounts import losses, meals, move
from hil.city.ledger import Ledger
from hil.city.lists import Publisher
from hil.city.meaning import TRUSTED_CLOCKS
from hil.city.rows import parts_key
from hil.city.store import Store

DUPLICATE = "duplicate_entitlement"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entered:
    """Where a fact stands: its own key, also when it came inside another one."""

    device: str
    epoch: str
    sequence: int
    digest: str = ""  # Of a restated fact, whose key another history may hold.

    @property
    def parts(self) -> tuple[str, str, int, str]:
        return self.device, self.epoch, self.sequence, self.digest

    @property
    def reference(self) -> str:
        """Of its ledger entry."""
        reference = f"fact:{self.device}/main/{self.epoch}/{self.sequence}"
        return f"{reference}/{self.digest}" if self.digest else reference


class MealBook:
    """Keeps to the transaction of the caller."""

    def __init__(self, store: Store, ledger: Ledger, publisher: Publisher, site: str) -> None:
        self._store = store
        self._ledger = ledger
        self._publisher = publisher
        self._site = site

    def use(
        self,
        entered: Entered,
        fact: AnyFact,
        *,
        cardholder: str,
        date: str,
        meal: MealUse,
        purse: str,
        amount_minor: int,
        now_ms: int,
    ) -> None:
        """One use; `amount_minor` is what `meals:<site>` has paid for it."""
        place = (cardholder, date, meal.slot, meal.entitlement)
        self._store.execute(
            "INSERT INTO meal_use (cardholder, date, slot, entitlement, device, epoch, sequence,"
            " digest, wall_ms, clock_trusted, purse, amount_minor)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                *place,
                *entered.parts,
                *(max(-(2**62), min(2**62, fact.wall_ms)), fact.clock in TRUSTED_CLOCKS),
                *(purse, amount_minor),
            ),
        )
        self._judge(place, now_ms)

    def undo(self, entered: Entered, now_ms: int) -> None:
        """A sale was voided: its meals were not handed over, and the next in line counts."""
        found = self._store.rows(
            "SELECT id, cardholder, date, slot, entitlement, duplicate FROM meal_use WHERE"
            " device = ? AND epoch = ? AND sequence = ? AND digest = ?",
            entered.parts,
        )
        for use, cardholder, date, slot, entitlement, duplicate in found:
            if duplicate:
                self._mark(use, False, now_ms)
            self._store.execute("DELETE FROM meal_use WHERE id = ?", (use,))
            self._judge((cardholder, date, slot, entitlement), now_ms)

    def _judge(self, place: tuple[str, str, str, str], now_ms: int) -> None:
        found = self._store.rows(
            "SELECT id, duplicate, device FROM meal_use WHERE cardholder = ? AND date = ?"
            " AND slot = ? AND entitlement = ? ORDER BY clock_trusted DESC,"
            " CASE WHEN clock_trusted = 1 THEN wall_ms ELSE 0 END, id",
            place,
        )
        for number, (use, duplicate, device) in enumerate(found):
            wanted = number > 0
            if wanted == bool(duplicate):
                continue
            self._mark(use, wanted, now_ms)
            if wanted:
                text = f"{place[3]} of {place[0]} on {place[1]}, {place[2]}: served twice"
                self._store.alarm(device, DUPLICATE, text, now_ms)
        self._publisher.money.touch(RowKind.MEAL_USED, parts_key(*place), now_ms)

    def _mark(self, use: int, duplicate: bool, now_ms: int) -> None:
        row = self._store.one("SELECT purse, amount_minor FROM meal_use WHERE id = ?", (use,))
        assert row is not None
        self._store.execute("UPDATE meal_use SET duplicate = ? WHERE id = ?", (duplicate, use))
        purse, amount_minor = row
        if not amount_minor:
            return
        ours, theirs = losses(self._site), meals(self._site)
        postings = (
            move(ours, theirs, purse, amount_minor)
            if duplicate
            else move(theirs, ours, purse, amount_minor)
        )
        before = self._store.one(
            "SELECT COUNT(*) FROM entry WHERE reference LIKE ?", (f"duplicate:{use}/%",)
        )
        assert before is not None
        self._ledger.post("duplicate", f"duplicate:{use}/{before[0]}", postings, now_ms=now_ms)
