"""Goal: how full the disk is counts what the journal can still reach, whoever filled it; the
reserve is there when it is needed, and comes back when there is room for it.

Method: the arithmetic at its edges, and a folder whose free space is a number in the test's hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.model import DeviceFault
from edge.offline_cache import room
from edge.offline_cache.room import MIB, Level, Room, use_of
from edge.offline_cache.store import JOURNAL_SIZE_MAX, FileKind, Writer

WAL = JOURNAL_SIZE_MAX


def use(
    used: int, *, spare: int = 0, wal: int = WAL, free: int = 0, quota: int = 1_000
) -> room.Use:
    return use_of(
        used_bytes=used, spare_bytes=spare, wal_bytes=wal, disk_free_bytes=free, quota_bytes=quota
    )


@pytest.mark.parametrize(
    ("percent", "level"),
    [
        (0, Level.ROOMY),
        (89, Level.ROOMY),
        (90, Level.TIGHT),
        (94, Level.TIGHT),
        (95, Level.FULL),
        (100, Level.FULL),
        (140, Level.FULL),  # A quota that was larger in the release before.
    ],
)
def test_levels(percent: int, level: Level) -> None:
    found = use(percent, free=10_000, quota=100)
    assert (found.percent, found.level) == (percent, level)


def test_what_the_disk_has_bounds_the_quota() -> None:
    assert use(500, free=10_000).level is Level.ROOMY
    assert use(500, free=0).level is Level.FULL  # Others have filled it.
    assert use(500, spare=500, free=0).level is Level.ROOMY  # What was deleted is written again.
    assert use(500, free=500, wal=WAL - 400).percent == 83  # A WAL has to grow yet.
    assert use(500, free=500, wal=0).level is Level.FULL
    assert use(0, free=0).level is Level.ROOMY  # Nothing there yet; nothing is divided by.


@given(
    used=st.integers(0, 10**10),
    spare=st.integers(0, 10**10),
    wal=st.integers(0, 10**8),
    free=st.integers(0, 10**12),
    more=st.integers(0, 10**10),
)
def test_more_room_is_never_fuller(used: int, spare: int, wal: int, free: int, more: int) -> None:
    for better in (
        use(used, spare=spare + more, wal=wal, free=free, quota=10**9),
        use(used, spare=spare, wal=wal + more, free=free, quota=10**9),
        use(used, spare=spare, wal=wal, free=free + more, quota=10**9),
    ):
        assert better.percent <= use(used, spare=spare, wal=wal, free=free, quota=10**9).percent


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    made = Writer(tmp_path / "journal.db", FileKind.JOURNAL)
    yield made
    made.close()


def test_what_is_deleted_makes_room_in_the_file(writer: Writer, tmp_path: Path) -> None:
    made = Room(tmp_path, quota_bytes=MIB, reserve_bytes=4_096)
    before = made.look(writer)
    with writer.transaction() as db:
        rows = ((n, bytes(1_000)) for n in range(1_000))
        db.executemany("INSERT INTO facts VALUES (1, ?, 'k', ?)", rows)
    assert made.look(writer).level is Level.FULL
    writer.db.execute("DELETE FROM facts")
    after = made.look(writer)
    assert after.level is Level.ROOMY and after.used_bytes <= before.used_bytes + 8_192


def test_the_reserve_is_let_go_in_two_parts_and_kept_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Room(tmp_path, reserve_bytes=2 * MIB)
    free = [100 * MIB]
    monkeypatch.setattr(Room, "_disk_free_bytes", lambda _self: free[0])
    assert not made.reserve_held
    assert made.keep_reserve()
    sizes = {path.name: path.stat().st_blocks * 512 for path in tmp_path.glob("reserve*")}
    assert sizes == {"reserve": 2 * MIB, "reserve-start": MIB}, "blocks, not a sparse promise"
    assert made.let_reserve_go()
    assert not made.let_reserve_go()
    assert [path.name for path in tmp_path.glob("reserve*")] == ["reserve-start"]
    free[0] = 4 * MIB - 1
    assert not made.keep_reserve()
    free[0] = 4 * MIB
    assert made.keep_reserve()
    assert made.let_reserve_go(at_start=True)
    assert [path.name for path in tmp_path.glob("reserve*")] == ["reserve"]


def test_a_disk_that_cannot_be_asked_is_a_fault(writer: Writer, tmp_path: Path) -> None:
    with pytest.raises(DeviceFault, match="check the disk"):
        Room(tmp_path / "gone").look(writer)
    assert not Room(tmp_path / "gone").keep_reserve()
