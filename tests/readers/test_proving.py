"""Goal: a card is asked by the one profile that is its own, once; a failure is worth what it says.

Method: model cards of every family under a book that counts what it was asked, over the channel a
PC/SC reader gives and over a raw one; each way to fail; then the back-off at its times.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from edge.readers.dialogue import BUDGET_MS_MAX, CardKey, Evidence, Failure, Tier, run
from edge.readers.ntag424 import SdmLayout
from edge.readers.profile import CardProfile, Family
from edge.readers.proving import (
    AWAY_MS_MIN,
    FAILED_REMEMBERED_MAX,
    HOLD_MS,
    Attempts,
    Prover,
    ask_activated,
)
from edge.readers.secure_channel import CommMode, FileRead
from hil.city.card_keys import SUN_MAC, SUN_PICC_DATA, SUN_TEMPLATE
from hil.devices.cards.bench import lay
from hil.devices.cards.chip import Chip, UidCard
from hil.devices.cards.desfire import CardFile, DesfireCard
from hil.devices.cards.ntag424 import Mirrors, Ntag424Card
from hil.devices.cards.ultralight import UltralightAesCard, UltralightCCard

H = bytes.fromhex
AID = H("014B4D")
UIDS = {family: bytes([4, number]) + H("1122334455") for number, family in enumerate(Family)}
SHARED = CardKey(key=H("00112233445566778899AABBCCDDEEFF"))
KEY = CardKey(key=H("FFEEDDCCBBAA99887766554433221100"), version=1)
READ = FileRead(file_no=1, size=16, mode=CommMode.MAC)
LAYOUT = SdmLayout(
    template=SUN_TEMPLATE, mac_input=SUN_PICC_DATA, mac=SUN_MAC, picc_data=SUN_PICC_DATA
)
PROFILES = {
    Family.DESFIRE_EV1: CardProfile(profile_id="ev1", family=Family.DESFIRE_EV1, aid=AID, key_no=1,
                                    read=READ),
    Family.DESFIRE_EV2: CardProfile(profile_id="ev2", family=Family.DESFIRE_EV2, aid=AID, key_no=1,
                                    read=READ, uid_key_no=2, uid_key=SHARED),
    Family.NTAG424: CardProfile(profile_id="ntag", family=Family.NTAG424, key_no=1),
    Family.NTAG424_LRP: CardProfile(profile_id="lrp", family=Family.NTAG424_LRP, key_no=1),
    Family.NTAG424_SUN: CardProfile(profile_id="sun", family=Family.NTAG424_SUN, key_no=2,
                                    layout=LAYOUT, meta_key=SHARED),
    Family.ULTRALIGHT_C: CardProfile(profile_id="ulc", family=Family.ULTRALIGHT_C),
    Family.ULTRALIGHT_AES: CardProfile(profile_id="ula", family=Family.ULTRALIGHT_AES,
                                       uid_key=SHARED),
}  # fmt: skip


def make(family: Family, *, random_uid: bool = False, key: bytes = KEY.key) -> Chip:
    uid, random = UIDS[family], Random(1).randbytes
    match family:
        case Family.DESFIRE_EV1 | Family.DESFIRE_EV2:
            return DesfireCard(
                uid, aid=AID, keys={0: random(16), 1: key, 2: SHARED.key},
                files={1: CardFile(bytes(16), "mac", read_key_no=1)}, random_uid=random_uid,
                random=random,
            )  # fmt: skip
        case Family.NTAG424 | Family.NTAG424_LRP:
            return Ntag424Card(uid, keys=dict.fromkeys(range(5), key),
                               lrp=family is Family.NTAG424_LRP, random=random)  # fmt: skip
        case Family.NTAG424_SUN:
            mirrors = Mirrors(mac_input=SUN_PICC_DATA, mac=SUN_MAC, file_key_no=2,
                              picc_data=SUN_PICC_DATA, meta_key_no=1)  # fmt: skip
            return Ntag424Card(uid, keys={1: SHARED.key, 2: key}, ndef=SUN_TEMPLATE,
                               mirrors=mirrors, random_uid=random_uid, random=random)  # fmt: skip
        case Family.ULTRALIGHT_C:
            return UltralightCCard(uid, key=key, random=random)
        case Family.ULTRALIGHT_AES:
            return UltralightAesCard(uid, keys={0: key, 1: SHARED.key}, random_uid=random_uid,
                                     random=random)  # fmt: skip


class Book:
    """Says what it holds, and remembers who asked."""

    def __init__(self, *families: Family, keys: dict[bytes, CardKey] | None = None) -> None:
        self.profiles = [PROFILES[family] for family in families]
        self.keys = {UIDS[family]: KEY for family in families} if keys is None else keys
        self.asked: list[str] = []

    def candidates(self, shown: bytes) -> Sequence[CardProfile]:
        own = [p for p in self.profiles if shown in (UIDS[p.family], None)]
        return own or [p for p in self.profiles if p.reveals_uid and shown[0] == 0x08]

    def key_of(self, profile_id: str, uid: bytes) -> CardKey | None:
        self.asked.append(profile_id)
        return self.keys.get(uid)


class Lane:
    """One reader's prover, and a card in front of it."""

    def __init__(self, book: Book | None) -> None:
        self.now_ms = 1_000
        self.prover = Prover(book, random_bytes=Random(2).randbytes)
        self.commands = 0

    def tap(self, card: Chip, *, native: bool = False) -> Evidence | Failure:
        shown = lay(card)

        def transmit(command: bytes) -> bytes:
            self.commands += 1
            return card.apdu(command)

        dialogue = self.prover.dialogue(
            now_ms=self.now_ms, shown=shown if native else None, native=native
        )
        outcome = run(dialogue, transmit=transmit, now_ms=lambda: self.now_ms)
        self.prover.concluded(outcome, now_ms=self.now_ms)
        return outcome


def is_native(family: Family) -> bool:
    return family in (Family.ULTRALIGHT_C, Family.ULTRALIGHT_AES)


@pytest.mark.parametrize("family", list(Family))
def test_a_good_card_of_each_family_proves_its_tier(family: Family) -> None:
    lane = Lane(Book(*Family))
    outcome = lane.tap(make(family), native=is_native(family))
    assert isinstance(outcome, Evidence)
    assert (outcome.uid, outcome.tier, outcome.failure) == (
        UIDS[family], PROFILES[family].tier, None,
    )  # fmt: skip
    assert outcome.counter == (1 if family is Family.NTAG424_SUN else None)


@pytest.mark.parametrize("family", [Family.DESFIRE_EV2, Family.NTAG424_SUN, Family.ULTRALIGHT_AES])
def test_a_card_behind_a_random_uid_is_named(family: Family) -> None:
    book = Book(*Family)
    outcome = Lane(book).tap(make(family, random_uid=True), native=is_native(family))
    assert isinstance(outcome, Evidence) and outcome.uid == UIDS[family]
    assert book.asked == [PROFILES[family].profile_id], "its own profile's key and no other"


@pytest.mark.parametrize("family", list(Family))
def test_a_copy_is_a_number_that_proves_nothing(family: Family) -> None:
    copy = make(family, key=H("0123456789ABCDEF0123456789ABCDEF"))
    outcome = Lane(Book(*Family)).tap(copy, native=is_native(family))
    assert isinstance(outcome, Evidence)
    wanted = Failure.BAD_MAC if family is Family.NTAG424_SUN else Failure.WRONG_KEY
    assert (outcome.uid, outcome.tier, outcome.failure) == (UIDS[family], Tier.NUMBER, wanted)
    assert copy.wrong_keys <= 1


def test_a_number_without_a_profile_costs_one_command() -> None:
    lane = Lane(Book())
    outcome = lane.tap(UidCard(UIDS[Family.NTAG424]))
    assert outcome == Evidence(uid=UIDS[Family.NTAG424], tier=Tier.UID)
    assert lane.commands == 1
    assert Lane(None).tap(UidCard(UIDS[Family.NTAG424])) == outcome


def test_a_copied_number_without_the_chip_is_a_number() -> None:
    for family in (Family.DESFIRE_EV2, Family.NTAG424, Family.NTAG424_SUN):
        outcome = Lane(Book(family)).tap(UidCard(UIDS[family], sak=0x20))
        assert outcome == Evidence(uid=UIDS[family], tier=Tier.UID, failure=Failure.UNKNOWN_FAMILY)


def test_a_card_no_key_is_held_for_is_a_number() -> None:
    outcome = Lane(Book(Family.NTAG424, keys={})).tap(make(Family.NTAG424))
    assert outcome == Evidence(uid=UIDS[Family.NTAG424], tier=Tier.UID, failure=Failure.NO_KEY)


def test_a_held_factory_key_is_never_used() -> None:
    book = Book(Family.NTAG424, keys={UIDS[Family.NTAG424]: CardKey(key=bytes(16))})
    card = make(Family.NTAG424, key=bytes(16))
    outcome = Lane(book).tap(card)
    assert isinstance(outcome, Evidence)
    assert (outcome.tier, outcome.failure) == (Tier.NUMBER, Failure.FACTORY_KEY)
    assert card.wrong_keys == 0


def test_a_phone_names_nobody_and_a_copy_behind_a_random_uid_neither() -> None:
    phone = UidCard(H("08000000"), sak=0x20, random_uid=True)
    assert Lane(Book(*Family)).tap(phone) is Failure.RANDOM_UID
    stranger = make(Family.DESFIRE_EV2, random_uid=True, key=H("0123456789ABCDEF0123456789ABCDEF"))
    assert Lane(Book(Family.DESFIRE_EV2)).tap(stranger) is Failure.WRONG_KEY


def test_another_cards_message_is_no_proof_of_this_number() -> None:
    """A chip that shows one UID and plays another card's message."""
    book = Book(Family.NTAG424_SUN)
    card = make(Family.NTAG424_SUN)
    book.keys[UIDS[Family.NTAG424]] = KEY
    other = UIDS[Family.NTAG424]
    book.profiles = [PROFILES[Family.NTAG424_SUN]]
    lane = Lane(book)
    lay(card)
    dialogue = Prover(Always(book), random_bytes=Random(2).randbytes).dialogue(
        now_ms=0, shown=other
    )
    outcome = run(dialogue, transmit=card.apdu, now_ms=lambda: 0)
    assert outcome == Evidence(uid=other, tier=Tier.NUMBER, failure=Failure.WRONG_KEY)
    assert lane.commands == 0


class Always(Book):
    """Offers every profile for every number."""

    def __init__(self, book: Book) -> None:
        super().__init__()
        self.profiles, self.keys = book.profiles, book.keys

    def candidates(self, shown: bytes) -> Sequence[CardProfile]:
        return self.profiles


def test_native_cards_are_not_asked_over_a_channel_of_apdus_nor_others_in_frames() -> None:
    for family in Family:
        lane = Lane(Book(*Family))
        outcome = lane.tap(make(family), native=not is_native(family))
        assert outcome == Evidence(uid=UIDS[family], tier=Tier.UID)
        assert lane.commands <= 1


def test_an_accident_is_no_read_and_is_not_held_against_the_card() -> None:
    lane = Lane(Book(Family.NTAG424))
    card = make(Family.NTAG424)
    shown = lay(card)
    dialogue = lane.prover.dialogue(now_ms=lane.now_ms, shown=shown)
    gone = run(dialogue, transmit=lambda _: Failure.LEFT_FIELD, now_ms=lambda: 0)
    assert gone is Failure.LEFT_FIELD
    lane.prover.concluded(gone, now_ms=lane.now_ms)
    slow = lane.prover.dialogue(now_ms=lane.now_ms, shown=lay(card))
    times = iter((0, BUDGET_MS_MAX))
    assert run(slow, transmit=card.apdu, now_ms=lambda: next(times)) is Failure.DEADLINE
    assert isinstance(lane.tap(card), Evidence)


# --- The back-off ----------------------------------------------------------------------------


def test_a_card_that_failed_is_left_alone_until_it_left_or_time_went_by() -> None:
    lane = Lane(Book(Family.NTAG424))
    copy = make(Family.NTAG424, key=H("0123456789ABCDEF0123456789ABCDEF"))
    first = lane.tap(copy)
    assert isinstance(first, Evidence) and copy.wrong_keys == 1
    for _ in range(10):  # It flutters at the edge of the field.
        lane.now_ms += 50
        lane.prover.field_empty(now_ms=lane.now_ms)
        lane.now_ms += 50
        assert lane.tap(copy) is Failure.HELD_BACK
    assert copy.wrong_keys == 1
    lane.prover.field_empty(now_ms=lane.now_ms)
    lane.now_ms += AWAY_MS_MIN
    assert lane.tap(copy) == first and copy.wrong_keys == 2
    lane.now_ms += HOLD_MS - 1
    assert lane.tap(copy) is Failure.HELD_BACK
    lane.now_ms += 1
    assert lane.tap(copy) == first
    assert isinstance(lane.tap(make(Family.NTAG424_SUN)), Evidence), "another card is not held back"


def test_the_back_off_remembers_a_bounded_number_of_cards() -> None:
    attempts = Attempts()
    for number in range(FAILED_REMEMBERED_MAX + 1):
        attempts.failed(bytes([number]), now_ms=0)
    assert attempts.may_try(b"\0", now_ms=1), "the oldest is forgotten"
    assert not attempts.may_try(b"\1", now_ms=1)


# --- A raw channel ---------------------------------------------------------------------------


class Raw:
    """A card as a PN532 activates it; its refusals come as such a reader hears them."""

    def __init__(self, card: Chip, *, sak: int, silent: bool = False) -> None:
        self.uid, self.sak, self._card, self._silent = lay(card), sak, card, silent

    def transceive(self, command: bytes) -> bytes | Failure:
        answer = self._card.apdu(command)
        if self.sak & 0x20 or len(answer) > 1:
            return answer
        return Failure.LEFT_FIELD if self._silent else Failure.BAD_ANSWER


@pytest.mark.parametrize("family", [Family.ULTRALIGHT_C, Family.ULTRALIGHT_AES, Family.NTAG424])
@pytest.mark.parametrize("silent", [False, True])
def test_a_raw_channel_asks_every_family(family: Family, silent: bool) -> None:
    prover = Prover(Book(*Family), random_bytes=Random(3).randbytes)
    sak = 0x00 if is_native(family) else 0x20
    good = ask_activated(prover, Raw(make(family), sak=sak), now_ms=lambda: 0)
    assert isinstance(good, Evidence) and good.tier is PROFILES[family].tier
    copy = make(family, key=H("0123456789ABCDEF0123456789ABCDEF"))
    time_ms = [0]
    for _ in range(2):  # Its reader reports it anew only after it was away.
        time_ms[0] += 1_000
        raw = Raw(copy, sak=sak, silent=silent)
        outcome = ask_activated(prover, raw, now_ms=lambda: time_ms[0])
        assert isinstance(outcome, Evidence) and outcome.failure is Failure.WRONG_KEY
    assert copy.wrong_keys == 2


def test_a_card_without_the_command_is_a_number_on_a_raw_channel() -> None:
    class Refuses(UidCard):
        def answer(self, command: bytes) -> bytes:
            return b"\x00"

    prover = Prover(Book(*Family), random_bytes=Random(3).randbytes)
    card = Refuses(UIDS[Family.ULTRALIGHT_AES])
    outcome = ask_activated(prover, Raw(card, sak=0x00), now_ms=lambda: 0)
    assert outcome == Evidence(uid=card.uid, tier=Tier.UID, failure=Failure.UNKNOWN_FAMILY)


# --- Profiles --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "problem"),
    [
        (CardProfile(profile_id="x", family=Family.DESFIRE_EV2), "AID"),
        (CardProfile(profile_id="x", family=Family.DESFIRE_EV2, aid=bytes(3)), "AID"),
        (CardProfile(profile_id="x", family=Family.NTAG424, key_no=14), "key number 14"),
        (CardProfile(profile_id="x", family=Family.NTAG424, uid_key=SHARED), "go together"),
        (CardProfile(profile_id="x", family=Family.NTAG424, uid_key_no=99, uid_key=SHARED), "99"),
        (CardProfile(profile_id="x", family=Family.NTAG424, read_key_version=True), "DESFire"),
        (CardProfile(profile_id="x", family=Family.NTAG424_SUN), "layout"),
        (CardProfile(profile_id="x", family=Family.NTAG424_SUN, layout=LAYOUT), "meta key"),
        (CardProfile(profile_id="x", family=Family.ULTRALIGHT_C, version_page=2), "page 2"),
    ],
)
def test_a_profile_that_cannot_be_used_says_why(profile: CardProfile, problem: str) -> None:
    assert problem in profile.problem()


def test_the_good_profiles_have_no_problem() -> None:
    assert [profile.problem() for profile in PROFILES.values()] == [""] * len(PROFILES)
