"""Meals chosen beforehand: ordered, charged in two steps, collected or not.

A charged one lies on `preorders:<site>` until a till's sale takes it from there. What the sale took
and what was charged are compared when it is collected, and the account stands for the difference:
a till of an old base may have debited what was charged meanwhile (given back), or handed out what
was cancelled meanwhile (owed). One that two tills handed out is our loss, no family's. One that
nobody collected stays with the kitchen that cooked it, and comes back into play if a till that was
dark has handed it out after all.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter
from dataclasses import dataclass

from edge.messages import Posting, PreorderUncollected, RowKind, SaleFact
from hil.city.accounts import losses, move, preorders, sales, turned
from hil.city.debits import DebitKind, Debits
from hil.city.families import Families
from hil.city.ledger import Ledger
from hil.city.lists import Publisher
from hil.city.meals import Entered
from hil.city.meaning import SuspenseReason, money_of
from hil.city.registry import Registry
from hil.city.rows import parts_key
from hil.city.store import Store

ID_BYTES = 6  # Our choice: 48 bits among some thousand that are open.
OTHER_MEAL = "duplicate_preorder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preorder:
    preorder: str
    cardholder: str
    account: str
    purse: str
    date: str
    slot: str
    amount_minor: int
    charged: bool
    state: str  # ordered, charged, collected, uncollected, cancelled


class Preorders:
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

    def find(self, preorder: str) -> Preorder | None:
        row = self._store.one(
            "SELECT cardholder, account, purse, date, slot, amount_minor, charged, state"
            " FROM preorder WHERE preorder = ?",
            (preorder,),
        )
        if row is None:
            return None
        cardholder, account, purse, date, slot, amount_minor, charged, state = row
        return Preorder(
            preorder=preorder,
            cardholder=cardholder,
            account=account,
            purse=purse,
            date=date,
            slot=slot,
            amount_minor=amount_minor,
            charged=bool(charged),
            state=state,
        )

    def of_cardholder(self, cardholder: str) -> list[Preorder]:
        found = self._store.rows(
            "SELECT preorder FROM preorder WHERE cardholder = ? ORDER BY date, preorder",
            (cardholder,),
        )
        known = [self.find(preorder) for (preorder,) in found]
        return [preorder for preorder in known if preorder is not None]

    # ----------------------------------------------------------------------- by the family

    def order(
        self,
        *,
        cardholder: str,
        account: str,
        purse: str,
        date: str,
        slot: str,
        lines: tuple[tuple[str, int, int], ...],
        charge: bool,
        now_ms: int,
    ) -> str:
        """Its id. With `charge` the amount is earmarked; else it is paid when it is collected."""
        preorder = secrets.token_hex(ID_BYTES)
        amount_minor = sum(quantity * price_minor for _, quantity, price_minor in lines)
        self._store.execute(
            "INSERT INTO preorder VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, 'ordered')",
            (
                *(preorder, cardholder, account, purse, date, slot),
                *(json.dumps(lines), amount_minor),
            ),
        )
        if charge and amount_minor:
            self._debits.earmark(
                DebitKind.PREORDER,
                f"preorder:{preorder}",
                account=account,
                purse=purse,
                amount_minor=amount_minor,
                target=preorder,
                cardholder=cardholder,
                now_ms=now_ms,
            )
        self._touch(cardholder, preorder, now_ms)
        return preorder

    def cancel(self, order: Preorder, now_ms: int) -> None:
        """Before it is collected. What was charged is the account's again."""
        assert order.state in ("ordered", "charged")
        self._release_earmark(order, now_ms, "cancelled")
        if order.charged:
            self._settle(order, order.amount_minor, "cancelled", order.preorder, now_ms)
        self._set(order, "cancelled", now_ms, charged=False)

    # ------------------------------------------------------------------------- by the till

    def collected(self, entered: Entered, sale: SaleFact, now_ms: int) -> SuspenseReason | None:
        """The sale is posted already; what it took beside what was charged is put right."""
        due: Counter[tuple[str, str]] = Counter()  # (account, purse) -> charged and not taken yet
        orders, reason = [], None
        for use in sale.preorders:
            order = self.find(use.preorder)
            if order is None or order.cardholder != sale.cardholder:
                reason = SuspenseReason.UNKNOWN_PREORDER
                continue
            if order.state == "collected":
                text = f"{order.preorder} of {order.cardholder}: handed out twice"
                self._store.alarm(entered.device, OTHER_MEAL, text, now_ms)
                continue
            if order.state == "uncollected" and order.charged:
                postings = turned(self._ledger.postings_of(f"uncollected:{order.preorder}"))
                self._ledger.post("collected", f"late:{order.preorder}", postings, now_ms=now_ms)
            self._release_earmark(order, now_ms, "collected first")
            if order.charged:
                due[order.account, order.purse] += order.amount_minor
            orders.append(order)
            self._set(order, "collected", now_ms, charged=order.charged)
        self._put_right(entered, sale, orders, due, now_ms)
        return reason

    def _put_right(
        self,
        entered: Entered,
        sale: SaleFact,
        orders: list[Preorder],
        due: Counter[tuple[str, str]],
        now_ms: int,
    ) -> None:
        place = preorders(self._site)
        taken: Counter[str] = Counter()
        for posting in sale.postings:
            if posting.account == place:
                taken[posting.purse] -= posting.amount_minor
        for (account, purse), charged in due.items():
            used = min(charged, taken[purse])
            taken[purse] -= used
            if charged > used:
                postings = move(place, account, purse, charged - used)
                self._post("given_back", entered, postings, now_ms)
        for purse, too_much in taken.items():
            if too_much <= 0:
                continue
            # Cancelled meanwhile: eaten all the same. Handed out twice or unknown: our loss.
            owner = next((o.account for o in orders if not o.charged), losses(self._site))
            self._post("owed", entered, move(owner, place, purse, too_much), now_ms)

    def lost_minor(self, sale: Entered, purse: str) -> int:
        """What our losses paid of this sale, as nobody's account was charged for it."""
        entry = self._ledger.postings_of(f"owed:{sale.reference}#{purse}")
        return -sum(p.amount_minor for p in entry if p.account == losses(self._site))

    def undo(self, entered: Entered, sale: SaleFact, now_ms: int) -> None:
        """The sale was voided: nothing was handed over, and the meals stand as before it. What was
        charged for them lies where the voided sale and this put it: on `preorders:<site>`."""
        for use in sale.preorders:
            order = self.find(use.preorder)
            if order is not None and order.state == "collected":
                self._set(
                    order, "charged" if order.charged else "ordered", now_ms, charged=order.charged
                )
        for word in ("given_back", "owed"):
            reference = f"{word}:{entered.reference}"
            found = self._store.rows(
                "SELECT reference FROM entry WHERE reference LIKE ?", (f"{reference}#%",)
            )
            for (entry,) in found:
                postings = turned(self._ledger.postings_of(entry))
                self._ledger.post("void", f"void:{entry}", postings, now_ms=now_ms)
                self._touch_accounts([p.account for p in postings], now_ms)

    def uncollected(self, fact: PreorderUncollected, now_ms: int) -> SuspenseReason | None:
        """Nobody came for it. A second till saying so says nothing new."""
        order = self.find(fact.preorder)
        if order is None or order.cardholder != fact.cardholder:
            return SuspenseReason.UNKNOWN_PREORDER
        if order.state not in ("ordered", "charged"):
            return None
        self._release_earmark(order, now_ms, "not collected")
        if order.charged:
            postings = move(
                preorders(self._site), sales(self._site), order.purse, order.amount_minor
            )
            self._ledger.post(
                "uncollected", f"uncollected:{order.preorder}", postings, now_ms=now_ms
            )
        self._set(order, "uncollected", now_ms, charged=order.charged)
        amount = money_of(order.amount_minor, self._registry.place(now_ms))
        paid = f", {amount} stays paid" if order.charged else ""
        text = f"did not collect the {order.slot} chosen for {order.date}{paid}"
        self._families.tell(order.cardholder, "uncollected", text, now_ms)
        return None

    # -------------------------------------------------------------------------------- both

    def _release_earmark(self, order: Preorder, now_ms: int, why: str) -> None:
        debit = self._debits.open_for(order.preorder)
        if debit is not None:
            self._debits.release(debit, now_ms, why=why)

    def _settle(
        self, order: Preorder, amount_minor: int, word: str, reference: str, now_ms: int
    ) -> None:
        postings = move(preorders(self._site), order.account, order.purse, amount_minor)
        self._ledger.post(word, f"{word}:{reference}", postings, now_ms=now_ms)
        self._publisher.touch_account(order.account, now_ms)
        amount = money_of(amount_minor, self._registry.place(now_ms))
        self._families.tell(order.cardholder, "returned", f"{amount} returned: {word}", now_ms)

    def _post(
        self, word: str, entered: Entered, postings: tuple[Posting, ...], now_ms: int
    ) -> None:
        purse = postings[0].purse
        reference = f"{word}:{entered.reference}#{purse}"
        self._ledger.post(word, reference, postings, now_ms=now_ms)
        self._touch_accounts([posting.account for posting in postings], now_ms)

    def _touch_accounts(self, accounts: list[str], now_ms: int) -> None:
        for account in accounts:
            if self._registry.purses_of(account) is not None:
                self._publisher.touch_account(account, now_ms)

    def _set(self, order: Preorder, state: str, now_ms: int, *, charged: bool) -> None:
        self._store.execute(
            "UPDATE preorder SET state = ?, charged = ? WHERE preorder = ?",
            (state, charged, order.preorder),
        )
        self._touch(order.cardholder, order.preorder, now_ms)

    def _touch(self, cardholder: str, preorder: str, now_ms: int) -> None:
        self._publisher.money.touch(RowKind.PREORDER, parts_key(cardholder, preorder), now_ms)
