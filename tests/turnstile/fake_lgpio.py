"""Stands in for the module `lgpio`: the kernel's pins as gpiozero's lgpio driver uses them.

It keeps what matters to a wire: at which level a pin became an output, and every level it was
driven to. Names and arguments are those of lgpio 0.2.2.0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

SET_PULL_NONE, SET_PULL_DOWN, SET_PULL_UP = 128, 64, 32
RISING_EDGE, FALLING_EDGE, BOTH_EDGES = 1, 2, 3
IS_OUT, BIAS_UP, BIAS_DOWN = 1 << 1, 1 << 5, 1 << 6


class error(Exception):
    pass


@dataclass
class Pin:
    output: bool = False
    level: int = 0
    flags: int = 0
    driven: list[int] = field(default_factory=list)  # Every level of its life as an output.
    debounce_micros: int = 0
    broken: bool = False


pins: dict[int, Pin] = {}
callbacks: dict[int, Callable[[int, int, int, int], None]] = {}
opened: list[int] = []


def reset() -> None:
    pins.clear()
    callbacks.clear()
    opened.clear()


def pin(gpio: int) -> Pin:
    return pins.setdefault(gpio, Pin())


def wire(gpio: int, level: int) -> None:
    """The wire outside changes."""
    was, pin(gpio).level = pin(gpio).level, level
    if was != level and gpio in callbacks:
        callbacks[gpio](0, gpio, level, 0)


def gpiochip_open(chip: int) -> int:
    opened.append(chip)
    return len(opened)


def gpiochip_close(handle: int) -> None:
    pass


def gpio_claim_input(handle: int, gpio: int, lFlags: int = 0) -> int:
    pin(gpio).output, pin(gpio).flags = False, lFlags
    return 0


def gpio_claim_output(handle: int, gpio: int, level: int = 0, lFlags: int = 0) -> int:
    pin(gpio).output, pin(gpio).level = True, level
    pin(gpio).driven.append(level)
    return 0


def gpio_claim_alert(handle: int, gpio: int, edges: int, lFlags: int = 0) -> int:
    return 0


def gpio_free(handle: int, gpio: int) -> int:
    return 0


def gpio_get_mode(handle: int, gpio: int) -> int:
    flags = pin(gpio).flags
    mode = IS_OUT if pin(gpio).output else 0
    return (
        mode
        | (BIAS_UP if flags == SET_PULL_UP else 0)
        | (BIAS_DOWN if flags == SET_PULL_DOWN else 0)
    )


def gpio_read(handle: int, gpio: int) -> int:
    return pin(gpio).level


def gpio_write(handle: int, gpio: int, level: int) -> int:
    if pin(gpio).broken:
        raise error("no such device")
    pin(gpio).level = int(level)
    pin(gpio).driven.append(int(level))
    return 0


def gpio_set_debounce_micros(handle: int, gpio: int, micros: int) -> int:
    pin(gpio).debounce_micros = micros
    return 0


class _Callback:
    def __init__(self, gpio: int) -> None:
        self._gpio = gpio

    def cancel(self) -> None:
        callbacks.pop(self._gpio, None)


def callback(
    handle: int, gpio: int, edge: int, func: Callable[[int, int, int, int], None]
) -> _Callback:
    callbacks[gpio] = func
    return _Callback(gpio)
