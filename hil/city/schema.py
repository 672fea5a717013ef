"""The tables of a site's books: one SQLite file or one PostgreSQL schema, one writer.

`fact` holds the bytes as they came; everything else is either what was made of them in the same
transaction (cursor, ledger, feed, suspense) or what people of the city have entered. Written in
SQLite's words (STRICT); `database.py` turns the types into PostgreSQL's.
"""

from __future__ import annotations

from typing import Final

SCHEMA_VERSION: Final = 4
FILE_NAME: Final = "city.db"  # Of the first site, in the city's folder.

TABLES: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

-- Devices, and how they got their identity.
CREATE TABLE claim (
    code TEXT PRIMARY KEY, made_ms INTEGER NOT NULL, device TEXT, public_key BLOB) STRICT;
CREATE TABLE device (
    device TEXT PRIMARY KEY, site TEXT NOT NULL, station TEXT NOT NULL,
    public_key BLOB NOT NULL, certificate TEXT NOT NULL, enrolled_ms INTEGER NOT NULL,
    online INTEGER NOT NULL DEFAULT 0, boot TEXT NOT NULL DEFAULT '',
    connection INTEGER NOT NULL DEFAULT -1, status_ms INTEGER, hello_ms INTEGER,
    health TEXT NOT NULL DEFAULT '', order_counter INTEGER NOT NULL DEFAULT 0,
    revoked_ms INTEGER, next_key BLOB, next_certificate TEXT) STRICT;
CREATE TABLE desired (device TEXT PRIMARY KEY, version INTEGER NOT NULL, data TEXT NOT NULL) STRICT;
CREATE TABLE revoked (serial TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) STRICT;

-- What came up.
CREATE TABLE fact (
    device TEXT NOT NULL, stream TEXT NOT NULL, epoch TEXT NOT NULL, sequence INTEGER NOT NULL,
    kind TEXT NOT NULL, digest TEXT NOT NULL, bytes BLOB NOT NULL, received_ms INTEGER NOT NULL,
    PRIMARY KEY (device, stream, epoch, sequence)) STRICT;
CREATE TABLE cursor (
    device TEXT NOT NULL, stream TEXT NOT NULL, epoch TEXT NOT NULL,
    up_to INTEGER NOT NULL, digest TEXT NOT NULL, moved_ms INTEGER NOT NULL,
    PRIMARY KEY (device, stream, epoch)) STRICT;
CREATE TABLE gap (
    device TEXT NOT NULL, stream TEXT NOT NULL, epoch TEXT NOT NULL,
    source INTEGER NOT NULL, target INTEGER NOT NULL, digest TEXT NOT NULL,
    counts TEXT NOT NULL, received_ms INTEGER NOT NULL,
    PRIMARY KEY (device, stream, epoch, source)) STRICT;
CREATE TABLE fork (
    device TEXT NOT NULL, stream TEXT NOT NULL, epoch TEXT NOT NULL, sequence INTEGER NOT NULL,
    digest TEXT NOT NULL, bytes BLOB NOT NULL, received_ms INTEGER NOT NULL,
    PRIMARY KEY (device, stream, epoch, sequence, digest)) STRICT;
-- Facts of a closed epoch that came once more, inside a fact of a newer one.
CREATE TABLE restated (
    device TEXT NOT NULL, stream TEXT NOT NULL, epoch TEXT NOT NULL, sequence INTEGER NOT NULL,
    digest TEXT NOT NULL, PRIMARY KEY (device, stream, epoch, sequence, digest)) STRICT;
CREATE TABLE suspense (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    device TEXT NOT NULL, stream TEXT NOT NULL, epoch TEXT NOT NULL, sequence INTEGER NOT NULL,
    reason TEXT NOT NULL, received_ms INTEGER NOT NULL,
    UNIQUE (device, stream, epoch, sequence)) STRICT;
CREATE TABLE low_tier (credential TEXT PRIMARY KEY, times INTEGER NOT NULL) STRICT;
CREATE TABLE alarm (
    device TEXT NOT NULL, what TEXT NOT NULL, text TEXT NOT NULL, times INTEGER NOT NULL,
    first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL,
    PRIMARY KEY (device, what)) STRICT;

-- Money: double entry. `balance` and `spend` are sums of postings, kept with them.
CREATE TABLE entry (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, reference TEXT NOT NULL UNIQUE,
    at_ms INTEGER NOT NULL) STRICT;
CREATE TABLE posting (
    entry INTEGER NOT NULL REFERENCES entry (id), account TEXT NOT NULL, purse TEXT NOT NULL,
    amount_minor INTEGER NOT NULL) STRICT;
CREATE INDEX posting_by_account ON posting (account, purse);
CREATE TABLE balance (
    account TEXT NOT NULL, purse TEXT NOT NULL, amount_minor INTEGER NOT NULL,
    PRIMARY KEY (account, purse)) STRICT;
CREATE TABLE spend (
    account TEXT NOT NULL, date TEXT NOT NULL, amount_minor INTEGER NOT NULL,
    PRIMARY KEY (account, date)) STRICT;
CREATE TABLE item (
    account TEXT NOT NULL, date TEXT NOT NULL, category TEXT NOT NULL, pieces INTEGER NOT NULL,
    PRIMARY KEY (account, date, category)) STRICT;

-- What tills did that later facts speak of. `data` is JSON.
CREATE TABLE sale (
    device TEXT NOT NULL, epoch TEXT NOT NULL, sequence INTEGER NOT NULL, digest TEXT NOT NULL,
    reference TEXT NOT NULL, account TEXT NOT NULL, cardholder TEXT NOT NULL, date TEXT NOT NULL,
    data TEXT NOT NULL, voided INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (device, epoch, sequence, digest)) STRICT;
CREATE TABLE hold (
    device TEXT NOT NULL, epoch TEXT NOT NULL, sequence INTEGER NOT NULL, account TEXT NOT NULL,
    date TEXT NOT NULL, postings TEXT NOT NULL, state TEXT NOT NULL,
    PRIMARY KEY (device, epoch, sequence)) STRICT;
CREATE TABLE waiting (
    device TEXT NOT NULL, stream TEXT NOT NULL, epoch TEXT NOT NULL, sequence INTEGER NOT NULL,
    sale_device TEXT NOT NULL, sale_epoch TEXT NOT NULL, sale INTEGER NOT NULL,
    PRIMARY KEY (device, stream, epoch, sequence)) STRICT;
CREATE TABLE refunded (
    device TEXT NOT NULL, epoch TEXT NOT NULL, sequence INTEGER NOT NULL, payee TEXT NOT NULL,
    purse TEXT NOT NULL, amount_minor INTEGER NOT NULL,
    PRIMARY KEY (device, epoch, sequence, payee, purse)) STRICT;
CREATE TABLE refunded_line (
    device TEXT NOT NULL, epoch TEXT NOT NULL, sequence INTEGER NOT NULL, product TEXT NOT NULL,
    price_minor INTEGER NOT NULL, grams INTEGER NOT NULL, pieces INTEGER NOT NULL,
    PRIMARY KEY (device, epoch, sequence, product, price_minor, grams)) STRICT;
CREATE TABLE meal_use (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    cardholder TEXT NOT NULL, date TEXT NOT NULL, slot TEXT NOT NULL, entitlement TEXT NOT NULL,
    device TEXT NOT NULL, epoch TEXT NOT NULL, sequence INTEGER NOT NULL, digest TEXT NOT NULL,
    wall_ms INTEGER NOT NULL, clock_trusted INTEGER NOT NULL, purse TEXT NOT NULL,
    amount_minor INTEGER NOT NULL, duplicate INTEGER NOT NULL DEFAULT 0,
    UNIQUE (cardholder, date, slot, entitlement, device, epoch, sequence, digest)) STRICT;
CREATE TABLE close_out (
    device TEXT NOT NULL, epoch TEXT NOT NULL, sequence INTEGER NOT NULL, number INTEGER NOT NULL,
    date TEXT NOT NULL, difference TEXT NOT NULL, PRIMARY KEY (device, epoch, sequence)) STRICT;

-- What the city spends: earmarked first, posted when every till has seen it.
CREATE TABLE debit (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, reference TEXT NOT NULL UNIQUE,
    account TEXT NOT NULL, purse TEXT NOT NULL, amount_minor INTEGER NOT NULL,
    target TEXT NOT NULL, cardholder TEXT NOT NULL, state TEXT NOT NULL, made_ms INTEGER NOT NULL,
    list_epoch INTEGER, number INTEGER) STRICT;
CREATE TABLE base_seen (
    device TEXT PRIMARY KEY, list_epoch INTEGER NOT NULL, number INTEGER NOT NULL,
    epoch TEXT NOT NULL, sequence INTEGER NOT NULL) STRICT;
CREATE TABLE preorder (
    preorder TEXT PRIMARY KEY, cardholder TEXT NOT NULL, account TEXT NOT NULL,
    purse TEXT NOT NULL, date TEXT NOT NULL, slot TEXT NOT NULL, lines TEXT NOT NULL,
    amount_minor INTEGER NOT NULL, charged INTEGER NOT NULL, state TEXT NOT NULL) STRICT;

-- People and what they may: entered by the city.
CREATE TABLE person (
    cardholder TEXT PRIMARY KEY, name TEXT NOT NULL, section TEXT NOT NULL, category TEXT NOT NULL,
    account TEXT, suspended INTEGER NOT NULL, here INTEGER NOT NULL, rights TEXT NOT NULL,
    allergens TEXT NOT NULL, wards TEXT NOT NULL,
    sealed_name BLOB NOT NULL, sealed_group BLOB NOT NULL) STRICT;
CREATE TABLE card (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    uid TEXT NOT NULL, uid_kind INTEGER NOT NULL, credential BLOB NOT NULL, cardholder TEXT,
    label TEXT NOT NULL, tier INTEGER NOT NULL, valid_from_utc_s INTEGER NOT NULL,
    valid_until_utc_s INTEGER NOT NULL, hot TEXT NOT NULL,
    profile TEXT NOT NULL DEFAULT '', key_version INTEGER,
    UNIQUE (uid_kind, uid)) STRICT;
CREATE INDEX card_by_cardholder ON card (cardholder);
CREATE TABLE account (
    account TEXT PRIMARY KEY, suspended INTEGER NOT NULL, purses TEXT NOT NULL,
    day_limit_minor INTEGER, week_limit_minor INTEGER, item_limits TEXT NOT NULL DEFAULT '{}',
    low_balance_minor INTEGER, warned INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE ward (
    cardholder TEXT NOT NULL, ward TEXT NOT NULL, relation TEXT NOT NULL, sealed BLOB NOT NULL,
    barred INTEGER NOT NULL, PRIMARY KEY (cardholder, ward)) STRICT;
CREATE TABLE photo (
    cardholder TEXT PRIMARY KEY, hash TEXT NOT NULL UNIQUE, picture BLOB NOT NULL,
    sealed BLOB NOT NULL) STRICT;
CREATE TABLE staff (
    cardholder TEXT PRIMARY KEY, roles TEXT NOT NULL, pin TEXT NOT NULL,
    sealed_pin BLOB NOT NULL) STRICT;
CREATE TABLE pupil_group (
    pupil_group TEXT PRIMARY KEY, name TEXT NOT NULL, owner_till TEXT NOT NULL,
    sealed_name BLOB NOT NULL) STRICT;
CREATE TABLE member (cardholder TEXT PRIMARY KEY, pupil_group TEXT NOT NULL) STRICT;
CREATE TABLE entitlement (
    cardholder TEXT NOT NULL, entitlement TEXT NOT NULL, slots TEXT NOT NULL,
    categories TEXT NOT NULL, first_date TEXT NOT NULL, last_date TEXT NOT NULL,
    weekdays TEXT NOT NULL, except_dates TEXT NOT NULL, owner_till TEXT NOT NULL,
    PRIMARY KEY (cardholder, entitlement)) STRICT;
-- City-wide: who may enter museums, under the museum list's own identifier key.
CREATE TABLE token (
    token BLOB PRIMARY KEY, cardholder TEXT, category TEXT NOT NULL) STRICT;
CREATE TABLE ban (
    account TEXT NOT NULL, what TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (account, what, value)) STRICT;
CREATE TABLE product (
    product TEXT PRIMARY KEY, name TEXT NOT NULL, category TEXT NOT NULL,
    price_minor INTEGER NOT NULL, allergens TEXT NOT NULL, allergens_checked INTEGER NOT NULL,
    purse TEXT NOT NULL, offered INTEGER NOT NULL) STRICT;
CREATE TABLE schedule (
    schedule TEXT PRIMARY KEY, windows TEXT NOT NULL, terms TEXT NOT NULL,
    holidays TEXT NOT NULL, days TEXT NOT NULL) STRICT;
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

-- What went down.
CREATE TABLE list_row (
    scope TEXT NOT NULL, kind INTEGER NOT NULL, key BLOB NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (scope, kind, key)) STRICT;
CREATE TABLE list_head (
    scope TEXT PRIMARY KEY, list_epoch INTEGER NOT NULL, number INTEGER NOT NULL,
    set_digest BLOB NOT NULL, vector BLOB NOT NULL, snapshot TEXT NOT NULL) STRICT;
CREATE TABLE delta (
    scope TEXT NOT NULL, list_epoch INTEGER NOT NULL, target INTEGER NOT NULL,
    base INTEGER NOT NULL, message BLOB NOT NULL,
    PRIMARY KEY (scope, list_epoch, target)) STRICT;
CREATE TABLE snapshot (
    snapshot TEXT PRIMARY KEY, scope TEXT NOT NULL, list_epoch INTEGER NOT NULL,
    number INTEGER NOT NULL, root TEXT NOT NULL, manifest BLOB NOT NULL, bytes INTEGER NOT NULL,
    made_ms INTEGER NOT NULL, place INTEGER NOT NULL) STRICT;
CREATE TABLE chunk (
    snapshot TEXT NOT NULL REFERENCES snapshot (snapshot) ON DELETE CASCADE,
    position INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (snapshot, position)) STRICT;
CREATE TABLE unpublished (
    scope TEXT NOT NULL, item TEXT NOT NULL, since_ms INTEGER NOT NULL,
    PRIMARY KEY (scope, item)) STRICT;
CREATE TABLE sent_order (
    device TEXT NOT NULL, counter INTEGER NOT NULL, word TEXT NOT NULL, access_point TEXT,
    not_after_utc_ms INTEGER NOT NULL, message BLOB NOT NULL,
    answer TEXT NOT NULL DEFAULT '', outcome TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (device, counter)) STRICT;
CREATE TABLE feed (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, at TEXT NOT NULL,
    cardholder TEXT NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL) STRICT;
"""
