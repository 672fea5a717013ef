"""Two doors of one pre-school as real processes: the city, its broker with mutual TLS, the school's
own broker, and for each door `edge` and `sync`. Made by `moskvenok provision` and `moskvenok site`;
cards and bodies come through the stations' own sockets.

The north door is the guardians' with everything a lane can have; the south door is another entrance
of the same zone. Both hear each other over the school's broker.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from edge.control import ask
from edge.messages import AnyFact
from edge.model import Category, DeviceFault, PassbackMode, UidKind
from hil.city.intake import CityCore
from hil.city.keys import open_keys, utc
from hil.city.seed import seed_school
from hil.city.store import Store
from hil.world.canteen import STAFF
from hil.world.school import ALWAYS, ZONE, Person, School, make_school
from tests.process.brokers import free_port, mosquitto_program
from tests.process.school import SEED, SITE, Child, City, Station
from tests.process.two_tills import noon_zone

NORTH, SOUTH = f"{SITE}-north", f"{SITE}-south"
SCOPES: Final = ("people", "settings")
AGAIN_S: Final = 3.2  # Past the rule that the same card again within 3 s is no new presentation.
PATIENCE_S: Final = 150.0  # Our choice: a crowded machine; an idle one answers in milliseconds.
LOOK_S: Final = 0.05


def until(is_so: Callable[[], object], words: Callable[[], str]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline_s, f"not within {PATIENCE_S:.0f} s: {words()}"
        time.sleep(LOOK_S)


def lane(name: str) -> str:
    return (
        f"{name}:mock:fire=5,hold=24,tamper=6,"
        f"{name}-in=in:{ZONE}:relay=17:rotation=27:wait_ms_max=30000,"
        f"{name}-out=out:{ZONE}:relay=22:rotation=23:wait_ms_max=30000"
    )


class Entrance(Station):
    """One door with both its processes, and the hands of everybody who uses it."""

    def __init__(self, folder: Path, device: str) -> None:
        super().__init__(folder, device)
        self.name = device.removeprefix(f"{SITE}-")
        self._shown_s: dict[str, float] = {}

    def start(self) -> None:
        self.sync.start()
        self.edge.start()

    def stop(self) -> None:
        self.edge.stop()
        self.sync.stop()

    def tell(self, request: str, **more: object) -> dict[str, Any]:
        """An answer of edge; `ok` may be false."""
        found: list[dict[str, Any]] = []

        def asked() -> bool:
            try:
                found.append(ask(self.folder / "run" / "edge.sock", {"request": request, **more}))
            except DeviceFault:
                return False
            return True

        until(asked, self.last_words)
        return found[0]

    def seen(self) -> dict[str, Any]:
        return self.tell("screen")

    def shown(self, way: str = "in") -> dict[str, Any]:
        point = f"{self.name}-{way}"
        (screen,) = [one for one in self.seen()["screens"] if one["access_point"] == point]
        assert isinstance(screen, dict)
        return screen

    def tap(self, uid: str, *, way: str = "in") -> AnyFact:
        """A new presentation; its decision, once that is on disk."""
        time.sleep(max(0.0, self._shown_s.get(uid, 0.0) + AGAIN_S - time.monotonic()))
        before = len(self.facts("access"))
        assert self.tell("tap", reader=f"r-{way}", uid=uid)["ok"]
        self._shown_s[uid] = time.monotonic()
        until(lambda: len(self.facts("access")) > before, self.last_words)
        decided: AnyFact = self.facts("access")[-1]
        return decided

    def walk(self, way: str = "in") -> None:
        before = len(self.facts("passage"))
        for active in (True, False):
            assert self.tell("move", line=f"{self.name}-{way}.rotation", active=active)["ok"]
        until(lambda: len(self.facts("passage")) > before, self.last_words)

    def wire(self, line: str, active: bool) -> None:
        assert self.tell("move", line=f"{self.name}.{line}", active=active)["ok"]

    def sign_in(self, uid: str, pin: str) -> None:
        """The officer's own card and PIN."""
        assert self.tell("sign_in_start", role="officer")["ok"]
        assert self.tell("tap", reader="r-in", uid=uid)["ok"]
        assert self.tell("sign_in_pin", pin=pin)["ok"]
        until(lambda: self.seen()["officer"]["signed_in"], self.last_words)

    def facts(self, *kinds: str) -> list[Any]:
        """Of `main`, of these kinds, if any are named."""
        found = self.recorded()
        return [f for f in found if not kinds or type(f).__struct_config__.tag in kinds]

    def has_lists(self) -> bool:
        status = self.ask("status")
        wanted = {f"{SITE}/{scope}" for scope in SCOPES}
        return status is not None and status["clock_trusted"] and wanted <= set(status["lists"])


class TwoDoors:
    """All of it; `stack` ends what was started, last first."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._stack = stack
        self.folder = folder
        self.city_port, self.school_port = free_port(), free_port()
        zone = noon_zone()
        self.school = day_school(zone)
        broker = f"mqtts://127.0.0.1:{self.city_port}"
        self.city = City(
            folder,
            broker,
            *("--mosquitto", str(folder / "broker")),
            *("--peer-broker", f"{NORTH}=mqtts://127.0.0.1:{self.school_port}"),
        )
        city_broker = self._broker(folder / "broker", "city-broker.log")
        self.north = Entrance(folder / "north", NORTH)
        self.south = Entrance(folder / "south", SOUTH)
        self.stations = (self.north, self.south)
        self._fill_books()
        self.begin(self.city)
        for station, what in ((self.north, "preschool"), (self.south, "entrance")):
            name = station.name
            station.provision(
                self.city,
                *("--reader", f"r-in:serial:{folder}/no-tty-in:hex_line:access_point={name}-in"),
                *("--reader", f"r-out:serial:{folder}/no-tty-out:hex_line:access_point={name}-out"),
                *("--lane", lane(name), "--time-zone", zone, "--simulated-taps"),
                *("--runtime", str(station.folder / "run")),
                station=what,
            )
        done = self.north.command(
            "site", "--address", "127.0.0.1", "--port", str(self.school_port), "--json"
        )
        assert done.returncode == 0, done.stdout + done.stderr
        self.begin(city_broker)
        self.begin(self._broker(self.north.folder / "broker", "school-broker.log"))
        for station in self.stations:
            stack.callback(station.stop)
            station.start()

    def begin(self, child: Child) -> None:
        child.start()
        self._stack.callback(child.stop)

    def words(self) -> str:
        said = "\n".join(station.last_words() for station in self.stations)
        return f"{said}\n{self.city.last_words()}"

    def until(self, is_so: Callable[[], object]) -> None:
        until(is_so, self.words)

    def together(self) -> bool:
        """Both have their lists and the time, and hear each other."""
        return (
            all(station.has_lists() for station in self.stations)
            and self.north.hears(SOUTH)
            and self.south.hears(NORTH)
            and all(
                (station.ask("status") or {}).get("alone") is False for station in self.stations
            )
        )

    def card(self, cardholder: str) -> str:
        """UID of somebody's card."""
        return next(
            card.uid.hex()
            for card in (*self.school.cards, *self.school.later_cards)
            if card.cardholder_id == cardholder
            and card.uid_kind is UidKind.ISO14443
            and not card.hot
        )

    def officer(self) -> tuple[str, str]:
        """UID and PIN."""
        card = next(card for card in self.school.later_cards if card.label == "officer")
        return card.uid.hex(), STAFF["officer"][1]

    def of_category(self, category: Category) -> list[Person]:
        """People with an ordinary card and nothing special about them."""
        held = {
            card.cardholder_id
            for card in self.school.cards
            if card.uid_kind is UidKind.ISO14443 and not card.hot and not card.profile
        }
        named = {card.cardholder_id for card in self.school.characters.values()}
        return [
            person
            for person in self.school.people
            if person.category is category
            and person.cardholder_id in held - named
            and not person.barred_ward_ids
        ]

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


def day_school(zone: str) -> School:
    """Open all day; a second passage in the same direction goes to the officer."""
    school = make_school(SEED, SITE, pupils=60)
    settings = replace(
        school.settings,
        time_zone=zone,
        passback_mode=PassbackMode.HARD,
    )
    people = tuple(replace(person, rights=((ZONE, ALWAYS),)) for person in school.people)
    return replace(school, settings=settings, people=people)
