"""MIFARE Ultralight C (3DES) and Ultralight AES: mutual authentication and safe configuration.

Native frames without their CRC, as a raw channel carries them (a PN532, not a PC/SC reader). A
card that says no answers NAK, a frame of one byte, or not at all (an empty answer here).

Both chips can be set up so that others can change their keys bit by bit or skip the MAC, and then
they prove little. A card set up so is refused: `unsafe_configuration`. Ultralight C protects
nothing after its authentication, so its check finds carelessness and not an attacker in between.

Ultralight AES counts wrong keys over its whole life: at AUTH_LIM it refuses the right key for ever
(MF0AES(H)20 8.6.5). Hence one attempt, and the key version read from the card first if it is there.

A key here is in the order of the cipher. The chips keep it in their pages the other way round
(MF0ICU2 7.5.7, MF0AES(H)20 8.6.3): card makers have mixed that up before.

Sources: MF0ICU2 rev. 3.3 (7.5, 9), MF0AES(H)20, AN13452. How far their clause numbers were checked
stands in README.md beside this file.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge.model import UidKind
from edge.readers import card_crypto
from edge.readers.card_crypto import AES_BLOCK, DES_BLOCK, MAC_SIZE
from edge.readers.dialogue import CardKey, Dialogue, Evidence, Failure, KeyOf, Tier, held_key
from edge.readers.reader import is_random_uid
from edge.readers.secure_channel import Step

AUTHENTICATE = 0x1A
READ = 0x30  # Four pages, and over the end to page 0.
FAST_READ = 0x3A  # Ultralight AES: these pages.
MORE = 0xAF
DONE = 0x00
PAGE_SIZE = 4
READ_SIZE = 4 * PAGE_SIZE
NAK_SIZE_MAX = 1  # Four bits in a byte, or nothing at all where the chip keeps silent.
CASCADE_TAG = 0x88  # ISO/IEC 14443-3: part of the first check byte of a seven-byte UID.

RANDOM_SIZE_C = DES_BLOCK
RANDOM_SIZE_AES = 2 * AES_BLOCK  # One RndA for the data key, one for the UID key.

# Ultralight C, MF0ICU2 7.5.3 (lock bytes 2 and 3) and 7.5.8 (AUTH0): READ gives pages 28h to 2Bh.
CONFIG_PAGE_C = 0x28
# Lock byte 3: the key pages are written no more. That it is this bit is what public programs for
# the chip say; the safe range of AUTH0 below, which is in the data sheet, holds without it.
LOCK_KEYS_C = 0x80
AUTH0_SAFE_C = range(0x03, 0x2B)  # 7.5.10: up to 2Ah keys and AUTH0/AUTH1 need authentication.

# Ultralight AES, MF0AES(H)20 tables 7 to 15: pages 29h (CFG), 2Ah (ACCESS) to 2Dh (LOCK_KEYS).
CONFIG_PAGE_AES = 0x29
LOCK_KEYS_PAGE_AES = 0x2D
CONFIG_SIZE_AES = (1 + LOCK_KEYS_PAGE_AES - CONFIG_PAGE_AES) * PAGE_SIZE
CFG_RANDOM_ID = 0x01  # RID_ACT; the bit above it is SEC_MSG_ACT, the CMAC.
ACCESS_LOCKED = 0x40  # CFGLCK: the configuration is written no more.
LOCK_UID_KEY = 0x80
LOCK_DATA_KEY = 0x40
LOCK_LOCKS = 0x20  # The two bits before are as they are for ever.
DATA_KEY_NO = 0
UID_KEY_NO = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class UltralightProfile:
    """How the city personalised cards and wristbands of this kind."""

    uid_key: CardKey | None = None  # AES only: shared, reveals the UID behind a random one.
    cmac: bool = True  # AES only. False: cards without CMAC are taken, and are worth tier 2.
    version_page: int | None = None  # A page anyone may read; its first byte is the key version.

    def __post_init__(self) -> None:
        assert self.version_page is None or 0x04 <= self.version_page <= 0x27, "user memory"


def ultralight_c(
    uid: bytes, profile: UltralightProfile, *, key_of: KeyOf, random_bytes: bytes
) -> Dialogue:
    """3DES authentication with the card's key, then its configuration: tier 2.

    `uid` is the one of the anticollision: this chip has no random one. `random_bytes` are
    RANDOM_SIZE_C fresh secret ones.
    """
    assert len(random_bytes) == RANDOM_SIZE_C
    if is_random_uid(uid, UidKind.ISO14443):
        return Failure.RANDOM_UID
    held = held_key(key_of, uid, is_factory_key=card_crypto.is_factory_2tdea_key)
    if isinstance(held, Failure):
        return held
    failure = yield from _check_version(profile, held)
    if failure is not None:
        return failure
    failure = yield from authenticate_c(held.key, random_bytes)
    if failure is not None:
        return failure
    config = yield bytes([READ, CONFIG_PAGE_C])
    if len(config) != READ_SIZE:
        return Failure.BAD_ANSWER
    lock_byte_3, auth0 = config[1], config[2 * PAGE_SIZE]
    if not lock_byte_3 & LOCK_KEYS_C or auth0 not in AUTH0_SAFE_C:
        return Failure.UNSAFE_CONFIGURATION
    return Evidence(uid=uid, tier=Tier.ULTRALIGHT_C, key_version=held.version)


def ultralight_aes(
    uid: bytes, profile: UltralightProfile, *, key_of: KeyOf, random_bytes: bytes
) -> Dialogue:
    """AES authentication with the card's data key, its configuration under CMAC: tier 3.

    `uid` is the one of the anticollision, real or random. `random_bytes` are RANDOM_SIZE_AES fresh
    secret ones. Where the profile takes cards without CMAC, the evidence is tier 2.
    """
    assert len(random_bytes) == RANDOM_SIZE_AES
    session = Session(protected=profile.cmac)
    hidden = is_random_uid(uid, UidKind.ISO14443)
    if hidden:
        revealed = yield from _reveal(profile, session, random_bytes[AES_BLOCK:])
        if isinstance(revealed, Failure):
            return revealed
        uid = revealed
    held = held_key(key_of, uid, is_factory_key=card_crypto.is_factory_aes_key)
    if isinstance(held, Failure):
        return held
    if not hidden:  # Behind a random UID a session runs already, and the roster has the version.
        failure = yield from _check_version(profile, held)
        if failure is not None:
            return failure
    failure = yield from session.authenticate(DATA_KEY_NO, held.key, random_bytes[:AES_BLOCK])
    if failure is not None:
        return failure
    config = yield from session.say(bytes([FAST_READ, CONFIG_PAGE_AES, LOCK_KEYS_PAGE_AES]))
    if isinstance(config, Failure):
        return config
    if len(config) != CONFIG_SIZE_AES:
        return _unread(config, profile)
    if not _is_safe_aes(config):
        return Failure.UNSAFE_CONFIGURATION
    tier = Tier.ULTRALIGHT_AES if profile.cmac else Tier.ULTRALIGHT_C
    return Evidence(uid=uid, tier=tier, key_version=held.version)


def _is_safe_aes(config: bytes) -> bool:
    """Whether nobody without the key can change the keys, the MAC or what is protected.

    That the MAC is on needs no bit: this was read under it.
    """
    flags, auth0, access = config[0], config[3], config[PAGE_SIZE]
    locks = config[(LOCK_KEYS_PAGE_AES - CONFIG_PAGE_AES) * PAGE_SIZE]
    needed = LOCK_DATA_KEY | LOCK_LOCKS
    if flags & CFG_RANDOM_ID:
        needed |= LOCK_UID_KEY
    if locks & needed != needed:
        return False
    return auth0 <= CONFIG_PAGE_AES or bool(access & ACCESS_LOCKED)


def _unread(answer: bytes, profile: UltralightProfile) -> Failure:
    """Why a read after a good authentication gave no pages."""
    if profile.cmac and len(answer) <= NAK_SIZE_MAX:
        return Failure.UNSAFE_CONFIGURATION  # It does not know commands with a MAC: CMAC is off.
    return Failure.BAD_ANSWER


def _check_version(profile: UltralightProfile, held: CardKey) -> Step[None]:
    """Refuse a card with another version of the key before an attempt is spent on it."""
    if profile.version_page is None:
        return None
    answer = yield bytes([READ, profile.version_page])
    if len(answer) != READ_SIZE:
        return Failure.BAD_ANSWER
    return None if answer[0] == held.version else Failure.KEY_VERSION


# --- Ultralight C ----------------------------------------------------------------------------


def authenticate_c(key: bytes, rnd_a: bytes) -> Step[None]:
    """The three passes in one chain of CBC; MF0ICU2 7.5.5."""
    answer = yield bytes([AUTHENTICATE, 0x00])
    if len(answer) != 1 + DES_BLOCK or answer[0] != MORE:
        return _no_authentication(answer)
    rnd_b = card_crypto.tdes_cbc_decrypt(key, answer[1:])
    token = card_crypto.tdes_cbc_encrypt(key, rnd_a + card_crypto.rotate_left(rnd_b), answer[1:])
    answer = yield bytes([MORE]) + token
    if len(answer) != 1 + DES_BLOCK or answer[0] != DONE:
        return _refused(answer)
    proof = card_crypto.tdes_cbc_decrypt(key, answer[1:], token[-DES_BLOCK:])
    right = card_crypto.equal(proof, card_crypto.rotate_left(rnd_a))
    return None if right else Failure.WRONG_KEY


def _no_authentication(answer: bytes) -> Failure:
    """A chip without this command says NAK or nothing; anything longer is no such answer."""
    return Failure.UNKNOWN_FAMILY if len(answer) <= NAK_SIZE_MAX else Failure.BAD_ANSWER


def _refused(answer: bytes) -> Failure:
    return Failure.WRONG_KEY if len(answer) <= NAK_SIZE_MAX else Failure.BAD_ANSWER


# --- Ultralight AES --------------------------------------------------------------------------


class Session:
    """What is said with an Ultralight AES, under CMAC from the first authentication on.

    Command n and answer n + 1 are counted in one counter, least significant byte first, which
    starts again with each authentication. An AUTHENTICATE inside a session is MACed too, with the
    keys of that session; MF0AES(H)20 8.8.3.
    """

    def __init__(self, *, protected: bool) -> None:
        self._protected = protected
        self._key: bytes | None = None
        self._counter = 0

    def authenticate(self, key_no: int, key: bytes, rnd_a: bytes) -> Step[None]:
        """The one attempt with this key; MF0AES(H)20 8.6.1."""
        answer = yield from self.say(bytes([AUTHENTICATE, key_no]))
        if isinstance(answer, Failure):
            return answer
        if len(answer) != 1 + AES_BLOCK or answer[0] != MORE:
            return _no_authentication(answer)
        rnd_b = card_crypto.aes_cbc_decrypt(key, answer[1:])
        token = card_crypto.aes_cbc_encrypt(key, rnd_a + card_crypto.rotate_left(rnd_b))
        answer = yield from self.say(bytes([MORE]) + token)
        if isinstance(answer, Failure):
            return answer
        if len(answer) != 1 + AES_BLOCK or answer[0] != DONE:
            return _refused(answer)
        proof = card_crypto.aes_cbc_decrypt(key, answer[1:])
        if not card_crypto.equal(proof, card_crypto.rotate_left(rnd_a)):
            return Failure.WRONG_KEY
        self._key = card_crypto.session_key_ultralight(key, rnd_a, rnd_b)
        self._counter = 0
        return None

    def say(self, command: bytes) -> Step[bytes]:
        """One command and its answer without the MAC. A NAK or silence comes back as it is."""
        if self._key is None or not self._protected:
            return (yield command)
        answer = yield command + self._mac(command)
        if len(answer) <= NAK_SIZE_MAX:
            return answer
        body, mac = answer[:-MAC_SIZE], answer[-MAC_SIZE:]
        if len(mac) < MAC_SIZE:
            return Failure.BAD_ANSWER
        return body if card_crypto.equal(self._mac(body), mac) else Failure.BAD_MAC

    def _mac(self, message: bytes) -> bytes:
        assert self._key is not None
        counter = self._counter.to_bytes(2, "little")
        self._counter += 1
        return card_crypto.truncated(card_crypto.cmac(self._key, counter + message))


def _reveal(profile: UltralightProfile, session: Session, rnd_a: bytes) -> Step[bytes]:
    """The UID behind a random one, with the shared key that reveals UIDs and proves nothing."""
    if profile.uid_key is None:
        return Failure.RANDOM_UID
    if card_crypto.is_factory_aes_key(profile.uid_key.key):
        return Failure.FACTORY_KEY
    failure = yield from session.authenticate(UID_KEY_NO, profile.uid_key.key, rnd_a)
    if failure is not None:
        return failure
    pages = yield from session.say(bytes([READ, 0x00]))
    if isinstance(pages, Failure):
        return pages
    if len(pages) != READ_SIZE:
        return _unread(pages, profile)
    uid = pages[:3] + pages[4:8]
    first = CASCADE_TAG ^ uid[0] ^ uid[1] ^ uid[2]
    second = uid[3] ^ uid[4] ^ uid[5] ^ uid[6]
    return uid if (pages[3], pages[8]) == (first, second) else Failure.BAD_ANSWER
