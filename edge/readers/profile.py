"""How the city personalised one kind of card, and the dialogue that asks such a card.

A profile is one value for all families: a reader, the desk and the bench make their dialogues here.
It comes from a signed row of the site's settings (`edge/keyring.py` opens it) or from a key
ceremony file (`provisioning/card_keys.py`). Which profile a card is asked by is `proving.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum, unique

from edge.model import CorruptData
from edge.readers import mutual, ultralight
from edge.readers.desfire import AID_SIZE, DesfireProfile, desfire_ev1, desfire_ev2
from edge.readers.dialogue import CardKey, Dialogue, KeyOf, Tier
from edge.readers.mutual import MutualProfile
from edge.readers.ntag424 import SdmCard, SdmLayout, ntag424, ntag424_sun
from edge.readers.secure_channel import READ_SIZE_MAX, CommMode, FileRead
from edge.readers.ultralight import UltralightProfile, ultralight_aes, ultralight_c

KEY_NO_MAX = 0x0D  # MF2DLHX0 and MF3D(H)x1: an application has at most 14 keys.
FILE_NO_MAX = 0x1F

RandomBytes = Callable[[int], bytes]  # So many fresh secret ones.


@unique
class Family(StrEnum):
    """What is in the field, as far as dialogues differ. Values travel: add, never rename."""

    DESFIRE_EV1 = "desfire_ev1"
    DESFIRE_EV2 = "desfire_ev2"  # And EV3.
    NTAG424 = "ntag424"
    NTAG424_LRP = "ntag424_lrp"
    NTAG424_SUN = "ntag424_sun"
    ULTRALIGHT_C = "ultralight_c"
    ULTRALIGHT_AES = "ultralight_aes"


DESFIRES = (Family.DESFIRE_EV1, Family.DESFIRE_EV2)
NATIVE = (Family.ULTRALIGHT_C, Family.ULTRALIGHT_AES)  # Spoken to in native frames, not in APDUs.


@dataclass(frozen=True, slots=True, kw_only=True)
class CardProfile:
    """One kind of card. Keys in it are shared ones, which reveal UIDs and prove nothing.

    Only what its family uses is looked at; `problem` says whether that is whole.
    """

    profile_id: str
    family: Family
    aid: bytes = b""
    key_no: int = 0
    read: FileRead | None = None
    uid_key_no: int | None = None
    uid_key: CardKey | None = None
    non_first: bool = False
    read_key_version: bool = False
    cmac: bool = True
    version_page: int | None = None
    layout: SdmLayout | None = None
    meta_key: CardKey | None = None

    @property
    def native(self) -> bool:
        return self.family in NATIVE

    @property
    def reveals_uid(self) -> bool:
        """Whether a card of this kind may hide behind a random UID and still be named."""
        if self.family is Family.NTAG424_SUN:
            return True
        return self.uid_key is not None and self.family is not Family.ULTRALIGHT_C

    @property
    def tier(self) -> Tier:
        """What a good card of this kind proves: the tier it is enrolled at."""
        match self.family:
            case Family.ULTRALIGHT_C:
                return Tier.ULTRALIGHT_C
            case Family.ULTRALIGHT_AES:
                return Tier.ULTRALIGHT_AES if self.cmac else Tier.ULTRALIGHT_C
            case Family.NTAG424_SUN:
                return Tier.SUN
            case Family.DESFIRE_EV1:
                return Tier.AUTHENTICATED
            case Family.DESFIRE_EV2 | Family.NTAG424 | Family.NTAG424_LRP:
                plain = self.read is not None and self.read.mode is CommMode.PLAIN
                return Tier.AUTHENTICATED if plain else Tier.SESSION

    def problem(self) -> str:
        """What is missing or impossible, or ""."""
        if not 0 <= self.key_no <= KEY_NO_MAX:
            return f"key number {self.key_no} is not 0 to {KEY_NO_MAX}"
        if self.uid_key_no is not None and not 0 <= self.uid_key_no <= KEY_NO_MAX:
            return f"key number {self.uid_key_no} is not 0 to {KEY_NO_MAX}"
        if self.family in DESFIRES and (len(self.aid) != AID_SIZE or not any(self.aid)):
            return "a DESFire application has an AID of three bytes, never 000000"
        if self.family is Family.NTAG424_SUN:
            if self.layout is None:
                return "a SUN profile needs the layout of its message"
            if (self.meta_key is None) != (self.layout.picc_data is None):
                return "enciphered PICC data and its meta key go together"
        elif not self.native and (self.uid_key is None) != (self.uid_key_no is None):
            return "a shared UID key and its number go together"
        if self.read_key_version and self.family not in DESFIRES:
            return "the key version can be asked of a DESFire alone"
        if self.version_page is not None and not 0x04 <= self.version_page <= 0x27:
            return f"page {self.version_page} is not in user memory"
        return ""

    def dialogue(self, shown: bytes, *, key_of: KeyOf, random_bytes: RandomBytes) -> Dialogue:
        """Ask a card that shows this UID, real or random. `problem` must be ""."""
        match self.family:
            case Family.ULTRALIGHT_C:
                return ultralight_c(
                    shown,
                    self._ultralight(),
                    key_of=key_of,
                    random_bytes=random_bytes(ultralight.RANDOM_SIZE_C),
                )
            case Family.ULTRALIGHT_AES:
                return ultralight_aes(
                    shown,
                    self._ultralight(),
                    key_of=key_of,
                    random_bytes=random_bytes(ultralight.RANDOM_SIZE_AES),
                )
            case Family.NTAG424_SUN:
                assert self.layout is not None
                return ntag424_sun(
                    self.layout, meta_key=self.meta_key, card_of=lambda uid: _sdm_card(key_of(uid))
                )
            case Family.NTAG424 | Family.NTAG424_LRP:
                return ntag424(
                    shown,
                    self._mutual(),
                    lrp=self.family is Family.NTAG424_LRP,
                    key_of=key_of,
                    random_bytes=random_bytes(mutual.RANDOM_SIZE),
                )
            case Family.DESFIRE_EV1 | Family.DESFIRE_EV2:
                make = desfire_ev1 if self.family is Family.DESFIRE_EV1 else desfire_ev2
                profile = DesfireProfile(aid=self.aid, mutual=self._mutual())
                return make(
                    shown, profile, key_of=key_of, random_bytes=random_bytes(mutual.RANDOM_SIZE)
                )

    def _mutual(self) -> MutualProfile:
        return MutualProfile(
            key_no=self.key_no,
            read=self.read,
            uid_key_no=self.uid_key_no,
            uid_key=self.uid_key,
            non_first=self.non_first,
            read_key_version=self.read_key_version,
        )

    def _ultralight(self) -> UltralightProfile:
        return UltralightProfile(
            uid_key=self.uid_key, cmac=self.cmac, version_page=self.version_page
        )


def file_read(file_no: int, offset: int, size: int, mode: str) -> FileRead:
    """A stretch of a file as lists and key files name it. `CorruptData` when it cannot be."""
    fits = 0 <= file_no <= FILE_NO_MAX and 0 <= offset <= 0xFFFFFF and 1 <= size <= READ_SIZE_MAX
    if not fits or mode not in set(CommMode):
        raise CorruptData(f"no file can be read so: file {file_no}, {size} bytes, {mode!r:.20}")
    return FileRead(file_no=file_no, offset=offset, size=size, mode=CommMode(mode))


def _sdm_card(key: CardKey | None) -> SdmCard | None:
    """Which counter was seen last is not the reader's to know: whoever decides compares it."""
    return None if key is None else SdmCard(file_read_key=key)
