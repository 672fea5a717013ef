"""What a till's fact does to what came before it: holds, voids, refunds, meals, pre-orders, counts.

`posting.py` has judged the fact by itself and its postings are entered; this follows it up in the
same transaction. It asks the books and never the fact's bytes again, but for a close-out, which is
compared with them.
"""

from __future__ import annotations

import json
from collections import Counter

from edge.messages import (
    AnyFact,
    BaseSeen,
    CloseOut,
    Hold,
    HoldReleased,
    MealServed,
    Posting,
    PreorderUncollected,
    Refund,
    SaleFact,
    Stream,
    StreamOpened,
    Void,
    decode_fact,
    encode_json,
)
from edge.model import CorruptData
from hil.city.accounts import AMOUNT_MINOR_MAX, holds, meals, sums_to_zero, turned
from hil.city.close_outs import difference
from hil.city.debits import Debits
from hil.city.families import Families
from hil.city.ledger import Ledger
from hil.city.lists import Publisher
from hil.city.meals import Entered, MealBook
from hil.city.meaning import Meaning, SuspenseReason, counted_date
from hil.city.preorders import Preorders
from hil.city.registry import Registry
from hil.city.returns import Returns
from hil.city.sales import spent_minor
from hil.city.store import Store, StreamKey

TILL_FACTS = (
    *(SaleFact, Void, Refund, Hold, HoldReleased, BaseSeen),
    *(MealServed, PreorderUncollected, CloseOut),
)
"""Facts that count only from a till's `main`: no vector would ever include them elsewhere."""


class TillBooks:
    """Keeps to the transaction of the caller."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        registry: Registry,
        publisher: Publisher,
        debits: Debits,
        families: Families,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._registry = registry
        self._publisher = publisher
        self._debits = debits
        self._families = families
        self._site = registry.site
        self._meals = MealBook(store, ledger, publisher, registry.site)
        self.preorders = Preorders(store, ledger, registry, publisher, debits, families)
        self._returns = Returns(
            store, ledger, registry, publisher, families, self._meals, self.preorders
        )

    def follow(
        self, key: StreamKey, entered: Entered, fact: AnyFact, meaning: Meaning, now_ms: int
    ) -> SuspenseReason | None:
        """Why it cannot be followed up, or None. `key` is the stream it came in."""
        match fact:
            case SaleFact():
                return self._sale(entered, fact, meaning, now_ms)
            case Hold():
                return self._hold(entered, fact, now_ms)
            case HoldReleased():
                self.end_hold(entered.device, fact.hold_epoch, fact.hold, "released", now_ms)
            case Void():
                return self._returns.void(entered, fact, now_ms)
            case Refund():
                return self._returns.refund(key, entered, fact, now_ms)
            case MealServed():
                return self._served(entered, fact, meaning, now_ms)
            case PreorderUncollected():
                return self.preorders.uncollected(fact, now_ms)
            case CloseOut():
                self._close_out(entered, fact, now_ms)
            case BaseSeen():
                self._debits.seen(key, fact, entered.sequence)
            case StreamOpened():
                # One that was restated tells of a life that is over.
                if key.stream is Stream.MAIN and not entered.digest:
                    self._debits.opened(key)
            case _:
                pass
        return None

    # ------------------------------------------------------------------------------- sales

    def _sale(
        self, entered: Entered, fact: SaleFact, meaning: Meaning, now_ms: int
    ) -> SuspenseReason | None:
        if fact.hold is not None:
            self.end_hold(entered.device, entered.epoch, fact.hold, "sold", now_ms)
        if meaning.suspense in (SuspenseReason.BAD_DATE, SuspenseReason.BAD_AMOUNTS):
            return None  # Nothing of it can be believed.
        data = {"spends": meaning.spends, "items": meaning.items}
        self._store.execute(
            "INSERT INTO sale (device, epoch, sequence, digest, reference, account, cardholder,"
            " date, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *entered.parts,
                *(entered.reference, fact.account, fact.cardholder, fact.business_date),
                json.dumps({**data, "fact": encode_json(fact).decode()}),
            ),
        )
        if meaning.suspense is not SuspenseReason.UNKNOWN_CARDHOLDER:
            self._use_meals(entered, fact, now_ms)
        reason = self.preorders.collected(entered, fact, now_ms)
        self._returns.refund_waiting(entered, now_ms)
        return reason

    def _use_meals(self, entered: Entered, fact: SaleFact, now_ms: int) -> None:
        """What `meals:<site>` has paid is shared by the entitlements named, the first the rest."""
        if not fact.meals or not fact.cardholder:
            return
        paid: Counter[str] = Counter()
        for posting in fact.postings:
            if posting.account == meals(self._site):
                paid[posting.purse] -= posting.amount_minor
        purse = next(iter(sorted(paid)), "")
        share, rest = divmod(paid[purse] if purse else 0, len(fact.meals))
        for number, meal in enumerate(fact.meals):
            self._meals.use(
                entered,
                fact,
                cardholder=fact.cardholder,
                date=fact.business_date,
                meal=meal,
                purse=purse,
                amount_minor=share + (rest if number == 0 else 0),
                now_ms=now_ms,
            )

    def _served(
        self, entered: Entered, fact: MealServed, meaning: Meaning, now_ms: int
    ) -> SuspenseReason | None:
        if meaning.suspense is not None:
            return None
        if counted_date(fact.business_date, self._registry.place(now_ms).today) is None:
            return SuspenseReason.BAD_DATE
        self._meals.use(
            entered,
            fact,
            cardholder=fact.cardholder,
            date=fact.business_date,
            meal=fact.meal,
            purse="",
            amount_minor=0,
            now_ms=now_ms,
        )
        return None

    # ------------------------------------------------------------------------------- holds

    def _hold(self, entered: Entered, fact: Hold, now_ms: int) -> SuspenseReason | None:
        """Counts as spent until its sale or release arrives."""
        date = counted_date(fact.business_date, self._registry.place(now_ms).today)
        if date is None:
            return SuspenseReason.BAD_DATE
        held = tuple(p for p in fact.postings if p.account == fact.account)
        amounts = [p.amount_minor for p in held]
        if not sums_to_zero(fact.postings) or not all(-AMOUNT_MINOR_MAX <= n <= 0 for n in amounts):
            return SuspenseReason.BAD_AMOUNTS
        purses = self._registry.purses_of(fact.account)
        if purses is None or self._registry.account_of(fact.cardholder) != fact.account:
            return SuspenseReason.UNKNOWN_ACCOUNT
        if any(p.purse not in purses for p in held):
            return SuspenseReason.UNKNOWN_PURSE
        place = holds(self._site)
        others = tuple(
            Posting(account=place, purse=p.purse, amount_minor=-p.amount_minor) for p in held
        )
        made = self._store.execute(
            "INSERT INTO hold VALUES (?, ?, ?, ?, ?, ?, 'open') ON CONFLICT DO NOTHING",
            (
                *(entered.device, entered.epoch, entered.sequence, fact.account, date.isoformat()),
                json.dumps([[p.account, p.purse, p.amount_minor] for p in held + others]),
            ),
        )
        if made.changed == 1 and held:
            self._post_hold(
                "hold",
                *(entered.device, entered.epoch, entered.sequence),
                held + others,
                account=fact.account,
                date=date.isoformat(),
                now_ms=now_ms,
            )
        return None

    def end_hold(self, device: str, epoch: str, hold: int, state: str, now_ms: int) -> None:
        """Sold or released, once; of a hold that was never open, nothing."""
        row = self._store.one(
            "SELECT account, date, postings FROM hold"
            " WHERE device = ? AND epoch = ? AND sequence = ? AND state = 'open'",
            (device, epoch, hold),
        )
        if row is None:
            return
        account, date, data = row
        self._store.execute(
            "UPDATE hold SET state = ? WHERE device = ? AND epoch = ? AND sequence = ?",
            (state, device, epoch, hold),
        )
        postings = turned(
            [Posting(account=a, purse=p, amount_minor=n) for a, p, n in json.loads(data)]
        )
        if postings:
            self._post_hold(
                "hold-end", device, epoch, hold, postings, account=account, date=date, now_ms=now_ms
            )

    def _post_hold(
        self,
        word: str,
        device: str,
        epoch: str,
        hold: int,
        postings: tuple[Posting, ...],
        *,
        account: str,
        date: str,
        now_ms: int,
    ) -> None:
        spent = spent_minor(postings, account)
        self._ledger.post(
            "hold",
            f"{word}:{device}/{epoch}/{hold}",
            postings,
            now_ms=now_ms,
            spends=((account, date, spent),) if spent else (),
        )
        self._publisher.touch_account(account, now_ms)

    def release_holds_of(self, device: str, now_ms: int) -> int:
        """Of a till that left the roster: how many were open."""
        found = self._store.rows(
            "SELECT epoch, sequence FROM hold WHERE device = ? AND state = 'open'", (device,)
        )
        for epoch, sequence in found:
            self.end_hold(device, epoch, sequence, "released", now_ms)
        return len(found)

    # --------------------------------------------------------------------------- day's end

    def _close_out(self, entered: Entered, fact: CloseOut, now_ms: int) -> None:
        kinds: Counter[str] = Counter()
        found: list[AnyFact] = []
        for of in fact.ranges:
            where = "device = ? AND stream = 'main' AND epoch = ? AND sequence BETWEEN ? AND ?"
            values = (entered.device, of.epoch, of.first, of.last)
            kinds.update(
                dict(
                    self._store.rows(
                        f"SELECT kind, COUNT(*) FROM fact WHERE {where} GROUP BY kind", values
                    )
                )
            )
            for (data,) in self._store.rows(
                f"SELECT bytes FROM fact WHERE {where}"
                " AND kind IN ('sale', 'sale_refused', 'void', 'refund') ORDER BY sequence",
                values,
            ):
                try:
                    found.append(decode_fact(data))
                except (CorruptData, ValueError):
                    continue  # It lies in suspense, and the difference shows it.
        differs = difference(fact, kinds, found)
        self._store.execute(
            "INSERT INTO close_out VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (*entered.parts[:3], fact.number, fact.business_date, differs),
        )
        if differs:
            text = f"close-out {fact.number} of {fact.business_date}: {differs}"
            self._store.alarm(entered.device, "close_out", text, now_ms)
