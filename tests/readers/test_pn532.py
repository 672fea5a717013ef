"""Goal: a PN532 is found at whatever speed it was left, survives noise and hangs, and carries every
card dialogue to its end; a card torn away is told, not guessed.

Method: the real worker and nfcpy on a pty against a chip of our own reading of the manual
(`hil/devices/reader_pn532.py`), with model cards that know their keys. Where time matters the
clock is the test's own. What people do at a reader is in `test_reader_situations.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from edge.readers.desfire import DesfireProfile, desfire_ev2
from edge.readers.dialogue import CardKey, Dialogue, Evidence, Failure, Tier, run
from edge.readers.mutual import RANDOM_SIZE, MutualProfile
from edge.readers.ntag424 import ntag424
from edge.readers.pn532 import (
    FAILED_LOOKS_MAX,
    Ask,
    Pn532Session,
    parse_listed,
    uid_alone,
)
from edge.readers.pn532_card import ActivatedCard, parse_ats
from edge.readers.reader import CardRead, LinkDown, LinkUp, ReadFailed
from edge.readers.secure_channel import CommMode, FileRead
from edge.readers.ultralight import (
    RANDOM_SIZE_AES,
    RANDOM_SIZE_C,
    UltralightProfile,
    ultralight_aes,
    ultralight_c,
)
from edge.readers.watch import REPEAT_MS_MAX
from edge.readers.worker import WAIT_SLICE_MS_MAX, ReaderWorker, monotonic_ms
from edge.settings import ReaderSettings
from hil.devices.cards.chip import Chip, UidCard
from hil.devices.cards.desfire import CardFile, DesfireCard
from hil.devices.cards.ntag424 import Ntag424Card
from hil.devices.cards.ultralight import UltralightAesCard, UltralightCCard
from hil.devices.reader_listener import Listener
from hil.devices.reader_pn532 import SPEED_AT_RESET, SPEEDS, VirtualPn532

pytestmark = pytest.mark.slow

UID = bytes.fromhex("04A1B2C3D4E580")
FENCE = bytes.fromhex("DEADBEEF")
AID = bytes.fromhex("563412")
FILE_SIZE = 100  # More than one ISO-DEP block of 64 bytes.
SET_SPEED, POWER_DOWN = 0x10, 0x16


@pytest.fixture
def device(tmp_path: Path) -> Iterator[VirtualPn532]:
    with VirtualPn532(tmp_path / "reader") as made:
        yield made


def listen(
    device: VirtualPn532,
    *,
    ask: Ask = uid_alone,
    reset: Callable[[], None] | None = None,
    now_ms: Callable[[], int] = monotonic_ms,
) -> Listener:
    settings = ReaderSettings(reader_id="north-in", driver="pn532", port=str(device.path))
    session = Pn532Session(settings, ask=ask, reset=reset)
    return Listener(
        lambda wake: ReaderWorker(
            reader_id="north-in", session=session, wake=wake, now_ms=now_ms, jitter=lambda: 0.5
        )
    )


# --- The chip --------------------------------------------------------------------------------


@pytest.mark.parametrize("speed", [115_200, 230_400, 460_800, 921_600])
def test_a_chip_is_found_at_the_speed_a_killed_nfcpy_leaves_and_brought_back(
    speed: int, tmp_path: Path
) -> None:
    with VirtualPn532(tmp_path / "reader", speed=speed) as device:
        with listen(device) as listener:
            listener.expect(LinkUp)
            device.lay(UidCard(UID))
            assert listener.expect(CardRead).uid == UID
            assert (SET_SPEED in device.commands) is (speed != SPEED_AT_RESET)
            assert device.speed == SPEED_AT_RESET
        with listen(device) as listener:
            listener.expect(LinkUp)


def test_the_line_is_never_raised_so_a_killed_process_leaves_a_chip_that_can_be_found(
    device: VirtualPn532,
) -> None:
    with listen(device) as listener:
        listener.expect(LinkUp)
        device.tap(UID)
        listener.expect(CardRead)
        assert SET_SPEED not in device.commands
    assert device.commands[-1] == POWER_DOWN
    assert device.speed == SPEED_AT_RESET


def test_a_chip_at_a_speed_nobody_sets_is_down_and_its_reset_line_brings_it_back(
    tmp_path: Path,
) -> None:
    with VirtualPn532(tmp_path / "reader", speed=SPEEDS[0]) as device:
        pulses: list[None] = []

        def reset() -> None:
            pulses.append(None)
            device.reset()

        with listen(device, reset=reset) as listener:
            reason = listener.expect(LinkDown).reason
            assert reason == (
                f"reader north-in: no PN532 answers on {device.path}; check its plug and its "
                "power, and that its two switches say HSU"
            )
            listener.expect(LinkUp)
            assert len(pulses) == 1


def test_a_chip_that_hangs_is_down_and_the_worker_stays_alive(device: VirtualPn532) -> None:
    with listen(device) as listener:
        listener.expect(LinkUp)
        device.deaf = True
        assert "stopped answering" in listener.expect(LinkDown).reason
        alive_ms = listener.reader.alive_ms
        listener.wait_until(lambda: listener.reader.alive_ms > alive_ms + 500)
        device.deaf = False
        listener.expect(LinkUp)
        device.lay(UidCard(UID))
        assert listener.expect(CardRead).uid == UID


def test_a_worker_that_looks_for_a_chip_in_vain_shows_that_it_lives(tmp_path: Path) -> None:
    with VirtualPn532(tmp_path / "reader", speed=SPEEDS[0]) as device, listen(device) as listener:
        ages_ms = [0]

        def is_down() -> bool:
            ages_ms.append(monotonic_ms() - listener.reader.alive_ms)
            return bool(listener.reader.poll())

        listener.wait_until(is_down)
        assert max(ages_ms) < 2 * WAIT_SLICE_MS_MAX


def test_a_port_that_is_pulled_is_lost_and_not_a_chip_that_hangs(device: VirtualPn532) -> None:
    with listen(device) as listener:
        listener.expect(LinkUp)
        device.unplug()
        assert listener.expect(LinkDown).reason == (
            f"reader north-in: {device.path} was lost; check the reader's plug"
        )


def test_a_port_that_is_pulled_while_a_chip_is_looked_for_is_lost_too(
    device: VirtualPn532,
) -> None:
    device.deaf = True
    with listen(device) as listener:
        listener.wait_until(lambda: device.heard_bytes > 0)
        device.unplug()
        assert "was lost" in listener.expect(LinkDown).reason


def test_a_card_that_lies_there_at_the_start_is_old(device: VirtualPn532) -> None:
    device.lay(UidCard(UID))
    with listen(device) as listener:
        listener.expect(LinkUp)
        device.wait_looked(6)
        assert listener.reader.counters().reads == 0
        assert listener.reader.counters().discarded_after_reopen == 1
        device.take_away()
        device.lay(UidCard(FENCE))
        assert listener.expect(CardRead).uid == FENCE


def test_close_comes_back_soon_whatever_the_chip_does(device: VirtualPn532) -> None:
    for deaf in (False, True):
        with listen(device) as listener:
            listener.expect(LinkUp)
            device.deaf = deaf
            began_ms = monotonic_ms()
        assert monotonic_ms() - began_ms < 1_000


def test_a_look_or_two_spoiled_by_noise_is_no_outage(device: VirtualPn532) -> None:
    with listen(device) as listener:
        listener.expect(LinkUp)
        for _ in range(3):
            device.spoil(FAILED_LOOKS_MAX - 1)
            device.wait_looked(2 * FAILED_LOOKS_MAX)
        device.lay(UidCard(UID))
        assert listener.expect(CardRead).uid == UID


def test_noise_on_the_line_is_counted_and_no_card(device: VirtualPn532) -> None:
    noise = random.Random(7).randbytes(2_000)
    with listen(device) as listener:
        listener.expect(LinkUp)
        device.babble(noise)
        device.lay(UidCard(UID))
        assert listener.expect(CardRead).uid == UID
        listener.wait_until(lambda: listener.reader.counters().noise_bytes >= len(noise) // 2)
        assert listener.reader.counters().reads == 1


def test_a_card_read_after_the_process_was_held_up_says_how_old_the_look_is(
    device: VirtualPn532,
) -> None:
    ahead_ms = 0

    def now_ms() -> int:
        return monotonic_ms() + ahead_ms

    def slow(card: ActivatedCard) -> Evidence | Failure:
        nonlocal ahead_ms
        ahead_ms += 3_000
        return uid_alone(card)

    with listen(device, ask=slow, now_ms=now_ms) as listener:
        listener.expect(LinkUp)
        device.lay(UidCard(UID))
        read = listener.expect(CardRead)
        assert now_ms() - read.at_ms >= 3_000


@pytest.mark.parametrize(
    ("answer", "uids"),
    [
        ("00", []),
        ("01 01 0004 08 04 DEADBEEF", ["deadbeef"]),
        ("01 01 0044 00 07 04A1B2C3D4E580", ["04a1b2c3d4e580"]),
        ("02 01 0004 08 04 DEADBEEF 02 0044 20 07 04A1B2C3D4E580", ["deadbeef", "04a1b2c3d4e580"]),
        ("", None),
        ("01", None),
        ("01 01 0004 08 04 DEADBE", None),
        ("01 01 0004 08 04 DEADBEEF 00", None),
        ("02 01 0004 08 04 DEADBEEF", None),
    ],
)
def test_what_the_chip_lists(answer: str, uids: list[str] | None) -> None:
    listed = parse_listed(bytes.fromhex(answer))
    assert (None if listed is None else [uid.hex() for uid in listed]) == uids


@pytest.mark.parametrize(
    ("ats", "size", "fwi"),
    [
        ("067577810280", 64, 8),  # DESFire.
        ("067777710280", 128, 7),  # NTAG 424.
        ("0578807002", 256, 7),  # TA and TB only, of a phone; made up.
        ("0120", 16, 4),  # TB said and not there.
        ("01", 32, 4),
        ("", 32, 4),
        ("0208", 256, 4),
        ("020F", 256, 4),  # FSCI reserved.
        ("0328F0", 256, 4),  # FWI reserved.
        ("032880", 256, 8),  # TB without TA.
        ("04381180", 256, 8),
    ],
)
def test_what_a_card_says_of_itself(ats: str, size: int, fwi: int) -> None:
    assert parse_ats(bytes.fromhex(ats)) == (size, fwi)


# --- Dialogues -------------------------------------------------------------------------------


class Ours:
    """A card of ours with a known key, and the dialogue that asks it."""

    def __init__(self, card: Chip, dialogue: Callable[[bytes], Dialogue], tier: Tier) -> None:
        self.card = card
        self.dialogue = dialogue
        self.tier = tier
        self.answers = 0

    def ask(self, card: ActivatedCard) -> Evidence | Failure:
        def transmit(command: bytes) -> bytes | Failure:
            answer = card.transceive(command)
            self.answers += not isinstance(answer, Failure)
            return answer

        return run(self.dialogue(card.uid), transmit=transmit, now_ms=monotonic_ms, budget_ms=2_000)


def make(family: str) -> Ours:
    rng = Random(5)
    key, uid_key = CardKey(key=rng.randbytes(16)), CardKey(key=rng.randbytes(16))
    keys = {0: rng.randbytes(16), 1: key.key, 2: uid_key.key}
    files = {3: CardFile(rng.randbytes(FILE_SIZE), "full", 1)}
    read = FileRead(file_no=3, size=FILE_SIZE, mode=CommMode.FULL)
    mutual = MutualProfile(key_no=1, read=read, uid_key_no=2, uid_key=uid_key)
    held = {UID: key}.get
    if family in ("DESFire", "DESFire, random UID"):
        profile = DesfireProfile(aid=AID, mutual=mutual)
        random_uid = "random" in family
        card = DesfireCard(UID, aid=AID, keys=keys, files=files, random_uid=random_uid)
        return Ours(
            card,
            lambda uid: desfire_ev2(
                uid, profile, key_of=held, random_bytes=rng.randbytes(RANDOM_SIZE)
            ),
            Tier.SESSION,
        )
    if family == "NTAG 424":
        return Ours(
            Ntag424Card(UID, keys=keys, files=files),
            lambda uid: ntag424(
                uid, mutual, lrp=False, key_of=held, random_bytes=rng.randbytes(RANDOM_SIZE)
            ),
            Tier.SESSION,
        )
    plain = UltralightProfile(uid_key=uid_key)
    if family == "Ultralight C":
        return Ours(
            UltralightCCard(UID, key=key.key),
            lambda uid: ultralight_c(
                uid, plain, key_of=held, random_bytes=rng.randbytes(RANDOM_SIZE_C)
            ),
            Tier.ULTRALIGHT_C,
        )
    assert family == "Ultralight AES, random UID"
    return Ours(
        UltralightAesCard(UID, keys={0: key.key, 1: uid_key.key, 2: keys[0]}, random_uid=True),
        lambda uid: ultralight_aes(
            uid, plain, key_of=held, random_bytes=rng.randbytes(RANDOM_SIZE_AES)
        ),
        Tier.ULTRALIGHT_AES,
    )


CARDS = [
    "DESFire",
    "DESFire, random UID",
    "NTAG 424",
    "Ultralight C",
    "Ultralight AES, random UID",
]


@pytest.mark.parametrize("family", CARDS)
def test_a_card_of_ours_proves_itself_over_the_raw_channel(
    family: str, device: VirtualPn532
) -> None:
    ours = make(family)
    with listen(device, ask=ours.ask) as listener:
        listener.expect(LinkUp)
        device.lay(ours.card)
        read = listener.expect(CardRead)
        assert (read.uid, read.tier) == (UID, ours.tier)
        assert read.evidence is not None
        device.wait_looked(8)
        assert listener.reader.counters().reads == 1


@pytest.mark.parametrize("family", CARDS)
def test_a_clone_with_the_right_number_and_another_key_proves_nothing(
    family: str, device: VirtualPn532
) -> None:
    ours = make(family)
    clone = ours.card.clone()
    with listen(device, ask=ours.ask) as listener:
        listener.expect(LinkUp)
        device.lay(clone)
        assert listener.expect(ReadFailed).failure in (
            Failure.WRONG_KEY,
            Failure.BAD_ANSWER,  # Native cards refuse with four bits; `proving.py` reads them.
        )
        device.wait_looked(8)
        assert clone.wrong_keys <= 1, "one attempt, however long the card is left there"
        assert listener.reader.counters().reads == 0


@pytest.mark.parametrize("family", CARDS)
def test_a_card_torn_away_between_any_two_commands_is_told_and_read_when_it_is_back(
    family: str, device: VirtualPn532
) -> None:
    whole = make(family)
    with listen(device, ask=whole.ask) as listener:
        listener.expect(LinkUp)
        device.lay(whole.card)
        listener.expect(CardRead)
    device.take_away()
    for heard in range(whole.answers):
        ours = make(family)
        with listen(device, ask=ours.ask) as listener:
            listener.expect(LinkUp)
            device.lay(ours.card, leaves_after=heard)
            assert listener.expect(ReadFailed).failure is Failure.LEFT_FIELD
            assert listener.reader.counters().reads == 0
            device.lay(ours.card)
            assert listener.expect(CardRead).uid == UID
        device.take_away()


def test_a_card_that_hovers_is_told_once(device: VirtualPn532) -> None:
    asked = 0

    def torn(card: ActivatedCard) -> Evidence | Failure:
        nonlocal asked
        asked += 1
        return Failure.LEFT_FIELD

    with listen(device, ask=torn) as listener:
        listener.expect(LinkUp)
        device.lay(UidCard(UID))
        assert listener.expect(ReadFailed).failure is Failure.LEFT_FIELD
        device.wait_looked(10)
        assert asked > 3
        assert listener.reader.counters().refused == 1


def test_cards_in_a_row_are_read_while_a_wallet_stays_refused(device: VirtualPn532) -> None:
    clock_ahead_ms = 0
    with listen(device, now_ms=lambda: monotonic_ms() + clock_ahead_ms) as listener:
        listener.expect(LinkUp)
        device.lay(UidCard(UID), UidCard(FENCE))
        assert listener.expect(ReadFailed).failure is Failure.TWO_CARDS
        device.take_away()
        device.wait_looked()
        clock_ahead_ms += REPEAT_MS_MAX + 1
        device.lay(UidCard(FENCE))
        assert listener.expect(CardRead).uid == FENCE
