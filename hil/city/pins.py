"""A PIN's argon2id hash in its usual text form, as a `StaffRow` carries it, sealed."""

from __future__ import annotations

import os
from typing import Final

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

SALT_BYTES: Final = 16  # RFC 9106, 3.1: recommended for passwords.
HASH_BYTES: Final = 32
# OWASP Password Storage Cheat Sheet: argon2id with 19 MiB, two passes, one lane.
MEMORY_KIB: Final = 19 * 1024
PASSES: Final = 2
LANES: Final = 1
PIN_DIGITS: Final = range(4, 9)  # Our choice: as bank cards have them, and a little longer.


def is_pin(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) in PIN_DIGITS


def pin_hash(pin: str) -> str:
    """`$argon2id$v=19$m=19456,t=2,p=1$salt$hash`."""
    assert is_pin(pin)
    kdf = Argon2id(
        salt=os.urandom(SALT_BYTES),
        length=HASH_BYTES,
        iterations=PASSES,
        lanes=LANES,
        memory_cost=MEMORY_KIB,
    )
    return kdf.derive_phc_encoded(pin.encode())
