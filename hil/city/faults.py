"""The faults a city can be told to have: their names, what each does, and which are on.

For tests of devices and of the conformance run. `POST /faults {"ack-late": 500}` switches one on
while the city runs, `--fault ack-late=500` from its start, `GET /faults` and `--faults` list them
all. A value is a number; what it counts stands beside it. `mischief.py` carries them out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

from edge.model import SetupProblem

VALUE_MAX: Final = 10**6  # Our choice: a quarter of an hour in milliseconds is the longest wait.


@unique
class Fault(StrEnum):
    """Grouped by what goes wrong: acknowledgements, the commit, facts, presence, lists, keys."""

    ACK_LATE = "ack-late"
    ACK_NEVER = "ack-never"
    ACK_FUTURE = "ack-future"
    ACK_EPOCH = "ack-epoch"
    ACK_LOST = "ack-lost"
    ACK_TWICE = "ack-twice"
    ACK_REORDERED = "ack-reordered"
    ACK_PAST_GAP = "ack-past-gap"
    FORGET = "forget"
    SLOW = "slow"
    CRASH_BEFORE_COMMIT = "crash-before-commit"
    CRASH_AFTER_COMMIT = "crash-after-commit"
    REPLAY_REFUSED = "replay-refused"
    OVERLAP_REFUSED = "overlap-refused"
    FORK_UNSEEN = "fork-unseen"
    POISON_BLOCKS = "poison-blocks"
    KIND_BLOCKS = "kind-blocks"
    GAP_IGNORED = "gap-ignored"
    RUBBISH_STOPS = "rubbish-stops"
    OVERSIZE_TAKEN = "oversize-taken"
    BYTES_CHANGED = "bytes-changed"
    STREAM_DEAF = "stream-deaf"
    HOLD_UNSEEN = "hold-unseen"
    VOID_IGNORED = "void-ignored"
    REFUND_IGNORED = "refund-ignored"
    REFUND_BY_SUM = "refund-by-sum"
    EMERGENCY_BILLED = "emergency-billed"
    MEAL_TWICE = "meal-twice"
    SPLIT_BILLED = "split-billed"
    EARMARK_HASTY = "earmark-hasty"
    WELCOME_NONCE = "welcome-nonce"
    WELCOME_TIME = "welcome-time"
    WELCOME_MARKS = "welcome-marks"
    WELCOME_DIGESTS = "welcome-digests"
    LATE_WILL = "late-will"
    REVOKED_SERVED = "revoked-served"
    RENEWAL_DEAF = "renewal-deaf"
    SIGNATURE = "signature"
    FREEZE = "freeze"
    ROLLBACK = "rollback"
    MIX = "mix"
    SCOPE = "scope"
    SCOPE_OPEN = "scope-open"
    HEAD_PASSING = "head-passing"
    HEAD_STALE = "head-stale"
    HEAD_REPLAY = "head-replay"
    EPOCH_UNROOTED = "epoch-unrooted"
    PULL_DEAF = "pull-deaf"
    CHUNK_TRUNCATED = "chunk-truncated"
    CHUNK_BIG = "chunk-big"
    CHUNK_OTHER = "chunk-other"
    DELTA_GAP = "delta-gap"
    DELTA_REPLAY = "delta-replay"
    DELTA_BASE = "delta-base"
    DELTA_LOSSY = "delta-lossy"
    SET_DIGEST = "set-digest"
    VECTOR_MISSING = "vector-missing"
    KEYS_OTHER = "keys-other"
    SEAL_OTHER = "seal-other"
    ORDER_RETAINED = "order-retained"
    ORDER_SIGNATURE = "order-signature"
    ORDER_COUNTER = "order-counter"


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """One line of help; what the value counts, and its value when none is given."""

    help: str
    unit: str = ""
    usual: int = 1


ABOUT: Final[dict[Fault, About]] = {
    Fault.ACK_LATE: About(help="acknowledgements leave late", unit="ms", usual=2_000),
    Fault.ACK_NEVER: About(help="facts are taken and never acknowledged"),
    Fault.ACK_FUTURE: About(help="facts are acknowledged that were not sent", unit="facts"),
    Fault.ACK_EPOCH: About(help="acknowledgements name another epoch"),
    Fault.ACK_LOST: About(
        help="so many of a hundred acknowledgements are lost", unit="%", usual=50
    ),
    Fault.ACK_TWICE: About(help="every acknowledgement comes twice"),
    Fault.ACK_REORDERED: About(help="acknowledgements leave in pairs, the later one first"),
    Fault.ACK_PAST_GAP: About(help="a batch above a hole is acknowledged, not asked for again"),
    Fault.FORGET: About(help="facts are acknowledged and not committed"),
    Fault.SLOW: About(help="every commit of facts takes so much longer", unit="ms", usual=500),
    Fault.CRASH_BEFORE_COMMIT: About(
        help="the process ends before the so-manieth commit of facts", unit="commits"
    ),
    Fault.CRASH_AFTER_COMMIT: About(
        help="the process ends after the so-manieth commit, before its acknowledgement",
        unit="commits",
    ),
    Fault.REPLAY_REFUSED: About(help="facts that come again are called a fork"),
    Fault.OVERLAP_REFUSED: About(help="a batch with old and new facts is not taken"),
    Fault.FORK_UNSEEN: About(help="another history under the same numbers is acknowledged"),
    Fault.POISON_BLOCKS: About(help="a sale that cannot be posted holds up its queue for ever"),
    Fault.KIND_BLOCKS: About(help="a fact of an unknown kind holds up its queue for ever"),
    Fault.GAP_IGNORED: About(help="declared losses are not looked at"),
    Fault.RUBBISH_STOPS: About(help="a device that sent rubbish is heard no more"),
    Fault.OVERSIZE_TAKEN: About(help="messages above 64 KiB are acknowledged"),
    Fault.BYTES_CHANGED: About(help="facts are not kept by the byte"),
    Fault.STREAM_DEAF: About(help="only the stream main is taken"),
    Fault.HOLD_UNSEEN: About(help="a hold leaves the account as it is"),
    Fault.VOID_IGNORED: About(help="a void gives nothing back"),
    Fault.REFUND_IGNORED: About(help="a refund is not credited"),
    Fault.REFUND_BY_SUM: About(help="refunds of a sale are judged by their sum, not by the line"),
    Fault.EMERGENCY_BILLED: About(help="who is fed on no known account is billed all the same"),
    Fault.MEAL_TWICE: About(help="of a free meal served twice the later one is kept"),
    Fault.SPLIT_BILLED: About(help="sales behind one that went aside go aside too"),
    Fault.EARMARK_HASTY: About(help="what the city spends is charged before tills have seen it"),
    Fault.WELCOME_NONCE: About(help="the welcome answers another nonce"),
    Fault.WELCOME_TIME: About(help="the welcome's time stands still in 2020"),
    Fault.WELCOME_MARKS: About(help="the welcome names no high water"),
    Fault.WELCOME_DIGESTS: About(help="the welcome's high waters have no digests"),
    Fault.LATE_WILL: About(help="a will of an earlier connection puts a device offline"),
    Fault.REVOKED_SERVED: About(help="a revoked device is served as before"),
    Fault.RENEWAL_DEAF: About(help="requests for a next certificate are not answered"),
    Fault.SIGNATURE: About(help="every signature of lists and welcomes is wrong"),
    Fault.FREEZE: About(help="the first heads seen are sent for ever"),
    Fault.ROLLBACK: About(help="heads name the version before"),
    Fault.MIX: About(help="heads name a snapshot with the chunks of another"),
    Fault.SCOPE: About(help="deltas and manifests are of another scope than asked"),
    Fault.SCOPE_OPEN: About(help="any device may pull any list of its site"),
    Fault.HEAD_PASSING: About(help="heads are not retained"),
    Fault.HEAD_STALE: About(help="heads are long past their end"),
    Fault.HEAD_REPLAY: About(help="each head is followed by the one before it"),
    Fault.EPOCH_UNROOTED: About(help="heads name a list epoch that the root document does not"),
    Fault.PULL_DEAF: About(help="who asks for what came after a version gets no answer"),
    Fault.CHUNK_TRUNCATED: About(help="chunks come cut in half"),
    Fault.CHUNK_BIG: About(help="chunks come so long", unit="bytes", usual=57_345),
    Fault.CHUNK_OTHER: About(help="one chunk more is sent than was asked for"),
    Fault.DELTA_GAP: About(help="every second delta is not published"),
    Fault.DELTA_REPLAY: About(help="each delta is followed by the one before it"),
    Fault.DELTA_BASE: About(help="deltas say they begin one version earlier"),
    Fault.DELTA_LOSSY: About(help="deltas leave their last row out"),
    Fault.SET_DIGEST: About(help="set digests of heads, manifests and deltas are wrong"),
    Fault.VECTOR_MISSING: About(help="money carries no applied vector"),
    Fault.KEYS_OTHER: About(help="scope keys are sealed to somebody else"),
    Fault.SEAL_OTHER: About(help="the seal key handed out is not the one names are sealed with"),
    Fault.ORDER_RETAINED: About(help="orders are retained"),
    Fault.ORDER_SIGNATURE: About(help="orders are signed wrongly"),
    Fault.ORDER_COUNTER: About(help="every order has the counter 1"),
}
assert set(ABOUT) == set(Fault)


class Faults:
    """Which are on. Threads read while another one switches."""

    def __init__(self) -> None:
        self._on: dict[Fault, int] = {}

    def __getitem__(self, fault: Fault) -> int:
        """Its value; 0 while it is off."""
        return self._on.get(fault, 0)

    def any(self) -> bool:
        return bool(self._on)

    def switch(self, name: str, value: object = None) -> None:
        """On with its usual value, with a value, or off (0, false). `SetupProblem` in words."""
        if name not in set(Fault):
            raise SetupProblem(f"no fault {name!r}; see GET /faults or --faults for all of them")
        fault = Fault(name)
        if value is None or value is True:
            value = ABOUT[fault].usual
        if not isinstance(value, int) or not 0 <= value <= VALUE_MAX:
            raise SetupProblem(f"fault {name}: {value!r}; give 0 to {VALUE_MAX}, 0 switches it off")
        on = {**self._on, fault: int(value)}
        self._on = {known: number for known, number in on.items() if number}

    def switch_text(self, text: str) -> None:
        """As on the command line: `NAME` or `NAME=NUMBER`."""
        name, mark, number = text.partition("=")
        if mark and not (number.isascii() and number.isdigit() and len(number) < 9):
            raise SetupProblem(f"fault {text!r}: write NAME or NAME=NUMBER")
        self.switch(name, int(number) if mark else None)

    def clear(self) -> None:
        self._on = {}

    def listed(self) -> dict[str, dict[str, object]]:
        """All of them with their help, and their values now."""
        return {
            fault.value: {"help": about.help, "unit": about.unit, "value": self[fault]}
            for fault, about in ABOUT.items()
        }


def listing() -> str:
    """For `--faults`: one a line."""
    lines = []
    for fault, about in ABOUT.items():
        value = f"={about.usual} {about.unit}" if about.unit else ""
        lines.append(f"{fault.value + value:34}{about.help}")
    return "\n".join(lines)
