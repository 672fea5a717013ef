"""From one reader's settings to a Reader that runs: the only place that knows all drivers.

Drivers are imported when a setting asks for them, so that an agent without a PC/SC reader needs
no pyscard and starts sooner.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from types import MappingProxyType

from edge.model import SetupProblem
from edge.readers.decimal_frame import D10, D18, DecimalFrame
from edge.readers.em_desktop_frame import EmDesktopFrame
from edge.readers.frame import BAUD_MIN, Frame
from edge.readers.hex_line_frame import HexLineFrame
from edge.readers.id12_frame import Id12Frame
from edge.readers.number import NUMBERINGS, ReaderProfile
from edge.readers.proving import CardBook, Prover, ask_activated
from edge.readers.reader import Reader
from edge.readers.wiegand_text_frame import WiegandBitsFrame, WiegandHexFrame
from edge.readers.worker import ReaderWorker, Session, monotonic_ms
from edge.settings import BAUDS, READER_FRAMES, ReaderSettings, reader_problems

FRAMES: Mapping[str, Callable[[ReaderProfile], Frame]] = MappingProxyType(
    {
        "id12": lambda _: Id12Frame(),
        "em_desktop": lambda _: EmDesktopFrame(),
        "hex_line": HexLineFrame,
        "d10": lambda profile: DecimalFrame(D10, profile),
        "d18": lambda profile: DecimalFrame(D18, profile),
        "wiegand_bits": WiegandBitsFrame,
        "wiegand_hex": WiegandHexFrame,
    }
)

assert min(BAUDS) == BAUD_MIN
assert set(READER_FRAMES["serial"]) == set(FRAMES) >= set(READER_FRAMES["wedge"])


def open_reader(
    settings: ReaderSettings,
    *,
    wake: Callable[[], None],
    now_ms: Callable[[], int] = monotonic_ms,
    cards: CardBook | None = None,
    reset: Callable[[], None] | None = None,
) -> Reader:
    """Start the reader; it opens its device by itself and says LinkUp when cards count.

    `wake` is called, from the reader's thread, after something was queued for `poll`; it must
    not block. `now_ms` is the monotonic clock of `CardRead.at_ms`. `cards` is what is held of cards
    that can prove themselves; the reader's thread asks it while a card is in the field. `reset`
    pulses the reset line of a PN532, where one is wired.

    Raises SetupProblem for settings nothing can be opened with, or a driver that is not
    installed. A device that is merely absent is no error: it is a LinkDown.
    """
    for problem in reader_problems(settings):
        found = f"{problem.key} is {problem.found!r}; {problem.do}"
        raise SetupProblem(f"reader {settings.reader_id}: {found}")
    session = _session(settings, cards, now_ms, reset)
    return ReaderWorker(
        reader_id=settings.reader_id,
        session=session,
        wake=wake,
        now_ms=now_ms,
        port=settings.port,
    )


def new_frame(settings: ReaderSettings) -> Frame:
    """A fresh frame for a reader that types; its settings are good."""
    return FRAMES[settings.frame](profile_of(settings))


def profile_of(settings: ReaderSettings) -> ReaderProfile:
    """How this reader prints its numbers; "iso14443" where it can say no other kind."""
    kind = NUMBERINGS[settings.numbering or "iso14443"]
    return ReaderProfile(kind=kind, reversed=settings.reversed)


def _session(
    settings: ReaderSettings,
    cards: CardBook | None,
    now_ms: Callable[[], int],
    reset: Callable[[], None] | None,
) -> Session:
    match settings.driver:
        case "pcsc":
            from edge.readers.pcsc import PcscSession, load_scard

            return PcscSession(settings, scard=load_scard(), cards=cards)
        case "pn532":
            from edge.readers.pn532 import Pn532Session

            prover = Prover(cards, random_bytes=secrets.token_bytes)
            return Pn532Session(
                settings, ask=lambda card: ask_activated(prover, card, now_ms=now_ms), reset=reset
            )
        case "osdp":
            from edge.readers.osdp import OsdpSession, load_key, load_osdp

            return OsdpSession(
                settings,
                library=load_osdp(),
                key=load_key(settings),
                profile=profile_of(settings),
            )
        case "wedge":
            from edge.readers.wedge import WedgeSession

            return WedgeSession(settings, new_frame=lambda: new_frame(settings))
        case _:
            from edge.readers.serial_port import SerialSession

            return SerialSession(settings, new_frame=lambda: new_frame(settings))
