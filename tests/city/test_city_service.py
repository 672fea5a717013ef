"""Goal: one city serves several sites at once, each with its own books, and its faults do what
their line of help says, in a real process too.

Method: the service over an embedded broker with sites shared among workers, asked over HTTP;
timing faults over a core in virtual time; crashes as processes that end.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from edge.messages import Ack, SignedWhat, decode_json, decode_signed_lines, from_b64u
from edge.model import CorruptData
from edge.trust import Verifier, open_root
from hil.city.faults import Fault, Faults
from hil.city.intake import CityCore
from hil.city.lists import Out
from hil.city.mischief import Mischief
from hil.city.service import share_of
from tests.city.sham import NOON_MS, SITE, Sham, make_core, make_request
from tests.city.test_city_process import (
    WAIT_S,
    Broker,
    City,
    Device,
    batch,
    enrol,
    free_port,
    morning,
    wait_for,
)


@pytest.fixture
def ending() -> Iterator[list[Callable[[], object]]]:
    ends: list[Callable[[], object]] = []
    yield ends
    for end in reversed(ends):
        end()


# ------------------------------------------------------------------------------ many sites


def test_every_site_has_one_worker_whatever_their_number() -> None:
    sites = [f"s{number:04d}" for number in range(1, 1701)]
    for workers in (1, 2, 8):
        shares = [share_of(site, workers) for site in sites]
        assert set(shares) == set(range(workers))
        assert max(map(shares.count, range(workers))) < 1.3 * len(sites) / workers


@pytest.mark.process
@pytest.mark.slow
def test_two_sites_in_one_process_keep_to_themselves(
    tmp_path: Path, ending: list[Callable[[], object]]
) -> None:
    port = free_port()
    broker = Broker(sys.executable, "-m", "hil.broker", "--port", str(port))
    ending.append(lambda: broker.process.poll() is None and broker.end())
    more = ("--more-site", "s0002", "--more-site", "s0003", "--workers", "3")
    city = City(tmp_path / "city", f"mqtt://127.0.0.1:{port}", *more)
    ending.append(lambda: city.process.poll() is None and city.end())
    wait_for(lambda: bool(city.get("/status")["broker_connected"]), "city at the broker")
    assert city.get("/status")["sites"] == ["s0001", "s0002", "s0003"]
    enrol(city, tmp_path, "till-1", "CLAIM-1")
    claim = city.post("/claims", {"site": "s0002"})["claim"]
    request = {"claim": claim, "site_id": "s0002", "station": "till"}
    taken = enrolment(request, "till-1")
    status, answer = city.ask("POST", "/enrol", taken)
    assert status == 409 and b"s0001" in answer
    assert city.ask("POST", "/enrol", enrolment(request, "till-2"))[0] == 200
    here, there = Device("till-1", port, None), Device("till-2", port, None)
    ending += [here.end, there.end]
    for device in (here, there):
        device.publish(f"mk/v1/d/{device.name}/up/main", batch(device.name, morning(device.name)))
        assert decode_json(Ack, device.hear(f"mk/v1/d/{device.name}/ack")).up_to == 2
    # The second's fact says it is of the first site: put aside, at its own site alone.
    assert [line["cardholder"] for line in city.get("/feed?after=0")] == [f"{SITE}c0001"]
    assert city.get("/feed?after=0&site=s0002") == []
    found = city.get("/status?site=s0002")
    assert [cursor["device"] for cursor in found["cursors"]] == ["till-2"]
    assert found["suspense"][0]["reason"] == "wrong_site"
    assert [cursor["device"] for cursor in city.get("/status")["cursors"]] == ["till-1"]
    # An order finds its device's site by itself.
    assert city.post("/orders", {"device": "till-2", "order": "identify"})["counter"] == 1
    there.hear("mk/v1/d/till-2/order")
    for path in ("/status?site=s0009", "/feed?site=x"):
        assert city.ask("GET", path)[0] == 404
    money = "s0002/money"  # Its new vector waits 20 ms for company.
    wait_for(lambda: city.get("/status?site=s0002")["versions"][money] == [1, 2], "money")
    before = city.get("/status?site=s0002")["versions"]
    assert city.end() == 0
    again = City(tmp_path / "city", f"mqtt://127.0.0.1:{port}", *more)
    ending.append(lambda: again.process.poll() is None and again.end())
    assert again.get("/status?site=s0002")["versions"] == before
    assert again.get("/status?site=s0002")["devices"][0]["device"] == "till-2"


def enrolment(request: dict[str, str], device: str) -> dict[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    return {**request, "device_id": device, "csr_pem": make_request(key)}


@pytest.mark.process
@pytest.mark.slow
def test_a_rotation_reaches_a_device_that_comes_later(
    tmp_path: Path, ending: list[Callable[[], object]]
) -> None:
    """Root document, heads and all are retained: nobody has to be there when it happens."""
    port = free_port()
    broker = Broker(sys.executable, "-m", "hil.broker", "--port", str(port))
    ending.append(lambda: broker.process.poll() is None and broker.end())
    city = City(tmp_path / "city", f"mqtt://127.0.0.1:{port}")
    ending.append(lambda: city.process.poll() is None and city.end())
    wait_for(lambda: bool(city.get("/status")["broker_connected"]), "city at the broker")
    claim = city.post("/claims", {})["claim"]
    request = {"claim": claim, "site_id": SITE, "station": "till"}
    answer = city.post("/enrol", enrolment(request, "till-1"))
    done = city.post("/keys", {"key": "freshness", "distrust": True})
    assert done["root_version"] == 2 and done["key_ids"]["freshness"] == "freshness-2"
    device = Device("till-1", port, None)
    ending.append(device.end)
    root_public = from_b64u(answer["root_public_b64u"])
    enrolled = open_root(root_public, decode_signed_lines(answer["root_document"].encode()))
    newest = open_root(root_public, decode_signed_lines(device.hear("mk/v1/c/root")))
    assert (enrolled.version, newest.version) == (1, 2)
    # The broker may bring the head from before the rotation, not for long.
    signed = decode_signed_lines(device.hear(f"mk/v1/s/{SITE}/people/head"))
    assert Verifier(newest).open(SignedWhat.HEAD, signed)
    with pytest.raises(CorruptData):
        Verifier(enrolled).open(SignedWhat.HEAD, signed)


# --------------------------------------------------------------------------------- faults


class Faulty:
    """A core with faults and a till that sends to it."""

    def __init__(self, folder: Path, **faults: int) -> None:
        self.core: CityCore = make_core(folder)
        self.faults = Faults()
        self.slept: list[float] = []
        self.ended: list[int] = []
        self.mischief = Mischief(
            self.core, self.faults, sleep=self.slept.append, end=self.ended.append
        )
        self.till = Sham(self.core, "till-1")
        self.till.opened()
        for number in range(1, 10):
            self.till.sale(number)
        for name, value in faults.items():
            self.faults.switch(name.replace("_", "-"), value)

    def send(self, first: int, last: int, now_ms: int = NOON_MS) -> list[int]:
        topic = "mk/v1/d/till-1/up/main"
        return acks(self.mischief.receive_all([(topic, self.till.batch(first, last))], now_ms))

    def tick(self, now_ms: int) -> list[int]:
        return acks(self.mischief.tick(now_ms))


def acks(outs: list[Out]) -> list[int]:
    return [decode_json(Ack, out.payload).up_to for out in outs if out.topic.endswith("/ack")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


def test_late_acknowledgements_leave_when_their_time_has_come(folder: Path) -> None:
    city = Faulty(folder, ack_late=500)
    assert city.send(1, 2) == [] and city.tick(NOON_MS + 499) == []
    city.faults.clear()  # What was held back still comes.
    assert city.tick(NOON_MS + 500) == [2] and city.tick(NOON_MS + 600) == []


def test_acknowledgements_overtake_each_other_and_none_stays(folder: Path) -> None:
    city = Faulty(folder, ack_reordered=1)
    assert city.send(1, 2) == [] and city.send(3, 4) == [4, 2]
    assert city.send(5, 5) == [] and city.tick(NOON_MS + 300) == [5]


@pytest.mark.parametrize(
    ("fault", "value", "wanted"),
    [
        ("ack_never", 1, []),
        ("ack_lost", 100, []),
        ("ack_twice", 1, [3, 3]),
        ("ack_future", 7, [10]),
        ("forget", 1, [3]),
    ],
)
def test_what_an_acknowledgement_becomes(
    folder: Path, fault: str, value: int, wanted: list[int]
) -> None:
    city = Faulty(folder, **{fault: value})
    assert city.send(1, 3) == wanted
    kept = city.core.store.rows("SELECT COUNT(*) FROM fact")[0][0]
    assert kept == (0 if fault == "forget" else 3)


def test_a_slow_commit_and_a_crash_before_and_after_it(folder: Path) -> None:
    city = Faulty(folder, slow=250)
    city.send(1, 2)
    assert city.slept == [0.25]
    city = Faulty(folder, crash_before_commit=2)
    city.send(1, 2)
    assert city.ended == []
    city.send(3, 4)
    city.send(5, 6)
    assert city.ended == [70]


def test_while_nothing_is_on_everything_passes_untouched(folder: Path) -> None:
    plain, city = make_core(folder), Faulty(folder)
    Sham(plain, "till-1")
    assert city.send(1, 4) == [4]
    outs = plain.heads(NOON_MS)
    assert city.mischief.leaving(outs, NOON_MS) == outs


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize(("when", "kept"), [("before", 0), ("after", 2)])
def test_a_city_that_crashes_around_its_commit_keeps_what_it_committed(
    tmp_path: Path, ending: list[Callable[[], object]], when: str, kept: int
) -> None:
    port = free_port()
    broker = Broker(sys.executable, "-m", "hil.broker", "--port", str(port))
    ending.append(lambda: broker.process.poll() is None and broker.end())
    url = f"mqtt://127.0.0.1:{port}"
    city = City(tmp_path / "city", url, "--fault", f"crash-{when}-commit")
    wait_for(lambda: bool(city.get("/status")["broker_connected"]), "city at the broker")
    enrol(city, tmp_path, "till-1", "CLAIM-1")
    device = Device("till-1", port, None)
    ending.append(device.end)
    device.hear(f"mk/v1/s/{SITE}/settings/head")
    facts = batch("till-1", morning("till-1"))
    device.publish("mk/v1/d/till-1/up/main", facts)
    assert city.process.wait(WAIT_S) == 70
    assert city.process.stdout is not None
    city.process.stdout.close()
    city._errors.close()
    again = City(tmp_path / "city", url)
    ending.append(lambda: again.process.poll() is None and again.end())
    cursors = again.get("/status")["cursors"]
    assert [cursor["up_to"] for cursor in cursors] == ([kept] if kept else [])
    wait_for(lambda: bool(again.get("/status")["broker_connected"]), "city is back")
    device.publish("mk/v1/d/till-1/up/main", facts)
    assert decode_json(Ack, device.hear("mk/v1/d/till-1/ack")).up_to == 2
    assert again.get("/ledger")["zero"] is True


@pytest.mark.process
@pytest.mark.slow
def test_faults_are_listed_and_switched_over_http(
    tmp_path: Path, ending: list[Callable[[], object]]
) -> None:
    city = City(tmp_path / "city", f"mqtt://127.0.0.1:{free_port()}", "--fault", "freeze")
    ending.append(lambda: city.process.poll() is None and city.end())
    listed = city.get("/faults")
    assert set(listed) == set(Fault) and listed["freeze"]["value"] == 1
    assert all(about["help"] for about in listed.values())
    on = city.post("/faults", {"ack-late": 500, "freeze": False, "mix": True})
    assert {name for name, about in on.items() if about["value"]} == {"ack-late", "mix"}
    assert on["ack-late"]["value"] == 500
    for bad in ({"nonsense": 1}, {"slow": -1}, {"slow": 1, "mixx": 1}):
        status, answer = city.ask("POST", "/faults", bad)
        assert status == 400 and json.loads(answer)["do"]
    assert city.get("/faults")["slow"]["value"] == 0  # All of a request or nothing.
    assert not any(about["value"] for about in city.post("/faults", {"all": False}).values())
