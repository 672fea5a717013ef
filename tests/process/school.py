"""A whole school of real processes for one test: broker, city, an entrance and a till.

Everything is what a school has, but for the people and their cards: Mosquitto, the reference city,
`edge` and `sync` of both stations, pcscd. The devices are made by `moskvenok provision`, there is
no second way. All of it lives in private namespaces (`hil/devices/pcsc_stack.py`), so ports are
fixed and nobody else's broker or reader is touched.

Processes are started from the main thread, end with it (PR_SET_PDEATHSIG), and each is ended by
its own handle. Waiting is always for a condition, with a bound that a loaded machine keeps too.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from shutil import which
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edge.control import ask
from edge.messages import AnyFact, Stream, decode_fact
from edge.model import DeviceFault
from edge.offline_cache import outbox
from edge.offline_cache.store import FileKind, open_reader, reading
from hil.city.intake import CityCore
from hil.city.keys import CityKeys, certificate_pem, issue_device, open_keys, utc
from hil.city.mosquitto import broker_files
from hil.city.seed import seed_school
from hil.city.store import Store
from hil.devices.pcsc_stack import DIES_WITH_US, ROOT, PcscStack, pcsc_missing, rerun_inside
from hil.devices.reader_serial import VirtualSerialReader
from hil.devices.vpcd_card import VpcdSlot
from hil.world.school import ALWAYS, ZONE, School, make_school

SITE: Final = "s0001"
SEED: Final = 7
GATE: Final = "s0001-north"
TILL: Final = "s0001-till-1"
ROGUE: Final = "rogue"  # A client that the broker lets do what only the city may.
WAIT_S: Final = 60.0  # Our choice: many times what anything here takes on an idle machine.
LOOK_S: Final = 0.02
RERUN_S_MAX: Final = 300.0  # Our choice: a loaded machine; an idle one takes a quarter of it.
BROKER_PORT: Final = 8883  # The network is private: no port is taken.
LANE: Final = (
    "north:mock:north-in=in:school:relay=17:rotation=27/up:wait_ms_max=1000,"
    "north-out=out:school:relay=22:rotation=23/up:wait_ms_max=1000"
)
SCOPES: Final = {
    GATE: (f"{SITE}/people", f"{SITE}/settings"),
    TILL: (f"{SITE}/people", f"{SITE}/money", f"{SITE}/menu", f"{SITE}/settings"),
}
PLAIN_BROKER: Final = f"""listener {BROKER_PORT} 127.0.0.1
allow_anonymous true
set_tcp_nodelay true
max_inflight_messages 200
max_queued_messages 100000
"""


def run_checks_of(file: str, *, limit_s: float = RERUN_S_MAX) -> None:
    """Run the `check_…` functions of a test file in private namespaces. What is missing for that
    fails a CI run and skips any other."""
    missing = pcsc_missing()
    if not missing and which("mosquitto") is None:
        missing = "mosquitto is not installed; run: apt-get install mosquitto"
    if missing and os.environ.get("CI") == "true":
        pytest.fail(missing)
    if missing:
        print(missing)
        pytest.skip(missing)
    code, output = rerun_inside(
        file, "-rA", "--tb=short", "-o", "python_functions=check_*", timeout_s=limit_s
    )
    print(output)
    assert code == 0, output


def wait_until(is_so: Callable[[], object], words: str | Callable[[], str]) -> None:
    until_s = time.monotonic() + WAIT_S
    while not is_so():
        if time.monotonic() > until_s:
            said = words if isinstance(words, str) else words()
            pytest.fail(f"not within {WAIT_S:.0f} s: {said}")
        time.sleep(LOOK_S)


class Child:
    """One process. Its standard error goes to `log`, its standard output beside it."""

    def __init__(self, log: Path, *argv: str) -> None:
        self.log = log
        self._argv = argv
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """From the main thread only: the kernel ends the child with the thread that made it."""
        assert self._process is None
        with self.log.open("ab") as log, self.log.with_suffix(".out").open("ab") as out:
            self._process = subprocess.Popen(
                [*DIES_WITH_US, *self._argv],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
            )

    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Without a chance to tidy up."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Killed, and started again as systemd does."""
        self.kill()
        self.start()

    def stop(self) -> int:
        """As systemd does it; its exit code. Twice is fine."""
        return self._end(signal.SIGTERM)

    def last_words(self) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return f"--- {self.log.name}\n{text[-1500:]}"

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)  # A frozen one cannot end.
        try:
            return process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


class City(Child):
    """The reference city, and its HTTP."""

    def __init__(self, folder: Path, broker: str, *more: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder / "city"
        super().__init__(
            folder / "city.log",
            *(sys.executable, "-m", "hil.city", "--folder", str(self.folder)),
            *("--broker", broker, "--site", SITE, "--seed", str(SEED), *more),
        )
        self.url = ""

    def start(self) -> None:
        super().start()
        out = self.log.with_suffix(".out")
        wait_until(lambda: b"\n" in out.read_bytes() or not self.runs(), self.last_words)
        assert self.runs(), self.last_words()
        self.url = json.loads(out.read_bytes().splitlines()[-1])["http"]

    def get(self, path: str) -> Any:
        return json.loads(self._ask("GET", path, None))

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return json.loads(self._ask("POST", path, json.dumps(body).encode()))

    def facts(self, device: str, stream: str, epoch: str) -> list[bytes]:
        """All facts it has of one epoch, in sequence, as they came."""
        found: list[bytes] = []
        while True:
            query = f"device={device}&stream={stream}&epoch={epoch}&after={len(found)}"
            page = self._ask("GET", f"/facts?{query}", None).split(b"\n")
            if page == [b""]:
                return found
            found += page

    def _ask(self, method: str, path: str, body: bytes | None) -> bytes:
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=WAIT_S)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        assert answer.status == 200, (path, answer.status, data)
        return data


class Station:
    """One device: its folder, its two processes, and the technician's command on it."""

    def __init__(self, folder: Path, device: str) -> None:
        self.folder, self.device = folder, device
        self.config = folder / "device.toml"
        self.logs = folder.with_name(folder.name + "-logs")
        self.logs.mkdir(parents=True)
        self.processes = {
            name: Child(
                self.logs / f"{name}.log",
                *(sys.executable, "-m", name, "--config", str(self.config)),
            )
            for name in ("edge", "sync")
        }
        self.edge, self.sync = self.processes["edge"], self.processes["sync"]

    def provision(self, city: City, *options: str, station: str) -> None:
        claim = city.post("/claims", {})["claim"]
        done = self.command(
            *("provision", "--city", city.url, "--claim", claim, "--device", self.device),
            *("--site", SITE, "--station", station, *options),
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def command(self, verb: str, *options: str) -> subprocess.CompletedProcess[str]:
        """`moskvenok VERB --config … OPTIONS`."""
        argv = [sys.executable, "-m", "provisioning", verb, "--config", str(self.config), *options]
        return subprocess.run(
            argv, cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S, check=False
        )

    def command_json(self, verb: str, *options: str) -> tuple[int, dict[str, Any]]:
        done = self.command(verb, "--json", *options)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def ask(self, request: str, *, process: str = "edge", **more: object) -> dict[str, Any] | None:
        """The answer of a process, or None while it does not run."""
        socket = self.folder / "run" / f"{process}.sock"
        try:
            answer = ask(socket, {"request": request, **more})
        except DeviceFault:
            return None
        assert answer["ok"] is True, answer
        return answer

    def is_ready(self) -> bool:
        """Lists, time and readers are there, and the city knows it."""
        edge, sync = self.ask("status"), self.ask("status", process="sync")
        return (
            edge is not None
            and sync is not None
            and sync["connected"]
            and set(edge["lists"]) >= set(SCOPES[self.device])
            and edge["clock_trusted"]
            and all(reader["up"] for reader in edge["readers"])
        )

    def hears(self, device: str) -> bool:
        status = self.ask("status", process="sync")
        peer = {} if status is None else status["peers"]["devices"].get(device, {})
        return bool(peer.get("heard") and peer.get("complete"))

    def recorded(self) -> list[AnyFact]:
        """All of `main`, of every epoch, oldest first."""
        db = open_reader(self.folder / "state" / "journal.db", FileKind.JOURNAL)
        if db is None:
            return []
        try:
            with reading(db):
                bodies: list[bytes] = []
                for life in outbox.lives(db, Stream.MAIN):
                    bodies += outbox.next_facts(
                        db, life.life, 1, rows_max=life.head + 1, bytes_max=1 << 30
                    )
        finally:
            db.close()
        return [decode_fact(body) for body in bodies]

    def last_words(self) -> str:
        said = self.edge.last_words() + self.sync.last_words()
        return f"{self.device}\n{said}\nedge: {self.ask('status')}"


class World:
    """All of it, started and ready when entered; ended, last first, when left."""

    def __init__(self, folder: Path, *, tls: bool = True) -> None:
        self.folder = folder
        self.tls = tls
        self.school = _always_open(make_school(SEED, SITE))
        scheme = "mqtts" if tls else "mqtt"
        more = ("--mosquitto", str(folder / "broker")) if tls else ()
        self.city = City(folder, f"{scheme}://127.0.0.1:{BROKER_PORT}", *more)
        self.broker = Child(
            folder / "broker.log", "mosquitto", "-c", str(folder / "broker" / "mosquitto.conf")
        )
        self.gate = Station(folder / "gate", GATE)
        self.till = Station(folder / "till", TILL)
        self.stations = (self.gate, self.till)
        self._stack = ExitStack()

    def __enter__(self) -> World:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start_stations(self) -> None:
        for station in self.stations:
            for child in (station.edge, station.sync):
                self._begin(child)
        for station in self.stations:
            wait_until(station.is_ready, station.last_words)

    def _start(self) -> None:
        keys = self._make_city()
        enter = self._stack.enter_context
        (self.folder / "pcscd").mkdir()
        self.pcscd = enter(PcscStack(self.folder / "pcscd"))
        serial = {
            name: enter(VirtualSerialReader(self.folder / f"tty-{name}", frame=frame))
            for name, frame in (("in", "hex_line"), ("till", "id12"))
        }
        self.serial_in, self.serial_till = serial["in"], serial["till"]
        self.slot_out, self.slot_till = enter(VpcdSlot(slot=0)), enter(VpcdSlot(slot=1))
        self._begin(self.city)
        self.gate.provision(
            self.city,
            *("--reader", f"r-in:serial:{self.serial_in.path}:hex_line:access_point=north-in"),
            *("--reader", "r-out:pcsc:Virtual PCD 00 00:access_point=north-out"),
            *("--lane", LANE),
            station="entrance",
        )
        self.till.provision(
            self.city,
            *("--reader", f"r-fob:serial:{self.serial_till.path}:id12"),
            *("--reader", "r-card:pcsc:Virtual PCD 00 01"),
            station="till",
        )
        if self.tls:
            self._let_a_rogue_in(keys)
        else:
            (self.folder / "broker").mkdir()
            (self.folder / "broker" / "mosquitto.conf").write_text(PLAIN_BROKER)
        self._begin(self.broker)
        wait_until(
            lambda: self.city.get("/status")["broker_connected"],
            lambda: self.city.last_words() + self.broker.last_words(),
        )

    def _begin(self, child: Child) -> None:
        child.start()
        self._stack.callback(child.stop)

    def _make_city(self) -> CityKeys:
        """Its books, with a timetable that is open at night too: a test has no hours."""
        now_ms = time.time_ns() // 1_000_000
        folder = self.city.folder
        keys = open_keys(folder, SITE, utc(now_ms))
        store = Store(folder / "city.db")
        try:
            seed_school(CityCore(store, keys), self.school, now_ms)
        finally:
            store.close()
        self.keys = keys
        return keys

    def _let_a_rogue_in(self, keys: CityKeys) -> None:
        """Whoever has broken into the broker: a certificate, and the right to write everywhere."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = issue_device(keys, ROGUE, key.public_key(), utc(time.time_ns() // 1_000_000))
        self.rogue_files = self.folder / "rogue.pem", self.folder / "rogue.key"
        self.rogue_files[0].write_text(certificate_pem(certificate))
        self.rogue_files[1].write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        access = broker_files(self.folder / "broker").access
        access.write_text(f"{access.read_text()}\nuser {ROGUE}\ntopic readwrite mk/v1/#\n")


def _always_open(school: School) -> School:
    return replace(
        school,
        people=tuple(replace(person, rights=((ZONE, ALWAYS),)) for person in school.people),
    )
