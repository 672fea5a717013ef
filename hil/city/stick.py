"""The city's sticks: lists, keys and the root document of one site, for devices no network reaches.

Every list gets a snapshot of its newest version and a head of its own, good for the days that a
technician is under way. Each message is what a device would be sent by wire; keys are sealed to
each device that is named. What is written to the disk is the caller's business: here it is one run
of bytes, the index as a line and the files behind it (`hil/stick.py` takes it apart).

The city-wide list lies in the books of the city's first site, and each site's books are one
thread's alone. So a stick of another site that needs it is asked for in two parts: `"museum":
"alone"` of the first site is that list, `"museum": "apart"` everything else of the own. Who asks
for the whole there is refused, rather than given a stick with which a museum knows nobody.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from edge.messages import (
    PushChunk,
    PushKeys,
    ScopeKey,
    SealedKeys,
    SignedWhat,
    StickFile,
    StickIndex,
    StickWhat,
    encode_json,
    encode_pack,
    frame,
)
from edge.model import Station
from hil.city.batches import Sender
from hil.city.crypto import seal_key_to_device
from hil.city.desk import Refused
from hil.city.intake import CityCore
from hil.city.keys import CITY_SCOPE

DAY_MS: Final = 24 * 60 * 60 * 1000
DAYS: Final = 3  # Our choice: a round of schools; a stick found in a drawer is worth nothing.
DAYS_MAX: Final = 14  # Our choice: a remote school; older lists are for the officer to judge by.
DEVICES_MAX: Final = 256  # Our choice: four times the largest roster.
ALONE: Final = "alone"  # The city-wide list and nothing else.
APART: Final = "apart"  # Everything but that: it comes from the first site.
IN_TWO_PARTS: Final = 409  # HTTP's conflict: ask for the two parts instead.


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
    revoked. `museum` as above."""
    days, part = request.get("days", DAYS), request.get("museum", "")
    if not isinstance(days, int) or isinstance(days, bool) or not 1 <= days <= DAYS_MAX:
        raise Refused(400, f"days {days!r:.20}", f"give 1 to {DAYS_MAX}")
    if part not in ("", ALONE, APART):
        raise Refused(400, f"museum {part!r:.40}", f"write {ALONE}, {APART}, or leave it out")
    senders = () if part == ALONE else _senders(core, request.get("devices"))
    admits = [sender.device for sender in senders if sender.station is Station.ADMISSION]
    elsewhere = CITY_SCOPE not in core.publisher.scopes
    if elsewhere and (part == ALONE or (admits and part != APART)):
        whom = f"{admits[0]} needs {CITY_SCOPE}, which" if admits else CITY_SCOPE
        raise Refused(
            IN_TWO_PARTS,
            f"{whom} is not in the books of {core.site}",
            f'ask the city\'s first site with "museum": "{ALONE}", and {core.site} with "{APART}"',
        )
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
        if part != ALONE:
            add("root", StickWhat.ROOT, frame(core.root().payload))
        for sender in senders:
            push = _keys_for(core, sender, now_ms)
            if push is not None:
                name = f"keys-{sender.device}"
                add(name, StickWhat.KEYS, frame(encode_pack(push)), device=sender.device)
        for scope in core.publisher.scopes:
            if part == ALONE and scope != CITY_SCOPE:
                continue
            if scope == CITY_SCOPE and part != ALONE and (part == APART or not admits):
                continue  # 13 MB that nobody else needs.
            content = b"".join(map(frame, _messages(core, scope, now_ms, days * DAY_MS)))
            add(f"list-{scope.partition('/')[2]}", StickWhat.LIST, content, scope=scope)
    return Stick(index=StickIndex(files=tuple(files), made_utc_ms=now_ms), contents=tuple(contents))


def _keys_for(core: CityCore, sender: Sender, now_ms: int) -> PushKeys | None:
    """What the device would be sent by wire; for a museum of any site, the keys of the city-wide
    list, which are the city's own and not of one site's books."""
    if sender.station is not Station.ADMISSION or CITY_SCOPE in core.publisher.scopes:
        return core.keys_for(sender, now_ms)
    device_key = core.key_of_device(sender.device)
    sealed = tuple(
        ScopeKey(
            scope=CITY_SCOPE,
            purpose=purpose,
            version=version,
            sealed=seal_key_to_device(
                secret, device_key, scope=CITY_SCOPE, purpose=purpose, version=version
            ),
        )
        for purpose, version, secret in core.keys.scopes[CITY_SCOPE].all()
    )
    told = SealedKeys(device=sender.device, keys=sealed, issued_utc_ms=now_ms)
    return PushKeys(signed=core.keys.signing["list"].sign(SignedWhat.KEYS, encode_pack(told)))


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
