"""GPIO lines: the one owner of gpiozero.

Keeps the contract of `lines.py`. A line is at its safe level in the same request that makes it an
output, falls by itself, and is let go on `close`, on an exception in a `with`, and at exit.

Who makes a line fall: one thread of our own, which sleeps until the next end and needs nothing
from the agent's loop. The end is noted before the line is driven, so no line is ever active
without one. gpiozero's `blink` would start and join a thread per pulse and knows no bound of its
own; a timer in the agent's loop would hang with it. What no thread can do is outlive its process:
after a kill the line is the kernel's and the pull resistor's, see `persistent_outputs` and
`README.md`, Wiring.

gpiozero's lgpio pins become outputs low and get their level afterwards (gpiozero pull request
1177): at each start a short opening of every lane that is wired active-low. `claim_output`
replaces that step here.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from edge.model import DeviceFault, SetupProblem
from edge.turnstile.lines import (
    EVENTS_QUEUED_MAX,
    Driver,
    LineEvent,
    LineSettings,
    Pull,
    WiringSettings,
    wiring_problems,
)

HISTORY_MAX = 256  # Our choice: a few minutes of a busy lane, for a technician and for tests.
RETRY_MS = 50  # Our choice: a line that would not fall is told again at this pace, for ever.
JOIN_S = 1.0  # Our choice: the thread only writes pins; it is back at once or never.

# Raspberry Pi's kernels leave an output driven after its process is gone, unless told otherwise
# (raspberrypi/linux pull requests 6117 and 6150).
PERSIST_FLAGS = (
    Path("/sys/module/pinctrl_bcm2835/parameters/persist_gpio_outputs"),
    Path("/sys/module/pinctrl_rp1/parameters/persist_gpio_outputs"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LineChange:
    """An entry of the history: an input as seen, an output as driven."""

    line_id: str
    active: bool
    at_ms: int


def mono_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def persistent_outputs(flags: tuple[Path, ...] = PERSIST_FLAGS) -> str:
    """Why a line would stay active after its process was killed; "" when it would not."""
    for flag in flags:
        try:
            state = flag.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue  # Another board, or a kernel without the choice.
        if state == "Y":
            return (
                f"{flag} is Y: a killed process would leave its lines as they are; add "
                '"dtparam=strict_gpiod" to /boot/firmware/config.txt and restart'
            )
    return ""


def open_lines(
    wiring: WiringSettings,
    *,
    wake: Callable[[], None] = lambda: None,
    now_ms: Callable[[], int] = mono_ms,
    active_at_start: frozenset[str] = frozenset(),
) -> GpioLines:
    """Take the pins: inputs first and their levels read, then outputs, each at its safe level.

    `wake` is called from another thread after a change was queued for `poll`; it must return at
    once. `now_ms` stamps changes; bounds run on a clock of our own. `active_at_start` names
    virtual inputs that are active already. Raises `SetupProblem` when the wiring is wrong or the
    machine cannot drive pins at all, `DeviceFault` when a pin cannot be had.
    """
    problems = wiring_problems(wiring)
    if problems:
        raise SetupProblem("; ".join(problems))
    virtual = wiring.driver is Driver.MOCK
    factory = _mock_factory() if virtual else _lgpio_factory(wiring.chip)
    lines = GpioLines(virtual=virtual, factory=factory, wake=wake, now_ms=now_ms)
    try:
        for line in (line for lane in wiring.lanes for line in lane.inputs):
            lines._open_input(line, active=line.line_id in active_at_start)
        for line, bound_ms in (pair for lane in wiring.lanes for pair in lane.outputs):
            lines._open_output(line, bound_ms=bound_ms)
    except BaseException:
        lines.close()
        raise
    return lines


class _Output:
    """An output and its end. Touched under the lock alone."""

    def __init__(self, settings: LineSettings, device: Any, bound_ms: int | None) -> None:
        self.settings = settings
        self.device = device
        self.bound_ms = bound_ms
        self.since_ms = 0
        self.until_ms: int | None = None  # When it falls, or is told to again. None: never.
        self.active = False
        self.fault = ""


class GpioLines:
    """Open lines, made by `open_lines`. Safe to use from several threads."""

    def __init__(
        self,
        *,
        virtual: bool,
        factory: Any,
        wake: Callable[[], None],
        now_ms: Callable[[], int],
    ) -> None:
        self._virtual = virtual
        self._factory = factory
        self._wake = wake
        self._now_ms = now_ms
        # Reentrant: a signal handler may close what this very thread is driving.
        self._changed = threading.Condition(threading.RLock())
        self._inputs: dict[str, tuple[LineSettings, Any]] = {}
        self._levels: dict[str, bool] = {}
        self._events: deque[LineEvent] = deque()
        self._outputs: dict[str, _Output] = {}
        self._history: deque[LineChange] = deque(maxlen=HISTORY_MAX)
        self._closed = False
        self._persistent = "" if virtual else persistent_outputs()
        self.events_dropped = 0  # The oldest, when nobody polled.
        self.wake_failures = 0
        atexit.register(self.close)
        self._watcher = threading.Thread(target=self._watch, name="lines", daemon=True)
        self._watcher.start()

    def __enter__(self) -> GpioLines:
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
                output.fault = output.fault or _cannot_drive(output.settings, error)
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

    def is_active(self, line_id: str) -> bool:
        with self._changed:
            if line_id in self._levels:
                return self._levels[line_id]
            assert line_id in self._outputs, f"{line_id} is no line of this device"
            return self._outputs[line_id].active

    def poll(self) -> list[LineEvent]:
        with self._changed:
            events = list(self._events)
            self._events.clear()
        return events

    def problems(self) -> tuple[str, ...]:
        with self._changed:
            faults = tuple(output.fault for output in self._outputs.values())
        return tuple(problem for problem in (self._persistent, *faults) if problem)

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
            releases = [output.device.close for output in self._outputs.values()]
            for _, device in self._inputs.values():  # gpiozero closes a pin and goes on listening.
                releases += [partial(setattr, device.pin, "when_changed", None), device.close]
            for release in (*releases, self._factory.close):
                try:
                    release()
                except Exception as error:
                    faults.append(f"a pin was not let go of ({error})")
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
        if not self._virtual or line_id not in self._inputs:
            raise SetupProblem(
                f'line {line_id} cannot be moved: only inputs of the driver "mock" can; on real '
                "wires move the wire"
            )
        line, device = self._inputs[line_id]
        _lay_wire(device.pin, high=active == line.active_high)

    # ----------------------------------------------------------------------------- inside

    def _open_input(self, line: LineSettings, *, active: bool) -> None:
        from gpiozero import DigitalInputDevice  # Only stations with lines pay for it.

        # gpiozero ties polarity to the pull. Here they are two things: a contact to ground may
        # well be active when it is open.
        library_high = line.active_high if line.pull is Pull.NONE else line.pull is Pull.DOWN
        try:
            device = DigitalInputDevice(
                line.pin,
                pull_up={Pull.NONE: None, Pull.UP: True, Pull.DOWN: False}[line.pull],
                active_state=line.active_high if line.pull is Pull.NONE else None,
                bounce_time=line.debounce_ms / 1_000 or None,
                pin_factory=self._factory,
            )
        except Exception as error:
            raise DeviceFault(_cannot_have(line, error)) from error
        self._inputs[line.line_id] = (line, device)
        if self._virtual:  # The wire is stronger than the pull.
            _lay_wire(device.pin, high=active == line.active_high)
        same = library_high == line.active_high
        with self._changed:
            device.when_activated = partial(self._edge, line.line_id, same)
            device.when_deactivated = partial(self._edge, line.line_id, not same)
            self._levels[line.line_id] = bool(device.is_active) == same

    def _open_output(self, line: LineSettings, *, bound_ms: int | None) -> None:
        from gpiozero import OutputDevice

        try:
            device = OutputDevice(
                line.pin,
                active_high=line.active_high,
                initial_value=False,
                pin_factory=self._factory,
            )
        except Exception as error:
            raise DeviceFault(_cannot_have(line, error)) from error
        with self._changed:
            self._outputs[line.line_id] = _Output(line, device, bound_ms)

    def _output(self, line_id: str) -> _Output:
        if self._closed:
            raise DeviceFault(f"line {line_id}: the lines are closed")
        assert line_id in self._outputs, f"{line_id} is no output of this device"
        return self._outputs[line_id]

    def _edge(self, line_id: str, active: bool) -> None:
        """Called by the library, in its own thread, which must not die of us."""
        with self._changed:
            if self._closed or self._levels.get(line_id) is active:
                return
            self._levels[line_id] = active
            at_ms = self._now_ms()
            self._note(line_id, active=active, at_ms=at_ms)
            if len(self._events) == EVENTS_QUEUED_MAX:
                self._events.popleft()
                self.events_dropped += 1
            self._events.append(LineEvent(line_id=line_id, active=active, at_ms=at_ms))
        try:
            self._wake()
        except Exception:
            self.wake_failures += 1  # The loop looks by itself before long.

    def _note(self, line_id: str, *, active: bool, at_ms: int) -> None:
        self._history.append(LineChange(line_id=line_id, active=active, at_ms=at_ms))

    def _fall(self, output: _Output) -> None:
        """To the safe level. A line that will not go there is told again by the watcher."""
        try:
            output.device.off()
        except Exception as error:
            output.fault = _cannot_drive(output.settings, error)
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
                self._changed.wait(max(0, min(ends) - mono_ms()) / 1_000 if ends else None)


def _cannot_drive(line: LineSettings, error: Exception) -> str:
    return (
        f"line {line.line_id}: pin {line.pin} cannot be driven ({error}); "
        'look at its lane, then run "moskvenok doctor lines"'
    )


def _cannot_have(line: LineSettings, error: Exception) -> str:
    return (
        f"line {line.line_id}: pin {line.pin} cannot be taken ({error}); is another program "
        'using it? Run "moskvenok doctor lines"'
    )


# --------------------------------------------------------------------------------- pins


def _lgpio_factory(chip: int | None) -> Any:
    try:
        import lgpio
        from gpiozero.pins.lgpio import LGPIOFactory, LGPIOPin
    except ImportError as error:
        raise SetupProblem(
            f'no driver for the pins ({error}): install "moskvenok-edge[pi]", or set the lane\'s '
            'driver to "mock" where there are no wires'
        ) from error
    except OSError as error:  # lgpio makes a named pipe in the working folder when imported.
        raise SetupProblem(
            f"lgpio cannot use the working folder {Path.cwd()} ({error}): start the agent in a "
            "folder it may write"
        ) from error

    def claim_output(pin: Any, state: Any) -> None:
        lgpio.gpio_claim_output(pin.factory._handle, pin._number, int(bool(state)))

    try:
        factory = LGPIOFactory(chip=chip)
    except Exception as error:
        raise SetupProblem(
            f"the pins of this machine cannot be opened ({error}): is it a Raspberry Pi, and is "
            'the agent\'s user in the group "gpio"?'
        ) from error
    # gpiozero shares pins between local factories: closing one would close another's.
    factory.pins, factory._reservations = {}, defaultdict(list)
    factory.pin_class = type("SafePin", (LGPIOPin,), {"output_with_state": claim_output})
    return factory


def _mock_factory() -> Any:
    from gpiozero.pins.mock import MockFactory, MockPin

    def claim_output(pin: Any, state: Any) -> None:
        pin._change_state(bool(state))  # One step: never an output at another level.
        pin._function = "output"

    return MockFactory(pin_class=type("SafePin", (MockPin,), {"output_with_state": claim_output}))


def _lay_wire(pin: Any, *, high: bool) -> None:
    """Put a virtual pin at a level from outside."""
    (pin.drive_high if high else pin.drive_low)()
