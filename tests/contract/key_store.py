"""What every `KeyStore` keeps, wherever its key is: each function is one promise, and fails by an
assertion. `tests/test_trust.py` runs them on a key in a file, `tests/process/test_tpm.py` on one in
a TPM.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from edge.messages import ScopeKey
from edge.model import CorruptData
from edge.trust import (
    KeyStore,
    is_sealed_now,
    open_at_once,
    open_scope_key,
    public_point,
    signed_by_device,
)
from tests.support import small_city
from tests.support.small_city import PEOPLE

SECRET = small_city.secret(f"seal {PEOPLE} 1")
AHEAD_S_MAX = 20.0  # Our choice: many times what a TPM in software takes.


def scope_key(store: KeyStore, secret: bytes = SECRET, **changed: Any) -> ScopeKey:
    made = ScopeKey(
        scope=PEOPLE,
        purpose="seal",
        version=1,
        sealed=small_city.sealed_to(
            store.public_point(), secret, scope=PEOPLE, purpose="seal", version=1
        ),
    )
    return msgspec.structs.replace(made, **changed)


def flipped(data: bytes) -> list[bytes]:
    """The same bytes with each single bit turned."""
    return [
        data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]
        for bit in range(8 * len(data))
    ]


def signs_with_its_key(store: KeyStore) -> None:
    point = store.public_point()
    assert (len(point), point[0]) == (65, 4)
    for size in (0, 1, 65, 64 * 1024):
        data = b"x" * size
        signature = store.sign(data)
        assert signed_by_device(point, data, signature)
        assert not signed_by_device(point, data + b"y", signature)


def opens_what_is_sealed_to_it(store: KeyStore) -> None:
    for _ in range(20):  # Each with a point of its own; some with leading zeros, in the long run.
        assert open_scope_key(store, scope_key(store)) == SECRET


def opens_for_one_place_only(store: KeyStore) -> None:
    elsewhere: tuple[dict[str, Any], ...] = (
        {"scope": "school-8/people"},
        {"purpose": "identifier"},
        {"version": 2},
    )
    for changed in elsewhere:
        with pytest.raises(CorruptData):
            open_scope_key(store, scope_key(store, **changed))


def opens_nothing_that_was_changed(store: KeyStore) -> None:
    good = scope_key(store)
    spoilt = [*flipped(good.sealed), *(good.sealed[:cut] for cut in range(len(good.sealed)))]
    for sealed in (*spoilt, good.sealed + b"\0", b"\1" * 65, b"\1" + b"\4" + b"\0" * 200):
        with pytest.raises(CorruptData):
            open_scope_key(store, scope_key(store, sealed=sealed))


def opens_nothing_of_another_device(store: KeyStore) -> None:
    other = public_point(ec.generate_private_key(ec.SECP256R1()))
    sealed = small_city.sealed_to(other, SECRET, scope=PEOPLE, purpose="seal", version=1)
    key = scope_key(store, sealed=sealed)
    assert not is_sealed_now(store, key)
    with pytest.raises(CorruptData):
        open_scope_key(store, key)


def takes_keys_of_one_length(store: KeyStore) -> None:
    for length in (0, 16, 31, 33):
        with pytest.raises(CorruptData, match=f"{length} bytes"):
            open_scope_key(store, scope_key(store, bytes(length)))


def opens_at_once_what_was_seen_to(store: KeyStore) -> None:
    keys = [scope_key(store), scope_key(store, sealed=b"spoilt"), scope_key(store)]
    until = time.monotonic() + AHEAD_S_MAX
    while not open_at_once(store, keys, wait_s=0.05):
        assert time.monotonic() < until
    assert open_at_once(store, keys)  # Again, as long as nothing else is asked.
    assert open_scope_key(store, keys[0]) == open_scope_key(store, keys[2]) == SECRET


def shows_no_key(store: KeyStore) -> None:
    assert b"PRIVATE" not in repr(vars(store)).encode()


CONTRACT: tuple[Callable[[KeyStore], None], ...] = (
    signs_with_its_key,
    opens_what_is_sealed_to_it,
    opens_for_one_place_only,
    opens_nothing_that_was_changed,
    opens_nothing_of_another_device,
    takes_keys_of_one_length,
    opens_at_once_what_was_seen_to,
    shows_no_key,
)
