"""Goal: what a lane's fact changes beside itself follows from the fact alone, here and for what
other lanes say; sides of other days and of clocks nobody vouches for are never compared.

Method: each kind of fact recorded in a real journal, its tables read; the same facts taken as sync
takes a peer's; today's and yesterday's sides from both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from edge.messages import (
    AccessFact,
    Fact,
    Forgiven,
    Handover,
    HandoverOpen,
    LockdownFact,
    PassageFact,
    ReferralEnd,
    ReferralEnded,
    decode_sides,
)
from edge.model import (
    AccessReason,
    ClockQuality,
    Direction,
    HandoverKind,
    Moment,
    Outcome,
    PassageResult,
    Station,
    Tariff,
)
from edge.offline_cache import entries, peer_own, peers, retention, sides, standing
from edge.offline_cache.record import Journal, Stamp
from edge.offline_cache.store import FileKind, Writer
from tests.support import facts
from tests.support.times import at

DAY_MS = 86_400_000


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "journal.db", device="lane-1", site="school-7")
    made.open_epoch(at(), why="new_store", station=Station.PRESCHOOL)
    yield made
    made.close()


def forgiven(header: Stamp) -> Fact:
    return Forgiven(**header, cardholder="p1", zone="school", officer="o1")


def lockdown(on: bool, header: Stamp) -> Fact:
    return LockdownFact(**header, on=on, officer="o1")


def handover(header: Stamp, what: HandoverKind = HandoverKind.BROUGHT) -> Handover:
    children = () if what is HandoverKind.NO_CHILD else ("anya", "boris")
    return Handover(
        **header, guardian="mama", children=children, what=what, access="e.1", zone="school"
    )


def visit(header: Stamp, tariff: Tariff | None) -> AccessFact:
    return AccessFact(
        **header,
        access_point="in",
        zone="admission",
        direction=Direction.IN,
        reader="r1",
        tier=1,
        credential="token",
        cardholder=None,
        outcome=Outcome.GRANT,
        reason=AccessReason.AUTHORIZED,
        caveats=(),
        people=None,
        list_age_s=None,
        read_age_ms=0,
        tariff=tariff,
    )


def record(journal: Journal, *made: Callable[[Stamp], Fact]) -> None:
    with journal.record(at()) as tap:
        for make in made:
            tap.add(make(tap.stamp(at())))


def side_of(journal: Journal, who: str) -> Direction | str | None:
    found = sides.own_side(journal.writer.db, who, "school", at())
    return "none" if found is None else found.direction


def test_each_fact_puts_people_where_it_says(journal: Journal) -> None:
    assert side_of(journal, "p1") == "none"
    record(journal, facts.passage)
    assert side_of(journal, "p1") is Direction.IN
    record(journal, forgiven)
    assert side_of(journal, "p1") is None, "as if nobody had passed"
    record(journal, lambda s: facts.passage(s, direction=Direction.OUT))
    assert side_of(journal, "p1") is Direction.OUT
    record(journal, handover)
    assert [side_of(journal, who) for who in ("anya", "boris", "mama")] == [
        *(Direction.IN, Direction.IN),
        "none",
    ]
    record(journal, lambda s: handover(s, HandoverKind.NO_CHILD))
    assert side_of(journal, "anya") is Direction.IN
    record(journal, lambda s: handover(s, HandoverKind.COLLECTED))
    assert side_of(journal, "anya") is side_of(journal, "boris") is Direction.OUT


def test_a_lockdown_stands_apart(journal: Journal) -> None:
    for on in (True, False, True):
        record(journal, partial(lockdown, on))
        assert standing.lockdown(journal.writer.db) is on


def test_an_entry_is_open_until_it_is_said_for_whom(journal: Journal) -> None:
    db = journal.writer.db

    def entered(header: Stamp) -> PassageFact:
        return facts.passage(header, cardholder="mama")  # By 00c0ffee00c0ffee.2

    def said(header: Stamp, access: str) -> Handover:
        return Handover(
            **header,
            guardian="mama",
            children=(),
            what=HandoverKind.NO_CHILD,
            access=access,
            zone="school",
        )

    assert entries.open_entry(db, None, "mama", "school", at()) is None
    record(journal, entered)
    found = entries.open_entry(db, None, "mama", "school", at())
    assert found is not None and (found.access, found.told) == ("00c0ffee00c0ffee.2", False)
    assert entries.entered(db, at()) == [("mama", "school")]
    record(journal, lambda s: said(s, "of-another-entry"))
    assert entries.open_entry(db, None, "mama", "school", at()) == found
    record(
        journal,
        lambda s: HandoverOpen(**s, guardian="mama", access=found.access, zone="school"),
    )
    told = entries.open_entry(db, None, "mama", "school", at())
    assert told is not None and told.told
    assert entries.open_entry(db, None, "mama", "school", at(DAY_MS)) is None
    record(journal, lambda s: said(s, "00c0ffee00c0ffee.2"))
    assert entries.open_entry(db, None, "mama", "school", at()) is None
    record(journal, entered, lambda s: facts.passage(s, cardholder="mama", direction=Direction.OUT))
    assert entries.open_entry(db, None, "mama", "school", at()) is None


def test_a_visit_is_remembered_for_its_day(journal: Journal) -> None:
    db = journal.writer.db
    record(journal, lambda s: visit(s, None))
    assert entries.visit(db, "token", at()) is None, "no admission"
    record(journal, lambda s: visit(s, Tariff.FREE))
    assert entries.visit(db, "token", at()) == ("free", at().wall_ms)
    assert entries.visit(db, "token", at(DAY_MS)) is None
    assert entries.visit(db, "other", at()) is None


def test_all_of_it_goes_with_its_day(journal: Journal) -> None:
    record(journal, facts.passage, handover, lambda s: visit(s, Tariff.PUPIL))
    retention.drop_beside(journal, at())
    counts = [
        journal.writer.db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        for table in ("sides", "handovers", "visits")
    ]
    assert counts == [3, 1, 1]
    retention.drop_beside(journal, at(DAY_MS))
    for table in ("sides", "handovers", "visits"):
        assert journal.writer.db.execute(f"SELECT * FROM {table}").fetchall() == []


# ------------------------------------------------------------------------ other lanes


@pytest.fixture
def sync_file(tmp_path: Path) -> Iterator[Writer]:
    made = Writer(tmp_path / "sync.db", FileKind.SYNC)
    yield made
    made.close()


def hear(journal: Journal, writer: Writer) -> list[str]:
    """What the journal's lane tells the others, as sync keeps it; the kinds of facts it told."""
    batch = peer_own.side_batch(journal.writer.db, "lane-1", "school-7", journal.epoch, 0)
    assert batch is not None
    header, told = decode_sides(batch[0])
    with writer.transaction() as db:
        peers.take_sides(db, "lane-1", header.epoch, header.up_to, told)
    assert header.up_to == batch[1]
    return [str(fact.__struct_config__.tag) for fact in told]


def test_other_lanes_hear_whatever_puts_somebody_somewhere(
    journal: Journal, sync_file: Writer
) -> None:
    record(
        journal,
        lambda s: facts.passage(s, cardholder="p2"),
        lambda s: facts.passage(s, cardholder="p3", result=PassageResult.NOT_TAKEN),
        lambda s: facts.passage(s, cardholder=None),
        lambda s: facts.passage(s, cardholder="p4", result=PassageResult.FIRE_RELEASE),
        facts.passage,
        forgiven,
        handover,
        lambda s: handover(s, HandoverKind.NO_CHILD),
        lambda s: ReferralEnded(**s, access="e.1", end=ReferralEnd.REFUSED, officer="o1"),
        lambda s: HandoverOpen(**s, guardian="mama", access="e.1", zone="school"),
    )
    assert hear(journal, sync_file) == ["passage"] * 3 + ["forgiven"] + ["handover"] * 2
    moment = at(1_000)
    found = {
        who: [side.direction for side in sides.peers_of(sync_file.db, who, "school", moment)]
        for who in ("p1", "p2", "p3", "p4", "anya", "mama")
    }
    assert found == {
        "p1": [None],
        "p2": [Direction.IN],
        "p3": [],
        "p4": [Direction.IN],
        "anya": [Direction.IN],
        "mama": [],
    }
    report = peer_own.own_report(journal.writer.db, store="s", station=Station.PRESCHOOL)
    assert report.lives[-1].side == journal.head - 2, "the last that can move somebody"


def test_only_todays_word_of_a_trusted_clock_is_compared(
    journal: Journal, sync_file: Writer
) -> None:
    record(journal, facts.passage)
    hear(journal, sync_file)

    def heard(moment: Moment) -> int:
        return len(sides.peers_of(sync_file.db, "p1", "school", moment))

    assert heard(at(1_000)) == 1
    assert heard(at(12 * 3_600_000 - 1)) == 1 and heard(at(12 * 3_600_000)) == 0, "midnight"
    assert heard(at(1_000, quality=ClockQuality.FLOOR)) == 0
    assert sides.peers_of(None, "p1", "school", at()) == ()
    with sync_file.transaction() as db:
        db.execute("UPDATE peer_sides SET clock = 'unknown'")
    assert heard(at(1_000)) == 0
    assert sides.all_sides(journal.writer.db, sync_file.db, at(DAY_MS)) == {}
    [(key, said)] = sides.all_sides(journal.writer.db, sync_file.db, at(1_000)).items()
    assert key == ("p1", "school") and len(said) == 1
