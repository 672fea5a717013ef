"""A real agent at a school's door, on real files: people with names, guardians with wards, a
museum's list, and settings of the test's choice. Readers, lines and time are in the test's hand.

Two stations of one school can be made to hear each other: what one recorded is given to the other
as sync would have kept it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from edge import health, requests
from edge.agent import Agent, Parts
from edge.certificates import new_key
from edge.clock import Clock
from edge.config import load
from edge.control import Request
from edge.messages import (
    AdmissionRow,
    AnyFact,
    CardholderRow,
    CredentialRow,
    GroupRow,
    PeerBeat,
    RosterRow,
    RowBody,
    ScopeKey,
    SiteRow,
    Stream,
    decode_fact,
    decode_sides,
)
from edge.model import Category, Moment, Station, UidKind
from edge.offline_cache import marks, outbox, peer_own, peers
from edge.offline_cache.apply import store_scope_keys
from edge.offline_cache.lookup import Cache
from edge.offline_cache.record import open_journal
from edge.readers.reader import CardRead
from edge.trust import FileKeyStore, public_point, read_key, write_secret
from edge.turnstile.relay import open_lines
from edge.wiring import wiring_of
from hil.bench.taps import HandReader
from tests.support import small_city
from tests.support.pictures import Station as Files
from tests.support.pictures import open_station
from tests.support.small_city import PEOPLE, SETTINGS, SITE, Key, Scope, sealed_column
from tests.support.times import NOON_MS

ZONE = "school"
MUSEUM = "city/museum"
START_MS = 1_000_000  # On the monotonic clock; noon.
ROSTER, GROUP, ADMISSION = 50, 5, 64
HEARD_MS = 30_000

LANE = """[[lanes]]
id = "door"
driver = "mock"
[[lanes.access_points]]
id = "door-in"
direction = "in"
zone = "school"
relay = {pin = 17}
rotation = {pin = 27}
[[lanes.access_points]]
id = "door-out"
direction = "out"
zone = "school"
relay = {pin = 22}
rotation = {pin = 23}
"""


def uid_of(name: str) -> bytes:
    """The card of a person."""
    return b"\x04" + name.encode().ljust(6, b"\0")[:6]


def person(
    name: str, *, category: Category = Category.PUPIL, card: bytes | None = None, **fields: Any
) -> list[tuple[Key, RowBody]]:
    """Somebody with a card; fields of `CardholderRow` in `fields`. The name's sealed text is
    `Имя <id>`, the group's `Гр <id>`."""
    key = name.encode()
    row = CardholderRow(
        category=category,
        account_id=None,
        suspended=False,
        here=True,
        rights={ZONE: "always"},
        allergens=(),
        ward_ids=(),
        sealed_name=sealed_column(f"Имя {name}", row_key=key, column="name"),
        sealed_group=sealed_column(f"Гр {name}", row_key=key, column="group"),
        photo_hash=f"photo-{name}",
    )
    row = msgspec.structs.replace(row, **fields)
    uid = uid_of(name) if card is None else card
    return [((small_city.CARDHOLDER, key), row), small_city.credential(uid, name)]


def guardian(
    name: str, *wards: str, barred: tuple[str, ...] = (), **fields: Any
) -> list[tuple[Key, RowBody]]:
    key = name.encode()
    relations = {
        ward: sealed_column("мама", row_key=key, column=f"relation/{ward}") for ward in wards
    }
    return person(
        name,
        category=Category.GUARDIAN,
        ward_ids=wards,
        barred_ward_ids=barred,
        sealed_relations=relations,
        **fields,
    )


def group(name: str, *members: str) -> tuple[Key, RowBody]:
    return (GROUP, name.encode()), GroupRow(member_ids=members)


def visitor(uid: bytes, category: str) -> tuple[Key, RowBody]:
    return (ADMISSION, small_city.id_bytes(uid, scope=MUSEUM)), AdmissionRow(category=category)


def site(**fields: Any) -> tuple[Key, RowBody]:
    key, row = small_city.site()
    assert isinstance(row, SiteRow)
    return key, msgspec.structs.replace(row, **fields)


class OneOfficer:
    """Stands where the station's sign-in does: `signed` is who is signed in now."""

    def __init__(self) -> None:
        self.signed = "o1"
        self.touched = 0

    def officer(self, _moment: Moment) -> str:
        return self.signed

    def cashier(self, _moment: Moment) -> str:
        return ""

    def take_tap(self, *_: object) -> bool:
        return False

    def touch(self, _moment: Moment) -> None:
        self.touched += 1

    def step(self, _moment: Moment) -> None:
        return

    def screen(self, _moment: Moment) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        return


@dataclass
class Door:
    """One station. `time` is the monotonic clock in ms."""

    folder: Path
    device: str
    files: Files
    agent: Agent
    clock: Clock
    time: list[int]
    readers: dict[str, HandReader]
    scopes: dict[str, Scope]
    officer: OneOfficer = field(default_factory=OneOfficer)

    def step(self, ms: int = 0) -> None:
        self.time[0] += ms
        self.agent.step(self.clock.moment())

    def moment(self) -> Moment:
        return self.clock.moment()

    def tap(self, name: str = "", *, at: str = "in", uid: bytes | None = None) -> None:
        """A person's card at a reader."""
        self.readers[at].waiting.append(
            CardRead(
                uid=uid_of(name) if uid is None else uid,
                at_ms=self.time[0],
                kind=UidKind.ISO14443,
                tier=1,
                reader_id=at,
            )
        )
        self.step()

    def walk(self, at: str = "in") -> None:
        """A body pushes the arm round."""
        for active in (True, False):
            self.agent.move(f"door-{at}.rotation", active)
            self.step(100)

    def go(self, name: str, at: str = "in") -> None:
        """Tap and walk through."""
        self.tap(name, at=at)
        self.walk(at)
        self.step(4_000)

    def change(self, scope: str, *rows: tuple[Key, RowBody], remove: tuple[Key, ...] = ()) -> None:
        """A delta of the city, in force at the next look."""
        delta = self.scopes[scope].put(*rows, remove=remove)
        self.files.pictures.apply_delta(delta, self.moment())
        self.step(1_000)

    def ask(self, name: str, **body: Any) -> dict[str, Any]:
        """A request of a screen, through the table of requests."""
        request = Request(body={"request": name, **body})
        requests.answer(self.agent, request, self.moment())
        self.step()
        answer: dict[str, Any] = msgspec.json.decode(request.wait())
        return answer

    def screen(self) -> dict[str, Any]:
        return health.screens(self.agent, self.moment())

    def shown(self, point: str = "door-in") -> dict[str, Any]:
        screens: list[dict[str, Any]] = self.screen()["screens"]
        return {one["access_point"]: one for one in screens}[point]

    def facts(self, *kinds: type[Any]) -> list[Any]:
        """All of the epoch in order, the chain checked; of these kinds, if any are named."""
        db = self.agent.parts.journal.writer.db
        life = outbox.lives(db, Stream.MAIN)[-1]
        assert outbox.chain_problem(db, life) == ""
        bodies = outbox.next_facts(db, life.life, 1, rows_max=10_000, bytes_max=1 << 24)
        found: list[AnyFact] = [decode_fact(body) for body in bodies]
        return [fact for fact in found if not kinds or isinstance(fact, kinds)]

    def last(self, kind: type[Any]) -> Any:
        return self.facts(kind)[-1]

    def key(self, fact: Any) -> str:
        return f"{fact.epoch}.{fact.sequence}"

    # ------------------------------------------------------------------ another station

    def hear(self, other: Door, *, until_ms: int = HEARD_MS) -> None:
        """All that the other recorded, as this one's sync keeps it, and that it is heard."""
        journal = other.agent.parts.journal
        db = journal.writer.db
        report = peer_own.own_report(db, store="s", station=other.agent.parts.settings.station)
        beat = PeerBeat(
            device=other.device,
            site=SITE,
            session="s",
            counter=1,
            nonce="n",
            echo={},
            lives=report.lives,
            store="s",
        )
        with self.files.writer.transaction() as mine:
            peers.store_report(mine, other.device, beat)
            batch = peer_own.side_batch(db, other.device, SITE, journal.epoch, 0)
            if batch is not None:
                header, facts = decode_sides(batch[0])
                peers.take_sides(mine, other.device, header.epoch, header.up_to, facts)
            heard = {other.device: self.time[0] + until_ms}
            peers.store_heard(mine, heard, self.moment().boot)
        self.step(1_000)


def device_toml(device: str, station: Station, *, lane: bool = True) -> str:
    readers = "".join(
        f'[[readers]]\nid = "{name}"\ndriver = "serial"\nport = "/nonexistent/{name}"\n'
        'frame = "hex_line"\n' + (f'access_point = "door-{name}"\n' if lane else "")
        for name in ("in", "out")
    )
    return (
        f'schema = 1\n[device]\nid = "{device}"\nsite = "{SITE}"\nstation = "{station}"\n'
        '[city]\nendpoints = ["mqtt://127.0.0.1:9"]\n'
        '[control]\nsimulated_taps = true\nlog_level = "error"\n'
        f"{readers}{LANE if lane else ''}"
    )


@contextmanager
def door(
    folder: Path,
    *people: tuple[Key, RowBody],
    settings: tuple[tuple[Key, RowBody], ...] = (),
    museum: tuple[tuple[Key, RowBody], ...] | None = None,
    station: Station = Station.ENTRANCE,
    device: str = "lane-1",
    roster: Mapping[str, Station] | None = None,
    lane: bool = True,
    start_ms: int = START_MS,
    time_zone: str = "Europe/Moscow",
    noon_ms: int = NOON_MS,
) -> Iterator[Door]:
    """A station whose lists were confirmed a moment ago. Opened again on the same folder it goes
    on where it was."""
    fresh = not (folder / "device.toml").exists()
    for name in ("state", "identity", "run"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "device.toml").write_text(device_toml(device, station, lane=lane))
    described = load(folder / "device.toml")
    files = open_station(described.folders.state)
    time = [start_ms]
    clock = Clock(
        ZoneInfo(time_zone), boot="b00t", mono_ms=lambda: time[0], wall_ms=lambda: 0, ntp=bool
    )
    scopes = {"people": Scope(PEOPLE), "settings": Scope(SETTINGS), "museum": Scope(MUSEUM)}
    names = roster if roster is not None else {device: station}
    scopes["settings"].put(
        site(),
        small_city.schedule("always", (0, 7 * 24 * 60)),
        *(((ROSTER, name.encode()), RosterRow(what)) for name, what in names.items()),
        *settings,
    )
    scopes["people"].put(*people)
    scopes["museum"].put(*(museum or ()))
    wanted = [scopes["settings"], scopes["people"]]
    wanted = [scopes["settings"], scopes["museum"]] if museum is not None else wanted
    if fresh:
        write_secret(described.key_path, new_key())
        key = read_key(described.key_path)
        marks.set_anchor(files.writer, clock.moment(), noon_ms - START_MS + start_ms)
        for scope in (PEOPLE, MUSEUM):
            store_scope_keys(files.writer, scope_keys(scope, public_point(key)))
        for one in wanted:
            files.install(one)
    journal = open_journal(
        described.journal_path,
        device=device,
        site=SITE,
        station=station,
        machine="bench",
        moment=clock.moment(),
    )
    wiring = wiring_of(described)
    lines = None if wiring is None else open_lines(wiring, now_ms=clock.mono_ms)
    readers = {name: HandReader() for name in ("in", "out")}
    parts = Parts(
        settings=described,
        clock=clock,
        journal=journal,
        cache=Cache(described.folders.state, device=device, site=SITE, journal=journal.writer.db),
        keys=FileKeyStore(described.key_path),
        readers={name: (one, f"door-{name}" if lane else "") for name, one in readers.items()},
        lines=lines,
        ring_sync=lambda: None,
        move_line=None if lines is None else lines.move,
    )
    agent = Agent(parts, clock.moment())
    agent.staff.close()
    made = Door(folder, device, files, agent, clock, time, readers, scopes)
    agent.staff = made.officer  # type: ignore[assignment]
    try:
        made.step()
        made.step(1_000)
        yield made
    finally:
        agent.close()
        files.close()


def scope_keys(scope: str, point: bytes) -> list[ScopeKey]:
    """Identifier and seal key of a scope, sealed to this device."""
    secrets = {
        "identifier": small_city.secret(f"identifier {scope}"),
        "seal": small_city.secret(f"seal {scope} 1"),
    }
    return [
        ScopeKey(
            scope=scope,
            purpose=purpose,
            version=1,
            sealed=small_city.sealed_to(point, key, scope=scope, purpose=purpose, version=1),
        )
        for purpose, key in secrets.items()
    ]


def card_of(name: str, **fields: Any) -> tuple[Key, RowBody]:
    """The row of a person's card, changed."""
    key, row = small_city.credential(uid_of(name), name)
    assert isinstance(row, CredentialRow)
    return key, msgspec.structs.replace(row, **fields)
