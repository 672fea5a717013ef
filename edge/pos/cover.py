"""The cap: how much a till may sell that nobody else knows of yet.

    covered    a fact of mine is, when my base includes it, or when *every* other till of the roster
               reported {it has seen my facts up to h; its own head was H} with the fact <= h, *and*
               I hold that till's facts up to H
    a sale     needs uncovered spend of its purse + amount <= CAP; with one till there is no cap
    a hole     facts that a till said it had made and that are missing here: nothing is sold on
               account until they are here; a card waits so long as they may come in a moment

Both halves of the first rule matter: without the second the bound breaks when reports travel and
facts do not. With them N tills that are cut off overdraw a purse by (N - 1) x CAP at most;
`tests/pos/test_small_worlds.py` exhausts small worlds of it.

Pure. What was reported and what is held is `edge/offline_cache`'s business: `PeerTill.covers` holds
the reports of which the second half is true.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from edge.model import PeerTill, Spend
from edge.pos.ledger import MAIN_STREAM, Vector

# ledger.md: a large basket waits so long for the other tills to have heard of it. As long for what
# was heard of them and is not here yet: on real processes that comes within 0.1 s (2026-11-22).
WAIT_MS_MAX: Final = 2_000
# Our choice: a till that has just started hears its neighbours within a second or two. Until then a
# cashier rather reads "wait" than "no".
START_MS: Final = 5_000


def has_hole(peers: Iterable[PeerTill]) -> bool:
    """Whether another till did something that is not known here."""
    return any(not peer.complete for peer in peers)


def patience_ms(peers: Iterable[PeerTill], *, since_start_ms: int) -> int:
    """How long a card may wait for what is missing here to come; 0: nobody is there who would send
    it. `since_start_ms` is the age of the till's process."""
    if all(peer.heard for peer in peers if not peer.complete):
        return WAIT_MS_MAX
    return max(0, START_MS - since_start_ms)


def covered_up_to(device: str, epoch: str, vector: Vector, peers: Sequence[PeerTill]) -> int:
    """Facts of this till's epoch up to here are known to the base, or to every other till."""
    included = vector.get((device, MAIN_STREAM, epoch), 0)
    return max(included, min((peer.covers.get(epoch, 0) for peer in peers), default=0))


def uncovered_minor(
    purse: str, tail: Iterable[Spend], vector: Vector, peers: Sequence[PeerTill]
) -> int:
    """How much of this till's spend from a purse another till may not know of, at the worst.

    Another till knows the facts of an epoch up to some number that is covered or later, so the
    worst of all such numbers counts: a hold that ended gives back no more than it took there.
    What a void gave back counts for nothing, because the others go on counting the sale.
    """
    rows: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for spend in dict.fromkeys(tail):
        gave_back = spend.amount_minor < 0 and not spend.hold_ended
        if spend.own and spend.purse == purse and not gave_back:
            key = (spend.device, spend.epoch)
            rows.setdefault(key, []).append((spend.sequence, spend.amount_minor))
    total = 0
    for (device, epoch), facts in rows.items():
        covered = covered_up_to(device, epoch, vector, peers)
        worst = unknown = 0
        for sequence, amount_minor in sorted(facts, reverse=True):
            if sequence > covered:
                unknown += amount_minor
                worst = max(worst, unknown)
        total += worst
    return total


def room_minor(
    purse: str,
    tail: Iterable[Spend],
    vector: Vector,
    peers: Sequence[PeerTill],
    *,
    cap_minor: int,
) -> int | None:
    """What may still be sold from a purse though nobody else hears of it; None: there is no cap."""
    if not peers:
        return None
    return max(0, cap_minor - uncovered_minor(purse, tail, vector, peers))
