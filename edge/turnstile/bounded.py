"""Outputs that fall by themselves: what every owner of lines has in common.

Keeps the contract of `lines.py` for outputs, over switches that a subclass brings: pins of the
machine (`relay.py`), relays of a serial board (`relay_board.py`). A line falls by itself, and is
let go on `close`, on an exception in a `with`, and at exit.

Who makes a line fall: one thread of our own, which sleeps until the next end and needs nothing
from the agent's loop. The end is noted before the line is driven, so no line is ever active
without one. gpiozero's `blink` would start and join a thread per pulse and knows no bound of its
own; a timer in the agent's loop would hang with it. What no thread can do is outlive its process:
after a kill the line is whoever's the subclass says.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from edge.model import DeviceFault, SetupProblem
from edge.settings import LineSettings
from edge.turnstile.lines import LineEvent

HISTORY_MAX = 256  # Our choice: a few minutes of a busy lane, for a technician and for tests.
RETRY_MS = 50  # Our choice: a line that would not fall is told again at this pace, for ever.
JOIN_S = 1.0  # Our choice: the thread only writes outputs; it is back at once or never.


@dataclass(frozen=True, slots=True, kw_only=True)
class LineChange:
    """An entry of the history: an input as seen, an output as driven."""

    line_id: str
    active: bool
    at_ms: int


def mono_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class Switch(Protocol):
    """What moves one output. Any of it may raise: then the line is told again."""

    def on(self) -> None: ...

    def off(self) -> None: ...

    def close(self) -> None: ...


class Output:
    """An output and its end. Touched under the lock alone."""

    def __init__(self, settings: LineSettings, device: Switch, bound_ms: int | None) -> None:
        self.settings = settings
        self.device = device
        self.bound_ms = bound_ms
        self.since_ms = 0
        self.until_ms: int | None = None  # When it falls, or is told to again. None: never.
        self.active = False
        self.fault = ""


class BoundedLines:
    """Open lines without inputs. Safe to use from several threads."""

    def __init__(self, *, wake: Callable[[], None], now_ms: Callable[[], int]) -> None:
        self._wake = wake
        self._now_ms = now_ms
        # Reentrant: a signal handler may close what this very thread is driving.
        self._changed = threading.Condition(threading.RLock())
        self._outputs: dict[str, Output] = {}
        self._history: deque[LineChange] = deque(maxlen=HISTORY_MAX)
        self._closed = False
        self._tend_ms: int | None = None  # How often `_tend` is called; None: never.
        self._tend_due_ms = 0
        atexit.register(self.close)
        self._watcher = threading.Thread(target=self._watch, name="lines", daemon=True)
        self._watcher.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # -------------------------------------------------------------------------- the contract

    def activate(self, line_id: str, *, ms: int | None) -> None:
        with self._changed:
            output = self._output(line_id)
            bound_ms = output.bound_ms
            assert (ms is None) is (bound_ms is None), f"{line_id}: only holding lines have no end"
            assert ms is None or 0 < ms <= (bound_ms or 0), f"{line_id}: {ms} ms of {bound_ms}"
            if output.fault:
                raise DeviceFault(output.fault)
            # Stamped before it is driven: a stall afterwards must not make the pulse look short.
            at_ms, rises, now_ms = self._now_ms(), not output.active, mono_ms()
            if rises:
                output.since_ms, output.active = now_ms, True
            if ms is not None and bound_ms is not None:
                output.until_ms = min(now_ms + ms, output.since_ms + bound_ms)
            self._changed.notify_all()
            try:
                output.device.on()
            except Exception as error:
                self._fall(output)
                output.fault = output.fault or self._cannot_drive(output.settings, error)
                output.until_ms = mono_ms() + RETRY_MS
                raise DeviceFault(output.fault) from error
            if rises:
                self._note(line_id, active=True, at_ms=at_ms)

    def let_go(self, line_id: str) -> None:
        with self._changed:
            output = self._output(line_id)
            if output.active:
                self._fall(output)
            if output.fault:
                raise DeviceFault(output.fault)

    def let_go_all(self) -> None:
        with self._changed:
            for output in self._outputs.values():
                if output.active and not self._closed:
                    self._fall(output)
            faults = [output.fault for output in self._outputs.values() if output.fault]
        if faults:
            raise DeviceFault("; ".join(faults))

    def is_active(self, line_id: str) -> bool:
        with self._changed:
            assert line_id in self._outputs, f"{line_id} is no line of this device"
            return self._outputs[line_id].active

    def poll(self) -> list[LineEvent]:
        return []

    def problems(self) -> tuple[str, ...]:
        with self._changed:
            return tuple(output.fault for output in self._outputs.values() if output.fault)

    def counts(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        atexit.unregister(self.close)
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
            for output in self._outputs.values():
                self._fall(output)
            faults = [output.fault for output in self._outputs.values() if output.fault]
            for release in (*(out.device.close for out in self._outputs.values()), *self._owned()):
                try:
                    release()
                except Exception as error:
                    faults.append(f"a line was not let go of ({error})")
        if self._watcher is not threading.current_thread():
            self._watcher.join(JOIN_S)
        if faults:
            raise DeviceFault("; ".join(faults))

    # ---------------------------------------------------- for the technician, bench and tests

    @property
    def history(self) -> tuple[LineChange, ...]:
        """The last `HISTORY_MAX` changes, oldest first."""
        with self._changed:
            return tuple(self._history)

    def move(self, line_id: str, active: bool) -> None:
        """Move a virtual input, as if its wire had changed."""
        raise SetupProblem(
            f'line {line_id} cannot be moved: only inputs of the driver "mock" can; on real '
            "wires move the wire"
        )

    # ------------------------------------------------------------------- for the subclass

    def _owned(self) -> Iterable[Callable[[], object]]:
        """What else is let go of at the end, in this order."""
        return ()

    def _tend(self) -> None:
        """Called every `_tend_ms` by the watcher, under the lock."""

    def _cannot_drive(self, line: LineSettings, error: Exception) -> str:
        return (
            f"line {line.line_id}: pin {line.pin} cannot be driven ({error}); "
            'look at its lane, then run "moskvenok doctor lines"'
        )

    def _output(self, line_id: str) -> Output:
        if self._closed:
            raise DeviceFault(f"line {line_id}: the lines are closed")
        assert line_id in self._outputs, f"{line_id} is no output of this device"
        return self._outputs[line_id]

    def _note(self, line_id: str, *, active: bool, at_ms: int) -> None:
        self._history.append(LineChange(line_id=line_id, active=active, at_ms=at_ms))

    # ----------------------------------------------------------------------------- inside

    def _fall(self, output: Output) -> None:
        """To the safe level. A line that will not go there is told again by the watcher."""
        try:
            output.device.off()
        except Exception as error:
            output.fault = self._cannot_drive(output.settings, error)
            output.until_ms = mono_ms() + RETRY_MS
            self._changed.notify_all()
            return
        if output.active:
            output.active = False
            self._note(output.settings.line_id, active=False, at_ms=self._now_ms())
        output.until_ms = None
        output.fault = ""

    def _watch(self) -> None:
        with self._changed:
            while not self._closed:
                now_ms = mono_ms()
                for output in self._outputs.values():
                    if output.until_ms is not None and output.until_ms <= now_ms:
                        self._fall(output)
                ends = [out.until_ms for out in self._outputs.values() if out.until_ms is not None]
                if self._tend_ms is not None:
                    if self._tend_due_ms <= now_ms:
                        self._tend()
                        self._tend_due_ms = mono_ms() + self._tend_ms
                    ends.append(self._tend_due_ms)
                self._changed.wait(max(0, min(ends) - mono_ms()) / 1_000 if ends else None)
