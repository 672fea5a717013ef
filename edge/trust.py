"""Who may be believed, and what must stay secret: signatures, ids from UIDs, sealed columns, keys.

With `certificates`, `pin` and `tpm*` the one place of `cryptography` outside the card dialogues. A
UID's life ends in `credential_id`; a sealed name is opened by `unseal_column` only for a screen.
Keys at rest: the device key is a file of mode 0600 (`FileKeyStore`), PKCS#8, or sealed by this
machine's TPM (`edge/tpm.py`); a scope's keys are kept sealed to that key, as they came, so a copied
disk without `identity/` opens nothing, and one of a device with a TPM nothing at all.

Signatures are Ed25519 (RFC 8032) over `messages.signing_input`; ids HMAC-SHA-256 (RFC 2104);
sealed columns AES-256-GCM (SP 800-38D); boxes ECDH on P-256 with HKDF-SHA-256 (RFC 5869).
"""

from __future__ import annotations

import contextlib
import hmac
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cryptography.exceptions import InvalidSignature, InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from edge.messages import (
    SIGNING_ROLE,
    Root,
    ScopeKey,
    Signed,
    SignedWhat,
    b64u,
    decode_json,
    from_b64u,
    signing_input,
)
from edge.model import CorruptData, DeviceFault, SetupProblem, UidKind

if TYPE_CHECKING:
    from edge.tpm import Ahead

Lock = contextlib.AbstractContextManager[bool]

CREDENTIAL_ID_BYTES = 16  # protocol.md: first 16 bytes; 2**64 work to meet by chance.
SCOPE_KEY_BYTES = 32
POINT_BYTES = 65  # An uncompressed P-256 point, SEC 1, 2.3.3.
NONCE_BYTES = 12  # SP 800-38D, 5.2.1.1: the recommended length.
BOX_VERSION = 1
BOX_INFO = b"moskvenok/v1/scope-key"
PURPOSE_IDENTIFIER = "identifier"
PURPOSE_SEAL = "seal"
TPM_KEY = b"-----BEGIN TSS2 PRIVATE KEY-----"  # A key file that is of use to one TPM alone.


def credential_id(identifier_key: bytes, kind: UidKind, uid: bytes) -> str:
    """The scope's name for a chip: base64url of HMAC-SHA-256(kind, length, UID)[:16].

    >>> credential_id(bytes(32), UidKind.ISO14443, bytes.fromhex("04a1b2c3d4e580"))
    'sz15c5AwM0F_kKv0Hotr5w'
    """
    assert len(identifier_key) == SCOPE_KEY_BYTES
    assert 1 <= len(uid) <= 10
    message = bytes([kind, len(uid)]) + uid
    return b64u(hmac.new(identifier_key, message, sha256).digest()[:CREDENTIAL_ID_BYTES])


def unseal_column(
    seal_keys: Mapping[int, bytes], sealed: bytes, *, scope: str, row_key: bytes, column: str
) -> str:
    """The text of a personal column; `CorruptData` when it was made for another place or key."""
    if not sealed:
        return ""
    data = unseal_bytes(seal_keys, sealed, scope=scope, row_key=row_key, column=column)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise CorruptData(f"{scope}: a sealed {column} does not open") from error


def unseal_bytes(
    seal_keys: Mapping[int, bytes], sealed: bytes, *, scope: str, row_key: bytes, column: str
) -> bytes:
    """As `unseal_column`, for what is no text: the key of a card."""
    if len(sealed) < 1 + NONCE_BYTES + 16:
        raise CorruptData(f"{scope}: a sealed {column} of {len(sealed)} bytes")
    key = seal_keys.get(sealed[0])
    if key is None:
        raise CorruptData(f"{scope}: a {column} sealed with key version {sealed[0]}, not held")
    place = b"\0".join((scope.encode(), row_key, column.encode()))
    try:
        nonce, box = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        return AESGCM(key).decrypt(nonce, box, place)
    except InvalidTag as error:
        raise CorruptData(f"{scope}: a sealed {column} does not open") from error


class Verifier:
    """Checks what the city signed. Made from a root document that the pinned root key signed."""

    def __init__(self, root: Root) -> None:
        self.root_version = root.version
        self.list_epoch = root.list_epoch  # No list may name a higher one.
        self._keys: dict[str, tuple[str, Ed25519PublicKey]] = {}
        for key in root.keys:
            public = Ed25519PublicKey.from_public_bytes(from_b64u(key.public))
            self._keys[key.key_id] = (key.role, public)

    def open(self, what: SignedWhat, signed: Signed) -> bytes:
        """The payload, once its signature is that of a key with the right role."""
        role, public = self._keys.get(signed.key_id, ("", None))
        if public is None:
            raise CorruptData(f"{what}: signed by key {signed.key_id!r:.40}, not in the root file")
        if role != SIGNING_ROLE[what]:
            raise CorruptData(f"{what}: signed by a {role} key, needs {SIGNING_ROLE[what]}")
        try:
            public.verify(signed.signature, signing_input(what, signed.payload))
        except InvalidSignature as error:
            raise CorruptData(f"{what}: the signature is wrong") from error
        return signed.payload


def open_root(root_public: bytes, signed: Signed) -> Root:
    """A root document that the enrolled root key signed."""
    try:
        public = Ed25519PublicKey.from_public_bytes(root_public)
        public.verify(signed.signature, signing_input(SignedWhat.ROOT, signed.payload))
        root = decode_json(Root, signed.payload)
        Verifier(root)  # Every key in it must be usable, or none is taken.
    except (InvalidSignature, ValueError) as error:
        raise CorruptData("root document: not signed by the enrolled root key") from error
    return root


def signed_by_device(point: bytes, data: bytes, signature: bytes) -> bool:
    """Whether the device with this public key signed it (as `KeyStore.sign` does)."""
    try:
        _device_key(point).verify(signature, data, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


@lru_cache(maxsize=128)  # Twice the devices of the largest roster.
def _device_key(point: bytes) -> ec.EllipticCurvePublicKey:
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)


class ChipKey(ec.EllipticCurvePrivateKey):
    """A key that is in a chip and not in its file: each use may wait. `edge/tpm.py` has it."""


class KeyStore(Protocol):
    """Holds the device's private key. `DeviceFault` from any of it: the TPM does not answer."""

    def sign(self, data: bytes) -> bytes:
        """ECDSA P-256 with SHA-256, DER."""

    def open_box(self, sealed: bytes, *, place: bytes) -> bytes:
        """What was sealed to this device; `CorruptData` when it was not, or was changed."""

    def opens_now(self, sealed: bytes, *, place: bytes) -> bool:
        """Whether it is sealed to the key in use, and not to one that is on its way out."""

    def public_point(self) -> bytes:
        """The public key as an uncompressed point."""

    def opens_at_once(self, boxes: Iterable[tuple[bytes, bytes]], *, wait_s: float) -> bool:
        """Whether these (sealed, place) open without waiting for a TPM; if not, that is seen to
        meanwhile: ask again. Waits so long at most. `DeviceFault` when the TPM fails at it."""


class FileKeyStore:
    """The device key in a file that only its owner (and group) may read; what is in it says whether
    the key itself is there, or in this machine's TPM.

    While the key is renewed there are up to three: the one in use, its candidate and the one
    before. Boxes may be sealed to any of them. Another process may put a new key in place at any
    time; it is noticed here by the file, and all are read anew, also a spare that was dropped.
    """

    def __init__(self, path: Path) -> None:
        """`SetupProblem` when the key in use is missing, open to others, no P-256 key, or none of
        this machine's TPM."""
        self._path = path
        self._stamps = _stamps(path)
        self._keys = _load_keys(path)
        self._ahead: Ahead | None = None
        with usable_key(path):
            pass  # A TPM's key is taken now, and not in the middle of something.

    def sign(self, data: bytes) -> bytes:
        self._look()
        return self._keys[0].sign(data, ec.ECDSA(hashes.SHA256()))

    def public_point(self) -> bytes:
        self._look()
        return public_point(self._keys[0])

    def open_box(self, sealed: bytes, *, place: bytes) -> bytes:
        self._look()
        return _open_with(self._keys, sealed, place)

    def opens_now(self, sealed: bytes, *, place: bytes) -> bool:
        """Whether it is sealed to the key in use, and would outlive the others."""
        self._look()
        try:
            _open_box(self._keys[0], sealed, place)
        except CorruptData:
            return False
        return True

    def opens_at_once(self, boxes: Iterable[tuple[bytes, bytes]], *, wait_s: float) -> bool:
        self._look()
        keys, found = self._keys, tuple(boxes)
        if not any(isinstance(key, ChipKey) for key in keys):
            return True

        def work() -> None:
            for sealed, place in found:
                with contextlib.suppress(CorruptData):  # Told to whoever opens it.
                    _open_with(keys, sealed, place)  # A TPM's key keeps what it was asked.

        if self._ahead is None:
            from edge.tpm import Ahead

            self._ahead = Ahead()
        return self._ahead.is_done((tuple(self._stamps), found), work, wait_s=wait_s)

    def _look(self) -> None:
        stamps = _stamps(self._path)
        if stamps == self._stamps:
            return
        try:
            self._keys = _load_keys(self._path)
        except SetupProblem:
            return  # In the middle of a change; what we hold still opens what is there.
        self._stamps = stamps


def candidate_path(path: Path) -> Path:
    """Where the next key or certificate waits until it has been seen to work."""
    return path.with_name(path.name + ".candidate")


def former_path(path: Path) -> Path:
    """Where the key or certificate before this one is kept."""
    return path.with_name(path.name + ".old")


def read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The P-256 key of a file that nobody else may read, or `SetupProblem`."""
    try:
        mode = path.stat().st_mode
        data = path.read_bytes()
    except OSError as error:
        raise SetupProblem(
            f'{path}: {error.strerror}; run "moskvenok provision" to make the device key'
        ) from error
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise SetupProblem(
            f"{path}: mode {stat.S_IMODE(mode):04o} lets others in; run: chmod 600 {path}"
        )
    try:
        key = _key_of(data)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: a passphrase.
        kind = "TSS2" if TPM_KEY in data else "PKCS#8"
        raise SetupProblem(f"{path}: no private key in {kind} PEM: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise SetupProblem(f"{path}: not an EC P-256 key")
    return key


def _key_of(data: bytes) -> object:
    if TPM_KEY not in data:
        return serialization.load_pem_private_key(data, password=None)
    from edge import tpm  # Here, for most devices have none.

    return tpm.key_of(data)


def is_in_tpm(path: Path) -> bool:
    """Whether the key of this file is in a TPM; not when there is no file to be read."""
    try:
        return TPM_KEY in path.read_bytes()
    except OSError:
        return False


@contextlib.contextmanager
def usable_key(path: Path, authority: Path | None = None) -> Iterator[Lock | None]:
    """While `ssl` takes in this key: a TPM's has to be made ready for it, and one thread at a time
    may use it; the lock is for the handshakes made with it. None: the key itself is in the file,
    and needs nothing. With `authority`: can the TPM check what is signed under these certificates?
    `SetupProblem` names the file."""
    if not is_in_tpm(path):
        yield None
        return
    from edge import tpm, tpm_openssl

    try:
        trusted = b"" if authority is None else authority.read_bytes()
        tpm.prepare_tls(path.read_bytes(), trusted)
    except OSError as error:
        raise SetupProblem(f"{error.filename}: {error.strerror}") from error
    except SetupProblem as problem:
        raise SetupProblem(f"{path}: {problem}") from problem
    with tpm_openssl.TURN:
        yield tpm_openssl.TURN


def public_point(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A key's public half as an uncompressed point."""
    return key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )


def key_fingerprint(point: bytes) -> str:
    """How a hello names the device key in use."""
    return b64u(sha256(point).digest())


def _load_keys(path: Path) -> list[ec.EllipticCurvePrivateKey]:
    """The key in use first; a spoilt spare is no reason to stop."""
    keys = [read_key(path)]
    for spare in (candidate_path(path), former_path(path)):
        try:
            keys.append(read_key(spare))
        except SetupProblem:
            continue  # Mostly: there is none.
    return keys


def _stamps(path: Path) -> list[tuple[int, int]]:
    """What changes when one of the three files does."""
    found = []
    for one in (path, candidate_path(path), former_path(path)):
        try:
            state = one.stat()
        except OSError:
            found.append((0, 0))
        else:
            found.append((state.st_ino, state.st_mtime_ns))
    return found


def _open_with(keys: list[ec.EllipticCurvePrivateKey], sealed: bytes, place: bytes) -> bytes:
    """By the first key that can. A spare whose TPM was cleared since is dropped from `keys`: it is
    asked once, and not at each look, for everybody waits for the TPM."""
    try:
        return _open_box(keys[0], sealed, place)
    except CorruptData:
        for spare in tuple(keys[1:]):
            try:
                return _open_box(spare, sealed, place)
            except CorruptData:
                continue
            except DeviceFault:
                keys[1:] = [one for one in keys[1:] if one is not spare]
        raise


def _open_box(key: ec.EllipticCurvePrivateKey, sealed: bytes, place: bytes) -> bytes:
    head = 1 + POINT_BYTES + NONCE_BYTES
    if len(sealed) < head + 16 or sealed[0] != BOX_VERSION:
        raise CorruptData(f"a sealed key of {len(sealed)} bytes, not of version {BOX_VERSION}")
    point, nonce = sealed[1 : 1 + POINT_BYTES], sealed[1 + POINT_BYTES : head]
    try:
        peer = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        secret = key.exchange(ec.ECDH(), peer)
        derived = HKDF(
            algorithm=hashes.SHA256(),
            length=32,
            salt=point + public_point(key),
            info=BOX_INFO,
        ).derive(secret)
        return AESGCM(derived).decrypt(nonce, sealed[head:], place)
    except (InvalidTag, ValueError) as error:
        raise CorruptData("a sealed key that was not sealed to this device") from error


@dataclass(frozen=True, slots=True)
class ScopeKeys:
    """A scope's secrets, opened: identifier keys and seal keys by version."""

    scope: str
    identifier: Mapping[int, bytes] = field(repr=False)
    seal: Mapping[int, bytes] = field(repr=False)

    @property
    def newest_identifier(self) -> bytes:
        return self.identifier[max(self.identifier)]


def open_scope_key(store: KeyStore, key: ScopeKey) -> bytes:
    """The 32 bytes of a scope key that came sealed to this device."""
    secret = store.open_box(key.sealed, place=_place(key))
    if len(secret) != SCOPE_KEY_BYTES:
        raise CorruptData(f"{key.scope}: a {key.purpose} key of {len(secret)} bytes")
    return secret


def is_sealed_now(store: KeyStore, key: ScopeKey) -> bool:
    """Whether a scope key is sealed to the device key in use; else it is to be fetched again."""
    return store.opens_now(key.sealed, place=_place(key))


def open_at_once(store: KeyStore, keys: Iterable[ScopeKey], *, wait_s: float = 0.0) -> bool:
    """Whether these would open without waiting for a TPM (see `KeyStore.opens_at_once`)."""
    return store.opens_at_once([(key.sealed, _place(key)) for key in keys], wait_s=wait_s)


def _place(key: ScopeKey) -> bytes:
    return b"\0".join((key.scope.encode(), key.purpose.encode(), str(key.version).encode()))


def open_scope_keys(store: KeyStore, scope: str, keys: list[ScopeKey]) -> ScopeKeys | None:
    """All keys held of one scope, or None while there is no identifier key."""
    opened: dict[str, dict[int, bytes]] = {PURPOSE_IDENTIFIER: {}, PURPOSE_SEAL: {}}
    for key in keys:
        if key.scope == scope and key.purpose in opened:
            opened[key.purpose][key.version] = open_scope_key(store, key)
    if not opened[PURPOSE_IDENTIFIER]:
        return None
    return ScopeKeys(scope, opened[PURPOSE_IDENTIFIER], opened[PURPOSE_SEAL])


def write_secret(path: Path, data: bytes) -> None:
    """A file of mode 0600, whole or not at all, on disk when this returns."""
    beside = path.with_name(path.name + ".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
