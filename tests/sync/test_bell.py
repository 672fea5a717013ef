"""Goal: whoever waits is woken for everything that came, however the ringing falls, and rung twice
costs one wake.

Method: the bell by itself; then a ringing thread that never rests against one that waits, hears and
looks, where a single ring that went lost would let the wait run out.
"""

from __future__ import annotations

import select
import threading
import time
from collections import deque
from collections.abc import Iterator

import pytest

from sync.bell import Bell

THINGS = 20_000
WAIT_MS = 20_000  # Our choice: nothing here takes a second.


@pytest.fixture
def bell() -> Iterator[Bell]:
    made = Bell()
    try:
        yield made
    finally:
        made.close()


def rings(bell: Bell) -> bool:
    return bool(select.select([bell.fileno()], [], [], 0)[0])


def test_rung_often_it_rings_once_and_then_again(bell: Bell) -> None:
    assert not rings(bell)
    for _ in range(3):
        bell.ring()
        bell.ring()
        assert rings(bell)
        bell.hear()
        assert not rings(bell)


class Interrupted:
    """A socket in whose `recv` another thread gets its turn, before or after the bytes went."""

    def __init__(self, bell: Bell, *, before: bool) -> None:
        self._bell, self._before = bell, before
        self._socket = bell._read

    def recv(self, size: int) -> bytes:
        if self._before:
            self._bell.ring()
        data = self._socket.recv(size)
        if not self._before:
            self._bell.ring()
        return data

    def __getattr__(self, name: str) -> object:
        return getattr(self._socket, name)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("rung", [True, False])
def test_a_ring_while_one_hears_silences_no_later_one(
    bell: Bell, monkeypatch: pytest.MonkeyPatch, before: bool, rung: bool
) -> None:
    if rung:
        bell.ring()
    with monkeypatch.context() as patch:
        patch.setattr(bell, "_read", Interrupted(bell, before=before))
        bell.hear()
    bell.ring()  # Whoever heard has looked by now.
    assert rings(bell)


def test_hearing_a_bell_that_is_silent_waits_for_nothing(bell: Bell) -> None:
    bell.hear()
    bell.ring()
    assert rings(bell)


def test_a_closed_bell_can_be_rung_and_heard() -> None:
    bell = Bell()
    bell.close()
    bell.ring()
    bell.hear()


def test_nothing_that_was_rung_for_is_missed(bell: Bell) -> None:
    things: deque[int] = deque()

    def bring() -> None:
        for number in range(THINGS):
            things.append(number)
            bell.ring()

    bringer = threading.Thread(target=bring)
    bringer.start()
    seen, began_s = 0, time.monotonic()
    while seen < THINGS and time.monotonic() - began_s < WAIT_MS / 1000:
        bell.wait(WAIT_MS)
        bell.hear()
        while things:
            assert things.popleft() == seen
            seen += 1
    bringer.join()
    assert seen == THINGS
