"""The synthetic school's cards as model chips: those that prove something, and what copies them.

| name | what it is |
|---|---|
| `pupil-ev2` | DESFire EV2 with a random UID |
| `pupil-static` | the same card, personalised with its real UID to be seen |
| `pupil-clone` | other silicon with the UID of `pupil-static`, and keys of its own |
| `pupil-factory` | the same, its keys never changed |
| `staff-424` | NTAG 424 |
| `guest-sun` | NTAG 424 that makes messages (SUN) |
| `band-aes` | Ultralight AES, a wristband |
| `clone` | other silicon with the UID of `staff-424`, and keys of its own |
| `factory` | the same, its keys never changed |
| `copy` | a card with a settable UID that shows the number of `staff-424` |
| `classic` | a MIFARE Classic: four bytes of number, enrolled for nobody |
| `phone` | a random UID and nothing else |
| `bank` | a bank card: a number nobody has enrolled |
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from hil.city.card_keys import SUN_MAC, SUN_PICC_DATA, SUN_TEMPLATE, CardKeys
from hil.devices.cards.chip import Chip, Random, UidCard
from hil.devices.cards.desfire import MAC, CardFile, DesfireCard
from hil.devices.cards.ntag424 import Mirrors, Ntag424Card
from hil.devices.cards.ultralight import UltralightAesCard
from hil.world.school import School

IDENTITY = b"moskvenok-card-1"  # The file that a pupil's card is asked for: 16 bytes.
NTAG_KEYS = range(5)


class SchoolCards:
    """Makes them; the same name gives a new chip with the same UID and keys each time."""

    def __init__(
        self, school: School, keys: CardKeys, *, random: Random = secrets.token_bytes
    ) -> None:
        self._uids = {card.label: card.uid for card in school.smart_cards}
        self._keys = keys
        self._random = random
        self._makers: dict[str, Callable[[], Chip]] = {
            "pupil-ev2": self.pupil,
            "pupil-static": lambda: self.pupil(random_uid=False),
            "pupil-clone": lambda: self.pupil(random_uid=False).clone(),
            "pupil-factory": lambda: self.pupil(random_uid=False).factory(),
            "staff-424": self.staff,
            "guest-sun": self.guest,
            "band-aes": self.band,
            "clone": lambda: self.staff().clone(),
            "factory": lambda: self.staff().factory(),
            "copy": lambda: UidCard(self._uids["staff-424"], sak=0x20),
            "classic": lambda: UidCard(bytes.fromhex("6E1A2B3C")),
            "phone": lambda: UidCard(b"\x08\0\0\0", sak=0x20, random_uid=True),
            "bank": lambda: UidCard(bytes.fromhex("5A1B2C3D"), sak=0x20),
        }

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._makers)

    def make(self, name: str) -> Chip:
        return self._makers[name]()

    def pupil(self, *, random_uid: bool = True) -> DesfireCard:
        uid, profile = self._uids["pupil-ev2"], "pupil-ev2"
        return DesfireCard(
            uid,
            aid=bytes.fromhex(self._keys.profiles[profile]["aid"]),
            keys={
                0: self._keys.derived(profile, uid, key_no=0),
                1: self._keys.derived(profile, uid),
                2: self._keys.shared(profile, "uid_key"),
            },
            files={1: CardFile(IDENTITY, MAC, read_key_no=1)},
            random_uid=random_uid,
            random=self._random,
        )

    def staff(self) -> Ntag424Card:
        return Ntag424Card(
            self._uids["staff-424"], keys=self._ntag_keys("staff-424"), random=self._random
        )

    def guest(self, *, counter: int = 0) -> Ntag424Card:
        profile = "guest-sun"
        keys = self._ntag_keys(profile) | {1: self._keys.shared(profile, "meta_key")}
        return Ntag424Card(
            self._uids[profile],
            keys=keys,
            ndef=SUN_TEMPLATE,
            mirrors=Mirrors(
                mac_input=SUN_PICC_DATA,
                mac=SUN_MAC,
                file_key_no=2,
                picc_data=SUN_PICC_DATA,
                meta_key_no=1,
            ),
            counter=counter,
            random=self._random,
        )

    def band(self) -> UltralightAesCard:
        uid = self._uids["band-aes"]
        keys = {0: self._keys.derived("band-aes", uid), 1: self._random(16)}
        return UltralightAesCard(uid, keys=keys, random=self._random)

    def _ntag_keys(self, profile: str) -> dict[int, bytes]:
        uid = self._uids[profile]
        return {number: self._keys.derived(profile, uid, key_no=number) for number in NTAG_KEYS}
