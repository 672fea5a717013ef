"""Batches of facts: what is accepted, what is asked for again, what is kept as a fork.

`plan_batch` is the rule, pure: it sees the batch, the cursor and the digests held, and says what to
do. `Batches` does it inside the caller's transaction: fact, cursor, ledger and feed together. One
fact the city cannot post goes to suspense and the cursor moves on; a divergent history moves
nothing, for what a device has behind it would be lost unseen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

from edge.messages import (
    Ack,
    AnyFact,
    BatchHeader,
    FactKey,
    OrderAnswer,
    OrderOutcome,
    Restates,
    Stream,
    StreamOpened,
    decode_batch,
    decode_fact,
    decode_fact_key,
    decode_json,
    digest_of,
    encode_json,
)
from edge.model import CorruptData, Station
from hil.city.families import Families
from hil.city.ledger import Ledger
from hil.city.lists import Out, Publisher
from hil.city.meals import Entered
from hil.city.posting import Meaning, SuspenseReason, meaning_of
from hil.city.registry import Registry
from hil.city.store import Cursor, Store, StreamKey
from hil.city.tills import TILL_FACTS, TillBooks
from hil.city.watch import Watch

EPOCH: Final = re.compile(r"[0-9a-f]{16}")
SEQUENCE_MAX: Final = 2**53  # Our choice: what every JSON reader holds exactly.
KIND_CHARS_MAX: Final = 64  # Our choice: a fact's kind is a word.
RESTATES: Final = "restates"
GAP_COUNTS_BYTES_MAX: Final = 4096  # Our choice: a count for each of some hundred kinds.


@unique
class Course(StrEnum):
    """What to do with a batch."""

    TAKE = "take"
    REWIND = "rewind"  # It begins above the high water: ask for what lies between.
    FORK = "fork"  # It contradicts what is held.


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """One fact of a batch as the rule sees it."""

    sequence: int
    previous: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    course: Course
    gap_source: int | None = None  # The first number that the batch's gap newly declares lost.
    late: tuple[int, ...] = ()  # Places in the batch: declared lost before, here after all.
    forked: tuple[int, ...] = ()  # Places that contradict, or stand on what contradicts.
    new: tuple[int, ...] = ()


def plan_batch(
    header: BatchHeader,
    arrived: Sequence[Arrived],
    cursor: Cursor,
    digest_at: Callable[[int], str | None],
) -> Plan:
    """The accept rule of WIRE. The chain inside the batch holds (`decode_batch` saw to it)."""
    up_to, digest, gap_source = cursor.up_to, cursor.digest, None
    if header.gap is not None:
        if header.gap.source > up_to + 1:
            return Plan(course=Course.REWIND)
        if header.gap.target > up_to:
            gap_source = up_to + 1
            up_to, digest = header.gap.target, header.gap.digest
    if header.first > up_to + 1:
        return Plan(course=Course.REWIND)
    late: list[int] = []
    forked: list[int] = []
    new: list[int] = []
    for place, fact in enumerate(arrived):
        if fact.sequence > up_to:
            new.append(place)
        elif (held := digest_at(fact.sequence)) is None:
            late.append(place)
        elif held != fact.digest:
            forked.append(place)
    breaks = bool(new) and arrived[new[0]].previous != digest
    if forked or breaks:
        return Plan(course=Course.FORK, forked=(*forked, *new))
    return Plan(course=Course.TAKE, gap_source=gap_source, late=tuple(late), new=tuple(new))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """An enrolled device."""

    device: str
    site: str
    station: Station


class Batches:
    """Takes batches in; keeps to the transaction of the caller."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        registry: Registry,
        publisher: Publisher,
        tills: TillBooks,
        families: Families,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._registry = registry
        self._publisher = publisher
        self._tills = tills
        self._families = families
        self._watch = Watch(store)
        self.throttle_per_s: int | None = None  # Said in every acknowledgement; None: nothing.

    def receive(self, sender: Sender, stream: str, payload: bytes, now_ms: int) -> list[Out]:
        """The acknowledgement of a batch, and nothing else; `CorruptData` if none can be made."""
        header = decode_json(BatchHeader, payload.partition(b"\n")[0])
        if header.device != sender.device or header.stream.value != stream:
            raise CorruptData(f"a batch of {header.stream} of another device on up/{stream}")
        if not EPOCH.fullmatch(header.epoch):
            raise CorruptData("batch: its epoch is not 16 hex digits")
        key = StreamKey(device=sender.device, stream=header.stream, epoch=header.epoch)
        try:
            _check_numbers(header)
            header, facts = decode_batch(payload)
            keys = [decode_fact_key(fact) for fact in facts]
        except (CorruptData, ValueError, RecursionError) as error:
            self._store.alarm(sender.device, "corrupt_batch", str(error), now_ms)
            return [self._ack(key, self._store.cursor(key), problem="corrupt")]
        return [self._take(sender, key, header, facts, keys, now_ms)]

    def _take(
        self,
        sender: Sender,
        key: StreamKey,
        header: BatchHeader,
        facts: Sequence[bytes],
        keys: Sequence[FactKey],
        now_ms: int,
    ) -> Out:
        arrived = [
            Arrived(sequence=known.sequence, previous=known.previous, digest=digest_of(fact))
            for known, fact in zip(keys, facts, strict=True)
        ]
        cursor = self._store.cursor(key)
        plan = plan_batch(header, arrived, cursor, lambda n: self._store.digest_at(key, n))
        if plan.course is Course.REWIND:
            return self._ack(key, cursor, rewind=True)
        if plan.course is Course.FORK:
            self._keep_fork(key, [(arrived[n], facts[n]) for n in plan.forked], now_ms)
            return self._ack(key, cursor, problem="fork")
        for place in plan.late:
            self._enter(sender, key, arrived[place], facts[place], now_ms, late=True)
        moved = self._declare_gap(key, header, plan.gap_source, now_ms) or cursor
        for place in plan.new:
            self._enter(sender, key, arrived[place], facts[place], now_ms)
            moved = Cursor(up_to=arrived[place].sequence, digest=arrived[place].digest)
        if moved != cursor:
            self._store.move_cursor(key, moved, now_ms)
            if sender.station is Station.TILL and key.stream is Stream.MAIN:
                self._publisher.touch_vector(now_ms)
        return self._ack(key, moved)

    def _keep_fork(
        self, key: StreamKey, forked: Sequence[tuple[Arrived, bytes]], now_ms: int
    ) -> None:
        for fact, data in forked:
            self._store.add_fork(key, fact.sequence, digest=fact.digest, data=data, now_ms=now_ms)
        first = forked[0][0].sequence
        text = f"{key.stream} of epoch {key.epoch} contradicts what is held, seen at {first}"
        self._store.alarm(key.device, "fork", text, now_ms)

    def _declare_gap(
        self, key: StreamKey, header: BatchHeader, source: int | None, now_ms: int
    ) -> Cursor | None:
        if header.gap is None or source is None:
            return None
        counts = json.dumps(header.gap.counts)[:GAP_COUNTS_BYTES_MAX]
        self._store.add_gap(key, header.gap, source=source, counts=counts, now_ms=now_ms)
        if key.stream is not Stream.DIAG:  # That one is a ring: its oldest go without harm.
            text = f"{key.stream} of epoch {key.epoch}: {source} to {header.gap.target} are lost"
            self._store.alarm(key.device, "gap", text, now_ms)
        return Cursor(up_to=header.gap.target, digest=header.gap.digest)

    def _enter(
        self,
        sender: Sender,
        key: StreamKey,
        arrived: Arrived,
        data: bytes,
        now_ms: int,
        *,
        late: bool = False,
    ) -> None:
        """Stores one fact, and posts it or says why not."""
        sequence = arrived.sequence
        kind = decode_fact_key(data).kind[:KIND_CHARS_MAX]
        self._store.add_fact(
            key, sequence, kind=kind, digest=arrived.digest, data=data, now_ms=now_ms
        )
        try:
            with self._store.transaction():
                reason = (
                    SuspenseReason.DECLARED_LOST
                    if late
                    else self._post(sender, key, sequence, data, now_ms)
                )
        except self._store.trouble:
            raise  # The disk or the server, not the fact.
        except Exception as error:
            # Our own mistake met this fact. Raised, it would come back for ever and hold up all
            # that stand behind it.
            reason = SuspenseReason.CITY_FAULT
            text = f"{key.stream} {sequence}: {type(error).__name__}: {error}"
            self._store.alarm(key.device, "city_fault", text, now_ms)
        if reason is not None:
            self._store.add_suspense(key, sequence, reason=reason.value, now_ms=now_ms)

    def _post(
        self, sender: Sender, key: StreamKey, sequence: int, data: bytes, now_ms: int
    ) -> SuspenseReason | None:
        try:
            fact = decode_fact(data)
        except (CorruptData, ValueError, RecursionError):
            return SuspenseReason.UNDECODABLE
        if sequence == 1 and not isinstance(fact, StreamOpened):
            return SuspenseReason.EPOCH_NOT_OPENED
        if isinstance(fact, TILL_FACTS) and not _counts(sender, key):
            return SuspenseReason.NOT_A_TILL  # No vector would ever include it.
        if isinstance(fact, Restates):
            return self._post_restated(sender, key, fact, now_ms)
        if self._was_restated(key, sequence, digest_of(data)):
            return None  # It was posted already, from inside another fact.
        self._watch.look(fact, now_ms)
        entered = Entered(device=key.device, epoch=key.epoch, sequence=sequence)
        return self._carry_out(key, entered, fact, now_ms)

    def _post_restated(
        self, sender: Sender, key: StreamKey, fact: Restates, now_ms: int
    ) -> SuspenseReason | None:
        """Posts the fact inside, unless it is held under its own key with those bytes, or came
        so before: then it counts once all the same."""
        old = StreamKey(device=key.device, stream=key.stream, epoch=fact.old_epoch)
        sequence, digest = fact.old_sequence, digest_of(fact.body)
        try:
            inner = decode_fact_key(fact.body)
        except (CorruptData, ValueError, RecursionError):
            return SuspenseReason.UNDECODABLE
        if (inner.device, inner.stream, inner.epoch, inner.sequence) != (*old.parts, sequence):
            return SuspenseReason.UNDECODABLE
        if old.epoch == key.epoch or inner.kind == RESTATES:
            return SuspenseReason.UNDECODABLE  # Nothing restates itself.
        if self._store.digest_at(old, sequence) == digest:
            return None
        if self._was_restated(old, sequence, digest):
            return None
        self._store.execute(
            "INSERT INTO restated VALUES (?, ?, ?, ?, ?)", (*old.parts, sequence, digest)
        )
        try:
            restated = decode_fact(fact.body)
        except (CorruptData, ValueError, RecursionError):
            return SuspenseReason.UNDECODABLE
        if isinstance(restated, TILL_FACTS) and not _counts(sender, key):
            return SuspenseReason.NOT_A_TILL
        entered = Entered(
            device=old.device, epoch=old.epoch, sequence=sequence, digest=digest
        )  # Its key may be held by another history.
        return self._carry_out(old, entered, restated, now_ms)

    def _was_restated(self, key: StreamKey, sequence: int, digest: str) -> bool:
        found = self._store.one(
            "SELECT 1 FROM restated WHERE device = ? AND stream = ? AND epoch = ?"
            " AND sequence = ? AND digest = ?",
            (*key.parts, sequence, digest),
        )
        return found is not None

    def _carry_out(
        self, key: StreamKey, entered: Entered, fact: AnyFact, now_ms: int
    ) -> SuspenseReason | None:
        """Postings, the families' lines, and what it does to facts before it."""
        meaning = meaning_of(fact, self._registry, self._registry.place(now_ms))
        if meaning.postings:
            posted = self._ledger.post(
                "sale" if meaning.suspense is None else "suspense",
                entered.reference,
                meaning.postings,
                now_ms=now_ms,
                spends=meaning.spends,
                items=meaning.items,
            )
            assert posted, f"{entered.reference} is posted already"
        for line in meaning.feeds:
            self._families.add(line)
        reason = meaning.suspense
        if reason is not SuspenseReason.WRONG_SITE:
            followed = self._tills.follow(key, entered, fact, meaning, now_ms)
            reason = reason or followed
        self._touch(meaning, now_ms)
        self._note_order(fact)
        return reason

    def _touch(self, meaning: Meaning, now_ms: int) -> None:
        for account in {posting.account for posting in meaning.postings}:
            if self._registry.purses_of(account) is not None:
                self._publisher.touch_account(account, now_ms)
                self._families.look_at_balance(account, now_ms)

    def _note_order(self, fact: AnyFact) -> None:
        """What came of an order, beside the order."""
        if isinstance(fact, OrderAnswer):
            column, word = "answer", "accepted" if fact.accepted else f"refused: {fact.why}"
        elif isinstance(fact, OrderOutcome):
            column, word = "outcome", "done" if fact.done else f"not done: {fact.why}"
        else:
            return
        self._store.execute(
            f"UPDATE sent_order SET {column} = ? WHERE device = ? AND counter = ?",
            (word, fact.device, fact.counter),
        )

    def _ack(
        self, key: StreamKey, cursor: Cursor, *, rewind: bool = False, problem: str = ""
    ) -> Out:
        ack = Ack(
            device=key.device,
            stream=key.stream,
            epoch=key.epoch,
            up_to=cursor.up_to,
            rewind=rewind,
            problem=problem,
            throttle_per_s=self.throttle_per_s,
        )
        return Out(f"mk/v1/d/{key.device}/ack", encode_json(ack), qos=0)


def _counts(sender: Sender, key: StreamKey) -> bool:
    """Whether a till's fact counts here."""
    return sender.station is Station.TILL and key.stream is Stream.MAIN


def _check_numbers(header: BatchHeader) -> None:
    if not 1 <= header.first <= SEQUENCE_MAX:
        raise CorruptData("batch: its first number is out of range")
    gap = header.gap
    if gap is not None and not 1 <= gap.source <= gap.target < SEQUENCE_MAX:
        raise CorruptData("batch: its gap is no range")


def newest_acks(outs: list[Out]) -> list[Out]:
    """Batches committed together share an acknowledgement: of those of one epoch on one topic the
    last is said. One that asks for something, or names a problem, is said whatever follows."""
    kept: list[Out] = []
    said: set[tuple[str, str, str, str]] = set()
    for out in reversed(outs):
        if out.topic.endswith("/ack"):
            ack = decode_json(Ack, out.payload)
            key = (out.topic, ack.device, ack.stream, ack.epoch)
            if key in said and not (ack.rewind or ack.problem):
                continue
            said.add(key)
        kept.append(out)
    return kept[::-1]
