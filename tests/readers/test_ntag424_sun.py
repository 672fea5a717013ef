"""Goal: a message that an NTAG 424 made is good once, and nothing else passes for one.

Method: NXP's notes and messages of real tags word for word; the model card in every layout (plain
or enciphered, AES or LRP, the MAC over all or over nothing); then every bit turned over in every
answer, every answer cut, and any file at all.
"""

from __future__ import annotations

from itertools import product
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.readers.dialogue import CardKey, Dialogue, Evidence, Failure, Tier, run
from edge.readers.ntag424 import (
    SdmCard,
    SdmLayout,
    SdmSession,
    decrypt_picc_data,
    ntag424_sun,
    open_sun,
)
from hil.devices.cards.bench import Turncoat, cuts, flips, lay, saying, talk
from hil.devices.cards.ntag424 import Mirrors, Ntag424Card

H = bytes.fromhex
UID = H("04A1B2C3D4E580")
BOTH = list(product([False, True], repeat=2))


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


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.binary(max_size=200), st.just(b"\x90\x00")), max_size=4),
    st.booleans(),
    st.integers(0, 2),
)
def test_made_up_answers_never_raise_and_never_prove(
    made_up: list[bytes], lrp: bool, honest: int
) -> None:
    bench = SunBench(lrp=lrp)
    lay(bench.card)
    transmit = Turncoat(bench.card, honest=honest, script=made_up)
    assert isinstance(run(bench.dialogue(), transmit=transmit, now_ms=lambda: 0), Failure)


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
