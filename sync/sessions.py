"""The sessions of this device: as it is, as its candidate, and for the first contact.

Dates are checked against the agent's own clock, which knows the city's signed time although the
machine's may still stand at 1970.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from edge.certificates import Identity
from edge.trust import usable_key
from sync.contact import Contact
from sync.session import Endpoint, Session, session_for, tls_context

LOCAL_CONNACK_MS: Final = 1_000  # Our choice: a hundred times what loopback takes on a busy Pi.


class Sessions:
    """Made from the identity's files when first asked for."""

    def __init__(self, identity: Identity, utc_s: Callable[[], int]) -> None:
        self._identity = identity
        self._utc_s = utc_s
        self._made: dict[Contact, Session] = {}
        # A broker on this machine answers at once, or (amqtt, to MQTT 5) never.
        plain = session_for(identity.device_id, None)
        self._local = replace(plain, connack_ms_max=LOCAL_CONNACK_MS)

    def of(self, contact: Contact, endpoint: Endpoint) -> Session:
        """`SetupProblem` when a file of the identity cannot be used."""
        if not endpoint.tls:
            return self._local
        if contact not in self._made:
            self._made[contact] = self._make(contact)
        return self._made[contact]

    def forget(self) -> None:
        """The files have changed."""
        self._made.clear()

    def _make(self, contact: Contact) -> Session:
        one = self._identity
        as_candidate = contact is Contact.CANDIDATE
        checked = contact is not Contact.TIME
        context = tls_context(
            ca_file=one.authority,
            certificate_file=one.candidate_certificate if as_candidate else one.certificate,
            key_file=one.candidate_key if as_candidate else one.key,
            check_time=checked,
            utc_s=self._utc_s if checked else None,
            usable=usable_key,
        )
        return session_for(one.device_id, context)
