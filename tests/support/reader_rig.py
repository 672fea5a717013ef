"""A bench with a real reader: the same suite, and a person who does what the terminal says.

`RIG` names a `device.toml`; its first reader is tried, or the one that `RIG_READER` names. Two
cards are learned first, any two that this reader can read.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from edge.config import load
from edge.model import UidKind
from edge.readers.reader import CardRead, LinkUp
from edge.settings import ReaderSettings
from tests.support.reader_benches import READER_ID, Bench

PERSON_S_MAX = 60.0  # Our choice: to find a card and walk to the reader.


class Person(Protocol):
    """Whose hands are at the reader."""

    def show(self, card: int) -> None:
        """Hold the first or the second card to the reader, or a phone (2), from now on."""
        ...

    def take_away(self) -> None: ...
    def unplug(self) -> None: ...
    def replug(self) -> None: ...

    def confirm(self) -> None:
        """Say when what was asked for last is done."""
        ...


class AtTerminal:
    """A person who reads the terminal that the run was started from."""

    NAMES = ("your first card", "your second card", "a phone, or a card with a random number")

    def show(self, card: int) -> None:
        self._say(f"show {self.NAMES[card]} and hold it there")

    def take_away(self) -> None:
        self._say("take the card away, then press Enter")
        self._enter()

    def unplug(self) -> None:
        self._say("pull the reader's plug")

    def replug(self) -> None:
        self._say("put the reader's plug back")

    def confirm(self) -> None:
        self._say("press Enter when you have")
        self._enter()

    def _say(self, words: str) -> None:
        with Path("/dev/tty").open("w") as terminal:
            print(f"\n   >>> {words}", file=terminal)

    def _enter(self) -> None:
        with Path("/dev/tty").open() as terminal:
            terminal.readline()


class RigBench(Bench):
    """A real reader in a person's hands. What its cards are called is learned once a run."""

    _learned: dict[str, tuple[CardRead, CardRead]] = {}  # noqa: RUF012 - kept between tests.

    def __init__(self, settings: ReaderSettings, person: Person) -> None:
        super().__init__()
        self.settings = settings
        self._person = person
        if settings.port + settings.name not in self._learned:
            self._learned[settings.port + settings.name] = self._learn()
        first, second = self._learned[settings.port + settings.name]
        self.uids = (first.uid, second.uid)
        self.kind, self.tier = first.kind, first.tier
        self.refuses_08 = self.kind is UidKind.ISO14443
        self.begins_with_08 = b"" if self.refuses_08 else first.uid

    def _learn(self) -> tuple[CardRead, CardRead]:
        reads = []
        with self.listen() as listener:
            listener.expect(LinkUp, PERSON_S_MAX)
            for card in range(2):
                self._person.show(card)
                reads.append(listener.expect(CardRead, PERSON_S_MAX))
                self._person.take_away()
        assert reads[0].uid != reads[1].uid, "show two different cards"
        return reads[0], reads[1]

    def show(self, uid: bytes) -> None:
        self._person.show(self.uids.index(uid) if uid in self.uids else 2)

    def take_away(self) -> None:
        self._person.take_away()

    def wait_noticed(self) -> None:
        self._person.confirm()

    def unplug(self) -> None:
        self._person.unplug()

    def replug(self) -> None:
        self._person.replug()

    def close(self) -> None:
        """The reader stays as it is."""


def rig_settings() -> ReaderSettings:
    """The reader that RIG and RIG_READER name, under the suite's own id."""
    readers = load(Path(os.environ["RIG"])).readers
    wanted = os.environ.get("RIG_READER", readers[0].reader_id)
    (found,) = [reader for reader in readers if reader.reader_id == wanted]
    return replace(found, reader_id=READER_ID)
