"""NTAG 424 DNA: mutual authentication (AES or LRP), and messages it made by itself (SUN, SDM).

Two dialogues. `ntag424` is tier 6, like a DESFire EV2. `ntag424_sun` reads the NDEF file, in which
the chip put its UID, a counter that grows with every read, and a MAC: tier 4, because whoever read
the file with a phone can show that message once to every device that has not heard of its counter.

The counter must be strictly greater than the last one seen, not the next one: phones advance it
too. The new value is in the evidence; it is stored before the relay moves.

Sources: NT4H2421Gx 9.3 (secure dynamic messaging) and 10, AN12196.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from edge.readers import card_crypto
from edge.readers.card_crypto import AES_BLOCK, MAC_SIZE, Lrp, is_factory_aes_key
from edge.readers.dialogue import CardKey, Dialogue, Evidence, Failure, KeyOf, Tier
from edge.readers.mutual import Method, MutualProfile, prove, refusal_before_contact
from edge.readers.secure_channel import UID_SIZE, select

SELECT_APPLICATION = bytes.fromhex("00A4040C07D276000085010100")  # By its DF name.
SELECT_NDEF_FILE = bytes.fromhex("00A4000C02E10400")
READ_BINARY = bytes.fromhex("00B00000")
ISO_OK = b"\x90\x00"

COUNTER_SIZE = 3  # SDMReadCtr: 24 bits, least significant byte first, except in plain text.
PICC_DATA_TAG = 0xC7  # NT4H2421Gx 9.3.4: UID and counter are there, the UID has seven bytes.
LRP_RANDOM_SIZE = 8  # In LRP mode a random number goes before the enciphered PICC data.
FILE_SIZE_MAX = 256  # The NDEF file of this chip.
HEX_DIGITS = b"0123456789ABCDEF"  # The chip writes capital letters; nothing else is its writing.


def ntag424(
    uid: bytes, profile: MutualProfile, *, lrp: bool = False, key_of: KeyOf, random_bytes: bytes
) -> Dialogue:
    """Mutual authentication and a read (or GetCardUID) in the session: tier 6.

    `lrp` as the card was set; it cannot be set back. `random_bytes` are `mutual.RANDOM_SIZE` fresh
    secret ones. There is no GetKeyVersion before authentication on this chip.
    """
    assert not profile.read_key_version
    refusal = refusal_before_contact(uid, profile)
    if refusal is not None:
        return refusal
    failure = yield from select(SELECT_APPLICATION, answer_ok=ISO_OK)
    if failure is not None:
        return failure
    method = Method.LRP if lrp else Method.EV2
    return (yield from prove(uid, profile, method, key_of=key_of, random_bytes=random_bytes))


# --- SUN messages ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SdmLayout:
    """Where the chip writes into its NDEF file, in bytes from the start of the file.

    `template` is the file as it was personalised, up to the end of the MAC: what the chip does not
    write over must be there unchanged. Either `picc_data` is mirrored (UID and counter enciphered
    with the meta key), or `uid` and `counter` are in plain hexadecimal.
    """

    template: bytes
    mac_input: int  # The MAC covers the text from here to itself.
    mac: int
    picc_data: int | None = None
    uid: int | None = None
    counter: int | None = None
    file_data: int | None = None  # A stretch that is mirrored enciphered.
    file_data_size: int = 0  # In text, so twice the bytes; whole blocks.
    lrp: bool = False

    def __post_init__(self) -> None:
        assert (self.picc_data is None) == (self.uid is not None) == (self.counter is not None)
        assert (self.file_data is None) == (self.file_data_size == 0)
        assert self.file_data_size % (2 * AES_BLOCK) == 0
        assert 0 <= self.mac_input <= self.mac
        mirrors = self.mirrors()
        assert all(left.stop <= right.start for left, right in pairwise(mirrors)), "they overlap"
        assert self.mac + 2 * MAC_SIZE == mirrors[-1].stop == len(self.template) <= FILE_SIZE_MAX

    @property
    def picc_data_size(self) -> int:
        return 2 * (AES_BLOCK + LRP_RANDOM_SIZE if self.lrp else AES_BLOCK)

    def mirrors(self) -> list[range]:
        """The stretches that the chip writes, in the order of the file."""
        stretches = (
            (self.picc_data, self.picc_data_size),
            (self.uid, 2 * UID_SIZE),
            (self.counter, 2 * COUNTER_SIZE),
            (self.file_data, self.file_data_size),
            (self.mac, 2 * MAC_SIZE),
        )
        found = [range(at, at + size) for at, size in stretches if at is not None]
        return sorted(found, key=lambda stretch: stretch.start)


@dataclass(frozen=True, slots=True, kw_only=True)
class SdmCard:
    """What this device holds of a card that makes messages."""

    file_read_key: CardKey
    counter_last: int | None = None  # None: no message of it was ever seen.


SdmCardOf = Callable[[bytes], SdmCard | None]


def ntag424_sun(
    layout: SdmLayout, *, meta_key: CardKey | None = None, card_of: SdmCardOf
) -> Dialogue:
    """Read the NDEF file and open its message: tier 4. Needs no UID and no random bytes.

    `meta_key` is the shared key of enciphered PICC data; `card_of` gives what is held for a UID.
    """
    size = len(layout.template)
    for command in (SELECT_APPLICATION, SELECT_NDEF_FILE):
        failure = yield from select(command, answer_ok=ISO_OK)
        if failure is not None:
            return failure
    answer = yield READ_BINARY + bytes([size % FILE_SIZE_MAX])
    if len(answer) != size + len(ISO_OK) or not answer.endswith(ISO_OK):
        return Failure.BAD_ANSWER
    return open_sun(answer[:size], layout, meta_key=meta_key, card_of=card_of)


def open_sun(
    message: bytes, layout: SdmLayout, *, meta_key: CardKey | None = None, card_of: SdmCardOf
) -> Evidence | Failure:
    """Prove a message: right text, right key, right MAC, and a counter never seen before.

    A wrong key cannot be told from a changed message, so both are `bad_mac`.
    """
    assert (meta_key is None) == (layout.picc_data is None)
    if not _fits(message, layout):
        return Failure.UNKNOWN_FAMILY
    if meta_key is not None and is_factory_aes_key(meta_key.key):
        return Failure.FACTORY_KEY
    identity = _identity(message, layout, meta_key)
    if isinstance(identity, Failure):
        return identity
    uid, counter = identity
    card = card_of(uid)
    if card is None:
        return Failure.NO_KEY
    if is_factory_aes_key(card.file_read_key.key):
        return Failure.FACTORY_KEY
    session = SdmSession(card.file_read_key.key, uid, counter, lrp=layout.lrp)
    mac = _decoded(message[layout.mac :])
    if mac is None or not card_crypto.equal(
        session.mac(message[layout.mac_input : layout.mac]), mac
    ):
        return Failure.BAD_MAC
    data = b""
    if layout.file_data is not None:
        text = message[layout.file_data : layout.file_data + layout.file_data_size]
        enciphered = _decoded(text)
        if enciphered is None:
            return Failure.BAD_ANSWER
        data = session.decrypt(enciphered)
    count = int.from_bytes(counter, "little")
    if card.counter_last is not None and count <= card.counter_last:
        return Failure.REPLAYED
    return Evidence(
        uid=uid,
        tier=Tier.SUN,
        key_version=card.file_read_key.version,
        counter=count,
        data=data,
        # Only what stands inside the MAC's stretch is proven by it.
        data_proven=layout.file_data is None or layout.file_data >= layout.mac_input,
    )


class SdmSession:
    """The keys of one message, NT4H2421Gx 9.3.9. `counter` is SDMReadCtr as in the tag."""

    def __init__(self, file_read_key: bytes, uid: bytes, counter: bytes, *, lrp: bool) -> None:
        self._counter = counter
        self._lrp: tuple[Lrp, Lrp] | None = None
        if lrp:
            self._lrp = card_crypto.sdm_session_lrp(file_read_key, uid, counter)
        else:
            self._keys = card_crypto.sdm_session_keys(file_read_key, uid, counter)

    def mac(self, text: bytes) -> bytes:
        """SDMMAC over the text that was configured, often none at all."""
        if self._lrp is not None:
            return card_crypto.truncated(self._lrp[0].cmac(text))
        return card_crypto.truncated(card_crypto.cmac(self._keys.mac, text))

    def decrypt(self, enciphered: bytes) -> bytes:
        """SDMENCFileData."""
        if self._lrp is not None:
            return self._lrp[1].decrypt(enciphered, self._counter + bytes(3))
        key = self._keys.encryption
        vector = card_crypto.aes_cbc_encrypt(key, self._counter.ljust(AES_BLOCK, b"\x00"))
        return card_crypto.aes_cbc_decrypt(key, enciphered, vector)


def decrypt_picc_data(
    meta_key: bytes, enciphered: bytes, *, lrp: bool
) -> tuple[bytes, bytes] | None:
    """UID and counter, as in the tag; None if this key does not open it. NT4H2421Gx 9.3.4."""
    if lrp:
        random, enciphered = enciphered[:LRP_RANDOM_SIZE], enciphered[LRP_RANDOM_SIZE:]
        clear = Lrp(meta_key, 0).decrypt(enciphered, random)
    else:
        clear = card_crypto.aes_cbc_decrypt(meta_key, enciphered)
    if clear[0] != PICC_DATA_TAG:
        return None
    return clear[1 : 1 + UID_SIZE], clear[1 + UID_SIZE : 1 + UID_SIZE + COUNTER_SIZE]


def _fits(message: bytes, layout: SdmLayout) -> bool:
    """Whether all that the chip does not write is as it was personalised."""
    if len(message) != len(layout.template):
        return False
    at = 0
    for mirror in layout.mirrors():
        if message[at : mirror.start] != layout.template[at : mirror.start]:
            return False
        at = mirror.stop
    return True


def _identity(
    message: bytes, layout: SdmLayout, meta_key: CardKey | None
) -> tuple[bytes, bytes] | Failure:
    if meta_key is not None and layout.picc_data is not None:
        at = layout.picc_data
        enciphered = _decoded(message[at : at + layout.picc_data_size])
        if enciphered is None:
            return Failure.BAD_ANSWER
        opened = decrypt_picc_data(meta_key.key, enciphered, lrp=layout.lrp)
        return opened or Failure.WRONG_KEY
    assert layout.uid is not None and layout.counter is not None
    uid = _decoded(message[layout.uid : layout.uid + 2 * UID_SIZE])
    counter = _decoded(message[layout.counter : layout.counter + 2 * COUNTER_SIZE])
    if uid is None or counter is None:
        return Failure.BAD_ANSWER
    return uid, counter[::-1]  # In plain text the most significant byte stands first.


def _decoded(text: bytes) -> bytes | None:
    strange = text.translate(None, HEX_DIGITS)
    return None if strange else bytes.fromhex(text.decode("ascii"))
