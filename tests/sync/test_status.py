"""Goal: a late will never hides a newer birth, and a device's own end is seen.

Method: every order in which the statuses of three connections can arrive.
"""

from __future__ import annotations

from itertools import permutations

import pytest

from edge.messages import Status
from edge.model import CorruptData
from sync.status import STATUS_BYTES_MAX, birth, is_newer, read_status, will


def status(connection: int, *, online: bool) -> Status:
    make = birth if online else will
    return read_status(make(device="lane-1", boot="b", connection=connection))


def test_birth_and_will_say_the_same_but_for_the_one_word() -> None:
    assert status(4, online=True) == Status(device="lane-1", online=True, boot="b", connection=4)
    assert status(4, online=False) == Status(device="lane-1", online=False, boot="b", connection=4)


def test_whatever_the_order_the_newest_connection_is_shown() -> None:
    everything = [status(c, online=online) for c in (1, 2, 3) for online in (True, False)]
    for count in (5, 6):
        for arrived in permutations(everything[:count]):
            shown: Status | None = None
            for one in arrived:
                if is_newer(one, shown):
                    shown = one
            assert shown == everything[count - 1]


def test_the_same_again_is_not_newer() -> None:
    one = status(1, online=True)
    assert not is_newer(one, one)


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff", b" " * (STATUS_BYTES_MAX + 1)])
def test_what_is_no_status_is_corrupt(data: bytes) -> None:
    with pytest.raises(CorruptData):
        read_status(data)
