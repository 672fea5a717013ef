"""A virtual PN532 on a pty: chip, field and cards, with an own reading of the manual.

Written from NXP UM0701-02 (frames 6.2.1, commands 7.2 and 7.3) and ISO/IEC 14443-4, not from
nfcpy, which drives it: each checks the other. Of the chip it plays what a reader of type A cards
needs. Its line has a speed of its own, as the real one has: a host at another speed is not
understood and hears rubbish. A card is any `VirtualCard`; chips of `hil/devices/cards` answer with
their own commands, by ISO-DEP where their SAK says so.
"""

from __future__ import annotations

import os
import select
import termios
import threading
import time
from pathlib import Path

from hil.devices.cards.chip import Chip, UidCard
from hil.devices.cards.ultralight import Ultralight
from hil.devices.reader_serial import VirtualPort
from hil.devices.vpcd_card import VirtualCard

ACK = bytes.fromhex("0000FF00FF00")
NACK = bytes.fromhex("0000FFFF0000")
SYNTAX_ERROR = bytes.fromhex("0000FF01FF7F8100")
HOST, CHIP = 0xD4, 0xD5
WAKE_SIZE = 5  # Of our choice: so many bytes before a frame wake a sleeping chip.
SPEEDS = (9_600, 19_200, 38_400, 57_600, 115_200, 230_400, 460_800, 921_600)
SPEED_OF = {getattr(termios, f"B{speed}"): speed for speed in SPEEDS}
SPEED_AT_RESET = 115_200
RX_MODE = 0x6303  # A CIU register; bit 7: check and strip the CRC of what a card says.
FIFO_DATA, REQA = 0x6339, 0x26
TIMEOUT = 0x01
LIST = 0x4A
ISO_DEP = 0x20
SAK_OF = {"native": 0x00, "iso_dep": ISO_DEP}
SEEN_S_MAX = 5.0
ATS = bytes.fromhex("067577810280")  # A DESFire's: frames of 64 bytes, FWI 8.
CARD_FRAME_SIZE = 64


def frame(body: bytes) -> bytes:
    """A frame around TFI and data, the long form where the short one cannot."""
    if len(body) < 256:
        head = bytes([len(body), -len(body) % 256])
    else:
        size = len(body).to_bytes(2, "big")
        head = b"\xff\xff" + size + bytes([-sum(size) % 256])
    return b"\x00\x00\xff" + head + body + bytes([-sum(body) % 256, 0])


def crc_a(data: bytes) -> bytes:
    """ISO/IEC 13239 as type A starts it (ISO/IEC 14443-3, annex B)."""
    crc = 0x6363
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x8408 if crc & 1 else 0)
    return crc.to_bytes(2, "little")


def sak_of(card: VirtualCard) -> int:
    if isinstance(card, UidCard):
        return card.sak
    if isinstance(card, Ultralight):
        return SAK_OF["native"]
    return SAK_OF["iso_dep"]


class InField:
    """One card in the field, and its side of ISO/IEC 14443-4."""

    def __init__(
        self,
        card: VirtualCard,
        *,
        leaves_after: int | None = None,
        looks_left: int | None = None,
    ) -> None:
        self.card = card
        self.looks_left = looks_left  # So many searches find it, then it is gone.
        self.leaves_after = leaves_after  # So many commands are answered, then it is gone.
        self.sak = sak_of(card)
        self._received = b""
        self._to_send = b""
        self._last = b""
        self._iso_dep = False

    def power(self, on: bool) -> None:
        self.card.power(on)
        self._received = self._to_send = self._last = b""
        self._iso_dep = False

    def hears(self, command: bytes) -> bytes | None:
        """Its answer without CRC; None when it says nothing."""
        if not self.sak & ISO_DEP:
            return self._answer(command)
        if not self._iso_dep:
            if command[:1] != b"\xe0":
                return None
            self._iso_dep = True
            return ATS
        return self._block(command)

    def _answer(self, command: bytes) -> bytes | None:
        if self.leaves_after is not None:
            if self.leaves_after == 0:
                return None
            self.leaves_after -= 1
        if isinstance(self.card, Chip):
            return self.card.answer(command)
        return self.card.apdu(command)

    @property
    def is_gone(self) -> bool:
        return self.leaves_after == 0

    def _block(self, block: bytes) -> bytes | None:
        control = block[0]
        if control & 0xE2 == 0x02:  # I-block.
            self._received += block[1:]
            if control & 0x10:
                return self._say(bytes([0xA2 | control & 1]))
            command, self._received = self._received, b""
            answer = self._answer(command)
            if answer is None:
                return None
            self._to_send = answer
            return self._next(control & 1)
        if control & 0xF6 == 0xB2:  # R(NAK): say it again; another number is a look for presence.
            same = bool(self._last) and self._last[0] & 1 == control & 1
            return self._last if same else bytes([0xA2 | (control & 1) ^ 1])
        if control & 0xF6 == 0xA2:  # R(ACK).
            return self._next(control & 1)
        if control & 0xF7 == 0xC2:  # S(DESELECT).
            self.power(True)
            return block[:1]
        return None

    def _next(self, number: int) -> bytes:
        room = CARD_FRAME_SIZE - 3
        part, self._to_send = self._to_send[:room], self._to_send[room:]
        return self._say(bytes([0x02 | (0x10 if self._to_send else 0) | number]) + part)

    def _say(self, block: bytes) -> bytes:
        self._last = block
        return block


class VirtualPn532(VirtualPort):
    """Plugged in when made, asleep until it is woken. `path` is the agent's `port` setting."""

    def __init__(self, path: Path, *, speed: int = SPEED_AT_RESET) -> None:
        self._speed_left = speed  # As another program may have left it.
        self.commands: list[int] = []  # What it was told, for the bench to look at.
        self.deaf = False  # The chip hangs: it takes what comes and says nothing.
        self.heard_bytes = 0  # At any speed, understood or not.
        self.looks = 0  # Times the field was searched.
        self.speed = speed  # Of its side of the line, now.
        self._spoiled = 0
        self._field: list[InField] = []
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        super().__init__(path)

    # The person at the bench.

    def lay(self, *cards: VirtualCard, leaves_after: int | None = None) -> None:
        """Put these into the field, beside what lies there.

        `leaves_after`: they are torn away when they are asked the next command after so many.
        """
        with self._lock:
            self._field += [InField(card, leaves_after=leaves_after) for card in cards]

    def leaves_before_it_is_asked(self, card: VirtualCard) -> None:
        """It is found once, and gone at the next search of the field."""
        with self._lock:
            self._field.append(InField(card, looks_left=1))

    def spoil(self, looks: int) -> None:
        """The answers to so many of the next searches of the field are hit by noise."""
        with self._lock:
            self._spoiled = looks

    def reset(self) -> None:
        """The reset line is pulsed: the chip starts over."""
        self._next_speed: int | None = None
        self.speed = SPEED_AT_RESET
        self._asleep = True
        self._registers: dict[int, int] = {}

    def take_away(self) -> None:
        """Empty the field. Twice is fine."""
        with self._lock:
            for laid in self._field:
                laid.power(False)
            self._field = []

    def tap(self, uid: bytes) -> None:
        """Show a card that is nothing but a number until it was seen, and take it away."""
        self.lay(UidCard(uid))
        self.wait_looked()
        self.take_away()

    def wait_looked(self, count: int = 4) -> None:
        """Until the field was searched so many times. Raises TimeoutError when nobody looks."""
        enough, until_s = self.looks + count, time.monotonic() + SEEN_S_MAX
        while self.looks < enough:
            if time.monotonic() > until_s:
                raise TimeoutError(f"{self.path}: nobody looks into the field; is the agent up?")
            time.sleep(0.005)

    def unplug(self) -> None:
        thread, self._thread = self._thread, None
        self._plugged = False
        if thread is not None:
            thread.join()
        super().unplug()

    def replug(self) -> None:
        """Power is back: the chip starts over."""
        super().replug()
        self.reset()
        self.speed, self._speed_left = self._speed_left, SPEED_AT_RESET
        self._field_on = False
        self._plugged = True
        self._thread = threading.Thread(target=self._run, name="virtual PN532", daemon=True)
        self._thread.start()

    # The chip.

    def _run(self) -> None:
        assert self._ends is not None
        ours, theirs = self._ends
        buffer = bytearray()
        while self._plugged:
            if not select.select([ours], [], [], 0.02)[0]:
                continue
            data = os.read(ours, 4_096)
            self.heard_bytes += len(data)
            if self.deaf or SPEED_OF.get(termios.tcgetattr(theirs)[5]) != self.speed:
                buffer.clear()
                continue  # At another speed the bytes are rubbish: no frame is in them.
            buffer += data
            while (body := self._take(buffer)) is not None:
                answer = self._obey(body)
                if answer and not self.deaf:
                    os.write(ours, answer)

    def _take(self, buffer: bytearray) -> bytes | None:
        """The next frame: TFI and data, or ACK and NACK themselves; None until one is whole."""
        at = buffer.find(b"\x00\xff")
        if at < 0:
            return None
        rest = bytes(buffer[at + 2 :])
        if rest[:2] in (b"\x00\xff", b"\xff\x00"):
            del buffer[: at + 4]
            return ACK if rest[0] == 0 else NACK
        long = rest[:2] == b"\xff\xff"
        head = rest[2:5] if long else rest[:2]
        if len(head) < (3 if long else 2):
            return None
        size = head[0] << 8 | head[1] if long else head[0]
        begin = 5 if long else 2
        if sum(head) % 256:
            del buffer[: at + 2]
            return b""
        if len(rest) < begin + size + 1:
            return None
        woken = not self._asleep or at > WAKE_SIZE
        body = rest[begin : begin + size]
        good = (sum(body) + rest[begin + size]) % 256 == 0
        del buffer[: at + 2 + begin + size + 1]
        if not woken:
            return b""
        self._asleep = False
        return body if good else b""

    def _obey(self, body: bytes) -> bytes:
        if body == ACK and self._next_speed is not None:
            self.speed, self._next_speed = self._next_speed, None
        if not body or body in (ACK, NACK):
            return b""
        if body[0] != HOST or len(body) < 2:
            return ACK + SYNTAX_ERROR
        self.commands.append(body[1])
        with self._lock:
            answer = self._execute(body[1], body[2:])
        if answer is None:
            return ACK + SYNTAX_ERROR
        out = bytearray(ACK + frame(bytes([CHIP, body[1] + 1]) + answer))
        if body[1] == LIST and self._spoiled:
            self._spoiled -= 1
            out[-2] ^= 0x10
        return bytes(out)

    def _execute(self, command: int, data: bytes) -> bytes | None:
        match command:
            case 0x00:  # Diagnose; test 0 is the line.
                return data if data[:1] == b"\x00" else b"\x00"
            case 0x02:  # GetFirmwareVersion.
                return bytes.fromhex("32010607")
            case 0x06:  # ReadRegister.
                return bytes(self._read_register(at) for at in _pairs(data))
            case 0x08:  # WriteRegister.
                for i in range(0, len(data), 3):
                    self._registers[data[i] << 8 | data[i + 1]] = data[i + 2]
                return b""
            case 0x10:  # SetSerialBaudrate, from the host's next ACK on.
                self._next_speed = SPEEDS[data[0]]
                return b""
            case 0x12 | 0x14:  # SetParameters, SAMConfiguration.
                return b""
            case 0x16:  # PowerDown.
                self._set_field(False)
                self._asleep = True
                return b"\x00"
            case 0x32:  # RFConfiguration; item 1 is the field.
                if data[0] == 0x01:
                    self._set_field(bool(data[1] & 1))
                return b""
            case 0x42:  # InCommunicateThru.
                return self._communicate(data)
            case 0x44 | 0x52:  # InDeselect, InRelease.
                return b"\x00"
            case 0x4A:  # InListPassiveTarget, `LIST`.
                return self._list(data[0], data[1])
            case _:
                return None

    def _read_register(self, at: int) -> int:
        if at == FIFO_DATA and not self._field:
            return REQA  # The request that nobody answered still lies there.
        return self._registers.get(at, 0x80 if at == RX_MODE else 0x00)

    def _set_field(self, on: bool) -> None:
        if self._field_on and not on:
            for laid in self._field:
                laid.power(False)
        self._field_on = on

    def _list(self, most: int, kind: int) -> bytes:
        if kind != 0:
            return b"\x00"
        self.looks += 1
        self._field = [laid for laid in self._field if laid.looks_left != 0]
        for laid in self._field:
            if laid.looks_left is not None:
                laid.looks_left -= 1
        self._registers[RX_MODE] = 0x80
        self._field_on = True
        listed = b""
        for number, laid in enumerate(self._field[:most], start=1):
            laid.power(True)
            uid = laid.card.uid
            sens_res = {4: 0x04, 7: 0x44, 10: 0x84}[len(uid)]
            listed += bytes([number, 0x00, sens_res, laid.sak, len(uid)]) + uid
        return bytes([min(most, len(self._field))]) + listed

    def _communicate(self, command: bytes) -> bytes:
        if not self._field:
            return bytes([TIMEOUT])
        laid = self._field[0]
        gone = laid.is_gone
        answer = laid.hears(command)
        if gone and answer is None:
            self._field.remove(laid)
        if answer is None:
            return bytes([TIMEOUT])
        checks_crc = self._registers.get(RX_MODE, 0x80) & 0x80
        if not checks_crc and len(answer) > 1:
            answer += crc_a(answer)  # The host asked to see it; a 4-bit ACK or NAK has none.
        return b"\x00" + answer


def _pairs(data: bytes) -> list[int]:
    return [data[i] << 8 | data[i + 1] for i in range(0, len(data), 2)]
