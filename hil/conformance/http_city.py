"""The city's HTTP as the conformance run asks it, blocking: enrolment, orders, what the city holds.

The paths are the reference city's (`hil/city/README.md`); a city of one's own may offer the same
to be looked at more closely.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge.messages import Stream, from_b64u
from edge.model import CorruptData, DeviceFault, SetupProblem, Station
from edge.trust import write_secret
from hil.conformance.player import Identity
from provisioning.city import check_city, enrol
from provisioning.identity import certificate_request

WAIT_S: Final = 15.0  # Our choice: a city with a fault may take its time.
ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024  # Our choice: a page of facts is at most 8 MiB.


class HttpCity:
    """One city at `url`. Satisfies `city_checks.Inspector`."""

    def __init__(self, url: str, claims: tuple[str, ...]) -> None:
        """`claims` are used up first; then the city is asked for more."""
        parts = urlsplit(check_city(url))
        self.url = url.rstrip("/")
        self._secure = parts.scheme == "https"
        self._address = parts.netloc
        self._claims = list(claims)

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
        status, answer = self._ask("POST", "/claims", {"site": site})
        return str(json.loads(answer)["claim"]) if status == 200 else None

    # -------------------------------------------------------------------- as an inspector

    def order(self, device: str, order: str, access_point: str) -> None:
        self._post("/orders", {"device": device, "order": order, "access_point": access_point})

    def revoke(self, device: str) -> None:
        self._post("/revoke", {"device": device})

    def configure(self, device: str) -> None:
        self._post("/configure", {"device": device, "values": {"health_s": 60}})

    def order_meal(self, cardholder: str, day: str, product: str) -> str | None:
        slots = json.loads(self._get("/settings"))["meal_slots"]
        request = {"cardholder": cardholder, "date": day, "lines": [[product, 1]]}
        for slot in slots:
            answer = json.loads(self._post("/preorder", {**request, "slot": slot}))
            return str(answer["preorder"])
        return None

    def online(self, device: str) -> bool:
        status = json.loads(self._get("/status", device=device))
        return any(found["online"] for found in status["devices"] if found["device"] == device)

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
        return self._good(path, *self._ask("POST", path, body))

    def _get(self, path: str, **query: object) -> bytes:
        target = f"{path}?{urlencode(query)}"
        return self._good(path, *self._ask("GET", target, None))

    def _good(self, path: str, status: int, answer: bytes) -> bytes:
        if status != 200:
            words = answer[:200].decode(errors="replace")
            raise DeviceFault(f"{self.url}{path}: {status} {words}")
        return answer

    def _ask(self, method: str, target: str, body: dict[str, Any] | None) -> tuple[int, bytes]:
        kind: Callable[..., http.client.HTTPConnection] = (
            http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        )
        connection = kind(self._address, timeout=WAIT_S)
        try:
            connection.request(method, target, None if body is None else json.dumps(body).encode())
            answer = connection.getresponse()
            return answer.status, answer.read(ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException) as error:
            raise DeviceFault(f"{self.url}{target}: {error}; is it running?") from error
        finally:
            connection.close()


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
