"""A client on the broker that is not the city: it hears all there is, and sends what it likes.

`Listener` only hears. `Rogue` has broken into the broker and may write everywhere; what it has not
is the city's signing keys, and where a test lends it one, the message is wrong in another way.
"""

from __future__ import annotations

import ssl
import threading
import time
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as mqtt
from msgspec import structs
from paho.mqtt.enums import CallbackAPIVersion

from edge.messages import (
    ROW_NUMBERS,
    AccountRow,
    Ack,
    Delta,
    Head,
    Manifest,
    PushChunk,
    PushManifest,
    Row,
    RowKind,
    SignedWhat,
    Stream,
    VersionMark,
    decode_json,
    decode_signed_lines,
    encode_json,
    encode_pack,
)
from hil.world.school import PURSE
from tests.process.school import (
    BROKER_PORT,
    GATE,
    ROGUE,
    SITE,
    TILL,
    WAIT_S,
    World,
    wait_until,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    topic: str
    payload: bytes


class Listener:
    """Connected and subscribed to everything when made."""

    def __init__(self, tls: ssl.SSLContext | None = None, *, topics: str = "#") -> None:
        self.heard: list[Heard] = []
        subscribed = threading.Event()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=ROGUE, protocol=mqtt.MQTTv311
        )
        if tls is not None:
            self._client.tls_set_context(tls)

        def on_message(_client: Any, _userdata: Any, message: mqtt.MQTTMessage) -> None:
            self.heard.append(Heard(topic=message.topic, payload=bytes(message.payload)))

        def on_subscribe(*_: Any) -> None:
            subscribed.set()

        self._client.on_message = on_message
        self._client.on_subscribe = on_subscribe
        self._client.connect("127.0.0.1", BROKER_PORT)
        self._client.loop_start()
        self._client.subscribe(topics, 1)
        assert subscribed.wait(WAIT_S)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def newest(self, topic: str) -> bytes:
        """The last payload on this topic, once there is one."""
        wait_until(lambda: self._on(topic), lambda: f"nothing on {topic}")
        return self._on(topic)[-1]

    def next_after(self, topic: str, before: bytes) -> bytes:
        """The payload on this topic when it is no longer this one."""
        wait_until(lambda: self.newest(topic) != before, lambda: f"nothing new on {topic}")
        return self.newest(topic)

    def publish(self, topic: str, payload: bytes) -> None:
        """At the broker when this returns."""
        self._client.publish(topic, payload, qos=1).wait_for_publish(WAIT_S)

    def _on(self, topic: str) -> list[bytes]:
        return [heard.payload for heard in self.heard if heard.topic == topic]


def rogue(world: World) -> Listener:
    """With its own certificate of the city's authority."""
    tls = ssl.create_default_context(cafile=str(world.keys.chain_path))
    tls.load_cert_chain(*world.rogue_files)
    return Listener(tls, topics="mk/v1/#")


def forgeries(world: World, listener: Listener, *, old_head: bytes) -> dict[str, set[str]]:
    """Send all of them; by device, under which words they must be refused.

    Lent keys sign the right thing at the wrong time, or the wrong thing: nothing here is a message
    that a city in its right mind would send.
    """
    people, money = f"{SITE}/people", f"{SITE}/money"
    lists, fresh = world.keys.signing["list"], world.keys.signing["freshness"]
    head = f"mk/v1/s/{people}/head"
    newest = decode_json(Head, decode_signed_lines(listener.newest(head)).payload)
    frozen = structs.replace(newest, valid_until_utc_ms=newest.issued_utc_ms - 1)
    beyond = structs.replace(newest, version=VersionMark(1, newest.version.number + 1))
    listener.publish(head, old_head)
    listener.publish(head, fresh.sign_lines(SignedWhat.HEAD, encode_json(frozen)))
    listener.publish(head, lists.sign_lines(SignedWhat.HEAD, encode_json(beyond)))  # Wrong role.
    refused = {"head_rollback", "head_frozen", "head_invalid"}

    stolen = listener.newest(f"mk/v1/s/{people}/delta")
    listener.publish(f"mk/v1/s/{people}/delta", stolen[:-1] + bytes([stolen[-1] ^ 1]))
    rich = _delta(world, money)
    signed = fresh.sign(SignedWhat.DELTA, encode_pack(rich))  # Not the key for lists.
    listener.publish(f"mk/v1/s/{money}/delta", encode_pack(signed))
    gone = structs.replace(
        rich, scope=people, base=VersionMark(0, 1), target=VersionMark(0, 2), upserts=()
    )
    signed = lists.sign(SignedWhat.DELTA, encode_pack(gone))
    listener.publish(f"mk/v1/s/{people}/delta", encode_pack(signed))
    refused |= {"delta_invalid", "delta_rollback"}

    manifest = Manifest(
        scope=people,
        version=VersionMark(0, 10_000),
        snapshot_id="0" * 32,
        chunk_hashes=(),
        rows=0,
        set_digest=bytes(32),
        issued_utc_ms=newest.issued_utc_ms,
        identifier_key_version=1,
        seal_key_version=1,
    )
    older = structs.replace(manifest, version=VersionMark(1, 1))
    chunk = PushChunk(scope=people, snapshot_id="0" * 32, index=0, data=b"nothing")
    for device in (GATE, TILL):
        push = f"mk/v1/d/{device}/push"
        for key in (lists, fresh):
            signed = key.sign(SignedWhat.MANIFEST, encode_pack(manifest))
            listener.publish(push, encode_pack(PushManifest(signed=signed)))
        signed = lists.sign(SignedWhat.MANIFEST, encode_pack(older))  # Nobody needs it: no word.
        listener.publish(push, encode_pack(PushManifest(signed=signed)))
        listener.publish(push, encode_pack(chunk))
        for topic in ("ack", "welcome", "push", "order"):
            listener.publish(f"mk/v1/d/{device}/{topic}", b"\xff\x00 not of this world")
        listener.publish(f"mk/v1/d/{device}/order", b"[" * 70_000)
        foreign = Ack(device=device, stream=Stream.MAIN, epoch="f" * 16, up_to=1_000_000)
        listener.publish(f"mk/v1/d/{device}/ack", encode_json(foreign))
    refused |= {"manifest_rollback", "chunk_wrong_snapshot", "message_oversize", "ack_epoch"}
    refused |= {f"{topic}_invalid" for topic in ("ack", "welcome", "push", "order")}
    return {GATE: refused, TILL: refused}


def _delta(world: World, scope: str) -> Delta:
    """A pupil with a million, one version ahead."""
    number = world.city.get("/status")["versions"][scope][1]
    body = AccountRow(
        suspended=False,
        balance_minor_by_purse={PURSE: 100_000_000},
        day_limit_minor=None,
        week_limit_minor=None,
        spent_date="",
        spent_day_minor=0,
        spent_week_minor=0,
        banned_products=(),
        banned_categories=(),
    )
    row = Row(
        ROW_NUMBERS[RowKind.ACCOUNT],
        world.school.accounts[0].account_id.encode(),
        encode_pack(body),
    )
    return Delta(
        scope=scope,
        base=VersionMark(1, number),
        target=VersionMark(1, number + 1),
        upserts=(row,),
        removes=(),
        set_digest=bytes(32),
        issued_utc_ms=time.time_ns() // 1_000_000,
    )
