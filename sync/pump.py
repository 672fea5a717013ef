"""Which facts leave when, and what an acknowledgement moves: one `Pump` per stream. Pure.

The pump holds no facts. It knows heads and marks, asks for rows by sequence (`Send`) and is told
what was put on the wire (`sent`). Only the city's acknowledgement after its own commit moves a
mark; a broker's PUBACK means nothing here. Everything unacknowledged is sent again after each
connect, each lost batch and each timeout, and the city drops what it has by its key: so nothing
is missing and nothing is doubled whatever the link does.

The shell: `held` once per epoch at start (oldest first), `committed` when its file grew,
`connected` with the welcome's high water, `acknowledged` per Ack, and
`for event in pump.step(now_ms=...)` until no `Send` comes. A `Send` is answered by `sent` (also
when less was read than asked) or `unsent` before anything else is told. How long to wait before a
new connection is `sync/backoff.py`'s part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from edge.messages import BATCH_BYTES_MAX, BATCH_ROWS_MAX, Ack, Stream
from sync.answers import (
    Acknowledged,
    Ahead,
    Behind,
    Missing,
    Problem,
    PumpEvent,
    Reconnect,
    RefusedAck,
    Rewind,
    Send,
    SetAside,
)

WINDOW_BATCHES_MAX: Final = 8  # protocol.md; measured: more gains nothing at 100 rows a batch.
BATCH_WAIT_MS: Final = 200  # protocol.md: a fact without money waits so long for company.
ACK_PATIENCE_MS: Final = 10_000  # Our choice: five times the city's promised 2 s (promises.md).
ACK_PATIENCE_MS_MAX: Final = 80_000  # Our choice: one batch of 32 KB at 3.3 kbit/s.
TIMEOUTS_MAX: Final = 2  # Our choice: once may be a lost message; twice is a dead link or city.
STALLS_MAX: Final = 3  # Our choice: an epoch answered so often without moving is stuck.
ASIDE_MS: Final = 10 * 60_000  # Our choice: then a stuck epoch is tried again.
UNSENT_WAIT_MS: Final = 1_000  # Our choice: the doorbell's own period.
THROTTLE_PER_S_MIN: Final = 1  # Our choice: an Ack is not signed, so it may slow but never stop.

assert BATCH_WAIT_MS < ACK_PATIENCE_MS <= ACK_PATIENCE_MS_MAX


@dataclass(slots=True, kw_only=True)
class _Life:
    """One epoch. Facts are acknowledged <= ... < next_first <= ... <= head."""

    epoch: str
    held_from: int
    head: int
    acknowledged: int
    next_first: int  # The first fact not sent since the last rewind.
    sent_max: int  # The highest fact the city can honestly speak of.
    due_ms: int  # When what waits leaves, however few it is.
    rewound_to: int | None = None  # A rewind asked for once is done once, until something moves.
    answered: bool = False  # The city spoke about this epoch since the last rewind.
    stalls: int = 0
    aside_until_ms: int = 0
    halted: bool = False  # The city has another history: nothing of it is sent or believed.
    closed: bool = False  # Ended at `head`; what stood above it is restated in another epoch.

    def rewind(self, now_ms: int) -> None:
        self.next_first = self.acknowledged + 1
        self.due_ms = now_ms
        self.answered = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    epoch: str
    last: int
    sent_ms: int


class Pump:
    """One stream of one device. `now_ms` is one monotonic clock throughout."""

    def __init__(self, *, device: str, stream: Stream) -> None:
        self._device = device
        self._stream = stream
        self._lives: dict[str, _Life] = {}  # In the order they were opened.
        self._in_flight: list[_Batch] = []  # In the order they were sent.
        self._asked: Send | None = None
        self._connected = False
        self._window = WINDOW_BATCHES_MAX
        self._window_now = WINDOW_BATCHES_MAX
        self._bytes_max = BATCH_BYTES_MAX
        self._throttle_per_s: int | None = None
        self._not_before_ms = 0
        self._moved_ms = 0  # The last sign that batches arrive and are answered.
        self._patience_ms = ACK_PATIENCE_MS
        self._timeouts = 0

    # ------------------------------------------------------------------ what the store says

    def held(self, *, epoch: str, held_from: int, head: int, acknowledged: int) -> None:
        """At start, once per epoch, the oldest first: what the file holds and the city had."""
        assert epoch not in self._lives
        assert 1 <= held_from <= head + 1 and acknowledged >= 0
        acknowledged = min(acknowledged, head)
        self._lives[epoch] = _Life(
            epoch=epoch,
            held_from=held_from,
            head=head,
            acknowledged=acknowledged,
            next_first=acknowledged + 1,
            sent_max=acknowledged,
            due_ms=0,
        )

    def committed(self, *, epoch: str, head: int, has_money: bool, now_ms: int) -> None:
        """The file grew to `head`; among what is new is money, or not. A new epoch starts here."""
        life = self._lives.get(epoch)
        if life is None:
            self.held(epoch=epoch, held_from=1, head=0, acknowledged=0)
            life = self._lives[epoch]
        if head <= life.head:
            return
        due_ms = now_ms if has_money else now_ms + BATCH_WAIT_MS
        waiting = life.next_first <= life.head
        life.due_ms = min(life.due_ms, due_ms) if waiting else due_ms
        life.head = head

    def dropped(self, *, epoch: str, held_from: int) -> None:
        """The file let go of everything before `held_from`."""
        life = self._lives[epoch]
        if life.closed:
            held_from = min(held_from, life.head + 1)
        assert held_from <= life.head + 1
        life.held_from = max(life.held_from, held_from)

    def halt(self, *, epoch: str) -> None:
        """The journal is an old copy in this epoch: nothing of it leaves until it is closed."""
        life = self._lives[epoch]
        life.halted = True
        life.next_first = life.acknowledged + 1
        self._forget(epoch)

    def closed(self, *, epoch: str, up_to: int) -> None:
        """The epoch ended: up to here it is one history with the city's, the rest is restated
        elsewhere. A city that asks for what it had acknowledged still gets it."""
        life = self._lives[epoch]
        life.closed, life.halted = True, False
        life.head = max(up_to, life.held_from - 1)
        life.acknowledged = min(life.acknowledged, life.head)
        life.sent_max = min(life.sent_max, life.head)
        life.next_first = life.acknowledged + 1
        self._forget(epoch)

    # ------------------------------------------------------------------ what the link says

    def connected(
        self,
        high_water: Mapping[str, int],
        *,
        now_ms: int,
        window_batches: int = WINDOW_BATCHES_MAX,
        bytes_max: int = BATCH_BYTES_MAX,
        throttle_per_s: int | None = None,
    ) -> list[PumpEvent]:
        """The welcome came: per epoch, up to where the city has our facts (unknown ones: 0).

        `window_batches` is the broker's Receive Maximum and `bytes_max` what fits its packets,
        where they are lower than ours.
        """
        self._connected = True
        self._in_flight.clear()
        self._asked = None
        self._timeouts = 0
        self._moved_ms = now_ms
        self._window = max(1, min(WINDOW_BATCHES_MAX, window_batches))
        self._window_now = self._window if self._patience_ms == ACK_PATIENCE_MS else 1
        self._bytes_max = min(BATCH_BYTES_MAX, bytes_max)
        self._set_throttle(throttle_per_s)
        self._not_before_ms = now_ms
        events: list[PumpEvent] = []
        for life in self._lives.values():
            events += self._take_high_water(life, high_water.get(life.epoch, 0), now_ms)
        return events

    def disconnected(self) -> None:
        """Whatever was in flight counts for nothing: the next welcome says what arrived."""
        self._connected = False
        self._in_flight.clear()
        self._asked = None

    def acknowledged(self, ack: Ack, *, now_ms: int) -> list[PumpEvent]:
        """An Ack came. One that cannot be true is refused whole."""
        assert self._asked is None
        if ack.device != self._device or ack.stream is not self._stream:
            return [RefusedAck(epoch=ack.epoch, reason="foreign")]
        life = self._lives.get(ack.epoch)
        if life is None:
            return [RefusedAck(epoch=ack.epoch, reason="epoch")]
        if life.halted:
            return []  # Only a signed welcome speaks of an epoch whose history is in question.
        if ack.up_to < 0 or (ack.up_to > life.head and not life.closed):
            return [RefusedAck(epoch=ack.epoch, reason="future")]
        if not self._connected:
            return []  # It answers an earlier connection; the welcome will say the same.
        self._set_throttle(ack.throttle_per_s)
        life.answered = True
        events: list[PumpEvent] = []
        # It may speak of more than we sent when a process before this one sent it. What we never
        # sent we believe only from a signed welcome.
        up_to = min(ack.up_to, life.sent_max)
        # With a problem the number may be that of another history.
        if up_to > life.acknowledged and not ack.problem:
            events.append(self._advance(life, up_to, now_ms))
        if ack.problem:
            events.append(Problem(epoch=life.epoch, text=ack.problem))
        if ack.rewind:
            events += self._rewind_asked(life, min(ack.up_to, life.head), now_ms)
        return events

    # ------------------------------------------------------------------ what to do now

    def step(self, *, now_ms: int) -> list[PumpEvent]:
        """What is due. At most one `Send`, the last of the list; ask again once it is answered."""
        if not self._connected or self._asked is not None:
            return []
        events = self._timed_out(now_ms)
        send = self._next_send(now_ms) if self._connected else None
        if send is not None:
            self._asked = send
            events.append(send)
        return events

    def sent(self, *, epoch: str, first: int, last: int, now_ms: int) -> None:
        """The batch asked for is on the wire; `last` is `first - 1` when it only declared a gap."""
        asked = self._asked
        assert asked is not None and (asked.epoch, asked.first) == (epoch, first)
        assert last >= first or (asked.gap is not None and last == first - 1)
        self._asked = None
        life = self._lives[epoch]
        life.head = max(life.head, last)  # The file may be ahead of the last `committed`.
        life.next_first = last + 1
        life.sent_max = max(life.sent_max, last)
        self._in_flight.append(_Batch(epoch=epoch, last=last, sent_ms=now_ms))
        if self._throttle_per_s is not None:
            rows = max(1, last - first + 1)
            since_ms = max(self._not_before_ms, now_ms)
            self._not_before_ms = since_ms + rows * 1000 // self._throttle_per_s

    def unsent(self, *, now_ms: int, wait_ms: int = UNSENT_WAIT_MS) -> None:
        """What was asked for could not be read or published now; it is asked for again, at the
        latest with the next connection."""
        self._asked = None
        self._not_before_ms = max(self._not_before_ms, now_ms + wait_ms)

    def wake_ms(self) -> int | None:
        """When `step` has something to do if nothing happens before; None: nothing by itself."""
        if not self._connected or self._asked is not None:
            return None
        times = [self._deadline_ms()] if self._in_flight else []
        life = self._current(None)
        room = life is not None and len(self._in_flight) < self._window_now
        if life is not None and room and life.next_first <= life.head:
            full = life.head - life.next_first + 1 >= BATCH_ROWS_MAX
            times.append(max(self._not_before_ms, 0 if full else life.due_ms))
        times += [x.aside_until_ms for x in self._lives.values() if x.aside_until_ms]
        return min(times, default=None)

    @property
    def depth(self) -> int:
        """Facts the city has not acknowledged, over all epochs."""
        return sum(life.head - life.acknowledged for life in self._lives.values())

    @property
    def in_flight(self) -> int:
        """Batches on the wire without an answer."""
        return len(self._in_flight)

    # ------------------------------------------------------------------ helpers

    def _take_high_water(self, life: _Life, high_water: int, now_ms: int) -> list[PumpEvent]:
        events: list[PumpEvent] = []
        before = life.acknowledged
        life.rewound_to = None
        if life.closed:
            high_water = min(high_water, life.head)
        if high_water > life.head:
            # Numbers are no proof here: facts of ours above the own mark may be others than the
            # city's of the same number. They are restated in a new epoch.
            self.halt(epoch=life.epoch)
            events.append(Ahead(epoch=life.epoch, high_water=high_water, head=life.head))
        elif life.halted:
            pass
        else:
            life.acknowledged = high_water
            life.sent_max = max(life.sent_max, high_water)
            if high_water > before:
                events.append(Acknowledged(epoch=life.epoch, up_to=high_water))
            elif high_water < before:
                events.append(Behind(epoch=life.epoch, high_water=high_water, acknowledged=before))
        life.rewind(now_ms)
        return events

    def _advance(self, life: _Life, up_to: int, now_ms: int) -> Acknowledged:
        life.acknowledged = up_to
        life.next_first = max(life.next_first, up_to + 1)
        life.rewound_to = None
        life.stalls = 0
        self._in_flight = [b for b in self._in_flight if b.epoch != life.epoch or b.last > up_to]
        self._moved_ms = now_ms
        self._timeouts = 0
        self._patience_ms = max(ACK_PATIENCE_MS, self._patience_ms // 2)
        self._window_now = min(self._window, self._window_now * 2)
        return Acknowledged(epoch=life.epoch, up_to=up_to)

    def _rewind_asked(self, life: _Life, up_to: int, now_ms: int) -> list[PumpEvent]:
        """The city missed a batch. Each batch behind the lost one makes it say so: once counts."""
        if up_to > life.acknowledged or life.rewound_to == up_to:
            return []
        events: list[PumpEvent] = []
        if up_to < life.acknowledged:
            events.append(
                Behind(epoch=life.epoch, high_water=up_to, acknowledged=life.acknowledged)
            )
            life.acknowledged = up_to
        life.rewound_to = up_to
        life.rewind(now_ms)
        self._in_flight = [b for b in self._in_flight if b.epoch != life.epoch]
        self._moved_ms = now_ms
        events.append(Rewind(epoch=life.epoch, up_to=up_to, why="lost"))
        return events

    def _deadline_ms(self) -> int:
        # Counted from the last movement, not from the sending: on a slow line a whole window
        # leaves at once and is answered one by one.
        return max(self._moved_ms, self._in_flight[0].sent_ms) + self._patience_ms

    def _timed_out(self, now_ms: int) -> list[PumpEvent]:
        if not self._in_flight or now_ms < self._deadline_ms():
            return []
        events: list[PumpEvent] = []
        for epoch in dict.fromkeys(batch.epoch for batch in self._in_flight):
            life = self._lives[epoch]
            life.stalls += life.answered
            if life.stalls >= STALLS_MAX and self._newer_waits(life):
                life.stalls = 0
                life.aside_until_ms = now_ms + ASIDE_MS
                events.append(SetAside(epoch=epoch, up_to=life.acknowledged))
            else:
                events.append(Rewind(epoch=epoch, up_to=life.acknowledged, why="timeout"))
            life.rewound_to = None
            life.rewind(now_ms)
        waited_ms = self._patience_ms
        self._in_flight.clear()
        self._moved_ms = now_ms
        self._timeouts += 1
        self._patience_ms = min(ACK_PATIENCE_MS_MAX, self._patience_ms * 2)
        self._window_now = 1
        if self._timeouts >= TIMEOUTS_MAX:
            self._connected = False
            reason = (
                f"{self._stream}: nothing acknowledged for {waited_ms} ms, {self._timeouts} times"
            )
            events.append(Reconnect(reason=reason))
        return events

    def _newer_waits(self, life: _Life) -> bool:
        order = list(self._lives.values())
        return any(x.acknowledged < x.head for x in order[order.index(life) + 1 :])

    def _next_send(self, now_ms: int) -> Send | None:
        life = self._current(now_ms)
        if life is None or len(self._in_flight) >= self._window_now:
            return None
        gap = None
        if life.next_first < life.held_from:
            gap = Missing(source=life.next_first, target=life.held_from - 1)
        waiting = life.head - life.next_first + 1
        if waiting <= 0 or now_ms < self._not_before_ms:
            return None
        if waiting < BATCH_ROWS_MAX and now_ms < life.due_ms:
            return None
        rows_max = BATCH_ROWS_MAX
        if self._throttle_per_s is not None:
            rows_max = min(rows_max, self._throttle_per_s)  # A trickle, not a burst and a pause.
        return Send(
            epoch=life.epoch,
            first=max(life.next_first, life.held_from),
            rows_max=rows_max,
            bytes_max=self._bytes_max,
            gap=gap,
        )

    def _current(self, now_ms: int | None) -> _Life | None:
        """The oldest epoch the city lacks something of: it is drained before a newer one begins."""
        for life in self._lives.values():
            if life.aside_until_ms and now_ms is not None and now_ms >= life.aside_until_ms:
                life.aside_until_ms = 0
            waits = life.acknowledged < life.head and not life.halted
            if waits and not life.aside_until_ms:
                return life
        return None

    def _forget(self, epoch: str) -> None:
        """What was asked for or is on the wire of this epoch counts for nothing."""
        self._in_flight = [batch for batch in self._in_flight if batch.epoch != epoch]
        if self._asked is not None and self._asked.epoch == epoch:
            self._asked = None

    def _set_throttle(self, throttle_per_s: int | None) -> None:
        if throttle_per_s is None:
            self._throttle_per_s = None
        else:
            self._throttle_per_s = max(THROTTLE_PER_S_MIN, throttle_per_s)
