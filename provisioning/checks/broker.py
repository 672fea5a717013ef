"""The way to the city's broker, one step at a time: name, TCP, TLS, MQTT.

TLS and MQTT are done exactly as sync does them. Under TLS 1.3 a broker refuses a client after the
handshake, so one read follows it: there the true reason comes. The session itself is only tried
while sync has none, for a second session of the same device would throw out the first.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any, Final

from edge.clock import boot_id
from edge.model import DeviceFault, SetupProblem
from edge.settings import DeviceSettings
from edge.trust import usable_key
from provisioning.checks.finding import Device, Finding, State, attention, ok, told, wrong
from sync import session, status, topics

PART: Final = "broker"
ALERT_S: Final = 1.0  # Our choice: a refusal comes within a round trip.
STEP_S: Final = session.TCP_MS_MAX / 1000
# OpenSSL's names of alerts (RFC 8446, 6.2) -> what they mean here and what to do.
ALERTS: Final = {
    "CERTIFICATE_REVOKED": ("this device is revoked", "ask the city why, then for a new claim"),
    "CERTIFICATE_EXPIRED": ("the broker finds our certificate expired", "provision with a claim"),
    "UNKNOWN_CA": ("the broker does not know our issuer", "is this broker of the same city?"),
    # Another authority of the same name: only its signature tells, and OpenSSL alerts so.
    "DECRYPT_ERROR": ("the broker does not know our issuer", "is this broker of the same city?"),
    "CERTIFICATE_REQUIRED": ("the broker saw no certificate", "provision again"),
    "CERTIFICATE_UNKNOWN": ("the broker refuses our certificate", "ask the city's operator"),
    "BAD_CERTIFICATE": ("the broker refuses our certificate", "ask the city's operator"),
}
DATE_CODES: Final = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED.


def examine(device: Device) -> Iterator[Finding]:
    settings = device.settings
    sync = device.status("sync")
    yield from _by_sync(sync)
    connected = sync is not None and sync.get("connected") is True
    findings = [
        finding
        for text in settings.endpoints
        for finding in _endpoint(settings, text, try_mqtt=_nobody_there(device))
    ]
    reached = connected or any(finding.state is State.OK for finding in findings)
    for finding in findings:
        if finding.state is State.WRONG and reached:
            yield attention(PART, finding.where, finding.found, finding.do)  # There is another way.
        else:
            yield finding


def _by_sync(sync: dict[str, Any] | None) -> Iterator[Finding]:
    """What the running sync says of its own session."""
    if sync is None:
        return
    where = str(sync.get("endpoint") or "sync")
    if sync.get("connected") is True:
        yield ok(PART, where, f"sync is connected by MQTT {sync.get('protocol')}")
        return
    reason = str(sync.get("reason") or "no reason yet")
    if sync.get("endpoint"):
        found = f"the broker takes this device, the city does not answer yet ({reason})"
        yield attention(PART, where, found, "wait a minute; then ask the city's operator")
    else:
        do = "mend what stands below; sync tries again by itself"
        yield attention(PART, where, f"sync is not connected: {reason}", do)


def _nobody_there(device: Device) -> bool:
    """Whether sync surely does not run: then nobody's session can be thrown out by ours."""
    said = device.answer("sync")
    gone = (FileNotFoundError, ConnectionRefusedError)
    return isinstance(said, Exception) and isinstance(said.__cause__, gone)


def _endpoint(settings: DeviceSettings, text: str, *, try_mqtt: bool) -> Iterator[Finding]:
    try:
        endpoint = session.parse_endpoint(text)
        context = _context(settings) if endpoint.tls else None
    except SetupProblem as problem:
        yield told(PART, text, problem, 'look at "moskvenok doctor identity"')
        return
    try:
        connection = socket.create_connection((endpoint.host, endpoint.port), timeout=STEP_S)
    except socket.gaierror as error:
        do = "check the name in city.endpoints and the name server (resolvectl status)"
        yield wrong(PART, text, f"the name cannot be found ({error.strerror})", do)
        return
    except OSError as error:
        found = f"no TCP connection: {error.strerror or error}"
        do = f"check cable and network; is port {endpoint.port} let through the firewall?"
        yield wrong(PART, text, found, do)
        return
    with connection:
        problem_found = _tls_problem(connection, context, endpoint.host) if context else None
    if problem_found is not None:
        yield wrong(PART, text, *problem_found)
    elif try_mqtt:
        yield _mqtt(settings, endpoint, context)
    elif context is None:
        yield ok(PART, text, "reached; without TLS, which only this machine itself may be")
    else:
        yield ok(PART, text, "reached; certificate of both sides accepted")


def _context(settings: DeviceSettings) -> ssl.SSLContext:
    return session.tls_context(
        ca_file=settings.authority_path,
        certificate_file=settings.certificate_path,
        key_file=settings.key_path,
        usable=usable_key,
    )


def _tls_problem(
    connection: socket.socket, context: ssl.SSLContext, host: str
) -> tuple[str, str] | None:
    """What stops TLS and what to do; None when both sides agree."""
    try:
        with context.wrap_socket(connection, server_hostname=host) as secured:
            secured.settimeout(ALERT_S)
            secured.recv(1)
    except TimeoutError:
        return None  # Nobody refuses and nobody speaks before us: as MQTT has it.
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in DATE_CODES:
            found = f"the broker's certificate is not good at this moment ({error.verify_message})"
            return found, 'look at "moskvenok doctor clock"; else tell the city\'s operator'
        found = f"the broker's certificate is not the city's ({error.verify_message})"
        return found, "is the name right? Someone may stand between: do not go on without knowing"
    except ssl.SSLError as error:
        reason = str(error.reason or error).upper()
        for name, answer in ALERTS.items():
            if name in reason:
                return answer
        return f"TLS fails ({reason})", "is this the port for mqtts? Ask the city's operator"
    except OSError as error:
        return f"the connection was cut during TLS ({error.strerror})", "check the firewall"
    # It closed without a word: some brokers refuse so.
    return "the broker closes the connection at once", "ask the city whether it knows this device"


def _mqtt(
    settings: DeviceSettings, endpoint: session.Endpoint, context: ssl.SSLContext | None
) -> Finding:
    """A session with our own id, ended in order, so that no will is left behind."""
    from sync.bridge import Bridge
    from sync.bridge_events import Connected, Disconnected

    device = settings.device_id
    bridge = Bridge(session.session_for(device, context))
    # Counter 0 is older than any birth: should this will ever come out, it hides none.
    will = status.will(device=device, boot=boot_id(), connection=0)
    until = time.monotonic() + session.CONNECT_MS_MAX / 1000
    try:
        bridge.connect(endpoint, will_topic=topics.own(device, topics.TopicKind.STATUS), will=will)
        while time.monotonic() < until:
            bridge.wait(200)
            for event in bridge.poll():
                if isinstance(event, Connected):
                    return ok(
                        PART, endpoint, f"MQTT {event.protocol}: the broker takes this device"
                    )
                if isinstance(event, Disconnected):
                    found = f"MQTT: {event.loss}: {event.detail}"
                    return wrong(PART, endpoint, found, "ask the city whether it knows this device")
    except DeviceFault as fault:
        return wrong(PART, endpoint, str(fault), "try again in a minute")
    finally:
        bridge.close()
    return wrong(PART, endpoint, "MQTT: no answer", "is this the port for MQTT?")
