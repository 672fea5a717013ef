"""Checks of money: what the base of an account shows after holds, voids, refunds, free meals, and
while the city itself wants to spend.

One account of the school is chosen, whose base is looked at as a till looks at it: through the
money list, once its vector includes what was told. Where the list cannot be believed (its digest is
wrong, the vector stands still) nothing is said about money: other rules speak of that.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from edge.messages import (
    ROW_NUMBERS,
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
    decode_pack,
)
from edge.model import CorruptData, Station, Tender
from hil.conformance.chain import NO_CREDENTIAL, NOBODY, Chain
from hil.conformance.facts_checks import up_to
from hil.conformance.lists_checks import ListChecks, Picture
from hil.conformance.player import Player
from hil.conformance.rules import Rule

SLOT: Final = "conformance"
MEAL: Final = MealUse(entitlement="conformance", slot=SLOT)
MARK: Final = VersionMark(1, 1)


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
        self._expect(Rule.REFUND_CREDITED, voided, self._told(chain, customer), 0, "a refund")

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
        key = "\0".join((customer.cardholder, self._day, SLOT, MEAL.entitlement))
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
        if self._other_tills():
            self.player.report.leave_out(Rule.EARMARK_WAITS, "other tills are on the roster")
            return
        before = self._base(chain, customer)
        preorder = orders.order_meal(customer.cardholder, self._day, customer.product)
        if preorder is None or before is None:
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
        self.player.listen(self.player.patience_s)
        after = self._told(chain, customer)
        row = self._row(RowKind.PREORDER, key, PreorderRow)
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
        account: str = "",
        parts: tuple[tuple[Tender, str], ...] = (),
    ) -> int:
        """One piece; its number. `parts` (tender, payer) share the price."""
        price, count = customer.price_minor, len(parts) or 1
        shares = [price // count + (price % count if n == 0 else 0) for n in range(count)]
        payers = parts or ((tender, payer),)
        postings: list[Posting] = []
        for (_, paying), share in zip(payers, shares, strict=True):
            postings += self._pair(customer, -share, paying)
        line = SaleLine(
            product=customer.product, category=customer.category, quantity=1, price_minor=price
        )
        chain.add(
            SaleFact(
                account=account or customer.account,
                cardholder=account or customer.cardholder,
                credential=NO_CREDENTIAL,
                tier=1,
                reader=SLOT,
                lines=(line,),
                total_minor=price,
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
                meals=(MEAL,) if tender is Tender.ENTITLEMENT else (),
                **chain.base(),
            )
        )
        return chain.head

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
        data = None if picture is None else picture.rows.get((ROW_NUMBERS[kind], key.encode()))
        return None if data is None else _decoded(body, data)

    def _customer(self) -> Customer | None:
        """Somebody with an account that can pay for some product."""
        lists = self._lists.pictures
        people, menu = lists.get(f"{self._site}/people"), lists.get(f"{self._site}/menu")
        if people is None or menu is None or self._money() is None:
            return None
        products = list(_rows(menu, RowKind.PRODUCT, ProductRow))
        for cardholder, person in _rows(people, RowKind.CARDHOLDER, CardholderRow):
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
        return None

    def _other_tills(self) -> bool:
        settings = self._lists.pictures.get(f"{self._site}/settings")
        if settings is None or not self._lists.catch_up(settings):
            return True
        return any(
            row.station is Station.TILL and device != self.player.device
            for device, row in _rows(settings, RowKind.ROSTER, RosterRow)
        )


def _rows(picture: Picture, kind: RowKind, body: type[Any]) -> list[tuple[str, Any]]:
    """Key and body of every row of a kind that can be read, in the order of the keys."""
    number = ROW_NUMBERS[kind]
    found = []
    for (of, key), data in sorted(picture.rows.items()):
        if of == number and (row := _decoded(body, data)) is not None:
            found.append((key.decode(errors="replace"), row))
    return found


def _decoded(body: type[Any], data: bytes) -> Any:
    try:
        return decode_pack(body, data)
    except CorruptData:
        return None
