"""Giving an OSDP reader a key of its own: the one moment in which its default key may be spoken.

A reader is sold with a key that everybody knows (SCBK-D). Under it, once, it is told its own; from
then on `osdp.py` takes it under that one alone. This is for a technician beside the reader and
never runs in the agent: whoever listens on the wire in that moment hears the new key.

libosdp does the exchange: a panel that has a key and does not enforce it tries that key, then the
default one, sets its own under the default one (KEYSET), and opens the channel anew under its own.
Whether that came true is looked at over a second connection, which enforces the key.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum, unique

from edge.model import DeviceFault
from edge.readers.osdp import DEFAULT_KEY, KEY_SIZE, REFRESH_S, WRITE_S_MAX, Line, Osdp, described
from edge.readers.serial_port import faults_named, open_port
from edge.readers.worker import monotonic_ms
from edge.settings import ReaderSettings

SECURE_MS_MAX = 5_000  # Our choice: libosdp's own second try at a reader that was just restarted.
ANY_KEY = 0  # No flag: libosdp goes to the default key where ours is not known.


@unique
class Answered(StrEnum):
    """How a reader answered to a key."""

    SECURE = "secure"  # It knows it.
    OTHER_KEY = "other_key"  # It answers, and not to this one.
    SILENT = "silent"


def answers_to(
    settings: ReaderSettings,
    key: bytes,
    *,
    library: Osdp,
    limit_ms: int = SECURE_MS_MAX,
    now_ms: Callable[[], int] = monotonic_ms,
) -> Answered:
    """Whether the reader holds this key. Changes nothing in it.

    Raises DeviceFault when the port cannot be used.
    """
    flags = library.FLAG_ENFORCE_SECURE
    return _connect(settings, key, flags, library=library, limit_ms=limit_ms, now_ms=now_ms)


def pair(
    settings: ReaderSettings,
    key: bytes,
    *,
    library: Osdp,
    limit_ms: int = SECURE_MS_MAX,
    now_ms: Callable[[], int] = monotonic_ms,
) -> None:
    """Set this key in a reader that still takes the default one. Again is fine.

    `key` is on the disk before this is called: a reader must never hold a key that nobody has.
    Raises DeviceFault when there is no such reader, or it does not hold the key afterwards.
    """
    assert len(key) == KEY_SIZE and key != DEFAULT_KEY and any(key)
    said = _connect(settings, key, ANY_KEY, library=library, limit_ms=limit_ms, now_ms=now_ms)
    if said is Answered.SECURE:
        said = answers_to(settings, key, library=library, limit_ms=limit_ms, now_ms=now_ms)
    at = f"reader {settings.reader_id}: address {settings.address} on {settings.port}"
    if said is Answered.SILENT:
        raise DeviceFault(
            f"{at} does not answer at {settings.baud} baud; check cable, polarity, power, address "
            "and baud rate, then run this again"
        )
    if said is Answered.OTHER_KEY:
        raise DeviceFault(
            f"{at} answers, but takes neither the default key nor ours; set it back to how it was "
            "sold (its manual says how), or into its install mode, then run this again"
        )


def _connect(
    settings: ReaderSettings,
    key: bytes,
    flags: int,
    *,
    library: Osdp,
    limit_ms: int,
    now_ms: Callable[[], int],
) -> Answered:
    """One connection, until the channel is secure under this key or the time is over."""
    with faults_named(settings.reader_id, settings.port):
        port = open_port(settings.port, settings.baud, timeout_s=0)
        try:
            port.write_timeout = WRITE_S_MAX
            line = Line(port, now_ms=now_ms)
            line.begin()
            panel = library.ControlPanel([described(settings, line, key=key, flags=flags)])
            until_ms = now_ms() + limit_ms
            while now_ms() < until_ms:
                panel.refresh()
                if line.fault is not None:
                    raise line.fault
                if panel.sc_status():
                    return Answered.SECURE
                line.wait(REFRESH_S)
            return Answered.OTHER_KEY if line.has_heard else Answered.SILENT
        finally:
            port.close()
