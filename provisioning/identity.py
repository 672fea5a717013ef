"""The files under `identity/`: the device's key, its certificate, and whom it believes.

The key is made here and never leaves. Whatever came from the city, and whatever lies on the disk
from an earlier visit, passes the same `check`: a certificate for our key and our name, a chain
that ends in a root, a root document that the root key signed.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge.messages import decode_signed_lines, from_b64u
from edge.model import CorruptData, SetupProblem
from edge.settings import DeviceSettings
from edge.trust import FileKeyStore, open_root, write_secret
from provisioning.city import Answer
from provisioning.files import own, read_whole, write_whole

CHAIN_MAX: Final = 5  # Our choice: issuing and root are two; more than five is no chain of ours.
KEPT_ANSWER: Final = "enrolment.json"


PrivateKey = ec.EllipticCurvePrivateKey


class Misfit(SetupProblem):
    """A certificate, chain or root document that this device cannot use. Says what is wrong."""


def device_key(settings: DeviceSettings) -> tuple[ec.EllipticCurvePrivateKey, bool]:
    """The device's key, made if there is none; True when it was made now."""
    path = settings.key_path
    try:
        there = path.exists()
    except OSError as error:
        raise SetupProblem(f"{path}: {error.strerror}; run this as root") from error
    if not there:
        made = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        try:
            write_secret(path, made)
        except OSError as error:
            raise SetupProblem(f"{path}: cannot be written ({error.strerror})") from error
    own(path)
    FileKeyStore(path)  # Its mode and kind, checked as the agent will.
    loaded = serialization.load_pem_private_key(path.read_bytes(), password=None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    return loaded, not there


def certificate_request(key: ec.EllipticCurvePrivateKey, device_id: str) -> str:
    """A CSR in PEM that asks for nothing but this name."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device_id)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def check(
    answer: Answer, *, device_id: str, public_key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.Certificate:
    """The device's certificate, when everything fits; `Misfit` says what does not."""
    leaf, chain = _certificates(answer)
    if leaf.public_key() != public_key:
        raise Misfit("the certificate is for another key than device.key")
    names = [item.value for item in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [device_id]:
        raise Misfit(f'the certificate is for {names}, and this device is "{device_id}"')
    _check_purpose(leaf)
    _check_chain(leaf, chain)
    for certificate in (leaf, *chain):
        _check_dates(certificate, now)
    try:
        open_root(
            from_b64u(answer.root_public_b64u.strip()),
            decode_signed_lines(answer.root_document.encode()),
        )
    except CorruptData as error:
        raise Misfit(str(error)) from error
    return leaf


def stored(settings: DeviceSettings) -> Answer | None:
    """What the files of an earlier visit hold, or None when one is missing."""
    found = [
        read_whole(path)
        for path in (
            settings.certificate_path,
            settings.authority_path,
            settings.root_key_path,
            settings.root_document_path,
        )
    ]
    try:
        texts = [data.decode() for data in found if data is not None]
    except UnicodeDecodeError:
        return None
    if len(texts) != len(found):
        return None
    leaf, authority, root_public, root_document = texts
    return Answer(
        certificate_pem=leaf,
        chain_pem=authority,
        root_public_b64u=root_public,
        root_document=root_document,
        endpoints=(),
    )


def keep_answer(settings: DeviceSettings, answer: Answer) -> None:
    """One write that decides: from here on the visit can be finished without the city."""
    write_whole(_kept_path(settings), msgspec.json.encode(answer))


def kept_answer(settings: DeviceSettings) -> Answer | None:
    """The answer of a visit that was cut off, or None."""
    data = read_whole(_kept_path(settings))
    try:
        return None if data is None else msgspec.json.decode(data, type=Answer)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None  # Never ours: our own is written whole or not at all.


def write_files(settings: DeviceSettings, answer: Answer) -> None:
    """The files the agent reads, the certificate last."""
    _, chain = _certificates(answer)
    between = "".join(_pem(certificate) for certificate in chain if not _is_root(certificate))
    leaf = x509.load_pem_x509_certificate(answer.certificate_pem.encode())
    write_whole(settings.authority_path, "".join(_pem(one) for one in chain).encode())
    write_whole(settings.root_key_path, answer.root_public_b64u.strip().encode() + b"\n")
    write_whole(settings.root_document_path, answer.root_document.encode())
    write_whole(settings.certificate_path, (_pem(leaf) + between).encode())


def forget_answer(settings: DeviceSettings) -> None:
    _kept_path(settings).unlink(missing_ok=True)


def same_root(settings: DeviceSettings, answer: Answer) -> bool:
    """Whether the answer trusts the root key that this device trusts already, if any."""
    there = read_whole(settings.root_key_path)
    return there is None or there.strip() == answer.root_public_b64u.strip().encode()


def utc_text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _kept_path(settings: DeviceSettings) -> Path:
    return settings.folders.identity / KEPT_ANSWER


def _certificates(answer: Answer) -> tuple[x509.Certificate, list[x509.Certificate]]:
    """The leaf (its issuer may stand behind it, as in device.crt) and the chain's certificates."""
    try:
        leaf = x509.load_pem_x509_certificates(answer.certificate_pem.encode())[0]
        chain = x509.load_pem_x509_certificates(answer.chain_pem.encode())
    except ValueError as error:
        raise Misfit("the certificate or its chain is not PEM") from error
    if len(chain) > CHAIN_MAX:
        raise Misfit(f"a chain of {len(chain)} certificates, more than {CHAIN_MAX}")
    return leaf, chain


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
        if _is_root(issuer):
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


def _is_root(certificate: x509.Certificate) -> bool:
    return certificate.subject == certificate.issuer and _issued(certificate, certificate)


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


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
