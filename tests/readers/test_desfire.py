"""Goal: a DESFire proves what it can and nothing else can prove the same.

Method: the dialogue against the model card with random keys over every way to read; then every
single bit turned over in every answer, every answer cut, and anything at all sent instead. The
model card computes its cryptography apart; `test_secure_channel.py` has sessions word for word.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.readers.desfire import DesfireProfile, desfire_ev1, desfire_ev2
from edge.readers.dialogue import (
    ANSWER_SIZE_MAX,
    BUDGET_MS_MAX,
    CardKey,
    Conversation,
    Dialogue,
    Evidence,
    Failure,
    Tier,
    run,
)
from edge.readers.mutual import RANDOM_SIZE, MutualProfile
from edge.readers.secure_channel import READ_SIZE_MAX, CommMode, FileRead
from hil.devices.cards.bench import Turncoat, cuts, flips, lay, talk
from hil.devices.cards.chip import UidCard
from hil.devices.cards.desfire import CardFile, DesfireCard

H = bytes.fromhex
UID = H("04112233445566")
AID = H("563412")
VERSION = 7
Make = Callable[..., Dialogue]
WAYS = [desfire_ev1, desfire_ev2]


class Bench:
    """One card, its keys here, and the profile both were made from."""

    def __init__(
        self,
        *,
        mode: CommMode = CommMode.MAC,
        random_uid: bool = False,
        seed: int = 1,
        size: int = 32,
        non_first: bool = False,
        read_key_version: bool = False,
        ev1_only: bool = False,
        no_read: bool = False,
    ) -> None:
        self.random = Random(seed)
        self.key = CardKey(key=self.random.randbytes(16), version=VERSION)
        self.uid_key = CardKey(key=self.random.randbytes(16))
        self.file = self.random.randbytes(size)
        self.held = {UID: self.key}
        self.card = DesfireCard(
            UID,
            aid=AID,
            keys={0: self.random.randbytes(16), 1: self.key.key, 2: self.uid_key.key},
            key_versions={1: VERSION},
            files={3: CardFile(self.file, mode.value, read_key_no=1)},
            random_uid=random_uid,
            ev1_only=ev1_only,
            random=self.random.randbytes,
        )
        read = None if no_read else FileRead(file_no=3, size=size, mode=mode)
        mutual = MutualProfile(
            key_no=1,
            read=read,
            uid_key_no=2,
            uid_key=self.uid_key,
            non_first=non_first,
            read_key_version=read_key_version,
        )
        self.profile = DesfireProfile(aid=AID, mutual=mutual)

    def dialogue(self, make: Make, uid: bytes | None = None) -> Dialogue:
        return make(
            lay(self.card) if uid is None else uid,
            self.profile,
            key_of=self.held.get,
            random_bytes=self.random.randbytes(RANDOM_SIZE),
        )


@pytest.mark.parametrize("make", WAYS)
@pytest.mark.parametrize("mode", list(CommMode))
@pytest.mark.parametrize("random_uid", [False, True])
def test_a_card_of_ours_proves_itself(make: Make, mode: CommMode, random_uid: bool) -> None:
    for non_first, version, size, seed in product([False, True], [False, True], [1, 16, 100], [1]):
        bench = Bench(
            mode=mode,
            random_uid=random_uid,
            non_first=non_first,
            read_key_version=version,
            size=size,
            seed=seed,
        )
        evidence = talk(bench.dialogue(make), bench.card)
        assert isinstance(evidence, Evidence), evidence
        proven = make is desfire_ev1 or mode is not CommMode.PLAIN
        in_session = make is desfire_ev2 and proven
        assert evidence.tier is (Tier.SESSION if in_session else Tier.AUTHENTICATED)
        assert (evidence.uid, evidence.data) == (UID, bench.file)
        assert (evidence.data_proven, evidence.key_version) == (proven, VERSION)


@settings(max_examples=40, deadline=None)
@given(st.integers(), st.sampled_from(WAYS), st.sampled_from(CommMode), st.booleans())
def test_any_keys_will_do(seed: int, make: Make, mode: CommMode, random_uid: bool) -> None:
    bench = Bench(seed=seed, mode=mode, random_uid=random_uid, size=READ_SIZE_MAX)
    evidence = talk(bench.dialogue(make), bench.card)
    assert isinstance(evidence, Evidence) and evidence.data == bench.file


def test_the_real_uid_can_be_the_read() -> None:
    for make, tier in [(desfire_ev1, Tier.AUTHENTICATED), (desfire_ev2, Tier.SESSION)]:
        bench = Bench(no_read=True)
        assert talk(bench.dialogue(make), bench.card) == Evidence(
            uid=UID, tier=tier, key_version=VERSION
        )


def test_the_number_of_commands_is_as_planned() -> None:
    """Radio time decides: the table of APDUs in the design, plus the second authentication."""
    for make, random_uid, count in [(desfire_ev2, False, 4), (desfire_ev2, True, 7)]:
        bench, heard = Bench(random_uid=random_uid), list[tuple[bytes, bytes]]()
        talk(bench.dialogue(make), bench.card, heard=heard)
        assert len(heard) == count


def test_a_second_authentication_can_stay_in_the_first_session() -> None:
    for non_first, instruction in [(True, 0x77), (False, 0x71)]:
        bench, heard = Bench(random_uid=True, non_first=non_first), list[tuple[bytes, bytes]]()
        assert isinstance(talk(bench.dialogue(desfire_ev2), bench.card, heard=heard), Evidence)
        assert [command[1] for command, _ in heard][4] == instruction


def test_the_wrong_card_gets_the_right_failure() -> None:
    for make, random_uid in product(WAYS, [False, True]):
        bench = Bench(random_uid=random_uid)
        clone, factory = bench.card.clone(), bench.card.factory()
        for stranger in (clone, factory):
            uid = lay(stranger)
            assert talk(bench.dialogue(make, uid), stranger) is Failure.WRONG_KEY
            assert stranger.wrong_keys == 1, "one attempt, never a second key"
        # A clone that even has the shared UID key still lacks the card's own.
        insider = bench.card.with_keys({**clone.keys, 2: bench.uid_key.key})
        assert talk(bench.dialogue(make, lay(insider)), insider) is Failure.WRONG_KEY
        assert insider.wrong_keys == 1


def test_what_is_clear_before_an_attempt_costs_none() -> None:
    for make in WAYS:
        bench = Bench(read_key_version=True)
        bench.held[UID] = CardKey(key=bench.key.key, version=VERSION + 1)
        assert talk(bench.dialogue(make), bench.card) is Failure.KEY_VERSION
        bench.held[UID] = CardKey(key=bytes(16), version=VERSION)
        assert talk(bench.dialogue(make), bench.card) is Failure.FACTORY_KEY
        bench.held.clear()
        assert talk(bench.dialogue(make), bench.card) is Failure.NO_KEY
        assert bench.card.wrong_keys == 0


def test_a_random_uid_without_the_shared_key_names_nobody() -> None:
    for make in WAYS:
        bench = Bench(random_uid=True)
        dialogue = make(
            lay(bench.card),
            DesfireProfile(aid=AID, mutual=MutualProfile(key_no=1, read=None)),
            key_of=bench.held.get,
            random_bytes=bytes(RANDOM_SIZE),
        )
        assert talk(dialogue, bench.card) is Failure.RANDOM_UID
        factory = MutualProfile(key_no=1, read=None, uid_key_no=2, uid_key=CardKey(key=bytes(16)))
        dialogue = make(
            lay(bench.card),
            DesfireProfile(aid=AID, mutual=factory),
            key_of=bench.held.get,
            random_bytes=bytes(RANDOM_SIZE),
        )
        assert talk(dialogue, bench.card) is Failure.FACTORY_KEY


def test_cards_of_other_families_are_named_so() -> None:
    for make in WAYS:
        bench = Bench()
        assert talk(bench.dialogue(make, UID), UidCard(UID)) is Failure.UNKNOWN_FAMILY
        bench.card.aid = H("000001")
        assert talk(bench.dialogue(make), bench.card) is Failure.UNKNOWN_FAMILY
    old = Bench(ev1_only=True)
    assert talk(old.dialogue(desfire_ev2), old.card) is Failure.BAD_ANSWER
    assert isinstance(talk(old.dialogue(desfire_ev1), old.card), Evidence)


def test_a_card_that_delays_says_that_it_is_locked() -> None:
    for make in WAYS:
        bench = Bench()
        locked = talk(
            bench.dialogue(make),
            bench.card,
            change=lambda count, answer: answer if count == 0 else b"\x91\xad",
        )
        assert locked is Failure.CARD_LOCKED


@pytest.mark.parametrize("make", WAYS)
@pytest.mark.parametrize(
    ("status", "failure"),
    [(0x9D, Failure.BAD_ANSWER), (0x1E, Failure.BAD_MAC), (0xAE, Failure.WRONG_KEY)],
)
def test_a_read_that_is_refused_says_why_and_is_not_continued(
    make: Make, status: int, failure: Failure
) -> None:
    def refuse(count: int, answer: bytes) -> bytes:
        return bytes([0x91, status]) if count == 3 else answer

    bench, heard = Bench(), list[tuple[bytes, bytes]]()
    outcome = talk(bench.dialogue(make), bench.card, heard=heard, change=refuse)
    assert (outcome, len(heard)) == (failure, 4)


def test_another_card_in_the_same_session_is_noticed() -> None:
    """A key that is held for two UIDs does not make one card the other."""
    bench = Bench(no_read=True)
    other = H("04112233445567")
    bench.held[other] = bench.key
    assert talk(bench.dialogue(desfire_ev2, other), bench.card) is Failure.WRONG_KEY


# --- Changed, cut, made up -------------------------------------------------------------------

CASES = [
    (make, mode, random_uid) for make, mode, random_uid in product(WAYS, CommMode, [False, True])
]


@pytest.mark.parametrize(("make", "mode", "random_uid"), CASES)
def test_no_single_bit_turned_over_proves_anything(
    make: Make, mode: CommMode, random_uid: bool
) -> None:
    def bench() -> Bench:
        return Bench(mode=mode, random_uid=random_uid, size=2, non_first=True)

    first, heard = bench(), list[tuple[bytes, bytes]]()
    truth = talk(first.dialogue(make), first.card, heard=heard)
    assert isinstance(truth, Evidence)
    answers = [answer for _, answer in heard]
    for number, bit, change in flips(answers):
        again = bench()  # The same seed: the same card says the same.
        outcome = talk(again.dialogue(make), again.card, change=change)
        if truth.data_proven or number < len(answers) - 1:
            assert isinstance(outcome, Failure), (number, bit)
        elif isinstance(outcome, Evidence):
            # A plain read under EV2 proves none of its data, and the evidence says so.
            assert not outcome.data_proven and outcome.tier is Tier.AUTHENTICATED


@pytest.mark.parametrize(("make", "mode", "random_uid"), CASES)
def test_cut_and_oversize_answers_are_failures(
    make: Make, mode: CommMode, random_uid: bool
) -> None:
    def bench() -> Bench:
        return Bench(mode=mode, random_uid=random_uid, read_key_version=True)

    first, heard = bench(), list[tuple[bytes, bytes]]()
    talk(first.dialogue(make), first.card, heard=heard)
    for change in cuts([answer for _, answer in heard]):
        again = bench()
        outcome = talk(again.dialogue(make), again.card, change=change)
        assert isinstance(outcome, Failure)


@pytest.mark.parametrize("make", WAYS)
@pytest.mark.parametrize("mode", list(CommMode))
def test_a_read_of_another_length_is_told_from_a_changed_one(make: Make, mode: CommMode) -> None:
    def shorten(count: int, answer: bytes) -> bytes:
        return answer[1:] if count == 3 else answer

    bench = Bench(mode=mode)
    assert talk(bench.dialogue(make), bench.card, change=shorten) is Failure.BAD_ANSWER


ANSWERS = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.builds(
            lambda data, status: data + b"\x91" + bytes([status]),
            st.binary(max_size=64),
            st.sampled_from([0x00, 0xAF, 0xAE, 0x1E]),
        ),
        st.sampled_from([b"\x91\x00", bytes(16) + b"\x91\xaf", bytes(32) + b"\x91\x00"]),
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(ANSWERS, st.sampled_from(CASES), st.integers(0, 8))
def test_made_up_answers_never_raise_and_never_prove(
    made_up: list[bytes], case: tuple[Make, CommMode, bool], honest: int
) -> None:
    make, mode, random_uid = case
    bench = Bench(mode=mode, random_uid=random_uid)
    dialogue = bench.dialogue(make)
    transmit = Turncoat(bench.card, honest=honest, script=made_up)
    outcome = run(dialogue, transmit=transmit, now_ms=lambda: 0)
    assert isinstance(outcome, Failure) or transmit.honest or not outcome.data_proven


# --- The conversation ------------------------------------------------------------------------


def test_the_budget_is_looked_at_between_commands() -> None:
    bench = Bench()
    conversation = Conversation(bench.dialogue(desfire_ev2))
    step = conversation.start(now_ms=1_000)
    for now_ms in (1_100, 1_200, 1_000 + BUDGET_MS_MAX - 1):
        assert isinstance(step, bytes)
        step = conversation.receive(bench.card.apdu(step), now_ms=now_ms)
    assert isinstance(step, bytes)  # The last command went out in time; its answer may be late.
    late = conversation.receive(bench.card.apdu(step), now_ms=9_000)
    assert isinstance(late, Evidence)

    conversation = Conversation(bench.dialogue(desfire_ev2))
    step = conversation.start(now_ms=0)
    assert isinstance(step, bytes)
    answer = bench.card.apdu(step)
    assert conversation.receive(answer, now_ms=BUDGET_MS_MAX) is Failure.DEADLINE


@pytest.mark.parametrize(("size", "good"), [(ANSWER_SIZE_MAX, True), (ANSWER_SIZE_MAX + 1, False)])
def test_an_answer_has_a_size_limit(size: int, good: bool) -> None:
    def credulous() -> Dialogue:
        yield b"anything"
        return Evidence(uid=UID, tier=Tier.UID)

    outcome = run(credulous(), transmit=lambda command: bytes(size), now_ms=lambda: 0)
    assert isinstance(outcome, Evidence) if good else outcome is Failure.BAD_ANSWER


def test_what_the_reader_says_ends_the_dialogue() -> None:
    bench = Bench()
    dialogue = bench.dialogue(desfire_ev2)
    outcome = run(dialogue, transmit=lambda command: Failure.LEFT_FIELD, now_ms=lambda: 0)
    assert outcome is Failure.LEFT_FIELD
    with pytest.raises(StopIteration):
        next(dialogue)


def test_what_the_reader_raises_passes_through() -> None:
    def unplugged(command: bytes) -> bytes:
        raise OSError("gone")

    dialogue = Bench().dialogue(desfire_ev2)
    with pytest.raises(OSError, match="gone"):
        run(dialogue, transmit=unplugged, now_ms=lambda: 0)
    with pytest.raises(StopIteration):
        next(dialogue)


def test_nothing_personal_or_secret_is_in_a_repr() -> None:
    bench = Bench(mode=CommMode.FULL)
    evidence = talk(bench.dialogue(desfire_ev2), bench.card)
    shown = repr((evidence, bench.profile, bench.key, bench.held[UID]))
    for secret in (UID, bench.file, bench.key.key, bench.uid_key.key):
        assert repr(secret)[2:-1] not in shown and secret.hex() not in shown.lower()
