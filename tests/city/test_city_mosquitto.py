"""Goal: the broker's access list gives each device its own topics and its station's lists only.

Method: the list's text is read back by a small matcher with the broker's rules (what nothing grants
is denied; `%u` is the certificate's name; `+` and `#` as in MQTT), and every topic of WIRE is tried
for every device, right or wrong. The process test does the same with a real broker.
"""

from __future__ import annotations

import stat
from itertools import product
from pathlib import Path

import pytest

from edge.model import Station
from hil.city.batches import Sender
from hil.city.keys import utc
from hil.city.mosquitto import broker_files, reload_broker, render_access, write_broker
from tests.city.sham import NOON_MS, SITE, city_keys

UP = ("status", "hello", "pull", "renew", "health", "up/main", "up/agent", "up/diag")
DOWN = ("welcome", "ack", "push", "renewed", "order")
READS = {
    Station.ENTRANCE: {"people", "settings"},
    Station.PRESCHOOL: {"people", "settings"},
    Station.TILL: {"people", "money", "menu", "settings"},
    Station.ADMISSION: {"settings"},
}
SENDERS = [Sender(device=f"{station}-1", site=SITE, station=station) for station in Station] + [
    Sender(device="till-2", site="s0002", station=Station.TILL)
]


def matches(pattern: str, topic: str) -> bool:
    wanted, given = pattern.split("/"), topic.split("/")
    for number, part in enumerate(wanted):
        if part == "#":
            return True
        if number >= len(given) or part not in ("+", given[number]):
            return False
    return len(wanted) == len(given)


def allows(text: str, user: str, verb: str, topic: str) -> bool:
    """What Mosquitto makes of the file; anonymous clients are shut out before it."""
    section = ""
    for line in text.splitlines():
        words = line.split()
        if not words or words[0] == "#":
            continue
        if words[0] == "user":
            section = words[1]
        elif words[0] == "pattern" or (words[0] == "topic" and section == user):
            pattern = words[2].replace("%u", user) if words[0] == "pattern" else words[2]
            if words[1] in (verb, "readwrite") and matches(pattern, topic):
                return True
    return False


TEXT = render_access(SENDERS)


@pytest.mark.parametrize("me", SENDERS, ids=lambda sender: sender.device)
def test_a_device_speaks_for_itself_alone(me: Sender) -> None:
    for other, topic, verb in product(SENDERS, UP + DOWN, ("read", "write")):
        own = other.device == me.device
        wanted = own and verb == ("write" if topic in UP else "read")
        assert allows(TEXT, me.device, verb, f"mk/v1/d/{other.device}/{topic}") is wanted


@pytest.mark.parametrize("me", SENDERS, ids=lambda sender: sender.device)
def test_a_device_reads_the_lists_of_its_station_and_writes_none(me: Sender) -> None:
    for site, part, leaf in product(
        (SITE, "s0002"), ("people", "money", "menu", "settings", "museum"), ("head", "delta")
    ):
        topic = f"mk/v1/s/{site}/{part}/{leaf}"
        wanted = site == me.site and part in READS[me.station]
        assert allows(TEXT, me.device, "read", topic) is wanted
        assert not allows(TEXT, me.device, "write", topic)


def test_wildcards_and_strangers_get_nothing() -> None:
    for topic in ("#", "mk/v1/d/+/up/main", "$SYS/broker/version", "mk/v1/s/s0001/people/x"):
        assert not allows(TEXT, "till-1", "read", topic)
    assert not allows(TEXT, "till-1", "write", "mk/v1/d/till-1/up/for")
    assert not allows(TEXT, "ghost", "read", f"mk/v1/s/{SITE}/settings/head")


def test_the_city_reads_and_writes_all_of_its_own_tree() -> None:
    for topic, verb in product(("d/x/up/main", "s/y/people/head"), ("read", "write")):
        assert allows(TEXT, "city", verb, f"mk/v1/{topic}")
    assert not allows(TEXT, "city", "read", "$SYS/broker/clients")


@pytest.mark.parametrize("name", ["city", "a/b", "a b", "x\ntopic readwrite #", "", "+", "#"])
def test_a_name_that_would_write_into_the_list_is_never_rendered(name: str) -> None:
    with pytest.raises(AssertionError):
        render_access([Sender(device=name, site=SITE, station=Station.TILL)])


def test_the_files_of_a_broker(tmp_path: Path) -> None:
    keys = city_keys(tmp_path / "keys")
    files = write_broker(tmp_path / "broker", 18883, keys, utc(NOON_MS), senders=SENDERS)
    assert files == broker_files(tmp_path / "broker")
    lines = files.configuration.read_text().splitlines()
    for line in (
        "listener 18883 127.0.0.1",
        "allow_anonymous false",
        "require_certificate true",
        "use_identity_as_username true",
        "use_username_as_clientid true",
        "set_tcp_nodelay true",
        f"acl_file {files.access}",
        f"crlfile {files.revoked}",
    ):
        assert line in lines
    assert not any(line.startswith("persistence") for line in lines)
    assert files.access.read_text() == TEXT
    for path in files.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not reload_broker(files)  # None runs.
