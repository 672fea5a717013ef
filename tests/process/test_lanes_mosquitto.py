"""Goal: a passage at one lane is a passage back at the other, over the school's own broker and with
the city away; what an officer forgives reaches it too; cut from each other both lanes stop nobody
and say so.

Method: two entrances with `edge` and `sync` as real processes, one Mosquitto with mutual TLS as
`moskvenok site` configures it; taps and bodies through the station's own socket, facts read from
the journals. The broker is killed and started again.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edge.clock import Clock
from edge.config import load
from edge.control import ask
from edge.messages import (
    AccessFact,
    PeerBroker,
    RosterRow,
    StaffRow,
    Stream,
    b64u,
    decode_fact,
)
from edge.model import (
    AccessReason,
    Category,
    Caveat,
    DeviceFault,
    Outcome,
    PassbackMode,
    StaffRole,
    Station,
)
from edge.offline_cache import marks, outbox
from edge.offline_cache.apply import store_scope_keys
from edge.offline_cache.store import FileKind, open_reader
from edge.pin import hash_pin
from edge.trust import FileKeyStore, write_secret
from hil.city.keys import CityKeys, certificate_pem, issue_device, open_keys, public_bytes, utc
from tests.process.brokers import Broker, free_port
from tests.process.test_peers_mosquitto import Device, School
from tests.support import small_city
from tests.support.lane_school import (
    ROSTER,
    device_toml,
    person,
    scope_keys,
    site,
    uid_of,
)
from tests.support.pictures import open_station
from tests.support.small_city import PEOPLE, SETTINGS, SITE, Scope

pytestmark = [pytest.mark.process, pytest.mark.slow]

PIN = "4071"
STAFF = 4
PATIENCE_S = 120.0  # Who is gone counts as heard for 20 s; the rest is for a crowded machine.
AGAIN_S = 3.2  # Past the rule that the same card again within 3 s is no new presentation.


def until(is_so: Callable[[], Any], words: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, words()
        time.sleep(0.1)


class Lane:
    """One entrance with both its processes."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.processes: list[subprocess.Popen[bytes]] = []
        self._shown_s: dict[str, float] = {}

    def provision(self, keys: CityKeys) -> None:
        for name in ("state", "identity", "run"):
            (self.folder / name).mkdir(parents=True)
        text = device_toml(self.name, Station.ENTRANCE)
        city_away = f"mqtts://127.0.0.1:{free_port()}"
        text = text.replace("mqtt://127.0.0.1:9", city_away).replace('"error"', '"info"')
        (self.folder / "device.toml").write_text(text)
        self.settings = settings = load(self.folder / "device.toml")
        key = ec.generate_private_key(ec.SECP256R1())
        self.point = public_bytes(key.public_key())
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_secret(settings.key_path, pem)
        now = utc(time.time_ns() // 1_000_000)
        issued = certificate_pem(issue_device(keys, self.name, key.public_key(), now))
        settings.certificate_path.write_text(issued)
        settings.authority_path.write_text(keys.chain_pem)
        settings.root_key_path.write_text(b64u(keys.root_public))
        settings.root_document_path.write_bytes(keys.root_document)

    def install(self, settings: Scope, people: Scope) -> None:
        """The lists, the keys and the time, as if the city had just been there."""
        files = open_station(self.settings.folders.state)
        moment = Clock(ZoneInfo("Europe/Moscow")).moment()
        marks.set_anchor(files.writer, moment, time.time_ns() // 1_000_000)
        point = FileKeyStore(self.settings.key_path).public_point()
        store_scope_keys(files.writer, scope_keys(PEOPLE, point))
        files.install(settings, moment=moment)
        files.install(people, moment=moment)
        files.close()

    def start(self) -> None:
        for process in ("sync", "edge"):
            with (self.folder / f"{process}.log").open("ab") as log:
                command = [sys.executable, "-m", process, "--config"]
                self.processes.append(
                    subprocess.Popen(
                        [*command, str(self.folder / "device.toml")], stdout=log, stderr=log
                    )
                )

    def stop(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(20)
        self.processes.clear()

    def ask(self, **body: Any) -> dict[str, Any]:
        try:
            return ask(self.settings.socket_path("edge"), body)
        except DeviceFault:
            return {"ok": False}

    def hears(self) -> set[str]:
        try:
            status = ask(self.settings.socket_path("sync"), {"request": "status"})
        except DeviceFault:
            return set()
        devices = status["peers"]["devices"]
        return {name for name, one in devices.items() if one["heard"] and one["complete"]}

    def tap(self, name: str) -> AccessFact:
        """A new presentation at the way in; its decision."""
        time.sleep(max(0.0, self._shown_s.get(name, 0.0) + AGAIN_S - time.monotonic()))
        before = len(self.decisions())
        answer = self.ask(request="tap", reader="in", uid=uid_of(name).hex())
        self._shown_s[name] = time.monotonic()
        assert answer["ok"], answer
        until(lambda: len(self.decisions()) > before, self.words)
        return self.decisions()[-1]

    def sign_in(self, name: str) -> None:
        """The officer's own card and PIN."""
        assert self.ask(request="sign_in_start", role="officer")["ok"]
        assert self.ask(request="tap", reader="in", uid=uid_of(name).hex())["ok"]
        assert self.ask(request="sign_in_pin", pin=PIN)["ok"]
        until(lambda: self.ask(request="screen")["officer"]["signed_in"], self.words)

    def go(self, name: str) -> None:
        assert self.tap(name).outcome is Outcome.GRANT
        for active in (True, False):
            assert self.ask(request="move", line="door-in.rotation", active=active)["ok"]

    def decisions(self) -> list[AccessFact]:
        db = open_reader(self.settings.journal_path, FileKind.JOURNAL)
        if db is None:
            return []
        try:
            life = outbox.lives(db, Stream.MAIN)[-1]
            rows = outbox.next_facts(db, life.life, 1, rows_max=1_000, bytes_max=1 << 24)
        finally:
            db.close()
        facts = [decode_fact(body) for body in rows]
        return [fact for fact in facts if isinstance(fact, AccessFact)]

    def words(self) -> str:
        return "\n".join(
            (self.folder / f"{process}.log").read_text()[-3_000:] for process in ("sync", "edge")
        )


class TwoLanes:
    """A till's broker, and two entrances around it."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        now = utc(time.time_ns() // 1_000_000)
        keys = open_keys(folder / "city", SITE, now)
        till = Device(folder / "till-1", "till-1", Station.TILL)
        till.provision(keys)
        self.lanes = [Lane(folder / name, name) for name in ("lane-1", "lane-2")]
        for lane in self.lanes:
            lane.provision(keys)
        self.broker: Broker = School._broker(None, till, stack)  # type: ignore[arg-type]
        settings, people = Scope(SETTINGS), Scope(PEOPLE)
        broker = PeerBroker("till-1", f"mqtts://127.0.0.1:{self.broker.port}")
        rows = [(till.name, till.station, till.point)]
        rows += [(lane.name, Station.ENTRANCE, lane.point) for lane in self.lanes]
        settings.put(
            site(passback_mode=PassbackMode.HARD, peer_brokers=(broker,)),
            small_city.schedule("always", (0, 7 * 24 * 60)),
            *(((ROSTER, name.encode()), RosterRow(what, point)) for name, what, point in rows),
        )
        pin = small_city.sealed_column(hash_pin(PIN), row_key=b"o1", column="pin")
        people.put(
            *(row for name in ("p1", "p2", "p3") for row in person(name)),
            *person("o1", category=Category.STAFF),
            ((STAFF, b"o1"), StaffRow(roles=(StaffRole.OFFICER,), sealed_pin=pin)),
        )
        for lane in self.lanes:
            lane.install(settings, people)
            stack.callback(lane.stop)
            lane.start()

    def words(self) -> str:
        return "\n".join(lane.words() for lane in self.lanes)

    def hear_each_other(self) -> bool:
        one, two = self.lanes
        return two.name in one.hears() and one.name in two.hears()


@pytest.fixture
def school(tmp_path: Path) -> Iterator[TwoLanes]:
    with ExitStack() as stack:
        yield TwoLanes(tmp_path, stack)


def test_a_passage_at_one_lane_is_known_at_the_other(school: TwoLanes) -> None:
    one, two = school.lanes
    until(school.hear_each_other, school.words)
    for lane in school.lanes:
        until(lambda lane=lane: lane.ask(request="screen").get("ok"), school.words)  # type: ignore[misc]

    def inside(lane: Lane) -> int:
        answer = lane.ask(request="occupancy")
        count = answer.get("occupancy", {}).get("school", -1)
        assert isinstance(count, int)
        return count

    one.go("p1")
    one.go("p3")
    until(lambda: inside(two) == 2, school.words)
    until(lambda: two.ask(request="status").get("alone") is False, school.words)
    back = two.tap("p1")
    assert (back.outcome, back.reason) == (Outcome.REFER, AccessReason.PASSBACK), back
    assert Caveat.ALONE not in back.caveats

    refused = one.ask(request="forgive", cardholder="p1")
    assert refused["why"] == "no_officer"
    one.sign_in("o1")
    assert one.ask(request="forgive", cardholder="p1")["ok"]
    until(lambda: inside(two) == 1, school.words)
    forgiven = two.tap("p1")
    assert (forgiven.outcome, forgiven.reason) == (Outcome.GRANT, AccessReason.AUTHORIZED)
    assert Caveat.PASSBACK not in forgiven.caveats

    school.broker.kill()
    for lane in school.lanes:
        until(lambda lane=lane: not lane.hears(), school.words)  # type: ignore[misc]
        until(lambda lane=lane: lane.ask(request="status").get("alone"), school.words)  # type: ignore[misc]
    one.go("p2")
    alone = two.tap("p3")
    assert (alone.outcome, alone.reason) == (Outcome.GRANT, AccessReason.AUTHORIZED), alone
    assert {Caveat.ALONE, Caveat.PASSBACK} <= set(alone.caveats)

    school.broker.start()
    until(school.hear_each_other, school.words)
    until(lambda: inside(two) == 2, school.words)
    until(lambda: two.ask(request="status").get("alone") is False, school.words)
    back = two.tap("p2")
    assert (back.outcome, back.reason) == (Outcome.REFER, AccessReason.PASSBACK), back
