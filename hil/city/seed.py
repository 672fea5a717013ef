"""Puts a synthetic school into an empty city: records, and opening balances as ledger entries."""

from __future__ import annotations

from datetime import timedelta
from functools import cache

from hil.city.accounts import funding, move
from hil.city.card_keys import make_card_keys
from hil.city.intake import CityCore
from hil.city.pins import pin_hash
from hil.world.canteen import BUFFET
from hil.world.faces import face_png
from hil.world.school import PURSE, School, SchoolAccount

SEEDED = "seeded"


def seed_school(core: CityCore, school: School, now_ms: int) -> bool:
    """Once in a city's life, in one transaction. False when it has a school already."""
    assert school.site_id == core.site
    make_card_keys(core.keys.folder, core.site)
    with core.store.transaction():
        if core.store.meta(SEEDED) is not None:
            return False
        _enter_records(core, school, now_ms)
        _enter_canteen(core, school, now_ms)
        core.museum.enter_all()
        core.store.set_meta(SEEDED, str(school.seed))
    return True


@cache
def _hash_of(pin: str) -> str:
    """Of a PIN that stands in this repository: made once in a process, whatever schools it has."""
    return pin_hash(pin)


def _enter_records(core: CityCore, school: School, now_ms: int) -> None:
    registry = core.registry
    registry.set_settings(school.settings)
    for schedule in school.schedules:
        registry.add_schedule(schedule)
    for product in school.products:
        registry.add_product(product)
    for account in school.accounts:
        registry.add_account(account, school.purses)
        _open_account(core, account, now_ms)
    for person in school.people:
        registry.add_person(person)
    for number, cardholder in enumerate(_with_faces(school)):
        registry.photos.enter(cardholder, face_png(number))
    for card in (*school.cards, *school.smart_cards, *school.later_cards):
        registry.add_card(card)


def _with_faces(school: School) -> list[str]:
    """The bench's people, and the children of those who come for them."""
    known = {card.cardholder_id for card in school.characters.values()}
    wards = {ward for one in school.people if one.cardholder_id in known for ward in one.ward_ids}
    return [one.cardholder_id for one in school.people if one.cardholder_id in known | wards]


def _open_account(core: CityCore, account: SchoolAccount, now_ms: int) -> None:
    source = funding(core.site)
    postings = [
        posting
        for purse, amount_minor in ((PURSE, account.balance_minor), (BUFFET, account.buffet_minor))
        if amount_minor
        for posting in move(source, account.account_id, purse, amount_minor)
    ]
    if postings:
        reference = f"opening:{account.account_id}"
        core.ledger.post("opening", reference, postings, now_ms=now_ms)


def _enter_canteen(core: CityCore, school: School, now_ms: int) -> None:
    """Staff with their PINs, groups, free meals; pre-orders count from the day of the seeding and
    are paid when they are collected."""
    registry, canteen = core.registry, school.canteen
    for member in canteen.staff:
        registry.set_staff(member.cardholder_id, member.roles, _hash_of(member.pin))
    for group in canteen.groups:
        registry.add_group(group)
    for entitlement in canteen.entitlements:
        registry.add_entitlement(entitlement)
    prices = {product.product_id: product.price_minor for product in school.products}
    today = registry.place(now_ms).today
    for wanted in canteen.preorders:
        account = registry.account_of(wanted.cardholder_id)
        assert account is not None, "who orders has an account"
        core.tills.preorders.order(
            cardholder=wanted.cardholder_id,
            account=account,
            purse=PURSE,
            date=(today + timedelta(days=wanted.days_ahead)).isoformat(),
            slot=wanted.slot,
            lines=tuple((product, n, prices[product]) for product, n in wanted.lines),
            charge=False,
            now_ms=now_ms,
        )
