"""Goal: a connection that is not to be believed any more is named with its reason, and one that is
well never is.

Method: the pulse by itself at each limit and a millisecond before it, for every cause.
"""

from __future__ import annotations

import pytest

from sync.pulse import STUCK_MS, Pulse

CONNECT_MS, KEEPALIVE_S = 20_000, 40  # Two keepalives are more than a stuck thread is given.


def pulse(*, beat_ms: int = 0, heard_ms: int = 0, resting: bool = False) -> Pulse:
    return Pulse(
        started_ms=0,
        connect_ms_max=CONNECT_MS,
        keepalive_s=KEEPALIVE_S,
        beat_ms=beat_ms,
        heard_ms=heard_ms,
        resting=resting,
    )


def test_a_connection_that_is_not_made_has_so_long() -> None:
    assert pulse().problem(CONNECT_MS - 1, connected=False) == ""
    assert pulse().problem(CONNECT_MS, connected=False) == "no connection after 20000 ms"


def test_a_thread_that_makes_no_turn_is_stuck() -> None:
    assert pulse(heard_ms=STUCK_MS).problem(STUCK_MS - 1, connected=True) == ""
    stuck = pulse(heard_ms=STUCK_MS).problem(STUCK_MS, connected=True)
    assert stuck == "it was not turned for 30000 ms"


@pytest.mark.parametrize("resting", [False, True])
def test_a_broker_that_is_not_heard_is_gone_unless_we_do_not_listen(resting: bool) -> None:
    now_ms = 2 * 1000 * KEEPALIVE_S
    one = pulse(beat_ms=now_ms, resting=resting)
    assert one.problem(now_ms - 1, connected=True) == ""
    assert one.problem(now_ms, connected=True) == ("" if resting else "nothing heard for 80 s")
