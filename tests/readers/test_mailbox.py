"""Goal: the queue is bounded, the oldest read goes first and is counted, and what the link did
stays true whatever was lost.

Method: any sequence of reads and alternating link changes, polled rarely, against the rules.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.model import UidKind
from edge.readers.mailbox import Mailbox
from edge.readers.reader import (
    READS_QUEUED_MAX,
    CardRead,
    LinkDown,
    LinkUp,
    ReaderCounters,
    ReaderEvent,
)


def read(number: int) -> CardRead:
    uid = number.to_bytes(4, "big")
    return CardRead(uid=uid, at_ms=number, kind=UidKind.ISO14443, tier=1, reader_id="north-in")


UP = LinkUp(reader_id="north-in")
DOWN = LinkDown(reader_id="north-in", reason="gone")


def test_events_come_out_as_they_went_in_and_once() -> None:
    mailbox = Mailbox()
    events: list[ReaderEvent] = [UP, read(1), DOWN, UP, read(2)]
    for event in events:
        mailbox.put(event)
    assert mailbox.take_all() == events
    assert mailbox.take_all() == []


def test_a_full_queue_loses_its_oldest_read_and_counts_it() -> None:
    mailbox = Mailbox()
    mailbox.put(UP)
    for number in range(READS_QUEUED_MAX + 4):
        mailbox.put(read(number))
    expected = [UP, *(read(number) for number in range(5, READS_QUEUED_MAX + 4))]
    assert mailbox.take_all() == expected
    assert mailbox.counters() == ReaderCounters(dropped=5)


@given(st.lists(st.booleans(), max_size=400), st.integers(0, READS_QUEUED_MAX))
def test_whatever_was_lost_the_rest_is_in_order_and_links_alternate(
    are_reads: list[bool], links_first: int
) -> None:
    mailbox, link_up, put = Mailbox(), False, list[ReaderEvent]()
    for number, is_read in enumerate([False] * 2 * links_first + are_reads):
        if is_read:
            event: ReaderEvent = read(number)
        else:
            link_up = not link_up
            event = UP if link_up else DOWN
        mailbox.put(event)
        put.append(event)
    taken = mailbox.take_all()
    reads = [event for event in taken if isinstance(event, CardRead)]
    links = [event for event in taken if not isinstance(event, CardRead)]
    reads_put = [event for event in put if isinstance(event, CardRead)]
    assert len(taken) <= READS_QUEUED_MAX
    assert reads == reads_put[len(reads_put) - len(reads) :]
    assert mailbox.counters().dropped == len(reads_put) - len(reads)
    assert all(link is (DOWN, UP)[(turn + 1) % 2] for turn, link in enumerate(links))
    assert not links or links[-1] is (UP if link_up else DOWN)


def test_counts_add_up() -> None:
    mailbox = Mailbox()
    mailbox.count(reads=1, noise_bytes=7)
    mailbox.count(reads=1, repeats=2, refused=3, reopened=1, discarded_after_reopen=5)
    assert mailbox.counters() == ReaderCounters(
        reads=2, repeats=2, refused=3, noise_bytes=7, reopened=1, discarded_after_reopen=5
    )
