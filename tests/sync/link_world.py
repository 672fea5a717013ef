"""A device, a link that misbehaves and a city that does not, all in virtual time, for the pump.

The device's file and the city's ledger are dictionaries; the city keeps the rules of the wire to
the letter and asserts what it may: in order, exactly once, the bytes that were recorded. The
pump is stepped only when something arrives or when its own `wake_ms` asks, so a wake it forgets
shows as a world that stands still.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from edge.messages import Ack, Stream
from sync.answers import Acknowledged, Ahead, Behind, PumpEvent, Reconnect, RefusedAck, Send
from sync.pump import WINDOW_BATCHES_MAX, Pump

DEVICE = "till-7"


@dataclass(frozen=True, kw_only=True)
class Batch:
    epoch: str
    first: int
    rows: tuple[str, ...]
    gap: tuple[int, int] | None


@dataclass
class City:
    """What it has, per epoch; `declared` are ranges it was told are gone."""

    rows: dict[str, dict[int, str]] = field(default_factory=dict)
    high_water: dict[str, int] = field(default_factory=dict)
    declared: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    def receive(self, batch: Batch) -> Ack:
        water = self.high_water.get(batch.epoch, 0)
        rows = self.rows.setdefault(batch.epoch, {})
        if batch.gap is not None and batch.gap[0] <= water + 1:
            if batch.gap[1] > water:
                self.declared.setdefault(batch.epoch, []).append((water + 1, batch.gap[1]))
            water = max(water, batch.gap[1])
        if batch.first > water + 1:
            return self._ack(batch.epoch, water, rewind=True)
        for sequence, content in enumerate(batch.rows, start=batch.first):
            if sequence <= water:
                assert rows.get(sequence, content) == content, "the same key, other bytes"
                continue
            assert sequence == water + 1 and sequence not in rows
            rows[sequence] = content
            water = sequence
        self.high_water[batch.epoch] = water
        return self._ack(batch.epoch, water)

    def _ack(self, epoch: str, up_to: int, *, rewind: bool = False) -> Ack:
        return Ack(device=DEVICE, stream=Stream.MAIN, epoch=epoch, up_to=up_to, rewind=rewind)


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Chances, per message or per second."""

    lost: float = 0.0
    doubled: float = 0.0
    late_ms_max: int = 20
    link_lost: float = 0.0
    restarted: float = 0.0
    city_restored: float = 0.0
    dropped: float = 0.0  # The file lets go of its oldest facts, sent or not.
    new_epoch: float = 0.0


CALM = Faults()


class World:
    def __init__(self, random: Random, *, window: int = WINDOW_BATCHES_MAX) -> None:
        self.now_ms = 0
        self.random = random
        self.window = window
        self.faults = CALM
        self.city = City()
        self.file: dict[str, list[str]] = {"e1": []}
        self.held_from: dict[str, int] = {"e1": 1}
        self.marks: dict[str, int] = {}
        self.backups: list[City] = []
        self.events: list[PumpEvent] = []
        self.batches = 0
        self.pump = Pump(device=DEVICE, stream=Stream.MAIN)
        self._tell_held()
        self._session = 0  # Even: no link.
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self.transfer: Callable[[], list[int]] = self._by_chance
        self.at(0, self._connect)

    # ---------------------------------------------------------------- time

    def at(self, delay_ms: int, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.now_ms + delay_ms, self._count, action))

    def run(self, until_ms: int) -> None:
        """Everything up to then, stepping the pump only when it asked or something came."""
        while True:
            wake_ms = self.pump.wake_ms()
            next_ms = self._queue[0][0] if self._queue else None
            if next_ms is not None and (wake_ms is None or next_ms <= wake_ms):
                if next_ms > until_ms:
                    break
                self.now_ms, _, action = heapq.heappop(self._queue)
                action()
            elif wake_ms is None or wake_ms > until_ms:
                break
            else:
                self.now_ms = max(self.now_ms, wake_ms)
            self.pump_all()
        self.now_ms = until_ms

    @property
    def settled(self) -> bool:
        return self.pump.depth == 0 and self.pump.in_flight == 0

    # ---------------------------------------------------------------- the device

    @property
    def epoch(self) -> str:
        return list(self.file)[-1]

    def record(self, count: int, *, money: bool = False) -> None:
        facts = self.file[self.epoch]
        for _ in range(count):
            facts.append(f"{self.epoch}.{len(facts) + 1}")
        self.pump.committed(epoch=self.epoch, head=len(facts), has_money=money, now_ms=self.now_ms)

    def open_epoch(self) -> None:
        epoch = f"e{len(self.file) + 1}"
        self.file[epoch] = []
        self.held_from[epoch] = 1

    def drop_oldest(self, count: int) -> None:
        epoch = self.random.choice(list(self.file))
        head = len(self.file[epoch])
        self.held_from[epoch] = min(head + 1, self.held_from[epoch] + count)
        if head:
            self.pump.dropped(epoch=epoch, held_from=self.held_from[epoch])

    def restart(self) -> None:
        """The process died: a new pump knows what the store kept."""
        self._lose_link()
        self.pump = Pump(device=DEVICE, stream=Stream.MAIN)
        self._tell_held()

    def pump_all(self) -> None:
        for _ in range(1000):
            events = self.pump.step(now_ms=self.now_ms)
            self._take(events)
            if not events or not isinstance(events[-1], Send):
                return
            self._send(events[-1])
        raise AssertionError("the pump asks for ever")

    def _tell_held(self) -> None:
        for epoch, facts in self.file.items():
            if facts or epoch == "e1":
                self.pump.held(
                    epoch=epoch,
                    held_from=self.held_from[epoch],
                    head=len(facts),
                    acknowledged=self.marks.get(epoch, 0),
                )

    def _send(self, send: Send) -> None:
        facts = self.file[send.epoch]
        assert send.first >= self.held_from[send.epoch]
        rows = tuple(facts[send.first - 1 : send.first - 1 + send.rows_max])
        assert rows or send.gap is not None
        gap = None if send.gap is None else (send.gap.source, send.gap.target)
        batch = Batch(epoch=send.epoch, first=send.first, rows=rows, gap=gap)
        self.pump.sent(
            epoch=send.epoch,
            first=send.first,
            last=send.first + len(rows) - 1,
            now_ms=self.now_ms,
        )
        self.batches += 1
        assert self.pump.in_flight <= min(self.window, WINDOW_BATCHES_MAX)
        session = self._session
        for delay_ms in self.transfer():
            self.at(delay_ms, lambda: self._arrive(batch, session))

    def _take(self, events: list[PumpEvent]) -> None:
        self.events += events
        for event in events:
            match event:
                case Acknowledged(epoch=epoch, up_to=up_to):
                    assert up_to <= len(self.file[epoch])
                    self.marks[epoch] = up_to
                case Behind(epoch=epoch, high_water=high_water):
                    self.marks[epoch] = high_water
                case Reconnect():
                    self._lose_link()
                case Ahead() | RefusedAck():
                    raise AssertionError(f"an honest city: {event}")
                case _:
                    pass

    # ---------------------------------------------------------------- the link and the city

    def _by_chance(self) -> list[int]:
        """When copies of a message arrive: none if it is lost, two if it is doubled."""
        if self.random.random() < self.faults.lost:
            return []
        copies = 2 if self.random.random() < self.faults.doubled else 1
        return [self.random.randint(1, self.faults.late_ms_max) for _ in range(copies)]

    def _arrive(self, batch: Batch, session: int) -> None:
        ack = self.city.receive(batch)
        for delay_ms in self.transfer():
            self.at(delay_ms, lambda: self._answer(ack, session))

    def _answer(self, ack: Ack, session: int) -> None:
        if session == self._session:
            self._take(self.pump.acknowledged(ack, now_ms=self.now_ms))

    def _connect(self) -> None:
        if self._session % 2:
            return
        self._session += 1
        session, high_water = self._session, dict(self.city.high_water)
        self.at(self.random.randint(1, 200), lambda: self._welcome(session, high_water))

    def _welcome(self, session: int, high_water: dict[str, int]) -> None:
        if session == self._session:
            self._take(
                self.pump.connected(high_water, now_ms=self.now_ms, window_batches=self.window)
            )

    def _lose_link(self) -> None:
        if self._session % 2:
            self._session += 1
            self.pump.disconnected()
            self.at(self.random.randint(1, 3_000), self._connect)

    def each_second(self) -> None:
        """Roll the dice for what goes wrong by itself."""
        faults, chance = self.faults, self.random.random
        if chance() < faults.link_lost:
            self._lose_link()
        if chance() < faults.restarted:
            self.restart()
        if chance() < faults.dropped:
            self.drop_oldest(self.random.randint(1, 40))
        if chance() < faults.new_epoch and len(self.file) < 4 and self.file[self.epoch]:
            self.open_epoch()
        if chance() < faults.city_restored and self.backups:
            self.city = _copy(self.random.choice(self.backups))
            self._lose_link()  # A restored city greets everyone anew.
        if chance() < 0.2:
            self.backups = [*self.backups[-3:], _copy(self.city)]

    # ---------------------------------------------------------------- the promise

    def check_kept(self) -> None:
        """Everything recorded is with the city once, with its bytes, or declared gone."""
        assert self.settled, (self.pump.depth, self.pump.in_flight)
        for epoch, facts in self.file.items():
            if not facts:
                continue
            assert self.city.high_water[epoch] == len(facts) == self.marks[epoch]
            gone = {
                sequence
                for source, target in self.city.declared.get(epoch, [])
                for sequence in range(source, target + 1)
            }
            rows = self.city.rows.get(epoch, {})
            for sequence, content in enumerate(facts, start=1):
                if sequence in rows:
                    assert rows[sequence] == content
                else:
                    assert sequence in gone and sequence < self.held_from[epoch]


def _copy(city: City) -> City:
    return City(
        rows={epoch: dict(rows) for epoch, rows in city.rows.items()},
        high_water=dict(city.high_water),
        declared={epoch: list(ranges) for epoch, ranges in city.declared.items()},
    )
