"""Lamps and buzzer of one direction: what they do for what the screen says.

A table from a signal to a pattern per lamp, and the one question the shell asks of it: is this
lamp lit now, and until when. Nobody has to see colours: every signal that asks something of a
person also differs by its rhythm or its sound. Pure: time is passed in, `edge/lamps.py` drives the
wires. What a reader shows with its own lamp is not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from types import MappingProxyType

from edge.model import Direction
from edge.turnstile.officer import LaneView, Light

# Our choice: a steady lamp is driven for this long and told again each second (the agent's look),
# so the lamps of a hung agent go dark and promise nothing.
STEADY_MS = 3_000


@unique
class Lamp(StrEnum):
    GREEN = "green"
    RED = "red"
    AMBER = "amber"
    BUZZER = "buzzer"


@unique
class Shown(StrEnum):
    """What is to be told, the most urgent first."""

    FIRE = "fire"  # To who stands inside: out, the way is free.
    FIRE_OUTSIDE = "fire, way in"  # To who stands outside: do not come in.
    ALARM = "alarm"  # Forced, or held open.
    DOWN = "down"  # Reader or lane cannot do its work.
    LOCKDOWN = "lockdown"
    GRANTED = "granted"
    ASK = "ask the officer"
    REFUSED = "refused"
    REST = "rest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """Lit for `on_ms`, dark for `off_ms`, and again; `times` 0 is for as long as it is shown."""

    on_ms: int
    off_ms: int
    times: int = 0

    @property
    def period_ms(self) -> int:
        return self.on_ms + self.off_ms


STEADY = Pattern(on_ms=STEADY_MS, off_ms=0)

# Our choice of rhythms: one short beep is yes, two are no, three mean go and ask; long ones are
# for everybody. Lamps blink at 1 to 2 Hz: WCAG 2.2, 2.3.1, wants no more than three a second.
PATTERNS: Mapping[Shown, Mapping[Lamp, Pattern]] = MappingProxyType(
    {
        Shown.FIRE: {
            Lamp.GREEN: Pattern(on_ms=500, off_ms=500),
            Lamp.BUZZER: Pattern(on_ms=1_000, off_ms=500),
        },
        Shown.FIRE_OUTSIDE: {
            Lamp.RED: Pattern(on_ms=500, off_ms=500),
            Lamp.BUZZER: Pattern(on_ms=1_000, off_ms=500),
        },
        Shown.ALARM: {
            Lamp.RED: Pattern(on_ms=250, off_ms=250),
            Lamp.BUZZER: Pattern(on_ms=500, off_ms=500, times=10),
        },
        Shown.DOWN: {Lamp.AMBER: Pattern(on_ms=200, off_ms=1_800)},
        Shown.LOCKDOWN: {Lamp.RED: STEADY},
        Shown.GRANTED: {
            Lamp.GREEN: STEADY,
            Lamp.BUZZER: Pattern(on_ms=100, off_ms=0, times=1),
        },
        Shown.ASK: {
            Lamp.AMBER: STEADY,
            Lamp.BUZZER: Pattern(on_ms=100, off_ms=150, times=3),
        },
        Shown.REFUSED: {
            Lamp.RED: STEADY,
            Lamp.BUZZER: Pattern(on_ms=300, off_ms=200, times=2),
        },
        Shown.REST: {},
    }
)
assert set(PATTERNS) == set(Shown)
assert all(
    pattern.on_ms > 0 and (pattern.off_ms > 0 or pattern.times == 1 or pattern == STEADY)
    for lamps in PATTERNS.values()
    for pattern in lamps.values()
)

# By the screen's state where it has a signal of its own, else by its light.
_BY_STATE: Mapping[str, Shown] = MappingProxyType(
    {
        "forced": Shown.ALARM,
        "held": Shown.ALARM,
        "lockdown": Shown.LOCKDOWN,
        "taken": Shown.REST,  # The lane is shut again behind its person.
    }
)
_BY_LIGHT: Mapping[Light, Shown] = MappingProxyType(
    {
        Light.GREY: Shown.REST,
        Light.GREEN: Shown.GRANTED,
        Light.AMBER: Shown.ASK,
        Light.RED: Shown.REFUSED,
        Light.BLUE: Shown.DOWN,
    }
)
assert set(_BY_LIGHT) == set(Light)


def shown_by(view: LaneView, direction: Direction, *, fire: bool, held: bool) -> Shown:
    """The one signal for what stands on this direction's screen. `held`: its arm stays turned."""
    if fire:
        return Shown.FIRE if direction is Direction.OUT else Shown.FIRE_OUTSIDE
    if held:
        return Shown.ALARM
    return _BY_STATE.get(view.state) or _BY_LIGHT[view.light]


def lit_until(pattern: Pattern, *, since_ms: int, now_ms: int) -> tuple[bool, int | None]:
    """Whether a lamp is lit now, and when that ends; None: it stays as it is.

    >>> lit_until(Pattern(on_ms=100, off_ms=150, times=3), since_ms=0, now_ms=260)
    (True, 350)
    """
    assert now_ms >= since_ms
    number, into_ms = divmod(now_ms - since_ms, pattern.period_ms)
    if pattern.times and number >= pattern.times:
        return False, None
    begins_ms = since_ms + number * pattern.period_ms
    if into_ms < pattern.on_ms:
        return True, begins_ms + pattern.on_ms
    return False, begins_ms + pattern.period_ms
