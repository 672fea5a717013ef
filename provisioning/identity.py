"""The files under `identity/`: the device's key, its certificate, and whom it believes.

The key is made here and never leaves. Whatever came from the city, and whatever lies on the disk
from an earlier visit, passes the same `check`: a certificate for our key and our name, a chain
that ends in a root, a root document that the root key signed.
"""

from __future__ import annotations

import os
import pwd
from datetime import datetime
from enum import StrEnum, unique
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge.certificates import (
    Misfit,
    certificate_request,
    certificates,
    check_certificate,
    new_key,
    utc_text,
    with_issuers,
)
from edge.messages import decode_signed_lines, from_b64u
from edge.model import CorruptData, SetupProblem
from edge.settings import DeviceSettings
from edge.trust import (
    FileKeyStore,
    candidate_path,
    is_in_tpm,
    open_root,
    read_key,
    write_secret,
)
from provisioning.city import Answer
from provisioning.files import USER, own, read_whole, write_whole

KEPT_ANSWER: Final = "enrolment.json"


PrivateKey = ec.EllipticCurvePrivateKey

__all__ = [
    "KeyPlace",
    "Misfit",
    "PrivateKey",
    "certificate_request",
    "check",
    "closed_tpm",
    "device_key",
    "forget_answer",
    "keep_answer",
    "kept_answer",
    "same_root",
    "stored",
    "utc_text",
    "write_files",
]


@unique
class KeyPlace(StrEnum):
    """Where the technician wants the device's key."""

    AUTO = "auto"  # In the TPM where there is one that makes a key and signs with it.
    FILE = "file"
    TPM = "tpm"


def device_key(settings: DeviceSettings, place: KeyPlace = KeyPlace.AUTO) -> tuple[PrivateKey, str]:
    """The device's key, made if there is none; and what was made now, or "". `SetupProblem` when
    it cannot be where it is wanted, or is elsewhere already."""
    path = settings.key_path
    try:
        there = path.exists()
    except OSError as error:
        raise SetupProblem(f"{path}: {error.strerror}; run this as root") from error
    made = ""
    if there:
        _check_place(path, place)
    else:
        data, made = _made_key(place)
        try:
            write_secret(path, data)
        except OSError as error:
            raise SetupProblem(f"{path}: cannot be written ({error.strerror})") from error
    own(path)
    FileKeyStore(path)  # Its mode and kind, checked as the agent will.
    return read_key(path), made


def _made_key(place: KeyPlace) -> tuple[bytes, str]:
    """A new key's file, and where it is."""
    why = "as --key file says"
    if place is not KeyPlace.FILE:
        from edge import tpm

        why = tpm.why_not()
        if not why:
            try:
                return tpm.tried_key(), "in this machine's TPM"
            except SetupProblem as problem:
                why = str(problem)
        if place is KeyPlace.TPM:
            raise SetupProblem(f"--key tpm: {why}")
    return new_key(), f"in a file: {why}"


def _check_place(path: Path, place: KeyPlace) -> None:
    found = KeyPlace.TPM if is_in_tpm(path) else KeyPlace.FILE
    if place not in (KeyPlace.AUTO, found):
        raise SetupProblem(
            f"{path}: there already, and of the kind --key {found}; to have another with --key "
            f"{place}, put this one aside and run it again with a new claim"
        )


def closed_tpm(settings: DeviceSettings) -> str:
    """What root has to do so that the agent's user may use the key in the TPM; "" for nothing."""
    if os.geteuid() != 0 or not is_in_tpm(settings.key_path):
        return ""
    from edge.tpm_openssl import GROUP, lets_in

    try:
        user = pwd.getpwnam(USER)
    except KeyError:
        return ""  # Nobody else is to use it.
    if user.pw_uid == 0 or lets_in(os.getgrouplist(USER, user.pw_gid)):
        return ""
    return f"run: adduser {USER} {GROUP}; then start edge and sync again"


def check(
    answer: Answer, *, device_id: str, public_key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.Certificate:
    """The device's certificate, when everything fits; `Misfit` says what does not."""
    leaf, _ = check_certificate(
        answer.certificate_pem,
        answer.chain_pem,
        device_id=device_id,
        public_key=public_key,
        now=now,
    )
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
    leaf, chain = certificates(answer.certificate_pem, answer.chain_pem)
    authority = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain)
    write_whole(settings.authority_path, authority)
    write_whole(settings.root_key_path, answer.root_public_b64u.strip().encode() + b"\n")
    write_whole(settings.root_document_path, answer.root_document.encode())
    for path in (settings.key_path, settings.certificate_path):
        # What the device fetched by itself meanwhile is for what it was before this visit.
        candidate_path(path).unlink(missing_ok=True)
    write_whole(settings.certificate_path, with_issuers(leaf, chain))


def forget_answer(settings: DeviceSettings) -> None:
    _kept_path(settings).unlink(missing_ok=True)


def same_root(settings: DeviceSettings, answer: Answer) -> bool:
    """Whether the answer trusts the root key that this device trusts already, if any."""
    there = read_whole(settings.root_key_path)
    return there is None or there.strip() == answer.root_public_b64u.strip().encode()


def _kept_path(settings: DeviceSettings) -> Path:
    return settings.folders.identity / KEPT_ANSWER
