"""Goal: photos come ahead of need, whole and unchanged, only where they may be held, and go with
their person; nothing the broker sends puts another file on the disk.

Method: the fetcher with time in the test's hand and pieces in any order; real files in a temporary
folder; and the whole way from the reference city's books to the station's own files through real
lists, with one letter of the way changed.
"""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import msgspec
import pytest

from edge.messages import (
    CHUNK_BYTES_MAX,
    PHOTO_BYTES_MAX,
    PHOTOS_AT_ONCE,
    PushPhoto,
    SiteRow,
    b64u,
    decode_push,
    encode_pack,
)
from edge.model import CorruptData, PassbackMode, Station
from edge.offline_cache.photos import PhotoFiles, may_hold
from edge.trust import unseal_bytes
from hil.bench.card_station import card_school
from hil.world.faces import face_png
from sync.photo_fetch import AGAIN_MS, ANSWER_MS_MAX, GAP_MS, PhotoFetch
from sync.photos import LOOK_MS, Photos
from tests.support.pictures import Station as Files
from tests.support.pictures import open_station
from tests.support.small_city import PEOPLE, SETTINGS, SITE, Key, Scope, cardholder
from tests.support.times import at

SCOPE = PEOPLE


def name_of(data: bytes) -> str:
    return b64u(hashlib.sha256(data).digest())


def pieces(data: bytes, *, size: int = CHUNK_BYTES_MAX) -> list[PushPhoto]:
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    return [
        PushPhoto(scope=SCOPE, hash=name_of(data), part=at, parts=len(parts), data=part)
        for at, part in enumerate(parts)
    ]


def fetch(*names: str) -> PhotoFetch:
    made = PhotoFetch(device="d", scope=SCOPE)
    made.want(names, ())
    return made


# --------------------------------------------------------------------------- the fetcher


def test_a_few_at_a_time_and_one_pull_at_a_time() -> None:
    names = [f"{number:043}" for number in range(PHOTOS_AT_ONCE + 2)]
    one = fetch(*names)
    pull = one.pull(now_ms=0)
    assert pull is not None and pull.photos == tuple(names[:PHOTOS_AT_ONCE]) and pull.scope == SCOPE
    assert one.pull(now_ms=GAP_MS) is None, "the first is not answered yet"
    for name in pull.photos:
        one.done(name)
    rest = one.pull(now_ms=GAP_MS)
    assert rest is not None and rest.photos == tuple(names[PHOTOS_AT_ONCE:])


@pytest.mark.parametrize("order", tuple(itertools.permutations(range(3))))
def test_pieces_come_in_any_order(order: tuple[int, ...]) -> None:
    data = bytes(range(250)) * 4
    came = pieces(data, size=400)
    one = fetch(name_of(data))
    assert one.pull(now_ms=0) is not None
    wholes = [one.take(came[at], now_ms=0) for at in order]
    assert wholes == [None, None, data]


def test_what_was_not_asked_for_is_none_of_ours() -> None:
    (push,) = pieces(b"x")
    one = fetch()
    assert one.take(push, now_ms=0) is None
    asked = fetch(push.hash)
    asked.pull(now_ms=0)
    other = PushPhoto(scope="s9/people", hash=push.hash, part=0, parts=1, data=b"x")
    assert asked.take(other, now_ms=0) is None
    assert asked.take(push, now_ms=0) == b"x"


@pytest.mark.parametrize(
    "fields", [{"part": 1}, {"part": -1}, {"parts": 5}, {"parts": -1}, {"data": b"x" * 57_345}]
)
def test_a_piece_that_cannot_be_ends_the_asking_for_a_while(fields: dict[str, int]) -> None:
    whole = PushPhoto(scope=SCOPE, hash="h", part=0, parts=1, data=b"x")
    push = msgspec.structs.replace(whole, **fields)
    one = fetch("h")
    one.pull(now_ms=0)
    assert one.take(push, now_ms=0) is None
    assert one.pull(now_ms=AGAIN_MS - 1) is None
    assert one.pull(now_ms=AGAIN_MS) is not None


def test_what_the_city_has_not_or_does_not_answer_waits_an_hour() -> None:
    one = fetch("h")
    one.pull(now_ms=0)
    one.take(PushPhoto(scope=SCOPE, hash="h", part=0, parts=0, data=b""), now_ms=0)
    assert one.pull(now_ms=GAP_MS) is None and one.pull(now_ms=AGAIN_MS) is not None
    silent = fetch("h")
    silent.pull(now_ms=0)
    assert silent.pull(now_ms=ANSWER_MS_MAX) is None
    assert silent.pull(now_ms=ANSWER_MS_MAX + AGAIN_MS) is not None


def test_a_new_connection_asks_at_once() -> None:
    one = fetch("h")
    one.pull(now_ms=0)
    one.disconnected()
    assert one.pull(now_ms=1) is not None


# ------------------------------------------------------------------------------- files


def test_a_file_is_what_its_name_says_or_nothing(tmp_path: Path) -> None:
    files = PhotoFiles(tmp_path)
    assert files.get(name_of(b"x")) is None and files.held() == frozenset()
    assert files.put(name_of(b"x"), b"x")
    assert files.get(name_of(b"x")) == b"x" and files.held() == {name_of(b"x")}
    with pytest.raises(CorruptData):
        files.put(name_of(b"x"), b"y")
    with pytest.raises(CorruptData):
        files.put(name_of(bytes(PHOTO_BYTES_MAX + 1)), bytes(PHOTO_BYTES_MAX + 1))
    (tmp_path / "photos" / name_of(b"x")).write_bytes(b"changed")
    assert files.get(name_of(b"x")) is None


@pytest.mark.parametrize("name", ["", ".", "..", "../journal.db", "a/b", "x" * 44])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "journal.db").write_bytes(b"x")
    assert PhotoFiles(tmp_path).get(name) is None
    with pytest.raises(CorruptData):
        PhotoFiles(tmp_path).put(name, b"x")


def test_the_folder_is_bounded_and_swept(tmp_path: Path) -> None:
    files = PhotoFiles(tmp_path, bytes_max=10)
    assert files.put(name_of(b"12345"), b"12345") and files.put(name_of(b"54321"), b"54321")
    assert not files.put(name_of(b"1"), b"1")
    (tmp_path / "photos" / "half.new").write_bytes(b"of a process that was killed")
    assert files.sweep({name_of(b"12345")}) == 2
    assert files.held() == {name_of(b"12345")}
    assert files.put(name_of(b"1"), b"1")


@pytest.mark.parametrize("station", list(Station))
@pytest.mark.parametrize("photos", [None, False, True])
def test_who_may_hold_photos_at_all(station: Station, photos: bool | None) -> None:
    row = None if photos is None else site_row(photos=photos)
    expected = station is Station.PRESCHOOL or (station is Station.ENTRANCE and photos is True)
    assert may_hold(station, row) is expected


def site_row(*, photos: bool) -> SiteRow:
    return SiteRow(
        time_zone="Europe/Moscow",
        currency="RUB",
        floor_limit_minor=0,
        list_age_amber_s=1,
        list_age_refer_s=2,
        passback_mode=PassbackMode.SOFT,
        passback_window_s=1,
        base_age_days_max=1,
        photos=photos,
    )


# --------------------------------------------------------------------------- the whole way


def somebody(photo: bytes) -> tuple[Key, bytes]:
    key, row = cardholder("p1")
    return key, msgspec.msgpack.encode(msgspec.structs.replace(row, photo_hash=name_of(photo)))


def device(files: Files, station: Station) -> Photos:
    return Photos(
        device="d",
        site=SITE,
        station=station,
        pictures=files.pictures,
        writer=files.writer,
        folder=files.folder,
    )


def test_a_photo_comes_and_goes_with_its_person(tmp_path: Path) -> None:
    photo = b"sealed" * 20_000
    files = open_station(tmp_path / "s")
    people, settings = Scope(PEOPLE), Scope(SETTINGS)
    key, body = somebody(photo)
    people.put_raw({key: body})
    settings.put(((48, b"site"), site_row(photos=False)))
    try:
        files.install(people)
        files.install(settings)
        photos = device(files, Station.PRESCHOOL)
        assert photos.step(at(), connected=False) is None, "no link, no pull"
        pull = photos.step(at(), connected=True)
        assert pull is not None and pull.photos == (name_of(photo),)
        for push in pieces(photo):
            assert len(encode_pack(push)) <= 64 * 1024
            came = decode_push(encode_pack(push))
            assert isinstance(came, PushPhoto)
            photos.take(came, at())
        assert photos.files.get(name_of(photo)) == photo
        assert photos.lacking == 0
        files.pictures.apply_delta(people.put_raw({}, remove=(key,)), at())
        photos.step(at(mono_ms=at().mono_ms + LOOK_MS), connected=True)
        assert photos.files.held() == frozenset()
    finally:
        files.close()


def test_an_entrance_holds_photos_only_while_the_city_says_so(tmp_path: Path) -> None:
    photo = b"sealed"
    files = open_station(tmp_path / "s")
    people, settings = Scope(PEOPLE), Scope(SETTINGS)
    key, body = somebody(photo)
    people.put_raw({key: body})
    settings.put(((48, b"site"), site_row(photos=True)))
    try:
        files.install(people)
        files.install(settings)
        till = device(files, Station.TILL)
        assert till.step(at(), connected=True) is None
        photos = device(files, Station.ENTRANCE)
        assert photos.step(at(), connected=True) is not None
        (push,) = pieces(photo)
        photos.take(push, at())
        assert photos.files.held()
        off = settings.put(((48, b"site"), site_row(photos=False)))
        files.pictures.apply_delta(off, at())
        photos.step(at(mono_ms=at().mono_ms + LOOK_MS), connected=True)
        assert not photos.files.held()
    finally:
        files.close()


def test_bytes_that_were_changed_on_their_way_are_not_kept(tmp_path: Path) -> None:
    photo = b"sealed"
    files = open_station(tmp_path / "s")
    people = Scope(PEOPLE)
    key, body = somebody(photo)
    people.put_raw({key: body})
    try:
        files.install(people)
        photos = device(files, Station.PRESCHOOL)
        photos.step(at(), connected=True)
        changed = PushPhoto(scope=SCOPE, hash=name_of(photo), part=0, parts=1, data=b"other")
        with pytest.raises(CorruptData):
            photos.take(changed, at())
        assert not photos.files.held()
    finally:
        files.close()


def test_the_citys_books_and_the_stations_seal_agree(tmp_path: Path) -> None:
    """Sealed by the reference city, opened as edge does; a rotated key gives new bytes."""
    with card_school(tmp_path) as city:
        photos = city.core.registry.photos
        scope = f"{city.core.site}/people"
        keys = city.keys.scopes[scope]
        person = city.school.people[0].cardholder_id
        with city.core.store.transaction():
            name = photos.enter(person, face_png(1))
        rows = [row for row in city.core.registry.rows_of("people") if name.encode() in row.body]
        assert len(rows) == 1
        (push,) = photos.answer([name, name])
        assert name_of(push.data) == push.hash == name
        opened = unseal_bytes(
            {keys.seal_version: keys.seal},
            push.data,
            scope=scope,
            row_key=person.encode(),
            column="photo",
        )
        assert opened == face_png(1)
        assert photos.answer(["gone"])[0].parts == 0
