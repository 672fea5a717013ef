"""The processes as they are installed: how soon the first decision is possible, and how big."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.control import ask
from edge.model import DeviceFault
from edge.settings import DeviceSettings
from hil.bench.figures import Figure, figure
from hil.bench.station import build, uid_of

PEOPLE = 100_000
STARTS = 5
START_S_MAX = 1.0  # promises.md, with warm files.
MEMORY_MB_MAX = 60.0  # promises.md.
READY_S_MAX = 20.0


def measure(folder: Path) -> list[Figure]:
    settings = build(folder / "processes", PEOPLE)
    first_decisions(settings, 1)  # The first start makes the journal and the byte code.
    taken_s = sorted(first_decisions(settings, STARTS))[STARTS // 2]
    bare_s = sorted(bare_start() for _ in range(STARTS))[STARTS // 2]
    figures = [
        figure(
            "start of edge -> first decision (median of 5)",
            taken_s,
            "s",
            limit=bare_s,
            limit_name="bare interpreter",
            goal=f"<= {START_S_MAX:g} s",
            ok=taken_s <= START_S_MAX,
        )
    ]
    bare_mb = bare_memory_mb()
    for process in ("edge", "sync"):
        with running(process, settings) as child:
            wait_ready(settings, process)
            if process == "edge":
                for number in range(200):
                    tap(settings, number)
            used_mb = memory_mb(child.pid)
        figures.append(
            figure(
                f"memory of {process}, {PEOPLE:,} people",
                used_mb,
                "MB",
                limit=bare_mb,
                limit_name="bare interpreter",
                goal=f"<= {MEMORY_MB_MAX:g} MB",
                ok=used_mb <= MEMORY_MB_MAX,
            )
        )
    return figures


def first_decisions(settings: DeviceSettings, times: int) -> list[float]:
    """Seconds from the start of the process to the answer of the first tap."""
    taken = []
    for number in range(times):
        started = time.perf_counter()
        with running("edge", settings):
            wait_ready(settings, "edge")
            tap(settings, number)
            taken.append(time.perf_counter() - started)
    return taken


@contextmanager
def running(process: str, settings: DeviceSettings) -> Iterator[subprocess.Popen[bytes]]:
    # Enrolment's files are not needed to be measured: sync wants a root to trust, edge does not.
    if process == "sync":
        enrol(settings)
    child = subprocess.Popen([sys.executable, "-m", process, "--config", str(settings.source)])
    try:
        yield child
    finally:
        child.terminate()
        child.wait(timeout=READY_S_MAX)


def wait_ready(settings: DeviceSettings, process: str) -> None:
    until = time.perf_counter() + READY_S_MAX
    while True:
        try:
            ask(settings.socket_path(process), {"request": "status"})
            return
        except DeviceFault:
            if time.perf_counter() > until:
                raise
            time.sleep(0.005)


def tap(settings: DeviceSettings, number: int) -> None:
    answer = ask(
        settings.socket_path("edge"),
        {"request": "tap", "reader": "r1", "uid": uid_of(number).hex(), "kind": 1},
    )
    assert answer["ok"], answer


def memory_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


def bare_start() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - started


def bare_memory_mb() -> float:
    program = "print(flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.readline()  # It is up.
    used_mb = memory_mb(child.pid)
    child.communicate(b"\n")
    return used_mb


def enrol(settings: DeviceSettings) -> None:
    """A root document that the station trusts, as an enrolment would have brought it."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from edge.messages import (
        Root,
        SignedWhat,
        b64u,
        encode_json,
        encode_signed_lines,
        signing_input,
    )

    key = Ed25519PrivateKey.generate()
    payload = encode_json(Root(version=1, keys=(), issued_utc_ms=0))
    signature = key.sign(signing_input(SignedWhat.ROOT, payload))
    settings.root_key_path.write_text(b64u(key.public_key().public_bytes_raw()))
    settings.root_document_path.write_bytes(encode_signed_lines(payload, "root", signature))
