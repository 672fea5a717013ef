"""The miniature's chips: cards that prove something, what imitates them, and other plastic.

They are shown to the PN532 of a place; plain numbers go to its serial reader (`hil/miniature.py`).
Keys come from the city's ceremony file, as a card maker's desk would have them. A chip keeps its
read counter through the whole run and into the next, as a real one does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any, Final

import msgspec

from edge.model import DeviceFault
from edge.readers.watch import REPEAT_MS_MAX
from hil.city.card_keys import open_card_keys
from hil.devices.cards.chip import Chip
from hil.devices.cards.ntag424 import Ntag424Card
from hil.devices.cards.school import SchoolCards
from hil.devices.reader_pn532 import VirtualPn532
from hil.devices.reader_serial import VirtualSerialReader
from hil.layout import PLACES, PROX_SUFFIX, READERS, SEED, SITE, Folder, ReaderPlace
from hil.world.school import make_school

VirtualReader = VirtualSerialReader | VirtualPn532

# What lies on the page's tray, in its order; the others are for the command line.
SHOWN: Final = (
    *("pupil-ev2", "pupil-clone", "pupil-factory"),
    *("guest-sun", "band-aes", "phone", "two-cards"),
)
# Label -> what it is, for the command line and for whoever has no word for it.
WORDS: Final[dict[str, str]] = {
    "pupil-ev2": "DESFire EV2 with a key of its own and a random UID: tier 6",
    "pupil-static": "the same card, showing its real UID: tier 6",
    "pupil-clone": "its copy: the right UID, other keys",
    "pupil-factory": "its copy with factory keys",
    "staff-424": "NTAG 424 with a key of its own: tier 6",
    "clone": "its copy: the right UID, other keys",
    "factory": "its copy with factory keys",
    "copy": "a card with a settable UID that shows the same number",
    "guest-sun": "NTAG 424 wristband with a new message at each read (SUN): tier 4",
    "band-aes": "Ultralight AES wristband: tier 3",
    "classic": "a MIFARE Classic that is enrolled for nobody",
    "phone": "a phone: another number each time",
    "bank": "a bank card",
    "two-cards": "two cards at once",
    "torn": "the DESFire card, taken away while it answers",
}
TORN_AFTER: Final = 4  # Commands answered; eight are a whole tap.
READ_SCREEN_S: Final = REPEAT_MS_MAX / 1000 + 0.2  # Who showed two reads why, and sorts them out.
LOOKS_BETWEEN: Final = 2  # A hand that takes a card away and shows the next leaves a gap.
COUNTS_SPARED: Final = 4  # Reads that one showing can make, and more.


class Tray:
    """Shows cards. The city must have its keys by the first of them."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._lock = threading.Lock()  # One person at a time.
        self._free_s = 0.0  # When the next one stands there.

    def show(self, label: str, reader: VirtualReader) -> None:
        """Hold it to the reader until it was looked at, and take it away. Blocks.

        Raises TimeoutError when nobody looks into the field.
        """
        assert isinstance(reader, VirtualPn532)
        with self._lock:
            time.sleep(max(0.0, self._free_s - time.monotonic()))
            try:
                if label == "torn":
                    reader.lay(self._cards.make("pupil-ev2"), leaves_after=TORN_AFTER)
                else:
                    reader.lay(*self._chips(label))
                reader.wait_looked()
            finally:
                reader.take_away()
            reader.wait_looked(LOOKS_BETWEEN)
            if label == "two-cards":
                self._free_s = time.monotonic() + READ_SCREEN_S

    @cached_property
    def _cards(self) -> SchoolCards:
        keys = open_card_keys(self._folder.city)
        assert keys is not None, "the miniature's city makes cards"
        cards = SchoolCards(make_school(SEED, SITE), keys)
        assert set(WORDS) - {"two-cards", "torn"} == set(cards.names)
        return cards

    @cached_property
    def _guest(self) -> Ntag424Card:
        return self._cards.guest(counter=self._last_counter())

    def _chips(self, label: str) -> tuple[Chip, ...]:
        if label == "two-cards":
            return self._cards.make("bank"), self._cards.make("classic")
        if label == "guest-sun":
            return (self._counting(self._guest),)
        return (self._cards.make(label),)

    def _counting(self, card: Ntag424Card) -> Ntag424Card:
        """On the disk stands a count it has not reached, whatever ends this process."""
        self._folder.tray.write_bytes(msgspec.json.encode(card.counter + COUNTS_SPARED))
        return card

    def _last_counter(self) -> int:
        try:
            return msgspec.json.decode(self._folder.tray.read_bytes(), type=int)
        except FileNotFoundError:
            return 0
        except (OSError, msgspec.MsgspecError) as error:
            raise DeviceFault(f"{self._folder.tray}: {error}; begin anew with --fresh") from error


def virtual_reader(reader: ReaderPlace, folder: Folder) -> VirtualReader:
    path = folder.reader(reader.name)
    if reader.driver == "pn532":
        return VirtualPn532(path)
    return VirtualSerialReader(path, frame=reader.frame)


def on_page(
    label: str, cards: Mapping[str, dict[str, Any]], blocked: Collection[str]
) -> dict[str, Any]:
    """A card as the page's tray shows it; the city knows those of people."""
    card = cards.get(label, {"label": label, "note": WORDS.get(label)})
    return {
        **{key: card.get(key) for key in ("label", "name", "note", "cardholder")},
        "blocked": bool(card.get("hot", label in blocked)),
    }


def uid_of(label: str, frame: str, cards: dict[str, dict[str, Any]]) -> bytes:
    """The number of this card that a reader of this family can read."""
    entry = cards.get(label)
    if frame == "id12":
        entry = cards.get(label + PROX_SUFFIX, entry)
    if entry is None:
        plain = (n for n in cards if n not in WORDS and not n.endswith(PROX_SUFFIX))
        known = ", ".join((*plain, *WORDS))
        raise DeviceFault(f'no card is called "{label}"; there are {known}')
    uid = bytes.fromhex(str(entry["uid"]))
    if (len(uid) == 5) is not (frame == "id12"):
        raise DeviceFault(f'the card "{label}" is of another kind than this reader reads')
    return uid


def reader_for(label: str, at: str) -> ReaderPlace:
    """Where such a card can be shown: one that talks needs a reader that asks."""
    here = [place for place in READERS if place.at == at]
    if not here:
        raise DeviceFault(f'there is no reader "{at}"; there are {", ".join(PLACES)}')
    driver = "pn532" if label in WORDS else "serial"
    for place in here:
        if place.driver == driver:
            return place
    raise DeviceFault(
        f'"{label}" talks, and the reader "{at}" reads plain numbers alone; try in or till'
    )
