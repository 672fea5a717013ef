"""The desk where cards are shown: a reader of any kind, a PC/SC reader to write with, or none real.

A virtual desk belongs to the bench: an installed package names one in the entry-point group
`moskvenok.desks`, and `--virtual CARD` shows model cards to the very code that meets real ones.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import Final, Protocol, cast

from edge.model import DeviceFault, SetupProblem
from edge.readers.dialogue import Evidence, Failure, run
from edge.readers.open_reader import open_reader
from edge.readers.pcsc import PcscSession, Scard, load_scard
from edge.readers.pcsc_desk import PcscDesk
from edge.readers.proving import CardBook, Prover
from edge.readers.reader import CardRead, LinkDown, LinkUp, Reader, ReadFailed
from edge.readers.worker import ReaderWorker, monotonic_ms
from edge.settings import ReaderSettings
from provisioning.device_file import read_reader

DESKS: Final = "moskvenok.desks"  # Named in setup.cfg.
LINK_S_MAX: Final = 10.0  # Our choice: twice the longest reopening delay.
POLL_S: Final = 0.2
BUDGET_MS: Final = 5_000  # Our choice: at a desk nobody queues; a slow card is still a good one.

FAILURE_WORDS: Final[dict[Failure, str]] = {
    Failure.LEFT_FIELD: "it was taken away too early; hold it still until you are told",
    Failure.TWO_CARDS: "there is more than one card; lay down one",
    Failure.READER_ERROR: "the reader could not talk to it; lay it down again",
    Failure.DEADLINE: "it answered too slowly; lay it flat on the middle of the reader",
    Failure.UNKNOWN_FAMILY: "it has no application of ours: a number, and no more",
    Failure.RANDOM_UID: "it shows another number each time (a phone, or a card whose key is not "
    "here); it cannot be enrolled by its number",
    Failure.NO_KEY: "no key is held for it: it is another city's, or was never issued",
    Failure.FACTORY_KEY: "the key held for it is a factory key, known to all; issue it anew",
    Failure.HELD_BACK: "it failed a moment ago; take it away for a second",
    Failure.KEY_VERSION: "its key has another version than the city's list says; issue it anew",
    Failure.WRONG_KEY: "it does not know the city's key: a copy, a blank card, or another city's",
    Failure.CARD_LOCKED: "it refuses to talk after too many wrong keys; it needs replacing",
    Failure.BAD_ANSWER: "it answered what such a card never says; lay it down again, or replace it",
    Failure.BAD_MAC: "what it said was changed under way or made without the key: a copy",
    Failure.REPLAYED: "it repeated an old message: a copy of a message",
    Failure.UNSAFE_CONFIGURATION: "others can change its keys or settings: it was not made safe; "
    "issue it anew",
}
assert set(FAILURE_WORDS) == set(Failure)


class VirtualDesk(Protocol):
    """What an entry point of `moskvenok.desks` makes: `names` are shown one after another."""

    scard: Scard

    def advance(self) -> bool:
        """Take away the card that lies there and lay down the next; False after the last."""
        ...


class Table:
    """Where cards lie: real ones, which a person lays down, or model cards."""

    def __init__(self, virtual: Sequence[str] = ()) -> None:
        self._virtual = _virtual_desk(virtual) if virtual else None

    @property
    def is_virtual(self) -> bool:
        return self._virtual is not None

    def next_card(self) -> None:
        """The next model card; a person with real ones is asked in words."""
        if self._virtual is not None and not self._virtual.advance():
            raise SetupProblem("no model card is left; name one --virtual for each")

    def scard(self) -> Scard:
        return load_scard() if self._virtual is None else self._virtual.scard

    @contextmanager
    def reader(self, spec: str, book: CardBook | None) -> Iterator[Shown]:
        """A reader that is up. `spec` as in `provision --reader`."""
        wake = threading.Event()
        settings = reader_settings(spec or "desk:pcsc")
        reader: Reader
        if self._virtual is not None:
            settings = ReaderSettings(reader_id="desk", driver="pcsc")  # Whatever `spec` says.
            session = PcscSession(settings, scard=self._virtual.scard, cards=book)
            reader = ReaderWorker(reader_id="desk", session=session, wake=wake.set)
        else:
            reader = open_reader(settings, wake=wake.set, cards=book)
        try:
            shown = Shown(reader, wake, settings)
            shown.wait_up()
            yield shown
        finally:
            reader.close()

    def writer(self, prefix: str) -> PcscDesk:
        return PcscDesk("" if self._virtual is not None else prefix, scard=self.scard())


class Shown:
    """Cards one by one, from any reader."""

    def __init__(self, reader: Reader, wake: threading.Event, settings: ReaderSettings) -> None:
        self._reader, self._wake = reader, wake
        self.settings = settings

    def wait_up(self) -> None:
        until_s, reason = time.monotonic() + LINK_S_MAX, "it says nothing"
        while time.monotonic() < until_s:
            for event in self._reader.poll():
                if isinstance(event, LinkUp):
                    return
                if isinstance(event, LinkDown):
                    reason = event.reason
            self._wait()
        raise DeviceFault(f"the reader does not come up: {reason}")

    def next(self, limit_s: float) -> CardRead | ReadFailed | None:
        """The next card; None when none was shown in time. `DeviceFault` when the reader went."""
        until_s = time.monotonic() + limit_s
        while time.monotonic() < until_s:
            for event in self._reader.poll():
                if isinstance(event, CardRead | ReadFailed):
                    return event
                if isinstance(event, LinkDown):
                    raise DeviceFault(event.reason)
            self._wait()
        return None

    def _wait(self) -> None:
        self._wake.wait(POLL_S)
        self._wake.clear()


def prove(desk: PcscDesk, book: CardBook | None) -> Evidence | Failure:
    """One activation of the card that lies there, asked as a lane would ask it."""
    with desk.card() as transmit:
        prover = Prover(book, random_bytes=secrets.token_bytes)
        dialogue = prover.dialogue(now_ms=monotonic_ms())
        return run(dialogue, transmit=transmit, now_ms=monotonic_ms, budget_ms=BUDGET_MS)


def reader_settings(spec: str) -> ReaderSettings:
    """One `--reader`. `SetupProblem` names what cannot be read."""
    table = dict(read_reader(spec))
    names = {"id": "reader_id", "access_point": "access_point_id"}
    return ReaderSettings(**{names.get(key, key): value for key, value in table.items()})


def _virtual_desk(names: Sequence[str]) -> VirtualDesk:
    for entry in entry_points(group=DESKS):
        try:
            return cast(VirtualDesk, entry.load()(names))
        except (ImportError, AttributeError) as error:
            raise SetupProblem(
                f'the virtual desk "{entry.name}" cannot be loaded ({error}); install the package '
                'again with its extra "hil"'
            ) from error
    raise SetupProblem(
        'no virtual desk is installed; run: pip install "moskvenok-edge[hil]", or lay a real card '
        "on a real reader"
    )
