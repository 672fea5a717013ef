"""Goal: a DESFire proves what it can and nothing else can prove the same.

Method: what real cards and NXP's notes say word for word; the dialogue against the model card with
random keys over every way to read; then every single bit turned over in every answer, every answer
cut, and anything at all sent instead. The model card computes its cryptography apart.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.readers.card_crypto import SessionKeys, session_keys_ev2
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
from edge.readers.secure_channel import (
    READ_SIZE_MAX,
    AesSuite,
    Answer,
    CommMode,
    Ev1Channel,
    Ev2Channel,
    FileRead,
    authenticate_ev1,
    authenticate_ev2_first,
    get_card_uid,
    read_file,
)
from hil.devices.cards.bench import cuts, flips, follow, lay, talk
from hil.devices.cards.chip import UidCard
from hil.devices.cards.crypto import BlockCipher
from hil.devices.cards.desfire import CardFile, DesfireCard
from hil.devices.cards.session import AesSession

H = bytes.fromhex
UID = H("04112233445566")
AID = H("563412")
VERSION = 7
Make = Callable[..., Dialogue]
WAYS = [desfire_ev1, desfire_ev2]


# --- Word for word ---------------------------------------------------------------------------


def test_an_ev1_session_of_a_real_card() -> None:
    """The "File" example of "DESFire EV1 Communication Examples", as kept by a Python project.

    Every answer of the card ends in the CMAC of a chain that runs through all commands before.
    """
    channel = follow(
        authenticate_ev1(
            0, H("10182028303840485058606870788088"), H("40E7D27174CBA675E8EFBAB99C530E3D")
        ),
        ("90AA0000010000", "B351CB2465D4F33AC627FD6E87A168F2" + "91AF"),
        (
            "90AF000020044B6CAC343A0865895149649CA8DDE1F5AC4EC67BD208900AF02F049E05F0B000",
            "A2EE144B1012FBEB7B2F11132D95A4549100",
        ),
    )
    assert isinstance(channel, Ev1Channel)
    count = bytes(range(0x50)).hex()
    for command, data, mac in [
        ("CD05001100500000", "", "A75316AD1596B953"),
        ("6F", "05", "2D5FF67FFEC9D2D3"),
        ("F505", "00001100500000", "2AAC7517024E09DC"),
        ("3D05000000340000" + count[:0x68], "", "765C9DAA50ECB62F"),
        ("3D053400001C0000" + count[0x68:], "", "3E0AED986B8B0F37"),
        ("BD05000000300000", count[:0x60], "4C65F1F842262BAC"),
        ("BD05300000200000", count[0x60:], "F02205CF913C03C9"),
        ("DF05", "", "1BEF0D32B6D1D7F9"),
    ]:
        channel.command(H(command)[0], H(command)[1:], CommMode.PLAIN)
        opened = channel.open(Answer(status=0, data=H(data + mac)), CommMode.PLAIN, len(H(data)))
        assert opened == H(data)


def test_an_enciphered_ev1_read_of_a_real_card() -> None:
    """AESEncryptionTest.testAES3 of skjolber's desfire library: a read in two frames."""
    channel = follow(
        authenticate_ev1(5, bytes(16), H("5a77d11016db9eeba1d91cf52231182a")),
        ("90aa0000010500", "53e3a217994cd620aaa296263c0681d8" + "91af"),
        (
            "90af000020cd6921b787fd71d8265d9f9da15989746664352dd8fbc381f765c2de304bbe4e00",
            "ef14e5dcf035a1977ab13fa40196b5529100",
        ),
    )
    assert isinstance(channel, Ev1Channel)
    settings_read = Answer(status=0, data=H("00035412640000" + "4c4ffd2054e6dc1a"))
    channel.command(0xF5, b"\x0f", CommMode.PLAIN)
    assert isinstance(channel.open(settings_read, CommMode.PLAIN, 7), bytes)
    for last_block, mac, mac_of_settings in [
        ("9fa6ede94f55f8842c2a42ec323ebade", "6387b9fb6e13710e", "e054196e15a73059"),
        ("396fa1a5ceb8223221167a304fd919b2", "865d79b704fe67d9", "0fc9d749d885f4d5"),
    ]:
        channel._vector = H(last_block)  # What an enciphered write, not made here, leaves behind.
        assert channel.open(Answer(status=0, data=H(mac)), CommMode.MAC, 0) == b""
        channel.command(0xF5, b"\x0f", CommMode.PLAIN)
        again = Answer(status=0, data=H("00035412640000" + mac_of_settings))
        assert isinstance(channel.open(again, CommMode.PLAIN, 7), bytes)
    read = FileRead(file_no=15, offset=10, size=50, mode=CommMode.FULL)
    text = follow(
        read_file(channel, read),
        (
            "90bd0000070f0a000032000000",
            "f78f4020751ae34a145e1595b2950ef0708c68a63f6d33379875510d22aa650b"
            "1b5de30493a720d019cad101e3833a12" + "91af",
        ),
        ("90af000000", "dae3a626f0050822d62a04d24b383a189100"),
    )
    assert text == b"to write to the card" + bytes(4) + b"Another block of data." + bytes(4)


def test_the_first_authentication_of_an12343() -> None:
    """AN12343 rev. 1.1 table 16 (DESFire Light), as quoted by an EV3 library's tests."""
    channel = follow(
        authenticate_ev2_first(0, bytes(16), H("B04D0787C93EE0CC8CACC8E86F16C6FE")),
        ("9071000002000000", "24677DDBD46349E623798FD729006E79" + "91AF"),
        (
            "90AF0000203B50445F21D21D77D500794DEB245E5A754F5F901844259F4C9B31A5C7335ACD00",
            "04C6DBD67417ED0D31DDDE4D2E3FFAC2B4B074F638EEF7FFF9254963B65C7759" + "9100",
        ),
    )
    assert isinstance(channel, Ev2Channel)
    assert (channel.ti, channel.counter) == (H("8CF141F3"), 0)


CLEAR = b"\x22" * 25 + bytes(23)


def test_the_maced_read_of_an12343() -> None:
    """Table 24: the second command of its session."""
    keys = SessionKeys(encryption=bytes(16), mac=H("9366FA195EB566F5BD2BAD4020B83002"))
    channel = Ev2Channel(AesSuite(keys), ti=H("E2D3AF69"), counter=1)
    data = follow(
        read_file(channel, FileRead(file_no=0, size=48, mode=CommMode.MAC)),
        ("90AD00000F000000003000000D9BE191D596083400", CLEAR.hex() + "A49A44222D926666" + "9100"),
    )
    assert data == CLEAR


def test_the_full_read_of_an12343() -> None:
    """Table 26: the second command of its session."""
    keys = SessionKeys(
        encryption=H("FFBCFE1F41840A09C9A88D0A4B10DF05"), mac=H("37E7234B11BEBEFDE41A8F290090EF80")
    )
    channel = Ev2Channel(AesSuite(keys), ti=H("CD73D8E5"), counter=1)
    data = follow(
        read_file(channel, FileRead(file_no=0, size=48, mode=CommMode.FULL)),
        (
            "90AD00000F000000003000007CF94F122B3DB05F00",
            "8848D0F9B9FD4495770C89925B2A85C7274D350FA9029C484D43804886662DC4"
            "2D7F40A6D7A415E4A71EFF79EB8E5721AC3BF1CAAFE8EB2CAA2DC162E67A97A3"
            "8ED7888F22B3A587" + "9100",
        ),
    )
    assert data == CLEAR


def test_the_uid_of_an12196() -> None:
    """AN12196 7.3: GetCardUID in full mode, the same on NTAG 424 and DESFire."""
    keys = SessionKeys(
        encryption=H("2B4D963C014DC36F24F69A50A394F875"), mac=H("379D32130CE61705DD5FD8C36B95D764")
    )
    channel = Ev2Channel(AesSuite(keys), ti=H("DF055522"))
    uid = follow(
        get_card_uid(channel),
        (
            "90510000088E2C155ADDA99BE300",
            "70756055688505B52A5E26E59E329CD6595F672298EA41B79100",
        ),
    )
    assert uid == H("04958CAA5C5E80")


def test_a_card_that_answers_for_other_capabilities_is_not_believed() -> None:
    """The echo of what we sent guards against a change of the first command under way."""
    rnd_a, ti = bytes(range(16)), b"\x01\x02\x03\x04"
    key = BlockCipher(bytes(16))
    for ours, failure in [(bytes(6), None), (b"\x02" + bytes(5), Failure.BAD_ANSWER)]:
        step = authenticate_ev2_first(0, bytes(16), rnd_a)
        next(step)
        step.send(bytes(16) + b"\x91\xaf")
        with pytest.raises(StopIteration) as ended:
            proof = ti + rnd_a[1:] + rnd_a[:1] + bytes(6) + ours
            step.send(key.cbc_encrypt(proof) + b"\x91\x00")
        outcome = ended.value.value
        assert outcome is failure if failure else isinstance(outcome, Ev2Channel)


def test_data_of_another_length_is_not_taken_even_under_a_good_mac() -> None:
    rnd_a, rnd_b, ti = bytes(range(16)), bytes(16), b"\x01\x02\x03\x04"
    for clear, size, good in [
        (bytes(15) + b"\x80", 15, True),
        (bytes(14) + b"\x80\x00", 15, False),
        (bytes(16), 15, False),
    ]:
        card = AesSession(bytes(16), rnd_a, rnd_b, ti=ti, key_no=0, counter=1)
        data = card.encrypt(clear)
        keys = session_keys_ev2(bytes(16), rnd_a, rnd_b)
        channel = Ev2Channel(AesSuite(keys), ti=ti, counter=1)
        answer = Answer(status=0, data=card.said(0, data, "mac"))
        outcome = channel.open(answer, CommMode.FULL, size)
        assert outcome == bytes(15) if good else outcome is Failure.BAD_ANSWER


# --- Against the model card ------------------------------------------------------------------


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
    bench, script = Bench(mode=mode, random_uid=random_uid), iter(made_up)
    count = 0

    def transmit(command: bytes) -> bytes:
        nonlocal count
        count += 1
        true = bench.card.apdu(command)
        return true if count <= honest else next(script, b"")

    outcome = run(bench.dialogue(make), transmit=transmit, now_ms=lambda: 0)
    if isinstance(outcome, Evidence):
        assert count <= honest or not outcome.data_proven


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
