"""As whom, and how fully checked, the next connection is made; and what a broker's refusal means.
Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum, unique
from types import MappingProxyType
from typing import Final

from sync.bridge_events import Loss


@unique
class Contact(StrEnum):
    FULL = "full"  # Everything checked, everything said.
    # No dates checked, issuer and name as ever: only to fetch signed time, then a new connection.
    TIME = "time"
    CANDIDATE = "candidate"  # As `full`, with the renewed key and certificate.


def contact_for(*, clock_trusted: bool, dates_failed: bool, tls: bool, candidate: bool) -> Contact:
    """Without a believable clock no certificate's dates can be checked (sync/README.md, Status
    and time); where there is no certificate to check there are no dates either. `dates_failed`: by
    our clock they do not fit, and no signed time has come since. The kernel may say of 2099 that it
    is synchronised; the city's word is one hello away, and then dates are checked again."""
    if tls and (dates_failed or not clock_trusted):
        return Contact.TIME
    return Contact.CANDIDATE if candidate else Contact.FULL


# What OpenSSL calls the alerts (RFC 8446, 6.2) by which a broker refuses a certificate.
_ALERTS: Final = (
    ("REVOKED", "revoked"),
    ("CERTIFICATE_EXPIRED", "ended"),
    ("CERTIFICATE EXPIRED", "ended"),
    ("UNKNOWN_CA", "other_issuer"),
    ("UNKNOWN CA", "other_issuer"),
)

REFUSALS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "revoked": "the city has revoked this device; ask it why, then provision with a new claim",
        "ended": 'its certificate has ended; provision with a new claim ("--renew")',
        "other_issuer": "the broker does not know who issued its certificate; is it this city's?",
        "not_wanted": "the broker does not want this device; ask the city whether it knows it",
        "taken_over": "another device connects under the same name; was its card copied?",
        "untrusted": "the broker's certificate is not the city's; somebody may stand between",
        "dates": "the broker's certificate is not good at this time; is the clock right?",
    }
)


def refusal_of(loss: Loss, detail: str) -> str:
    """A word of `REFUSALS` when it is more than a network that is down, else ""."""
    match loss:
        case Loss.DENIED:
            said = detail.upper()
            return next((word for alert, word in _ALERTS if alert in said), "not_wanted")
        case Loss.TAKEN_OVER:
            return "taken_over"
        case Loss.UNTRUSTED:
            return "untrusted"
        case Loss.DATES:
            return "dates"
        case _:
            return ""
