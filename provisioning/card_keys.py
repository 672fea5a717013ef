"""The key ceremony file: the city's card profiles with their master keys, at the issuer's desk.

JSON, one file of mode 0600, made where the city keeps its secrets and carried to the desk for a
day's work. It never lies on a device: who steals one would have the keys of every card.

    {"schema": 1, "system": "mk-s0001", "profiles": {
      "pupil-ev2": {"family": "desfire_ev2", "aid": "014b4d", "key_no": 1, "key_version": 1,
                    "read": {"file_no": 1, "offset": 0, "size": 16, "mode": "mac"},
                    "uid_key_no": 2, "uid_key": "<32 hex>", "random_uid": true,
                    "master": "<32 hex>"},
      "staff-424": {"family": "ntag424", "key_no": 1, "key_version": 1, "master": "<32 hex>"},
      "guest-sun": {"family": "ntag424_sun", "key_no": 2, "key_version": 1, "meta_key_no": 1,
                    "meta_key": "<32 hex>", "master": "<32 hex>",
                    "sdm": {"template": "…", "mac_input": 42, "mac": 79, "picc_data": 42}}}}

The key n of a card is AN10922 over `UID | AID (DESFire) | n | system` with the profile's master.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edge.keyring import sdm_layout
from edge.messages import SdmMarks
from edge.model import CorruptData, SetupProblem, UidKind
from edge.readers.card_crypto import diversify_aes, is_factory_aes_key
from edge.readers.dialogue import CardKey
from edge.readers.issue_desfire import DesfirePlan
from edge.readers.issue_ntag424 import NTAG_KEYS, NtagPlan, SunPlan
from edge.readers.profile import DESFIRES, KEY_NO_MAX, CardProfile, Family, file_read
from edge.readers.reader import is_random_uid
from provisioning.files import read_whole

SCHEMA: Final = 1
SYSTEM_BYTES_MAX: Final = 16  # AN10922: 31 bytes of input; a UID, an AID and a number take 11.
DESFIRE_KEYS: Final = KEY_NO_MAX + 1
PICC_KEY_NO: Final = 0xFE  # In the derivation alone: the card's own level has one key, number 0.
FILE_MARK: Final = b"moskvenok-card-1"  # What a DESFire's identity file begins with.
KEYS: Final = frozenset(
    {
        *("family", "aid", "key_no", "key_version", "read", "uid_key_no", "uid_key", "random_uid"),
        *("master", "meta_key_no", "meta_key", "sdm", "read_key_version", "non_first", "cmac"),
        "version_page",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One profile, with what makes its cards' keys."""

    profile: CardProfile
    master: bytes = field(repr=False)
    key_version: int
    random_uid: bool
    system: bytes
    meta_key_no: int | None = None

    def derived(self, uid: bytes, key_no: int) -> CardKey:
        data = uid + self.profile.aid + bytes([key_no]) + self.system
        return CardKey(key=diversify_aes(self.master, data), version=self.key_version)

    def card_key(self, uid: bytes) -> CardKey:
        return self.derived(uid, self.profile.key_no)

    def desfire_plan(self, uid: bytes) -> DesfirePlan:
        """What `issue` writes. `SetupProblem` where the profile is no kind it can make."""
        profile = self.profile
        if profile.family is not Family.DESFIRE_EV2 or profile.read is None or not profile.key_no:
            raise SetupProblem(
                f'profile "{profile.profile_id}": "issue" makes a DESFire with family '
                '"desfire_ev2", a "read" file and a "key_no" above 0'
            )
        if profile.read.offset or profile.read.size > 32:
            raise SetupProblem(
                f'profile "{profile.profile_id}": "issue" writes a file of at most 32 bytes, read '
                "from its start"
            )
        self._keep_keys_apart(DESFIRE_KEYS)
        highest = max(profile.key_no, profile.uid_key_no or 0)
        keys = [self.derived(uid, number) for number in range(highest + 1)]
        if profile.uid_key is not None and profile.uid_key_no is not None:
            keys[profile.uid_key_no] = CardKey(key=profile.uid_key.key, version=self.key_version)
        return DesfirePlan(
            aid=profile.aid,
            picc_key=self.derived(uid, PICC_KEY_NO),
            app_keys=tuple(keys),
            read=profile.read,
            read_key_no=profile.key_no,
            data=FILE_MARK.ljust(profile.read.size, b"\0")[: profile.read.size],
            random_uid=self.random_uid,
        )

    def ntag_plan(self, uid: bytes) -> NtagPlan:
        """What `issue` writes. `SetupProblem` where the profile is no kind it can make."""
        profile, sun = self.profile, None
        self._keep_keys_apart(NTAG_KEYS)
        if profile.family is Family.NTAG424_SUN and self.meta_key_no is None:
            raise SetupProblem(
                f'profile "{profile.profile_id}": "issue" makes enciphered messages alone; give '
                '"meta_key", "meta_key_no" and "picc_data"'
            )
        keys = [self.derived(uid, number) for number in range(NTAG_KEYS)]
        if profile.uid_key is not None and profile.uid_key_no is not None:
            keys[profile.uid_key_no] = CardKey(key=profile.uid_key.key, version=self.key_version)
        layout = profile.layout
        if layout is not None and layout.picc_data is not None and self.meta_key_no is not None:
            assert profile.meta_key is not None
            keys[self.meta_key_no] = CardKey(key=profile.meta_key.key, version=self.key_version)
            sun = SunPlan(
                ndef=layout.template,
                picc_data=layout.picc_data,
                mac_input=layout.mac_input,
                mac=layout.mac,
                meta_key_no=self.meta_key_no,
                file_key_no=profile.key_no,
            )
        return NtagPlan(keys=tuple(keys), sun=sun, random_uid=self.random_uid)

    def _keep_keys_apart(self, keys: int) -> None:
        """Devices hold the card's own key and the shared ones. Key 0 changes all others, so a
        stolen device must not have it; and a shared key in another's place proves nothing."""
        found = (self.profile.key_no, self.profile.uid_key_no, self.meta_key_no)
        numbers = [number for number in found if number is not None]
        if len(set(numbers)) < len(numbers) or not all(0 < number < keys for number in numbers):
            raise SetupProblem(
                f'profile "{self.profile.profile_id}": "key_no", "uid_key_no" and "meta_key_no" '
                f"must differ, each 1 to {keys - 1}: key 0 is the card's master and never at a lane"
            )


@dataclass(frozen=True, slots=True)
class Ceremony:
    """The whole file. A `CardBook` at the desk: any card may be of any kind."""

    kinds: dict[str, Kind]

    def kind(self, profile_id: str) -> Kind:
        found = self.kinds.get(profile_id)
        if found is None:
            raise SetupProblem(f'no profile "{profile_id}"; there are {", ".join(self.kinds)}')
        return found

    def only(self, profile_id: str) -> Ceremony:
        """The same, for cards of one kind: two kinds of one chip cannot be told apart unasked."""
        return Ceremony({profile_id: self.kind(profile_id)})

    def candidates(self, shown: bytes) -> Sequence[CardProfile]:
        profiles = [kind.profile for kind in self.kinds.values()]
        if is_random_uid(shown, UidKind.ISO14443):
            profiles = [profile for profile in profiles if profile.reveals_uid]
        return sorted(profiles, key=lambda profile: profile.family is Family.NTAG424_SUN)

    def key_of(self, profile_id: str, uid: bytes) -> CardKey | None:
        return self.kinds[profile_id].card_key(uid)


def read_ceremony(path: Path) -> Ceremony:
    """`SetupProblem` says what is wrong with the file, where, and what to do."""
    data = read_whole(path)
    if data is None:
        raise SetupProblem(f"{path}: no such file; give the key ceremony file with --keys")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SetupProblem(f"{path}: mode {mode:04o} lets others in; run: chmod 600 {path}")
    try:
        table = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SetupProblem(f"{path}: not JSON: {error}; mend that line") from error
    if not isinstance(table, dict) or table.get("schema") != SCHEMA:
        raise SetupProblem(f'{path}: "schema" must be {SCHEMA}; is this a key ceremony file?')
    system, profiles = table.get("system"), table.get("profiles")
    if (
        not isinstance(system, str)
        or not system.isascii()
        or not 0 < len(system) <= SYSTEM_BYTES_MAX
    ):
        raise SetupProblem(
            f'{path}: "system" must be 1 to {SYSTEM_BYTES_MAX} letters of ASCII: it goes into the '
            "key of every card"
        )
    if not isinstance(profiles, dict) or not profiles:
        raise SetupProblem(f'{path}: "profiles" is missing or empty; see provisioning/README.md')
    return Ceremony(
        {
            profile_id: _kind(f"{path}: profiles.{profile_id}", profile_id, found, system)
            for profile_id, found in profiles.items()
        }
    )


def _kind(where: str, profile_id: str, found: Any, system: str) -> Kind:
    if not isinstance(found, dict):
        raise SetupProblem(f"{where}: must be a table")
    for key in found.keys() - KEYS:
        raise SetupProblem(f'{where}: "{key}" is not a key of a profile; remove or mend it')
    family = found.get("family")
    if not isinstance(family, str) or family not in set(Family):
        raise SetupProblem(f"{where}.family: {family!r:.40}; one of {', '.join(Family)}")
    if Family(family) is Family.ULTRALIGHT_C:
        raise SetupProblem(f"{where}.family: its keys are 3DES and are not derived here")
    key_version = _number(where, found, "key_version", 1)
    if not 1 <= key_version <= 0xFF:
        raise SetupProblem(f"{where}.key_version: {key_version}; 1 to 255, 0 is the factory's")
    for name in ("uid_key_no", "meta_key_no", "version_page"):
        if found.get(name) is not None:
            _number(where, found, name, 0)
    if found.get("aid") and family not in DESFIRES:
        raise SetupProblem(f"{where}.aid: a DESFire alone has one; remove it")
    meta_key_no = found.get("meta_key_no")
    if meta_key_no is not None and meta_key_no not in range(NTAG_KEYS):
        raise SetupProblem(f"{where}.meta_key_no: {meta_key_no!r:.20}; 0 to {NTAG_KEYS - 1}")
    try:
        profile = CardProfile(
            profile_id=profile_id,
            family=Family(family),
            aid=_hex(where, found, "aid", None) or b"",
            key_no=_number(where, found, "key_no", 0),
            read=None if "read" not in found else _read(where, found["read"]),
            uid_key_no=found.get("uid_key_no"),
            uid_key=_shared(where, found, "uid_key"),
            non_first=found.get("non_first", False) is True,
            read_key_version=found.get("read_key_version", False) is True,
            cmac=found.get("cmac", True) is True,
            version_page=found.get("version_page"),
            layout=None if "sdm" not in found else _sdm(where, found["sdm"]),
            meta_key=_shared(where, found, "meta_key"),
        )
        if problem := profile.problem():
            raise CorruptData(problem)
    except (CorruptData, TypeError) as error:
        raise SetupProblem(f"{where}: {error}") from error
    master = _hex(where, found, "master", 16)
    if master is None:
        raise SetupProblem(f'{where}: "master" is missing; give 32 hex digits')
    return Kind(
        profile=profile,
        master=master,
        key_version=key_version,
        random_uid=found.get("random_uid", False) is True,
        system=system.encode("ascii"),
        meta_key_no=meta_key_no,
    )


def _number(where: str, found: dict[str, Any], name: str, default: int) -> int:
    value = found.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise SetupProblem(f"{where}.{name}: {value!r:.40}; give a whole number")
    return value


def _hex(where: str, found: dict[str, Any], name: str, size: int | None) -> bytes | None:
    """Bytes written in hex. A factory key is refused: it is printed in every data sheet."""
    value = found.get(name)
    if value is None:
        return None
    try:
        data = bytes.fromhex(value)
    except (TypeError, ValueError) as error:
        raise SetupProblem(f"{where}.{name}: not hex digits") from error
    if size is not None and len(data) != size:
        raise SetupProblem(f"{where}.{name}: {len(data)} bytes; give {2 * size} hex digits")
    if size is not None and is_factory_aes_key(data):
        raise SetupProblem(f"{where}.{name}: this is a factory key; make a random one")
    return data


def _shared(where: str, found: dict[str, Any], name: str) -> CardKey | None:
    key = _hex(where, found, name, 16)
    return None if key is None else CardKey(key=key)


def _read(where: str, found: Any) -> Any:
    if not isinstance(found, dict) or found.keys() != {"file_no", "offset", "size", "mode"}:
        raise SetupProblem(f'{where}.read: give "file_no", "offset", "size" and "mode"')
    return file_read(found["file_no"], found["offset"], found["size"], found["mode"])


def _sdm(where: str, found: Any) -> Any:
    needed = {"template", "mac_input", "mac", "picc_data"}
    if not isinstance(found, dict) or found.keys() != needed:
        raise SetupProblem(f"{where}.sdm: give {', '.join(sorted(needed))}")
    try:
        marks = SdmMarks(
            template=found["template"].encode("latin-1"),
            mac_input=int(found["mac_input"]),
            mac=int(found["mac"]),
            picc_data=int(found["picc_data"]),
        )
    except (AttributeError, ValueError, TypeError) as error:
        raise SetupProblem(f"{where}.sdm: {error}") from error
    return sdm_layout(marks)
