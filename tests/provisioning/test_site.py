"""Goal: `moskvenok site` writes a broker that lets each device write its own and read its school's,
and nothing that a technician types ends up as a line of its configuration.

Method: the command on a provisioned device; files read back; Mosquitto itself runs with them in
`tests/process/test_peers_mosquitto.py`.
"""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from provisioning.site import render_access
from tests.provisioning.conftest import Run


def test_the_broker_shows_the_devices_own_certificate(run: Run, installed: Path) -> None:
    result = run("site", "--config", installed, "--port", 8884, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.output)
    assert told["ok"] and told["device"] == "gate-1" and told["port"] == 8884
    configuration = Path(told["configuration"])
    assert configuration == installed.parent / "broker" / "mosquitto.conf"
    identity = installed.parent / "identity"
    lines = configuration.read_text().splitlines()
    for line in (
        "listener 8884 0.0.0.0",
        "allow_anonymous false",
        f"cafile {identity}/authority.pem",
        f"certfile {identity}/device.crt",
        f"keyfile {identity}/device.key",
        "require_certificate true",
        "use_identity_as_username true",
        "use_username_as_clientid true",
        "retain_available false",
        "persistence false",
        f"acl_file {told['access']}",
        f"user {installed.owner()}",
    ):
        assert line in lines
    access = Path(told["access"]).read_text()
    assert access == "pattern write peer/school-7/%u/#\npattern read peer/school-7/#\n"
    assert not stat.S_IMODE(configuration.stat().st_mode) & stat.S_IRWXO


def test_again_it_writes_the_same_and_says_what_to_do(
    run: Run, installed: Path, tmp_path: Path
) -> None:
    texts = []
    for _ in range(2):
        result = run("site", "--config", installed, "--folder", tmp_path / "here")
        assert result.exit_code == 0, result.output
        assert "mosquitto -c" in result.output and "tell the city" in result.output
        texts.append((tmp_path / "here" / "mosquitto.conf").read_text())
    assert texts[0] == texts[1]


def test_without_an_identity_it_says_what_comes_first(run: Run, installed: Path) -> None:
    (installed.parent / "identity" / "device.crt").unlink()
    result = run("site", "--config", installed)
    assert result.exit_code == 1
    assert 'run "moskvenok provision" first' in result.output
    assert not (installed.parent / "broker").exists()


@pytest.mark.parametrize("address", ["", "0.0.0.0 evil", "0.0.0.0\nallow_anonymous true"])
def test_an_address_is_one_word(run: Run, installed: Path, address: str) -> None:
    result = run("site", "--config", installed, "--address", address)
    assert result.exit_code == 1 and "--address" in result.output
    assert not (installed.parent / "broker").exists()


def test_a_site_id_cannot_write_into_the_access_list() -> None:
    with pytest.raises(Exception, match="site id"):
        render_access("school-7/#\ntopic readwrite")
