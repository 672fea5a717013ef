"""Model Ultralight C and Ultralight AES: native frames without their CRC, NAK as one byte."""

from __future__ import annotations

import secrets

from hil.devices.cards.chip import Chip, Random
from hil.devices.cards.crypto import BlockCipher, mac_over, nonce_mix, odd_bytes, rotated

NAK = b"\x00"
ACK = b"\x0a"


class Ultralight(Chip):
    """Pages of four bytes; reading and writing from page AUTH0 on needs authentication."""

    pages = 0

    def __init__(
        self,
        real_uid: bytes,
        *,
        keys: dict[int, bytes],
        random_uid: bool = False,
        random: Random = secrets.token_bytes,
    ) -> None:
        self.memory = bytearray(4 * self.pages)
        first = 0x88 ^ real_uid[0] ^ real_uid[1] ^ real_uid[2]
        second = real_uid[3] ^ real_uid[4] ^ real_uid[5] ^ real_uid[6]
        self.memory[:9] = real_uid[:3] + bytes([first]) + real_uid[3:] + bytes([second])
        super().__init__(real_uid, keys=keys, random_uid=random_uid, random=random)

    def write(self, page: int, data: bytes) -> None:
        """What a personaliser did to the card before it left the bureau."""
        self.memory[4 * page : 4 * page + len(data)] = data

    def reset(self) -> None:
        self.authenticated: int | None = None
        self._challenge: tuple[int, bytes] | None = None

    def stretch(self, page: int, count: int) -> bytes:
        """`count` pages from `page` on, over the end of the readable memory to page 0."""
        readable = self.readable_pages()
        return b"".join(
            bytes(self.memory[4 * (at % readable) : 4 * (at % readable) + 4])
            for at in range(page, page + count)
        )

    def readable_pages(self) -> int:
        raise NotImplementedError


class UltralightCCard(Ultralight):
    """`keys[0]` is the 3DES key in the order of the cipher."""

    pages = 0x30

    def __init__(
        self,
        real_uid: bytes,
        *,
        key: bytes,
        safe: bool = True,
        random: Random = secrets.token_bytes,
    ) -> None:
        super().__init__(real_uid, keys={0: key}, random=random)
        self.write(0x2A, b"\x30")  # As shipped: nothing is protected.
        if safe:
            self.write(0x28, b"\x00\xf0\x00\x00")  # Counter, AUTH0, AUTH1 and keys are locked.
            self.write(0x2A, b"\x2a\x00\x00\x00")
            self.write(0x2B, b"\x00\x00\x00\x00")

    def readable_pages(self) -> int:
        return 0x2C

    def answer(self, command: bytes) -> bytes:
        if command == b"\x1a\x00":
            b = self.random(8)
            self._challenge = (0, b)
            return b"\xaf" + self._cipher().cbc_encrypt(b)
        if len(command) == 17 and command[0] == 0xAF and self._challenge is not None:
            return self._finish(command[1:])
        self._challenge = None
        if len(command) == 2 and command[0] == 0x30 and command[1] < self.readable_pages():
            closed = self.memory[4 * 0x2B] & 1 == 0 and command[1] >= self.memory[4 * 0x2A]
            if closed and self.authenticated is None:
                return NAK
            return self.stretch(command[1], 4)
        self.reset()
        return NAK

    def _finish(self, token: bytes) -> bytes:
        assert self._challenge is not None
        b, self._challenge = self._challenge[1], None
        clear = self._cipher().cbc_decrypt(token, self._cipher().cbc_encrypt(b))
        if clear[8:] != rotated(b):
            self.wrong_keys += 1
            self.reset()
            return NAK
        self.authenticated = 0
        return b"\x00" + self._cipher().cbc_encrypt(rotated(clear[:8]), token[8:])

    def _cipher(self) -> BlockCipher:
        return BlockCipher(self.keys[0], des=True)


class UltralightAesCard(Ultralight):
    """`keys[0]` guards the data, `keys[1]` reveals the UID; CMAC from the first authentication."""

    pages = 0x3C

    def __init__(
        self,
        real_uid: bytes,
        *,
        keys: dict[int, bytes],
        cmac: bool = True,
        locks: int = 0xE0,
        auth0: int = 0x10,
        auth_limit: int = 0,
        random_uid: bool = False,
        random: Random = secrets.token_bytes,
    ) -> None:
        super().__init__(real_uid, keys=keys, random_uid=random_uid, random=random)
        self.auth_limit = auth_limit  # 0: wrong keys are not counted.
        self.write(0x29, bytes([cmac << 1 | random_uid, 0, 0, auth0]))
        self.write(0x2A, bytes([0x80, 0x05]) + auth_limit.to_bytes(2, "little"))
        self.write(0x2D, bytes([locks, 0, 0, 0]))

    def reset(self) -> None:
        super().reset()
        self._mac_cipher: BlockCipher | None = None
        self._count = 0

    def readable_pages(self) -> int:
        return self.pages

    @property
    def locked_for_ever(self) -> bool:
        return 0 < self.auth_limit <= self.wrong_keys

    def answer(self, command: bytes) -> bytes:
        """With a session under CMAC: check the command's MAC, put one on the answer.

        The answer to an authentication inside a session still belongs to the old session.
        """
        cipher, count = self._mac_cipher, self._count
        if cipher is None:
            return self._plain(command)
        body, mac = command[:-8], command[-8:]
        if mac != self._mac_at(cipher, count, body):
            self.reset()
            return b""  # The chip is silent.
        self._count = count + 2
        out = self._plain(body)
        return out if out == NAK else out + self._mac_at(cipher, count + 1, out)

    def _plain(self, command: bytes) -> bytes:
        if len(command) == 2 and command[0] == 0x1A and command[1] in self.keys:
            b = self.random(16)
            self._challenge = (command[1], b)
            return b"\xaf" + BlockCipher(self.keys[command[1]]).cbc_encrypt(b)
        if len(command) == 33 and command[0] == 0xAF and self._challenge is not None:
            return self._finish(command[1:])
        self._challenge = None
        if len(command) == 2 and command[0] == 0x30:
            return self._pages(command[1], 4)
        if len(command) == 3 and command[0] == 0x3A and command[1] <= command[2] < self.pages:
            return self._pages(command[1], 1 + command[2] - command[1])
        self.reset()
        return NAK

    def _pages(self, page: int, count: int) -> bytes:
        auth0, read_too = self.memory[4 * 0x29 + 3], self.memory[4 * 0x2A] & 0x80
        closed = read_too and page + count > auth0 and self.authenticated != 0
        if closed and page >= auth0:
            self.reset()
            return NAK
        out = bytearray(self.stretch(page, count))
        if self.random_uid and self.authenticated is None and page < 3:
            out[: 4 * (3 - page)] = bytes(4 * (3 - page))
        return bytes(out)

    def _finish(self, token: bytes) -> bytes:
        assert self._challenge is not None
        (number, b), self._challenge = self._challenge, None
        cipher = BlockCipher(self.keys[number])
        clear = cipher.cbc_decrypt(token)
        if clear[16:] != rotated(b) or self.locked_for_ever:
            self.wrong_keys += 1
            self.reset()
            return NAK
        a = clear[:16]
        self.authenticated = number
        if self.memory[4 * 0x29] & 0x02:
            vector = b"\x5a\xa5\x00\x01\x00\x80" + nonce_mix(a, b)
            self._mac_cipher = BlockCipher(mac_over(cipher, vector))
            self._count = 0
        return b"\x00" + cipher.cbc_encrypt(rotated(a))

    def _mac_at(self, cipher: BlockCipher, count: int, message: bytes) -> bytes:
        return odd_bytes(mac_over(cipher, bytes([count & 0xFF, count >> 8]) + message))
