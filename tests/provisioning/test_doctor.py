"""Goal: every broken installation is found, and the finding says what to do; the doctor changes
nothing and disturbs nobody.

Method: a device that was provisioned is broken in one place at a time, really: files, modes,
databases, ports, sockets, TLS servers. Each finding's part, words and remedy are looked at.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge import config
from edge.clock import Clock
from edge.messages import VersionMark
from edge.model import Station
from edge.offline_cache.apply import Pictures, picture_path
from edge.offline_cache.marks import raise_floor, set_anchor
from edge.offline_cache.picture import PictureMeta, write_meta
from edge.offline_cache.record import open_journal
from edge.offline_cache.store import SCHEMA_VERSIONS, FileKind, Writer
from provisioning.checks.finding import Device, Finding, State
from provisioning.cli import GOOD, OURS, YOURS
from provisioning.doctor import PARTS, examine, exit_code
from tests.provisioning.conftest import Run
from tests.provisioning.enrolment_city import DAY, EnrolmentCity, certificate, pem
from tests.provisioning.running import edge_status, running, sync_status

CLOCK = Clock(ZoneInfo("Europe/Moscow"))


@pytest.fixture
def city(template: tuple[EnrolmentCity, Path]) -> EnrolmentCity:
    return template[0]


@pytest.fixture
def installed(template: tuple[EnrolmentCity, Path], tmp_path: Path) -> Path:
    shutil.copytree(template[1], tmp_path, dirs_exist_ok=True)
    return tmp_path / "device.toml"


@pytest.fixture
def short_alert(monkeypatch: pytest.MonkeyPatch) -> None:
    """For servers that say nothing at all: their silence need not be waited for."""
    monkeypatch.setattr("provisioning.checks.broker.ALERT_S", 0.1)


def look(path: Path, *parts: str, now: datetime | None = None) -> list[Finding]:
    return list(examine(path, parts, now or datetime.now(UTC)))


def worst(findings: list[Finding], *words: str) -> Finding:
    """The one finding with these words; it must say what to do."""
    (found,) = [f for f in findings if all(word in f"{f.where}: {f.found}" for word in words)]
    assert found.do
    return found


# --------------------------------------------------------------------------------- the whole


def test_a_device_fresh_from_provisioning(run: Run, installed: Path) -> None:
    result = run("doctor", "--config", installed, "--json", "configuration", "identity")
    assert result.exit_code == GOOD, result.output
    facts = json.loads(result.stdout)
    assert facts["ok"] is True
    assert {finding["part"] for finding in facts["findings"]} == {"configuration", "identity"}
    words = run("doctor", "--config", installed)
    assert words.exit_code == YOURS  # Nothing runs yet.
    flat = " ".join(words.output.split())
    assert "edge does not run" in flat and "-> start it" in flat
    for part in PARTS:
        assert part in words.output


def test_parts_are_examined_in_their_order_and_mistyped_ones_named(
    run: Run, installed: Path
) -> None:
    parts = [finding.part for finding in look(installed, "processes", "identity")]
    assert parts == sorted(parts, key=PARTS.index) and set(parts) == {"identity", "processes"}
    result = run("doctor", "--config", installed, "reeders")
    assert result.exit_code == YOURS and "readers" in result.stderr


def test_every_problem_of_the_file_is_one_finding(run: Run, installed: Path) -> None:
    text = installed.read_text().replace("pin = 17", "pin = 99").replace('"id12"', '"id13"')
    installed.write_text(text)
    findings = look(installed)
    assert [finding.state for finding in findings] == [State.WRONG] * 2
    assert "0 to 27" in worst(findings, "pin", "99").do
    assert "id12" in worst(findings, "frame", "id13").do
    assert run("doctor", "--config", installed.parent / "none.toml").exit_code == YOURS


def test_a_check_that_fails_itself_is_ours_and_hides_no_other(
    run: Run, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(device: Device) -> Iterator[Finding]:
        raise ZeroDivisionError("0/0")

    monkeypatch.setattr("provisioning.checks.clock.examine", broken)
    result = run("doctor", "--config", installed, "clock", "identity")
    assert result.exit_code == OURS
    assert "0/0" in result.output and "fits key, name and root" in result.output


def test_attention_alone_is_no_failure() -> None:
    finding = Finding(part="x", state=State.ATTENTION, where="x", found="x", do="y")
    assert exit_code([finding]) == GOOD
    with pytest.raises(AssertionError):
        Finding(part="x", state=State.WRONG, where="x", found="x")


# --------------------------------------------------------------------------------- identity


def _key_open(folder: Path) -> None:
    (folder / "device.key").chmod(0o644)


def _key_gone(folder: Path) -> None:
    (folder / "device.key").unlink()


def _key_other(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    data = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "device.key").write_bytes(data)


def _key_garbage(folder: Path) -> None:
    (folder / "device.key").write_bytes(b"none")


def _root_changed(folder: Path) -> None:
    text = (folder / "root.json").read_text()
    (folder / "root.json").write_text(text.replace('"version":1', '"version":2'))


def _certificate_gone(folder: Path) -> None:
    (folder / "device.crt").unlink()


def _folder_open(folder: Path) -> None:
    folder.chmod(0o2777)


def _folder_gone(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("hurt", "found", "do"),
    [
        (_key_open, "mode 0644", "chmod 600"),
        (_key_gone, "No such file", "moskvenok provision"),
        (_key_other, "for another key", "--claim"),
        (_key_garbage, "no private key", "provision again"),
        (_root_changed, "not signed", "--claim"),
        (_certificate_gone, "missing", "--claim"),
        (_folder_open, "lets every user", "chmod 2770"),
    ],
)
def test_a_broken_identity_is_found(
    installed: Path, hurt: Callable[[Path], None], found: str, do: str
) -> None:
    hurt(installed.parent / "identity")
    finding = worst(look(installed, "identity"), found)
    assert finding.state is State.WRONG and do in finding.do


def test_no_identity_at_all(installed: Path) -> None:
    _folder_gone(installed.parent / "identity")
    findings = look(installed, "identity")
    assert findings and all(finding.state is State.WRONG for finding in findings)


@pytest.mark.parametrize(
    ("days", "state", "found", "do"),
    [
        (0, State.OK, "good until", ""),
        (75, State.ATTENTION, "ends in 13 days", "--renew"),
        (100, State.WRONG, "ended on", "--claim"),
        (-5000, State.WRONG, "is the clock right", "timedatectl"),
    ],
)
def test_the_end_of_a_certificate_is_held_against_the_clock(
    installed: Path, days: int, state: State, found: str, do: str
) -> None:
    findings = look(installed, "identity", now=datetime.now(UTC) + days * DAY)
    (finding,) = [one for one in findings if one.where.endswith("device.crt")]
    assert finding.state is state and found in finding.found and do in finding.do


def test_a_visit_that_was_cut_off_is_told(installed: Path) -> None:
    kept = {"certificate_pem": "", "chain_pem": "", "root_public_b64u": "", "root_document": ""}
    path = installed.parent / "identity/enrolment.json"
    path.write_text(json.dumps(kept | {"endpoints": []}))
    finding = worst(look(installed, "identity"), "cut off")
    assert finding.state is State.ATTENTION and "once more" in finding.do


# --------------------------------------------------------------------------------- clock


@pytest.mark.parametrize(
    ("ntp", "floor_days", "anchored", "state", "found"),
    [
        (True, None, False, State.OK, "vouched for by ntp"),
        (False, None, False, State.ATTENTION, "nobody vouches"),
        (True, 1, False, State.WRONG, "earlier than the newest time the city has signed"),
        (False, 0, True, State.OK, "vouched for by city"),
        (True, 30, True, State.ATTENTION, "away from the city's time"),
    ],
)
def test_the_clock_is_judged_as_the_agent_judges_it(
    installed: Path,
    monkeypatch: pytest.MonkeyPatch,
    ntp: bool,
    floor_days: int | None,
    anchored: bool,
    state: State,
    found: str,
) -> None:
    # What the kernel of this machine says must not decide a test.
    defaults = Clock.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "ntp", lambda: ntp)
    if floor_days is not None:
        settings = config.load(installed)
        writer = Writer(settings.sync_path, FileKind.SYNC)
        moment = CLOCK.moment()
        utc_ms = int(time.time() * 1000) + floor_days * 86_400_000
        if anchored:
            assert set_anchor(writer, moment, utc_ms)
        else:
            raise_floor(writer, utc_ms)
        writer.close()
    (finding,) = look(installed, "clock")
    assert finding.state is state and found in finding.found
    assert ("timedatectl" in finding.do) is (state is not State.OK)


# --------------------------------------------------------------------------------- databases


@pytest.fixture(scope="session")
def databases(
    template: tuple[EnrolmentCity, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Databases with a first fact, and lists in force that were confirmed just now."""
    folder = tmp_path_factory.mktemp("databases")
    journal = open_journal(
        folder / "journal.db",
        device="gate-1",
        site="school-7",
        station=Station.ENTRANCE,
        machine="m",
        moment=CLOCK.moment(),
    )
    journal.close()
    writer = Writer(folder / "sync.db", FileKind.SYNC)
    with pictures_in(folder, writer) as put:
        for scope in ("school-7/people", "school-7/settings"):
            put(scope)
    writer.close()
    return folder


@pytest.fixture
def stored(installed: Path, databases: Path) -> Path:
    shutil.copytree(databases, installed.parent / "state", dirs_exist_ok=True)
    return installed


@contextmanager
def pictures_in(folder: Path, writer: Writer) -> Iterator[Callable[[str], None]]:
    pictures = Pictures(folder, writer)

    def put(scope: str) -> None:
        path = picture_path(folder, scope, 1)
        file = Writer(path, FileKind.PICTURE)
        with file.transaction() as db:
            write_meta(
                db,
                PictureMeta(
                    version=VersionMark(1, 7),
                    set_digest=bytes(32),
                    identifier_key_version=1,
                    seal_key_version=1,
                    vector=(),
                ),
            )
        file.close()
        pictures.put_in_force(path, scope, 1, int(time.time() * 1000), CLOCK.moment())

    yield put
    pictures.close()


def test_sound_databases_are_read_and_not_written(stored: Path) -> None:
    state = stored.parent / "state"
    before = {path.name: path.read_bytes() for path in state.glob("*.db")}
    findings = look(stored, "databases")
    assert {finding.state for finding in findings} == {State.OK}, findings
    text = " ".join(finding.found for finding in findings)
    version = SCHEMA_VERSIONS[FileKind.JOURNAL]
    assert "1 facts wait" in text and "version 1.7" in text and f"sound, schema {version}" in text
    assert {path.name: path.read_bytes() for path in state.glob("*.db")} == before


def test_databases_can_be_examined_while_their_writer_writes(stored: Path) -> None:
    settings = config.load(stored)
    writer = Writer(settings.sync_path, FileKind.SYNC)
    with writer.transaction() as db:
        db.execute("INSERT OR REPLACE INTO counters VALUES ('x', 1)")
        findings = look(stored, "databases")
    writer.close()
    assert {finding.state for finding in findings} == {State.OK}, findings


def _damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[2048 : len(data)] = b"\xa5" * (len(data) - 2048)
    path.write_bytes(data)


def _damage_inside(path: Path) -> None:
    """One table's page alone: the file opens, and most of it can be read."""
    data = path.read_bytes()
    path.write_bytes(data[:8192] + b"\xa5" * 4096 + data[12288:])


def _no_database(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 100)


def _newer(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 9")
    db.close()


def _remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("name", "hurt", "found", "do"),
    [
        ("journal.db", _damage, "damaged", "keep a copy"),
        ("journal.db", _damage_inside, "damaged", "keep a copy"),
        ("picture-school-7-people-1.db", _damage_inside, "damaged", "fetches the list again"),
        ("journal.db", _no_database, "damaged", "keep a copy"),
        ("journal.db", _newer, "schema version 9", "install the release"),
        ("sync.db", _damage, "damaged", "move the file away"),
        ("sync.db", _no_database, "damaged", "move the file away"),
        ("picture-school-7-people-1.db", _damage, "damaged", "fetches the list again"),
        ("picture-school-7-people-1.db", _remove, "though it is in force", "fetches the list"),
    ],
)
def test_a_broken_database_is_found(
    stored: Path, name: str, hurt: Callable[[Path], None], found: str, do: str
) -> None:
    path = stored.parent / "state" / name
    for beside in path.parent.glob(f"{name}-*"):
        beside.unlink()
    hurt(path)
    finding = worst(look(stored, "databases"), name, found)
    assert finding.state is State.WRONG and do in finding.do


def test_a_device_that_never_ran_wants_a_start(installed: Path) -> None:
    findings = look(installed, "databases")
    assert "start edge" in worst(findings, "journal.db", "not there yet").do
    assert "start sync" in worst(findings, "sync.db", "not there yet").do
    assert exit_code(findings) == GOOD


def test_a_scope_without_a_list_is_wrong(stored: Path) -> None:
    settings = config.load(stored)
    writer = Writer(settings.sync_path, FileKind.SYNC)
    with writer.transaction() as db:
        db.execute("DELETE FROM pictures WHERE scope = 'school-7/people'")
    writer.close()
    finding = worst(look(stored, "databases"), "school-7/people", "no list yet")
    assert finding.state is State.WRONG and "doctor broker" in finding.do


def test_an_old_list_wants_attention(stored: Path) -> None:
    findings = look(stored, "databases", now=datetime.now(UTC) + timedelta(hours=30))
    finding = worst(findings, "school-7/people", "30 h ago")
    assert finding.state is State.ATTENTION and "blocked since" in finding.do


def test_a_broken_chain_is_found(stored: Path) -> None:
    settings = config.load(stored)
    writer = Writer(settings.journal_path, FileKind.JOURNAL)
    with writer.transaction() as db:
        db.execute("UPDATE lives SET head = head + 5")
    writer.close()
    assert worst(look(stored, "databases"), "its head says 6").state is State.WRONG


def test_a_long_outbox_and_a_full_disk_are_told(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provisioning.checks.databases.WAITING_MAX", 0)
    monkeypatch.setattr(
        "provisioning.checks.databases.shutil.disk_usage", lambda _: SimpleNamespace(free=5 << 20)
    )
    findings = look(stored, "databases")
    assert worst(findings, "1 facts wait").state is State.ATTENTION
    assert worst(findings, "5 MiB free").state is State.WRONG


# --------------------------------------------------------------------------------- readers


def with_port(installed: Path, port: str) -> None:
    text = installed.read_text().replace("/dev/serial/by-path/pci-0:1", port)
    installed.write_text(text)


def test_a_reader_that_is_not_there(installed: Path) -> None:
    finding = worst(look(installed, "readers"), "r1", "No such file")
    assert finding.state is State.WRONG and "check its plug" in finding.do


def test_a_reader_whose_port_is_a_file(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "port").touch()
    with_port(installed, str(tmp_path / "port"))
    assert "device path" in worst(look(installed, "readers"), "not a serial port").do


def test_a_port_that_may_not_be_opened(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_port(installed, "/dev/null")
    monkeypatch.setattr("provisioning.checks.readers.os.access", lambda *_: False)
    assert "dialout" in worst(look(installed, "readers"), "may not be opened").do


def test_a_character_device_that_is_no_port(installed: Path) -> None:
    with_port(installed, "/dev/null")
    assert worst(look(installed, "readers"), "cannot be opened").state is State.WRONG


def test_a_port_that_opens_and_one_that_is_taken(installed: Path) -> None:
    import fcntl

    ours, theirs = os.openpty()
    try:
        with_port(installed, os.ttyname(theirs))
        (finding,) = look(installed, "readers")
        assert finding.state is State.OK and finding.found == "can be opened"
        fcntl.flock(theirs, fcntl.LOCK_EX)
        assert "stop the program" in worst(look(installed, "readers"), "cannot be opened").do
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize(
    ("said", "state", "found", "do"),
    [
        ({"up": True}, State.OK, "in use by edge", ""),
        (
            {"up": False, "reason": "reader r1: silent; check its plug"},
            State.WRONG,
            "silent",
            "check its plug",
        ),
        ({"up": False, "reason": ""}, State.WRONG, "edge says it is down", "plug"),
        ({"up": True, "counters": {"noise_bytes": 40}}, State.ATTENTION, "40 bytes", "baud"),
        ({"reader": "r9", "up": True}, State.WRONG, "does not know it", "restart edge"),
    ],
    ids=str,
)
def test_a_reader_in_use_is_not_touched(
    installed: Path, said: dict[str, Any], state: State, found: str, do: str
) -> None:
    status = edge_status(readers=[{"reader": "r1"} | said])
    with running(installed, "edge", {"status": status}):
        (finding,) = look(installed, "readers")
    assert finding.state is state and found in finding.found and do in finding.do


class FakeScard:
    SCARD_SCOPE_SYSTEM = 2

    def __init__(self, *names: str, service: bool = True) -> None:
        self.names, self.service, self.contexts = list(names), service, 0

    def SCardEstablishContext(self, scope: int) -> tuple[int, object]:
        self.contexts += self.service
        return (0, "context") if self.service else (0x8010001D, None)

    def SCardReleaseContext(self, context: object) -> None:
        self.contexts -= 1

    def SCardListReaders(self, context: object, groups: list[str]) -> tuple[int, list[str]]:
        return (0, self.names) if self.names else (0x8010002E, [])

    def SCardGetErrorMessage(self, code: int) -> str:
        return f"code {code:x}"


@pytest.mark.parametrize(
    ("scard", "state", "found", "do"),
    [
        (FakeScard("ACS ACR122U 00 00"), State.OK, "has it", ""),
        (FakeScard("Other"), State.WRONG, "there is Other", "check its plug"),
        (FakeScard(), State.WRONG, "there is none", "check its plug"),
        (FakeScard(service=False), State.WRONG, "no PC/SC service", "systemctl start pcscd"),
    ],
)
def test_a_pcsc_reader_is_asked_for_by_name(
    installed: Path,
    monkeypatch: pytest.MonkeyPatch,
    scard: FakeScard,
    state: State,
    found: str,
    do: str,
) -> None:
    monkeypatch.setattr("edge.readers.pcsc.load_scard", lambda: scard)
    _use_pcsc(installed)
    (finding,) = look(installed, "readers")
    assert finding.state is state and found in finding.found and do in finding.do
    assert scard.contexts == 0


def test_pcsc_without_its_library(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "smartcard", None)
    _use_pcsc(installed)
    assert "apt-get install" in worst(look(installed, "readers"), "not installed").do


def _use_pcsc(installed: Path) -> None:
    text = installed.read_text()
    start = text.index("[[readers]]")
    end = text.index("[[lanes]]")
    reader = '[[readers]]\nid = "r1"\ndriver = "pcsc"\nname = "ACS"\naccess_point = "north-in"\n'
    installed.write_text(text[:start] + reader + text[end:])


# --------------------------------------------------------------------------------- lines


def test_a_mock_lane_is_for_benches(installed: Path) -> None:
    findings = look(installed, "lines")
    assert worst(findings, "no wire moves").state is State.ATTENTION
    assert any("2 lines, each with its pin" in finding.found for finding in findings)


@pytest.mark.parametrize(
    ("library", "chips", "may", "state", "text"),
    [
        (False, 1, True, State.WRONG, "moskvenok-edge[pi]"),
        (True, 0, True, State.WRONG, "no Raspberry Pi"),
        (True, 1, False, State.WRONG, "usermod -aG gpio"),
        (True, 1, True, State.OK, "can be driven"),
    ],
)
def test_real_pins_want_a_library_a_chip_and_permission(
    installed: Path,
    monkeypatch: pytest.MonkeyPatch,
    library: bool,
    chips: int,
    may: bool,
    state: State,
    text: str,
) -> None:
    installed.write_text(installed.read_text().replace('"mock"', '"lgpio"'))
    checks = "provisioning.checks.lines"
    monkeypatch.setattr(f"{checks}.find_spec", lambda name: library or name != "lgpio" or None)
    if not library:
        monkeypatch.setattr(f"{checks}.find_spec", lambda name: None if name == "lgpio" else True)
    monkeypatch.setattr(f"{checks}.CHIPS", "null" if chips else "no-such-chip*")
    monkeypatch.setattr(f"{checks}.os.access", lambda *_: may)
    finding = look(installed, "lines")[0]
    assert finding.state is state and text in finding.found + finding.do


def test_a_sensor_without_pull_or_none_at_all_is_told(installed: Path) -> None:
    text = installed.read_text()
    installed.write_text(text.replace(', pull = "up"', ""))
    finding = worst(look(installed, "lines"), "north-in.rotation", "no pull")
    assert finding.state is State.ATTENTION and "resistor" in finding.do
    kept = [line for line in text.splitlines() if not line.startswith("rotation")]
    installed.write_text("\n".join(kept))
    assert worst(look(installed, "lines"), "assumed").state is State.ATTENTION


@pytest.mark.parametrize(
    ("pin", "active_high", "unsafe"),
    [(8, True, True), (9, True, False), (8, False, False), (9, False, True)],
)
def test_an_output_whose_pull_at_reset_is_its_active_level_is_refused(
    installed: Path, pin: int, active_high: bool, unsafe: bool
) -> None:
    """On all that are outputs: a relay opens, a holding line shuts people in, a buzzer cries."""
    text = installed.read_text().replace('"mock"', '"lgpio"')
    relay = f"relay = {{ pin = {pin}, active_high = {str(active_high).lower()} }}"
    kept = [relay if line.startswith("relay") else line for line in text.splitlines()]
    installed.write_text("\n".join(kept))
    found = [f for f in look(installed, "lines") if "when power comes" in f.found]
    assert [finding.state for finding in found] == ([State.WRONG] if unsafe else [])
    hold = f"hold = {{ pin = {pin}, active_high = {str(active_high).lower()} }}"
    held = [f"{line}\n{hold}" if line.startswith("driver") else line for line in text.splitlines()]
    installed.write_text("\n".join(held).replace(f'"pcsc"\n{hold}', '"pcsc"'))
    text = installed.read_text()
    at = text.index("[[lanes]]")
    installed.write_text(text[:at].replace(f"\n{hold}", "") + text[at:])
    found = [f for f in look(installed, "lines") if "north.hold" in f.where]
    assert any("when power comes" in finding.found for finding in found) is unsafe


def test_a_lane_without_a_copy_of_the_fire_alarm_is_told(installed: Path) -> None:
    finding = worst(look(installed, "lines"), "fire alarm")
    assert finding.state is State.ATTENTION and "turnstile" in finding.do


@pytest.mark.parametrize(("there", "may"), [(False, True), (True, False), (True, True)])
def test_a_relay_board_is_looked_for_and_not_touched(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool, may: bool
) -> None:
    port = tmp_path / "board"
    text = installed.read_text()
    text = "\n".join(line for line in text.splitlines() if not line.startswith("rotation"))
    text = text.replace('"mock"', f'"relay_board"\nport = "{port}"').replace("pin = 17", "pin = 1")
    installed.write_text(text)
    if there:
        port.write_text("")
    monkeypatch.setattr("provisioning.checks.lines.os.access", lambda *_: may)
    finding = look(installed, "lines")[0]
    assert finding.state is (State.OK if there and may else State.WRONG)
    assert "dialout" in finding.do or may


def test_an_alarm_of_the_lane_is_told_with_what_to_do(installed: Path) -> None:
    lane = {"lane": "north", "up": True, "alarms": ["fire_clear", "stuck north-in.button"]}
    with running(installed, "edge", {"status": edge_status(lanes=[lane])}):
        findings = look(installed, "lines")
        assert "officer ends the release" in worst(findings, "fire_clear").do
        assert "held down" in worst(findings, "stuck").do


def test_a_lane_that_edge_calls_down(installed: Path) -> None:
    status = edge_status(lanes=[{"lane": "north", "up": False}])
    with running(installed, "edge", {"status": status}):
        assert worst(look(installed, "lines"), "edge says").state is State.WRONG


# --------------------------------------------------------------------------------- processes


def test_what_the_processes_want_known_is_a_finding_with_what_to_do(installed: Path) -> None:
    edge = edge_status(disk={"alarms": ["the disk is 91 % full; free it, or connect"]})
    sync = sync_status(alarms=["list x/people is lost, and fetched again: gone; connect"])
    with (
        running(installed, "edge", {"status": edge}),
        running(installed, "sync", {"status": sync}),
    ):
        findings = look(installed, "processes")
    for text, do in (("91 % full", "free it, or connect"), ("x/people is lost", "connect")):
        finding = worst(findings, text)
        assert finding.state is State.ATTENTION and finding.do == do


def test_both_processes_running_is_good(installed: Path) -> None:
    with (
        running(installed, "edge", {"status": edge_status()}),
        running(installed, "sync", {"status": sync_status()}),
    ):
        assert {finding.state for finding in look(installed, "processes")} == {State.OK}


@pytest.mark.parametrize(
    ("status", "found", "do"),
    [
        ({"ok": False, "error": "stuck"}, "stuck", "restart"),
        (edge_status(process="sync"), "not as edge", "restart"),
        (edge_status(device="gate-2"), 'runs as "gate-2"', "restart edge"),
        (edge_status(simulated_taps=True), "simulated taps", "bench"),
    ],
    ids=["refuses", "other process", "other device", "taps"],
)
def test_a_process_that_answers_wrongly(
    installed: Path, status: dict[str, Any], found: str, do: str
) -> None:
    with running(installed, "edge", {"status": status}):
        assert do in worst(look(installed, "processes"), found).do


def test_a_socket_left_behind_and_none_at_all(installed: Path) -> None:
    path = config.load(installed).socket_path("edge")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    findings = look(installed, "processes")
    assert "python -m edge" in worst(findings, "edge", "left its socket").do
    assert "python -m sync" in worst(findings, "sync does not run").do


@pytest.mark.parametrize(
    ("cause", "found", "do"),
    [
        (PermissionError(13, "denied"), "may not be asked", "group moskvenok"),
        (TimeoutError("timed out"), "does not answer", "restart edge"),
    ],
)
def test_a_process_that_cannot_be_asked(
    installed: Path, monkeypatch: pytest.MonkeyPatch, cause: OSError, found: str, do: str
) -> None:
    def connect(self: socket.socket, address: object) -> None:
        raise cause

    monkeypatch.setattr(socket.socket, "connect", connect)
    assert do in worst(look(installed, "processes"), f"edge {found}").do


# --------------------------------------------------------------------------------- broker


@contextmanager
def broker(
    installed: Path,
    city: EnrolmentCity,
    *,
    host: str = "localhost",
    trust: str | None = None,
    revoked: bool = False,
    life: timedelta = 30 * DAY,
    stranger: bool = False,
    answer: bytes = b"",
) -> Iterator[str]:
    """A TLS server that wants a certificate, then says nothing: as a broker before CONNECT."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer = EnrolmentCity().issuing_key if stranger else city.issuing_key
    leaf = certificate(
        "broker",
        key.public_key(),
        "issuing",
        signer,
        datetime.now(UTC) - DAY,
        life=life,
        purpose=ExtendedKeyUsageOID.SERVER_AUTH,
        host=host,
    )
    folder = installed.parent
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "broker.pem").write_bytes(secret + (pem(leaf) + pem(city.issuing)).encode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "broker.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=trust or pem(city.issuing) + pem(city.root))
    if revoked:
        (folder / "crl.pem").write_text(_revocations(installed, city))
        context.load_verify_locations(folder / "crl.pem")
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                client.settimeout(5)
                try:
                    with context.wrap_socket(client, server_side=True) as secured:
                        if answer:
                            return
                        secured.recv(1)
                except OSError:
                    continue

    thread = threading.Thread(target=serve)
    thread.start()
    endpoint = f"mqtts://localhost:{listener.getsockname()[1]}"
    text = installed.read_text().replace("mqtts://broker.example:8883", endpoint)
    installed.write_text(text)
    try:
        yield endpoint
    finally:
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _revocations(installed: Path, city: EnrolmentCity) -> str:
    leaf = x509.load_pem_x509_certificates((installed.parent / "identity/device.crt").read_bytes())[
        0
    ]
    now = datetime.now(UTC)
    gone = x509.RevokedCertificateBuilder().serial_number(leaf.serial_number)
    listed = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(city.issuing.subject)
        .last_update(now - DAY)
        .next_update(now + DAY)
        .add_revoked_certificate(gone.revocation_date(now - DAY).build())
        .sign(city.issuing_key, hashes.SHA256())
    )
    return listed.public_bytes(serialization.Encoding.PEM).decode()


NOT_WELCOMED = sync_status(connected=False, endpoint="", reason="")


@pytest.mark.parametrize(
    ("server", "found", "do"),
    [
        ({"host": "other.example"}, "not the city's", "is the name right"),
        ({"stranger": True}, "not the city's", "do not go on"),
        ({"life": timedelta(hours=1)}, "not good at this moment", "doctor clock"),
        ({"revoked": True}, "this device is revoked", "new claim"),
        ({"trust": "of that name"}, "does not know our issuer", "same city"),
        ({"trust": "other"}, "does not know our issuer", "same city"),
        ({"answer": b"close"}, "closes the connection", "knows this device"),
    ],
    ids=["name", "stranger", "dates", "revoked", "same name", "other issuer", "closes"],
)
def test_the_true_reason_of_tls_is_told(
    installed: Path, city: EnrolmentCity, server: dict[str, Any], found: str, do: str
) -> None:
    if server.get("trust") == "of that name":
        server = {"trust": pem(EnrolmentCity().root)}
    elif server.get("trust"):
        key = city.issuing_key
        now = datetime.now(UTC)
        other = certificate("elsewhere", key.public_key(), "elsewhere", key, now, ca=True)
        server = {"trust": pem(other)}
    with (
        broker(installed, city, **server) as endpoint,
        running(installed, "sync", {"status": NOT_WELCOMED}),
    ):
        finding = worst(look(installed, "broker"), endpoint, found)
    assert finding.state is State.WRONG and do in finding.do


def test_a_session_of_sync_is_believed_and_not_thrown_out(
    installed: Path, city: EnrolmentCity, monkeypatch: pytest.MonkeyPatch, short_alert: None
) -> None:
    monkeypatch.setattr("sync.bridge.Bridge.connect", None)  # Whoever calls it fails.
    with (
        broker(installed, city) as endpoint,
        running(installed, "sync", {"status": sync_status(endpoint=endpoint)}),
    ):
        findings = look(installed, "broker")
    assert [finding.state for finding in findings] == [State.OK, State.OK]
    assert "sync is connected" in findings[0].found and "reached" in findings[1].found


def test_one_broker_of_two_is_attention(
    installed: Path, city: EnrolmentCity, short_alert: None
) -> None:
    with broker(installed, city) as endpoint:
        text = installed.read_text()
        installed.write_text(text.replace(f'"{endpoint}"', f'"mqtts://127.0.0.1:9", "{endpoint}"'))
        with running(installed, "sync", {"status": NOT_WELCOMED}):
            findings = look(installed, "broker")
    finding = worst(findings, "127.0.0.1:9", "no TCP connection")
    assert finding.state is State.ATTENTION and "firewall" in finding.do
    assert exit_code(findings) == GOOD


def test_a_name_that_cannot_be_found(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", nobody)
    finding = worst(look(installed, "broker"), "name cannot be found")
    assert finding.state is State.WRONG and "name server" in finding.do


def test_plain_mqtt_beyond_this_machine_is_refused(installed: Path) -> None:
    text = installed.read_text().replace("mqtts://broker.example:8883", "mqtt://10.0.0.9")
    installed.write_text(text)
    assert "mqtts://" in worst(look(installed, "broker"), "without TLS").do


def test_missing_identity_files_are_named(installed: Path) -> None:
    (installed.parent / "identity/authority.pem").unlink()
    assert worst(look(installed, "broker"), "authority.pem").state is State.WRONG


def test_a_session_without_the_citys_answer_is_told(
    installed: Path, city: EnrolmentCity, short_alert: None
) -> None:
    with broker(installed, city) as endpoint:
        waiting = sync_status(connected=False, endpoint=endpoint, reason="no welcome")
        with running(installed, "sync", {"status": waiting}):
            finding = worst(look(installed, "broker"), "no welcome")
    assert finding.state is State.ATTENTION and "operator" in finding.do
