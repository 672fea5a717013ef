"""What DESFire and NTAG 424 say alike: authentication, the session after it, and reads in it.

Each step is a part of a dialogue (`yield from`): it yields commands in ISO 7816 wrapping, is sent
answers, and returns what it got or one `Failure`. Three sessions have the same face, `Channel`:
EV1 (AES, a CMAC chain over everything said), and EV2 over AES or over LRP (a MAC over each message
with its transaction identifier and counter).

A channel is of one conversation. After any failure it is thrown away.

Sources: NT4H2421Gx (NTAG 424 DNA) chapters 9 and 10, AN12196, AN12343 (DESFire Light); the EV1
session follows what EV1 cards answer (see `tests/readers/test_secure_channel.py`).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import Protocol, TypeVar

from edge.readers import card_crypto
from edge.readers.card_crypto import AES_BLOCK, MAC_SIZE, Lrp
from edge.readers.dialogue import Failure

AUTHENTICATE_AES = 0xAA
AUTHENTICATE_EV2_FIRST = 0x71
AUTHENTICATE_EV2_NON_FIRST = 0x77
MORE = 0xAF
GET_CARD_UID = 0x51
GET_KEY_VERSION = 0x64
READ_DATA_EV1 = 0xBD
READ_DATA_EV2 = 0xAD

OK = 0x00
STATUS_FAILURES = {
    0x1E: Failure.BAD_MAC,  # Integrity error: the card found our MAC wrong.
    0xA0: Failure.UNKNOWN_FAMILY,  # Application not found.
    0xAD: Failure.CARD_LOCKED,  # Authentication delay: many wrong keys before this one.
    0xAE: Failure.WRONG_KEY,  # Authentication error.
}

UID_SIZE = 7  # ISO/IEC 14443-3 double size: all that NXP gives these chips.
TI_SIZE = 4
CRC_SIZE = 4
LRP_MODE = 0x01  # First byte of the answer of a card whose LRP mode is on.
LRP_CAPABILITY = 0x02  # PCDcap2.1: LRP is asked for.
# A native frame carries 59 bytes of data; DESFire EV1 sends longer reads in several.
FRAMES_MAX = 6  # Our choice: room for `READ_SIZE_MAX` in the 48-byte frames of a full read.
READ_SIZE_MAX = 239  # One short answer with padding and MAC; an identity file has 16 or 32 bytes.
assert READ_SIZE_MAX + 1 + MAC_SIZE <= 256 and (READ_SIZE_MAX + 1) % AES_BLOCK == 0

T = TypeVar("T")
Step = Generator[bytes, bytes, T | Failure]


@unique
class CommMode(StrEnum):
    """How a file is read. It stands in the file's settings and must be the same here."""

    PLAIN = "plain"
    MAC = "mac"
    FULL = "full"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRead:
    """A stretch of a standard data file."""

    file_no: int
    size: int  # Bytes. Never "to the end": how long the answer is must be known before it comes.
    mode: CommMode
    offset: int = 0

    def __post_init__(self) -> None:
        assert 0 <= self.file_no <= 0x1F
        assert 1 <= self.size <= READ_SIZE_MAX
        assert 0 <= self.offset <= 0xFFFFFF

    def header(self) -> bytes:
        offset, size = self.offset.to_bytes(3, "little"), self.size.to_bytes(3, "little")
        return bytes([self.file_no]) + offset + size


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back in native wrapping: 91 and a status, before them the data."""

    status: int
    data: bytes = field(repr=False)


class Channel(Protocol):
    """A session: wraps a command that has only a header, and opens its answer."""

    @property
    def read_data(self) -> int: ...

    @property
    def proves_plain_reads(self) -> bool: ...

    def command(self, instruction: int, header: bytes, mode: CommMode) -> bytes: ...

    def open(self, answer: Answer, mode: CommMode, size: int) -> bytes | Failure:
        """The `size` bytes of data in a good answer, proven by the session unless plain."""
        ...


# --- One command and its answer --------------------------------------------------------------


def native(instruction: int, data: bytes = b"") -> bytes:
    """A native command in ISO 7816 wrapping.

    >>> native(0x51).hex(), native(0x71, b"\\x02\\x00").hex()
    ('9051000000', '9071000002020000')
    """
    assert len(data) <= 0xFF
    body = bytes([len(data)]) + data if data else b""
    return bytes([0x90, instruction, 0x00, 0x00]) + body + b"\x00"


def parse(answer: bytes) -> Answer | Failure:
    if len(answer) < 2:
        return Failure.BAD_ANSWER
    if answer[-2] == 0x91:
        return Answer(status=answer[-1], data=answer[:-2])
    # 6D00 and 6E00: neither the instruction nor its class is known to this card.
    foreign = answer in (b"\x6d\x00", b"\x6e\x00")
    return Failure.UNKNOWN_FAMILY if foreign else Failure.BAD_ANSWER


def say(command: bytes, *, expect: int = OK, size: int | None = None) -> Step[Answer]:
    """One command and one answer, with just this status and, if given, this size of data."""
    answer = parse((yield command))
    if isinstance(answer, Failure):
        return answer
    if answer.status != expect:
        return STATUS_FAILURES.get(answer.status, Failure.BAD_ANSWER)
    if size is not None and len(answer.data) != size:
        return Failure.BAD_ANSWER
    return answer


def say_all(command: bytes) -> Step[Answer]:
    """One command and its answer, which may come in several frames."""
    data = b""
    for _ in range(FRAMES_MAX):
        answer = parse((yield command))
        if isinstance(answer, Failure):
            return answer
        data += answer.data
        if answer.status == OK:
            return Answer(status=OK, data=data)
        if answer.status != MORE:
            return STATUS_FAILURES.get(answer.status, Failure.BAD_ANSWER)
        command = native(MORE)
    return Failure.BAD_ANSWER


def select(command: bytes, *, answer_ok: bytes) -> Step[None]:
    """Select an application: a card that says no to this is of another family."""
    answer = yield command
    if answer == answer_ok:
        return None
    return Failure.UNKNOWN_FAMILY if len(answer) == 2 else Failure.BAD_ANSWER


def get_key_version(key_no: int) -> Step[int]:
    """The version of a key, as anyone may ask a DESFire before authentication."""
    answer = yield from say(native(GET_KEY_VERSION, bytes([key_no])), size=1)
    return answer if isinstance(answer, Failure) else answer.data[0]


def get_card_uid(channel: Channel) -> Step[bytes]:
    """The real UID of a card whose session this is."""
    command = channel.command(GET_CARD_UID, b"", CommMode.FULL)
    answer = yield from say(command)
    return answer if isinstance(answer, Failure) else channel.open(answer, CommMode.FULL, UID_SIZE)


def read_file(channel: Channel, read: FileRead) -> Step[bytes]:
    answer = yield from say_all(channel.command(channel.read_data, read.header(), read.mode))
    return answer if isinstance(answer, Failure) else channel.open(answer, read.mode, read.size)


# --- EV1 -------------------------------------------------------------------------------------


class Ev1Channel:
    """The AES session of DESFire EV1: one chain of vectors runs through all that is said.

    Answers to plain and to MACed reads carry the same CMAC. A full read carries a CRC inside the
    encryption instead, which is why this session is worth less than an EV2 one.
    """

    read_data = READ_DATA_EV1
    proves_plain_reads = True

    def __init__(self, session_key: bytes) -> None:
        self._key = session_key
        self._vector = card_crypto.ZERO_BLOCK

    def command(self, instruction: int, header: bytes, mode: CommMode) -> bytes:
        self._vector = card_crypto.chained_cmac(
            self._key, bytes([instruction]) + header, self._vector
        )
        return native(instruction, header)

    def open(self, answer: Answer, mode: CommMode, size: int) -> bytes | Failure:
        status = bytes([answer.status])
        if mode is CommMode.FULL:
            return self._open_full(answer.data, status, size)
        if len(answer.data) != size + MAC_SIZE:
            return Failure.BAD_ANSWER
        data, mac = answer.data[:size], answer.data[size:]
        self._vector = card_crypto.chained_cmac(self._key, data + status, self._vector)
        return data if card_crypto.equal(self._vector[:MAC_SIZE], mac) else Failure.BAD_MAC

    def _open_full(self, ciphertext: bytes, status: bytes, size: int) -> bytes | Failure:
        if len(ciphertext) != size + CRC_SIZE + -(size + CRC_SIZE) % AES_BLOCK:
            return Failure.BAD_ANSWER
        clear = card_crypto.aes_cbc_decrypt(self._key, ciphertext, self._vector)
        self._vector = ciphertext[-AES_BLOCK:]
        data = clear[:size]
        # The length was asked for, so the padding is zeros; the CRC is over data and status.
        proof = card_crypto.crc32(data + status).ljust(len(clear) - size, b"\x00")
        return data if card_crypto.equal(clear[size:], proof) else Failure.BAD_MAC


def authenticate_ev1(key_no: int, key: bytes, rnd_a: bytes) -> Step[Ev1Channel]:
    """AuthenticateAES: both sides show that they know the key. One chain of CBC through it all."""
    first = yield from say(native(AUTHENTICATE_AES, bytes([key_no])), expect=MORE, size=AES_BLOCK)
    if isinstance(first, Failure):
        return first
    rnd_b = card_crypto.aes_cbc_decrypt(key, first.data)
    token = card_crypto.aes_cbc_encrypt(key, rnd_a + card_crypto.rotate_left(rnd_b), first.data)
    second = yield from say(native(MORE, token), size=AES_BLOCK)
    if isinstance(second, Failure):
        return second
    proof = card_crypto.aes_cbc_decrypt(key, second.data, token[-AES_BLOCK:])
    if not card_crypto.equal(proof, card_crypto.rotate_left(rnd_a)):
        return Failure.WRONG_KEY
    return Ev1Channel(card_crypto.session_key_ev1(rnd_a, rnd_b))


# --- EV2, over AES and over LRP --------------------------------------------------------------


class Suite(Protocol):
    """The two primitives an EV2 session is made of."""

    def mac(self, message: bytes) -> bytes: ...

    def encrypt(self, clear: bytes, *, ti: bytes, counter: int) -> bytes: ...

    def decrypt(self, ciphertext: bytes, *, ti: bytes, counter: int) -> bytes: ...


class AesSuite:
    def __init__(self, keys: card_crypto.SessionKeys) -> None:
        self._keys = keys

    def mac(self, message: bytes) -> bytes:
        return card_crypto.cmac(self._keys.mac, message)

    def encrypt(self, clear: bytes, *, ti: bytes, counter: int) -> bytes:
        key = self._keys.encryption
        vector = card_crypto.vector_ev2(key, ti=ti, counter=counter, for_answer=False)
        return card_crypto.aes_cbc_encrypt(key, clear, vector)

    def decrypt(self, ciphertext: bytes, *, ti: bytes, counter: int) -> bytes:
        key = self._keys.encryption
        vector = card_crypto.vector_ev2(key, ti=ti, counter=counter, for_answer=True)
        return card_crypto.aes_cbc_decrypt(key, ciphertext, vector)


class LrpSuite:
    """LRP counts enciphered blocks itself, from one: the authentication used block zero."""

    def __init__(self, mac: Lrp, encryption: Lrp, *, counter: int = 1) -> None:
        self._mac = mac
        self._encryption = encryption
        self._counter = counter

    def mac(self, message: bytes) -> bytes:
        return self._mac.cmac(message)

    def encrypt(self, clear: bytes, *, ti: bytes, counter: int) -> bytes:
        ciphertext = self._encryption.encrypt(clear, self._counter.to_bytes(4, "big"))
        self._counter += len(clear) // AES_BLOCK
        return ciphertext

    def decrypt(self, ciphertext: bytes, *, ti: bytes, counter: int) -> bytes:
        clear = self._encryption.decrypt(ciphertext, self._counter.to_bytes(4, "big"))
        self._counter += len(ciphertext) // AES_BLOCK
        return clear


class Ev2Channel:
    """A session with a transaction identifier and a counter of commands; NT4H2421Gx 9.1 and 9.2."""

    read_data = READ_DATA_EV2
    proves_plain_reads = False

    def __init__(self, suite: Suite, *, ti: bytes, counter: int = 0) -> None:
        assert len(ti) == TI_SIZE
        self.ti = ti
        self.counter = counter
        self._suite = suite

    def command(self, instruction: int, header: bytes, mode: CommMode) -> bytes:
        mac = b"" if mode is CommMode.PLAIN else self._mac(instruction, header)
        self.counter += 1
        return native(instruction, header + mac)

    def write(self, instruction: int, header: bytes, data: bytes, mode: CommMode) -> bytes:
        """A command that carries data: enciphered behind its plain header, MACed, or plain."""
        if mode is CommMode.FULL:
            clear = card_crypto.pad(data)
            data = self._suite.encrypt(clear, ti=self.ti, counter=self.counter)
        return self.command(instruction, header + data, mode)

    def open(self, answer: Answer, mode: CommMode, size: int) -> bytes | Failure:
        if mode is CommMode.PLAIN:
            return answer.data if len(answer.data) == size else Failure.BAD_ANSWER
        full = mode is CommMode.FULL
        sent_size = len(card_crypto.pad(bytes(size))) if full else size
        if len(answer.data) != sent_size + MAC_SIZE:
            return Failure.BAD_ANSWER
        data, mac = answer.data[:sent_size], answer.data[sent_size:]
        if not card_crypto.equal(self._mac(answer.status, data), mac):
            return Failure.BAD_MAC
        if not full:
            return data
        clear = card_crypto.unpad(self._suite.decrypt(data, ti=self.ti, counter=self.counter))
        return clear if clear is not None and len(clear) == size else Failure.BAD_ANSWER

    def _mac(self, code: int, message: bytes) -> bytes:
        """MACt over the instruction or the status, the counter, the identifier and the message."""
        counter = self.counter.to_bytes(2, "little")
        return card_crypto.truncated(self._suite.mac(bytes([code]) + counter + self.ti + message))


def authenticate_ev2_first(key_no: int, key: bytes, rnd_a: bytes) -> Step[Ev2Channel]:
    """AuthenticateEV2First over AES: the card gives a new transaction identifier."""
    begin = native(AUTHENTICATE_EV2_FIRST, bytes([key_no, 0]))  # No capabilities of ours.
    proven = yield from _prove_ev2(begin, key, rnd_a, answer_size=2 * AES_BLOCK)
    if isinstance(proven, Failure):
        return proven
    suite, clear = proven
    ti, proof, ours = clear[:TI_SIZE], clear[TI_SIZE:20], clear[26:]
    if not card_crypto.equal(proof, card_crypto.rotate_left(rnd_a)):
        return Failure.WRONG_KEY
    # The card repeats the capabilities we sent: none, filled with zeros.
    return Ev2Channel(suite, ti=ti) if ours == bytes(6) else Failure.BAD_ANSWER


def authenticate_ev2_non_first(
    key_no: int, key: bytes, rnd_a: bytes, channel: Ev2Channel
) -> Step[Ev2Channel]:
    """AuthenticateEV2NonFirst inside `channel`: new keys, the same identifier and counter."""
    begin = native(AUTHENTICATE_EV2_NON_FIRST, bytes([key_no]))
    proven = yield from _prove_ev2(begin, key, rnd_a, answer_size=AES_BLOCK)
    if isinstance(proven, Failure):
        return proven
    suite, proof = proven
    if not card_crypto.equal(proof, card_crypto.rotate_left(rnd_a)):
        return Failure.WRONG_KEY
    return Ev2Channel(suite, ti=channel.ti, counter=channel.counter)


def _prove_ev2(
    begin: bytes, key: bytes, rnd_a: bytes, *, answer_size: int
) -> Step[tuple[AesSuite, bytes]]:
    """The three passes of EV2 over AES: the session's keys, and the card's proof in clear."""
    first = yield from say(begin, expect=MORE, size=AES_BLOCK)
    if isinstance(first, Failure):
        return first
    rnd_b = card_crypto.aes_cbc_decrypt(key, first.data)
    token = card_crypto.aes_cbc_encrypt(key, rnd_a + card_crypto.rotate_left(rnd_b))
    second = yield from say(native(MORE, token), size=answer_size)
    if isinstance(second, Failure):
        return second
    suite = AesSuite(card_crypto.session_keys_ev2(key, rnd_a, rnd_b))
    return suite, card_crypto.aes_cbc_decrypt(key, second.data)


def authenticate_lrp_first(key_no: int, key: bytes, rnd_a: bytes) -> Step[Ev2Channel]:
    """AuthenticateLRPFirst: random numbers in clear, proofs by CMAC_LRP; NT4H2421Gx 9.2.5."""
    begin = native(AUTHENTICATE_EV2_FIRST, bytes([key_no, 1, LRP_CAPABILITY]))
    first = yield from say(begin, expect=MORE, size=1 + AES_BLOCK)
    if isinstance(first, Failure):
        return first
    if first.data[0] != LRP_MODE:
        return Failure.BAD_ANSWER
    rnd_b = first.data[1:]
    mac, encryption = card_crypto.session_lrp(key, rnd_a, rnd_b)
    second = yield from say(native(MORE, rnd_a + mac.cmac(rnd_a + rnd_b)), size=2 * AES_BLOCK)
    if isinstance(second, Failure):
        return second
    enciphered, proof = second.data[:AES_BLOCK], second.data[AES_BLOCK:]
    if not card_crypto.equal(mac.cmac(rnd_b + rnd_a + enciphered), proof):
        return Failure.WRONG_KEY
    clear = encryption.decrypt(enciphered, bytes(4))
    ours = clear[10:]
    if ours != bytes([LRP_CAPABILITY]).ljust(6, b"\x00"):
        return Failure.BAD_ANSWER
    return Ev2Channel(LrpSuite(mac, encryption), ti=clear[:TI_SIZE])
