"""Sales undone: a void by the till and shift that sold, a refund after it or at another till.

A void must be the sale's postings with the other sign, and happens once; what it gives back is what
was posted, suspense included. A refund gives back at most what each payer paid in money: the
account (a charged pre-order is the account's again; what our losses paid, as an order was handed
out twice, is not), the drawer, the city's own emergency account; a meal by right never. One that
names lines gives back no more pieces of a line than were sold for money, all refunds of the sale
together. It may come before its sale, which another till recorded: then it lies in suspense as
`unknown_sale` until that comes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from edge.messages import Posting, Refund, SaleFact, SaleLine, Stream, Void, decode_fact
from edge.model import Tender
from hil.city.accounts import (
    AMOUNT_MINOR_MAX,
    cash,
    emergency,
    preorders,
    sales,
    sums_to_zero,
    suspense,
    turned,
)
from hil.city.families import Families
from hil.city.ledger import Ledger
from hil.city.lists import Publisher
from hil.city.meals import Entered, MealBook
from hil.city.meaning import SuspenseReason, line_at, money_of
from hil.city.preorders import Preorders
from hil.city.registry import Registry
from hil.city.sales import QUANTITY_MAX, line_minor, set_aside
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
        orders: Preorders,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._registry = registry
        self._publisher = publisher
        self._families = families
        self._meals = meals
        self._preorders = orders

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
        site = self._registry.site
        given = given_back(fact, sold, site)
        if given is None:
            return SuspenseReason.BAD_AMOUNTS
        paid, back = paid_in_money(sold, site), self._refunded(sale)
        for payee, purse in list(paid):
            if payee == sold.account:
                paid[payee, purse] -= self._preorders.lost_minor(sale, purse)
        if any(back[place] + amount > paid[place] for place, amount in given.items()):
            return SuspenseReason.REFUNDED_ALREADY
        if not self._lines_left(sale, sold, fact):
            return SuspenseReason.REFUNDED_ALREADY
        self._note_refund(sale, fact, given)
        postings = fact.postings
        held = self._ledger.postings_of(sale.reference)
        unknown = self._registry.purses_of(sold.account) is None
        if unknown or suspense(site) in {p.account for p in held}:
            postings = set_aside(postings, sold.account, site)
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

    def _refunded(self, sale: Entered) -> Counter[tuple[str, str]]:
        """By payee and purse, of all refunds of this sale."""
        found = self._store.rows(
            "SELECT payee, purse, amount_minor FROM refunded"
            " WHERE device = ? AND epoch = ? AND sequence = ?",
            sale.parts[:3],
        )
        return Counter({(payee, purse): amount for payee, purse, amount in found})

    def _lines_left(self, sale: Entered, sold: SaleFact, fact: Refund) -> bool:
        """Whether so many pieces of each line are left of those that money paid for."""
        left = Counter({line_key(line): line.quantity for line in sold.money_lines()})
        left.subtract(
            {
                (product, price, grams): pieces
                for product, price, grams, pieces in self._store.rows(
                    "SELECT product, price_minor, grams, pieces FROM refunded_line"
                    " WHERE device = ? AND epoch = ? AND sequence = ?",
                    sale.parts[:3],
                )
            }
        )
        left.subtract(Counter(line_key(line) for line in fact.lines for _ in range(line.quantity)))
        return all(left[line_key(line)] >= 0 for line in fact.lines)

    def _note_refund(self, sale: Entered, fact: Refund, given: Counter[tuple[str, str]]) -> None:
        for (payee, purse), amount in given.items():
            self._store.execute(
                "INSERT INTO refunded VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT"
                " (device, epoch, sequence, payee, purse) DO UPDATE SET"
                " amount_minor = refunded.amount_minor + excluded.amount_minor",
                (*sale.parts[:3], payee, purse, amount),
            )
        for line in fact.lines:
            self._store.execute(
                "INSERT INTO refunded_line VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT"
                " (device, epoch, sequence, product, price_minor, grams) DO UPDATE SET"
                " pieces = refunded_line.pieces + excluded.pieces",
                (*sale.parts[:3], *line_key(line), line.quantity),
            )

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


def line_key(line: SaleLine) -> tuple[str, int, int]:
    return line.product, line.price_minor, line.grams


def paid_in_money(sold: SaleFact, site: str) -> Counter[tuple[str, str]]:
    """By payee and purse, what can be given back. What `preorders:<site>` paid, the account had
    paid before."""
    paid: Counter[tuple[str, str]] = Counter()
    payees = {sold.account, cash(site), emergency(site)} - {""}
    for posting in sold.postings:
        account = posting.account
        if account == preorders(site) and sold.account:
            account = sold.account
        if account in payees:
            paid[account, posting.purse] -= posting.amount_minor
    return paid


def given_back(fact: Refund, sold: SaleFact, site: str) -> Counter[tuple[str, str]] | None:
    """By payee and purse, what this refund gives back; None where it does not add up."""
    given: Counter[tuple[str, str]] = Counter()
    payees = {sold.account, cash(site), emergency(site)} - {""}
    for posting in fact.postings:
        if abs(posting.amount_minor) > AMOUNT_MINOR_MAX:
            return None
        if posting.account in payees and posting.amount_minor >= 0:
            given[posting.account, posting.purse] += posting.amount_minor
        elif posting.account != sales(site) or posting.amount_minor > 0:
            return None
    if fact.account != sold.account or not sums_to_zero(fact.postings):
        return None
    if any(not 0 < line.quantity <= QUANTITY_MAX for line in fact.lines):
        return None
    said = [sum(given.values())] * 2
    if fact.lines:
        said = [sum(map(line_minor, fact.lines)), sum(p.amount_minor for p in fact.tenders)]
    if set(said) != {sum(given.values())} or any(p.amount_minor < 0 for p in fact.tenders):
        return None
    by_cash = sum(n for (payee, _), n in given.items() if payee == cash(site))
    told = sum(p.amount_minor for p in fact.tenders if p.tender is Tender.CASH)
    return given if not fact.lines or by_cash == told else None
