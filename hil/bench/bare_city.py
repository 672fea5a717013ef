"""A city that keeps no books: it greets, acknowledges what comes at once, and serves one list.

What a device can do is measured against it, for a city that posts and commits is slower than any
device. It signs with the keys of the town's city, in whose place it connects. It answers each
batch by itself and at once, over a client that is no heavier than the answer (`lean_mqtt.py`).
"""

from __future__ import annotations

import hashlib
import ssl
import time
from collections.abc import Sequence
from typing import Final

from edge.messages import (
    Ack,
    AnyPush,
    BatchHeader,
    Head,
    Hello,
    HighWater,
    Manifest,
    Pull,
    PushChunk,
    PushManifest,
    SignedWhat,
    VersionMark,
    Welcome,
    b64u,
    decode_json,
    encode_json,
    encode_pack,
)
from hil.bench.lean_mqtt import LeanClient
from hil.bench.town import SITE, Town
from hil.city.bridge import CLIENT_ID, SUBSCRIPTIONS, Endpoint
from hil.city.keys import CityKeys, city_client, open_keys, utc
from hil.city.lists import Out

HEAD_LIFE_MS: Final = 24 * 60 * 60 * 1000


class BareCity:
    """Entered and left; what it hears it hears in its bridge's thread."""

    def __init__(self, town: Town) -> None:
        now = utc(time.time_ns() // 1_000_000)
        self.keys: CityKeys = open_keys(town.city_folder, SITE, now)
        self.pushed_bytes = 0
        self.first_chunk_s: float | None = None
        self._up_to: dict[tuple[str, str, str], int] = {}
        self._list: tuple[Manifest, Sequence[bytes]] | None = None
        tls = ssl.create_default_context(cafile=str(self.keys.chain_path))
        tls.load_cert_chain(*city_client(self.keys, now))
        endpoint = Endpoint(host="127.0.0.1", port=town.broker_port, tls=tls)
        self._client = LeanClient(
            endpoint,
            client_id=CLIENT_ID,
            filters=tuple(topic for topic, _ in SUBSCRIPTIONS),
            answer=self._receive,
        )

    def __enter__(self) -> BareCity:
        self._client.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.__exit__()

    def serve(self, manifest: Manifest, chunks: Sequence[bytes]) -> None:
        """This list is the newest from now on; its head stands retained."""
        self._list = manifest, chunks
        now_ms = time.time_ns() // 1_000_000
        head = Head(
            scope=manifest.scope,
            version=manifest.version,
            snapshot_id=manifest.snapshot_id,
            snapshot_version=manifest.version,
            root=b64u(hashlib.sha256(b"".join(manifest.chunk_hashes)).digest()),
            set_digest=b64u(manifest.set_digest),
            issued_utc_ms=now_ms,
            valid_until_utc_ms=now_ms + HEAD_LIFE_MS,
        )
        lines = self.keys.signing["freshness"].sign_lines(SignedWhat.HEAD, encode_json(head))
        self._client.publish([Out(f"mk/v1/s/{manifest.scope}/head", lines, retain=True)])

    # ------------------------------------------------------------------------- helpers

    def _receive(self, topic: str, payload: bytes) -> list[Out]:
        _, _, rest = topic.partition("mk/v1/d/")
        device, _, kind = rest.partition("/")
        if kind.startswith("up/"):
            return [self._acknowledge(device, payload)]
        if kind == "hello":
            return [self._welcome(device, decode_json(Hello, payload))]
        if kind == "pull":
            return self._answer(device, decode_json(Pull, payload))
        return []

    def _welcome(self, device: str, hello: Hello) -> Out:
        waters = tuple(
            HighWater(
                stream=head.stream,
                epoch=head.epoch,
                up_to=self._up_to.get((device, head.stream, head.epoch), 0),
            )
            for head in hello.streams
        )
        wanted = {} if self._list is None else {self._list[0].scope: self._list[0].version}
        welcome = Welcome(
            device=device,
            nonce=hello.nonce,
            utc_ms=time.time_ns() // 1_000_000,
            high_water=waters,
            wanted=wanted,
        )
        key = self.keys.signing["freshness"]
        lines = key.sign_lines(SignedWhat.WELCOME, encode_json(welcome))
        return Out(f"mk/v1/d/{device}/welcome", lines)

    def _acknowledge(self, device: str, payload: bytes) -> Out:
        header = decode_json(BatchHeader, payload[: payload.index(b"\n")])
        key = (device, header.stream, header.epoch)
        if header.first <= self._up_to.get(key, 0) + 1:
            self._up_to[key] = max(self._up_to.get(key, 0), header.first + header.count - 1)
        ack = Ack(
            device=device, stream=header.stream, epoch=header.epoch, up_to=self._up_to.get(key, 0)
        )
        return Out(f"mk/v1/d/{device}/ack", encode_json(ack), qos=0)

    def _answer(self, device: str, pull: Pull) -> list[Out]:
        if self._list is None or pull.scope != self._list[0].scope:
            return []
        manifest, chunks = self._list
        pushes: list[AnyPush] = []
        if pull.snapshot_id == manifest.snapshot_id:
            if self.first_chunk_s is None:
                self.first_chunk_s = time.perf_counter()
            pushes += [
                PushChunk(
                    scope=pull.scope, snapshot_id=pull.snapshot_id, index=index, data=chunks[index]
                )
                for index in pull.chunks
            ]
        elif not pull.snapshot_id:
            key = self.keys.signing["list"]
            pushes.append(PushManifest(signed=key.sign(SignedWhat.MANIFEST, encode_pack(manifest))))
        outs = [Out(f"mk/v1/d/{device}/push", encode_pack(push)) for push in pushes]
        self.pushed_bytes += sum(len(out.payload) for out in outs)
        return outs


FAR: Final = VersionMark(1, 1_000_000)  # Above whatever the town's city has published.
