"""Process 1: `python -m edge --config device.toml`. Build the agent, run until told to stop."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from edge import logs
from edge.clock import Clock
from edge.control import ControlSocket, ring
from edge.machine import machine_id, main
from edge.model import Moment, Station
from edge.settings import DeviceSettings, Driver

if TYPE_CHECKING:  # Imported when building: a configuration problem is told without them.
    from edge.agent import Agent
    from edge.pos.peripherals import Printer, Scanner

STEP_S_MAX = 1.0  # house.md: a look every second.
STEP_S_MIN = 0.001


def build(settings: DeviceSettings, clock: Clock, moment: Moment, wake: threading.Event) -> Agent:
    """Open files, lines and readers, in this order: a line is safe before a card can be read."""
    from edge.agent import Agent, Parts
    from edge.keyring import Keyring
    from edge.offline_cache.lookup import Cache
    from edge.offline_cache.record import open_journal
    from edge.readers.open_reader import open_reader
    from edge.resets import open_resets, reset_of
    from edge.trust import FileKeyStore
    from edge.turnstile.relay import open_lines
    from edge.wiring import wiring_of

    wiring = wiring_of(settings)
    lines = None if wiring is None else open_lines(wiring, wake=wake.set, now_ms=clock.mono_ms)
    journal = open_journal(
        settings.journal_path,
        device=settings.device_id,
        site=settings.site_id,
        station=settings.station,
        machine=machine_id(),
        moment=moment,
    )
    cache = Cache(
        settings.folders.state,
        device=settings.device_id,
        site=settings.site_id,
        journal=journal.writer.db,
    )
    keyring = Keyring(settings.folders.state, site=settings.site_id)
    resets = open_resets(settings, now_ms=clock.mono_ms)
    readers = {
        reader.reader_id: (
            open_reader(
                reader,
                wake=wake.set,
                now_ms=clock.mono_ms,
                cards=keyring,
                reset=reset_of(reader, resets),
            ),
            reader.access_point_id,
        )
        for reader in settings.readers
    }
    printer: Printer | None = None
    scanner: Scanner | None = None
    if settings.station is Station.TILL and (settings.printer or settings.scanner.port):
        from edge.pos import peripherals

        if settings.printer is not None:
            printer = peripherals.Printer(settings.printer, wake=wake.set)
        if settings.scanner.port:
            scanner = peripherals.Scanner(settings.scanner, wake=wake.set)
    sync_socket = settings.socket_path("sync")
    parts = Parts(
        settings=settings,
        clock=clock,
        journal=journal,
        cache=cache,
        keys=FileKeyStore(settings.key_path),
        readers=readers,
        lines=lines,
        ring_sync=lambda: ring(sync_socket),
        move_line=lines.move if lines and wiring and wiring.driver is Driver.MOCK else None,
        keyring=keyring,
        resets=resets,
        printer=printer,
        scanner=scanner,
        wake=wake.set,
    )
    return Agent(parts, moment)


def run(settings: DeviceSettings) -> None:
    """Until SIGTERM or SIGINT. Lines are let go on every way out."""
    from edge.requests import answer
    from edge.watchdog import Systemd, Watchdog
    from edge.web import open_screens

    stop = threading.Event()
    wake = threading.Event()

    def on_signal(_number: int, _frame: object) -> None:
        stop.set()
        wake.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    log = logs.get("edge")
    clock = Clock(ZoneInfo(settings.time_zone))
    moment = clock.moment()
    agent = build(settings, clock, moment, wake)
    systemd = Systemd(os.environ)
    watchdog = Watchdog(agent.parts.lines, notify=systemd.alive)
    try:
        control = ControlSocket(settings.socket_path("edge"), wake.set)
        screens = open_screens(settings, wake.set)
        try:
            systemd.ready()
            log.info("ready", device=settings.device_id, station=settings.station.value)
            rings = 0
            while not stop.is_set():
                wake.clear()
                moment = clock.moment()
                rung, rings = control.rings != rings, control.rings
                agent.step(moment, rung=rung)
                asked = control.poll() if screens is None else control.poll() + screens.poll()
                for request in asked:
                    answer(agent, request, clock.moment())
                if agent.stopping:
                    break
                watchdog.beat()
                due_ms = agent.due_ms()
                wait_s = STEP_S_MAX if due_ms is None else (due_ms - clock.mono_ms()) / 1000
                wake.wait(min(STEP_S_MAX, max(STEP_S_MIN, wait_s)))
        finally:
            if screens is not None:
                screens.close()
            control.close()
    finally:
        systemd.stopping()
        watchdog.close()
        agent.close()
        systemd.close()
    log.info("stopped")


if __name__ == "__main__":
    sys.exit(main("edge", "The agent that a tap meets.", run))
