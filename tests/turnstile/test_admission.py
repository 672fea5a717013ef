"""Goal: an admission's answer is the first reason that applies, a tariff goes with every answer on
a card, and nobody is sent away with a bare no.

Method: every combination of what can spoil a presentation, every tariff a category can have; the
table written anew.
"""

from __future__ import annotations

from itertools import product
from typing import cast

import pytest

from edge.model import (
    AccessPolicy,
    AccessReason,
    AdmissionView,
    Caveat,
    ListState,
    Now,
    Outcome,
    Presentation,
    Tariff,
    Version,
)
from edge.turnstile.admission import OUTCOMES, decide_admission, shown

CATEGORIES = (None, "pupil", "veteran")


def view(category: str | None, *, has_list: bool = True, age_s: int | None = 60) -> AdmissionView:
    state = ListState(version=Version(list_epoch=1, number=1), age_s=age_s)
    return AdmissionView(visitors=state if has_list else None, category=category)


def now(*, trusted: bool = True) -> Now:
    return Now(utc_s=5_000, minute_of_week=0, clock_trusted=trusted)


def shown_card(*, age_ms: int = 100, replayed: bool = False) -> Presentation:
    return Presentation(credential_id="t1", age_ms=age_ms, replayed=replayed)


@pytest.mark.parametrize("set_to", [None, *Tariff])
@pytest.mark.parametrize("category", CATEGORIES)
def test_the_first_reason_that_applies_and_its_tariff(
    category: str | None, set_to: Tariff | None
) -> None:
    tariffs = {} if set_to is None or category is None else {category: set_to}
    if category is None:
        known, costs = AccessReason.UNKNOWN_CREDENTIAL, Tariff.FULL
    else:
        costs = set_to or (Tariff.PUPIL if category == "pupil" else Tariff.FULL)
        full = costs is Tariff.FULL
        known = AccessReason.NO_ACCESS_RIGHT if full else AccessReason.AUTHORIZED
    for stale, listed, replayed in product((False, True), repeat=3):
        decision = decide_admission(
            shown_card(age_ms=2_001 if stale else 2_000, replayed=replayed),
            view(category, has_list=listed),
            now(),
            tariffs,
        )
        reason, tariff = known, cast("Tariff | None", costs)
        if stale:
            reason, tariff = AccessReason.STALE_READ, None
        elif not listed:
            reason, tariff = AccessReason.NO_LIST, Tariff.FULL
        elif replayed:
            reason, tariff = AccessReason.REPLAYED, None
        assert (decision.reason, decision.tariff) == (reason, tariff)
        assert decision.outcome is OUTCOMES[reason]
        granted = decision.outcome is Outcome.GRANT
        assert granted is (tariff in (Tariff.PUPIL, Tariff.FREE, Tariff.REDUCED))
        assert decision.opens is (tariff in (Tariff.PUPIL, Tariff.FREE))


def test_who_is_refused_is_asked_to_tap_again() -> None:
    refused = {reason for reason, outcome in OUTCOMES.items() if outcome is Outcome.DENY}
    assert refused == {AccessReason.STALE_READ, AccessReason.REPLAYED}


@pytest.mark.parametrize(
    ("age_s", "caveats"),
    [
        (0, set()),
        (86_400, set()),
        (86_401, {Caveat.OLD_LIST}),
        (None, {Caveat.OLD_LIST}),
    ],
)
def test_what_it_had_to_do_without(age_s: int | None, caveats: set[Caveat]) -> None:
    for trusted in (True, False):
        decision = decide_admission(
            shown_card(), view("pupil", age_s=age_s), now(trusted=trusted), {}, AccessPolicy()
        )
        without = set() if trusted else {Caveat.CLOCK_UNTRUSTED}
        assert decision.caveats == caveats | without
        assert decision.outcome is Outcome.GRANT


def test_the_screen_says_why_and_where_to_ask() -> None:
    for category, listed, age_ms, again in product(
        CATEGORIES, (True, False), (0, 2_001), (True, False)
    ):
        tariffs = {"veteran": Tariff.REDUCED}
        decision = decide_admission(
            shown_card(age_ms=age_ms), view(category, has_list=listed), now(), tariffs
        )
        screen = shown(decision, again=again, now_ms=1_000)
        assert screen.word and screen.text and screen.light in ("green", "amber")
        assert (screen.state == "granted") is (decision.outcome is Outcome.GRANT)
        if decision.outcome is Outcome.REFER:
            assert "касс" in screen.text
        assert screen.until_ms is not None and screen.until_ms > 1_000
