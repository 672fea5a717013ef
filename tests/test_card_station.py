"""Goal: a card that proves something is let in and sold to as what it proved, and a copy is not.

Method: city, device and cards check one another: lists with sealed keys from the reference city's
own books, the real agent on real files, model chips with cryptography of their own. Each kind of
card at a gate and a till, with a restart between. A stream of them is in `test_card_stream.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.messages import AccessFact, SaleFact, SaleRefused
from edge.model import AccessReason, DeviceFault, Outcome, PurchaseReason, UidKind
from edge.offline_cache.card_counters import CardCounters
from edge.pos.cashier import NOTICE_TEXTS
from edge.pos.till import Notice
from edge.readers.dialogue import Evidence, Failure
from edge.readers.proving import DISPROVED
from edge.readers.reader import CardRead
from edge.settings import DeviceSettings
from edge.turnstile import officer
from edge.turnstile.english import english
from hil.bench.card_station import (
    CardSchool,
    build_station,
    card_school,
    running,
)
from tests.support.card_taps import last_access, prove, tap

BREAKFAST_MINOR = 10_000  # pos/decision.py: what a message alone may buy.


@pytest.fixture
def city(tmp_path: Path) -> Iterator[CardSchool]:
    with card_school(tmp_path) as made:
        yield made


@pytest.fixture
def gate(tmp_path: Path, city: CardSchool) -> DeviceSettings:
    return build_station(tmp_path / "gate", city)


@pytest.mark.parametrize(
    ("name", "tier"), [("pupil-ev2", 6), ("staff-424", 6), ("guest-sun", 4), ("band-aes", 3)]
)
def test_a_genuine_card_is_let_in_with_what_it_proved(
    city: CardSchool, gate: DeviceSettings, name: str, tier: int
) -> None:
    with running(gate) as station:
        tap(station, prove(station, city.cards.make(name)))
        fact = last_access(station)
        assert (fact.outcome, fact.reason) == (Outcome.GRANT, AccessReason.AUTHORIZED)
        assert fact.tier == tier
        assert station.agent.gates["north-in"].relay_active


@pytest.mark.parametrize(
    ("name", "reason", "tier", "failure"),
    [
        ("clone", AccessReason.TIER_BELOW_ENROLLED, 0, Failure.WRONG_KEY),
        ("factory", AccessReason.TIER_BELOW_ENROLLED, 0, Failure.WRONG_KEY),
        ("pupil-clone", AccessReason.TIER_BELOW_ENROLLED, 0, Failure.WRONG_KEY),
        ("pupil-factory", AccessReason.TIER_BELOW_ENROLLED, 0, Failure.WRONG_KEY),
        ("copy", AccessReason.TIER_BELOW_ENROLLED, 1, Failure.UNKNOWN_FAMILY),
        ("bank", AccessReason.UNKNOWN_CREDENTIAL, 1, None),
        ("classic", AccessReason.UNKNOWN_CREDENTIAL, 1, None),
    ],
)
def test_a_copy_is_refused_and_the_record_says_whose_it_is(
    city: CardSchool,
    gate: DeviceSettings,
    name: str,
    reason: AccessReason,
    tier: int,
    failure: Failure | None,
) -> None:
    with running(gate) as station:
        genuine_name = "pupil-static" if name.startswith("pupil") else "staff-424"
        tap(station, prove(station, city.cards.make(genuine_name)))
        genuine = last_access(station)
        assert genuine.tier == 6
        station.agent.gates["north-in"]._last = None
        tap(station, prove(station, city.cards.make(name)))
        fact = last_access(station)
        assert (fact.outcome, fact.reason, fact.tier) == (Outcome.DENY, reason, tier)
        if reason is not AccessReason.UNKNOWN_CREDENTIAL:
            assert (fact.credential, fact.cardholder) == (genuine.credential, genuine.cardholder)
        counted = {n for n in station.agent.counters if n.startswith("not_proven_")}
        assert counted == ({f"not_proven_{failure}"} if failure else set())


def test_a_phone_is_told_what_to_show_instead(city: CardSchool, gate: DeviceSettings) -> None:
    with running(gate) as station:
        outcome = prove(station, city.cards.make("phone"))
        assert outcome is Failure.RANDOM_UID
        tap(station, outcome)
        screen = station.agent.gates["north-in"].screen(station.clock.moment())
        assert (screen.state, screen.reason) == ("ask", "random_uid") and "школьную" in screen.text


@pytest.mark.parametrize("failure", list(Failure))
def test_every_failed_read_says_what_to_do(failure: Failure) -> None:
    shown = officer.failed_read(failure.value, now_ms=0)
    assert (shown.state, shown.reason) == ("ask", failure.value) and shown.text
    to_officer = failure in DISPROVED or failure is Failure.NO_KEY
    assert ("охраннику" in shown.text) is to_officer
    assert (shown.word == "К ОХРАННИКУ") is to_officer


def test_every_failed_read_has_a_sentence_of_its_own_in_both_languages() -> None:
    """At the lane and at the till; each says what to do next."""
    lane = {failure: officer.failed_read(failure.value, now_ms=0).text for failure in Failure}
    assert len(set(lane.values())) == len(Failure)
    in_english = {failure: english(text) for failure, text in lane.items()}
    assert len(set(in_english.values())) == len(Failure)
    till = {failure: NOTICE_TEXTS[Notice(f"card_{failure.value}")] for failure in Failure}
    assert len({text.ru for text in till.values()} | {text.en for text in till.values()}) == (
        2 * len(Failure)
    )
    for failure, text in till.items():
        for said in (lane[failure], text.ru, in_english[failure], text.en):
            found, _, do = said.partition(": ")
            assert found and do, said
        again = any(word in text.ru for word in ("приложите", "уберите"))
        assert again is (failure not in DISPROVED and failure is not Failure.NO_KEY)


def test_a_copy_right_after_its_original_is_not_taken_for_it(
    city: CardSchool, gate: DeviceSettings
) -> None:
    """The rule that the same card within 3 s is no new decision is about the same card."""
    with running(gate) as station:
        for name in ("staff-424", "clone", "staff-424"):
            outcome = prove(station, city.cards.make(name))
            tap(station, outcome)
            station.time[0] -= 10_000  # At once, that is.
        reasons = [f.reason for f in station.facts() if isinstance(f, AccessFact)]
        assert reasons == [
            AccessReason.AUTHORIZED, AccessReason.TIER_BELOW_ENROLLED, AccessReason.AUTHORIZED,
        ]  # fmt: skip


def test_a_card_whose_key_was_lost_goes_to_a_person(city: CardSchool, gate: DeviceSettings) -> None:
    """Sealed keys that do not open: the card is a number, and the enrolled tier refuses it."""
    with running(gate) as station:
        keys = station.agent.keys_of("s0001/people")
        assert keys is not None
        broken = type(keys)(keys.scope, keys.identifier, {1: bytes(32)})
        problems = station.keyring.renew(station.agent.parts.cache.small.profiles, broken)
        assert [p.split(":")[0] for p in problems] == [
            "card profile 'guest-sun'",
            "card profile 'pupil-ev2'",
        ]
        tap(station, prove(station, city.cards.make("staff-424")))
        assert last_access(station).reason is AccessReason.TIER_BELOW_ENROLLED
        assert station.keyring.counts()["card_key_unusable"] == 1


# --- Messages that are good once -------------------------------------------------------------


def test_a_message_is_good_once_also_after_a_restart(
    city: CardSchool, gate: DeviceSettings
) -> None:
    card = city.cards.make("guest-sun")
    with running(gate) as station:
        first = prove(station, card)
        assert isinstance(first, Evidence) and first.counter == 1
        seen = []
        drive = station.agent.gates["north-in"]._lines.activate

        def activate(line_id: str, *, ms: int | None) -> None:
            reader = station.agent.parts.journal.writer.db
            assert not reader.in_transaction
            seen.append(reader.execute("SELECT counter FROM card_counters").fetchall())
            drive(line_id, ms=ms)

        station.agent.gates["north-in"]._lines.activate = activate  # type: ignore[method-assign]
        tap(station, first)
        assert seen == [[(1,)]], "on disk before the relay moves"
        tap(station, first)
        assert last_access(station).reason is AccessReason.REPLAYED
    with running(gate) as station:
        tap(station, first)
        fact = last_access(station)
        assert (fact.outcome, fact.reason) == (Outcome.DENY, AccessReason.REPLAYED)
        for _ in range(5):  # Phones read it too; the next message is still a newer one.
            prove(station, card)
        tap(station, prove(station, card))
        assert last_access(station).outcome is Outcome.GRANT


def test_a_message_seen_while_the_disk_refused_is_an_old_one_too(
    city: CardSchool, gate: DeviceSettings
) -> None:
    with running(gate) as station:
        message = prove(station, city.cards.make("guest-sun"))
        record = station.agent.parts.journal.record

        def refuse(*_: object, **__: object) -> None:
            raise DeviceFault("journal.db: disk full")

        station.agent.parts.journal.record = refuse  # type: ignore[assignment,method-assign]
        tap(station, message)
        assert station.agent.gates["north-in"].unwritten.counts == {"access": 1}
        station.agent.parts.journal.record = record  # type: ignore[method-assign]
        tap(station, message)
        assert last_access(station).reason is AccessReason.REPLAYED
        counters = CardCounters(station.agent.parts.journal.writer.db)
        assert counters.last_seen(last_access(station).credential) == 1, "written with the next"


def test_a_message_buys_a_breakfast_and_no_more_and_only_once(
    tmp_path: Path, city: CardSchool
) -> None:
    settings = build_station(tmp_path / "till", city, station="till")
    product = max(
        (p for p in city.school.products if p.price_minor < BREAKFAST_MINOR),
        key=lambda p: p.price_minor,
    )
    with running(settings) as station:
        till = station.agent.till
        assert till is not None
        card, staff = city.cards.make("guest-sun"), city.cards.make("staff-424")

        def buy(quantity: int, outcome: Evidence | Failure) -> SaleFact | SaleRefused:
            assert till.set_basket([(product.product_id, quantity)], station.clock.moment()) == ""
            tap(station, outcome)
            facts = [f for f in station.facts() if isinstance(f, SaleFact | SaleRefused)]
            return facts[-1]

        over = BREAKFAST_MINOR // product.price_minor + 1
        refused = buy(over, prove(station, card))
        assert isinstance(refused, SaleRefused)
        assert refused.reason is PurchaseReason.TIER_LIMIT
        message = prove(station, card)
        first = buy(1, message)
        assert isinstance(first, SaleRefused) and first.reason is PurchaseReason.FUNDS  # "poor"
        again = buy(1, message)
        assert isinstance(again, SaleRefused) and again.reason is PurchaseReason.REPLAYED
        sold = buy(over, prove(station, staff))
        assert isinstance(sold, SaleFact) and sold.tier == 6


def test_a_number_that_two_may_share_buys_nothing(tmp_path: Path, city: CardSchool) -> None:
    settings = build_station(tmp_path / "till", city, station="till")
    with running(settings) as station:
        till = station.agent.till
        assert till is not None
        card = next(c for c in city.school.cards if c.label == "staff")
        product = city.school.products[0]
        for uid in (card.uid[:3], card.uid):
            assert till.set_basket([(product.product_id, 1)], station.clock.moment()) == ""
            read = CardRead(
                uid=card.uid, at_ms=station.time[0], kind=UidKind.ISO14443, tier=1, reader_id="r1"
            )
            if len(uid) == 3:  # As a Wiegand 26 reader says it, on a list that was made so.
                read = Ambiguous(
                    uid=card.uid, at_ms=station.time[0], kind=UidKind.ISO14443, tier=1,
                    reader_id="r1",
                )  # fmt: skip
            station.hand.waiting.append(read)
            station.step()
            facts = [f for f in station.facts() if isinstance(f, SaleFact | SaleRefused)]
            if len(uid) == 3:
                assert isinstance(facts[-1], SaleRefused)
                assert facts[-1].reason is PurchaseReason.TIER_LIMIT
            else:
                assert isinstance(facts[-1], SaleFact)
            station.time[0] += 10_000


class Ambiguous(CardRead):
    @property
    def is_ambiguous(self) -> bool:
        return True


def test_the_cashier_is_told_of_a_card_that_named_nobody(tmp_path: Path, city: CardSchool) -> None:
    settings = build_station(tmp_path / "till", city, station="till")
    with running(settings) as station:
        till = station.agent.till
        assert till is not None
        for failure, word in ((Failure.LEFT_FIELD, "AGAIN"), (Failure.WRONG_KEY, "NO")):
            tap(station, failure)
            view = till.view()
            assert view.reason is not None and view.reason.key == f"notice.card_{failure}"
            assert view.word.en == word


def test_an_old_read_of_a_genuine_card_opens_nothing(
    city: CardSchool, gate: DeviceSettings
) -> None:
    with running(gate) as station:
        outcome = prove(station, city.cards.make("pupil-ev2"))
        assert isinstance(outcome, Evidence)
        station.hand.waiting.append(
            CardRead(
                uid=outcome.uid,
                at_ms=station.time[0] - 2_001,
                kind=outcome.uid_kind,
                tier=outcome.tier,
                reader_id="r1",
                evidence=outcome,
            )
        )
        station.step()
        assert last_access(station).reason is AccessReason.STALE_READ


def test_neither_a_number_nor_a_key_lies_on_the_stations_disk(
    tmp_path: Path, city: CardSchool, gate: DeviceSettings
) -> None:
    with running(gate) as station:
        for name in ("pupil-ev2", "staff-424", "guest-sun", "band-aes", "clone"):
            tap(station, prove(station, city.cards.make(name)))
        files = [path for path in (tmp_path / "gate").rglob("*") if path.is_file()]
        everything = b"\0".join(path.read_bytes() for path in files)
    secret_bytes = [city.card_keys.shared(name, key) for name, key in SHARED_KEYS]
    for card in city.school.smart_cards:
        secret_bytes += [card.uid, city.card_keys.derived(card.profile, card.uid)]
    assert len(everything) > 100_000
    for data in secret_bytes:
        assert len(data) >= 7
        for form in (data, data.hex().encode(), data.hex().upper().encode()):
            assert form not in everything
    masters = [bytes.fromhex(profile["master"]) for profile in city.card_keys.profiles.values()]
    assert not any(master in everything for master in masters)


SHARED_KEYS = (("pupil-ev2", "uid_key"), ("guest-sun", "meta_key"))
