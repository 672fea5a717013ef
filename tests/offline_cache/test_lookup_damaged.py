"""Goal: what cannot be read is said, and never escapes as an error that nobody expects.

Method: rows of random bytes, rows of the wrong shape, tables and files that are gone, pictures with
their pages overwritten.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.messages import RowBody
from edge.model import (
    CorruptData,
    DeviceFault,
)
from edge.offline_cache.apply import in_force, picture_path
from edge.offline_cache.lookup import Cache
from edge.offline_cache.record import Journal
from tests.support import small_city
from tests.support.small_city import (
    CREDENTIAL,
    DEVICE,
    PEOPLE,
    PRODUCT,
    SCHEDULE,
    SITE,
    SITE_KIND,
    id_bytes,
    product,
    site,
)
from tests.support.till_files import CARD, Bench, cid
from tests.support.times import at


@given(body=st.binary(max_size=40), kind=st.sampled_from([CREDENTIAL, small_city.CARDHOLDER]))
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # One bench serves them all.
)
def test_a_row_of_random_bytes_is_corrupt_data_or_a_row(
    bench: Bench, body: bytes, kind: int
) -> None:
    key = {CREDENTIAL: id_bytes(CARD), small_city.CARDHOLDER: b"p1"}[kind]
    bench.station.pictures.apply_delta(bench.people.put_raw({(kind, key): body}), at())
    for look in (
        lambda: bench.cache.access_view(cid(CARD), "school", at()),
        lambda: bench.cache.purchase_view(cid(CARD), at()),
    ):
        try:
            look()
        except CorruptData:
            pass


@pytest.mark.parametrize("key", [(CREDENTIAL, id_bytes(CARD)), (small_city.CARDHOLDER, b"p1")])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x94\xa2\xff\xfe\x01\x00\x00",
        b"\x9a\xa5pupil\xa2\xff\xfe\xc2\xc3\x80\x90\x90\xc4\x00\xc4\x00\xa0",
        b"\x91" * 5_000,
    ],
)
def test_a_row_that_is_none_is_corrupt_data(bench: Bench, key: small_city.Key, body: bytes) -> None:
    bench.station.pictures.apply_delta(bench.people.put_raw({key: body}), at())
    with pytest.raises(CorruptData):
        bench.cache.access_view(cid(CARD), "school", at())
    with pytest.raises(CorruptData):
        bench.cache.purchase_view(cid(CARD), at())


@pytest.mark.parametrize("table", ["pictures", "sides", "tail", "anchor", "acks", "orders"])
def test_a_table_that_is_gone_is_corrupt_data(bench: Bench, table: str) -> None:
    cache = bench.cache
    looks: dict[str, list[Callable[[], object]]] = {
        "pictures": [
            cache.refresh,
            lambda: cache.access_view(cid(CARD), "school", at()),
            lambda: cache.purchase_view(cid(CARD), at()),
            lambda: cache.list_states(at()),
            lambda: cache.identifier_version(PEOPLE),
        ],
        "sides": [lambda: cache.access_view(cid(CARD), "school", at())],
        "tail": [lambda: cache.purchase_view(cid(CARD), at())],
        "anchor": [cache.anchor],
        "acks": [lambda: cache.acknowledged("main", "e1")],
        "orders": [lambda: cache.waiting_orders(0)],
    }
    for db in (bench.station.writer.db, bench.journal.writer.db):
        db.execute(f"DROP TABLE IF EXISTS {table}")
    for look in looks[table]:
        with pytest.raises(CorruptData):
            look()


@pytest.mark.parametrize(
    "rows",
    [
        {(SITE_KIND, b"site"): b"\xc1"},
        {(SCHEDULE, b"\xff\xfe"): b"\x91\x90"},
        {(SCHEDULE, b"s"): b"\x91\x91\x01"},
    ],
)
def test_one_bad_list_keeps_no_other_from_being_read(
    bench: Bench, rows: dict[small_city.Key, bytes]
) -> None:
    before = bench.cache.small.site
    bench.station.pictures.apply_delta(bench.settings.put_raw(rows), at())
    bench.station.pictures.apply_delta(bench.menu.put(product("bun")), at())
    with pytest.raises(CorruptData):
        bench.cache.refresh()
    assert set(bench.cache.small.products) == {"soup", "bun"}
    assert bench.cache.small.site == before  # The last good one goes on.
    bench.station.pictures.apply_delta(
        bench.settings.put(site(floor_limit_minor=1), remove=tuple(rows.keys() - {(48, b"site")})),
        at(),
    )
    bench.cache.refresh()
    assert bench.cache.small.site is not None
    assert bench.cache.small.site.floor_limit_minor == 1


def test_a_bad_product_key_is_corrupt_data(bench: Bench) -> None:
    body: RowBody = product()[1]
    bench.station.pictures.apply_delta(bench.menu.put(((PRODUCT, b"\xff"), body)), at())
    with pytest.raises(CorruptData):
        bench.cache.refresh()


@pytest.mark.parametrize("damage", ["gone", "no database", "rows lost", "record lost", "a folder"])
def test_a_damaged_picture_is_told(bench: Bench, damage: str) -> None:
    folder = bench.station.folder
    pointer = in_force(bench.station.writer.db, PEOPLE)
    assert pointer is not None
    path = picture_path(folder, PEOPLE, pointer.generation)
    bench.station.pictures.close()
    content = path.read_bytes()
    if damage in ("gone", "a folder"):
        path.unlink()
    if damage == "a folder":
        path.mkdir()
    if damage == "no database":
        path.write_bytes(b"x" * len(content))
    if damage == "rows lost":
        path.write_bytes(content[:4_096] + b"\xff" * (len(content) - 4_096))
    if damage == "record lost":
        raw = sqlite3.connect(path)
        raw.execute("UPDATE meta SET value = x'a2fffe'")
        raw.commit()
        raw.close()
    cache = Cache(folder, device=DEVICE, site=SITE, journal=bench.journal.writer.db)
    for _ in range(2):
        with pytest.raises((CorruptData, DeviceFault)):
            cache.access_view(cid(CARD), "school", at())
        with pytest.raises((CorruptData, DeviceFault)):
            cache.purchase_view(cid(CARD), at())
        with pytest.raises((CorruptData, DeviceFault)):
            cache.list_states(at())
    cache.refresh()  # The other lists are read all the same.
    assert cache.small.products
    cache.close()


def test_a_damaged_sync_store_is_told(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db", device=DEVICE, site=SITE)
    (tmp_path / "sync.db").write_bytes(b"x" * 9_000)
    cache = Cache(tmp_path, device=DEVICE, site=SITE, journal=journal.writer.db)
    for look in (cache.refresh, cache.anchor, cache.sealed_keys):
        with pytest.raises(CorruptData):
            look()
    cache.close()
    journal.close()
