"""The ground all messages stand on: versions, sizes, streams, the base of every struct. Pure."""

from __future__ import annotations

from enum import StrEnum, unique
from typing import Final

from msgspec import Struct

WIRE_VERSION: Final = 1
MESSAGE_BYTES_MAX: Final = (
    64 * 1024
)  # protocol.md: every message; fits the strictest cloud brokers.
BATCH_BYTES_MAX: Final = 32 * 1024  # protocol.md.
BATCH_ROWS_MAX: Final = 100  # protocol.md; measured knee of facts per second against batch size.
FACT_BYTES_MAX: Final = 16 * 1024  # Our choice: a basket of 40 lines is 4 KiB; half a batch.
RESTATES_BYTES_MAX: Final = 24 * 1024  # A whole fact in base64 (4/3 of it), and a header of 500 B.
CHUNK_BYTES_MAX: Final = 56 * 1024  # Our choice: leaves room for envelope and topic in a message.
CHUNK_ROWS_BYTES_MAX: Final = 4 * 1024 * 1024  # Our choice: one chunk unpacked, zip bombs end here.
PHOTO_PARTS_MAX: Final = 4  # Our choice: a face of 300 by 400 pixels is 20 to 40 KiB.
PHOTO_BYTES_MAX: Final = PHOTO_PARTS_MAX * CHUNK_BYTES_MAX
PHOTOS_AT_ONCE: Final = 4  # Our choice: in one pull, as of chunks.
DIGEST_BYTES: Final = 32
NO_DIGEST: Final = ""  # `previous` of the first fact of an epoch.
assert FACT_BYTES_MAX * 4 // 3 + 1024 < RESTATES_BYTES_MAX
assert BATCH_BYTES_MAX + RESTATES_BYTES_MAX < MESSAGE_BYTES_MAX
assert CHUNK_BYTES_MAX < MESSAGE_BYTES_MAX


@unique
class Stream(StrEnum):
    """One numbered chain of facts of a device."""

    MAIN = "main"  # Written by edge: every fact of the station.
    AGENT = "agent"  # Written by sync: its own answers, refused updates, declared gaps.
    DIAG = "diag"  # Written by sync: health; the only one whose oldest may go undeclared.


class Wire(Struct, frozen=True, kw_only=True):
    """Everything on the wire. Unknown fields are ignored, so a newer peer can add some."""


class VersionMark(Struct, frozen=True, array_like=True):
    """`[list_epoch, number]`."""

    list_epoch: int  # From 1; only the root document raises it.
    number: int  # Each change of the list makes the next one.
