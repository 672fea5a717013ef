"""A model NTAG 424 DNA: AES or LRP authentication, and a file that changes with every read."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from hil.devices.cards.chip import Random
from hil.devices.cards.crypto import BlockCipher, LeakResilient, mac_over, odd_bytes
from hil.devices.cards.desfire import CardFile, NativeCard

DF_NAME = bytes.fromhex("D2760000850101")
NDEF_FILE_ID = bytes.fromhex("E104")
ISO_OK, NOT_FOUND, NO_CURRENT_FILE = b"\x90\x00", b"\x6a\x82", b"\x69\x85"
WRONG_LENGTH = b"\x67\x00"


@dataclass(frozen=True)
class Mirrors:
    """SDM file settings: offsets in the file; the picture of ChangeFileSettings."""

    mac_input: int
    mac: int
    file_key_no: int
    picc_data: int | None = None
    meta_key_no: int | None = None
    uid: int | None = None
    counter: int | None = None
    file_data: int | None = None
    file_data_size: int = 0  # In characters of the mirrored text.


class Ntag424Card(NativeCard):
    """`ndef` is the content of file E104 as it was written; `mirrors` None: SDM is off."""

    def __init__(
        self,
        real_uid: bytes,
        *,
        keys: dict[int, bytes],
        files: dict[int, CardFile] | None = None,
        lrp: bool = False,
        ndef: bytes = b"",
        mirrors: Mirrors | None = None,
        counter: int = 0,
        random_uid: bool = False,
        random: Random = secrets.token_bytes,
    ) -> None:
        self.lrp = lrp
        self.ndef = ndef
        self.mirrors = mirrors
        self.counter = counter
        super().__init__(
            real_uid, keys=keys, files=files or {}, random_uid=random_uid, random=random
        )

    def reset(self) -> None:
        super().reset()
        self._file_selected = False
        self._picture: bytes | None = None
        self._version_frames: list[bytes] = []

    def answer(self, command: bytes) -> bytes:
        if command[:2] == b"\x00\xa4":
            return self._select(command)
        if command[:2] == b"\x00\xb0":
            return self._read_binary(command)
        if command[:1] != b"\x90":
            return b"\x6e\x00"
        return super().answer(command)

    def native(self, instruction: int, body: bytes) -> bytes:
        if instruction == 0x60 and self.selected and self.session is None:
            hardware = bytes([0x04, 0x04, 0x02, 0x30, 0x00, 0x11, 0x05])  # NXP, NTAG, version 30.
            self._version_frames = [hardware, hardware, self.real_uid + bytes(7)]
            instruction = 0xAF
        if instruction == 0xAF and self._version_frames:
            frame = self._version_frames.pop(0)
            return frame + (b"\x91\xaf" if self._version_frames else b"\x91\x00")
        foreign = instruction in (0xAA, 0xBD, 0x64)  # Not before authentication, or not at all.
        return b"\x91\x1c" if foreign else super().native(instruction, body)

    def _select(self, command: bytes) -> bytes:
        name = command[5 : 5 + command[4]] if len(command) > 5 else b""
        if command[2:4] == b"\x04\x0c":
            self.reset()
            self.selected = name == DF_NAME
            return ISO_OK if self.selected else NOT_FOUND
        if command[2:4] == b"\x00\x0c" and self.selected and name == NDEF_FILE_ID:
            self._file_selected = True
            return ISO_OK
        return NOT_FOUND

    def _read_binary(self, command: bytes) -> bytes:
        if not self._file_selected:
            return NO_CURRENT_FILE
        if len(command) != 5:
            return WRONG_LENGTH
        if self._picture is None:  # The counter goes up with the first read after selection.
            self.counter += 1
            self._picture = self.mirrored()
        at, size = int.from_bytes(command[2:4], "big"), command[4] or 256
        return self._picture[at : at + size] + ISO_OK

    def mirrored(self) -> bytes:
        """The file as a reader sees it at this counter."""
        if self.mirrors is None:
            return self.ndef
        seen, mirrors = bytearray(self.ndef), self.mirrors
        counter = self.counter.to_bytes(3, "little")
        if mirrors.uid is not None:
            put(seen, mirrors.uid, self.real_uid)
        if mirrors.counter is not None:
            put(seen, mirrors.counter, self.counter.to_bytes(3, "big"))
        if mirrors.picc_data is not None and mirrors.meta_key_no is not None:
            put(seen, mirrors.picc_data, self._picc_data(mirrors.meta_key_no, counter))
        session = self._message_session(self.keys[mirrors.file_key_no], counter)
        if mirrors.file_data is not None:
            clear = self.ndef[mirrors.file_data : mirrors.file_data + mirrors.file_data_size // 2]
            put(seen, mirrors.file_data, session.encrypt(clear, counter))
        text = bytes(seen[mirrors.mac_input : mirrors.mac])
        put(seen, mirrors.mac, odd_bytes(session.mac(text)))
        return bytes(seen)

    def _picc_data(self, key_no: int, counter: bytes) -> bytes:
        clear = b"\xc7" + self.real_uid + counter + self.random(5)
        if not self.lrp:
            return BlockCipher(self.keys[key_no]).cbc_encrypt(clear)
        start = self.random(8)
        whole = LeakResilient(self.keys[key_no], 0)
        return start + whole.encrypt(clear, int.from_bytes(start, "big"), 8)

    def _message_session(self, key: bytes, counter: bytes) -> AesMessage | LrpMessage:
        kind = LrpMessage if self.lrp else AesMessage
        return kind(key, self.real_uid + counter)


class AesMessage:
    def __init__(self, key: bytes, who: bytes) -> None:
        base, tail = BlockCipher(key), bytes([0, 1, 0, 0x80]) + who
        self._enc = BlockCipher(mac_over(base, filled(b"\xc3\x3c" + tail)))
        self._mac = BlockCipher(mac_over(base, filled(b"\x3c\xc3" + tail)))

    def mac(self, text: bytes) -> bytes:
        return mac_over(self._mac, text)

    def encrypt(self, clear: bytes, counter: bytes) -> bytes:
        return self._enc.cbc_encrypt(clear, self._enc.encrypt(counter + bytes(13)))


class LrpMessage:
    def __init__(self, key: bytes, who: bytes) -> None:
        vector = bytes([0, 1, 0, 0x80]) + who
        while (len(vector) + 2) % 16:
            vector += b"\x00"
        master = LeakResilient(key, 0).mac(vector + b"\x1e\xe1")
        self._mac, self._enc = LeakResilient(master, 0), LeakResilient(master, 1)

    def mac(self, text: bytes) -> bytes:
        return self._mac.mac(text)

    def encrypt(self, clear: bytes, counter: bytes) -> bytes:
        return self._enc.encrypt(clear, int.from_bytes(counter + bytes(3), "big"), 6)


def filled(vector: bytes) -> bytes:
    while len(vector) % 16:
        vector += b"\x00"
    return vector


def put(seen: bytearray, at: int, value: bytes) -> None:
    text = value.hex().upper().encode()
    seen[at : at + len(text)] = text
