"""Goal: `device.toml` is understood or everything wrong with it is told at once, each with its key,
what was found and what to do; nothing a file may hold escapes as any other error.

Method: one good file of each station; every value of it spoilt, one at a time, then all together;
files of random TOML and of random bytes.
"""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge.config import (
    FILE_BYTES_MAX,
    ConfigProblem,
    load,
    parse,
)
from edge.model import Direction, SetupProblem, Station
from edge.settings import (
    PIN_MAX,
    PULSE_MS_CEILING,
    PULSE_MS_DEFAULT,
    PULSE_MS_MIN,
    WAIT_MS_CEILING,
    WAIT_MS_DEFAULT,
    DeviceSettings,
    Pull,
)

SOURCE = Path("/etc/moskvenok/device.toml")
ENTRANCE = """\
schema = 1

[device]
id = "lane-1"
site = "school-7"
station = "entrance"
time_zone = "Asia/Yekaterinburg"

[folders]
state = "/var/lib/moskvenok"
runtime = "here"

[city]
endpoints = ["mqtts://broker.example:8883", "mqtt://127.0.0.1"]

[control]
simulated_taps = true
log_level = "debug"

[[readers]]
id = "r1"
driver = "serial"
port = "/dev/serial/by-path/one"
frame = "id12"
baud = 19200
access_point = "north-in"

[[readers]]
id = "r2"
driver = "pcsc"
name = "ACS"
access_point = "north-out"

[[lanes]]
id = "north"
driver = "lgpio"

[[lanes.access_points]]
id = "north-in"
zone = "school"
direction = "in"
relay = { pin = 17, active_high = false }
rotation = { pin = 27, pull = "up" }
pulse_ms_max = 300
wait_ms_max = 4000

[[lanes.access_points]]
id = "north-out"
zone = "school"
direction = "out"
relay = { pin = 22 }
"""
TILL = """\
schema = 1
device = { id = "till-1", site = "school-7", station = "till" }
city = { endpoints = ["mqtts://broker.example:8883"] }
readers = [{ id = "r1", driver = "pcsc" }]
"""


def problems(text: str | bytes) -> dict[str, str]:
    """key -> the whole line of the problem."""
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(ConfigProblem) as told:
        parse(data, SOURCE)
    found = told.value.problems
    assert found
    message = str(told.value)
    assert message.startswith(f"{SOURCE}: {len(found)} problem")
    assert len({problem.key for problem in found}) == len(found)
    for problem in found:
        assert problem.key
        assert problem.found
        assert problem.do
        assert f"\n  {problem.key}: {problem.found}; {problem.do}" in message
    assert told.value.source == SOURCE
    return {problem.key: str(problem) for problem in found}


def good(text: str) -> DeviceSettings:
    return parse(text.encode(), SOURCE)


# ------------------------------------------------------------------------------- good


def test_a_good_entrance_is_understood_whole() -> None:
    settings = good(ENTRANCE)
    assert (settings.device_id, settings.site_id) == ("lane-1", "school-7")
    assert (settings.station, settings.time_zone) == (Station.ENTRANCE, "Asia/Yekaterinburg")
    assert settings.folders.state == Path("/var/lib/moskvenok")
    assert settings.folders.runtime == SOURCE.parent / "here"
    assert settings.folders.identity == SOURCE.parent / "identity"
    assert settings.endpoints == ("mqtts://broker.example:8883", "mqtt://127.0.0.1")
    assert (settings.simulated_taps, settings.log_level) == (True, "debug")
    serial, pcsc = settings.readers
    assert (serial.reader_id, serial.driver, serial.frame) == ("r1", "serial", "id12")
    assert (serial.port, serial.baud) == ("/dev/serial/by-path/one", 19_200)
    assert (pcsc.driver, pcsc.name, pcsc.access_point_id) == ("pcsc", "ACS", "north-out")
    [lane] = settings.lanes
    inward, outward = lane.access_points
    assert (lane.lane_id, lane.driver) == ("north", "lgpio")
    assert (inward.zone_id, inward.direction) == ("school", Direction.IN)
    assert (inward.relay.pin, inward.relay.active_high) == (17, False)
    assert inward.rotation is not None
    assert (inward.rotation.pin, inward.rotation.pull) == (27, Pull.UP)
    assert (inward.pulse_ms_max, inward.wait_ms_max) == (300, 4_000)
    assert (outward.direction, outward.rotation) == (Direction.OUT, None)
    assert (outward.pulse_ms_max, outward.wait_ms_max) == (PULSE_MS_DEFAULT, WAIT_MS_DEFAULT)
    lines = [inward.relay.line_id, inward.rotation.line_id, outward.relay.line_id]
    assert lines == ["north-in.relay", "north-in.rotation", "north-out.relay"]


def test_a_good_till_needs_little() -> None:
    settings = good(TILL)
    assert (settings.station, settings.lanes) == (Station.TILL, ())
    assert (settings.time_zone, settings.log_level) == ("Europe/Moscow", "info")
    assert settings.simulated_taps is False
    assert settings.journal_path == SOURCE.parent / "state" / "journal.db"
    assert settings.socket_path("edge") == SOURCE.parent / "run" / "edge.sock"


def test_a_file_is_loaded_and_a_missing_one_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "device.toml"
    with pytest.raises(ConfigProblem, match="No such file") as told:
        load(path)
    assert isinstance(told.value, SetupProblem)
    assert "moskvenok" in str(told.value)
    path.write_text(TILL)
    assert load(path).folders.state == tmp_path / "state"
    with pytest.raises(ConfigProblem, match="directory"):
        load(tmp_path)
    with pytest.raises(ConfigProblem, match="more than"):
        load(Path("/dev/zero"))


# ------------------------------------------------------------------------- one mistake


def board(relay: str, *, port: str = "/dev/ttyUSB0", lane: str = "") -> str:
    """An entrance with one direction on a relay board."""
    head = ENTRANCE[: ENTRANCE.index("[[lanes]]")].replace("north-out", "north-in")
    return head + "\n".join(
        [
            "[[lanes]]",
            'id = "north"',
            'driver = "relay_board"',
            f'port = "{port}"',
            lane,
            "[[lanes.access_points]]",
            'id = "north-in"',
            'zone = "school"',
            'direction = "in"',
            relay,
        ]
    )


def test_all_lanes_of_a_device_use_one_driver() -> None:
    second = ENTRANCE[ENTRANCE.index("[[lanes]]") :].replace("north", "south")
    for pin, other in (("17", "5"), ("27", "6"), ("22", "7")):
        second = second.replace(f"pin = {pin}", f"pin = {other}")
    assert len(good(ENTRANCE + second).lanes) == 2
    found = problems(ENTRANCE + second.replace('"lgpio"', '"mock"'))
    assert "one driver" in found["lanes[1].driver"]


def test_a_relay_board_needs_no_more_than_its_relays() -> None:
    (lane,) = good(board("relay = { pin = 1 }")).lanes
    assert (lane.driver, lane.port) == ("relay_board", "/dev/ttyUSB0")
    assert lane.inputs == () and [line.pin for line in lane.outputs] == [1]


ONE_MISTAKE = [
    ("schema = 1", "schema = 2", "schema", "2"),
    ("schema = 1", "", "schema", "this software reads schema = 1"),
    ("schema = 1", "schema = true", "schema", "True; must be a whole number"),
    ("schema = 1", "schema = 1\nschemo = 1", "schemo", "not a key of this file"),
    ('id = "lane-1"', 'id = "Lane 1"', "device.id", "'Lane 1'; use a-z"),
    ('id = "lane-1"', f'id = "{"x" * 65}"', "device.id", "at most 64"),
    ('id = "lane-1"', 'id = "a/b"', "device.id", "use a-z"),
    ('id = "lane-1"', 'id = "-a"', "device.id", "use a-z"),
    ('id = "lane-1"', 'id = "a\\n"', "device.id", "use a-z"),
    ('id = "lane-1"', "id = 7", "device.id", "7; must be text in quotes"),
    ('site = "school-7"', "", "device.site", "''; use a-z"),
    ('station = "entrance"', 'station = "door"', "device.station", "entrance, till, preschool"),
    ('"Asia/Yekaterinburg"', '"Asia/Nowhere"', "device.time_zone", "Europe/Moscow"),
    ('"Asia/Yekaterinburg"', '"/etc/passwd"', "device.time_zone", "Europe/Moscow"),
    ('"Asia/Yekaterinburg"', '"Asia"', "device.time_zone", "Europe/Moscow"),
    ('"Asia/Yekaterinburg"', '""', "device.time_zone", "Europe/Moscow"),
    ('"mqtt://127.0.0.1"', '"http://127.0.0.1"', "city.endpoints[1]", "mqtts://HOST:PORT"),
    ('"mqtt://127.0.0.1"', '"mqtts://"', "city.endpoints[1]", "mqtts://HOST:PORT"),
    ('"mqtt://127.0.0.1"', "1883", "city.endpoints[1]", "1883; write"),
    ("[city]", "[sity]", "city.endpoints", "none"),
    ("simulated_taps = true", "simulated_taps = 1", "control.simulated_taps", "true or false"),
    ('log_level = "debug"', 'log_level = "loud"', "control.log_level", "debug, info, warning"),
    ('driver = "serial"', 'driver = "usb"', "readers[0].driver", "one of serial, "),
    ('port = "/dev/serial/by-path/one"', 'port = "tty1"', "readers[0].port", "full path"),
    ('frame = "id12"', 'frame = "stx"', "readers[0].frame", "one of id12, "),
    ("baud = 19200", "baud = 0", "readers[0].baud", "data sheet"),
    ("baud = 19200", "baud = 9600.0", "readers[0].baud", "must be a whole number"),
    ("baud = 19200", 'bauds = "x"', "readers[0].bauds", "not a key"),
    ('access_point = "north-in"', "", "readers[0].access_point", "one of north-in, north-out"),
    ('driver = "lgpio"', 'driver = "gpio"', "lanes[0].driver", "one of lgpio, mock, relay_board"),
    ('direction = "in"', 'direction = "up"', "lanes[0].access_points[0].direction", "in, out"),
    ('zone = "school"\ndirection = "out"', 'direction = "out"',
     "lanes[0].access_points[1].zone", "use a-z"),
    ("relay = { pin = 22 }", "", "lanes[0].access_points[1].relay.pin", "nothing; a number from 0"),
    ("pin = 22", f"pin = {PIN_MAX + 1}", "lanes[0].access_points[1].relay.pin", "from 0 to 27"),
    ("pin = 22", "pin = -1", "lanes[0].access_points[1].relay.pin", "from 0 to 27"),
    ("pin = 22", "pin = true", "lanes[0].access_points[1].relay.pin", "whole number"),
    ("pin = 22", "pin = 17", "lanes[0].access_points[1].relay.pin", "wired to north-in.relay"),
    ("pin = 22", "pin = 27", "lanes[0].access_points[1].relay.pin", "wired to north-in.rotation"),
    ("pin = 22", "pin = 22, pul = 1", "lanes[0].access_points[1].relay.pul", "not a key"),
    ('pull = "up"', 'pull = "left"', "lanes[0].access_points[0].rotation.pull", "up, down, none"),
    ("rotation = {", "rotation = 7 #", "lanes[0].access_points[0].rotation", "must be a table"),
    ("pulse_ms_max = 300", f"pulse_ms_max = {PULSE_MS_MIN - 1}",
     "lanes[0].access_points[0].pulse_ms_max", "100 to 2000"),
    ("pulse_ms_max = 300", f"pulse_ms_max = {PULSE_MS_CEILING + 1}",
     "lanes[0].access_points[0].pulse_ms_max", "100 to 2000"),
    ("wait_ms_max = 4000", "wait_ms_max = 499",
     "lanes[0].access_points[0].wait_ms_max", "500 to 30000"),
    ("wait_ms_max = 4000", f"wait_ms_max = {WAIT_MS_CEILING + 1}",
     "lanes[0].access_points[0].wait_ms_max", "500 to 30000"),
    ('id = "r2"', 'id = "r1"', "readers[1].id", "already used at readers[0].id"),
    ('id = "r2"', 'id = "north"', "lanes[0].id", "already used at readers[1].id"),
    ('id = "north-out"', 'id = "north-in"', "lanes[0].access_points[1].id", "already used at"),
    ('id = "north-out"', 'id = "r1"', "lanes[0].access_points[1].id", "already used at"),
    ("relay = { pin = 22 }", 'relay = { pin = 22, pull = "up" }',
     "lanes[0].access_points[1].relay.pull", "resistor outside"),
    ("relay = { pin = 22 }", "relay = { pin = 22, debounce_ms = 5 }",
     "lanes[0].access_points[1].relay.debounce_ms", "only inputs"),
    ('pull = "up"', "debounce_ms = 251", "lanes[0].access_points[0].rotation.debounce_ms",
     "from 0 to 250"),
    ('driver = "lgpio"', 'driver = "lgpio"\nport = "/x"', "lanes[0].port", "only a relay_board"),
    ('driver = "lgpio"', 'driver = "lgpio"\nfire = { pin = 17 }',
     "lanes[0].access_points[0].relay.pin", "already wired to north.fire"),
    ('driver = "lgpio"', 'driver = "lgpio"\nhold = true', "lanes[0].hold", "must be a table"),
    ('driver = "lgpio"', 'driver = "lgpio"\ntamper = {}', "lanes[0].tamper.pin", "nothing; a"),
    ("relay = { pin = 22 }", 'relay = { pin = 22 }\ndrive = "push"',
     "lanes[0].access_points[1].drive", "one of pulse, level"),
    ("relay = { pin = 22 }", "relay = { pin = 22 }\ngreen = { pin = 17 }",
     "lanes[0].access_points[1].green.pin", "already wired to north-in.relay"),
    ("[[readers]]\nid = \"r2\"", "[[spare]]\nid = \"r2\"", "spare", "not a key of this file"),
]  # fmt: skip


@pytest.mark.parametrize(("was", "spoilt", "key", "says"), ONE_MISTAKE)
def test_one_mistake_is_told_at_its_key(was: str, spoilt: str, key: str, says: str) -> None:
    assert ENTRANCE.count(was) == 1
    found = problems(ENTRANCE.replace(was, spoilt))
    assert key in found
    assert says in found[key]


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        (TILL.replace("readers =", "other ="), "readers", "none; add"),
        (TILL.replace('"till"', '"entrance"'), "lanes", "none; a station of kind entrance"),
        (TILL.replace('"till"', '"preschool"'), "lanes", "none; a station of kind preschool"),
        (TILL + 'lanes = [{ id = "l", driver = "mock" }]', "lanes", "1 at a till"),
        (board("relay = { pin = 0 }"), "lanes[0].access_points[0].relay.pin", "from 1 to 8"),
        (board("relay = { pin = 9 }"), "lanes[0].access_points[0].relay.pin", "from 1 to 8"),
        (
            board("relay = { pin = 1, active_high = false }"),
            "lanes[0].access_points[0].relay.active_high",
            "other contact",
        ),
        (board("relay = { pin = 1 }", port=""), "lanes[0].port", "full path"),
        (
            board("relay = { pin = 1 }\nrotation = { pin = 2 }"),
            "lanes[0].access_points[0].rotation",
            "no inputs",
        ),
        (board("relay = { pin = 1 }", lane="fire = { pin = 2 }"), "lanes[0].fire", "no inputs"),
        (board("relay = { pin = 1 }", lane="hold = { pin = 2 }"), "lanes[0].hold", "may not hold"),
        (TILL + "lanes = [1]", "lanes[0]", "1; must be a table"),
        (TILL.replace("[{ id", "{ id").replace("}]", "}"), "readers", "must be a list"),
        (TILL + 'folders = "here"', "folders", "must be a table"),
        (TILL + "folders = { state = 1 }", "folders.state", "must be text"),
        (TILL + "folders = { stat = 1 }", "folders.stat", "not a key"),
        (ENTRANCE.split("[[lanes.access_points]]")[0], "lanes[0].access_points", "at least one"),
    ],
)
def test_what_does_not_fit_together_is_told(text: str, key: str, says: str) -> None:
    assert says in problems(text)[key]


def test_all_mistakes_are_told_at_once() -> None:
    text, keys = ENTRANCE, []
    taken: set[str] = set()
    for was, spoilt, key, _ in ONE_MISTAKE:
        hides_others = (
            "[[" in was
            or "[c" in was
            or any(word in spoilt for word in ("usb", "rotation", "door"))
        )
        if hides_others or was in {*taken, "schema = 1"} or text.count(was) != 1:
            continue
        taken.add(was)
        text = text.replace(was, spoilt)
        keys.append(key)
    found = problems(text)
    missing = [key for key in keys if key not in found]
    assert len(keys) > 15
    assert missing == []
    assert list(problems(text)) == list(found)  # In the same order every time.


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_pins_that_are_missing_are_no_duplicates(count: int) -> None:
    text = ENTRANCE
    for pin in ("pin = 17, ", "pin = 27, ", "pin = 22 ")[:count]:
        text = text.replace(pin, "")
    if count == 0:
        good(text)
        return
    found = problems(text)
    assert len(found) == count
    assert all("nothing; a number" in line for line in found.values())


# ----------------------------------------------------------------------- no other error


def only_config_problems(data: bytes) -> None:
    try:
        parse(data, SOURCE)
    except ConfigProblem as problem:
        assert len(str(problem)) < 100_000
        assert all(len(p.found) < 5_000 and len(p.key) <= 160 for p in problem.problems)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"a = ",
        b"a = " + b"[" * 100_000,
        b"a = " + b"{a = " * 50_000,
        b"schema = " + b"1" * 5_000,
        b"schema = 0x" + b"f" * 9_000,
        b"schema" + b".a" * 3_000 + b" = 1",
        b"[" + b".".join([b"device"] + [b"a"] * 9_000) + b"]",
        b"city.endpoints = [0x" + b"f" * 9_000 + b"]",
        b"city.endpoints = [{" + b".".join([b"a"] * 9_000) + b" = 1}]",
        b"readers = [0x" + b"f" * 9_000 + b"]",
        b'readers = [{driver = "serial", baud = 0x' + b"f" * 9_000 + b"}]",
        b"x" * FILE_BYTES_MAX,
        b"x" * (FILE_BYTES_MAX + 1),
        ENTRANCE.replace("pin = 22", "pin = 0x" + "f" * 9_000).encode(),
        ENTRANCE.replace("schema = 1", f'"{"k" * 9_000}" = 1').encode(),
        ENTRANCE.replace("debug", "\\u0000\\u001b[31m").encode(),
    ],
    ids=lambda data: f"{data[:12]!r} {len(data)}",
)
def test_hostile_files_are_config_problems(data: bytes) -> None:
    with pytest.raises(ConfigProblem):
        parse(data, SOURCE)
    only_config_problems(data)


@given(st.binary(max_size=200))
@example(b'"\\ud800" = 1')
@settings(max_examples=100, deadline=None)
def test_random_bytes_are_config_problems(data: bytes) -> None:
    only_config_problems(data)


WORDS = (
    *("schema", "device", "folders", "city", "control", "readers", "lanes", "access_points"),
    *("id", "site", "station", "time_zone", "state", "endpoints", "simulated_taps", "driver"),
    *("port", "frame", "baud", "name", "zone", "direction", "relay", "rotation", "pin", "pull"),
)
SCALARS = st.one_of(
    st.integers(-(10**6), 10**6).map(str),
    st.booleans().map(lambda flag: str(flag).lower()),
    st.floats().map(repr),
    st.just("1979-05-27T07:32:00Z"),
    st.text(string.ascii_letters + "/-. ", max_size=12).map(lambda text: f'"{text}"'),
    st.sampled_from(["entrance", "till", "serial", "pcsc", "mock", "in", "up"]).map(
        lambda word: f'"{word}"'
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.dictionaries(st.sampled_from(WORDS), inner, max_size=5).map(
            lambda table: "{" + ", ".join(f"{k} = {v}" for k, v in table.items()) + "}"
        ),
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(WORDS), VALUES, max_size=6))
@settings(max_examples=150, deadline=None)
def test_random_toml_is_config_problems(table: dict[str, str]) -> None:
    only_config_problems("\n".join(f"{key} = {value}" for key, value in table.items()).encode())


@given(st.integers(0, len(ENTRANCE.splitlines()) - 1), st.sampled_from(WORDS), VALUES)
@settings(max_examples=100, deadline=None)
def test_a_good_file_with_one_line_changed_is_a_file_or_config_problems(
    number: int, key: str, value: str
) -> None:
    lines = ENTRANCE.splitlines()
    lines[number] = f"{key} = {value}"
    only_config_problems("\n".join(lines).encode())


def admission(readers: str, lanes: str = "") -> bytes:
    return (
        'schema = 1\n[device]\nid = "m-1"\nsite = "s1"\nstation = "admission"\n'
        '[city]\nendpoints = ["mqtts://city:8883"]\n'
        '[[readers]]\nid = "r1"\ndriver = "serial"\nport = "/dev/r1"\nframe = "hex_line"\n'
        f"{readers}{lanes}"
    ).encode()


ADMISSION_LANE = (
    '[[lanes]]\nid = "l1"\ndriver = "mock"\n[[lanes.access_points]]\nid = "l1-in"\n'
    'direction = "in"\nzone = "hall"\nrelay = {pin = 17}\n'
)


def test_an_admission_is_a_reader_with_a_lane_or_without() -> None:
    assert parse(admission(""), Path("device.toml")).lanes == ()
    with_lane = parse(admission('access_point = "l1-in"\n', ADMISSION_LANE), Path("device.toml"))
    assert set(with_lane.access_points()) == {"l1-in"}
    for readers, lanes in (('access_point = "l1-in"\n', ""), ("", ADMISSION_LANE)):
        with pytest.raises(ConfigProblem, match=r"readers\[0\].access_point"):
            parse(admission(readers, lanes), Path("device.toml"))


def test_nobody_signs_in_at_an_admission_so_its_fire_release_needs_a_button() -> None:
    fire = ADMISSION_LANE.replace(
        "[[lanes.access_points]]", "fire = {pin = 5}\n[[lanes.access_points]]"
    )
    with pytest.raises(ConfigProblem, match=r"lanes\[0\].fire: .*and no button"):
        parse(admission('access_point = "l1-in"\n', fire), SOURCE)
    button = fire + "button = {pin = 7}\n"
    assert parse(admission('access_point = "l1-in"\n', button), SOURCE).lanes[0].fire is not None


def test_the_way_out_names_the_zone_that_is_left() -> None:
    out = (
        '[[lanes.access_points]]\nid = "l1-out"\ndirection = "out"\nzone = "{}"\n'
        "relay = {{pin = 22}}\n"
    )
    zone = parse(admission('access_point = "l1-in"\n', ADMISSION_LANE), SOURCE)
    entered = zone.lanes[0].access_points[0].zone_id
    for name, good in ((entered, True), ("street", False)):
        text = admission('access_point = "l1-in"\n', ADMISSION_LANE + out.format(name))
        if good:
            assert len(parse(text, SOURCE).lanes[0].access_points) == 2
        else:
            with pytest.raises(
                ConfigProblem, match=r"access_points\[1\].zone: .*street.*left by it"
            ):
                parse(text, SOURCE)


@pytest.mark.parametrize("page", ["provisioning/README.md", "edge/turnstile/README.md"])
def test_lanes_in_the_manuals_are_lanes(page: str) -> None:
    """Each block of TOML with a lane in a manual is taken as it stands."""
    text = (Path(__file__).parent.parent / page).read_text()
    blocks = [part.partition("```")[0] for part in text.split("```toml\n")[1:]]
    lanes = [block for block in blocks if "[[lanes]]" in block]
    assert lanes
    for block in lanes:
        point = block.partition("[[lanes.access_points]]\nid = ")[2].partition("\n")[0]
        top, _, _ = ENTRANCE.partition("[[lanes]]")
        first, _, _ = top.partition("[[readers]]")
        reader = (
            '[[readers]]\nid = "r1"\ndriver = "serial"\nport = "/dev/one"\nframe = "id12"\n'
            f"access_point = {point}\n"
        )
        assert parse((first + reader + block).encode(), SOURCE).lanes
