"""The retained status of a device: birth, last will, and which of two is the newer. Pure.

A broker may deliver a will long after the device is back. Both carry the connection's counter, so
a late will is recognised and hides no newer birth. The counter is kept by the store and only ever
grows; a new store has to start it above any before (the UTC second of that moment will do).

`is_newer` is what a city applies to what it receives; it stands here so that both ends agree.
"""

from __future__ import annotations

from edge.messages import Status, decode_json, encode_json

STATUS_BYTES_MAX = 1024  # Our choice: two ids and a counter are 200 bytes.


def birth(*, device: str, boot: str, connection: int) -> bytes:
    """Published retained after each connect: this device is here, by this connection."""
    return encode_json(Status(device=device, online=True, boot=boot, connection=connection))


def will(*, device: str, boot: str, connection: int) -> bytes:
    """Left with the broker at each connect, and published by ourselves on a planned stop."""
    return encode_json(Status(device=device, online=False, boot=boot, connection=connection))


def read_status(data: bytes) -> Status:
    """A status as it came; `CorruptData` when it is none."""
    return decode_json(Status, data, size_max=STATUS_BYTES_MAX)


def is_newer(status: Status, shown: Status | None) -> bool:
    """Whether a status received says more than the one shown so far for the same device.

    >>> old = Status(device="d", online=True, boot="b", connection=7)
    >>> is_newer(Status(device="d", online=False, boot="b", connection=6), old)
    False
    """
    if shown is None:
        return True
    assert status.device == shown.device
    if status.connection != shown.connection:
        return status.connection > shown.connection
    # Of one connection: the end follows the beginning, and nothing follows the end.
    return shown.online and not status.online
