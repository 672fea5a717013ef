"""Goal: a list that edge cannot read is named to sync, once, and no longer when it is replaced; a
sound list is never named by itself.

Method: the bench of a till on real files; pictures spoilt under the reader's hands. The whole way
to a new list is in `tests/sync/test_lists_lost.py`.
"""

from __future__ import annotations

import pytest

from edge.model import CorruptData
from edge.offline_cache import marks
from edge.offline_cache.apply import in_force, picture_path
from edge.offline_cache.lookup import Cache
from tests.support.small_city import (
    CREDENTIAL,
    DEVICE,
    MENU,
    MONEY,
    PEOPLE,
    PRODUCT,
    SITE,
    id_bytes,
)
from tests.support.till_files import CARD, Bench, cid
from tests.support.times import at


def generation(bench: Bench, scope: str) -> int:
    pointer = in_force(bench.station.writer.db, scope)
    assert pointer is not None
    return pointer.generation


def test_a_sound_station_suspects_nothing(bench: Bench) -> None:
    bench.cache.refresh()
    bench.cache.access_view(cid(CARD), "school", at())
    bench.cache.purchase_view(cid(CARD), at())
    assert bench.cache.suspects == {}


def test_a_row_that_does_not_decode_names_its_list(bench: Bench) -> None:
    bench.station.pictures.apply_delta(
        bench.people.put_raw({(CREDENTIAL, id_bytes(CARD)): b"\xc1"}), at()
    )
    with pytest.raises(CorruptData):
        bench.cache.access_view(cid(CARD), "school", at())
    assert bench.cache.suspects == {PEOPLE: generation(bench, PEOPLE)}


def test_a_small_list_names_itself_and_keeps_no_other_from_being_read(bench: Bench) -> None:
    bench.station.pictures.apply_delta(bench.menu.put_raw({(PRODUCT, b"soup"): b"\xc1"}), at())
    with pytest.raises(CorruptData):
        bench.cache.refresh()
    assert bench.cache.suspects == {MENU: generation(bench, MENU)}


@pytest.mark.parametrize("scope", [PEOPLE, MONEY])
def test_a_file_that_is_gone_is_named_and_forgotten_when_replaced(bench: Bench, scope: str) -> None:
    folder = bench.station.folder
    path = picture_path(folder, scope, generation(bench, scope))
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    cache = Cache(folder, device=DEVICE, site=SITE, journal=bench.journal.writer.db)
    cache.refresh()  # No tap was needed to notice.
    assert cache.suspects == {scope: generation(bench, scope)}
    with pytest.raises(CorruptData):
        cache.purchase_view(cid(CARD), at())
    bench.station.pictures.declare_lost(scope, "gone")
    bench.station.install(bench.people if scope == PEOPLE else bench.money)
    cache.refresh()
    assert cache.suspects == {}
    cache.purchase_view(cid(CARD), at())
    cache.close()


def test_the_note_in_the_journal_is_what_is_suspected_now(bench: Bench) -> None:
    writer = bench.journal.writer
    marks.tell_suspects(writer, {PEOPLE: 3, MONEY: 1})
    marks.tell_suspects(writer, {PEOPLE: 4})
    assert marks.suspects(writer.db) == {PEOPLE: 4}
    marks.tell_suspects(writer, {})
    assert marks.suspects(writer.db) == {}
