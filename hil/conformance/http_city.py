"""The city's HTTP as the conformance run asks it, blocking: enrolment, orders, what the city holds.

The paths and the names of their answers are the first block of `hil/city/README.md`; a city of
one's own may offer the same to be looked at more closely, or a part of it.
"""

from __future__ import annotations

import http.client
import json
import secrets
import ssl
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge.messages import Stream, from_b64u
from edge.model import CorruptData, DeviceFault, SetupProblem, Station
from edge.trust import write_secret
from hil.conformance.city_checks import NotOffered
from hil.conformance.player import Identity
from provisioning.city import Options, check_city, enrol, unreached, web_context, words_of
from provisioning.identity import certificate_request

OPTIONS: Final = Options(city="--http", authority="--ca", said="--claim and --site")
WAIT_S: Final = 15.0  # Our choice: a city with a fault may take its time.
ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024  # Our choice: a page of facts is at most 8 MiB.
ABSENT: Final = (404, 405, 501)  # RFC 9110: no such path, not with this method, not made.
HEALTH_S_MIN, HEALTH_S_MAX = 60, 3600  # Our choice, within the 10 to 3600 of sync/README.md.

T = TypeVar("T")


class _Claim(msgspec.Struct):
    claim: str


class _Online(msgspec.Struct):
    device: str
    online: bool


class _Status(msgspec.Struct):
    devices: list[_Online]


class _Settings(msgspec.Struct):
    meal_slots: dict[str, Any] | list[str]


class _Preorder(msgspec.Struct):
    preorder: str


class HttpCity:
    """One city at `url`. Satisfies `city_checks.Inspector`."""

    def __init__(
        self, url: str, claims: tuple[str, ...] = (), *, authority: Path | None = None
    ) -> None:
        """`claims` are used up first; then the city is asked for more. `authority`: whom to trust
        for https in place of this machine's authorities. `SetupProblem` for a wrong address."""
        self.url = check_city(url, OPTIONS)
        parts = urlsplit(self.url)
        self._address, self._folder = parts.netloc, parts.path
        self._authority = authority
        self._tls: ssl.SSLContext | None = None
        if parts.scheme == "https":
            self._tls = web_context(authority, OPTIONS)
        self._claims = list(claims)
        self.refusal = ""  # Why it gave out no claim.

    def enrol(self, device: str, site: str, station: Station, folder: Path) -> Identity | None:
        """A device of its own for the run; None when there is no claim for it."""
        claim = self._claim(site)
        if claim is None:
            return None
        key = ec.generate_private_key(ec.SECP256R1())
        answer = enrol(
            self.url,
            claim=claim,
            device_id=device,
            site_id=site,
            station=station.value,
            csr_pem=certificate_request(key, device),
            authority=self._authority,
            options=OPTIONS,
        )
        folder.mkdir(parents=True, exist_ok=True)
        identity = Identity(
            device=device,
            site=site,
            station=station,
            folder=folder,
            root_public=from_b64u(answer.root_public_b64u.strip()),
            root_document=answer.root_document.encode(),
        )
        pkcs8 = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        write_secret(identity.key_path, pkcs8)
        identity.certificate_path.write_text(answer.certificate_pem)
        identity.authority_path.write_text(answer.chain_pem)
        return identity

    def _claim(self, site: str) -> str | None:
        if self._claims:
            return self._claims.pop(0)
        status, answer = self.ask("POST", "/claims", {"site": site})
        if status != 200:
            self.refusal = _refusal("POST", "/claims", status, answer)
            return None
        return self._read("/claims", answer, _Claim).claim

    # -------------------------------------------------------------------- as an inspector

    def order(self, device: str, order: str, access_point: str) -> None:
        self._post("/orders", {"device": device, "order": order, "access_point": access_point})

    def revoke(self, device: str) -> None:
        self._post("/revoke", {"device": device})

    def configure(self, device: str) -> None:
        # Seldom what it was before: a city may make no new version of the same.
        health_s = HEALTH_S_MIN + secrets.randbelow(HEALTH_S_MAX - HEALTH_S_MIN)
        self._post("/configure", {"device": device, "values": {"health_s": health_s}})

    def order_meal(self, cardholder: str, day: str, product: str) -> str | None:
        settings = self._read("/settings", self._get("/settings"), _Settings)
        for slot in settings.meal_slots:
            request = {"cardholder": cardholder, "date": day, "slot": slot, "lines": [[product, 1]]}
            return self._read("/preorder", self._post("/preorder", request), _Preorder).preorder
        return None

    def online(self, device: str) -> bool:
        status = self._read("/status", self._get("/status", device=device), _Status)
        return any(found.online for found in status.devices if found.device == device)

    def facts(self, device: str, stream: Stream, epoch: str) -> list[bytes]:
        found: list[bytes] = []
        while True:
            page = self._get(
                "/facts", device=device, stream=stream.value, epoch=epoch, after=len(found)
            )
            if not page:
                return found
            found += page.split(b"\n")

    # ----------------------------------------------------------------------------- asking

    def _post(self, path: str, body: dict[str, Any]) -> bytes:
        return self._good("POST", path, *self.ask("POST", path, body))

    def _get(self, path: str, **query: object) -> bytes:
        target = f"{path}?{urlencode(query)}" if query else path
        return self._good("GET", path, *self.ask("GET", target, None))

    def _good(self, method: str, path: str, status: int, answer: bytes) -> bytes:
        if status in ABSENT:
            raise NotOffered(_refusal(method, path, status, answer))
        if status != 200:
            raise DeviceFault(_refusal(method, path, status, answer))
        return answer

    def _read(self, path: str, answer: bytes, form: type[T]) -> T:
        try:
            return msgspec.json.decode(answer, type=form)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            text = f"{self.url}{path}: not the answer that hil/city/README.md has for it: {error}"
            raise DeviceFault(text) from error

    def ask(self, method: str, target: str, body: dict[str, Any] | None) -> tuple[int, bytes]:
        """One request: its status and what came. `DeviceFault` when nobody answers."""
        if self._tls is not None:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                self._address, timeout=WAIT_S, context=self._tls
            )
        else:
            connection = http.client.HTTPConnection(self._address, timeout=WAIT_S)
        data = None if body is None else json.dumps(body).encode()
        kind = {"Content-Type": "application/json"} if body is not None else {}
        try:
            connection.request(method, self._folder + target, data, kind)
            answer = connection.getresponse()
            return answer.status, answer.read(ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException) as error:
            raise unreached(self.url + target.partition("?")[0], error, OPTIONS) from error
        finally:
            connection.close()


def _refusal(method: str, path: str, status: int, answer: bytes) -> str:
    words = "; ".join(filter(None, words_of(answer)))
    return f"the city answers {method} {path} with {status}" + (f": {words}" if words else "")


def read_identity(folder: Path, site: str, station: Station) -> Identity:
    """A device that `moskvenok provision` has enrolled; `SetupProblem` when a file is missing."""
    try:
        leaf = x509.load_pem_x509_certificates((folder / "device.crt").read_bytes())[0]
        (name,) = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        root_public = from_b64u((folder / "root.pub").read_text().strip())
        root_document = (folder / "root.json").read_bytes()
    except (OSError, ValueError, CorruptData) as error:
        raise SetupProblem(f"--identity {folder}: {error}; give a device's `identity`") from error
    return Identity(
        device=str(name.value),
        site=site,
        station=station,
        folder=folder,
        root_public=root_public,
        root_document=root_document,
    )
