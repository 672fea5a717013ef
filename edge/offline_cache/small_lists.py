"""The scopes that fit in memory: settings and menu, read again when their version changes."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from edge.messages import (
    ROW_NUMBERS,
    ProductRow,
    ProfileRow,
    RosterRow,
    RowKind,
    ScheduleRow,
    SiteRow,
    VersionMark,
)
from edge.model import Product
from edge.offline_cache.apply import picture_meta
from edge.offline_cache.list_rows import ROW, WindowsOf, decode, rows_of, text_of
from edge.offline_cache.purchases import to_product
from edge.schedule import MINUTES_PER_DAY, NEVER, Calendar, clipped

PRODUCT: Final = ROW_NUMBERS[RowKind.PRODUCT]
SITE: Final = ROW_NUMBERS[RowKind.SITE]
SCHEDULE: Final = ROW_NUMBERS[RowKind.SCHEDULE]
PROFILE: Final = ROW_NUMBERS[RowKind.PROFILE]
ROSTER: Final = ROW_NUMBERS[RowKind.ROSTER]

UNKNOWN_SCHEDULE: Final = NEVER  # A right whose schedule is not known is one outside its hours.

_SITE_ROW: Final = msgspec.msgpack.Decoder(SiteRow)
_SCHEDULE_ROW: Final = msgspec.msgpack.Decoder(ScheduleRow)
_PRODUCT_ROW: Final = msgspec.msgpack.Decoder(ProductRow)
_PROFILE_ROW: Final = msgspec.msgpack.Decoder(ProfileRow)
_ROSTER_ROW: Final = msgspec.msgpack.Decoder(RosterRow)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallLists:
    """The scopes that fit in memory, at the versions they were read at."""

    site: SiteRow | None
    schedules: Mapping[str, Calendar]
    products: Mapping[str, Product]
    menu: VersionMark | None
    profiles: Mapping[str, ProfileRow] = field(default_factory=dict)
    roster: Mapping[str, RosterRow] = field(default_factory=dict)  # By device, our own among them.
    # What the schedules say of one date; worked out once a day, and anew with the settings.
    days: dict[str, dict[str, tuple[range, ...]]] = field(default_factory=dict, repr=False)

    def windows_on(self, local_date: str) -> WindowsOf:
        """Schedule id -> the minutes of the week that hold on this date."""
        if local_date not in self.days:
            self.days.clear()
            schedules = self.schedules.items()
            self.days[local_date] = {name: one.on(local_date) for name, one in schedules}
        today = self.days[local_date]
        return lambda schedule_id: today.get(schedule_id, UNKNOWN_SCHEDULE)


def with_settings(small: SmallLists, db: sqlite3.Connection) -> SmallLists:
    """The settings' picture read anew."""
    site = db.execute(ROW, (SITE, b"site")).fetchone()
    return replace(
        small,
        site=None if site is None else decode(_SITE_ROW, site[0]),
        schedules={
            text_of(key): _calendar(decode(_SCHEDULE_ROW, body))
            for key, body in rows_of(db, SCHEDULE)
        },
        roster={text_of(key): decode(_ROSTER_ROW, body) for key, body in rows_of(db, ROSTER)},
        profiles={text_of(key): decode(_PROFILE_ROW, body) for key, body in rows_of(db, PROFILE)},
        days={},
    )


def with_menu(small: SmallLists, db: sqlite3.Connection) -> SmallLists:
    """The menu's picture read anew."""
    return replace(
        small,
        products={
            text_of(key): to_product(text_of(key), decode(_PRODUCT_ROW, body))
            for key, body in rows_of(db, PRODUCT)
        },
        menu=picture_meta(db).version,
    )


def _calendar(row: ScheduleRow) -> Calendar:
    days = row.days.items()
    return Calendar(
        windows=tuple(clipped(row.windows)),
        terms=row.terms,
        holidays=row.holidays,
        days={date: tuple(clipped(day, minutes=MINUTES_PER_DAY)) for date, day in days},
    )
