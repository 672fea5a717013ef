"""The card's side of EV1, EV2 and LRP: authentication in steps, and messages under a session."""

from __future__ import annotations

from hil.devices.cards.crypto import (
    BlockCipher,
    LeakResilient,
    checksum_32,
    mac_over,
    nonce_mix,
    odd_bytes,
    padded_80,
    rotated,
)

PLAIN, MAC, FULL = "plain", "mac", "full"


class Ev1Session:
    """One vector runs through commands and answers."""

    def __init__(self, a: bytes, b: bytes, *, key_no: int) -> None:
        self.key_no = key_no
        self._cipher = BlockCipher(a[:4] + b[:4] + a[-4:] + b[-4:])
        self._iv = bytes(16)

    def heard(self, instruction: int, body: bytes, mode: str) -> bytes | None:
        self._iv = mac_over(self._cipher, bytes([instruction]) + body, iv=self._iv)
        return body

    def said(self, status: int, data: bytes, mode: str) -> bytes:
        if mode == FULL:
            clear = data + checksum_32(data + bytes([status]))
            while len(clear) % 16:
                clear += b"\x00"
            out = self._cipher.cbc_encrypt(clear, self._iv)
            self._iv = out[-16:]
            return out
        self._iv = mac_over(self._cipher, data + bytes([status]), iv=self._iv)
        return data + self._iv[:8]


class Ev2Session:
    """A MAC over code, counter, identifier and body; data enciphered by AES or LRP."""

    def __init__(self, *, ti: bytes, key_no: int, counter: int = 0) -> None:
        self.ti = ti
        self.key_no = key_no
        self.counter = counter

    def mac(self, message: bytes) -> bytes:
        raise NotImplementedError

    def encrypt(self, clear: bytes) -> bytes:
        raise NotImplementedError

    def heard(self, instruction: int, body: bytes, mode: str) -> bytes | None:
        """The body without its MAC; None if the MAC is wrong."""
        if mode == PLAIN:
            self.counter += 1
            return body
        body, mac = body[:-8], body[-8:]
        good = mac == self._half_mac(instruction, body)
        self.counter += 1
        return body if good else None

    def said(self, status: int, data: bytes, mode: str) -> bytes:
        if mode == PLAIN:
            return data
        if mode == FULL and data:
            data = self.encrypt(padded_80(data))
        return data + self._half_mac(status, data)

    def _half_mac(self, code: int, body: bytes) -> bytes:
        counter = bytes([self.counter & 0xFF, self.counter >> 8])
        return odd_bytes(self.mac(bytes([code]) + counter + self.ti + body))


class AesSession(Ev2Session):
    def __init__(
        self, key: bytes, a: bytes, b: bytes, *, ti: bytes, key_no: int, counter: int = 0
    ) -> None:
        super().__init__(ti=ti, key_no=key_no, counter=counter)
        base = BlockCipher(key)
        mixed = nonce_mix(a, b)
        head = bytes([0x00, 0x01, 0x00, 0x80])
        self._enc = BlockCipher(mac_over(base, b"\xa5\x5a" + head + mixed))
        self._mac = BlockCipher(mac_over(base, b"\x5a\xa5" + head + mixed))

    def mac(self, message: bytes) -> bytes:
        return mac_over(self._mac, message)

    def clear(self, sealed: bytes) -> bytes | None:
        """What stood enciphered in the command that was heard last; None if it is no padding."""
        before = self.counter - 1
        counter = bytes([before & 0xFF, before >> 8])
        if not sealed or len(sealed) % 16:
            return None
        iv = self._enc.encrypt(b"\xa5\x5a" + self.ti + counter + bytes(8))
        body = self._enc.cbc_decrypt(sealed, iv).rstrip(b"\x00")
        return body[:-1] if body.endswith(b"\x80") else None

    def encrypt(self, clear: bytes) -> bytes:
        counter = bytes([self.counter & 0xFF, self.counter >> 8])
        iv = self._enc.encrypt(b"\x5a\xa5" + self.ti + counter + bytes(8))
        return self._enc.cbc_encrypt(clear, iv)


class LrpSession(Ev2Session):
    def __init__(self, key: bytes, a: bytes, b: bytes, *, ti: bytes, key_no: int) -> None:
        super().__init__(ti=ti, key_no=key_no)
        vector = bytes([0x00, 0x01, 0x00, 0x80]) + nonce_mix(a, b) + b"\x96\x69"
        master = LeakResilient(key, 0).mac(vector)
        self._mac = LeakResilient(master, 0)
        self._enc = LeakResilient(master, 1)
        self._blocks = 0

    def mac(self, message: bytes) -> bytes:
        return self._mac.mac(message)

    def encrypt(self, clear: bytes) -> bytes:
        out = self._enc.encrypt(clear, self._blocks, 4)
        self._blocks += len(clear) // 16
        return out


class Handshake:
    """The middle of a three-pass authentication: the card waits for the reader's token."""

    def __init__(self, kind: int, key_no: int, key: bytes, b: bytes) -> None:
        self.kind = kind
        self.key_no = key_no
        self.key = key
        self.b = b

    def challenge(self) -> bytes:
        return BlockCipher(self.key).cbc_encrypt(self.b)

    def reader_nonce(self, token: bytes, *, chained: bool) -> bytes | None:
        """RndA, if the token shows that the reader knows the key."""
        if len(token) != 32:
            return None
        iv = self.challenge() if chained else bytes(16)
        clear = BlockCipher(self.key).cbc_decrypt(token, iv)
        return clear[:16] if clear[16:] == rotated(self.b) else None

    def proof_ev1(self, a: bytes, token: bytes) -> bytes:
        return BlockCipher(self.key).cbc_encrypt(rotated(a), token[-16:])

    def proof_first(self, a: bytes, ti: bytes) -> bytes:
        return BlockCipher(self.key).cbc_encrypt(ti + rotated(a) + bytes(6) + bytes(6))

    def proof_non_first(self, a: bytes) -> bytes:
        return BlockCipher(self.key).cbc_encrypt(rotated(a))
