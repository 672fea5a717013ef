"""One bench per reader family: a virtual reader, a person in front of it, and the real driver.

The contract suite and the tests of what happens at a reader run over all of them.
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.model import UidKind
from edge.readers.open_reader import new_frame, open_reader
from edge.readers.pcsc import PcscSession, load_scard
from edge.readers.pn532 import Pn532Session
from edge.readers.reader import Reader
from edge.readers.wedge import WedgeSession
from edge.readers.worker import ReaderWorker, Session, monotonic_ms
from edge.settings import ReaderSettings
from hil.devices.cards.chip import UidCard
from hil.devices.pcsc_stack import PcscStack
from hil.devices.reader_listener import Listener
from hil.devices.reader_osdp import KEY, VirtualOsdpReader
from hil.devices.reader_pn532 import VirtualPn532
from hil.devices.reader_scard import VirtualScard
from hil.devices.reader_serial import VirtualSerialReader
from hil.devices.reader_wedge import VirtualWedge, grab_virtual
from hil.devices.vpcd_card import VirtualCard, VpcdSlot

POWERED_S_MAX = 5.0
READER_ID = "north-in"


class Bench:
    """One kind of reader with a person in front of it. Plugged in when made."""

    kind = UidKind.ISO14443
    tier = 1
    uids = (bytes.fromhex("04A1B2C3D4E580"), bytes.fromhex("DEADBEEF"))
    begins_with_08 = bytes.fromhex("08A1B2C3")
    refuses_08 = True  # Numbers that begin so may be random ids here.
    says_again = False  # A card that lies there is said over and over.
    older_ms_max = 100  # Than the moment it was shown, at most, a read may say it is.
    settings: ReaderSettings

    def __init__(self) -> None:
        self.ahead_ms = 0

    def now_ms(self) -> int:
        return monotonic_ms() + self.ahead_ms

    def listen(self) -> Listener:
        return Listener(self.open)

    def open(self, wake: Callable[[], None]) -> Reader:
        return open_reader(self.settings, wake=wake, now_ms=self.now_ms)

    def run(self, session: Session, wake: Callable[[], None]) -> Reader:
        """For sessions that a setting alone cannot open."""
        return ReaderWorker(reader_id=READER_ID, session=session, wake=wake, now_ms=self.now_ms)

    def show(self, uid: bytes) -> None:
        raise NotImplementedError

    def say_again(self, uid: bytes) -> None:
        """The card still lies there; a reader that repeats says so."""

    def take_away(self) -> None:
        """The card leaves the field."""

    def wait_noticed(self) -> None:
        """Until the reader has the card that was shown, though nobody may be listening."""

    def wait_for_a_beat(self, listener: Listener) -> None:
        """Until the reader has lived on by this bench's clock."""
        now_ms = self.now_ms()
        listener.wait_until(lambda: listener.reader.alive_ms > now_ms)

    def unplug(self) -> None:
        raise NotImplementedError

    def replug(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.unplug()


class SerialBench(Bench):
    says_again = True

    def __init__(self, folder: Path, *, frame: str) -> None:
        super().__init__()
        self.device = VirtualSerialReader(folder / "reader", frame=frame)
        self.settings = ReaderSettings(
            reader_id=READER_ID,
            driver="serial",
            port=str(self.device.path),
            frame=frame,
            numbering={"d10": "iso14443", "d18": "iso14443", "wiegand_hex": "iso14443"}.get(
                frame, "prox125" if frame == "wiegand_bits" else ""
            ),
        )
        match frame:
            case "id12" | "em_desktop":
                self._numbers("62E3086CED", "0A00001234", "08A1B2C3D4", tier=0)
            case "wiegand_bits":
                self._numbers("D41B81", "0A1234", "08A1B2", tier=0)
            case "wiegand_hex":
                self._numbers("89D41B81", "DEADBEEF", "08A1B2C3", kind=UidKind.ISO14443, tier=0)
            case "d10":
                self._numbers("89D41B81", "DEADBEEF", "08A1B2C3", kind=UidKind.ISO14443, tier=1)
            case "d18":  # All seven bytes are printed, and such a UID is never random.
                self._numbers(
                    *("04A1B2C3D4E580", "04FFEEDDCCBBAA", "08A1B2C3D4E580"),
                    kind=UidKind.ISO14443,
                    tier=1,
                )
                self.refuses_08 = False
            case _:
                pass  # The UIDs of any bench.

    def _numbers(
        self, card: str, other: str, from_08: str, *, tier: int, kind: UidKind = UidKind.PROX125
    ) -> None:
        self.uids = (bytes.fromhex(card), bytes.fromhex(other))
        self.begins_with_08 = bytes.fromhex(from_08)
        self.kind, self.tier = kind, tier
        self.refuses_08 = kind is UidKind.ISO14443

    def show(self, uid: bytes) -> None:
        self.device.tap(uid)

    def say_again(self, uid: bytes) -> None:
        self.device.tap(uid)

    def unplug(self) -> None:
        self.device.unplug()

    def replug(self) -> None:
        self.device.replug()


class WedgeBench(Bench):
    says_again = True
    kind, tier = UidKind.PROX125, 0
    uids = (bytes.fromhex("E3086CED"), bytes.fromhex("00001234"))
    refuses_08 = False

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.device = VirtualWedge(folder / "keyboard", frame="d10")
        self.settings = ReaderSettings(
            reader_id=READER_ID,
            driver="wedge",
            port=str(self.device.path),
            frame="d10",
            numbering="prox125",
        )

    def open(self, wake: Callable[[], None]) -> Reader:
        session = WedgeSession(
            self.settings, new_frame=lambda: new_frame(self.settings), grab=grab_virtual
        )
        return self.run(session, wake)

    def show(self, uid: bytes) -> None:
        self.device.tap(uid)

    def say_again(self, uid: bytes) -> None:
        self.device.tap(uid)

    def unplug(self) -> None:
        self.device.unplug()

    def replug(self) -> None:
        self.device.replug()


class ScardBench(Bench):
    name = "Virtual PCD 00 00"

    def __init__(self) -> None:
        super().__init__()
        self.service = VirtualScard(self.name, "Other 00 00")
        self.settings = ReaderSettings(reader_id=READER_ID, driver="pcsc", name="Virtual")

    def open(self, wake: Callable[[], None]) -> Reader:
        return self.run(PcscSession(self.settings, scard=self.service), wake)

    def show(self, uid: bytes) -> None:
        self.service.insert(self.name, VirtualCard(uid))

    def take_away(self) -> None:
        self.service.remove(self.name)

    def unplug(self) -> None:
        self.service.unplug(self.name)

    def replug(self) -> None:
        self.service.replug(self.name)


class VpcdBench(Bench):
    """A real pcscd. Its readers cannot be unplugged, so it is pcscd that goes and comes."""

    def __init__(self, stack: PcscStack) -> None:
        super().__init__()
        self._stack = stack
        self._slot = VpcdSlot()
        self._card = VirtualCard(b"")
        self.settings = ReaderSettings(reader_id=READER_ID, driver="pcsc", name="Virtual PCD")

    def show(self, uid: bytes) -> None:
        self._card = VirtualCard(uid)
        self._slot.insert(self._card)

    def take_away(self) -> None:
        """Until pcscd has seen it: it looks a few times a second, and a card that is swapped
        between two looks may be met while it is being changed."""
        self._slot.remove()
        self._wait_empty()

    def wait_noticed(self) -> None:
        assert self._card.was_powered.wait(POWERED_S_MAX)

    def unplug(self) -> None:
        self._slot.remove()
        self._stack.stop()

    def replug(self) -> None:
        self._stack.start()

    def _wait_empty(self) -> None:
        scard = load_scard()
        _, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM)
        try:
            _, names = scard.SCardListReaders(context, [])
            asked = [(name, scard.SCARD_STATE_UNAWARE) for name in names]
            until_s = time.monotonic() + POWERED_S_MAX
            while time.monotonic() < until_s:
                _, states = scard.SCardGetStatusChange(context, 0, asked)
                if not any(state & scard.SCARD_STATE_PRESENT for _, state, *_ in states):
                    return
                time.sleep(0.005)
        finally:
            scard.SCardReleaseContext(context)
        raise TimeoutError("pcscd goes on seeing a card that was taken away")


class Pn532Bench(Bench):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.device = VirtualPn532(folder / "reader")
        self.settings = ReaderSettings(
            reader_id=READER_ID, driver="pn532", port=str(self.device.path)
        )

    def open(self, wake: Callable[[], None]) -> Reader:
        return self.run(Pn532Session(self.settings), wake)

    def wait_for_a_beat(self, listener: Listener) -> None:
        super().wait_for_a_beat(listener)
        self.device.wait_looked(2)  # The one that was under way, and a whole one after it.

    def show(self, uid: bytes) -> None:
        self.device.take_away()
        self.device.lay(UidCard(uid))

    def take_away(self) -> None:
        self.device.take_away()

    def unplug(self) -> None:
        self.device.take_away()
        self.device.unplug()

    def replug(self) -> None:
        self.device.replug()


class OsdpBench(Bench):
    says_again = True
    older_ms_max = 1_200  # One answer lost and asked for again, which a busy machine may cause.

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.device = VirtualOsdpReader(folder / "reader")
        key_file = folder / "reader.key"
        key_file.write_text(KEY.hex() + "\n")
        key_file.chmod(0o600)
        self.settings = ReaderSettings(
            reader_id=READER_ID,
            driver="osdp",
            port=str(self.device.path),
            frame="uid",
            key_file=str(key_file),
        )

    def wait_for_a_beat(self, listener: Listener) -> None:
        super().wait_for_a_beat(listener)
        self.device.wait_asked()  # The age of a card is counted from the answer before it.

    def show(self, uid: bytes) -> None:
        self.device.tap(uid)

    def say_again(self, uid: bytes) -> None:
        self.device.tap(uid)

    def unplug(self) -> None:
        self.device.unplug()

    def replug(self) -> None:
        self.device.replug()

    def close(self) -> None:
        self.device.close()


SERIAL_FRAMES = ("id12", "em_desktop", "hex_line", "d10", "d18", "wiegand_bits", "wiegand_hex")
FAMILIES = (*SERIAL_FRAMES, "wedge", "scard", "pn532", "osdp")


def make_bench(family: str, folder: Path) -> Bench:
    """The bench of one of `FAMILIES`."""
    match family:
        case "wedge":
            return WedgeBench(folder)
        case "scard":
            return ScardBench()
        case "pn532":
            return Pn532Bench(folder)
        case "osdp":
            need_libosdp()
            return OsdpBench(folder)
        case _:
            return SerialBench(folder, frame=family)


def need_libosdp() -> None:
    """Skip where libosdp is not installed; where everything must run, that is a failure."""
    if importlib.util.find_spec("osdp_sys") is None:
        missing = 'libosdp is not installed; run: pip install "moskvenok-edge[osdp]"'
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
