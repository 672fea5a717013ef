"""Goal: a dead neighbour's facts are brought to the city once it has been silent for long enough,
one batch at a time, until the city has them; and nobody else's are.

Method: the kernel in virtual time; each wait tried just before and just after.
"""

from __future__ import annotations

from edge.messages import Ack, Stream
from sync.hand_in import ANSWER_MS, DEAD_MS, REFUSED_MS, HandIn

OTHER, EPOCH = "till-2", "e1"
KEY = (OTHER, EPOCH)


def ack(up_to: int, *, device: str = OTHER, problem: str = "", epoch: str = EPOCH) -> Ack:
    return Ack(device=device, stream=Stream.MAIN, epoch=epoch, up_to=up_to, problem=problem)


def silent() -> HandIn:
    """Heard at 0, and never since."""
    kernel = HandIn()
    kernel.alive([OTHER], heard=[OTHER], now_ms=0)
    kernel.alive([OTHER], heard=[], now_ms=DEAD_MS)
    return kernel


def test_only_who_has_been_silent_for_long_is_dead() -> None:
    kernel = HandIn()
    kernel.alive([OTHER], heard=[], now_ms=0)  # Never heard: since this process began.
    assert kernel.due({KEY: 9}, {}, now_ms=DEAD_MS - 1) == []
    assert kernel.due({KEY: 9}, {}, now_ms=DEAD_MS) == [(OTHER, EPOCH, 0)]
    kernel.alive([OTHER], heard=[OTHER], now_ms=DEAD_MS)
    assert kernel.due({KEY: 9}, {}, now_ms=DEAD_MS) == []
    # Off the roster nobody else will ever bring it.
    kernel.alive([], heard=[], now_ms=DEAD_MS)
    assert kernel.due({KEY: 9}, {}, now_ms=DEAD_MS) == [(OTHER, EPOCH, 0)]


def test_what_the_base_has_is_not_brought() -> None:
    kernel = silent()
    assert kernel.due({KEY: 9}, {KEY: 4}, now_ms=DEAD_MS) == [(OTHER, EPOCH, 4)]
    assert kernel.due({KEY: 9}, {KEY: 9}, now_ms=DEAD_MS) == []


def test_one_batch_follows_the_other_by_the_citys_word() -> None:
    kernel, now_ms = silent(), DEAD_MS
    assert kernel.due({KEY: 9}, {}, now_ms=now_ms)
    kernel.sent(OTHER, EPOCH, now_ms=now_ms)
    assert kernel.due({KEY: 9}, {}, now_ms=now_ms + ANSWER_MS - 1) == []
    assert kernel.due({KEY: 9}, {}, now_ms=now_ms + ANSWER_MS) == [(OTHER, EPOCH, 0)]
    assert kernel.acknowledged(ack(5), now_ms=now_ms)
    assert kernel.due({KEY: 9}, {}, now_ms=now_ms) == [(OTHER, EPOCH, 5)]
    assert kernel.acknowledged(ack(9), now_ms=now_ms)
    assert kernel.due({KEY: 9}, {}, now_ms=now_ms) == []


def test_a_city_that_will_not_have_it_is_asked_now_and_then() -> None:
    kernel = silent()
    for refuse in (
        lambda: kernel.acknowledged(ack(0, problem="fork"), now_ms=DEAD_MS),
        lambda: kernel.cannot(OTHER, EPOCH, now_ms=DEAD_MS),
    ):
        kernel.disconnected()
        assert kernel.due({KEY: 9}, {}, now_ms=DEAD_MS)
        refuse()
        assert kernel.due({KEY: 9}, {}, now_ms=DEAD_MS + REFUSED_MS - 1) == []
        assert kernel.due({KEY: 9}, {}, now_ms=DEAD_MS + REFUSED_MS)


def test_words_on_what_was_never_brought_are_none_of_it() -> None:
    kernel = silent()
    assert not kernel.acknowledged(ack(5), now_ms=0)
    kernel.due({KEY: 9}, {}, now_ms=DEAD_MS)
    assert not kernel.acknowledged(ack(5, epoch="e2"), now_ms=0)
    assert not kernel.acknowledged(ack(5, device="till-3"), now_ms=0)
