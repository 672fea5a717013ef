"""Goal: a lookup gives one moment of one list, and of money nothing twice and nothing never.

Method: a small city's lists in force, looked at by edge's `Cache`; a new picture put in force at
each single statement of a lookup.
"""

from __future__ import annotations

import itertools
import sqlite3
from pathlib import Path

import pytest

from edge.messages import ScheduleRow, ScopeKey, Stream, VectorEntry
from edge.model import (
    MINUTES_PER_WEEK,
    ClockQuality,
    CorruptData,
    Direction,
    Version,
)
from edge.offline_cache import marks
from edge.offline_cache.apply import RETIRED_MS, picture_path, store_scope_keys
from edge.offline_cache.lookup import Cache
from edge.offline_cache.record import Journal
from edge.offline_cache.small_lists import UNKNOWN_SCHEDULE
from edge.offline_cache.store import FileKind, open_reader, reading
from tests.support import small_city
from tests.support.pictures import open_station
from tests.support.small_city import (
    CREDENTIAL,
    DEVICE,
    MENU,
    MONEY,
    PEOPLE,
    PRODUCT,
    SCHEDULE,
    SETTINGS,
    SITE,
    account,
    cardholder,
    credential,
    hot,
    id_bytes,
    product,
    site,
)
from tests.support.till_files import BAND, CARD, LOST, TO_MIDNIGHT_MS, Bench, cid
from tests.support.times import NOON_MS, at

# ------------------------------------------------------------------------------ people


def test_without_any_list_there_is_no_list(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db", device=DEVICE, site=SITE)
    cache = Cache(tmp_path, device=DEVICE, site=SITE, journal=journal.writer.db)
    open_station(tmp_path / "elsewhere").close()
    for _ in range(2):  # Before sync's first start, and after it.
        cache.refresh()
        access = cache.access_view(cid(CARD), "school", at())
        purchase = cache.purchase_view(cid(CARD), at())
        assert access.people is purchase.people is purchase.money is None
        assert access.cardholder is purchase.cardholder is None
        assert not access.hot_listed
        assert cache.identifier_version(PEOPLE) == cache.acknowledged("main", "e1") == 0
        assert cache.list_states(at()) == {}
        assert cache.anchor() is None
        assert cache.sealed_keys() == []
        assert cache.waiting_orders(0) == []
        open_station(tmp_path).close()
    cache.close()
    journal.close()


def test_a_credential_leads_to_its_cardholder(bench: Bench) -> None:
    for uid in (CARD, BAND):
        view = bench.cache.access_view(cid(uid), "school", at())
        assert view.people is not None
        assert view.people.version == Version(list_epoch=1, number=1)
        assert view.credential is not None
        assert view.credential.credential_id == cid(uid)
        assert (view.credential.tier, view.credential.cardholder_id) == (1, "p1")
        assert (view.credential.valid_from_utc_s, view.credential.valid_until_utc_s) == (
            small_city.FIRST_DAY_S,
            small_city.LAST_DAY_S,
        )
        assert view.cardholder is not None
        assert view.cardholder.account_id == "a1"
        assert view.cardholder.windows_by_zone == {"school": (range(MINUTES_PER_WEEK),)}
        assert not view.hot_listed
        assert bench.cache.purchase_view(cid(uid), at()).cardholder == view.cardholder


def test_a_stranger_and_a_lost_card(bench: Bench) -> None:
    stranger = bench.cache.access_view(cid(b"\1" * 4), "school", at())
    assert (stranger.hot_listed, stranger.credential, stranger.cardholder) == (False, None, None)
    lost = bench.cache.access_view(cid(LOST), "school", at())
    assert (lost.hot_listed, lost.credential) == (True, None)
    assert bench.cache.purchase_view(cid(LOST), at()).hot_listed
    bench.station.pictures.apply_delta(bench.people.put(hot(CARD)), at())
    view = bench.cache.access_view(cid(CARD), "school", at())
    assert view.hot_listed
    assert view.cardholder is not None  # Named on the screen all the same.


def test_a_credential_of_nobody_lets_nobody_in(bench: Bench) -> None:
    orphan = bench.people.put(credential(b"\2" * 7, "gone"))
    bench.station.pictures.apply_delta(orphan, at())
    view = bench.cache.access_view(cid(b"\2" * 7), "school", at())
    assert (view.credential, view.cardholder) == (None, None)


@pytest.mark.parametrize("text", ["", "!", "sz15c5AwM0F_kKv0Hotr5w==", "é", "A"])
def test_what_is_no_credential_id_is_nobody(bench: Bench, text: str) -> None:
    try:
        view = bench.cache.access_view(text, "school", at())
    except CorruptData:
        return
    assert view.credential is None


def test_an_unknown_schedule_is_an_empty_window(bench: Bench) -> None:
    changed = bench.people.put(cardholder(rights={"school": "missing", "pool": "always"}))
    bench.station.pictures.apply_delta(changed, at())
    view = bench.cache.access_view(cid(CARD), "school", at())
    assert view.cardholder is not None
    windows = view.cardholder.windows_by_zone
    assert windows["school"] == UNKNOWN_SCHEDULE
    assert all(minute not in w for w in windows["school"] for minute in range(MINUTES_PER_WEEK))
    assert windows["pool"] == (range(MINUTES_PER_WEEK),)


def test_windows_stay_inside_the_week(bench: Bench) -> None:
    row = ((SCHEDULE, b"odd"), ScheduleRow(windows=((-5, 10), (10_000, 99_999), (7, 7))))
    bench.station.pictures.apply_delta(bench.settings.put(row), at())
    bench.cache.refresh()
    odd = (range(10), range(10_000, MINUTES_PER_WEEK), range(7, 7))
    assert bench.cache.small.schedules["odd"].on("2026-03-02") == odd


# ------------------------------------------------------------------------------- sides


def test_a_side_belongs_to_a_person_and_a_zone(bench: Bench) -> None:
    bench.passage(direction=Direction.IN)
    bench.passage(cardholder_id="p2", direction=Direction.OUT)
    for uid in (CARD, BAND):
        view = bench.cache.access_view(cid(uid), "school", at(61_999))
        assert (view.last_direction, view.last_passage_age_s) == (Direction.IN, 61)
        other = bench.cache.access_view(cid(uid), "pool", at())
        assert (other.last_direction, other.last_passage_age_s) == (None, None)
    bench.passage(direction=Direction.OUT, moment=at(5_000))
    view = bench.cache.access_view(cid(CARD), "school", at(5_000))
    assert (view.last_direction, view.last_passage_age_s) == (Direction.OUT, 0)
    # A clock set back makes no negative age.
    assert bench.cache.access_view(cid(CARD), "school", at(1)).last_passage_age_s == 0


def test_sides_are_forgotten_at_local_midnight(bench: Bench) -> None:
    bench.passage(moment=at(TO_MIDNIGHT_MS - 1_000))
    before = bench.cache.access_view(cid(CARD), "school", at(TO_MIDNIGHT_MS - 1))
    assert before.last_direction is Direction.IN
    after = bench.cache.access_view(cid(CARD), "school", at(TO_MIDNIGHT_MS))
    assert (after.last_direction, after.last_passage_age_s) == (None, None)


def test_sides_outlive_a_restart(bench: Bench) -> None:
    bench.passage()
    folder = bench.station.folder
    bench.journal.close()
    bench.journal = Journal(folder / "journal.db", device=DEVICE, site=SITE)
    cache = Cache(folder, device=DEVICE, site=SITE, journal=bench.journal.writer.db)
    assert cache.access_view(cid(CARD), "school", at()).last_direction is Direction.IN
    cache.close()


# --------------------------------------------------------------------------- list's age

TRUSTED = {ClockQuality.NTP, ClockQuality.CITY, ClockQuality.RTC}


@pytest.mark.parametrize("late_ms", [0, 3_000])
def test_the_age_of_a_list(bench: Bench, late_ms: int) -> None:
    """Issued at noon, received `late_ms` later, looked at an hour after noon."""
    bench.station.pictures.freshen(bench.people.head(), at(late_ms))
    for quality, same_boot in itertools.product(ClockQuality, (True, False)):
        boot = at().boot if same_boot else "another boot"
        mono_ms = at(3_600_000).mono_ms if same_boot else 5_000
        now = at(3_600_000, quality=quality, boot=boot, mono_ms=mono_ms)
        view = bench.cache.access_view(cid(CARD), "school", now)
        assert view.people is not None
        if quality in TRUSTED:
            expected: int | None = 3_600
        elif same_boot:
            expected = 3_600 - late_ms // 1_000
        else:
            expected = None
        assert view.people.age_s == expected
        assert view.people.issued_utc_ms == NOON_MS
        assert bench.cache.list_states(now)[PEOPLE] == view.people


def test_an_age_is_never_negative(bench: Bench) -> None:
    for quality in ClockQuality:
        view = bench.cache.access_view(cid(CARD), "school", at(-5_000, quality=quality))
        assert view.people is not None
        assert view.people.age_s == 0


def test_a_picture_below_its_floor_is_of_unknown_age(bench: Bench) -> None:
    bench.station.writer.db.execute("UPDATE pictures SET number = 9 WHERE scope = ?", (PEOPLE,))
    view = bench.cache.access_view(cid(CARD), "school", at())
    assert view.people is not None
    assert (view.people.age_s, view.people.version.number) == (None, 1)


# ------------------------------------------------------------------------ money and tail


def test_base_and_tail_of_one_account(bench: Bench) -> None:
    bench.sale(amount_minor=100)
    bench.sale(amount_minor=7, account_id="a2")
    bench.sale(amount_minor=20)
    view = bench.cache.purchase_view(cid(CARD), at())
    assert view.account is not None
    assert view.account.balance_minor_by_purse == {"meals": 50_000}
    epoch = bench.journal.epoch
    assert [(s.epoch, s.sequence, s.amount_minor) for s in view.tail] == [
        (epoch, 2, 100),
        (epoch, 4, 20),
    ]
    assert all(s.own and s.device == DEVICE and s.purse == "meals" for s in view.tail)
    assert view.money is not None
    assert view.vector == {}


def test_no_account_and_no_money_list_are_told_apart(bench: Bench) -> None:
    bench.station.pictures.apply_delta(bench.people.put(cardholder(account_id="a9")), at())
    view = bench.cache.purchase_view(cid(CARD), at())
    assert (view.account, view.money is not None) == (None, True)
    bench.station.pictures.apply_delta(bench.people.put(cardholder(account_id=None)), at())
    view = bench.cache.purchase_view(cid(CARD), at())
    assert (view.account, view.money is not None, view.tail) == (None, True, ())
    bench.station.pictures.apply_delta(bench.people.put(cardholder()), at())
    bench.station.writer.db.execute("DELETE FROM pictures WHERE scope = ?", (MONEY,))
    view = bench.cache.purchase_view(cid(CARD), at())
    assert (view.account, view.money) == (None, None)
    assert view.cardholder is not None


class AtStatement:
    """Does something at the k-th statement that a lookup begins."""

    def __init__(self, k: int, deed: object) -> None:
        assert callable(deed)
        self.left = k
        self.deed = deed
        self.done = False

    def __call__(self, _statement: str) -> None:
        self.left -= 1
        if self.left == 0:
            self.done = True
            self.deed()


def test_a_sale_that_enters_the_base_in_mid_lookup_is_never_missed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each statement in turn the city's next base arrives, and what it includes is dropped."""
    connect = sqlite3.connect
    moves = 0
    for k in range(1, 100):
        sequence = bench.sale(amount_minor=100)
        epoch = bench.journal.epoch
        bench.money.vector = (VectorEntry(DEVICE, "main", epoch, sequence),)
        bench.money.put(account(balance_minor=50_000 - 100 * k))

        def arrive(sequence: int = sequence) -> None:
            bench.station.install(bench.money)
            other = connect(bench.station.folder / "journal.db", isolation_level=None)
            other.execute("DELETE FROM tail WHERE sequence <= ?", (sequence,))
            other.close()

        probe = AtStatement(k, arrive)
        cache = Cache(
            bench.station.folder, device=DEVICE, site=SITE, journal=bench.journal.writer.db
        )
        cache.purchase_view(cid(CARD), at())  # Opens its files.
        connections = [bench.journal.writer.db, *(o.db for o in cache._open.values())]
        assert cache._sync is not None
        for db in (*connections, cache._sync):
            db.set_trace_callback(probe)
        view = cache.purchase_view(cid(CARD), at())
        bench.journal.writer.db.set_trace_callback(None)
        assert view.account is not None
        spent_above = sum(
            spend.amount_minor
            for spend in view.tail
            if spend.sequence > view.vector.get((DEVICE, "main", spend.epoch), 0)
        )
        available = view.account.balance_minor_by_purse["meals"] - spent_above
        assert available == 50_000 - 100 * k
        cache.close()
        if not probe.done:
            break
        moves += 1
    assert moves > 8


# ------------------------------------------------------------------ what comes in force


def test_a_change_decides_the_very_next_lookup(bench: Bench) -> None:
    for number in range(3):
        suspended = number % 2 == 0
        delta = bench.people.put(cardholder(suspended=suspended))
        bench.station.pictures.apply_delta(delta, at())
        view = bench.cache.access_view(cid(CARD), "school", at())
        assert view.cardholder is not None
        assert view.cardholder.suspended == suspended
        bench.people.put(cardholder(suspended=not suspended))
        bench.station.install(bench.people)
        view = bench.cache.access_view(cid(CARD), "school", at())
        assert view.cardholder is not None
        assert view.cardholder.suspended != suspended


def test_a_reader_of_the_old_picture_keeps_reading_it(bench: Bench) -> None:
    path = picture_path(bench.station.folder, PEOPLE, 1)
    old = open_reader(path, FileKind.PICTURE)
    assert old is not None
    with reading(old) as db:
        before = db.execute("SELECT * FROM rows").fetchall()
        bench.people.put(remove=((CREDENTIAL, id_bytes(CARD)),))
        bench.station.install(bench.people)
        bench.station.pictures.sweep(at(RETIRED_MS))  # Even past its ten minutes.
        assert not path.exists()
        assert db.execute("SELECT * FROM rows").fetchall() == before
    old.close()
    assert bench.cache.access_view(cid(CARD), "school", at()).credential is None


def test_swaps_leave_no_open_files_behind(bench: Bench) -> None:
    def turn(number: int) -> int:
        bench.people.put(cardholder())
        bench.station.install(bench.people, moment=at(number * RETIRED_MS))
        bench.cache.access_view(cid(CARD), "school", at())
        bench.station.pictures.sweep(at((number + 1) * RETIRED_MS))
        return len(list(Path("/proc/self/fd").iterdir()))

    counts = [turn(number) for number in range(6)]
    assert counts[1] == counts[-1]
    assert len(list(bench.station.folder.glob("picture-school-7-people-*.db"))) == 1


def test_small_lists_are_read_when_they_change(bench: Bench) -> None:
    small = bench.cache.small
    assert small.site is not None
    assert small.site.floor_limit_minor == 30_000
    assert small.products["soup"].price_minor == 12_000
    assert small.menu == bench.menu.version
    bench.cache.refresh()
    assert bench.cache.small is small  # Nothing changed, nothing was read.
    bench.station.pictures.apply_delta(bench.settings.put(site(floor_limit_minor=5)), at())
    bench.station.pictures.apply_delta(
        bench.menu.put(product("bun"), remove=((PRODUCT, b"soup"),)), at()
    )
    assert bench.cache.small is small
    bench.cache.refresh()
    assert bench.cache.small.site is not None
    assert bench.cache.small.site.floor_limit_minor == 5
    assert set(bench.cache.small.products) == {"bun"}
    assert bench.cache.small.menu == bench.menu.version
    bench.station.install(bench.menu)
    bench.cache.refresh()
    assert set(bench.cache.small.products) == {"bun"}


def test_what_sync_keeps_beside_lists(bench: Bench) -> None:
    writer = bench.station.writer
    key = ScopeKey(scope=PEOPLE, purpose="seal", version=1, sealed=b"box")
    store_scope_keys(writer, [key])
    marks.acknowledge(writer, Stream.MAIN, "e1", 41)
    marks.take_order(writer, 3, b"three", at())
    marks.take_order(writer, 8, b"eight", at())
    assert marks.set_anchor(writer, at(), NOON_MS)
    cache = bench.cache
    assert cache.sealed_keys() == [key]
    assert (cache.acknowledged("main", "e1"), cache.acknowledged("main", "e2")) == (41, 0)
    assert cache.waiting_orders(0) == [(3, b"three"), (8, b"eight")]
    assert cache.waiting_orders(3) == [(8, b"eight")]
    assert cache.identifier_version(PEOPLE) == 1
    anchor = cache.anchor()
    assert anchor is not None
    assert (anchor.boot, anchor.mono_ms, anchor.utc_ms) == (at().boot, at().mono_ms, NOON_MS)
    assert set(cache.list_states(at())) == {PEOPLE, MONEY, MENU, SETTINGS}
