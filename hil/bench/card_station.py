"""A station whose lists name cards that prove something, and the cards themselves.

The lists are made by the reference city's own books (`hil/city`), keys sealed and all; only the
wire between city and station is left out. So city, device and model cards check one another.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from cryptography.hazmat.primitives.asymmetric import ec

from edge.agent import Agent, Parts
from edge.certificates import new_key
from edge.clock import Anchor, Clock
from edge.config import parse
from edge.keyring import Keyring
from edge.messages import AnyFact, ScopeKey, Stream, decode_fact
from edge.offline_cache import marks, outbox
from edge.offline_cache.apply import Pictures, store_scope_keys
from edge.offline_cache.lookup import Cache
from edge.offline_cache.record import open_journal
from edge.offline_cache.store import FileKind, Writer
from edge.readers.reader import Reader
from edge.settings import DeviceSettings
from edge.trust import FileKeyStore, read_key, write_secret
from edge.turnstile.relay import open_lines
from edge.wiring import wiring_of
from hil.bench.station import make_snapshot
from hil.bench.taps import HandReader
from hil.city.card_keys import CardKeys, open_card_keys
from hil.city.crypto import seal_key_to_device
from hil.city.intake import CityCore
from hil.city.keys import CityKeys, open_keys, utc
from hil.city.seed import seed_school
from hil.city.store import Store
from hil.devices.cards.school import SchoolCards
from hil.world.school import School, make_school

SITE = "s0001"
NOON_MS = 1_772_442_000_000  # Monday, 2 March 2026, 12:00 in Moscow.
SEED = 3
SCOPE_PARTS = ("people", "money", "menu", "settings")
TOML = """schema = 1
[device]
id = "{device}"
site = "s0001"
station = "{station}"
[city]
endpoints = ["mqtt://127.0.0.1:9"]
[[readers]]
id = "r1"
{reader}
{access_point}
"""
PCSC = """driver = "pcsc"
name = "Virtual PCD"
"""
LANE = """[[lanes]]
id = "north"
driver = "mock"
[[lanes.access_points]]
id = "north-in"
direction = "in"
zone = "school"
relay = {pin = 17}
rotation = {pin = 27}
"""


@dataclass
class CardSchool:
    """The city's side: books, keys, cards."""

    school: School
    core: CityCore
    keys: CityKeys
    card_keys: CardKeys
    cards: SchoolCards

    def uid(self, label: str) -> bytes:
        (card,) = [card for card in self.school.smart_cards if card.label == label]
        return card.uid


@contextmanager
def card_school(folder: Path) -> Iterator[CardSchool]:
    school = make_school(SEED, SITE, pupils=24)
    keys = open_keys(folder / "city", SITE, utc(NOON_MS))
    store = Store(folder / "city" / "city.db")
    try:
        core = CityCore(store, keys)
        seed_school(core, school, NOON_MS)
        card_keys = open_card_keys(folder / "city")
        assert card_keys is not None
        yield CardSchool(school, core, keys, card_keys, SchoolCards(school, card_keys))
    finally:
        store.close()


def build_station(
    folder: Path, city: CardSchool, *, station: str = "entrance", reader: str = PCSC
) -> DeviceSettings:
    """The station's folder, with everything that sync would have brought. `reader` is TOML."""
    for name in ("state", "identity", "run"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    entrance = station == "entrance"
    toml = TOML.format(
        device=f"s0001-{station}",
        station=station,
        reader=reader,
        access_point='access_point = "north-in"' if entrance else "",
    )
    path = folder / "device.toml"
    path.write_text(toml + (LANE if entrance else ""))
    settings = parse(path.read_bytes(), path)
    write_secret(settings.key_path, new_key())
    key = read_key(settings.key_path)
    writer = Writer(settings.sync_path, FileKind.SYNC)
    clock = _clock([1_000_000])
    marks.set_anchor(writer, clock.moment(), NOON_MS)
    store_scope_keys(writer, list(_scope_keys(city, key.public_key())))
    pictures = Pictures(settings.folders.state, writer)
    for part in SCOPE_PARTS:
        scope = f"{SITE}/{part}"
        rows = sorted(city.core.registry.rows_of(part), key=lambda row: (row.kind, row.key))
        built, generation, manifest = make_snapshot(settings, scope, iter(rows), NOON_MS)
        pictures.put_in_force(built, scope, generation, manifest.issued_utc_ms, clock.moment())
    pictures.close()
    writer.close()
    return settings


def _scope_keys(city: CardSchool, public: ec.EllipticCurvePublicKey) -> Iterator[ScopeKey]:
    scope = f"{SITE}/people"
    keys = city.keys.scopes[scope]
    for purpose, version, secret in (
        ("identifier", keys.identifier_version, keys.identifier),
        ("seal", keys.seal_version, keys.seal),
    ):
        sealed = seal_key_to_device(secret, public, scope=scope, purpose=purpose, version=version)
        yield ScopeKey(scope=scope, purpose=purpose, version=version, sealed=sealed)


def _clock(time: list[int]) -> Clock:
    clock = Clock(
        ZoneInfo("Europe/Moscow"), boot="b00t", mono_ms=lambda: time[0], wall_ms=lambda: 0, ntp=bool
    )
    clock.anchor = Anchor(boot="b00t", mono_ms=0, utc_ms=NOON_MS)
    return clock


@dataclass
class Station:
    """The real agent of one station; its reader is in our hand unless another is given."""

    agent: Agent
    hand: HandReader
    clock: Clock
    time: list[int]
    keyring: Keyring

    def step(self, ms: int = 0) -> None:
        self.time[0] += ms
        self.agent.step(self.clock.moment())

    def facts(self) -> list[AnyFact]:
        db = self.agent.parts.journal.writer.db
        life = outbox.lives(db, Stream.MAIN)[-1]
        bodies = outbox.next_facts(db, life.life, 1, rows_max=10_000, bytes_max=1 << 24)
        return [decode_fact(body) for body in bodies]


@contextmanager
def running(
    settings: DeviceSettings, *, clock: Clock | None = None, reader: Reader | None = None,
    keyring: Keyring | None = None,
) -> Iterator[Station]:  # fmt: skip
    """Start it; the same settings again are a restart."""
    time = [1_000_000]
    held = _clock(time) if clock is None else clock
    moment = held.moment()
    journal = open_journal(
        settings.journal_path,
        device=settings.device_id,
        site=SITE,
        station=settings.station,
        machine="bench",
        moment=moment,
    )
    wiring = wiring_of(settings)
    lines = None if wiring is None else open_lines(wiring, now_ms=held.mono_ms)
    hand = HandReader()
    ring = Keyring(settings.folders.state, site=SITE) if keyring is None else keyring
    parts = Parts(
        settings=settings,
        clock=held,
        journal=journal,
        cache=Cache(
            settings.folders.state,
            device=settings.device_id,
            site=SITE,
            journal=journal.writer.db,
        ),
        keys=FileKeyStore(settings.key_path),
        readers={"r1": (hand if reader is None else reader, "north-in" if lines else "")},
        lines=lines,
        ring_sync=lambda: None,
        move_line=None if lines is None else lines.move,
        keyring=ring,
    )
    agent = Agent(parts, moment)
    try:
        station = Station(agent, hand, held, time, ring)
        station.step()
        yield station
    finally:
        agent.close()
