"""What one card is: what it says of itself, what it proves, and what this device would decide.

A card's claim (its GetVersion) is told as a claim. On a device its own lists and its own rules are
asked, the same kernel that opens the gate, so the answer is the gate's; nothing is recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from edge.access_fact import policy_of
from edge.clock import Anchor, Clock
from edge.config import load
from edge.keyring import Keyring
from edge.model import AccessPoint, AccessReason, Direction, Presentation
from edge.offline_cache.lookup import Cache
from edge.offline_cache.store import FileKind, open_reader
from edge.readers.dialogue import Evidence, Failure
from edge.readers.ntag424 import SELECT_APPLICATION
from edge.readers.pcsc_desk import PcscDesk
from edge.readers.proving import CardBook
from edge.readers.secure_channel import MORE, OK, native, parse
from edge.settings import DeviceSettings
from edge.trust import FileKeyStore, ScopeKeys, credential_id, open_scope_keys
from edge.turnstile.decision import decide_access
from provisioning.card_desk import FAILURE_WORDS, prove
from provisioning.roster import masked

GET_VERSION: Final = 0x60
NXP: Final = 0x04
# Type of chip and its major version -> what it is sold as; MF2DLHX0, NT4H2421Gx and their kin.
CHIPS: Final = {
    (0x01, 0x00): "DESFire (first generation)",
    (0x01, 0x01): "DESFire EV1",
    (0x01, 0x12): "DESFire EV2",
    (0x01, 0x33): "DESFire EV3",
    (0x08, 0x30): "DESFire Light",
    (0x04, 0x30): "NTAG 424 DNA",
}
TIER_WORDS: Final = {
    0: "nothing: any cheap cloner makes the same number",
    1: "its number: a card with a settable number shows the same",
    2: "that it knows its key (3DES, Ultralight C)",
    3: "that it knows its key, and that its settings are safe (Ultralight AES)",
    4: "that its message is new; whoever read it with a phone has one too",
    5: "that it knows its own key",
    6: "that it knows its own key, and that what was read is true",
}
REASON_WORDS: Final[dict[AccessReason, str]] = {
    AccessReason.STALE_READ: "the read was too old",
    AccessReason.NO_LIST: "no list of people is here yet",
    AccessReason.LOCKDOWN: "the entrance is locked down",
    AccessReason.HOT_LISTED: "the city has blocked it: lost, replaced or stopped",
    AccessReason.TIER_BELOW_ENROLLED: "it is enrolled as one that proves more than it did here: "
    "a copy, or a reader that cannot ask it",
    AccessReason.REPLAYED: "it repeated an old message",
    AccessReason.UNKNOWN_CREDENTIAL: "it is not on this school's list",
    AccessReason.WRONG_SITE: "it belongs to another school",
    AccessReason.SUSPENDED: "its holder is suspended",
    AccessReason.NOT_YET_VALID: "it is not valid yet",
    AccessReason.EXPIRED: "it has expired",
    AccessReason.NO_ACCESS_RIGHT: "its holder has no right to this entrance",
    AccessReason.OUTSIDE_SCHEDULE: "it is not its holder's time",
    AccessReason.PASSBACK: "its holder is inside already",
    AccessReason.GUARDIAN_CHOICE: "a guardian has not said whom they bring",
    AccessReason.AUTHORIZED: "nothing speaks against it",
}
assert set(REASON_WORDS) == set(AccessReason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found. Holds no card number but a masked one, and no name."""

    shown: str
    claims: str
    tier: int | None
    failure: Failure | None
    enrolled_tier: int | None = None
    outcome: str = ""
    reason: AccessReason | None = None
    asked: bool = False  # Somebody's keys were here to ask it with.

    def sentences(self) -> list[str]:
        lines = [f"card {self.shown}" if self.shown else "a card whose number is hidden"]
        lines.append(f"it says that it is: {self.claims or 'nothing'} (a claim, nothing more)")
        if self.tier is not None:
            lines.append(f"tier {self.tier}; it proves {TIER_WORDS[self.tier]}")
        if self.failure is not None and self.tier is None:
            lines.append(f"it names nobody: {FAILURE_WORDS[self.failure]}")
        elif self.failure is not None:
            lines.append(f"it was asked for more, and failed: {FAILURE_WORDS[self.failure]}")
        elif not self.asked:
            lines.append("no keys are here, so it was not asked for more")
        if self.enrolled_tier is not None:
            lines.append(f"it is enrolled at tier {self.enrolled_tier}")
        if self.reason is not None:
            lines.append(f"this device would {self.outcome}: {REASON_WORDS[self.reason]}")
        return lines

    def facts(self) -> dict[str, Any]:
        return {
            "card": self.shown,
            "claims": self.claims,
            "tier": self.tier,
            "failure": self.failure,
            "enrolled_tier": self.enrolled_tier,
            "outcome": self.outcome,
            "reason": self.reason,
            "words": self.sentences(),
        }


def look(desk: PcscDesk, book: CardBook | None, config: Path) -> Report:
    """Ask the card by these keys, or on a device by its own."""
    claims = _claims(desk)
    if book is None and config.exists():
        return _as_device(desk, load(config), claims)
    outcome = prove(desk, book)
    return _report(outcome, claims, asked=book is not None)


def _report(outcome: Evidence | Failure, claims: str, *, asked: bool) -> Report:
    if isinstance(outcome, Failure):
        return Report(shown="", claims=claims, tier=None, failure=outcome, asked=asked)
    return Report(
        shown=masked(outcome.uid),
        claims=claims,
        tier=int(outcome.tier),
        failure=outcome.failure,
        asked=asked,
    )


def _claims(desk: PcscDesk) -> str:
    """What the chip says it is; "" where it does not say."""
    with desk.card() as transmit:
        if found := _version(transmit):
            return found
        transmit(SELECT_APPLICATION)  # An NTAG 424 answers inside its application alone.
        return _version(transmit)


def _version(transmit: Callable[[bytes], bytes | Failure]) -> str:
    said = transmit(native(GET_VERSION))
    first = said if isinstance(said, Failure) else parse(said)
    if isinstance(first, Failure) or first.status != MORE or len(first.data) != 7:
        return ""
    for _ in range(2):  # Its software, its numbers: not looked at, but the card waits to tell.
        rest = transmit(native(MORE))
        if isinstance(rest, Failure) or rest[-2:] == bytes([0x91, OK]):
            break
    vendor, chip, _, major = first.data[:4]
    if vendor != NXP:
        return f"a chip of maker {vendor:02X}"
    return CHIPS.get((chip, major), f"a chip of NXP, type {chip:02X}, version {major:02X}")


def _as_device(desk: PcscDesk, settings: DeviceSettings, claims: str) -> Report:
    """By the lists and keys of this device, and by its rules. Writes nothing."""
    journal = open_reader(settings.journal_path, FileKind.JOURNAL)
    if journal is None:
        return _report(prove(desk, None), claims, asked=False)
    cache = Cache(
        settings.folders.state,
        device=settings.device_id,
        site=settings.site_id,
        journal=journal,
    )
    keyring = Keyring(settings.folders.state, site=settings.site_id)
    try:
        cache.refresh()
        scope = cache.scopes["people"]
        keys = open_scope_keys(FileKeyStore(settings.key_path), scope, cache.sealed_keys())
        keyring.renew(cache.small.profiles, keys)
        outcome = prove(desk, keyring)
        report = _report(outcome, claims, asked=keys is not None)
        if isinstance(outcome, Failure) or keys is None:
            return report
        return _decided(report, outcome, settings, cache, keys)
    finally:
        keyring.close()
        cache.close()
        journal.close()


def _decided(
    report: Report, evidence: Evidence, settings: DeviceSettings, cache: Cache, keys: ScopeKeys
) -> Report:
    clock = Clock(ZoneInfo(settings.time_zone))
    if (anchor := cache.anchor()) is not None:
        clock.anchor = Anchor(boot=anchor.boot, mono_ms=anchor.mono_ms, utc_ms=anchor.utc_ms)
        clock.floor_ms = anchor.floor_utc_ms
    moment = clock.moment()
    secret = keys.identifier.get(cache.identifier_version(keys.scope), keys.newest_identifier)
    identifier = credential_id(secret, evidence.uid_kind, evidence.uid)
    points = list(settings.access_points().values())
    inward = [point for point in points if point.direction is Direction.IN] or points
    zone = inward[0].zone_id if inward else ""
    view = cache.access_view(identifier, zone, moment)
    enrolled = None if view.credential is None else view.credential.tier
    if not points:  # A till: whom it knows; what may be bought is a basket's question.
        return Report(
            shown=report.shown, claims=report.claims, tier=report.tier, failure=report.failure,
            asked=True, enrolled_tier=enrolled,
        )  # fmt: skip
    decision = decide_access(
        Presentation(credential_id=identifier, age_ms=0, tier=int(evidence.tier)),
        view,
        AccessPoint(access_point_id="desk", zone_id=zone, direction=Direction.IN),
        moment.now(),
        policy_of(cache.small.site, zone=zone),
    )
    return Report(
        shown=report.shown,
        claims=report.claims,
        tier=report.tier,
        failure=report.failure,
        asked=True,
        enrolled_tier=enrolled,
        outcome=decision.outcome.value,
        reason=decision.reason,
    )
