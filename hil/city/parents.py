"""The parents' desk: bans, limits, meals chosen beforehand, transfers, a card that was lost.

Beside `desk.py` and in its manner: each method is one transaction, returns plain data for JSON and
the messages to publish after it, and raises `Refused` in words. A restriction goes out at once; so
does its removal, as a newer version. Who asks is not checked: this city has no users.
"""

from __future__ import annotations

import re
import secrets
from datetime import date
from typing import Any, Final

from edge.model import UidKind
from hil.city.accounts import AMOUNT_MINOR_MAX
from hil.city.debits import DebitKind
from hil.city.desk import Desk, Done, Refused, number_of, text_of
from hil.city.intake import CityCore
from hil.city.preorders import Preorder
from hil.city.sales import QUANTITY_MAX
from hil.world.school import PURSE, Card

UID: Final = re.compile(r"[0-9a-f]{8,20}")
UID_BYTES: Final = {UidKind.ISO14443: (4, 7, 10), UidKind.PROX125: (5,)}
LINES_MAX: Final = 16  # Our choice: nobody chooses more dishes for one meal.
PIECES_MAX: Final = 100  # Our choice: a limit above it limits nothing.
AHEAD_DAYS_MAX: Final = 60  # Our choice: menus are planned for two months at most.
LIMITS: Final = ("day_limit_minor", "week_limit_minor", "low_balance_minor")
PREORDERS_MAX: Final = 200  # Our choice: of one cardholder, in one answer.


class ParentDesk:
    """One thread uses it: the one that owns the store."""

    def __init__(self, core: CityCore, desk: Desk) -> None:
        self._core = core
        self._desk = desk
        self._store = core.store

    # ------------------------------------------------------------------------------ limits

    def limit(self, request: dict[str, Any], now_ms: int) -> Done:
        """`day_limit_minor`, `week_limit_minor`, `low_balance_minor` in kopecks, `item_limits` as
        category -> pieces a day; null or {} takes one away, what is not named stays."""
        account = self._desk.account_named(request)
        limits: dict[str, Any] = {}
        for name in LIMITS:
            if name in request:
                limits[name] = self._amount(request, name)
        if "item_limits" in request:
            limits["item_limits"] = self._pieces(request["item_limits"])
        if not limits:
            raise Refused(400, "no limit is named", f"send one of {', '.join(LIMITS)}, item_limits")
        with self._store.transaction():
            self._core.registry.set_limits(account, limits)
            self._core.families.look_at_balance(account, now_ms)
            outs = self._desk.publish_account(account, now_ms)
        return Done(answer={"account": account, **limits}, outs=tuple(outs))

    def _amount(self, request: dict[str, Any], name: str) -> int | None:
        if request[name] is None:
            return None
        amount = number_of(request, name)
        if not 0 <= amount <= AMOUNT_MINOR_MAX:
            raise Refused(400, f"{name} {amount}", "give kopecks, or null")
        return amount

    def _pieces(self, given: object) -> dict[str, int]:
        if not isinstance(given, dict):
            raise Refused(400, "item_limits is no object", 'send {"pastry": 1}')
        for category, pieces in given.items():
            if not self._core.registry.category_exists(str(category)):
                raise Refused(404, f"no category {category!r:.40}", "give one of the menu")
            if not isinstance(pieces, int) or not 0 <= pieces <= PIECES_MAX:
                raise Refused(400, f"{category}: {pieces!r:.20}", f"give 0 to {PIECES_MAX} pieces")
        return {str(category): int(pieces) for category, pieces in given.items()}

    # -------------------------------------------------------------------------- pre-orders

    def order_meal(self, request: dict[str, Any], now_ms: int) -> Done:
        """`cardholder`, `date`, `slot`, `lines` [[product, quantity]]; `charge` false leaves it
        to be paid when it is collected, by whatever tender pays then."""
        cardholder = text_of(request, "cardholder")
        account = self._desk.account_named({"cardholder": cardholder})
        day, slot = self._day(request, now_ms), text_of(request, "slot")
        slots = self._core.registry.settings().meal_slots
        if slot not in slots:
            raise Refused(404, f"no meal {slot!r}", f"use one of {', '.join(slots)}")
        charge = request.get("charge", True)
        if not isinstance(charge, bool):
            raise Refused(400, "charge is neither true nor false", "leave it out, or send a bool")
        lines, purse = self._lines(request)
        with self._store.transaction():
            total = sum(quantity * price for _, quantity, price in lines)
            left = self._core.ledger.balances(account).get(purse, 0)
            if charge and left < total:
                raise Refused(409, f"{left} kopecks are left, {total} are needed", "top up first")
            preorder = self._core.tills.preorders.order(
                cardholder=cardholder,
                account=account,
                purse=purse,
                date=day,
                slot=slot,
                lines=lines,
                charge=charge,
                now_ms=now_ms,
            )
            outs = self._publish(now_ms)
            found = self._core.tills.preorders.find(preorder)
            assert found is not None
            answer = self._preorder(found)
        return Done(answer=answer, outs=tuple(outs))

    def cancel_meal(self, request: dict[str, Any], now_ms: int) -> Done:
        """`preorder`: before it was collected; what was charged is the account's again."""
        with self._store.transaction():
            found = self._core.tills.preorders.find(text_of(request, "preorder"))
            if found is None:
                raise Refused(404, "no such pre-order", "see GET /preorders")
            if found.state not in ("ordered", "charged"):
                raise Refused(409, f"it is {found.state}", "nothing is to be done")
            self._core.tills.preorders.cancel(found, now_ms)
            outs = self._publish(now_ms)
        return Done(answer={"preorder": found.preorder, "state": "cancelled"}, outs=tuple(outs))

    def meals(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """What is chosen for a cardholder, and how far it is."""
        found = self._core.tills.preorders.of_cardholder(text_of(request, "cardholder"))
        return [self._preorder(preorder) for preorder in found[-PREORDERS_MAX:]]

    def _preorder(self, found: Preorder) -> dict[str, Any]:
        pending = self._core.debits.open_for(found.preorder) is not None
        return {
            "preorder": found.preorder,
            "date": found.date,
            "slot": found.slot,
            "amount_minor": found.amount_minor,
            "state": "pending" if pending else found.state,
            "charged": found.charged,
        }

    def _day(self, request: dict[str, Any], now_ms: int) -> str:
        text = text_of(request, "date")
        try:
            day = date.fromisoformat(text)
        except ValueError:
            day = date.min
        today = self._core.registry.place(now_ms).today
        if day.isoformat() != text or not 0 <= (day - today).days <= AHEAD_DAYS_MAX:
            raise Refused(400, f"date {text!r}", f"give an ISO date, {today} or later")
        return text

    def _lines(self, request: dict[str, Any]) -> tuple[tuple[tuple[str, int, int], ...], str]:
        given = request.get("lines")
        if not isinstance(given, list) or not 0 < len(given) <= LINES_MAX:
            raise Refused(400, "lines is no list of dishes", 'send [["soup-1", 1]]')
        lines, purses = [], set()
        for line in given:
            if not isinstance(line, list) or len(line) != 2:
                raise Refused(400, "a line is no pair", 'send ["soup-1", 1]')
            product, quantity = line
            if not isinstance(quantity, int) or not 0 < quantity <= QUANTITY_MAX:
                raise Refused(400, f"quantity {quantity!r:.20}", "give a whole number of pieces")
            row = self._store.one(
                "SELECT price_minor, purse FROM product WHERE product = ? AND offered = 1",
                (str(product),),
            )
            if row is None:
                raise Refused(404, f"no product {product!r:.40}", "give one that is on the menu")
            lines.append((str(product), quantity, int(row[0])))
            purses.add(str(row[1]))
        if len(purses) > 1:
            raise Refused(400, "dishes of two purses", "order them apart")
        return tuple(lines), purses.pop()

    # --------------------------------------------------------------------------- transfers

    def transfer(self, request: dict[str, Any], now_ms: int) -> Done:
        """From one child of a family to another: earmarked now, moved when all tills know."""
        giver, taker = text_of(request, "from"), text_of(request, "to")
        amount = number_of(request, "amount_minor")
        if not 0 < amount <= AMOUNT_MINOR_MAX:
            raise Refused(400, f"amount_minor {amount}", f"give 1 to {AMOUNT_MINOR_MAX} kopecks")
        source = self._desk.account_named({"cardholder": giver})
        target = self._desk.account_named({"cardholder": taker})
        if source == target or not self._siblings(giver, taker):
            raise Refused(403, "they are no children of one guardian", "transfer inside a family")
        purse = text_of(request, "purse") if "purse" in request else PURSE
        for account in (source, target):
            if purse not in (self._core.registry.purses_of(account) or ()):
                raise Refused(404, f"account {account} has no such purse", "leave purse out")
        reference = text_of(request, "reference") if "reference" in request else ""
        with self._store.transaction():
            left = self._core.ledger.balances(source).get(purse, 0)
            debit = None
            if left >= amount:
                debit = self._core.debits.earmark(
                    DebitKind.TRANSFER,
                    f"transfer:{reference or secrets.token_hex(16)}",
                    account=source,
                    purse=purse,
                    amount_minor=amount,
                    target=target,
                    cardholder=giver,
                    now_ms=now_ms,
                )
            elif not self._known(reference):
                raise Refused(409, f"{left} kopecks are left", "top up first, or transfer less")
            outs = self._publish(now_ms)
        return Done(answer={"debit": debit, "earmarked": debit is not None}, outs=tuple(outs))

    def _known(self, reference: str) -> bool:
        return bool(reference) and self._store.one(
            "SELECT 1 FROM debit WHERE reference = ?", (f"transfer:{reference}",)
        ) is not None  # fmt: skip

    def _siblings(self, one: str, other: str) -> bool:
        """A guardian may bring both, and is barred from neither."""
        return self._store.one(
            "SELECT 1 FROM ward a JOIN ward b USING (cardholder)"
            " WHERE a.ward = ? AND b.ward = ? AND a.barred = 0 AND b.barred = 0",
            (one, other),
        ) is not None  # fmt: skip

    def debits(self, _request: dict[str, Any]) -> list[dict[str, Any]]:
        """What the city has earmarked and what became of it, the newest first."""
        found = self._store.rows(
            "SELECT id, kind, account, purse, amount_minor, state, list_epoch, number FROM debit"
            " ORDER BY id DESC LIMIT 200"
        )
        names = ("debit", "kind", "account", "purse", "amount_minor", "state")
        return [
            {**dict(zip(names, row[:6], strict=True)), "version": row[6:] if row[7] else None}
            for row in found
        ]

    def _publish(self, now_ms: int) -> list[Any]:
        """At once: a family that waits for a screen does not wait for the gathering. With no till
        on the roster nobody has to confirm, so what was earmarked is settled in the same breath."""
        outs = self._core.publisher.publish_money(now_ms, at_once=True)
        self._core.debits.settle(now_ms)
        return outs + self._core.publisher.publish_money(now_ms, at_once=True)

    # ---------------------------------------------------------------------------- guardians

    def bar(self, request: dict[str, Any], now_ms: int) -> Done:
        """`guardian` may not bring or collect `child` any more, by a court or the family; with
        `on` false again. Out at once."""
        guardian, child = text_of(request, "guardian"), text_of(request, "child")
        on = request.get("on", True)
        if not isinstance(on, bool):
            raise Refused(400, "on is neither true nor false", "true bars, false allows again")
        for person in (guardian, child):
            if self._core.registry.person_name(person) is None:
                raise Refused(
                    404, f"no cardholder {person!r:.40}", "give ids of a guardian, a child"
                )
        with self._store.transaction():
            relation = self._core.registry.relation(guardian, child)
            self._core.registry.set_ward(guardian, child, relation, barred=on)
            outs = self._core.publisher.refresh("people", now_ms)
        return Done(answer={"guardian": guardian, "child": child, "barred": on}, outs=tuple(outs))

    # ---------------------------------------------------------------------------- lost card

    def replace_card(self, request: dict[str, Any], now_ms: int) -> Done:
        """`card` is lost, `uid` in hex is the new card or wristband of the same person. The old
        one is refused at once; money, bans and limits are the account's and stay."""
        uid = text_of(request, "uid").lower()
        kind = UidKind.PROX125 if request.get("kind") == "prox125" else UidKind.ISO14443
        if not UID.fullmatch(uid) or len(uid) // 2 not in UID_BYTES[kind] or len(uid) % 2:
            sizes = " or ".join(map(str, UID_BYTES[kind]))
            raise Refused(400, f"uid {uid!r}", f"give the {sizes} bytes of the chip in hex")
        lost = self._desk.card_named(request)
        row = self._store.one("SELECT cardholder, label FROM card WHERE credential = ?", (lost,))
        assert row is not None
        cardholder, label = row
        if cardholder is None:
            raise Refused(409, "that card is nobody's", "enter the new one for its owner")
        known = self._store.one(
            "SELECT 1 FROM card WHERE uid = ? AND uid_kind = ?", (uid, kind.value)
        )
        if known is not None:
            raise Refused(409, "the new card is registered already", "take one that is not")
        with self._store.transaction():
            # The label moves: on the bench's tray the name is the new card's.
            self._store.execute("UPDATE card SET label = '' WHERE credential = ?", (lost,))
            card = Card(
                uid=bytes.fromhex(uid), uid_kind=kind, cardholder_id=cardholder, label=label
            )
            self._core.registry.add_card(card)
            self._core.registry.set_hot([lost], "replaced")
            outs = self._core.publisher.publish_hot([lost], "replaced", now_ms)
            outs += self._core.publisher.refresh("people", now_ms)
            new = self._core.registry.find_card(uid)
            assert new is not None
            outs += self._core.museum.follow([lost, new], now_ms)
            self._core.families.tell(cardholder, "card", "a lost card was replaced", now_ms)
        return Done(answer={"cardholder": cardholder, "replaced": True}, outs=tuple(outs))
