"""Messages to bytes and back: canonical, bounded, and checked. Pure.

Every decoder here takes a size limit and raises `CorruptData` with what was found; nothing else
escapes. Signatures and keys are `edge/trust.py`'s business, topics `sync/topics.py`'s."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from edge.messages.batches import BatchHeader
from edge.messages.facts import Fact, Restates
from edge.messages.kinds import AnyFact, FactKey
from edge.messages.lane_facts import SideFact
from edge.messages.lists import AnyPush, Signed
from edge.messages.orders import SignatureLine, SignedWhat
from edge.messages.peers import PeerKind, SideRange
from edge.messages.rows import ROW_BODIES, Row, RowBody
from edge.messages.wire import (
    BATCH_ROWS_MAX,
    CHUNK_BYTES_MAX,
    DIGEST_BYTES,
    FACT_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    RESTATES_BYTES_MAX,
    WIRE_VERSION,
    Stream,
)
from edge.model import CorruptData

T = TypeVar("T")
_FACT_DECODER: Final[msgspec.json.Decoder[AnyFact]] = msgspec.json.Decoder(AnyFact)
_FACT_KEY_DECODER: Final = msgspec.json.Decoder(FactKey)
_PUSH_DECODER: Final[msgspec.msgpack.Decoder[AnyPush]] = msgspec.msgpack.Decoder(AnyPush)
_JSON_ENCODER: Final = msgspec.json.Encoder()
_PACK_ENCODER: Final = msgspec.msgpack.Encoder()


def b64u(data: bytes) -> str:
    """base64url without padding, as ids, digests and keys stand in JSON."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def from_b64u(text: str) -> bytes:
    """The bytes behind `b64u`; `CorruptData` when it is not such text."""
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError as error:
        raise CorruptData(f"not base64url: {len(text)} characters") from error
    if b64u(data) != text:  # The decoder drops what it does not know, and spare bits.
        raise CorruptData(f"not base64url as written here: {len(text)} characters")
    return data


def digest_of(fact: bytes) -> str:
    """A fact's digest, as the next one carries it in `previous`."""
    return b64u(hashlib.sha256(fact).digest())


def encode_json(value: Struct) -> bytes:
    return _JSON_ENCODER.encode(value)


def encode_pack(value: Any) -> bytes:
    return _PACK_ENCODER.encode(value)


def encode_fact(fact: Fact) -> bytes:
    """The canonical bytes: made once, in the tap's transaction."""
    data = _JSON_ENCODER.encode(fact)
    bytes_max = RESTATES_BYTES_MAX if isinstance(fact, Restates) else FACT_BYTES_MAX
    assert len(data) <= bytes_max, "a fact is bounded by what its kind may hold"
    return data


def decode_fact(data: bytes) -> AnyFact:
    """A fact of a known kind, or `CorruptData`."""
    if len(data) > RESTATES_BYTES_MAX:  # The largest kind's.
        raise CorruptData(f"a fact of {len(data)} bytes, more than {RESTATES_BYTES_MAX}")
    try:
        return _FACT_DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptData(f"not a fact of version {WIRE_VERSION}: {error}") from error


def decode_fact_key(data: bytes) -> FactKey:
    """The key of any fact, also of a kind of a later version."""
    if len(data) > RESTATES_BYTES_MAX:  # The largest kind's.
        raise CorruptData(f"a fact of {len(data)} bytes, more than {RESTATES_BYTES_MAX}")
    try:
        return _FACT_KEY_DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptData(f"no fact at all: {error}") from error


def decode_json(kind: type[T], data: bytes, *, size_max: int = MESSAGE_BYTES_MAX) -> T:
    if len(data) > size_max:
        raise CorruptData(f"{kind.__name__}: {len(data)} bytes, more than {size_max}")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptData(f"{kind.__name__}: {error}") from error


def decode_pack(kind: type[T], data: bytes, *, size_max: int = MESSAGE_BYTES_MAX) -> T:
    if len(data) > size_max:
        raise CorruptData(f"{kind.__name__}: {len(data)} bytes, more than {size_max}")
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptData(f"{kind.__name__}: {error}") from error


def decode_push(data: bytes) -> AnyPush:
    if len(data) > MESSAGE_BYTES_MAX:
        raise CorruptData(f"push: {len(data)} bytes, more than {MESSAGE_BYTES_MAX}")
    try:
        return _PUSH_DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptData(f"push: {error}") from error


def encode_batch(header: BatchHeader, facts: Sequence[bytes]) -> bytes:
    """Lines: the header, then the facts' bytes untouched."""
    assert header.count == len(facts)
    return b"\n".join((_JSON_ENCODER.encode(header), *facts))


def decode_batch(data: bytes) -> tuple[BatchHeader, list[bytes]]:
    """Header and facts' bytes. Checks counts, numbering and the chain inside the batch."""
    if len(data) > MESSAGE_BYTES_MAX:
        raise CorruptData(f"batch: {len(data)} bytes, more than {MESSAGE_BYTES_MAX}")
    first_line, *facts = data.split(b"\n")
    header = decode_json(BatchHeader, first_line)
    if header.count != len(facts) or header.count > BATCH_ROWS_MAX or header.first < 1:
        raise CorruptData(f"batch: {len(facts)} facts from {header.first}, said {header.count}")
    if header.gap is not None and header.first != header.gap.target + 1:
        raise CorruptData(f"batch: rows from {header.first} behind a gap to {header.gap.target}")
    previous = header.gap.digest if header.gap is not None else None
    for sequence, fact in enumerate(facts, start=header.first):
        key = decode_fact_key(fact)
        mine = (header.device, header.stream, header.epoch, sequence)
        if (key.device, key.stream, key.epoch, key.sequence) != mine:
            raise CorruptData(f"batch: a fact of {key.stream} {key.sequence} in place {sequence}")
        if previous is not None and key.previous != previous:
            raise CorruptData(f"batch: the chain breaks before {sequence}")
        previous = digest_of(fact)
    if previous != header.digest:
        raise CorruptData("batch: its digest is not that of its last fact")
    return header, facts


def signing_input(what: SignedWhat, payload: bytes) -> bytes:
    """The bytes an Ed25519 signature is made over."""
    return b"moskvenok/v1/" + what.value.encode() + b"\n" + payload


def encode_signed_lines(payload: bytes, key_id: str, signature: bytes) -> bytes:
    """A signed JSON message: the payload's line, then the signature's."""
    assert b"\n" not in payload
    line = SignatureLine(key_id=key_id, signature=b64u(signature))
    return payload + b"\n" + _JSON_ENCODER.encode(line)


def decode_signed_lines(data: bytes, *, size_max: int = MESSAGE_BYTES_MAX) -> Signed:
    """The two lines apart; nothing is verified here."""
    if len(data) > size_max:
        raise CorruptData(f"signed message: {len(data)} bytes, more than {size_max}")
    payload, mark, rest = data.partition(b"\n")
    if not mark:
        raise CorruptData("signed message: no signature line")
    line = decode_json(SignatureLine, rest)
    return Signed(payload, line.key_id, from_b64u(line.signature))


def peer_signing_input(kind: PeerKind, payload: bytes) -> bytes:
    """The bytes a device signs with its own key (ECDSA, P-256, SHA-256) for its peers."""
    return b"moskvenok/v1/peer/" + kind.value.encode() + b"\n" + payload


def encode_peer(payload: bytes, device: str, signature: bytes) -> bytes:
    """A peer's message: the payload's lines, then the signature's."""
    line = SignatureLine(key_id=device, signature=b64u(signature))
    return payload + b"\n" + _JSON_ENCODER.encode(line)


def decode_peer(data: bytes) -> Signed:
    """Payload and signature apart; nothing is verified here."""
    if len(data) > MESSAGE_BYTES_MAX:
        raise CorruptData(f"peer message: {len(data)} bytes, more than {MESSAGE_BYTES_MAX}")
    payload, mark, last = data.rpartition(b"\n")
    if not mark:
        raise CorruptData("peer message: no signature line")
    line = decode_json(SignatureLine, last)
    return Signed(payload, line.key_id, from_b64u(line.signature))


def encode_sides(header: SideRange, facts: Sequence[bytes]) -> bytes:
    """Lines: the header, then the facts' bytes untouched."""
    assert header.count == len(facts)
    return b"\n".join((_JSON_ENCODER.encode(header), *facts))


def decode_sides(data: bytes) -> tuple[SideRange, list[SideFact]]:
    """Header and facts, which are of this device and epoch and stand in order in the range."""
    first_line, *lines = data.split(b"\n")
    header = decode_json(SideRange, first_line)
    if header.count != len(lines) or header.count > BATCH_ROWS_MAX:
        raise CorruptData(f"sides: {len(lines)} facts, said {header.count}")
    if not 0 <= header.after <= header.up_to:
        raise CorruptData(f"sides: from {header.after} to {header.up_to}")
    facts: list[SideFact] = []
    last = header.after
    for line in lines:
        fact = decode_fact(line)
        mine = (header.device, Stream.MAIN, header.epoch)
        if not isinstance(fact, SideFact) or (fact.device, fact.stream, fact.epoch) != mine:
            raise CorruptData("sides: a fact that moves nobody, or of another device or epoch")
        if not last < fact.sequence <= header.up_to:
            raise CorruptData(f"sides: fact {fact.sequence} behind {last} up to {header.up_to}")
        last = fact.sequence
        facts.append(fact)
    return header, facts


def row_hash(row: Row) -> int:
    """A row's share of the set digest, as a number below 2**256."""
    head = bytes([row.kind]) + len(row.key).to_bytes(2, "big")
    return int.from_bytes(hashlib.sha256(head + row.key + row.body).digest(), "big")


SET_DIGEST_MODULUS: Final = 1 << (8 * DIGEST_BYTES)


def set_digest(rows: Iterable[Row]) -> int:
    """Order-free: the sum of the row hashes modulo 2**256."""
    total = 0
    for row in rows:
        total += row_hash(row)
    return total % SET_DIGEST_MODULUS


def set_digest_bytes(total: int) -> bytes:
    return total.to_bytes(DIGEST_BYTES, "big")


def decode_body(row: Row) -> RowBody:
    """A row's body by its kind; `CorruptData` for a kind or body that does not decode."""
    kind = ROW_BODIES.get(row.kind)
    if kind is None:
        raise CorruptData(f"a row of unknown kind {row.kind}")
    return decode_pack(kind, row.body, size_max=CHUNK_BYTES_MAX)
