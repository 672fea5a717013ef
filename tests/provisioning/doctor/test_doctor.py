"""Goal: every broken installation is found, and the finding says what to do; the doctor changes
nothing and disturbs nobody.

Method: a device that was provisioned is broken in one place at a time, really: files, modes,
databases, ports, sockets, TLS servers. Each finding's part, words and remedy are looked at.
"""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge import config
from edge.clock import Clock
from edge.offline_cache.marks import raise_floor, set_anchor
from edge.offline_cache.store import FileKind, Writer
from provisioning.checks.finding import Device, Finding, State
from provisioning.cli import GOOD, OURS, YOURS
from provisioning.doctor import PARTS, exit_code
from tests.provisioning.conftest import Run
from tests.provisioning.doctor.looking import CLOCK, look, worst
from tests.provisioning.enrolment_city import DAY
from tests.provisioning.running import edge_status, running, sync_status

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
