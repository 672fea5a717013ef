"""The city's sticks: lists, keys and the root document of one site, for devices no network reaches.

Every list gets a snapshot of its newest version and a head of its own, good for the days that a
technician is under way. Each message is what a device would be sent by wire; keys are sealed to
each device that is named. What is written to the disk is the caller's business: here it is one run
of bytes, the index as a line and the files behind it (`hil/stick.py` takes it apart).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from edge.messages import (
    PushChunk,
    StickFile,
    StickIndex,
    StickWhat,
    encode_json,
    encode_pack,
    frame,
)
from edge.model import Station
from hil.city.batches import Sender
from hil.city.desk import Refused
from hil.city.intake import CityCore
from hil.city.lists import MUSEUM

DAY_MS: Final = 24 * 60 * 60 * 1000
DAYS: Final = 3  # Our choice: a round of schools; a stick found in a drawer is worth nothing.
DAYS_MAX: Final = 14  # Our choice: a remote school; older lists are for the officer to judge by.
DEVICES_MAX: Final = 256  # Our choice: four times the largest roster.


@dataclass(frozen=True, slots=True, kw_only=True)
class Stick:
    """What lies in its folder."""

    index: StickIndex
    contents: tuple[bytes, ...]  # Of the files, in the order of the index.

    def packed(self) -> bytes:
        """As it travels from the city's desk to who writes the folder."""
        return b"\n".join((encode_json(self.index), b"".join(self.contents)))


def make_stick(core: CityCore, request: dict[str, Any], now_ms: int) -> Stick:
    """`{"devices": ["gate-1", …], "days": 3}`; without devices, those of the site that are not
    revoked."""
    days = request.get("days", DAYS)
    if not isinstance(days, int) or isinstance(days, bool) or not 1 <= days <= DAYS_MAX:
        raise Refused(400, f"days {days!r:.20}", f"give 1 to {DAYS_MAX}")
    senders = _senders(core, request.get("devices"))
    files: list[StickFile] = []
    contents: list[bytes] = []

    def add(
        name: str, what: StickWhat, content: bytes, *, scope: str = "", device: str = ""
    ) -> None:
        size = len(content)
        files.append(StickFile(name=name, what=what, size_bytes=size, scope=scope, device=device))
        contents.append(content)

    with core.store.transaction():
        core.publisher.snapshot_all(now_ms)
        add("root", StickWhat.ROOT, frame(core.root().payload))
        for sender in senders:
            push = core.keys_for(sender, now_ms)
            if push is not None:
                name = f"keys-{sender.device}"
                add(name, StickWhat.KEYS, frame(encode_pack(push)), device=sender.device)
        admits = any(sender.station is Station.ADMISSION for sender in senders)
        for scope in core.publisher.scopes:
            part = scope.partition("/")[2]
            if part != MUSEUM or admits:  # 13 MB that nobody else needs.
                content = b"".join(map(frame, _messages(core, scope, now_ms, days * DAY_MS)))
                add(f"list-{part}", StickWhat.LIST, content, scope=scope)
    return Stick(index=StickIndex(files=tuple(files), made_utc_ms=now_ms), contents=tuple(contents))


def _messages(core: CityCore, scope: str, now_ms: int, life_ms: int) -> Iterator[bytes]:
    """Head, manifest, chunks."""
    state = core.publisher.state(scope)
    assert state is not None
    yield core.publisher.head(scope, now_ms, life_ms=life_ms).payload
    yield encode_pack(core.publisher.manifest(state.snapshot))
    chunks = core.store.rows(
        "SELECT position, data FROM chunk WHERE snapshot = ? ORDER BY position", (state.snapshot,)
    )
    for position, data in chunks:
        yield encode_pack(
            PushChunk(scope=scope, snapshot_id=state.snapshot, index=position, data=data)
        )


def _senders(core: CityCore, devices: object) -> list[Sender]:
    """Who is named; everybody at the site when nobody is."""
    rows = core.store.rows(
        "SELECT device, site, station FROM device WHERE revoked_ms IS NULL ORDER BY device"
    )
    known = {d: Sender(device=d, site=site, station=Station(s)) for d, site, s in rows}
    if devices is None or devices == []:
        return list(known.values())[:DEVICES_MAX]
    if not isinstance(devices, list) or len(devices) > DEVICES_MAX:
        raise Refused(400, "devices is no list of names", f"name up to {DEVICES_MAX} devices")
    unknown = [one for one in devices if not isinstance(one, str) or one not in known]
    if unknown:
        words = f"no device {unknown[0]!r:.80} at {core.site}, or it is revoked"
        raise Refused(404, words, "enrol it first; see GET /status")
    return [known[device] for device in dict.fromkeys(devices)]
