"""What devices send, and what the city answers: the whole core of the city without a socket.

`CityCore.receive(topic, payload, now_ms)` returns the messages to publish; they may leave only
after it returned, for it commits first. Time is passed in. A message that cannot be read changes
nothing but an alarm. Presence is a note: correctness rests on cursors and versions alone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from edge.messages import (
    AnyPush,
    Health,
    Hello,
    HighWater,
    Pull,
    PushKeys,
    Renew,
    Renewed,
    ScopeKey,
    SealedKeys,
    SignedWhat,
    Status,
    Stream,
    Welcome,
    b64u,
    decode_json,
    encode_json,
    encode_pack,
)
from edge.model import CorruptData, Station
from hil.city.batches import Batches, Sender, newest_acks
from hil.city.crypto import seal_key_to_device
from hil.city.debits import Debits
from hil.city.families import Families
from hil.city.hand_in import HandIn
from hil.city.keys import (
    CITY_SCOPE,
    DEVICE_ID,
    PARTS,
    CityKeys,
    certificate_pem,
    issue_device,
    public_bytes,
    public_key,
    public_key_of_request,
    utc,
)
from hil.city.ledger import Ledger
from hil.city.lists import (
    CHUNKS_AT_ONCE,
    GATHER_MS,
    HEAD_REFRESH_MS,
    MUSEUM,
    SCOPE_PARTS,
    Out,
    Publisher,
)
from hil.city.museum import Museum
from hil.city.registry import Registry
from hil.city.releases import Releases
from hil.city.store import Store, StreamKey
from hil.city.tills import TillBooks

HIGH_WATERS_MAX: Final = 64  # Our choice: epochs told in one welcome, 120 bytes each.
NONCE_CHARS_MAX: Final = 64  # Our choice: a nonce is 16 to 32 bytes in base64url.
LIVE_MS_MAX: Final = 90_000  # Our choice: health comes each minute, and may come late.
LIVE_MAX: Final = 64  # Our choice: many times the tills of the largest school.
CHUNK_POSITION_MAX: Final = 2**31
CONNECTION_MAX: Final = 2**53  # Our choice: what every JSON reader holds exactly.
UP: Final = "mk/v1/d/"
UP_FOR: Final = "up/for/"
KEYED_PARTS: Final = ("people", "settings")  # Rows of both are sealed with the people's keys.
ROOT_TOPIC: Final = "mk/v1/c/root"
MONEY_DATE: Final = "money_date"  # The day whose money list is published.


class CityCore:
    """Owns nothing outside the store; one thread uses it."""

    def __init__(
        self,
        store: Store,
        keys: CityKeys,
        *,
        site: str | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
        gather_ms: int = GATHER_MS,
    ) -> None:
        """Of one site: the first that the keys were made for, or another they have keys of."""
        self.store = store
        self.keys = keys
        self.site = keys.site_id if site is None else site
        self.ledger = Ledger(store)
        self.registry = Registry(store, self.ledger, self.site, keys)
        self.publisher = Publisher(
            store, self.registry, keys, random_bytes=random_bytes, gather_ms=gather_ms
        )
        self.families = Families(store, self.ledger, self.registry)
        books = (store, self.ledger, self.registry, self.publisher)
        self.debits = Debits(*books, self.families)
        self.tills = TillBooks(*books, self.debits, self.families)
        self.museum = Museum(store, keys, self.publisher)
        self.releases = Releases(keys)
        self._batches = Batches(*books, self.tills, self.families)
        self._hand_in = HandIn(store, self._batches)
        self._heads_at_ms: int | None = None
        self._adopted = keys.generation
        self._heard_ms: dict[str, int] = {}  # Device -> its last message; a restart forgets it.

    # ------------------------------------------------------------------------------ shell

    def start(self, now_ms: int) -> list[Out]:
        """Lists and snapshots of the records as they are; the heads to publish."""
        with self.store.transaction():
            rekeyed = self.registry.adopt_keys()
            for part in PARTS:
                self.publisher.refresh(part, now_ms, whole=rekeyed and part in KEYED_PARTS)
            if CITY_SCOPE in self.publisher.scopes:
                self.publisher.refresh(MUSEUM, now_ms)
            self.store.set_meta(MONEY_DATE, self.registry.place(now_ms).today.isoformat())
            self.publisher.adopt(now_ms)
            self.publisher.snapshot_all(now_ms)
        self._adopted = self.keys.generation
        return self.heads(now_ms)

    def throttle(self, per_s: int | None) -> None:
        """How many facts a second each stream of a device may send while the city is crowded; None:
        as many as it likes. Told with the next acknowledgement or welcome; a restart forgets it."""
        assert per_s is None or per_s > 0
        self._batches.throttle_per_s = per_s

    def root(self) -> Out:
        """The root document, retained: who was away meets it before anything it signs for."""
        return Out(ROOT_TOPIC, self.keys.root_document, retain=True)

    def adopt_keys(self, now_ms: int) -> list[Out]:
        """What follows from keys that were rotated: ids, lists, keys for devices, fresh heads."""
        self._adopted = self.keys.generation
        outs = [self.root()]
        with self.store.transaction():
            if self.registry.adopt_keys():
                outs += self._keys_for_all(now_ms)
                for part in KEYED_PARTS:
                    outs += self.publisher.refresh(part, now_ms, whole=True)
            outs += self.publisher.adopt(now_ms)
        return outs

    def heads(self, now_ms: int) -> list[Out]:
        """Retained heads, fresh: to publish after every connection to the broker."""
        self._heads_at_ms = now_ms
        return self.publisher.heads(now_ms)

    def tick(self, now_ms: int) -> list[Out]:
        """Money changes that have waited long enough, heads that grew old, keys that changed."""
        outs = self.adopt_keys(now_ms) if self._adopted != self.keys.generation else []
        with self.store.transaction():
            outs += self._new_day(now_ms)
            self.debits.settle(now_ms)
            outs += self.publisher.publish_money(now_ms)
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
            self.debits.settle(now_ms)
            outs += self.publisher.publish_money(now_ms)
        return newest_acks(outs)

    def _new_day(self, now_ms: int) -> list[Out]:
        """Meals and pre-orders of yesterday leave the list."""
        today = self.registry.place(now_ms).today.isoformat()
        if self.store.meta(MONEY_DATE) == today:
            return []
        self.store.set_meta(MONEY_DATE, today)
        return self.publisher.refresh("money", now_ms)

    # ----------------------------------------------------------------------------- routing

    def _receive(self, topic: str, payload: bytes, now_ms: int) -> list[Out]:
        device, _, rest = topic.removeprefix(UP).partition("/")
        if not topic.startswith(UP) or not DEVICE_ID.fullmatch(device):
            return []
        sender = self._sender(device)
        if sender is None:
            self.store.alarm(device, "unknown_device", f"sent {rest[:40]}; enrol it", now_ms)
            return []
        self._heard_ms[device] = now_ms
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
        if rest == "renew":
            return self._renew(sender, payload, now_ms)
        if rest == "status":
            self._status(sender, payload, now_ms)
        elif rest == "health":
            self._health(sender, payload)
        elif rest.startswith(UP_FOR):
            other = rest.removeprefix(UP_FOR)
            return self._hand_in.receive(sender, other, payload, now_ms)
        elif rest.startswith("up/") and rest.removeprefix("up/") in set(Stream):
            return self._batches.receive(sender, rest.removeprefix("up/"), payload, now_ms)
        return []

    def _sender(self, device: str) -> Sender | None:
        row = self.store.one(
            "SELECT site, station FROM device WHERE device = ? AND revoked_ms IS NULL", (device,)
        )
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
            " WHERE device = ? AND connection < ?",
            (
                *(int(status.online), status.boot[:64], status.connection, now_ms),
                *(sender.device, status.connection + (0 if status.online else 1)),
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
        outs = self._promote(sender.device, hello.key, now_ms)
        welcome = Welcome(
            device=sender.device,
            nonce=hello.nonce,
            utc_ms=now_ms,
            high_water=self._high_waters(hello),
            wanted=wanted,
            live=self._live_beside(sender, now_ms) if sender.station is Station.TILL else (),
            throttle_per_s=self._batches.throttle_per_s,
        )
        key = self.keys.signing["freshness"]
        lines = key.sign_lines(SignedWhat.WELCOME, encode_json(welcome))
        return [Out(f"mk/v1/d/{sender.device}/welcome", lines), *outs]

    def _live_beside(self, sender: Sender, now_ms: int) -> tuple[str, ...]:
        """The other tills of a site that are connected and have just said something."""
        rows = self.store.rows(
            "SELECT device FROM device WHERE site = ? AND station = ? AND online = 1"
            " AND revoked_ms IS NULL AND device <> ? ORDER BY device",
            (sender.site, Station.TILL.value, sender.device),
        )
        found = [d for (d,) in rows if 0 <= now_ms - self._heard_ms.get(d, 0) < LIVE_MS_MAX]
        return tuple(found[:LIVE_MAX])

    def _promote(self, device: str, key: str, now_ms: int) -> list[Out]:
        """A device that says hello with its next key uses it: scope keys are sealed to it now, and
        the roster tells its peers."""
        row = self.store.one("SELECT next_key FROM device WHERE device = ?", (device,))
        if row is None or row[0] is None or b64u(hashlib.sha256(row[0]).digest()) != key:
            return []
        self.store.execute(
            "UPDATE device SET public_key = next_key, certificate = next_certificate,"
            " next_key = NULL, next_certificate = NULL WHERE device = ?",
            (device,),
        )
        return self.publisher.refresh("settings", now_ms)

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

    def _renew(self, sender: Sender, payload: bytes, now_ms: int) -> list[Out]:
        """The next certificate of a device. Its key counts from the hello that names it; until
        then the one before does, so an answer that is lost costs nothing: the device asks again."""
        renew = decode_json(Renew, payload)
        _check_device(sender, renew.device)
        key = public_key_of_request(renew.csr_pem)
        certificate = certificate_pem(issue_device(self.keys, sender.device, key, utc(now_ms)))
        self.store.execute(
            "UPDATE device SET next_key = ?, next_certificate = ? WHERE device = ?",
            (public_bytes(key), certificate, sender.device),
        )
        renewed = Renewed(
            device=sender.device, certificate_pem=certificate, chain_pem=self.keys.chain_pem
        )
        return [Out(f"mk/v1/d/{sender.device}/renewed", encode_json(renewed))]

    # ------------------------------------------------------------------------------- pulls

    def scopes_of(self, sender: Sender) -> tuple[str, ...]:
        """What a station of its kind may read."""
        own = tuple(f"{sender.site}/{part}" for part in SCOPE_PARTS[sender.station])
        museum = sender.station is Station.ADMISSION and CITY_SCOPE in self.publisher.scopes
        return (CITY_SCOPE, *own) if museum else own

    def _pull(self, sender: Sender, payload: bytes, now_ms: int) -> list[Out]:
        pull = decode_json(Pull, payload)
        _check_device(sender, pull.device)
        topic = f"mk/v1/d/{sender.device}/push"
        if pull.release:
            parts = self.releases.answer(pull.release, pull.chunks)
            return [Out(topic, encode_pack(part)) for part in parts]
        allowed = self.scopes_of(sender)
        asked = pull.keys or (pull.scope,)
        if any(scope not in allowed for scope in asked):
            raise CorruptData("pull: a scope that is not this station's")
        outs: list[Out] = []
        if pull.keys:
            pushes: list[AnyPush] = [
                self._scope_keys(sender, tuple(dict.fromkeys(pull.keys)), now_ms)
            ]
        elif pull.snapshot_id:
            wanted = [n for n in pull.chunks[:CHUNKS_AT_ONCE] if 0 <= n < CHUNK_POSITION_MAX]
            pushes = self.publisher.answer_chunks(pull.scope, pull.snapshot_id, wanted)
        elif pull.photos:
            if pull.scope != f"{sender.site}/people":
                raise CorruptData("pull: only people have photos")
            pushes = [*self.registry.photos.answer(pull.photos)]
        else:
            pushes, outs = self.publisher.answer_pull(pull.scope, pull.have, now_ms)
        return [*(Out(topic, encode_pack(push)) for push in pushes), *outs]

    def _scope_keys(self, sender: Sender, scopes: tuple[str, ...], now_ms: int) -> PushKeys:
        device_key = self.key_of_device(sender.device)
        sealed = []
        for scope in scopes:
            for purpose, version, secret in self.keys.scopes[scope].all():
                data = seal_key_to_device(
                    secret, device_key, scope=scope, purpose=purpose, version=version
                )
                sealed.append(ScopeKey(scope=scope, purpose=purpose, version=version, sealed=data))
        told = SealedKeys(device=sender.device, keys=tuple(sealed), issued_utc_ms=now_ms)
        key = self.keys.signing["list"]
        return PushKeys(signed=key.sign(SignedWhat.KEYS, encode_pack(told)))

    def key_of_device(self, device: str) -> EllipticCurvePublicKey:
        """What secrets for an enrolled device are sealed to."""
        row = self.store.one("SELECT public_key FROM device WHERE device = ?", (device,))
        assert row is not None
        return public_key(row[0])

    def keys_for(self, sender: Sender, now_ms: int) -> PushKeys | None:
        """The keys of the lists of people that a device has; None when it has no such list."""
        keyed = (f"{self.site}/people", CITY_SCOPE)
        scopes = tuple(scope for scope in keyed if scope in self.scopes_of(sender))
        return self._scope_keys(sender, scopes, now_ms) if scopes else None

    def _keys_for_all(self, now_ms: int) -> list[Out]:
        """The keys of lists of people for every device that has one, before the list itself."""
        outs = []
        for device, site, station in self.store.rows(
            "SELECT device, site, station FROM device WHERE revoked_ms IS NULL ORDER BY device"
        ):
            sender = Sender(device=device, site=site, station=Station(station))
            push = self.keys_for(sender, now_ms)
            if push is not None:
                outs.append(Out(f"mk/v1/d/{device}/push", encode_pack(push)))
        return outs


def _check_device(sender: Sender, device: str) -> None:
    if device != sender.device:
        raise CorruptData("it names another device than its topic")
