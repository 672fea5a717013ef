"""A till's two files with both processes' hands on them, and the reference city behind a link that
is a function call. No socket, no clock: time is a number that the test moves.

What is real: `journal.db` and `sync.db` on disk, edge's keeper, sync's uplink and upkeep, the
city's core with its ledger. What is missing: readers, lists and the broker.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

from edge.clock import moment_at
from edge.keeper import Keeper
from edge.messages import (
    Ack,
    Hello,
    SaleFact,
    Stream,
    Welcome,
    decode_fact,
    decode_json,
    decode_signed_lines,
    encode_json,
)
from edge.model import ClockQuality, Moment, PassageResult, Station
from edge.offline_cache import epochs, outbox
from edge.offline_cache.lookup import Cache
from edge.offline_cache.record import SOFTWARE, StreamWriter, open_journal
from edge.offline_cache.room import Room
from hil.city.intake import CityCore
from sync.upkeep import Upkeep
from sync.uplink import Uplink
from tests.city.sham import NOON_MS, SITE, Sham

ZONE = ZoneInfo("Europe/Moscow")


class Device:
    """One till. `folder` is its disk: copy it, damage it, open another machine on it."""

    def __init__(
        self,
        core: CityCore,
        folder: Path,
        *,
        sham: Sham | None = None,
        machine: str = "board-1/card-1",
        now_ms: int = 0,
        room: Room | None = None,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.core, self.folder, self.machine = core, folder, machine
        self.sham = Sham(core, "till-1") if sham is None else sham
        self.now_ms = now_ms
        self.lose_acks: Callable[[Ack], bool] = lambda _ack: False
        self.counters: dict[str, int] = {}
        self._room = room
        self._connected = False
        self.start()

    # ------------------------------------------------------------------------ processes

    def start(self) -> None:
        """Both processes, edge first, as after power came back."""
        self.start_edge()
        self.start_sync()

    def start_edge(self) -> None:
        moment = self.moment()
        self.journal = open_journal(
            self.folder / "journal.db",
            device=self.sham.device,
            site=SITE,
            station=Station.TILL,
            machine=self.machine,
            moment=moment,
        )
        self.cache = Cache(
            self.folder, device=self.sham.device, site=SITE, journal=self.journal.writer.db
        )
        self.keeper = Keeper(
            self.journal, self.cache, station=Station.TILL, count=self.count, room=self._room
        )
        self.keeper.look(moment, None)

    def start_sync(self) -> None:
        self.store = epochs.open_store(
            self.folder / "sync.db", machine=self.machine, moment=self.moment()
        )
        agent, diag = (
            StreamWriter(self.store, device=self.sham.device, site=SITE, stream=stream)
            for stream in (Stream.AGENT, Stream.DIAG)
        )
        self.agent, self.diag = agent, diag
        self.uplink = Uplink(
            device=self.sham.device,
            journal=self.folder / "journal.db",
            writer=self.store,
            refused=lambda what, _scope, reason: self.count(f"refused_{what}_{reason}"),
        )
        self.upkeep = Upkeep(
            self.store,
            uplink=self.uplink,
            agent=agent,
            diag=diag,
            station=Station.TILL,
            moment=self.moment(),
        )
        self.uplink.look(self.now_ms)
        self._connected = False

    def stop(self) -> None:
        self.stop_edge()
        self.stop_sync()

    def stop_edge(self) -> None:
        self.cache.close()
        self.journal.close()

    def stop_sync(self) -> None:
        self.uplink.close()
        self.store.close()

    def copy_to(self, folder: Path) -> Path:
        """The disk as it is now, with both processes running."""
        shutil.copytree(self.folder, folder)
        return folder

    # ----------------------------------------------------------------------------- time

    def moment(self) -> Moment:
        return moment_at(
            boot="b00000000001",
            mono_ms=self.now_ms,
            wall_ms=NOON_MS + self.now_ms,
            quality=ClockQuality.CITY,
            zone=ZONE,
        )

    def live(self, seconds: int = 20) -> None:
        """Both processes do what they do each second."""
        for _ in range(seconds):
            self.now_ms += 1_000
            self.cache.refresh()
            self.keeper.look(self.moment(), {})
            self.keeper.step(self.moment(), busy=False)
            if self.keeper.wants_restart:
                self.stop_edge()
                self.start_edge()
                self.count("edge_restarted")
            self.uplink.look(self.now_ms)
            self.upkeep.tick(self.moment(), up=self._connected, why="no network")
            if self._connected:
                self.pump()

    # ------------------------------------------------------------------------ the link

    def connect(self) -> None:
        self.uplink.look(self.now_ms)
        hello = Hello(
            device=self.sham.device,
            site=SITE,
            station=Station.TILL,
            boot="b00000000001",
            connection=1,
            nonce="nonce",
            software=SOFTWARE,
            clock=ClockQuality.CITY,
            streams=self.uplink.heads(),
            held={},
            keys={},
        )
        topic = f"mk/v1/d/{self.sham.device}/"
        outs = self.core.receive(topic + "hello", encode_json(hello), NOON_MS + self.now_ms)
        (out,) = [out for out in outs if out.topic == topic + "welcome"]
        welcome = decode_json(Welcome, decode_signed_lines(out.payload).payload)
        self.uplink.connected(
            welcome.high_water,
            now_ms=self.now_ms,
            window_batches=8,
            bytes_max=64 * 1024,
            throttle_per_s=None,
        )
        self._connected = True
        self.pump()

    def disconnect(self) -> None:
        self.uplink.disconnected()
        self._connected = False

    def pump(self) -> None:
        """Send what is due and hear the answers, until nothing moves."""
        for _ in range(50):
            acks: list[Ack] = []

            def publish(stream: Stream, batch: bytes, acks: list[Ack] = acks) -> None:
                topic = f"mk/v1/d/{self.sham.device}/up/{stream}"
                outs = self.core.receive(topic, batch, NOON_MS + self.now_ms)
                acks += [
                    decode_json(Ack, out.payload) for out in outs if out.topic.endswith("/ack")
                ]

            self.now_ms += 300
            reason = self.uplink.pump(publish, self.now_ms)
            for ack in acks:
                if not self.lose_acks(ack):
                    reason = reason or self.uplink.acknowledged(ack, self.now_ms)
            self.uplink.settle(self.now_ms)
            if reason:
                self.count("reconnects")
                self.disconnect()
                self.connect()
                return
            if not acks:
                return

    def run(self, seconds: int = 60) -> None:
        """Online until everything has left, whatever has to be closed and restated first."""
        self.disconnect()
        self.live(2)  # What a start begins anew is begun before the hello.
        self.connect()
        self.live(seconds)
        assert self.uplink.depth() == {"main": 0, "agent": 0, "diag": 0}

    # ---------------------------------------------------------------------------- facts

    def sell(self, price_minor: int) -> None:
        with self.journal.record(self.moment()) as tap:
            sale = self.sham.make_sale(1, price_minor, **tap.stamp(self.moment()))
            assert isinstance(sale, SaleFact)
            tap.add(sale)

    def pass_by(self) -> None:
        with self.journal.record(self.moment()) as tap:
            before = len(self.sham.facts)
            self.sham.passage(PassageResult.NOT_TAKEN, **tap.stamp(self.moment()))
            tap.add(decode_fact(self.sham.facts.pop()))
            assert len(self.sham.facts) == before

    # --------------------------------------------------------------------------- answers

    def count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1

    def lives(self) -> list[outbox.Life]:
        return outbox.lives(self.journal.writer.db, Stream.MAIN)

    def assert_whole(self) -> None:
        db = self.journal.writer.db
        assert [outbox.chain_problem(db, life) for life in self.lives()] == [""] * len(self.lives())

    def tail(self) -> list[tuple[str, int, int]]:
        """Epoch, sequence and amount of what this till counts as spent by itself."""
        return self.journal.writer.db.execute(
            "SELECT epoch, sequence, amount_minor FROM tail ORDER BY 1, 2"
        ).fetchall()


def sold_minor(core: CityCore) -> int:
    """What the city has on the takings of the site."""
    row = core.store.one(
        "SELECT COALESCE(SUM(amount_minor), 0) FROM posting WHERE account = ?", (f"sales:{SITE}",)
    )
    assert row is not None
    return int(row[0])


def alarms(core: CityCore) -> set[str]:
    return {what for (what,) in core.store.rows("SELECT DISTINCT what FROM alarm")}
