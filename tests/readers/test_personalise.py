"""Goal: a blank DESFire and a blank NTAG 424 become cards of the city, whole, or are gone on with.

Method: the commands word for word: NTAG 424 by AN12196's tables, the first key of a DESFire by
recorded sessions of real cards. Then model blanks, whose cryptography is written apart, made and
asked by the lane's own dialogues; torn away at every command and made again; every bit of every
answer turned over; settings that would leave a card open are found.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from edge.readers.card_crypto import SessionKeys, crc32
from edge.readers.dialogue import CardKey, Evidence, Failure, Tier
from edge.readers.issue_desfire import DesfirePlan, change_key_under_des, issue_desfire
from edge.readers.issue_ntag424 import NtagPlan, SunPlan, issue_ntag424
from edge.readers.ntag424 import SdmLayout
from edge.readers.personalise import Issuing, Trouble, carry, change_key
from edge.readers.profile import CardProfile, Family
from edge.readers.secure_channel import AesSuite, Answer, CommMode, Ev2Channel, FileRead
from hil.city.card_keys import SUN_MAC, SUN_PICC_DATA, SUN_TEMPLATE
from hil.devices.cards.bench import lay, talk
from hil.devices.cards.blank import CARD_LEVEL, BlankDesfire, BlankNtag424
from hil.devices.cards.chip import Chip
from hil.devices.cards.crypto import BlockCipher, checksum_32

H = bytes.fromhex
UID = H("04112233445566")
AID = H("014B4D")
VERSION = 3


# --- Word for word ---------------------------------------------------------------------------


def channel_of(ti: str, encryption: str, mac: str, counter: int) -> Ev2Channel:
    keys = SessionKeys(encryption=H(encryption), mac=H(mac))
    return Ev2Channel(AesSuite(keys), ti=H(ti), counter=counter)


FIRST = ("9D00C4DF", "1309C877509E5A215007FF0ED19CA564", "4C6626F5E72EA694202139295C7A7FC7")
SECOND = ("7614281A", "4CF3CB41A22583A61E89B158D252FC53", "5529860B2FC5FB6154B7F28361D30BF9")
THIRD = ("7614281A", "7A93D6571E4B180FCA6AC90C9A7488D4", "FC4AF159B62E549B5812394CAB1918CC")


def test_changing_file_settings_as_an12196_table_18() -> None:
    channel = channel_of(*FIRST, counter=1)
    data = H("4000E0C1F121200000430000430000")
    command = channel.write(0x5F, H("02"), data, CommMode.FULL)
    assert command == H("905F0000190261B6D97903566E84C3AE5274467E89EAD799B7C1A0EF7A0400")
    answer = Answer(status=0, data=H("57BFF87B1241E93D"))
    assert channel.open(answer, CommMode.MAC, 0) == b""


def test_the_settings_of_a_message_as_an12196_spells_them() -> None:
    sun = SunPlan(
        ndef=bytes(83), picc_data=0x20, mac_input=0x43, mac=0x43, meta_key_no=2, file_key_no=1
    )
    # As in table 18, but that nobody may ask for the counter: it is for the lane alone.
    assert sun.settings() == H("4000E0C1FF21200000430000430000")


def test_changing_another_key_as_an12196_table_25() -> None:
    new = CardKey(key=H("F3847D627727ED3BC9C4CC050489B966"), version=1)
    assert crc32(new.key) == H("789DFADC")
    channel = channel_of(*SECOND, counter=2)
    command = change_key(channel, 2, new, old=bytes(16))
    assert command == H(
        "90C4000029022CF362B7BF4311FF3BE1DAA295E8C68DE09050560D19B9E16C2393AE9CD1FAC75D0CE20BCD1D06E6"
        "00"
    )
    answer = Answer(status=0, data=H("203BB55D1089D587"))
    assert channel.open(answer, CommMode.MAC, 0) == b""


def test_changing_the_sessions_own_key_as_an12196_table_26() -> None:
    new = CardKey(key=H("5004BF991F408672B1EF00F08F9E8647"), version=1)
    command = change_key(channel_of(*SECOND, counter=3), 0, new, old=bytes(16))
    assert command == H(
        "90C400002900C0EB4DEEFEDDF0B513A03A95A75491818580503190D4D05053FF75668A01D6FDA6610234BDED6432"
        "00"
    )


def test_writing_a_file_as_an12196() -> None:
    """Enciphered (chapter 6.12 of rev. 1.8), and plain in a session (table 24)."""
    command = channel_of(*THIRD, counter=0).write(
        0x8D, H("030000000A0000"), H("0102030405060708090A"), CommMode.FULL
    )
    assert command == H(
        "908D00001F030000000A00006B5E6804909962FC4E3FF5522CF0F8436C0C53315B9C73AA00"
    )
    plain = channel_of(*SECOND, counter=1)
    data = H("FF0506E10500808283000000000000000000")
    command = plain.write(0x8D, H("010E0000120000"), data, CommMode.PLAIN)
    assert command == H("908D000019010E0000120000FF0506E1050080828300000000000000000000")
    assert plain.counter == 2


def test_changing_a_key_under_2tdea_as_a_real_card_took_it() -> None:
    """As pydesfire's ChangeKeyTest_2K3DES has it, from a session with a blank card."""
    key = CardKey(key=H("00102031405060708090A0B0B0A09080"))
    command = change_key_under_des(2 * H("C86CE25E4C647E56"), 0x00, key)
    assert command == H("90C400001900BEDE0FC6ED347DCF0D51C717DF75D97D2C5A2BA6CAC7479D00")


def test_the_first_key_of_a_blank_card_as_a_real_card_opened() -> None:
    """The same session's authentication: RndB, token and proof of a card with the factory key."""
    from edge.readers.issue_desfire import change_factory_key

    new = CardKey(key=H("00102030405060708090A0B0B0A09080"), version=0x10)
    step = change_factory_key(new, H("C96CE35E4D6087F2"))
    assert next(step) == H("901A0000010000")
    assert step.send(H("DE50F92310CAF5A591AF")) == H("90AF000010E00616668704D5549C8D6A13A0F8FCED00")
    command = step.send(H("1D9D2954697DE7609100"))
    assert command[:6] == H("90C400001980")
    # Parity bits are no part of a DES key: the session's key of the recording and ours are one.
    clear = BlockCipher(2 * H("C86CE25E4C647E56"), des=True).cbc_decrypt(command[6:-1])
    assert clear[:17] == new.key + b"\x10"
    assert clear[17:] == checksum_32(b"\xc4\x80" + clear[:17]) + bytes(3)
    with pytest.raises(StopIteration) as ended:
        step.send(H("9100"))
    assert ended.value.value is True


# --- Whole cards -----------------------------------------------------------------------------


class Bench:
    """Plans with keys from a seed, the blanks they are for, and what a lane asks afterwards."""

    def __init__(self, *, seed: int = 1, random_uid: bool = False, mode: str = "mac") -> None:
        self.random = Random(seed)
        self.read = FileRead(file_no=1, size=16, mode=CommMode(mode))
        self.app = (self.key(), self.key(), self.key())
        self.desfire = DesfirePlan(
            aid=AID,
            picc_key=self.key(),
            app_keys=self.app,
            read=self.read,
            read_key_no=1,
            data=b"moskvenok-card-1",
            random_uid=random_uid,
        )
        self.tag_keys = tuple(self.key() for _ in range(5))
        sun = SunPlan(
            ndef=SUN_TEMPLATE,
            picc_data=SUN_PICC_DATA,
            mac_input=SUN_PICC_DATA,
            mac=SUN_MAC,
            meta_key_no=1,
            file_key_no=2,
        )
        self.ntag = NtagPlan(keys=self.tag_keys, sun=sun, random_uid=random_uid)
        self.seed = seed

    def key(self) -> CardKey:
        return CardKey(key=self.random.randbytes(16), version=VERSION)

    def blank(self, kind: str) -> Chip:
        random = Random(self.seed).randbytes
        card = (
            BlankDesfire(UID, random=random)
            if kind == "desfire"
            else BlankNtag424(UID, random=random)
        )
        lay(card)
        return card

    def issuing(self, kind: str) -> Issuing:
        random = Random(~self.seed).randbytes
        if kind == "desfire":
            return issue_desfire(UID, self.desfire, random_bytes=random)
        return issue_ntag424(UID, self.ntag, random_bytes=random)

    def profiles(self, kind: str) -> list[tuple[CardProfile, CardKey]]:
        if kind == "desfire":
            uid_key = CardKey(key=self.app[2].key)
            profile = CardProfile(
                profile_id="p", family=Family.DESFIRE_EV2, aid=AID, key_no=1, read=self.read,
                uid_key_no=2, uid_key=uid_key,
            )  # fmt: skip
            return [(profile, self.app[1])]
        layout = SdmLayout(
            template=SUN_TEMPLATE, mac_input=SUN_PICC_DATA, mac=SUN_MAC, picc_data=SUN_PICC_DATA
        )
        meta = CardKey(key=self.tag_keys[1].key)
        mutual = CardProfile(profile_id="m", family=Family.NTAG424, key_no=3, uid_key_no=4,
                             uid_key=self.tag_keys[4])  # fmt: skip
        sun = CardProfile(
            profile_id="s", family=Family.NTAG424_SUN, layout=layout, meta_key=meta, key_no=2
        )
        return [(mutual, self.tag_keys[3]), (sun, self.tag_keys[2])]

    def ask(self, kind: str, card: Chip) -> list[Evidence | Failure]:
        """As a lane would, in an activation of its own each."""
        found = []
        for profile, key in self.profiles(kind):
            dialogue = profile.dialogue(
                lay(card), key_of={UID: key}.get, random_bytes=self.random.randbytes
            )
            found.append(talk(dialogue, card))
        return found


KINDS = ("desfire", "ntag")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("random_uid", [False, True])
@pytest.mark.parametrize("mode", ["mac", "full"])
def test_a_blank_becomes_a_card_that_proves_itself(kind: str, random_uid: bool, mode: str) -> None:
    bench = Bench(random_uid=random_uid, mode=mode)
    card = bench.blank(kind)
    assert carry(bench.issuing(kind), transmit=card.apdu) == UID
    tiers = [found.tier for found in bench.ask(kind, card) if isinstance(found, Evidence)]
    assert tiers == ([Tier.SESSION] if kind == "desfire" else [Tier.SESSION, Tier.SUN])
    assert (lay(card) == UID) is not random_uid
    assert card.wrong_keys == 0


def test_no_factory_key_and_no_open_setting_is_left() -> None:
    bench = Bench()
    desfire = bench.blank("desfire")
    assert isinstance(desfire, BlankDesfire)
    assert carry(bench.issuing("desfire"), transmit=desfire.apdu) == UID
    for level in desfire.levels.values():
        assert bytes(16) not in level.keys.values() and 0 not in level.versions.values()
        assert level.settings == 0x09
    assert desfire.levels[AID].rights == {1: H("0010")}
    assert not desfire.card_key_is_des and set(desfire.levels) == {CARD_LEVEL, AID}
    tag = bench.blank("ntag")
    assert isinstance(tag, BlankNtag424)
    assert carry(bench.issuing("ntag"), transmit=tag.apdu) == UID
    assert tag.keys == {number: key.key for number, key in enumerate(bench.tag_keys)}
    assert tag.rights == H("00E0")
    # A blank of another city is not made over, and costs it one attempt.
    assert carry(Bench(seed=2).issuing("ntag"), transmit=tag.apdu) == Trouble(
        step="factory key", failure=Failure.WRONG_KEY
    )
    assert tag.wrong_keys == 1


def _cut_at(card: Chip, issuing: Issuing, count: int) -> bool:
    """Tear the card away after so many answers; whether it came to an end before."""
    left = count

    def transmit(command: bytes) -> bytes | Failure:
        nonlocal left
        left -= 1
        return Failure.LEFT_FIELD if left < 0 else card.apdu(command)

    return carry(issuing, transmit=transmit) is not Failure.LEFT_FIELD


@pytest.mark.parametrize("kind", KINDS)
def test_a_card_torn_away_at_any_command_is_finished_the_second_time(kind: str) -> None:
    for count in range(200):
        bench = Bench()
        card = bench.blank(kind)
        if _cut_at(card, bench.issuing(kind), count):
            assert count > 30
            return
        lay(card)
        again = carry(bench.issuing(kind), transmit=card.apdu)
        if again != UID:  # The tag whose last key was changed is done; it is enrolled as it is.
            assert kind == "ntag" and again == Trouble(
                step="factory key", failure=Failure.WRONG_KEY
            )
        assert all(isinstance(found, Evidence) for found in bench.ask(kind, card)), count
    pytest.fail("it never ended")


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_with_one_bit_turned_over_makes_no_card_that_is_given_out(kind: str) -> None:
    """Whatever passes between, either the desk is told of trouble or the card is right."""
    draw = Random("flips")
    for _ in range(400):
        bench = Bench()
        card, at, bit, count = bench.blank(kind), draw.randrange(50), draw.randrange(400), 0

        def transmit(command: bytes, card: Chip = card, at: int = at, bit: int = bit) -> bytes:
            nonlocal count
            answer = bytearray(card.apdu(command))
            if count == at and bit < 8 * len(answer):
                answer[bit // 8] ^= 0x80 >> bit % 8
            count += 1
            return bytes(answer)

        made = carry(bench.issuing(kind), transmit=transmit)
        if made == UID:
            assert all(isinstance(found, Evidence) for found in bench.ask(kind, card))
        else:
            assert isinstance(made, Trouble)


def test_a_file_that_others_may_write_is_found() -> None:
    bench = Bench()
    card = bench.blank("desfire")
    assert isinstance(card, BlankDesfire)
    assert carry(bench.issuing("desfire"), transmit=card.apdu) == UID
    card.levels[AID].rights[1] = H("EE1E")
    lay(card)
    assert carry(bench.issuing("desfire"), transmit=card.apdu) == Trouble(
        step="file", failure=Failure.BAD_ANSWER
    )
    card.levels[AID].rights[1] = H("E010")  # The master key still writes, but so may everybody.
    lay(card)
    assert carry(bench.issuing("desfire"), transmit=card.apdu) == Trouble(
        step="check", failure=Failure.UNSAFE_CONFIGURATION
    )


def test_another_citys_card_and_another_uid_are_left_alone() -> None:
    bench = Bench()
    card = bench.blank("desfire")
    assert carry(bench.issuing("desfire"), transmit=card.apdu) == UID
    other = Bench(seed=2)
    strange = replace(other.desfire, picc_key=CardKey(key=other.app[0].key, version=VERSION + 1))
    lay(card)
    assert carry(
        issue_desfire(UID, strange, random_bytes=other.random.randbytes), transmit=card.apdu
    ) == Trouble(step="card master key", failure=Failure.KEY_VERSION)
    fresh = bench.blank("desfire")
    wrong = issue_desfire(H("04112233445567"), bench.desfire, random_bytes=bench.random.randbytes)
    assert carry(wrong, transmit=fresh.apdu) == Trouble(
        step="application", failure=Failure.WRONG_KEY
    )


def test_a_tag_with_another_uid_is_not_written_on() -> None:
    bench = Bench()
    tag = bench.blank("ntag")
    wrong = issue_ntag424(H("04112233445567"), bench.ntag, random_bytes=bench.random.randbytes)
    assert carry(wrong, transmit=tag.apdu) == Trouble(step="uid", failure=Failure.WRONG_KEY)
    assert set(tag.keys.values()) == {bytes(16)}


def test_a_factory_key_cannot_be_planned() -> None:
    bench = Bench()
    for keys in ((CardKey(key=bytes(16), version=1),), (CardKey(key=b"k" * 16, version=0),)):
        with pytest.raises(AssertionError):
            replace(bench.ntag, keys=keys + bench.tag_keys[1:])
