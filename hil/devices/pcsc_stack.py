"""A real pcscd with virtual readers, private to one run.

pcscd has one fixed socket folder and vpcd two fixed ports, so two runs on one machine would meet.
Each run therefore gets a mount namespace with its own /run/pcscd and a network namespace with its
own loopback:

    subprocess.run(in_private_namespaces([sys.executable, "-m", "pytest", ...]))

Whatever that command starts lives in the same namespaces and finds one another on loopback: the
agent, a broker, the reference city, and pcscd. Inside, `PcscStack` starts, stops, freezes and
restarts pcscd; a card is laid on a reader with `vpcd_card.VpcdSlot`. Outside, `PcscStack` refuses
to start: it would take the machine's own readers.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from edge.model import DeviceFault, SetupProblem
from hil.devices.vpcd_card import PORTS

ROOT = Path(__file__).parents[2]
PCSCD = Path("/usr/sbin/pcscd")
VPCD_DRIVER = Path("/usr/lib/pcsc/drivers/serial/libifdvpcd.so")
RUN_FOLDER = Path("/run/pcscd")  # Compiled into pcscd and its clients.
SOCKET = RUN_FOLDER / "pcscd.comm"
CHANNEL = f"0x{PORTS[0]:X}"  # vpcd takes its port from here.

START_S_MAX = 10.0  # Measured on an idle machine: below 0.02 s.
STOP_S_MAX = 5.0
LOOK_S = 0.02

INSIDE = "MOSKVENOK_PRIVATE_NAMESPACES"  # Set for whatever runs in namespaces of its own.
ENTER = 'ip link set lo up && mkdir -p /run/pcscd && mount -t tmpfs tmpfs /run/pcscd && exec "$@"'
ARGV = [*("unshare", "--mount", "--net", "--"), *("sh", "-c", ENTER, "in-private-namespaces")]

# Of util-linux, as unshare: the kernel ends the command with the thread that started it.
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")

CONFIG = f"""\
FRIENDLYNAME "Virtual PCD"
DEVICENAME   /dev/null:{CHANNEL}
LIBPATH      {VPCD_DRIVER}
CHANNELID    {CHANNEL}
"""


def in_private_namespaces(argv: Sequence[str]) -> list[str]:
    """The command that runs `argv` with a network and a /run/pcscd of its own.

    It keeps `argv`'s exit code and its pid: whoever ends it ends `argv`. Needs root; ask
    `namespaces_missing` first.
    """
    return [*ARGV, "env", f"{INSIDE}=1", *argv]


def is_inside() -> bool:
    """Whether this process was started through `in_private_namespaces`."""
    return os.environ.get(INSIDE) == "1" and RUN_FOLDER.is_mount()


def namespaces_missing() -> str:
    """Why `in_private_namespaces` cannot work here, or ""."""
    if os.geteuid() != 0:
        return "private namespaces need root; run as root (sudo)"
    for tool, package in (("unshare", "util-linux"), ("ip", "iproute2"), ("mount", "mount")):
        if shutil.which(tool) is None:
            return f"{tool} is not installed; run: apt-get install {package}"
    tried = subprocess.run([*ARGV, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        return f"this machine allows no namespaces: {tried.stderr.strip()}"
    return ""


def pcsc_missing() -> str:
    """Why no `PcscStack` can be had here, or ""."""
    for path, package in ((PCSCD, "pcscd"), (VPCD_DRIVER, "vsmartcard-vpcd")):
        if not path.exists():
            return f"{path} is not there; run: apt-get install {package}"
    try:
        import smartcard.scard  # noqa: F401
    except ImportError as problem:
        return f"pyscard cannot be imported ({problem}); install the extra pcsc"
    return namespaces_missing()


def rerun_inside(*pytest_arguments: str, timeout_s: float) -> tuple[int, str]:
    """Run pytest with these arguments in private namespaces: its exit code and what it printed.

    For a test file that has to be inside: its outer test calls this on itself, its inner tests
    run where `is_inside()`. One that takes too long is interrupted, so that it still ends the
    processes it started.
    """
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *pytest_arguments]
    with subprocess.Popen(
        in_private_namespaces(argv),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as inner:
        try:
            output, _ = inner.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            inner.send_signal(signal.SIGINT)
            try:
                output, _ = inner.communicate(timeout=STOP_S_MAX)
            except subprocess.TimeoutExpired:
                inner.kill()
                output, _ = inner.communicate()
            output += f"\nnot done after {timeout_s} s"
    return inner.returncode, output


class PcscStack:
    """pcscd with two virtual readers, "Virtual PCD 00 00" and "Virtual PCD 00 01".

    `folder` takes its configuration and its log. Only ends the pcscd it started, and lets it not
    outlive the thread that did.
    """

    def __init__(self, folder: Path) -> None:
        self._config = folder / "reader.conf.d"
        self._log = folder / "pcscd.log"
        self._pcscd: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PcscStack:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self._pcscd is not None, "pcscd is not running"
        return self._pcscd.pid

    def start(self) -> None:
        """Returns when clients and cards can connect.

        Raises SetupProblem outside private namespaces, DeviceFault when pcscd does not come up.
        """
        assert self._pcscd is None, "pcscd is running"
        if not is_inside():
            raise SetupProblem(
                f"{RUN_FOLDER} is the machine's own; start this command through "
                "hil.devices.pcsc_stack.in_private_namespaces"
            )
        self._config.mkdir(parents=True, exist_ok=True)
        (self._config / "vpcd").write_text(CONFIG)
        # The folder must be absolute. No --auto-exit: it ends pcscd after a minute of quiet.
        argv = [*DIES_WITH_US, str(PCSCD), "--foreground", "--config", str(self._config.resolve())]
        with self._log.open("ab") as log:
            self._pcscd = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        if not _wait_until(self._is_ready, START_S_MAX):
            self.kill()
            raise DeviceFault(f"pcscd did not start; it said: {self._log.read_text()[-2000:]}")

    def stop(self) -> None:
        """As systemd stops it. Twice is fine."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As a crash ends it: the socket stays behind."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """pcscd hangs, as it does over a USB reader that does not answer."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def _is_ready(self) -> bool:
        assert self._pcscd is not None
        if self._pcscd.poll() is not None:
            return False
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(SOCKET))
            except OSError:
                return False
        return all(_is_listening(port) for port in PORTS)

    def _end(self, how: signal.Signals) -> None:
        if self._pcscd is None:
            return
        self._pcscd.send_signal(how)
        self._pcscd.send_signal(signal.SIGCONT)  # A frozen one cannot end.
        try:
            self._pcscd.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self._pcscd.kill()
            self._pcscd.wait()
        self._pcscd = None


def _is_listening(port: int) -> bool:
    """Whether a TCP port is listened on, without connecting: to vpcd, a connection is a card."""
    wanted = (f":{port:04X}", "0A")  # proc(5): local address ends so, state 0A is LISTEN.
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(wanted[0]) and fields[3] == wanted[1]:
            return True
    return False


def _wait_until(is_so: Callable[[], bool], limit_s: float) -> bool:
    until_s = time.monotonic() + limit_s
    while not is_so():
        if time.monotonic() > until_s:
            return False
        time.sleep(LOOK_S)
    return True
