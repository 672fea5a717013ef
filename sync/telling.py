"""What sync tells the city of its own: refused updates and notes, in its `agent` stream.

Counted always; a fact of the same refusal once a minute at most, so that a flood from a hostile
neighbour becomes no flood of facts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from edge import logs
from edge.messages import Noted, UpdateRefused
from edge.model import DeviceFault, Moment
from edge.offline_cache.record import StreamWriter

REFUSED_MS: Final = 60_000  # Our choice: the same refusal is a fact once a minute at most.
REFUSED_KINDS_MAX: Final = 256  # Our choice: kinds of refusals remembered for that.
TEXT_CHARS_MAX: Final = 80  # Our choice: a reason is a word, a scope has 70 characters.


class Teller:
    """Records in the agent stream and counts."""

    def __init__(
        self, agent: StreamWriter, counters: dict[str, int], moment: Callable[[], Moment]
    ) -> None:
        self._agent = agent
        self._counters = counters
        self._moment = moment
        self._refused_ms: dict[tuple[str, str, str], int] = {}
        self._log = logs.get("sync")
        self.ear: Callable[[str], None] | None = None  # Hears each reason, for who brought it.

    def count(self, name: str) -> None:
        self._counters[name] = self._counters.get(name, 0) + 1

    def refuse(self, what: str, scope: str, reason: str) -> None:
        """Something that came is not taken."""
        self.count(f"refused_{what}_{reason}")
        if self.ear is not None:
            self.ear(reason)
        moment = self._moment()
        key = (what, scope, reason)
        last_ms = self._refused_ms.get(key)
        if last_ms is not None and moment.mono_ms - last_ms < REFUSED_MS:
            return
        if len(self._refused_ms) >= REFUSED_KINDS_MAX:
            self._refused_ms.clear()
        self._refused_ms[key] = moment.mono_ms
        self._log.warning("refused", what=what, scope=scope, reason=reason)
        try:
            with self._agent.recording() as refusing:
                refusing.add(
                    UpdateRefused(
                        **refusing.stamp(moment),
                        what=what,
                        scope=scope[:TEXT_CHARS_MAX],
                        reason=reason[:TEXT_CHARS_MAX],
                    )
                )
        except DeviceFault:
            self.count("refusals_unrecorded")  # Counted all the same, and told in health.

    def note(
        self,
        what: str,
        *,
        why: str = "",
        number: int | None = None,
        until_utc_s: int | None = None,
    ) -> None:
        """Something about this device that a person may ask about later."""
        moment = self._moment()
        try:
            with self._agent.recording() as noting:
                noting.add(
                    Noted(
                        **noting.stamp(moment),
                        what=what,
                        why=why[:TEXT_CHARS_MAX],
                        number=number,
                        until_utc_s=until_utc_s,
                    )
                )
        except DeviceFault:
            self.count("notes_unrecorded")
