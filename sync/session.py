"""How a connection to a broker is made: endpoints, TLS, client id, and the numbers of the session.

`bridge.py` connects with these; provisioning tests a site's network with the same, so what the
technician saw working is what the device does. Nothing here opens a socket.
"""

from __future__ import annotations

import ipaddress
import select
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from edge.messages import MESSAGE_BYTES_MAX
from edge.model import SetupProblem
from sync.topics import check_device_id

MQTTS_PORT: Final = 8883  # IANA: secure-mqtt.
MQTT_PORT: Final = 1883  # IANA: mqtt.
KEEPALIVE_S: Final = 45  # Our choice: under the 60 s after which the meanest NAT forgets a flow.
CONNECT_MS_MAX: Final = 20_000  # Our choice: name look-up, TCP, TLS and CONNACK, one endpoint.
TCP_MS_MAX: Final = 5_000  # Our choice: TCP connect, and again the TLS handshake.
CONNACK_MS_MAX: Final = 5_000  # Our choice: a broker that knows MQTT 5 answers in one round trip.
USER_TIMEOUT_MS: Final = 30_000  # Our choice: unacknowledged bytes so old mean a dead line.
RECEIVE_MAX: Final = 32  # Our choice: pushes and heads we take on before acknowledging one.
PACKET_HEADER_BYTES: Final = 256  # Our choice: fixed header, longest topic, number, no properties.
PACKET_BYTES_NEEDED: Final = MESSAGE_BYTES_MAX + PACKET_HEADER_BYTES  # Of a broker.
INBOUND_PACKET_BYTES_MAX: Final = 128 * 1024  # Our choice: twice our own limit for a message.
IN_FILE: Final = "city.endpoints of device.toml"
ENDPOINTS_MAX: Final = 8  # Our choice: two brokers by two routes, doubled.
TLS_RECORD_BYTES: Final = 16 * 1024  # RFC 8446, 5.1: no more is decrypted at once.
NOT_YET_VALID: Final = 9  # OpenSSL: X509_V_ERR_CERT_NOT_YET_VALID,
HAS_EXPIRED: Final = 10  # X509_V_ERR_CERT_HAS_EXPIRED.
NO_CHECK_TIME: Final = 0x200000  # OpenSSL: X509_V_FLAG_NO_CHECK_TIME; not named in Python's ssl.

Lock = AbstractContextManager[bool]
# Of a key file, and of the certificates to be checked with it (`edge.trust.usable_key`).
UsableKey = Callable[[Path, Path], AbstractContextManager[Lock | None]]

# Both versions of MQTT are tried within one connect.
assert 2 * TCP_MS_MAX + 2 * CONNACK_MS_MAX <= CONNECT_MS_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a broker listens."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Everything a connection needs beside its endpoint. `tls` is None only on loopback."""

    client_id: str
    tls: ssl.SSLContext | None
    keepalive_s: int = KEEPALIVE_S
    receive_max: int = RECEIVE_MAX
    packet_bytes_max: int = INBOUND_PACKET_BYTES_MAX
    connect_ms_max: int = CONNECT_MS_MAX
    connack_ms_max: int = CONNACK_MS_MAX


def parse_endpoint(text: str, place: str = IN_FILE) -> Endpoint:
    """`mqtts://host[:port]`, or `mqtt://` where the host is this machine; else `SetupProblem`,
    which names the place where it is written."""
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _bad_endpoint(text, str(error), place) from error
    if parts.scheme not in ("mqtts", "mqtt"):
        raise _bad_endpoint(text, "it does not begin with mqtts://", place)
    if not host:
        raise _bad_endpoint(text, "no host", place)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise _bad_endpoint(text, "only a host and a port belong into it", place)
    if parts.path not in ("", "/"):
        raise _bad_endpoint(text, "nothing may follow the port", place)
    if port == 0:
        raise _bad_endpoint(text, "port 0", place)
    tls = parts.scheme == "mqtts"
    if not tls and not is_loopback(host):
        raise _bad_endpoint(text, "without TLS only this machine itself may be spoken to", place)
    return Endpoint(host=host, port=port or (MQTTS_PORT if tls else MQTT_PORT), tls=tls)


def parse_endpoints(texts: Sequence[str]) -> tuple[Endpoint, ...]:
    """The list of brokers, the preferred one first; all problems reported together."""
    if not 1 <= len(texts) <= ENDPOINTS_MAX:
        raise SetupProblem(f"brokers: {len(texts)} endpoints; give 1 to {ENDPOINTS_MAX}")
    endpoints, problems = [], []
    for text in texts:
        try:
            endpoints.append(parse_endpoint(text))
        except SetupProblem as problem:
            problems.append(str(problem))
    if problems:
        raise SetupProblem("\n".join(problems))
    return tuple(endpoints)


def is_loopback(host: str) -> bool:
    """Whether this host is this machine: `localhost` or a loopback address, never a look-up."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Socket(ssl.SSLSocket):
    """Closes itself when its handshake fails; paho would leave it to the garbage collector. Takes a
    whole TLS record at once: paho asks for a packet's first byte, its length and the rest, each on
    a way of its own through OpenSSL."""

    _turn: Lock | None = None  # Of the TPM that the key is in.
    _held = b""  # Of a record, and up to where it was given out.
    _given = 0

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        if self._given >= len(self._held):
            self._held, self._given = super().recv(max(buflen, TLS_RECORD_BYTES), flags), 0
        begin = self._given
        self._given = begin + buflen
        return self._held[begin : begin + buflen]

    def pending(self) -> int:
        return max(0, len(self._held) - self._given) + super().pending()

    def do_handshake(self, block: bool = False) -> None:
        try:
            if self._turn is None:
                super().do_handshake(block)
            else:
                self._shake_in_turn(self._turn)
        except BaseException:
            self.close()
            raise

    def _shake_in_turn(self, turn: Lock) -> None:
        """As ever, but the TPM is free for others while we wait for the other side."""
        patience_s = self.gettimeout()
        until_s = None if patience_s is None else time.monotonic() + patience_s
        self.settimeout(0.0)
        try:
            while True:
                try:
                    with turn:
                        super().do_handshake()
                    return
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as wants:
                    reads = [self] if isinstance(wants, ssl.SSLWantReadError) else []
                    writes = [] if reads else [self]
                left_s = None if until_s is None else max(0.0, until_s - time.monotonic())
                if not any(select.select(reads, writes, [], left_s)):
                    raise TimeoutError("the TLS handshake timed out")
        finally:
            self.settimeout(patience_s)


def _in_turn(base: type[ssl.SSLSocket], turn: Lock) -> type[ssl.SSLSocket]:
    """The same socket, for a key in a TPM."""
    return type("InTurn", (base,), {"_turn": turn})


def _dated_socket(utc_s: Callable[[], int]) -> type[_Socket]:
    """A socket that checks the dates of the broker's chain against our own clock."""

    class DatedSocket(_Socket):
        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            try:
                _check_dates(self, utc_s())
            except BaseException:
                self.close()
                raise

    return DatedSocket


def _check_dates(connection: ssl.SSLSocket, utc_s: int) -> None:
    """`SSLCertVerificationError` as OpenSSL has it, when a certificate is not good at `utc_s`."""
    chain: list[dict[str, Any]] = [dict(connection.getpeercert() or {})]
    # Public from Python 3.13 on, there since 3.10: the issuers the chain was verified with.
    verified: Any = getattr(getattr(connection, "_sslobj", None), "get_verified_chain", list)()
    chain += [one.get_info() for one in verified or () if hasattr(one, "get_info")]
    for found in chain:
        starts, ends = found.get("notBefore"), found.get("notAfter")
        if starts is None or ends is None:
            raise _date_error(NOT_YET_VALID, "a certificate without dates")
        if utc_s < ssl.cert_time_to_seconds(starts):
            raise _date_error(NOT_YET_VALID, f"certificate is not yet valid: from {starts}")
        if utc_s > ssl.cert_time_to_seconds(ends):
            raise _date_error(HAS_EXPIRED, f"certificate has expired: {ends}")


def _date_error(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, message)
    error.verify_code, error.verify_message = code, message
    return error


@contextmanager
def _in_file(_key: Path, _authority: Path) -> Iterator[Lock | None]:
    yield None


def tls_context(
    *,
    ca_file: Path,
    certificate_file: Path,
    key_file: Path,
    check_time: bool = True,
    utc_s: Callable[[], int] | None = None,
    usable: UsableKey = _in_file,
) -> ssl.SSLContext:
    """Mutual TLS 1.2 or later. `SetupProblem` names the file that cannot be used.

    `usable` makes a key ready that is not in its file but in a TPM; a device's own may be.

    Without `check_time` only the dates go unchecked, never the issuer or the host: for a device
    whose clock is at 1970, to fetch signed time and connect again with full checks. With `utc_s`
    the dates are checked against that clock and not the machine's, which may still be at 1970
    though the city has told us the time.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = _Socket
    assert context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED
    if utc_s is not None:
        assert check_time
        context.sslsocket_class = _dated_socket(utc_s)
    if not check_time or utc_s is not None:
        context.verify_flags |= ssl.VerifyFlags(NO_CHECK_TIME)
    for file, what in (
        (ca_file, "the city's certificate authority"),
        (certificate_file, "this device's certificate"),
        (key_file, "this device's key"),
    ):
        try:
            with file.open("rb") as opened:
                opened.read(1)
        except OSError as error:
            raise SetupProblem(f"{file}: {what} cannot be read: {error.strerror}") from error
    try:
        context.load_verify_locations(cafile=str(ca_file))
    except (ssl.SSLError, ValueError) as error:
        raise SetupProblem(f"{ca_file}: no certificate of an authority in it: {error}") from error
    try:
        with usable(key_file, ca_file) as lock:
            # An encrypted key would ask at the terminal; a device has nobody there.
            context.load_cert_chain(str(certificate_file), str(key_file), password=lambda: b"")
    except (ssl.SSLError, ValueError) as error:
        raise SetupProblem(
            f"{certificate_file} and {key_file}: not a certificate and its key, which must not be"
            f' encrypted: {error}; run "moskvenok provision" again'
        ) from error
    if lock is not None:
        context.sslsocket_class = _in_turn(context.sslsocket_class, lock)
    return context


def session_for(device: str, tls: ssl.SSLContext | None) -> Session:
    """The session of a device: its id is its client id, as it is its certificate's common name."""
    return Session(client_id=check_device_id(device), tls=tls)


def _bad_endpoint(text: str, why: str, place: str) -> SetupProblem:
    return SetupProblem(f"broker {text[:120]!r}: {why}; write mqtts://host:port in {place}")
