"""What devices send, and what the city answers: the whole core of the city without a socket.

`CityCore.receive(topic, payload, now_ms)` returns the messages to publish; they may leave only
after it returned, for it commits first. Time is passed in. A message that cannot be read changes
nothing but an alarm. Presence is a note: correctness rests on cursors and versions alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Final

from edge.messages import (
    AnyPush,
    Health,
    Hello,
    HighWater,
    Pull,
    PushKeys,
    ScopeKey,
    SignedWhat,
    Status,
    Stream,
    Welcome,
    decode_json,
    encode_json,
    encode_pack,
)
from edge.model import CorruptData, Station
from hil.city.batches import Batches, Sender
from hil.city.crypto import seal_key_to_device
from hil.city.keys import DEVICE_ID, PARTS, CityKeys, public_key
from hil.city.ledger import Ledger
from hil.city.lists import (
    CHUNKS_AT_ONCE,
    GATHER_MS,
    HEAD_REFRESH_MS,
    SCOPE_PARTS,
    Out,
    Publisher,
)
from hil.city.registry import Registry
from hil.city.store import Store, StreamKey

HIGH_WATERS_MAX: Final = 64  # Our choice: epochs told in one welcome, 120 bytes each.
NONCE_CHARS_MAX: Final = 64  # Our choice: a nonce is 16 to 32 bytes in base64url.
CHUNK_POSITION_MAX: Final = 2**31
CONNECTION_MAX: Final = 2**53  # Our choice: what every JSON reader holds exactly.
UP: Final = "mk/v1/d/"


class CityCore:
    """Owns nothing outside the store; one thread uses it."""

    def __init__(
        self,
        store: Store,
        keys: CityKeys,
        *,
        random_bytes: Callable[[int], bytes] = os.urandom,
        gather_ms: int = GATHER_MS,
    ) -> None:
        self.store = store
        self.keys = keys
        self.site = keys.site_id
        self.ledger = Ledger(store)
        people_keys = keys.scopes[f"{self.site}/people"]
        self.registry = Registry(store, self.ledger, self.site, people_keys)
        self.publisher = Publisher(
            store, self.registry, keys, random_bytes=random_bytes, gather_ms=gather_ms
        )
        self._batches = Batches(store, self.ledger, self.registry, self.publisher)
        self._heads_at_ms: int | None = None

    # ------------------------------------------------------------------------------ shell

    def start(self, now_ms: int) -> list[Out]:
        """Lists and snapshots of the records as they are; the heads to publish."""
        with self.store.transaction():
            for part in PARTS:
                self.publisher.refresh(part, now_ms)
            self.publisher.snapshot_all(now_ms)
        return self.heads(now_ms)

    def heads(self, now_ms: int) -> list[Out]:
        """Retained heads, fresh: to publish after every connection to the broker."""
        self._heads_at_ms = now_ms
        return self.publisher.heads(now_ms)

    def tick(self, now_ms: int) -> list[Out]:
        """Money changes that have waited long enough, and heads that grew old."""
        with self.store.transaction():
            outs = self.publisher.publish_money(now_ms)
        if self._heads_at_ms is None or not 0 <= now_ms - self._heads_at_ms < HEAD_REFRESH_MS:
            outs += self.heads(now_ms)
        return outs

    def receive(self, topic: str, payload: bytes, now_ms: int) -> list[Out]:
        """One message; committed when this returns."""
        return self.receive_all([(topic, payload)], now_ms)

    def receive_all(self, messages: Iterable[tuple[str, bytes]], now_ms: int) -> list[Out]:
        """Several messages in one commit: a broker's burst costs one flush of the disk."""
        outs: list[Out] = []
        with self.store.transaction():
            for topic, payload in messages:
                with self.store.transaction():
                    outs += self._receive(topic, payload, now_ms)
            outs += self.publisher.publish_money(now_ms)
        return outs

    # ----------------------------------------------------------------------------- routing

    def _receive(self, topic: str, payload: bytes, now_ms: int) -> list[Out]:
        device, _, rest = topic.removeprefix(UP).partition("/")
        if not topic.startswith(UP) or not DEVICE_ID.fullmatch(device):
            return []
        sender = self._sender(device)
        if sender is None:
            self.store.alarm(device, "unknown_device", f"sent {rest[:40]}; enrol it", now_ms)
            return []
        try:
            return self._route(sender, rest, payload, now_ms)
        except CorruptData as error:
            self.store.alarm(device, f"corrupt_{rest.partition('/')[0][:20]}", str(error), now_ms)
            return []

    def _route(self, sender: Sender, rest: str, payload: bytes, now_ms: int) -> list[Out]:
        if rest == "hello":
            return self._hello(sender, payload, now_ms)
        if rest == "pull":
            return self._pull(sender, payload, now_ms)
        if rest == "status":
            self._status(sender, payload, now_ms)
        elif rest == "health":
            self._health(sender, payload)
        elif rest.startswith("up/") and rest.removeprefix("up/") in set(Stream):
            return self._batches.receive(sender, rest.removeprefix("up/"), payload, now_ms)
        return []

    def _sender(self, device: str) -> Sender | None:
        row = self.store.one("SELECT site, station FROM device WHERE device = ?", (device,))
        if row is None:
            return None
        return Sender(device=device, site=row[0], station=Station(row[1]))

    # ---------------------------------------------------------------------------- presence

    def _status(self, sender: Sender, payload: bytes, now_ms: int) -> None:
        if not payload:
            return  # A retained status that someone has cleared.
        status = decode_json(Status, payload)
        _check_device(sender, status.device)
        if not 0 <= status.connection <= CONNECTION_MAX:
            raise CorruptData("status: its connection counter is out of range")
        # A will of a lower connection is late: it hides no newer birth. Of the same connection
        # only the end is news.
        self.store.execute(
            "UPDATE device SET online = ?, boot = ?, connection = ?, status_ms = ?"
            " WHERE device = ? AND connection < ? + (? = 0)",
            (
                *(status.online, status.boot[:64], status.connection, now_ms),
                *(sender.device, status.connection, status.online),
            ),
        )

    def _health(self, sender: Sender, payload: bytes) -> None:
        health = decode_json(Health, payload)
        _check_device(sender, health.device)
        self.store.execute(
            "UPDATE device SET health = ? WHERE device = ?",
            (encode_json(health).decode(), sender.device),
        )

    def _hello(self, sender: Sender, payload: bytes, now_ms: int) -> list[Out]:
        hello = decode_json(Hello, payload)
        _check_device(sender, hello.device)
        if not 1 <= len(hello.nonce) <= NONCE_CHARS_MAX:
            raise CorruptData("hello: its nonce is empty or too long")
        if (hello.site, hello.station) != (sender.site, sender.station):
            text = f"says it is {hello.station} of {hello.site[:40]}, enrolled as {sender.station}"
            self.store.alarm(sender.device, "other_station", text, now_ms)
        wanted = {}
        for scope in self.scopes_of(sender):
            state = self.publisher.state(scope)
            if state is not None:
                wanted[scope] = state.version
        for scope, held in hello.held.items():
            mine = wanted.get(scope)
            if mine is not None and (held.list_epoch, held.number) > (mine.list_epoch, mine.number):
                text = f"holds {scope} {held.number}, the city has {mine.number}: an old backup?"
                self.store.alarm(sender.device, "ahead_of_city", text, now_ms)
        self.store.execute(
            "UPDATE device SET hello_ms = ? WHERE device = ?", (now_ms, sender.device)
        )
        welcome = Welcome(
            device=sender.device,
            nonce=hello.nonce,
            utc_ms=now_ms,
            high_water=self._high_waters(hello),
            wanted=wanted,
        )
        key = self.keys.signing["freshness"]
        lines = key.sign_lines(SignedWhat.WELCOME, encode_json(welcome))
        return [Out(f"mk/v1/d/{sender.device}/welcome", lines)]

    def _high_waters(self, hello: Hello) -> tuple[HighWater, ...]:
        """First of the streams the device speaks of, then of its other epochs, the newest first."""
        found = self.store.rows(
            "SELECT stream, epoch FROM cursor WHERE device = ? ORDER BY moved_ms DESC LIMIT ?",
            (hello.device, HIGH_WATERS_MAX),
        )
        named = [(head.stream, head.epoch) for head in hello.streams]
        held = [(Stream(stream), epoch) for stream, epoch in found]
        waters = []
        for stream, epoch in list(dict.fromkeys(named + held))[:HIGH_WATERS_MAX]:
            key = StreamKey(device=hello.device, stream=stream, epoch=epoch[:64])
            cursor = self.store.cursor(key)
            water = HighWater(
                stream=stream, epoch=key.epoch, up_to=cursor.up_to, digest=cursor.digest
            )
            waters.append(water)
        return tuple(waters)

    # ------------------------------------------------------------------------------- pulls

    def scopes_of(self, sender: Sender) -> tuple[str, ...]:
        """What a station of its kind may read."""
        return tuple(f"{sender.site}/{part}" for part in SCOPE_PARTS[sender.station])

    def _pull(self, sender: Sender, payload: bytes, now_ms: int) -> list[Out]:
        pull = decode_json(Pull, payload)
        _check_device(sender, pull.device)
        allowed = self.scopes_of(sender)
        asked = pull.keys or (pull.scope,)
        if any(scope not in allowed for scope in asked):
            raise CorruptData("pull: a scope that is not this station's")
        outs: list[Out] = []
        if pull.keys:
            pushes: list[AnyPush] = [self._scope_keys(sender, tuple(dict.fromkeys(pull.keys)))]
        elif pull.snapshot_id:
            wanted = [n for n in pull.chunks[:CHUNKS_AT_ONCE] if 0 <= n < CHUNK_POSITION_MAX]
            pushes = self.publisher.answer_chunks(pull.scope, pull.snapshot_id, wanted)
        else:
            pushes, outs = self.publisher.answer_pull(pull.scope, pull.have, now_ms)
        topic = f"mk/v1/d/{sender.device}/push"
        return [*(Out(topic, encode_pack(push)) for push in pushes), *outs]

    def _scope_keys(self, sender: Sender, scopes: tuple[str, ...]) -> PushKeys:
        row = self.store.one("SELECT public_key FROM device WHERE device = ?", (sender.device,))
        assert row is not None
        device_key = public_key(row[0])
        sealed = []
        for scope in scopes:
            keys = self.keys.scopes[scope]
            for purpose, version, secret in (
                ("identifier", keys.identifier_version, keys.identifier),
                ("seal", keys.seal_version, keys.seal),
            ):
                data = seal_key_to_device(
                    secret, device_key, scope=scope, purpose=purpose, version=version
                )
                sealed.append(ScopeKey(scope=scope, purpose=purpose, version=version, sealed=data))
        return PushKeys(keys=tuple(sealed))


def _check_device(sender: Sender, device: str) -> None:
    if device != sender.device:
        raise CorruptData("it names another device than its topic")
