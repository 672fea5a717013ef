"""How many wrong PINs a member of staff gave in a row: what facts about sign-ins change here.

What follows from the count (a lock, and for how long) is the rule of `edge/signing_in.py`.
"""

from __future__ import annotations

from edge.messages import SignIn, SignInFact
from edge.offline_cache.store import Connection, telling


@telling()
def wrong_pins(journal: Connection, cardholder_id: str) -> tuple[int, str, int]:
    """How many wrong PINs in a row, and boot and monotonic ms of the last; (0, "", 0): none."""
    row = journal.execute(
        "SELECT count, boot, mono_ms FROM wrong_pins WHERE cardholder_id = ?", (cardholder_id,)
    ).fetchone()
    return (0, "", 0) if row is None else (row[0], row[1], row[2])


def note_sign_in(db: Connection, fact: SignInFact) -> None:
    """What a fact about staff changes here, in its own transaction."""
    if fact.what is SignIn.WRONG_PIN:
        db.execute(
            "INSERT INTO wrong_pins VALUES (?, 1, ?, ?) ON CONFLICT (cardholder_id)"
            " DO UPDATE SET count = count + 1, boot = excluded.boot, mono_ms = excluded.mono_ms",
            (fact.cardholder, fact.boot, fact.mono_ms),
        )
    elif fact.what is SignIn.IN:
        db.execute("DELETE FROM wrong_pins WHERE cardholder_id = ?", (fact.cardholder,))
