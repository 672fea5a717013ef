"""The city's keys in its folder: signing keys, each site's scope keys, the root document over them.

Made at the first start, read at every later one; files are 0600 in a folder 0700, written beside
and renamed. Keys are rotated while the city runs: what is asked for here is always the newest, and
`root_document` names it together with those that may still be met. Certificates are
`authority.py`'s business.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from edge.messages import Root, RootKey, SignedWhat, b64u, encode_json, from_b64u
from edge.model import CorruptData, SetupProblem
from hil.city.authority import (
    CITY_NAME,
    DEVICE_ID,
    Authority,
    certificate_pem,
    city_client,
    issue_device,
    issue_server,
    make_authorities,
    public_bytes,
    public_key,
    public_key_of_request,
    read_authority,
    revocation_list,
    utc,
    write_private,
)
from hil.city.crypto import KEY_BYTES, SigningKey, new_seed

__all__ = [
    "CITY_NAME",
    "CITY_SCOPE",
    "DEVICE_ID",
    "PARTS",
    "SIGNING_ROLES",
    "Authority",
    "CityKeys",
    "ScopeKeys",
    "certificate_pem",
    "city_client",
    "issue_device",
    "issue_server",
    "open_keys",
    "public_bytes",
    "public_key",
    "public_key_of_request",
    "revocation_list",
    "utc",
    "write_private",
]

ROTATED_ROLES: Final = ("list", "freshness", "order", "release")
SIGNING_ROLES: Final = ("root", *ROTATED_ROLES)
PARTS: Final = ("people", "money", "menu", "settings")
CITY_SCOPE: Final = "city/museum"  # The one list that covers more than one site.
FORMER_KEPT: Final = 1  # Our choice: a device that slept through one rotation still opens names.
SEAL_VERSION_MAX: Final = 255  # WIRE: the version is one byte of a sealed column.


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeKeys:
    """The two secrets of a scope."""

    identifier_version: int
    identifier: bytes = field(repr=False)
    seal_version: int
    seal: bytes = field(repr=False)
    former: tuple[tuple[str, int, bytes], ...] = field(default=(), repr=False)

    def all(self) -> tuple[tuple[str, int, bytes], ...]:
        """(purpose, version, secret) of every key a device should hold, the newest first."""
        newest = (
            ("identifier", self.identifier_version, self.identifier),
            ("seal", self.seal_version, self.seal),
        )
        return newest + self.former


class _KeyFile(msgspec.Struct, frozen=True, kw_only=True):
    """`keys.json`: base64url seeds and secrets."""

    site_id: str
    signing: dict[str, str]
    scopes: dict[str, tuple[int, str, int, str]]
    root_document: str
    numbers: dict[str, int] = {}  # Role -> number in the newest key's id.
    believed: tuple[RootKey, ...] = ()  # Former keys that the root document still names.
    former: dict[str, tuple[tuple[str, int, str], ...]] = {}  # Of each scope.
    root_version: int = 1
    list_epoch: int = 1


class CityKeys:
    """Everything the city signs, issues and seals with. Threads may read while one rotates."""

    def __init__(self, folder: Path, file: _KeyFile, root: Authority, issuing: Authority) -> None:
        """`CorruptData` or `KeyError` when the file is damaged."""
        self.folder = folder
        self.root = root
        self.issuing = issuing
        self.generation = 0  # Grows with each change.
        self._lock = threading.Lock()
        self._take(file)

    def _take(self, file: _KeyFile) -> None:
        self._file = file
        self.site_id = file.site_id
        self.signing = {  # By role.
            role: SigningKey(
                key_id=_key_id(role, file.numbers.get(role, 1)),
                role=role,
                seed=from_b64u(file.signing[role]),
            )
            for role in SIGNING_ROLES
        }
        self.scopes = {
            scope: ScopeKeys(
                identifier_version=iv,
                identifier=from_b64u(identifier),
                seal_version=sv,
                seal=from_b64u(seal),
                former=tuple(
                    (purpose, version, from_b64u(secret))
                    for purpose, version, secret in file.former.get(scope, ())
                ),
            )
            for scope, (iv, identifier, sv, seal) in file.scopes.items()
        }
        self.root_document = file.root_document.encode()  # Signed lines of `Root`.
        self.list_epoch = file.list_epoch
        self.generation += 1

    def __repr__(self) -> str:
        return f"CityKeys({self.folder}, root document {self._file.root_version})"

    @property
    def chain_pem(self) -> str:
        return self.issuing.pem + self.root.pem

    @property
    def root_public(self) -> bytes:
        return self.signing["root"].public

    @property
    def root_version(self) -> int:
        return self._file.root_version

    @property
    def chain_path(self) -> Path:
        return self.folder / "chain.pem"

    # ------------------------------------------------------------------------------ changes

    def rotate_signing(self, role: str, now_ms: int, *, distrust: bool = False) -> None:
        """A new key for a role, and a root document that names it. With `distrust` the former
        keys of the role are named no longer: what they signed is worth nothing from then on."""
        assert role in ROTATED_ROLES
        with self._lock:
            file, former = self._file, self.signing[role]
            believed = [key for key in file.believed if not (distrust and key.role == role)]
            if not distrust:
                believed.append(_root_key(former))
            self._keep(
                msgspec.structs.replace(
                    file,
                    signing={**file.signing, role: b64u(new_seed())},
                    numbers={**file.numbers, role: file.numbers.get(role, 1) + 1},
                    believed=tuple(believed),
                ),
                now_ms,
            )

    def rotate_scope(self, scope: str, purpose: str) -> None:
        """A new identifier or seal key for a scope; the one before it is still handed out."""
        with self._lock:
            file = self._file
            iv, identifier, sv, seal = file.scopes[scope]
            fresh = b64u(os.urandom(KEY_BYTES))
            if purpose == "identifier":
                old, new = (purpose, iv, identifier), (iv + 1, fresh, sv, seal)
            else:
                assert purpose == "seal" and sv < SEAL_VERSION_MAX
                old, new = (purpose, sv, seal), (iv, identifier, sv + 1, fresh)
            others = tuple(key for key in file.former.get(scope, ()) if key[0] != purpose)
            same = tuple(key for key in file.former.get(scope, ()) if key[0] == purpose)
            kept = (*others, *(old, *same)[:FORMER_KEPT])
            self._write(
                msgspec.structs.replace(
                    file,
                    scopes={**file.scopes, scope: new},
                    former={**file.former, scope: kept},
                )
            )

    def raise_list_epoch(self, now_ms: int) -> int:
        """Every list begins anew above all that came before: after a restore from a backup."""
        with self._lock:
            file = self._file
            self._keep(msgspec.structs.replace(file, list_epoch=file.list_epoch + 1), now_ms)
            return self.list_epoch

    def add_sites(self, sites: Sequence[str]) -> None:
        """Scope keys for sites, and for the city-wide list, that have none yet."""
        with self._lock:
            made = {CITY_SCOPE: _secrets()}
            for site in sites:
                made |= _scope_secrets(site)
            new = {s: keys for s, keys in made.items() if s not in self._file.scopes}
            if new:
                scopes = {**self._file.scopes, **new}
                self._write(msgspec.structs.replace(self._file, scopes=scopes))

    def _keep(self, file: _KeyFile, now_ms: int) -> None:
        """With a root document of the next version over it."""
        version = file.root_version + 1
        file = msgspec.structs.replace(file, root_version=version)
        self._write(msgspec.structs.replace(file, root_document=_document(file, now_ms)))

    def _write(self, file: _KeyFile) -> None:
        write_private(self.folder / "keys.json", msgspec.json.encode(file))
        self._take(file)


def open_keys(
    folder: Path, site_id: str, now: datetime, *, more_sites: Sequence[str] = ()
) -> CityKeys:
    """The keys of this folder, made if there are none. `SetupProblem` when they are damaged."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    path = folder / "keys.json"
    if not path.exists():
        _make(folder, path, site_id, now)
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_KeyFile)
        file = _with_all_roles(file, path, now)
        root, issuing = read_authority(folder, "root"), read_authority(folder, "issuing")
        keys = CityKeys(folder, file, root, issuing)
    except (OSError, ValueError, KeyError, msgspec.MsgspecError, CorruptData) as error:
        raise SetupProblem(
            f"city keys in {folder}: {error}; restore the folder or use a new one"
        ) from error
    if file.site_id != site_id:
        raise SetupProblem(f"city keys in {folder} are of site {file.site_id}, not {site_id}")
    keys.add_sites(more_sites)
    return keys


def _with_all_roles(file: _KeyFile, path: Path, now: datetime) -> _KeyFile:
    """Keys of an older city get those of roles that came since, and a root document over them."""
    lacking = [role for role in ROTATED_ROLES if role not in file.signing]
    if not lacking or "root" not in file.signing:
        return file
    file = msgspec.structs.replace(
        file,
        signing={**file.signing, **{role: b64u(new_seed()) for role in lacking}},
        root_version=file.root_version + 1,
    )
    document = _document(file, int(now.timestamp() * 1000))
    file = msgspec.structs.replace(file, root_document=document)
    write_private(path, msgspec.json.encode(file))
    return file


def _make(folder: Path, path: Path, site_id: str, now: datetime) -> None:
    make_authorities(folder, now)
    file = _KeyFile(
        site_id=site_id,
        signing={role: b64u(new_seed()) for role in SIGNING_ROLES},
        scopes=_scope_secrets(site_id),
        root_document="",
    )
    document = _document(file, int(now.timestamp() * 1000))
    file = msgspec.structs.replace(file, root_document=document)
    write_private(path, msgspec.json.encode(file))  # Last: what is there makes the folder whole.


def _scope_secrets(site: str) -> dict[str, tuple[int, str, int, str]]:
    return {f"{site}/{part}": _secrets() for part in PARTS}


def _secrets() -> tuple[int, str, int, str]:
    return 1, b64u(os.urandom(KEY_BYTES)), 1, b64u(os.urandom(KEY_BYTES))


def _document(file: _KeyFile, now_ms: int) -> str:
    """The root document over the keys of a file, signed by its root key."""
    newest = (
        SigningKey(
            key_id=_key_id(role, file.numbers.get(role, 1)),
            role=role,
            seed=from_b64u(file.signing[role]),
        )
        for role in ROTATED_ROLES
    )
    document = Root(
        version=file.root_version,
        keys=(*(_root_key(key) for key in newest), *file.believed),
        issued_utc_ms=now_ms,
        list_epoch=file.list_epoch,
    )
    root = SigningKey(key_id="root", role="root", seed=from_b64u(file.signing["root"]))
    return root.sign_lines(SignedWhat.ROOT, encode_json(document)).decode()


def _root_key(key: SigningKey) -> RootKey:
    return RootKey(key_id=key.key_id, role=key.role, public=b64u(key.public))


def _key_id(role: str, number: int) -> str:
    return "root" if role == "root" else f"{role}-{number}"
