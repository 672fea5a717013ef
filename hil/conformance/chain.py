"""Facts of a played device: a stream of its own making, and batches of any part of it. Pure.

Every check begins an epoch of its own, so that none stands on what another one broke, and a city
may be checked as often as one likes.
"""

from __future__ import annotations

import json
from typing import Any

from edge.messages import (
    AccessFact,
    BatchHeader,
    Fact,
    Gap,
    Posting,
    SaleFact,
    SaleLine,
    Stream,
    StreamOpened,
    VersionMark,
    digest_of,
    encode_batch,
    encode_fact,
    encode_json,
)
from edge.model import (
    AccessReason,
    ClockQuality,
    Direction,
    Outcome,
    Station,
    Tender,
)

SOFTWARE = "moskvenok city check"
NOBODY = "conformance-nobody"
NO_CREDENTIAL = "A" * 22  # 16 zero bytes: no HMAC is that.
BIG_TEXT_BYTES = 15_000  # Just under what a fact may have.


class Chain:
    """One epoch of one stream. `facts` are its bytes from sequence 1."""

    def __init__(
        self,
        *,
        device: str,
        site: str,
        station: Station,
        epoch: str,
        wall_ms: int,
        stream: Stream = Stream.MAIN,
        after_epoch: str | None = None,
    ) -> None:
        self.device, self.site, self.station = device, site, station
        self.stream, self.epoch = stream, epoch
        self.facts: list[bytes] = []
        self.sent_up_to = 0
        self.declared: set[int] = set()  # Numbers that were said to be lost.
        self._wall_ms = wall_ms
        self.add(
            StreamOpened(
                why="new_store" if after_epoch is None else "restored_image",
                software=SOFTWARE,
                station=station,
                after_epoch=after_epoch,
                **self.base(),
            )
        )

    @property
    def head(self) -> int:
        return len(self.facts)

    def base(self) -> dict[str, Any]:
        """What the next fact carries."""
        return {
            "device": self.device,
            "site": self.site,
            "stream": self.stream,
            "epoch": self.epoch,
            "sequence": self.head + 1,
            "previous": digest_of(self.facts[-1]) if self.facts else "",
            "boot": "conformance",
            "mono_ms": self.head,
            "wall_ms": self._wall_ms,
            "clock": ClockQuality.UNKNOWN,
        }

    def add(self, fact: Fact) -> None:
        self.facts.append(encode_fact(fact))

    def add_refusals(self, count: int) -> None:
        """An unknown card, refused: a fact that changes nobody's account or presence."""
        for _ in range(count):
            self.add(self.refusal())

    def refusal(self, reader: str = "conformance", **changes: Any) -> AccessFact:
        """The next such fact."""
        return AccessFact(
            access_point="conformance",
            zone="conformance",
            direction=Direction.IN,
            reader=reader,
            tier=1,
            credential=NO_CREDENTIAL,
            cardholder=None,
            outcome=Outcome.DENY,
            reason=AccessReason.UNKNOWN_CREDENTIAL,
            caveats=(),
            people=None,
            list_age_s=None,
            read_age_ms=1,
            **{**self.base(), **changes},
        )

    def add_poison(self) -> None:
        """A sale to an account and of a product that nobody knows."""
        mark = VersionMark(1, 1)
        self.add(
            SaleFact(
                account=NOBODY,
                cardholder=NOBODY,
                credential=NO_CREDENTIAL,
                tier=1,
                reader="conformance",
                lines=(SaleLine(product=NOBODY, category=NOBODY, quantity=1, price_minor=1),),
                total_minor=1,
                tender=Tender.ACCOUNT,
                postings=(
                    Posting(account=NOBODY, purse="main", amount_minor=-1),
                    Posting(account=f"sales:{self.site}", purse="main", amount_minor=1),
                ),
                business_date="2000-01-03",
                people=mark,
                money=mark,
                menu=mark,
                caveats=(),
                **self.base(),
            )
        )

    def add_unknown_kind(self) -> None:
        """A fact of a device that is newer than the city, with fields of its own."""
        fields = {"kind": "conformance_unheard_of", **self.base(), "novelty": {"a": [1, None]}}
        self.facts.append(json.dumps(fields, ensure_ascii=False).encode())

    def add_big(self) -> None:
        """As long as a fact may be, so that a few make a message too long."""
        self.add(self.refusal(reader="x" * BIG_TEXT_BYTES))

    def batch(self, first: int, last: int, gap: Gap | None = None) -> bytes:
        """Facts `first` to `last` as they travel; none of them when `last` is lower."""
        facts = self.facts[first - 1 : last]
        assert facts or gap is not None
        header = BatchHeader(
            device=self.device,
            stream=self.stream,
            epoch=self.epoch,
            first=first,
            count=len(facts),
            digest=digest_of(facts[-1]) if facts else gap.digest if gap else "",
            gap=gap,
        )
        # Beside `encode_batch`, which a too big one would not pass.
        if sum(map(len, facts)) > 60_000:
            return b"\n".join((encode_json(header), *facts))
        return encode_batch(header, facts)

    def gap(self, source: int, target: int) -> Gap:
        """Declares these lost."""
        self.declared.update(range(source, target + 1))
        counts = {"access": target - source + 1}
        return Gap(
            source=source, target=target, digest=digest_of(self.facts[target - 1]), counts=counts
        )
