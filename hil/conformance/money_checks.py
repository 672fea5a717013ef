"""Checks of money: what the base of an account shows after holds, voids, refunds, free meals, and
while the city itself wants to spend.

One account of the school is chosen, by lot, so that two runs at a time seldom meet. Its base is
looked at as a till looks at it: through the money list, once its vector includes what was told.
Where the list cannot be believed (its digest is wrong, the vector stands still) nothing is said
about money: other rules speak of that.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from edge.messages import (
    AccountRow,
    BaseSeen,
    CardholderRow,
    Hold,
    HoldReleased,
    MealUse,
    MealUsedRow,
    Posting,
    PreorderRow,
    ProductRow,
    Refund,
    RosterRow,
    RowBody,
    RowKind,
    SaleFact,
    SaleLine,
    TenderPart,
    VersionMark,
    Void,
    b64u,
)
from edge.model import Station, Tender
from hil.conformance.chain import NO_CREDENTIAL, NOBODY, Chain
from hil.conformance.facts_checks import up_to
from hil.conformance.lists_checks import ListChecks, Picture
from hil.conformance.player import Player
from hil.conformance.rules import Rule

READER: Final = "conformance"
ENTITLEMENT: Final = "conformance"
MARK: Final = VersionMark(1, 1)
MONEY_RULES: Final = (
    *(Rule.HOLD_SPENT, Rule.VOID_RETURNED, Rule.REFUND_CREDITED, Rule.REFUND_LINES),
    *(Rule.EMERGENCY_APART, Rule.MEAL_ONCE, Rule.SPLIT_ASIDE, Rule.EARMARK_WAITS),
)
NOBODY_PAYS: Final = "nobody on the lists can pay for two pieces of anything: give a child money"


class Orders(Protocol):
    """What a family can do, as the reference city's HTTP has it."""

    def order_meal(self, cardholder: str, day: str, product: str) -> str | None:
        """The id of a pre-order that the city wants to charge; None when it takes none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """Whose account is looked at, and what is sold to it."""

    cardholder: str
    account: str
    product: str
    category: str
    purse: str
    price_minor: int


class MoneyChecks:
    """With one till; after the lists were checked."""

    def __init__(self, player: Player, lists: ListChecks) -> None:
        self.player = player
        self.check = player.report.check
        self._lists = lists
        self._site = player.identity.site
        self._lot = secrets.token_hex(4)
        # Of this run alone: a meal is used once, and what an earlier run told stays in the books.
        self._meal = MealUse(entitlement=ENTITLEMENT, slot=f"conformance-{self._lot}")

    # ------------------------------------------------------------------------------ checks

    def holds(self) -> None:
        """Counts as spent until it is released, or sold."""
        customer, chain = self._customer(), self._begin()
        if customer is None or chain is None:
            return
        before = self._base(chain, customer)
        price = customer.price_minor
        hold = chain.head + 1
        chain.add(
            Hold(
                account=customer.account,
                cardholder=customer.cardholder,
                postings=self._pair(customer, -price),
                business_date=self._day,
                money=MARK,
                **chain.base(),
            )
        )
        held = self._told(chain, customer)
        self._expect(Rule.HOLD_SPENT, before, held, -price, "a hold")
        chain.add(
            HoldReleased(
                hold_epoch=chain.epoch,
                hold=hold,
                account=customer.account,
                why="cap",
                **chain.base(),
            )
        )
        self._expect(Rule.HOLD_SPENT, before, self._told(chain, customer), 0, "a released hold")

    def returns(self) -> None:
        """A void and a refund give back what a sale took."""
        customer, chain = self._customer(), self._begin()
        if customer is None or chain is None:
            return
        before, price = self._base(chain, customer), customer.price_minor
        sale = self._sell(chain, customer)
        sold = self._told(chain, customer)
        if before is None or sold != before - price:
            return  # `vector` and the ledger's own page have the words for that.
        back: dict[str, Any] = {
            "account": customer.account,
            "postings": self._pair(customer, price),
        }
        back |= {"business_date": self._day, "why": "cashier", **chain.base()}
        chain.add(Void(sale_epoch=chain.epoch, sale=sale, **back))
        voided = self._told(chain, customer)
        self._expect(Rule.VOID_RETURNED, before, voided, 0, "a void")
        sale = self._sell(chain, customer)
        back |= {"cashier": NOBODY, "supervisor": NOBODY, **chain.base()}
        device = self.player.device
        chain.add(Refund(sale_device=device, sale_epoch=chain.epoch, sale=sale, **back))
        after = self._told(chain, customer)
        self._expect(Rule.REFUND_CREDITED, voided, after, 0, "a refund")
        self._refunded_lines(chain, customer, after)
        self._fed(chain, customer)

    def _refunded_lines(self, chain: Chain, customer: Customer, before: int | None) -> None:
        """A line is refunded twice: the sum of it all would allow it, the line does not."""
        rule, price, dearer = Rule.REFUND_LINES, customer.price_minor, customer.price_minor + 1
        sale = self._sell(chain, customer, prices=(price, dearer))
        self._give_back(chain, customer, sale, price)
        once = self._told(chain, customer)
        self._expect(rule, before, once, -dearer, "a sale of two lines and a refund of one")
        self._give_back(chain, customer, sale, price)
        twice = self._told(chain, customer)
        self._expect(rule, once, twice, 0, "a second refund of a line of one piece")
        self._give_back(chain, customer, sale, dearer)
        self._expect(rule, twice, self._told(chain, customer), dearer, "a refund of the other line")

    def _fed(self, chain: Chain, customer: Customer) -> None:
        """A child the till knows no account of, which the city does know."""
        before, ours = self._base(chain, customer), f"emergency:{self._site}"
        self._sell(chain, customer, tender=Tender.EMERGENCY, payer=ours, account="")
        after = self._told(chain, customer)
        self._expect(Rule.EMERGENCY_APART, before, after, 0, f"a meal that {ours} pays")

    def meals(self) -> None:
        """A free meal that was served twice: the earlier is kept, and nobody pays."""
        customer, chain = self._customer(), self._begin()
        if customer is None or chain is None:
            return
        before, first = self._base(chain, customer), chain.head + 1
        for _ in range(2):
            self._sell(chain, customer, tender=Tender.ENTITLEMENT, payer=f"meals:{self._site}")
        after = self._told(chain, customer)
        if before is None or after is None:
            return
        self.check(
            Rule.MEAL_ONCE, after == before, f"two free meals moved the account by {after - before}"
        )
        key = "\0".join((customer.cardholder, self._day, self._meal.slot, ENTITLEMENT))
        used = self._row(RowKind.MEAL_USED, key, MealUsedRow)
        kept = MealUsedRow(self.player.device, chain.epoch, first)
        self.check(Rule.MEAL_ONCE, used == kept, f"served at {kept}, then again; kept is {used}")

    def split(self) -> None:
        """Of a basket paid three ways the account is unknown: aside with it, and on."""
        customer, chain = self._customer(), self._begin()
        if customer is None or chain is None:
            return
        before, price = self._base(chain, customer), customer.price_minor
        parts = ((Tender.ENTITLEMENT, f"meals:{self._site}"), (Tender.ACCOUNT, NOBODY))
        self._sell(chain, customer, parts=parts, account=NOBODY)
        self._sell(chain, customer)
        after = self._told(chain, customer)
        if before is not None and after is not None:
            text = f"behind a split sale of nobody a sale of {price} moved {after - before}"
            self.check(Rule.SPLIT_ASIDE, after == before - price, text)

    def earmark(self, orders: Orders) -> None:
        """What the city wants to spend shows less at once, and is charged once all tills know."""
        customer, chain = self._customer(), self._begin()
        if customer is None or chain is None:
            return
        others = self._other_tills()
        if others is None:
            return
        if others:
            text = f"other tills are on the roster, and would have to see it: {', '.join(others)}"
            self.player.report.leave_out(Rule.EARMARK_WAITS, f"{text:.200}")
            return
        before = self._base(chain, customer)
        if before is None:
            return
        preorder = orders.order_meal(customer.cardholder, self._day, customer.product)
        if preorder is None:
            self.player.report.leave_out(Rule.EARMARK_WAITS, "the city has no slots of meals")
            return
        self.player.listen(self.player.patience_s)
        shown = self._told(chain, customer)
        self._expect(Rule.EARMARK_WAITS, before, shown, -customer.price_minor, "an earmark")
        key = f"{customer.cardholder}\0{preorder}"
        row = self._row(RowKind.PREORDER, key, PreorderRow)
        picture = self._lists.pictures.get(f"{self._site}/money")
        if row is None or picture is None or shown is None:
            return
        text = "it was charged before this till had seen the earmark"
        if not self.check(Rule.EARMARK_WAITS, not row.charged, text):
            return
        chain.add(BaseSeen(money=picture.version, **chain.base()))
        self._told(chain, customer)
        row = self._charged(key)
        after = self._told(chain, customer)
        if row is not None and after is not None:
            text = "this till, the only one, has seen it, and it is not charged"
            self.check(Rule.EARMARK_WAITS, row.charged, text)
            self._expect(Rule.EARMARK_WAITS, before, after, -customer.price_minor, "a charge")

    # ------------------------------------------------------------------------- what is told

    @property
    def _day(self) -> str:
        """Tomorrow: today or later wherever the site is, and no day's real spend."""
        now = datetime.fromtimestamp(self.player.link.now_ms() / 1000, UTC).date()
        return (now + timedelta(days=1)).isoformat()

    def _begin(self) -> Chain | None:
        chain = self.player.new_chain()
        seen = self.player.send(chain, 1, 1, up_to(1))
        return None if seen else chain

    def _pair(self, customer: Customer, amount_minor: int, payer: str = "") -> tuple[Posting, ...]:
        return (
            Posting(
                account=payer or customer.account, purse=customer.purse, amount_minor=amount_minor
            ),
            Posting(
                account=f"sales:{self._site}", purse=customer.purse, amount_minor=-amount_minor
            ),
        )

    def _sell(
        self,
        chain: Chain,
        customer: Customer,
        *,
        tender: Tender = Tender.ACCOUNT,
        payer: str = "",
        account: str | None = None,
        prices: tuple[int, ...] = (),
        parts: tuple[tuple[Tender, str], ...] = (),
    ) -> int:
        """A piece at each of the prices; its number. `parts` (tender, payer) share the total.
        `account`: the customer's own, nobody's, or "" for none that is known."""
        lines = self._lines(customer, *(prices or (customer.price_minor,)))
        total, count = sum(line.price_minor for line in lines), len(parts) or 1
        shares = [total // count + (total % count if n == 0 else 0) for n in range(count)]
        payers = parts or ((tender, payer),)
        postings: list[Posting] = []
        for (_, paying), share in zip(payers, shares, strict=True):
            postings += self._pair(customer, -share, paying)
        chain.add(
            SaleFact(
                account=customer.account if account is None else account,
                cardholder=account or customer.cardholder,
                credential=NO_CREDENTIAL,
                tier=1,
                reader=READER,
                lines=lines,
                total_minor=total,
                tender=payers[0][0],
                tenders=tuple(
                    TenderPart(tender=paid, amount_minor=share)
                    for (paid, _), share in zip(payers, shares, strict=True)
                ),
                postings=tuple(postings),
                business_date=self._day,
                people=MARK,
                money=MARK,
                menu=MARK,
                caveats=(),
                meals=(self._meal,) if tender is Tender.ENTITLEMENT else (),
                **chain.base(),
            )
        )
        return chain.head

    def _give_back(self, chain: Chain, customer: Customer, sale: int, price: int) -> None:
        """A refund of one line of one piece, as it was paid."""
        chain.add(
            Refund(
                sale_device=self.player.device,
                sale_epoch=chain.epoch,
                sale=sale,
                account=customer.account,
                postings=self._pair(customer, price),
                business_date=self._day,
                why="cashier",
                cashier=NOBODY,
                supervisor=NOBODY,
                lines=self._lines(customer, price),
                tenders=(
                    TenderPart(tender=Tender.ACCOUNT, amount_minor=price, purse=customer.purse),
                ),
                **chain.base(),
            )
        )

    def _lines(self, customer: Customer, *prices: int) -> tuple[SaleLine, ...]:
        return tuple(
            SaleLine(
                product=customer.product, category=customer.category, quantity=1, price_minor=price
            )
            for price in prices
        )

    def _told(self, chain: Chain, customer: Customer) -> int | None:
        """The base once everything of the chain is in it; None when that cannot be seen."""
        first = self.player.acknowledged.get((chain.stream, chain.epoch), 0) + 1
        if first <= chain.head and self.player.send(chain, first, chain.head, up_to(chain.head)):
            return None
        return self._base(chain, customer)

    def _expect(
        self, rule: Rule, before: int | None, after: int | None, moved: int, what: str
    ) -> None:
        if before is not None and after is not None:
            text = f"{what} moved the base by {after - before}, not by {moved}"
            self.check(rule, after == before + moved, text)

    # ------------------------------------------------------------------------ what is shown

    def _base(self, chain: Chain, customer: Customer) -> int | None:
        if self.player.report.is_broken(Rule.VECTOR):
            return None  # It would be waited for each time.
        left_s = self.player.patience_s
        while left_s > 0:
            picture = self._money()
            if picture is None:
                return None
            vector = {(e.device, e.stream, e.epoch): e.sequence for e in picture.vector}
            place = (self.player.device, chain.stream.value, chain.epoch)
            if vector.get(place) == chain.head:
                row = self._row(RowKind.ACCOUNT, customer.account, AccountRow)
                return None if row is None else row.balance_minor_by_purse.get(customer.purse)
            self.player.listen(self.player.silence_s)
            left_s -= self.player.silence_s
        return None

    def _money(self) -> Picture | None:
        """The newest money list, if it is what its head says it is."""
        picture = self._lists.pictures.get(f"{self._site}/money")
        if picture is None or not self._lists.catch_up(picture):
            return None
        head = self.player.newest_head(picture.scope)
        if head is None or head.version != picture.version:
            return None
        return picture if head.set_digest == b64u(picture.digest) else None

    def _row(self, kind: RowKind, key: str, body: type[RowBody]) -> Any:
        picture = self._lists.pictures.get(f"{self._site}/money")
        return None if picture is None else picture.row(kind, key.encode(), body)

    def _charged(self, key: str) -> PreorderRow | None:
        """A pre-order's row once it is charged; as it is when that does not come about."""
        left_s = self.player.patience_s
        while True:
            row: PreorderRow | None = self._row(RowKind.PREORDER, key, PreorderRow)
            if left_s <= 0 or row is None or row.charged or self._money() is None:
                return row
            self.player.listen(self.player.silence_s)
            left_s -= self.player.silence_s

    def _customer(self) -> Customer | None:
        """Somebody with an account that can pay for some product, the same as long as it can."""
        lists = self._lists.pictures
        people, menu = lists.get(f"{self._site}/people"), lists.get(f"{self._site}/menu")
        if people is None or menu is None or self._money() is None:
            return None
        products = menu.all_of(RowKind.PRODUCT, ProductRow)
        everybody = people.all_of(RowKind.CARDHOLDER, CardholderRow)
        for cardholder, person in sorted(everybody, key=self._rank):
            if person.account_id is None or person.suspended:
                continue
            account = self._row(RowKind.ACCOUNT, person.account_id, AccountRow)
            for product, row in products if account is not None else ():
                balance = account.balance_minor_by_purse.get(row.purse, 0)
                if row.unit == "piece" and 0 < 2 * row.price_minor <= balance:
                    return Customer(
                        cardholder=cardholder,
                        account=person.account_id,
                        product=product,
                        category=row.category,
                        purse=row.purse,
                        price_minor=row.price_minor,
                    )
        for rule in MONEY_RULES:
            self.player.report.leave_out(rule, NOBODY_PAYS)
        return None

    def _rank(self, person: tuple[str, CardholderRow]) -> bytes:
        return hashlib.sha256((self._lot + person[0]).encode()).digest()

    def _other_tills(self) -> list[str] | None:
        """Those that would have to see an earmark; None where the roster cannot be believed."""
        settings = self._lists.pictures.get(f"{self._site}/settings")
        if settings is None or not self._lists.catch_up(settings):
            return None
        return [
            device
            for device, row in settings.all_of(RowKind.ROSTER, RosterRow)
            if row.station is Station.TILL and device != self.player.device
        ]
