"""What a school has beside people and cards: staff who sign in, groups, and, where it is asked for,
free meals, meals chosen beforehand, limits by the piece and a second purse.

Pure and drawn apart from the people, so a school's seed stays itself. The PINs are the bench's:
officer 1111, cashier 2222, supervisor 3333. Nobody here exists.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from edge.model import Category, StaffRole
from hil.world.records import Person, SchoolAccount, SchoolProduct

BUFFET: Final = "buffet"  # The second purse: what is not a hot meal.
BUFFET_CATEGORIES: Final = ("fruit", "dairy")
BUFFET_BALANCE_MINOR: Final = 400_00
BREAKFAST: Final = "primary-breakfast"
TWO_MEALS: Final = "two-hot-meals"
PRIMARY_GRADES: Final = ("1", "2", "3", "4")
TWO_MEALS_SHARE: Final = 0.08  # Our choice: two in a class of 25.
PREORDER_SHARE: Final = 0.15  # Our choice: some trays stand ready at every lunch.
LOW_BALANCE_MINOR: Final = 100_00
FIRST_DATE, LAST_DATE = "2023-09-01", "2035-12-31"  # As the cards: no bench ends by itself.
# Character of the bench -> what it may do at a station, and the PIN it types there.
STAFF: Final[dict[str, tuple[tuple[StaffRole, ...], str]]] = {
    "officer": ((StaffRole.OFFICER,), "1111"),
    "cashier": ((StaffRole.CASHIER,), "2222"),
    "supervisor": ((StaffRole.SUPERVISOR, StaffRole.CASHIER), "3333"),
}
RELATIONS: Final = (("мама", "бабушка"), ("папа", "дедушка"))  # Of a woman, of a man.


@dataclass(frozen=True, slots=True, kw_only=True)
class StaffMember:
    """Somebody who signs in at a station by own card and PIN."""

    cardholder_id: str
    roles: tuple[StaffRole, ...]
    pin: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SchoolGroup:
    group_id: str
    name: str
    member_ids: tuple[str, ...]
    owner_till: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchoolEntitlement:
    cardholder_id: str
    entitlement_id: str
    slots: tuple[str, ...]
    categories: tuple[str, ...]
    first_date: str = FIRST_DATE
    last_date: str = LAST_DATE
    weekdays: tuple[int, ...] = (1, 2, 3, 4, 5)
    except_dates: tuple[str, ...] = ()
    owner_till: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchoolPreorder:
    """A meal chosen beforehand; its day is counted from the day the books are opened."""

    cardholder_id: str
    days_ahead: int
    slot: str
    lines: tuple[tuple[str, int], ...]  # (product, quantity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Canteen:
    """Empty but for groups and staff, unless it was asked for."""

    staff: tuple[StaffMember, ...] = ()
    groups: tuple[SchoolGroup, ...] = ()
    entitlements: tuple[SchoolEntitlement, ...] = ()
    preorders: tuple[SchoolPreorder, ...] = ()


def make_groups(
    site_id: str, classes: Sequence[str], people: Sequence[Person]
) -> list[SchoolGroup]:
    """A group for each class, in the order of the classes."""
    return [
        SchoolGroup(
            group_id=f"{site_id}g{number:02d}",
            name=name,
            member_ids=tuple(
                person.cardholder_id
                for person in people
                if person.category is Category.PUPIL and person.group == name
            ),
        )
        for number, name in enumerate(classes, 1)
    ]


def with_relations(guardian: Person, seed: int) -> Person:
    """What a guardian is to each ward; by the patronymic, which agrees."""
    draw = random.Random(f"relations/{seed}/{guardian.cardholder_id}")
    words = RELATIONS[0 if guardian.name.endswith("на") else 1]
    word = words[draw.random() < 0.2]
    return replace(guardian, relations=tuple((ward, word) for ward in guardian.ward_ids))


def with_buffet(products: Sequence[SchoolProduct]) -> tuple[SchoolProduct, ...]:
    """The menu with some categories in the second purse."""
    return tuple(
        replace(product, purse=BUFFET) if product.category in BUFFET_CATEGORIES else product
        for product in products
    )


def with_limits(accounts: Sequence[SchoolAccount], seed: int) -> tuple[SchoolAccount, ...]:
    """Accounts with money in the second purse, a warning, and for some a limit by the piece."""
    draw = random.Random(f"limits/{seed}")
    return tuple(
        replace(
            account,
            buffet_minor=BUFFET_BALANCE_MINOR,
            low_balance_minor=LOW_BALANCE_MINOR,
            item_limits=(("pastry", 1),) if draw.random() < 0.2 else (),
        )
        for account in accounts
    )


def make_entitlements(
    seed: int, pupils: Sequence[Person], spared: frozenset[str]
) -> tuple[SchoolEntitlement, ...]:
    """A hot breakfast for the primary classes, two meals for some others; not for `spared`, the
    characters of the bench who pay."""
    draw = random.Random(f"entitlements/{seed}")
    found = []
    for pupil in pupils:
        two = draw.random() < TWO_MEALS_SHARE
        if pupil.cardholder_id in spared:
            continue
        slots: tuple[str, ...]
        if pupil.group[:-1] in PRIMARY_GRADES:
            name, slots = BREAKFAST, ("breakfast",)
        elif two:
            name, slots = TWO_MEALS, ("breakfast", "lunch")
        else:
            continue
        found.append(
            SchoolEntitlement(
                cardholder_id=pupil.cardholder_id,
                entitlement_id=name,
                slots=slots,
                categories=("hot", "drink"),
            )
        )
    return tuple(found)


def make_preorders(
    seed: int, pupils: Sequence[Person], spared: frozenset[str], always: frozenset[str]
) -> tuple[SchoolPreorder, ...]:
    """Lunches for the first two days; certainly for those of `always`."""
    draw = random.Random(f"preorders/{seed}")
    return tuple(
        SchoolPreorder(
            cardholder_id=pupil.cardholder_id,
            days_ahead=day,
            slot="lunch",
            lines=((f"soup-{draw.randint(1, 6)}", 1), (f"hot-{draw.randint(1, 6)}", 1)),
        )
        for day in (0, 1)
        for pupil in pupils
        if (draw.random() < PREORDER_SHARE or pupil.cardholder_id in always)
        and pupil.cardholder_id not in spared
    )
