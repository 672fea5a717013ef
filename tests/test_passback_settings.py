"""Goal: what the city chooses for an area (off, soft, timed, hard) holds there from the next tap,
without a restart, and in no other area.

Method: the choice goes the whole way: the city's records, its row of settings, a delta as the city
makes it, the picture in force, the tap of a real agent in virtual time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge.messages import AccessFact
from edge.model import AccessReason, Caveat, Outcome, PassbackMode
from hil.city.rows import site_row
from hil.world.records import SiteSettings
from tests.city.sham import make_core
from tests.support.lane_school import ZONE, Door, door, person, site

Choose = Callable[..., None]
HARD, TIMED, SOFT, OFF = (
    *(PassbackMode.HARD, PassbackMode.TIMED),
    *(PassbackMode.SOFT, PassbackMode.OFF),
)
WINDOW_S = 120
AGAIN_MS = 4_000  # Past the time in which the same card is only shown its former answer.


@pytest.fixture
def lane(tmp_path: Path) -> Iterator[Door]:
    with door(tmp_path / "lane", *person("p1")) as made:
        yield made


@pytest.fixture
def choose(tmp_path: Path, lane: Door) -> Choose:
    """The city changes its mind, and the lane has the delta."""
    core = make_core(tmp_path / "city")

    def change(default: PassbackMode, window_s: int = WINDOW_S, **by_zone: PassbackMode) -> None:
        chosen = replace(
            core.registry.settings(),
            passback_mode=default,
            passback_window_s=window_s,
            passback_by_zone=by_zone,
        )
        with core.store.transaction():
            core.registry.set_settings(chosen)
        key, _ = site()
        lane.change("settings", (key, site_row(core.registry.settings())))

    return change


def answer(lane: Door, *, after_ms: int = AGAIN_MS) -> tuple[Outcome, AccessReason, bool]:
    """To the same card once more; True: the passback was a caveat."""
    lane.step(after_ms)
    lane.tap("p1")
    fact = lane.last(AccessFact)
    return fact.outcome, fact.reason, Caveat.PASSBACK in fact.caveats


LET_IN = (Outcome.GRANT, AccessReason.AUTHORIZED, False)
REPORTED = (Outcome.GRANT, AccessReason.AUTHORIZED, True)
REFERRED = (Outcome.REFER, AccessReason.PASSBACK, False)


@pytest.mark.parametrize(
    ("default", "here", "said"),
    [
        (SOFT, None, REPORTED),
        (SOFT, HARD, REFERRED),
        (SOFT, TIMED, REFERRED),
        (SOFT, OFF, LET_IN),
        (HARD, None, REFERRED),
        (HARD, SOFT, REPORTED),
        (HARD, OFF, LET_IN),
        (TIMED, None, REFERRED),
        (OFF, HARD, REFERRED),
    ],
)
def test_what_the_city_chose_for_this_area_holds_from_the_next_tap(
    lane: Door, choose: Choose, default: PassbackMode, here: PassbackMode | None, said: object
) -> None:
    lane.go("p1")
    assert answer(lane) == REPORTED, "the list's own default is soft"
    lane.step(10_000)
    choose(default, pool=HARD if default is not HARD else OFF, **({ZONE: here} if here else {}))
    assert answer(lane) == said


def test_timed_ends_with_the_window_and_a_shorter_window_holds_at_once(
    lane: Door, choose: Choose
) -> None:
    choose(SOFT, **{ZONE: TIMED})
    lane.go("p1")
    assert answer(lane) == REFERRED
    choose(SOFT, window_s=30, **{ZONE: TIMED})
    assert answer(lane, after_ms=10_000) == REFERRED, "19 s since the passage"
    assert answer(lane, after_ms=20_000) == REPORTED


def test_back_to_what_holds_everywhere(lane: Door, choose: Choose) -> None:
    choose(SOFT, **{ZONE: HARD})
    lane.go("p1")
    assert answer(lane) == REFERRED
    choose(SOFT)
    assert answer(lane) == REPORTED


def test_the_default_of_a_city_is_soft() -> None:
    assert SiteSettings().passback_mode is SOFT and not SiteSettings().passback_by_zone
