"""Cryptography of the card families, on top of `cryptography`. Bytes in, bytes out.

Each function names the document it follows. Byte strings stand as they are sent; where NXP counts
bytes from the right (RndA[15..14]) that is the left end here. Nothing here knows an APDU, a file or
a failure: those are in `secure_channel.py`, `ntag424.py` and `ultralight.py`.

Sizes are asserted: a key or a random number of another size is a mistake of this program. What
comes from a card is measured by the caller first.
"""

from __future__ import annotations

from binascii import crc32 as crc32_of_zip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import constant_time
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

AES_BLOCK = 16
DES_BLOCK = 8
KEY_SIZE = 16  # AES-128 and two-key 3DES.
MAC_SIZE = 8  # NXP sends half of a CMAC.
ZERO_BLOCK = bytes(AES_BLOCK)
_PLAIN = modes.ECB()  # noqa: S305  Of single blocks of our own making; no data is kept secret by it.

# SP 800-38B 5.3: what a doubling that overflows is reduced with, by block size.
REDUCTION = {AES_BLOCK: 0x87, DES_BLOCK: 0x1B}

# Chips are shipped with these: AES chips with keys of all zero, Ultralight C with the key of
# MF0ICU2 7.5.10 (table 13), here as the cipher takes it and as it stands in the pages.
FACTORY_AES_KEYS = (bytes(KEY_SIZE),)
FACTORY_2TDEA_KEYS = (bytes(KEY_SIZE), b"IEMKAERB!NACUOYF", b"BREAKMEIFYOUCAN!")

DIVERSIFY_AES_INPUT_MAX = 2 * AES_BLOCK - 1  # AN10922 2.2: two blocks with the constant.
DIVERSIFY_DES_INPUT_MAX = 2 * DES_BLOCK - 1


def equal(left: bytes, right: bytes) -> bool:
    """Compare in a time that does not tell where the difference is."""
    return constant_time.bytes_eq(left, right)


def rotate_left(data: bytes) -> bytes:
    """Move the first byte to the end: RndA' and RndB' of every NXP authentication.

    >>> rotate_left(bytes.fromhex("010203")).hex()
    '020301'
    """
    return data[1:] + data[:1]


def xor(left: bytes, right: bytes) -> bytes:
    assert len(left) == len(right)
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def pad(data: bytes) -> bytes:
    """ISO/IEC 9797-1 padding method 2 to whole AES blocks; always at least one byte."""
    return data + b"\x80" + bytes(-(len(data) + 1) % AES_BLOCK)


def unpad(data: bytes) -> bytes | None:
    """Undo `pad`; None if this is not a padding of the last block."""
    body = data.rstrip(b"\x00")
    if not body.endswith(b"\x80") or len(data) % AES_BLOCK or len(data) - len(body) >= AES_BLOCK:
        return None
    return body[:-1]


def is_factory_aes_key(key: bytes) -> bool:
    return key in FACTORY_AES_KEYS


def is_factory_2tdea_key(key: bytes) -> bool:
    """Parity bits are not part of a DES key (MF0ICU2 7.5.5), so they hide no factory key."""
    return _without_parity(key) in [_without_parity(shipped) for shipped in FACTORY_2TDEA_KEYS]


# --- Block ciphers ---------------------------------------------------------------------------


def aes_cbc_encrypt(key: bytes, data: bytes, iv: bytes = ZERO_BLOCK) -> bytes:
    return _cbc_encrypt(AES(key), data, iv)


def aes_cbc_decrypt(key: bytes, data: bytes, iv: bytes = ZERO_BLOCK) -> bytes:
    return _cbc_decrypt(AES(key), data, iv)


def tdes_cbc_encrypt(key: bytes, data: bytes, iv: bytes = bytes(DES_BLOCK)) -> bytes:
    """Two-key 3DES (16 bytes) as Ultralight C uses it, MF0ICU2 7.5.5, or three-key (24 bytes)."""
    return _cbc_encrypt(_tdes(key), data, iv)


def tdes_cbc_decrypt(key: bytes, data: bytes, iv: bytes = bytes(DES_BLOCK)) -> bytes:
    return _cbc_decrypt(_tdes(key), data, iv)


def _cbc_encrypt(algorithm: AES | TripleDES, data: bytes, iv: bytes) -> bytes:
    assert len(data) % (algorithm.block_size // 8) == 0
    return Cipher(algorithm, modes.CBC(iv)).encryptor().update(data)


def _cbc_decrypt(algorithm: AES | TripleDES, data: bytes, iv: bytes) -> bytes:
    assert len(data) % (algorithm.block_size // 8) == 0
    return Cipher(algorithm, modes.CBC(iv)).decryptor().update(data)


def _aes_blocks(key: bytes, blocks: bytes) -> bytes:
    """The plain cipher over each block: what others build a mode from, and no mode itself."""
    return Cipher(AES(key), _PLAIN).encryptor().update(blocks)


def _tdes(key: bytes) -> TripleDES:
    assert len(key) in (16, 24)
    return TripleDES(key if len(key) == 24 else key + key[:8])


def _without_parity(key: bytes) -> bytes:
    return bytes(byte & 0xFE for byte in key)


# --- CMAC ------------------------------------------------------------------------------------


def cmac(key: bytes, message: bytes) -> bytes:
    """AES-CMAC, NIST SP 800-38B 6.2."""
    mac = CMAC(AES(key))
    mac.update(message)
    return mac.finalize()


def truncated(mac: bytes) -> bytes:
    """Every second byte of a CMAC, as it is sent: NT4H2421Gx 9.1.3, and so in an Ultralight AES.

    >>> truncated(bytes(range(16))).hex()
    '01030507090b0d0f'
    """
    assert len(mac) == AES_BLOCK
    return mac[1::2]


def chained_cmac(key: bytes, message: bytes, iv: bytes) -> bytes:
    """AES-CMAC that starts from `iv` instead of zero, as DESFire EV1 chains its session.

    The next vector is the whole result; its first half is the MAC that is sent.
    """
    blocks = message + b"\x80" if len(message) % AES_BLOCK or not message else message
    blocks += bytes(-len(blocks) % AES_BLOCK)
    subkey = subkeys(AES(key))[0 if blocks == message else 1]
    return _cbc_encrypt(AES(key), _with_last_xored(blocks, subkey), iv)[-AES_BLOCK:]


def subkeys(algorithm: AES | TripleDES) -> tuple[bytes, bytes]:
    """K1 and K2, NIST SP 800-38B 6.1."""
    zero = bytes(algorithm.block_size // 8)
    k1 = _doubled(_cbc_encrypt(algorithm, zero, zero))
    return k1, _doubled(k1)


def _doubled(block: bytes) -> bytes:
    size = len(block)
    value = int.from_bytes(block, "big") << 1
    if value >> 8 * size:
        value = (value ^ REDUCTION[size]) & ((1 << 8 * size) - 1)
    return value.to_bytes(size, "big")


def _with_last_xored(blocks: bytes, subkey: bytes) -> bytes:
    return blocks[: -len(subkey)] + xor(blocks[-len(subkey) :], subkey)


# --- Key diversification, NXP AN10922 --------------------------------------------------------


def diversify_aes(master: bytes, diversification_input: bytes) -> bytes:
    """The key of one card from a master key of 16 (AN10922 2.2), 24 (2.3) or 32 bytes.

    Always over two blocks: an input of 15 bytes or less, such as a bare UID, is padded to two and
    not to one, which is what a stock CMAC would do. AN10957 shows such a case.
    """
    algorithm = AES(master)
    if len(master) == 16:
        return _diversified(algorithm, 0x01, diversification_input)
    if len(master) == 24:
        first = _diversified(algorithm, 0x11, diversification_input)
        last = _diversified(algorithm, 0x12, diversification_input)
        return first[:8] + xor(first[8:], last[:8]) + last[8:]
    assert len(master) == 32
    return b"".join(_diversified(algorithm, c, diversification_input) for c in (0x41, 0x42))


def diversify_2tdea(master: bytes, diversification_input: bytes) -> bytes:
    """AN10922 2.4, before the version of the master key is put back (`with_des_key_version`)."""
    assert len(master) == 16
    return b"".join(_diversified(_tdes(master), c, diversification_input) for c in (0x21, 0x22))


def diversify_3tdea(master: bytes, diversification_input: bytes) -> bytes:
    """AN10922 2.5, before the version of the master key is put back (`with_des_key_version`)."""
    assert len(master) == 24
    constants = (0x31, 0x32, 0x33)
    return b"".join(_diversified(_tdes(master), c, diversification_input) for c in constants)


def des_key_version(key: bytes) -> int:
    """The version hidden in the parity bits of the first eight bytes of a DES key; AN10922 2.4.

    >>> hex(des_key_version(bytes.fromhex("00112233445566778899AABBCCDDEEFF")))
    '0x55'
    """
    return int("".join(str(byte & 1) for byte in key[:8]), 2)


def with_des_key_version(key: bytes, version: int) -> bytes:
    """The same key with another version in those bits; the cipher does not see them."""
    assert 0 <= version <= 0xFF
    bits = ((version >> shift) & 1 for shift in range(7, -1, -1))
    return bytes(byte & 0xFE | bit for byte, bit in zip(key[:8], bits, strict=True)) + key[8:]


def _diversified(algorithm: AES | TripleDES, constant: int, diversification_input: bytes) -> bytes:
    block_size = algorithm.block_size // 8
    assert 1 <= len(diversification_input) <= 2 * block_size - 1
    message = bytes([constant]) + diversification_input
    k1, k2 = subkeys(algorithm)
    if len(message) == 2 * block_size:
        blocks = _with_last_xored(message, k1)
    else:
        padded = (message + b"\x80").ljust(2 * block_size, b"\x00")
        blocks = _with_last_xored(padded, k2)
    return _cbc_encrypt(algorithm, blocks, bytes(block_size))[-block_size:]


# --- DESFire EV1 and EV2 sessions ------------------------------------------------------------


def crc32(data: bytes) -> bytes:
    """CRC-32 without the final complement, least significant byte first, as DESFire EV1 sends it.

    >>> crc32(b"123456789").hex()
    'd9c60b34'
    """
    return (crc32_of_zip(data) ^ 0xFFFFFFFF).to_bytes(4, "little")


def session_key_ev1(rnd_a: bytes, rnd_b: bytes) -> bytes:
    """The AES session key of a DESFire EV1: both ends of both random numbers."""
    assert len(rnd_a) == len(rnd_b) == AES_BLOCK
    return rnd_a[:4] + rnd_b[:4] + rnd_a[12:] + rnd_b[12:]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionKeys:
    encryption: bytes = field(repr=False)
    mac: bytes = field(repr=False)


def session_keys_ev2(key: bytes, rnd_a: bytes, rnd_b: bytes) -> SessionKeys:
    """SesAuthENCKey and SesAuthMACKey from SV1 and SV2; NT4H2421Gx 9.1.7."""
    context = _nonce_context(rnd_a, rnd_b)
    return SessionKeys(
        encryption=cmac(key, bytes.fromhex("A55A00010080") + context),
        mac=cmac(key, bytes.fromhex("5AA500010080") + context),
    )


def session_key_ultralight(key: bytes, rnd_a: bytes, rnd_b: bytes) -> bytes:
    """SesAuthMACKey of an Ultralight AES: the same SV2; MF0AES(H)20 8.8.1."""
    return session_keys_ev2(key, rnd_a, rnd_b).mac


def vector_ev2(key: bytes, *, ti: bytes, counter: int, for_answer: bool) -> bytes:
    """The vector that EV2 data is enciphered from; NT4H2421Gx 9.1.4."""
    label = bytes.fromhex("5AA5" if for_answer else "A55A")
    return _aes_blocks(key, label + ti + counter.to_bytes(2, "little") + bytes(8))


def _nonce_context(rnd_a: bytes, rnd_b: bytes) -> bytes:
    """26 bytes: RndA[15..14] | RndA[13..8] xor RndB[15..10] | RndB[9..0] | RndA[7..0]."""
    assert len(rnd_a) == len(rnd_b) == AES_BLOCK
    return rnd_a[:2] + xor(rnd_a[2:8], rnd_b[:6]) + rnd_b[6:] + rnd_a[8:]


# --- LRP, the leakage resilient primitive, NXP AN12304 ---------------------------------------


LRP_NEXT = b"\x55" * AES_BLOCK  # AN12304 algorithms 1 and 2: leads to the next state,
LRP_SECRET = b"\xaa" * AES_BLOCK  # and this to a secret.


def lrp_plaintexts(key: bytes) -> tuple[bytes, ...]:
    """The sixteen secret plaintexts of a key; AN12304 algorithm 1 with m = 4."""
    return _lrp_secrets(_aes_blocks(key, LRP_NEXT), count=16)


def lrp_updated_keys(key: bytes) -> tuple[bytes, ...]:
    """The updated keys of a key; AN12304 algorithm 2 with q = 4."""
    return _lrp_secrets(_aes_blocks(key, LRP_SECRET), count=4)


def _lrp_secrets(state: bytes, *, count: int) -> tuple[bytes, ...]:
    secrets = []
    for _ in range(count):
        both = _aes_blocks(state, LRP_SECRET + LRP_NEXT)
        secrets.append(both[:AES_BLOCK])
        state = both[AES_BLOCK:]
    return tuple(secrets)


def lrp_eval(
    plaintexts: Sequence[bytes], updated_key: bytes, nibbles: Sequence[int], *, final: bool
) -> bytes:
    """AN12304 algorithm 3: one encryption per nibble of the input, and one to finish."""
    state = updated_key
    for nibble in nibbles:
        state = _aes_blocks(state, plaintexts[nibble])
    return _aes_blocks(state, ZERO_BLOCK) if final else state


class Lrp:
    """One updated key of an LRP key: CMAC_LRP, and LRICB with a counter that the caller keeps.

    What it needs time and again is worked out once: an evaluation is 33 encryptions, each under a
    key of its own.
    """

    def __init__(self, key: bytes, updated: int, *, beside: Lrp | None = None) -> None:
        """`beside` is another updated key of the same key: they share its secrets."""
        self._plaintexts: tuple[bytes, ...]
        self._updated_keys: tuple[bytes, ...]
        if beside is None:
            self._plaintexts, self._updated_keys = lrp_plaintexts(key), lrp_updated_keys(key)
        else:
            self._plaintexts, self._updated_keys = beside._plaintexts, beside._updated_keys
        self._updated_key = self._updated_keys[updated]
        self._subkeys: tuple[bytes, bytes] | None = None

    def subkeys(self) -> tuple[bytes, bytes]:
        if self._subkeys is None:
            k1 = _doubled(self._eval(ZERO_BLOCK))
            self._subkeys = k1, _doubled(k1)
        return self._subkeys

    def cmac(self, message: bytes) -> bytes:
        """CMAC_LRP of AN12304: a CMAC whose block cipher is the evaluation."""
        whole = bool(message) and len(message) % AES_BLOCK == 0
        blocks = message if whole else pad(message)
        blocks = _with_last_xored(blocks, self.subkeys()[0 if whole else 1])
        state = ZERO_BLOCK
        for start in range(0, len(blocks), AES_BLOCK):
            state = self._eval(xor(state, blocks[start : start + AES_BLOCK]))
        return state

    def encrypt(self, data: bytes, counter: bytes) -> bytes:
        """LRICB of AN12304 without padding; block n uses `counter` + n."""
        blocks = self._keyed_blocks(data, counter)
        return b"".join(aes_cbc_encrypt(key, block) for key, block in blocks)

    def decrypt(self, data: bytes, counter: bytes) -> bytes:
        """LRICB of AN12304, the other way, without padding."""
        blocks = self._keyed_blocks(data, counter)
        return b"".join(aes_cbc_decrypt(key, block) for key, block in blocks)

    def _keyed_blocks(self, data: bytes, counter: bytes) -> Iterator[tuple[bytes, bytes]]:
        assert len(data) % AES_BLOCK == 0
        first = int.from_bytes(counter, "big")
        for index in range(len(data) // AES_BLOCK):
            value = (first + index) % (1 << 8 * len(counter))
            key = self._eval(value.to_bytes(len(counter), "big"))
            yield key, data[index * AES_BLOCK : (index + 1) * AES_BLOCK]

    def _eval(self, value: bytes) -> bytes:
        nibbles = [nibble for byte in value for nibble in (byte >> 4, byte & 0x0F)]
        return lrp_eval(self._plaintexts, self._updated_key, nibbles, final=True)


def session_lrp(key: bytes, rnd_a: bytes, rnd_b: bytes) -> tuple[Lrp, Lrp]:
    """The MAC and the encryption side of an LRP session; NT4H2421Gx 9.2.7."""
    vector = bytes.fromhex("00010080") + _nonce_context(rnd_a, rnd_b) + bytes.fromhex("9669")
    return _lrp_sides(Lrp(key, 0).cmac(vector))


def _lrp_sides(master: bytes) -> tuple[Lrp, Lrp]:
    mac = Lrp(master, 0)
    return mac, Lrp(master, 1, beside=mac)


# --- Secure dynamic messaging, NT4H2421Gx 9.3 ------------------------------------------------


def sdm_session_keys(file_read_key: bytes, uid: bytes, counter: bytes) -> SessionKeys:
    """SesSDMFileReadENCKey and SesSDMFileReadMACKey; NT4H2421Gx 9.3.9.1. Counter as in the tag."""
    context = uid + counter
    return SessionKeys(
        encryption=cmac(file_read_key, _filled(bytes.fromhex("C33C00010080") + context)),
        mac=cmac(file_read_key, _filled(bytes.fromhex("3CC300010080") + context)),
    )


def sdm_session_lrp(file_read_key: bytes, uid: bytes, counter: bytes) -> tuple[Lrp, Lrp]:
    """The MAC and the encryption side of a message made in LRP mode; NT4H2421Gx 9.3.9.2."""
    vector = bytes.fromhex("00010080") + uid + counter
    vector += bytes(-(len(vector) + 2) % AES_BLOCK) + bytes.fromhex("1EE1")
    return _lrp_sides(Lrp(file_read_key, 0).cmac(vector))


def _filled(vector: bytes) -> bytes:
    return vector + bytes(-len(vector) % AES_BLOCK)
