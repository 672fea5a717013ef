"""The shell of the desired configuration: reads the row of the settings list, keeps the state in
`sync.db`, tells the city what became of it. The rules are `sync/desired.py`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edge import logs
from edge.messages import ROW_NUMBERS, DeviceRow, RowKind, decode_pack
from edge.model import CorruptData
from edge.offline_cache import standing
from edge.offline_cache.store import Writer
from edge.settings import DeviceSettings
from sync import desired
from sync.desired import Desired, State
from sync.downlink import Downlink
from sync.session import Endpoint
from sync.telling import Teller

DEVICE_ROW: Final = ROW_NUMBERS[RowKind.DEVICE]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """What the loop has to act on."""

    endpoints: bool = False  # Other brokers are in force: connect anew.
    trial: bool = False  # A trial has begun: its proof is a welcome.
    saved: bool = False  # edge may look.


class Configuring:
    """What is set from afar on this device."""

    def __init__(
        self,
        settings: DeviceSettings,
        *,
        writer: Writer,
        enrolled: tuple[Endpoint, ...],
        downlink: Downlink,
        teller: Teller,
        now_ms: int,
    ) -> None:
        self.lists_changed = True  # Set by whoever puts a list in force.
        self._writer = writer
        self._enrolled = enrolled
        self._downlink = downlink
        self._teller = teller
        self._scope = f"{settings.site_id}/settings"
        self._key = settings.device_id.encode()
        self._log = logs.get("configuration")
        kept = desired.decode(standing.configuration(writer.db))
        self.desired = Desired(kept, now_ms=now_ms)
        self.endpoints = self.desired.endpoints(enrolled)

    def look(self, now_ms: int) -> Changed:
        """Once a second: has the list said something new, has a trial taken too long?"""
        trial = False
        if self.lists_changed:
            self.lists_changed = False
            trial = self._want(now_ms)
        if self.desired.step(now_ms):
            self._log.error("no welcome under the new configuration: taken back")
            wanted = self.desired.remembered.wanted
            self._teller.note("configuration", why="rolled_back", number=wanted)
        endpoints = self.desired.endpoints(self._enrolled)
        others, self.endpoints = endpoints != self.endpoints, endpoints
        return Changed(endpoints=others, trial=trial, saved=self._save())

    def welcomed(self) -> None:
        """The city answered under the values in force."""
        if self.desired.welcomed():
            version = self.desired.remembered.version
            self._log.info("configuration holds", version=version)
            self._teller.note("configuration", why="applied", number=version)
            self._save()

    def _want(self, now_ms: int) -> bool:
        """True when a trial begins."""
        if self._scope not in self._downlink.held():
            return False  # No list yet says nothing.
        body = self._downlink.row(self._scope, DEVICE_ROW, self._key)
        before = self.desired.remembered.wanted
        try:
            row = None if body is None else decode_pack(DeviceRow, body)
        except CorruptData:
            self._teller.refuse("configuration", self._scope, "invalid")
            return False
        self.desired.want(row, now_ms)
        kept = self.desired.remembered
        if kept.wanted == before:
            return False
        self._log.warning("wanted", version=kept.wanted, state=kept.state, why=kept.why)
        if kept.state is State.REFUSED:
            self._teller.note("configuration", why=f"refused: {kept.why}", number=kept.wanted)
        return kept.state is State.TRYING

    def _save(self) -> bool:
        if not self.desired.dirty:
            return False
        with self._writer.transaction() as db:
            standing.set_configuration(
                db,
                desired.encode(self.desired.remembered),
                log_level=self.desired.values.log_level,
            )
        self.desired.dirty = False
        return True
