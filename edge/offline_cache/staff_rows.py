"""What stands on staff: who may sign in, and with what PIN.

Rows are read anew at every look, so a list that came in force a moment ago decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import msgspec

from edge.messages import ROW_NUMBERS, CardholderRow, RowKind, StaffRow
from edge.model import CorruptData, StaffRole
from edge.offline_cache.lookup import Cache
from edge.offline_cache.store import reading, telling

_STAFF: Final = ROW_NUMBERS[RowKind.STAFF]
_CARDHOLDER: Final = ROW_NUMBERS[RowKind.CARDHOLDER]
_STAFF_ROW: Final = msgspec.msgpack.Decoder(StaffRow)
_CARDHOLDER_ROW: Final = msgspec.msgpack.Decoder(CardholderRow)
_BODY: Final = "SELECT body FROM rows WHERE kind = ? AND key = ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class StaffMember:
    """One member of staff as the list of people has them; name and PIN are still sealed."""

    cardholder_id: str
    roles: frozenset[StaffRole]
    sealed_pin: bytes = field(repr=False)
    sealed_name: bytes = field(repr=False)


@telling()
def staff_member(cache: Cache, cardholder_id: str) -> StaffMember | None:
    """None: no member of staff, or nobody at all. `CorruptData` for a row that does not decode."""
    people = cache.picture("people")
    if people is None:
        return None
    key = cardholder_id.encode()
    with reading(people) as db:
        staff = db.execute(_BODY, (_STAFF, key)).fetchone()
        person = db.execute(_BODY, (_CARDHOLDER, key)).fetchone()
    if staff is None or person is None:
        return None
    try:
        row, holder = _STAFF_ROW.decode(staff[0]), _CARDHOLDER_ROW.decode(person[0])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptData("a row of staff that does not decode") from error
    return StaffMember(
        cardholder_id=cardholder_id,
        roles=frozenset(row.roles),
        sealed_pin=row.sealed_pin,
        sealed_name=holder.sealed_name,
    )
