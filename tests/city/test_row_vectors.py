"""Goal: the golden rows are one of each kind, as a device reads them, and can be made from what
stands beside them and the published pages alone; each kind stands in the list that these name.

Method: bodies are made again from the named values and the places of the published schema; the hash
is reckoned here in the words of `sync/README.md`; the product takes the same bytes apart; a whole
reference city says which rows it puts into which list.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.messages import (
    ROW_BODIES,
    ROW_NUMBERS,
    ProfileRow,
    Row,
    RowKind,
    StaffRow,
    decode_body,
    set_digest,
    set_digest_bytes,
)
from edge.model import Station
from edge.pin import PHC
from edge.trust import unseal_column
from hil.city.desk import Desk
from hil.city.intake import CityCore
from hil.city.seed import seed_school
from hil.city.store import Store
from hil.row_pages import LIST_OF
from hil.schemas import FOLDER as SCHEMAS
from hil.vectors import FOLDER
from hil.world.school import make_school
from tests.city.sham import NOON_MS, SITE, TODAY, Sham, city_keys

LISTS = json.loads((FOLDER / "lists.json").read_text())
SECRETS = json.loads((FOLDER / "secrets.json").read_text())
DEFINITIONS = json.loads((SCHEMAS / "wire.json").read_text())["$defs"]
KINDS: dict[str, dict[str, Any]] = {one["row"]: one for one in LISTS["kinds"]}
SEAL_KEYS = {2: bytes.fromhex(SECRETS["seal_key"])}


def row_of(one: dict[str, Any]) -> Row:
    return Row(one["kind"], bytes.fromhex(one["key"]), bytes.fromhex(one["body"]))


def packed(value: Any, schema: dict[str, Any]) -> Any:
    """As a city would that has the pages alone: places in order, bytes as bytes."""
    if "$ref" in schema:
        return packed(value, DEFINITIONS[schema["$ref"].rpartition("/")[2]])
    if "anyOf" in schema and value is not None:
        [schema] = [one for one in schema["anyOf"] if one != {"type": "null"}][:1]
        return packed(value, schema)
    if isinstance(value, dict) and set(value) == {"hex"}:
        return bytes.fromhex(value["hex"])
    if isinstance(value, dict) and "prefixItems" in schema:
        assert set(value) == {place["title"] for place in schema["prefixItems"]}
        return [packed(value[place["title"]], place) for place in schema["prefixItems"]]
    if isinstance(value, dict):
        inner = schema["additionalProperties"]
        return {name: packed(one, inner) for name, one in value.items()}
    if isinstance(value, list):
        return [packed(one, schema.get("items") or {}) for one in value]
    return value


def test_there_is_one_of_each_kind() -> None:
    assert {name: one["kind"] for name, one in KINDS.items()} == {
        ROW_BODIES[number].__name__: number for number in ROW_NUMBERS.values()
    }
    assert len(LISTS["kinds"]) == len(RowKind)


@pytest.mark.parametrize("name", KINDS)
def test_a_golden_row_can_be_made_from_the_pages(name: str) -> None:
    one = KINDS[name]
    assert DEFINITIONS[name]["x-row"]["kind"] == one["kind"]
    assert DEFINITIONS[name]["x-row"]["list"] == one["list"]
    body = msgspec.msgpack.encode(packed(one["values"], DEFINITIONS[name]))
    assert body.hex() == one["body"]
    key = bytes.fromhex(one["key"])
    digest = hashlib.sha256(bytes([one["kind"]]) + len(key).to_bytes(2, "big") + key + body)
    assert digest.hexdigest() == one["hash"]


@pytest.mark.parametrize("name", KINDS)
def test_a_golden_row_is_what_devices_read(name: str) -> None:
    body = decode_body(row_of(KINDS[name]))
    assert type(body).__name__ == name
    assert msgspec.msgpack.encode(body).hex() == KINDS[name]["body"]


def test_their_set_digest_is_the_sum_of_the_hashes() -> None:
    total = sum(int(one["hash"], 16) for one in KINDS.values()) % 2**256
    assert f"{total:064x}" == LISTS["set_digest_of_kinds"]
    rows = [row_of(one) for one in KINDS.values()]
    assert set_digest_bytes(set_digest(rows)).hex() == LISTS["set_digest_of_kinds"]


def test_what_is_sealed_in_them_opens() -> None:
    staff = decode_body(row_of(KINDS["StaffRow"]))
    assert isinstance(staff, StaffRow)
    place = {"scope": f"{SITE}/people", "row_key": bytes.fromhex(KINDS["StaffRow"]["key"])}
    pin = unseal_column(SEAL_KEYS, staff.sealed_pin, column="pin", **place)  # type: ignore[arg-type]
    assert PHC.fullmatch(pin)
    profile = decode_body(row_of(KINDS["ProfileRow"]))
    assert isinstance(profile, ProfileRow)
    assert profile.sealed_meta_key[0] == profile.sealed_uid_key[0] == 2


def test_each_kind_stands_in_the_list_that_the_pages_name(tmp_path: Path) -> None:
    core = CityCore(Store(":memory:"), city_keys(tmp_path), gather_ms=0)
    seed_school(core, make_school(7, SITE, pupils=24, canteen=True), NOON_MS)
    core.start(NOON_MS)
    Sham(core, "till-1", Station.TILL)
    desk = Desk(core, ("mqtt://127.0.0.1:1883",))
    desk.configure({"device": "till-1", "values": {"health_s": 30}}, NOON_MS)
    with core.store.transaction():
        core.store.execute(
            "INSERT INTO meal_use (cardholder, date, slot, entitlement, device, epoch, sequence,"
            " digest, wall_ms, clock_trusted, purse, amount_minor)"
            " VALUES ('s0001c0001', ?, 'lunch', 'e', 'till-1', 'x', 2, 'd', 1, 1, 'main', 0)",
            (TODAY,),
        )
        core.publisher.refresh("money", NOON_MS)
    found: dict[int, str] = {}
    for scope in core.publisher.scopes:
        for kind, _ in core.publisher._held_rows(scope):
            assert found.setdefault(kind, scope) == scope
    assert found == {
        ROW_NUMBERS[kind]: name.replace("{site}", SITE) for kind, name in LIST_OF.items()
    }
    core.store.close()
