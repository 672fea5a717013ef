"""Model cards as they leave the factory: a blank DESFire EV2 and a blank NTAG 424.

They can be personalised as the real ones can: keys, an application, a file, settings, a random UID.
A command that a chip would refuse is refused here, with the status it would give.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from hil.devices.cards.chip import FACTORY_KEY, Random
from hil.devices.cards.crypto import BlockCipher, checksum_32, exor, rotated
from hil.devices.cards.desfire import (
    AUTHENTICATION,
    FULL,
    ILLEGAL_COMMAND,
    INTEGRITY,
    LENGTH,
    MAC,
    MORE,
    NO_APPLICATION,
    NO_FILE,
    NO_SUCH_KEY,
    OK,
    PARAMETER,
    PERMISSION,
    PLAIN,
    CardFile,
    NativeCard,
    status,
)
from hil.devices.cards.ntag424 import Mirrors, Ntag424Card
from hil.devices.cards.session import AesSession

DUPLICATE, BOUNDARY = 0xDE, 0xBE
CARD_LEVEL = bytes(3)
MODES = {0x00: PLAIN, 0x01: MAC, 0x03: FULL}
KEYS_OF_NTAG = range(5)


@dataclass
class Level:
    """The card's own level, or one application."""

    keys: dict[int, bytes]
    versions: dict[int, int]
    settings: int = 0x0F
    files: dict[int, CardFile] = field(default_factory=dict)
    rights: dict[int, bytes] = field(default_factory=dict)


class Writable(NativeCard):
    """What DESFire and NTAG 424 write alike: keys, and the configuration of the chip."""

    def heard_full(self, instruction: int, body: bytes, header_size: int) -> bytes | None:
        """The clear data of a command that carries it enciphered; None if MAC or padding is bad."""
        if not isinstance(self.session, AesSession):
            return None
        heard = self.session.heard(instruction, body, FULL)
        return None if heard is None else self.session.clear(heard[header_size:])

    def agreed(self) -> bytes:
        assert self.session is not None
        return status(OK, self.session.said(OK, b"", MAC))

    def change_key(self, body: bytes) -> bytes:
        """In a session of key 0. Changing that key itself ends the session."""
        if self.session is None or self.session.key_no != 0:
            return status(PERMISSION)
        number = body[0] if body else 0xFF
        if number not in self.keys:
            return status(NO_SUCH_KEY)
        clear = self.heard_full(0xC4, body, 1)
        if clear is None:
            return status(INTEGRITY)
        if number == 0:
            if len(clear) != 17:
                return status(INTEGRITY)
            self.keys[0], self.key_versions[0] = clear[:16], clear[16]
            self.session = None
            return status(OK)
        if len(clear) != 21:
            return status(INTEGRITY)
        new = exor(clear[:16], self.keys[number])
        if checksum_32(new) != clear[17:]:
            return status(INTEGRITY)
        self.keys[number], self.key_versions[number] = new, clear[16]
        return self.agreed()

    def set_configuration(self, body: bytes) -> bytes:
        if self.session is None or self.session.key_no != 0:
            return status(PERMISSION)
        clear = self.heard_full(0x5C, body, 1)
        if clear is None:
            return status(INTEGRITY)
        if body[0] != 0 or len(clear) != 1:
            return status(PARAMETER)
        if clear[0] & 0x02:
            self.random_uid = True  # From the next activation on, for ever.
        return self.agreed()

    def key_version(self, body: bytes) -> bytes:
        if self.session is None:
            known = len(body) == 1 and body[0] in self.keys
            return (
                status(OK, bytes([self.key_versions.get(body[0], 0)]))
                if known
                else status(NO_SUCH_KEY)
            )
        heard = self.session.heard(0x64, body, MAC)
        if heard is None:
            return status(INTEGRITY)
        if len(heard) != 1 or heard[0] not in self.keys:
            return status(NO_SUCH_KEY)
        version = bytes([self.key_versions.get(heard[0], 0)])
        return status(OK, self.session.said(OK, version, MAC))


class BlankDesfire(Writable):
    """An EV2 or EV3. Its own level begins with a 2TDEA key of zeros, as shipped."""

    def __init__(
        self, real_uid: bytes, *, major: int = 0x12, random: Random = secrets.token_bytes
    ) -> None:
        self.levels = {CARD_LEVEL: Level(keys={0: FACTORY_KEY}, versions={0: 0})}
        self.card_key_is_des = True
        self.major = major  # 12 is an EV2, 33 an EV3.
        self.level = CARD_LEVEL
        super().__init__(real_uid, keys={}, files={}, random=random)

    def reset(self) -> None:
        super().reset()
        self._des: tuple[bytes, bytes] | None = None  # RndB, its cipher text.
        self._des_key = b""
        self._version_frames: list[bytes] = []
        self._enter(CARD_LEVEL)

    def _enter(self, aid: bytes) -> None:
        self.level = aid
        level = self.levels[aid]
        self.keys, self.key_versions, self.files = level.keys, level.versions, level.files
        self.selected = True

    def native(self, instruction: int, body: bytes) -> bytes:
        if instruction == 0x5A:
            if body not in self.levels:
                return status(NO_APPLICATION)
            self.reset()
            self._enter(body)
            return status(OK)
        if instruction == 0x60:
            return self._version()
        if instruction == MORE and self._version_frames:
            return self._next_version_frame()
        if instruction == 0x1A:
            return self._begin_des(body)
        if instruction == MORE and self._des is not None:
            return self._finish_des(body)
        if instruction in (0x71, 0xAA, 0x77) and self.level == CARD_LEVEL and self.card_key_is_des:
            return status(AUTHENTICATION)  # The key is of another kind.
        if instruction == 0x64:
            return self.key_version(body)
        if instruction == 0xC4:
            return self._change_key(body)
        writes = {
            0xCA: self._create_application,
            0xCD: self._create_file,
            0x6F: self._file_ids,
            0xF5: self._file_settings,
            0x8D: self._write,
            0x54: self._change_settings,
            0x5C: self._configure,
        }
        if instruction in writes:
            return writes[instruction](body) if self.session else status(PERMISSION)
        return super().native(instruction, body)

    def _version(self) -> bytes:
        storage, protocol = 0x18, 0x05
        hardware = bytes([0x04, 0x01, 0x01, self.major, 0x00, storage, protocol])
        self._version_frames = [hardware, hardware, self.real_uid + bytes(7)]
        return self._next_version_frame()

    def _next_version_frame(self) -> bytes:
        frame = self._version_frames.pop(0)
        return status(MORE if self._version_frames else OK, frame)

    def _begin_des(self, body: bytes) -> bytes:
        if self.level != CARD_LEVEL or not self.card_key_is_des:
            return status(AUTHENTICATION)
        if body != b"\x00":
            return status(NO_SUCH_KEY)
        b = self.random(8)
        sealed = BlockCipher(self.keys[0], des=True).cbc_encrypt(b)
        self._des = b, sealed
        return status(MORE, sealed)

    def _finish_des(self, body: bytes) -> bytes:
        assert self._des is not None
        (b, sealed), self._des = self._des, None
        if len(body) != 16:
            return status(LENGTH)
        cipher = BlockCipher(self.keys[0], des=True)
        clear = cipher.cbc_decrypt(body, sealed)
        if clear[8:] != rotated(b):
            self.wrong_keys += 1
            return status(AUTHENTICATION)
        self._des_key = 2 * (clear[:4] + b[:4])  # Equal halves of the key: one DES.
        return status(OK, cipher.cbc_encrypt(rotated(clear[:8]), body[8:]))

    def _change_key(self, body: bytes) -> bytes:
        if self.level != CARD_LEVEL or not self.card_key_is_des:
            return self.change_key(body)
        if not self._des_key:
            return status(PERMISSION)
        key, self._des_key = self._des_key, b""
        if len(body) != 25 or body[0] != 0x80:
            return status(PARAMETER)
        clear = BlockCipher(key, des=True).cbc_decrypt(body[1:])
        if checksum_32(b"\xc4" + body[:1] + clear[:17]) != clear[17:21] or any(clear[21:]):
            return status(INTEGRITY)
        self.keys[0], self.key_versions[0] = clear[:16], clear[16]
        self.card_key_is_des = False
        return status(OK)

    def _create_application(self, body: bytes) -> bytes:
        assert self.session is not None
        if self.level != CARD_LEVEL:
            return status(PERMISSION)
        heard = self.session.heard(0xCA, body, MAC)
        if heard is None:
            return status(INTEGRITY)
        if len(heard) != 5 or heard[4] & 0xC0 != 0x80:
            return status(PARAMETER)
        aid, count = heard[:3], heard[4] & 0x0F
        if aid in self.levels:
            return status(DUPLICATE)
        self.levels[aid] = Level(
            keys=dict.fromkeys(range(count), FACTORY_KEY),
            versions=dict.fromkeys(range(count), 0),
            settings=heard[3],
        )
        return self.agreed()

    def _create_file(self, body: bytes) -> bytes:
        heard = self._heard_of_master(0xCD, body)
        if isinstance(heard, int):
            return status(heard)
        if len(heard) != 7 or heard[1] not in MODES:
            return status(PARAMETER)
        if heard[0] in self.files:
            return status(DUPLICATE)
        size = int.from_bytes(heard[4:7], "little")
        level = self.levels[self.level]
        level.files[heard[0]] = CardFile(bytes(size), MODES[heard[1]], read_key_no=heard[3] >> 4)
        level.rights[heard[0]] = heard[2:4]
        return self.agreed()

    def _file_ids(self, body: bytes) -> bytes:
        heard = self._heard_of_master(0x6F, body)
        if isinstance(heard, int):
            return status(heard)
        assert self.session is not None
        return status(OK, self.session.said(OK, bytes(self.files), MAC))

    def _file_settings(self, body: bytes) -> bytes:
        heard = self._heard_of_master(0xF5, body)
        if isinstance(heard, int):
            return status(heard)
        file = self.files.get(heard[0]) if len(heard) == 1 else None
        if file is None:
            return status(NO_FILE)
        assert self.session is not None
        mode = next(code for code, name in MODES.items() if name == file.mode)
        rights = self.levels[self.level].rights[heard[0]]
        said = bytes([0, mode]) + rights + len(file.data).to_bytes(3, "little")
        return status(OK, self.session.said(OK, said, MAC))

    def _write(self, body: bytes) -> bytes:
        assert self.session is not None
        file = self.files.get(body[0]) if body else None
        if file is None:
            return status(NO_FILE)
        write_key_no = self.levels[self.level].rights[body[0]][1] & 0x0F
        if self.session.key_no != write_key_no:
            return status(PERMISSION)
        if file.mode == FULL:
            data = self.heard_full(0x8D, body, 7)
        else:
            heard = self.session.heard(0x8D, body, file.mode)
            data = None if heard is None else heard[7:]
        if data is None:
            return status(INTEGRITY)
        at, size = int.from_bytes(body[1:4], "little"), int.from_bytes(body[4:7], "little")
        if len(data) != size:
            return status(LENGTH)
        if at + size > len(file.data):
            return status(BOUNDARY)
        written = file.data[:at] + data + file.data[at + size :]
        self.files[body[0]] = CardFile(written, file.mode, file.read_key_no)
        return status(OK) if file.mode == PLAIN else self.agreed()

    def _change_settings(self, body: bytes) -> bytes:
        assert self.session is not None
        clear = self.heard_full(0x54, body, 0) if self.session.key_no == 0 else None
        if clear is None or len(clear) != 1:
            return status(INTEGRITY)
        self.levels[self.level].settings = clear[0]
        return self.agreed()

    def _configure(self, body: bytes) -> bytes:
        return status(PERMISSION) if self.level != CARD_LEVEL else self.set_configuration(body)

    def _heard_of_master(self, instruction: int, body: bytes) -> bytes | int:
        """The body of a command that the application's master key is needed for."""
        assert self.session is not None
        if self.level == CARD_LEVEL or self.session.key_no != 0:
            return PERMISSION
        heard = self.session.heard(instruction, body, MAC)
        return INTEGRITY if heard is None else heard


class BlankNtag424(Writable, Ntag424Card):
    """Five AES keys of zeros, and a file that anyone may write."""

    def __init__(self, real_uid: bytes, *, random: Random = secrets.token_bytes) -> None:
        self.rights = b"\xe0\xee"  # As shipped, NT4H2421Gx 8.2.3.3: all but Change are free.
        super().__init__(
            real_uid,
            keys=dict.fromkeys(KEYS_OF_NTAG, FACTORY_KEY),
            ndef=bytes(256),
            random=random,
        )

    def native(self, instruction: int, body: bytes) -> bytes:
        if instruction == 0x64 and self.session is not None:
            return self.key_version(body)
        if instruction in (0xC4, 0x5C, 0x5F, 0x8D):
            if self.session is None:
                return status(PERMISSION if self.selected else ILLEGAL_COMMAND)
            if instruction == 0xC4:
                return self.change_key(body)
            if instruction == 0x5C:
                return self.set_configuration(body)
            return self._change_file(body) if instruction == 0x5F else self._write_file(body)
        return super().native(instruction, body)

    def _write_file(self, body: bytes) -> bytes:
        """The NDEF file, in plain as it is shipped."""
        assert self.session is not None
        heard = self.session.heard(0x8D, body, PLAIN)
        if heard is None or heard[:1] != b"\x02":
            return status(NO_FILE)
        at, size = int.from_bytes(heard[1:4], "little"), int.from_bytes(heard[4:7], "little")
        data = heard[7:]
        if len(data) != size:
            return status(LENGTH)
        if at + size > len(self.ndef):
            return status(BOUNDARY)
        write_key = self.rights[1] & 0x0F
        if write_key not in (0xE, self.session.key_no):
            return status(PERMISSION)
        self.ndef = self.ndef[:at] + data + self.ndef[at + size :]
        return status(OK)

    def _change_file(self, body: bytes) -> bytes:
        assert self.session is not None
        if body[:1] != b"\x02" or self.session.key_no != 0:
            return status(PERMISSION)
        clear = self.heard_full(0x5F, body, 1)
        if clear is None or len(clear) < 3:
            return status(INTEGRITY)
        self.rights = clear[1:3]
        if not clear[0] & 0x40:
            self.mirrors = None
            return self.agreed()
        if len(clear) != 15 or clear[3] != 0xC1:
            return status(PARAMETER)
        rights = int.from_bytes(clear[4:6], "little")
        picc_data, mac_input, mac = (
            int.from_bytes(clear[at : at + 3], "little") for at in (6, 9, 12)
        )
        self.mirrors = Mirrors(
            mac_input=mac_input,
            mac=mac,
            file_key_no=rights >> 8 & 0xF,
            picc_data=picc_data,
            meta_key_no=rights >> 12,
        )
        return self.agreed()
