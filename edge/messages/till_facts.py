"""Facts of a till: what was sold, served, held, given back, and counted at the day's end. Pure."""

from __future__ import annotations

from msgspec import field, structs

from edge.messages.facts import Fact
from edge.messages.wire import VersionMark, Wire
from edge.model import Caveat, PurchaseReason, Tender


class SaleLine(Wire, frozen=True, kw_only=True):
    product: str
    category: str
    quantity: int
    price_minor: int  # Of one piece, or a kilogram, from the catalogue version of the sale.
    grams: int = 0  # Of a weighed product, whose quantity is 1.

    @property
    def amount_minor(self) -> int:
        """Price times quantity; of a weighed product price times weight, half a unit rounded up.

        >>> line = SaleLine(product="p", category="c", quantity=1, price_minor=45_050, grams=110)
        >>> line.amount_minor
        4956
        """
        if self.grams:
            return (self.price_minor * self.grams + 500) // 1000
        return self.price_minor * self.quantity

    def of(self, quantity: int) -> SaleLine:
        """So many pieces of it."""
        return structs.replace(self, quantity=quantity)


class Posting(Wire, frozen=True, kw_only=True):
    """One side of a ledger entry; the postings of a sale sum to zero."""

    account: str
    purse: str
    amount_minor: int


class TenderPart(Wire, frozen=True, kw_only=True):
    """What one tender pays of a basket; the parts sum to its total."""

    tender: Tender
    amount_minor: int
    purse: str = ""


class MealUse(Wire, frozen=True, kw_only=True):
    """An entitlement used: once for each (cardholder, business date, slot, entitlement)."""

    entitlement: str
    slot: str


class PreorderUse(Wire, frozen=True, kw_only=True):
    """A pre-order handed over, as ordered or with something in its place."""

    preorder: str
    substituted: bool = False
    why: str = ""  # The cashier's reason, one of the site's words.


class SaleFact(Fact, frozen=True, kw_only=True, tag="sale"):
    """A basket sold. The green light came after this was on disk.

    Accounts in postings that are nobody's purse: `sales:<site>` (the takings), `cash:<site>`,
    `meals:<site>` (what entitlements pay), `preorders:<site>` (what the city has charged already),
    `emergency:<site>` (who pays for a hungry child of whom no account is known).
    """

    account: str  # "": paid in cash, or by entitlement of somebody without an account.
    cardholder: str  # "": cash without a card.
    credential: str
    tier: int
    reader: str
    lines: tuple[SaleLine, ...]
    total_minor: int
    tender: Tender  # The first of `tenders`.
    postings: tuple[Posting, ...]
    business_date: str
    people: VersionMark
    money: VersionMark
    menu: VersionMark
    caveats: tuple[Caveat, ...]
    hold: int | None = None  # Sequence of the hold it replaces.
    tenders: tuple[TenderPart, ...] = ()  # Empty: all of it by `tender`.
    meals: tuple[MealUse, ...] = ()
    preorders: tuple[PreorderUse, ...] = ()
    slot: str = ""
    cashier: str = ""
    supervisor: str = ""  # Who answered for an emergency meal or an allergen override.
    overridden: PurchaseReason | None = None
    # Pieces by category that the account pays for, where other tenders pay for the rest of them.
    account_pieces: dict[str, int] | None = None
    # Of the lines, the pieces that entitlements paid for, where other tenders paid for the rest.
    by_right: tuple[SaleLine, ...] = ()

    def money_lines(self) -> tuple[SaleLine, ...]:
        """Pieces that money paid for: all that can be given back. A meal by right is no money, and
        where it is not told which they were, nothing is."""
        kinds = {part.tender for part in self.tenders} or {self.tender}
        if Tender.ENTITLEMENT not in kinds:
            return self.lines
        if kinds == {Tender.ENTITLEMENT} or not self.by_right:
            return ()
        free: dict[tuple[str, int], int] = {}
        for line in self.by_right:
            key = (line.product, line.price_minor)
            free[key] = free.get(key, 0) + line.quantity
        return tuple(
            line.of(left)
            for line in self.lines
            if (left := line.quantity - free.get((line.product, line.price_minor), 0)) > 0
        )

    def pieces(self) -> dict[str, int]:
        """By category, what counts against limits by the piece: a meal by right is no piece of the
        family's. Never more than were sold."""
        sold: dict[str, int] = {}
        for line in self.lines:
            sold[line.category] = sold.get(line.category, 0) + line.quantity
        if self.account_pieces is None:
            return sold
        own = {name: min(n, sold.get(name, 0)) for name, n in self.account_pieces.items()}
        return {name: n for name, n in own.items() if n > 0}


class SaleRefused(Fact, frozen=True, kw_only=True, tag="sale_refused"):
    """A basket refused, with the one reason."""

    credential: str
    cardholder: str | None
    lines: tuple[SaleLine, ...]
    total_minor: int
    reason: PurchaseReason
    business_date: str
    people: VersionMark | None
    money: VersionMark | None
    menu: VersionMark | None
    caveats: tuple[Caveat, ...]
    tier: int = 1
    reader: str = ""
    cashier: str = ""


class Hold(Fact, frozen=True, kw_only=True, tag="hold"):
    """An amount set aside for a basket above the cap, until it is covered and sold, or released.
    It counts as spent everywhere meanwhile."""

    account: str
    cardholder: str
    postings: tuple[Posting, ...]  # As the sale's would be; they sum to zero.
    business_date: str
    money: VersionMark


class HoldReleased(Fact, frozen=True, kw_only=True, tag="hold_released"):
    hold_epoch: str
    hold: int  # Its sequence.
    account: str
    why: str  # cap, funds, cancelled, restart


class BaseSeen(Fact, frozen=True, kw_only=True, tag="base_seen"):
    """From here on this till decides by this money picture or a newer one: its own number in the
    stream is what the city waits for before it posts an earmarked amount."""

    money: VersionMark


class Void(Fact, frozen=True, kw_only=True, tag="void"):
    """A sale of this till and shift undone: nothing of it was handed over."""

    sale_epoch: str
    sale: int  # Its sequence.
    account: str
    postings: tuple[Posting, ...]  # Those of the sale with the other sign.
    business_date: str
    why: str  # cashier, unlit
    cashier: str = ""
    supervisor: str = ""


class Refund(Fact, frozen=True, kw_only=True, tag="refund"):
    """Something sold is taken back after its shift, or at another till: the city credits it."""

    sale_device: str
    sale_epoch: str
    sale: int
    account: str
    postings: tuple[Posting, ...]  # What is to be credited, at most the sale's with other sign.
    business_date: str
    why: str
    cashier: str
    supervisor: str
    # Pieces of the sale's lines, each at the sale's price; a weighed line comes back whole.
    lines: tuple[SaleLine, ...] = ()  # Empty: told by its amounts alone.
    # By which of the sale's tenders it goes back; they sum to the lines. What a pre-order paid is
    # the account's again.
    tenders: tuple[TenderPart, ...] = ()


class MealServed(Fact, frozen=True, kw_only=True, tag="meal_served"):
    """An entitlement served from a list, without a tap."""

    cardholder: str
    meal: MealUse
    business_date: str
    group: str
    cashier: str
    caveats: tuple[Caveat, ...]


class GroupServed(Fact, frozen=True, kw_only=True, tag="group_served"):
    """A class or group served at once: who was struck off, and how many were served."""

    group: str
    slot: str
    business_date: str
    served: int
    absent: tuple[str, ...]
    cashier: str


class PreorderUncollected(Fact, frozen=True, kw_only=True, tag="preorder_uncollected"):
    """The slot is over and nobody came for it."""

    preorder: str
    cardholder: str
    slot: str
    business_date: str


class CloseRange(Wire, frozen=True, kw_only=True):
    """Facts of one epoch that a close-out covers."""

    epoch: str
    first: int
    last: int


class CloseOut(Fact, frozen=True, kw_only=True, tag="close_out"):
    """The day's end (Z): equals the journal over its ranges.

    A duplicate is a basket refused because its meal had been served already (`meal_used`). A card
    shown twice for one sale is no fact; two tills that served one meal are the city's to find.
    """

    number: int  # From 1, in this journal.
    ranges: tuple[CloseRange, ...]
    total_minor_by_tender: dict[str, int]  # Sales less voids.
    count_by_kind: dict[str, int]
    voids_by_cashier: dict[str, int]
    overrides_by_cashier: dict[str, int]
    unsent: int
    business_date: str
    cashier: str
    duplicates: int = 0
    # What was given back in these ranges; not taken off the totals, which are of sales.
    refunded_minor_by_tender: dict[str, int] = field(default_factory=dict)
