"""PINs of staff: made and checked as argon2id (RFC 9106) in PHC text, in a thread of its own.

Checking takes a good part of a second on a Raspberry Pi and is meant to, so it never runs in the
agent's thread: `PinChecker` has a worker, a queue that holds one question, and calls `wake` when an
answer waits. A PIN has few digits: what keeps it is that it is worth nothing without the card, that
the hash is sealed under the scope's key, and that a few wrong ones lock (`edge/signing_in.py`). The
hash keeps a copied and opened list from being read like a list of PINs.

Beside `trust` and the card dialogues the one user of `cryptography`.
"""

from __future__ import annotations

import os
import queue
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from edge.model import CorruptData

PIN_DIGITS_MIN: Final = 4
PIN_DIGITS_MAX: Final = 8
PIN: Final = re.compile(rf"[0-9]{{{PIN_DIGITS_MIN},{PIN_DIGITS_MAX}}}")

# OWASP Password Storage Cheat Sheet, argon2id: 19 MiB, two passes, one lane. RFC 9106 would rather
# have 64 MiB, which a Pi of 1 GB that also runs edge (60 MB), sync (60 MB) and a browser has to
# take from its page cache. Measured on a server's core: 22 ms. A Cortex-A53 computes a tenth of
# that, so a Pi 3 is expected below 0.3 s and a Pi 4 below 0.15 s.
MEMORY_KIB: Final = 19 * 1024
PASSES: Final = 2
LANES: Final = 1
SALT_BYTES: Final = 16  # RFC 9106, 3.1: recommended for passwords.
HASH_BYTES: Final = 32

# What a list may ask of this device. Our choice: 64 MiB (RFC 9106) once, or four times the work
# of ours in smaller pieces; more would let one row of a list take the device from its taps.
MEMORY_KIB_MAX: Final = 64 * 1024
WORK_KIB_MAX: Final = 4 * MEMORY_KIB * PASSES
LANES_MAX: Final = 4
PHC_CHARS_MAX: Final = 256
assert MEMORY_KIB <= MEMORY_KIB_MAX <= WORK_KIB_MAX
PHC: Final = re.compile(
    r"\$argon2id\$v=19\$m=(\d{1,6}),t=(\d{1,3}),p=(\d{1,2})\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{22,86}"
)

WAITING_MAX: Final = 1  # A station has one dialogue, and that has one PIN.
JOIN_S: Final = 5.0  # Our choice: ten times the slowest check.


def is_pin(text: object) -> bool:
    """Four to eight digits, and nothing else."""
    return isinstance(text, str) and PIN.fullmatch(text) is not None


def hash_pin(pin: str) -> str:
    """A new PIN as PHC text: `$argon2id$v=19$m=19456,t=2,p=1$salt$hash`."""
    assert is_pin(pin)
    return Argon2id(
        salt=os.urandom(SALT_BYTES),
        length=HASH_BYTES,
        iterations=PASSES,
        lanes=LANES,
        memory_cost=MEMORY_KIB,
    ).derive_phc_encoded(pin.encode())


def check_pin(pin: str, phc: str) -> bool:
    """Whether it is this PIN; `CorruptData` for a hash that is none, or that asks too much."""
    found = PHC.fullmatch(phc) if len(phc) <= PHC_CHARS_MAX else None
    if found is None:
        raise CorruptData("a PIN whose hash is no argon2id text")
    memory_kib, passes, lanes = (int(number) for number in found.groups())
    if memory_kib > MEMORY_KIB_MAX or memory_kib * passes > WORK_KIB_MAX or lanes > LANES_MAX:
        raise CorruptData(f"a PIN whose hash asks for {memory_kib} KiB {passes} times")
    try:
        Argon2id.verify_phc_encoded(pin.encode(), phc)
    except InvalidKey:
        return False
    except ValueError as error:  # Fewer than 8 KiB a lane, a base64 that does not end.
        raise CorruptData("a PIN whose hash cannot be computed") from error
    return True


@dataclass(frozen=True, slots=True)
class PinAnswer:
    """Of one question, by its number. `ok` None: the hash on the list is of no use."""

    number: int
    ok: bool | None


class PinDesk(Protocol):
    """Who checks PINs for the agent."""

    def ask(self, number: int, pin: str, phc: str) -> bool:
        """Take a question on; False when one is being answered still."""

    def poll(self) -> list[PinAnswer]:
        """Answers that wait, without blocking."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Question:
    number: int
    pin: str = field(repr=False)
    phc: str = field(repr=False)


class PinChecker:
    """The worker; its thread begins with the first question. One question at a time."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._questions: queue.Queue[_Question | None] = queue.Queue(WAITING_MAX)
        self._answers: queue.SimpleQueue[PinAnswer] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def ask(self, number: int, pin: str, phc: str) -> bool:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="pin", daemon=True)
            self._thread.start()
        try:
            self._questions.put_nowait(_Question(number, pin, phc))
        except queue.Full:
            return False
        return True

    def poll(self) -> list[PinAnswer]:
        answers = []
        while True:
            try:
                answers.append(self._answers.get_nowait())
            except queue.Empty:
                return answers

    def close(self) -> None:
        if self._thread is None:
            return
        self._questions.put(None)
        self._thread.join(JOIN_S)
        self._thread = None

    def _work(self) -> None:
        while (question := self._questions.get()) is not None:
            ok: bool | None
            try:
                ok = check_pin(question.pin, question.phc)
            except (CorruptData, MemoryError):
                ok = None
            self._answers.put(PinAnswer(question.number, ok))
            self._wake()
