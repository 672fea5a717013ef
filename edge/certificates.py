"""The device's certificate: asked for, checked, and the next one put in the place of the last.

One check for all: what the technician's visit brings and what the device fetches by itself. A new
identity is a *candidate* (`device.key.candidate`, `device.crt.candidate`) until a connection with
it was welcomed; then `promote` renames it into place and keeps the one before as `….old`. A power
cut between two renames is mended by `settle` at the next start. Who asks, and when, is
`sync/renewal.py`'s and `provisioning`'s business.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge.model import DeviceFault, SetupProblem
from edge.trust import (
    candidate_path,
    former_path,
    is_in_tpm,
    key_fingerprint,
    public_point,
    read_key,
    write_secret,
)

CHAIN_MAX: Final = 5  # Our choice: issuing and root are two; more than five is no chain of ours.
CERTIFICATE_BYTES_MAX: Final = 32 * 1024  # Our choice: five certificates of 1 KiB, in PEM.
FILE_MODE: Final = 0o660  # house.md.


class Misfit(SetupProblem):
    """A certificate, chain or root document that this device cannot use. Says what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """When a certificate begins and ends."""

    from_utc_s: int
    until_utc_s: int  # The first second at which it is no longer valid.


# ---------------------------------------------------------------------------------- asking


def new_key(*, like: Path | None = None) -> bytes:
    """The file of a new device key: PKCS#8 in PEM; or, if the key in the file `like` is in this
    machine's TPM, one that is there too. `SetupProblem` when the TPM makes none."""
    if like is not None and is_in_tpm(like):
        from edge import tpm

        return tpm.new_key()
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def certificate_request(key: ec.EllipticCurvePrivateKey, device_id: str) -> str:
    """A CSR in PEM that asks for nothing but this name."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device_id)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


# -------------------------------------------------------------------------------- checking


def check_certificate(
    certificate_pem: str,
    chain_pem: str,
    *,
    device_id: str,
    public_key: ec.EllipticCurvePublicKey,
    now: datetime,
) -> tuple[x509.Certificate, list[x509.Certificate]]:
    """The device's certificate and its chain, when everything fits; `Misfit` says what does not:
    for our key and our name, meant for a client, a chain of authorities to a root, all in date."""
    leaf, chain = certificates(certificate_pem, chain_pem)
    if leaf.public_key() != public_key:
        raise Misfit("the certificate is for another key than device.key")
    names = [item.value for item in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [device_id]:
        raise Misfit(f'the certificate is for {names}, and this device is "{device_id}"')
    _check_purpose(leaf)
    _check_chain(leaf, chain)
    for certificate in (leaf, *chain):
        _check_dates(certificate, now)
    return leaf, chain


def certificates(
    certificate_pem: str, chain_pem: str
) -> tuple[x509.Certificate, list[x509.Certificate]]:
    """The leaf (its issuer may stand behind it, as in device.crt) and the chain's certificates."""
    if len(certificate_pem) + len(chain_pem) > 2 * CERTIFICATE_BYTES_MAX:
        raise Misfit("the certificate and its chain are longer than any of ours")
    try:
        leaf = x509.load_pem_x509_certificates(certificate_pem.encode())[0]
        chain = x509.load_pem_x509_certificates(chain_pem.encode())
    except ValueError as error:
        raise Misfit("the certificate or its chain is not PEM") from error
    if len(chain) > CHAIN_MAX:
        raise Misfit(f"a chain of {len(chain)} certificates, more than {CHAIN_MAX}")
    return leaf, chain


def with_issuers(leaf: x509.Certificate, chain: list[x509.Certificate]) -> bytes:
    """device.crt: the certificate, and what stands between it and the root."""
    between = [one for one in chain if not is_root(one)]
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in (leaf, *between))


def validity(path: Path) -> Validity | None:
    """Of the certificate in a file; None when there is none that can be read."""
    try:
        leaf = x509.load_pem_x509_certificates(path.read_bytes())[0]
    except (OSError, ValueError, IndexError):
        return None
    return Validity(
        from_utc_s=int(leaf.not_valid_before_utc.timestamp()),
        until_utc_s=int(leaf.not_valid_after_utc.timestamp()) + 1,
    )


def utc_text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def is_root(certificate: x509.Certificate) -> bool:
    return certificate.subject == certificate.issuer and _issued(certificate, certificate)


def _check_purpose(leaf: x509.Certificate) -> None:
    try:
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    except ValueError as error:
        raise Misfit(f"the certificate has an extension that cannot be read: {error}") from error
    if ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
        raise Misfit("the certificate is not meant for a client")


def _check_chain(leaf: x509.Certificate, chain: list[x509.Certificate]) -> None:
    """From the leaf to a certificate that signed itself, each step a signature of an authority."""
    current = leaf
    for _ in range(CHAIN_MAX):
        issuer = next((one for one in chain if _issued(current, one)), None)
        if issuer is None:
            raise Misfit(
                f"the chain breaks: nobody in it issued {current.subject.rfc4514_string()}"
            )
        if is_root(issuer):
            return
        current = issuer
    raise Misfit("the chain has no root")


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
        limits = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return limits.ca


def _check_dates(certificate: x509.Certificate, now: datetime) -> None:
    name = certificate.subject.rfc4514_string()
    if now >= certificate.not_valid_after_utc:
        raise Misfit(
            f"the certificate of {name} ended on {utc_text(certificate.not_valid_after_utc)}"
        )
    if now < certificate.not_valid_before_utc:
        raise Misfit(
            f"the certificate of {name} begins on {utc_text(certificate.not_valid_before_utc)} and "
            f"this machine's clock says {utc_text(now)}: is the clock right?"
        )


# --------------------------------------------------------------------------- the candidate


class Identity:
    """The files of one device's identity, as sync changes them. One process does."""

    def __init__(self, *, device_id: str, key: Path, certificate: Path, authority: Path) -> None:
        self.device_id = device_id
        self.key, self.certificate, self.authority = key, certificate, authority

    @property
    def candidate_key(self) -> Path:
        return candidate_path(self.key)

    @property
    def candidate_certificate(self) -> Path:
        return candidate_path(self.certificate)

    def request(self) -> str:
        """A CSR by the candidate key, made where the key in use is if there is none. `DeviceFault`
        if the disk refuses, or the TPM."""
        try:
            if not self.candidate_key.exists():
                write_secret(self.candidate_key, self._new_key())
            key = read_key(self.candidate_key)
        except SetupProblem:
            self.discard()  # Of a disk that lied; the next one is asked for with a new key.
            raise DeviceFault(f"{self.candidate_key}: spoilt, thrown away") from None
        except OSError as error:
            raise DeviceFault(f"{self.candidate_key}: {error.strerror}; check the disk") from error
        try:
            return certificate_request(key, self.device_id)
        except DeviceFault as fault:
            if not self._signs():
                raise  # The TPM answers nobody now; the candidate may be good.
            self.discard()  # Of a TPM that was cleared.
            raise DeviceFault(f"{self.candidate_key}: thrown away ({fault})") from fault

    def _signs(self) -> bool:
        """Whether the key in use does what the candidate could not."""
        try:
            certificate_request(read_key(self.key), self.device_id)
        except (DeviceFault, SetupProblem):
            return False
        return True

    def _new_key(self) -> bytes:
        try:
            return new_key(like=self.key)
        except SetupProblem as problem:
            raise DeviceFault(str(problem)) from problem

    def take(self, certificate_pem: str, chain_pem: str, now: datetime) -> None:
        """Keep the answer beside the candidate key, once it fits. `Misfit` when it does not: also
        when its root is not one that this device trusts already."""
        key = read_key(self.candidate_key)
        leaf, chain = check_certificate(
            certificate_pem,
            chain_pem,
            device_id=self.device_id,
            public_key=key.public_key(),
            now=now,
        )
        try:
            authority = self.authority.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise Misfit(f"{self.authority}: cannot be read: {error}") from error
        _, trusted = certificates(certificate_pem, authority)
        if not any(is_root(one) and one in trusted for one in chain):
            raise Misfit("the chain ends in a root that this device does not trust")
        try:
            _write(self.candidate_certificate, with_issuers(leaf, chain))
        except OSError as error:
            raise DeviceFault(
                f"{self.candidate_certificate}: {error.strerror}; check the disk"
            ) from error

    def fingerprint(self, *, candidate: bool = False) -> str:
        """The key in use, or its candidate, as a hello names it; "" when it cannot be read."""
        try:
            key = read_key(self.candidate_key if candidate else self.key)
        except SetupProblem:
            return ""
        return key_fingerprint(public_point(key))

    def is_ready(self) -> bool:
        """Whether a candidate waits to be tried: key and certificate, belonging together."""
        return _belong(self.candidate_key, self.candidate_certificate)

    def promote(self) -> None:
        """The candidate takes over; what it replaces is kept. Whole, or mended by `settle`."""
        try:
            for path in (self.key, self.certificate):
                _copy(path, former_path(path))
            self.candidate_key.replace(self.key)
            self.candidate_certificate.replace(self.certificate)
            _sync_folder(self.key.parent)
        except OSError as error:
            raise DeviceFault(f"{self.key.parent}: {error.strerror}; check the disk") from error

    def settle(self) -> str:
        """At start: finish a promotion that was cut off, or take it back. What was done, or ""."""
        if _belong(self.key, self.certificate):
            return ""
        try:
            if _belong(self.key, self.candidate_certificate):
                self.candidate_certificate.replace(self.certificate)
                done = "finished"
            elif _belong(former_path(self.key), self.certificate):
                _copy(former_path(self.key), self.key)
                done = "taken back"
            else:
                return ""  # Nothing of ours: the technician is told by whoever loads it.
            _sync_folder(self.key.parent)
        except OSError as error:
            raise DeviceFault(f"{self.key.parent}: {error.strerror}; check the disk") from error
        return done

    def discard(self) -> None:
        """Forget the candidate."""
        for path in (self.candidate_certificate, self.candidate_key):
            path.unlink(missing_ok=True)


def _belong(key: Path, certificate: Path) -> bool:
    try:
        leaf = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
        point = public_point(read_key(key))
    except (OSError, ValueError, IndexError, SetupProblem):
        return False
    public = leaf.public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey):
        return False
    return point == public.public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )


def _write(path: Path, data: bytes) -> None:
    write_secret(path, data)
    path.chmod(FILE_MODE)  # A certificate is no secret; the technician reads it too.


def _copy(source: Path, target: Path) -> None:
    """Whole or not at all, and never more open than its source."""
    write_secret(target, source.read_bytes())
    shutil.copymode(source, target)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
