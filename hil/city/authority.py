"""The city's certificate authority: devices, servers, the revocation list, and requests read.

An issuing certificate signs devices and servers, the root only the issuing one. The authority
takes nothing from a request but its public key: the name is what the claim was given to.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge.model import CorruptData, SetupProblem

DEVICE_ID: Final = re.compile(r"[a-z0-9-]{1,64}")  # A `/` would write into another's topics.
CITY_NAME: Final = "city"
CA_LIFE: Final = timedelta(days=3650)  # Our choice: longer than any bench.
LEAF_LIFE: Final = timedelta(days=90)  # Our choice: renewed from half time, so each school term.
BACKDATED: Final = timedelta(minutes=10)  # Our choice: a device's clock may be behind.
CRL_LIFE: Final = timedelta(days=30)  # Probe: an expired CRL locks out everyone; keep it long.
DEVICE_PURPOSES: Final = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)
CSR_BYTES_MAX: Final = 8 * 1024  # Our choice: a P-256 request in PEM has 400 bytes.


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """One certificate of the authority and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def pem(self) -> str:
        return _pem(self.certificate)


class HasAuthority(Protocol):
    """What issuing needs of the city's keys."""

    @property
    def folder(self) -> Path: ...

    @property
    def issuing(self) -> Authority: ...


def make_authorities(folder: Path, now: datetime) -> None:
    """Root and issuing authority, new, into the folder."""
    root = _authority("Moskvenok reference city root", None, 1, now)
    issuing = _authority("Moskvenok reference city issuing", root, 0, now)
    for name, authority in (("root", root), ("issuing", issuing)):
        write_private(folder / f"{name}.key", _key_pem(authority.key))
        write_private(folder / f"{name}.pem", _pem(authority.certificate).encode())
    chain = _pem(issuing.certificate) + _pem(root.certificate)
    write_private(folder / "chain.pem", chain.encode(), mode=0o644)


def issue_device(
    keys: HasAuthority, device_id: str, public_key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.Certificate:
    """A certificate whose only name is the device id: a client's, and a server's where the device
    carries its school's own broker. It names no host, so it serves in no other server's place."""
    assert DEVICE_ID.fullmatch(device_id)
    name = x509.UniformResourceIdentifier(f"urn:moskvenok:device:{device_id}")
    return _leaf(keys, device_id, public_key, DEVICE_PURPOSES, [name], now)


def issue_server(keys: HasAuthority, names: Sequence[str], now: datetime) -> tuple[str, str]:
    """Certificate with its issuer, and key, both PEM, for a broker reached under these names."""
    assert names
    key = ec.generate_private_key(ec.SECP256R1())
    alternatives = [_general_name(name) for name in names]
    leaf = _leaf(
        keys, names[0], key.public_key(), [ExtendedKeyUsageOID.SERVER_AUTH], alternatives, now
    )
    return _pem(leaf) + _pem(keys.issuing.certificate), _key_pem(key).decode()


def city_client(keys: HasAuthority, now: datetime) -> tuple[Path, Path]:
    """Paths of the city's own client certificate and key, made anew at each call."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = issue_device(keys, CITY_NAME, key.public_key(), now)
    paths = keys.folder / "city.pem", keys.folder / "city.key"
    write_private(paths[0], (_pem(certificate) + _pem(keys.issuing.certificate)).encode())
    write_private(paths[1], _key_pem(key))
    return paths


def revocation_list(keys: HasAuthority, serials: Iterable[int], now: datetime) -> bytes:
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
    keys: HasAuthority,
    common_name: str,
    key: ec.EllipticCurvePublicKey,
    purposes: Sequence[x509.ObjectIdentifier],
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
        .add_extension(x509.ExtendedKeyUsage(purposes), False)
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


def read_authority(folder: Path, name: str) -> Authority:
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
