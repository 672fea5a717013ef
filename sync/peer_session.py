"""How a device connects to the school's own broker: mutual TLS with the certificates it has.

The broker runs on a device of the school and shows that device's certificate. Its name is not a
host's but a device's: what is checked is that it is the one the signed site settings name.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any, Final

from edge.settings import DeviceSettings
from edge.trust import usable_key
from sync.session import Session, session_for, tls_context

HOSTNAME_MISMATCH: Final = 62  # OpenSSL: X509_V_ERR_HOSTNAME_MISMATCH.


def peer_session(
    settings: DeviceSettings,
    broker_device: str,
    *,
    utc_s: Callable[[], int] | None,
) -> Session:
    """`utc_s`: the clock that dates are checked against; None while it is not to be trusted: then
    dates go unchecked, issuer and name never. `SetupProblem` names a file that cannot be used."""
    context = tls_context(
        ca_file=settings.authority_path,
        certificate_file=settings.certificate_path,
        key_file=settings.key_path,
        check_time=utc_s is not None,
        utc_s=utc_s,
        usable=usable_key,
    )
    context.check_hostname = False  # Its name is checked below.
    assert context.verify_mode is ssl.CERT_REQUIRED
    context.sslsocket_class = _named_socket(context.sslsocket_class, broker_device)
    return session_for(settings.device_id, context)


def _named_socket(base: type[ssl.SSLSocket], device: str) -> type[ssl.SSLSocket]:
    """A socket that speaks to that device alone."""

    class NamedSocket(base):  # type: ignore[misc,valid-type]
        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            found = _common_name(self.getpeercert())
            if found != device:
                self.close()
                raise _name_error(f"it is of {found[:80]!r}, and not of {device!r}")

    return NamedSocket


def _name_error(message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, message)
    error.verify_code, error.verify_message = HOSTNAME_MISMATCH, message
    return error


def _common_name(certificate: Any) -> str:
    """The one common name in it, else "" : no two names in one certificate."""
    subject = (certificate or {}).get("subject", ())
    names = [value for part in subject for key, value in part if key == "commonName"]
    return names[0] if len(names) == 1 else ""
