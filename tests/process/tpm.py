"""A TPM 2.0 in software for tests, and calls made in a process that has it.

swtpm is the chip, tpm2-abrmd the resource manager, as on a device, but on a bus of its own. All are
in the test's own folder and ended by their own process ids. OpenSSL's provider changes the process
it is loaded into for good; so whatever needs it runs apart, in a fresh interpreter: a function of
`tests/process/tpm_actions.py`, whose answer is JSON.

Where a program is not installed a test is skipped with the reason; in CI that is a failure.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.process.brokers import free_port

READY_S_MAX = 20.0  # Our choice: all three are ready in 0.1 s on an idle machine.
CALL_S_MAX = 60.0  # Our choice: most take less than one.
PROGRAMS = {
    "swtpm": "swtpm",
    "tpm2-abrmd": "tpm2-abrmd",
    "dbus-daemon": "dbus-daemon",
    "dbus-send": "dbus-bin",
}
LIBRARIES = {
    "ossl-modules/tpm2.so": "tpm2-openssl",
    "libtss2-tcti-tabrmd.so.0": "libtss2-tcti-tabrmd0",
    "libtss2-tcti-swtpm.so.0": "libtss2-tcti-swtpm0",
}
BUS = """<busconfig><type>session</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/>
<allow eavesdrop="true"/><allow own="*"/>
</policy></busconfig>
"""
LISTEN = "0A"  # Linux: TCP_LISTEN.
NAME = "com.intel.tss2.Tabrmd"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine with a TPM; `environment` leads a process to it."""

    environment: Mapping[str, str]

    def call(self, *command: object, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
        """A program on this machine."""
        done = subprocess.run(
            [str(word) for word in command],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=CALL_S_MAX,
            check=False,
        )
        assert expect is None or done.returncode == expect, done.stdout + done.stderr
        return done

    def moskvenok(self, *words: object, expect: int = 0) -> subprocess.CompletedProcess[str]:
        return self.call(sys.executable, "-m", "provisioning", *words, expect=expect)

    def apart(self, action: str, *words: object) -> Any:
        """What a function of `tests/process/tpm_actions.py` answers there."""
        done = self.call(sys.executable, "-m", "tests.process.tpm_actions", action, *words)
        return json.loads(done.stdout.splitlines()[-1])


NO_TPM = Machine(environment={"TPM2OPENSSL_TCTI": "swtpm:host=127.0.0.1,port=9"})


def programs() -> None:
    """Skip, or fail in CI, unless all of it is installed."""
    missing = {package for name, package in PROGRAMS.items() if shutil.which(name) is None}
    folders = [Path("/usr/lib") / f"{os.uname().machine}-linux-gnu"]
    for name, package in LIBRARIES.items():
        if not any((folder / name).exists() for folder in folders):
            missing.add(package)
    if not missing:
        return
    reason = f"no TPM in software (Debian: apt-get install {' '.join(sorted(missing))})"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def tpm(folder: Path) -> Iterator[Machine]:
    """A new chip whose state is in this folder, with its resource manager."""
    programs()
    folder.mkdir(exist_ok=True)
    port = _two_ports()
    with ExitStack() as stack:
        chip = _start(
            stack,
            folder,
            *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder}"),
            *("--server", f"type=tcp,port={port}", "--ctrl", f"type=tcp,port={port + 1}"),
            *("--flags", "not-need-init,startup-clear"),
        )
        _until(lambda: {port, port + 1} <= _listening(), chip, folder)
        bus = folder / "bus"
        (folder / "bus.conf").write_text(BUS.format(path=bus))
        daemon = _start(
            stack, folder, "dbus-daemon", "--nofork", f"--config-file={folder}/bus.conf"
        )
        _until(bus.exists, daemon, folder)
        machine = Machine(
            environment={
                "DBUS_SESSION_BUS_ADDRESS": f"unix:path={bus}",
                "TPM2OPENSSL_TCTI": "tabrmd:bus_type=session",
            }
        )
        manager = _start(
            stack,
            folder,
            *("tpm2-abrmd", "--session", f"--tcti=swtpm:host=127.0.0.1,port={port}"),
            *(["--allow-root"] if os.geteuid() == 0 else []),
            environment=machine.environment,
        )
        _until(lambda: _on_bus(machine), manager, folder)
        yield machine


def _start(
    stack: ExitStack, folder: Path, *command: str, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **(environment or {})}, stdout=log, stderr=log
        )
    stack.callback(_end, process)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5.0)


def _until(is_so: Callable[[], bool], process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + READY_S_MAX
    while not is_so():
        late = time.monotonic() > deadline
        if late or process.poll() is not None:
            raise AssertionError(f"{process.args!r}: {(folder / 'log').read_text()[-2000:]}")
        time.sleep(0.01)


def _on_bus(machine: Machine) -> bool:
    """Whether the resource manager has taken its name."""
    asked = machine.call(
        *("dbus-send", f"--bus={machine.environment['DBUS_SESSION_BUS_ADDRESS']}"),
        *("--print-reply=literal", "--dest=org.freedesktop.DBus", "/org/freedesktop/DBus"),
        *("org.freedesktop.DBus.NameHasOwner", f"string:{NAME}"),
        expect=None,
    )
    return "true" in asked.stdout


def _listening() -> set[int]:
    """Ports of IPv4 that somebody listens on. To connect would be to take the chip's only place."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == LISTEN}


def _two_ports() -> int:
    """A free port whose next one is free as well: the chip's, and its switch's."""
    while True:
        port = free_port()
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port + 1))
            return port
