"""The city's keys in its folder: the certificate authority, signing keys, scope keys.

Made at the first start, read at every later one; files are 0600 in a folder 0700, written beside
and renamed. An issuing certificate signs devices and servers, the root only the issuing one. The
authority takes nothing from a request but its public key: the name is what the claim was given to.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge.messages import Root, RootKey, SignedWhat, b64u, encode_json, from_b64u
from edge.model import CorruptData, SetupProblem
from hil.city.crypto import KEY_BYTES, SigningKey, new_seed

DEVICE_ID: Final = re.compile(r"[a-z0-9-]{1,64}")  # A `/` would write into another's topics.
CITY_NAME: Final = "city"
CA_LIFE: Final = timedelta(days=3650)  # Our choice: longer than any bench.
LEAF_LIFE: Final = timedelta(days=90)  # Our choice: renewed from half time, so each school term.
BACKDATED: Final = timedelta(minutes=10)  # Our choice: a device's clock may be behind.
CRL_LIFE: Final = timedelta(days=30)  # Probe: an expired CRL locks out everyone; keep it long.
CSR_BYTES_MAX: Final = 8 * 1024  # Our choice: a P-256 request in PEM has 400 bytes.
SIGNING_ROLES: Final = ("root", "list", "freshness", "order")
PARTS: Final = ("people", "money", "menu", "settings")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeKeys:
    """The two secrets of a scope."""

    identifier_version: int
    identifier: bytes = field(repr=False)
    seal_version: int
    seal: bytes = field(repr=False)


class _KeyFile(msgspec.Struct, frozen=True, kw_only=True):
    """`keys.json`: base64url seeds and secrets."""

    site_id: str
    signing: dict[str, str]
    scopes: dict[str, tuple[int, str, int, str]]
    root_document: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """One certificate of the authority and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CityKeys:
    """Everything the city signs, issues and seals with."""

    folder: Path
    site_id: str
    root: Authority
    issuing: Authority
    signing: dict[str, SigningKey] = field(repr=False)  # By role.
    scopes: dict[str, ScopeKeys] = field(repr=False)
    root_document: bytes  # Signed lines of `Root`.

    @property
    def chain_pem(self) -> str:
        return _pem(self.issuing.certificate) + _pem(self.root.certificate)

    @property
    def root_public(self) -> bytes:
        return self.signing["root"].public

    @property
    def chain_path(self) -> Path:
        return self.folder / "chain.pem"


def open_keys(folder: Path, site_id: str, now: datetime) -> CityKeys:
    """The keys of this folder, made if there are none. `SetupProblem` when they are damaged."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    path = folder / "keys.json"
    if not path.exists():
        _make(folder, path, site_id, now)
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_KeyFile)
        root, issuing = _read_authority(folder, "root"), _read_authority(folder, "issuing")
        scopes = {
            scope: ScopeKeys(
                identifier_version=iv,
                identifier=from_b64u(identifier),
                seal_version=sv,
                seal=from_b64u(seal),
            )
            for scope, (iv, identifier, sv, seal) in file.scopes.items()
        }
        signing = {
            role: SigningKey(key_id=_key_id(role), role=role, seed=from_b64u(file.signing[role]))
            for role in SIGNING_ROLES
        }
    except (OSError, ValueError, KeyError, msgspec.MsgspecError, CorruptData) as error:
        raise SetupProblem(
            f"city keys in {folder}: {error}; restore the folder or use a new one"
        ) from error
    if file.site_id != site_id:
        raise SetupProblem(f"city keys in {folder} are of site {file.site_id}, not {site_id}")
    return CityKeys(
        folder=folder,
        site_id=site_id,
        root=root,
        issuing=issuing,
        signing=signing,
        scopes=scopes,
        root_document=file.root_document.encode(),
    )


def issue_device(
    keys: CityKeys, device_id: str, public_key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.Certificate:
    """A client certificate whose only name is the device id."""
    assert DEVICE_ID.fullmatch(device_id)
    name = x509.UniformResourceIdentifier(f"urn:moskvenok:device:{device_id}")
    return _leaf(keys, device_id, public_key, ExtendedKeyUsageOID.CLIENT_AUTH, [name], now)


def issue_server(keys: CityKeys, names: Sequence[str], now: datetime) -> tuple[str, str]:
    """Certificate with its issuer, and key, both PEM, for a broker reached under these names."""
    assert names
    key = ec.generate_private_key(ec.SECP256R1())
    alternatives = [_general_name(name) for name in names]
    leaf = _leaf(
        keys, names[0], key.public_key(), ExtendedKeyUsageOID.SERVER_AUTH, alternatives, now
    )
    return _pem(leaf) + _pem(keys.issuing.certificate), _key_pem(key).decode()


def city_client(keys: CityKeys, now: datetime) -> tuple[Path, Path]:
    """Paths of the city's own client certificate and key, made anew at each call."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = issue_device(keys, CITY_NAME, key.public_key(), now)
    paths = keys.folder / "city.pem", keys.folder / "city.key"
    write_private(paths[0], (_pem(certificate) + _pem(keys.issuing.certificate)).encode())
    write_private(paths[1], _key_pem(key))
    return paths


def revocation_list(keys: CityKeys, serials: Iterable[int], now: datetime) -> bytes:
    """The issuing authority's CRL, PEM."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(keys.issuing.certificate.subject)
        .last_update(now - BACKDATED)
        .next_update(now + CRL_LIFE)
        .add_extension(x509.CRLNumber(int(now.timestamp())), False)
        .add_extension(_issuer_id(keys.issuing.key), False)
    )
    for serial in serials:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
        )
    return builder.sign(keys.issuing.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def public_key_of_request(csr_pem: str) -> ec.EllipticCurvePublicKey:
    """The public key of a certificate request that proves its private key; else `CorruptData`."""
    if len(csr_pem) > CSR_BYTES_MAX:
        raise CorruptData(f"certificate request: {len(csr_pem)} characters, more than allowed")
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode())
        proven = request.is_signature_valid
        key = request.public_key()
    except (ValueError, TypeError, InvalidSignature) as error:
        raise CorruptData(f"certificate request: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CorruptData("certificate request: the key is not EC P-256")
    if not proven:
        raise CorruptData("certificate request: its signature is wrong")
    return key


def public_bytes(key: ec.EllipticCurvePublicKey) -> bytes:
    """The uncompressed point: how the city stores a device's key."""
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def public_key(point: bytes) -> ec.EllipticCurvePublicKey:
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)


def certificate_pem(certificate: x509.Certificate) -> str:
    return _pem(certificate)


def write_private(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Whole or not at all, and never readable by others for a moment."""
    beside = path.with_name(path.name + ".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _make(folder: Path, path: Path, site_id: str, now: datetime) -> None:
    root = _authority("Moskvenok reference city root", None, 1, now)
    issuing = _authority("Moskvenok reference city issuing", root, 0, now)
    for name, authority in (("root", root), ("issuing", issuing)):
        write_private(folder / f"{name}.key", _key_pem(authority.key))
        write_private(folder / f"{name}.pem", _pem(authority.certificate).encode())
    chain = _pem(issuing.certificate) + _pem(root.certificate)
    write_private(folder / "chain.pem", chain.encode(), mode=0o644)
    signing = {
        role: SigningKey(key_id=_key_id(role), role=role, seed=new_seed()) for role in SIGNING_ROLES
    }
    document = Root(
        version=1,
        keys=tuple(
            RootKey(key_id=key.key_id, role=key.role, public=b64u(key.public))
            for key in signing.values()
            if key.role != "root"
        ),
        issued_utc_ms=int(now.timestamp() * 1000),
    )
    lines = signing["root"].sign_lines(SignedWhat.ROOT, encode_json(document))
    scopes = {
        f"{site_id}/{part}": (1, b64u(os.urandom(KEY_BYTES)), 1, b64u(os.urandom(KEY_BYTES)))
        for part in PARTS
    }
    file = _KeyFile(
        site_id=site_id,
        signing={role: b64u(key.seed) for role, key in signing.items()},
        scopes=scopes,
        root_document=lines.decode(),
    )
    write_private(path, msgspec.json.encode(file))  # Last: what is there makes the folder whole.


def _key_id(role: str) -> str:
    return "root" if role == "root" else f"{role}-1"


def _authority(name: str, signer: Authority | None, path_length: int, now: datetime) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = _name(name) if signer is None else signer.certificate.subject
    issuer_key = key if signer is None else signer.key
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + CA_LIFE)
        .add_extension(x509.BasicConstraints(True, path_length), True)
        .add_extension(usage, True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(_issuer_id(issuer_key), False)
        .sign(issuer_key, hashes.SHA256())
    )
    return Authority(certificate=certificate, key=key)


def _leaf(
    keys: CityKeys,
    common_name: str,
    key: ec.EllipticCurvePublicKey,
    purpose: x509.ObjectIdentifier,
    alternatives: Sequence[x509.GeneralName],
    now: datetime,
) -> x509.Certificate:
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .issuer_name(keys.issuing.certificate.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + LEAF_LIFE)
        .add_extension(x509.BasicConstraints(False, None), True)
        .add_extension(usage, True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)
        .add_extension(_issuer_id(keys.issuing.key), False)
        .add_extension(x509.SubjectAlternativeName(alternatives), False)
        .sign(keys.issuing.key, hashes.SHA256())
    )


def _issuer_id(key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _read_authority(folder: Path, name: str) -> Authority:
    certificate = x509.load_pem_x509_certificate((folder / f"{name}.pem").read_bytes())
    key = serialization.load_pem_private_key((folder / f"{name}.key").read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise SetupProblem(f"{folder / name}.key: not an EC key")
    return Authority(certificate=certificate, key=key)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def utc(now_ms: int) -> datetime:
    """The city's milliseconds as an aware datetime."""
    return datetime.fromtimestamp(now_ms / 1000, UTC)
