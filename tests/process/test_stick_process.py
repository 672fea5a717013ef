"""Goal: a school without any network: a device that was never online gets its first lists, keys and
settings by stick, and from then on decides taps with names shown; whatever ends in between.

Method: real processes and no broker at all: the reference city (its HTTP alone is reached, where
the device was enrolled), `edge` and `sync`, `moskvenok city stick` there and `moskvenok lists take`
here. Cards and bodies come through the station's own socket, as in `two_doors.py`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from edge.config import load
from edge.messages import AccessFact
from edge.model import AccessReason, Category, Outcome, UidKind
from hil.city.intake import CityCore
from hil.city.keys import open_keys, utc
from hil.city.seed import seed_school
from hil.city.store import Store
from hil.devices.pcsc_stack import ROOT
from hil.world.school import Person, School
from sync.inbox_form import inbox_of
from tests.process.brokers import free_port
from tests.process.school import SITE, WAIT_S, City
from tests.process.two_doors import AGAIN_S, Entrance, day_school, lane, until
from tests.process.two_tills import noon_zone

GATE = f"{SITE}-gate"
PEOPLE, SETTINGS = f"{SITE}/people", f"{SITE}/settings"

pytestmark = [pytest.mark.process, pytest.mark.slow]


class FarAway:
    """One gate of a school without a network, and the city where its stick is written."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        zone = noon_zone()
        self.school: School = day_school(zone)
        self.city = City(folder, f"mqtt://127.0.0.1:{free_port()}")  # Nobody listens there.
        self._fill_books()
        self.city.start()
        stack.callback(self.city.stop)
        self.gate = Entrance(folder / "gate", GATE)
        self.gate.provision(
            self.city,
            *("--reader", f"r-in:serial:{folder}/no-tty:hex_line:access_point=gate-in"),
            *("--lane", lane("gate"), "--time-zone", zone, "--simulated-taps"),
            *("--runtime", str(self.gate.folder / "run")),
            station="entrance",
        )
        stack.callback(self.gate.stop)

    def _fill_books(self) -> None:
        now_ms = time.time_ns() // 1_000_000
        keys = open_keys(self.city.folder, SITE, utc(now_ms))
        store = Store(self.city.folder / "city.db")
        try:
            seed_school(CityCore(store, keys), self.school, now_ms)
        finally:
            store.close()

    def write_stick(self, name: str, *options: str) -> Path:
        out = self.folder / name
        argv = ("city", "stick", "--http", self.city.url, "--site", SITE, "--out", str(out))
        done = self.command(*argv, *options)
        assert done.returncode == 0, done.stdout + done.stderr
        return out

    def take(self, stick: Path) -> tuple[int, dict[str, Any]]:
        """`moskvenok lists take`: exit code and what it says."""
        done = self.command("lists", "take", "--json", str(stick))
        return done.returncode, json.loads(done.stdout)

    def command(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """`moskvenok …` on the device."""
        return subprocess.run(
            [sys.executable, "-m", "provisioning", *argv],
            cwd=ROOT,
            env={**os.environ, "MOSKVENOK_CONFIG": str(self.gate.config)},
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )

    def tap(self, uid: str) -> AccessFact:
        decided = self.gate.tap(uid)
        assert isinstance(decided, AccessFact)
        return decided

    def pupil(self) -> tuple[Person, str]:
        """Somebody with a plain number, and it."""
        cards = {
            card.cardholder_id: card.uid.hex()
            for card in self.school.cards
            if card.uid_kind is UidKind.ISO14443 and not card.hot and not card.profile
        }
        person = next(
            one
            for one in self.school.people
            if one.category is Category.PUPIL and cards.get(one.cardholder_id)
        )
        return person, cards[person.cardholder_id]


@pytest.fixture
def far(tmp_path: Path) -> Iterator[FarAway]:
    with ExitStack() as stack:
        yield FarAway(tmp_path, stack)


def states(told: dict[str, Any]) -> dict[str, str]:
    return {one["scope"]: one["reason"] or one["state"] for one in told["lists"]}


def test_a_gate_that_was_never_online_is_set_to_work_by_a_stick(far: FarAway) -> None:
    gate = far.gate
    gate.start()
    until(lambda: gate.ask("status") and gate.ask("status", process="sync"), gate.last_words)
    person, uid = far.pupil()
    before = far.tap(uid)
    assert (before.outcome, before.cardholder) == (Outcome.REFER, None), "it knows nobody yet"

    stick = far.write_stick("stick")
    names = {path.name for path in stick.iterdir()}
    assert names == {
        *("moskvenok-stick.json", "root", f"keys-{GATE}"),
        *("list-people", "list-money", "list-menu", "list-settings"),
    }
    code, told = far.take(stick)
    assert (code, told["ok"], told["root"], told["keys"]) == (0, True, "taken", "taken"), told
    assert states(told) == {PEOPLE: "in_force", SETTINGS: "in_force"}
    assert set(told["left_out"]) == {f"{SITE}/money", f"{SITE}/menu"} and not told["remarks"]

    until(lambda: {PEOPLE, SETTINGS} <= set((gate.ask("status") or {})["lists"]), gate.last_words)
    after = far.tap(uid)
    assert (after.outcome, after.cardholder) == (Outcome.GRANT, person.cardholder_id)
    shown = gate.shown()
    assert shown["name"] == person.name and shown["name"]
    gate.walk()
    assert far.tap("04deadbeef").cardholder is None, "a stranger stays one"
    assert not (gate.ask("status", process="sync") or {})["connected"]
    for process in gate.processes.values():
        process.restart()
    until(lambda: PEOPLE in (gate.ask("status") or {"lists": ()})["lists"], gate.last_words)
    assert far.tap(uid).cardholder == person.cardholder_id, "and after a power cut"


def test_what_is_wrong_is_said_and_the_list_in_force_stays(far: FarAway) -> None:
    gate = far.gate
    good = far.write_stick("good")
    done = far.command("lists", "take", str(good))
    assert done.returncode == 1 and "sync of s0001-gate is not running" in done.stderr
    assert 'start it, then look at "moskvenok status"' in done.stderr
    gate.start()
    until(lambda: PEOPLE in (gate.ask("status") or {"lists": ()})["lists"], gate.last_words)

    spoilt = far.folder / "spoilt"
    shutil.copytree(good, spoilt)
    data = bytearray((spoilt / "list-people").read_bytes())
    data[-40] ^= 1
    (spoilt / "list-people").write_bytes(data)
    far.city.post("/block", {"card": "staff"})
    code, told = far.take(far.write_stick("newer", "--device", GATE))
    assert code == 0 and states(told)[PEOPLE] == "in_force"
    code, told = far.take(good)
    assert code == 1 and states(told)[PEOPLE] == "rollback", told
    assert far.take(spoilt)[1]["lists"][0]["reason"] == "rollback"
    done = far.command("lists", "take", str(good))
    assert done.returncode == 1
    assert "refused" in done.stdout and "this device has had a newer one" in done.stdout
    assert far.tap(far.pupil()[1]).outcome is Outcome.GRANT


def test_two_sticks_brought_before_sync_runs_are_both_taken(far: FarAway) -> None:
    gate = far.gate
    older = far.write_stick("older")
    far.city.post("/block", {"card": "staff"})
    newer = far.write_stick("newer")
    for stick, behind in ((older, ""), (newer, "behind 1 stick that came before")):
        done = far.command("lists", "take", str(stick))
        assert done.returncode == 1 and "is not running" in done.stderr and behind in done.stderr
    gate.start()
    until(lambda: gate.ask("status", process="sync") is not None, gate.last_words)
    code, told = far.take(newer)
    assert code == 0 and states(told) == {PEOPLE: "in_force", SETTINGS: "in_force"}, told
    answers = sorted(inbox_of(load(gate.config)).glob("*.answer"))
    said = [json.loads(one.read_bytes()) for one in answers]
    numbers = [one["lists"][0]["version"][1] for one in said]
    assert [one["in_force"] for each in said for one in each["lists"]] == [True] * 4, said
    assert len(numbers) == 2 and numbers[0] < numbers[1] == told["lists"][0]["version"][1]


def test_a_museum_of_another_site_knows_the_pupils_of_the_first(tmp_path: Path) -> None:
    with ExitStack() as stack:
        city = City(tmp_path, f"mqtt://127.0.0.1:{free_port()}", "--more-site", "s0002")
        city.start()
        stack.callback(city.stop)
        museum = Entrance(tmp_path / "museum", "s0002-museum")
        claim = city.post("/claims", {"site": "s0002"})["claim"]
        done = museum.command(
            *("provision", "--city", city.url, "--claim", claim, "--device", museum.device),
            *("--site", "s0002", "--station", "admission", "--simulated-taps"),
            *("--reader", f"desk:serial:{tmp_path}/no-tty:hex_line"),
            *("--runtime", str(museum.folder / "run")),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        out = tmp_path / "stick"
        done = subprocess.run(
            [
                *(sys.executable, "-m", "provisioning", "city", "stick", "--http", city.url),
                *("--site", "s0002", "--out", str(out)),
            ],
            cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert {"list-museum", "keys-s0002-museum", "root"} <= {path.name for path in out.iterdir()}
        museum.start()
        stack.callback(museum.stop)
        until(lambda: museum.ask("status", process="sync") is not None, museum.last_words)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "provisioning", "lists", "take", "--json"),
                *("--config", str(museum.config), str(out)),
            ],
            cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S, check=False,
        )  # fmt: skip
        told = json.loads(done.stdout)
        assert (told["ok"], told["keys"]) == (True, "taken"), told
        assert states(told) == {"city/museum": "in_force", "s0002/settings": "in_force"}
        lists = {"city/museum", "s0002/settings"}
        until(
            lambda: lists <= set((museum.ask("status") or {"lists": ()})["lists"]),
            museum.last_words,
        )
        uid = next(card["uid"] for card in city.get("/cards") if card["label"] == "pupil")
        assert _admitted(museum, uid) is AccessReason.AUTHORIZED
        assert _admitted(museum, "04deadbeef") is AccessReason.UNKNOWN_CREDENTIAL


def _admitted(museum: Entrance, uid: str) -> AccessReason:
    """What the desk says of a card; again where a busy machine looked at it too late."""
    before = len(museum.facts("access"))
    assert museum.tell("tap", reader="desk", uid=uid)["ok"]
    until(lambda: len(museum.facts("access")) > before, museum.last_words)
    reason = museum.facts("access")[-1].reason
    assert isinstance(reason, AccessReason)
    if reason is not AccessReason.STALE_READ:
        return reason
    time.sleep(AGAIN_S)
    return _admitted(museum, uid)


def test_killed_again_and_again_while_a_stick_is_taken(far: FarAway) -> None:
    gate = far.gate
    stick = far.write_stick("stick")
    config = gate.config
    for delay_s in (0.3, 0.5, 0.7, 0.9, 1.2):
        command = subprocess.Popen(
            [
                *(sys.executable, "-m", "provisioning", "lists", "take", "--json"),
                *("--config", str(config), str(stick)),
            ],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        gate.sync.start()
        time.sleep(delay_s)  # Somewhere in its start, its looking or its taking; any will do.
        gate.sync.kill()
        command.send_signal(signal.SIGKILL)
        command.wait(WAIT_S)
    gate.start()
    until(lambda: gate.ask("status", process="sync") is not None, gate.last_words)
    code, told = far.take(stick)
    assert code == 0 and states(told) == {PEOPLE: "in_force", SETTINGS: "in_force"}, told
    inbox = inbox_of(load(gate.config))
    until(lambda: not [p for p in inbox.iterdir() if p.suffix != ".answer"], gate.last_words)
