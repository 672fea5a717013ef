"""Goal: nothing that a reader or a card can say raises anything or proves anything.

Method: every frame and every dialogue is a target that is fed random inputs from a printed seed:
noise, pieces of what is right, and what is right with a byte changed. 2,000 inputs each in a test
run, a million each at night (`NIGHTLY=1`). What a card says may end in a number (tier 0 or 1) or a
failure; only the model cards of the other tests ever prove more.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import lru_cache
from random import Random
from types import SimpleNamespace

import pytest

from edge.model import UidKind
from edge.readers import card_crypto
from edge.readers.apdu import get_uid
from edge.readers.dialogue import (
    ANSWER_SIZE_MAX,
    CardKey,
    Conversation,
    Dialogue,
    Evidence,
    Failure,
    Tier,
)
from edge.readers.frame import FrameRead
from edge.readers.issue_desfire import DesfirePlan, issue_desfire
from edge.readers.issue_ntag424 import NtagPlan, issue_ntag424
from edge.readers.key_events import EVENT, KeyDecoder
from edge.readers.ntag424 import open_sun
from edge.readers.number import ReaderProfile
from edge.readers.open_reader import FRAMES
from edge.readers.osdp import OsdpSession
from edge.readers.personalise import Trouble, carry
from edge.readers.pn532 import parse_listed
from edge.readers.pn532_card import parse_ats
from edge.readers.pn532_frame import START, Pn532Deframer
from edge.readers.profile import Family
from edge.readers.proving import Prover
from edge.readers.secure_channel import CommMode, FileRead, parse
from edge.settings import ReaderSettings
from hil.devices.cards.bench import lay, talk
from tests.readers.test_proving import KEY, LAYOUT, PROFILES, SHARED, UIDS, Book, make

REMEMBERED = 10_000
INPUTS = 1_000_000 if os.environ.get("NIGHTLY") else 2_000
STATUSES = [b"\x91\x00", b"\x91\xaf", b"\x90\x00", b"\x91\xae", b"\x6a\x82", b"\x6d\x00", b""]
SIZES = [0, 1, 2, 4, 7, 8, 9, 10, 16, 17, 24, 32, 33, 64]
Target = Callable[[Random], None]


# --- Frames ----------------------------------------------------------------------------------

LETTERS = b"0123456789ABCDEFabcdef,;: -\r\n\x02\x03\x00\xff"


def frame_target(name: str) -> Iterator[None]:
    """One input each `next`: a stretch of bytes, or of nothing, some time later."""
    draw = Random(f"frames {name}")
    frame, now_ms = FRAMES[name](ReaderProfile(kind=UidKind.ISO14443)), 0
    while True:
        now_ms += draw.choice((0, 1, 20, 60, 400))
        kind, size = draw.random(), draw.choice(SIZES)
        if kind < 0.3:
            data = draw.randbytes(size)
        elif kind < 0.9:
            data = bytes(draw.choice(LETTERS) for _ in range(size))
        else:
            data = b"\x02" + bytes(draw.choice(b"0123456789ABCDEF") for _ in range(12)) + b"\x03"
        for read in frame.receive(data, now_ms=now_ms):
            assert isinstance(read, FrameRead)
            assert 1 <= len(read.uid) <= 10 and 0 <= read.at_ms <= now_ms and read.tier in (0, 1)
        assert frame.noise_bytes >= 0
        yield


@pytest.mark.parametrize("name", sorted(FRAMES))
@pytest.mark.slow
def test_a_frame_takes_anything(name: str) -> None:
    target = frame_target(name)
    for _ in range(INPUTS):
        next(target)


# --- Dialogues -------------------------------------------------------------------------------


def answer(draw: Random, true: bytes) -> bytes:
    """What a card may say instead of the truth."""
    kind = draw.random()
    if kind < 0.35:
        return draw.randbytes(draw.choice(SIZES)) + draw.choice(STATUSES)
    if kind < 0.4:
        return draw.randbytes(ANSWER_SIZE_MAX + draw.randrange(-2, 3))
    if kind < 0.7 and true:
        changed = bytearray(true)
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
        return bytes(changed)
    if kind < 0.85:
        return true[: draw.randrange(len(true) + 1)]
    return true + draw.randbytes(draw.randrange(3))


def converse(
    draw: Random, dialogue: Dialogue, apdu: Callable[[bytes], bytes]
) -> Evidence | Failure:
    """True answers for a while, then one that is not, and whatever comes after."""
    lie_at = draw.randrange(8)
    conversation = Conversation(dialogue)
    step, count = conversation.start(now_ms=0), 0
    while isinstance(step, bytes):
        assert len(step) <= 5 + 255 + 1
        true = apdu(step)
        said = true if count < lie_at else answer(draw, true)
        step = conversation.receive(said, now_ms=0)
        count += 1
        assert count < 64, "a dialogue comes to an end"
    if count <= lie_at:
        return Failure.BAD_ANSWER  # It was told nothing but the truth.
    return step


def family_target(family: Family, *, heard: list[Evidence | Failure] | None = None) -> Target:
    """A true conversation, recorded once: with the same random numbers the card says the same.
    What became of each lie is put into `heard`."""
    fresh = Random(f"fresh {family}").randbytes(64)
    card = make(family)
    shown = lay(card)

    def dialogue() -> Dialogue:
        return PROFILES[family].dialogue(
            shown, key_of=lambda _: KEY, random_bytes=lambda size: fresh[:size]
        )

    said: list[tuple[bytes, bytes]] = []
    assert isinstance(talk(dialogue(), card, heard=said), Evidence)
    true = dict(said)

    def one(draw: Random) -> None:
        outcome = converse(draw, dialogue(), lambda command: true.get(command, b""))
        if heard is not None:
            heard.append(outcome)
        if isinstance(outcome, Evidence):  # The lie was the truth, or came where nothing is proven.
            assert outcome.uid == UIDS[family] and outcome.tier <= PROFILES[family].tier

    return one


def strangers_target(family: Family) -> Target:
    """A card that knows no key at all: nothing of what it says may be believed."""

    def one(draw: Random) -> None:
        profile = PROFILES[family]
        dialogue = profile.dialogue(UIDS[family], key_of=lambda _: KEY, random_bytes=draw.randbytes)
        conversation = Conversation(dialogue)
        step = conversation.start(now_ms=0)
        for _ in range(64):
            if not isinstance(step, bytes):
                break
            said = draw.randbytes(draw.choice(SIZES)) + draw.choice(STATUSES)
            step = conversation.receive(said, now_ms=0)
        assert isinstance(step, Failure)

    return one


def prover_target(draw: Random) -> None:
    prover = Prover(Book(*Family), random_bytes=draw.randbytes)
    native = draw.random() < 0.5
    shown = draw.choice([*UIDS.values(), b"\x08" + draw.randbytes(3)]) if native else None
    conversation = Conversation(prover.dialogue(now_ms=0, shown=shown, native=native))
    step = conversation.start(now_ms=0)
    for _ in range(64):
        if not isinstance(step, bytes):
            break
        said = draw.choice([
            draw.choice([*UIDS.values()]) + b"\x90\x00",
            draw.randbytes(draw.choice(SIZES)) + draw.choice(STATUSES),
        ])  # fmt: skip
        step = conversation.receive(said, now_ms=0)
    prover.concluded(step if not isinstance(step, bytes) else Failure.DEADLINE, now_ms=0)
    assert isinstance(step, Failure) or (isinstance(step, Evidence) and step.tier <= Tier.UID)


def uid_target(draw: Random) -> None:
    outcome = converse(draw, get_uid(), lambda _: UIDS[Family.NTAG424] + b"\x90\x00")
    assert isinstance(outcome, Failure) or outcome.tier is Tier.UID


def parse_target(draw: Random) -> None:
    data = draw.randbytes(draw.choice(SIZES)) + draw.choice(STATUSES)
    found = parse(data)
    assert isinstance(found, Failure) or found.data == data[:-2]


def pn532_target(draw: Random) -> None:
    deframer = Pn532Deframer()
    for _ in range(3):
        kind = draw.random()
        data = draw.randbytes(draw.choice(SIZES))
        if kind < 0.7:
            data = START + bytes([len(data) & 0xFF, -len(data) & 0xFF]) + data + b"\x00\x00"
        for frame in deframer.receive(data):
            assert frame.startswith(START)
    parse_listed(draw.randbytes(draw.choice(SIZES)))
    frame_size, waiting = parse_ats(draw.randbytes(draw.choice(SIZES)))
    assert frame_size >= 16 and 0 <= waiting <= 14


def keyboard_target(draw: Random) -> None:
    """A wedge: what may be events, cut anywhere, down to the number they would spell."""
    decoder, frame = KeyDecoder(), FRAMES["d10"](ReaderProfile(kind=UidKind.PROX125))
    for now_ms in range(0, 80, 20):
        codes = [draw.choice((*range(2, 12), 28, 30, draw.randrange(0x300))) for _ in range(12)]
        events = b"".join(
            EVENT.pack(0, 0, draw.choice((1, 1, 1, 0, 4)), code, draw.choice((1, 1, 0, 2)))
            for code in codes
        )
        data = events if draw.random() < 0.8 else draw.randbytes(draw.choice(SIZES))
        typed = decoder.receive(data[: draw.randrange(len(data) + 1)])
        for read in frame.receive(typed, now_ms=now_ms):
            assert 1 <= len(read.uid) <= 10 and read.tier in (0, 1)


OSDP = {
    frame: OsdpSession(
        ReaderSettings(reader_id="r1", driver="osdp", frame=frame),
        library=SimpleNamespace(CARD_FMT_ASCII=2),
        key=b"k" * 16,
        profile=ReaderProfile(kind=UidKind.ISO14443),
    )
    for frame in ("uid", "wiegand")
}


def osdp_target(draw: Random) -> None:
    """What an OSDP reader may say a card said; the packets around it are libosdp's to parse."""
    data = draw.randbytes(draw.choice(SIZES))
    bits = draw.choice((8 * len(data), 26, 34, 37, 58, draw.randrange(600)))
    for session in OSDP.values():
        number = session._number({"format": draw.randrange(4), "length": bits, "data": data})
        assert number is None or (1 <= len(number.uid) <= 10 and number.tier in (0, 1))


def sun_target(draw: Random) -> None:
    message = bytearray(LAYOUT.template)
    for mirror in LAYOUT.mirrors():
        for at in mirror:
            message[at] = draw.choice(b"0123456789ABCDEF")
    for _ in range(draw.randrange(3)):
        message[draw.randrange(len(message))] = draw.randrange(256)
    outcome = open_sun(bytes(message), LAYOUT, meta_key=SHARED, card_of=lambda _: None)
    assert isinstance(outcome, Failure)


def issue_target(name: str) -> Target:
    key = CardKey(key=b"k" * 16, version=1)
    read = FileRead(file_no=1, size=16, mode=CommMode.MAC)
    desfire = DesfirePlan(
        aid=b"abc", picc_key=key, app_keys=(key, key, key), read=read, read_key_no=1,
        data=bytes(16), random_uid=True,
    )  # fmt: skip
    ntag = NtagPlan(keys=(key,) * 5, sun=None, random_uid=True)
    uid = UIDS[Family.NTAG424]

    def one(draw: Random) -> None:
        issuing = (
            issue_desfire(uid, desfire, random_bytes=draw.randbytes)
            if name == "desfire"
            else issue_ntag424(uid, ntag, random_bytes=draw.randbytes)
        )

        def transmit(_: bytes) -> bytes:
            return draw.randbytes(draw.choice(SIZES)) + draw.choice(STATUSES)

        assert isinstance(carry(issuing, transmit=transmit), Trouble)

    return one


LRP_LIES = f"{Family.NTAG424_LRP} with lies"
TARGETS: dict[str, Target] = {
    **{f"{family} with lies": family_target(family) for family in Family},
    **{f"{family} by strangers": strangers_target(family) for family in Family},
    "any card of any family": prover_target,
    "uid": uid_target,
    "native answer": parse_target,
    "sun message": sun_target,
    "pn532": pn532_target,
    "keyboard": keyboard_target,
    "osdp card": osdp_target,
    "issue desfire": issue_target("desfire"),
    "issue ntag424": issue_target("ntag424"),
}


def remember_lrp(monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversation in LRP is some 300 encryptions (1 ms), most of them those of the one that was
    recorded: the same key and input, the same value. What lies bring is worked out."""
    session, evaluate = card_crypto.session_lrp, card_crypto.Lrp._eval
    monkeypatch.setattr(card_crypto, "session_lrp", lru_cache(REMEMBERED)(session))
    monkeypatch.setattr(card_crypto.Lrp, "_eval", lru_cache(REMEMBERED)(evaluate))


def test_what_is_remembered_of_lrp_changes_no_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    def outcomes() -> list[Evidence | Failure]:
        heard: list[Evidence | Failure] = []
        target = family_target(Family.NTAG424_LRP, heard=heard)
        draw = Random("the same lies")
        for _ in range(200):
            target(draw)
        return heard

    worked_out = outcomes()
    remember_lrp(monkeypatch)
    assert outcomes() == worked_out and len(set(map(type, worked_out))) == 2


@pytest.mark.parametrize("name", list(TARGETS))
@pytest.mark.slow
def test_a_dialogue_takes_anything(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == LRP_LIES:
        remember_lrp(monkeypatch)
    draw = Random(f"fuzz {name}")
    for number in range(INPUTS):
        try:
            TARGETS[name](draw)
        except BaseException:
            print(f"{name}: input {number} of seed 'fuzz {name}'")
            raise
