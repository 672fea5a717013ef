"""Process 2: `python -m sync --config device.toml`. Carries facts and lists until told to stop."""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

from edge import logs
from edge.clock import Clock
from edge.config import load
from edge.control import ControlSocket, ring
from edge.messages import decode_signed_lines, from_b64u
from edge.model import CorruptData, DeviceFault, SetupProblem
from edge.offline_cache import marks
from edge.offline_cache.store import FileKind, Writer
from edge.settings import DeviceSettings
from edge.trust import FileKeyStore, Verifier, open_root
from sync.bridge import Bridge
from sync.loop import Sync
from sync.session import Endpoint, Session, parse_endpoints, session_for, tls_context

STEP_MS_MAX = 1_000  # house.md: a look every second.
STEP_MS_MIN = 1
LOCAL_CONNACK_MS = 1_000  # Our choice: a hundred times what loopback takes on a busy Pi.
FAULT_MS = 5_000  # Our choice: a disk that refused is tried again at this pace.


def open_verifier(settings: DeviceSettings, writer: Writer) -> Verifier:
    """The keys in force: the newest root document that the enrolled root key signed."""
    try:
        root_public = from_b64u(settings.root_key_path.read_text().strip())
        enrolled = settings.root_document_path.read_bytes()
    except OSError as error:
        raise SetupProblem(
            f'{error.filename}: {error.strerror}; run "moskvenok provision"'
        ) from error
    newest = None
    for document in (enrolled, marks.newest_root(writer)):
        if document is None:
            continue
        try:
            root = open_root(root_public, decode_signed_lines(document))
        except CorruptData as problem:
            raise SetupProblem(f'{problem}; run "moskvenok provision" again') from problem
        if newest is None or root.version > newest.version:
            newest = root
            marks.store_root(writer, root.version, document)
    assert newest is not None
    return Verifier(newest)


def sessions(
    settings: DeviceSettings, endpoints: tuple[Endpoint, ...]
) -> tuple[Session, Session | None]:
    """The device's session, and the one for a first contact without date checks."""
    if not any(endpoint.tls for endpoint in endpoints):
        # A broker on this machine answers at once, or (amqtt, to MQTT 5) never.
        local = replace(session_for(settings.device_id, None), connack_ms_max=LOCAL_CONNACK_MS)
        return local, None
    checked, unchecked = (
        session_for(
            settings.device_id,
            tls_context(
                ca_file=settings.authority_path,
                certificate_file=settings.certificate_path,
                key_file=settings.key_path,
                check_time=check_time,
            ),
        )
        for check_time in (True, False)
    )
    return checked, unchecked


def run(settings: DeviceSettings) -> None:
    """Until SIGTERM or SIGINT."""
    stop = threading.Event()
    endpoints = parse_endpoints(settings.endpoints)
    keys = FileKeyStore(settings.key_path)
    checked, first_contact = sessions(settings, endpoints)
    writer = Writer(settings.sync_path, FileKind.SYNC)
    bridge = Bridge(checked)

    def on_signal(_number: int, _frame: object) -> None:
        stop.set()
        bridge.wake()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    clock = Clock(ZoneInfo(settings.time_zone))
    edge_socket = settings.socket_path("edge")
    control = ControlSocket(settings.socket_path("sync"), bridge.wake)
    log = logs.get("sync")
    try:
        syncing = Sync(
            settings,
            clock=clock,
            writer=writer,
            bridge=bridge,
            keys=keys,
            verifier=open_verifier(settings, writer),
            endpoints=endpoints,
            first_contact=first_contact,
            random=random.SystemRandom().random,
            ring_edge=lambda: ring(edge_socket),
        )
        try:
            log.info("ready", device=settings.device_id)
            rings, disk = 0, ""
            while not stop.is_set():
                rung, rings = control.rings != rings, control.rings
                try:
                    syncing.step(rung=rung)
                    disk = ""
                except DeviceFault as fault:
                    # Facts wait in edge's journal meanwhile; the tap knows nothing of this.
                    if disk != str(fault):
                        disk = str(fault)
                        log.error("cannot go on now", reason=disk)
                    syncing.start_over()
                    stop.wait(FAULT_MS / 1000)
                for request in control.poll():
                    if request.name == "status":
                        request.answer(syncing.status())
                    else:
                        request.answer({"ok": False, "error": "known requests: status"})
                wait_ms = syncing.due_ms() - clock.mono_ms()
                bridge.wait(min(STEP_MS_MAX, max(STEP_MS_MIN, wait_ms)))
        finally:
            syncing.stop()
    finally:
        control.close()
    log.info("stopped")


def main() -> int:
    """0 stopped as told; 1 something for the technician to mend; 2 ours."""
    if not __debug__:
        sys.exit("sync: started with -O, which takes out the checks; start it without")
    parser = argparse.ArgumentParser(prog="sync", description="Carries facts and lists.")
    parser.add_argument("--config", type=Path, required=True, help="the station's device.toml")
    config = parser.parse_args().config
    os.umask(0o007)  # house.md: files 0660 of the group; others see nothing.
    logs.set_up("sync")
    try:
        settings = load(config)
        logs.set_up("sync", level=settings.log_level)
        run(settings)
    except (SetupProblem, DeviceFault) as problem:
        print(f"sync: {problem}", file=sys.stderr)  # noqa: T201  For the person who started it.
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
