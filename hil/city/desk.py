"""The city's desk, what its people do by hand: enrolment, blocks, top-ups, bans, orders, questions.

Each method is one transaction, returns plain data for JSON and the messages to publish after it,
and raises `Refused` with what was wrong and what to do about it.
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import asdict, dataclass
from typing import Any, Final

import msgspec
from cryptography import x509

from edge.messages import Order, Posting, SignedWhat, Stream, b64u, encode_json
from edge.model import CorruptData, Station
from hil.city.accounts import AMOUNT_MINOR_MAX, funding
from hil.city.batches import EPOCH, Sender
from hil.city.intake import CityCore
from hil.city.keys import (
    CITY_NAME,
    DEVICE_ID,
    certificate_pem,
    issue_device,
    public_bytes,
    public_key_of_request,
    utc,
)
from hil.city.lists import Out
from hil.city.store import StreamKey
from hil.world.school import PURSE

ORDER_WORD: Final = re.compile(r"[a-z_]{1,32}")
ORDER_WORDS: Final = ("access_point", "scope", "process", "level", "release", "sha256")
ORDER_VALID_S_MAX: Final = 300  # Our choice: an order to open is stale long before.
ORDER_EARLY_MS: Final = 5_000  # Our choice: a device's clock may be behind by a little.
CLAIM_CODE: Final = re.compile(r"[A-Za-z0-9-]{4,64}")
CLAIM_BYTES: Final = 10  # Our choice: 80 bits are not guessed over a network.
CLAIM_FAILURES_MAX: Final = 20  # Our choice, a minute: a technician mistypes less often.
FEED_PAGE: Final = 200  # Our choice.
THROTTLE_PER_S_MAX: Final = 100_000  # Our choice: more than any device makes of facts.
TEXT_CHARS_MAX: Final = 128  # Our choice: no id or code of the city is longer.


class Refused(Exception):
    """A request the desk does not carry out. `status` is the HTTP status it comes to."""

    def __init__(self, status: int, error: str, remedy: str) -> None:
        super().__init__(f"{error}; {remedy}")
        self.status = status
        self.error = error
        self.remedy = remedy


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The answer to give, and what to publish."""

    answer: dict[str, Any]
    outs: tuple[Out, ...] = ()
    devices_changed: bool = False  # The broker's access list is to be written anew.


class Desk:
    """One thread uses it: the one that owns the store."""

    def __init__(self, core: CityCore, endpoints: tuple[str, ...]) -> None:
        self._core = core
        self._store = core.store
        self._endpoints = endpoints
        self._failures: list[int] = []

    # --------------------------------------------------------------------------- enrolment

    def make_claim(self, now_ms: int, code: str | None = None) -> Done:
        """A code that enrols one device."""
        chosen = code or secrets.token_hex(CLAIM_BYTES)
        if not CLAIM_CODE.fullmatch(chosen):
            raise Refused(400, "claim code of a wrong form", "use 4 to 64 letters, digits, hyphens")
        with self._store.transaction():
            self._store.execute(
                "INSERT INTO claim (code, made_ms) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (chosen, now_ms),
            )
        return Done(answer={"claim": chosen})

    def enrol(self, request: dict[str, Any], now_ms: int) -> Done:
        """A certificate and the trust to begin with. Safe to repeat for the same device and key."""
        device = text_of(request, "device_id")
        site, station_word = text_of(request, "site_id"), text_of(request, "station")
        if not DEVICE_ID.fullmatch(device) or device == CITY_NAME:
            raise Refused(
                400, f"device id {device!r} is not possible", "use 1 to 64 of a-z, 0-9, -"
            )
        if site != self._core.site:
            raise Refused(404, f"no site {site!r}", f"this city serves {self._core.site}")
        if station_word not in set(Station):
            raise Refused(400, f"no station {station_word!r}", f"use one of {', '.join(Station)}")
        csr = request.get("csr_pem")
        if not isinstance(csr, str):
            raise Refused(400, "csr_pem is missing", "send the certificate request as PEM")
        try:
            key = public_key_of_request(csr)
        except CorruptData as error:
            raise Refused(
                400, str(error), "make an EC P-256 key and a request signed by it"
            ) from None
        station, point = Station(station_word), public_bytes(key)
        with self._store.transaction():
            self._use_claim(text_of(request, "claim"), device, point, now_ms)
            known = self._store.one(
                "SELECT station, public_key, certificate FROM device WHERE device = ?", (device,)
            )
            if known is not None and known[0] != station.value:
                raise Refused(409, f"{device} is a {known[0]}", "enrol it under another device id")
            if known is not None and known[1] != point:
                self.revoke_certificate(known[2], now_ms)
            certificate = certificate_pem(issue_device(self._core.keys, device, key, utc(now_ms)))
            self._store.execute(
                "INSERT INTO device (device, site, station, public_key, certificate, enrolled_ms)"
                " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (device) DO UPDATE SET online = 0,"
                " connection = -1, revoked_ms = NULL, next_key = NULL, next_certificate = NULL,"
                " public_key = excluded.public_key, certificate = excluded.certificate,"
                " enrolled_ms = excluded.enrolled_ms",
                (device, site, station.value, point, certificate, now_ms),
            )
            outs = self._core.publisher.refresh("settings", now_ms)
        sender = Sender(device=device, site=site, station=station)
        answer = {
            "certificate_pem": certificate,
            "chain_pem": self._core.keys.chain_pem,
            "root_public_b64u": b64u(self._core.keys.root_public),
            "root_document": self._core.keys.root_document.decode(),
            "endpoints": list(self._endpoints),
            "scopes": list(self._core.scopes_of(sender)),
        }
        return Done(answer=answer, outs=tuple(outs), devices_changed=True)

    def _use_claim(self, code: str, device: str, point: bytes, now_ms: int) -> None:
        self._failures = [at for at in self._failures if 0 <= now_ms - at < 60_000]
        if len(self._failures) >= CLAIM_FAILURES_MAX:
            raise Refused(429, "too many wrong claim codes", "wait a minute")
        claims = self._store.rows("SELECT code, device, public_key FROM claim")
        found = [c for c in claims if hmac.compare_digest(c[0].encode(), code.encode())]
        if not found:
            self._failures.append(now_ms)
            raise Refused(403, "claim code unknown", "ask the city for a new one: POST /claims")
        _, owner, owner_point = found[0]
        if owner is not None and (owner, owner_point) != (device, point):
            raise Refused(409, "claim code was used already", "ask the city for a new one")
        self._store.execute(
            "UPDATE claim SET device = ?, public_key = ? WHERE code = ?", (device, point, code)
        )

    def revoke_certificate(self, certificate: str, now_ms: int) -> None:
        serial = x509.load_pem_x509_certificate(certificate.encode()).serial_number
        self._store.execute(
            "INSERT INTO revoked VALUES (?, ?) ON CONFLICT DO NOTHING", (str(serial), now_ms)
        )

    def revoked_serials(self) -> list[int]:
        return [int(serial) for (serial,) in self._store.rows("SELECT serial FROM revoked")]

    def senders(self) -> list[Sender]:
        """Every enrolled device, for the broker's access list."""
        found = self._store.rows(
            "SELECT device, site, station FROM device WHERE revoked_ms IS NULL ORDER BY device"
        )
        return [Sender(device=d, site=site, station=Station(s)) for d, site, s in found]

    def device_ids(self) -> list[str]:
        """All that ever were, the revoked too."""
        return [device for (device,) in self._store.rows("SELECT device FROM device")]

    # ------------------------------------------------------------------- cards and accounts

    def block(self, request: dict[str, Any], now_ms: int, *, on: bool) -> Done:
        """A card, or all cards of a cardholder, onto the hot list or off it: out at once."""
        credentials = self._credentials(request)
        why = "blocked" if on else ""
        with self._store.transaction():
            self._core.registry.set_hot(credentials, why)
            outs = self._core.publisher.publish_hot(credentials, why, now_ms)
            outs += self._core.museum.follow(credentials, now_ms)
        return Done(answer={"cards": len(credentials), "blocked": on}, outs=tuple(outs))

    def _credentials(self, request: dict[str, Any]) -> list[bytes]:
        if "card" in request:
            return [self.card_named(request)]
        cardholder = text_of(request, "cardholder")
        found = self._core.registry.credentials_of(cardholder)
        if not found:
            raise Refused(404, f"no cards of cardholder {cardholder!r}", "see GET /cards")
        return found

    def card_named(self, request: dict[str, Any]) -> bytes:
        """The credential of a request's `card`: its label or its UID."""
        card = self._core.registry.find_card(text_of(request, "card"))
        if card is None:
            raise Refused(404, "no such card", "give its label or its UID in hex")
        return card

    def top_up(self, request: dict[str, Any], now_ms: int) -> Done:
        """Money onto an account. With a `reference` it happens once however often it is sent."""
        account, amount = self.account_named(request), number_of(request, "amount_minor")
        if not 0 < amount <= AMOUNT_MINOR_MAX:
            raise Refused(400, f"amount_minor {amount}", f"give 1 to {AMOUNT_MINOR_MAX} kopecks")
        purse = text_of(request, "purse") if "purse" in request else PURSE
        if purse not in (self._core.registry.purses_of(account) or ()):
            raise Refused(404, f"account {account} has no such purse", "leave purse out")
        given = text_of(request, "reference") if "reference" in request else secrets.token_hex(16)
        postings = (
            Posting(account=account, purse=purse, amount_minor=amount),
            Posting(account=funding(self._core.site), purse=purse, amount_minor=-amount),
        )
        with self._store.transaction():
            posted = self._core.ledger.post("top_up", f"top-up:{given}", postings, now_ms=now_ms)
            if posted:
                self._core.publisher.touch_account(account, now_ms)
                self._core.families.look_at_balance(account, now_ms)
            outs = self._core.publisher.publish_money(now_ms)
            balances = self._core.ledger.balances(account)
        answer = {"account": account, "balance_minor_by_purse": balances, "posted": posted}
        return Done(answer=answer, outs=tuple(outs))

    def ban(self, request: dict[str, Any], now_ms: int) -> Done:
        """A category or one product, banned for an account or allowed again: out at once."""
        account, on = self.account_named(request), request.get("on", True)
        if not isinstance(on, bool):
            raise Refused(400, "on is neither true nor false", "true bans, false allows")
        what = "category" if "category" in request else "product"
        value = text_of(request, what)
        known = (
            self._core.registry.category_exists(value)
            if what == "category"
            else self._core.registry.product_name(value) is not None
        )
        if not known:
            raise Refused(404, f"no {what} {value!r}", "give one that is on the menu")
        with self._store.transaction():
            self._core.registry.set_ban(account, what, value, on=on)
            outs = self.publish_account(account, now_ms)
        return Done(answer={"account": account, what: value, "on": on}, outs=tuple(outs))

    def publish_account(self, account: str, now_ms: int) -> list[Out]:
        """A ban that waits is a ban that does not hold."""
        self._core.publisher.touch_account(account, now_ms)
        return self._core.publisher.publish_money(now_ms, at_once=True)

    def account_named(self, request: dict[str, Any]) -> str:
        """The account of a request's `account` or `cardholder`."""
        if "account" in request:
            account: str | None = text_of(request, "account")
        else:
            account = self._core.registry.account_of(text_of(request, "cardholder"))
        if account is None or self._core.registry.purses_of(account) is None:
            raise Refused(404, "no such account", "give an account, or a cardholder who has one")
        return account

    # ------------------------------------------------------------------------------ orders

    def order(self, request: dict[str, Any], now_ms: int) -> Done:
        """One device is to do something now; its answer comes back as a fact."""
        device, word = text_of(request, "device"), text_of(request, "order")
        valid_s = number_of(request, "valid_s") if "valid_s" in request else 10
        if not ORDER_WORD.fullmatch(word):
            raise Refused(400, f"order {word!r}", "an order is one word of a-z and _")
        if not 0 < valid_s <= ORDER_VALID_S_MAX:
            raise Refused(400, f"valid_s {valid_s}", f"give 1 to {ORDER_VALID_S_MAX} seconds")
        given = {name: text_of(request, name) for name in ORDER_WORDS if request.get(name)}
        minutes = number_of(request, "minutes") if "minutes" in request else 0
        access_point = given.get("access_point")
        with self._store.transaction():
            found = self._store.execute(
                "UPDATE device SET order_counter = order_counter + 1 WHERE device = ?"
                " RETURNING order_counter",
                (device,),
            ).rows
            if not found:
                raise Refused(404, f"no device {device!r}", "see GET /status")
            order = Order(
                device=device,
                counter=found[0][0],
                order=word,
                not_before_utc_ms=now_ms - ORDER_EARLY_MS,
                not_after_utc_ms=now_ms + valid_s * 1000,
                minutes=minutes,
            )
            order = msgspec.structs.replace(order, **given)
            key = self._core.keys.signing["order"]
            lines = key.sign_lines(SignedWhat.ORDER, encode_json(order))
            self._store.execute(
                "INSERT INTO sent_order (device, counter, word, access_point, not_after_utc_ms,"
                " message) VALUES (?, ?, ?, ?, ?, ?)",
                (device, order.counter, word, access_point, order.not_after_utc_ms, lines),
            )
        out = Out(f"mk/v1/d/{device}/order", lines)
        return Done(answer={"device": device, "counter": order.counter}, outs=(out,))

    def configure(self, request: dict[str, Any], now_ms: int) -> Done:
        """Settings for one device from afar: a row of its site's settings, of the next version.
        Whether it can set them is the device's to say, in its hello and its health."""
        device, values = text_of(request, "device"), request.get("values")
        if not isinstance(values, dict):
            raise Refused(400, "values is no object", "send names and values in braces")
        with self._store.transaction():
            if self._store.one("SELECT 1 FROM device WHERE device = ?", (device,)) is None:
                raise Refused(404, f"no device {device!r}", "see GET /status")
            version = self._core.registry.set_desired(device, values)
            outs = self._core.publisher.refresh("settings", now_ms)
        return Done(answer={"device": device, "version": version}, outs=tuple(outs))

    # --------------------------------------------------------------------------- questions

    def newest_feed_id(self) -> int:
        row = self._store.one("SELECT COALESCE(MAX(id), 0) FROM feed")
        assert row is not None
        return int(row[0])

    def feed(self, after: int) -> list[dict[str, Any]]:
        found = self._store.rows(
            "SELECT id, at, cardholder, kind, text FROM feed WHERE id > ? ORDER BY id LIMIT ?",
            (after, FEED_PAGE),
        )
        names = ("id", "at", "cardholder", "kind", "text")
        return [dict(zip(names, row, strict=True)) for row in found]

    def cards(self) -> list[dict[str, object]]:
        """The bench's characters with their UIDs."""
        return self._core.registry.labelled_cards()

    def facts(self, device: str, stream: str, epoch: str, after: int) -> list[bytes]:
        if stream not in set(Stream) or not EPOCH.fullmatch(epoch):
            raise Refused(400, "no such stream or epoch", "see the cursors of GET /status")
        key = StreamKey(device=device, stream=Stream(stream), epoch=epoch)
        return self._store.facts(key, after)

    def settings(self) -> dict[str, Any]:
        """What the site's city has chosen."""
        return asdict(self._core.registry.settings())

    def ledger(self) -> dict[str, Any]:
        """Sums that must be zero, what stands on the city's own accounts, and its counts."""
        counts = self._store.rows("SELECT kind, COUNT(*) FROM entry GROUP BY kind")
        sums = self._core.ledger.sums()
        return {
            "sum_minor_by_purse": sums,
            "zero": not any(sums.values()),
            "places": self._core.ledger.place_totals(self._core.site),
            "entries": dict(counts),
        }

    def account(self, request: dict[str, Any]) -> dict[str, Any]:
        account = self.account_named(request)
        date, day_minor, week_minor = self._core.ledger.spent(account)
        return {
            "account": account,
            "balance_minor_by_purse": self._core.ledger.balances(account),
            "spent_date": date,
            "spent_day_minor": day_minor,
            "spent_week_minor": week_minor,
        }

    def throttle(self, request: dict[str, Any]) -> Done:
        """Of every stream of the site's devices, from the next word to it on; null ends it."""
        per_s = request.get("per_s")
        whole = isinstance(per_s, int) and not isinstance(per_s, bool)
        if per_s is not None and not (whole and 1 <= per_s <= THROTTLE_PER_S_MAX):
            do = f"send 1 to {THROTTLE_PER_S_MAX} facts a second, or null for as many as they like"
            raise Refused(400, f"per_s {per_s!r:.40} is no throttle", do)
        self._core.throttle(per_s)
        return Done(answer={"per_s": per_s})

    def status(self) -> dict[str, Any]:
        """Everything a test or a person asks first."""

        def table(name: str, columns: str, order: str) -> list[dict[str, Any]]:
            found = self._store.rows(f"SELECT {columns} FROM {name} ORDER BY {order} LIMIT 1000")
            return [dict(zip(columns.split(", "), row, strict=True)) for row in found]

        stream = "device, stream, epoch"
        return {
            "site": self._core.site,
            "devices": [
                {**device, "online": bool(device["online"])}
                for device in table(
                    "device",
                    "device, station, online, boot, connection, status_ms, hello_ms, enrolled_ms,"
                    " revoked_ms",
                    "device",
                )
            ],
            "cursors": table("cursor", f"{stream}, up_to, digest", stream),
            "gaps": table("gap", f"{stream}, source, target, counts", stream),
            "suspense": table("suspense", f"id, {stream}, sequence, reason", "id DESC"),
            "forks": table("fork", f"{stream}, sequence, digest", stream),
            "alarms": table("alarm", "device, what, text, times, last_ms", "last_ms DESC"),
            "orders": table(
                "sent_order", "device, counter, word, access_point, answer, outcome", "device"
            ),
            "versions": {
                scope: [state.version.list_epoch, state.version.number]
                for scope in self._core.publisher.scopes
                if (state := self._core.publisher.state(scope)) is not None
            },
        }


def text_of(request: dict[str, Any], name: str) -> str:
    """A short string of a request."""
    value = request.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= TEXT_CHARS_MAX:
        raise Refused(400, f"{name} is missing or no text", f"send {name} as a short string")
    return value


def number_of(request: dict[str, Any], name: str) -> int:
    """A whole number of a request."""
    value = request.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Refused(400, f"{name} is missing or no whole number", f"send {name} as an integer")
    return value
