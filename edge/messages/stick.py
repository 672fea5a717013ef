"""Lists and keys on a stick: what its folder holds, for a device that no network reaches. Pure.

A folder with an index (`STICK_INDEX`) and the files that it names. What is in them is what would
come by wire, bytes for bytes, so it is believed for its signatures alone; the index is not signed
and only says what there is and how long. A file is messages one after another, each behind its
length (`frame`):

- `root`: the root document, as retained on `c/root`;
- `keys`: the `PushKeys` of one device, whose id the index has;
- `list`: the head of one scope as retained, then its `PushManifest`, then its `PushChunk`s, and
  `PushDelta`s where the head is newer than the snapshot.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum, unique
from typing import Final

from msgspec import Struct

from edge.messages.wire import CHUNK_BYTES_MAX, MESSAGE_BYTES_MAX, WIRE_VERSION, Wire
from edge.model import CorruptData

STICK_INDEX: Final = "moskvenok-stick.json"
STICK_FILES_MAX: Final = 400  # Our choice: five lists, the root, and the keys of a large roster.
LENGTH_BYTES: Final = 4  # Big-endian, in front of each message.
# Our choice: the 1,800 chunks that one manifest can name, each at its longest with its envelope,
# and as much again of everything else as one message holds.
STICK_FILE_BYTES_MAX: Final = 1_800 * (CHUNK_BYTES_MAX + 512) + 4 * MESSAGE_BYTES_MAX
_NAME_CHARS_MAX: Final = 80
_NAME_ALPHABET: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-.")


@unique
class StickWhat(StrEnum):
    """What a file of a stick is."""

    ROOT = "root"
    KEYS = "keys"
    LIST = "list"


class StickFile(Struct, frozen=True, kw_only=True):
    """One file. Its name says nothing of people."""

    name: str  # Of a-z, 0-9, point and hyphen, 80 characters at most.
    what: StickWhat  # What is in it.
    size_bytes: int  # Exactly.
    scope: str = ""  # Of a list.
    device: str = ""  # Of keys.


class StickIndex(Wire, frozen=True, kw_only=True):
    """What a stick holds. Not signed: each message in the files is."""

    files: tuple[StickFile, ...]  # 400 at most.
    made_utc_ms: int  # When the stick was written.
    v: int = WIRE_VERSION


def is_file_name(text: str) -> bool:
    """Whether the index may name a file so: one plain name, in no other folder."""
    return (
        0 < len(text) <= _NAME_CHARS_MAX
        and _NAME_ALPHABET.issuperset(text)
        and text[0] not in "-."
        and text != STICK_INDEX
    )


def frame(message: bytes) -> bytes:
    """A message as it stands in a file."""
    assert 0 < len(message) <= MESSAGE_BYTES_MAX
    return len(message).to_bytes(LENGTH_BYTES, "big") + message


def read_frame(read: Callable[[int], bytes]) -> bytes | None:
    """The next message of a file (`read` gives so many bytes, less only at its end); None at the
    end. `CorruptData` for what no message can be; never more than one message is held."""
    length = read(LENGTH_BYTES)
    if not length:
        return None
    size = int.from_bytes(length, "big")
    if len(length) < LENGTH_BYTES or not 0 < size <= MESSAGE_BYTES_MAX:
        raise CorruptData(f"a message of {size} bytes, where 1 to {MESSAGE_BYTES_MAX} are possible")
    message = read(size)
    if len(message) < size:
        raise CorruptData(f"it ends {size - len(message)} bytes before its last message does")
    return message
