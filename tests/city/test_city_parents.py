"""Goal: what families ask of the city holds at the tills at once, is told to them, and tells nobody
else anything.

Method: examples over the core and over HTTP; every refusal has words; the lists are read as a till
reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from edge.messages import AccountRow, CardholderRow, CredentialRow, HotRow
from edge.model import UidKind
from hil.city.crypto import credential_id
from hil.city.desk import Desk, Refused
from hil.city.intake import CityCore
from hil.city.keys import CITY_SCOPE
from hil.city.parents import ParentDesk
from tests.city.sham import NOON_MS, SITE, Picture, Sham, make_core, small_school

ANN, ANNS = f"{SITE}c0001", f"{SITE}a0001"
NUMBERS = count(100)  # Of tills: each look is a till of its own.
NEW_UID = "04a1b2c3d4e5f6"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture
def core(folder: Path) -> CityCore:
    return make_core(folder)


@pytest.fixture
def parents(core: CityCore) -> ParentDesk:
    return ParentDesk(core, Desk(core, ()))


def account(core: CityCore) -> AccountRow:
    picture = Picture(Sham(core, f"till-{next(NUMBERS)}"), f"{SITE}/money")
    picture.fetch()
    return picture.body(16, ANNS, AccountRow)


def feed(core: CityCore) -> list[tuple[str, str]]:
    return core.store.rows("SELECT kind, text FROM feed ORDER BY id")


def refused(work: Callable[..., Any], request: dict[str, Any]) -> Refused:
    with pytest.raises(Refused) as caught:
        work(request, NOON_MS)
    assert caught.value.error and caught.value.remedy
    return caught.value


def test_limits_go_out_at_once_and_are_taken_away_again(
    core: CityCore, parents: ParentDesk
) -> None:
    wish: dict[str, Any] = {
        "day_limit_minor": 300_00,
        "week_limit_minor": 1_000_00,
        "low_balance_minor": 100_00,
        "item_limits": {"pastry": 1, "soup": 0},
    }
    done = parents.limit({"cardholder": ANN, **wish}, NOON_MS)
    assert [out.topic.rpartition("/")[2] for out in done.outs] == ["delta", "head"]
    row = account(core)
    assert (row.day_limit_minor, row.week_limit_minor) == (300_00, 1_000_00)
    assert (row.low_balance_minor, row.item_limits) == (100_00, {"pastry": 1, "soup": 0})
    parents.limit({"cardholder": ANN, "item_limits": {}, "week_limit_minor": None}, NOON_MS)
    row = account(core)
    assert (row.day_limit_minor, row.week_limit_minor, row.item_limits) == (300_00, None, {})


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"day_limit_minor": -1},
        {"week_limit_minor": "much"},
        {"low_balance_minor": True},
        {"item_limits": ["pastry"]},
        {"item_limits": {"caviar": 1}},
        {"item_limits": {"pastry": -1}},
        {"item_limits": {"pastry": "one"}},
    ],
)
def test_a_limit_that_cannot_be_is_refused(parents: ParentDesk, wish: dict[str, Any]) -> None:
    refused(parents.limit, {"cardholder": ANN, **wish})
    nobody = {"account": f"sales:{SITE}", "day_limit_minor": 1}
    assert refused(parents.limit, nobody).status == 404


def test_little_money_is_told_once_and_again_after_a_top_up(
    core: CityCore, parents: ParentDesk
) -> None:
    parents.limit({"cardholder": ANN, "low_balance_minor": 1_400_00}, NOON_MS)
    till = Sham(core, "till-1")
    till.opened()
    for _ in range(3):
        till.sale(1)
    till.send_all()
    low = [text for kind, text in feed(core) if kind == "low_balance"]
    assert len(low) == 1 and low[0].endswith(": 1330.00 ₽ left")
    Desk(core, ()).top_up({"cardholder": ANN, "amount_minor": 200_00}, NOON_MS)
    for _ in range(2):
        till.sale(1)
    till.send_all()
    assert [kind for kind, _ in feed(core)].count("low_balance") == 2


def test_a_lost_card_is_hot_at_once_and_the_money_stays(
    core: CityCore, parents: ParentDesk
) -> None:
    till = Sham(core, "till-1")
    people = Picture(till, f"{SITE}/people")
    people.fetch()
    before = account(core).balance_minor_by_purse
    done = parents.replace_card({"card": "pupil", "uid": NEW_UID}, NOON_MS)
    people.hear([out for out in done.outs if "/people/" in out.topic])
    key = core.keys.scopes[f"{SITE}/people"].identifier
    old = small_school().characters["pupil"]
    lost = credential_id(key, old.uid_kind, old.uid)
    new = credential_id(key, UidKind.ISO14443, bytes.fromhex(NEW_UID))
    assert people.body(3, lost, HotRow).why == "replaced"
    assert people.body(2, new, CredentialRow).cardholder_id == ANN
    assert account(core).balance_minor_by_purse == before
    first = next(out.topic for out in done.outs)
    assert first == f"mk/v1/s/{SITE}/people/delta", "the hot list goes ahead of all others"
    assert core.registry.find_card("pupil") == new, "on the tray the name is the new card's"
    tokens = {row[0] for row in core.store.rows("SELECT token FROM token WHERE cardholder = ?",
                                               (ANN,))}  # fmt: skip
    assert core.museum.token(UidKind.ISO14443, bytes.fromhex(NEW_UID)) in tokens
    assert core.museum.token(old.uid_kind, old.uid) not in tokens
    assert any(CITY_SCOPE in out.topic for out in done.outs)
    assert feed(core)[-1][0] == "card"


def test_a_guardian_who_is_barred_may_collect_nobody_from_now_on(
    core: CityCore, parents: ParentDesk
) -> None:
    guardian = next(p for p in small_school().people if ANN in p.ward_ids).cardholder_id
    people = Picture(Sham(core, "till-1"), f"{SITE}/people")
    people.fetch()
    for on in (True, False):
        request = {"guardian": guardian, "child": ANN, "on": on}
        people.hear(list(parents.bar(request, NOON_MS).outs))
        row = people.body(1, guardian, CardholderRow)
        assert (ANN in row.barred_ward_ids, ANN in row.ward_ids) == (on, not on)
    assert refused(parents.bar, {"guardian": guardian, "child": "nobody"}).status == 404
    assert refused(parents.bar, {"guardian": guardian, "child": ANN, "on": 1}).status == 400


@pytest.mark.parametrize(
    "request_",
    [
        {"card": "pupil", "uid": "04"},
        {"card": "pupil", "uid": "04a1b2c3d4"},
        {"card": "pupil", "uid": "not hex"},
        {"card": "pupil", "uid": NEW_UID, "kind": "prox125"},
        {"card": "stranger", "uid": NEW_UID},
        {"card": "nobody's", "uid": NEW_UID},
        {"card": "pupil"},
    ],
)
def test_a_replacement_that_cannot_be_is_refused(
    parents: ParentDesk, request_: dict[str, Any]
) -> None:
    refused(parents.replace_card, request_)


def test_the_new_card_may_be_no_card_that_is_registered(parents: ParentDesk) -> None:
    uid = small_school().characters["poor"].uid.hex()
    assert refused(parents.replace_card, {"card": "pupil", "uid": uid}).status == 409
