"""How a connection to a broker ended, or why it never began, in words and a `Loss`.

Of sockets and TLS alone; what the broker itself answers is read where MQTT is known.
"""

from __future__ import annotations

import logging
import ssl
from typing import Final

from sync.bridge_events import Loss

_DATE_CODES: Final = {9, 10}  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED.


class LastWords(logging.Handler):
    """paho tells why a socket failed in its log alone."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()


class Ended(Exception):
    """The link is over; why is in it."""

    def __init__(self, loss: Loss, detail: str) -> None:
        super().__init__(detail)
        self.loss = loss


def connect_problem(error: Exception) -> Ended:
    if isinstance(error, ssl.SSLCertVerificationError):
        loss = Loss.DATES if error.verify_code in _DATE_CODES else Loss.UNTRUSTED
        return Ended(loss, f"the broker's certificate: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        denied = "ALERT" in (error.reason or "")
        return Ended(Loss.DENIED if denied else Loss.UNREACHABLE, f"TLS: {error.reason or error}")
    return Ended(Loss.UNREACHABLE, str(error) or type(error).__name__)
