"""Facts about the device itself, and what all facts carry. Pure."""

from __future__ import annotations

from edge.messages.wire import Stream, Wire
from edge.model import ClockQuality, Station


class Fact(Wire, frozen=True, kw_only=True, tag_field="kind"):
    """What all facts carry. The key is (device, stream, epoch, sequence)."""

    device: str  # Who recorded it.
    site: str  # Its school.
    stream: Stream  # Which chain it belongs to.
    epoch: str  # 16 hex digits, random, one life of a journal.
    sequence: int  # From 1, without gaps.
    previous: str  # base64url SHA-256 of the fact before it; "" at sequence 1.
    boot: str  # Which start of the machine.
    mono_ms: int  # Since that start: orders what one boot did, whatever its clock says.
    wall_ms: int  # UTC as the device knew it, as good as `clock` says.
    clock: ClockQuality  # Where `wall_ms` came from.


class StreamOpened(Fact, frozen=True, kw_only=True, tag="stream_opened"):
    """The first fact of every epoch: why a new life began."""

    # new_store, restored_image, damaged, city_ahead, lost_tail, lost_sync: see "Facts up".
    why: str
    software: str
    station: Station
    after_epoch: str | None = None


class OrderAnswer(Fact, frozen=True, kw_only=True, tag="order_answer"):
    """An order accepted (and then acted on) or refused. Recorded before acting."""

    counter: int
    order: str
    accepted: bool
    # "" when accepted; else unknown_order, not_here, arguments, too_often, busy, clock, early,
    # late, undecodable: see "Orders".
    why: str
    access_point: str | None = None


class OrderOutcome(Fact, frozen=True, kw_only=True, tag="order_outcome"):
    """What came of an accepted order."""

    counter: int
    done: bool
    why: str = ""


class UpdateRefused(Fact, frozen=True, kw_only=True, tag="update_refused"):
    """Something came down that was not taken: what, of which scope, and why."""

    what: str  # head, manifest, chunk, delta, order, welcome, ...: sync/refusals.md has all.
    scope: str  # Of a list; else whatever tells which one it was, such as an order's counter.
    reason: str  # One word; sync/refusals.md says what it means.


class Unrecorded(Fact, frozen=True, kw_only=True, tag="unrecorded"):
    """Facts that happened while the disk refused them: how many of which kind."""

    counts: dict[str, int]


class LogLines(Fact, frozen=True, kw_only=True, tag="log_lines"):
    """What a process logged, by order `fetch_logs`, in parts; redacted where it was logged."""

    counter: int  # Of the order.
    process: str
    part: int  # From 1 to `parts`.
    parts: int
    lines: tuple[str, ...]


class Noted(Fact, frozen=True, kw_only=True, tag="noted"):
    """Something about the device itself that a person may ask about later."""

    what: str  # first_contact, root, configuration, certificate, key, refused_by_broker
    why: str = ""
    number: int | None = None  # A version, where there is one.
    until_utc_s: int | None = None  # An end, where there is one.


class Restates(Fact, frozen=True, kw_only=True, tag="restates"):
    """A fact of a closed epoch of this stream once more, by its original bytes.

    The epoch was closed because the city has other facts, or more of them, under its numbers: the
    journal was an old copy. What the city does not hold under that key with those bytes counts as
    if it had arrived there; what it does hold so, counts once.
    """

    old_epoch: str
    old_sequence: int
    body: bytes  # The fact's line as it was encoded; base64 in JSON.


class EpochClosed(Fact, frozen=True, kw_only=True, tag="epoch_closed"):
    """The end of an epoch that was closed: all that this device can still say of it was said."""

    old_epoch: str
    kept_up_to: int  # Up to here it is one history with the city's; above it facts are restated.
    head: int  # The last fact ever known here.
    restated: int
    missing: dict[str, int]  # Facts that are gone, by kind as far as known, else under `unknown`.


class Folded(Fact, frozen=True, kw_only=True, tag="folded"):
    """Facts of this stream that went, unacknowledged, to make room: never money."""

    of_epoch: str
    source: int  # First and
    target: int  # last of them.
    counts: dict[str, int]  # By kind.
    digest: str  # Of the fact at `target`, whose chain holds all before it.


class PartState(Fact, frozen=True, kw_only=True, tag="part_state"):
    """A part of the station went or came back. In `diag`, whose oldest go undeclared."""

    part: str  # link, reader r1, lane north, disk
    state: str  # up, down, tight, full
    why: str = ""
