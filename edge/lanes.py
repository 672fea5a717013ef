"""All lanes of the station, for the agent: who gets which event, and what the city should know.

Also ends the grants that an agent left behind: every grant ends in a result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from edge import logs
from edge.gate import Gate
from edge.lane import Lane
from edge.messages import OrderAnswer, PassageFact, Stream
from edge.model import DeviceFault, Direction, Moment, PassageResult
from edge.offline_cache import outbox
from edge.offline_cache.card_counters import CardCounters
from edge.offline_cache.lookup import Cache
from edge.offline_cache.record import Journal
from edge.settings import LaneSettings
from edge.turnstile.lines import Lines

PartStates = dict[str, tuple[str, str]]


class Lanes:
    """The lanes of `device.toml`, each with its gates. Without lanes `lines` may be None."""

    def __init__(
        self,
        settings: tuple[LaneSettings, ...],
        *,
        lines: Lines | None,
        cache: Cache,
        journal: Journal,
        counters: CardCounters,
        count: Callable[[str], None],
        moment: Moment,
        lockdown: bool,
        alive_ms: int | None,
        button_resets: bool = False,
    ) -> None:
        self.by_id: dict[str, Lane] = {}
        self.gates: dict[str, Gate] = {}
        self._lines = lines
        self._lane_by_line: dict[str, Lane] = {}
        self._log = logs.get("lanes")
        for described in settings:
            assert lines is not None
            lane = Lane(
                described,
                new_gate=partial(
                    Gate,
                    lines=lines,
                    cache=cache,
                    journal=journal,
                    counters=counters,
                    count=count,
                    moment=moment,
                    lockdown=lockdown,
                ),
                lines=lines,
                journal=journal,
                count=count,
                moment=moment,
                alive_ms=alive_ms,
                button_resets=button_resets,
            )
            self.by_id[described.lane_id] = lane
            self.gates |= lane.gates
            self._lane_by_line |= dict.fromkeys(lane.lines, lane)

    def take_lines(self, moment: Moment) -> None:
        """What inputs did, in its order: bodies, buttons, alarms."""
        if self._lines is not None:
            for event in self._lines.poll():
                self._lane_by_line[event.line_id].take_line(event, moment)

    def step(self, moment: Moment) -> None:
        for lane in self.by_id.values():
            lane.step(moment)

    def due_ms(self) -> int | None:
        due = (lane.due_ms() for lane in self.by_id.values())
        return min((at_ms for at_ms in due if at_ms is not None), default=None)

    def part_states(self) -> PartStates:
        """What went or came back, and alarms: a lane with one is down, and says which."""
        states: PartStates = {
            f"access point {name}": ("up" if gate.ready else "down", "")
            for name, gate in self.gates.items()
        }
        for name, lane in self.by_id.items():
            alarms = ", ".join(lane.alarms)
            states[f"lane {name}"] = ("down", alarms) if alarms else ("up", "")
        return states

    def close(self, moment: Moment) -> None:
        """Everything at its safe level; a line that would not go there is said, and no more."""
        try:
            if self._lines is not None:
                self._lines.close()
        except DeviceFault as fault:
            self._log.error("a line was not let go of", reason=str(fault))
        for lane in self.by_id.values():
            lane.close(moment)


def end_grants(journal: Journal, gates: Mapping[str, Gate], moment: Moment) -> None:
    """Of a grant whose agent ended before it, nobody can know. An order names an access point
    alone; one that is in `device.toml` no more has nothing to say."""
    life = outbox.lives(journal.writer.db, Stream.MAIN)[-1]
    grants = [
        grant
        for grant in outbox.unended_grants(journal.writer.db, life)
        if not isinstance(grant, OrderAnswer) or grant.access_point in gates
    ]
    if not grants:
        return
    with journal.record(moment) as ending:
        for grant in grants:
            at: tuple[str, str, Direction, str | None]
            if isinstance(grant, OrderAnswer):
                assert grant.access_point is not None
                point = gates[grant.access_point].point
                at = point.access_point_id, point.zone_id, point.direction, None
            else:
                at = grant.access_point, grant.zone, grant.direction, grant.cardholder
            access_point, zone, direction, cardholder = at
            ending.add(
                PassageFact(
                    **ending.stamp(moment),
                    access_point=access_point,
                    zone=zone,
                    direction=direction,
                    result=PassageResult.UNKNOWN,
                    passage=f"{grant.epoch}.{grant.sequence}",
                    cardholder=cardholder,
                )
            )
