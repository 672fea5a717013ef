"""Key, certificate and trust: do they fit each other, this device and this moment?"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from edge.model import SetupProblem
from edge.trust import FileKeyStore, is_in_tpm, read_key
from provisioning import identity
from provisioning.checks.finding import Device, Finding, attention, ok, told, wrong

PART: Final = "identity"
ENDS_SOON: Final = timedelta(days=21)  # Our choice: a school holiday, and a week to come by.


def examine(device: Device) -> Iterator[Finding]:
    settings = device.settings
    yield from _folder(settings.folders.identity)
    try:
        FileKeyStore(settings.key_path)
        key = read_key(settings.key_path)
    except SetupProblem as problem:
        yield told(PART, settings.key_path, problem, "put it aside and provision again")
        return
    if not is_in_tpm(settings.key_path):
        yield ok(PART, settings.key_path, "an EC P-256 key that only its owner may read")
    elif closed := identity.closed_tpm(settings):
        yield wrong(PART, settings.key_path, "the agent may not use this machine's TPM", closed)
    else:
        yield ok(PART, settings.key_path, "an EC P-256 key in this machine's TPM")
    yield _certificate(device, key)
    if identity.kept_answer(settings) is not None:
        yield attention(
            PART,
            settings.folders.identity / identity.KEPT_ANSWER,
            "a visit was cut off before its end",
            'run "moskvenok provision" once more; it needs no new claim',
        )


def _folder(path: Path) -> Iterator[Finding]:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        yield wrong(PART, path, str(error.strerror), 'run "moskvenok provision"')
        return
    if mode & stat.S_IRWXO:
        found = f"mode {mode:04o} lets every user of this machine in"
        yield wrong(PART, path, found, f"run: chmod 2770 {path}")


def _certificate(device: Device, key: ec.EllipticCurvePrivateKey) -> Finding:
    settings = device.settings
    answer = identity.stored(settings)
    again = 'get a claim from the city, then "moskvenok provision --city URL --claim CODE"'
    if answer is None:
        return wrong(
            PART, settings.folders.identity, "a certificate or root file is missing", again
        )
    try:
        leaf = identity.check(
            answer, device_id=settings.device_id, public_key=key.public_key(), now=device.now
        )
    except identity.Misfit as problem:
        do = again
        if "clock" in str(problem):
            do = 'set the clock ("timedatectl"), then examine again'
        return wrong(PART, settings.certificate_path, str(problem), do)
    until = identity.utc_text(leaf.not_valid_after_utc)
    left = leaf.not_valid_after_utc - device.now
    if left < ENDS_SOON:
        found = f"ends in {left.days} days, on {until}"
        do = f'run "moskvenok renew"; if that cannot be, {again} --renew'
        return attention(PART, settings.certificate_path, found, do)
    return ok(PART, settings.certificate_path, f"fits key, name and root; good until {until}")
