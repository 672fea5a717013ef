"""From the lanes of `device.toml` to the wires and passages that drive them. Pure.

The file speaks a technician's language (access points with a zone, a relay and a sensor), the
lines speak theirs; this is the one place that knows both.
"""

from __future__ import annotations

from edge.model import SetupProblem
from edge.settings import AccessPointSettings, DeviceSettings
from edge.settings import LineSettings as FileLine
from edge.turnstile.lines import (
    DirectionSettings,
    Driver,
    LaneSettings,
    LineSettings,
    Pull,
    WiringSettings,
    wiring_problems,
)


def wiring_of(settings: DeviceSettings) -> WiringSettings | None:
    """All lines of this device; None where it drives none. `SetupProblem` says what is wrong."""
    if not settings.lanes:
        return None
    drivers = {lane.driver for lane in settings.lanes}
    if len(drivers) > 1:
        raise SetupProblem(
            f"{settings.source}: lanes.driver: {' and '.join(sorted(drivers))}; "
            "all lanes of a device use one driver"
        )
    wiring = WiringSettings(
        driver=Driver(drivers.pop()),
        lanes=tuple(
            LaneSettings(
                lane_id=lane.lane_id,
                directions=tuple(direction_of(point) for point in lane.access_points),
            )
            for lane in settings.lanes
        ),
    )
    problems = wiring_problems(wiring)
    if problems:
        raise SetupProblem(f"{settings.source}: " + "; ".join(problems))
    return wiring


def direction_of(point: AccessPointSettings) -> DirectionSettings:
    """One access point as the wires and the passage machine see it."""
    return DirectionSettings(
        direction=point.direction,
        relay=_line(point.relay),
        rotation=None if point.rotation is None else _line(point.rotation),
        pulse_ms=point.pulse_ms_max,
        wait_ms=point.wait_ms_max,
    )


def _line(line: FileLine) -> LineSettings:
    return LineSettings(
        line_id=line.line_id, pin=line.pin, active_high=line.active_high, pull=Pull(line.pull)
    )
