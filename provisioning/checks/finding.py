"""What an examination says: one sentence on what was found, one on what to do.

`Device` is what every check may look at. It asks the running processes once, and whoever holds a
port or a connection now is believed about it: a check must not disturb what works.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum, unique
from typing import Any, Final

from edge import control
from edge.model import CorruptData, DeviceFault
from edge.settings import DeviceSettings

PROCESSES: Final = ("edge", "sync")
ASK_S: Final = 6.0  # control.py: a process gives itself five seconds to answer.


@unique
class State(StrEnum):
    OK = "ok"
    ATTENTION = "attention"  # It works, but not for ever, or not as it should.
    WRONG = "wrong"  # The device cannot do its work, or is not safe.


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing looked at. `do` is empty exactly when there is nothing to do."""

    part: str
    state: State
    where: str
    found: str
    do: str = ""
    ours: bool = False  # A fault in this software, not in the installation.

    def __post_init__(self) -> None:
        assert (self.state is State.OK) == (not self.do), self


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """The installation under examination."""

    settings: DeviceSettings
    now: datetime
    _asked: dict[str, dict[str, Any] | Exception] = field(default_factory=dict)

    def status(self, process: str) -> dict[str, Any] | None:
        """What a running process says of itself, or None when it does not answer well."""
        said = self.answer(process)
        return said if isinstance(said, dict) and said.get("ok") is True else None

    def answer(self, process: str) -> dict[str, Any] | Exception:
        """The answer as it came, or why there is none."""
        assert process in PROCESSES
        if process not in self._asked:
            path = self.settings.socket_path(process)
            try:
                self._asked[process] = control.ask(path, {"request": "status"}, timeout_s=ASK_S)
            except (DeviceFault, CorruptData) as error:
                self._asked[process] = error
        return self._asked[process]


def ok(part: str, where: object, found: str) -> Finding:
    return Finding(part=part, state=State.OK, where=str(where), found=found)


def attention(part: str, where: object, found: str, do: str) -> Finding:
    return Finding(part=part, state=State.ATTENTION, where=str(where), found=found, do=do)


def wrong(part: str, where: object, found: str, do: str) -> Finding:
    return Finding(part=part, state=State.WRONG, where=str(where), found=found, do=do)


def told(part: str, where: object, problem: Exception, do: str) -> Finding:
    """A problem that says by itself what to do, after its last semicolon; else `do` says it."""
    text = str(problem).removeprefix(f"{where}: ")
    found, mark, remedy = text.rpartition("; ")
    return wrong(part, where, found, remedy) if mark else wrong(part, where, text, do)
