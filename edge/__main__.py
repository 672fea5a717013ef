"""Process 1: `python -m edge --config device.toml`. Build the agent, run until told to stop."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from edge import logs
from edge.clock import Clock
from edge.config import load
from edge.control import ControlSocket, ring
from edge.machine import machine_id
from edge.model import DeviceFault, Moment, SetupProblem
from edge.settings import DeviceSettings

if TYPE_CHECKING:  # Imported when building: a configuration problem is told without them.
    from edge.agent import Agent

STEP_S_MAX = 1.0  # house.md: a look every second.
STEP_S_MIN = 0.001


def build(settings: DeviceSettings, clock: Clock, moment: Moment, wake: threading.Event) -> Agent:
    """Open files, lines and readers, in this order: a line is safe before a card can be read."""
    from edge.agent import Agent, Parts
    from edge.keyring import Keyring
    from edge.offline_cache.lookup import Cache
    from edge.offline_cache.record import open_journal
    from edge.readers.open_reader import open_reader
    from edge.trust import FileKeyStore
    from edge.turnstile.lines import Driver
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
    readers = {
        reader.reader_id: (
            open_reader(reader, wake=wake.set, now_ms=clock.mono_ms, cards=keyring),
            reader.access_point_id,
        )
        for reader in settings.readers
    }
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
    )
    return Agent(parts, moment)


def run(settings: DeviceSettings) -> None:
    """Until SIGTERM or SIGINT. Lines are let go on every way out."""
    from edge.requests import answer

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
    try:
        control = ControlSocket(settings.socket_path("edge"), wake.set)
        try:
            log.info("ready", device=settings.device_id, station=settings.station.value)
            rings = 0
            while not stop.is_set():
                wake.clear()
                moment = clock.moment()
                rung, rings = control.rings != rings, control.rings
                agent.step(moment, rung=rung)
                for request in control.poll():
                    answer(agent, request, clock.moment())
                if agent.stopping:
                    break
                due_ms = agent.due_ms()
                wait_s = STEP_S_MAX if due_ms is None else (due_ms - clock.mono_ms()) / 1000
                wake.wait(min(STEP_S_MAX, max(STEP_S_MIN, wait_s)))
        finally:
            control.close()
    finally:
        agent.close()
    log.info("stopped")


def main() -> int:
    """0 stopped as told; 1 something for the technician to mend; 2 ours."""
    if not __debug__:
        sys.exit("edge: started with -O, which takes out the checks; start it without")
    parser = argparse.ArgumentParser(prog="edge", description="The agent that a tap meets.")
    parser.add_argument("--config", type=Path, required=True, help="the station's device.toml")
    config = parser.parse_args().config
    os.umask(0o007)  # house.md: files 0660 of the group; others see nothing.
    logs.set_up("edge")
    try:
        settings = load(config)
        logs.set_up("edge", level=settings.log_level)
        run(settings)
    except (SetupProblem, DeviceFault) as problem:
        print(f"edge: {problem}", file=sys.stderr)  # noqa: T201  For the person who started it.
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
