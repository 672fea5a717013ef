"""Goal: cards leave the issuer's desk whole or not at all, and their numbers are in one file alone.

Method: the real commands with model cards on a virtual desk: blanks are made and proven, torn away
and gone on with; what people bring is enrolled along class lists, good and bad; a device is asked
what it would decide. Whatever is printed is searched for card numbers, names and keys.
"""

from __future__ import annotations

import csv
import json
import re
import stat
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.access_fact import policy_of
from edge.config import load
from edge.messages import SiteRow
from edge.model import AccessPolicy, SetupProblem
from edge.readers.card_crypto import diversify_aes
from hil.bench.card_station import build_station, card_school, running
from hil.city.card_keys import FILE_NAME, make_card_keys, open_card_keys
from hil.devices.cards.blank import BlankDesfire, BlankNtag424
from hil.devices.cards.chip import Chip, UidCard
from hil.devices.cards.crypto import diversified
from hil.devices.cards.desk import READER, VirtualDesk
from provisioning import card_desk, card_inspect, cards, roster
from provisioning.card_keys import read_ceremony
from provisioning.roster import Roster, RosterLine, read_class_list
from tests.provisioning.conftest import Run

UID = bytes.fromhex("04A1B2C3D4E580")
Lay = Callable[..., None]


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No device lives at the usual place, whatever machine this is."""
    monkeypatch.setattr(cards, "CONFIG_DEFAULT", str(tmp_path / "no-device" / "device.toml"))
    monkeypatch.setenv("MOSKVENOK_CONFIG", str(tmp_path / "no-device" / "device.toml"))


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    (tmp_path / "city").mkdir()
    make_card_keys(tmp_path / "city", "s0001")
    return tmp_path / "city" / FILE_NAME


class Hand(VirtualDesk):
    """A virtual desk with these very cards."""

    def __init__(self, chips: Sequence[Chip]) -> None:
        super().__init__(())
        self.cards = list(chips)


@pytest.fixture
def lay(monkeypatch: pytest.MonkeyPatch) -> Lay:
    """The cards that the next command finds, instead of those that --virtual names."""

    def lay_down(*chips: Chip) -> None:
        monkeypatch.setattr(card_desk, "_virtual_desk", lambda _: Hand(chips))

    return lay_down


def lines_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def assert_tells_no_number(result: Result, *uids: bytes) -> None:
    said = result.output.lower()
    for uid in uids:
        assert uid.hex() not in said and uid[:4].hex() not in said
    assert not re.search(r"[0-9a-f]{8,}", said), said


# --- issue -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "blank", "tier"),
    [
        ("pupil-ev2", lambda: BlankDesfire(UID), 6),
        ("pupil-ev2", lambda: BlankDesfire(UID, major=0x33), 6),
        ("staff-424", lambda: BlankNtag424(UID), 6),
        ("guest-sun", lambda: BlankNtag424(UID), 4),
    ],
)
def test_a_blank_is_made_proven_and_written_down(
    run: Run, keys: Path, tmp_path: Path, lay: Lay, profile: str, blank: Any, tier: int
) -> None:
    out = tmp_path / "roster.csv"
    chip = blank()
    lay(chip)
    result = run("cards", "issue", "--keys", keys, "--profile", profile, "--person", "c0042",
                 "--out", out, "--virtual", "x")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert_tells_no_number(result, UID)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert lines_of(out) == [
        {"person": "c0042", "uid": UID.hex(), "kind": "iso14443", "tier": str(tier),
         "profile": profile, "key_version": "1", "reader": "pcsc"}
    ]  # fmt: skip
    # The city derives the same key by its own code.
    city = open_card_keys(keys.parent)
    assert city is not None
    own = city.derived(profile, UID)
    held = (
        chip.levels[bytes.fromhex("014b4d")].keys if isinstance(chip, BlankDesfire) else chip.keys
    )
    assert own in held.values() and bytes(16) not in held.values()
    assert chip.random_uid is (profile == "pupil-ev2")


def test_a_card_torn_away_is_gone_on_with(run: Run, keys: Path, tmp_path: Path, lay: Lay) -> None:
    out = tmp_path / "roster.jsonl"
    chip = BlankDesfire(UID)
    honest = chip.apdu
    count = 0

    def torn(command: bytes) -> bytes:
        nonlocal count
        count += 1
        return b"" if count == 25 else honest(command)

    chip.apdu = torn  # type: ignore[method-assign]
    call = ("cards", "issue", "--keys", keys, "--profile", "pupil-ev2", "--person", "c0042",
            "--out", out, "--virtual", "x")  # fmt: skip
    lay(chip)
    first = run(*call)
    assert first.exit_code == 1 and "run the same again" in first.output
    assert not out.exists(), "no line for a card that is not made"
    lay(chip)
    second = run(*call)
    assert second.exit_code == 0, second.output
    assert [json.loads(line)["tier"] for line in out.read_text().splitlines()] == [6]
    lay(BlankDesfire(UID))
    third = run(*call)
    assert third.exit_code == 1 and "--again" in third.output


class Forgets(BlankNtag424):
    """A faulty chip: what was written is gone with the field."""

    def power(self, on: bool) -> None:
        self.keys = dict.fromkeys(range(5), bytes(16))
        super().power(on)


def test_a_card_that_does_not_prove_itself_afterwards_is_not_given_out(
    run: Run, keys: Path, tmp_path: Path, lay: Lay
) -> None:
    out = tmp_path / "roster.csv"
    lay(Forgets(UID))
    result = run("cards", "issue", "--keys", keys, "--profile", "staff-424", "--person", "c0042",
                 "--out", out, "--virtual", "x")  # fmt: skip
    assert result.exit_code == 1 and "keep this card back" in result.output
    assert not out.exists()


def test_master_keys_stay_away_from_devices(
    run: Run, keys: Path, tmp_path: Path, lay: Lay, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "device"
    (device / "identity").mkdir(parents=True)
    lay(BlankDesfire(UID))
    call = (
        *("cards", "issue", "--keys", keys, "--profile", "pupil-ev2", "--person", "c0042"),
        *("--out", tmp_path / "roster.csv", "--virtual", "x"),
        *("--config", device / "device.toml"),
    )
    result = run(*call)
    assert result.exit_code == 1 and "this is a device" in result.output
    (device / "identity").rmdir()
    (device / "device.toml").touch()
    assert "this is a device" in run(*call).output
    keyed = ("--keys", keys, "--profile", "pupil-ev2", "--virtual", "x")
    asked = run("cards", "inspect", *keyed, "--config", device / "device.toml")
    assert asked.exit_code == 1 and "this is a device" in asked.output
    monkeypatch.setenv("MOSKVENOK_CONFIG", str(device / "device.toml"))
    for more in (("enrol", "--person", "c1", "--out", tmp_path / "r.csv"), ("inspect",)):
        assert "this is a device" in run("cards", *more, *keyed).output


@pytest.mark.parametrize(
    ("chip", "words"),
    [
        (UidCard(UID), "no application of ours"),
        (UidCard(bytes.fromhex("5A010203")), "no blank DESFire or NTAG 424"),
        (UidCard(bytes.fromhex("08000000"), random_uid=True), "shows another number each time"),
    ],
)
def test_what_is_no_blank_is_told(
    run: Run, keys: Path, tmp_path: Path, lay: Lay, chip: Chip, words: str
) -> None:
    lay(chip)
    result = run("cards", "issue", "--keys", keys, "--profile", "pupil-ev2", "--person", "c0042",
                 "--out", tmp_path / "roster.csv", "--virtual", "x")  # fmt: skip
    assert result.exit_code == 1 and words in result.output
    assert_tells_no_number(result, chip.real_uid)


def test_another_citys_card_is_left_alone(run: Run, keys: Path, tmp_path: Path, lay: Lay) -> None:
    chip = BlankNtag424(UID)
    chip.keys = dict.fromkeys(range(5), b"k" * 16)
    lay(chip)
    result = run("cards", "issue", "--keys", keys, "--profile", "staff-424", "--person", "c0042",
                 "--out", tmp_path / "roster.csv", "--virtual", "x")  # fmt: skip
    assert result.exit_code == 1 and "at the factory key" in result.output
    assert chip.wrong_keys == 1


def test_a_profile_that_comes_personalised_is_enrolled_instead(
    run: Run, keys: Path, tmp_path: Path, lay: Lay
) -> None:
    lay(UidCard(UID))
    result = run("cards", "issue", "--keys", keys, "--profile", "band-aes", "--person", "c0042",
                 "--out", tmp_path / "roster.csv", "--virtual", "x")  # fmt: skip
    assert result.exit_code == 1 and '"enrol" it' in result.output


# --- enrol -----------------------------------------------------------------------------------


def test_a_class_is_enrolled_one_by_one_and_gone_on_with(
    run: Run, tmp_path: Path, lay: Lay
) -> None:
    class_list = tmp_path / "7b.csv"
    class_list.write_text("﻿name;person;group\nАня Бык;c0001;7Б\nОля Кит;c0002;7Б\n\n", "utf-8")
    out = tmp_path / "roster.csv"
    chips = [UidCard(bytes([4, number]) + UID[2:]) for number in range(3)]
    call = ("cards", "enrol", "--class-list", class_list, "--out", out, "--virtual", "x")
    lay(chips[0])
    first = run(*call)
    assert first.exit_code == 1 and "no model card is left" in first.output
    assert [line["person"] for line in lines_of(out)] == ["c0001"]
    lay(chips[0], UidCard(bytes.fromhex("08000000"), random_uid=True), chips[1])
    second = run(*call)
    assert second.exit_code == 0, second.output
    assert "c0001 has it already" in second.output and "another number each time" in second.output
    assert [(line["person"], line["uid"], line["tier"]) for line in lines_of(out)] == [
        ("c0001", chips[0].real_uid.hex(), "1"),
        ("c0002", chips[1].real_uid.hex(), "1"),
    ]
    for result in (first, second):
        assert_tells_no_number(result, *(chip.real_uid for chip in chips))
        assert "Аня" not in result.output and "Кит" not in result.output


def test_a_card_is_enrolled_at_the_tier_it_proves(
    run: Run, keys: Path, tmp_path: Path, lay: Lay
) -> None:
    out = tmp_path / "roster.csv"
    chip = BlankDesfire(UID)
    lay(chip)
    made = run("cards", "issue", "--keys", keys, "--profile", "pupil-ev2", "--person", "c1",
               "--out", tmp_path / "made.csv", "--virtual", "x")  # fmt: skip
    assert made.exit_code == 0, made.output
    lay(BlankNtag424(bytes.fromhex("04112233445566")), chip)
    result = run("cards", "enrol", "--keys", keys, "--profile", "pupil-ev2", "--person", "c1",
                 "--out", out, "--virtual", "x")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "did not prove itself as pupil-ev2" in result.output
    (line,) = lines_of(out)
    assert (line["uid"], line["tier"], line["profile"], line["key_version"]) == (
        UID.hex(), "6", "pupil-ev2", "1",
    )  # fmt: skip


BAD_LISTS = [
    (b"", "line 1, column 1: empty"),
    (b"name,group\nA,7\n", 'line 1, column 1: no column is called "person"; there are name, group'),
    (b"person,person\na,b\n", 'two columns are called "person"'),
    (b"person\n", "line 1, column 1: nobody in the list"),
    (b"name,person\nA,c1\nB,c 2\n", 'line 3, column 2 (person): "c 2"'),
    (b"name,person\nA,c1\nB\n", "line 3, column 2 (person): empty"),
    (b"person\nc1\nc2\nc1\n", "line 4, column 1 (person): c1 stands in line 2 already"),
    ("person\nАня\n".encode("cp1251"), "line 2, column 1 (byte): not UTF-8"),
    (b'person\n"c1\n', "line 2"),
    (b"person\nc1\0\n", "line 2, column 1: not a text file"),
    (b"PK\x03\x04" + bytes(30), "line 1, column 1: not a text file"),
    (b"person\n" + b"\n".join(b"c%d" % n for n in range(5_001)), "more than 5000 people"),
]


@pytest.mark.parametrize(("data", "words"), BAD_LISTS)
def test_a_bad_class_list_is_told_by_line_and_column(
    run: Run, tmp_path: Path, data: bytes, words: str
) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(data)
    result = run("cards", "enrol", "--class-list", path, "--out", tmp_path / "r.csv",
                 "--virtual", "number")  # fmt: skip
    assert result.exit_code == 1
    assert f"{path}: " in result.output and words in result.output
    assert result.output.count(";") >= 1, "and what to do"


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=200))
def test_any_bytes_for_a_class_list_are_people_or_a_clear_error(
    tmp_path: Path, data: bytes
) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(data)
    try:
        assert read_class_list(path)
    except SetupProblem as problem:
        assert re.match(rf"{re.escape(str(path))}: line \d+, column \d+", str(problem)), problem


def test_a_roster_that_others_can_read_is_not_added_to(run: Run, tmp_path: Path, lay: Lay) -> None:
    out = tmp_path / "roster.csv"
    Roster(out).add(RosterLine(person="c1", uid=UID.hex(), kind="iso14443", tier=1))
    out.chmod(0o644)
    lay(UidCard(UID))
    result = run("cards", "enrol", "--person", "c2", "--out", out, "--virtual", "x")
    assert result.exit_code == 1 and "chmod 600" in result.output
    assert (
        "roster is a .csv or a .jsonl"
        in run(
            "cards", "enrol", "--person", "c2", "--out", tmp_path / "x.txt", "--virtual", "x"
        ).output
    )


@pytest.mark.parametrize("suffix", roster.SUFFIXES)
def test_a_roster_is_read_as_it_was_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"roster{suffix}"
    lines = [
        RosterLine(person="c1", uid=UID.hex(), kind="iso14443", tier=6, profile="p", key_version=7),
        RosterLine(person="c2", uid="0102030405", kind="prox125", tier=0, reader="serial:id12"),
    ]
    for line in lines:
        Roster(path).add(line)
    again = Roster(path)
    assert again._lines == lines and again.people == {"c1", "c2"}
    assert again.holder_of(UID) == "c1" and UID.hex() not in repr(lines)


def test_a_roster_without_readers_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "roster.csv"
    path.write_text(f"person,uid,kind,tier,profile,key_version\nc1,{UID.hex()},iso14443,1,,\n")
    path.chmod(0o600)
    Roster(path).add(RosterLine(person="c2", uid="01020304", kind="iso14443", tier=1))
    assert [line["reader"] for line in lines_of(path)] == ["", ""]


def test_a_roster_says_how_its_reader_prints_numbers() -> None:
    """The same card is another number where its bytes are turned round."""
    said = [
        roster.reader_profile(card_desk.reader_settings(spec))
        for spec in (
            "desk:pcsc",
            "desk:serial:/dev/x:id12",
            "desk:serial:/dev/x:d10:numbering=iso14443:reversed=true",
        )
    ]
    assert said == ["pcsc", "serial:id12", "serial:d10:iso14443:reversed"]


# --- inspect ---------------------------------------------------------------------------------


def test_a_device_says_what_it_would_decide_and_why(
    run: Run, tmp_path: Path, lay: Lay, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def by_what_settings(site: SiteRow | None, *, zone: str) -> AccessPolicy:
        asked.append((site, zone))
        return policy_of(site, zone=zone)

    monkeypatch.setattr(card_inspect, "policy_of", by_what_settings)
    with card_school(tmp_path) as city:
        config = build_station(tmp_path / "gate", city).source
        with running(load(config)):
            pass  # The agent has run here once: its journal is there.
        said = {}
        for name in ("pupil-ev2", "staff-424", "clone", "copy", "bank", "phone"):
            lay(city.cards.make(name))
            result = run("cards", "inspect", "--config", config, "--virtual", "x", "--json")
            assert result.exit_code == 0, result.output
            assert_tells_no_number(result, city.uid("staff-424"), city.uid("pupil-ev2"))
            said[name] = json.loads(result.output)
        lay(city.cards.make("clone"))
        words = run("cards", "inspect", "--config", config, "--virtual", "x").output
    for name in ("pupil-ev2", "staff-424"):
        assert (said[name]["tier"], said[name]["outcome"]) == (6, "grant"), said[name]
    assert (said["clone"]["tier"], said["clone"]["failure"]) == (0, "wrong_key")
    assert said["clone"]["reason"] == said["copy"]["reason"] == "tier_below_enrolled"
    assert said["clone"]["enrolled_tier"] == 6
    assert said["bank"]["reason"] == "unknown_credential"
    assert said["phone"]["failure"] == "random_uid" and said["phone"]["tier"] is None
    assert "would deny: it is enrolled as one that proves more" in words
    # By this school's settings, at the zone one comes in to.
    assert asked and all(site is not None and zone == "school" for site, zone in asked)


@pytest.mark.parametrize(
    ("chip", "claim"),
    [
        (BlankDesfire(UID), "DESFire EV2"),
        (BlankDesfire(UID, major=0x33), "DESFire EV3"),
        (BlankDesfire(UID, major=0x99), "type 01, version 99"),
        (BlankNtag424(UID), "NTAG 424 DNA"),
        (UidCard(UID), "nothing"),
    ],
)
def test_what_a_chip_claims_is_told_as_a_claim(run: Run, lay: Lay, chip: Chip, claim: str) -> None:
    lay(chip)
    result = run("cards", "inspect", "--virtual", "x")
    assert result.exit_code == 0, result.output
    assert claim in result.output and "a claim, nothing more" in result.output
    assert "not asked for more" in result.output
    assert_tells_no_number(result, UID)


# --- The key file, the desk ------------------------------------------------------------------


def test_the_product_and_the_city_derive_the_same_keys(keys: Path) -> None:
    city = open_card_keys(keys.parent)
    assert city is not None
    ceremony = read_ceremony(keys)
    assert set(ceremony.kinds) == set(city.profiles)
    for profile_id, kind in ceremony.kinds.items():
        master = bytes.fromhex(city.profiles[profile_id]["master"])
        for key_no in (0, kind.profile.key_no, 4):
            data = UID + kind.profile.aid + bytes([key_no]) + b"mk-s0001"
            wanted = diversified(master, data)
            assert diversify_aes(master, data) == wanted
            assert kind.derived(UID, key_no).key == wanted
            assert city.derived(profile_id, UID, key_no=key_no) == wanted
    text = repr(ceremony)
    assert not any(profile["master"] in text for profile in city.profiles.values())


BAD_KEYS = [
    ("not json", "not JSON"),
    ("[]", '"schema" must be 1'),
    ('{"schema": 1, "system": "я", "profiles": {}}', '"system"'),
    ('{"schema": 1, "system": "x", "profiles": {}}', '"profiles" is missing'),
    ('{"schema": 1, "system": "x", "profiles": {"p": 7}}', "profiles.p: must be a table"),
    ('{"schema": 1, "system": "x", "profiles": {"p": {"family": "card"}}}', "p.family"),
    ('{"schema": 1, "system": "x", "profiles": {"p": {"family": ["ntag424"]}}}', "p.family"),
    ('{"schema": 1, "system": "x", "profiles": {"p": {"family": "ntag424", "uid_key_no": 1.5}}}',
     "p.uid_key_no: 1.5; give a whole number"),
    ('{"schema": 1, "system": "x", "profiles": {"p": {"family": "ntag424", "aid": "014b4d"}}}',
     "a DESFire alone has one"),
    ('{"schema": 1, "system": "x", "profiles": {"p": {"family": "ntag424", "colour": 1}}}',
     '"colour" is not a key'),
    ('{"schema": 1, "system": "x", "profiles": {"p": {"family": "ntag424", "key_version": 0}}}',
     "0 is the factory's"),
    ('{"schema": 1, "system": "x", "profiles": {"p": {"family": "ntag424"}}}',
     '"master" is missing'),
    ('{"schema": 1, "system": "x", "profiles": {"p": {"family": "ntag424", "master": "00"}}}',
     "give 32 hex digits"),
    ('{"schema": 1, "system": "x", "profiles": {"p": {"family": "ntag424", "master": "'
     + "00" * 16 + '"}}}', "this is a factory key"),
    ('{"schema": 1, "system": "x", "profiles": {"p": {"family": "desfire_ev2"}}}', "AID"),
    ('{"schema": 1, "system": "x", "profiles": {"p": {"family": "ntag424", "read": 1}}}', "p.read"),
    ('{"schema": 1, "system": "x", "profiles": {"p": {"family": "ntag424_sun", "sdm": {}}}}',
     "p.sdm"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), BAD_KEYS)
def test_a_bad_key_file_is_told(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(SetupProblem, match=re.escape(words)):
        read_ceremony(path)


@pytest.mark.parametrize(
    ("profile", "change", "words"),
    [
        ("pupil-ev2", {"uid_key_no": 0}, "must differ"),  # In every device of the city.
        ("pupil-ev2", {"uid_key_no": 1}, "must differ"),
        ("staff-424", {"key_no": 0}, "must differ"),
        ("staff-424", {"key_no": 7}, "each 1 to 4"),
        ("guest-sun", {"meta_key_no": 0}, "must differ"),
        ("guest-sun", {"meta_key_no": 2}, "must differ"),
        ("guest-sun", {"meta_key_no": None}, "enciphered messages alone"),
    ],
)
def test_a_card_is_not_made_whose_master_a_lane_would_hold(
    run: Run, keys: Path, tmp_path: Path, lay: Lay, profile: str, change: dict[str, Any], words: str
) -> None:
    table = json.loads(keys.read_text())
    table["profiles"][profile].update(change)
    keys.write_text(json.dumps(table))
    blank = BlankDesfire(UID) if profile == "pupil-ev2" else BlankNtag424(UID)
    lay(blank)
    result = run("cards", "issue", "--keys", keys, "--profile", profile, "--person", "c1",
                 "--out", tmp_path / "r.csv", "--virtual", "x")  # fmt: skip
    assert result.exit_code == 1 and words in result.output, result.output
    keys_on_it = blank.levels[bytes(3)].keys if isinstance(blank, BlankDesfire) else blank.keys
    assert set(keys_on_it.values()) == {bytes(16)}, "the blank is as it was"


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text("{}")
    path.chmod(0o640)
    with pytest.raises(SetupProblem, match="chmod 600"):
        read_ceremony(path)


def test_the_virtual_desk_comes_by_its_entry_point(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = EntryPoint("virtual", "hil.devices.cards.desk:VirtualDesk", card_desk.DESKS)
    monkeypatch.setattr(card_desk, "entry_points", lambda group: [entry])
    result = run("cards", "inspect", "--virtual", "blank-ntag424")
    assert result.exit_code == 0 and READER in result.output
    assert "there are blank-desfire" in run("cards", "inspect", "--virtual", "unicorn").output
    monkeypatch.setattr(card_desk, "entry_points", lambda group: [])
    assert "no virtual desk is installed" in run("cards", "inspect", "--virtual", "number").output


def test_options_that_belong_together_are_asked_for(run: Run, keys: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.csv"
    assert (
        "--keys and --profile go together"
        in run(
            "cards", "enrol", "--person", "c1", "--out", out, "--keys", keys, "--virtual", "number"
        ).output
    )
    assert "one of them" in run("cards", "enrol", "--out", out, "--virtual", "number").output
    assert (
        "write the city's id"
        in run("cards", "enrol", "--person", "c 1", "--out", out, "--virtual", "number").output
    )
    assert "no profile" in run(
        "cards", "enrol", "--person", "c1", "--out", out, "--keys", keys, "--profile", "x",
        "--virtual", "number",
    ).output  # fmt: skip
