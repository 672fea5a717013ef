"""Goal: what a stick has wrong is refused by the same checks as by wire, told, and changes nothing.

Method: as `test_inbox.py`. Sticks are spoilt one rule at a time, signed or not; the same messages
sent by wire must be refused for the same reason. Then the folder's own form: indexes, names, files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from edge.messages import VersionMark
from edge.offline_cache.apply import held_scope_keys
from sync.inbox_form import Answer, ListAnswer
from tests.support.pictures import seen
from tests.support.small_city import PEOPLE, SETTINGS, Scope, cardholder
from tests.support.times import NOON_MS
from tests.sync.sticks import (
    NAME,
    ListOfStick,
    StickMaker,
    framed,
    inbox,
    offline,
    people,
    refusals,
    settings,
    taken,
    version,
)
from tests.sync.sync_world import DEVICE, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with offline(tmp_path) as made:
        yield made


# ------------------------------------------------------------------------ what is refused


@dataclass(frozen=True)
class Spoilt:
    """What a stick has wrong, and what is said of it. `by_wire`: those very messages are refused
    alike when they come over a broker."""

    reason: str
    spoil: Callable[[ListOfStick], ListOfStick | list[bytes]]
    by_wire: bool = True


def _with(**changes: object) -> Callable[[ListOfStick], ListOfStick]:
    def spoil(one: ListOfStick) -> ListOfStick:
        for name, value in changes.items():
            part, _, field_name = name.partition("__")
            setattr(one, part, replace(getattr(one, part), **{field_name: value}))
        return one

    return spoil


def _key(**changes: str) -> Callable[[ListOfStick], ListOfStick]:
    def spoil(one: ListOfStick) -> ListOfStick:
        for name, value in changes.items():
            setattr(one, name, value)
        return one

    return spoil


def _cut(one: ListOfStick) -> list[bytes]:
    return one.messages()[:-1]


def _damaged_chunk(one: ListOfStick) -> ListOfStick:
    one.chunks[1] = one.chunks[0]
    return one


def _other_rows(one: ListOfStick) -> ListOfStick:
    """Signed, but the rows do not add up to the digest."""
    one.manifest = replace(one.manifest, set_digest=bytes(32))
    one.head = replace(one.head, set_digest="A" * 43)
    return one


def _other_snapshot(one: ListOfStick) -> list[bytes]:
    """A good head, and the manifest and chunks of another good list of that version."""
    other = ListOfStick.of(people("x1", "x2", number=7))
    return [one.messages()[0], *other.messages()[1:]]


def _of_settings(one: ListOfStick) -> list[bytes]:
    """The head of people, and everything else of settings."""
    return [one.messages()[0], *ListOfStick.of(settings()).messages()[1:]]


SPOILT = {
    "ended": Spoilt("frozen", _with(head__valid_until_utc_ms=NOON_MS)),
    "older": Spoilt("rollback", lambda _one: ListOfStick.of(people("p1", number=4))),
    "no such list epoch": Spoilt(
        "list_epoch",
        _with(head__version=VersionMark(2, 7), head__snapshot_version=VersionMark(2, 7)),
    ),
    "impossible time": Spoilt("issued", _with(head__issued_utc_ms=10**15)),
    "head below its snapshot": Spoilt("mixed", _with(head__snapshot_version=VersionMark(1, 9))),
    "head by another key": Spoilt("invalid", _key(head_key="list")),
    "head by nobody": Spoilt("invalid", _key(head_key="stranger")),
    "manifest by another key": Spoilt("invalid", _key(list_key="freshness")),
    "another root": Spoilt("mixed", _with(head__root="A" * 43)),
    "another snapshot": Spoilt("mixed", _other_snapshot),
    "a damaged chunk": Spoilt("chunk_hash", _damaged_chunk),
    "rows that are not those signed": Spoilt("mismatch", _other_rows),
    "a chunk too few": Spoilt("incomplete", _cut, by_wire=False),
    "manifest before head": Spoilt("invalid", lambda one: one.messages()[1:], by_wire=False),
    "pieces of another list": Spoilt("mixed", _of_settings, by_wire=False),
    "head of another list": Spoilt(
        "mixed", lambda _one: ListOfStick.of(settings()).messages(), by_wire=False
    ),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_spoilt_list_is_refused_told_and_changes_nothing(world: World, what: str) -> None:
    StickMaker().list(ListOfStick.of(people("p0", number=6))).put_in(world)
    assert taken(world).lists[0].in_force
    before = len(refusals(world))
    messages = SPOILT[what].spoil(ListOfStick.of(people("p1", "p2", number=7)))
    StickMaker().list(messages, PEOPLE).put_in(world)
    assert taken(world).lists == (
        ListAnswer(
            scope=PEOPLE,
            in_force=False,
            version=VersionMark(1, 6),
            reason=SPOILT[what].reason,
        ),
    )
    assert version(world) == VersionMark(1, 6) and version(world, SETTINGS) is None
    told = [reason for _, _, reason in refusals(world)[before:]]
    assert told == ([] if what == "a chunk too few" else [SPOILT[what].reason])


def test_the_first_refusal_ends_the_list(world: World) -> None:
    """A damaged stick is one refusal, however much of it is damaged."""
    one = ListOfStick.of(people("p1", "p2", "p3", "p4"))
    one.chunks = [b"damaged"] * len(one.chunks)
    StickMaker().list(one).put_in(world)
    assert taken(world).lists[0].reason == "chunk_hash"
    assert world.sync.counters["refused_chunk_chunk_hash"] == 1


@pytest.mark.parametrize("what", [name for name, one in SPOILT.items() if one.by_wire])
def test_by_wire_the_same_messages_are_refused_for_the_same_reason(
    tmp_path: Path, what: str
) -> None:
    world = World(tmp_path)
    try:
        world.run(2_000)
        assert world.bridge.connected
        for one in (
            ListOfStick.of(people("p0", number=6)),
            SPOILT[what].spoil(ListOfStick.of(people("p1", "p2", number=7))),
        ):
            topic = f"mk/v1/s/{PEOPLE}/head"
            for message in one.messages() if isinstance(one, ListOfStick) else one:
                world.bridge.deliver(topic, message)
                world.run()
                if refusals(world):
                    break  # A city sends what is asked for, and nothing is any more.
                topic = f"mk/v1/d/{DEVICE}/push"
        assert version(world) == VersionMark(1, 6)
        assert SPOILT[what].reason in {reason for _, _, reason in refusals(world)}
    finally:
        world.stop()


def test_a_list_of_another_site_is_refused_as_by_wire(world: World) -> None:
    scope = Scope("school-8/people")
    scope.put(cardholder("p1"))
    StickMaker().list(ListOfStick.of(scope)).put_in(world)
    answer = taken(world)
    assert [(one.in_force, one.reason) for one in answer.lists] == [(False, "wrong_scope")]
    assert refusals(world) == [("head", "school-8/people", "wrong_scope")]
    assert seen(world.settings.folders.state, "school-8/people") is None


def test_one_bad_list_takes_no_other_with_it(world: World) -> None:
    bad = ListOfStick.of(people("p1"))
    bad.head_key = "stranger"
    StickMaker().list(bad).list(ListOfStick.of(settings())).put_in(world)
    assert [one.in_force for one in taken(world).lists] == [False, True]


def test_keys_for_another_device_or_by_nobody_are_not_taken(world: World) -> None:
    StickMaker().keys(world, PEOPLE, device="till-2").put_in(world)
    assert taken(world).keys == "", "none for this device"
    wrong = StickMaker().keys(world, PEOPLE, device="till-2")
    more, content = wrong.files.pop("keys-till-2")
    wrong.put("keys-till-1", content, **{**more, "device": DEVICE}).put_in(world)
    assert taken(world).keys == "invalid"
    assert refusals(world) == [("push", "", "invalid")] and not held_scope_keys(world.writer.db)


def test_keys_alone_may_be_in_a_file_of_keys(world: World) -> None:
    messages = ListOfStick.of(people("p1")).messages()
    StickMaker().put("keys-till-1", framed(messages[1:]), what="keys", device=DEVICE).put_in(world)
    assert taken(world).keys == "shape"
    assert version(world) is None and ("stick", "keys", "shape") in refusals(world)


# --------------------------------------------------------------------------- its own form


def _longer(folder: Path) -> None:
    with (folder / "list-school-7-people").open("ab") as file:
        file.write(b"x")


def _link(folder: Path) -> None:
    target = folder / "list-school-7-people"
    target.rename(folder / "elsewhere")
    target.symlink_to(folder / "elsewhere")


def _pipe(folder: Path) -> None:
    (folder / "list-school-7-people").unlink()
    os.mkfifo(folder / "list-school-7-people")


def _folder(folder: Path) -> None:
    (folder / "list-school-7-people").unlink()
    (folder / "list-school-7-people").mkdir()


def _gone(folder: Path) -> None:
    (folder / "list-school-7-people").unlink()


def _frames(data: bytes) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "list-school-7-people"
        size = path.stat().st_size
        path.write_bytes((data + path.read_bytes())[:size])

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        _longer,
        _link,
        _pipe,
        _folder,
        _gone,
        _frames(b"\xff\xff\xff\xff"),
        _frames(b"\x00" * 4),
        _frames(b"\x00\x01"),
    ],
    ids=["longer", "link", "pipe", "folder", "gone", "huge frame", "empty frame", "shifted"],
)
def test_a_file_of_another_shape_is_refused(world: World, spoil: Callable[[Path], None]) -> None:
    stick = StickMaker().list(ListOfStick.of(people("p1"))).write(world.folder / "elsewhere")
    spoil(stick)
    inbox(world).mkdir()
    stick.rename(inbox(world) / NAME)
    (one,) = taken(world).lists
    assert (one.in_force, one.reason) == (False, "shape") and version(world) is None
    assert refusals(world) == [("stick", PEOPLE, "shape")]


@pytest.mark.parametrize(
    "index",
    [
        b"",
        b"{",
        b"[" * 40_000,
        b'{"files":[{"name":"../x","what":"list","size_bytes":1}],"made_utc_ms":1}',
        b'{"files":[{"name":"a/../../x","what":"list","size_bytes":1}],"made_utc_ms":1}',
        b'{"files":[{"name":"moskvenok-stick.json","what":"list","size_bytes":1}],"made_utc_ms":1}',
        b'{"files":[{"name":"x","what":"list","size_bytes":0}],"made_utc_ms":1}',
        b'{"files":[{"name":"x","what":"list","size_bytes":1000000000}],"made_utc_ms":1}',
        b'{"files":[{"name":"x","what":"money","size_bytes":1}],"made_utc_ms":1}',
        b" " * 70_000,
    ],
)
def test_an_index_that_makes_no_sense_ends_the_stick(world: World, index: bytes) -> None:
    stick = StickMaker().list(ListOfStick.of(people("p1"))).put_in(world)
    (stick / "moskvenok-stick.json").write_bytes(index)
    assert taken(world) == Answer(problem="shape")
    assert refusals(world) == [("stick", "", "shape")]


def test_a_scope_that_cannot_be_is_refused_in_words_that_fit_a_fact(world: World) -> None:
    stick = StickMaker()
    stick.put("x", framed([b"{}"]), what="list", scope="a/b/c" * 50).put_in(world)
    assert [one.reason for one in taken(world).lists] == ["shape"]
    assert len(refusals(world)) == 1
