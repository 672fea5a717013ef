"""Goal: the synthetic school is a whole school, the same for the same seed, and fits its stories.

Method: two schools of one seed are compared, two seeds told apart; then every reference in the data
is followed, and the bench's characters are looked at one by one.
"""

from __future__ import annotations

from collections import Counter

import pytest

from edge.model import MINUTES_PER_WEEK, Category, UidKind
from hil.world.school import CHARACTERS, Card, School, make_school

SCHOOL = make_school(1)


def owner(label: str, school: School = SCHOOL) -> str:
    found = school.characters[label].cardholder_id
    assert found is not None
    return found


def test_one_seed_is_one_school() -> None:
    assert make_school(1) == SCHOOL
    assert make_school(2) != SCHOOL
    assert {c.uid for c in make_school(2).cards}.isdisjoint({c.uid for c in SCHOOL.cards})
    assert make_school(1, "s0002").people != SCHOOL.people


def test_it_is_a_whole_school() -> None:
    by_category = Counter(person.category for person in SCHOOL.people)
    assert by_category[Category.PUPIL] == 600 and by_category[Category.STAFF] == 60
    assert len(SCHOOL.classes) == 24
    assert (SCHOOL.classes[0], SCHOOL.classes[-1]) == ("1А", "11Б")
    sizes = Counter(p.group for p in SCHOOL.people if p.category is Category.PUPIL)
    assert set(sizes) == set(SCHOOL.classes) and set(sizes.values()) == {25}
    assert len(SCHOOL.products) == 60
    assert len({product.category for product in SCHOOL.products}) == 10
    assert all(product.price_minor > 0 for product in SCHOOL.products)


@pytest.mark.parametrize("seed", range(5))
def test_every_reference_leads_somewhere(seed: int) -> None:
    school = make_school(seed)
    people = {person.cardholder_id: person for person in school.people}
    accounts = {account.account_id for account in school.accounts}
    schedules = {schedule.schedule_id for schedule in school.schedules}
    products = {product.product_id for product in school.products}
    categories = {product.category for product in school.products}
    assert len(people) == len(school.people) and len(products) == len(school.products)
    assert {p.account_id for p in school.people if p.account_id} == accounts
    assert len(accounts) == len(school.accounts)
    pupils = {i for i, person in people.items() if person.category is Category.PUPIL}
    warded = [ward for person in school.people for ward in person.ward_ids]
    assert sorted(warded) == sorted(pupils), "every pupil has one guardian"
    for person in school.people:
        assert {schedule for _, schedule in person.rights} <= schedules
    for card in school.cards:
        assert card.cardholder_id is None or card.cardholder_id in people
        assert len(card.uid) in ((4, 7) if card.uid_kind is UidKind.ISO14443 else (5,))
        assert card.uid_kind is not UidKind.ISO14443 or card.uid[0] in (0x04, 0x5A)
    assert len({card.uid for card in school.cards}) == len(school.cards)
    assert {card.cardholder_id for card in school.cards} >= set(people)
    for account in school.accounts:
        assert set(account.banned_products) <= products
        assert set(account.banned_categories) <= categories


def test_windows_lie_in_the_week_in_order() -> None:
    for schedule in SCHOOL.schedules:
        edges = [minute for window in schedule.windows for minute in window]
        assert edges == sorted(edges) and edges[0] >= 0 and edges[-1] <= MINUTES_PER_WEEK


def test_the_characters_fit_their_names() -> None:
    cards, people = SCHOOL.characters, {p.cardholder_id: p for p in SCHOOL.people}
    accounts = {account.account_id: account for account in SCHOOL.accounts}
    assert set(cards) == {label + suffix for label in CHARACTERS for suffix in ("", "-125")}
    assert owner("wristband") == owner("pupil")
    assert cards["wristband"].uid != cards["pupil"].uid
    assert cards["blocked"].hot and not cards["pupil"].hot
    assert cards["stranger"].cardholder_id is None
    assert people[owner("guardian")].ward_ids[0] == owner("pupil")
    assert people[owner("staff")].category is Category.STAFF
    assert accounts[str(people[owner("poor")].account_id)].balance_minor == 300
    banned = accounts[str(people[owner("banned-chocolate")].account_id)]
    assert banned.banned_categories == ("chocolate",) and banned.balance_minor > 0
    for label in CHARACTERS:
        fob: Card = cards[label + "-125"]
        assert (cards[label].uid_kind, len(cards[label].uid)) == (UidKind.ISO14443, 7)
        assert (fob.uid_kind, len(fob.uid)) == (UidKind.PROX125, 5)
        assert fob.cardholder_id == cards[label].cardholder_id
        if label != "stranger":
            assert people[owner(label)].rights == (("school", "always"),)
            assert people[owner(label)].allergens == ()


def test_no_name_and_no_number_shows_in_a_repr() -> None:
    text = repr(SCHOOL)
    assert not any(person.name in text for person in SCHOOL.people[:50])
    assert not any(repr(card.uid) in repr(card) for card in SCHOOL.cards)


def test_names_agree_in_gender() -> None:
    for person in SCHOOL.people[660:]:
        surname, _, patronymic = person.name.split()
        woman = patronymic.endswith("на")
        assert woman or not surname.endswith(("ова", "ева", "ина", "ая"))
