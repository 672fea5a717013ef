"""A synthetic school made from a seed: people, cards, menu, timetable, money.

Pure: the same seed gives the same school. The bench and tests read it; the reference city puts it
in its books once (`hil/city/seed.py`). Nobody in it exists.

A few people have names of their own for the bench (`School.characters`): `pupil`, `wristband` (the
same pupil's second credential), `blocked` (a hot-listed card), `stranger` (a card nobody knows),
`banned-chocolate`, `guardian`, `staff`, `poor`. Each has a 13.56 MHz card under its name and a
125 kHz key fob under `<name>-125`, so that any reader of the bench can be tried. Their schedule is
`always`: a bench is switched on at night and on Sundays too. Four of them also have a card that can
prove itself (`School.smart_cards`). Beside them `officer`, `cashier` and `supervisor` sign in with
a PIN, `primary` is a child of the primary classes (`hil/world/canteen.py`), and `guardian-barred`
is a guardian who may not collect the `pupil`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from edge.model import MINUTES_PER_WEEK, Category, UidKind
from hil.world import canteen as extras
from hil.world.canteen import BUFFET, Canteen
from hil.world.records import (
    PURSE,
    SMART_TIERS,
    Card,
    MealSlot,
    Person,
    Schedule,
    SchoolAccount,
    SchoolProduct,
    SiteSettings,
)
from hil.world.words import (
    ALLERGENS,
    BOYS,
    GIRLS,
    MENU,
    PATRONYMICS,
    STAFF_GROUPS,
    SURNAMES,
)

__all__ = [
    "ALWAYS",
    "CHARACTERS",
    "Card",
    "MealSlot",
    "PURSE",
    "Person",
    "SMART_TIERS",
    "Schedule",
    "School",
    "SchoolAccount",
    "SchoolProduct",
    "SiteSettings",
    "VALID_FROM_UTC_S",
    "VALID_UNTIL_UTC_S",
    "ZONE",
    "make_school",
]

PUPILS = 600  # A usual city school; design README: 860,000 pupils in 1,700 schools is 506 each.
STAFF = 60  # Our choice: one of staff for ten pupils.
SIBLINGS_SHARE = 0.25  # Our choice: a quarter of the families have two children here.
WRISTBAND_SHARE = 0.12  # Our choice: enough to meet second credentials in any sample.
PROX_SHARE = 0.10  # Our choice: some schools still hand out 125 kHz fobs.
LIMIT_SHARE = 0.3  # Our choice, as the two below: enough of each in one class of 25.
BAN_SHARE = 0.1
ALLERGY_SHARE = 0.06
HOT_SHARE = 0.01  # Our choice: one lost card in a hundred still lies about somewhere.
BALANCE_MINOR_MAX = 3_000_00
CHARACTER_BALANCE_MINOR = 1_500_00
POOR_BALANCE_MINOR = 3_00  # Less than a glass of tea.
GUARDIAN_FROM, STAFF_FROM = 5001, 9001  # First numbers in cardholder ids; pupils start at 1.
VALID_FROM_UTC_S = 1_693_526_400  # 2023-09-01
VALID_UNTIL_UTC_S = 2_082_758_400  # 2036-01-01: past any bench, so no test ends by itself.
ZONE = "school"
ALWAYS = "always"
# Grades 1 and 2 have three classes, the others two: 24.
CLASS_LETTERS: Final = {grade: "АБВ" if grade <= 2 else "АБ" for grade in range(1, 12)}
CHARACTERS: Final = (
    *("pupil", "wristband", "blocked", "stranger", "banned-chocolate"),
    *("guardian", "staff", "poor"),
)
NOBODY: Final = "stranger"
PRIMARY: Final = "primary"  # Eats free in the morning and has chosen a lunch.
BARRED: Final = "guardian-barred"  # May not collect the pupil: a court said so.
# Drawn apart, as the smart cards: cards of people who sign in, of that child, and of who is barred.
LATER_CHARACTERS: Final = (*extras.STAFF, PRIMARY, BARRED)
# The bench's card of each kind that proves something -> whose it is.
SMART_CHARACTERS: Final = {
    "pupil-ev2": "pupil",
    "staff-424": "staff",
    "guest-sun": "poor",
    "band-aes": "banned-chocolate",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class School:
    site_id: str
    seed: int
    settings: SiteSettings
    classes: tuple[str, ...]
    people: tuple[Person, ...]
    cards: tuple[Card, ...] = field(repr=False)
    accounts: tuple[SchoolAccount, ...]
    products: tuple[SchoolProduct, ...]
    schedules: tuple[Schedule, ...]
    meal_slots: tuple[MealSlot, ...]
    smart_cards: tuple[Card, ...] = field(default=(), repr=False)  # Labelled as their profile.
    later_cards: tuple[Card, ...] = field(default=(), repr=False)  # Of LATER_CHARACTERS.
    purses: tuple[str, ...] = (PURSE,)
    canteen: Canteen = field(default=Canteen(), repr=False)

    @property
    def characters(self) -> dict[str, Card]:
        """The bench's cards by label."""
        return {card.label: card for card in self.cards if card.label}


SLOTS: Final = (
    MealSlot(slot_id="breakfast", start_minute=8 * 60 + 30, stop_minute=10 * 60 + 30),
    MealSlot(slot_id="lunch", start_minute=11 * 60 + 30, stop_minute=14 * 60 + 30),
    MealSlot(slot_id="snack", start_minute=15 * 60, stop_minute=16 * 60 + 30),
)


def make_school(
    seed: int = 1, site_id: str = "s0001", *, pupils: int = PUPILS, canteen: bool = False
) -> School:
    """The school of this seed. `pupils` may be lowered for a small world (at least one a class).

    With `canteen` there are free meals, pre-orders, piece limits and a second purse beside it.
    """
    classes = tuple(f"{grade}{letter}" for grade, ls in CLASS_LETTERS.items() for letter in ls)
    assert pupils >= len(classes), "every class has a pupil"
    maker = _Maker(seed, site_id)
    children = [maker.pupil(n, classes[(n - 1) % len(classes)]) for n in range(1, pupils + 1)]
    staff = [maker.staff(STAFF_FROM + n) for n in range(STAFF)]
    guardians = maker.guardians(children)
    products = maker.products()
    chosen = {  # The first pupils are the characters: ids a person at the bench can remember.
        "pupil": children[0],
        "blocked": children[1],
        "banned-chocolate": children[2],
        "poor": children[3],
        "guardian": guardians[0],
        "staff": staff[0],
    }
    special = {person.cardholder_id: label for label, person in chosen.items()}
    later = {
        **dict(zip(extras.STAFF, staff[1:], strict=False)),
        PRIMARY: children[4],
        BARRED: guardians[1],
    }
    free = {*special, *(person.cardholder_id for person in later.values())}
    guardians = [extras.with_relations(person, seed) for person in guardians]
    # One court order: the second family's guardian may not collect the first family's child.
    guardians[1] = replace(guardians[1], barred_ward_ids=(children[0].cardholder_id,))
    people = tuple(
        maker.with_always(person) if person.cardholder_id in free else person
        for person in (*children, *staff, *guardians)
    )
    school = School(
        site_id=site_id,
        seed=seed,
        settings=SiteSettings(
            meal_slots={slot.slot_id: (slot.start_minute, slot.stop_minute) for slot in SLOTS}
        ),
        classes=classes,
        people=people,
        cards=maker.character_cards(chosen) + maker.crowd_cards(people, special),
        accounts=tuple(
            maker.account(person.account_id, special.get(person.cardholder_id), products)
            for person in people
            if person.account_id is not None
        ),
        products=products,
        schedules=make_schedules(),
        smart_cards=smart_cards(seed, site_id, chosen),
        meal_slots=SLOTS,
        later_cards=later_cards(seed, site_id, later),
        canteen=Canteen(
            staff=tuple(
                extras.StaffMember(cardholder_id=later[label].cardholder_id, roles=roles, pin=pin)
                for label, (roles, pin) in extras.STAFF.items()
            ),
            groups=tuple(extras.make_groups(site_id, classes, people)),
        ),
    )
    wanted = frozenset({later[PRIMARY].cardholder_id})
    return _with_canteen(school, children, frozenset(special), wanted) if canteen else school


def _with_canteen(
    school: School, children: list[Person], spared: frozenset[str], wanted: frozenset[str]
) -> School:
    """Free meals and pre-orders for children, `spared` ones without and `wanted` ones with; piece
    limits and a second purse."""
    seed = school.seed
    return replace(
        school,
        purses=(PURSE, BUFFET),
        products=extras.with_buffet(school.products),
        accounts=extras.with_limits(school.accounts, seed),
        canteen=replace(
            school.canteen,
            entitlements=extras.make_entitlements(seed, children, spared),
            preorders=extras.make_preorders(seed, children, spared, wanted),
        ),
    )


def later_cards(seed: int, site_id: str, owners: Mapping[str, Person]) -> tuple[Card, ...]:
    """A card and a fob for each, as the other characters have."""
    draw = random.Random(f"later cards/{seed}/{site_id}")
    return tuple(
        Card(
            uid=b"\x04" + draw.randbytes(6) if kind is UidKind.ISO14443 else draw.randbytes(5),
            uid_kind=kind,
            cardholder_id=owner.cardholder_id,
            label=label + suffix,
        )
        for label, owner in owners.items()
        for suffix, kind in (("", UidKind.ISO14443), ("-125", UidKind.PROX125))
    )


def smart_cards(seed: int, site_id: str, owners: Mapping[str, Person]) -> tuple[Card, ...]:
    """One card of each kind that proves something. Drawn apart, so the school's seed stays itself.

    The bench makes them, and their copies without a key, in `hil/devices/cards/school.py`.
    """
    draw = random.Random(f"smart cards/{seed}/{site_id}")
    return tuple(
        Card(
            uid=b"\x04" + draw.randbytes(6),
            uid_kind=UidKind.ISO14443,
            cardholder_id=owners[owner].cardholder_id,
            label=profile,
            profile=profile,
            key_version=1,
        )
        for profile, owner in SMART_CHARACTERS.items()
    )


def make_schedules() -> tuple[Schedule, ...]:
    """The class timetable as windows of the week: lessons, half an hour before, clubs after."""

    def week(start_minute: int, stop_minute: int, days: int) -> tuple[tuple[int, int], ...]:
        return tuple((d * 1440 + start_minute, d * 1440 + stop_minute) for d in range(days))

    return (
        Schedule(schedule_id=ALWAYS, windows=((0, MINUTES_PER_WEEK),)),
        Schedule(schedule_id="primary", windows=week(7 * 60 + 30, 19 * 60, 5)),
        Schedule(schedule_id="middle", windows=week(7 * 60 + 30, 20 * 60, 6)),
        Schedule(schedule_id="senior", windows=week(7 * 60 + 30, 21 * 60, 6)),
        Schedule(schedule_id="staff", windows=week(6 * 60, 22 * 60, 7)),
        Schedule(schedule_id="guardians", windows=week(7 * 60, 20 * 60, 6)),
    )


def schedule_of_class(class_name: str) -> str:
    grade = int(class_name[:-1])
    return "primary" if grade <= 4 else "middle" if grade <= 8 else "senior"


class _Maker:
    """Draws from one random generator in a fixed order: the order is part of the seed's meaning."""

    def __init__(self, seed: int, site_id: str) -> None:
        self._random = random.Random(f"school/{seed}/{site_id}")
        self._site_id = site_id
        self._uids: set[bytes] = set()

    def pupil(self, number: int, class_name: str) -> Person:
        rng = self._random
        surname, girl = rng.choice(SURNAMES), rng.random() < 0.5
        given = rng.choice(GIRLS if girl else BOYS)
        allergic = rng.random() < ALLERGY_SHARE and number > len(CHARACTERS)
        return Person(
            cardholder_id=f"{self._site_id}c{number:04d}",
            name=f"{surname[girl]} {given}",
            group=class_name,
            category=Category.PUPIL,
            account_id=f"{self._site_id}a{number:04d}",
            rights=((ZONE, schedule_of_class(class_name)),),
            allergens=tuple(sorted(rng.sample(ALLERGENS, rng.randint(1, 2)))) if allergic else (),
        )

    def staff(self, number: int) -> Person:
        rng = self._random
        return Person(
            cardholder_id=f"{self._site_id}c{number:04d}",
            name=self._adult(rng.choice(SURNAMES)),
            group=rng.choice(STAFF_GROUPS),
            category=Category.STAFF,
            account_id=f"{self._site_id}a{number:04d}",
            rights=((ZONE, "staff"),),
        )

    def guardians(self, children: list[Person]) -> list[Person]:
        """One guardian a family; some families have two children here."""
        rng = self._random
        found: list[Person] = []
        waiting = list(children)
        while waiting:
            ward_count = 2 if rng.random() < SIBLINGS_SHARE else 1
            wards, waiting = waiting[:ward_count], waiting[ward_count:]
            found.append(
                Person(
                    cardholder_id=f"{self._site_id}c{GUARDIAN_FROM + len(found):04d}",
                    name=self._adult(rng.choice(SURNAMES)),
                    group=", ".join(ward.group for ward in wards),
                    category=Category.GUARDIAN,
                    account_id=None,
                    rights=((ZONE, "guardians"),),
                    ward_ids=tuple(ward.cardholder_id for ward in wards),
                )
            )
        return found

    def _adult(self, surname: tuple[str, str]) -> str:
        rng = self._random
        woman = rng.random() < 0.7
        given = rng.choice(GIRLS if woman else BOYS)
        return f"{surname[woman]} {given} {rng.choice(PATRONYMICS)[woman]}"

    def with_always(self, person: Person) -> Person:
        return replace(person, rights=((ZONE, ALWAYS),))

    def products(self) -> tuple[SchoolProduct, ...]:
        dishes = [(category, dish) for category, some in MENU.items() for dish in some]
        unchecked = set(self._random.sample(range(len(dishes)), 2))
        return tuple(
            SchoolProduct(
                product_id=f"{category}-{MENU[category].index(dish) + 1}",
                name=dish[0],
                category=category,
                price_minor=dish[1],
                allergens=dish[2],
                allergens_checked=number not in unchecked,
            )
            for number, (category, dish) in enumerate(dishes)
        )

    def account(
        self, account_id: str, label: str | None, products: tuple[SchoolProduct, ...]
    ) -> SchoolAccount:
        rng = self._random
        balance = rng.randrange(0, BALANCE_MINOR_MAX, 50)
        limit = rng.randrange(200_00, 600_01, 50_00) if rng.random() < LIMIT_SHARE else None
        banned = rng.random() < BAN_SHARE
        category = rng.choice(("chocolate", "pastry", "sandwich"))
        product = rng.choice(products).product_id
        by_category = rng.random() < 0.7
        if label is not None:
            return SchoolAccount(
                account_id=account_id,
                balance_minor=POOR_BALANCE_MINOR if label == "poor" else CHARACTER_BALANCE_MINOR,
                banned_categories=("chocolate",) if label == "banned-chocolate" else (),
            )
        return SchoolAccount(
            account_id=account_id,
            balance_minor=balance,
            day_limit_minor=limit,
            week_limit_minor=None if limit is None else 5 * limit,
            banned_products=(product,) if banned and not by_category else (),
            banned_categories=(category,) if banned and by_category else (),
        )

    def character_cards(self, chosen: dict[str, Person]) -> tuple[Card, ...]:
        cards = []
        for label in CHARACTERS:
            owner = chosen.get("pupil" if label == "wristband" else label)
            for suffix, kind, size in (("", UidKind.ISO14443, 7), ("-125", UidKind.PROX125, 5)):
                cards.append(
                    Card(
                        uid=self._uid(kind, size),
                        uid_kind=kind,
                        cardholder_id=None if owner is None else owner.cardholder_id,
                        label=label + suffix,
                        hot="lost" if label == "blocked" else "",
                    )
                )
        return tuple(cards)

    def crowd_cards(self, people: tuple[Person, ...], special: dict[str, str]) -> tuple[Card, ...]:
        rng = self._random
        cards = []
        for person in people:
            kind, size = UidKind.ISO14443, rng.choice((7, 7, 7, 4))
            if rng.random() < PROX_SHARE:
                kind, size = UidKind.PROX125, 5
            wristband, lost = rng.random() < WRISTBAND_SHARE, rng.random() < HOT_SHARE
            if person.cardholder_id in special:
                continue
            cards.append(self._card(person, kind, size))
            if wristband:
                cards.append(self._card(person, UidKind.ISO14443, 7))
            if lost:
                cards.append(self._card(person, UidKind.ISO14443, 7, hot="lost"))
        return tuple(cards)

    def _card(self, person: Person, kind: UidKind, size: int, hot: str = "") -> Card:
        return Card(
            uid=self._uid(kind, size), uid_kind=kind, cardholder_id=person.cardholder_id, hot=hot
        )

    def _uid(self, kind: UidKind, size: int) -> bytes:
        """A number such as the chips have: 7 bytes begin with NXP's 04 (ISO/IEC 7816-6), 4 bytes
        neither with 08 (a random id, ISO/IEC 14443-3) nor with 88 (the cascade tag)."""
        while True:
            uid = self._random.randbytes(size)
            if kind is UidKind.ISO14443:
                uid = (b"\x04" if size == 7 else b"\x5a") + uid[1:]
            if uid not in self._uids:
                self._uids.add(uid)
                return uid
