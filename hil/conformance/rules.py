"""The rules a city keeps, one line each, and what a run found out about each of them.

The names are for scripts and tickets and are kept for ever; the words are for the engineer whose
city breaks one. What `sync/README.md` says at length stands here as a list.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final


@unique
class Rule(StrEnum):
    """In the order they are reported."""

    WELCOME_NONCE = "welcome-nonce"
    WELCOME_SIGNED = "welcome-signed"
    WELCOME_TIME = "welcome-time"
    WELCOME_MARKS = "welcome-marks"
    WELCOME_DIGESTS = "welcome-digests"
    ACK = "ack"
    ACK_SENT = "ack-sent"
    ACK_DURABLE = "ack-durable"
    RESTART_DURABLE = "restart-durable"
    GAP = "gap"
    REPLAY = "replay"
    OVERLAP = "overlap"
    REORDERED = "reordered"
    CHAIN = "chain"
    FORK = "fork"
    RESTORED = "restored"
    EPOCHS = "epochs"
    STREAMS = "streams"
    POISON = "poison"
    UNKNOWN_KIND = "unknown-kind"
    DECLARED_GAP = "declared-gap"
    RUBBISH = "rubbish"
    OVERSIZE = "oversize"
    BYTES_KEPT = "bytes-kept"
    HEAD_RETAINED = "head-retained"
    HEAD_SIGNED = "head-signed"
    HEAD_FRESH = "head-fresh"
    HEAD_WANTED = "head-wanted"
    HEAD_MOVES = "head-moves"
    HEAD_FORWARD = "head-forward"
    LIST_EPOCH = "list-epoch"
    MANIFEST = "manifest"
    CHUNKS = "chunks"
    CHUNK_RESUME = "chunk-resume"
    SET_DIGEST = "set-digest"
    DELTA = "delta"
    DELTA_PULL = "delta-pull"
    SNAPSHOT_EQUALS = "snapshot-equals-deltas"
    VECTOR = "vector"
    HOLD_SPENT = "hold-spent"
    VOID_RETURNED = "void-returned"
    REFUND_CREDITED = "refund-credited"
    REFUND_LINES = "refund-lines"
    EMERGENCY_APART = "emergency-apart"
    MEAL_ONCE = "meal-once"
    SPLIT_ASIDE = "split-aside"
    EARMARK_WAITS = "earmark-waits"
    SCOPES_APART = "scopes-apart"
    KEYS_SIGNED = "keys-signed"
    KEYS_SEALED = "keys-sealed"
    COLUMNS_SEALED = "columns-sealed"
    SIZES = "sizes"
    RENEWAL = "renewal"
    ORDER_SIGNED = "order-signed"
    ORDER_COUNTER = "order-counter"
    ORDER_PASSING = "order-passing"
    LATE_WILL = "late-will"
    REVOKED = "revoked"


WORDS: Final[dict[Rule, str]] = {
    Rule.WELCOME_NONCE: "a hello is answered by a welcome with its nonce",
    Rule.WELCOME_SIGNED: "the welcome is signed by a freshness key of the root document",
    Rule.WELCOME_TIME: "the welcome says the time, and it goes forward",
    Rule.WELCOME_MARKS: "the welcome names the high water of every stream the hello names",
    Rule.WELCOME_DIGESTS: "each high water comes with the digest of the fact there",
    Rule.ACK: "a batch that continues a stream is acknowledged up to its last fact",
    Rule.ACK_SENT: "nothing is acknowledged that was not sent",
    Rule.ACK_DURABLE: "what was acknowledged is still there at the next hello",
    Rule.RESTART_DURABLE: "what was acknowledged is still there after a restart",
    Rule.GAP: "a batch above a hole is answered with rewind and the high water",
    Rule.REPLAY: "a batch that comes again is acknowledged again and changes nothing",
    Rule.OVERLAP: "of a batch with old and new facts the new ones are taken",
    Rule.REORDERED: "batches in any order end with every fact once",
    Rule.CHAIN: "a fact whose `previous` is not the digest at the high water is not taken",
    Rule.FORK: "another fact under a number that is held is reported as a fork, and kept",
    Rule.RESTORED: "a device put back from an old copy is told the high water, and may begin anew",
    Rule.EPOCHS: "each epoch has its own high water, and a new one begins at 1",
    Rule.STREAMS: "main, agent and diag are taken, each with its own high water",
    Rule.POISON: "a fact that cannot be posted goes aside, and the queue moves on",
    Rule.UNKNOWN_KIND: "a fact of an unknown kind is kept, and the queue moves on",
    Rule.DECLARED_GAP: "a declared gap moves the high water, and only from the next number on",
    Rule.RUBBISH: "what cannot be read changes nothing, and good messages after it are taken",
    Rule.OVERSIZE: "a message above 64 KiB is not taken and does no harm",
    Rule.BYTES_KEPT: "the facts' bytes are kept as they came (asked over HTTP)",
    Rule.HEAD_RETAINED: "a head of every list is retained",
    Rule.HEAD_SIGNED: "heads are signed by a freshness key and name their own scope",
    Rule.HEAD_FRESH: "heads are issued by now and still valid",
    Rule.HEAD_WANTED: "the welcome's versions are those of the heads",
    Rule.HEAD_MOVES: "a change makes a new version and a new head",
    Rule.HEAD_FORWARD: "versions and times of heads never go back",
    Rule.LIST_EPOCH: "no head names a list epoch above the root document's",
    Rule.MANIFEST: "a snapshot's manifest is signed by a list key and is what the head names",
    Rule.CHUNKS: "chunks have their hash, their size, and rows in order",
    Rule.CHUNK_RESUME: "one chunk may be asked for alone, again, and comes the same",
    Rule.SET_DIGEST: "set digests of heads, manifests and deltas are those of the rows",
    Rule.DELTA: "a delta is signed and leads from one version to exactly the next",
    Rule.DELTA_PULL: "who missed deltas pulls them, or a snapshot, up to the head",
    Rule.SNAPSHOT_EQUALS: "a new snapshot equals the old one with its deltas",
    Rule.VECTOR: "money says up to which fact of each till it includes",
    Rule.HOLD_SPENT: "a hold counts as spent until it is released",
    Rule.VOID_RETURNED: "a void gives back what its sale took",
    Rule.REFUND_CREDITED: "a refund is credited",
    Rule.REFUND_LINES: "of a line no more is refunded than was sold; what is above moves nothing",
    Rule.EMERGENCY_APART: "who is fed on no known account is the city's to pay, not the family's",
    Rule.MEAL_ONCE: "of a free meal served twice the earlier is kept, and no family pays",
    Rule.SPLIT_ASIDE: "the unknown account of a split basket goes aside, and the queue moves on",
    Rule.EARMARK_WAITS: "the city shows less at once, and charges when every till has seen it",
    Rule.SCOPES_APART: "a list that is not this station's is not handed out",
    Rule.KEYS_SIGNED: "a scope's keys are signed by a list key and name their device",
    Rule.KEYS_SEALED: "a scope's keys come sealed to this device, in the lists' versions",
    Rule.COLUMNS_SEALED: "names and groups are sealed under the scope's seal key",
    Rule.SIZES: "no message is longer than 64 KiB",
    Rule.RENEWAL: "a device gets its next certificate, and keys sealed to its next key",
    Rule.ORDER_SIGNED: "an order is signed by an order key and names its device",
    Rule.ORDER_COUNTER: "an order's counter only grows",
    Rule.ORDER_PASSING: "an order is not retained",
    Rule.LATE_WILL: "a late will of an earlier connection hides no newer birth",
    Rule.REVOKED: "a revoked device is not served",
}
assert set(WORDS) == set(Rule)


@unique
class Verdict(StrEnum):
    KEPT = "kept"
    BROKEN = "broken"
    NOT_TRIED = "not tried"  # Something it stands on is broken.
    LEFT_OUT = "left out"  # The run was not given what it needs.


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found out about one rule; `detail` says what was seen, or why it was not tried."""

    rule: Rule
    verdict: Verdict
    detail: str = ""


class Report:
    """Collects findings. A rule that was once broken stays so; one that was tried is kept."""

    def __init__(self) -> None:
        self._broken: dict[Rule, str] = {}
        self._kept: set[Rule] = set()
        self._left_out: dict[Rule, str] = {}

    def check(self, rule: Rule, holds: bool, detail: str) -> bool:
        """Notes what one look at a rule gave; `detail` says what is wrong when it does not hold."""
        if holds:
            self._kept.add(rule)
        else:
            self._broken.setdefault(rule, detail)
        return holds

    def is_broken(self, rule: Rule) -> bool:
        return rule in self._broken

    def leave_out(self, rule: Rule, why: str) -> None:
        self._left_out[rule] = why

    def findings(self) -> tuple[Finding, ...]:
        return tuple(self._finding(rule) for rule in Rule)

    def _finding(self, rule: Rule) -> Finding:
        if rule in self._broken:
            return Finding(rule=rule, verdict=Verdict.BROKEN, detail=self._broken[rule])
        if rule in self._kept:
            return Finding(rule=rule, verdict=Verdict.KEPT)
        if rule in self._left_out:
            return Finding(rule=rule, verdict=Verdict.LEFT_OUT, detail=self._left_out[rule])
        return Finding(rule=rule, verdict=Verdict.NOT_TRIED, detail="what it stands on is broken")

    def good(self) -> bool:
        """Every rule that the run was given the means for was tried and is kept."""
        return all(
            finding.verdict in (Verdict.KEPT, Verdict.LEFT_OUT) for finding in self.findings()
        )
