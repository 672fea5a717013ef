"""A town of real processes for measuring: Mosquitto with TLS, the reference city, one station.

Everything is what a school has, made by its own commands: the city writes the broker's files, the
station is provisioned with a claim. Ports are free ones of loopback; whatever was started is ended
by its own handle, last first, and dies with this process.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from shutil import which
from typing import Any, Final

from edge.config import load
from edge.control import ask
from edge.model import DeviceFault, SetupProblem
from edge.settings import DeviceSettings
from hil.supervisor import dies_with_us

SITE: Final = "s0001"
DEVICE: Final = "s0001-bench"
SEED: Final = 7
WAIT_S: Final = 90.0  # Our choice: many times what anything here takes on an idle machine.
LOOK_S: Final = 0.005
LAST_WORDS_CHARS: Final = 800  # Our choice: a reason and the lines before it.
LANE: Final = "north:mock:north-in=in:school:relay=17:rotation=27/up"


class Process:
    """One process; its words go to a file beside the others."""

    def __init__(self, folder: Path, name: str, *argv: str) -> None:
        self.log = folder / f"{name}.log"
        self.out = folder / f"{name}.out"
        self._argv = argv
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """From the main thread: the child dies with the thread that made it."""
        assert self._process is None
        with self.log.open("ab") as log, self.out.open("wb") as out:
            self._process = subprocess.Popen(
                self._argv, stdin=subprocess.DEVNULL, stdout=out, stderr=log,
                preexec_fn=dies_with_us(),
            )  # fmt: skip

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait(WAIT_S)

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-LAST_WORDS_CHARS:]

    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def cpu_s(self) -> float:
        """Processor time it has used so far, in user and kernel."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mb(self) -> float:
        """The most it held in memory since `forget_peak`."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        raise AssertionError("no VmHWM")

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")  # proc(5): resets VmHWM.


class Town:
    """Made, entered, and left; `city` and `broker` run in between, the station when it is told."""

    def __init__(self, folder: Path) -> None:
        if which("mosquitto") is None:
            raise SetupProblem("mosquitto is not installed; run: apt-get install mosquitto")
        folder.mkdir(parents=True)  # Its own: a town in another's ruins knows other times and keys.
        self.folder = folder
        self.city_folder = folder / "city"
        self.broker_folder = (folder / "broker").absolute()
        self.broker_port = free_port()
        self.endpoint = f"mqtts://127.0.0.1:{self.broker_port}"
        config = folder / "station" / "device.toml"
        python = sys.executable
        self.city = Process(
            folder, "city", python, "-m", "hil.city",
            *("--folder", str(self.city_folder), "--broker", self.endpoint, "--site", SITE),
            *("--seed", str(SEED), "--mosquitto", str(self.broker_folder), "--claim", "bench"),
        )  # fmt: skip
        configuration = str(self.broker_folder / "mosquitto.conf")
        self.broker = Process(folder, "broker", "mosquitto", "-c", configuration)
        self.edge = Process(folder, "edge", python, "-m", "edge", "--config", str(config))
        self.sync = Process(folder, "sync", python, "-m", "sync", "--config", str(config))
        self.settings: DeviceSettings
        self._config = config
        self._url = ""
        self._stack = ExitStack()

    def __enter__(self) -> Town:
        try:
            self.start(self.city)
            self.find_city()
            self._provision()
            self.start(self.broker)
            until(lambda: self.ask_city("GET", "/status")["broker_connected"], "city and broker")
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, process: Process) -> None:
        process.start()
        self._stack.callback(process.stop)

    def find_city(self) -> None:
        """Its address, once it has said that it is ready."""
        until(lambda: b"\n" in self.city.out.read_bytes(), "the city")
        self._url = json.loads(self.city.out.read_bytes())["http"].removeprefix("http://")

    def ask_city(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        connection = http.client.HTTPConnection(self._url, timeout=WAIT_S)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        assert answer.status == 200, (path, answer.status, data)
        return json.loads(data)

    def ask_station(self, process: str, request: dict[str, Any]) -> dict[str, Any]:
        """`{}` while it does not answer."""
        try:
            return ask(self.settings.socket_path(process), request)
        except DeviceFault:
            return {}

    def wait_connected(self) -> None:
        request = {"request": "status"}
        said: dict[str, Any] = {}

        def is_over() -> bool:
            said.clear()
            said.update(self.ask_station("sync", request))
            return bool(said.get("connected")) or not self.sync.runs()

        try:
            until(is_over, "sync and city")
        except DeviceFault as fault:
            raise DeviceFault(f"{fault}: {said.get('reason') or 'no answer'}") from fault
        if not said.get("connected"):
            raise DeviceFault(f"sync ended by itself: {self.sync.last_words()}")

    def _provision(self) -> None:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "provisioning", "provision", "--key", "file"),
                *("--config", str(self._config), "--city", f"http://{self._url}"),
                *("--claim", "bench", "--device", DEVICE, "--site", SITE),
                *("--station", "entrance", "--simulated-taps", "--lane", LANE),
                *("--reader", "r1:serial:/nonexistent/reader:hex_line:access_point=north-in"),
            ],
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        if done.returncode != 0:
            raise SetupProblem(f"the bench's station: {done.stdout}{done.stderr}")
        self.settings = load(self._config)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def until(
    is_so: Callable[[], object], what: str, wait_s: float = WAIT_S, *, look_s: float = LOOK_S
) -> None:
    ends_s = time.monotonic() + wait_s
    while not is_so():
        if time.monotonic() > ends_s:
            raise DeviceFault(f"{what}: not within {wait_s:.0f} s; look at its log")
        time.sleep(look_s)
