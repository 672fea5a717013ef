"""What this device holds of cards that can prove themselves, as the readers' threads may ask it.

The agent tells the keyring, in its own thread, which scope keys are open and what the settings say
(`renew`); that becomes one immutable value. A reader's thread asks `candidates` and `key_of` while
a card lies in its field: the card's row is read on a connection that is the keyring's alone, its
key is opened for this one conversation, and nothing of it is kept. Nothing here raises into a
reader:
what goes wrong counts, and the card is one for which no key is held.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from edge.messages import CredentialRow, ProfileRow, SdmMarks, from_b64u
from edge.model import CorruptData, DeviceFault, SetupProblem, UidKind
from edge.offline_cache.card_rows import CardRows
from edge.readers.dialogue import CardKey
from edge.readers.ntag424 import SdmLayout
from edge.readers.profile import CardProfile, Family, file_read
from edge.readers.reader import is_random_uid
from edge.trust import ScopeKeys, credential_id, unseal_bytes

CARD_KEY_BYTES: Final = 16
PROFILES_MAX: Final = 32  # Our choice: kinds of cards in one school; each costs a command at most.
COLUMN_KEY: Final = "key"
COLUMN_UID_KEY: Final = "uid_key"
COLUMN_META_KEY: Final = "meta_key"


@dataclass(frozen=True, slots=True)
class _Held:
    """All that a conversation rests on, but for the card's own row."""

    keys: ScopeKeys | None = field(default=None, repr=False)
    profiles: Mapping[str, CardProfile] = field(default_factory=dict, repr=False)


class Keyring:
    """A `CardBook` for all readers of one device. `close` when no reader asks any more."""

    def __init__(self, folder: Path, *, site: str) -> None:
        self._people = f"{site}/people"
        self._settings = f"{site}/settings"
        self._rows = CardRows(folder, self._people)
        self._held = _Held()
        self._lock = threading.Lock()  # Of the counts.
        self._counts: dict[str, int] = {}

    # ------------------------------------------------------------------- the agent's thread

    def renew(self, rows: Mapping[str, ProfileRow], keys: ScopeKeys | None) -> list[str]:
        """Take new settings or new keys. What is wrong with a profile, as sentences."""
        profiles: dict[str, CardProfile] = {}
        problems: list[str] = []
        for profile_id, row in sorted(rows.items())[:PROFILES_MAX]:
            try:
                profiles[profile_id] = self._profile(profile_id, row, keys)
            except CorruptData as problem:
                problems.append(f"card profile {profile_id!r:.40}: {problem}")
        if len(rows) > PROFILES_MAX:
            problems.append(f"{len(rows)} card profiles, at most {PROFILES_MAX} are used")
        self._held = _Held(keys, profiles)
        return problems

    def counts(self) -> dict[str, int]:
        """What went wrong while cards were asked, since the start."""
        with self._lock:
            return dict(self._counts)

    def close(self) -> None:
        self._rows.close()

    # ------------------------------------------------------------------- a reader's thread

    def candidates(self, shown: bytes) -> Sequence[CardProfile]:
        held = self._held
        if is_random_uid(shown, UidKind.ISO14443):
            # A message needs no key of ours to be asked for, so those cards are asked last.
            hidden = [profile for profile in held.profiles.values() if profile.reveals_uid]
            return sorted(hidden, key=lambda profile: profile.family is Family.NTAG424_SUN)
        found = self._row(held, shown)
        profile = None if found is None else held.profiles.get(found[1].profile)
        return () if profile is None else (profile,)

    def key_of(self, profile_id: str, uid: bytes) -> CardKey | None:
        held = self._held
        found = self._row(held, uid)
        if found is None or found[1].profile != profile_id or held.keys is None:
            return None
        key, row = found
        try:
            return _card_key(held.keys, self._people, key, COLUMN_KEY, row.sealed_key,
                             row.key_version)  # fmt: skip
        except CorruptData:
            self._count("card_key_unusable")
            return None

    # ----------------------------------------------------------------------------- helpers

    def _row(self, held: _Held, uid: bytes) -> tuple[bytes, CredentialRow] | None:
        keys = held.keys
        if keys is None:
            return None

        def identify(version: int) -> bytes | None:
            secret = keys.identifier.get(version)
            if secret is None:
                return None
            return from_b64u(credential_id(secret, UidKind.ISO14443, uid))

        try:
            return self._rows.row_of(identify)
        except (CorruptData, DeviceFault, SetupProblem):
            self._count("card_lookup_failed")
            return None

    def _profile(self, profile_id: str, row: ProfileRow, keys: ScopeKeys | None) -> CardProfile:
        """Raises `CorruptData` when the row says nothing that can be used."""
        if row.family not in set(Family):
            raise CorruptData(f"no family {row.family!r:.40} is known here")
        uid_key = self._shared_key(keys, profile_id, COLUMN_UID_KEY, row.sealed_uid_key,
                                   row.uid_key_version)  # fmt: skip
        profile = CardProfile(
            profile_id=profile_id,
            family=Family(row.family),
            aid=row.aid,
            key_no=row.key_no,
            read=None if row.read is None else file_read(*row.read),
            uid_key_no=row.uid_key_no,
            uid_key=uid_key,
            non_first=row.non_first,
            read_key_version=row.read_key_version,
            cmac=row.cmac,
            version_page=row.version_page,
            layout=None if row.sdm is None else sdm_layout(row.sdm),
            meta_key=self._shared_key(keys, profile_id, COLUMN_META_KEY, row.sealed_meta_key, None),
        )
        if problem := profile.problem():
            raise CorruptData(problem)
        return profile

    def _shared_key(
        self,
        keys: ScopeKeys | None,
        profile_id: str,
        column: str,
        sealed: bytes,
        version: int | None,
    ) -> CardKey | None:
        if not sealed:
            return None
        if keys is None:
            raise CorruptData("its keys cannot be opened before the people's keys are here")
        return _card_key(keys, self._settings, profile_id.encode(), column, sealed, version)

    def _count(self, name: str) -> None:
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + 1


def sdm_layout(marks: SdmMarks) -> SdmLayout:
    """Where a SUN message is. `CorruptData` for marks that do not fit one another."""
    places = (
        marks.mac_input,
        marks.mac,
        marks.picc_data,
        marks.uid,
        marks.counter,
        marks.file_data,
    )
    if any(at is not None and at < 0 for at in places) or marks.file_data_size < 0:
        raise CorruptData("the marks of its message stand before the file")
    try:
        return SdmLayout(
            template=marks.template,
            mac_input=marks.mac_input,
            mac=marks.mac,
            picc_data=marks.picc_data,
            uid=marks.uid,
            counter=marks.counter,
            file_data=marks.file_data,
            file_data_size=marks.file_data_size,
            lrp=marks.lrp,
        )
    except AssertionError as mistake:  # Its checks say what must be true; here it came from afar.
        raise CorruptData("the marks of its message do not fit one another") from mistake


def _card_key(
    keys: ScopeKeys, scope: str, row_key: bytes, column: str, sealed: bytes, version: int | None
) -> CardKey:
    key = unseal_bytes(keys.seal, sealed, scope=scope, row_key=row_key, column=column)
    if len(key) != CARD_KEY_BYTES or (version is not None and not 0 <= version <= 0xFF):
        raise CorruptData(f"{scope}: a {column} of {len(key)} bytes, version {version}")
    return CardKey(key=key, version=version)
