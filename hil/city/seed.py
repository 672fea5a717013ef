"""Puts a synthetic school into an empty city: records, and opening balances as ledger entries."""

from __future__ import annotations

from edge.messages import Posting
from hil.city.accounts import funding
from hil.city.card_keys import make_card_keys
from hil.city.intake import CityCore
from hil.world.school import PURSE, School

SEEDED = "seeded"


def seed_school(core: CityCore, school: School, now_ms: int) -> bool:
    """Once in a city's life, in one transaction. False when it has a school already."""
    assert school.site_id == core.site
    registry = core.registry
    make_card_keys(core.keys.folder, core.site)
    with core.store.transaction():
        if core.store.meta(SEEDED) is not None:
            return False
        registry.set_settings(school.settings)
        for schedule in school.schedules:
            registry.add_schedule(schedule)
        for product in school.products:
            registry.add_product(product)
        for account in school.accounts:
            registry.add_account(account, (PURSE,))
            if account.balance_minor:
                postings = (
                    _posting(account.account_id, account.balance_minor),
                    _posting(funding(core.site), -account.balance_minor),
                )
                reference = f"opening:{account.account_id}"
                core.ledger.post("opening", reference, postings, now_ms=now_ms)
        for person in school.people:
            registry.add_person(person)
        for card in (*school.cards, *school.smart_cards):
            registry.add_card(card)
        core.store.set_meta(SEEDED, str(school.seed))
    return True


def _posting(account: str, amount_minor: int) -> Posting:
    return Posting(account=account, purse=PURSE, amount_minor=amount_minor)
