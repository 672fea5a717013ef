"""What is wrong with a card, a list or a product, before anything is known of money. Pure.

A part of `decision.py`, in the same order of reasons.
"""

from __future__ import annotations

from edge.model import (
    Account,
    Cardholder,
    LineItem,
    ListState,
    Now,
    Presentation,
    PurchaseReason,
    PurchaseView,
)

PRESENTATION_AGE_MS_MAX = 2_000  # Our choice, as at the gate: a read that waited sells nothing.


def reason_of_card(
    presentation: Presentation, view: PurchaseView, now: Now
) -> PurchaseReason | None:
    """What is wrong with the card or the lists, before anything is known of money."""
    if presentation.age_ms > PRESENTATION_AGE_MS_MAX:
        return PurchaseReason.STALE_READ
    if view.people is None or view.money is None:
        return PurchaseReason.NO_LIST
    if view.hot_listed:
        return PurchaseReason.HOT_LISTED
    credential, cardholder = view.credential, view.cardholder
    if credential is not None and presentation.tier < credential.tier:
        return PurchaseReason.TIER_BELOW_ENROLLED
    if presentation.replayed:
        return PurchaseReason.REPLAYED
    if credential is None or cardholder is None:
        return PurchaseReason.UNKNOWN_CREDENTIAL
    if not cardholder.here:
        return PurchaseReason.WRONG_SITE
    # By a clock nobody trusts a whole school might have expired: those rules are skipped, and the
    # caveat says so. A lost card is stopped by the hot list, which needs no clock.
    if now.clock_trusted and now.utc_s < credential.valid_from_utc_s:
        return PurchaseReason.NOT_YET_VALID
    if now.clock_trusted and now.utc_s >= credential.valid_until_utc_s:
        return PurchaseReason.EXPIRED
    return None


def has_allergen(line: LineItem, cardholder: Cardholder) -> bool:
    """Fails closed: to whom anything is dangerous, what nobody checked is dangerous."""
    if not cardholder.allergens:
        return False
    product = line.product
    return not product.allergens_checked or not cardholder.allergens.isdisjoint(product.allergens)


def is_banned(line: LineItem, account: Account) -> bool:
    product = line.product
    return (
        product.product_id in account.banned_products
        or product.category in account.banned_categories
    )


def is_old(state: ListState, amber_s: int) -> bool:
    return state.age_s is None or state.age_s > amber_s
