"""Goal: what families and the city change about one account holds at every till: a lost card, its
replacement and a wristband, a warning of little money, pieces a day, and purses kept apart.

Method: two tills on real files around the reference city (`tests/support/till_town.py`); the city
is asked over its desk, the tills fetch its lists and are shown cards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from edge.messages import SaleFact, SaleRefused, Stream, b64u, decode_fact
from edge.model import PurchaseReason, UidKind
from edge.offline_cache import outbox
from edge.readers.reader import CardRead
from hil.city.crypto import credential_id
from hil.city.desk import Desk
from hil.city.parents import ParentDesk
from hil.city.seed import seed_school
from hil.world.canteen import BUFFET, with_buffet
from hil.world.school import PURSE
from tests.city import sham
from tests.city.sham import NOON_MS, SITE
from tests.support.till_town import ANN, ANNS, SOUP, SOUP_MINOR, Till, Town

NEW_UID, BAND_UID = "04a1b2c3d4e5f6", "04b1b2c3d4e5f6"
APPLE = "fruit-1"


class Shop:
    """A town with a parents' desk."""

    def __init__(self, folder: Path) -> None:
        self.town = Town(folder, folder, 2)
        core = self.town.core
        self.desk = Desk(core, ())
        self.parents = ParentDesk(core, self.desk)

    def settle(self) -> None:
        """Facts go up, lists come down."""
        self.town.heal(Random(0))

    def ask(self, work: Any, **body: Any) -> dict[str, Any]:
        return dict(work(body, NOON_MS).answer)

    def card(self, uid: str) -> str:
        core = self.town.core
        key = core.keys.scopes[f"{SITE}/people"].identifier
        return b64u(credential_id(key, UidKind.ISO14443, bytes.fromhex(uid)))

    def shows(
        self, till: Till, card: str, *lines: tuple[str, int], tier: int = 1
    ) -> SaleFact | SaleRefused:
        """Ring up, charge, show; what was decided."""
        town = self.town
        town.now_ms += 5_000
        assert till.counter.set_basket(lines, town.moment()) == ""
        town.now_ms += 10
        read = CardRead(
            uid=bytes(7),
            at_ms=town.moment().mono_ms,
            kind=UidKind.ISO14443,
            tier=tier,
            reader_id="r",
        )
        before = till.journal.head, till.journal.epoch
        till.counter.tap(card, read, town.moment(), None)
        town.note(till, before)
        till.step()
        db = till.journal.writer.db
        life = outbox.lives(db, Stream.MAIN)[-1]
        bodies = outbox.next_facts(db, life.life, 1, rows_max=10_000, bytes_max=1 << 24)
        facts = [decode_fact(body) for body in bodies[before[0] :]]
        return next(f for f in facts if isinstance(f, SaleFact | SaleRefused))

    def sold(self, till: Till, card: str, *lines: tuple[str, int], tier: int = 1) -> SaleFact:
        found = self.shows(till, card, *lines, tier=tier)
        assert isinstance(found, SaleFact), found
        return found

    def refused(
        self, till: Till, card: str, *lines: tuple[str, int], tier: int = 1
    ) -> PurchaseReason:
        found = self.shows(till, card, *lines, tier=tier)
        assert isinstance(found, SaleRefused), found
        return found.reason

    def told(self, kind: str) -> int:
        found = self.town.core.store.rows("SELECT count(*) FROM feed WHERE kind = ?", (kind,))
        return int(found[0][0])


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.town.close()


@pytest.fixture
def purses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A city that keeps two purses for each account."""
    school = sham.small_school()

    def seeded(core: Any, _school: Any, now_ms: int) -> bool:
        return seed_school(
            core,
            replace(
                school,
                purses=(PURSE, BUFFET),
                products=with_buffet(school.products),
                accounts=tuple(replace(one, buffet_minor=100_00) for one in school.accounts),
            ),
            now_ms,
        )

    monkeypatch.setattr(sham, "seed_school", seeded)
    made = Shop(tmp_path)
    yield made
    made.town.close()


def test_money_and_limits_follow_the_account_and_not_the_card(shop: Shop) -> None:
    """A lost card is refused everywhere once it is heard of; the new card and the wristband spend
    the same money under the same limits, with what the lost one bought counted."""
    one, two = shop.town.tills
    lost, tier = shop.town.card, shop.town.tier
    shop.ask(shop.parents.limit, account=ANNS, day_limit_minor=3 * SOUP_MINOR)
    shop.settle()
    shop.sold(one, lost, (SOUP, 1), tier=tier)
    uid = next(
        str(found[0])
        for found in shop.town.core.store.rows("SELECT uid, credential FROM card")
        if b64u(found[1]) == lost
    )
    shop.ask(shop.parents.replace_card, card=uid, uid=NEW_UID)
    shop.sold(two, lost, (SOUP, 1), tier=tier)  # Not heard of yet: it is a good card there.
    for till in (one, two):
        till.fetch()
        till.look()
        assert shop.refused(till, lost, (SOUP, 1), tier=tier) is PurchaseReason.HOT_LISTED
    new = shop.card(NEW_UID)
    shop.settle()
    sale = shop.sold(one, new, (SOUP, 1))
    assert (sale.account, sale.cardholder) == (ANNS, ANN)
    assert shop.refused(one, new, (SOUP, 1)) is PurchaseReason.DAY_LIMIT
    shop.settle()
    assert shop.refused(two, new, (SOUP, 1)) is PurchaseReason.DAY_LIMIT
    shop.ask(shop.parents.limit, account=ANNS, day_limit_minor=None)
    shop.ask(shop.parents.replace_card, card=NEW_UID, uid=BAND_UID)
    shop.settle()
    band = shop.card(BAND_UID)
    shop.sold(two, band, (SOUP, 1))
    assert shop.refused(two, new, (SOUP, 1)) is PurchaseReason.HOT_LISTED
    shop.settle()
    assert shop.town.balance() == shop.town.opening - 4 * SOUP_MINOR
    assert all(shop.town.shown(till) == shop.town.balance() for till in (one, two))


def test_two_cards_of_one_person_spend_one_account(shop: Shop) -> None:
    """The seed's pupil has a card and a wristband."""
    one, two = shop.town.tills
    core = shop.town.core
    cards = [
        b64u(found[0])
        for found in core.store.rows(
            "SELECT credential FROM card WHERE cardholder = ? AND hot = '' AND tier = 1", (ANN,)
        )
    ]
    assert len(cards) >= 2
    shop.ask(shop.parents.limit, account=ANNS, item_limits={"soup": 2})
    shop.settle()
    for till, card in ((one, cards[0]), (two, cards[1])):
        shop.sold(till, card, (SOUP, 1))
    shop.settle()
    for till, card in ((one, cards[1]), (two, cards[0])):
        assert shop.refused(till, card, (SOUP, 1)) is PurchaseReason.ITEM_LIMIT
    assert shop.town.balance() == shop.town.opening - 2 * SOUP_MINOR


def test_a_family_is_warned_of_little_money_once(shop: Shop) -> None:
    one, two = shop.town.tills
    left = shop.town.opening - SOUP_MINOR
    shop.ask(shop.parents.limit, account=ANNS, low_balance_minor=left)
    shop.settle()
    assert shop.told("low_balance") == 0
    shop.sold(one, shop.town.card, (SOUP, 1), tier=shop.town.tier)
    shop.settle()
    assert shop.told("low_balance") == 0, "it is not below yet"
    shop.sold(two, shop.town.card, (SOUP, 1), tier=shop.town.tier)
    shop.settle()
    assert shop.told("low_balance") == 1
    shop.sold(one, shop.town.card, (SOUP, 1), tier=shop.town.tier)
    shop.settle()
    assert shop.told("low_balance") == 1
    shop.ask(shop.desk.top_up, account=ANNS, amount_minor=100_000)
    shop.sold(one, shop.town.card, (SOUP, 1), tier=shop.town.tier)
    shop.settle()
    assert shop.told("low_balance") == 1, "there is enough again"


def test_purses_are_kept_apart_where_the_city_has_two(purses: Shop) -> None:
    """Each product is paid from its own purse; one that is empty is not filled by the other."""
    one, _two = purses.town.tills
    products = one.cache.small.products
    apple, soup = products[APPLE], products[SOUP]
    assert (apple.purse, soup.purse) == (BUFFET, PURSE)
    card, tier = purses.town.card, purses.town.tier
    both = purses.sold(one, card, (SOUP, 1), (APPLE, 1), tier=tier)
    paid = {p.purse: -p.amount_minor for p in both.postings if p.account == ANNS}
    assert paid == {PURSE: soup.price_minor, BUFFET: apple.price_minor}
    left = 100_00 - apple.price_minor
    too_many = left // apple.price_minor + 1
    assert purses.refused(one, card, (APPLE, too_many), tier=tier) is PurchaseReason.FUNDS
    purses.sold(one, card, (SOUP, 1), tier=tier)
    purses.settle()
    balances = purses.town.core.ledger.balances(ANNS)
    assert balances[BUFFET] == left
    top_up = purses.ask(purses.desk.top_up, account=ANNS, purse=BUFFET, amount_minor=100_00)
    assert top_up["balance_minor_by_purse"][BUFFET] == left + 100_00
    purses.settle()
    purses.sold(one, card, (APPLE, too_many), tier=tier)
