"""Carries out the faults that are switched on, around a core that has none.

Between the worker and the core of a site: what comes in may be changed or kept from it, its commit
may be spoiled, and what goes out may be changed, held back or sent again. Whatever is changed is
signed again with the city's own keys where the fault asks for a liar with keys, and spoiled after
signing where it asks for one without. While nothing is on, everything passes untouched.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from edge.messages import (
    MESSAGE_BYTES_MAX,
    Ack,
    BatchHeader,
    Pull,
    SaleFact,
    decode_batch,
    decode_fact,
    decode_json,
    encode_json,
)
from edge.model import CorruptData
from hil.city.faults import Fault, Faults
from hil.city.intake import CityCore
from hil.city.liar import Liar
from hil.city.lists import Out
from hil.city.spoiled_books import SpoiledBooks

CRASH_CODE: Final = 70  # sysexits.h: EX_SOFTWARE; tests tell it from a clean end.
PAIR_MS: Final = 300  # Our choice: an acknowledgement waits so long for another to overtake it.
OTHER_EPOCH: Final = "ffffffffffffffff"

Message = tuple[str, bytes]


class _Forgotten(Exception):
    """Rolls a commit back whose acknowledgements leave all the same."""


class Mischief:
    """One site's core with faults. One thread uses it, the one that has the core."""

    def __init__(
        self,
        core: CityCore,
        faults: Faults,
        *,
        seed: int = 1,
        sleep: Callable[[float], None] = time.sleep,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        self.core = core
        self.faults = faults
        self._random = random.Random(seed)
        self._sleep = sleep
        self._end = end
        self._liar = Liar(core.keys, core.site, faults, core.key_of_device)
        self._books = SpoiledBooks(core, faults)
        self._commits = 0
        self._waiting: list[tuple[int, Out]] = []  # (when it may leave, what)
        self._pair: list[Out] = []
        self._paired_ms = 0
        self._shut: set[str] = set()  # Devices heard no more.

    # ----------------------------------------------------------------------- what comes in

    def receive_all(self, messages: Sequence[Message], now_ms: int) -> list[Out]:
        """As `CityCore.receive_all`, with the faults that are on."""
        if not self.faults.any():
            return self.leaving(self.core.receive_all(messages, now_ms), now_ms)
        extra: list[Out] = []
        kept: list[Message] = []
        for topic, payload in messages:
            device, _, rest = topic.removeprefix("mk/v1/d/").partition("/")
            extra += self._own_answer(device, rest, payload, now_ms)
            changed = self._arriving(device, rest, payload)
            if changed is not None:
                kept.append((topic, changed))
        has_facts = any("/up/" in topic for topic, _ in kept)
        outs = self._commit(kept, now_ms) if has_facts else self.core.receive_all(kept, now_ms)
        return self.leaving([*outs, *extra], now_ms)

    def _commit(self, messages: Sequence[Message], now_ms: int) -> list[Out]:
        faults = self.faults
        if faults[Fault.SLOW]:
            self._sleep(faults[Fault.SLOW] / 1000)
        self._commits += 1
        outs: list[Out] = []
        try:
            with self.core.store.transaction():
                outs = self.core.receive_all(messages, now_ms)
                if faults[Fault.BYTES_CHANGED]:
                    self._change_bytes(now_ms)
                self._books.spoil(now_ms)
                if faults[Fault.CRASH_BEFORE_COMMIT] == self._commits:
                    self._end(CRASH_CODE)
                if faults[Fault.FORGET]:
                    raise _Forgotten
        except _Forgotten:
            pass
        if faults[Fault.CRASH_AFTER_COMMIT] == self._commits:
            self._end(CRASH_CODE)
        return outs

    def _change_bytes(self, now_ms: int) -> None:
        """A space behind each fact: the same JSON, and no longer what the device has signed for."""
        store, key = self.core.store, "device = ? AND stream = ? AND epoch = ? AND sequence = ?"
        for *place, data in store.rows(
            "SELECT device, stream, epoch, sequence, bytes FROM fact WHERE received_ms = ?",
            (now_ms,),
        ):
            if not data.endswith(b" "):
                store.execute(f"UPDATE fact SET bytes = ? WHERE {key}", (data + b" ", *place))

    def _arriving(self, device: str, rest: str, payload: bytes) -> bytes | None:
        """What the core is shown instead; None for nothing."""
        faults = self.faults
        if faults[Fault.RUBBISH_STOPS]:
            if len(payload) > MESSAGE_BYTES_MAX or b"{" not in payload[:1]:
                self._shut.add(device)
            if device in self._shut:
                return None
        if rest == "renew" and faults[Fault.RENEWAL_DEAF]:
            return None
        if rest == "pull" and faults[Fault.PULL_DEAF] and b'"have":[' in payload:
            return None
        if rest == "status" and faults[Fault.LATE_WILL]:
            self._change("UPDATE device SET connection = -1 WHERE device = ?", device)
        if faults[Fault.REVOKED_SERVED]:
            self._change("UPDATE device SET revoked_ms = NULL WHERE device = ?", device)
        if not rest.startswith("up/"):
            return payload
        if faults[Fault.STREAM_DEAF] and rest != "up/main":
            return None
        return self._batch(payload)

    def _batch(self, payload: bytes) -> bytes | None:
        """A batch as the core is to see it."""
        faults = self.faults
        try:
            header, facts = decode_batch(payload)
        except CorruptData:
            return payload
        if faults[Fault.KIND_BLOCKS] and any(_unknown(fact) for fact in facts):
            return None
        if faults[Fault.POISON_BLOCKS] and any(self._poison(fact) for fact in facts):
            return None
        if faults[Fault.GAP_IGNORED] and header.gap is not None:
            bare = msgspec.structs.replace(header, gap=None)
            return b"\n".join((encode_json(bare), *facts))
        up_to, last = self._high_water(header), header.first + header.count - 1
        if faults[Fault.OVERLAP_REFUSED] and header.first <= up_to < last:
            return None
        if faults[Fault.REPLAY_REFUSED] and 0 < last <= up_to:
            return None  # `_own_ack` answers it.
        return payload

    def _poison(self, data: bytes) -> bool:
        try:
            fact = decode_fact(data)
        except CorruptData:
            return False
        if not isinstance(fact, SaleFact):
            return False
        return self.core.registry.purses_of(fact.account) is None

    def _high_water(self, header: BatchHeader) -> int:
        found = self.core.store.one(
            "SELECT up_to FROM cursor WHERE device = ? AND stream = ? AND epoch = ?",
            (header.device, header.stream.value, header.epoch),
        )
        return 0 if found is None else int(found[0])

    def _change(self, statement: str, device: str) -> None:
        with self.core.store.transaction():
            self.core.store.execute(statement, (device,))

    def _own_answer(self, device: str, rest: str, payload: bytes, now_ms: int) -> list[Out]:
        """What the core would not have answered."""
        faults = self.faults
        try:
            if rest.startswith("up/"):
                return self._own_ack(payload)
            if rest == "pull" and faults[Fault.DELTA_LOSSY]:
                # Snapshots of the truth beside deltas that are not: or both would lie alike.
                with self.core.store.transaction():
                    self.core.publisher.snapshot_all(now_ms)
            if rest == "pull" and faults[Fault.SCOPE_OPEN]:
                pull = decode_json(Pull, payload)
                if pull.scope in self.core.publisher.scopes and not pull.snapshot_id:
                    with self.core.store.transaction():
                        pushes, outs = self.core.publisher.answer_pull(
                            pull.scope, pull.have, now_ms
                        )
                    return [*self._liar.pushed(device, pushes), *outs]
        except CorruptData:
            pass
        return []

    def _own_ack(self, payload: bytes) -> list[Out]:
        faults = self.faults
        header = decode_json(BatchHeader, payload.partition(b"\n")[0])
        last, up_to = header.first + header.count - 1, self._high_water(header)
        ack = Ack(device=header.device, stream=header.stream, epoch=header.epoch, up_to=last)
        if faults[Fault.ACK_PAST_GAP] and header.gap is None and header.first > up_to + 1:
            return [_ack_out(ack)]
        if faults[Fault.OVERSIZE_TAKEN] and len(payload) > MESSAGE_BYTES_MAX:
            return [_ack_out(ack)]
        if faults[Fault.REPLAY_REFUSED] and 0 < last <= up_to:
            return [_ack_out(msgspec.structs.replace(ack, up_to=up_to, problem="fork"))]
        return []

    # ---------------------------------------------------------------------- what goes out

    def tick(self, now_ms: int) -> list[Out]:
        """As `CityCore.tick`, and what was held back long enough."""
        self._books.hurry()
        outs = self.leaving(self.core.tick(now_ms), now_ms)
        due = [out for at_ms, out in self._waiting if at_ms <= now_ms]
        self._waiting = [held for held in self._waiting if held[0] > now_ms]
        if self._pair and now_ms - self._paired_ms >= PAIR_MS:
            due += self._pair
            self._pair = []
        return outs + due

    def leaving(self, outs: Sequence[Out], now_ms: int) -> list[Out]:
        """What is published in place of these."""
        if not self.faults.any():
            assert all(len(out.payload) <= MESSAGE_BYTES_MAX for out in outs)
            return list(outs)
        changed: list[Out] = []
        for out in outs:
            leaf = out.topic.rpartition("/")[2]
            if leaf == "ack":
                changed += self._acks(out, now_ms)
            else:
                changed += self._liar.told(out, leaf)
        return changed

    def _acks(self, out: Out, now_ms: int) -> list[Out]:
        faults, ack = self.faults, decode_json(Ack, out.payload)
        if faults[Fault.ACK_NEVER] or self._random.randrange(100) < faults[Fault.ACK_LOST]:
            return []
        if faults[Fault.FORK_UNSEEN] and ack.problem == "fork":
            sent = self._sent_up_to(ack)
            ack = msgspec.structs.replace(ack, up_to=max(ack.up_to, sent), problem="")
        if faults[Fault.ACK_PAST_GAP] and ack.rewind:
            return []
        if faults[Fault.ACK_FUTURE]:
            ack = msgspec.structs.replace(ack, up_to=ack.up_to + faults[Fault.ACK_FUTURE])
        if faults[Fault.ACK_EPOCH]:
            ack = msgspec.structs.replace(ack, epoch=OTHER_EPOCH)
        said = [_ack_out(ack)]
        if faults[Fault.ACK_TWICE]:
            said *= 2
        if faults[Fault.ACK_REORDERED]:
            self._pair, self._paired_ms = self._pair + said, now_ms
            said = []
            if len(self._pair) >= 2:
                said, self._pair = self._pair[::-1], []
        if faults[Fault.ACK_LATE]:
            self._waiting += [(now_ms + faults[Fault.ACK_LATE], one) for one in said]
            said = []
        return said

    def _sent_up_to(self, ack: Ack) -> int:
        """The highest number of the fork that was kept."""
        found = self.core.store.one(
            "SELECT COALESCE(MAX(sequence), 0) FROM fork"
            " WHERE device = ? AND stream = ? AND epoch = ?",
            (ack.device, ack.stream.value, ack.epoch),
        )
        assert found is not None
        return int(found[0])


def _ack_out(ack: Ack) -> Out:
    return Out(f"mk/v1/d/{ack.device}/ack", encode_json(ack), qos=0)


def _unknown(data: bytes) -> bool:
    try:
        decode_fact(data)
    except CorruptData:
        return True
    return False
