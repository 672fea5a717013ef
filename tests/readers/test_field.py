"""Goal: a card is news once, two cards name nobody, and what a wallet leaves behind for a moment is
no read.

Method: examples of what people do, in looks of 60 ms; then any walk of cards through the field is
compared with the rule said in other words. Time is an argument.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.readers.field import Field, OneCard, SeveralCards
from edge.readers.watch import REPEAT_MS_MAX

LOOK_MS = 60
A = bytes.fromhex("04A1B2C3D4E580")
B = bytes.fromhex("DEADBEEF")
PHONES = [bytes([0x08, n, n, n]) for n in range(1, 9)]


def walk(*looks: tuple[bytes, ...], field: Field | None = None) -> list[object]:
    """What was news, in order, of one look after the other."""
    field = Field() if field is None else field
    news = [field.look(uids, now_ms=at * LOOK_MS) for at, uids in enumerate(looks)]
    return [found for found in news if found is not None]


def for_s(seconds: float, *uids: bytes) -> list[tuple[bytes, ...]]:
    return [uids] * round(seconds * 1_000 / LOOK_MS)


def test_a_card_left_lying_is_news_once() -> None:
    assert walk(*for_s(60, A)) == [OneCard(uid=A)]


def test_a_card_that_flutters_at_the_edge_is_news_once() -> None:
    assert walk(*(for_s(0.1, A) + for_s(0.5)) * 10) == [OneCard(uid=A)]


def test_a_card_that_was_away_is_news_again() -> None:
    assert walk(*for_s(1, A), *for_s(1.2), *for_s(1, A)) == 2 * [OneCard(uid=A)]


def test_cards_one_after_the_other_are_each_news() -> None:
    assert walk((A,), (B,), (A,), (B,)) == [OneCard(uid=A), OneCard(uid=B)]


def test_a_phone_is_one_stranger_however_many_ids_it_shows() -> None:
    assert walk(*((phone,) for phone in PHONES)) == [OneCard(uid=PHONES[0])]


def test_two_cards_are_news_once_and_name_nobody() -> None:
    assert walk(*for_s(10, A, B)) == [SeveralCards()]


def test_what_a_wallet_leaves_for_a_moment_when_it_is_taken_away_is_no_read() -> None:
    assert walk(*for_s(1, A, B), *for_s(0.2, B), *for_s(2)) == [SeveralCards()]


def test_the_card_that_is_left_of_two_is_read_when_it_has_lain_alone() -> None:
    news = walk(*for_s(1, A, B), *for_s(0.9, B))
    assert news == [SeveralCards()]
    assert walk(*for_s(1, A, B), *for_s(1.2, B)) == [SeveralCards(), OneCard(uid=B)]


def test_a_card_left_lying_is_not_read_again_when_another_comes_and_goes() -> None:
    looks = [*for_s(1, A), *for_s(2, A, B), *for_s(5, A)]
    assert walk(*looks) == [OneCard(uid=A), SeveralCards()]


def test_a_card_that_left_before_it_was_asked_is_news_again_and_told_once() -> None:
    field = Field()
    told = []
    for at in range(5):
        assert field.look((A,), now_ms=at * LOOK_MS) == OneCard(uid=A)
        told.append(field.left(A, now_ms=at * LOOK_MS))
    assert told == [True, False, False, False, False]
    assert field.look((A,), now_ms=5 * LOOK_MS) == OneCard(uid=A)
    assert field.look((A,), now_ms=6 * LOOK_MS) is None


@given(st.lists(st.sampled_from([(), (A,), (B,), (A, B)]), max_size=60))
def test_a_card_is_news_only_if_it_and_any_pair_were_away(looks: list[tuple[bytes, ...]]) -> None:
    field = Field()
    for at, uids in enumerate(looks):
        news = field.look(uids, now_ms=at * LOOK_MS)
        recent = looks[max(0, at - REPEAT_MS_MAX // LOOK_MS) : at]
        if len(uids) == 2:
            assert (news is not None) is ((A, B) not in recent)
        elif news is not None:
            assert news == OneCard(uid=uids[0])
            assert (A, B) not in recent
            assert uids not in recent


def test_uids_are_not_in_the_repr() -> None:
    assert A.hex() not in repr(OneCard(uid=A)).lower()
