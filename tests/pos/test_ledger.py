"""Goal: what counts of a fact, of a date and of a base's age, and postings that sum to zero.

Method: examples with the first and the last that counts; sums and days against the same thing
counted one by one. What happens when messages cross is `test_ledger_interleavings.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.messages import Stream
from edge.model import Account, ListState, Now, Spend, Version
from edge.pos.ledger import (
    MAIN_STREAM,
    TAKINGS_ACCOUNT,
    Posting,
    available_minor,
    base_age_days,
    postings_for,
    spent_day_minor,
    spent_week_minor,
)

PURSE = "meals"


def spend(
    sequence: int,
    amount_minor: int,
    *,
    device: str = "till-1",
    epoch: str = "e1",
    purse: str = PURSE,
    business_date: str = "2026-03-06",
    own: bool = True,
) -> Spend:
    return Spend(
        device=device,
        epoch=epoch,
        sequence=sequence,
        purse=purse,
        amount_minor=amount_minor,
        business_date=business_date,
        own=own,
    )


def account(
    balance_minor: int = 10,
    *,
    spent_date: str = "",
    spent_day_minor: int = 0,
    spent_week_minor: int = 0,
) -> Account:
    return Account(
        account_id="a1",
        suspended=False,
        balance_minor_by_purse={PURSE: balance_minor},
        day_limit_minor=None,
        week_limit_minor=None,
        spent_day_minor=spent_day_minor,
        spent_week_minor=spent_week_minor,
        spent_date=spent_date,
        banned_products=frozenset(),
        banned_categories=frozenset(),
    )


VECTOR = {("till-1", MAIN_STREAM, "e1"): 4}


def test_the_stream_that_spends_is_the_one_on_the_wire() -> None:
    assert Stream.MAIN.value == MAIN_STREAM


@pytest.mark.parametrize(
    ("fact", "available"),
    [
        (spend(4, 3), 10),  # In the base.
        (spend(5, 3), 7),  # Above it.
        (spend(1, 3, epoch="e9"), 7),  # An epoch never seen counts from its first fact,
        (spend(1, 3, device="till-9"), 7),  # and so does a device.
        (spend(5, 3, purse="buffet"), 10),  # Another purse.
        (spend(5, 3, own=False), 7),  # A peer's debit counts at once.
        (spend(5, -3), 13),  # A void gives back here,
        (spend(5, -3, own=False), 10),  # and at a peer only when the city says so.
    ],
    ids=str,
)
def test_what_counts_of_a_fact(fact: Spend, available: int) -> None:
    assert available_minor(account(), PURSE, (fact,), VECTOR) == available


def test_a_fact_heard_twice_counts_once() -> None:
    assert available_minor(account(), PURSE, (spend(5, 3), spend(5, 3)), VECTOR) == 7


def test_a_purse_the_base_does_not_name_is_empty() -> None:
    assert available_minor(account(), "buffet", (), {}) == 0


@pytest.mark.parametrize(
    ("spent_date", "business_date", "day", "week"),
    [
        ("2026-03-06", "2026-03-06", 5, 9),  # Friday.
        ("2026-03-06", "2026-03-07", 0, 9),  # Saturday of the same week.
        ("2026-03-06", "2026-03-08", 0, 9),  # Sunday still.
        ("2026-03-06", "2026-03-09", 0, 0),  # Monday begins a new one.
        ("2026-03-02", "2026-03-01", 0, 0),  # The Sunday before a Monday is another week.
        ("2025-12-31", "2026-01-01", 0, 9),  # A week may cross the year.
        ("", "2026-03-06", 0, 0),  # Never spent anything.
        ("spoilt", "2026-03-06", 0, 0),
    ],
)
def test_another_date_counts_as_nothing(
    spent_date: str, business_date: str, day: int, week: int
) -> None:
    base = account(spent_date=spent_date, spent_day_minor=5, spent_week_minor=9)
    assert spent_day_minor(base, (), {}, business_date) == day
    assert spent_week_minor(base, (), {}, business_date) == week


def test_the_tail_counts_by_business_date_over_all_purses() -> None:
    tail = (
        spend(5, 1, business_date="2026-03-06"),
        spend(6, 2, business_date="2026-03-05", purse="buffet"),
        spend(7, 4, business_date="2026-03-01"),
        spend(4, 8, business_date="2026-03-06"),  # In the base.
        spend(8, 16, business_date="2026-03-09"),  # Of a clock that was ahead.
    )
    assert spent_day_minor(account(), tail, VECTOR, "2026-03-06") == 1
    assert spent_week_minor(account(), tail, VECTOR, "2026-03-06") == 3


@settings(derandomize=True, deadline=None)
@given(amounts=st.dictionaries(st.text(max_size=3), st.integers(0, 1_000_000), max_size=5))
def test_postings_sum_to_zero_in_every_purse(amounts: dict[str, int]) -> None:
    postings = postings_for("a1", amounts)
    for purse, amount_minor in amounts.items():
        sides = {p.account_id: p.amount_minor for p in postings if p.purse == purse}
        paid = {"a1": -amount_minor, TAKINGS_ACCOUNT: amount_minor}
        assert sides == (paid if amount_minor else {})
    assert sum(p.amount_minor for p in postings) == 0
    assert len(postings) == 2 * sum(amount > 0 for amount in amounts.values())


def test_postings_stand_in_order_of_purse() -> None:
    assert postings_for("a1", {"meals": 2, "buffet": 1}) == (
        Posting(account_id="a1", purse="buffet", amount_minor=-1),
        Posting(account_id=TAKINGS_ACCOUNT, purse="buffet", amount_minor=1),
        Posting(account_id="a1", purse="meals", amount_minor=-2),
        Posting(account_id=TAKINGS_ACCOUNT, purse="meals", amount_minor=2),
    )


# -------------------------------------------------------------------------- how old the base is


@dataclass(frozen=True, kw_only=True)
class Age:
    age_s: int | None = 0
    business_date: str = "2026-03-06"  # A Friday,
    minute_of_day: int = 600  # ten o'clock.
    clock_trusted: bool = True
    base_date: str | None = None
    version: Version = field(default=Version(list_epoch=1, number=1))

    def days(self) -> int | None:
        weekday = date.fromisoformat(self.business_date).weekday()
        now = Now(
            utc_s=0,
            minute_of_week=weekday * 1_440 + self.minute_of_day,
            clock_trusted=self.clock_trusted,
        )
        money = ListState(version=self.version, age_s=self.age_s)
        return base_age_days(money, now, self.business_date, self.base_date)


HOUR_S = 3_600


@pytest.mark.parametrize(
    ("age", "days"),
    [
        (Age(), 0),
        (Age(age_s=10 * HOUR_S), 0),  # Issued at midnight.
        (Age(age_s=10 * HOUR_S + 1), 1),  # Issued yesterday.
        (Age(age_s=34 * HOUR_S + 1), 2),
        (Age(age_s=-5), 0),  # Issued a moment ahead of this clock.
        (Age(age_s=None), None),
        (Age(age_s=1, clock_trusted=False), 1),  # As if it were just past midnight.
        (Age(age_s=10**12), None),
        (Age(age_s=None, base_date="2026-03-06"), 0),
        (Age(age_s=None, base_date="2026-03-07"), 0),  # From a day that has not come.
        (Age(age_s=0, base_date="2026-03-05"), 1),  # The known date speaks, not the age.
        (Age(base_date="2026-02-27"), 5),  # Friday to Friday.
        (Age(base_date="2026-02-27", business_date="2026-03-01"), 0),  # A weekend is no school.
        (Age(base_date="2026-02-27", business_date="2026-03-02"), 1),
        (Age(base_date="2026-02-28", business_date="2026-03-02"), 1),
        (Age(base_date="2026-03-01", business_date="2026-03-16"), 11),
    ],
    ids=str,
)
def test_school_days_behind_the_base(age: Age, days: int | None) -> None:
    assert age.days() == days


@settings(derandomize=True, deadline=None)
@given(start=st.dates(date(2020, 1, 1), date(2030, 1, 1)), length=st.integers(0, 60))
def test_school_days_are_counted_one_by_one(start: date, length: int) -> None:
    days = [start + timedelta(days=n) for n in range(1, length + 1)]
    end = start + timedelta(days=length)
    age = Age(base_date=start.isoformat(), business_date=end.isoformat())
    assert age.days() == sum(day.strftime("%a") not in ("Sat", "Sun") for day in days)
