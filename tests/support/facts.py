"""Facts for tests: of the kinds that change something beside themselves, and some that do not."""

from __future__ import annotations

from edge.messages import (
    AccessFact,
    OrderAnswer,
    OrderOutcome,
    PassageFact,
    Posting,
    SaleFact,
    SaleLine,
    SaleRefused,
    Stream,
    StreamOpened,
    Unrecorded,
    UpdateRefused,
    VersionMark,
)
from edge.model import (
    AccessReason,
    Caveat,
    ClockQuality,
    Direction,
    Outcome,
    PassageResult,
    PurchaseReason,
    Station,
    Tender,
)
from edge.offline_cache.record import Stamp

VERSION = VersionMark(1, 7)


def stamp(
    sequence: int = 2,
    previous: str = "",
    *,
    device: str = "till-1",
    epoch: str = "00c0ffee00c0ffee",
) -> Stamp:
    """A header of a made-up fact; recorded ones take theirs from the recording."""
    return Stamp(
        device=device,
        site="school-7",
        stream=Stream.MAIN,
        epoch=epoch,
        sequence=sequence,
        previous=previous,
        boot="b00000000001",
        mono_ms=1_234,
        wall_ms=1_772_442_000_000,
        clock=ClockQuality.CITY,
    )


def opened(header: Stamp) -> StreamOpened:
    return StreamOpened(**header, why="new_store", software="0.1.0", station=Station.TILL)


def access(header: Stamp, *, reader: str = "r1") -> AccessFact:
    return AccessFact(
        **header,
        access_point="north-in",
        zone="school",
        direction=Direction.IN,
        reader=reader,
        tier=1,
        credential="sz15c5AwM0F_kKv0Hotr5w",
        cardholder="p1",
        outcome=Outcome.GRANT,
        reason=AccessReason.AUTHORIZED,
        caveats=(Caveat.OLD_LIST,),
        people=VERSION,
        list_age_s=90_000,
        read_age_ms=12,
    )


def passage(
    header: Stamp,
    *,
    cardholder: str | None = "p1",
    direction: Direction = Direction.IN,
    result: PassageResult = PassageResult.TAKEN,
    zone: str = "school",
) -> PassageFact:
    return PassageFact(
        **header,
        access_point="north-in",
        zone=zone,
        direction=direction,
        result=result,
        passage="00c0ffee00c0ffee.2",
        cardholder=cardholder,
    )


def sale(
    header: Stamp,
    *,
    account: str = "a1",
    amounts: tuple[tuple[str, int], ...] = (("meals", 12_000),),
    business_date: str = "2026-03-02",
) -> SaleFact:
    postings = []
    for purse, amount_minor in amounts:
        postings.append(Posting(account=account, purse=purse, amount_minor=-amount_minor))
        postings.append(Posting(account="sales:school-7", purse=purse, amount_minor=amount_minor))
    return SaleFact(
        **header,
        account=account,
        cardholder="p1",
        credential="sz15c5AwM0F_kKv0Hotr5w",
        tier=1,
        reader="r1",
        lines=(SaleLine(product="soup", category="hot", quantity=1, price_minor=12_000),),
        total_minor=sum(amount for _, amount in amounts),
        tender=Tender.ACCOUNT,
        postings=tuple(postings),
        business_date=business_date,
        people=VERSION,
        money=VERSION,
        menu=VERSION,
        caveats=(),
    )


def refused_sale(header: Stamp) -> SaleRefused:
    return SaleRefused(
        **header,
        credential="sz15c5AwM0F_kKv0Hotr5w",
        cardholder=None,
        lines=(SaleLine(product="soup", category="hot", quantity=2, price_minor=12_000),),
        total_minor=24_000,
        reason=PurchaseReason.HOT_LISTED,
        business_date="2026-03-02",
        people=VERSION,
        money=None,
        menu=VERSION,
        caveats=(Caveat.ALONE, Caveat.CLOCK_UNTRUSTED),
        reader="r1",
    )


def order_answer(header: Stamp, *, counter: int = 5, accepted: bool = True) -> OrderAnswer:
    return OrderAnswer(
        **header,
        counter=counter,
        order="open_once",
        accepted=accepted,
        why="" if accepted else "late",
        access_point="north-in",
    )


def order_outcome(header: Stamp, *, counter: int = 5) -> OrderOutcome:
    return OrderOutcome(**header, counter=counter, done=False, why="lane_busy")


def update_refused(header: Stamp) -> UpdateRefused:
    return UpdateRefused(**header, what="head", scope="school-7/people", reason="rollback")


def unrecorded(header: Stamp) -> Unrecorded:
    return Unrecorded(**header, counts={"access": 2, "passage": 1})


MAKERS = (
    *(opened, access, passage, sale, refused_sale),
    *(order_answer, order_outcome, update_refused, unrecorded),
)
