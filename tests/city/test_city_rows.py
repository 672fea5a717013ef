"""Goal: the lists carry all that stations decide by: staff and PINs, groups, relations, barred
guardians, free meals, pre-orders, settings, timetables, admissions; and the vector holds what tills
may still have.

Method: the canteen's school is put into a city in memory and its lists are read as devices read
them; sealed columns are opened with the scope's key. The museum's list is made as large as a city's
and its bytes are measured.
"""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from edge.messages import (
    AccountRow,
    AdmissionRow,
    CardholderRow,
    EntitlementRow,
    GroupRow,
    PreorderRow,
    ProductRow,
    ScheduleRow,
    SiteRow,
    StaffRow,
    decode_pack,
)
from edge.model import PassbackMode, StaffRole, Station, Tariff, Tender
from hil.city.desk import Desk
from hil.city.intake import CityCore
from hil.city.keys import CITY_SCOPE
from hil.city.museum import make_tokens
from hil.city.seed import seed_school
from hil.city.store import Store
from hil.world.canteen import BREAKFAST, BUFFET, STAFF
from hil.world.school import SMART_TIERS, Schedule, School, SiteSettings, make_school
from tests.city.sham import NOON_MS, SITE, TODAY, Picture, Sham, city_keys

NUMBERS = count(100)  # Of devices: each look is a device of its own.
DAY_MS = 24 * 60 * 60 * 1000
# protocol.md: a snapshot of 1,400,000 credentials may have 40 MB; the museum's rows are shorter.
MUSEUM_ROWS, MUSEUM_BYTES_MAX = 900_000, 40_000_000 * 900_000 // 1_400_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def school() -> School:
    return make_school(7, SITE, pupils=48, canteen=True)


@pytest.fixture
def core(folder: Path, school: School) -> CityCore:
    core = CityCore(Store(":memory:"), city_keys(folder), gather_ms=0)
    seed_school(core, school, NOON_MS)
    core.start(NOON_MS)
    return core


def fetch(core: CityCore, part: str, station: Station = Station.TILL) -> Picture:
    device = f"{station.value}-{next(NUMBERS)}"
    scope = CITY_SCOPE if part == "museum" else f"{SITE}/{part}"
    picture = Picture(Sham(core, device, station), scope)
    picture.fetch()
    return picture


def unseal(core: CityCore, sealed: bytes, row_key: str, column: str) -> str:
    scope = f"{SITE}/people"
    place = f"{scope}\0{row_key}\0{column}".encode()
    opened = AESGCM(core.keys.scopes[scope].seal).decrypt(sealed[1:13], sealed[13:], place)
    return opened.decode()


def test_staff_come_with_their_roles_and_a_sealed_pin(core: CityCore, school: School) -> None:
    people = fetch(core, "people")
    assert len(school.canteen.staff) == len(STAFF) == 3
    for member in school.canteen.staff:
        row = people.body(4, member.cardholder_id, StaffRow)
        assert row.roles == member.roles
        phc = unseal(core, row.sealed_pin, member.cardholder_id, "pin")
        assert phc.startswith("$argon2id$v=19$")
        Argon2id.verify_phc_encoded(member.pin.encode(), phc)
        with pytest.raises(InvalidKey):
            Argon2id.verify_phc_encoded(b"0000", phc)
        assert phc.encode() not in row.sealed_pin
    assert {role for m in school.canteen.staff for role in m.roles} == set(StaffRole)


def test_a_guardian_carries_relations_and_whom_they_are_barred_from(
    core: CityCore, school: School
) -> None:
    people = fetch(core, "people")
    (barred,) = [person for person in school.people if person.barred_ward_ids]
    row = people.body(1, barred.cardholder_id, CardholderRow)
    assert row.barred_ward_ids == (f"{SITE}c0001",) and f"{SITE}c0001" not in row.ward_ids
    assert set(row.sealed_relations) == set(row.ward_ids) == set(barred.ward_ids)
    for ward, word in barred.relations:
        column = f"relation/{ward}"
        assert unseal(core, row.sealed_relations[ward], barred.cardholder_id, column) == word
    with core.store.transaction():
        core.registry.set_ward(barred.cardholder_id, barred.ward_ids[0], "мама", barred=True)
        core.publisher.refresh("people", NOON_MS)
    again = fetch(core, "people").body(1, barred.cardholder_id, CardholderRow)
    assert again.ward_ids == () and len(again.barred_ward_ids) == 2


def test_classes_are_groups_with_sealed_names(core: CityCore, school: School) -> None:
    people = fetch(core, "people")
    for group in school.canteen.groups:
        row = people.body(5, group.group_id, GroupRow)
        assert row.member_ids == group.member_ids and row.member_ids
        assert unseal(core, row.sealed_name, group.group_id, "name") == group.name
    pupil = people.body(1, f"{SITE}c0001", CardholderRow)
    assert pupil.group == school.canteen.groups[0].group_id


def test_sealed_columns_follow_a_new_seal_key(core: CityCore, school: School) -> None:
    core.keys.rotate_scope(f"{SITE}/people", "seal")
    core.adopt_keys(NOON_MS)
    people = fetch(core, "people")
    staff, group = school.canteen.staff[0], school.canteen.groups[0]
    sealed = people.body(4, staff.cardholder_id, StaffRow).sealed_pin
    assert unseal(core, sealed, staff.cardholder_id, "pin").startswith("$argon2id$")
    sealed = people.body(5, group.group_id, GroupRow).sealed_name
    assert unseal(core, sealed, group.group_id, "name") == group.name


def test_money_carries_meals_chosen_free_and_limited(core: CityCore, school: School) -> None:
    money = fetch(core, "money")
    for one in school.canteen.entitlements:
        row = money.body(17, f"{one.cardholder_id}\0{one.entitlement_id}", EntitlementRow)
        assert (row.slots, row.categories) == (one.slots, one.categories)
        assert row.weekdays == (1, 2, 3, 4, 5)
    assert any(one.entitlement_id == BREAKFAST for one in school.canteen.entitlements)
    orders = [
        decode_pack(PreorderRow, body) for (kind, _), body in money.rows.items() if kind == 19
    ]
    assert len(orders) == len(school.canteen.preorders) > 0
    assert min(order.business_date for order in orders) == TODAY
    assert all(order.lines[0][2] > 0 and not order.charged for order in orders)
    for account in school.accounts:
        held = money.body(16, account.account_id, AccountRow)
        assert held.balance_minor_by_purse == {
            "main": account.balance_minor,
            BUFFET: account.buffet_minor,
        }
        assert held.item_limits == dict(account.item_limits)
        assert held.low_balance_minor == account.low_balance_minor
    purses = {decode_pack(ProductRow, body).purse for body in fetch(core, "menu").rows.values()}
    assert purses == {"main", BUFFET}


def test_a_right_that_ended_leaves_the_list_by_itself(core: CityCore) -> None:
    cardholder = f"{SITE}c0005"
    with core.store.transaction():
        core.store.execute(
            "UPDATE entitlement SET last_date = ? WHERE cardholder = ?", (TODAY, cardholder)
        )
        core.publisher.refresh("money", NOON_MS)
    key = (17, f"{cardholder}\0{BREAKFAST}".encode())
    assert key in fetch(core, "money").rows
    core.tick(NOON_MS + DAY_MS)
    assert key not in fetch(core, "money").rows


def test_every_setting_and_the_timetable_reach_the_list(core: CityCore) -> None:
    wanted = SiteSettings(
        passback_by_zone={"gym": PassbackMode.HARD},
        out_is_free=False,
        tariffs={"pupil": Tariff.FREE, "student": Tariff.REDUCED},
        photos=True,
        referral_ms_max=30_000,
        meal_slots={"breakfast": (510, 630)},
        tenders=(Tender.ACCOUNT, Tender.CASH),
        issue_only_tills=("till-9",),
        substitutions=("sold out",),
        emergency_minor_max=1,
    )
    schedule = Schedule(
        schedule_id="terms",
        windows=((0, 60),),
        terms=(("2025-09-01", "2025-10-26"),),
        holidays=(("2025-11-03", "2025-11-04"),),
        days={"2025-09-09": ((480, 720), (780, 840))},
    )
    with core.store.transaction():
        core.registry.set_settings(wanted)
        core.registry.add_schedule(schedule)
        core.publisher.refresh("settings", NOON_MS)
    assert core.registry.settings() == wanted
    settings = fetch(core, "settings")
    site = settings.body(48, "site", SiteRow)
    for name in SiteSettings.__dataclass_fields__:
        assert getattr(site, name) == getattr(wanted, name), name
    assert set(SiteRow.__struct_fields__) == set(SiteSettings.__dataclass_fields__)
    row = settings.body(49, "terms", ScheduleRow)
    assert (row.windows, row.terms) == (schedule.windows, schedule.terms)
    assert (row.holidays, row.days) == (schedule.holidays, schedule.days)


# ------------------------------------------------------------------------------------- museum


def test_the_museums_list_is_for_admissions_alone_and_says_nothing_but_a_category(
    core: CityCore, school: School
) -> None:
    till = Sham(core, "till-1")
    assert CITY_SCOPE not in till.answer["scopes"] and till.pull(CITY_SCOPE) == []
    museum = fetch(core, "museum", Station.ADMISSION)
    pupils = {p.cardholder_id for p in school.people if p.category == "pupil"}
    cards = [
        card
        for card in (*school.cards, *school.smart_cards, *school.later_cards)
        if card.cardholder_id in pupils and not card.hot
    ]
    tokens = {core.museum.token(card.uid_kind, card.uid) for card in cards}
    assert {key for _, key in museum.rows} == tokens
    assert set(map(bytes, museum.rows.values())) == {b"\x91\xa5pupil"}
    assert museum.body(64, next(iter(tokens)), AdmissionRow).category == "pupil"
    people = {key for _, key in fetch(core, "people").rows}
    assert not tokens & people, "under another key than the school's"
    assert {card.profile for card in cards} - {""} <= set(SMART_TIERS)


def test_a_blocked_card_leaves_the_museums_list_and_comes_back(
    core: CityCore, school: School
) -> None:
    museum = fetch(core, "museum", Station.ADMISSION)
    card = school.characters["pupil"]
    key = (64, core.museum.token(card.uid_kind, card.uid))
    desk = Desk(core, ())
    for on in (True, False):
        museum.hear(list(desk.block({"card": "pupil"}, NOON_MS, on=on).outs))
        assert (key in museum.rows) is not on


@pytest.mark.slow
def test_a_whole_citys_museum_list_fits(core: CityCore) -> None:
    with core.store.transaction():
        core.museum.enter_others(make_tokens(MUSEUM_ROWS))
        core.publisher.refresh("museum", NOON_MS, whole=True)
    row = core.store.one(
        "SELECT s.bytes, COUNT(*), MAX(LENGTH(c.data)) FROM snapshot s JOIN chunk c"
        " USING (snapshot) WHERE s.scope = ? GROUP BY s.snapshot ORDER BY s.place DESC",
        (CITY_SCOPE,),
    )
    assert row is not None
    size, chunks, longest = row
    print(f"{MUSEUM_ROWS} rows: {size} bytes in {chunks} chunks, the longest {longest}")
    assert size <= MUSEUM_BYTES_MAX and longest <= 56 * 1024


# ------------------------------------------------------------------------------------- vector


def test_a_closed_epoch_stays_in_the_vector_for_sixty_days(core: CityCore) -> None:
    till = Sham(core, "till-1")
    till.opened()
    till.send_all()
    closed = till.epoch
    till.epoch, till.facts = "00000000000000e2", []
    till.opened()
    till.send_all(now_ms=NOON_MS + DAY_MS)

    def epochs(day: int) -> set[str]:
        with core.store.transaction():
            core.publisher.touch_vector(NOON_MS)
            core.publisher.publish_money(NOON_MS + day * DAY_MS, at_once=True)
        state = core.publisher.state(f"{SITE}/money")
        assert state is not None
        return {entry.epoch for entry in state.vector}

    assert epochs(2) == epochs(59) == {closed, till.epoch}
    assert epochs(61) == {till.epoch}
    assert epochs(400) == {till.epoch}, "the newest stays, however silent"
