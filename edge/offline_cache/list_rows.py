"""Rows of the list of people and of the city's visitors, as a picture holds them -> the domain's
values. Whoever calls has opened the picture and a read transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

import msgspec

from edge.messages import (
    ROW_NUMBERS,
    AdmissionRow,
    CardholderRow,
    CredentialRow,
    GroupRow,
    HotRow,
    RowKind,
    from_b64u,
)
from edge.model import Cardholder, CorruptData, Credential

CREDENTIAL: Final = ROW_NUMBERS[RowKind.CREDENTIAL]
CARDHOLDER: Final = ROW_NUMBERS[RowKind.CARDHOLDER]
HOT: Final = ROW_NUMBERS[RowKind.HOT]
GROUP: Final = ROW_NUMBERS[RowKind.GROUP]
ADMISSION: Final = ROW_NUMBERS[RowKind.ADMISSION]

ROW: Final = "SELECT body FROM rows WHERE kind = ? AND key = ?"
_CREDENTIAL_ROW: Final = msgspec.msgpack.Decoder(CredentialRow)
_CARDHOLDER_ROW: Final = msgspec.msgpack.Decoder(CardholderRow)
_HOT_ROW: Final = msgspec.msgpack.Decoder(HotRow)
_GROUP_ROW: Final = msgspec.msgpack.Decoder(GroupRow)
_ADMISSION_ROW: Final = msgspec.msgpack.Decoder(AdmissionRow)
_T = TypeVar("_T")
WindowsOf = Callable[[str], tuple[range, ...]]  # Schedule id -> minutes of the week, today.


def person(
    db: sqlite3.Connection, credential_id: str, windows: WindowsOf
) -> tuple[str | None, Credential | None, Cardholder | None]:
    """Why the card is hot-listed (None: it is not), the card, and whose it is."""
    key = from_b64u(credential_id)
    row = db.execute(ROW, (HOT, key)).fetchone()
    hot_why = None if row is None else _hot_why(row[0])
    row = db.execute(ROW, (CREDENTIAL, key)).fetchone()
    if row is None:
        return hot_why, None, None
    found = decode(_CREDENTIAL_ROW, row[0])
    credential = Credential(
        credential_id=credential_id,
        cardholder_id=found.cardholder_id,
        tier=found.tier,
        valid_from_utc_s=found.valid_from_utc_s,
        valid_until_utc_s=found.valid_until_utc_s,
    )
    holder = cardholder(db, found.cardholder_id, windows)
    if holder is None:
        return hot_why, None, None  # A credential of nobody lets nobody in.
    return hot_why, credential, holder


def cardholder(db: sqlite3.Connection, cardholder_id: str, windows: WindowsOf) -> Cardholder | None:
    """Somebody by id; None for who is not on the list."""
    found = db.execute(ROW, (CARDHOLDER, cardholder_id.encode())).fetchone()
    if found is None:
        return None
    row = decode(_CARDHOLDER_ROW, found[0])
    return Cardholder(
        cardholder_id=cardholder_id,
        category=row.category,
        account_id=row.account_id,
        suspended=row.suspended,
        here=row.here,
        windows_by_zone={zone: windows(schedule) for zone, schedule in row.rights.items()},
        allergens=frozenset(row.allergens),
        ward_ids=frozenset(row.ward_ids),
        sealed_name=row.sealed_name,
        sealed_group=row.sealed_group,
        photo_hash=row.photo_hash,
        sealed_relations=row.sealed_relations,
        barred_ward_ids=frozenset(row.barred_ward_ids),
        group=row.group,
    )


def members(db: sqlite3.Connection, group: str) -> frozenset[str]:
    """Who belongs to a class or group; nobody where there is none of this id."""
    row = db.execute(ROW, (GROUP, group.encode())).fetchone()
    return frozenset() if row is None else frozenset(decode(_GROUP_ROW, row[0]).member_ids)


def admission_category(db: sqlite3.Connection, credential_id: str) -> str | None:
    """What the list of all the city's visitors says of a card; None: it is not on it."""
    row = db.execute(ROW, (ADMISSION, from_b64u(credential_id))).fetchone()
    return None if row is None else decode(_ADMISSION_ROW, row[0]).category


def rows_of(db: sqlite3.Connection, kind: int) -> list[tuple[bytes, bytes]]:
    """All rows of a kind: (key, body)."""
    return db.execute("SELECT key, body FROM rows WHERE kind = ?", (kind,)).fetchall()


def decode(decoder: msgspec.msgpack.Decoder[_T], body: bytes) -> _T:
    """A row's body; `CorruptData` where it is none."""
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptData(f"a row that does not decode: {error}") from error


def text_of(key: bytes) -> str:
    """A row's key that is text."""
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        raise CorruptData(f"a row's key that is no text: {error}") from error


def _hot_why(body: bytes) -> str:
    """A row that does not decode blocks all the same."""
    with suppress(CorruptData):
        return decode(_HOT_ROW, body).why
    return ""
