"""The city's records of people, cards, accounts, menu and settings.

What people of the city enter goes through here; the rows made of it are `rows.py`'s business, what
is published `lists.py`'s. Personal columns are sealed when they are entered, so the same person
gives the same bytes in every version.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from edge.messages import Row, RowKind, from_b64u
from edge.model import CorruptData, PassbackMode, Tariff, Tender, UidKind
from hil.city.crypto import NONCE_BYTES, credential_id, seal_column
from hil.city.keys import CityKeys
from hil.city.ledger import Ledger
from hil.city.photos import Photos
from hil.city.posting import Place
from hil.city.rows import Rows
from hil.city.store import Store
from hil.world.canteen import SchoolEntitlement, SchoolGroup
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

LIMITS = ("day_limit_minor", "week_limit_minor", "low_balance_minor", "item_limits")
KEY_VERSIONS = "key_versions"  # With which the ids and columns in the books were made.


class Registry:
    """Reads and changes the records; keeps to the transaction of the caller."""

    def __init__(self, store: Store, ledger: Ledger, site: str, keys: CityKeys) -> None:
        self._store = store
        self._ledger = ledger
        self.site = site
        self._scope = f"{site}/people"
        self._keys = keys
        self._settings: SiteSettings | None = None  # Read for every fact, changed hardly ever.
        self._rows = Rows(store, ledger, site, keys, self.settings)
        self.hot_row = self._rows.hot_row
        self.photos = Photos(store, keys, self._scope)

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

    def relation(self, guardian: str, ward: str) -> str:
        row = self._store.one(
            "SELECT relation FROM ward WHERE cardholder = ? AND ward = ?", (guardian, ward)
        )
        return "" if row is None else row[0]

    def token_owner(self, token: str) -> str | None:
        try:
            key = from_b64u(token)
        except CorruptData:
            return None
        row = self._store.one("SELECT cardholder FROM token WHERE token = ?", (key,))
        return None if row is None else row[0]

    def settings(self) -> SiteSettings:
        found = {name: json.loads(v) for name, v in self._store.rows("SELECT * FROM setting")}
        return SiteSettings(**{name: _setting(name, value) for name, value in found.items()})

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

    def rows_of(self, part: str, now_ms: int = 0) -> Iterator[Row]:
        """Every row that the scope's list should now have; what of the past is left out."""
        return self._rows.rows_of(part, self.place(now_ms).today.isoformat())

    def money_row(self, kind: RowKind, key: bytes, now_ms: int) -> Row | None:
        """One row of the money list; None when there should be none."""
        return self._rows.money_row(kind, key, self.place(now_ms).today.isoformat())

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
        for ward, relation in person.relations:
            self.set_ward(person.cardholder_id, ward, relation, barred=False)
        for ward in person.barred_ward_ids:
            self.set_ward(person.cardholder_id, ward, "", barred=True)

    def set_ward(self, guardian: str, ward: str, relation: str, *, barred: bool) -> None:
        """What a guardian is to a child; `barred` by a court or the family."""
        sealed = self._sealed(guardian, f"relation/{ward}", relation) if relation else b""
        self._store.execute(
            "INSERT INTO ward VALUES (?, ?, ?, ?, ?) ON CONFLICT (cardholder, ward) DO UPDATE SET"
            " relation = excluded.relation, sealed = excluded.sealed, barred = excluded.barred",
            (guardian, ward, relation, sealed, barred),
        )

    def set_staff(self, cardholder: str, roles: Sequence[str], pin_hash: str) -> None:
        """Who may sign in at stations; `pin_hash` is argon2id in its text form."""
        self._store.execute(
            "INSERT INTO staff VALUES (?, ?, ?, ?) ON CONFLICT (cardholder) DO UPDATE SET"
            " roles = excluded.roles, pin = excluded.pin, sealed_pin = excluded.sealed_pin",
            (
                cardholder,
                json.dumps(list(roles)),
                pin_hash,
                self._sealed(cardholder, "pin", pin_hash),
            ),
        )

    def add_group(self, group: SchoolGroup) -> None:
        sealed = self._sealed(group.group_id, "name", group.name)
        self._store.execute(
            "INSERT INTO pupil_group VALUES (?, ?, ?, ?)",
            (group.group_id, group.name, group.owner_till, sealed),
        )
        for member in group.member_ids:
            self._store.execute("INSERT INTO member VALUES (?, ?)", (member, group.group_id))

    def add_entitlement(self, entitlement: SchoolEntitlement) -> None:
        self._store.execute(
            "INSERT INTO entitlement VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(entitlement.cardholder_id, entitlement.entitlement_id),
                *(json.dumps(entitlement.slots), json.dumps(entitlement.categories)),
                *(entitlement.first_date, entitlement.last_date),
                *(json.dumps(entitlement.weekdays), json.dumps(entitlement.except_dates)),
                entitlement.owner_till,
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
            "INSERT INTO account (account, suspended, purses, day_limit_minor, week_limit_minor,"
            " item_limits, low_balance_minor) VALUES (?, 0, ?, ?, ?, ?, ?)",
            (
                *(account.account_id, json.dumps(sorted(purses))),
                *(account.day_limit_minor, account.week_limit_minor),
                *(json.dumps(dict(account.item_limits)), account.low_balance_minor),
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
            "INSERT INTO schedule VALUES (?, ?, ?, ?, ?) ON CONFLICT (schedule) DO UPDATE SET"
            " windows = excluded.windows, terms = excluded.terms, holidays = excluded.holidays,"
            " days = excluded.days",
            (
                *(schedule.schedule_id, json.dumps(schedule.windows)),
                *(json.dumps(schedule.terms), json.dumps(schedule.holidays)),
                json.dumps(dict(schedule.days)),
            ),
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
            self._seal_anew()
        return True

    def _seal_anew(self) -> None:
        """The sealed columns beside people's names."""
        for table, key, column, name in (
            ("staff", "cardholder", "pin", "pin"),
            ("pupil_group", "pupil_group", "name", "name"),
        ):
            for row_key, text in self._store.rows(f"SELECT {key}, {column} FROM {table}"):
                self._store.execute(
                    f"UPDATE {table} SET sealed_{name} = ? WHERE {key} = ?",
                    (self._sealed(row_key, name, text), row_key),
                )
        for guardian, ward, relation, barred in self._store.rows(
            "SELECT cardholder, ward, relation, barred FROM ward"
        ):
            self.set_ward(guardian, ward, relation, barred=bool(barred))
        self.photos.seal_anew()

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

    def set_limits(self, account: str, limits: dict[str, Any]) -> None:
        """Columns of the account: `day_limit_minor`, `week_limit_minor`, `low_balance_minor` in
        minor units or None, `item_limits` as category -> pieces a day."""
        for column, value in limits.items():
            assert column in LIMITS
            given = json.dumps(value) if column == "item_limits" else value
            self._store.execute(
                f"UPDATE account SET {column} = ? WHERE account = ?", (given, account)
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
            "SELECT label, uid, uid_kind, cardholder, hot, profile FROM card"
            " WHERE label != '' ORDER BY place"
        )
        return [
            {
                "label": label,
                "uid": uid,
                "uid_kind": UidKind(kind).name.lower(),
                "uid_kind_number": kind,
                "cardholder": cardholder,
                "hot": hot,
                "profile": profile,
                "name": None if cardholder is None else self.person_name(cardholder),
                "account": None if cardholder is None else self.account_of(cardholder),
            }
            for label, uid, kind, cardholder, hot, profile in found
        ]


def _setting(name: str, value: Any) -> Any:
    """A setting as `SiteSettings` has it, from JSON."""
    if name == "passback_mode":
        return PassbackMode(value)
    if name == "passback_by_zone":
        return {zone: PassbackMode(mode) for zone, mode in value.items()}
    if name == "tariffs":
        return {category: Tariff(tariff) for category, tariff in value.items()}
    if name == "meal_slots":
        return {slot: (first, last) for slot, (first, last) in value.items()}
    if name == "tenders":
        return tuple(Tender(tender) for tender in value)
    if isinstance(value, list):
        return tuple(tuple(item) if isinstance(item, list) else item for item in value)
    return value
