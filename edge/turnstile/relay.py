"""GPIO lines: the one owner of gpiozero.

Keeps the contract of `lines.py`; what makes a line fall is `bounded.py`. Here a line is at its
safe level in the same request that makes it an output. After a kill the line is the kernel's and
the pull resistor's, see `persistent_outputs` and `README.md`, Wiring.

gpiozero's lgpio pins become outputs low and get their level afterwards (gpiozero pull request
1177): at each start a short opening of every lane that is wired active-low. `claim_output`
replaces that step here.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from edge.model import DeviceFault, SetupProblem
from edge.settings import Driver, LineSettings, Pull
from edge.turnstile.bounded import BoundedLines, Output, mono_ms
from edge.turnstile.lines import (
    EVENTS_QUEUED_MAX,
    RESET_MS,
    LineEvent,
    WiringSettings,
    wiring_problems,
)

# Raspberry Pi's kernels leave an output driven after its process is gone, unless told otherwise
# (raspberrypi/linux pull requests 6117 and 6150).
PERSIST_FLAGS = (
    Path("/sys/module/pinctrl_bcm2835/parameters/persist_gpio_outputs"),
    Path("/sys/module/pinctrl_rp1/parameters/persist_gpio_outputs"),
)


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
) -> BoundedLines:
    """Take the lines: inputs first and their levels read, then outputs, each at its safe level.

    `wake` is called from another thread after a change was queued for `poll`; it must return at
    once. `now_ms` stamps changes; bounds run on a clock of our own. `active_at_start` names
    virtual inputs that are active already. Raises `SetupProblem` when the wiring is wrong or the
    machine cannot drive pins at all, `DeviceFault` when a pin cannot be had.
    """
    problems = wiring_problems(wiring)
    if problems:
        raise SetupProblem("; ".join(problems))
    if wiring.driver is Driver.RELAY_BOARD:
        from edge.turnstile.relay_board import open_board  # Only stations with one pay for it.

        return open_board(wiring, wake=wake, now_ms=now_ms)
    virtual = wiring.driver is Driver.MOCK
    factory = _mock_factory() if virtual else _lgpio_factory(wiring.chip)
    lines = GpioLines(virtual=virtual, factory=factory, wake=wake, now_ms=now_ms)
    try:
        for line in (line for lane in wiring.lanes for line in lane.inputs):
            lines._open_input(line, active=line.line_id in active_at_start)
        for line, bound_ms in (pair for lane in wiring.lanes for pair in lane.outputs):
            lines._open_output(line, bound_ms=bound_ms)
        for line in wiring.resets:
            lines._open_output(line, bound_ms=RESET_MS)
    except BaseException:
        lines.close()
        raise
    return lines


class GpioLines(BoundedLines):
    """Open pins, made by `open_lines`. Safe to use from several threads."""

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
        self._inputs: dict[str, tuple[LineSettings, Any]] = {}
        self._levels: dict[str, bool] = {}
        self._events: deque[LineEvent] = deque()
        self._persistent = "" if virtual else persistent_outputs()
        self.events_dropped = 0  # The oldest, when nobody polled.
        self.wake_failures = 0
        super().__init__(wake=wake, now_ms=now_ms)

    def is_active(self, line_id: str) -> bool:
        with self._changed:
            if line_id in self._levels:
                return self._levels[line_id]
            return super().is_active(line_id)

    def poll(self) -> list[LineEvent]:
        with self._changed:
            events = list(self._events)
            self._events.clear()
        return events

    def problems(self) -> tuple[str, ...]:
        return (*((self._persistent,) if self._persistent else ()), *super().problems())

    def move(self, line_id: str, active: bool) -> None:
        if not self._virtual or line_id not in self._inputs:
            super().move(line_id, active)
        line, device = self._inputs[line_id]
        _lay_wire(device.pin, high=active == line.active_high)

    def counts(self) -> dict[str, int]:
        counted = {"events_dropped": self.events_dropped, "wake_failures": self.wake_failures}
        return {name: count for name, count in counted.items() if count}

    # ----------------------------------------------------------------------------- inside

    def _owned(self) -> Iterable[Callable[[], object]]:
        for _, device in self._inputs.values():  # gpiozero closes a pin and goes on listening.
            yield partial(setattr, device.pin, "when_changed", None)
            yield device.close
        yield self._factory.close

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
            self._outputs[line.line_id] = Output(line, device, bound_ms)

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
