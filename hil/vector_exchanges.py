"""Golden conversations: batches a device sends one after another, and the answer to each.

Each begins with an empty city that knows the device, and stands for one paragraph of the rules of
acceptance in `sync/README.md`. `python -m hil.vectors` writes them.
"""

from __future__ import annotations

from typing import Any

from edge.messages import Ack, Gap, encode_json
from edge.model import Station
from hil.conformance.chain import Chain

SITE = "s0001"
DEVICE = "s0001-till-1"
EPOCH = "00c0ffee00c0ffee"
NOON_MS = 1_757_408_400_000
FACTS = 6


def chain(epoch: str = EPOCH, *, reader: str = "conformance") -> Chain:
    made = Chain(device=DEVICE, site=SITE, station=Station.TILL, epoch=epoch, wall_ms=NOON_MS)
    for _ in range(FACTS - 1):
        made.add(made.refusal(reader=reader))
    return made


def sent(made: Chain, first: int, last: int, up_to: int, **answer: Any) -> dict[str, Any]:
    """One batch, and the acknowledgement it gets."""
    gap: Gap | None = answer.pop("gap", None)
    ack = Ack(device=DEVICE, stream=made.stream, epoch=made.epoch, up_to=up_to, **answer)
    return {"batch": made.batch(first, last, gap).decode(), "ack": encode_json(ack).decode()}


def exchanges() -> dict[str, Any]:
    """Topic, and every conversation by name."""
    good = chain()
    return {
        "device": DEVICE,
        "site": SITE,
        "topic": f"mk/v1/d/{DEVICE}/up/main",
        "ack_topic": f"mk/v1/d/{DEVICE}/ack",
        "exchanges": {
            "in order": [sent(good, 1, 2, 2), sent(good, 3, 3, 3), sent(good, 4, 6, 6)],
            "again": [sent(good, 1, 3, 3), sent(good, 1, 3, 3), sent(good, 2, 2, 3)],
            "overlap": [sent(good, 1, 3, 3), sent(good, 2, 5, 5)],
            "hole": [
                sent(good, 1, 2, 2),
                sent(good, 4, 5, 2, rewind=True),
                sent(good, 3, 5, 5),
            ],
            "nothing yet": [sent(good, 2, 3, 0, rewind=True), sent(good, 1, 3, 3)],
            "fork": _fork(),
            "torn chain": _torn(),
            "declared gap": _gap(),
            "two epochs": _epochs(),
            "poison": _poison(),
            "unknown kind": _unknown(),
            "damaged": _damaged(),
        },
    }


def _fork() -> list[dict[str, Any]]:
    good, other = chain(), chain(reader="another")
    other.facts[0] = good.facts[0]
    return [
        sent(good, 1, 3, 3),
        sent(other, 2, 3, 3, problem="fork"),
        sent(good, 4, 4, 4),
    ]


def _torn() -> list[dict[str, Any]]:
    """The next number, but its `previous` is of another history."""
    good, other = chain(), chain(reader="another")
    return [sent(good, 1, 2, 2), sent(other, 3, 4, 2, problem="fork"), sent(good, 3, 4, 4)]


def _gap() -> list[dict[str, Any]]:
    good = chain()
    return [
        sent(good, 1, 1, 1),
        sent(good, 4, 4, 1, gap=good.gap(3, 3), rewind=True),  # 2 is missing and undeclared.
        sent(good, 4, 4, 4, gap=good.gap(2, 3)),
        sent(good, 4, 5, 5, gap=good.gap(2, 3)),  # The same declaration once more.
        sent(good, 7, 6, 6, gap=good.gap(6, 6)),  # With no fact behind it.
    ]


def _epochs() -> list[dict[str, Any]]:
    first, second = chain(), chain("0123456789abcdef")
    return [sent(first, 1, 4, 4), sent(second, 1, 2, 2), sent(first, 5, 6, 6)]


def _poison() -> list[dict[str, Any]]:
    made = Chain(device=DEVICE, site=SITE, station=Station.TILL, epoch=EPOCH, wall_ms=NOON_MS)
    made.add_poison()
    made.add_refusals(1)
    return [sent(made, 1, 3, 3)]


def _unknown() -> list[dict[str, Any]]:
    made = Chain(device=DEVICE, site=SITE, station=Station.TILL, epoch=EPOCH, wall_ms=NOON_MS)
    made.add_unknown_kind()
    made.add_refusals(1)
    return [sent(made, 1, 3, 3)]


def _damaged() -> list[dict[str, Any]]:
    """A byte of a fact was flipped on the way: the header names another digest."""
    good = chain()
    step = sent(good, 2, 3, 1, problem="corrupt")
    step["batch"] = step["batch"].replace('"tier":1', '"tier":2')
    return [sent(good, 1, 1, 1), step, sent(good, 2, 3, 3)]
