"""Goal: what a technician types becomes exactly the file that `edge.config` reads as meant.

Method: examples of each form read back through `edge.config`; hypothesis for ports and names with
colons, quotes and the like; each mistake names its option and shows the right form.
"""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edge.config import parse
from edge.model import Direction, SetupProblem, Station
from edge.settings import Drive, Pull
from provisioning.device_file import (
    Body,
    compose,
    difference,
    read_lane,
    read_reader,
    same_meaning,
)

LONG_PORT = "/dev/serial/by-path/pci-0000:01:00.0-usb-0:1.2:1.0-port0"
INWARD = "north-in=in:school:relay=17:rotation=27/low/up:pulse_ms_max=300"
OUTWARD = "north-out=out:school:relay=22/low:wait_ms_max=7000"
BODY = Body(
    device_id="gate-1",
    site_id="school-7",
    station="entrance",
    time_zone="Europe/Moscow",
    endpoints=("mqtts://a.example:8883", "mqtts://b.example"),
    readers=(
        f"r1:serial:{LONG_PORT}:id12:access_point=north-in",
        "r2:pcsc:ACS ACR122U:access_point=north-out",
    ),
    lanes=(f"north:lgpio:{INWARD},{OUTWARD}",),
)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("r1:pn532:/dev/ttyUSB0", {"driver": "pn532", "port": "/dev/ttyUSB0"}),
        (f"r1:pn532:{LONG_PORT}", {"driver": "pn532", "port": LONG_PORT}),
        (
            f"r1:osdp:{LONG_PORT}:uid:address=3:key_file=/var/lib/moskvenok/identity/r1.osdp",
            {
                "driver": "osdp",
                "port": LONG_PORT,
                "frame": "uid",
                "address": 3,
                "key_file": "/var/lib/moskvenok/identity/r1.osdp",
            },
        ),
        (
            "r1:wedge:/dev/input/by-path/a:b-event-kbd:d10:numbering=prox125",
            {
                "driver": "wedge",
                "port": "/dev/input/by-path/a:b-event-kbd",
                "frame": "d10",
                "numbering": "prox125",
            },
        ),
        (
            "r1:serial:/dev/ttyS0:hex_line:reversed=true:baud=19200",
            {
                "driver": "serial",
                "port": "/dev/ttyS0",
                "frame": "hex_line",
                "reversed": True,
                "baud": 19200,
            },
        ),
    ],
)
def test_every_reader_family_can_be_typed(typed: str, meant: dict[str, object]) -> None:
    body = replace(BODY, station="till", readers=(typed,), lanes=())
    assert read_reader(typed) == {"id": "r1"} | meant
    (reader,) = parse(compose(body).encode(), Path("/x/device.toml")).readers
    assert {key: getattr(reader, key) for key in meant} == meant


def test_a_yes_or_no_is_written_true_or_false() -> None:
    with pytest.raises(SetupProblem, match=r'reversed is "yes"; give true or false'):
        read_reader("r1:serial:/dev/ttyS0:hex_line:reversed=yes")


def test_what_is_typed_is_what_the_agent_reads() -> None:
    settings = parse(compose(BODY).encode(), Path("/x/device.toml"))
    assert (settings.device_id, settings.site_id) == ("gate-1", "school-7")
    assert settings.station is Station.ENTRANCE
    assert settings.endpoints == BODY.endpoints
    serial, pcsc = settings.readers
    assert serial.port == LONG_PORT
    assert (serial.frame, serial.access_point_id) == ("id12", "north-in")
    assert (pcsc.driver, pcsc.name, pcsc.access_point_id) == ("pcsc", "ACS ACR122U", "north-out")
    into, out = settings.lanes[0].access_points
    assert (into.direction, into.zone_id, into.pulse_ms_max) == (Direction.IN, "school", 300)
    assert into.rotation is not None
    assert (into.rotation.pin, into.rotation.active_high, into.rotation.pull) == (
        27,
        False,
        Pull.UP,
    )
    assert (out.relay.pin, out.relay.active_high, out.rotation) == (22, False, None)
    assert out.wait_ms_max == 7000


def test_a_lane_with_everything_is_what_the_agent_reads() -> None:
    text = (
        "north:lgpio:fire=5/low/up,hold=24,tamper=6/up,"
        "north-in=in:school:relay=17:green=12:red=16:amber=20:buzzer=21:button=7/low/up:drive=level"
    )
    body = replace(BODY, readers=BODY.readers[:1], lanes=(text,))
    (lane,) = parse(compose(body).encode(), Path("/x/device.toml")).lanes
    assert lane.fire is not None and (lane.fire.pin, lane.fire.pull) == (5, Pull.UP)
    assert [line.line_id for line in lane.inputs] == [
        "north.fire",
        "north.tamper",
        "north-in.button",
    ]
    assert [line.pin for line in lane.outputs] == [17, 12, 16, 20, 21, 24]
    assert lane.access_points[0].drive is Drive.LEVEL


def test_a_relay_board_has_a_port_that_may_hold_colons() -> None:
    text = f"north:relay_board:port={LONG_PORT},north-in=in:school:relay=1"
    body = replace(BODY, readers=BODY.readers[:1], lanes=(text,))
    (lane,) = parse(compose(body).encode(), Path("/x/device.toml")).lanes
    assert (lane.driver, lane.port) == ("relay_board", LONG_PORT)


def test_a_till_needs_no_lane() -> None:
    till = replace(BODY, station="till", lanes=(), readers=("r1:pcsc",), simulated_taps=True)
    settings = parse(compose(till).encode(), Path("/x/device.toml"))
    assert settings.simulated_taps and settings.readers[0].name == ""


@given(st.text(st.characters(exclude_characters="=", codec="utf-8"), min_size=1))
def test_any_port_and_name_survive(text: str) -> None:
    assume(text.strip(":"))
    assert read_reader(f"r1:pcsc:{text}") == {"id": "r1", "driver": "pcsc", "name": text}
    found = tomllib.loads(compose(replace(BODY, readers=(f"r1:serial:{text}:id12",))))
    assert found["readers"] == [{"id": "r1", "driver": "serial", "port": text, "frame": "id12"}]


@pytest.mark.parametrize(
    "text",
    [
        *("", "r1", "r1:serial", "r1:serial:/dev/ttyUSB0", "r1:usb:/dev/x:id12", ":pcsc"),
        *("r1:serial::id12", "r1:pcsc:a:nonsense=1", "r1:serial:/dev/x:id12:baud=fast"),
    ],
)
def test_a_reader_that_cannot_be_read_is_told(text: str) -> None:
    with pytest.raises(SetupProblem, match="--reader") as caught:
        read_reader(text)
    assert "; " in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        *("", "north", "north:mock", "north:mock:", "north:mock:in", "north:mock:a=in:school"),
        *("north:mock:a=in:relay=17", "north:mock:a=in:school:relay=x", "north:mock:a:b:relay=1"),
        *("north:mock:a=in:school:relay=17/up/up", "north:mock:a=in:school:relay=17/left"),
        *("north:mock:a=in:school:relay=17:pulse_ms_max=long", "north:mock:a=in:s:relay=1:x=2"),
        *("north:mock:a=in:school:relay=17,", "north:mock:a=in:s:t:relay=1"),
    ],
)
def test_a_lane_that_cannot_be_read_is_told(text: str) -> None:
    with pytest.raises(SetupProblem, match="--lane") as caught:
        read_lane(text)
    assert "; " in str(caught.value)


@given(st.text(max_size=40))
def test_no_text_breaks_the_reading(text: str) -> None:
    for read in (read_reader, read_lane):
        try:
            read(text)
        except SetupProblem:
            pass


def test_a_template_is_kept_word_for_word() -> None:
    template = '[[readers]]  # By the door.\nid = "r9"\ndriver = "pcsc"\n'
    text = compose(replace(BODY, station="till", readers=(), lanes=(), template=template))
    assert template.strip() in text
    assert parse(text.encode(), Path("/x/device.toml")).readers[0].reader_id == "r9"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("[device]\nid = 'x'\n", "holds device"),
        ("schema = 1\n", "holds schema"),
        ("readers = [{id = 'r1'}]\n", "begin it with a section"),
        ("[[readers]\n", "not TOML"),
        ("[folders]\nstate = 'x'\n", "say each thing once"),
    ],
)
def test_a_template_that_cannot_be_taken_is_told(template: str, said: str) -> None:
    with pytest.raises(SetupProblem, match=f"--template.*{said}"):
        compose(replace(BODY, readers=(), runtime="/run/x", template=template))


def test_files_are_compared_by_meaning_and_shown_by_line() -> None:
    text = compose(BODY)
    assert same_meaning(text, "# A remark.\n" + text.replace("schema = 1", "schema=1"))
    other = text.replace("pin = 17", "pin = 18")
    assert not same_meaning(text, other)
    shown = difference(text, other)
    assert "-relay = { pin = 17 }" in shown and "+relay = { pin = 18 }" in shown
    assert not same_meaning("broken [", "also broken [")
