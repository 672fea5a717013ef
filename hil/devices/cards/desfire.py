"""A model DESFire (EV1 to EV3): one application with AES keys, files, static or random UID."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from hil.devices.cards.chip import Chip, Random
from hil.devices.cards.session import (
    FULL,
    MAC,
    PLAIN,
    AesSession,
    Ev1Session,
    Ev2Session,
    Handshake,
    LrpSession,
)

OK, MORE = 0x00, 0xAF
ILLEGAL_COMMAND, INTEGRITY, NO_SUCH_KEY, LENGTH = 0x1C, 0x1E, 0x40, 0x7E
PERMISSION, PARAMETER, NO_APPLICATION, AUTHENTICATION = 0x9D, 0x9E, 0xA0, 0xAE
BOUNDARY, NO_FILE = 0xBE, 0xF0


@dataclass(frozen=True)
class CardFile:
    data: bytes
    mode: str
    read_key_no: int


def status(code: int, data: bytes = b"") -> bytes:
    return data + bytes([0x91, code])


class NativeCard(Chip):
    """The native command set that DESFire and NTAG 424 share, in its ISO 7816 wrapping."""

    frame_size = 59  # Data in one native frame.
    ev1_only = False
    lrp = False
    read_instruction = 0xAD

    def __init__(
        self,
        real_uid: bytes,
        *,
        keys: dict[int, bytes],
        files: dict[int, CardFile],
        key_versions: dict[int, int] | None = None,
        random_uid: bool = False,
        random: Random = secrets.token_bytes,
    ) -> None:
        self.files = files
        self.key_versions = key_versions or {}
        super().__init__(real_uid, keys=keys, random_uid=random_uid, random=random)

    def reset(self) -> None:
        self.selected = False
        self.session: Ev1Session | Ev2Session | None = None
        self._handshake: Handshake | None = None
        self._rest = b""

    def answer(self, command: bytes) -> bytes:
        body = unwrapped(command)
        if body is None:
            return b"\x67\x00"
        instruction = command[1]
        out = self.native(instruction, body)
        if out[-1] not in (OK, MORE):
            self.session = self._handshake = None
            self._rest = b""
        return out

    def native(self, instruction: int, body: bytes) -> bytes:
        if instruction != MORE:
            self._handshake, self._rest = None, b""
        if instruction == MORE:
            return self._continue(body)
        if not self.selected:
            return status(ILLEGAL_COMMAND)
        if instruction in (0xAA, 0x71, 0x77):
            return self._begin(instruction, body)
        if instruction == 0x64 and self.session is None:
            known = len(body) == 1 and body[0] in self.keys
            version = self.key_versions.get(body[0], 0) if known else 0
            return status(OK, bytes([version])) if known else status(NO_SUCH_KEY)
        if instruction == 0x51:
            return self._uid(body)
        if instruction in (0xBD, 0xAD):
            return self._read(instruction, body)
        return status(ILLEGAL_COMMAND)

    def _begin(self, kind: int, body: bytes) -> bytes:
        if kind != 0xAA and self.ev1_only:
            return status(ILLEGAL_COMMAND)
        if kind == 0x77 and not isinstance(self.session, Ev2Session):
            return status(ILLEGAL_COMMAND)
        if not body or body[0] not in self.keys:
            return status(NO_SUCH_KEY)
        if kind == 0x71 and len(body) != 2 + body[1]:
            return status(LENGTH)
        self._handshake = Handshake(kind, body[0], self.keys[body[0]], self.random(16))
        if self.lrp and kind == 0x71:
            asked = body[2:3] == b"\x02"
            return status(MORE, b"\x01" + self._handshake.b) if asked else status(PARAMETER)
        return status(MORE, self._handshake.challenge())

    def _continue(self, body: bytes) -> bytes:
        if self._rest:
            return self._framed(self._rest) if not body else status(LENGTH)
        if self._handshake is None:
            return status(ILLEGAL_COMMAND)
        begun, self._handshake = self._handshake, None
        if self.lrp and begun.kind == 0x71:
            return self._finish_lrp(begun, body)
        a = begun.reader_nonce(body, chained=begun.kind == 0xAA)
        if a is None:
            self.wrong_keys += 1
            return status(AUTHENTICATION)
        if begun.kind == 0xAA:
            self.session = Ev1Session(a, begun.b, key_no=begun.key_no)
            return status(OK, begun.proof_ev1(a, body))
        if begun.kind == 0x71:
            ti, counter, proof = self.random(4), 0, b""
            proof = begun.proof_first(a, ti)
        else:
            assert isinstance(self.session, Ev2Session)
            ti, counter = self.session.ti, self.session.counter
            proof = begun.proof_non_first(a)
        self.session = AesSession(
            begun.key, a, begun.b, ti=ti, key_no=begun.key_no, counter=counter
        )
        return status(OK, proof)

    def _finish_lrp(self, begun: Handshake, body: bytes) -> bytes:
        a, proof = body[:16], body[16:]
        if len(body) != 32:
            return status(LENGTH)
        session = LrpSession(begun.key, a, begun.b, ti=self.random(4), key_no=begun.key_no)
        if session.mac(a + begun.b) != proof:
            self.wrong_keys += 1
            return status(AUTHENTICATION)
        data = session.encrypt(session.ti + bytes(6) + b"\x02" + bytes(5))
        self.session = session
        return status(OK, data + session.mac(begun.b + a + data))

    def _uid(self, body: bytes) -> bytes:
        if self.session is None:
            return status(PERMISSION)
        if self.session.heard(0x51, body, FULL) != b"":
            return status(INTEGRITY)
        return status(OK, self.session.said(OK, self.real_uid, FULL))

    def _read(self, instruction: int, body: bytes) -> bytes:
        if instruction == 0xAD and self.ev1_only:
            return status(ILLEGAL_COMMAND)
        file = self.files.get(body[0]) if body else None
        if file is None:
            return status(NO_FILE)
        if self.session is None or self.session.key_no != file.read_key_no:
            return status(PERMISSION)
        heard = self.session.heard(instruction, body, file.mode)
        if heard is None:
            return status(INTEGRITY)
        if len(heard) != 7:
            return status(LENGTH)
        at, size = int.from_bytes(heard[1:4], "little"), int.from_bytes(heard[4:7], "little")
        if size == 0 or at + size > len(file.data):
            return status(BOUNDARY)
        data = self.session.said(OK, file.data[at : at + size], file.mode)
        return self._framed(data) if instruction == 0xBD else status(OK, data)

    def _framed(self, data: bytes) -> bytes:
        size = self.frame_size
        if len(data) > size and self.is_enciphered():
            size = size // 16 * 16
        self._rest = data[size:]
        return status(MORE if self._rest else OK, data[:size])

    def is_enciphered(self) -> bool:
        return any(file.mode == FULL for file in self.files.values())


class DesfireCard(NativeCard):
    """`aid` as it is sent. An EV1 knows AuthenticateAES alone, later chips both ways."""

    def __init__(
        self,
        real_uid: bytes,
        *,
        aid: bytes,
        keys: dict[int, bytes],
        files: dict[int, CardFile],
        ev1_only: bool = False,
        key_versions: dict[int, int] | None = None,
        random_uid: bool = False,
        random: Random = secrets.token_bytes,
    ) -> None:
        self.aid = aid
        self.ev1_only = ev1_only
        super().__init__(
            real_uid,
            keys=keys,
            files=files,
            key_versions=key_versions,
            random_uid=random_uid,
            random=random,
        )

    def native(self, instruction: int, body: bytes) -> bytes:
        if instruction != 0x5A:
            return super().native(instruction, body)
        self.reset()
        self.selected = body == self.aid
        return status(OK if self.selected else NO_APPLICATION)


def unwrapped(command: bytes) -> bytes | None:
    """The data of a 90 xx 00 00 command; None if it is none."""
    if len(command) < 5 or command[0] != 0x90 or command[2:4] != bytes(2):
        return None
    if len(command) == 5:
        return b"" if command[4] == 0 else None
    body = command[5:-1]
    return body if len(body) == command[4] and command[-1] == 0 else None


__all__ = ["FULL", "MAC", "PLAIN", "CardFile", "DesfireCard", "NativeCard", "status"]
