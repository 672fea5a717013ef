"""A city and a broker in memory for the conformance run: virtual time, no socket, no thread.

The broker keeps retained messages, delivers by full topic names and loses nothing; the city is the
reference city with whatever faults are switched on.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edge.messages import Stream, from_b64u
from edge.model import Station
from edge.trust import write_secret
from hil.city.desk import Desk, Done
from hil.city.faults import Faults
from hil.city.intake import CityCore
from hil.city.keydesk import KeyDesk
from hil.city.keys import CityKeys
from hil.city.lists import Out
from hil.city.mischief import Mischief
from hil.city.parents import ParentDesk
from hil.city.seed import seed_school
from hil.city.store import Store, StreamKey
from hil.conformance.link import Message
from hil.conformance.player import Identity, Player
from hil.conformance.rules import Report
from hil.conformance.run import Cast
from provisioning.identity import certificate_request
from tests.city.sham import NOON_MS, SITE, small_school

TICK_MS = 100
START_MS = NOON_MS  # Tuesday noon; the welcome's time is compared with this clock.


class World:
    """One city of one site, its broker, and what an inspector may ask."""

    def __init__(self, folder: Path, keys: CityKeys, faults: Faults) -> None:
        self.folder = folder
        self.now_ms = START_MS
        self.retained: dict[str, bytes] = {}
        self.links: list[MemoryLink] = []
        self.core = CityCore(Store(":memory:"), keys, gather_ms=200)
        seed_school(self.core, small_school(), self.now_ms)
        self.core.start(self.now_ms)
        self.desk = Desk(self.core, ())
        self.key_desk = KeyDesk(self.core, self.desk, folder)
        self.mischief = Mischief(
            self.core, faults, sleep=lambda s: self.advance(round(s * 1000)), end=self._end
        )
        self.deliver(
            self.mischief.leaving([self.core.root(), *self.core.heads(self.now_ms)], self.now_ms)
        )

    def _end(self, code: int) -> None:
        raise SystemExit(code)

    # -------------------------------------------------------------------------- broker

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        if retain:
            self.retained[topic] = payload
        self.deliver(self.mischief.receive_all([(topic, payload)], self.now_ms))

    def deliver(self, outs: list[Out]) -> None:
        for out in outs:
            if out.retain:
                self.retained[out.topic] = out.payload
            for link in self.links:
                if out.topic in link.topics:
                    link.heard.append(Message(out.topic, out.payload))

    def advance(self, passed_ms: int) -> None:
        ends_ms = self.now_ms + passed_ms
        while self.now_ms < ends_ms:
            self.now_ms = min(ends_ms, self.now_ms - self.now_ms % TICK_MS + TICK_MS)
            if self.now_ms % TICK_MS == 0:
                self.deliver(self.mischief.tick(self.now_ms))

    # -------------------------------------------------------------------------- people

    def ask(self, method: str, target: str, body: dict[str, Any] | None) -> tuple[int, bytes]:
        """One request of the reference city's HTTP: what `hil/city/web.py` makes of it."""
        parts = urlsplit(target)
        query, now_ms = dict(parse_qsl(parts.query)), self.now_ms
        parents = ParentDesk(self.core, self.desk)
        answers: dict[str, Callable[[], object]] = {
            "POST /claims": lambda: self.desk.make_claim(now_ms),
            "POST /orders": lambda: self.desk.order(body or {}, now_ms),
            "POST /revoke": lambda: self.key_desk.revoke(body or {}, now_ms),
            "POST /configure": lambda: self.desk.configure(body or {}, now_ms),
            "POST /preorder": lambda: parents.order_meal(body or {}, now_ms),
            "GET /settings": self.desk.settings,
            "GET /status": self.desk.status,
        }
        if parts.path == "/facts":
            place = (query["device"], query["stream"], query["epoch"])
            return 200, b"\n".join(self.desk.facts(*place, int(query["after"])))
        answer = answers[f"{method} {parts.path}"]()
        if isinstance(answer, Done):
            self.deliver(self.mischief.leaving(answer.outs, now_ms))
            answer = answer.answer
        return 200, json.dumps(answer).encode()

    def enrol(self, device: str, station: Station) -> Identity:
        folder = self.folder / device
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        self.desk.make_claim(self.now_ms, f"claim-{device}")
        done = self.desk.enrol(
            {
                "claim": f"claim-{device}",
                "device_id": device,
                "site_id": SITE,
                "station": station.value,
                "csr_pem": certificate_request(key, device),
            },
            self.now_ms,
        )
        self.deliver(self.mischief.leaving(done.outs, self.now_ms))
        identity = Identity(
            device=device,
            site=SITE,
            station=station,
            folder=folder,
            root_public=from_b64u(done.answer["root_public_b64u"]),
            root_document=done.answer["root_document"].encode(),
        )
        form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_secret(identity.key_path, key.private_bytes(*form))
        return identity

    def order(self, device: str, order: str, access_point: str) -> None:
        request = {"device": device, "order": order, "access_point": access_point}
        done = self.desk.order(request, self.now_ms)
        self.deliver(self.mischief.leaving(done.outs, self.now_ms))

    def revoke(self, device: str) -> None:
        done = self.key_desk.revoke({"device": device}, self.now_ms)
        self.deliver(self.mischief.leaving(done.outs, self.now_ms))

    def configure(self, device: str) -> None:
        done = self.desk.configure({"device": device, "values": {"health_s": 60}}, self.now_ms)
        self.deliver(self.mischief.leaving(done.outs, self.now_ms))

    def order_meal(self, cardholder: str, day: str, product: str) -> str | None:
        request = {"cardholder": cardholder, "date": day, "slot": "lunch", "lines": [[product, 1]]}
        done = ParentDesk(self.core, self.desk).order_meal(request, self.now_ms)
        self.deliver(self.mischief.leaving(done.outs, self.now_ms))
        return str(done.answer["preorder"])

    def online(self, device: str) -> bool:
        return any(
            found["online"] for found in self.desk.status()["devices"] if found["device"] == device
        )

    def facts(self, device: str, stream: Stream, epoch: str) -> list[bytes]:
        return self.core.store.facts(StreamKey(device=device, stream=stream, epoch=epoch), 0)

    def cast(self, report: Report, run: str = "check") -> Cast:
        """A till, an entrance, and a till to be revoked. Another run has other ones."""

        def player(device: str, station: Station) -> Player:
            identity = self.enrol(device, station)
            return Player(
                identity,
                MemoryLink(self, identity.subscriptions),
                report,
                patience_s=6.0,
                silence_s=0.3,
                clock_s=lambda: self.now_ms / 1000,
            )

        return Cast(
            main=player(f"{run}-till", Station.TILL),
            entrance=player(f"{run}-gate", Station.ENTRANCE),
            revoked=player(f"{run}-stolen", Station.TILL),
            inspector=self,
        )


class MemoryLink:
    """A device's connection to the world's broker."""

    def __init__(self, world: World, topics: tuple[str, ...]) -> None:
        self.topics = frozenset(topics)
        self.heard: deque[Message] = deque()
        self._world = world
        self.reopen()

    def now_ms(self) -> int:
        return self._world.now_ms

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._world.publish(topic, payload, retain=retain)

    def take(self, wait_s: float) -> Message | None:
        if not self.heard:
            self._world.advance(max(1, round(wait_s * 1000)) if wait_s > 0 else 0)
        return self.heard.popleft() if self.heard else None

    def reopen(self) -> None:
        self.close()
        self._world.links.append(self)
        for topic, payload in self._world.retained.items():
            if topic in self.topics:
                self.heard.append(Message(topic, payload, retained=True))

    def close(self) -> None:
        self.heard.clear()
        if self in self._world.links:
            self._world.links.remove(self)
