"""Facts about members of staff at a station: who signed in, and who tried to. Pure."""

from __future__ import annotations

from enum import StrEnum, unique

from edge.messages.facts import Fact
from edge.model import StaffRole


@unique
class SignIn(StrEnum):
    IN = "in"
    OUT = "out"
    IDLE = "idle"  # Signed out, for nobody touched the screen.
    WRONG_PIN = "wrong_pin"
    LOCKED = "locked"  # Too many wrong PINs: no more for a while.


class SignInFact(Fact, frozen=True, kw_only=True, tag="sign_in"):
    """Somebody signed in or out by own card and PIN, or tried to."""

    cardholder: str
    role: StaffRole
    what: SignIn
    credential: str = ""
