"""Goal: devices of one school hear each other over real brokers with what `moskvenok site` wrote,
with the city away; one broker may die, and both; nobody else gets a word in.

Method: two tills and a lane, `sync` as real processes, their journals written here as edge would;
Mosquitto twice with mutual TLS from the files of the command; killed and started again; a device
of another school on the same broker; a broker that is not the device it should be.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edge.config import load
from edge.control import ask, ring
from edge.messages import (
    PeerBeat,
    PeerBroker,
    PeerKind,
    RosterRow,
    RowBody,
    SiteRow,
    b64u,
    encode_json,
    encode_peer,
    peer_signing_input,
)
from edge.model import DeviceFault, PassbackMode, Station
from edge.offline_cache.epochs import meta
from edge.offline_cache.peers import known, note_seen, peer_states, peers_sides, peers_tail
from edge.offline_cache.record import Journal
from edge.offline_cache.store import FileKind, open_reader
from edge.settings import DeviceSettings
from edge.trust import FileKeyStore, write_secret
from hil.city.keys import CityKeys, certificate_pem, issue_device, open_keys, public_bytes, utc
from provisioning.cli import main
from provisioning.device_file import Body, compose
from sync.bridge_events import Connected, Disconnected, Loss, Published
from sync.peer_session import peer_session
from sync.peer_topics import topic_of
from tests.process.bridge_ends import Ends
from tests.process.brokers import Broker, free_port, mosquitto_program
from tests.support import facts
from tests.support.pictures import open_station
from tests.support.small_city import Scope
from tests.support.times import at

pytestmark = [pytest.mark.process, pytest.mark.slow]

SITE = "school-7"
PATIENCE_S = 30.0
ROSTER, SITE_ROW = 50, 48


def until(is_so: Callable[[], Any], words: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, words()
        time.sleep(0.05)


@dataclass
class Device:
    """One station without its edge: files, journal, and sync as a process."""

    folder: Path
    name: str
    station: Station
    point: bytes = b""
    process: subprocess.Popen[bytes] | None = None
    settings: DeviceSettings = dataclass_field(init=False)
    journal: Journal = dataclass_field(init=False)

    def provision(self, keys: CityKeys, *, site: str = SITE) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        self.point = public_bytes(key.public_key())
        text = compose(
            Body(
                device_id=self.name,
                site_id=site,
                station=self.station.value,
                time_zone="Europe/Moscow",
                endpoints=(f"mqtts://127.0.0.1:{free_port()}",),  # The city is away.
                runtime=str(self.folder / "run"),
                readers=("r1:serial:/dev/ttyUSB0:id12",)
                if self.station is Station.TILL
                else ("r1:serial:/dev/ttyUSB0:id12:access_point=north-in",),
                lanes=()
                if self.station is Station.TILL
                else ("north:mock:north-in=in:school:relay=17",),
            )
        )
        self.folder.mkdir()
        (self.folder / "device.toml").write_text(text)
        self.settings = settings = load(self.folder / "device.toml")
        for folder in (settings.folders.identity, settings.folders.state, self.folder / "run"):
            folder.mkdir(exist_ok=True)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_secret(settings.key_path, pem)
        now = utc(time.time_ns() // 1_000_000)
        issued = certificate_pem(issue_device(keys, self.name, key.public_key(), now))
        settings.certificate_path.write_text(issued)
        settings.authority_path.write_text(keys.chain_pem)
        settings.root_key_path.write_text(b64u(keys.root_public))
        settings.root_document_path.write_bytes(keys.root_document)

    def install(self, rows: list[tuple[tuple[int, bytes], RowBody]]) -> None:
        scope = Scope(f"{SITE}/settings")
        scope.put(*rows)
        station = open_station(self.settings.folders.state)
        station.install(scope)
        station.close()
        self.journal = Journal(self.settings.journal_path, device=self.name, site=SITE)
        self.journal.open_epoch(at(), why="new_store", station=self.station)

    def start(self) -> None:
        with (self.folder / "sync.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sync", "--config", str(self.folder / "device.toml")],
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process = None
        self.journal.close()

    def sell(self, account: str, amount_minor: int) -> None:
        with self.journal.record(at()) as tap:
            header = tap.stamp(at())
            tap.add(facts.sale(header, account=account, amounts=(("meals", amount_minor),)))
        ring(self.settings.socket_path("sync"))

    def pass_lane(self, cardholder: str) -> None:
        with self.journal.record(at()) as tap:
            tap.add(facts.passage(tap.stamp(at()), cardholder=cardholder))
        ring(self.settings.socket_path("sync"))

    def look_as_edge(self) -> None:
        """What edge does when it is rung: lookups rest on this now, and the journal says so."""
        seen = self.read(known)
        with self.journal.writer.transaction() as db:
            note_seen(db, seen)
        ring(self.settings.socket_path("sync"))

    def read(self, what: Callable[[Any], Any]) -> Any:
        db = open_reader(self.settings.sync_path, FileKind.SYNC)
        assert db is not None
        try:
            return what(db)
        finally:
            db.close()

    def spent(self, account: str) -> int:
        return sum(one.amount_minor for one in self.read(lambda db: peers_tail(db, account)))

    def status(self) -> dict[str, Any]:
        try:
            return ask(self.settings.socket_path("sync"), {"request": "status"})
        except DeviceFault:
            return {"peers": {"brokers": [], "devices": {}}, "counters": {}}

    def hears(self) -> set[str]:
        devices = self.status()["peers"]["devices"]
        return {name for name, state in devices.items() if state["heard"] and state["complete"]}

    def is_alone(self) -> bool:
        return not any(broker["connected"] for broker in self.status()["peers"]["brokers"])

    def words(self) -> str:
        return f"{self.status()}\n{(self.folder / 'sync.log').read_text()[-3000:]}"


class School:
    def __init__(self, folder: Path, stack: ExitStack) -> None:
        now = utc(time.time_ns() // 1_000_000)
        self.keys = open_keys(folder / "city", SITE, now)
        self.tills = [Device(folder / f"till-{n}", f"till-{n}", Station.TILL) for n in (1, 2)]
        self.lane = Device(folder / "lane-1", "lane-1", Station.ENTRANCE)
        self.devices = [*self.tills, self.lane]
        for device in self.devices:
            device.provision(self.keys)
        self.brokers = [self._broker(till, stack) for till in self.tills]
        named = tuple(
            PeerBroker(till.name, f"mqtts://127.0.0.1:{broker.port}")
            for till, broker in zip(self.tills, self.brokers, strict=True)
        )
        rows = [((SITE_ROW, b"site"), site_row(named)), *self.roster()]
        for device in self.devices:
            device.install(rows)
            stack.callback(device.stop)
            device.start()

    def roster(self) -> list[tuple[tuple[int, bytes], RowBody]]:
        return [
            ((ROSTER, device.name.encode()), RosterRow(device.station, device.point))
            for device in self.devices
        ]

    def _broker(self, till: Device, stack: ExitStack) -> Broker:
        """Nothing but what the command writes."""
        port = free_port()
        done = CliRunner().invoke(
            main,
            [
                *("site", "--config", str(till.folder / "device.toml"), "--json"),
                *("--address", "127.0.0.1", "--port", str(port)),
            ],
        )
        assert done.exit_code == 0, done.output
        configuration = till.folder / "broker" / "mosquitto.conf"
        broker = Broker(
            command=(mosquitto_program(), "-c", str(configuration)),
            port=port,
            tls=True,
            log=till.folder / "broker.log",
        )
        broker.start()
        stack.callback(broker.stop)
        return broker

    def words(self) -> str:
        return "\n".join(device.words() for device in self.devices)

    def all_hear_all(self) -> bool:
        names = {device.name for device in self.devices}
        return all(device.hears() == names - {device.name} for device in self.devices)


def site_row(brokers: tuple[PeerBroker, ...]) -> SiteRow:
    return SiteRow(
        time_zone="Europe/Moscow",
        currency="RUB",
        floor_limit_minor=30_000,
        list_age_amber_s=86_400,
        list_age_refer_s=7 * 86_400,
        passback_mode=PassbackMode.SOFT,
        passback_window_s=300,
        base_age_days_max=3,
        peer_brokers=brokers,
    )


@pytest.fixture
def school(tmp_path: Path) -> Iterator[School]:
    with ExitStack() as stack:
        yield School(tmp_path, stack)


def test_a_school_hears_itself_whatever_becomes_of_its_brokers(school: School) -> None:
    one, two = school.tills
    until(school.all_hear_all, school.words)

    one.sell("a1", 7_000)
    until(lambda: two.spent("a1") == 7_000, school.words)
    school.lane.pass_lane("p1")
    for till in school.tills:
        until(partial(till.read, lambda db: peers_sides(db, "p1", "school")), till.words)

    two.look_as_edge()
    epoch, head = one.journal.epoch, one.journal.head

    def covered() -> bool:
        states = one.read(lambda db: peer_states(db, at()))
        state = states.get(two.name)
        return state is not None and state.covers.get(epoch) == head

    until(covered, one.words)
    store = two.read(lambda db: meta(db, "store_id"))
    assert one.read(lambda db: peer_states(db, at()))[two.name].store == store

    school.brokers[0].kill()  # The stand-by carries the same already.
    one.sell("a1", 500)
    until(lambda: two.spent("a1") == 7_500, school.words)

    school.brokers[1].kill()
    one.sell("a1", 30)  # Alone: recorded and sold, told to nobody.
    two.sell("a2", 900)
    for device in school.devices:
        until(
            device.is_alone,
            device.words,
        )
        assert device.process is not None and device.process.poll() is None
    assert two.spent("a1") == 7_500

    school.brokers[0].start()
    until(lambda: two.spent("a1") == 7_530 and one.spent("a2") == 900, school.words)
    until(school.all_hear_all, school.words)


def test_a_stranger_on_the_broker_is_not_heard_and_cannot_speak_for_others(
    school: School, tmp_path: Path
) -> None:
    until(school.all_hear_all, school.words)
    stranger = Device(tmp_path / "stranger", "till-9", Station.TILL)
    stranger.provision(school.keys, site="school-8")
    ends = Ends(lent=False)
    try:
        endpoint = school.brokers[0].endpoint
        session = peer_session(stranger.settings, "till-1", utc_s=None)
        bridge = ends.bridge(session)
        bridge.connect(endpoint, will_topic="", will=b"")
        ends.expect(bridge, Connected)
        beat = PeerBeat(
            device="till-9",
            site=SITE,
            session="s",
            counter=1,
            nonce="n",
            echo={},
            lives=(),
        )
        payload = encode_json(beat)
        signature = FileKeyStore(stranger.settings.key_path).sign(
            peer_signing_input(PeerKind.BEAT, payload)
        )
        data = encode_peer(payload, "till-9", signature)
        for device, failure in (("till-1", "Not authorized"), ("till-9", "")):
            bridge.publish(topic_of(SITE, device, PeerKind.BEAT), data, qos=1)
            assert ends.expect(bridge, Published).failure == failure
        till = school.tills[1]
        until(lambda: till.status()["counters"].get("peer_stranger", 0) == 1, till.words)
        assert till.hears() == {"till-1", "lane-1"}
        # A broker that is another device than the settings name is left at once.
        other = ends.bridge(peer_session(stranger.settings, "till-2", utc_s=None))
        other.connect(endpoint, will_topic="", will=b"")
        event = ends.expect(other, Disconnected)
        assert event.loss is Loss.UNTRUSTED, event
    finally:
        ends.close()
