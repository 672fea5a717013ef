"""Goal: the city's stick holds what a device needs and nothing that it must not have, and the
folder that it becomes is whole or has no index.

Method: sticks of a small school in memory, taken apart by the wire's page; the folder from bytes
that end early. A real device takes them in `tests/process/test_stick_process.py`.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edge.messages import (
    MESSAGE_BYTES_MAX,
    STICK_INDEX,
    Head,
    PushChunk,
    PushKeys,
    PushManifest,
    SealedKeys,
    StickFile,
    StickIndex,
    StickWhat,
    decode_json,
    decode_pack,
    decode_push,
    decode_signed_lines,
    encode_json,
)
from edge.model import SetupProblem, Station
from edge.trust import FileKeyStore, open_scope_key, write_secret
from hil import stick as stick_command
from hil.city import stick as city_stick
from hil.city.desk import Desk, Refused
from hil.city.intake import CityCore
from hil.city.keydesk import KeyDesk
from hil.city.keys import open_keys, utc
from hil.city.seed import seed_school
from hil.city.stick import DAY_MS, IN_TWO_PARTS, Stick, make_stick
from hil.city.store import Store
from hil.stick import write_stick
from hil.world.school import make_school
from tests.city.sham import NOON_MS, SITE, Sham, make_core, make_request


@pytest.fixture
def core(tmp_path: Path) -> CityCore:
    return make_core(tmp_path)


def messages_of(stick: Stick, name: str) -> list[bytes]:
    """Each message of a file, by its length in front."""
    place = [one.name for one in stick.index.files].index(name)
    data, found = io.BytesIO(stick.contents[place]), []
    while length := data.read(4):
        found.append(data.read(int.from_bytes(length, "big")))
        assert 0 < len(found[-1]) == int.from_bytes(length, "big") <= MESSAGE_BYTES_MAX
    return found


def names(stick: Stick) -> list[str]:
    return [one.name for one in stick.index.files]


LISTS = ["list-people", "list-money", "list-menu", "list-settings"]


def test_a_stick_has_root_keys_and_whole_lists_of_the_newest_version(core: CityCore) -> None:
    for name, station in (("gate-1", Station.ENTRANCE), ("till-1", Station.TILL)):
        Sham(core, name, station)
    desk = Desk(core, ())
    desk.block({"card": "staff"}, NOON_MS, on=True)  # A delta since the snapshot.
    stick = make_stick(core, {}, NOON_MS + 1000)
    assert names(stick) == ["root", "keys-gate-1", "keys-till-1", *LISTS]
    assert [one.size_bytes for one in stick.index.files] == [len(c) for c in stick.contents]
    assert messages_of(stick, "root") == [core.keys.root_document]
    for name, part in zip(LISTS, ("people", "money", "menu", "settings"), strict=True):
        lines, first, *rest = messages_of(stick, name)
        head = decode_json(Head, decode_signed_lines(lines).payload)
        state = core.publisher.state(f"{SITE}/{part}")
        assert state is not None and head.scope == f"{SITE}/{part}"
        assert head.version == head.snapshot_version == state.version
        assert head.valid_until_utc_ms - head.issued_utc_ms == 3 * DAY_MS
        assert isinstance(decode_push(first), PushManifest)
        chunks = [decode_push(one) for one in rest]
        assert [one.index for one in chunks if isinstance(one, PushChunk)] == [*range(len(rest))]


def test_keys_are_sealed_to_who_is_named_and_who_is_not_revoked(
    core: CityCore, tmp_path: Path
) -> None:
    for name in ("gate-1", "gate-2", "gate-3"):
        Sham(core, name, Station.ENTRANCE)
    KeyDesk(core, Desk(core, ()), tmp_path).revoke({"device": "gate-3"}, NOON_MS)
    assert names(make_stick(core, {}, NOON_MS)) == ["root", "keys-gate-1", "keys-gate-2", *LISTS]
    stick = make_stick(core, {"devices": ["gate-2", "gate-2"]}, NOON_MS)
    assert names(stick) == ["root", "keys-gate-2", *LISTS]
    push = decode_push(messages_of(stick, "keys-gate-2")[0])
    assert isinstance(push, PushKeys)
    told = decode_pack(SealedKeys, push.signed.payload)
    assert told.device == "gate-2" and {key.scope for key in told.keys} == {f"{SITE}/people"}
    for wrong, words in (
        ({"devices": ["gate-3"]}, "revoked"),
        ({"devices": ["nobody"]}, "no device 'nobody'"),
        ({"devices": "gate-1"}, "no list of names"),
        ({"devices": [{}]}, "no device {}"),
        ({"devices": ["x"] * 300}, "no list of names"),
        ({"days": 0}, "days 0"),
        ({"days": 15}, "days 15"),
        ({"days": True}, "days True"),
    ):
        with pytest.raises(Refused, match=words):
            make_stick(core, wrong, NOON_MS)


def test_the_citys_list_of_pupils_goes_only_where_a_museum_is(core: CityCore) -> None:
    Sham(core, "gate-1", Station.ENTRANCE)
    Sham(core, "museum-1", Station.ADMISSION)
    assert "list-museum" not in names(make_stick(core, {"devices": ["gate-1"]}, NOON_MS))
    stick = make_stick(core, {"devices": ["museum-1"], "days": 14}, NOON_MS)
    assert names(stick) == ["root", "keys-museum-1", *LISTS, "list-museum"]
    (museum,) = [one for one in stick.index.files if one.name == "list-museum"]
    assert museum.scope == "city/museum" and museum.what is StickWhat.LIST


# ------------------------------------------------------------------------------ another site


@pytest.fixture
def cores(tmp_path: Path) -> tuple[CityCore, CityCore]:
    """The first site, and another with a museum of its own and no list of it in its books."""
    keys = open_keys(tmp_path / "keys", SITE, utc(NOON_MS), more_sites=("s0002",))
    made = []
    for number, site in enumerate((SITE, "s0002")):
        core = CityCore(Store(":memory:"), keys, site=site, gather_ms=0)
        seed_school(core, make_school(7 + number, site, pupils=24), NOON_MS)
        core.start(NOON_MS)
        made.append(core)
    first, second = made
    for name, station in (("museum-2", "admission"), ("gate-2", "entrance")):
        desk = Desk(second, ("mqtt://127.0.0.1:1883",))
        desk.make_claim(NOON_MS, f"claim-{name}")
        request = {"claim": f"claim-{name}", "device_id": name, "site_id": "s0002"}
        key = DEVICE_KEYS[name]
        desk.enrol({**request, "station": station, "csr_pem": make_request(key)}, NOON_MS)
    return first, second


DEVICE_KEYS = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("museum-2", "gate-2")}


def test_a_museum_of_another_site_gets_the_citys_list_from_the_first(
    cores: tuple[CityCore, CityCore], tmp_path: Path
) -> None:
    first, second = cores
    alone = make_stick(first, {"museum": "alone", "days": 2}, NOON_MS)
    assert names(alone) == ["list-museum"]
    head = decode_json(Head, decode_signed_lines(messages_of(alone, "list-museum")[0]).payload)
    assert head.valid_until_utc_ms - head.issued_utc_ms == 2 * DAY_MS
    apart = make_stick(second, {"museum": "apart", "devices": ["museum-2"]}, NOON_MS)
    assert names(apart) == ["root", "keys-museum-2", *LISTS]
    assert [one.scope for one in apart.index.files[2:]] == [
        f"s0002/{part}" for part in ("people", "money", "menu", "settings")
    ]
    push = decode_push(messages_of(apart, "keys-museum-2")[0])
    assert isinstance(push, PushKeys)
    told = decode_pack(SealedKeys, push.signed.payload)
    path = tmp_path / "device.key"
    write_secret(
        path,
        DEVICE_KEYS["museum-2"].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )
    store = FileKeyStore(path)
    secrets = first.keys.scopes["city/museum"]
    assert [(key.scope, key.purpose, open_scope_key(store, key)) for key in told.keys] == [
        ("city/museum", "identifier", secrets.identifier),
        ("city/museum", "seal", secrets.seal),
    ]


def test_half_a_stick_is_never_taken_for_a_whole_one(cores: tuple[CityCore, CityCore]) -> None:
    first, second = cores
    for core, request, words in (
        (second, {}, "museum-2 needs city/museum, which is not in the books of s0002"),
        (second, {"devices": ["gate-2", "museum-2"]}, "museum-2 needs city/museum"),
        (second, {"museum": "alone"}, "city/museum is not in the books of s0002"),
        (first, {"museum": "half"}, "museum 'half'"),
        (first, {"museum": ["alone"]}, "museum"),
    ):
        with pytest.raises(Refused, match=words) as told:
            make_stick(core, request, NOON_MS)
        assert told.value.status == (IN_TWO_PARTS if core is second else 400)
    assert names(make_stick(second, {"devices": ["gate-2"]}, NOON_MS)) == [
        *("root", "keys-gate-2"), *LISTS,
    ]  # fmt: skip
    assert names(make_stick(first, {}, NOON_MS)) == ["root", *LISTS], "nobody needs it there"
    assert (stick_command.ALONE, stick_command.APART) == (city_stick.ALONE, city_stick.APART)
    assert stick_command.IN_TWO_PARTS == IN_TWO_PARTS


def test_no_name_on_the_stick_is_of_a_person(core: CityCore) -> None:
    """Names of files and the index: ids of devices and sites, and sizes."""
    Sham(core, "gate-1", Station.ENTRANCE)
    index = json.loads(encode_json(make_stick(core, {}, NOON_MS).index))
    assert set(index) == {"files", "made_utc_ms", "v"}
    for one in index["files"]:
        assert set(one) == {"name", "what", "size_bytes", "scope", "device"}
        assert one["name"].isascii() and one["scope"].partition("/")[0] in ("", SITE, "city")


def test_the_folder_is_whole_or_has_no_index(core: CityCore, tmp_path: Path) -> None:
    Sham(core, "gate-1", Station.ENTRANCE)
    stick = make_stick(core, {}, NOON_MS)
    line, _, content = stick.packed().partition(b"\n")
    index = decode_json(StickIndex, line)
    out = tmp_path / "stick"
    write_stick(out, index, io.BytesIO(content).read)
    assert decode_json(StickIndex, (out / STICK_INDEX).read_bytes()) == stick.index
    for one, wanted in zip(index.files, stick.contents, strict=True):
        assert (out / one.name).read_bytes() == wanted
    with pytest.raises(SetupProblem, match="the city ended it early"):
        write_stick(out, index, io.BytesIO(content[:-1]).read)
    assert not (out / STICK_INDEX).exists(), "the one before is no more either"
    wild = StickIndex(
        files=(StickFile(name="../x", what=StickWhat.ROOT, size_bytes=1),), made_utc_ms=1
    )
    with pytest.raises(SetupProblem, match="is no name of a file"):
        write_stick(out, wild, io.BytesIO(b"x").read)
