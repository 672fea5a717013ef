"""Two tills of one school as real processes: the city, its broker, the school's own broker, and for
each till `edge` and `sync`. Made by `moskvenok provision` and `moskvenok site`; cards come through
the station's own socket.

The school is a synthetic one with noon for its time, money for everybody, a free hot lunch for one
class, and nobody with a ban, a limit or an allergy until a parent sets one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from edge.control import ask
from edge.messages import AnyFact
from edge.model import Category, DeviceFault, Tender, UidKind
from hil.city.intake import CityCore
from hil.city.keys import open_keys, utc
from hil.city.seed import seed_school
from hil.city.store import Store
from hil.world.canteen import STAFF, SchoolEntitlement, SchoolGroup
from hil.world.school import School, make_school
from tests.process.brokers import free_port, mosquitto_program
from tests.process.school import SEED, SITE, Child, City, Station

TILLS: Final = (f"{SITE}-till-1", f"{SITE}-till-2")
READER: Final = "r1"
PURSE_MINOR: Final = 2_000_00
LUNCH: Final = "lunch"
FREE: Final = "hot-lunch"
PATIENCE_S: Final = 90.0  # Our choice: a crowded machine; an idle one answers in milliseconds.
LOOK_S: Final = 0.05
# A neighbour counts as dead so soon here; sync/hand_in.py has ten minutes.
DEAD_MS: Final = 4_000
HEARD_MS: Final = 10_000  # And as silent after so long; sync/peer_voice.py has twice that.
SYNC: Final = f"""import runpy
import sync.hand_in
import sync.peers
sync.hand_in.DEAD_MS = {DEAD_MS}
sync.peers.HEARD_MS = {HEARD_MS}
runpy.run_module("sync", run_name="__main__", alter_sys=True)
"""


def until(is_so: Callable[[], object], words: Callable[[], str]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > deadline_s:
            pytest.fail(f"not within {PATIENCE_S:.0f} s: {words()}")
        time.sleep(LOOK_S)


def noon_zone() -> str:
    """Where it is about noon now: no test runs over midnight."""
    ahead = 12 - datetime.now(UTC).hour
    return "Etc/GMT" if ahead == 0 else f"Etc/GMT{'-' if ahead > 0 else '+'}{abs(ahead)}"


def lunch_school(zone: str) -> School:
    school = make_school(SEED, SITE, pupils=120)
    group = school.canteen.groups[0]
    settings = replace(
        school.settings,
        time_zone=zone,
        meal_slots={LUNCH: (0, 24 * 60)},
        tenders=(*school.settings.tenders, Tender.CASH),
    )
    return replace(
        school,
        settings=settings,
        people=tuple(replace(person, allergens=()) for person in school.people),
        products=tuple(
            replace(product, allergens=(), allergens_checked=True) for product in school.products
        ),
        accounts=tuple(
            replace(
                account,
                balance_minor=PURSE_MINOR,
                day_limit_minor=None,
                week_limit_minor=None,
                banned_products=(),
                banned_categories=(),
            )
            for account in school.accounts
        ),
        canteen=replace(
            school.canteen,
            entitlements=tuple(
                SchoolEntitlement(
                    cardholder_id=member,
                    entitlement_id=FREE,
                    slots=(LUNCH,),
                    categories=("hot",),
                    weekdays=(1, 2, 3, 4, 5, 6, 7),
                )
                for member in group.member_ids
            ),
        ),
    )


class Till(Station):
    """One till with both its processes, and a cashier's hands."""

    def __init__(self, folder: Path, device: str) -> None:
        super().__init__(folder, device)
        self.processes["sync"] = self.sync = Child(
            self.logs / "sync.log",
            *(sys.executable, "-c", SYNC, "--config", str(self.config)),
        )

    def start(self) -> None:
        for child in (self.sync, self.edge):
            if not child.runs():
                child.stop()
                child.start()

    def kill(self) -> None:
        """The plug is pulled."""
        self.edge.kill()
        self.sync.kill()

    def tell(self, request: str, **more: object) -> dict[str, Any]:
        """An answer, when edge is there again; `ok` may be false."""
        found: list[dict[str, Any]] = []

        def asked() -> bool:
            answer = self.try_to(request, **more)
            found.extend([] if answer is None else [answer])
            return bool(found)

        until(asked, self.last_words)
        return found[0]

    def try_to(self, request: str, **more: object) -> dict[str, Any] | None:
        """As `ask`, but a refusal is an answer too."""
        try:
            return ask(self.folder / "run" / "edge.sock", {"request": request, **more})
        except DeviceFault:
            return None

    def screen(self) -> dict[str, Any]:
        answer = self.try_to("screen")
        return {} if answer is None else dict(answer["screens"][0])

    def facts(self) -> list[AnyFact]:
        return self.recorded()

    def counter(self, name: str) -> int:
        """Of sync, since its start."""
        status = self.ask("status", process="sync")
        return 0 if status is None else int(status["counters"].get(name, 0))

    def number(self, scope: str) -> int:
        """Of a list in force."""
        status = self.ask("status")
        held = {} if status is None else status["lists"].get(f"{SITE}/{scope}", {})
        return int(held.get("number", 0))


class TwoTills:
    """All of it; `stack` ends what was started, last first."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._stack = stack
        self.folder = folder
        self.city_port, self.school_port = free_port(), free_port()
        self.zone = noon_zone()
        self.school = lunch_school(self.zone)
        broker = f"mqtts://127.0.0.1:{self.city_port}"
        self.city = City(
            folder,
            broker,
            # At once: what a parent asked for is in the version that the status tells.
            *("--mosquitto", str(folder / "broker"), "--gather-ms", "0"),
            *("--peer-broker", f"{TILLS[0]}=mqtts://127.0.0.1:{self.school_port}"),
        )
        self.city_broker = self._broker(folder / "broker", "city-broker.log")
        self.one, self.two = (Till(folder / name, name) for name in TILLS)
        self.tills = (self.one, self.two)
        self._fill_books()
        self.begin(self.city)
        for till in self.tills:
            till.provision(
                self.city,
                *("--reader", f"{READER}:serial:{folder}/no-tty:id12"),
                *("--time-zone", self.zone, "--simulated-taps"),
                *("--runtime", str(till.folder / "run")),
                station="till",
            )
        done = self.one.command(
            "site", "--address", "127.0.0.1", "--port", str(self.school_port), "--json"
        )
        assert done.returncode == 0, done.stdout + done.stderr
        self.school_broker = self._broker(self.one.folder / "broker", "school-broker.log")
        self.begin(self.city_broker)
        self.begin(self.school_broker)
        for till in self.tills:
            self._stack.callback(till.kill)
            till.start()
        self._people = iter(self._payers())

    def hurry(self) -> None:
        """Nobody waits for the next attempt to reach the city."""
        until(lambda: self.city.get("/status")["broker_connected"], self.words)
        for till in self.tills:
            till.ask("connect", process="sync")

    @property
    def stations(self) -> tuple[Till, ...]:
        """As the oracle asks for them."""
        return self.tills

    @property
    def free_class(self) -> SchoolGroup:
        """The class that eats free."""
        return self.school.canteen.groups[0]

    def begin(self, child: Child) -> None:
        child.start()
        self._stack.callback(child.stop)

    def words(self) -> str:
        said = "\n".join(
            f"{till.last_words()}\nsync: {till.ask('status', process='sync')}"
            for till in self.tills
        )
        said += self.school_broker.last_words()
        return f"{said}\n{self.city.last_words()}\n{self.city_broker.last_words()}"

    def together(self) -> bool:
        """Both have their lists and the time, and hear each other."""
        one, two = self.tills
        return (
            all(
                till.number(scope)
                for till in self.tills
                for scope in ("people", "money", "menu", "settings")
            )
            and one.hears(two.device)
            and two.hears(one.device)
        )

    def card(self, cardholder: str) -> str:
        """UID of somebody's card at this bench's reader."""
        cards = (*self.school.cards, *self.school.later_cards)
        return next(
            card.uid.hex()
            for card in cards
            if card.cardholder_id == cardholder
            and card.uid_kind is UidKind.ISO14443
            and not card.hot
        )

    def next_payer(self) -> str:
        """A child that was not met before."""
        return next(self._people)

    def account(self, cardholder: str) -> str:
        return next(
            person.account_id or ""
            for person in self.school.people
            if person.cardholder_id == cardholder
        )

    def staff(self, label: str) -> tuple[str, str]:
        """UID and PIN."""
        card = next(card for card in self.school.later_cards if card.label == label)
        return card.uid.hex(), STAFF[label][1]

    def siblings(self) -> tuple[str, str]:
        """Two children of one guardian who are met nowhere else."""
        return next(
            (person.ward_ids[0], person.ward_ids[1])
            for person in reversed(self.school.people)
            if person.category is Category.GUARDIAN and len(person.ward_ids) == 2
        )

    def price(self, product: str) -> int:
        return next(p.price_minor for p in self.school.products if p.product_id == product)

    def _payers(self) -> Iterator[str]:
        spared = {card.cardholder_id for card in self.school.characters.values()}
        spared |= {one.cardholder_id for one in self.school.canteen.entitlements}
        spared |= set(self.siblings())
        held = {
            card.cardholder_id
            for card in self.school.cards
            if card.uid_kind is UidKind.ISO14443 and not card.hot
        }
        for person in self.school.people:
            if person.category is Category.PUPIL and person.cardholder_id in held - spared:
                yield person.cardholder_id

    def _broker(self, folder: Path, log: str) -> Child:
        return Child(self.folder / log, mosquitto_program(), "-c", str(folder / "mosquitto.conf"))

    def _fill_books(self) -> None:
        now_ms = time.time_ns() // 1_000_000
        keys = open_keys(self.city.folder, SITE, utc(now_ms))
        store = Store(self.city.folder / "city.db")
        try:
            seed_school(CityCore(store, keys), self.school, now_ms)
        finally:
            store.close()
