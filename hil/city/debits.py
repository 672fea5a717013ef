"""What the city itself spends, in two steps: a meal chosen beforehand, money from child to child.

A city that debited at once would be one more spender whom no till has heard, and an account could
go further below zero than the cap allows. So it *earmarks* first: the next money version shows that
much less. When every till of the roster has said, by `base_seen` in its own stream, that it decides
by that version or a newer one, and the city has applied all that came before, the amount is posted
if the balance still covers it, else released. While one till is dark it waits, and the family sees
"pending".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique

from edge.messages import BaseSeen, RowKind, StreamOpened, decode_fact
from edge.model import Station
from hil.city.accounts import earmarks, move, preorders
from hil.city.families import Families
from hil.city.ledger import Ledger
from hil.city.lists import Publisher
from hil.city.meaning import money_of
from hil.city.registry import Registry
from hil.city.rows import parts_key
from hil.city.store import Store, StreamKey


@unique
class DebitKind(StrEnum):
    PREORDER = "preorder"  # `target` is the pre-order.
    TRANSFER = "transfer"  # `target` is the other account.


@dataclass(frozen=True, slots=True, kw_only=True)
class Debit:
    debit: int
    kind: DebitKind
    account: str
    purse: str
    amount_minor: int
    target: str
    cardholder: str
    shown: tuple[int, int] | None  # The money version that shows it; None: not published yet.


class Debits:
    """Keeps to the transaction of the caller."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        registry: Registry,
        publisher: Publisher,
        families: Families,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._registry = registry
        self._publisher = publisher
        self._families = families
        self._site = registry.site

    def earmark(
        self,
        kind: DebitKind,
        reference: str,
        *,
        account: str,
        purse: str,
        amount_minor: int,
        target: str,
        cardholder: str,
        now_ms: int,
    ) -> int | None:
        """Its number; None when this reference was earmarked before."""
        assert amount_minor > 0
        made = self._store.execute(
            "INSERT INTO debit (kind, reference, account, purse, amount_minor, target, cardholder,"
            " state, made_ms) VALUES (?, ?, ?, ?, ?, ?, ?, 'earmarked', ?)"
            " ON CONFLICT (reference) DO NOTHING RETURNING id",
            (kind, reference, account, purse, amount_minor, target, cardholder, now_ms),
        ).rows
        if not made:
            return None
        debit = int(made[0][0])
        postings = move(account, earmarks(self._site), purse, amount_minor)
        self._ledger.post("earmark", f"earmark:{debit}", postings, now_ms=now_ms)
        self._publisher.touch_account(account, now_ms)
        self._tell(cardholder, "pending", amount_minor, _why(kind), now_ms)
        return debit

    # ------------------------------------------------------------------------- confirming

    def opened(self, key: StreamKey) -> None:
        """A till begins a new life: what it decides by now, it has yet to say. The beginning of a
        life that another one followed may come late, by a neighbour's hand, and changes nothing."""
        if self._followed(key):
            return
        self._store.execute(
            "INSERT INTO base_seen VALUES (?, 0, 0, ?, 1) ON CONFLICT (device) DO UPDATE SET"
            " list_epoch = 0, number = 0, epoch = excluded.epoch, sequence = 1",
            (key.device, key.epoch),
        )

    def _followed(self, key: StreamKey) -> bool:
        for (data,) in self._store.rows(
            "SELECT bytes FROM fact WHERE device = ? AND stream = ? AND kind = 'stream_opened'",
            key.parts[:2],
        ):
            opened = decode_fact(data)
            if isinstance(opened, StreamOpened) and opened.after_epoch == key.epoch:
                return True
        return False

    def seen(self, key: StreamKey, fact: BaseSeen, sequence: int) -> None:
        """From this fact on the till decides by this base. Said in a life that is over: nothing."""
        self._store.execute(
            "INSERT INTO base_seen VALUES (?, ?, ?, ?, ?) ON CONFLICT (device) DO UPDATE SET"
            " list_epoch = excluded.list_epoch, number = excluded.number,"
            " sequence = excluded.sequence"
            " WHERE base_seen.epoch = excluded.epoch AND (excluded.list_epoch"
            " > base_seen.list_epoch OR (excluded.list_epoch = base_seen.list_epoch"
            " AND excluded.number > base_seen.number))",
            (key.device, fact.money.list_epoch, fact.money.number, key.epoch, sequence),
        )

    def confirmed_up_to(self) -> tuple[int, int] | None:
        """The newest version that every till of the roster decides by; None: there is no till."""
        found = self._store.rows(
            "SELECT COALESCE(b.list_epoch, 0), COALESCE(b.number, 0) FROM device d"
            " LEFT JOIN base_seen b USING (device)"
            " WHERE d.site = ? AND d.station = ? AND d.revoked_ms IS NULL",
            (self._site, Station.TILL.value),
        )
        return min(((int(epoch), int(number)) for epoch, number in found), default=None)

    def settle(self, now_ms: int) -> None:
        """Posts or releases, the oldest first, what every till has confirmed."""
        waiting = [debit for debit in self.open() if debit.shown is not None]
        if not waiting:
            return
        confirmed = self.confirmed_up_to()
        for debit in waiting:
            assert debit.shown is not None
            if confirmed is not None and confirmed < debit.shown:
                continue
            if self._covered(debit):
                self._post(debit, now_ms)
            else:
                self.release(debit, now_ms, why="the money was spent meanwhile")

    def _covered(self, debit: Debit) -> bool:
        """Whether the balance holds this one beside those before it; later ones stand back."""
        balance = self._ledger.balances(debit.account).get(debit.purse, 0)
        later = sum(
            other.amount_minor
            for other in self.open()
            if (other.account, other.purse) == (debit.account, debit.purse)
            and other.debit > debit.debit
        )
        return balance + later >= 0

    def open(self) -> list[Debit]:
        """All that wait, the oldest first."""
        found = self._store.rows(
            "SELECT id, kind, account, purse, amount_minor, target, cardholder, list_epoch, number"
            " FROM debit WHERE state = 'earmarked' ORDER BY id"
        )
        return [
            Debit(
                debit=number,
                kind=DebitKind(kind),
                account=account,
                purse=purse,
                amount_minor=amount_minor,
                target=target,
                cardholder=cardholder,
                shown=None if shown is None else (int(list_epoch), int(shown)),
            )
            for number, kind, account, purse, amount_minor, target, cardholder, list_epoch, shown
            in found
        ]  # fmt: skip

    def open_for(self, target: str) -> Debit | None:
        """The one that waits for this pre-order."""
        return next((debit for debit in self.open() if debit.target == target), None)

    # ------------------------------------------------------------------------------ ending

    def _post(self, debit: Debit, now_ms: int) -> None:
        target = debit.target
        if debit.kind is DebitKind.PREORDER:
            target = preorders(self._site)
            self._store.execute(
                "UPDATE preorder SET charged = 1, state = 'charged' WHERE preorder = ?",
                (debit.target,),
            )
            self._publisher.money.touch(
                RowKind.PREORDER, parts_key(debit.cardholder, debit.target), now_ms
            )
        self._end(debit, target, "posted", now_ms)
        if debit.kind is DebitKind.TRANSFER:
            self._publisher.touch_account(target, now_ms)
        self._tell(debit.cardholder, "debited", debit.amount_minor, _why(debit.kind), now_ms)

    def release(self, debit: Debit, now_ms: int, *, why: str) -> None:
        """The amount is the account's again; a pre-order is then paid when it is collected."""
        self._end(debit, debit.account, "released", now_ms)
        self._publisher.touch_account(debit.account, now_ms)
        self._tell(debit.cardholder, "released", debit.amount_minor, why, now_ms)

    def _end(self, debit: Debit, target: str, state: str, now_ms: int) -> None:
        postings = move(earmarks(self._site), target, debit.purse, debit.amount_minor)
        ended = self._ledger.post(state, f"earmark-end:{debit.debit}", postings, now_ms=now_ms)
        assert ended, f"earmark {debit.debit} ended before"
        self._store.execute("UPDATE debit SET state = ? WHERE id = ?", (state, debit.debit))

    def _tell(self, cardholder: str, kind: str, amount_minor: int, why: str, now_ms: int) -> None:
        amount = money_of(amount_minor, self._registry.place(now_ms))
        self._families.tell(cardholder, kind, f"{amount} {kind}: {why}", now_ms)


def _why(kind: DebitKind) -> str:
    return "a meal chosen beforehand" if kind is DebitKind.PREORDER else "a transfer"
