"""Goal: what of a station went and came back is in `diag`, bounded and at a bounded rate; sync's
own streams are closed, restated, aged and begun anew as the journal is.

Method: a device on real files with the reference city; time in hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.messages import PartState, Stream, StreamOpened, UpdateRefused, decode_fact
from edge.offline_cache import epochs, marks, outbox, retention
from edge.offline_cache.retention import DAY_S, KEPT_DAYS
from hil.city.intake import CityCore
from sync.upkeep import PART_MS
from tests.city.sham import make_core
from tests.support import facts as made_up
from tests.support.whole_device import Device, alarms


@pytest.fixture
def core(tmp_path: Path) -> CityCore:
    return make_core(tmp_path)


@pytest.fixture
def till(core: CityCore, tmp_path: Path) -> Iterator[Device]:
    device = Device(core, tmp_path / "till")
    yield device
    device.stop()


def diag(device: Device) -> list[tuple[str, str, str]]:
    rows = device.store.db.execute(
        "SELECT body FROM facts WHERE kind = 'part_state' ORDER BY life, sequence"
    )
    states = [decode_fact(body) for (body,) in rows]
    return [(s.part, s.state, s.why) for s in states if isinstance(s, PartState)]


def tick(device: Device, *, up: bool, why: str = "", after_ms: int = PART_MS) -> None:
    device.now_ms += after_ms
    device.uplink.look(device.now_ms)
    device.upkeep.tick(device.moment(), up=up, why=why)


def test_the_link_is_told_when_it_changes_and_not_more_often_than_that(till: Device) -> None:
    tick(till, up=False, why="no network")
    tick(till, up=False, why="another reason")
    tick(till, up=True)
    tick(till, up=False, why="x" * 300, after_ms=1_000)  # It flutters: later.
    tick(till, up=True, after_ms=1_000)
    assert diag(till) == [("link", "down", "no network"), ("link", "up", "")]
    tick(till, up=False, why="x" * 300)
    assert diag(till)[-1] == ("link", "down", "x" * 80)


def test_what_edge_reports_of_its_parts_goes_on_to_the_city(core: CityCore, till: Device) -> None:
    def look(**parts: tuple[str, str]) -> None:
        till.now_ms += 10_000
        till.keeper.look(till.moment(), {name.replace("_", " "): x for name, x in parts.items()})
        tick(till, up=True)

    look(reader_r1=("up", ""), lane_north=("up", ""))
    look(reader_r1=("down", "unplugged"), lane_north=("up", ""))
    look(reader_r1=("down", "unplugged"), lane_north=("up", ""))
    look(reader_r1=("up", ""))
    told = [state for state in diag(till) if state[0].startswith("reader")]
    assert told == [
        ("reader r1", "up", ""),
        ("reader r1", "down", "unplugged"),
        ("reader r1", "up", ""),
    ]
    assert ("disk", "roomy", "") in diag(till)
    till.run()
    kinds = core.store.rows("SELECT kind, count(*) FROM fact WHERE stream = 'diag' GROUP BY 1")
    assert dict(kinds)["part_state"] == len(diag(till))


def test_a_part_told_before_a_restart_is_not_told_again(till: Device) -> None:
    tick(till, up=True)
    before = diag(till)
    till.stop_sync()
    till.start_sync()
    tick(till, up=True)
    assert diag(till) == before


def test_diag_is_a_ring_and_the_city_can_follow(core: CityCore, till: Device) -> None:
    till.run()
    with till.diag.recording() as recording:
        for number in range(retention.DIAG_FACTS_MAX + 700):
            recording.add(
                PartState(
                    **recording.stamp(till.moment()), part="link", state="down", why=str(number)
                )
            )
    till.disconnect()
    till.now_ms += 3_600_000
    till.live(10)
    held = till.store.db.execute(
        "SELECT count(*) FROM facts WHERE life = ?", (till.diag.life,)
    ).fetchone()[0]
    assert retention.DIAG_FACTS_MAX <= held <= retention.DIAG_FACTS_MAX + 1
    [life] = outbox.lives(till.store.db, Stream.DIAG)
    assert outbox.chain_problem(till.store.db, life) == ""
    till.run()
    assert till.uplink.depth()["diag"] == 0


def test_sync_streams_of_an_old_copy_are_closed_and_restated(
    core: CityCore, tmp_path: Path, till: Device
) -> None:
    def refuse(device: Device, reason: str) -> None:
        with device.agent.recording() as recording:
            recording.add(
                UpdateRefused(
                    **recording.stamp(device.moment()), what="head", scope="", reason=reason
                )
            )

    refuse(till, "one")
    till.run()
    image = till.copy_to(tmp_path / "image")
    refuse(till, "two")
    refuse(till, "three")
    till.run()
    copy = Device(core, image, sham=till.sham, now_ms=till.now_ms)
    refuse(copy, "four")
    copy.run()
    old, new = outbox.lives(copy.store.db, Stream.AGENT)
    assert old.closed_at is not None and not old.restating
    bodies = [
        body
        for (body,) in core.store.rows(
            "SELECT bytes FROM fact WHERE stream = 'agent' AND epoch = ? ORDER BY sequence",
            (new.epoch,),
        )
    ]
    opened = decode_fact(bodies[0])
    assert isinstance(opened, StreamOpened) and opened.why == "city_ahead"
    assert sum(b'"kind":"restates"' in body for body in bodies) == 1
    copy.stop()


def test_a_store_from_another_machine_begins_its_streams_anew(
    core: CityCore, tmp_path: Path, till: Device
) -> None:
    till.run()
    copy = Device(core, till.copy_to(tmp_path / "image"), sham=till.sham, machine="board-2/card-1")
    for stream in (Stream.AGENT, Stream.DIAG):
        old, new = outbox.lives(copy.store.db, stream)
        assert old.epoch != new.epoch
    assert epochs.meta(copy.store.db, "reopen") == ""
    copy.stop_sync()
    copy.start_sync()
    assert len(outbox.lives(copy.store.db, Stream.AGENT)) == 2
    copy.stop()


def test_agent_facts_go_when_they_are_acknowledged_and_old(till: Device) -> None:
    def agent_facts() -> int:
        rows = till.store.db.execute(
            "SELECT count(*) FROM facts JOIN lives USING (life) WHERE stream = 'agent'"
        )
        return int(rows.fetchone()[0])

    with till.agent.recording() as recording:
        for _ in range(5):
            recording.add(made_up.update_refused(recording.stamp(till.moment())))
    days = KEPT_DAYS + 3
    for acknowledged in (False, True):
        if acknowledged:
            till.run()
            till.disconnect()
        for _ in range(days // 2):
            till.now_ms += 2 * DAY_S * 1_000
            till.live(2)
        assert (agent_facts() < 6) == acknowledged


def test_nobody_is_told_of_an_old_copy_in_peace(core: CityCore, till: Device) -> None:
    for _ in range(3):
        till.sell(1)
        till.run()
        till.stop()
        till.start()
    assert marks.store_view(till.store.db, Stream.MAIN).seen.keys() == {till.journal.epoch}
    assert not any(x.city_ahead for x in marks.store_view(till.store.db, Stream.MAIN).seen.values())
    assert alarms(core) == set() and till.keeper.alarms(till.moment()) == []
    assert till.upkeep.alarms() == []
    assert len(till.lives()) == 1
