"""From the lanes of `device.toml` to the wires and passages that drive them. Pure.

The file speaks a technician's language (access points with a zone, a relay and a sensor), the
lines speak theirs; this is the one place that knows both.
"""

from __future__ import annotations

from edge.model import SetupProblem
from edge.settings import (
    AccessPointSettings,
    DeviceSettings,
    Driver,
    LineSettings,
    ReaderSettings,
)
from edge.turnstile.lines import DirectionSettings, LaneSettings, WiringSettings, wiring_problems


def wiring_of(settings: DeviceSettings) -> WiringSettings | None:
    """All lines of this device; None where it drives none. `SetupProblem` says what is wrong."""
    if not settings.lanes:
        return None
    means = {(lane.driver, lane.port) for lane in settings.lanes}
    if len(means) > 1:
        found = " and ".join(sorted(f"{driver} {port}".strip() for driver, port in means))
        raise SetupProblem(
            f"{settings.source}: lanes.driver: {found}; all lanes of a device use one driver"
        )
    ((driver, port),) = means
    wiring = WiringSettings(
        driver=Driver(driver),
        port=port,
        lanes=tuple(
            LaneSettings(
                lane_id=lane.lane_id,
                directions=tuple(direction_of(point) for point in lane.access_points),
                fire=lane.fire,
                hold=lane.hold,
                tamper=lane.tamper,
            )
            for lane in settings.lanes
        ),
    )
    problems = wiring_problems(wiring)
    if problems:
        raise SetupProblem(f"{settings.source}: " + "; ".join(problems))
    return wiring


def resets_of(settings: DeviceSettings) -> WiringSettings | None:
    """The reset lines of readers, apart from the lanes': a gate waits for no reader's pin. None
    where none is wired."""
    virtual = any(lane.driver == Driver.MOCK for lane in settings.lanes)
    lines = tuple(
        LineSettings(line_id=reset_line(reader), pin=reader.reset_pin, active_high=False)
        for reader in settings.readers
        if reader.reset_pin is not None
    )
    driver = Driver.MOCK if virtual else Driver.LGPIO
    return WiringSettings(driver=driver, lanes=(), resets=lines) if lines else None


def reset_line(reader: ReaderSettings) -> str:
    return f"{reader.reader_id}.reset"


def direction_of(point: AccessPointSettings) -> DirectionSettings:
    """One access point as the wires and the passage machine see it."""
    return DirectionSettings(
        direction=point.direction,
        relay=point.relay,
        rotation=point.rotation,
        green=point.green,
        red=point.red,
        amber=point.amber,
        buzzer=point.buzzer,
        button=point.button,
        drive=point.drive,
        pulse_ms=point.pulse_ms_max,
        wait_ms=point.wait_ms_max,
    )
