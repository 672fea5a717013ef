"""How the city makes its cards: profiles, master keys, and the key of each card (AN10922).

The file `card-keys.json` in the city's folder is its key ceremony file: the same form that
`moskvenok cards issue` reads (`provisioning/README.md`). It is made once. Devices are
sent derived keys of their own site alone, sealed; a master key never leaves this folder.

Sealed bytes are the same every time (their nonce is made from what is sealed and where it stands),
so a list changes only when something in it does, and rotated seal keys need no second pass.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edge.messages import ProfileRow, SdmMarks
from hil.city.crypto import NONCE_BYTES, seal_bytes
from hil.city.keys import ScopeKeys, write_private
from hil.devices.cards.crypto import diversified

FILE_NAME: Final = "card-keys.json"
KEY_BYTES: Final = 16
SUN_URL: Final = b"https://card.example/t?p=" + b"0" * 32 + b"&c=" + b"0" * 16
# An NDEF file: two bytes of length, then one record with a URI; NT4H2421Gx 8.2.3.
SUN_TEMPLATE: Final = bytes([0, len(SUN_URL) + 4, 0xD1, 0x01, len(SUN_URL), 0x55]) + SUN_URL
SUN_PICC_DATA: Final = SUN_TEMPLATE.index(b"?p=") + 3
SUN_MAC: Final = SUN_TEMPLATE.index(b"&c=") + 3

# What the city personalises; `make_card_keys` adds the keys.
PROFILES: Final[dict[str, dict[str, Any]]] = {
    "pupil-ev2": {
        "family": "desfire_ev2",
        "aid": "014b4d",
        "key_no": 1,
        "key_version": 1,
        "read": {"file_no": 1, "offset": 0, "size": 16, "mode": "mac"},
        "uid_key_no": 2,
        "random_uid": True,
    },
    "staff-424": {"family": "ntag424", "key_no": 1, "key_version": 1},
    "guest-sun": {
        "family": "ntag424_sun",
        "key_no": 2,
        "key_version": 1,
        "meta_key_no": 1,
        "sdm": {
            "template": SUN_TEMPLATE.decode("latin-1"),
            "mac_input": SUN_PICC_DATA,
            "mac": SUN_MAC,
            "picc_data": SUN_PICC_DATA,
        },
    },
    "band-aes": {"family": "ultralight_aes", "key_no": 0, "key_version": 1},
}


@dataclass(frozen=True, slots=True)
class CardKeys:
    """The ceremony file, read."""

    system: str
    profiles: Mapping[str, dict[str, Any]] = field(repr=False)

    def derived(self, profile_id: str, uid: bytes, *, key_no: int | None = None) -> bytes:
        """A key of one card; its own unless another number is asked for."""
        profile = self.profiles[profile_id]
        number = profile["key_no"] if key_no is None else key_no
        aid = bytes.fromhex(profile.get("aid", ""))
        data = uid + aid + bytes([number]) + self.system.encode("ascii")
        return diversified(bytes.fromhex(profile["master"]), data)

    def shared(self, profile_id: str, name: str) -> bytes:
        """`uid_key` or `meta_key`; b"" where the profile has none."""
        return bytes.fromhex(self.profiles[profile_id].get(name, ""))

    def sealed_card_key(
        self, profile_id: str, uid: bytes, *, credential: bytes, scope: str, keys: ScopeKeys
    ) -> bytes:
        key = self.derived(profile_id, uid)
        return _sealed(keys, key, scope=scope, row_key=credential, column="key")

    def profile_rows(
        self, *, settings_scope: str, keys: ScopeKeys
    ) -> Iterator[tuple[str, ProfileRow]]:
        """What the settings say of each kind of card; `keys` are the people's."""
        for profile_id, profile in self.profiles.items():

            def sealed(name: str, of: str = profile_id) -> bytes:
                key = self.shared(of, name)
                row_key = of.encode()
                return (
                    _sealed(keys, key, scope=settings_scope, row_key=row_key, column=name)
                    if key
                    else b""
                )

            read, sdm = profile.get("read"), profile.get("sdm")
            yield (
                profile_id,
                ProfileRow(
                    family=profile["family"],
                    aid=bytes.fromhex(profile.get("aid", "")),
                    key_no=profile["key_no"],
                    read=None
                    if read is None
                    else (read["file_no"], read["offset"], read["size"], read["mode"]),
                    uid_key_no=profile.get("uid_key_no"),
                    sealed_uid_key=sealed("uid_key"),
                    sdm=None
                    if sdm is None
                    else SdmMarks(
                        template=sdm["template"].encode("latin-1"),
                        mac_input=sdm["mac_input"],
                        mac=sdm["mac"],
                        picc_data=sdm["picc_data"],
                    ),
                    sealed_meta_key=sealed("meta_key"),
                ),
            )


def make_card_keys(folder: Path, site: str) -> None:
    """The file of a new city; one that is there is left alone."""
    path = folder / FILE_NAME
    if path.exists():
        return
    profiles = {}
    for profile_id, profile in PROFILES.items():
        made = {**profile, "master": os.urandom(KEY_BYTES).hex()}
        if "uid_key_no" in profile:
            made["uid_key"] = os.urandom(KEY_BYTES).hex()
        if "meta_key_no" in profile:
            made["meta_key"] = os.urandom(KEY_BYTES).hex()
        profiles[profile_id] = made
    whole = {"schema": 1, "system": f"mk-{site}", "profiles": profiles}
    write_private(path, json.dumps(whole, indent=2).encode() + b"\n")


def open_card_keys(folder: Path) -> CardKeys | None:
    """None in a city that makes no cards which can prove themselves."""
    path = folder / FILE_NAME
    if not path.exists():
        return None
    found = json.loads(path.read_text())
    return CardKeys(found["system"], found["profiles"])


def _sealed(keys: ScopeKeys, data: bytes, *, scope: str, row_key: bytes, column: str) -> bytes:
    place = b"\0".join((scope.encode(), row_key, column.encode(), data))
    return seal_bytes(
        keys.seal,
        keys.seal_version,
        scope=scope,
        row_key=row_key,
        column=column,
        data=data,
        nonce=hmac.digest(keys.seal, place, hashlib.sha256)[:NONCE_BYTES],
    )
