"""The city's records of people, cards, accounts, menu and settings, and the list rows made of them.

What people of the city enter goes through here; nothing is published here (`lists.py`). Personal
columns are sealed when they are entered, so the same person gives the same bytes in every version.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from zoneinfo import ZoneInfo

from edge.messages import (
    ROW_NUMBERS,
    AccountRow,
    CardholderRow,
    CredentialRow,
    DeviceRow,
    HotRow,
    PeerBroker,
    ProductRow,
    RosterRow,
    Row,
    RowBody,
    RowKey,
    RowKind,
    ScheduleRow,
    SiteRow,
    encode_pack,
)
from edge.model import Category, PassbackMode, Station, UidKind
from hil.city.card_keys import open_card_keys
from hil.city.crypto import NONCE_BYTES, credential_id, seal_column
from hil.city.keys import CityKeys
from hil.city.ledger import Ledger
from hil.city.posting import Place
from hil.city.store import Store
from hil.world.school import (
    VALID_FROM_UTC_S,
    VALID_UNTIL_UTC_S,
    Card,
    Person,
    Schedule,
    SchoolAccount,
    SchoolProduct,
    SiteSettings,
)

SITE_ROW_KEY = b"site"
KEY_VERSIONS = "key_versions"  # With which the ids and columns in the books were made.
ROW_PARTS: dict[RowKind, str] = {
    RowKind.CARDHOLDER: "people",
    RowKind.CREDENTIAL: "people",
    RowKind.HOT: "people",
    RowKind.ACCOUNT: "money",
    RowKind.PRODUCT: "menu",
    RowKind.SITE: "settings",
    RowKind.SCHEDULE: "settings",
    RowKind.ROSTER: "settings",
    RowKind.DEVICE: "settings",
    RowKind.PROFILE: "settings",
}


def make_row(kind: RowKind, key: bytes, body: RowBody) -> Row:
    return Row(ROW_NUMBERS[kind], key, encode_pack(body))


def row_key(kind: RowKind, key: bytes) -> RowKey:
    return RowKey(ROW_NUMBERS[kind], key)


class Registry:
    """Reads and changes the records; keeps to the transaction of the caller."""

    def __init__(self, store: Store, ledger: Ledger, site: str, keys: CityKeys) -> None:
        self._store = store
        self._ledger = ledger
        self.site = site
        self._scope = f"{site}/people"
        self._keys = keys
        self._settings: SiteSettings | None = None  # Read for every fact, changed hardly ever.

    # ------------------------------------------------- what posting asks (posting.Directory)

    def account_of(self, cardholder: str) -> str | None:
        row = self._store.one("SELECT account FROM person WHERE cardholder = ?", (cardholder,))
        return None if row is None else row[0]

    def purses_of(self, account: str) -> frozenset[str] | None:
        row = self._store.one("SELECT purses FROM account WHERE account = ?", (account,))
        return None if row is None else frozenset(json.loads(row[0]))

    def product_name(self, product: str) -> str | None:
        row = self._store.one("SELECT name FROM product WHERE product = ?", (product,))
        return None if row is None else row[0]

    def person_name(self, cardholder: str) -> str | None:
        row = self._store.one("SELECT name FROM person WHERE cardholder = ?", (cardholder,))
        return None if row is None else row[0]

    def settings(self) -> SiteSettings:
        found = {name: json.loads(v) for name, v in self._store.rows("SELECT * FROM setting")}
        found["passback_mode"] = PassbackMode(found["passback_mode"])
        brokers = found.get("peer_brokers", ())  # Books of before have none.
        found["peer_brokers"] = tuple((device, endpoint) for device, endpoint in brokers)
        return SiteSettings(**found)

    def forget_settings(self) -> None:
        """They are read again: the books were changed under us."""
        self._settings = None

    def place(self, now_ms: int) -> Place:
        """Where and when facts are judged."""
        if self._settings is None:
            self._settings = self.settings()
        return Place(
            site=self.site,
            time_zone=ZoneInfo(self._settings.time_zone),
            currency=self._settings.currency,
            now_ms=now_ms,
        )

    # ------------------------------------------------------------------------ entering

    def add_person(self, person: Person) -> None:
        self._store.execute(
            "INSERT INTO person VALUES (?, ?, ?, ?, ?, 0, 1, ?, ?, ?, ?, ?)",
            (
                person.cardholder_id,
                person.name,
                person.group,
                person.category.value,
                person.account_id,
                json.dumps(dict(person.rights)),
                json.dumps(person.allergens),
                json.dumps(person.ward_ids),
                self._sealed(person.cardholder_id, "name", person.name),
                self._sealed(person.cardholder_id, "group", person.group),
            ),
        )

    def _sealed(self, cardholder: str, column: str, text: str) -> bytes:
        keys = self._keys.scopes[self._scope]
        return seal_column(
            keys.seal,
            keys.seal_version,
            scope=self._scope,
            row_key=cardholder.encode(),
            column=column,
            text=text,
            nonce=os.urandom(NONCE_BYTES),
        )

    def add_card(self, card: Card) -> None:
        keys = self._keys.scopes[self._scope]
        identifier = credential_id(keys.identifier, card.uid_kind, card.uid)
        self._store.execute(
            "INSERT INTO card (uid, uid_kind, credential, cardholder, label, tier,"
            " valid_from_utc_s, valid_until_utc_s, hot, profile, key_version)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(card.uid.hex(), card.uid_kind.value, identifier, card.cardholder_id),
                *(card.label, card.tier, VALID_FROM_UTC_S, VALID_UNTIL_UTC_S, card.hot),
                *(card.profile, card.key_version),
            ),
        )

    def add_account(self, account: SchoolAccount, purses: Sequence[str]) -> None:
        self._store.execute(
            "INSERT INTO account VALUES (?, 0, ?, ?, ?)",
            (
                account.account_id,
                json.dumps(sorted(purses)),
                account.day_limit_minor,
                account.week_limit_minor,
            ),
        )
        for product in account.banned_products:
            self.set_ban(account.account_id, "product", product, on=True)
        for category in account.banned_categories:
            self.set_ban(account.account_id, "category", category, on=True)

    def add_product(self, product: SchoolProduct) -> None:
        self._store.execute(
            "INSERT INTO product VALUES (?, ?, ?, ?, ?, ?, ?, 1)",
            (
                *(product.product_id, product.name, product.category, product.price_minor),
                json.dumps(product.allergens),
                product.allergens_checked,
                product.purse,
            ),
        )

    def add_schedule(self, schedule: Schedule) -> None:
        self._store.execute(
            "INSERT INTO schedule VALUES (?, ?)",
            (schedule.schedule_id, json.dumps(schedule.windows)),
        )

    def set_settings(self, settings: SiteSettings) -> None:
        self._settings = None
        for name in SiteSettings.__dataclass_fields__:
            value = json.dumps(getattr(settings, name))
            self._store.execute(
                "INSERT INTO setting VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET"
                " value = excluded.value",
                (name, value),
            )

    # ------------------------------------------------------------------------ changing

    def adopt_keys(self) -> bool:
        """Ids and sealed columns made anew when the scope's keys were rotated; True if so."""
        keys = self._keys.scopes[self._scope]
        versions = f"{keys.identifier_version} {keys.seal_version}"
        before = self._store.meta(KEY_VERSIONS)
        if before == versions:
            return False
        self._store.set_meta(KEY_VERSIONS, versions)
        if before is None:
            return False
        identifier, seal = before.split()
        if int(identifier) != keys.identifier_version:
            for uid, kind in self._store.rows("SELECT uid, uid_kind FROM card"):
                made = credential_id(keys.identifier, UidKind(kind), bytes.fromhex(uid))
                self._store.execute(
                    "UPDATE card SET credential = ? WHERE uid_kind = ? AND uid = ?",
                    (made, kind, uid),
                )
        if int(seal) != keys.seal_version:
            people = self._store.rows("SELECT cardholder, name, section FROM person")
            for cardholder, name, section in people:
                columns = (
                    self._sealed(cardholder, "name", name),
                    self._sealed(cardholder, "group", section),
                )
                self._store.execute(
                    "UPDATE person SET sealed_name = ?, sealed_group = ? WHERE cardholder = ?",
                    (*columns, cardholder),
                )
        return True

    def set_hot(self, credentials: Iterable[bytes], why: str) -> None:
        """Puts cards on the hot list, or takes them off it with an empty reason."""
        for credential in credentials:
            self._store.execute("UPDATE card SET hot = ? WHERE credential = ?", (why, credential))

    def set_ban(self, account: str, what: str, value: str, *, on: bool) -> None:
        statement = (
            "INSERT INTO ban VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
            if on
            else "DELETE FROM ban WHERE account = ? AND what = ? AND value = ?"
        )
        self._store.execute(statement, (account, what, value))

    def set_day_limit(self, account: str, limit_minor: int | None) -> None:
        self._store.execute(
            "UPDATE account SET day_limit_minor = ? WHERE account = ?", (limit_minor, account)
        )

    def set_desired(self, device: str, values: dict[str, object]) -> int:
        """What is to be set on a device, and the version that it is."""
        done = self._store.execute(
            "INSERT INTO desired VALUES (?, 1, ?) ON CONFLICT (device) DO UPDATE SET"
            " version = desired.version + 1, data = excluded.data RETURNING version",
            (device, json.dumps(values)),
        )
        return int(done.rows[0][0])

    def credentials_of(self, cardholder: str) -> list[bytes]:
        found = self._store.rows("SELECT credential FROM card WHERE cardholder = ?", (cardholder,))
        return [row[0] for row in found]

    def find_card(self, label_or_uid: str) -> bytes | None:
        row = self._store.one(
            "SELECT credential FROM card WHERE label = ? OR uid = ?",
            (label_or_uid, label_or_uid.lower()),
        )
        return None if row is None else row[0]

    def category_exists(self, category: str) -> bool:
        return self._store.one("SELECT 1 FROM product WHERE category = ?", (category,)) is not None

    def labelled_cards(self) -> list[dict[str, object]]:
        """The bench's characters, UIDs in the open: for the loopback page of the bench alone."""
        found = self._store.rows(
            "SELECT label, uid, uid_kind, cardholder, hot FROM card"
            " WHERE label != '' AND profile = '' ORDER BY place"
        )
        return [
            {
                "label": label,
                "uid": uid,
                "uid_kind": UidKind(kind).name.lower(),
                "uid_kind_number": kind,
                "cardholder": cardholder,
                "hot": hot,
                "name": None if cardholder is None else self.person_name(cardholder),
                "account": None if cardholder is None else self.account_of(cardholder),
            }
            for label, uid, kind, cardholder, hot in found
        ]

    # ------------------------------------------------------------------------ list rows

    def rows_of(self, part: str) -> Iterator[Row]:
        """Every row that the scope's list should now have."""
        if part == "people":
            yield from self._cardholder_rows()
            yield from self._credential_rows()
        elif part == "money":
            for (account,) in self._store.rows("SELECT account FROM account"):
                yield self.account_row(account)
        elif part == "menu":
            yield from self._product_rows()
        else:
            assert part == "settings"
            yield from self._settings_rows()

    def account_row(self, account: str) -> Row:
        """Read in the transaction that reads the vector, or the base lies."""
        row = self._store.one("SELECT * FROM account WHERE account = ?", (account,))
        assert row is not None, f"account {account} is on no record"
        _, suspended, purses, day_limit, week_limit = row
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
        )
        return make_row(RowKind.ACCOUNT, account.encode(), body)

    def _bans(self, account: str, what: str) -> tuple[str, ...]:
        found = self._store.rows(
            "SELECT value FROM ban WHERE account = ? AND what = ? ORDER BY value", (account, what)
        )
        return tuple(row[0] for row in found)

    def _cardholder_rows(self) -> Iterator[Row]:
        for found in self._store.rows("SELECT * FROM person"):
            cardholder, _, _, category, account, suspended, here, *rest = found
            rights, allergens, wards, sealed_name, sealed_group = rest
            body = CardholderRow(
                category=Category(category),
                account_id=account,
                suspended=bool(suspended),
                here=bool(here),
                rights=json.loads(rights),
                allergens=tuple(json.loads(allergens)),
                ward_ids=tuple(json.loads(wards)),
                sealed_name=sealed_name,
                sealed_group=sealed_group,
            )
            yield make_row(RowKind.CARDHOLDER, cardholder.encode(), body)

    def _credential_rows(self) -> Iterator[Row]:
        found = self._store.rows(
            "SELECT credential, cardholder, tier, valid_from_utc_s, valid_until_utc_s, profile,"
            " key_version, uid FROM card WHERE cardholder IS NOT NULL"
        )
        keys = open_card_keys(self._keys.folder)
        for credential, cardholder, tier, valid_from, valid_until, profile, version, uid in found:
            body = CredentialRow(cardholder, tier, valid_from, valid_until)
            if profile and keys is not None:
                sealed = keys.sealed_card_key(
                    profile,
                    bytes.fromhex(uid),
                    credential=credential,
                    scope=self._scope,
                    keys=self._keys.scopes[self._scope],
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
        settings = self.settings()
        body = SiteRow(
            time_zone=settings.time_zone,
            currency=settings.currency,
            floor_limit_minor=settings.floor_limit_minor,
            list_age_amber_s=settings.list_age_amber_s,
            list_age_refer_s=settings.list_age_refer_s,
            passback_mode=settings.passback_mode,
            passback_window_s=settings.passback_window_s,
            base_age_days_max=settings.base_age_days_max,
            peer_brokers=tuple(PeerBroker(*broker) for broker in settings.peer_brokers),
        )
        yield make_row(RowKind.SITE, SITE_ROW_KEY, body)
        for schedule, windows in self._store.rows("SELECT * FROM schedule"):
            pairs = tuple((start, stop) for start, stop in json.loads(windows))
            yield make_row(RowKind.SCHEDULE, schedule.encode(), ScheduleRow(pairs))
        card_keys = open_card_keys(self._keys.folder)
        if card_keys is not None:
            rows = card_keys.profile_rows(
                settings_scope=f"{self.site}/settings", keys=self._keys.scopes[self._scope]
            )
            for profile_id, row in rows:
                yield make_row(RowKind.PROFILE, profile_id.encode(), row)
        found = self._store.rows(
            "SELECT device, station, public_key FROM device WHERE site = ? AND revoked_ms IS NULL",
            (self.site,),
        )
        for device, station, point in found:
            yield make_row(RowKind.ROSTER, device.encode(), RosterRow(Station(station), point))
        for device, version, data in self._store.rows("SELECT * FROM desired"):
            values = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in json.loads(data).items()
            }
            yield make_row(RowKind.DEVICE, device.encode(), DeviceRow(version, values))
