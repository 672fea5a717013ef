"""A sham device for the city's tests: makes facts and batches, checks and applies what comes down.

Written against WIRE and `edge/messages.py`, with nothing of the product's and none of the city's
own list code: what it accepts, a device should.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import zstandard
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from edge.messages import (
    CHUNK_ROWS_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    AccessFact,
    Ack,
    BatchHeader,
    CloseOut,
    CloseRange,
    Delta,
    Fact,
    Gap,
    Head,
    Manifest,
    PassageFact,
    Posting,
    Pull,
    PushChunk,
    PushDelta,
    PushManifest,
    Refund,
    Root,
    Row,
    SaleFact,
    SaleLine,
    Signed,
    SignedWhat,
    Stream,
    StreamOpened,
    TenderPart,
    VectorEntry,
    VersionMark,
    Void,
    b64u,
    decode_fact,
    decode_json,
    decode_pack,
    decode_push,
    decode_signed_lines,
    digest_of,
    encode_batch,
    encode_fact,
    encode_json,
    from_b64u,
    set_digest,
    set_digest_bytes,
    signing_input,
)
from edge.model import (
    AccessReason,
    ClockQuality,
    Direction,
    Outcome,
    PassageResult,
    Station,
    Tender,
)
from hil.city.desk import Desk
from hil.city.intake import CityCore
from hil.city.keys import CityKeys, open_keys
from hil.city.lists import Out
from hil.city.seed import seed_school
from hil.city.store import Store
from hil.world.school import School, make_school

NOON_MS = 1_757_408_400_000  # Tuesday 2025-09-09, 12:00 in Moscow.
TODAY = "2025-09-09"
SITE = "s0001"
EPOCH = "00000000000000e1"
MARK = VersionMark(1, 1)
T = TypeVar("T")


@cache
def small_school() -> School:
    return make_school(7, SITE, pupils=24)


def make_core(folder: Path, *, gather_ms: int = 0, path: Path | str = ":memory:") -> CityCore:
    keys = city_keys(folder)
    core = CityCore(Store(path), keys, gather_ms=gather_ms)
    seed_school(core, small_school(), NOON_MS)
    core.start(NOON_MS)
    return core


@cache
def city_keys(folder: Path) -> CityKeys:
    return open_keys(folder, SITE, datetime.fromtimestamp(NOON_MS / 1000, UTC))


def make_request(key: ec.EllipticCurvePrivateKey, name: str = "whatever") -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return request.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


class Sham:
    """One device, enrolled when made."""

    def __init__(self, core: CityCore, device: str, station: Station = Station.TILL) -> None:
        self.core = core
        self.device = device
        self.key = ec.generate_private_key(ec.SECP256R1())
        desk = Desk(core, ("mqtt://127.0.0.1:1883",))
        claim = f"claim-{device}"
        desk.make_claim(NOON_MS, claim)
        self.answer = desk.enrol(
            {
                "claim": claim,
                "device_id": device,
                "site_id": SITE,
                "station": station.value,
                "csr_pem": make_request(self.key),
            },
            NOON_MS,
        ).answer
        self.facts: list[bytes] = []
        self.epoch = EPOCH
        self.stream = Stream.MAIN

    # ------------------------------------------------------------------------------- facts

    def base(self, **changes: Any) -> dict[str, Any]:
        """What all facts carry; the next of the chain."""
        return {
            "device": self.device,
            "site": SITE,
            "stream": self.stream,
            "epoch": self.epoch,
            "sequence": len(self.facts) + 1,
            "previous": digest_of(self.facts[-1]) if self.facts else "",
            "boot": "boot-1",
            "mono_ms": 1000 + len(self.facts),
            "wall_ms": NOON_MS,
            "clock": ClockQuality.NTP,
            **changes,
        }

    def record(self, fact: Fact | bytes) -> bytes:
        self.facts.append(fact if isinstance(fact, bytes) else encode_fact(fact))
        return self.facts[-1]

    def opened(self) -> bytes:
        fact = StreamOpened(why="new_store", software="sham", station=Station.TILL, **self.base())
        return self.record(fact)

    def passage(
        self,
        result: PassageResult = PassageResult.TAKEN,
        *,
        cardholder: str | None = f"{SITE}c0001",
        direction: Direction = Direction.IN,
        **changes: Any,
    ) -> bytes:
        fact = PassageFact(
            access_point="north-in",
            zone="school",
            direction=direction,
            result=result,
            passage=None,
            cardholder=cardholder,
            **self.base(**changes),
        )
        return self.record(fact)

    def access(self, outcome: Outcome = Outcome.GRANT, **changes: Any) -> bytes:
        fact = AccessFact(
            access_point="north-in",
            zone="school",
            direction=Direction.IN,
            reader="north-in",
            tier=1,
            credential="c" * 22,
            cardholder=f"{SITE}c0001",
            outcome=outcome,
            reason=AccessReason.AUTHORIZED,
            caveats=(),
            people=MARK,
            list_age_s=5,
            read_age_ms=20,
            **self.base(**changes),
        )
        return self.record(fact)

    def sale(self, number: int = 1, price_minor: int = 85_00, **changes: Any) -> bytes:
        return self.record(self.make_sale(number, price_minor, **changes))

    def make_sale(self, number: int = 1, price_minor: int = 85_00, **changes: Any) -> SaleFact:
        """A soup for pupil `number`; `changes` spoil it."""
        account = f"{SITE}a{number:04d}"
        total = price_minor
        fields = {
            "account": account,
            "cardholder": f"{SITE}c{number:04d}",
            "credential": "c" * 22,
            "tier": 1,
            "reader": "till",
            "lines": (
                SaleLine(product="soup-1", category="soup", quantity=1, price_minor=price_minor),
            ),
            "total_minor": total,
            "tender": Tender.ACCOUNT,
            "postings": (
                Posting(account=account, purse="main", amount_minor=-total),
                Posting(account=f"sales:{SITE}", purse="main", amount_minor=total),
            ),
            "business_date": TODAY,
            "people": MARK,
            "money": MARK,
            "menu": MARK,
            "caveats": (),
        }
        return SaleFact(**{**self.base(), **fields, **changes})

    def add(self, kind: type[Fact], **fields: Any) -> bytes:
        """The next fact, of any kind; `fields` may change what all facts carry."""
        return self.record(kind(**{**self.base(), **fields}))

    def closed_out(self, number: int = 1, **changes: Any) -> bytes:
        """A close-out over the whole epoch so far, as an honest till would write it."""
        return self.add(CloseOut, **{**honest_close_out(self, number), **changes})

    # ----------------------------------------------------------------------------- sending

    def batch(self, first: int, last: int, gap: Gap | None = None) -> bytes:
        facts = self.facts[first - 1 : last]
        digest = digest_of(facts[-1]) if facts else (gap.digest if gap else "")
        header = BatchHeader(
            device=self.device,
            stream=self.stream,
            epoch=self.epoch,
            first=first,
            count=len(facts),
            digest=digest,
            gap=gap,
        )
        return encode_batch(header, facts)

    def send(self, first: int, last: int, gap: Gap | None = None, *, now_ms: int = NOON_MS) -> Ack:
        return self.send_bytes(self.batch(first, last, gap), now_ms=now_ms)

    def send_bytes(self, payload: bytes, *, now_ms: int = NOON_MS) -> Ack:
        topic = f"mk/v1/d/{self.device}/up/{self.stream}"
        outs = self.core.receive(topic, payload, now_ms)
        acks = [out for out in outs if out.topic == f"mk/v1/d/{self.device}/ack"]
        assert len(acks) == 1
        return decode_json(Ack, acks[0].payload)

    def send_all(self, *, now_ms: int = NOON_MS) -> Ack:
        return self.send(1, len(self.facts), now_ms=now_ms)

    # ------------------------------------------------------------------------------- lists

    def root(self) -> Root:
        signed = decode_signed_lines(str(self.answer["root_document"]).encode())
        public = from_b64u(str(self.answer["root_public_b64u"]))
        Ed25519PublicKey.from_public_bytes(public).verify(
            signed.signature, signing_input(SignedWhat.ROOT, signed.payload)
        )
        return decode_json(Root, signed.payload)

    def verify(self, what: SignedWhat, role: str, signed: Signed) -> bytes:
        key = next(key for key in self.root().keys if key.key_id == signed.key_id)
        assert key.role == role
        Ed25519PublicKey.from_public_bytes(from_b64u(key.public)).verify(
            signed.signature, signing_input(what, signed.payload)
        )
        return signed.payload

    def pull(self, scope: str, **fields: Any) -> list[Out]:
        request = Pull(device=self.device, scope=scope, **fields)
        return self.core.receive(f"mk/v1/d/{self.device}/pull", encode_json(request), NOON_MS)


def honest_close_out(till: Sham, number: int) -> dict[str, Any]:
    facts = [decode_fact(data) for data in till.facts]
    sales = {fact.sequence: fact for fact in facts if isinstance(fact, SaleFact)}
    totals: Counter[str] = Counter()
    voids: Counter[str] = Counter()
    overrides: Counter[str] = Counter()
    refunded: Counter[str] = Counter()
    for fact in facts:
        if isinstance(fact, SaleFact):
            for part in _parts(fact):
                totals[part.tender.value] += part.amount_minor
            overrides[fact.cashier] += bool(fact.supervisor)
        elif isinstance(fact, Refund):
            for part in fact.tenders:
                refunded[part.tender.value] += part.amount_minor
        elif isinstance(fact, Void):
            voids[fact.cashier] += 1
            sale = sales.pop(fact.sale, None)
            for part in () if sale is None else _parts(sale):
                totals[part.tender.value] -= part.amount_minor
    kinds = Counter(str(fact.__struct_config__.tag) for fact in facts)
    return {
        "number": number,
        "ranges": (CloseRange(epoch=till.epoch, first=1, last=len(facts)),),
        "total_minor_by_tender": dict(totals),
        "count_by_kind": dict(kinds),
        "voids_by_cashier": dict(voids),
        "overrides_by_cashier": dict(overrides),
        "refunded_minor_by_tender": dict(refunded),
        "unsent": 0,
        "business_date": TODAY,
        "cashier": f"{SITE}c9003",
    }


def _parts(sale: SaleFact) -> tuple[TenderPart, ...]:
    return sale.tenders or (TenderPart(tender=sale.tender, amount_minor=sale.total_minor),)


class Picture:
    """A scope as a device holds it: filled from a snapshot, moved by deltas, proved by heads."""

    def __init__(self, sham: Sham, scope: str) -> None:
        self._sham = sham
        self.scope = scope
        self.version: VersionMark | None = None
        self.rows: dict[tuple[int, bytes], bytes] = {}
        self.vector: tuple[VectorEntry, ...] = ()

    @property
    def digest(self) -> bytes:
        rows = [Row(kind, key, body) for (kind, key), body in self.rows.items()]
        return set_digest_bytes(set_digest(rows))

    def hear(self, outs: list[Out]) -> None:
        """What the broker would bring of this scope."""
        for out in outs:
            assert len(out.payload) <= MESSAGE_BYTES_MAX
            if out.topic == f"mk/v1/s/{self.scope}/delta":
                self.apply(decode_pack(Signed, out.payload))
            elif out.topic == f"mk/v1/s/{self.scope}/head":
                assert out.retain
                self.check(out.payload)

    def fetch(self) -> None:
        """From nothing, or from what is held, to the head: pull until there is no more."""
        for _ in range(10):
            outs = self._sham.pull(self.scope, have=self.version)
            pushes = [decode_push(out.payload) for out in outs if out.topic.endswith("/push")]
            if not pushes:
                return
            for push in pushes:
                if isinstance(push, PushManifest):
                    self._load(push)
                else:
                    assert isinstance(push, PushDelta)
                    self.apply(push.signed)
        raise AssertionError("pulling does not come to an end")

    def _load(self, push: PushManifest) -> None:
        payload = self._sham.verify(SignedWhat.MANIFEST, "list", push.signed)
        manifest = decode_pack(Manifest, payload)
        rows: list[Row] = []
        for index, wanted in enumerate(manifest.chunk_hashes):
            outs = self._sham.pull(self.scope, snapshot_id=manifest.snapshot_id, chunks=(index,))
            chunk = decode_push(outs[0].payload)
            assert isinstance(chunk, PushChunk) and chunk.index == index
            assert hashlib.sha256(chunk.data).digest() == wanted
            raw = zstandard.ZstdDecompressor().decompress(
                chunk.data, max_output_size=CHUNK_ROWS_BYTES_MAX
            )
            rows += decode_pack(list[Row], raw, size_max=CHUNK_ROWS_BYTES_MAX)
        assert rows == sorted(rows, key=lambda row: (row.kind, row.key))
        assert len(rows) == manifest.rows
        self.rows = {(row.kind, row.key): row.body for row in rows}
        self.version, self.vector = manifest.version, manifest.vector
        assert self.digest == manifest.set_digest

    def apply(self, signed: Signed) -> None:
        delta = decode_pack(Delta, self._sham.verify(SignedWhat.DELTA, "list", signed))
        assert delta.scope == self.scope and delta.base == self.version
        for row in delta.upserts:
            self.rows[row.kind, row.key] = row.body
        for key in delta.removes:
            del self.rows[key.kind, key.key]
        self.version, self.vector = delta.target, delta.vector
        assert self.digest == delta.set_digest

    def check(self, lines: bytes) -> Head:
        payload = self._sham.verify(SignedWhat.HEAD, "freshness", decode_signed_lines(lines))
        head = decode_json(Head, payload)
        if self.version == head.version:
            assert head.set_digest == b64u(self.digest)
        return head

    def body(self, kind: int, key: str | bytes, form: type[T]) -> T:
        raw = key.encode() if isinstance(key, str) else key
        return decode_pack(form, self.rows[kind, raw])
