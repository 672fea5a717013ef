"""Process 2: `python -m sync --config device.toml`. Carries facts and lists until told to stop."""

from __future__ import annotations

import gc
import random
import signal
import sys
import threading
from contextlib import ExitStack
from zoneinfo import ZoneInfo

from edge import logs
from edge.certificates import Identity
from edge.clock import Clock
from edge.control import ControlSocket, ring
from edge.machine import machine_id, main
from edge.model import CorruptData, DeviceFault
from edge.offline_cache.epochs import open_store
from edge.offline_cache.soundness import is_whole, mark_unsound
from edge.offline_cache.store import FileKind
from edge.settings import DeviceSettings
from edge.trust import FileKeyStore
from sync.bridge import Bridge
from sync.contact import Contact
from sync.loop import Sync
from sync.metrics import MetricsServer
from sync.neighbour import Neighbour
from sync.parts import Parts
from sync.roots import Roots
from sync.session import parse_endpoints
from sync.sessions import Sessions

STEP_MS_MAX = 1_000  # house.md: a look every second.
STEP_MS_MIN = 1
METRICS_MS = 5_000  # Our choice: a third of the usual time between two scrapes.
FAULT_MS = 5_000  # Our choice: a disk that refused is tried again at this pace.


def run(settings: DeviceSettings) -> None:
    """Until SIGTERM, SIGINT, or an order to restart. A `sync.db` that turns out damaged is marked:
    the next start sets it aside, and fetches all again."""
    try:
        carry(settings)
    except CorruptData as problem:
        if is_whole(settings.sync_path, FileKind.SYNC):
            raise
        mark_unsound(settings.sync_path)
        raise CorruptData(
            f"{settings.sync_path}: damaged ({problem}); start sync again, it sets the file aside"
            " and fetches all anew"
        ) from problem


def carry(settings: DeviceSettings) -> None:
    """One life of the process."""
    stop = threading.Event()
    endpoints = parse_endpoints(settings.endpoints)
    identity = Identity(
        device_id=settings.device_id,
        key=settings.key_path,
        certificate=settings.certificate_path,
        authority=settings.authority_path,
    )
    settled = identity.settle()
    keys = FileKeyStore(settings.key_path)
    clock = Clock(ZoneInfo(settings.time_zone))
    sessions = Sessions(identity, lambda: clock.moment().wall_ms // 1000)
    bridge = Bridge(sessions.of(Contact.FULL, endpoints[0]))

    def on_signal(_number: int, _frame: object) -> None:
        stop.set()
        bridge.wake()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    log = logs.get("sync")
    if settled:
        log.warning("a renewal that was cut off is settled", how=settled)
    with ExitStack() as stack:
        control = ControlSocket(settings.socket_path("sync"), bridge.wake)
        stack.callback(control.close)
        metrics = None
        if settings.metrics_port:
            metrics = MetricsServer(settings.metrics_port)
            stack.callback(metrics.close)
        writer = open_store(settings.sync_path, machine=machine_id(), moment=clock.moment())
        edge_socket = settings.socket_path("edge")
        syncing = Sync(
            Parts(
                settings=settings,
                clock=clock,
                writer=writer,
                bridge=bridge,
                keys=keys,
                roots=Roots(settings, writer),
                identity=identity,
                sessions=sessions,
                neighbour=Neighbour(edge_socket, bridge.wake),
                endpoints=endpoints,
                random=random.SystemRandom().random,
                ring_edge=lambda: ring(edge_socket),
            )
        )
        stack.callback(syncing.stop)
        log.info("ready", device=settings.device_id)
        gc.freeze()  # What is there now stays to the end: no collection walks through it again.
        go_on(syncing, stop, control, metrics)
    log.info("stopped")


def go_on(
    syncing: Sync, stop: threading.Event, control: ControlSocket, metrics: MetricsServer | None
) -> None:
    """Step after step, until told to stop."""
    log = logs.get("sync")
    rings, disk, told_ms = 0, "", 0
    while not stop.is_set() and not syncing.stopping:
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
        now_ms = syncing.clock.mono_ms()
        for request in control.poll():
            request.answer(syncing.answer(request.body, syncing.clock.moment()))
        if metrics is not None and now_ms - told_ms >= METRICS_MS:
            told_ms = now_ms
            metrics.put(syncing.reports.metrics(syncing.clock.moment()))
        if stop.is_set() or control.rings != rings:
            continue  # What called during the step may not call again.
        wait_ms = syncing.due_ms() - now_ms
        syncing.wait(min(STEP_MS_MAX, max(STEP_MS_MIN, wait_ms)))


if __name__ == "__main__":
    sys.exit(main("sync", "Carries facts and lists.", run))
