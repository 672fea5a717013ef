"""Goal: no connection goes without date checks but the one that fetches time, and a person is told
what a broker's refusal means.

Method: the table in full; the words of OpenSSL's alerts as a real Mosquitto sends them.
"""

from __future__ import annotations

from itertools import product

import pytest

from sync.bridge_events import Loss
from sync.contact import REFUSALS, Contact, contact_for, refusal_of


def test_the_table_of_contacts() -> None:
    for trusted, failed, tls, candidate in product((True, False), repeat=4):
        found = contact_for(
            clock_trusted=trusted, dates_failed=failed, tls=tls, candidate=candidate
        )
        if tls and (failed or not trusted):
            assert found is Contact.TIME
        else:
            assert found is (Contact.CANDIDATE if candidate else Contact.FULL)


@pytest.mark.parametrize(
    ("detail", "word"),
    [
        ("[SSL: SSLV3_ALERT_CERTIFICATE_REVOKED] sslv3 alert certificate revoked", "revoked"),
        ("[SSL: SSLV3_ALERT_CERTIFICATE_EXPIRED] sslv3 alert certificate expired", "ended"),
        ("[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca", "other_issuer"),
        ("refused: Not authorized", "not_wanted"),
        ("", "not_wanted"),
    ],
)
def test_a_denial_is_told_in_its_own_word(detail: str, word: str) -> None:
    assert refusal_of(Loss.DENIED, detail) == word


def test_a_network_that_is_down_is_no_refusal_and_every_word_has_a_sentence() -> None:
    told = {refusal_of(loss, "") for loss in Loss}
    assert told - {""} <= set(REFUSALS)
    for loss in (Loss.UNREACHABLE, Loss.LOST, Loss.SILENT, Loss.ASKED, Loss.ENDED):
        assert refusal_of(loss, "CERTIFICATE_REVOKED") == ""
    assert all(text and not text.endswith(".") for text in REFUSALS.values())
