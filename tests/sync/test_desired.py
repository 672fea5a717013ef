"""Goal: a setting from afar is in force for good only when the city was heard under it; whatever
else happens, the device ends with values under which it was once welcomed.

Method: each rule by example; then random worlds: versions good and bad, welcomes, restarts and
reboots in any order, against a model of four lines.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from edge.messages import DeviceRow
from edge.model import CorruptData
from sync import desired
from sync.desired import ROLL_BACK_MIN, SAVE_MS, Desired, Remembered, State, Values, values_of
from sync.session import parse_endpoints

MINUTE_MS = 60_000


def row(version: int, **values: Any) -> DeviceRow:
    return DeviceRow(version=version, values=values)


def fresh() -> Desired:
    return Desired(Remembered(), now_ms=0)


def test_a_version_is_tried_at_once_and_holds_from_the_welcome_on() -> None:
    one = fresh()
    assert one.want(row(3, log_level="debug"), 0)
    assert one.values.log_level == "debug" and one.dirty
    assert (one.report().version, one.report().wanted, one.report().state) == (0, 3, "trying")
    assert one.welcomed() and not one.welcomed()
    assert (one.report().version, one.report().state) == (3, "applied")
    assert not one.step(100 * MINUTE_MS), "what holds is not taken back"
    assert not one.want(row(3, log_level="error"), 1), "a version is one thing for ever"


def test_the_row_gone_is_device_toml_again() -> None:
    one = fresh()
    one.want(row(3, health_s=30), 0)
    one.welcomed()
    assert one.want(None, 0) and one.values == Values()
    one.welcomed()
    assert one.report().version == 0


@pytest.mark.parametrize("minutes", [1, ROLL_BACK_MIN, 60])
def test_a_trial_without_a_welcome_is_taken_back_and_not_tried_again(minutes: int) -> None:
    one = fresh()
    one.want(row(1, health_s=30), 0)
    one.welcomed()
    one.want(row(2, endpoints=["mqtts://x"], roll_back_min=minutes), 0)
    assert not one.step(minutes * MINUTE_MS - 1)
    assert one.step(minutes * MINUTE_MS)
    assert one.values == Values(health_s=30)
    report = one.report()
    assert (report.version, report.wanted, report.state, report.why) == (
        *(1, 2, "rolled_back"),
        "no_welcome",
    )
    assert not one.want(row(2, endpoints=["mqtts://x"]), 0)
    assert one.want(row(3, endpoints=["mqtts://x"]), 0)


def test_running_time_counts_over_restarts_and_a_jump_back_counts_nothing() -> None:
    one = fresh()
    one.want(row(1, endpoints=["mqtts://x"]), 0)
    for _ in range(9):
        one.step(SAVE_MS)
        one.step(2 * SAVE_MS)
        one = Desired(desired.decode(desired.encode(one.remembered)), now_ms=0)  # A reboot.
    assert one.values.endpoints and not one.step(MINUTE_MS - 1)
    one.step(0)
    assert one.step(MINUTE_MS)


def test_a_newer_version_takes_over_a_trial() -> None:
    one = fresh()
    one.want(row(1, endpoints=["mqtts://x"]), 0)
    one.step(9 * MINUTE_MS)
    assert one.want(row(2, endpoints=["mqtts://y"]), 9 * MINUTE_MS)
    assert not one.step(18 * MINUTE_MS), "its time begins anew"
    assert one.step(19 * MINUTE_MS) and one.values == Values()


def test_a_version_that_is_refused_ends_a_trial() -> None:
    one = fresh()
    one.want(row(1, endpoints=["mqtts://x"]), 0)
    assert one.want(row(2, colour="red"), 0)
    assert one.values == Values() and one.report().state == "refused"
    assert one.report().why.startswith("colour")


@pytest.mark.parametrize("version", [0, -1])
def test_a_version_below_one_is_refused(version: int) -> None:
    one = fresh()
    one.want(row(5), 0)
    one.welcomed()
    assert not one.want(row(version, health_s=30), 0)
    assert one.report().state == "refused" and one.report().version == 5


@pytest.mark.parametrize(
    "values",
    [
        {"log_level": "LOUD"},
        {"log_level": None},
        {"health_s": 9},
        {"health_s": 3_601},
        {"health_s": "60"},
        {"roll_back_min": 0},
        {"roll_back_min": 1_441},
        {"endpoints": "mqtts://x"},
        {"endpoints": ["x"]},
        {"endpoints": ["mqtt://10.0.0.1"]},
        {"endpoints": ["mqtts://" + "x" * 300]},
        {"endpoints": ["mqtts://x"] * 9},
        {"colour": 1},
    ],
    ids=str,
)
def test_what_cannot_be_set_is_named(values: dict[str, Any]) -> None:
    with pytest.raises(CorruptData) as told:
        values_of(values)
    assert 0 < len(str(told.value)) <= 80


def test_brokers_from_afar_lie_over_those_of_the_file() -> None:
    enrolled = parse_endpoints(["mqtts://file"])
    one = fresh()
    assert one.endpoints(enrolled) == enrolled
    one.want(row(1, endpoints=["mqtts://afar:1"]), 0)
    assert [str(e) for e in one.endpoints(enrolled)] == ["mqtts://afar:1"]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b'{"version":"1"}'])
def test_what_cannot_be_read_is_as_nothing(data: bytes) -> None:
    assert desired.decode(data) == Remembered() == desired.decode(None)


@pytest.mark.parametrize("seed", range(60))
def test_it_ends_with_values_it_was_welcomed_under(seed: int) -> None:
    random, now_ms = Random(seed), 0
    one = fresh()
    good = Values()  # Welcomed under last.
    version = 0
    for _ in range(300):
        match random.randrange(5):
            case 0:
                version += 1
                one.want(row(version, health_s=random.choice([5, 20, 30])), now_ms)
            case 1:
                one.welcomed()
                good = one.values
            case 2:
                one = Desired(desired.decode(desired.encode(one.remembered)), now_ms=now_ms)
            case 3:
                now_ms = 0  # A reboot: the monotonic clock begins anew.
                one = Desired(desired.decode(desired.encode(one.remembered)), now_ms=now_ms)
            case _:
                now_ms += random.choice([1_000, 60_000, 240_000])
                one.step(now_ms)
        trying = one.report().state == State.TRYING
        assert trying is (one.remembered.trial is not None)
        assert trying or one.values == good == one.remembered.values
    one.step(now_ms)
    one.step(now_ms + 11 * MINUTE_MS)
    assert one.values == good
