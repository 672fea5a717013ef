"""Goal: a reader's thread gets the key of the card before it, from the list in force, and no other.

Method: a station whose lists the reference city made. Keys, profiles and lists are changed while
threads ask; files are damaged and taken away; everything that goes wrong is a count and never an
error. What the keyring opens is watched: the journal is not among it.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.keyring import PROFILES_MAX, Keyring, sdm_layout
from edge.messages import ProfileRow, SdmMarks
from edge.model import CorruptData
from edge.offline_cache import card_rows, store
from edge.offline_cache.lookup import Cache
from edge.offline_cache.store import FileKind
from edge.readers.profile import CardProfile, Family
from edge.settings import DeviceSettings
from edge.trust import FileKeyStore, ScopeKeys, open_scope_keys
from hil.bench.card_station import SITE, CardSchool, build_station, card_school

KINDS = ("pupil-ev2", "staff-424", "guest-sun", "band-aes")


class Bench:
    def __init__(self, city: CardSchool, settings: DeviceSettings) -> None:
        self.city, self.settings = city, settings
        journal = sqlite3.connect(":memory:")
        cache = Cache(settings.folders.state, device="d", site=SITE, journal=journal)
        cache.refresh()
        keys = open_scope_keys(
            FileKeyStore(settings.key_path), f"{SITE}/people", cache.sealed_keys()
        )
        assert keys is not None
        self.keys: ScopeKeys = keys
        self.rows = dict(cache.small.profiles)
        cache.close()
        journal.close()
        self.ring = Keyring(settings.folders.state, site=SITE)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with card_school(tmp_path) as city:
        made = Bench(city, build_station(tmp_path / "gate", city))
        yield made
        made.ring.close()


def test_each_card_has_its_own_profile_and_its_own_key(bench: Bench) -> None:
    assert bench.ring.renew(bench.rows, bench.keys) == []
    for kind in KINDS:
        uid = bench.city.uid(kind)
        assert [profile.profile_id for profile in bench.ring.candidates(uid)] == [kind]
        key = bench.ring.key_of(kind, uid)
        assert key is not None and key.version == 1
        assert key.key == bench.city.card_keys.derived(kind, uid)
        for other in KINDS:
            if other != kind:
                assert bench.ring.key_of(other, uid) is None, "enrolled in that profile, no other"
    assert bench.ring.candidates(bytes.fromhex("04ffffffffffff")) == ()
    assert bench.ring.key_of("staff-424", bytes.fromhex("04ffffffffffff")) is None
    assert bench.ring.counts() == {}


def test_a_random_uid_is_asked_by_those_who_can_look_behind_it(bench: Bench) -> None:
    bench.ring.renew(bench.rows, bench.keys)
    found = [profile.profile_id for profile in bench.ring.candidates(bytes.fromhex("08a1b2c3"))]
    assert found == ["pupil-ev2", "guest-sun"], "with a key first, by its message last"


def test_before_the_keys_are_here_every_card_is_a_number(bench: Bench) -> None:
    uid = bench.city.uid("staff-424")
    assert bench.ring.candidates(uid) == () and bench.ring.key_of("staff-424", uid) is None
    problems = bench.ring.renew(bench.rows, None)
    assert len(problems) == 2 and all("cannot be opened" in problem for problem in problems)
    assert bench.ring.candidates(uid) == ()
    bench.ring.renew(bench.rows, bench.keys)
    assert len(bench.ring.candidates(uid)) == 1


def test_no_key_shows_in_a_repr(bench: Bench) -> None:
    bench.ring.renew(bench.rows, bench.keys)
    uid = bench.city.uid("pupil-ev2")
    (profile,) = bench.ring.candidates(uid)
    key = bench.ring.key_of("pupil-ev2", uid)
    assert key is not None
    shared = bench.city.card_keys.shared("pupil-ev2", "uid_key")
    for text in (repr(profile), repr(key), repr(bench.ring._held)):
        assert repr(key.key) not in text and repr(shared) not in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"family": "desfire_ev9"}, "no family"),
        ({"aid": b"abcd"}, "AID"),
        ({"read": (1, 0, 999, "mac")}, "no file can be read so"),
        ({"read": (1, 0, 16, "loud")}, "no file can be read so"),
        ({"uid_key_no": None}, "go together"),
        ({"sealed_uid_key": b"\x01" + bytes(60)}, "does not open"),
        ({"sealed_uid_key": b"\x09" + bytes(60)}, "not held"),
        ({"key_no": 99}, "key number 99"),
        ({"version_page": 1}, "page 1"),
        ({"uid_key_version": 256}, "version 256"),
    ],
)
def test_a_profile_that_cannot_be_used_harms_no_other(
    bench: Bench, change: dict[str, Any], words: str
) -> None:
    rows = bench.rows | {"pupil-ev2": msgspec.structs.replace(bench.rows["pupil-ev2"], **change)}
    (problem,) = bench.ring.renew(rows, bench.keys)
    assert problem.startswith("card profile 'pupil-ev2': ") and words in problem
    assert bench.ring.candidates(bench.city.uid("pupil-ev2")) == ()
    assert len(bench.ring.candidates(bench.city.uid("staff-424"))) == 1


def test_so_many_profiles_and_no_more(bench: Bench) -> None:
    row = ProfileRow(family="ntag424")
    problems = bench.ring.renew({f"p{n:03}": row for n in range(PROFILES_MAX + 1)}, bench.keys)
    assert problems == [f"{PROFILES_MAX + 1} card profiles, at most {PROFILES_MAX} are used"]


@pytest.mark.parametrize(
    "marks",
    [
        SdmMarks(template=b"", mac_input=0, mac=0),
        SdmMarks(template=bytes(60), mac_input=0, mac=44, picc_data=-1),
        SdmMarks(template=bytes(60), mac_input=0, mac=44, picc_data=20),
        SdmMarks(template=bytes(60), mac_input=50, mac=44, picc_data=0),
        SdmMarks(template=bytes(60), mac_input=0, mac=44, picc_data=0, file_data_size=-32),
        SdmMarks(template=bytes(600), mac_input=0, mac=584, picc_data=0),
    ],
)
def test_marks_that_do_not_fit_are_refused(marks: SdmMarks) -> None:
    with pytest.raises(CorruptData):
        sdm_layout(marks)


def test_a_key_sealed_for_another_card_does_not_open(bench: Bench) -> None:
    """The city's row of one card, moved to another: its place is a part of the seal."""
    bench.ring.renew(bench.rows, bench.keys)
    staff, pupil = bench.city.uid("staff-424"), bench.city.uid("pupil-ev2")
    real = bench.ring._rows.row_of

    def swapped(identify: Any) -> Any:
        found = real(identify)
        if found is None:
            return None
        key, row = found
        other = real(lambda version: _key_of(bench, version, staff))
        assert other is not None
        return key, msgspec.structs.replace(row, sealed_key=other[1].sealed_key)

    bench.ring._rows.row_of = swapped  # type: ignore[method-assign]
    assert bench.ring.key_of("pupil-ev2", pupil) is None
    assert bench.ring.counts() == {"card_key_unusable": 1}


def _key_of(bench: Bench, version: int, uid: bytes) -> bytes:
    from edge.messages import from_b64u
    from edge.model import UidKind
    from edge.trust import credential_id

    return from_b64u(credential_id(bench.keys.identifier[version], UidKind.ISO14443, uid))


def test_what_goes_wrong_with_the_files_is_a_count(bench: Bench, tmp_path: Path) -> None:
    empty = Keyring(tmp_path, site=SITE)
    empty.renew(bench.rows, bench.keys)
    assert empty.candidates(bench.city.uid("staff-424")) == () and empty.counts() == {}
    (tmp_path / "sync.db").write_bytes(b"no database " * 100)
    assert empty.candidates(bench.city.uid("staff-424")) == ()
    assert empty.counts() == {"card_lookup_failed": 1}
    empty.close()
    bench.ring.renew(bench.rows, bench.keys)
    for picture in bench.settings.folders.state.glob("picture-*"):
        picture.unlink()
    assert bench.ring.candidates(bench.city.uid("staff-424")) == ()
    assert bench.ring.counts() == {"card_lookup_failed": 1}
    bench.ring.close()
    bench.ring.close()
    assert bench.ring.candidates(bench.city.uid("staff-424")) == (), "after close no card is known"


def test_it_opens_no_journal_and_waits_for_no_writer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, FileKind]] = []
    real = store.open_reader

    def watched(path: Path, kind: FileKind) -> sqlite3.Connection | None:
        opened.append((path.name.partition("-")[0], kind))
        return real(path, kind)

    monkeypatch.setattr(card_rows, "open_reader", watched)
    bench.ring.renew(bench.rows, bench.keys)
    bench.ring.candidates(bench.city.uid("staff-424"))
    assert {kind for _, kind in opened} == {FileKind.SYNC, FileKind.PICTURE}
    assert bench.ring._rows._sync is not None
    (busy_ms,) = bench.ring._rows._sync.execute("PRAGMA busy_timeout").fetchone()
    assert busy_ms == card_rows.BUSY_MS_MAX


@pytest.mark.slow
def test_threads_ask_while_keys_and_settings_are_renewed(bench: Bench) -> None:
    bench.ring.renew(bench.rows, bench.keys)
    stop, wrong, asked = threading.Event(), list[str](), [0, 0, 0]

    def reader(number: int) -> None:
        kind = KINDS[number]
        uid = bench.city.uid(kind)
        wanted = bench.city.card_keys.derived(kind, uid)
        while not stop.is_set():
            found = bench.ring.candidates(uid)
            key = bench.ring.key_of(kind, uid)
            if [p.profile_id for p in found] != [kind] or key is None or key.key != wanted:
                wrong.append(kind)
            asked[number] += 1

    threads = [threading.Thread(target=reader, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for round_no in range(200):
        rows = bench.rows | {f"new-{round_no}": bench.rows["staff-424"]}
        bench.ring.renew(rows, replace(bench.keys))
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == [] and min(asked) > 0 and bench.ring.counts() == {}


def test_a_profile_reads_as_the_city_wrote_it(bench: Bench) -> None:
    bench.ring.renew(bench.rows, bench.keys)
    (pupil,) = bench.ring.candidates(bench.city.uid("pupil-ev2"))
    assert isinstance(pupil, CardProfile)
    assert (pupil.family, pupil.aid.hex(), pupil.key_no) == (Family.DESFIRE_EV2, "014b4d", 1)
    assert pupil.read is not None and (pupil.read.file_no, pupil.read.size) == (1, 16)
    assert int(pupil.tier) == 6
