"""Goal: an NTAG 424 proves itself in a session, and a message it made is good once.

Method: NXP's notes and logs of real tags word for word; the dialogues against the model card with
random keys, in AES and in LRP; then every bit turned over in every answer, every answer cut, and
anything at all sent instead. Messages are laid out in four ways, plain and enciphered.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.readers.card_crypto import SessionKeys, session_lrp
from edge.readers.dialogue import CardKey, Dialogue, Evidence, Failure, Tier, run
from edge.readers.mutual import RANDOM_SIZE, MutualProfile
from edge.readers.ntag424 import (
    SdmCard,
    SdmLayout,
    SdmSession,
    decrypt_picc_data,
    ntag424,
    ntag424_sun,
    open_sun,
)
from edge.readers.secure_channel import (
    AesSuite,
    Answer,
    CommMode,
    Ev2Channel,
    FileRead,
    LrpSuite,
    authenticate_ev2_first,
    authenticate_lrp_first,
    get_card_uid,
    read_file,
)
from hil.devices.cards.bench import cuts, flips, follow, lay, talk
from hil.devices.cards.chip import UidCard
from hil.devices.cards.desfire import CardFile
from hil.devices.cards.ntag424 import Mirrors, Ntag424Card
from hil.devices.cards.session import LrpSession

H = bytes.fromhex
UID = H("04A1B2C3D4E580")
BOTH = list(product([False, True], repeat=2))


# --- Word for word ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rnd_a", "challenge", "token", "proof", "ti"),
    [
        # AN12196 6.6 and 6.10, as quoted by nfc-ev2-crypto.
        (
            "13C5DB8A5930439FC3DEF9A4C675360F",
            "A04C124213C186F22399D33AC2A30215",
            "35C3E05A752E0144BAC0DE51C1F22C56B34408A23D8AEA266CAB947EA8E0118D",
            "3FA64DB5446D1F34CD6EA311167F5E4985B89690C04A05F17FA7AB2F08120663",
            "9D00C4DF",
        ),
        (
            "B98F4C50CF1C2E084FD150E33992B048",
            "B875CEB0E66A6C5CD00898DC371F92D1",
            "FF0306E47DFBC50087C4D8A78E88E62DE1E8BE457AA477C707E2F0874916A8B1",
            "0CC9A8094A8EEA683ECAAC5C7BF20584206D0608D477110FC6B3D5D3F65C3A6A",
            "7614281A",
        ),
    ],
)
def test_the_authentications_of_an12196(
    rnd_a: str, challenge: str, token: str, proof: str, ti: str
) -> None:
    channel = follow(
        authenticate_ev2_first(0, bytes(16), H(rnd_a)),
        ("9071000002000000", challenge + "91AF"),
        ("90AF000020" + token + "00", proof + "9100"),
    )
    assert isinstance(channel, Ev2Channel)
    assert (channel.ti, channel.counter) == (H(ti), 0)


def test_the_maced_answer_of_an12196() -> None:
    """AN12196 5.3: GetFileSettings under MAC."""
    keys = SessionKeys(encryption=bytes(16), mac=H("8248134A386E86EB7FAF54A52E536CB6"))
    channel = Ev2Channel(AesSuite(keys), ti=H("7A21085E"))
    assert channel.command(0xF5, b"\x02", CommMode.MAC) == H("90F5000009026597A457C8CD442C00")
    data = H("0040EEEE000100D1FE001F00004400004400002000006A0000")
    answer = Answer(status=0, data=data + H("2A474282E7A47986"))
    assert channel.open(answer, CommMode.MAC, len(data)) == data


def test_an_lrp_authentication_of_a_real_tag() -> None:
    """nfc-ev2-crypto, test_lrp_auth: key 3 as shipped."""
    channel = follow(
        authenticate_lrp_first(3, bytes(16), H("74D7DF6A2CEC0B72B412DE0D2B1117E6")),
        ("907100000303010200", "0156109A31977C855319CD4618C9D2AED2" + "91AF"),
        (
            "90AF00002074D7DF6A2CEC0B72B412DE0D2B1117E6189B59DCEDC31A3D3F38EF8D4810B3B400",
            "F4FC209D9D60623588B299FA5D6B2D710125F8547D9FB8D572C90D2C2A14E235" + "9100",
        ),
    )
    assert isinstance(channel, Ev2Channel)
    assert channel.ti == H("58EE9424")


def lrp_channel(context: str, ti: str, *, counter: int = 0, blocks: int = 1) -> Ev2Channel:
    """A session of nfc-ev2-crypto's test_lrp_cmd, which gives its vector and not the nonces."""
    raw = H(context)
    # Any nonces with this context make this session: RndB[15..10] of zero leaves RndA as it is.
    mac, encryption = session_lrp(bytes(16), raw[:8] + raw[18:], bytes(6) + raw[8:18])
    return Ev2Channel(LrpSuite(mac, encryption, counter=blocks), ti=H(ti), counter=counter)


def test_lrp_messages_of_a_real_tag() -> None:
    channel = lrp_channel("993c4eed466bfc0e7ee1d30c1ebd0dea6f6481e0d70e9a174e78", ti="4f5e8407")
    for command, answer in [
        ("9051000008c37d6270f674cc6d00", "5ec351196b8e2943db04fcd4a952f53da2830dc2258e45399100"),
        ("9051000008d65ccb81e559140000", "d80b735f7b4c8e7e8a3cdaaa4410f35f752769c8ebc48e1a9100"),
        ("90510000088c677d7dcc34937100", "9ccd031474a50199c696d8ef272e231a10173faf41b614e49100"),
    ]:
        assert follow(get_card_uid(channel), (command, answer)) == H("04940d2a2f7080")


def test_an_lrp_read_of_a_real_tag() -> None:
    # Before this read the tag was written to: one command, one enciphered block.
    channel = lrp_channel(
        "08a6953c60bc3d34e53766689732e2a203ff23855751d644ed51",
        ti="204f2276",
        counter=1,
        blocks=2,
    )
    data = follow(
        read_file(channel, FileRead(file_no=3, size=3, mode=CommMode.FULL)),
        (
            "90ad00000f0300000003000059858e133a7f487d00",
            "39665fae8af18feb23da1767eaf2274bb97fc66cc94377139100",
        ),
    )
    assert data == H("010203")


# AN12196 pages 12 and 18, and messages of real tags, as quoted by sdm-backend: meta key, file key,
# PICC data, text under the MAC, MAC, UID, counter, enciphered file data, its clear text.
ZERO = "00" * 16
MESSAGES = [
    (
        *(False, ZERO, ZERO, "EF963FF7828658A599F3041510671E88", "", "94EED9EE65337086"),
        *("04DE5F1EACC040", 61, "", ""),
    ),
    (
        *(False, ZERO, ZERO, "FD91EC264309878BE6345CBE53BADF40"),
        *("CEE9A53E3E463EF1F459635736738962&cmac=", "ECC1E7F6C6C73BF6"),
        *("04958CAA5C5E80", 8, "CEE9A53E3E463EF1F459635736738962", "78" * 16),
    ),
    (
        *(False, "42aff114f2cb3b6141be6dc95dfc5416", "b62a9baf092439bd43c62aee96b970c5"),
        *("8ACADDEF0A9B62CDAE39A16B83FC14DE", "B8436E11F627BB7F543FCC0C1E0D1A89"),
        *("238B2543A8DEBAD8", "041D3C8A2D6B80", 291, "B8436E11F627BB7F543FCC0C1E0D1A89"),
        "4e545858716e6f5f6f42467077792d56",
    ),
    (
        *(True, ZERO, ZERO, "07D9CA2545881D4BFDD920BE1603268C0714420DD893A497"),
        *("D6E921C47DB4C17C56F979F81559BB83&cmac=", "F9481AC7D855BDB6", "049B112A2F7080", 4),
        *("D6E921C47DB4C17C56F979F81559BB83", b"NTXXb7dz3PsYYBlU".hex()),
    ),
    (
        *(True, ZERO, ZERO, "1FCBE61B3E4CAD980CBFDD333E7A4AC4A579569BAFD22C5F", ""),
        *("4231608BA7B02BA9", "04940E2A2F7080", 3, "", ""),
    ),
    (
        *(True, ZERO, ZERO, "65628ED36888CF9C84797E43ECACF114C6ED9A5E101EB592"),
        (
            "any.domain/?m=65628ED36888CF9C84797E43ECACF114C6ED9A5E101EB592"
            "x4ADE304B5AB9474CB40AFFCAB0607A85x"
        ),
        *("87E287E8135BFC06", "042E1D222A6380", 0x7B, "4ADE304B5AB9474CB40AFFCAB0607A85"),
        b"0102030400000000".hex(),
    ),
]


@pytest.mark.parametrize(
    ("lrp", "meta", "key", "picc", "text", "mac", "uid", "count", "sealed", "clear"), MESSAGES
)
def test_published_messages_open(
    lrp: bool,
    meta: str,
    key: str,
    picc: str,
    text: str,
    mac: str,
    uid: str,
    count: int,
    sealed: str,
    clear: str,
) -> None:
    assert decrypt_picc_data(H(meta), H(picc), lrp=lrp) == (H(uid), count.to_bytes(3, "little"))
    session = SdmSession(H(key), H(uid), count.to_bytes(3, "little"), lrp=lrp)
    assert session.mac(text.encode()) == H(mac)
    assert session.decrypt(H(sealed)) == H(clear)


def test_a_published_plain_message_opens() -> None:
    """sdm-backend, test_plain_sdm: UID and counter in plain text, nothing under the MAC."""
    session = SdmSession(bytes(16), H("041E3C8A2D6B80"), H("060000"), lrp=False)
    assert session.mac(b"") == H("4B00064004B0B3D3")


def test_a_tag_that_answers_for_other_capabilities_is_not_believed() -> None:
    rnd_a, rnd_b = bytes(range(16)), bytes(16)
    for ours, failure in [(b"\x02" + bytes(5), None), (bytes(6), Failure.BAD_ANSWER)]:
        card = LrpSession(bytes(16), rnd_a, rnd_b, ti=b"\x01\x02\x03\x04", key_no=0)
        step = authenticate_lrp_first(0, bytes(16), rnd_a)
        next(step)
        step.send(b"\x01" + rnd_b + b"\x91\xaf")
        sealed = card.encrypt(card.ti + bytes(6) + ours)
        with pytest.raises(StopIteration) as ended:
            step.send(sealed + card.mac(rnd_b + rnd_a + sealed) + b"\x91\x00")
        outcome = ended.value.value
        assert outcome is failure if failure else isinstance(outcome, Ev2Channel)


# --- A session with the model card -----------------------------------------------------------

READS = [
    None,
    FileRead(file_no=2, size=16, mode=CommMode.MAC, offset=4),
    FileRead(file_no=3, size=16, mode=CommMode.FULL),
]


class Bench:
    def __init__(
        self, *, lrp: bool, read: FileRead | None, random_uid: bool = False, seed: int = 1
    ) -> None:
        self.random = Random(seed)
        self.key = CardKey(key=self.random.randbytes(16), version=2)
        self.uid_key = CardKey(key=self.random.randbytes(16))
        self.data = self.random.randbytes(32)
        self.lrp = lrp
        self.held = {UID: self.key}
        self.card = Ntag424Card(
            UID,
            keys={0: self.random.randbytes(16), 1: self.key.key, 2: self.uid_key.key},
            files={2: CardFile(self.data, "mac", 1), 3: CardFile(self.data, "full", 1)},
            lrp=lrp,
            random_uid=random_uid,
            random=self.random.randbytes,
        )
        self.profile = MutualProfile(key_no=1, read=read, uid_key_no=2, uid_key=self.uid_key)

    def dialogue(self, uid: bytes | None = None) -> Dialogue:
        return ntag424(
            lay(self.card) if uid is None else uid,
            self.profile,
            lrp=self.lrp,
            key_of=self.held.get,
            random_bytes=self.random.randbytes(RANDOM_SIZE),
        )


CASES = list(product([False, True], READS, [False, True]))


@pytest.mark.parametrize(("lrp", "read", "random_uid"), CASES)
def test_a_tag_of_ours_proves_itself(lrp: bool, read: FileRead | None, random_uid: bool) -> None:
    bench = Bench(lrp=lrp, read=read, random_uid=random_uid)
    data = bench.data[read.offset : read.offset + read.size] if read else b""
    evidence = talk(bench.dialogue(), bench.card)
    assert evidence == Evidence(uid=UID, tier=Tier.SESSION, key_version=2, data=data)


@settings(max_examples=20, deadline=None)
@given(st.integers(), st.sampled_from(CASES))
def test_any_keys_will_do(seed: int, case: tuple[bool, FileRead | None, bool]) -> None:
    lrp, read, random_uid = case
    bench = Bench(lrp=lrp, read=read, random_uid=random_uid, seed=seed)
    assert isinstance(talk(bench.dialogue(), bench.card), Evidence)


@pytest.mark.parametrize("lrp", [False, True])
@pytest.mark.parametrize("random_uid", [False, True])
def test_the_wrong_tag_gets_the_right_failure(lrp: bool, random_uid: bool) -> None:
    bench = Bench(lrp=lrp, read=None, random_uid=random_uid)
    for stranger in (bench.card.clone(), bench.card.factory()):
        assert talk(bench.dialogue(lay(stranger)), stranger) is Failure.WRONG_KEY
        assert stranger.wrong_keys == 1
    assert talk(bench.dialogue(UID), UidCard(UID)) is Failure.UNKNOWN_FAMILY
    bench.held[UID] = CardKey(key=bytes(16))
    assert talk(bench.dialogue(), bench.card) is Failure.FACTORY_KEY
    bench.held.clear()
    assert talk(bench.dialogue(), bench.card) is Failure.NO_KEY


def test_a_tag_in_the_other_mode_is_not_mistaken() -> None:
    for lrp in (False, True):
        bench = Bench(lrp=lrp, read=None)
        bench.lrp = not lrp
        assert isinstance(talk(bench.dialogue(), bench.card), Failure)


@pytest.mark.parametrize("read", READS)
def test_no_single_bit_turned_over_proves_anything(read: FileRead | None) -> None:
    first, heard = Bench(lrp=False, read=read), list[tuple[bytes, bytes]]()
    assert isinstance(talk(first.dialogue(), first.card, heard=heard), Evidence)
    for number, bit, change in flips([answer for _, answer in heard]):
        again = Bench(lrp=False, read=read)
        outcome = talk(again.dialogue(), again.card, change=change)
        assert isinstance(outcome, Failure), (number, bit)


def test_no_single_bit_turned_over_proves_anything_in_lrp() -> None:
    """LRP is slow to compute, so one read stands for all and the card is a recording."""
    first, heard = Bench(lrp=True, read=READS[2]), list[tuple[bytes, bytes]]()
    assert isinstance(talk(first.dialogue(), first.card, heard=heard), Evidence)
    answers = [answer for _, answer in heard]
    for number, bit, change in flips(answers):
        recording = saying([change(count, answer) for count, answer in enumerate(answers)])
        again = Bench(lrp=True, read=READS[2])  # The same seed: the same random bytes.
        outcome = run(again.dialogue(), transmit=recording, now_ms=lambda: 0)
        assert isinstance(outcome, Failure), (number, bit)


@pytest.mark.parametrize("lrp", [False, True])
def test_cut_and_oversize_answers_are_failures(lrp: bool) -> None:
    first, heard = Bench(lrp=lrp, read=READS[2]), list[tuple[bytes, bytes]]()
    talk(first.dialogue(), first.card, heard=heard)
    for change in cuts([answer for _, answer in heard]):
        again = Bench(lrp=lrp, read=READS[2])
        assert isinstance(talk(again.dialogue(), again.card, change=change), Failure)


def saying(answers: list[bytes]) -> Callable[[bytes], bytes]:
    """A card that says just this, whatever it is asked."""
    script = iter(answers)
    return lambda command: next(script)


# --- Messages --------------------------------------------------------------------------------

META_KEY_NO, FILE_KEY_NO = 2, 1
PREFIX = b"\x00\x80\xd1\x01\x7cU\x04school.test/t?"


def layout_of(*, enciphered: bool, lrp: bool, file_data: bool, covered: bool) -> SdmLayout:
    """A file as a bureau writes it. `covered`: the MAC takes in all the text after the prefix."""
    template = bytearray(PREFIX)
    where: dict[str, int] = {}

    def mirror(name: str, size: int) -> None:
        template.extend(f"{name[0]}=".encode())
        where[name] = len(template)
        template.extend(b"0" * size + b"&")

    if enciphered:
        mirror("picc_data", 48 if lrp else 32)
    else:
        mirror("uid", 14)
        mirror("counter", 6)
    if file_data:
        mirror("file_data", 64)
    template.extend(b"m=")
    mac = len(template)
    return SdmLayout(
        template=bytes(template) + b"0" * 16,
        mac_input=len(PREFIX) if covered else mac,
        mac=mac,
        lrp=lrp,
        file_data_size=64 if file_data else 0,
        **where,
    )


class SunBench:
    def __init__(
        self,
        *,
        enciphered: bool = True,
        lrp: bool = False,
        file_data: bool = True,
        covered: bool = True,
        seed: int = 1,
        counter: int = 41,
    ) -> None:
        self.random = Random(seed)
        keys = {number: self.random.randbytes(16) for number in range(5)}
        self.layout = layout_of(
            enciphered=enciphered, lrp=lrp, file_data=file_data, covered=covered
        )
        mirrors = Mirrors(
            mac_input=self.layout.mac_input,
            mac=self.layout.mac,
            file_key_no=FILE_KEY_NO,
            picc_data=self.layout.picc_data,
            meta_key_no=META_KEY_NO,
            uid=self.layout.uid,
            counter=self.layout.counter,
            file_data=self.layout.file_data,
            file_data_size=self.layout.file_data_size,
        )
        self.card = Ntag424Card(
            UID,
            keys=keys,
            lrp=lrp,
            ndef=self.layout.template.ljust(256, b"\x00"),
            mirrors=mirrors,
            counter=counter,
            random=self.random.randbytes,
        )
        self.meta_key = CardKey(key=keys[META_KEY_NO]) if enciphered else None
        self.counter_last: int | None = None
        self.file_key = CardKey(key=keys[FILE_KEY_NO], version=5)

    def card_of(self, uid: bytes) -> SdmCard | None:
        if uid != UID:
            return None
        return SdmCard(file_read_key=self.file_key, counter_last=self.counter_last)

    def dialogue(self) -> Dialogue:
        return ntag424_sun(self.layout, meta_key=self.meta_key, card_of=self.card_of)

    def tap(self, card: Ntag424Card | None = None) -> Evidence | Failure:
        shown = self.card if card is None else card
        lay(shown)
        return talk(self.dialogue(), shown)


SUN_CASES = list(product([True, False], [False, True], [False, True], [False, True]))


@pytest.mark.parametrize(("enciphered", "lrp", "file_data", "covered"), SUN_CASES)
def test_a_message_of_our_tag_is_good(
    enciphered: bool, lrp: bool, file_data: bool, covered: bool
) -> None:
    bench = SunBench(enciphered=enciphered, lrp=lrp, file_data=file_data, covered=covered)
    evidence = bench.tap()
    assert isinstance(evidence, Evidence), evidence
    assert (evidence.uid, evidence.tier) == (UID, Tier.SUN)
    assert (evidence.counter, evidence.key_version) == (42, 5)
    assert evidence.data == (b"0" * 32 if file_data else b"")
    assert evidence.data_proven == (covered or not file_data)


def test_a_counter_must_be_above_the_last_one_seen() -> None:
    for last, counter, good in [
        (None, 0, True),
        (0, 0, True),  # The tag counts before it speaks: its first message says 1.
        (0, -1, False),
        (1, 0, False),
        (41, 41, True),
        (42, 41, False),
        (43, 41, False),
        (41, 900, True),  # Phones read it in between: gaps are normal.
        (0xFFFFFE, 0xFFFFFE, True),
        (0xFFFFFF, 0xFFFFFE, False),
    ]:
        bench = SunBench(counter=counter)
        bench.counter_last = last
        outcome = bench.tap()
        if good:
            assert isinstance(outcome, Evidence) and outcome.counter == counter + 1
        else:
            assert outcome is Failure.REPLAYED, (last, counter)


@pytest.mark.parametrize(("enciphered", "lrp"), BOTH)
def test_a_message_is_good_once(enciphered: bool, lrp: bool) -> None:
    bench = SunBench(enciphered=enciphered, lrp=lrp)
    lay(bench.card)
    heard: list[tuple[bytes, bytes]] = []
    evidence = talk(bench.dialogue(), bench.card, heard=heard)
    assert isinstance(evidence, Evidence)
    bench.counter_last = evidence.counter  # Stored before the relay moved.
    recorded = saying([answer for _, answer in heard])
    outcome = run(bench.dialogue(), transmit=recorded, now_ms=lambda: 0)
    assert outcome is Failure.REPLAYED
    assert isinstance(bench.tap(), Evidence)  # The tag itself goes on.


def test_the_wrong_tag_makes_no_good_message() -> None:
    for enciphered, lrp in BOTH:
        bench = SunBench(enciphered=enciphered, lrp=lrp)
        # In plain text all that is lost is the MAC; enciphered, the meta key does not fit.
        lost = Failure.WRONG_KEY if enciphered else Failure.BAD_MAC
        assert bench.tap(bench.card.clone()) is lost
        assert bench.tap(bench.card.factory()) is lost
        file_key_lost = bench.card.with_keys({**bench.card.keys, FILE_KEY_NO: bytes(16)})
        assert bench.tap(file_key_lost) is Failure.BAD_MAC


def test_factory_keys_and_unknown_tags_are_refused() -> None:
    bench = SunBench()
    bench.file_key = CardKey(key=bytes(16))
    assert bench.tap() is Failure.FACTORY_KEY
    bench = SunBench()
    bench.meta_key = CardKey(key=bytes(16))
    assert bench.tap() is Failure.FACTORY_KEY
    bench = SunBench()
    talk_of_nobody = ntag424_sun(bench.layout, meta_key=bench.meta_key, card_of=lambda uid: None)
    lay(bench.card)
    assert talk(talk_of_nobody, bench.card) is Failure.NO_KEY
    stranger = Ntag424Card(UID, keys=bench.card.keys, ndef=bytes(256))
    assert bench.tap(stranger) is Failure.UNKNOWN_FAMILY


@pytest.mark.parametrize(("enciphered", "lrp"), BOTH)
def test_no_single_bit_turned_over_makes_a_message(enciphered: bool, lrp: bool) -> None:
    """The text before the MAC's stretch is held to the template, the rest to the MAC."""
    for covered in (True, False):
        bench = SunBench(enciphered=enciphered, lrp=lrp, file_data=False, covered=covered)
        lay(bench.card)
        heard: list[tuple[bytes, bytes]] = []
        assert isinstance(talk(bench.dialogue(), bench.card, heard=heard), Evidence)
        answers = [answer for _, answer in heard]
        for number, bit, change in flips(answers):
            changed = [change(count, answer) for count, answer in enumerate(answers)]
            outcome = run(bench.dialogue(), transmit=saying(changed), now_ms=lambda: 0)
            assert isinstance(outcome, Failure), (number, bit)


@pytest.mark.parametrize("lrp", [False, True])
def test_cut_and_oversize_messages_are_failures(lrp: bool) -> None:
    bench = SunBench(lrp=lrp)
    heard: list[tuple[bytes, bytes]] = []
    lay(bench.card)
    talk(bench.dialogue(), bench.card, heard=heard)
    for change in cuts([answer for _, answer in heard]):
        lay(bench.card)
        assert isinstance(talk(bench.dialogue(), bench.card, change=change), Failure)


def test_a_message_has_just_its_length() -> None:
    bench = SunBench()
    good = bench.card.mirrored()[: len(bench.layout.template)]
    for message, failure in [(good, None), (good + b"0", Failure.UNKNOWN_FAMILY)]:
        outcome = open_sun(message, bench.layout, meta_key=bench.meta_key, card_of=bench.card_of)
        assert outcome is failure if failure else isinstance(outcome, Evidence)


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_any_file_at_all_is_no_message(noise: bytes, enciphered: bool) -> None:
    bench = SunBench(enciphered=enciphered)
    message = noise.ljust(len(bench.layout.template), b"0")[: len(bench.layout.template)]
    for made_up in (noise, message, PREFIX + message[len(PREFIX) :]):
        outcome = open_sun(made_up, bench.layout, meta_key=bench.meta_key, card_of=bench.card_of)
        assert isinstance(outcome, Failure)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.one_of(st.binary(max_size=40), st.just(b"\x90\x00")), max_size=6),
    st.booleans(),
    st.booleans(),
    st.integers(0, 3),
)
def test_made_up_answers_never_raise_and_never_prove(
    made_up: list[bytes], sun: bool, lrp: bool, honest: int
) -> None:
    card: Ntag424Card
    if sun:
        sun_bench = SunBench(lrp=lrp)
        card, dialogue = sun_bench.card, sun_bench.dialogue()
    else:
        bench = Bench(lrp=lrp, read=READS[1])
        card, dialogue = bench.card, bench.dialogue()
    lay(card)
    script, count = iter(made_up), 0

    def transmit(command: bytes) -> bytes:
        nonlocal count
        count += 1
        true = card.apdu(command)
        return true if count <= honest else next(script, b"")

    outcome = run(dialogue, transmit=transmit, now_ms=lambda: 0)
    assert isinstance(outcome, Failure) or count <= honest


def test_layouts_that_cannot_be_are_mistakes_of_ours() -> None:
    good = layout_of(enciphered=False, lrp=False, file_data=True, covered=True)
    mistakes: list[dict[str, Any]] = [
        {"uid": None},
        {"mac": good.mac - 1},
        {"file_data": good.uid},
        {"file_data_size": 30},
        {"mac_input": good.mac + 1},
        {"picc_data": 3},
    ]
    for bad in mistakes:
        fields: dict[str, Any] = {name: getattr(good, name) for name in SdmLayout.__slots__} | bad
        with pytest.raises(AssertionError):
            SdmLayout(**fields)
