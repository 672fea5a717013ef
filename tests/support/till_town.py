"""Tills on real files around the reference city: edge's counter, journal and lookups, sync's kernel
of the school and its store, pictures as the city packs them. Only the wires are a test's.

edge and sync of a till live and die apart; a whole till can be put back to an image of its disk.
Time stands still unless it is moved.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from edge.clock import moment_at
from edge.counter import Counter
from edge.keeper import Keeper
from edge.messages import (
    ROW_NUMBERS,
    Ack,
    CredentialRow,
    PeerKind,
    Posting,
    RowKind,
    SaleFact,
    Stream,
    Void,
    b64u,
    decode_batch,
    decode_fact,
    encode_peer,
    peer_signing_input,
)
from edge.model import ClockQuality, Moment, Station, SupervisedAct, UidKind
from edge.offline_cache import marks, outbox, peer_own, peers
from edge.offline_cache.card_counters import CardCounters
from edge.offline_cache.epochs import meta
from edge.offline_cache.lookup import Cache
from edge.offline_cache.peer_lists import PeerLists
from edge.offline_cache.peers import note_seen, seen_of
from edge.offline_cache.record import open_journal
from edge.pos.ledger import available_minor
from edge.readers.reader import CardRead
from edge.till_desk import TillDesk
from hil.city.debits import DebitKind
from hil.city.desk import Desk
from hil.world.school import PURSE
from sync.peer_answers import PeerAnswer, PeerDevice, Publish, SendRange, StoreAnswer
from sync.peer_store import keep
from sync.peers import Peers
from tests.city.sham import NOON_MS, SITE, Picture, Sham, make_core
from tests.support.pictures import open_station
from tests.support.small_city import Scope
from tests.support.times import MOSCOW

ANN, ANNS, BOBS = f"{SITE}c0001", f"{SITE}a0001", f"{SITE}a0002"
SOUP, SOUP_MINOR = "soup-1", 85_00
SCOPES = tuple(f"{SITE}/{name}" for name in ("settings", "menu", "people", "money"))
CREDENTIAL = ROW_NUMBERS[RowKind.CREDENTIAL]
TIER_LIMITED = 4  # Such a card buys little.
AIR_MAX = 60  # Our choice: what is older is lost.


class Anybody:
    """A cashier who is always there."""

    def cashier(self, _moment: Moment) -> str:
        return f"{SITE}c9003"

    def supervise(self, _moment: Moment, _act: SupervisedAct) -> str:
        return f"{SITE}c9003"


class Nameless:
    def of(self, _person: object) -> tuple[str, str]:
        return "", ""


@dataclass
class Message:
    to: int
    sender: str
    kind: PeerKind
    data: bytes


class Till:
    def __init__(self, town: Town, folder: Path, number: int) -> None:
        self.town, self.folder = town, folder
        self.sham = Sham(town.core, f"till-{number}")
        self.device = self.sham.device
        self.sessions = self.nonces = 0
        self.pictures = {scope: Picture(self.sham, scope) for scope in SCOPES}
        self.image: Path | None = None
        self.images = 0
        self.open_sync()
        self.open_edge()

    # ------------------------------------------------------------------------- processes

    def open_sync(self) -> None:
        self.station = open_station(self.folder)
        self.writer = self.station.writer
        self.lists = PeerLists(self.folder, self.writer.db, site=SITE)
        self.sessions += 1
        self.kernel = Peers(
            device=self.device,
            site=SITE,
            station=Station.TILL,
            session=f"{self.device}-{self.sessions}",
            verify=lambda point, data, signature: signature == sha256(point + data).digest(),
            nonce=self.nonce,
        )
        for one in peers.held_lives(self.writer.db):
            self.kernel.held(
                device=one.device,
                epoch=one.epoch,
                after=one.after,
                up_to=one.up_to,
                digest=one.digest,
                side=one.side,
            )
        self.kernel.connected()

    def close_sync(self) -> None:
        self.lists.close()
        self.station.close()

    def open_edge(self) -> None:
        moment = self.town.moment()
        path = self.folder / "journal.db"
        self.journal = open_journal(
            path, device=self.device, site=SITE, station=Station.TILL, machine="m", moment=moment
        )
        db = self.journal.writer.db
        self.cache = Cache(self.folder, device=self.device, site=SITE, journal=db)
        self.cache.refresh()
        self.seen = seen_of(db)
        self.keeper = Keeper(
            self.journal, self.cache, station=Station.TILL, count=lambda _name: None
        )
        self.keeper.look(moment, None)
        self.counter = Counter(
            self.cache, self.journal, CardCounters(db), lambda _name: None, MOSCOW
        )
        self.counter.staff = Anybody()
        self.counter.standing.ready(moment)
        self.desk = TillDesk(self.counter, Nameless(), lambda _name: None)  # type: ignore[arg-type]
        self.town.note(self, (0, ""))  # What it set right: a sale whose light nobody saw.

    def close_edge(self) -> None:
        self.cache.close()
        self.journal.close()

    def nonce(self) -> str:
        self.nonces += 1
        return f"{self.device}-n{self.nonces}"

    # ------------------------------------------------------------------------------- edge

    def look(self) -> None:
        """As the agent does when it is rung: lists, what was seen of others, its own epoch."""
        moment = self.town.moment()
        self.cache.refresh()
        known = self.cache.peers_known()
        if known is not None and known != self.seen:
            with self.journal.writer.transaction() as db:
                note_seen(db, known)
            self.seen = known
        self.counter.look(moment)
        self.keeper.look(moment, None)
        self.keeper.step(moment, busy=False)  # What an old copy had not sent is restated.
        self.step()

    def step(self) -> None:
        before = self.journal.head, self.journal.epoch
        self.counter.step(self.town.moment())
        self.town.note(self, before)

    def sell(self, quantity: int, *, pause_ms: int = 5_000) -> None:
        """The pause: another child, or the same one again, and no nervous second tap."""
        if self.counter.busy:
            return
        self.town.now_ms += pause_ms
        before = self.journal.head, self.journal.epoch
        self.counter.set_basket([(SOUP, quantity)], self.town.moment())
        self.town.now_ms += 10
        moment = self.town.moment()
        read = CardRead(
            uid=bytes(7),
            at_ms=moment.mono_ms,
            kind=UidKind.ISO14443,
            tier=self.town.tier,
            reader_id="r",
        )
        self.counter.tap(self.town.card, read, moment, None)
        self.town.note(self, before)
        self.step()
        if pause_ms:
            self.step()  # The light is on, and noted.

    def void(self) -> None:
        sales = list(self.desk.sales())
        if sales and not self.counter.busy:
            before = self.journal.head, self.journal.epoch
            self.desk.void(sales[-1].sequence, self.town.moment(), epoch=sales[-1].epoch)
            self.town.note(self, before)

    # ------------------------------------------------------------------------------- sync

    def talk(self) -> None:
        """sync looks at roster, base and journal, and says what is due."""
        moment = self.town.moment()
        roster = self.lists.school().roster
        answers = self.kernel.roster(
            {
                name: PeerDevice(station=row.station, public=row.public)
                for name, row in roster.items()
                if row.station is Station.TILL
            }
        )
        base = self.lists.base()
        answers += self.kernel.base(base.version, base.vector)
        store = meta(self.writer.db, "store_id")
        report = peer_own.own_report(self.journal.writer.db, store=store, station=Station.TILL)
        self.kernel.mine(lives=report.lives, store=store, seen=report.seen)
        self.carry_out(answers, moment)
        for _ in range(8):
            answers = self.kernel.step(now_ms=moment.mono_ms)
            self.carry_out(answers, moment)
            if not any(isinstance(answer, SendRange) for answer in answers):
                return

    def carry_out(self, answers: list[PeerAnswer], moment: Moment) -> None:
        kept = [answer for answer in answers if isinstance(answer, StoreAnswer)]
        if kept:
            keep(self.writer, kept, moment)
        for answer in answers:
            if isinstance(answer, Publish):
                self.say(answer.kind, answer.payload)
            elif isinstance(answer, SendRange):
                batch = peer_own.spend_batch(
                    self.journal.writer.db, self.device, answer.epoch, answer.after
                )
                if batch is not None:
                    self.say(answer.kind, batch[0])
                up_to = None if batch is None else batch[1]
                self.kernel.sent(answer.kind, answer.epoch, after=answer.after, up_to=up_to)

    def say(self, kind: PeerKind, payload: bytes) -> None:
        row = self.lists.school().roster.get(self.device)
        if row is None:
            return
        signature = sha256(row.public + peer_signing_input(kind, payload)).digest()
        data = encode_peer(payload, self.device, signature)
        for number, other in enumerate(self.town.tills):
            if other is not self:
                self.town.air.append(Message(number, self.device, kind, data))
        del self.town.air[:-AIR_MAX]

    def hear(self, message: Message) -> None:
        moment = self.town.moment()
        answers = self.kernel.receive(
            message.kind, message.sender, message.data, now_ms=moment.mono_ms
        )
        self.carry_out(answers, moment)

    def upload(self, *, lost: bool = False) -> bool:
        """The next batch of some epoch, applied; False when the city has all. The acknowledgement
        may be lost; what it says of an old copy is left for edge."""
        acked = self.town.acked
        for life in outbox.lives(self.journal.writer.db, Stream.MAIN):
            after = acked.get((self.device, life.epoch), 0)
            batch = peer_own.spend_batch(self.journal.writer.db, self.device, life.epoch, after)
            if batch is None:
                continue
            ack = self.sham.send_bytes(batch[0], now_ms=NOON_MS)
            self.take_ack(ack, batch[0], lost=lost)
            return True
        return False

    def take_ack(self, ack: Ack, batch: bytes, *, lost: bool) -> None:
        header, _ = decode_batch(batch)
        last = header.first + header.count - 1
        if ack.problem == "fork" or ack.up_to > last:
            marks.show_ahead(
                self.writer, Stream.MAIN, header.epoch, high_water=ack.up_to, digest=""
            )
        if not lost or ack.problem or ack.up_to > last:
            self.town.acked[self.device, header.epoch] = max(ack.up_to, last if ack.problem else 0)

    def fetch(self) -> None:
        """All lists as the city has them now, in force."""
        for scope, picture in self.pictures.items():
            before = picture.version
            picture.fetch()
            if picture.version is None or picture.version == before:
                continue
            made = Scope(
                scope,
                list_epoch=picture.version.list_epoch,
                number=picture.version.number,
                rows=dict(picture.rows),
                vector=picture.vector,
            )
            self.station.install(made, moment=self.town.moment())
        self.carry_out(self.kernel.base(*self._base()), self.town.moment())

    def _base(self) -> tuple[Any, Any]:
        base = self.lists.base()
        return base.version, base.vector

    # ------------------------------------------------------------------------------- faults

    def crash_edge(self) -> None:
        self.close_edge()
        self.open_edge()

    def crash_sync(self) -> None:
        self.close_sync()
        self.open_sync()

    def save_image(self) -> None:
        self.close_edge()
        self.close_sync()
        self.images += 1
        self.image = self.folder.with_name(f"{self.folder.name}-image-{self.images}")
        shutil.copytree(self.folder, self.image)
        self.open_sync()
        self.open_edge()

    def restore(self) -> None:
        """The disk is as it was; nobody told this till."""
        if self.image is None:
            return
        self.close_edge()
        self.close_sync()
        shutil.rmtree(self.folder)
        shutil.copytree(self.image, self.folder)
        self.image = None
        self.town.restored += 1
        self.pictures = {scope: Picture(self.sham, scope) for scope in SCOPES}
        self.open_sync()
        self.open_edge()

    def close(self) -> None:
        self.close_edge()
        self.close_sync()


@dataclass
class Town:
    """One account, whose card is shown everywhere."""

    folder: Path
    keys: Path
    count: int
    now_ms: int = 0
    tills: list[Till] = field(default_factory=list)
    air: list[Message] = field(default_factory=list)
    acked: dict[tuple[str, str], int] = field(default_factory=dict)
    restored: int = 0
    topped_up: int = 0
    transfers: int = 0
    handed: dict[tuple[str, str, int, bytes], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.core = make_core(self.keys)
        self.desk = Desk(self.core, ())
        self.opening = sum(self.core.ledger.balances(ANNS).values())
        self.cap = 0
        for number in range(1, self.count + 1):
            self.tills.append(Till(self, self.folder / f"till-{number}", number))
        for till in self.tills:
            till.fetch()
            till.look()
        self.tier = 0
        self.card = self._card()
        site = self.tills[0].cache.small.site
        assert site is not None
        self.cap = site.floor_limit_minor

    def moment(self) -> Moment:
        return moment_at(
            boot="b",
            mono_ms=1_000_000 + self.now_ms,
            wall_ms=NOON_MS + self.now_ms,
            quality=ClockQuality.CITY,
            zone=MOSCOW,
        )

    def _card(self) -> str:
        rows = self.tills[0].pictures[f"{SITE}/people"].rows
        for (kind, key), body in sorted(rows.items()):
            if kind == CREDENTIAL:
                row = msgspec.msgpack.decode(body, type=CredentialRow)
                if row.cardholder_id == ANN and row.tier < TIER_LIMITED:
                    self.tier = row.tier
                    return b64u(key)
        raise AssertionError("Ann has no card")

    # ------------------------------------------------------------------------------- books

    def note(self, till: Till, before: tuple[int, str]) -> None:
        """What was handed over, in a book that no fault reaches."""
        head, epoch = before
        db = till.journal.writer.db
        for life in outbox.lives(db, Stream.MAIN):
            after = head if life.epoch == epoch else 0
            bodies = outbox.next_facts(db, life.life, after + 1, rows_max=1_000, bytes_max=1 << 22)
            for sequence, body in enumerate(bodies, after + 1):
                fact = decode_fact(body)
                if isinstance(fact, SaleFact | Void) and fact.account == ANNS:
                    key = (till.device, life.epoch, sequence, sha256(body).digest())
                    self.handed[key] = _spent(fact.postings)

    @property
    def overdraft(self) -> int:
        return sum(self.handed.values()) + self.debited() - self.opening - self.topped_up

    def debited(self) -> int:
        found = self.core.store.rows(
            "SELECT COALESCE(sum(amount_minor), 0) FROM debit WHERE account = ? AND"
            " state = 'posted'",
            (ANNS,),
        )
        return int(found[0][0])

    @property
    def bound(self) -> int:
        """An image put back forgets what nobody else has heard of: at most once more the cap."""
        return (self.count - 1 + self.restored) * self.cap

    def transfer(self, amount_minor: int) -> None:
        """A parent moves money to a sibling: earmarked now, moved when all tills know."""
        with self.core.store.transaction():
            if self.core.ledger.balances(ANNS).get(PURSE, 0) >= amount_minor:
                self.transfers += 1
                self.core.debits.earmark(
                    DebitKind.TRANSFER,
                    f"transfer:{self.transfers}",
                    account=ANNS,
                    purse=PURSE,
                    amount_minor=amount_minor,
                    target=BOBS,
                    cardholder=ANN,
                    now_ms=NOON_MS,
                )
            self.core.publisher.publish_money(NOON_MS, at_once=True)
            self.core.debits.settle(NOON_MS)
            self.core.publisher.publish_money(NOON_MS, at_once=True)

    def balance(self) -> int:
        return sum(self.core.ledger.balances(ANNS).values())

    def shown(self, till: Till) -> int:
        view = till.cache.purchase_view(self.card, self.moment())
        assert view.account is not None
        return sum(
            available_minor(view.account, purse, view.tail, view.vector)
            for purse in view.account.balance_minor_by_purse
        )

    # ------------------------------------------------------------------------- the faults stop

    def heal(self, draw: Random) -> None:
        """Everything is said again until nothing is new."""
        for _ in range(12):
            self.now_ms += 6_000
            for till in self.tills:
                till.look()
                while till.upload():
                    pass
                till.look()
                till.fetch()
                till.talk()
            while self.air:
                message = self.air.pop(draw.randrange(len(self.air)))
                self.tills[message.to].hear(message)
                for till in self.tills:
                    till.talk()
                if len(self.air) > AIR_MAX // 2:
                    self.now_ms += 50

    def close(self) -> None:
        for till in self.tills:
            till.close()
        self.core.store.close()


def _spent(postings: tuple[Posting, ...]) -> int:
    return -sum(one.amount_minor for one in postings if one.account == ANNS)
