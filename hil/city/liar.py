"""What a city with faults tells: welcomes, lists, keys and orders, changed on their way out.

`Liar.told` takes one message as the core made it and gives what is published in its place. A
change inside something signed is signed again with the city's own key, so that only a device that
thinks finds it; `signature` and `order-signature` spoil the signature alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from edge.messages import (
    SIGNING_ROLE,
    AnyPush,
    Delta,
    Head,
    Manifest,
    Order,
    PushChunk,
    PushDelta,
    PushKeys,
    PushManifest,
    SealedKeys,
    Signed,
    SignedWhat,
    VersionMark,
    Welcome,
    b64u,
    decode_json,
    decode_pack,
    decode_push,
    decode_signed_lines,
    encode_json,
    encode_pack,
    encode_signed_lines,
)
from hil.city.crypto import seal_key_to_device
from hil.city.faults import Fault, Faults
from hil.city.keys import CityKeys
from hil.city.lists import Out

LONG_AGO_MS: Final = 1_577_836_800_000  # 2020-01-01.


class Liar:
    """One site's. It remembers what it told, to repeat or to withhold it."""

    def __init__(
        self,
        keys: CityKeys,
        site: str,
        faults: Faults,
        key_of: Callable[[str], ec.EllipticCurvePublicKey],
    ) -> None:
        self._keys = keys
        self._site = site
        self._faults = faults
        self._key_of = key_of
        self._frozen: dict[str, Out] = {}
        self._heads: dict[str, list[Head]] = {}  # The last two versions of each scope.
        self._head_before: dict[str, Out] = {}
        self._delta_before: dict[str, Out] = {}
        self._deltas = 0

    def told(self, out: Out, leaf: str) -> list[Out]:
        """What leaves in the place of a message; `leaf` is the end of its topic."""
        if leaf == "welcome":
            return [out._replace(payload=self._welcome(out.payload))]
        if leaf == "head":
            told, before = self._head(out), self._head_before.get(out.topic)
            self._head_before[out.topic] = told
            if self._faults[Fault.HEAD_REPLAY] and before is not None:
                return [told, before._replace(retain=False)]
            return [told]
        if leaf == "delta":
            return self._delta(out)
        if leaf == "push":
            device = out.topic.split("/")[3]
            return self.pushed(device, [decode_push(out.payload)])
        if leaf == "order":
            return [self._order(out)]
        return [out]

    def pushed(self, device: str, pushes: Iterable[AnyPush]) -> list[Out]:
        """Pushes as they leave."""
        told: list[AnyPush] = []
        for push in pushes:
            told += self._push(push, device)
        return [Out(f"mk/v1/d/{device}/push", encode_pack(push)) for push in told]

    # --------------------------------------------------------------------- signed JSON

    def _welcome(self, lines: bytes) -> bytes:
        welcome, faults = decode_json(Welcome, decode_signed_lines(lines).payload), self._faults
        if faults[Fault.WELCOME_NONCE]:
            welcome = msgspec.structs.replace(welcome, nonce="somebody-elses")
        if faults[Fault.WELCOME_TIME]:
            welcome = msgspec.structs.replace(welcome, utc_ms=LONG_AGO_MS)
        if faults[Fault.WELCOME_MARKS]:
            welcome = msgspec.structs.replace(welcome, high_water=())
        if faults[Fault.WELCOME_DIGESTS]:
            bare = tuple(msgspec.structs.replace(mark, digest="") for mark in welcome.high_water)
            welcome = msgspec.structs.replace(welcome, high_water=bare)
        return self._lines(SignedWhat.WELCOME, encode_json(welcome))

    def _head(self, out: Out) -> Out:
        faults = self._faults
        head = decode_json(Head, decode_signed_lines(out.payload).payload)
        known = self._heads.setdefault(head.scope, [head])
        if head.version != known[-1].version:
            self._heads[head.scope] = known = [known[-1], head]
        if faults[Fault.FREEZE]:
            return self._frozen.setdefault(out.topic, out)
        if faults[Fault.ROLLBACK]:
            older = known[0]
            if older.version == head.version and head.version.number > 1:
                number = VersionMark(head.version.list_epoch, head.version.number - 1)
                older = msgspec.structs.replace(head, version=number)
            head = msgspec.structs.replace(older, issued_utc_ms=head.issued_utc_ms)
        if faults[Fault.HEAD_STALE]:
            head = msgspec.structs.replace(head, valid_until_utc_ms=LONG_AGO_MS)
        if faults[Fault.EPOCH_UNROOTED]:
            number = VersionMark(head.version.list_epoch + 1, head.version.number)
            head = msgspec.structs.replace(head, version=number)
        if faults[Fault.MIX]:
            head = msgspec.structs.replace(head, root=b64u(bytes(32)))
        if faults[Fault.SET_DIGEST]:
            head = msgspec.structs.replace(head, set_digest=b64u(bytes(32)))
        retain = out.retain and not faults[Fault.HEAD_PASSING]
        return Out(out.topic, self._lines(SignedWhat.HEAD, encode_json(head)), out.qos, retain)

    def _order(self, out: Out) -> Out:
        faults = self._faults
        order = decode_json(Order, decode_signed_lines(out.payload).payload)
        if faults[Fault.ORDER_COUNTER]:
            order = msgspec.structs.replace(order, counter=1)
        signed = self._sign(SignedWhat.ORDER, encode_json(order))
        if faults[Fault.ORDER_SIGNATURE]:
            signed = _spoiled(signed)
        lines = encode_signed_lines(signed.payload, signed.key_id, signed.signature)
        return Out(out.topic, lines, out.qos, out.retain or bool(faults[Fault.ORDER_RETAINED]))

    def _lines(self, what: SignedWhat, payload: bytes) -> bytes:
        signed = self._sign(what, payload)
        if self._faults[Fault.SIGNATURE]:
            signed = _spoiled(signed)
        return encode_signed_lines(signed.payload, signed.key_id, signed.signature)

    def _sign(self, what: SignedWhat, payload: bytes) -> Signed:
        return self._keys.signing[SIGNING_ROLE[what]].sign(what, payload)

    # -------------------------------------------------------------------- MessagePack

    def _delta(self, out: Out) -> list[Out]:
        faults = self._faults
        told = Out(out.topic, encode_pack(self._signed_delta(decode_pack(Signed, out.payload))))
        before = self._delta_before.get(out.topic)
        self._delta_before[out.topic] = told
        self._deltas += 1
        if faults[Fault.DELTA_GAP] and self._deltas % 2 == 0:
            return []
        return [told, before] if faults[Fault.DELTA_REPLAY] and before is not None else [told]

    def _signed_delta(self, signed: Signed) -> Signed:
        delta, faults = decode_pack(Delta, signed.payload), self._faults
        if faults[Fault.DELTA_BASE]:
            base = VersionMark(delta.base.list_epoch, delta.base.number - 1)
            delta = msgspec.structs.replace(delta, base=base)
        if faults[Fault.SET_DIGEST]:
            delta = msgspec.structs.replace(delta, set_digest=bytes(32))
        if faults[Fault.DELTA_LOSSY]:
            delta = msgspec.structs.replace(delta, upserts=delta.upserts[:-1])
        if faults[Fault.SCOPE]:
            delta = msgspec.structs.replace(delta, scope=self._other(delta.scope))
        if faults[Fault.VECTOR_MISSING]:
            delta = msgspec.structs.replace(delta, vector=())
        return self._repacked(SignedWhat.DELTA, encode_pack(delta))

    def _push(self, push: AnyPush, device: str) -> list[AnyPush]:
        faults = self._faults
        if isinstance(push, PushDelta):
            return [PushDelta(signed=self._signed_delta(push.signed))]
        if isinstance(push, PushManifest):
            return [PushManifest(signed=self._signed_manifest(push.signed))]
        if isinstance(push, PushKeys):
            return [self._keys_told(push, device)]
        if not isinstance(push, PushChunk):
            return [push]
        data = push.data
        if faults[Fault.CHUNK_TRUNCATED]:
            data = data[: len(data) // 2]
        if faults[Fault.CHUNK_BIG]:
            data = data.ljust(faults[Fault.CHUNK_BIG], b"\0")
        told: list[AnyPush] = [msgspec.structs.replace(push, data=data)]
        if faults[Fault.CHUNK_OTHER]:
            told.append(
                PushChunk(
                    scope=push.scope, snapshot_id=push.snapshot_id, index=push.index + 1, data=data
                )
            )
        return told

    def _signed_manifest(self, signed: Signed) -> Signed:
        manifest, faults = decode_pack(Manifest, signed.payload), self._faults
        if faults[Fault.SET_DIGEST]:
            manifest = msgspec.structs.replace(manifest, set_digest=bytes(32))
        if faults[Fault.SCOPE]:
            manifest = msgspec.structs.replace(manifest, scope=self._other(manifest.scope))
        if faults[Fault.VECTOR_MISSING]:
            manifest = msgspec.structs.replace(manifest, vector=())
        return self._repacked(SignedWhat.MANIFEST, encode_pack(manifest))

    def _keys_told(self, push: PushKeys, device: str) -> PushKeys:
        """Keys for somebody else, or a seal key that is not the names'."""
        reader = ec.generate_private_key(ec.SECP256R1()).public_key()
        if not self._faults[Fault.KEYS_OTHER]:
            reader = self._key_of(device)
        keys, told = decode_pack(SealedKeys, push.signed.payload), []
        others, seals = self._faults[Fault.KEYS_OTHER], self._faults[Fault.SEAL_OTHER]
        for key in keys.keys:
            if others or (seals and key.purpose == "seal"):
                data = seal_key_to_device(
                    bytes(32), reader, scope=key.scope, purpose=key.purpose, version=key.version
                )
                key = msgspec.structs.replace(key, sealed=data)
            told.append(key)
        keys = msgspec.structs.replace(keys, keys=tuple(told))
        return PushKeys(signed=self._repacked(SignedWhat.KEYS, encode_pack(keys)))

    def _repacked(self, what: SignedWhat, payload: bytes) -> Signed:
        signed = self._sign(what, payload)
        return _spoiled(signed) if self._faults[Fault.SIGNATURE] else signed

    def _other(self, scope: str) -> str:
        return f"{self._site}/menu" if not scope.endswith("/menu") else f"{self._site}/people"


def _spoiled(signed: Signed) -> Signed:
    flipped = bytes([signed.signature[0] ^ 1]) + signed.signature[1:]
    return Signed(signed.payload, signed.key_id, flipped)
