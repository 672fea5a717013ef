"""Goal: an NTAG 424 proves itself in a session and nothing else can prove the same.

Method: the dialogue against the model card with random keys, in AES and in LRP; then every bit
turned over in every answer, every answer cut, and anything at all sent instead. What sessions are
word for word is in `test_secure_channel.py`, messages are in `test_ntag424_sun.py`.
"""

from __future__ import annotations

from itertools import product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.readers.dialogue import CardKey, Dialogue, Evidence, Failure, Tier, run
from edge.readers.mutual import RANDOM_SIZE, MutualProfile
from edge.readers.ntag424 import ntag424
from edge.readers.secure_channel import CommMode, FileRead
from hil.devices.cards.bench import Turncoat, cuts, flips, lay, saying, talk
from hil.devices.cards.chip import UidCard
from hil.devices.cards.desfire import CardFile
from hil.devices.cards.ntag424 import Ntag424Card

H = bytes.fromhex
UID = H("04A1B2C3D4E580")


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


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.one_of(st.binary(max_size=40), st.just(b"\x90\x00")), max_size=6),
    st.booleans(),
    st.integers(0, 3),
)
def test_made_up_answers_never_raise_and_never_prove(
    made_up: list[bytes], lrp: bool, honest: int
) -> None:
    bench = Bench(lrp=lrp, read=READS[1])
    dialogue = bench.dialogue()
    transmit = Turncoat(bench.card, honest=honest, script=made_up)
    outcome = run(dialogue, transmit=transmit, now_ms=lambda: 0)
    assert isinstance(outcome, Failure) or transmit.honest
