"""What sync says of itself and of edge: hello and health, the technician's status, metrics.

Gathers and decides nothing. Numbers and words of states, nothing personal: a monitoring system may
keep all of it for ever.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from msgspec import structs

from edge.messages import MESSAGE_BYTES_MAX, Health, Hello, encode_json
from edge.model import Moment
from edge.offline_cache.record import SOFTWARE
from sync.contact import REFUSALS, Contact
from sync.metrics import render

if TYPE_CHECKING:
    from sync.loop import Sync

COMMITS_KEPT: Final = 256  # Our choice: four hours of one sample a minute.
ENTRIES_MAX: Final = 120  # Our choice: twice what there is; a health stays under 48 KiB.
NAME_CHARS_MAX: Final = 64
WORD_CHARS_MAX: Final = 120


class Reports:
    """Puts together what the parts of `Sync` know, and what edge said last."""

    def __init__(self, sync: Sync) -> None:
        self._sync = sync
        self.edge: dict[str, Any] | None = None  # Its last status; None while it does not answer.
        self.commits_ms: deque[int] = deque(maxlen=COMMITS_KEPT)

    def hello(self, nonce: str, connection: int) -> Hello:
        """What we hold. To whom dates are unchecked nothing is told but the name."""
        sync = self._sync
        moment, settings, contact = sync.clock.moment(), sync.settings, sync.link.contact
        sync.uplink.look(moment.mono_ms)
        hello = Hello(
            device=settings.device_id,
            site=settings.site_id,
            station=settings.station,
            boot=moment.boot,
            connection=connection,
            nonce=nonce,
            software=SOFTWARE,
            clock=moment.quality,
            streams=(),
            held={},
            keys={},
        )
        if contact is Contact.TIME:
            return hello
        return structs.replace(
            hello,
            streams=sync.uplink.heads(),
            held=sync.downlink.held(),
            keys=sync.downlink.keys.newest(),
            key=sync.renewing.fingerprint(candidate=contact is Contact.CANDIDATE),
            root=sync.downlink.verifier.root_version,
            configuration=sync.configuring.desired.report(),
        )

    def health(self, moment: Moment) -> Health:
        sync = self._sync
        edge = self.edge or {}
        return Health(
            device=sync.settings.device_id,
            boot=moment.boot,
            uptime_s=sync.uptime_s(moment),
            clock=moment.quality,
            depth=sync.uplink.depth(),
            held=sync.downlink.held(),
            list_age_s=sync.downlink.ages_s(moment),
            counters=_counted(self._counters()),
            parts=parts_of(self.edge, sync.downlink.lost()),
            disk_free_bytes=self._disk_free_bytes(),
            edge_counters=_counted(edge.get("counters")),
            gauges=self._gauges(moment) | _taps(edge),
            configuration=sync.configuring.desired.report(),
        )

    def health_bytes(self, moment: Moment) -> bytes:
        """The message. Should it not fit after all, its parts and counters stay behind."""
        health = self.health(moment)
        data = encode_json(health)
        if len(data) > MESSAGE_BYTES_MAX:
            data = encode_json(structs.replace(health, counters={}, edge_counters={}, parts={}))
        return data

    def status(self, moment: Moment) -> dict[str, Any]:
        """Answer to `{"request": "status"}`."""
        sync = self._sync
        link, connected = sync.link, sync.link.connected
        configuration = sync.configuring.desired.report()
        return {
            "ok": True,
            "process": "sync",
            "device": sync.settings.device_id,
            "software": SOFTWARE,
            "uptime_s": sync.uptime_s(moment),
            "connected": link.welcomed,
            "endpoint": "" if connected is None else str(connected.endpoint),
            "protocol": "" if connected is None else connected.protocol,
            "contact": link.contact,
            "since_s": (moment.mono_ms - link.since_ms) // 1000,
            "reason": "" if link.welcomed else link.reason,
            "next_try_s": link.next_try_s(moment),
            "refusal": link.refusal,
            "refusal_text": REFUSALS.get(link.refusal, ""),
            "clock": moment.quality,
            "streams": sync.uplink.status(),
            "held": {s: [v.list_epoch, v.number] for s, v in sync.downlink.held().items()},
            "list_age_s": sync.downlink.ages_s(moment),
            "certificate": {
                "from_utc_s": sync.renewing.renewal.from_utc_s,
                "until_utc_s": sync.renewing.renewal.until_utc_s,
                "renewal": sync.renewing.renewal.step,
                "why": sync.renewing.renewal.why,
            },
            "configuration": {
                "version": configuration.version,
                "wanted": configuration.wanted,
                "state": configuration.state,
                "why": configuration.why,
            },
            "orders_open": dict(sync.orders.open),
            **sync.upkeep.status(),
            "alarms": [*sync.link.alarms(), *sync.uplink.alarms(), *sync.upkeep.alarms()],
            "peers": sync.peers.status(),
            "refused": {
                name.removeprefix("refused_"): count
                for name, count in sync.counters.items()
                if name.startswith("refused_")
            },
            "counters": self._counters(),
            "disk_free_bytes": self._disk_free_bytes(),
            **self._gauges(moment),
        }

    def metrics(self, moment: Moment) -> str:
        return render(self.status(moment), self.edge)

    def _counters(self) -> dict[str, int]:
        sync = self._sync
        parts = (sync.uplink, sync.downlink, sync.upkeep, sync.peers)
        return sync.counters | {n: c for part in parts for n, c in part.counters.items()}

    def _gauges(self, moment: Moment) -> dict[str, int]:
        sync = self._sync
        gauges = {"root": sync.downlink.verifier.root_version}
        if self.commits_ms:
            gauges["commit_ms_p99"] = hundredth(self.commits_ms)
        if moment.clock_trusted:
            gauges["certificate_left_s"] = (
                sync.renewing.renewal.until_utc_s - moment.wall_ms // 1000
            )
        return gauges

    def _disk_free_bytes(self) -> int:
        return shutil.disk_usage(self._sync.settings.folders.state).free


def hundredth(times_ms: Sequence[int]) -> int:
    """What all but a hundredth part stay within.

    >>> hundredth(range(1, 201))
    198
    """
    in_order = sorted(times_ms)
    return in_order[max(0, -(-99 * len(in_order) // 100) - 1)]


def parts_of(edge: Mapping[str, Any] | None, lost: Mapping[str, str]) -> dict[str, str]:
    """Readers and lanes in a word each, from edge's status; its silence is one too. First of all,
    lists that are being fetched again."""
    lists = {
        f"list {scope}"[:NAME_CHARS_MAX]: f"lost: {why}"[:WORD_CHARS_MAX]
        for scope, why in lost.items()
    }
    return lists | _parts_of_edge(edge, ENTRIES_MAX - len(lists))


def _parts_of_edge(edge: Mapping[str, Any] | None, entries_max: int) -> dict[str, str]:
    if edge is None:
        return {"edge": "silent"}
    parts = {"edge": "up", "clock": str(edge.get("clock"))[:NAME_CHARS_MAX]}
    for reader in _items(edge.get("readers")):
        parts[f"reader {reader.get('reader')}"[:NAME_CHARS_MAX]] = _up(reader)
    for lane in _items(edge.get("lanes")):
        parts[f"lane {lane.get('lane')}"[:NAME_CHARS_MAX]] = _up(lane)
        for point in _items(lane.get("access_points")):
            name = f"access point {point.get('access_point')}"
            parts[name[:NAME_CHARS_MAX]] = str(point.get("state"))[:NAME_CHARS_MAX]
    if edge.get("lockdown"):
        parts["lockdown"] = "on"
    return dict(sorted(parts.items())[:entries_max])


def _up(part: Mapping[str, Any]) -> str:
    if part.get("up") is True:
        return "up"
    return f"down: {part.get('reason', '')}".removesuffix(": ")[:WORD_CHARS_MAX]


def _taps(edge: Mapping[str, Any]) -> dict[str, int]:
    found = edge.get("tap_ms")
    taps = found if isinstance(found, Mapping) else {}
    return {
        f"tap_ms_{part}": ms
        for part, ms in taps.items()
        if part in ("p50", "p99") and isinstance(ms, int)
    }


def _counted(found: Any) -> dict[str, int]:
    """Numbers under short names, and not more of them than a message holds."""
    table = found if isinstance(found, Mapping) else {}
    numbers = [(str(name)[:NAME_CHARS_MAX], n) for name, n in table.items() if isinstance(n, int)]
    return dict(sorted(numbers)[:ENTRIES_MAX])


def _items(found: Any) -> list[Mapping[str, Any]]:
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []
