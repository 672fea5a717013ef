"""Goal: a picture is always one whole version the city signed; nothing older comes back, and
nothing that does not fit changes anything.

Method: deltas and snapshots of a small city, held against that city's own rows; every way a delta
can be wrong, one at a time; all small versions and vectors against the one in force.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.messages import (
    Delta,
    Row,
    RowBody,
    RowKey,
    ScopeKey,
    VectorEntry,
    VersionMark,
)
from edge.model import CorruptData, DeviceFault
from edge.offline_cache.apply import (
    RETIRED_MS,
    held_scope_keys,
    in_force,
    picture_path,
    store_scope_keys,
)
from edge.offline_cache.store import FileKind, Writer
from tests.support.pictures import Station, open_station, seen
from tests.support.small_city import (
    CARDHOLDER,
    CREDENTIAL,
    DEVICE,
    MONEY,
    PEOPLE,
    Key,
    Scope,
    account,
    cardholder,
    set_digest_of,
)
from tests.support.times import NOON_MS, at

VECTOR = (VectorEntry(DEVICE, "main", "e1", 5),)


def changed(delta: Delta, **fields: object) -> Delta:
    return msgspec.structs.replace(delta, **fields)


# ------------------------------------------------------------------------------ deltas


def test_a_delta_changes_exactly_what_it_says(station: Station, people: Scope) -> None:
    changes: list[tuple[list[tuple[Key, RowBody]], tuple[Key, ...]]] = [
        ([cardholder("p1", suspended=True), cardholder("p9")], ()),
        ([], ((CARDHOLDER, b"p0"),)),
        ([], ((CARDHOLDER, b"nobody"),)),
        ([cardholder("p0")], ()),
    ]
    for upserts, removes in changes:
        station.pictures.apply_delta(people.put(*upserts, remove=removes), at())
        assert seen(station.folder, PEOPLE) == (people.version, people.rows)
        assert station.pictures.held(PEOPLE) == people.version
        assert station.pictures.set_digest(PEOPLE) == people.set_digest


def test_a_row_removed_and_put_in_one_delta_counts_once(station: Station, people: Scope) -> None:
    twice = people.put(cardholder("p1", suspended=True))
    twice = changed(twice, upserts=(Row(CARDHOLDER, b"p1", b"first"), *twice.upserts))
    station.pictures.apply_delta(twice, at())
    assert seen(station.folder, PEOPLE) == (people.version, people.rows)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda delta: changed(delta, base=VersionMark(1, 2)),
        lambda delta: changed(delta, base=VersionMark(1, 4)),
        lambda delta: changed(delta, base=VersionMark(2, 3)),
        lambda delta: changed(delta, base=VersionMark(0, 3)),
        lambda delta: changed(delta, target=VersionMark(1, 3)),
        lambda delta: changed(delta, target=VersionMark(1, 2)),
        lambda delta: changed(delta, target=VersionMark(2, 4)),
        lambda delta: changed(delta, set_digest=bytes(32)),
        lambda delta: changed(delta, set_digest=b""),
        lambda delta: changed(delta, upserts=()),
        lambda delta: changed(delta, removes=()),
        lambda delta: changed(delta, upserts=(*delta.upserts, Row(CREDENTIAL, b"k", b""))),
        lambda delta: changed(delta, removes=(RowKey(CARDHOLDER, b"p2"),)),
        lambda delta: changed(delta, scope="school-8/people"),
    ],
)
def test_a_delta_that_does_not_fit_changes_nothing(
    station: Station, people: Scope, spoil: object
) -> None:
    before = seen(station.folder, PEOPLE)
    delta = people.put(cardholder("p9"), remove=((CARDHOLDER, b"p0"),))
    assert callable(spoil)
    with pytest.raises(CorruptData):
        station.pictures.apply_delta(spoil(delta), at(60_000))
    assert seen(station.folder, PEOPLE) == before
    pointer = in_force(station.writer.db, PEOPLE)
    assert pointer is not None
    assert (pointer.floor, pointer.received_mono_ms) == (VersionMark(1, 3), at().mono_ms)
    station.pictures.apply_delta(delta, at())  # The right one still fits.
    assert seen(station.folder, PEOPLE) == (people.version, people.rows)


def test_a_delta_is_taken_once(station: Station, people: Scope) -> None:
    delta = people.put(cardholder("p9"))
    station.pictures.apply_delta(delta, at())
    with pytest.raises(CorruptData):
        station.pictures.apply_delta(delta, at())


def test_a_vector_travels_with_the_balances(station: Station) -> None:
    money = Scope(MONEY, vector=VECTOR)
    money.put(account())
    station.install(money)
    assert vector_in_force(station, MONEY) == VECTOR
    money.vector = (VectorEntry(DEVICE, "main", "e1", 9),)
    station.pictures.apply_delta(money.put(account(balance_minor=1)), at())
    assert vector_in_force(station, MONEY) == money.vector


def vector_in_force(station: Station, scope: str) -> tuple[VectorEntry, ...]:
    from edge.offline_cache.apply import picture_meta
    from edge.offline_cache.store import open_reader

    pointer = in_force(station.writer.db, scope)
    assert pointer is not None
    db = open_reader(picture_path(station.folder, scope, pointer.generation), FileKind.PICTURE)
    assert db is not None
    vector = picture_meta(db).vector
    db.close()
    return vector


KEYS = st.tuples(st.sampled_from([CARDHOLDER, CREDENTIAL, 255]), st.sampled_from([b"", b"a", b"b"]))
CHANGES = st.lists(
    st.tuples(st.dictionaries(KEYS, st.binary(max_size=3), max_size=3), st.sets(KEYS, max_size=2)),
    min_size=1,
    max_size=6,
)


@given(changes=CHANGES, data=st.data())
@settings(max_examples=30, deadline=None)
def test_deltas_end_where_a_snapshot_ends(
    tmp_path_factory: pytest.TempPathFactory,
    changes: list[tuple[dict[tuple[int, bytes], bytes], set[tuple[int, bytes]]]],
    data: st.DataObject,
) -> None:
    station = open_station(tmp_path_factory.mktemp("station"))
    by_delta, by_both = Scope(PEOPLE), Scope("school-7/copy")
    start = data.draw(st.integers(0, len(changes)))
    deltas = []
    station.install(by_delta)
    snapshot = by_both.snapshot(rows_per_chunk=2)
    for number, (upserts, removes) in enumerate(changes, start=1):
        station.pictures.apply_delta(by_delta.put_raw(upserts, remove=tuple(removes)), at())
        deltas.append(by_both.put_raw(upserts, remove=tuple(removes)))
        if number == start:
            snapshot = by_both.snapshot(rows_per_chunk=2)
    # The snapshot begins after `start` changes and takes the later ones while it is built.
    station.install_packed(*snapshot, later=tuple(deltas))
    final = (by_delta.version, by_delta.rows)
    assert seen(station.folder, PEOPLE) == final
    assert seen(station.folder, "school-7/copy") == final
    assert station.pictures.set_digest(PEOPLE) == set_digest_of(by_delta.rows)
    station.close()


# ---------------------------------------------------------------------------- in force


@dataclass(frozen=True, slots=True)
class Candidate:
    list_epoch: int
    number: int
    sequence: int | None

    @property
    def may_enter(self) -> bool:
        """Beside (1, 2) with five facts included."""
        if self.list_epoch > 1:
            return True
        return self.list_epoch == 1 and self.number >= 2 and (self.sequence or 0) >= 5


CANDIDATES = [Candidate(*fields) for fields in product((0, 1, 2), (1, 2, 3), (None, 4, 5, 6))]


@pytest.mark.parametrize("candidate", CANDIDATES, ids=str)
def test_nothing_older_goes_in_force(station: Station, candidate: Candidate) -> None:
    held = Scope(MONEY, list_epoch=1, number=1, vector=VECTOR)
    held.put(account())
    first = station.install(held)
    new = Scope(MONEY, list_epoch=candidate.list_epoch, number=candidate.number - 1)
    other_till = VectorEntry("till-2", "main", "e7", 1)
    new.vector = (other_till,)
    if candidate.sequence is not None:
        new.vector += (VectorEntry(DEVICE, "main", "e1", candidate.sequence),)
    new.put(account(balance_minor=7))
    if candidate.may_enter:
        second = station.install(new)
        assert second > first
        assert seen(station.folder, MONEY) == (new.version, new.rows)
        return
    builder, chunks = station.builder(new)
    builder.add_chunk(0, chunks[0])
    builder.finish()
    with pytest.raises(CorruptData):
        station.pictures.put_in_force(builder.path, MONEY, builder.generation, NOON_MS, at())
    builder.discard()
    assert seen(station.folder, MONEY) == (held.version, held.rows)
    assert station.pictures.held(MONEY) == held.version


def test_what_was_never_finished_does_not_go_in_force(station: Station, people: Scope) -> None:
    builder, chunks = station.builder(people)
    builder.add_chunk(0, chunks[0])
    builder._writer.close()
    with pytest.raises(CorruptData, match="without its record"):
        station.pictures.put_in_force(builder.path, PEOPLE, builder.generation, NOON_MS, at())
    builder.discard()
    assert seen(station.folder, PEOPLE) == (people.version, people.rows)


def test_a_disk_that_refuses_the_pointer_leaves_the_old_one(
    station: Station, people: Scope
) -> None:
    before = seen(station.folder, PEOPLE)
    people.put(cardholder("p9"))
    builder, chunks = station.builder(people)
    for index, chunk in enumerate(chunks):
        builder.add_chunk(index, chunk)
    builder.finish()
    station.writer.db.execute(
        "CREATE TEMP TRIGGER refuse BEFORE INSERT ON pictures BEGIN SELECT RAISE(ABORT, ''); END"
    )
    arguments = (builder.path, PEOPLE, builder.generation, NOON_MS, at())
    with pytest.raises((DeviceFault, CorruptData)):
        station.pictures.put_in_force(*arguments)
    assert seen(station.folder, PEOPLE) == before
    assert station.writer.db.execute("SELECT count(*) FROM retired").fetchone()[0] == 0
    station.writer.db.execute("DROP TRIGGER refuse")
    station.pictures.put_in_force(*arguments)  # Nothing kept its lock.
    assert seen(station.folder, PEOPLE) == (people.version, people.rows)


@pytest.mark.parametrize("damage", ["gone", "no database", "one page"])
def test_a_damaged_picture_is_replaced_but_its_floor_counts(
    station: Station, people: Scope, damage: str
) -> None:
    path = picture_path(station.folder, PEOPLE, 1)
    station.close()
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "no database":
        path.write_bytes(b"x" * len(content))
    else:
        path.write_bytes(content[:4_096] + bytes(len(content) - 4_096))
    again = open_station(station.folder)
    with pytest.raises(CorruptData):
        again.pictures.held(PEOPLE)
    with pytest.raises(CorruptData):
        again.pictures.apply_delta(people.put(cardholder("p9")), at())
    older = Scope(PEOPLE, number=1)
    older.put(cardholder("old"))
    with pytest.raises(CorruptData):
        again.install(older)
    again.install(people)
    assert seen(station.folder, PEOPLE) == (people.version, people.rows)
    again.close()


def test_an_older_generation_never_comes_back(station: Station, people: Scope) -> None:
    people.put(cardholder("p9"))
    station.install(people)
    with pytest.raises(AssertionError):
        station.pictures.put_in_force(
            picture_path(station.folder, PEOPLE, 1), PEOPLE, 1, NOON_MS, at()
        )


def test_a_generation_number_is_never_used_twice(tmp_path: Path) -> None:
    station = open_station(tmp_path)
    people = Scope(PEOPLE)
    used = [station.install(people)]
    for turn in range(8):
        people.put(cardholder(f"p{turn}"))
        if turn % 4 == 1:  # One that failed, and left nothing.
            builder, _ = station.builder(people)
            used.append(builder.generation)
            builder.discard()
        elif turn % 4 == 2:  # A process killed while building.
            builder, _ = station.builder(people)
            used.append(builder.generation)
            builder._writer.close()
            station.close()
            station = open_station(tmp_path)
        elif turn % 4 == 3:
            station.pictures.sweep(at(turn * RETIRED_MS))
        else:
            used.append(station.install(people))
    assert used == sorted(set(used))
    station.close()
    # Files of a store that was lost count too, whatever is left of them.
    (tmp_path / "picture-school-7-people-41.db-wal").touch()
    (tmp_path / "picture-school-7-people-x.db").touch()
    station = open_station(tmp_path)
    assert station.pictures.next_generation(PEOPLE) == 42
    assert station.pictures.next_generation(MONEY) == 1
    station.close()


# ------------------------------------------------------------------------------- sweep


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("picture-*.db")}


def test_a_generation_lives_on_for_ten_minutes(station: Station, people: Scope) -> None:
    people.put(cardholder("p9"))
    station.install(people, moment=at())
    old, new = (picture_path(station.folder, PEOPLE, number).name for number in (1, 2))
    for after_ms in (0, 1, RETIRED_MS - 1):
        assert station.pictures.sweep(at(after_ms)) == []
        assert names(station.folder) == {old, new}
    assert station.pictures.sweep(at(RETIRED_MS)) == [old]
    assert names(station.folder) == {new}
    assert not list(station.folder.glob(old + "*"))
    assert station.pictures.sweep(at(100 * RETIRED_MS)) == []
    assert seen(station.folder, PEOPLE) == (people.version, people.rows)


def test_after_a_reboot_nobody_reads_a_retired_one(station: Station, people: Scope) -> None:
    people.put(cardholder("p9"))
    station.install(people, moment=at())
    assert station.pictures.sweep(at(1, boot="another")) == ["picture-school-7-people-1.db"]


def test_what_was_half_built_is_swept_and_what_is_being_built_is_not(
    station: Station, people: Scope
) -> None:
    dead, _ = station.builder(people)
    dead._writer.close()  # Its process was killed.
    alive, chunks = station.builder(people)
    assert station.pictures.sweep(at()) == [dead.path.name]
    assert names(station.folder) == {"picture-school-7-people-1.db", alive.path.name}
    for index, chunk in enumerate(chunks):
        alive.add_chunk(index, chunk)
    alive.finish()
    station.pictures.put_in_force(alive.path, PEOPLE, alive.generation, NOON_MS, at())
    assert seen(station.folder, PEOPLE) == (people.version, people.rows)


# ------------------------------------------------------------------- floor and freshness


def test_a_head_makes_the_list_fresh_and_nothing_else(station: Station, people: Scope) -> None:
    station.pictures.freshen(people.head(issued_utc_ms=NOON_MS + 7), at(9))
    pointer = in_force(station.writer.db, PEOPLE)
    assert pointer is not None
    assert (pointer.floor, pointer.issued_utc_ms) == (people.version, NOON_MS + 7)
    assert (pointer.received_boot, pointer.received_mono_ms) == (at().boot, at(9).mono_ms)


def test_a_floor_never_sinks_and_what_is_below_it_only_catches_up(
    station: Station, people: Scope
) -> None:
    """As after a picture that was restored from an older copy."""
    station.writer.db.execute("UPDATE pictures SET number = 5")
    assert station.pictures.held(PEOPLE) == VersionMark(1, 5)
    for number, floor in ((4, 5), (5, 5), (6, 6)):
        station.pictures.apply_delta(people.put(cardholder(f"q{number}")), at(number))
        assert people.version == VersionMark(1, number)
        pointer = in_force(station.writer.db, PEOPLE)
        assert pointer is not None
        assert pointer.floor == VersionMark(1, floor)
        assert pointer.received_mono_ms == at(number if number >= 5 else 0).mono_ms
    station.pictures.freshen(Scope(PEOPLE, number=2).head(), at(99))
    pointer = in_force(station.writer.db, PEOPLE)
    assert pointer is not None
    assert (pointer.floor, pointer.received_mono_ms) == (VersionMark(1, 6), at(6).mono_ms)


def test_scope_keys_are_kept_as_they_came(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "sync.db", FileKind.SYNC)
    keys = [
        ScopeKey(scope=PEOPLE, purpose=purpose, version=version, sealed=bytes([version]) * 9)
        for purpose in ("identifier", "seal")
        for version in (1, 2)
    ]
    store_scope_keys(writer, keys)
    store_scope_keys(writer, keys[:1])
    assert sorted(held_scope_keys(writer.db), key=repr) == sorted(keys, key=repr)
    writer.close()
