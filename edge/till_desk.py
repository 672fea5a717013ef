"""A till without a card: voids and refunds, meals served by list, pre-orders nobody came for, and
the day's end.

As everywhere: record, then show. What is due and what a close-out comes to is `pos`'s to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Final

from edge import logs
from edge.counter import Counter
from edge.messages import (
    CloseOut,
    CloseRange,
    Fact,
    GroupRow,
    GroupServed,
    MealServed,
    MealUse,
    PreorderUncollected,
    Refund,
    SaleFact,
    Void,
)
from edge.model import (
    Cardholder,
    Caveat,
    CorruptData,
    DeviceFault,
    Moment,
    PurchaseView,
    SupervisedAct,
    meal_claim,
    preorder_claim,
)
from edge.names import Names
from edge.offline_cache import purchases, till_books
from edge.offline_cache.record import JournalRecording
from edge.offline_cache.store import reading, telling
from edge.offline_cache.undone import told_here
from edge.pos.closeout import totals_of
from edge.pos.entitlement import Occasion, Serving, owner_by_person, servings
from edge.pos.ledger import MINUTES_PER_DAY
from edge.pos.refund import LineKey, RefundProblem, give_back
from edge.till_facts import turned

BATCH_FACTS: Final = 50  # Our choice: a class in one transaction, a few ms on a Pi.
UNCOLLECTED_AFTER_MINUTES: Final = 10  # Our choice: the last of the queue is served by then.
NOBODY_SIGNED_IN: Final = "sign in first: this is recorded with the cashier's name"
NO_SUPERVISOR: Final = "a supervisor has to show card and PIN first"
SaleKey = tuple[str, str, int]  # Device, epoch, sequence.
REFUND_WORDS: Final = {
    RefundProblem.VOIDED: "that sale is void; nothing of it was paid",
    RefundProblem.NOT_SOLD: "more than is left of that sale; look at its lines again",
    RefundProblem.NO_MONEY: "no money is left in that sale to give back",
    RefundProblem.OTHER_DRAWER: "paid in cash at another till; the drawer there gives it back",
    RefundProblem.NO_ACCOUNT: "the sale names no account; the city's desk can give it back",
    RefundProblem.PURSE: "not on the menu any more; the city's desk can give it back",
}
assert set(REFUND_WORDS) == set(RefundProblem)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One person of a group, for the list that is served from."""

    cardholder_id: str
    person: Cardholder | None
    present: bool
    served: bool  # In this slot already.
    meals: tuple[Serving, ...]


class TillDesk:
    """What a cashier does beside selling. Answers "" or why not."""

    def __init__(self, counter: Counter, names: Names, count: Callable[[str], None]) -> None:
        self._counter = counter
        self._cache = counter.cache
        self._journal = counter.journal
        self._names = names
        self._count = count
        self.last_close_out: CloseOut | None = None  # Since the start: to be printed.
        self._swept: tuple[str, frozenset[str]] = ("", frozenset())
        self._log = logs.get("till")

    # ------------------------------------------------------------------ undone and given back

    def void(self, sequence: int, moment: Moment, *, epoch: str = "", why: str = "cashier") -> str:
        """Undo a sale of this till and shift; nothing of it was handed over."""
        cashier = self._counter.staff.cashier(moment)
        if not cashier:
            return NOBODY_SIGNED_IN
        key = (epoch or self._journal.epoch, sequence)
        db = self._journal.writer.db
        with telling(self._journal.writer.path):
            if not till_books.is_voidable(db, *key):
                return "no sale of this till and shift, or voided already; a supervisor can refund"
        found = self.sale_left((self._cache.device, *key))
        if isinstance(found, str):
            return "that sale is not held here any more"
        sale, undone = found
        if undone:
            return "given back in part already; a supervisor can refund the rest"
        with self._journal.record(moment) as recording:
            recording.add(
                Void(
                    **recording.stamp(moment),
                    sale_epoch=key[0],
                    sale=key[1],
                    account=sale.account,
                    postings=turned(sale.postings),
                    business_date=sale.business_date,
                    why=why,
                    cashier=cashier,
                )
            )
        self._count("voids")
        return ""

    def refund(
        self,
        sold: SaleKey,
        why: str,
        moment: Moment,
        *,
        chosen: Mapping[LineKey, int] | None = None,
    ) -> Refund | str:
        """Give back these pieces of a sale, of whatever till, or all that is left of it. The city
        credits it; a supervisor answers for it. The fact, or why not."""
        date = self._counter.business_date(moment)
        if date is None:
            return "give the date first"
        device, epoch, sequence = sold
        found = self.sale_left(sold)
        if isinstance(found, str):
            return found
        sale, undone = found
        purses = {one.product_id: one.purse for one in self._counter.products()}
        back = give_back(sale, undone, chosen, purses, own=device == self._cache.device)
        if isinstance(back, RefundProblem):
            return REFUND_WORDS[back]
        supervisor = self._counter.staff.supervise(moment, SupervisedAct.REFUND)
        if not supervisor:
            return NO_SUPERVISOR
        with self._journal.record(moment) as recording:
            fact = Refund(
                **recording.stamp(moment),
                sale_device=device,
                sale_epoch=epoch,
                sale=sequence,
                account=sale.account,
                postings=back.postings,
                business_date=date,
                why=why,
                cashier=self._counter.staff.cashier(moment),
                supervisor=supervisor,
                lines=back.lines,
                tenders=back.tenders,
            )
            recording.add(fact)
        self._count("refunds")
        return fact

    def sale_left(self, sold: SaleKey) -> tuple[SaleFact, tuple[Fact, ...]] | str:
        """A sale of this till or another, and what has undone of it, as far as it is held here."""
        db, (device, epoch, sequence) = self._journal.writer.db, sold
        with telling(self._journal.writer.path):
            own = device == self._cache.device
            sale = till_books.fact_at(db, epoch, sequence) if own else self._cache.peer_fact(*sold)
            if not isinstance(sale, SaleFact):
                return "that sale is not held here; the city's desk can give it back"
            keys = told_here(db, *sold)
            facts = (till_books.fact_at(db, *key) for key in keys)
            here = tuple(fact for fact in facts if fact is not None)
        return sale, here + self._cache.peers_undone(*sold)

    def epoch_of(self, device: str, moment: Moment) -> str:
        """The epoch in which a till sells now, as far as is known; nobody reads it off a slip."""
        if device == self._cache.device:
            return self._journal.epoch
        state = self._cache.peer_states(moment).get(device)
        return state.lives[-1].epoch if state is not None and state.lives else ""

    def sales(self) -> Iterator[SaleFact]:
        """Sales of this shift that stand, newest last."""
        db = self._journal.writer.db
        for key in till_books.shift_sales(db):
            sale = till_books.fact_at(db, *key)
            if isinstance(sale, SaleFact):
                yield sale

    # ------------------------------------------------------------------------ meals by list

    def groups(self) -> dict[str, GroupRow]:
        people = self._cache.picture("people")
        if people is None:
            return {}
        with reading(people):
            return dict(purchases.groups(people))

    def members(
        self,
        group: str,
        slot: str,
        moment: Moment,
        *,
        present: Set[str] | None = None,
    ) -> tuple[Member, ...]:
        """Who is in a group, and what is due to each in this slot. `present` is who is here now,
        where somebody knows."""
        row, date = self.groups().get(group), self._counter.business_date(moment)
        if row is None or date is None:
            return ()
        members = []
        for cardholder_id in row.member_ids:
            view = self._cache.purchase_view("", moment, cardholder_id=cardholder_id)
            members.append(
                Member(
                    cardholder_id=cardholder_id,
                    person=view.cardholder,
                    present=present is None or cardholder_id in present,
                    served=any(c.startswith(meal_claim(date, slot, "")) for c in view.claims),
                    meals=self._due(view, date, slot),
                )
            )
        return tuple(members)

    def serve_group(
        self,
        group: str,
        slot: str,
        absent: Set[str],
        moment: Moment,
        *,
        present: Set[str] | None = None,
    ) -> str | int:
        """Serve everybody of the group to whom a meal is due, but for who is absent. How many
        meals, or why none.

        In bounded transactions: what was recorded when the process ended is not served again,
        because a meal's key is claimed once.
        """
        date = self._counter.business_date(moment)
        if date is None:
            return "give the date first"
        if not slot:
            return "no meal is served now; name the slot"
        if slot != self._counter.slot(moment):
            return f"{slot!r:.40}: not served now"
        here = [
            member
            for member in self.members(group, slot, moment, present=present)
            if member.present and member.cardholder_id not in absent
        ]
        due = [(member, meal) for member in here for meal in member.meals]
        if not due:
            return "nobody of this group is due a meal in this slot, or the group is not known"
        cashier = self._counter.staff.cashier(moment)
        alone = set(self._cache.tills) != self._cache.heard_tills(moment)
        for first in range(0, len(due), BATCH_FACTS):
            batch = due[first : first + BATCH_FACTS]
            with self._journal.record(moment) as recording:
                for member, meal in batch:
                    recording.add(
                        MealServed(
                            **recording.stamp(moment),
                            cardholder=member.cardholder_id,
                            meal=MealUse(entitlement=meal.entitlement.entitlement_id, slot=slot),
                            business_date=date,
                            group=group,
                            cashier=cashier,
                            caveats=_caveats(meal, moment, alone=alone),
                        )
                    )
                if first + BATCH_FACTS >= len(due):
                    recording.add(
                        GroupServed(
                            **recording.stamp(moment),
                            group=group,
                            slot=slot,
                            business_date=date,
                            served=len(due),
                            absent=tuple(sorted(absent)),
                            cashier=cashier,
                        )
                    )
        self._count("groups_served")
        return len(due)

    def names_of(self, person: Cardholder | None) -> tuple[str, str]:
        return self._names.of(person)

    def _due(self, view: PurchaseView, date: str, slot: str) -> tuple[Serving, ...]:
        person = view.cardholder
        if person is None or person.suspended or not person.here:
            return ()
        occasion = Occasion(
            cardholder_id=person.cardholder_id,
            business_date=date,
            slot=slot,
            device=self._cache.device,
            peers=view.peers,
        )
        return servings(view.entitlements, view.claims, occasion)

    # -------------------------------------------------------------------------- time

    def look(self, moment: Moment) -> None:
        """Once a slot is over: what was ordered for it and nobody came for. Each person's own till
        says so, so that it is said once; without a trusted clock nobody does."""
        site = self._cache.small.site
        if site is None or not moment.clock_trusted:
            return
        minute = moment.minute_of_week % MINUTES_PER_DAY - UNCOLLECTED_AFTER_MINUTES
        over = frozenset(name for name, (_, last) in site.meal_slots.items() if last <= minute)
        if self._swept == (moment.local_date, over):
            return
        try:
            for slot in sorted(over):
                self._uncollected(slot, moment)
        except (DeviceFault, CorruptData) as fault:
            self._log.error("cannot tell what was not collected", reason=str(fault))
            return  # Asked again in a second.
        self._swept = (moment.local_date, over)

    def _uncollected(self, slot: str, moment: Moment) -> None:
        money = self._cache.picture("money")
        if money is None:
            return
        with reading(money):
            found = purchases.due_preorders(money, moment.local_date, slot)
        tills = sorted({self._cache.device, *self._cache.tills})
        mine = [one for one in found if owner_by_person(one[0], tills) == self._cache.device]
        left = [
            (cardholder, name)
            for cardholder, name, _ in mine
            if preorder_claim(name)
            not in self._cache.purchase_view("", moment, cardholder_id=cardholder).claims
        ]
        for first in range(0, len(left), BATCH_FACTS):
            with self._journal.record(moment) as recording:
                for cardholder, name in left[first : first + BATCH_FACTS]:
                    recording.add(
                        PreorderUncollected(
                            **recording.stamp(moment),
                            preorder=name,
                            cardholder=cardholder,
                            slot=slot,
                            business_date=moment.local_date,
                        )
                    )

    # ----------------------------------------------------------------------- the day's end

    def close_out(self, moment: Moment) -> str | CloseOut:
        """Count the shift and end it (Z); the fact, or why not."""
        date = self._counter.business_date(moment)
        cashier = self._counter.staff.cashier(moment)
        if not cashier:
            return NOBODY_SIGNED_IN
        if date is None:
            return "give the date first"
        if self._counter.busy:
            return "a basket is being paid; a moment"
        with self._journal.record(moment) as recording:
            fact = self._count_shift(recording, moment, date, cashier)
            recording.add(fact)
        self._count("close_outs")
        self.last_close_out = fact
        return fact

    def _count_shift(
        self, recording: JournalRecording, moment: Moment, date: str, cashier: str
    ) -> CloseOut:
        db = recording.db
        shift = till_books.shift(db)
        totals = totals_of(till_books.facts_between(db, shift.ranges))
        epoch = self._journal.epoch
        return CloseOut(
            **recording.stamp(moment),
            number=shift.number,
            ranges=tuple(CloseRange(epoch=e, first=f, last=n) for e, f, n in shift.ranges),
            total_minor_by_tender=dict(totals.total_minor_by_tender),
            count_by_kind=dict(totals.count_by_kind),
            voids_by_cashier=dict(totals.voids_by_cashier),
            overrides_by_cashier=dict(totals.overrides_by_cashier),
            duplicates=totals.duplicates,
            refunded_minor_by_tender=dict(totals.refunded_minor_by_tender),
            unsent=max(0, recording.head - self._cache.acknowledged("main", epoch)),
            business_date=date,
            cashier=cashier,
        )


def _caveats(meal: Serving, moment: Moment, *, alone: bool) -> tuple[Caveat, ...]:
    found = [] if moment.clock_trusted else [Caveat.CLOCK_UNTRUSTED]
    found += [Caveat.ALONE] if alone else []
    return tuple(found + ([Caveat.UNCONFIRMED] if meal.unconfirmed else []))
