"""Goal: whatever people do in front of a reader, each family has one answer to it: two cards in the
field, a card left there, a card torn away, a phone, a bank card.

Method: the same five situations at the bench of every family (`tests/support/reader_benches.py`);
a family that cannot see a situation says so by its name in a set at the top, and is tried for what
it does instead. A card that follows stands as a fence.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.model import UidKind
from edge.readers.dialogue import Failure, Tier
from edge.readers.reader import CardRead, LinkUp, ReadFailed
from edge.readers.watch import REPEAT_MS_MAX
from edge.readers.wiegand import encode
from hil.devices.cards.chip import UidCard
from hil.devices.reader_listener import Listener
from hil.devices.reader_serial import VirtualSerialReader
from hil.devices.vpcd_card import VirtualCard
from tests.support.reader_benches import (
    FAMILIES,
    Bench,
    OsdpBench,
    Pn532Bench,
    ScardBench,
    SerialBench,
    make_bench,
)

pytestmark = pytest.mark.slow

# The reader itself decides what two cards at once are; its wire carries one number after another.
ONE_NUMBER_AT_A_TIME = set(FAMILIES) - {"pn532"}
SEES_NO_LEAVING = set(FAMILIES) - {"pn532", "scard"}  # Their wire says that a card came, no more.
UIDS_OF_13_MHZ = {"hex_line", "d10", "wiegand_hex", "scard", "pn532", "osdp"}

BANK_CARD = bytes.fromhex("5A1B2C3D")  # Four bytes, fixed: a number like any other.
PHONE = bytes.fromhex("08F1E2D3")


@pytest.fixture(params=FAMILIES)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    made = make_bench(request.param, tmp_path)
    yield made
    made.close()


@pytest.fixture
def family(request: pytest.FixtureRequest, bench: Bench) -> str:
    name: str = request.node.callspec.params["bench"]
    return name


@pytest.fixture
def listener(bench: Bench) -> Iterator[Listener]:
    with bench.listen() as made:
        made.expect(LinkUp)
        yield made


def test_two_cards_in_the_field(bench: Bench, family: str, listener: Listener) -> None:
    """A family that sees both names nobody; the others read each, and never a mixture."""
    first, second = bench.uids
    if isinstance(bench, Pn532Bench):
        bench.device.lay(UidCard(first), UidCard(second))
        assert listener.expect(ReadFailed).failure is Failure.TWO_CARDS
        bench.device.wait_looked(6)
        assert listener.reader.counters().reads == 0
        assert listener.reader.counters().refused == 1
        return
    assert family in ONE_NUMBER_AT_A_TIME
    if isinstance(bench, ScardBench):  # The service shows one card; the other when it has left.
        bench.show(first)
        assert listener.expect(CardRead).uid == first
        bench.service.swap(bench.name, VirtualCard(second))
        assert listener.expect(CardRead).uid == second
        return
    for _ in range(3):  # Over and over, as a reader does that finds now the one, now the other.
        bench.show(first)
        bench.show(second)
    assert [listener.expect(CardRead).uid for _ in range(2)] == [first, second]


def test_two_cards_whose_signals_collide_on_the_wire_are_no_number(tmp_path: Path) -> None:
    """Half of one frame, then another whole one: a card is lost and none is made up."""
    for family in ("id12", "em_desktop", "hex_line", "d10", "d18", "wiegand_bits", "wiegand_hex"):
        (tmp_path / family).mkdir()
        bench = make_bench(family, tmp_path / family)
        assert isinstance(bench, SerialBench)
        with bench.listen() as listener:
            listener.expect(LinkUp)
            first, second = bench.uids
            device: VirtualSerialReader = bench.device
            device.babble(device.encode(first)[:5] + device.encode(second))
            listener.wait_until(lambda: listener.reader.counters().noise_bytes > 0)
            device.tap(first)
            listener.expect(CardRead)
            for event in listener.reader.poll():
                assert isinstance(event, CardRead)
                assert event.uid in (first, second)
        bench.close()


def test_a_card_left_on_the_reader_is_one_read_for_as_long_as_it_lies_there(
    bench: Bench, listener: Listener
) -> None:
    card, fence = bench.uids
    bench.show(card)
    assert listener.expect(CardRead).uid == card
    for said in range(1, 6):
        bench.ahead_ms += REPEAT_MS_MAX // 2
        bench.say_again(card)
        if bench.says_again:
            _wait_for_repeats(listener, said)
        else:
            bench.wait_for_a_beat(listener)
    bench.take_away()
    bench.show(fence)
    assert listener.expect(CardRead).uid == fence
    assert listener.reader.counters().reads == 2


def test_a_card_torn_away_before_it_was_read_is_told_where_it_can_be(
    bench: Bench, family: str, listener: Listener
) -> None:
    card = bench.uids[0]
    if isinstance(bench, Pn532Bench):
        bench.device.leaves_before_it_is_asked(UidCard(card))
        assert listener.expect(ReadFailed).failure is Failure.LEFT_FIELD
    elif isinstance(bench, ScardBench):
        bench.service.transmit_codes = [bench.service.SCARD_W_REMOVED_CARD]
        bench.show(card)
        assert listener.expect(ReadFailed).failure is Failure.LEFT_FIELD
        bench.take_away()
    else:
        assert family in SEES_NO_LEAVING
    assert listener.reader.counters().reads == 0
    bench.show(card)
    assert listener.expect(CardRead).uid == card


def test_a_phone_shows_a_number_that_names_nobody(
    bench: Bench, family: str, listener: Listener
) -> None:
    if family in UIDS_OF_13_MHZ:
        bench.show(PHONE)
        assert listener.expect(ReadFailed).failure is Failure.RANDOM_UID
        assert listener.reader.counters().reads == 0
    else:  # A phone has no 125 kHz, and where all seven bytes are printed it is no UID.
        assert bench.kind is UidKind.PROX125 or family == "d18"


def test_a_phone_left_there_is_refused_once(tmp_path: Path) -> None:
    """It shows another number at each look."""
    bench = Pn532Bench(tmp_path)
    with bench.listen() as listener:
        listener.expect(LinkUp)
        bench.device.lay(UidCard(PHONE, sak=0x20, random_uid=True))
        assert listener.expect(ReadFailed).failure is Failure.RANDOM_UID
        bench.device.wait_looked(12)
        assert listener.reader.counters().refused == 1
    bench.close()


@pytest.mark.parametrize("bench", sorted(UIDS_OF_13_MHZ), indirect=True)  # Not seen at 125 kHz.
def test_a_bank_card_is_a_number_like_any_other_and_proves_nothing(
    bench: Bench, listener: Listener
) -> None:
    """Whose it is, nobody here knows: it is looked up and found unknown."""
    bench.show(BANK_CARD)
    read = listener.expect(CardRead)
    assert read.uid == BANK_CARD
    assert read.tier <= Tier.UID
    assert not read.is_ambiguous


def test_a_bank_card_truncated_by_its_wire_is_another_number(tmp_path: Path) -> None:
    """26 bits of it: never the number it was enrolled with, and never bought with."""
    bench = make_bench("wiegand_bits", tmp_path)
    assert isinstance(bench, SerialBench)
    with bench.listen() as listener:
        listener.expect(LinkUp)
        bench.device.babble(encode(BANK_CARD, 26).encode() + b"\r\n")
        read = listener.expect(CardRead)
        assert read.uid == BANK_CARD[1:]
        assert read.is_ambiguous
    bench.close()


def test_two_cards_told_one_after_the_other_by_osdp_keep_their_order(tmp_path: Path) -> None:
    bench = make_bench("osdp", tmp_path)
    assert isinstance(bench, OsdpBench)
    with bench.listen() as listener:
        listener.expect(LinkUp)
        for uid in (*bench.uids, *bench.uids):
            bench.device.tap(uid)
        assert [listener.expect(CardRead).uid for _ in range(2)] == list(bench.uids)
        _wait_for_repeats(listener, 2)
    bench.close()


def _wait_for_repeats(listener: Listener, count: int) -> None:
    listener.wait_until(lambda: listener.reader.counters().repeats == count)
