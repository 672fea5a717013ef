"""The city's cryptography: signatures, credential ids, sealed columns, keys sealed to a device.

Written from WIRE and `edge/messages.py` alone and not from the product's `edge/trust.py`, so that
the two check each other.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from edge.messages import (
    PeerKind,
    Signed,
    SignedWhat,
    b64u,
    encode_signed_lines,
    peer_signing_input,
    signing_input,
)
from edge.model import UidKind

KEY_BYTES: Final = 32  # AES-256, HMAC-SHA-256 and Ed25519 seeds alike.
NONCE_BYTES: Final = 12  # NIST SP 800-38D: the size AES-GCM is made for.
CREDENTIAL_ID_BYTES: Final = 16  # protocol.md: the first 16 bytes of the HMAC.
UID_BYTES_MAX: Final = 10  # ISO/IEC 14443-3: a triple-size UID.
SEALED_KEY_FORM: Final = b"\x01"
SCOPE_KEY_INFO: Final = b"moskvenok/v1/scope-key"


def signed_by_device(point: bytes, kind: PeerKind, signed: Signed) -> bool:
    """Whether the device with this public key said that to its peers."""
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    data = peer_signing_input(kind, signed.payload)
    try:
        key.verify(signed.signature, data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """One Ed25519 key of the city with its role: root, list, freshness, order."""

    key_id: str
    role: str
    seed: bytes = field(repr=False)

    @property
    def public(self) -> bytes:
        key = Ed25519PrivateKey.from_private_bytes(self.seed).public_key()
        return key.public_bytes(Encoding.Raw, PublicFormat.Raw)

    def sign(self, what: SignedWhat, payload: bytes) -> Signed:
        key = Ed25519PrivateKey.from_private_bytes(self.seed)
        return Signed(payload, self.key_id, key.sign(signing_input(what, payload)))

    def sign_lines(self, what: SignedWhat, payload: bytes) -> bytes:
        """A signed JSON message as it travels."""
        signed = self.sign(what, payload)
        return encode_signed_lines(signed.payload, signed.key_id, signed.signature)


def new_seed() -> bytes:
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())


def credential_id(identifier_key: bytes, kind: UidKind, uid: bytes) -> bytes:
    """The id under which a scope knows this chip: 16 bytes, nothing of the UID to be read in it."""
    assert 1 <= len(uid) <= UID_BYTES_MAX
    message = bytes([kind, len(uid)]) + uid
    return hmac.digest(identifier_key, message, hashlib.sha256)[:CREDENTIAL_ID_BYTES]


def credential_text(raw: bytes) -> str:
    """The same id as it stands in JSON: 22 characters."""
    return b64u(raw)


def seal_column(
    key: bytes, version: int, *, scope: str, row_key: bytes, column: str, text: str, nonce: bytes
) -> bytes:
    """A personal column under the scope's seal key; the nonce must never come twice."""
    return seal_bytes(
        key, version, scope=scope, row_key=row_key, column=column, data=text.encode(), nonce=nonce
    )


def seal_bytes(
    key: bytes, version: int, *, scope: str, row_key: bytes, column: str, data: bytes, nonce: bytes
) -> bytes:
    """As `seal_column`, for what is no text: the key of a card."""
    assert len(nonce) == NONCE_BYTES and 0 < version < 256
    associated = scope.encode() + b"\0" + row_key + b"\0" + column.encode()
    return bytes([version]) + nonce + AESGCM(key).encrypt(nonce, data, associated)


def seal_key_to_device(
    secret: bytes,
    device_key: ec.EllipticCurvePublicKey,
    *,
    scope: str,
    purpose: str,
    version: int,
    once: tuple[ec.EllipticCurvePrivateKey, bytes] | None = None,
) -> bytes:
    """A scope's key, readable only by who holds the device's private key (P-256).

    `once` is the ephemeral key and the nonce: random, and given for golden vectors alone.
    """
    assert len(secret) == KEY_BYTES
    if once is None:
        once = ec.generate_private_key(ec.SECP256R1()), os.urandom(NONCE_BYTES)
    ephemeral, nonce = once
    ephemeral_point = _point(ephemeral.public_key())
    derived = HKDF(
        algorithm=hashes.SHA256(),
        length=KEY_BYTES,
        salt=ephemeral_point + _point(device_key),
        info=SCOPE_KEY_INFO,
    ).derive(ephemeral.exchange(ec.ECDH(), device_key))
    associated = b"\0".join((scope.encode(), purpose.encode(), str(version).encode()))
    sealed = AESGCM(derived).encrypt(nonce, secret, associated)
    return SEALED_KEY_FORM + ephemeral_point + nonce + sealed


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
