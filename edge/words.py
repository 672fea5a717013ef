"""The closed lists of the domain. Standard library only; `edge/model.py` gives them on.

They are wire words: their values travel to the city and are kept there, so members are added, never
renamed or reused.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum, unique


@unique
class Station(StrEnum):
    """What a device is."""

    ENTRANCE = "entrance"
    TILL = "till"
    PRESCHOOL = "preschool"
    ADMISSION = "admission"


@unique
class Direction(StrEnum):
    IN = "in"
    OUT = "out"


@unique
class UidKind(IntEnum):
    """Which numbering a UID belongs to; the first byte that is hashed into a credential id."""

    ISO14443 = 1  # 4, 7 or 10 bytes in ISO/IEC 14443-3 order.
    PROX125 = 2  # A 125 kHz number, big-endian.


@unique
class ClockQuality(StrEnum):
    """Where wall time came from. `floor` and `unknown` are never trusted."""

    NTP = "ntp"
    CITY = "city"
    RTC = "rtc"
    FLOOR = "floor"
    UNKNOWN = "unknown"


@unique
class Outcome(StrEnum):
    GRANT = "grant"
    REFER = "refer"  # A person decides: the officer.
    DENY = "deny"


@unique
class AccessReason(StrEnum):
    """Why an access decision is as it is, in checking order; the first that applies is given."""

    STALE_READ = "stale_read"
    NO_LIST = "no_list"
    LOCKDOWN = "lockdown"
    HOT_LISTED = "hot_listed"
    TIER_BELOW_ENROLLED = "tier_below_enrolled"
    REPLAYED = "replayed"
    UNKNOWN_CREDENTIAL = "unknown_credential"
    WRONG_SITE = "wrong_site"
    SUSPENDED = "suspended"
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    NO_ACCESS_RIGHT = "no_access_right"
    OUTSIDE_SCHEDULE = "outside_schedule"
    PASSBACK = "passback"
    GUARDIAN_CHOICE = "guardian_choice"
    AUTHORIZED = "authorized"


@unique
class PurchaseReason(StrEnum):
    """Why a basket is sold or not, in checking order; the first that applies is given."""

    STALE_READ = "stale_read"
    NO_LIST = "no_list"
    HOT_LISTED = "hot_listed"
    TIER_BELOW_ENROLLED = "tier_below_enrolled"
    REPLAYED = "replayed"
    UNKNOWN_CREDENTIAL = "unknown_credential"
    WRONG_SITE = "wrong_site"
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    ACCOUNT_SUSPENDED = "account_suspended"
    ALLERGEN = "allergen"
    BANNED = "banned"
    MEAL_USED = "meal_used"
    ITEM_LIMIT = "item_limit"
    DAY_LIMIT = "day_limit"
    WEEK_LIMIT = "week_limit"
    TIER_LIMIT = "tier_limit"
    FUNDS = "funds"
    OLD_BASE = "old_base"
    CAP = "cap"
    AUTHORIZED = "authorized"


@unique
class Caveat(StrEnum):
    """What a decision had to do without. It stands all the same, and the record shows it."""

    CLOCK_UNTRUSTED = "clock_untrusted"
    OLD_LIST = "old_list"
    PASSBACK = "passback"
    ALONE = "alone"
    UNCONFIRMED = "unconfirmed"


@unique
class PassageResult(StrEnum):
    """What became of a passage. Attendance and messages to parents follow `taken` alone."""

    TAKEN = "taken"
    NOT_TAKEN = "not_taken"
    FORCED = "forced"
    HELD = "held"
    FIRE_RELEASE = "fire_release"
    UNKNOWN = "unknown"  # The agent ended before it could see.


@unique
class PassbackMode(StrEnum):
    OFF = "off"
    SOFT = "soft"  # Let in and report.
    TIMED = "timed"
    HARD = "hard"


@unique
class Category(StrEnum):
    PUPIL = "pupil"
    STAFF = "staff"
    GUARDIAN = "guardian"


@unique
class Tender(StrEnum):
    ACCOUNT = "account"
    ENTITLEMENT = "entitlement"
    PREORDER = "preorder"
    CASH = "cash"
    EMERGENCY = "emergency"  # On a supervisor's word: a recorded debt of the account.


@unique
class Tariff(StrEnum):
    """What an admission costs this cardholder."""

    PUPIL = "pupil"
    FREE = "free"
    REDUCED = "reduced"
    FULL = "full"


@unique
class StaffRole(StrEnum):
    """What a member of staff may do at a station, by own card and PIN."""

    OFFICER = "officer"
    CASHIER = "cashier"
    SUPERVISOR = "supervisor"


@unique
class SupervisedAct(StrEnum):
    """What a supervisor's card and PIN are asked for; named as the request that carries it out."""

    EMERGENCY = "emergency"
    OVERRIDE_ALLERGENS = "override_allergens"
    REFUND = "refund"


@unique
class OverrideReason(StrEnum):
    """Why an officer opened by hand."""

    FORGOTTEN_CARD = "forgotten_card"
    VISITOR = "visitor"
    LOST_CARD = "lost_card"
    KNOWN_PERSON = "known_person"  # On no list, or by an old one; the officer knows who it is.
    REFERRED = "referred"  # The agent asked, the officer said yes.
    DELIVERY = "delivery"
    OTHER = "other"


@unique
class HandoverKind(StrEnum):
    """What a guardian said on the screen."""

    BROUGHT = "brought"
    COLLECTED = "collected"
    NO_CHILD = "no_child"
