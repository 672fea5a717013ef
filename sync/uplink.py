"""Facts up: the pumps on one side, the outboxes and marks on the other. No rule of its own.

`main` is read from edge's `journal.db` (read-only), `agent` and `diag` from `sync.db`. A batch is
the stored bytes, untouched, behind one header line.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from edge import logs
from edge.messages import (
    Ack,
    BatchHeader,
    Gap,
    HighWater,
    Stream,
    StreamHead,
    decode_fact_key,
    digest_of,
    encode_batch,
)
from edge.offline_cache import marks, outbox
from edge.offline_cache.store import Connection, FileKind, Writer, open_reader, reading
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
from sync.pump import Pump

MONEY_KINDS: Final = frozenset({"sale", "void", "hold", "hold_released"})
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
    ) -> None:
        self.device = device
        self.counters: dict[str, int] = {}
        self._journal_path = journal
        self._journal: Connection | None = None
        self._writer = writer
        self._refused = refused
        self._pumps = {stream: Pump(device=device, stream=stream) for stream in Stream}
        self._lives: dict[tuple[Stream, str], outbox.Life] = {}
        self._log = logs.get("uplink")

    def look(self, now_ms: int) -> None:
        """See how far the files have grown and tell the pumps."""
        acknowledged: dict[tuple[Stream, str], int] | None = None
        for stream, pump in self._pumps.items():
            db = self._db(stream)
            if db is None:
                continue
            with reading(db):
                for life in outbox.lives(db, stream):
                    known = self._lives.get((stream, life.epoch))
                    self._lives[stream, life.epoch] = life
                    if known is None:
                        acknowledged = acknowledged or marks.acknowledged(self._writer)
                        pump.held(
                            epoch=life.epoch,
                            held_from=life.held_from,
                            head=life.head,
                            acknowledged=acknowledged.get((stream, life.epoch), 0),
                        )
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
        return tuple(outbox.stream_head(life) for life in self._lives.values())

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
        self.look(now_ms)
        for stream, pump in self._pumps.items():
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
        for pump in self._pumps.values():
            pump.disconnected()

    def acknowledged(self, ack: Ack, now_ms: int) -> str:
        """Take an Ack; a reason to reconnect, or ""."""
        return self._carry_out(ack.stream, self._pumps[ack.stream].acknowledged(ack, now_ms=now_ms))

    def pump(self, publish: Publish, now_ms: int) -> str:
        """Send what is due, main before the others; a reason to reconnect, or ""."""
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
            for (stream, epoch), life in self._lives.items()
        }

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    # ------------------------------------------------------------------------- helpers

    def _db(self, stream: Stream) -> Connection | None:
        if stream is not Stream.MAIN:
            return self._writer.db
        if self._journal is None:
            self._journal = open_reader(self._journal_path, FileKind.JOURNAL)
        return self._journal

    def _send(self, stream: Stream, pump: Pump, send: Send, publish: Publish, now_ms: int) -> None:
        life = self._lives[stream, send.epoch]
        db = self._db(stream)
        assert db is not None
        facts = outbox.next_facts(
            db, life.life, send.first, rows_max=send.rows_max, bytes_max=send.bytes_max
        )
        if not facts and send.gap is None:
            self._log.error("a fact is missing", stream=stream.value, sequence=send.first)
            self._count("missing_fact")
            pump.unsent(now_ms=now_ms)
            return
        gap = None
        if send.gap is not None:
            before = decode_fact_key(facts[0]).previous if facts else life.digest
            gap = Gap(source=send.gap.source, target=send.gap.target, digest=before, counts={})
        header = BatchHeader(
            device=self.device,
            stream=stream,
            epoch=send.epoch,
            first=send.first,
            count=len(facts),
            digest=digest_of(facts[-1]) if facts else life.digest,
            gap=gap,
        )
        try:
            publish(stream, encode_batch(header, facts))
        except Exception:
            pump.unsent(now_ms=now_ms)
            raise
        self._count("batches_sent")
        pump.sent(
            epoch=send.epoch, first=send.first, last=send.first + len(facts) - 1, now_ms=now_ms
        )

    def _carry_out(self, stream: Stream, events: list[PumpEvent]) -> str:
        for event in events:
            match event:
                case Acknowledged(epoch=epoch, up_to=up_to):
                    marks.acknowledge(self._writer, stream, epoch, up_to)
                case Behind(epoch=epoch, high_water=high_water, acknowledged=before):
                    self._count("city_behind")
                    self._log.warning("the city lost facts; sending again", had=before)
                    marks.acknowledge(self._writer, stream, epoch, high_water)
                case Ahead(epoch=epoch, high_water=high_water, head=head):
                    self._count("city_ahead")
                    self._log.error(
                        "the city knows more of this journal than it holds: a restored image?",
                        epoch=epoch,
                        city=high_water,
                        head=head,
                    )
                    self._refused("ack", stream.value, "ahead")
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
