"""The lists of one scenario, packed and sealed as a city does it, and put in force as sync does.

A change of a list is its next version as a whole; how a delta is taken is shown elsewhere.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
import zstandard
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from edge.messages import (
    ROW_NUMBERS,
    AdmissionRow,
    CardholderRow,
    CredentialRow,
    HotRow,
    Manifest,
    RosterRow,
    Row,
    RowBody,
    RowKind,
    ScheduleRow,
    ScopeKey,
    SiteRow,
    StaffRow,
    VersionMark,
    encode_pack,
    from_b64u,
    set_digest,
    set_digest_bytes,
)
from edge.model import MINUTES_PER_WEEK, Moment, PassbackMode, Station, UidKind
from edge.offline_cache.apply import Pictures, SnapshotBuilder, store_scope_keys
from edge.offline_cache.store import Writer
from edge.pin import hash_pin
from edge.settings import DeviceSettings
from edge.trust import BOX_INFO, credential_id
from hil.scenarios.script import Person, Script

SITE: Final = "s0001"
ZONE: Final = "school"
MUSEUM: Final = "city/museum"
PEOPLE, SETTINGS = f"{SITE}/people", f"{SITE}/settings"


def uid_of(card: str) -> bytes:
    """The number of a card, seven bytes as chips of NXP have them."""
    return b"\x04" + hashlib.sha256(card.encode()).digest()[:6]


def key_of(purpose: str, scope: str) -> bytes:
    return hashlib.sha256(f"scenario {purpose} {scope}".encode()).digest()


def card_key(card: str, scope: str = PEOPLE) -> bytes:
    identifier = credential_id(key_of("identifier", scope), UidKind.ISO14443, uid_of(card))
    return from_b64u(identifier)


def sealed(text: str, *, row_key: bytes, column: str) -> bytes:
    """A personal column of a row of people: version, nonce, AES-256-GCM bound to its place."""
    nonce = secrets.token_bytes(12)
    place = b"\0".join((PEOPLE.encode(), row_key, column.encode()))
    return b"\x01" + nonce + AESGCM(key_of("seal", PEOPLE)).encrypt(nonce, text.encode(), place)


@dataclass
class Town:
    """All rows of one scenario as they are now."""

    script: Script
    roster: Mapping[str, Station]
    people: dict[str, Person] = field(default_factory=dict)
    site: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.people = {person.name: person for person in self.script.people}
        self.site = dict(self.script.site)

    def change(self, people: Iterable[Person], site: Mapping[str, Any]) -> None:
        self.people |= {person.name: person for person in people}
        self.site |= site

    def block(self, names: Mapping[str, str]) -> None:
        """Person -> why; from here on every card of theirs is on the hot list."""
        for name, why in names.items():
            self.people[name] = replace(self.people[name], hot=why)

    def rows(self, scope: str) -> list[Row]:
        listed = {
            SETTINGS: self._settings_rows,
            PEOPLE: self._people_rows,
            MUSEUM: self._museum_rows,
        }[scope]()
        packed = [Row(ROW_NUMBERS[kind], key, encode_pack(body)) for kind, key, body in listed]
        return sorted(packed, key=lambda row: (row.kind, row.key))

    def _settings_rows(self) -> list[tuple[RowKind, bytes, RowBody]]:
        site = SiteRow(
            time_zone=self.script.zone,
            currency="RUB",
            floor_limit_minor=30_000,
            list_age_amber_s=86_400,
            list_age_refer_s=604_800,
            passback_mode=PassbackMode.SOFT,
            passback_window_s=300,
            base_age_days_max=3,
        )
        always = ScheduleRow(windows=((0, MINUTES_PER_WEEK),))
        schedules = {"always": always, **self.script.schedules}
        return [
            (RowKind.SITE, b"site", msgspec.structs.replace(site, **self.site)),
            *((RowKind.SCHEDULE, name.encode(), row) for name, row in schedules.items()),
            *(
                (RowKind.ROSTER, name.encode(), RosterRow(what))
                for name, what in self.roster.items()
            ),
        ]

    def _people_rows(self) -> list[tuple[RowKind, bytes, RowBody]]:
        found: list[tuple[RowKind, bytes, RowBody]] = []
        for person in self.people.values():
            key = person.name.encode()
            relations = {
                ward: sealed("мама", row_key=key, column=f"relation/{ward}")
                for ward in person.wards
            }
            row = CardholderRow(
                category=person.category,
                account_id=None,
                suspended=person.suspended,
                here=person.here,
                rights={ZONE: person.schedule} if person.schedule else {},
                allergens=(),
                ward_ids=person.wards,
                barred_ward_ids=person.barred,
                sealed_name=sealed(f"Имя {person.name}", row_key=key, column="name"),
                sealed_group=sealed(f"Гр {person.name}", row_key=key, column="group"),
                sealed_relations=relations,
                photo_hash=f"photo-{person.name}",
            )
            found.append((RowKind.CARDHOLDER, key, row))
            if person.pin:
                pin = sealed(hash_pin(person.pin), row_key=key, column="pin")
                found.append((RowKind.STAFF, key, StaffRow(roles=person.roles, sealed_pin=pin)))
            for card in person.cards:
                found += self._card_rows(person, card)
        return found

    def _card_rows(self, person: Person, card: str) -> list[tuple[RowKind, bytes, RowBody]]:
        credential = CredentialRow(
            cardholder_id=person.name,
            tier=person.tier,
            valid_from_utc_s=self.utc_s(person.valid_from),
            valid_until_utc_s=self.utc_s(person.valid_until),
        )
        rows: list[tuple[RowKind, bytes, RowBody]] = [
            (RowKind.CREDENTIAL, card_key(card), credential)
        ]
        if person.hot:
            rows.append((RowKind.HOT, card_key(card), HotRow(why=person.hot)))
        return rows

    def _museum_rows(self) -> list[tuple[RowKind, bytes, RowBody]]:
        return [
            (RowKind.ADMISSION, card_key(card, MUSEUM), AdmissionRow(category=category))
            for card, category in self.script.visitors.items()
        ]

    def utc_s(self, local: str) -> int:
        """A local date, or a date with a time."""
        return int(local_time(local, self.script.zone).timestamp())

    @property
    def scopes(self) -> tuple[str, ...]:
        if self.script.station is Station.ADMISSION:
            return SETTINGS, MUSEUM
        return SETTINGS, PEOPLE

    def install(
        self, settings: DeviceSettings, writer: Writer, scope: str, moment: Moment, issued_ms: int
    ) -> None:
        """The list as it is now, in force. `moment` is that of its reception."""
        self.versions[scope] = self.versions.get(scope, 0) + 1
        rows = self.rows(scope)
        chunk = zstandard.ZstdCompressor(level=1).compress(encode_pack(rows))
        manifest = Manifest(
            scope=scope,
            version=VersionMark(1, self.versions[scope]),
            snapshot_id=secrets.token_hex(16),
            chunk_hashes=(hashlib.sha256(chunk).digest(),),
            rows=len(rows),
            set_digest=set_digest_bytes(set_digest(rows) % (1 << 256)),
            issued_utc_ms=issued_ms,
            identifier_key_version=1,
            seal_key_version=1,
        )
        pictures = Pictures(settings.folders.state, writer)
        try:
            generation = pictures.next_generation(scope)
            builder = SnapshotBuilder(settings.folders.state, manifest, generation)
            builder.add_chunk(0, chunk)
            builder.finish()
            pictures.put_in_force(builder.path, scope, generation, issued_ms, moment)
        finally:
            pictures.close()


def local_time(text: str, zone: str) -> datetime:
    """`2026-03-02`, `2026-03-02 08:00`; with `*` behind it the second of an hour told twice."""
    again = text.endswith("*")
    found = datetime.fromisoformat(text.rstrip("*"))
    return found.replace(tzinfo=ZoneInfo(zone), fold=1 if again else 0)


def hand_keys(writer: Writer, public: ec.EllipticCurvePublicKey) -> None:
    """Identifier and seal keys of all scopes, sealed to the device."""
    store_scope_keys(
        writer,
        [
            ScopeKey(
                scope=scope,
                purpose=purpose,
                version=1,
                sealed=_sealed_to(public, scope, purpose, key_of(purpose, scope)),
            )
            for scope in (PEOPLE, MUSEUM)
            for purpose in ("identifier", "seal")
        ],
    )


def _sealed_to(public: ec.EllipticCurvePublicKey, scope: str, purpose: str, secret: bytes) -> bytes:
    own = ec.generate_private_key(ec.SECP256R1())
    form = (serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    point, target = own.public_key().public_bytes(*form), public.public_bytes(*form)
    key = HKDF(algorithm=hashes.SHA256(), length=32, salt=point + target, info=BOX_INFO).derive(
        own.exchange(ec.ECDH(), public)
    )
    nonce = secrets.token_bytes(12)
    place = b"\0".join((scope.encode(), purpose.encode(), b"1"))
    return b"\x01" + point + nonce + AESGCM(key).encrypt(nonce, secret, place)
