"""Goal: whatever an order, a renewal, a rotation or a setting from afar does halfway, the device
stays reachable, says what came of it, and no older key, document or setting comes back.

Method: the whole of sync on real files in virtual time (`sync_world.py`): the bridge and the city
are in our hands, a process can be ended anywhere and started again. Facts are read back from disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from edge import logs
from edge.messages import (
    MESSAGE_BYTES_MAX,
    Ack,
    Health,
    Hello,
    LogLines,
    Noted,
    OrderAnswer,
    OrderOutcome,
    RosterRow,
    SignedWhat,
    UpdateRefused,
    decode_json,
    encode_json,
)
from edge.model import DeviceFault, Station
from edge.offline_cache.apply import held_scope_keys
from edge.offline_cache.live_tills import live_tills
from edge.trust import FileKeyStore, is_sealed_now
from sync.bridge_events import Loss
from sync.contact import Contact
from sync.loop import REST_MS
from sync.renewal import Step
from sync.session import Endpoint
from sync.topics import TopicKind
from tests.support import small_city
from tests.support.times import NOON_MS
from tests.sync.sync_world import DEVICE, LIFE, World, device_row, signed_lines

MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS
LIFE_MS = int(LIFE.total_seconds() * 1000)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    try:
        yield made
    finally:
        made.stop()
        logs.set_level("info")


def reached(world: World) -> bool:
    """Whether the city has welcomed the device on the present connection."""
    return world.sync.link.welcomed


def contact(world: World) -> Contact:
    return world.sync.link.contact


def notes(world: World) -> list[tuple[str, str]]:
    return [(fact.what, fact.why) for fact in world.facts() if isinstance(fact, Noted)]


def answers(world: World) -> list[tuple[int, str]]:
    """(counter, why refused or "") of every answer, then (counter, why not or "") as outcomes."""
    return [(fact.counter, fact.why) for fact in world.facts() if isinstance(fact, OrderAnswer)]


def outcomes(world: World) -> list[tuple[int, str]]:
    found = []
    for fact in world.facts():
        if isinstance(fact, OrderOutcome):
            assert fact.done is (not fact.why)
            found.append((fact.counter, fact.why))
    return found


def refused(world: World) -> list[tuple[str, str]]:
    return [(fact.what, fact.reason) for fact in world.facts() if isinstance(fact, UpdateRefused)]


def certificate_of(world: World) -> bytes:
    return world.settings.certificate_path.read_bytes()


def until_ready(world: World) -> None:
    """A renewal up to the moment when its answer is kept."""
    world.sync.renewing.renewal.want()
    world.sync.step()
    for event in world.bridge.poll():
        world.sync._take(event)
    assert world.sync.renewing.renewal.step is Step.READY


# --------------------------------------------------------------------------- first contact


def test_a_device_without_a_clock_takes_the_time_and_connects_again_in_full(world: World) -> None:
    world.restart(reboot=True, clock_trusted=False)
    assert not world.clock.moment().clock_trusted
    world.sync.step()
    assert contact(world) is Contact.TIME
    world.sync.step()
    assert world.bridge.topics == (f"mk/v1/d/{DEVICE}/welcome",), "nothing else can arrive"
    world.run()
    first, second = world.city.hellos[-2:]
    assert (first.streams, first.held, first.key, first.configuration) == ((), {}, "", None)
    assert second.streams and second.key
    assert contact(world) is Contact.FULL and reached(world)
    assert world.bridge.at_most_once == {f"mk/v1/d/{DEVICE}/ack"}, "QoS 1 on all others"
    assert world.clock.moment().wall_ms == world.city.utc_ms()
    assert ("first_contact", "unknown") in notes(world)
    assert world.sync.counters["first_contacts"] == 1
    births = [payload for payload in world.city.of(TopicKind.STATUS) if b'"online":true' in payload]
    assert len(births) == 1, "the contact without date checks is no presence"


def test_with_a_believable_clock_there_is_no_contact_without_dates(world: World) -> None:
    world.run(5_000)
    assert contact(world) is Contact.FULL
    assert len(world.city.hellos) == 1 and not notes(world)


def test_a_clock_that_is_set_by_another_way_ends_the_contact_without_dates(world: World) -> None:
    world.restart(reboot=True, clock_trusted=False)
    world.city.up = False
    world.run(5_000)
    assert contact(world) is Contact.TIME and world.bridge.connected
    world.clock._ntp = lambda: True
    world.wall_ms = world.city.utc_ms() + 60_000
    world.city.up = True
    world.run(20_000)
    assert contact(world) is Contact.FULL and reached(world)
    assert world.sync.counters.get("first_contacts", 0) == 0


def test_a_time_below_the_floor_is_not_taken(world: World) -> None:
    world.run(1_000)  # The floor is today now.
    world.restart(reboot=True, clock_trusted=False)
    real = world.city.utc_ms
    world.city.utc_ms = lambda: real() - DAY_MS
    world.run(5_000)
    assert not reached(world) and not world.clock.moment().clock_trusted
    assert ("welcome", "below_floor") in refused(world)
    assert contact(world) is Contact.TIME
    world.city.utc_ms = real
    world.run(10 * MINUTE_MS)
    assert reached(world) and contact(world) is Contact.FULL


# ---------------------------------------------------------------------------------- renewal


def test_from_half_time_the_device_renews_itself_with_a_new_key(world: World) -> None:
    world.run(1_000)
    before, point = certificate_of(world), world.keys.public_point()
    world.city.push_keys((small_city.PEOPLE,))
    world.mono_ms += LIFE_MS // 2 - DAY_MS
    world.run(MINUTE_MS)
    assert world.city.renews == []
    world.mono_ms += 6 * DAY_MS  # Each device within a twentieth of the life.
    world.run(MINUTE_MS)
    assert len(world.city.renews) == 1
    assert certificate_of(world) != before and world.keys.public_point() != point
    assert reached(world) and contact(world) is Contact.FULL
    old, new = (hello.key for hello in world.city.hellos[-2:])
    assert old != new and new == world.sync.renewing.fingerprint(candidate=False)
    folder = world.settings.folders.identity
    assert (folder / "device.crt.old").read_bytes() == before
    assert not list(folder.glob("*.candidate"))
    assert ("certificate", "renewed") in notes(world)
    [key] = held_scope_keys(world.writer.db)
    assert is_sealed_now(world.keys, key), "what was sealed to the old key is fetched again"
    status = world.sync.reports.status(world.clock.moment())
    assert status["certificate_left_s"] > 80 * 24 * 3600
    world.run(5 * MINUTE_MS)
    assert len(world.city.renews) == 1


@pytest.mark.parametrize("cut", ["asked", "ready", "trying", "promoted"])
def test_ended_anywhere_in_a_renewal_it_goes_on_after_the_start(world: World, cut: str) -> None:
    world.run(1_000)
    before = certificate_of(world)
    if cut == "asked":
        world.city.answer_renew = lambda renew: None
    if cut == "trying":
        world.city.up = False
    if cut == "ready":
        until_ready(world)
    else:
        world.sync.renewing.renewal.want()
        world.run(1_000)
    world.city.answer_renew, world.city.up = world.city.issue, True
    world.restart()
    world.run(1_000)
    assert reached(world)
    if cut == "asked":
        assert certificate_of(world) == before, "nothing is lost but the try"
    else:
        assert certificate_of(world) != before
        assert world.sync.renewing.renewal.step is Step.REST


def test_a_candidate_that_waits_at_the_start_is_tried_first(world: World) -> None:
    """The city may have taken it in force, and have revoked what it replaces."""
    world.run(1_000)
    until_ready(world)
    named = world.sync.renewing.fingerprint(candidate=True)
    hellos = len(world.city.hellos)
    world.restart()
    world.run(1_000)
    assert [hello.key for hello in world.city.hellos[hellos:]] == [named]


def test_a_candidate_that_is_not_welcomed_costs_nothing(world: World) -> None:
    world.run(1_000)
    before = certificate_of(world)

    def refuse_candidates(endpoint: Endpoint) -> tuple[Loss, str] | None:
        assert world.bridge.session is not None
        candidate = world.sync.link.contact is Contact.CANDIDATE
        return (Loss.DENIED, "SSLV3_ALERT_CERTIFICATE_UNKNOWN") if candidate else None

    world.city.refused = refuse_candidates
    world.sync.renewing.renewal.want()
    world.run(MINUTE_MS)
    assert certificate_of(world) == before and reached(world)
    assert world.sync.counters["candidates_failed"] == 1
    world.run(16 * MINUTE_MS)
    assert world.sync.counters["candidates_failed"] == 2, "tried again in a while"
    world.city.refused = lambda endpoint: None
    world.run(60 * MINUTE_MS)
    assert certificate_of(world) != before and reached(world)


def test_refused_as_what_it_is_the_device_tries_the_candidate_that_waits(world: World) -> None:
    """The city took the new key in force, and the device died before it heard of that."""
    world.run(1_000)
    until_ready(world)
    world.bridge.lose(Loss.LOST, "gone")
    world.city.refused = lambda endpoint: (
        None
        if world.sync.link.contact is Contact.CANDIDATE
        else (Loss.DENIED, "SSLV3_ALERT_CERTIFICATE_REVOKED")
    )
    world.run(10 * MINUTE_MS)
    assert reached(world) and world.sync.link.refusal == ""


@pytest.mark.parametrize("spoilt", ["other_name", "other_root", "other_key", "ended", "no_pem"])
def test_an_answer_that_does_not_fit_is_refused(
    world: World, spoilt: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from tests.provisioning.enrolment_city import pem

    world.run(1_000)
    before = certificate_of(world)
    good = world.city.issue
    stranger = type(world.city)(tmp_path_factory.mktemp("stranger"))
    stranger.utc_ms = world.city.utc_ms

    def answer(renew: Any) -> Any:
        renewed = good(renew)
        if spoilt == "no_pem":
            return structs.replace(renewed, certificate_pem="x")
        if spoilt == "other_root":
            return stranger.issue(renew)
        key = world.sync._parts.identity.candidate_key
        from edge.trust import read_key

        public = read_key(key).public_key()
        if spoilt == "other_key":
            public = world.city.authority_key.public_key()
        name = "till-2" if spoilt == "other_name" else DEVICE
        begins_ms = world.city.utc_ms() - (LIFE_MS + DAY_MS if spoilt == "ended" else 0)
        leaf = world.city.leaf(public, begins_ms=begins_ms, name=name)
        return structs.replace(renewed, certificate_pem=pem(leaf))

    world.city.answer_renew = answer
    world.sync.renewing.renewal.want()
    world.run(MINUTE_MS)
    assert certificate_of(world) == before and reached(world)
    assert ("renewed", "misfit") in refused(world)
    assert not world.sync._parts.identity.is_ready()


def test_what_answers_nothing_we_asked_is_refused(world: World) -> None:
    world.run(1_000)
    world.sync._parts.identity.request()
    from edge.messages import Renew, encode_json

    csr = world.sync._parts.identity.request()
    unasked = world.city.issue(Renew(device=DEVICE, csr_pem=csr))
    world.bridge.deliver(f"mk/v1/d/{DEVICE}/renewed", encode_json(unasked))
    world.run(1_000)
    assert ("renewed", "invalid") in refused(world)
    assert not world.sync._parts.identity.is_ready()


def test_a_revoked_device_says_so_and_goes_on_alone(world: World) -> None:
    world.run(1_000)
    world.city.refused = lambda endpoint: (Loss.DENIED, "SSLV3_ALERT_CERTIFICATE_REVOKED")
    world.bridge.lose(Loss.LOST, "gone")
    world.run(MINUTE_MS)
    status = world.sync.reports.status(world.clock.moment())
    assert status["refusal"] == "revoked" and "revoked this device" in status["refusal_text"]
    assert notes(world).count(("refused_by_broker", "revoked")) == 1
    world.city.refused = lambda endpoint: (Loss.UNREACHABLE, "no route")
    world.run(10 * MINUTE_MS)
    assert world.sync.link.refusal == "revoked", "a network that is down as well changes nothing"
    world.city.refused = lambda endpoint: None
    world.run(20 * MINUTE_MS)
    assert reached(world) and world.sync.link.refusal == ""


# ------------------------------------------------------------------------------------ roots


def rotated(version: int = 2) -> Any:
    return small_city.root_document(
        version=version, roles={"list-2": "list", "fresh-2": "freshness", "order-2": "order"}
    )


def test_after_a_rotation_the_old_keys_are_refused_for_ever(world: World) -> None:
    world.run(1_000)
    world.city.rotate(rotated())
    world.run(1_000)
    assert ("root", "") in notes(world)
    world.city.order(1, "rotate_key")  # Signed by the old order key.
    world.run(1_000)
    assert ("order", "invalid") in refused(world) and answers(world) == []
    world.city.freshness = "fresh-2"
    world.restart()
    world.run(1_000)
    assert reached(world) and world.city.hellos[-1].root == 2
    for version, why in ((1, "rollback"), (2, "other_bytes")):
        root = small_city.root_document(version=version)
        world.city.root_document = signed_lines(small_city.signed_root(root))
        world.bridge.deliver("mk/v1/c/root", world.city.root_document)
        world.run(1_000)
        assert ("root", why) in refused(world)
        assert world.sync.downlink.verifier.root_version == 2


def test_a_root_that_stands_retained_is_in_force_before_the_welcome_is_read(world: World) -> None:
    world.city.rotate(rotated())
    world.city.freshness, world.city.list_key = "fresh-2", "list-2"
    world.run(1_000)
    assert reached(world) and world.sync.counters.get("hello_unanswered", 0) == 0
    world.bridge.deliver("mk/v1/c/root", world.city.root_document)
    world.run(1_000)
    assert refused(world) == [], "the same again is no news"


def test_a_welcome_by_a_key_not_known_yet_is_asked_for_anew_when_the_root_comes(
    world: World,
) -> None:
    world.city.freshness = "fresh-2"
    world.run(1_000)
    assert not reached(world) and ("welcome", "invalid") in refused(world)
    world.city.rotate(rotated())
    world.run(1_000)
    assert reached(world) and world.sync.counters.get("hello_unanswered", 0) == 0


@pytest.mark.parametrize("spoilt", ["stranger", "bytes", "roles", "key"])
def test_a_root_nobody_enrolled_signed_or_that_is_of_no_use_is_refused(
    world: World, spoilt: str
) -> None:
    from edge.messages import encode_json

    world.run(1_000)
    root = rotated(9)
    document = signed_lines(small_city.signed_root(root))
    if spoilt == "stranger":
        signed = small_city.sign(SignedWhat.ROOT, encode_json(root), key="stranger", key_id="root")
        document = signed_lines(signed)
    elif spoilt == "bytes":
        document = document.replace(b'"version":9', b'"version":8')
    elif spoilt == "roles":
        keys = tuple(key for key in root.keys if key.role != "freshness")
        document = signed_lines(small_city.signed_root(structs.replace(root, keys=keys)))
    else:
        keys = (*root.keys[:2], structs.replace(root.keys[2], public="AAAA"))
        document = signed_lines(small_city.signed_root(structs.replace(root, keys=keys)))
    world.bridge.deliver("mk/v1/c/root", document)
    world.run(1_000)
    assert world.sync.downlink.verifier.root_version == 1
    assert [what for what, _ in refused(world)] == ["root"]
    world.restart()
    assert world.sync.downlink.verifier.root_version == 1


# ----------------------------------------------------------------------------------- orders


def test_an_order_to_rotate_the_key_is_done_when_the_city_has_welcomed_it(world: World) -> None:
    world.run(1_000)
    before = world.keys.public_point()
    world.city.order(1, "rotate_key")
    world.sync.step()
    assert answers(world) == [(1, "")] and outcomes(world) == []
    world.city.order(2, "rotate_key")
    world.run(MINUTE_MS)
    assert (2, "busy") in answers(world)
    assert outcomes(world) == [(1, "")]
    assert world.keys.public_point() != before


def test_no_second_rotation_before_all_is_sealed_to_the_newest_key(world: World) -> None:
    """The key before the one before is not kept: what is sealed to it would be lost."""
    world.run(1_000)
    world.city.push_keys((small_city.PEOPLE,))
    world.run(1_000)
    push, world.city.push_keys = world.city.push_keys, lambda scopes: None  # type: ignore[method-assign]
    for counter in (1, 2):
        world.city.order(counter, "rotate_key")
        world.run(MINUTE_MS)
    assert answers(world) == [(1, ""), (2, "busy")] and outcomes(world) == [(1, "")]
    world.city.push_keys = push  # type: ignore[method-assign]
    push((small_city.PEOPLE,))
    world.run(1_000)
    world.city.order(3, "rotate_key")
    world.run(MINUTE_MS)
    assert outcomes(world) == [(1, ""), (3, "")]


def test_a_rotation_nobody_answers_is_told_as_not_done(world: World) -> None:
    world.run(1_000)
    world.city.answer_renew = lambda renew: None
    world.city.order(1, "rotate_key")
    world.run(5 * MINUTE_MS)
    assert outcomes(world) == [(1, "no_answer")]


def test_an_order_begun_before_the_process_ended_is_not_done(world: World) -> None:
    world.run(1_000)
    world.city.answer_renew = lambda renew: None
    world.city.order(1, "rotate_key")
    world.run(1_000)
    assert outcomes(world) == []
    world.restart()
    world.run(1_000)
    assert outcomes(world) == [(1, "restarted")]
    world.run(MINUTE_MS)
    assert len(world.city.renews) == 1, "not acted on later"


def test_an_order_taken_in_and_not_answered_is_answered_after_the_start(world: World) -> None:
    world.run(1_000)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    world.sync.orders.take = killed  # type: ignore[method-assign,assignment]
    world.city.order(1, "fetch_logs", process="sync", minutes=5)
    with pytest.raises(KeyboardInterrupt):
        world.sync.step()
    assert answers(world) == []
    world.restart()
    world.run(1_000)
    assert answers(world) == [(1, "")] and outcomes(world) == [(1, "")]


@pytest.mark.parametrize("second", ["same", "other_bytes", "lower"])
def test_a_counter_is_good_for_one_order(world: World, second: str) -> None:
    world.run(1_000)
    world.city.order(5, "fetch_logs", process="sync", minutes=5)
    world.run()
    if second == "same":
        world.city.order(5, "fetch_logs", process="sync", minutes=5)
    else:
        world.city.order(5 - (second == "lower"), "fetch_logs", process="sync", minutes=6)
    world.run()
    assert answers(world) == [(5, "")]
    assert refused(world) == ([] if second == "same" else [("order", "used_counter")])


@pytest.mark.parametrize(
    ("word", "more", "why"),
    [
        ("fetch_logs", {"process": "sync", "minutes": 0}, "arguments"),
        ("fetch_logs", {"process": "kernel", "minutes": 1}, "arguments"),
        ("reload_list", {"scope": "school-8/people"}, "not_here"),
        ("update", {"release": "1.0", "sha256": "0" * 64}, "not_here"),
        ("set_log_level", {"process": "sync", "level": "loud"}, "arguments"),
        ("rotate_key", {"not_after_utc_ms": NOON_MS}, "late"),
        ("rotate_key", {"not_before_utc_ms": NOON_MS + DAY_MS}, "early"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_reason(
    world: World, word: str, more: dict[str, Any], why: str
) -> None:
    world.run(1_000)
    world.city.order(1, word, **more)
    world.run(1_000)
    assert answers(world) == [(1, why)] and outcomes(world) == []


def test_orders_of_edge_are_left_to_edge(world: World) -> None:
    world.run(1_000)
    rings = world.rings
    for counter, (word, process) in enumerate(
        [("open_once", ""), ("lockdown_on", ""), ("restart", "edge"), ("explode", "")], start=1
    ):
        world.city.order(counter, word, process=process)
    world.run(1_000)
    assert answers(world) == [] and world.rings > rings
    assert not world.sync.stopping


def test_logs_come_in_parts_that_fit_and_not_too_often(world: World) -> None:
    world.run(1_000)
    lines = ['{"event":"' + "ы" * 300 + f'","n":{n}}}' for n in range(90)]
    world.neighbour.says = lambda request: {"ok": True, "lines": lines, "asked": request}
    world.city.order(1, "fetch_logs", process="edge", minutes=3)
    world.run(1_000)
    assert ("logs 1", {"request": "logs", "minutes": 3}) in world.neighbour.asked
    told = [fact for fact in world.facts("diag") if isinstance(fact, LogLines)]
    assert [line for fact in told for line in fact.lines] == lines
    assert [fact.part for fact in told] == list(range(1, told[0].parts + 1)) and len(told) > 5
    assert outcomes(world) == [(1, "")]
    world.city.order(2, "fetch_logs", process="edge", minutes=3)
    world.run(MINUTE_MS)
    assert answers(world)[-1] == (2, "too_often")
    world.neighbour.says = lambda request: None
    world.city.order(3, "fetch_logs", process="edge", minutes=3)
    world.run(1_000)
    assert outcomes(world)[-1] == (3, "no_answer")


def test_sync_tells_its_own_lines_without_anything_personal(world: World) -> None:
    logs.get("test").warning("a card", uid="04aabbccdd", reader="r1")
    world.run(1_000)
    world.city.order(1, "fetch_logs", process="sync", minutes=1_440)
    world.run(1_000)
    told = [fact for fact in world.facts("diag") if isinstance(fact, LogLines)]
    assert [fact.part for fact in told] == list(range(1, told[0].parts + 1))
    lines = "".join(line for fact in told for line in fact.lines)
    assert {fact.process for fact in told} == {"sync"}
    assert "04aabbccdd" not in lines


def test_a_reload_is_done_when_the_whole_list_is_in_force_anew(world: World) -> None:
    world.run(1_000)
    world.install_settings(number=3)
    world.sync.downlink.start(world.clock.moment())
    world.run(1_000)
    world.city.pulls.clear()
    world.city.order(1, "reload_list", scope=small_city.SETTINGS)
    world.run(15_000)  # Lists of people go first, until their city does not answer.
    assert any(p.scope == small_city.SETTINGS and p.have is None for p in world.city.pulls)
    assert outcomes(world) == []
    world.sync.downlink.snapshots[small_city.SETTINGS] = 1
    world.run(1_000)
    assert outcomes(world) == [(1, "")]
    world.city.order(2, "reload_list", scope=small_city.SETTINGS)
    world.run(16 * MINUTE_MS)
    assert outcomes(world)[-1] == (2, "timeout")


def test_an_order_to_restart_is_told_as_done_and_ends_the_process(world: World) -> None:
    world.run(1_000)
    world.city.order(1, "restart", process="sync")
    world.run(1_000)
    assert world.sync.stopping and outcomes(world) == [(1, "")]


def test_a_log_level_by_order_goes_back_by_itself(world: World) -> None:
    world.run(1_000)
    for counter, minutes in ((1, 5), (2, 0)):
        world.city.order(counter, "set_log_level", process="sync", level="debug", minutes=minutes)
        world.run(4 * MINUTE_MS)
        assert logs._level == 10
        world.run(2 * MINUTE_MS)
        assert logs._level == (20 if minutes else 10)
    world.restart()
    world.run(1_000)
    assert logs._level == 20


# ------------------------------------------------------------------- desired configuration


def configured(world: World) -> tuple[int, str]:
    """As the last hello or health said it."""
    report = world.sync.configuring.desired.report()
    return report.version, report.state


def test_a_setting_from_afar_is_in_force_and_confirmed_by_a_welcome(world: World) -> None:
    world.run(1_000)
    world.install_settings(device_row(4, log_level="debug", health_s=30), number=2)
    hellos = len(world.city.hellos)
    world.run(1_000)
    assert len(world.city.hellos) == hellos + 1
    assert world.city.hellos[-1].configuration is not None
    assert world.city.hellos[-1].configuration.state == "trying"
    assert configured(world) == (4, "applied") and ("configuration", "applied") in notes(world)
    assert logs._level == 10
    count = len(world.city.of(TopicKind.HEALTH))
    world.run(2 * MINUTE_MS)
    assert len(world.city.of(TopicKind.HEALTH)) in (count + 3, count + 4, count + 5)
    world.restart()
    world.run(1_000)
    assert configured(world) == (4, "applied") and logs._level == 10
    world.install_settings(number=3)  # The row is gone: device.toml alone holds.
    world.run(1_000)
    assert configured(world) == (0, "applied") and logs._level == 20


def test_a_till_that_hears_no_other_asks_the_city_who_is_live(world: World) -> None:
    """Each 20 s, for as long as it is alone in its school; what was said counts for 60 s, and
    nothing of it after another start of the machine."""
    world.run(1_000)
    hellos = len(world.city.hellos)
    world.run(2 * MINUTE_MS)
    assert len(world.city.hellos) == hellos, "it is the only till of its roster"
    world.city.live = ("till-2",)
    key = FileKeyStore(world.settings.key_path)
    rows = ((50, name.encode()) for name in (DEVICE, "till-2"))
    row = RosterRow(Station.TILL, key.public_point())
    world.install_settings(*((name, row) for name in rows), number=2)
    world.run(MINUTE_MS)
    asked = len(world.city.hellos) - hellos
    assert asked in (2, 3), asked

    def live(later_ms: int = 0, boot: str = "") -> set[str]:
        moment = world.clock.moment()
        moment = replace(moment, mono_ms=moment.mono_ms + later_ms, boot=boot or moment.boot)
        return set(live_tills(world.writer.db, moment))

    assert live() == live(39_000) == {"till-2"}
    assert live(60_001) == live(boot="another") == set()
    world.city.live = ()
    world.run(20_000)
    assert live() == set(), "the newest word counts"


def test_while_acknowledgements_come_all_else_waits_a_moment_and_no_longer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backlog leaves in a thousand steps a second; what goes by the clock counts seconds."""
    world.run(1_000)
    stepped: list[int] = []
    monkeypatch.setattr(world.sync.peers, "step", lambda **_: stepped.append(world.mono_ms))
    ((stream, epoch), (up_to, _)) = next(iter(world.city.waters.items()))
    ack = encode_json(Ack(device=DEVICE, stream=stream, epoch=epoch, up_to=up_to))
    world.sync.step()
    for _ in range(4 * REST_MS):
        world.mono_ms += 1
        world.bridge.deliver(f"mk/v1/d/{DEVICE}/ack", ack)
        world.sync.step()
        assert world.mono_ms - stepped[-1] < REST_MS
        assert world.sync.due_ms() <= stepped[-1] + REST_MS or stepped[-1] == world.mono_ms
    assert len(stepped) == 5
    world.bridge.deliver(f"mk/v1/d/{DEVICE}/ack", ack)
    world.bridge.deliver(f"mk/v1/d/{DEVICE}/order", b"rubbish")
    world.sync.step()
    assert len(stepped) == 6, "more came than that"
    world.bridge.deliver(f"mk/v1/d/{DEVICE}/ack", b"rubbish")
    world.sync.step()
    assert len(stepped) == 7, "a refusal is more"
    world.sync.step()
    assert len(stepped) == 8, "nothing came"


@pytest.mark.parametrize("restarts", [0, 1, 3])
def test_a_setting_that_cuts_the_device_off_is_taken_back(world: World, restarts: int) -> None:
    world.run(1_000)
    world.city.refused = lambda endpoint: (
        None if endpoint.host == "first.example" else (Loss.UNREACHABLE, "no such host")
    )
    elsewhere = device_row(2, endpoints=["mqtts://typo.example"])
    world.install_settings(elsewhere, number=2)
    for _ in range(restarts):
        world.run(2 * MINUTE_MS)
        assert world.bridge.connects[-1] == "typo.example"
        world.restart(reboot=True)
    world.run((9 - 2 * restarts) * MINUTE_MS)
    assert not reached(world) and configured(world) == (0, "trying")
    world.run(3 * MINUTE_MS)
    assert reached(world) and configured(world) == (0, "rolled_back")
    assert ("configuration", "rolled_back") in notes(world)
    assert decode_json(Hello, world.city.of(TopicKind.HELLO)[-1]).configuration is not None
    world.run(30 * MINUTE_MS)
    assert world.bridge.connects[-1] == "first.example", "the same version is not tried twice"
    world.restart()
    world.run(1_000)
    assert reached(world) and configured(world) == (0, "rolled_back")
    world.city.refused = lambda endpoint: None
    world.install_settings(device_row(3, endpoints=["mqtts://other.example"]), number=3)
    world.run(MINUTE_MS)
    assert world.bridge.connects[-1] == "other.example" and configured(world) == (3, "applied")


@pytest.mark.parametrize(
    "values",
    [
        {"colour": "red"},
        {"log_level": "loud"},
        {"log_level": 3},
        {"health_s": 1},
        {"roll_back_min": 0},
        {"endpoints": ["http://x"]},
        {"endpoints": ["mqtt://10.0.0.1"]},
    ],
    ids=str,
)
def test_a_setting_that_makes_no_sense_changes_nothing(
    world: World, values: dict[str, Any]
) -> None:
    world.run(1_000)
    world.install_settings(device_row(2, **values), number=2)
    world.run(MINUTE_MS)
    assert configured(world) == (0, "refused") and reached(world)
    [(_, why)] = [note for note in notes(world) if note[0] == "configuration"]
    assert why.startswith("refused: ")


# ------------------------------------------------------------------------------- health


def test_health_tells_of_both_processes_in_numbers_and_words(world: World) -> None:
    world.neighbour.says = lambda request: {
        "ok": True,
        "clock": "city",
        "readers": [{"reader": "r1", "up": False, "reason": "unplugged"}],
        "lanes": [{"lane": "north", "up": True, "access_points": []}],
        "counters": {"reads": 7, "name": "no number"},
        "tap_ms": {"count": 3, "p50": 4, "p99": 9},
        "lockdown": True,
    }
    world.run(2 * MINUTE_MS)
    health = decode_json(Health, world.city.of(TopicKind.HEALTH)[-1])
    assert health.parts["reader r1"] == "down: unplugged" and health.parts["lane north"] == "up"
    assert health.parts["lockdown"] == "on" and health.edge_counters == {"reads": 7}
    assert health.gauges["tap_ms_p99"] == 9 and health.gauges["root"] == 1
    assert health.gauges["certificate_left_s"] > 89 * 24 * 3600 - 300
    assert health.configuration is not None
    world.neighbour.says = lambda request: None
    world.run(2 * MINUTE_MS)
    health = decode_json(Health, world.city.of(TopicKind.HEALTH)[-1])
    assert health.parts == {"edge": "silent"}


def test_a_health_always_fits_a_message(world: World) -> None:
    world.run(1_000)
    world.sync.counters |= {f"refused_{n}_{'я' * 80}": n for n in range(2_000)}
    readers = [{"reader": f"{n}{'я' * 90}", "reason": "я" * 900} for n in range(2_000)]
    counters = {f"{n}{'я' * 90}": n for n in range(2_000)}
    world.neighbour.says = lambda request: {
        "ok": True,
        "readers": readers,
        "counters": counters,
    }
    world.run(3 * MINUTE_MS)
    health = world.city.of(TopicKind.HEALTH)[-1]
    assert len(health) <= MESSAGE_BYTES_MAX and decode_json(Health, health).held == {}


@pytest.mark.parametrize("step", [0, 1])
def test_a_disk_that_refuses_while_the_candidate_takes_over_costs_another_try(
    world: World, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.run(1_000)
    before = certificate_of(world)
    real, calls = Path.replace, []

    def refuse(path: Path, target: Path) -> Path:
        if path.name.endswith(".candidate"):
            calls.append(path)
            if len(calls) == step + 1:
                raise OSError(28, "no space")
        return real(path, target)

    monkeypatch.setattr(Path, "replace", refuse)
    world.sync.renewing.renewal.want()
    with pytest.raises(DeviceFault):
        world.run(1_000)
    world.sync.start_over()  # As the process's own loop does.
    world.run(MINUTE_MS)
    assert reached(world)
    assert (certificate_of(world) != before) is (step == 1), "settled forward from there"
    world.restart()
    world.run(30 * MINUTE_MS)
    assert reached(world) and certificate_of(world) != before
