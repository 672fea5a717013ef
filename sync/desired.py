"""What the city sets from afar on one device, and how a setting that cuts it off is taken back.

A `DeviceRow` of the settings list says a version and values; they lie over `device.toml`. A new
version is *tried*: in force at once, but only for good when the city has welcomed the device under
it. Without a welcome within `roll_back_min` minutes of running time the values before are in force
again, and that is reported; the same version is not tried twice. All of it is one value that the
shell keeps in `sync.db`, so a restart in the middle changes nothing. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum, unique
from typing import Final

import msgspec
from msgspec import Struct

from edge.messages import ConfigurationReport, DeviceRow
from edge.model import CorruptData, SetupProblem
from edge.order_rules import LEVELS
from sync.session import Endpoint, parse_endpoints

HEALTH_S: Final = 60  # protocol.md: each minute.
HEALTH_S_MIN: Final = 10  # Our choice: a fleet of 10,000 is then 1,000 messages a second.
HEALTH_S_MAX: Final = 3_600  # Our choice: a device silent for longer is gone.
ROLL_BACK_MIN: Final = 10  # Our choice: a broker's restart, and a person's coffee.
ROLL_BACK_MIN_MAX: Final = 24 * 60  # Our choice: longer and the technician is there first.
SAVE_MS: Final = 30_000  # Our choice: a power cut gives a trial at most so much more time.
ENDPOINT_CHARS_MAX: Final = 300  # Our choice: a host name has 253.


class Values(Struct, frozen=True, kw_only=True):
    """What can be set; a default means: as `device.toml` and this software have it."""

    log_level: str = ""
    endpoints: tuple[str, ...] = ()
    health_s: int = HEALTH_S
    roll_back_min: int = ROLL_BACK_MIN


@unique
class State(StrEnum):
    APPLIED = "applied"
    TRYING = "trying"
    ROLLED_BACK = "rolled_back"
    REFUSED = "refused"


class Remembered(Struct, frozen=True, kw_only=True):
    """All of it, as it is stored."""

    version: int = 0  # In force, or in force again; 0 is device.toml alone.
    values: Values = Values()
    wanted: int = 0  # The newest the city asked for.
    state: State = State.APPLIED
    why: str = ""
    trial: Values | None = None  # While `state` is trying.
    tried_ms: int = 0


def encode(remembered: Remembered) -> bytes:
    return msgspec.json.encode(remembered)


def decode(data: bytes | None) -> Remembered:
    """What was stored. What cannot be read is as nothing: the list still says what is wanted."""
    try:
        return Remembered() if data is None else msgspec.json.decode(data, type=Remembered)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Remembered()


def values_of(row: Mapping[str, object]) -> Values:
    """The values of a row; `CorruptData` names what cannot be set so on this device."""
    known = set(Values.__struct_fields__)
    strange = sorted(set(row) - known)
    if strange:
        raise CorruptData(f"{strange[0]}: not known to this software"[:80])
    try:
        values = msgspec.convert(dict(row), Values)
    except msgspec.ValidationError as error:
        raise CorruptData(str(error)[:80]) from error
    if values.log_level and values.log_level not in LEVELS:
        raise CorruptData("log_level")
    if not HEALTH_S_MIN <= values.health_s <= HEALTH_S_MAX:
        raise CorruptData("health_s")
    if not 1 <= values.roll_back_min <= ROLL_BACK_MIN_MAX:
        raise CorruptData("roll_back_min")
    if any(len(text) > ENDPOINT_CHARS_MAX for text in values.endpoints):
        raise CorruptData("endpoints")
    if values.endpoints:
        try:
            parse_endpoints(values.endpoints)
        except SetupProblem as problem:
            raise CorruptData(f"endpoints: {problem}"[:80]) from problem
    return values


class Desired:
    """The state machine. `dirty` says that `remembered` is to be stored."""

    def __init__(self, remembered: Remembered, *, now_ms: int) -> None:
        self.remembered = remembered
        self.dirty = False
        self._looked_ms = now_ms
        self._saved_ms = now_ms

    @property
    def values(self) -> Values:
        """In force now."""
        trial = self.remembered.trial
        return self.remembered.values if trial is None else trial

    def endpoints(self, enrolled: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
        """The brokers to speak to: those set from afar, else those of `device.toml`."""
        texts = self.values.endpoints
        return parse_endpoints(texts) if texts else enrolled

    def report(self) -> ConfigurationReport:
        kept = self.remembered
        return ConfigurationReport(
            version=kept.version, wanted=kept.wanted, state=kept.state, why=kept.why
        )

    def want(self, row: DeviceRow | None, now_ms: int) -> bool:
        """What the list in force says of this device (None: nothing, `device.toml` holds). True
        when other values are in force from now on."""
        kept = self.remembered
        version = 0 if row is None else row.version
        if version == kept.wanted:
            return False  # Known, whatever came of it.
        before = self.values
        try:
            values = Values() if row is None else values_of(row.values)
            if row is not None and row.version < 1:
                raise CorruptData("version")
        except CorruptData as problem:
            # A trial that runs ends with it: the city wants neither.
            self._put(wanted=version, state=State.REFUSED, why=str(problem), trial=None)
            return self.values != before
        self._looked_ms = self._saved_ms = now_ms
        self._put(wanted=version, state=State.TRYING, why="", trial=values, tried_ms=0)
        return self.values != before

    def welcomed(self) -> bool:
        """The city answered under the values in force. True when a trial is over by that."""
        trial = self.remembered.trial
        if trial is None:
            return False
        self._put(
            version=self.remembered.wanted, values=trial, state=State.APPLIED, trial=None, why=""
        )
        return True

    def step(self, now_ms: int) -> bool:
        """Time went by. True when a trial took too long and the values before are in force."""
        passed_ms, self._looked_ms = now_ms - self._looked_ms, now_ms
        kept = self.remembered
        if kept.trial is None:
            return False
        tried_ms = kept.tried_ms + max(0, passed_ms)
        if tried_ms >= kept.trial.roll_back_min * 60_000:
            self._put(state=State.ROLLED_BACK, why="no_welcome", trial=None, tried_ms=0)
            return True
        self.remembered = msgspec.structs.replace(kept, tried_ms=tried_ms)
        if now_ms - self._saved_ms >= SAVE_MS:
            self._saved_ms, self.dirty = now_ms, True
        return False

    def _put(self, **changes: object) -> None:
        self.remembered = msgspec.structs.replace(self.remembered, **changes)
        self.dirty = True
