"""What the kernels of sync tell their shell: values to carry out in order. Pure.

The first half is `sync/pump.py`'s (facts up), the second `sync/intake.py`'s (lists down). Each
says in its docstring what the shell does with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from edge.messages import Delta, Head, Manifest, Pull

# ---------------------------------------------------------------------------- facts, up


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Sequences no longer held and not known to the city, both ends included."""

    source: int
    target: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Read facts from `first` on and publish them as one batch, then say `sent`.

    With `gap`, the batch declares it (`first` is `gap.target + 1`; there may be no rows behind
    it). The gap's digest is the `previous` of fact `first`, or the epoch's head digest.
    """

    epoch: str
    first: int
    rows_max: int
    bytes_max: int
    gap: Missing | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """The city has everything up to here: the store may raise its mark."""

    epoch: str
    up_to: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewind:
    """What was sent above `up_to` is sent again. Nothing to do; counted and logged."""

    epoch: str
    up_to: int
    why: str  # lost: the city missed a batch; timeout: it said nothing.


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """The city knows less than it once acknowledged (a restored backup): lower the store's mark."""

    epoch: str
    high_water: int
    acknowledged: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """The city knows more of this epoch than this device ever wrote: the journal is an old copy
    (restored image, cloned card). It is halted; a new epoch must be opened before the next fact,
    and what the old one alone holds restated there."""

    epoch: str
    high_water: int
    head: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedAck:
    """An acknowledgement that cannot be true. Nothing was moved; it is reported."""

    epoch: str
    reason: str  # foreign, epoch, future


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """The city has a word for a person about this epoch (fork, unknown_device)."""

    epoch: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """The city answers, but this old epoch does not move: newer facts go first for a while."""

    epoch: str
    up_to: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconnect:
    """Nothing was acknowledged for too long: end this connection and make a new one."""

    reason: str


PumpEvent = (
    Send | Acknowledged | Rewind | Behind | Ahead | RefusedAck | Problem | SetAside | Reconnect
)


# ---------------------------------------------------------------------------- lists, down


@dataclass(frozen=True, slots=True, kw_only=True)
class SendPull:
    """Publish this request."""

    pull: Pull


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyDelta:
    """Apply to the picture in force, then say `held`, or `mismatch` when it does not come out."""

    delta: Delta


@dataclass(frozen=True, slots=True, kw_only=True)
class StartSnapshot:
    """Begin the next generation; whatever was being built for this scope is discarded."""

    manifest: Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreChunk:
    """Its hash is the signed one. Put its rows into the generation being built."""

    scope: str
    snapshot_id: str
    index: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishSnapshot:
    """All chunks are stored: verify, take the deltas of `later` in order, put it in force, then
    say `held`, or `snapshot_failed`."""

    manifest: Manifest
    later: tuple[Delta, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DropSnapshot:
    """Discard what is being built."""

    scope: str
    snapshot_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """Something came that is not taken. Counted here; reported by the caller, at a bounded rate."""

    what: str  # head, delta, manifest, chunk
    scope: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Current:
    """The picture in force is the newest there is, and as fresh as this head; its set digest is
    to be compared with the picture's (`mismatch` when it differs)."""

    scope: str
    head: Head


IntakeAnswer = (
    SendPull
    | ApplyDelta
    | StartSnapshot
    | StoreChunk
    | FinishSnapshot
    | DropSnapshot
    | Refuse
    | Current
)
