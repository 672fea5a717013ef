"""Facts up: the pumps on one side, the outboxes and marks on the other. No rule of its own.

`main` is read from edge's `journal.db` (read-only), `agent` and `diag` from `sync.db`. A batch is
the stored bytes, untouched, behind one header line; what went from the file to make room is
declared there.

A welcome that shows more of an epoch than the file has, or another fact where it ends, means that
the file is an old copy. The epoch is halted and a row is left; who writes the stream closes it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from edge import logs
from edge.messages import (
    MESSAGE_BYTES_MAX,
    Ack,
    BatchHeader,
    HighWater,
    Stream,
    StreamHead,
)
from edge.messages.batches import batch_of_lines
from edge.offline_cache import marks, outbox
from edge.offline_cache.soundness import mark_unsound
from edge.offline_cache.store import (
    Connection,
    DamagedFile,
    Writer,
    reading,
)
from sync.answers import (
    Acknowledged,
    Ahead,
    Behind,
    Problem,
    PumpEvent,
    Reconnect,
    RefusedAck,
    Rewind,
    Send,
    SetAside,
)
from sync.journal import Journal
from sync.pieces import Pieces
from sync.pump import Pump
from sync.session import PACKET_BYTES_NEEDED

MONEY_KINDS: Final = frozenset({"sale", "void", "hold", "hold_released", "restates"})
# Our choice: an acknowledgement is not signed, so what it hints at is asked of a signed welcome,
# but no liar makes us reconnect more often than this.
HINT_MS: Final = 10 * 60_000
# Our choice: a flush a second while a backlog leaves: it stops the facts for as long as the disk
# takes, and a window of batches is answered in less.
SETTLE_MS: Final = 1_000
TOO_LARGE_WAIT_MS: Final = 60 * 60_000  # Our choice: a limit is raised with a new connection.
BATCH_HEADER_BYTES: Final = 512  # Our choice: the header line is 250 bytes; the rest is room.


Publish = Callable[[Stream, bytes], None]  # Raises DeviceFault when it cannot be taken on.


class Uplink:
    """All streams of this device. `refused` is told what the city should not have said."""

    def __init__(
        self,
        *,
        device: str,
        journal: Path,
        writer: Writer,
        refused: Callable[[str, str, str], None],
        ring_edge: Callable[[], None] = lambda: None,
    ) -> None:
        self.device = device
        self.counters: dict[str, int] = {}
        self.journal = Journal(journal, writer, count=self._count, ring_edge=ring_edge)
        self._writer = writer
        self._refused = refused
        self._ring_edge = ring_edge
        self._hinted_ms: int | None = None
        self._payload_max = MESSAGE_BYTES_MAX  # What the broker takes in one message.
        self._too_large: dict[Stream, int] = {}  # Bytes of a batch that it does not take.
        self._unsettled: dict[tuple[Stream, str], int] = {}  # Acknowledged, not on disk yet.
        self._settled_ms = 0
        self._reconnect = ""  # Why a new welcome is needed.
        self._pumps = {stream: Pump(device=device, stream=stream) for stream in Stream}
        self._pieces = {stream: Pieces() for stream in Stream}
        self._lives: dict[tuple[Stream, str], outbox.Life] = {}
        self._log = logs.get("uplink")

    def settle(self, now_ms: int) -> None:
        """Put what was acknowledged on disk: at once when nothing more is on its way, else several
        together, for each costs a flush. A mark that is lost costs nothing: the welcome says it."""
        if not self._unsettled:
            return
        more_comes = any(pump.in_flight for pump in self._pumps.values())
        if more_comes and now_ms - self._settled_ms < SETTLE_MS:
            return
        self._settle()
        self._settled_ms = now_ms

    def _settle(self) -> None:
        if not self._unsettled:
            return
        marks.acknowledge_all(
            self._writer,
            [
                (stream, epoch, up_to, self._lives[stream, epoch].head)
                for (stream, epoch), up_to in self._unsettled.items()
            ],
        )
        self._unsettled.clear()

    def look(self, now_ms: int) -> None:
        """See how far the files have grown and tell the pumps."""
        self._settle()
        if self.journal.replaced():
            self._pumps[Stream.MAIN] = Pump(device=self.device, stream=Stream.MAIN)
            self._pieces[Stream.MAIN].forget()
            self._lives = {key: x for key, x in self._lives.items() if key[0] is not Stream.MAIN}
            self._reconnect = "the journal was replaced"
        for stream, pump in self._pumps.items():
            try:
                db = self._db(stream)
                if db is None:
                    continue
                with reading(db):
                    for life in outbox.lives(db, stream):
                        self._look_at(db, stream, pump, life, now_ms)
            except DamagedFile as damage:
                self._tell_damage(stream, damage)

    def _look_at(
        self, db: Connection, stream: Stream, pump: Pump, life: outbox.Life, now_ms: int
    ) -> None:
        known = self._lives.get((stream, life.epoch))
        self._lives[stream, life.epoch] = life
        if known is None:
            seen = marks.store_view(self._writer.db, stream).seen.get(life.epoch, marks.Seen())
            pump.held(
                epoch=life.epoch,
                held_from=life.held_from,
                head=max(life.sent_head, life.held_from - 1),
                acknowledged=seen.acknowledged,
            )
            if life.closed_at is not None:
                pump.closed(epoch=life.epoch, up_to=life.closed_at)
            elif seen.city_ahead:
                pump.halt(epoch=life.epoch)
        elif life.closed_at is not None:
            if known.closed_at is None:
                pump.closed(epoch=life.epoch, up_to=life.closed_at)
        elif life.head > known.head:
            kinds = outbox.kinds_between(db, life.life, known.head + 1, life.head)
            pump.committed(
                epoch=life.epoch,
                head=life.head,
                has_money=not MONEY_KINDS.isdisjoint(kinds),
                now_ms=now_ms,
            )
        if known is not None and life.held_from > known.held_from:
            pump.dropped(epoch=life.epoch, held_from=life.held_from)

    def heads(self) -> tuple[StreamHead, ...]:
        """For hello: every epoch of every stream still held."""
        return tuple(outbox.stream_head(life) for life in self._by_age())

    def connected(
        self,
        high_water: tuple[HighWater, ...],
        *,
        now_ms: int,
        window_batches: int,
        bytes_max: int,
        throttle_per_s: int | None,
    ) -> None:
        """The welcome came: everything above its marks is sent."""
        self._reconnect = ""
        self._payload_max = bytes_max
        self._too_large.clear()  # It may be another broker, or one with a higher limit.
        self.look(now_ms)
        for water in high_water:
            self._compare(water)
        for stream, pump in self._pumps.items():
            self._pieces[stream].forget()
            told = {mark.epoch: mark.up_to for mark in high_water if mark.stream is stream}
            self._carry_out(
                stream,
                pump.connected(
                    told,
                    now_ms=now_ms,
                    window_batches=window_batches,
                    bytes_max=bytes_max - BATCH_HEADER_BYTES,
                    throttle_per_s=throttle_per_s,
                ),
            )

    def disconnected(self) -> None:
        self._settle()
        for pump in self._pumps.values():
            pump.disconnected()

    def acknowledged(self, ack: Ack, now_ms: int) -> str:
        """Take an Ack; a reason to reconnect, or ""."""
        events = self._pumps[ack.stream].acknowledged(ack, now_ms=now_ms)
        reason = self._carry_out(ack.stream, events)
        ahead = RefusedAck(epoch=ack.epoch, reason="future") in events
        if reason or not (ahead or ack.problem == "fork"):
            return reason
        if self._hinted_ms is not None and now_ms - self._hinted_ms < HINT_MS:
            return ""
        self._hinted_ms = now_ms
        return f"{ack.stream}: the city may have other facts than we; asking for its word"

    def pump(self, publish: Publish, now_ms: int) -> str:
        """Send what is due, main before the others; a reason to reconnect, or ""."""
        if self._reconnect:
            return self._reconnect
        for stream, pump in self._pumps.items():
            while True:
                events = pump.step(now_ms=now_ms)
                reason = self._carry_out(stream, events)
                if reason:
                    return reason
                send = events[-1] if events and isinstance(events[-1], Send) else None
                if send is None:
                    break
                self._send(stream, pump, send, publish, now_ms)
        return ""

    def read_on(self) -> None:
        """Facts that will leave next, while those before them are on their way: to be called when
        there is nothing better to do. What it cannot read is met again when it is to be sent."""
        for stream, pieces in self._pieces.items():
            life = self._lives.get((stream, pieces.epoch)) if pieces.runs_low else None
            db = None if life is None else self._db(stream)
            if life is not None and db is not None:
                try:
                    pieces.read_on(db, life)
                except DamagedFile:
                    pieces.forget()

    def alarms(self) -> list[str]:
        """One line each, with what to do."""
        return [
            f"{stream}: {size} bytes wait that the broker does not take in one message (it takes"
            f" {self._payload_max}), and all behind them; raise the broker's maximum packet size to"
            f" {PACKET_BYTES_NEEDED} bytes"
            for stream, size in self._too_large.items()
        ]

    def wake_ms(self) -> int | None:
        times = [ms for pump in self._pumps.values() if (ms := pump.wake_ms()) is not None]
        return min(times, default=None)

    def depth(self) -> dict[str, int]:
        """Facts not acknowledged, by stream."""
        return {stream.value: pump.depth for stream, pump in self._pumps.items()}

    def status(self) -> dict[str, dict[str, object]]:
        """The newest epoch of each stream, for the technician."""
        acknowledged = marks.acknowledged(self._writer)
        return {
            stream.value: {
                "epoch": epoch,
                "head": life.head,
                "acknowledged": acknowledged.get((stream, epoch), 0),
                "depth": self._pumps[stream].depth,
            }
            for life in self._by_age()
            for stream, epoch in ((life.stream, life.epoch),)
        }

    def close(self) -> None:
        self.journal.close()

    # ------------------------------------------------------------------------- helpers

    def _by_age(self) -> list[outbox.Life]:
        """Salvaged epochs are seen last and are older than all."""
        order = list(Stream)
        return sorted(self._lives.values(), key=lambda x: (order.index(x.stream), x.life))

    def _db(self, stream: Stream) -> Connection | None:
        return self.journal.open() if stream is Stream.MAIN else self._writer.db

    def _tell_damage(self, stream: Stream, damage: DamagedFile) -> None:
        """A page cannot be read any more. The journal is edge's to set aside; our own file is
        ours, at the next start, for which somebody has to start us again."""
        if stream is Stream.MAIN:
            self.journal.tell_damage(damage)
            return
        self._count("damaged_file")
        mark_unsound(self._writer.path)
        raise damage

    def _compare(self, water: HighWater) -> None:
        """The city's last fact of an epoch must be ours of the same number."""
        life = self._lives.get((water.stream, water.epoch))
        if life is None or life.closed_at is not None or not 0 < water.up_to <= life.head:
            return
        db = self._db(water.stream)
        assert db is not None
        try:
            with reading(db):
                ours = outbox.known_digest(db, life, water.up_to)
        except DamagedFile as damage:
            self._tell_damage(water.stream, damage)
            return
        if water.digest and ours is not None and ours != water.digest:
            self._show_ahead(life, water.up_to, water.digest)

    def _show_ahead(self, life: outbox.Life, high_water: int, digest: str) -> None:
        self._pumps[life.stream].halt(epoch=life.epoch)
        self._count("city_ahead")
        self._log.error(
            "the city has other facts of this epoch, or more: this is an old copy of the file",
            epoch=life.epoch,
            city=high_water,
            head=life.head,
        )
        self._refused("ack", life.stream.value, "ahead")
        marks.show_ahead(
            self._writer, life.stream, life.epoch, high_water=high_water, digest=digest
        )
        self._ring_edge()

    def _send(self, stream: Stream, pump: Pump, send: Send, publish: Publish, now_ms: int) -> None:
        life = self._lives[stream, send.epoch]
        db = self._db(stream)
        assert db is not None
        try:
            piece = self._pieces[stream].read(db, life, send)
        except DamagedFile as damage:
            pump.unsent(now_ms=now_ms)
            self._tell_damage(stream, damage)
            return
        if not piece.count and piece.gap is None:
            self._log.error("a fact is missing", stream=stream.value, sequence=send.first)
            self._count("missing_fact")
            pump.unsent(now_ms=now_ms)
            return
        header = BatchHeader(
            device=self.device,
            stream=stream,
            epoch=send.epoch,
            first=piece.first,
            count=piece.count,
            digest=piece.digest,
            gap=piece.gap,
        )
        batch = batch_of_lines(header, piece.lines)
        if len(batch) > self._payload_max:
            self._hold_back(stream, pump, len(batch), now_ms)
            return
        self._too_large.pop(stream, None)
        try:
            publish(stream, batch)
        except Exception:
            pump.unsent(now_ms=now_ms)
            raise
        self._count("batches_sent")
        last = piece.first + piece.count - 1
        pump.sent(epoch=send.epoch, first=send.first, last=last, now_ms=now_ms)

    def _hold_back(self, stream: Stream, pump: Pump, size: int, now_ms: int) -> None:
        """The broker would end the connection over it, each time: its stream waits, the others go
        on, and a person is told."""
        if stream not in self._too_large:
            self._count("too_large_for_broker")
            self._log.error(
                "a fact does not fit the broker's packets; raise its limit",
                stream=stream.value,
                bytes=size,
                bytes_max=self._payload_max,
            )
        self._too_large[stream] = size
        pump.unsent(now_ms=now_ms, wait_ms=TOO_LARGE_WAIT_MS)

    def _carry_out(self, stream: Stream, events: list[PumpEvent]) -> str:
        for event in events:
            match event:
                case Acknowledged(epoch=epoch, up_to=up_to):
                    self._unsettled[stream, epoch] = up_to
                case Behind(epoch=epoch, high_water=high_water, acknowledged=before):
                    self._count("city_behind")
                    self._log.warning("the city lost facts; sending again", had=before)
                    self._unsettled.pop((stream, epoch), None)
                    marks.acknowledge(self._writer, stream, epoch, high_water)
                case Ahead(epoch=epoch, high_water=high_water):
                    self._show_ahead(self._lives[stream, epoch], high_water, "")
                case RefusedAck(reason=reason):
                    self._refused("ack", stream.value, reason)
                case Problem(text=text):
                    self._count("city_problem")
                    self._log.error("the city has a problem with our facts", problem=text[:200])
                case Rewind(why=why):
                    self._count(f"rewind_{why}")
                case SetAside():
                    self._count("set_aside")
                case Reconnect(reason=reason):
                    return reason
                case Send():
                    pass  # Answered by the caller, who has the link.
        return ""

    def _count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1
