"""Lay a model card against a dialogue, without a reader, and change what passes between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from edge.readers.dialogue import ANSWER_SIZE_MAX, Dialogue, Evidence, Failure, run
from edge.readers.secure_channel import Step
from hil.devices.cards.chip import Chip

STATUS_SIZE = 2

T = TypeVar("T")

Change = Callable[[int, bytes], bytes]  # The number of an answer, and the answer.


def lay(card: Chip) -> bytes:
    """Bring the card into the field: the UID that the anticollision shows this time."""
    card.power(on=True)
    return card.uid


def talk(
    dialogue: Dialogue,
    card: Chip,
    *,
    change: Change | None = None,
    heard: list[tuple[bytes, bytes]] | None = None,
) -> Evidence | Failure:
    """Run a dialogue against a card in the field. `heard` collects command and true answer."""
    count = 0

    def transmit(command: bytes) -> bytes:
        nonlocal count
        answer = card.apdu(command)
        if heard is not None:
            heard.append((command, answer))
        changed = answer if change is None else change(count, answer)
        count += 1
        return changed

    return run(dialogue, transmit=transmit, now_ms=lambda: 0)


def saying(answers: list[bytes]) -> Callable[[bytes], bytes]:
    """A card that says just this, whatever it is asked."""
    script = iter(answers)
    return lambda command: next(script)


class Turncoat:
    """A card that answers truly `honest` times, then says what it was given to say."""

    def __init__(self, card: Chip, *, honest: int, script: list[bytes]) -> None:
        self.last = b""  # The command it was last asked.
        self._card = card
        self._honest_left = honest
        self._script = iter(script)

    @property
    def honest(self) -> bool:
        return self._honest_left >= 0

    def __call__(self, command: bytes) -> bytes:
        self.last = command
        self._honest_left -= 1
        true = self._card.apdu(command)
        return true if self.honest else next(self._script, b"")


def follow(step: Step[T], *exchanges: tuple[str, str]) -> T | Failure:
    """Play recorded answers to a part of a dialogue, and hold it to the recorded commands."""
    answer: bytes | None = None
    for command, reply in exchanges:
        said = next(step) if answer is None else step.send(answer)
        assert said == bytes.fromhex(command), said.hex()
        answer = bytes.fromhex(reply)
    assert answer is not None
    try:
        step.send(answer)
    except StopIteration as ended:
        outcome: T | Failure = ended.value
        return outcome
    raise AssertionError("it has more to say than was recorded")


def flips(answers: list[bytes]) -> Iterator[tuple[int, int, Change]]:
    """Every single bit of every answer: its place, and the change that turns it over."""
    for number, answer in enumerate(answers):
        for bit in range(8 * len(answer)):
            yield number, bit, _flip(number, bit)


def _flip(number: int, bit: int) -> Change:
    def change(count: int, answer: bytes) -> bytes:
        if count != number or bit // 8 >= len(answer):
            return answer
        turned = bytearray(answer)
        turned[bit // 8] ^= 0x80 >> bit % 8
        return bytes(turned)

    return change


def cuts(answers: list[bytes]) -> Iterator[Change]:
    """Every answer cut short at every byte, with and without its status, and made too long."""
    for number, answer in enumerate(answers):
        for size in range(len(answer)):
            yield _replace(number, answer[:size])
        for size in range(len(answer) - STATUS_SIZE):
            yield _replace(number, answer[:size] + answer[-STATUS_SIZE:])
        yield _replace(number, bytes(16) + answer)
        yield _replace(number, answer + b"\x00")
        yield _replace(number, answer * (1 + ANSWER_SIZE_MAX // len(answer)))


def _replace(number: int, other: bytes) -> Change:
    return lambda count, answer: other if count == number else answer
