"""The cryptography of the chips, written from the card's side and apart from the product's.

Only single blocks of AES and 3DES come from `cryptography`; modes, MACs, sessions and checksums are
spelled out here, bytewise and slowly, because their worth is in being a second opinion.
"""

from __future__ import annotations

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES


class BlockCipher:
    """Encrypt and decrypt one block."""

    def __init__(self, key: bytes, *, des: bool = False) -> None:
        if des:
            whole = key + key[:8] if len(key) == 16 else key
            self.size = 8
            self._cipher = Cipher(TripleDES(whole), modes.ECB())
        else:
            self.size = 16
            self._cipher = Cipher(AES(key), modes.ECB())

    def encrypt(self, block: bytes) -> bytes:
        assert len(block) == self.size
        return self._cipher.encryptor().update(block)

    def decrypt(self, block: bytes) -> bytes:
        assert len(block) == self.size
        return self._cipher.decryptor().update(block)

    def cbc_encrypt(self, data: bytes, iv: bytes | None = None) -> bytes:
        last = iv or bytes(self.size)
        out = bytearray()
        for block in split(data, self.size):
            last = self.encrypt(exor(block, last))
            out += last
        return bytes(out)

    def cbc_decrypt(self, data: bytes, iv: bytes | None = None) -> bytes:
        last = iv or bytes(self.size)
        out = bytearray()
        for block in split(data, self.size):
            out += exor(self.decrypt(block), last)
            last = block
        return bytes(out)


def exor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def split(data: bytes, size: int) -> list[bytes]:
    assert len(data) % size == 0
    return [data[at : at + size] for at in range(0, len(data), size)]


def rotated(data: bytes) -> bytes:
    return bytes(data[(at + 1) % len(data)] for at in range(len(data)))


def shifted(block: bytes) -> bytes:
    """Multiply by x in the field of the block size, bit by bit."""
    carry = 0
    out = bytearray(len(block))
    for at in reversed(range(len(block))):
        out[at] = (block[at] << 1 | carry) & 0xFF
        carry = block[at] >> 7
    if carry:
        out[-1] ^= {8: 0x1B, 16: 0x87}[len(block)]
    return bytes(out)


def mac_over(
    encrypt: BlockCipher, message: bytes, *, iv: bytes | None = None, blocks_min: int = 1
) -> bytes:
    """CMAC with the block cipher; EV1 gives `iv`, AN10922 wants two blocks at least."""
    size = encrypt.size
    k1 = shifted(encrypt.encrypt(bytes(size)))
    k2 = shifted(k1)
    whole = len(message) >= blocks_min * size and len(message) % size == 0
    if whole:
        padded, mask = message, k1
    else:
        padded, mask = message + b"\x80", k2
        while len(padded) < blocks_min * size or len(padded) % size:
            padded += b"\x00"
    state = iv or bytes(size)
    blocks = split(padded, size)
    for block in blocks[:-1]:
        state = encrypt.encrypt(exor(block, state))
    return encrypt.encrypt(exor(exor(blocks[-1], mask), state))


def odd_bytes(mac: bytes) -> bytes:
    return bytes(mac[at] for at in range(16) if at % 2)


def padded_80(data: bytes) -> bytes:
    out = data + b"\x80"
    while len(out) % 16:
        out += b"\x00"
    return out


def checksum_32(data: bytes) -> bytes:
    """CRC-32 of IEEE 802.3, reflected, not complemented at the end; lowest byte first."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
    return bytes(crc >> shift & 0xFF for shift in (0, 8, 16, 24))


def nonce_mix(a: bytes, b: bytes) -> bytes:
    """The 26 bytes both session vectors of EV2 and LRP are built around."""
    mixed = bytearray(26)
    mixed[0:2] = a[0:2]
    for at in range(6):
        mixed[2 + at] = a[2 + at] ^ b[at]
    mixed[8:18] = b[6:16]
    mixed[18:26] = a[8:16]
    return bytes(mixed)


def diversified(master: bytes, data: bytes) -> bytes:
    """AN10922 for AES-128: what the city's key service does when it makes a card."""
    assert 1 <= len(data) <= 31
    return mac_over(BlockCipher(master), b"\x01" + data, blocks_min=2)


class LeakResilient:
    """LRP with one updated key: evaluation, MAC and indexed code book."""

    def __init__(self, key: bytes, updated: int) -> None:
        aa, five = b"\xaa" * 16, b"\x55" * 16
        state = BlockCipher(key).encrypt(five)
        self._plain = []
        for _ in range(16):
            self._plain.append(BlockCipher(state).encrypt(aa))
            state = BlockCipher(state).encrypt(five)
        state = BlockCipher(key).encrypt(aa)
        for _ in range(updated):
            state = BlockCipher(state).encrypt(five)
        self._start = BlockCipher(state).encrypt(aa)

    def value(self, data: bytes) -> bytes:
        state = self._start
        for digit in data.hex():
            state = BlockCipher(state).encrypt(self._plain[int(digit, 16)])
        return BlockCipher(state).encrypt(bytes(16))

    def mac(self, message: bytes) -> bytes:
        k1 = shifted(self.value(bytes(16)))
        whole = len(message) > 0 and len(message) % 16 == 0
        mask = k1 if whole else shifted(k1)
        blocks = split(message if whole else padded_80(message), 16)
        state = bytes(16)
        for block in blocks[:-1]:
            state = self.value(exor(block, state))
        return self.value(exor(exor(blocks[-1], mask), state))

    def encrypt(self, data: bytes, count: int, count_size: int) -> bytes:
        out = b""
        for at, block in enumerate(split(data, 16)):
            index = (count + at) % 256**count_size
            out += BlockCipher(self.value(index.to_bytes(count_size, "big"))).encrypt(block)
        return out
