"""The rows of each list, made of the city's records: what a device of the site should now hold.

Nothing is decided and nothing is published here. Rows of the money list are read in the transaction
that reads the applied vector, or the base lies.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from edge.messages import (
    ROW_NUMBERS,
    AccountRow,
    AdmissionRow,
    CardholderRow,
    CredentialRow,
    DeviceRow,
    EntitlementRow,
    GroupRow,
    HotRow,
    MealUsedRow,
    PeerBroker,
    PreorderRow,
    ProductRow,
    RosterRow,
    Row,
    RowBody,
    RowKey,
    RowKind,
    ScheduleRow,
    SiteRow,
    StaffRow,
    encode_pack,
)
from edge.model import Category, StaffRole, Station
from hil.city.card_keys import open_card_keys
from hil.city.keys import CityKeys
from hil.city.ledger import Ledger
from hil.city.store import Store
from hil.world.school import SiteSettings

SITE_ROW_KEY: Final = b"site"
OPEN_ORDERS: Final = ("ordered", "charged", "collected")  # States of pre-orders that tills see.
BETWEEN: Final = b"\0"  # Of the parts of a row's key.
T = TypeVar("T")


def make_row(kind: RowKind, key: bytes, body: RowBody) -> Row:
    return Row(ROW_NUMBERS[kind], key, encode_pack(body))


def row_key(kind: RowKind, key: bytes) -> RowKey:
    return RowKey(ROW_NUMBERS[kind], key)


def parts_key(*parts: str) -> bytes:
    """A key made of ids and dates."""
    return BETWEEN.join(part.encode() for part in parts)


class Rows:
    """Reads the books; changes nothing."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        site: str,
        keys: CityKeys,
        settings: Callable[[], SiteSettings],
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._site = site
        self._keys = keys
        self._settings = settings

    def rows_of(self, part: str, today: str) -> Iterator[Row]:
        """Every row that the list should now have. `today` is the site's date."""
        if part == "people":
            yield from self._cardholder_rows()
            yield from self._credential_rows()
            yield from self._staff_rows()
            yield from self._group_rows()
        elif part == "money":
            yield from self._money_rows(today)
        elif part == "menu":
            yield from self._product_rows()
        elif part == "museum":
            for token, category in self._store.rows("SELECT token, category FROM token"):
                yield make_row(RowKind.ADMISSION, token, AdmissionRow(category))
        else:
            assert part == "settings"
            yield from self._settings_rows()

    # ------------------------------------------------------------------------------- money

    def _money_rows(self, today: str) -> Iterator[Row]:
        for (account,) in self._store.rows("SELECT account FROM account"):
            yield self.account_row(account)
        for statement, values, kind in (
            (
                "SELECT cardholder, entitlement FROM entitlement WHERE last_date >= ?",
                (today,),
                RowKind.ENTITLEMENT,
            ),
            (
                "SELECT DISTINCT cardholder, date, slot, entitlement FROM meal_use WHERE date >= ?",
                (today,),
                RowKind.MEAL_USED,
            ),
            (
                "SELECT cardholder, preorder FROM preorder WHERE date >= ?",
                (today,),
                RowKind.PREORDER,
            ),
        ):
            for parts in self._store.rows(statement, values):
                row = self.money_row(kind, parts_key(*parts), today)
                if row is not None:
                    yield row

    def money_row(self, kind: RowKind, key: bytes, today: str) -> Row | None:
        """The row under this key as it should be; None when there should be none."""
        parts = [part.decode() for part in key.split(BETWEEN)]
        if kind is RowKind.ACCOUNT:
            return self.account_row(*parts)
        body: RowBody | None
        if kind is RowKind.ENTITLEMENT:
            body = self._entitlement(*parts, today=today)
        elif kind is RowKind.MEAL_USED:
            body = self._meal_used(*parts, today=today)
        else:
            assert kind is RowKind.PREORDER
            body = self._preorder(*parts, today=today)
        return None if body is None else make_row(kind, key, body)

    def account_row(self, account: str) -> Row:
        row = self._store.one(
            "SELECT suspended, purses, day_limit_minor, week_limit_minor, item_limits,"
            " low_balance_minor FROM account WHERE account = ?",
            (account,),
        )
        assert row is not None, f"account {account} is on no record"
        suspended, purses, day_limit, week_limit, item_limits, low_balance = row
        spent_date, spent_day, spent_week = self._ledger.spent(account)
        balances = self._ledger.balances(account)
        body = AccountRow(
            suspended=bool(suspended),
            balance_minor_by_purse={purse: balances.get(purse, 0) for purse in json.loads(purses)},
            day_limit_minor=day_limit,
            week_limit_minor=week_limit,
            spent_date=spent_date,
            spent_day_minor=spent_day,
            spent_week_minor=spent_week,
            banned_products=self._bans(account, "product"),
            banned_categories=self._bans(account, "category"),
            item_limits=json.loads(item_limits),
            items_day=self._ledger.items(account, spent_date),
            low_balance_minor=low_balance,
        )
        return make_row(RowKind.ACCOUNT, account.encode(), body)

    def _bans(self, account: str, what: str) -> tuple[str, ...]:
        found = self._store.rows(
            "SELECT value FROM ban WHERE account = ? AND what = ? ORDER BY value", (account, what)
        )
        return tuple(row[0] for row in found)

    def _entitlement(self, cardholder: str, entitlement: str, *, today: str) -> RowBody | None:
        row = self._store.one(
            "SELECT slots, categories, first_date, last_date, weekdays, except_dates, owner_till"
            " FROM entitlement WHERE cardholder = ? AND entitlement = ? AND last_date >= ?",
            (cardholder, entitlement, today),
        )
        if row is None:
            return None
        slots, categories, first_date, last_date, weekdays, except_dates, owner_till = row
        return EntitlementRow(
            slots=tuple(json.loads(slots)),
            categories=tuple(json.loads(categories)),
            first_date=first_date,
            last_date=last_date,
            weekdays=tuple(json.loads(weekdays)),
            except_dates=tuple(json.loads(except_dates)),
            owner_till=owner_till,
        )

    def _meal_used(
        self, cardholder: str, date: str, slot: str, entitlement: str, *, today: str
    ) -> RowBody | None:
        row = self._store.one(
            "SELECT device, epoch, sequence FROM meal_use WHERE cardholder = ? AND date = ?"
            " AND slot = ? AND entitlement = ? AND duplicate = 0",
            (cardholder, date, slot, entitlement),
        )
        return None if row is None or date < today else MealUsedRow(*row)

    def _preorder(self, cardholder: str, preorder: str, *, today: str) -> RowBody | None:
        row = self._store.one(
            "SELECT date, slot, lines, charged, state FROM preorder"
            " WHERE cardholder = ? AND preorder = ? AND date >= ?",
            (cardholder, preorder, today),
        )
        if row is None or row[4] not in OPEN_ORDERS:
            return None
        date, slot, lines, charged, state = row
        return PreorderRow(
            business_date=date,
            slot=slot,
            lines=tuple((product, n, price) for product, n, price in json.loads(lines)),
            charged=bool(charged),
            collected=state == "collected",
        )

    # ------------------------------------------------------------------------------ people

    def _cardholder_rows(self) -> Iterator[Row]:
        for found in self._store.rows(
            "SELECT p.cardholder, p.category, p.account, p.suspended, p.here, p.rights,"
            " p.allergens, p.wards, p.sealed_name, p.sealed_group, m.pupil_group, f.hash"
            " FROM person p LEFT JOIN member m USING (cardholder)"
            " LEFT JOIN photo f USING (cardholder)"
        ):
            cardholder, category, account, suspended, here, *rest = found
            rights, allergens, wards, sealed_name, sealed_group, group, photo = rest
            relations, barred = self._relations(cardholder, category)
            body = CardholderRow(
                category=Category(category),
                account_id=account,
                suspended=bool(suspended),
                here=bool(here),
                rights=json.loads(rights),
                allergens=tuple(json.loads(allergens)),
                ward_ids=tuple(ward for ward in json.loads(wards) if ward not in barred),
                sealed_name=sealed_name,
                sealed_group=sealed_group,
                sealed_relations=relations,
                barred_ward_ids=barred,
                group=group or "",
                photo_hash=photo or "",
            )
            yield make_row(RowKind.CARDHOLDER, cardholder.encode(), body)

    def _relations(
        self, cardholder: str, category: str
    ) -> tuple[dict[str, bytes], tuple[str, ...]]:
        if category != Category.GUARDIAN:
            return {}, ()
        found = self._store.rows(
            "SELECT ward, sealed, barred FROM ward WHERE cardholder = ? ORDER BY ward",
            (cardholder,),
        )
        relations = {ward: sealed for ward, sealed, _ in found if sealed}
        return relations, tuple(ward for ward, _, barred in found if barred)

    def _credential_rows(self) -> Iterator[Row]:
        found = self._store.rows(
            "SELECT credential, cardholder, tier, valid_from_utc_s, valid_until_utc_s, profile,"
            " key_version, uid FROM card WHERE cardholder IS NOT NULL"
        )
        scope = f"{self._site}/people"
        keys = open_card_keys(self._keys.folder)
        for credential, cardholder, tier, valid_from, valid_until, profile, version, uid in found:
            body = CredentialRow(cardholder, tier, valid_from, valid_until)
            if profile and keys is not None:
                sealed = keys.sealed_card_key(
                    profile,
                    bytes.fromhex(uid),
                    credential=credential,
                    scope=scope,
                    keys=self._keys.scopes[scope],
                )
                body = CredentialRow(
                    *(cardholder, tier, valid_from, valid_until),
                    *(profile, version, sealed),
                )
            yield make_row(RowKind.CREDENTIAL, credential, body)
        for credential, why in self._store.rows("SELECT credential, hot FROM card WHERE hot != ''"):
            yield self.hot_row(credential, why)

    def hot_row(self, credential: bytes, why: str) -> Row:
        return make_row(RowKind.HOT, credential, HotRow(why))

    def _staff_rows(self) -> Iterator[Row]:
        for cardholder, roles, sealed in self._store.rows(
            "SELECT cardholder, roles, sealed_pin FROM staff"
        ):
            body = StaffRow(tuple(StaffRole(role) for role in json.loads(roles)), sealed)
            yield make_row(RowKind.STAFF, cardholder.encode(), body)

    def _group_rows(self) -> Iterator[Row]:
        members: dict[str, list[str]] = {}
        for cardholder, group in self._store.rows(
            "SELECT cardholder, pupil_group FROM member ORDER BY cardholder"
        ):
            members.setdefault(group, []).append(cardholder)
        for group, owner_till, sealed in self._store.rows(
            "SELECT pupil_group, owner_till, sealed_name FROM pupil_group"
        ):
            body = GroupRow(tuple(members.get(group, ())), sealed, owner_till)
            yield make_row(RowKind.GROUP, group.encode(), body)

    # -------------------------------------------------------------------- menu and settings

    def _product_rows(self) -> Iterator[Row]:
        for found in self._store.rows("SELECT * FROM product WHERE offered = 1"):
            product, name, category, price_minor, allergens, checked, purse, _ = found
            body = ProductRow(
                name=name,
                category=category,
                price_minor=price_minor,
                allergens=tuple(json.loads(allergens)),
                allergens_checked=bool(checked),
                purse=purse,
            )
            yield make_row(RowKind.PRODUCT, product.encode(), body)

    def _settings_rows(self) -> Iterator[Row]:
        yield make_row(RowKind.SITE, SITE_ROW_KEY, site_row(self._settings()))
        for schedule, *found in self._store.rows(
            "SELECT schedule, windows, terms, holidays, days FROM schedule"
        ):
            windows, terms, holidays, days = (json.loads(text) for text in found)
            body = ScheduleRow(
                windows=_pairs(windows),
                terms=_pairs(terms),
                holidays=_pairs(holidays),
                days={date: _pairs(of_day) for date, of_day in days.items()},
            )
            yield make_row(RowKind.SCHEDULE, schedule.encode(), body)
        card_keys = open_card_keys(self._keys.folder)
        if card_keys is not None:
            rows = card_keys.profile_rows(
                settings_scope=f"{self._site}/settings",
                keys=self._keys.scopes[f"{self._site}/people"],
            )
            for profile_id, row in rows:
                yield make_row(RowKind.PROFILE, profile_id.encode(), row)
        found = self._store.rows(
            "SELECT device, station, public_key FROM device WHERE site = ? AND revoked_ms IS NULL",
            (self._site,),
        )
        for device, station, point in found:
            yield make_row(RowKind.ROSTER, device.encode(), RosterRow(Station(station), point))
        for device, version, data in self._store.rows("SELECT * FROM desired"):
            values = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in json.loads(data).items()
            }
            yield make_row(RowKind.DEVICE, device.encode(), DeviceRow(version, values))


def site_row(settings: SiteSettings) -> SiteRow:
    return SiteRow(
        time_zone=settings.time_zone,
        currency=settings.currency,
        floor_limit_minor=settings.floor_limit_minor,
        list_age_amber_s=settings.list_age_amber_s,
        list_age_refer_s=settings.list_age_refer_s,
        passback_mode=settings.passback_mode,
        passback_window_s=settings.passback_window_s,
        base_age_days_max=settings.base_age_days_max,
        peer_brokers=tuple(PeerBroker(*broker) for broker in settings.peer_brokers),
        passback_by_zone=dict(settings.passback_by_zone),
        out_is_free=settings.out_is_free,
        tariffs=dict(settings.tariffs),
        photos=settings.photos,
        referral_ms_max=settings.referral_ms_max,
        meal_slots=dict(settings.meal_slots),
        tenders=settings.tenders,
        issue_only_tills=settings.issue_only_tills,
        substitutions=settings.substitutions,
        emergency_minor_max=settings.emergency_minor_max,
        admission_again_s=settings.admission_again_s,
    )


def _pairs(found: list[list[T]]) -> tuple[tuple[T, T], ...]:
    return tuple((first, last) for first, last in found)
