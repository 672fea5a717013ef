"""Goal: an Ultralight proves what its setting up allows, and one set up unsafely proves nothing.

Method: the data sheet's example of the 3DES authentication word for word; the dialogues against the
model cards with random keys; every unsafe setting; then every bit turned over in every answer,
every answer cut, and anything at all sent instead. No example of the AES session is published that
could be found: there the model card, written apart, is the only judge.
"""

from __future__ import annotations

from itertools import product
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.readers.dialogue import CardKey, Dialogue, Evidence, Failure, Tier, run
from edge.readers.ultralight import (
    RANDOM_SIZE_AES,
    RANDOM_SIZE_C,
    UltralightProfile,
    authenticate_c,
    ultralight_aes,
    ultralight_c,
)
from hil.devices.cards.bench import Turncoat, cuts, flips, follow, lay, talk
from hil.devices.cards.chip import UidCard
from hil.devices.cards.ultralight import NAK, UltralightAesCard, UltralightCCard

H = bytes.fromhex
UID = H("04A1B2C3D4E580")
VERSION = 9
VERSION_PAGE = 0x05


class BenchC:
    def __init__(self, *, seed: int = 1, safe: bool = True, version_page: bool = False) -> None:
        self.random = Random(seed)
        self.key = CardKey(key=self.random.randbytes(16), version=VERSION)
        self.held = {UID: self.key}
        self.card = UltralightCCard(UID, key=self.key.key, safe=safe, random=self.random.randbytes)
        self.card.write(VERSION_PAGE, bytes([VERSION]))
        self.profile = UltralightProfile(version_page=VERSION_PAGE if version_page else None)

    def dialogue(self, uid: bytes | None = None) -> Dialogue:
        return ultralight_c(
            lay(self.card) if uid is None else uid,
            self.profile,
            key_of=self.held.get,
            random_bytes=self.random.randbytes(RANDOM_SIZE_C),
        )


class BenchAes:
    def __init__(
        self,
        *,
        seed: int = 1,
        random_uid: bool = False,
        takes_no_cmac: bool = False,
        version_page: bool = False,
        **card: Any,
    ) -> None:
        self.random = Random(seed)
        self.key = CardKey(key=self.random.randbytes(16), version=VERSION)
        self.uid_key = CardKey(key=self.random.randbytes(16))
        self.held = {UID: self.key}
        self.card = UltralightAesCard(
            UID,
            keys={0: self.key.key, 1: self.uid_key.key, 2: self.random.randbytes(16)},
            random_uid=random_uid,
            random=self.random.randbytes,
            **card,
        )
        self.card.write(VERSION_PAGE, bytes([VERSION]))
        self.profile = UltralightProfile(
            uid_key=self.uid_key,
            cmac=not takes_no_cmac,
            version_page=VERSION_PAGE if version_page else None,
        )

    def dialogue(self, uid: bytes | None = None) -> Dialogue:
        return ultralight_aes(
            lay(self.card) if uid is None else uid,
            self.profile,
            key_of=self.held.get,
            random_bytes=self.random.randbytes(RANDOM_SIZE_AES),
        )


# --- Ultralight C ----------------------------------------------------------------------------


def test_the_authentication_example_of_the_data_sheet() -> None:
    """MF0ICU2 7.5.6, as quoted by nfc-pcsc: the reader's side and the model's side."""
    key = H("49454D4B41455242214E4143554F5946")
    exchanges = [
        ("1A00", "AF577293FD2F34CA51"),
        ("AF0A638559FC7737F9F15D7862EBBE967A", "003B884FA07C137CE1"),
    ]
    assert follow(authenticate_c(key, H("A8AF3B256C75ED40")), *exchanges) is None
    card = UltralightCCard(UID, key=key, random=lambda size: H("51E764602678DF2B"))
    for command, answer in exchanges:
        assert card.apdu(H(command)) == H(answer)


@settings(max_examples=40, deadline=None)
@given(st.integers(), st.booleans())
def test_an_ultralight_c_of_ours_proves_itself(seed: int, version_page: bool) -> None:
    bench = BenchC(seed=seed, version_page=version_page)
    expected = Evidence(uid=UID, tier=Tier.ULTRALIGHT_C, key_version=VERSION)
    assert talk(bench.dialogue(), bench.card) == expected


def test_the_wrong_ultralight_c_gets_the_right_failure() -> None:
    bench = BenchC()
    for stranger in (bench.card.clone(), bench.card.factory()):
        assert talk(bench.dialogue(lay(stranger)), stranger) is Failure.WRONG_KEY
        assert stranger.wrong_keys == 1
    assert talk(bench.dialogue(UID), UidCard(UID)) is Failure.BAD_ANSWER
    mute = talk(bench.dialogue(UID), bench.card, change=lambda count, answer: NAK)
    assert mute is Failure.UNKNOWN_FAMILY
    assert talk(bench.dialogue(H("08112233")), bench.card) is Failure.RANDOM_UID
    shipped = H("49454D4B41455242214E4143554F5946")
    turned = bytes(byte ^ 1 for byte in shipped)  # The same key to DES.
    for factory in (bytes(16), shipped, turned):
        bench.held[UID] = CardKey(key=factory)
        assert talk(bench.dialogue(), bench.card) is Failure.FACTORY_KEY
    bench.held.clear()
    assert talk(bench.dialogue(), bench.card) is Failure.NO_KEY
    assert bench.card.wrong_keys == 0


def test_an_ultralight_c_that_others_can_write_is_refused() -> None:
    bench = BenchC(safe=False)
    assert talk(bench.dialogue(), bench.card) is Failure.UNSAFE_CONFIGURATION
    for lock_byte_3, auth0 in [(0x70, 0x2A), (0xF0, 0x2B), (0xF0, 0x30), (0xF0, 0x00)]:
        bench = BenchC()
        bench.card.write(0x28, bytes([0, lock_byte_3]))
        bench.card.write(0x2A, bytes([auth0]))
        assert talk(bench.dialogue(), bench.card) is Failure.UNSAFE_CONFIGURATION


def test_no_single_bit_turned_over_gives_an_ultralight_c_anything() -> None:
    """In the configuration a bit that means nothing may turn: what is proven stays the same."""
    first, heard = BenchC(version_page=True), list[tuple[bytes, bytes]]()
    truth = talk(first.dialogue(), first.card, heard=heard)
    assert isinstance(truth, Evidence)
    for number, bit, change in flips([answer for _, answer in heard]):
        again = BenchC(version_page=True)
        outcome = talk(again.dialogue(), again.card, change=change)
        if number in (1, 2):  # The authentication.
            assert isinstance(outcome, Failure), (number, bit)
        else:
            assert isinstance(outcome, Failure) or outcome == truth


# --- Ultralight AES --------------------------------------------------------------------------

BOTH = list(product([False, True], repeat=2))


@settings(max_examples=40, deadline=None)
@given(st.integers(), st.booleans(), st.booleans())
def test_a_wristband_of_ours_proves_itself(seed: int, random_uid: bool, version: bool) -> None:
    bench = BenchAes(seed=seed, random_uid=random_uid, version_page=version)
    expected = Evidence(uid=UID, tier=Tier.ULTRALIGHT_AES, key_version=VERSION)
    assert talk(bench.dialogue(), bench.card) == expected


@pytest.mark.parametrize(("random_uid", "takes_no_cmac"), BOTH)
def test_a_wristband_without_cmac_is_refused_or_worth_less(
    random_uid: bool, takes_no_cmac: bool
) -> None:
    bench = BenchAes(random_uid=random_uid, takes_no_cmac=takes_no_cmac, cmac=False)
    outcome = talk(bench.dialogue(), bench.card)
    if takes_no_cmac:
        assert outcome == Evidence(uid=UID, tier=Tier.ULTRALIGHT_C, key_version=VERSION)
    else:
        assert outcome is Failure.UNSAFE_CONFIGURATION


@pytest.mark.parametrize("locks", range(0, 0x100, 0x20))
@pytest.mark.parametrize("random_uid", [False, True])
def test_keys_that_can_be_written_are_unsafe(locks: int, random_uid: bool) -> None:
    bench = BenchAes(locks=locks, random_uid=random_uid)
    needed = 0xE0 if random_uid else 0x60
    safe = locks & needed == needed
    outcome = talk(bench.dialogue(), bench.card)
    assert isinstance(outcome, Evidence) if safe else outcome is Failure.UNSAFE_CONFIGURATION


@pytest.mark.parametrize(
    ("auth0", "locked"), list(product([0x04, 0x29, 0x2A, 0x3C], [False, True]))
)
def test_a_configuration_that_can_be_written_is_unsafe(auth0: int, locked: bool) -> None:
    bench = BenchAes(auth0=auth0)
    if locked:
        bench.card.write(0x2A, b"\xc0")
    outcome = talk(bench.dialogue(), bench.card)
    safe = locked or auth0 <= 0x29
    assert isinstance(outcome, Evidence) if safe else outcome is Failure.UNSAFE_CONFIGURATION


@pytest.mark.parametrize("random_uid", [False, True])
def test_the_wrong_wristband_gets_the_right_failure(random_uid: bool) -> None:
    bench = BenchAes(random_uid=random_uid)
    for stranger in (bench.card.clone(), bench.card.factory()):
        assert talk(bench.dialogue(lay(stranger)), stranger) is Failure.WRONG_KEY
        assert stranger.wrong_keys == 1
    insider = bench.card.with_keys({**bench.card.clone().keys, 1: bench.uid_key.key})
    assert talk(bench.dialogue(lay(insider)), insider) is Failure.WRONG_KEY
    bench.held[UID] = CardKey(key=bytes(16))
    assert talk(bench.dialogue(), bench.card) is Failure.FACTORY_KEY
    bench.held.clear()
    assert talk(bench.dialogue(), bench.card) is Failure.NO_KEY
    bench.profile = UltralightProfile(uid_key=CardKey(key=bytes(16)))
    expected = Failure.FACTORY_KEY if random_uid else Failure.NO_KEY
    assert talk(bench.dialogue(), bench.card) is expected
    bench.profile = UltralightProfile()
    expected = Failure.RANDOM_UID if random_uid else Failure.NO_KEY
    assert talk(bench.dialogue(), bench.card) is expected


def test_a_uid_that_does_not_fit_its_check_bytes_is_not_taken() -> None:
    for place in (3, 8):
        bench = BenchAes(random_uid=True)
        bench.card.memory[place] ^= 1
        assert talk(bench.dialogue(), bench.card) is Failure.BAD_ANSWER


def test_another_key_version_costs_no_attempt() -> None:
    """At AUTH_LIM a wristband refuses the right key for ever, so none is wasted."""
    bench = BenchAes(version_page=True, auth_limit=1)
    bench.held[UID] = CardKey(key=bench.random.randbytes(16), version=VERSION + 1)
    for _ in range(10):
        assert talk(bench.dialogue(), bench.card) is Failure.KEY_VERSION
    assert not bench.card.locked_for_ever
    bench.held[UID] = bench.key
    assert isinstance(talk(bench.dialogue(), bench.card), Evidence)


def test_one_tap_is_one_attempt_up_to_the_limit() -> None:
    bench = BenchAes(auth_limit=10)
    bench.held[UID] = CardKey(key=bench.random.randbytes(16), version=VERSION)
    for tap in range(1, 11):
        assert talk(bench.dialogue(), bench.card) is Failure.WRONG_KEY
        assert bench.card.wrong_keys == tap
    bench.held[UID] = bench.key
    assert bench.card.locked_for_ever
    assert talk(bench.dialogue(), bench.card) is Failure.WRONG_KEY


@pytest.mark.parametrize("random_uid", [False, True])
def test_no_single_bit_turned_over_gives_a_wristband_anything(random_uid: bool) -> None:
    first, heard = BenchAes(random_uid=random_uid), list[tuple[bytes, bytes]]()
    assert isinstance(talk(first.dialogue(), first.card, heard=heard), Evidence)
    for number, bit, change in flips([answer for _, answer in heard]):
        again = BenchAes(random_uid=random_uid)
        outcome = talk(again.dialogue(), again.card, change=change)
        assert isinstance(outcome, Failure), (number, bit)


def test_cut_and_oversize_answers_are_failures() -> None:
    for random_uid, takes_no_cmac in BOTH:

        def bench(random_uid: bool = random_uid, takes_no_cmac: bool = takes_no_cmac) -> BenchAes:
            return BenchAes(
                random_uid=random_uid, takes_no_cmac=takes_no_cmac, cmac=not takes_no_cmac
            )

        first, heard = bench(), list[tuple[bytes, bytes]]()
        talk(first.dialogue(), first.card, heard=heard)
        for change in cuts([answer for _, answer in heard]):
            again = bench()
            assert isinstance(talk(again.dialogue(), again.card, change=change), Failure)
    plain, heard = BenchC(version_page=True), []
    talk(plain.dialogue(), plain.card, heard=heard)
    for change in cuts([answer for _, answer in heard]):
        other = BenchC(version_page=True)
        assert isinstance(talk(other.dialogue(), other.card, change=change), Failure)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(st.binary(max_size=40), st.sampled_from([NAK, b"", b"\xaf" + bytes(16)])),
        max_size=8,
    ),
    st.sampled_from(["c", "aes", "random uid", "no cmac"]),
    st.integers(0, 5),
)
def test_made_up_answers_never_raise_and_never_prove(
    made_up: list[bytes], kind: str, honest: int
) -> None:
    bench: BenchC | BenchAes
    if kind == "c":
        bench = BenchC()
    else:
        bench = BenchAes(
            random_uid=kind == "random uid", takes_no_cmac=kind == "no cmac", cmac=kind != "no cmac"
        )
    dialogue = bench.dialogue()
    transmit = Turncoat(bench.card, honest=honest, script=made_up)
    outcome = run(dialogue, transmit=transmit, now_ms=lambda: 0)
    unprotected = kind in ("c", "no cmac") and transmit.last[:1] in (b"\x30", b"\x3a")
    assert isinstance(outcome, Failure) or transmit.honest or unprotected


def test_the_model_keeps_its_pages_shut() -> None:
    """The judge itself: what is protected is not read without the key."""
    bench = BenchAes(random_uid=True)
    lay(bench.card)
    assert bench.card.apdu(H("3000"))[:9] == bytes(9), "the UID behind a random one"
    assert bench.card.apdu(H("3010")) == NAK
    assert bench.card.apdu(H("3A292D")) == NAK
    card = BenchC().card
    lay(card)
    assert card.apdu(H("302A")) == NAK
