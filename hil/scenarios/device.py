"""The device of a scenario: its file and folder, and the reader, wires and PIN's worker in the
script's hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from edge.certificates import new_key
from edge.config import load
from edge.model import DeviceFault
from edge.offline_cache.store import FileKind, Writer
from edge.pin import PinAnswer, check_pin
from edge.readers.reader import LinkUp, ReaderCounters, ReaderEvent, Signal
from edge.settings import DeviceSettings
from edge.trust import read_key, write_secret
from edge.turnstile.bounded import BoundedLines
from edge.turnstile.lines import LineEvent
from hil.scenarios.script import Script
from hil.scenarios.town import SITE, ZONE, hand_keys

WALKING: Final = ("in", "out")

_HEAD = """schema = 1
[device]
id = "{device}"
site = "{site}"
station = "{station}"
[city]
endpoints = ["mqtt://127.0.0.1:9"]
[control]
simulated_taps = true
log_level = "error"
"""
_READER = """[[readers]]
id = "r-{name}"
driver = "serial"
port = "{ports}/tty-{name}"
frame = "hex_line"
"""
_LANE = '[[lanes]]\nid = "door"\ndriver = "mock"\n'
_LANE_FULL = """fire = {pin = 5, active_high = false, pull = "up"}
hold = {pin = 24}
tamper = {pin = 6, pull = "up"}
"""
_POINT = """[[lanes.access_points]]
id = "{name}"
direction = "{name}"
zone = "{zone}"
wait_ms_max = {wait_ms}
relay = {{pin = {relay}}}
"""
LAMPS_IN: Final = {"green": 12, "red": 16, "amber": 20, "buzzer": 21}
LAMPS_OUT: Final = {"green": 13, "red": 19, "amber": 25, "buzzer": 26}
_PINS: Final[Mapping[str, Mapping[str, int]]] = {
    "in": {"relay": 17, "rotation": 27, "button": 7, **LAMPS_IN},
    "out": {"relay": 22, "rotation": 23, "button": 8, **LAMPS_OUT},
}


def device_toml(script: Script, device: str, ports: Path) -> str:
    """The station's own file, as `moskvenok provision` writes it; its readers' ports are there."""
    text = _HEAD.format(device=device, site=SITE, station=script.station)
    for name in WALKING:
        text += _READER.format(name=name, ports=ports)
        text += "" if script.lane == "none" else f'access_point = "{name}"\n'
    if script.lane == "none":
        return text
    text += _LANE + (_LANE_FULL if script.lane == "full" else "")
    for name in WALKING:
        pins = _PINS[name]
        text += _POINT.format(name=name, zone=ZONE, wait_ms=script.wait_ms, relay=pins["relay"])
        if script.lane != "no_sensor":
            text += f"rotation = {{pin = {pins['rotation']}}}\n"
        if script.lane == "level":
            text += 'drive = "level"\n'
        if script.lane == "full":
            for line in LAMPS_IN:
                text += f"{line} = {{pin = {pins[line]}}}\n"
            text += f'button = {{pin = {pins["button"]}, active_high = false, pull = "up"}}\n'
    return text


def make_folder(script: Script, folder: Path, device: str) -> DeviceSettings:
    """The station's folder with its own key; lists come by `Town.install`."""
    for name in ("state", "identity", "run"):
        (folder / name).mkdir(parents=True)
    (folder / "device.toml").write_text(device_toml(script, device, folder), encoding="utf-8")
    settings = load(folder / "device.toml")
    write_secret(settings.key_path, new_key())
    key = read_key(settings.key_path)
    writer = Writer(settings.sync_path, FileKind.SYNC)
    if script.keys_held:
        hand_keys(writer, key.public_key())
    writer.close()
    return settings


class HandReader:
    """A reader that reports what it is handed."""

    alive_ms = 0

    def __init__(self, name: str) -> None:
        self.reader_id = name
        self.waiting: list[ReaderEvent] = [LinkUp(reader_id=name)]

    def poll(self) -> list[ReaderEvent]:
        events, self.waiting = self.waiting, []
        return events

    def signal(self, signal: Signal) -> None:
        return

    def counters(self) -> ReaderCounters:
        return ReaderCounters()

    def close(self) -> None:
        return


class PinsAtOnce:
    """The PIN's worker without its thread: the same check, answered at the next step."""

    def __init__(self) -> None:
        self._answers: list[PinAnswer] = []

    def ask(self, number: int, pin: str, phc: str) -> bool:
        self._answers.append(PinAnswer(number, check_pin(pin, phc)))
        return True

    def poll(self) -> list[PinAnswer]:
        answers, self._answers = self._answers, []
        return answers

    def close(self) -> None:
        return


class Wires:
    """The real lines, seen through wires that can break and contacts that can be missed.

    Bounds of the real lines run on the real clock; what is active here follows the script's.
    """

    def __init__(self, lines: BoundedLines, now_ms: list[int]) -> None:
        """`now_ms` holds the script's time."""
        self._lines, self._now_ms = lines, now_ms
        self.broken: set[str] = set()
        self.lost: set[str] = set()  # Inputs whose next change nobody sees.
        self.opened: list[str] = []  # Relays driven since it was emptied.
        self._until_ms: dict[str, int | None] = {}  # Of active outputs; None: without end.

    def activate(self, line_id: str, *, ms: int | None) -> None:
        if line_id in self.broken:
            raise DeviceFault(self._problem(line_id))
        self._lines.activate(line_id, ms=ms)
        self._until_ms[line_id] = None if ms is None else self._now_ms[0] + ms
        if line_id.endswith(".relay"):
            self.opened.append(line_id.removesuffix(".relay"))

    def let_go(self, line_id: str) -> None:
        self._until_ms.pop(line_id, None)
        self._lines.let_go(line_id)

    def let_go_all(self) -> None:
        self._until_ms.clear()
        self._lines.let_go_all()

    def is_active(self, line_id: str) -> bool:
        if line_id in self._until_ms:
            until_ms = self._until_ms[line_id]
            return until_ms is None or self._now_ms[0] < until_ms
        output = line_id.rpartition(".")[2] in ("relay", "hold", *LAMPS_IN)
        return False if output else self._lines.is_active(line_id)

    def poll(self) -> list[LineEvent]:
        events = []
        for event in self._lines.poll():
            if event.line_id in self.lost:
                self.lost.discard(event.line_id)
            else:
                events.append(event)
        return events

    def problems(self) -> tuple[str, ...]:
        return (*map(self._problem, sorted(self.broken)), *self._lines.problems())

    def counts(self) -> dict[str, int]:
        return self._lines.counts()

    def move(self, line_id: str, active: bool) -> None:
        self._lines.move(line_id, active)

    def close(self) -> None:
        self._until_ms.clear()
        self._lines.close()

    @staticmethod
    def _problem(line_id: str) -> str:
        return f"line {line_id}: the wire is broken; mend it"
