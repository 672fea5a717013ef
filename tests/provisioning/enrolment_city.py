"""A city of one page for the tests: a real certificate authority behind `POST /enrol`.

It shares nothing with the reference city in `hil`; what it sends can be spoilt in one place by
`spoil`, so that each test shows one thing wrong.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge.messages import (
    Root,
    RootKey,
    SignedWhat,
    b64u,
    encode_json,
    encode_signed_lines,
    signing_input,
)

CLAIM = "4711-0815"
ENDPOINT = "mqtts://broker.example:8883"
DAY = timedelta(days=1)
Spoil = Callable[[dict[str, Any]], None]


class EnrolmentCity:
    """The authority, the signing keys and what was asked."""

    def __init__(self) -> None:
        now = datetime.now(UTC)
        self.root_key = ec.generate_private_key(ec.SECP256R1())
        self.issuing_key = ec.generate_private_key(ec.SECP256R1())
        self.root = certificate(
            "root", self.root_key.public_key(), "root", self.root_key, now, ca=True
        )
        self.issuing = certificate(
            "issuing", self.issuing_key.public_key(), "root", self.root_key, now, ca=True
        )
        self.signing_key = Ed25519PrivateKey.generate()
        self.asked: list[dict[str, Any]] = []
        self.key_of_claim: ec.EllipticCurvePublicKey | None = None  # The first that used it.
        self.claim_once = False  # The claim serves one key, as it does in a real city.
        self.life = 90 * DAY
        self.begins = -DAY
        self.name = ""  # Of the certificate; "" for the name that was asked for.
        self.public_key: ec.EllipticCurvePublicKey | None = None  # None for the one asked for.
        self.purpose = ExtendedKeyUsageOID.CLIENT_AUTH
        self.status = 200
        self.spoil: Spoil = lambda answer: None
        self.raw: bytes | None = None
        self.url = ""

    def enrol(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.asked.append(body)
        if self.status != 200:
            return self.status, {"error": "the desk is closed", "do": "come again"}
        if body["claim"] != CLAIM:
            return 403, {"error": "claim code unknown", "do": "ask for a new one"}
        request = x509.load_pem_x509_csr(body["csr_pem"].encode())
        assert request.is_signature_valid
        asked_for = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        assert asked_for == body["device_id"]
        key = request.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        if self.claim_once and self.key_of_claim not in (None, key):
            return 409, {"error": "claim code was used already", "do": "ask for a new one"}
        self.key_of_claim = key
        now = datetime.now(UTC)
        leaf = certificate(
            self.name or body["device_id"],
            self.public_key or key,
            "issuing",
            self.issuing_key,
            now + self.begins,
            life=self.life,
            purpose=self.purpose,
        )
        answer = {
            "certificate_pem": pem(leaf),
            "chain_pem": pem(self.issuing) + pem(self.root),
            "root_public_b64u": b64u(self.signing_key.public_key().public_bytes_raw()),
            "root_document": self.root_document().decode(),
            "endpoints": [ENDPOINT],
            "scopes": [f"{body['site_id']}/{part}" for part in ("people", "settings")],
        }
        self.spoil(answer)
        return 200, answer

    def root_document(self) -> bytes:
        public = b64u(Ed25519PrivateKey.generate().public_key().public_bytes_raw())
        document = Root(
            version=1,
            keys=(RootKey(key_id="list-1", role="list", public=public),),
            issued_utc_ms=1,
        )
        payload = encode_json(document)
        signature = self.signing_key.sign(signing_input(SignedWhat.ROOT, payload))
        return encode_signed_lines(payload, "root", signature)

    @contextmanager
    def serving(self) -> Iterator[EnrolmentCity]:
        server = _Server(("127.0.0.1", 0), self._handler())
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        city = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/enrol"
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, answer = city.enrol(body)
                data = json.dumps(answer).encode() if city.raw is None else city.raw
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", "http://127.0.0.1:9/elsewhere")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet: pytest shows what matters."""

        return Handler


class _Server(ThreadingHTTPServer):
    def server_bind(self) -> None:
        """Without http.server's look-up of this machine's name."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", self.server_address[1]


def certificate(
    name: str,
    key: ec.EllipticCurvePublicKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    begins: datetime,
    *,
    ca: bool = False,
    life: timedelta = 3650 * DAY,
    purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
    host: str = "",
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins - DAY)
        .not_valid_after(begins + life)
        .add_extension(x509.BasicConstraints(ca, None), True)
    )
    if not ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), False)
    if host:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), False)
    return builder.sign(issuer_key, hashes.SHA256())


def pem(one: x509.Certificate) -> str:
    return one.public_bytes(serialization.Encoding.PEM).decode()


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
