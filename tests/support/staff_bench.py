"""A station whose list names staff with PINs, and a worker for PINs that a test moves by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import zstandard

from edge.messages import (
    ROW_NUMBERS,
    CardholderRow,
    CredentialRow,
    HotRow,
    Manifest,
    Row,
    RowBody,
    RowKind,
    ScopeKey,
    StaffRow,
    VersionMark,
    encode_pack,
    from_b64u,
    set_digest,
    set_digest_bytes,
)
from edge.model import Category, StaffRole, UidKind
from edge.offline_cache.apply import Pictures, SnapshotBuilder, store_scope_keys
from edge.offline_cache.store import FileKind, Writer
from edge.pin import PinAnswer
from edge.trust import credential_id, public_point, read_key
from hil.bench.station import IDENTIFIER_KEY, SITE, uid_of
from tests.support.agent_bench import Bench, station
from tests.support.small_city import sealed_column, sealed_to, secret

SCOPE: Final = f"{SITE}/people"
OFFICER, CASHIER, SUPERVISOR, PUPIL, NO_PIN, LOST, ENDED, RELIEF, GONE = range(9)
ROLES: Final[Mapping[int, tuple[StaffRole, ...]]] = {
    OFFICER: (StaffRole.OFFICER,),
    CASHIER: (StaffRole.CASHIER,),
    SUPERVISOR: (StaffRole.CASHIER, StaffRole.SUPERVISOR),
    NO_PIN: tuple(StaffRole),
    LOST: tuple(StaffRole),
    ENDED: tuple(StaffRole),
    RELIEF: (StaffRole.OFFICER,),
    GONE: tuple(StaffRole),
}
PEOPLE: Final = 9


def id_of(number: int) -> str:
    return f"c{number:08}"


def pin_of(number: int) -> str:
    return f"{4000 + number}"


class HandDesk:
    """Knows what a PIN's hash says (`pin:1234`), and answers when it is told to."""

    def __init__(self) -> None:
        self.waiting: list[PinAnswer] = []
        self.answers: list[PinAnswer] = []
        self.asked: list[str] = []

    def ask(self, number: int, pin: str, phc: str) -> bool:
        if len(self.waiting) > 1:  # One in hand, one in the queue.
            return False
        self.asked.append(pin)
        ok = None if phc == "broken" else phc == f"pin:{pin}"
        self.waiting.append(PinAnswer(number, ok))
        return True

    def answer(self) -> None:
        self.answers, self.waiting = self.answers + self.waiting, []

    def answer_first(self) -> None:
        self.answers.append(self.waiting.pop(0))

    def poll(self) -> list[PinAnswer]:
        answers, self.answers = self.answers, []
        return answers

    def close(self) -> None:
        return


def rows(hashes: Mapping[int, str]) -> list[Row]:
    """People 0 to 8, and what is special about each."""
    found: list[tuple[RowKind, bytes, RowBody]] = []
    for number in range(PEOPLE):
        key = id_of(number).encode()
        staff = number != PUPIL
        person = CardholderRow(
            category=Category.STAFF if staff else Category.PUPIL,
            account_id=f"a{number:08}",
            suspended=number == GONE,
            here=True,
            rights={"school": "always"},
            allergens=(),
            ward_ids=(),
            sealed_name=sealed_column(f"Имя {number}", row_key=key, column="name", scope=SCOPE),
        )
        found.append((RowKind.CARDHOLDER, key, person))
        if staff:
            text = hashes.get(number, f"pin:{pin_of(number)}")
            pin = sealed_column(text, row_key=key, column="pin", scope=SCOPE)
            row = StaffRow(roles=ROLES[number], sealed_pin=b"" if number == NO_PIN else pin)
            found.append((RowKind.STAFF, key, row))
        card = from_b64u(credential_id(IDENTIFIER_KEY, UidKind.ISO14443, uid_of(number)))
        until_s = 1_600_000_000 if number == ENDED else 1 << 33
        credential = CredentialRow(
            cardholder_id=id_of(number), tier=1, valid_from_utc_s=0, valid_until_utc_s=until_s
        )
        found.append((RowKind.CREDENTIAL, card, credential))
        if number == LOST:
            found.append((RowKind.HOT, card, HotRow(why="lost")))
    listed = [Row(ROW_NUMBERS[kind], key, encode_pack(body)) for kind, key, body in found]
    return sorted(listed, key=lambda row: (row.kind, row.key))


def install(bench: Bench, hashes: Mapping[int, str]) -> None:
    """Put the list of staff in force, and the key that opens it."""
    settings = bench.agent.parts.settings
    listed = rows(hashes)
    chunk = zstandard.ZstdCompressor().compress(encode_pack(listed))
    moment = bench.clock.moment()
    manifest = Manifest(
        scope=SCOPE,
        version=VersionMark(1, 2),
        snapshot_id="staff",
        chunk_hashes=(hashlib.sha256(chunk).digest(),),
        rows=len(listed),
        set_digest=set_digest_bytes(set_digest(listed)),
        issued_utc_ms=moment.wall_ms,
        identifier_key_version=1,
        seal_key_version=1,
    )
    writer = Writer(settings.sync_path, FileKind.SYNC)
    seal = sealed_to(
        public_point(read_key(settings.key_path)),
        secret(f"seal {SCOPE} 1"),
        scope=SCOPE,
        purpose="seal",
        version=1,
    )
    store_scope_keys(writer, [ScopeKey(scope=SCOPE, purpose="seal", version=1, sealed=seal)])
    pictures = Pictures(settings.folders.state, writer)
    generation = pictures.next_generation(SCOPE)
    builder = SnapshotBuilder(settings.folders.state, manifest, generation)
    builder.add_chunk(0, chunk)
    builder.finish()
    pictures.put_in_force(builder.path, SCOPE, generation, manifest.issued_utc_ms, moment)
    pictures.close()
    writer.close()
    bench.step(1_000)


@contextmanager
def staffed(
    folder: Path, *, till: bool = False, hashes: Mapping[int, str] | None = None
) -> Iterator[tuple[Bench, HandDesk]]:
    desk = HandDesk()
    with station(folder, people=PEOPLE, till=till, pins=desk) as bench:
        install(bench, hashes or {})
        yield bench, desk
