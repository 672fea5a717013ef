"""One school in miniature: starts it step by step, keeps it going, and ends it in order.

The shell of the bench: it holds the processes, the wire between stations and broker, the virtual
readers and the people at the lane, and puts what they show on the board. What a person does on
the page arrives here as a method call.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final

import msgspec

from edge.model import CorruptData, DeviceFault, SetupProblem
from hil.board import Board
from hil.city_client import CityClient
from hil.devices.lane import People
from hil.layout import (
    ACCESS_POINTS,
    ALL_STATIONS,
    LANE_POINTS,
    PROX_SUFFIX,
    READERS,
    SEED,
    SITE,
    STATIONS,
    WIRES,
    Folder,
    Programs,
    StationPlace,
    device_toml,
    readers_of,
    station_of_line,
)
from hil.log_watch import LogWatch
from hil.paper import Paper
from hil.ports import remembered_ports, screens_port
from hil.proxy import Proxy, Wire
from hil.set_up import claim_of, set_up
from hil.stations import Screens, Station
from hil.supervisor import Child, Life, Supervisor, end_in_words
from hil.tray import SHOWN, WORDS, Tray, VirtualReader, on_page, reader_for, uid_of, virtual_reader

READY_S_MAX: Final = 60.0  # Our choice: a city with 1,500 people on a loaded machine takes seconds.
LISTS_S_MAX: Final = 30.0  # Our choice: after it the page says so itself.
STEP_S: Final = 0.1  # Our choice: a dead process is seen at once.
FEED_WAIT_S: Final = 20.0
RETRY_S: Final = 1.0
CARDS_S: Final = 5.0  # Our choice: the city may learn of cards by other ways than the page.
ORDER_VALID_S: Final = 10  # lane.md: an open order expires within seconds.
CITY_WIRE, SCHOOL_WIRE = "city", "school"
BROKERS: Final = {CITY_WIRE: "broker", SCHOOL_WIRE: "broker-school"}
SCHOOL_BROKER_AT: Final = "s0001-till-1"  # On the first till, as a small school has it.

Say = Callable[[str], None]


class Miniature:
    """Made, then `start`ed, then `work`ing until somebody calls `stop`."""

    def __init__(
        self,
        folder: Folder,
        *,
        programs: Programs,
        board: Board,
        say: Say,
        places: tuple[StationPlace, ...] = STATIONS,
    ) -> None:
        self.folder = folder
        self.board = board
        self.people = People()
        self.proxies = {CITY_WIRE: Proxy(target_port=0)}
        if len(places) > len(STATIONS):  # Stations of one kind have something to tell each other.
            self.proxies[SCHOOL_WIRE] = Proxy(target_port=0)
        self.stations = {
            place.name: Station(place.name, place.device_id, folder.runtime(place.name), board)
            for place in places
        }
        self._places = places
        self._readers = readers_of(places)
        self._ats = tuple(dict.fromkeys(reader.at for reader in self._readers))
        self.readers: dict[str, VirtualReader] = {}
        self._programs = programs
        self._say = say
        self._supervisor = Supervisor(folder.logs, died=self._note_death)
        self._watches: list[LogWatch] = []
        self._city = CityClient("http://127.0.0.1:1")
        self._cards: dict[str, dict[str, Any]] = {}
        self._tray = Tray(folder)
        self.paper = Paper(folder, board)
        self._blocked = frozenset({"blocked"})  # hil/world/school.py: hot from the beginning.
        self._tasks: set[asyncio.Task[None]] = set()
        self._short: set[asyncio.Task[None]] = set()  # Moves on their way.

    # ------------------------------------------------------------------------- a life

    async def start(self) -> None:
        """Everything up, in order. `SetupProblem` or `DeviceFault` says what did not come up."""
        self._keep(self._supervise())
        await self._start_brokers()
        self.paper.start()
        city = await self._start_city()
        self.folder.reader("in").parent.mkdir(parents=True, exist_ok=True)
        for reader in self._readers:
            self.readers[reader.name] = virtual_reader(reader, self.folder)
        self._show_switches()
        await asyncio.gather(*(self._provision(place, city) for place in self._places))
        self._say(f"starting the stations: {', '.join(self.stations)}")
        for place in self._places:
            config = ("--config", str(self.folder.device_file(place.name)))
            for process in ("edge", "sync"):
                command = (*getattr(self._programs, process), *config)
                self._start_child(f"{place.name}-{process}", command, rank=2)
        await asyncio.gather(*(self._station_up(place) for place in self._places))
        for station in self.stations.values():
            self._keep(station.watch(self._see_screens))
        await asyncio.gather(*(station.seen() for station in self.stations.values()))
        self._keep(self._follow_feed())
        self._keep(self._follow_cards())
        self._keep(self.paper.follow())

    async def work(self) -> None:
        """Until a part of the bench itself fails; its error is raised."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    def hurry(self) -> None:
        self._supervisor.hurry()

    async def stop(self) -> None:
        """Stations first, so that they can say goodbye, then the city, then the broker."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if killed := await self._supervisor.stop():
            self._say(f"had to be killed: {', '.join(killed)}")
        for proxy in self.proxies.values():
            await proxy.close()
        for reader in self.readers.values():
            reader.close()
        self.paper.close()

    # ------------------------------------------------------------------------- what the page does

    async def tap(self, label: str, at: str, *, wait: bool = False) -> dict[str, Any]:
        """Show a card to a reader. With `wait` the answer holds the screen it led to."""
        self._check_at(at)
        place = reader_for(label, at)
        reader = self.readers[place.name]
        show = partial(self._tray.show, label, reader)
        if place.driver == "serial":
            show = partial(reader.tap, uid_of(label, place.frame, self._cards))
        station, screen = self.stations[place.station], place.screen
        before = station.screen_at(screen)
        try:
            if not self.folder.reader(place.name).is_symlink():
                raise OSError(f'the reader "{at}" is unplugged; plug it in first')
            await asyncio.to_thread(show)
        except (TimeoutError, OSError) as error:
            raise DeviceFault(str(error)) from error
        if not wait:
            return {}
        return {"screen": await station.answer_at(screen, before) or station.screen_at(screen)}

    def _check_at(self, at: str) -> None:
        if at not in self._ats:
            known = any(reader.at == at for reader in READERS)
            more = "; it comes with `make run STATIONS=all`" if known else ""
            raise DeviceFault(f'there is no reader "{at}"; there are {", ".join(self._ats)}{more}')

    def switch(self, wire: Wire, of: str = CITY_WIRE) -> None:
        """The wire to the city, or the one between the school's own stations."""
        if of not in self.proxies:
            more = "" if of != SCHOOL_WIRE else "; it comes with `make run STATIONS=all`"
            raise DeviceFault(f'there is no network "{of}" here{more}')
        self.proxies[of].switch(wire)
        self._show_switches()
        if (
            wire is Wire.ON and of == CITY_WIRE
        ):  # No cable was plugged in that a station could notice by itself.
            for station in self.stations.values():
                self._keep_short(self._try_now(station))

    async def _try_now(self, station: Station) -> None:
        with contextlib.suppress(DeviceFault, CorruptData):  # Away: it connects when it starts.
            await station.ask("sync", {"request": "connect"})

    def walk(self, on: bool) -> None:
        self.people.walking = on
        self._show_switches()

    def plug(self, at: str, on: bool) -> None:
        """Pull a reader's plug, or put it back."""
        self._check_at(at)
        for reader in (self.readers[place.name] for place in self._readers if place.at == at):
            if on:
                reader.replug()
            else:
                reader.unplug()
        self._show_switches()

    async def wire(self, line: str, on: bool) -> None:
        """Move one of a lane's wires: the fire alarm, the housing, the officer's button."""
        here = [wire for wire in WIRES if station_of_line(wire) in self.stations]
        if line not in here:
            raise DeviceFault(f'there is no wire "{line}"; there are {", ".join(here)}')
        request = {"request": "move", "line": line, "active": on}
        await self.stations[station_of_line(line)].ask("edge", request)

    async def basket(self, lines: list[list[Any]]) -> dict[str, Any]:
        answer = await self.stations["till"].ask("edge", {"request": "basket", "lines": lines})
        return {"total_minor": answer.get("total_minor")}

    async def order(self, at: str, order: str) -> None:
        """The city tells the entrance to do something now."""
        if at not in ACCESS_POINTS:
            raise DeviceFault(f'there is no direction "{at}"; there are in and out')
        await self._city.post(
            "/orders",
            {
                "device": self.stations["entrance"].device,
                "order": order,
                "access_point": ACCESS_POINTS[at],
                "valid_s": ORDER_VALID_S,
            },
        )

    async def block(self, label: str, *, on: bool) -> None:
        """The city blocks a card and the fob of the same name, or takes that back."""
        if label not in self._cards:
            raise DeviceFault(f'no card is called "{label}"')
        for name in (label, label + PROX_SUFFIX):
            if name in self._cards:
                await self._city.post("/block" if on else "/unblock", {"card": name})
        self._blocked = self._blocked | {label} if on else self._blocked - {label}
        await self._look_at_cards()

    def kill(self, name: str) -> None:
        """End one process the hard way, to see it come back."""
        names = [held.child.name for held in self._supervisor.all()]
        if name not in names:
            raise DeviceFault(f'there is no process "{name}"; there are {", ".join(names)}')
        held = self._supervisor[name]
        if held.life is Life.RUNNING and held.process.poll() is None:
            os.kill(held.process.pid, signal.SIGKILL)

    # ------------------------------------------------------------------------- starting

    async def _start_brokers(self) -> None:
        """The city's, and with it the school's own where there is one."""
        self._say("starting the broker")
        memory = remembered_ports(self.folder.memory)
        for of in self.proxies:
            self._start_child(BROKERS[of], self._programs.broker, rank=0)
        for of, proxy in self.proxies.items():
            first = await self._first_line(BROKERS[of])
            proxy.target_port = int(first["port"])
            again = (*self._programs.broker, "--port", str(first["port"]))
            self._supervisor.replace_command(BROKERS[of], again)
            try:
                await proxy.start(memory.get(f"{of}_port", 0))
            except OSError:
                await proxy.start()  # Taken since the last run: the stations are told below.
        memory |= {f"{of}_port": proxy.port for of, proxy in self.proxies.items()}
        self.folder.memory.write_bytes(msgspec.json.encode(memory))

    async def _start_city(self) -> str:
        self._say("starting the city with its school")
        school: tuple[str, ...] = ()
        if own := self.proxies.get(SCHOOL_WIRE):
            school = ("--peer-broker", f"{SCHOOL_BROKER_AT}=mqtt://127.0.0.1:{own.port}")

        def command(http: str) -> tuple[str, ...]:
            return (
                *self._programs.city,
                *("--folder", str(self.folder.city)),
                *("--broker", f"mqtt://127.0.0.1:{self.proxies[CITY_WIRE].target_port}"),
                *("--http", http, "--seed", str(SEED), "--site", SITE, "--canteen"),
                *("--endpoint", self._endpoint),
                *(part for place in ALL_STATIONS for part in ("--claim", claim_of(place))),
                *school,
            )

        self._start_child("city", command("127.0.0.1:0"), rank=1)
        base = str((await self._first_line("city"))["http"])
        self._supervisor.replace_command("city", command(base.removeprefix("http://")))
        self._city = CityClient(base)
        await self._look_at_cards()
        return base

    async def _provision(self, place: StationPlace, city: str) -> None:
        """As a technician would; what is there and still fits is left alone."""
        file = self.folder.device_file(place.name)
        port = screens_port(file)
        ports = {"screens_port": port, "printer_port": self.paper.port}
        wanted = device_toml(place, self.folder, endpoint=self._endpoint, **ports)
        pages = self.board.part("pages") or {}
        self.board.put("pages", pages | {place.name: f"http://127.0.0.1:{port}/"})
        await set_up(
            place, self.folder, self._programs.provision, city=city, wanted=wanted, say=self._say
        )

    async def _station_up(self, place: StationPlace) -> None:
        station = self.stations[place.name]
        for process in ("edge", "sync"):
            await self._until(f"{place.name}-{process}", partial(station.answers, process))

        until_s = time.monotonic() + LISTS_S_MAX
        while not await station.complete(place.scopes):
            if time.monotonic() > until_s:
                self._say(f"{place.name}: a list or a reader is missing yet; the page shows it")
                return
            await asyncio.sleep(STEP_S)

    def _start_child(self, name: str, command: tuple[str, ...], *, rank: int) -> None:
        def show(level: str, words: str) -> None:
            self.board.add_news(name, level, words)
            self._say(f"{name}: {words}")

        self._watches.append(LogWatch(self._supervisor.log_path(name), show))
        self._supervisor.start(Child(name=name, command=command, rank=rank))
        self._show_processes()

    async def _first_line(self, name: str) -> dict[str, Any]:
        async def ready() -> bool:
            return (self._supervisor.first_line(name) or {}).get("ready") is True

        await self._until(name, ready)
        line = self._supervisor.first_line(name)
        assert line is not None
        return line

    async def _until(self, name: str, ready: Callable[[], Awaitable[bool]]) -> None:
        """Wait for a child to be ready; its death or its silence is a `SetupProblem`."""
        until_s = time.monotonic() + READY_S_MAX
        while not await ready():
            held = self._supervisor[name]
            end = "".join(f"\n  {line}" for line in self._supervisor.last_lines(name))
            if held.exit_code is not None:
                raise SetupProblem(
                    f"{name} {end_in_words(held.exit_code)} while starting; its log "
                    f"({self._supervisor.log_path(name)}) ends:{end}"
                )
            if time.monotonic() > until_s:
                raise SetupProblem(
                    f"{name} is not ready after {READY_S_MAX:.0f} s; its log "
                    f"({self._supervisor.log_path(name)}) ends:{end}"
                )
            await asyncio.sleep(STEP_S / 2)

    @property
    def _endpoint(self) -> str:
        """The broker as the stations are told it: through the switch."""
        return f"mqtt://127.0.0.1:{self.proxies[CITY_WIRE].port}"

    # ------------------------------------------------------------------------- in the background

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.create_task(work))

    async def _supervise(self) -> None:
        while True:
            now_s = time.monotonic()
            if self._supervisor.step(now_s):
                self._show_processes()
            for watch in self._watches:
                watch.look(now_s)
            self._supervisor.trim_logs()
            await asyncio.sleep(STEP_S)

    def _see_screens(self, screens: Screens) -> None:
        """The people at a lane look at every screen; those of other places mean nothing to them."""
        with_lane = [screen for screen in screens if screen.get("access_point") in LANE_POINTS]
        for move in self.people.step(with_lane, now_s=time.monotonic()):
            request = {"request": "move", "line": move.line, "active": move.active}
            self._keep_short(self._move(request))

    async def _move(self, request: dict[str, Any]) -> None:
        try:
            station = self.stations[station_of_line(request["line"])]
            await station.ask("edge", request)
        except DeviceFault as error:
            self.board.add_news("lane", "warning", str(error))

    def _keep_short(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._short.add(task)
        task.add_done_callback(self._short.discard)

    async def _follow_feed(self) -> None:
        after = 0
        while True:
            try:
                messages = await self._city.get("/feed", wait_s=FEED_WAIT_S, after=after)
            except DeviceFault:
                await asyncio.sleep(RETRY_S)
                continue
            for message in messages:
                after = max(after, int(message["id"]))
                self.board.add_message(message)

    async def _follow_cards(self) -> None:
        while True:
            await asyncio.sleep(CARDS_S)
            with contextlib.suppress(DeviceFault):  # The city is away: the processes show it.
                await self._look_at_cards()

    async def _look_at_cards(self) -> None:
        found = await self._city.get("/cards")
        self._cards = {str(card["label"]): card for card in found if card.get("label")}
        plain = [n for n in self._cards if n not in WORDS and not n.endswith(PROX_SUFFIX)]
        shown = [on_page(label, self._cards, self._blocked) for label in (*plain, *SHOWN)]
        self.board.put("cards", shown)

    # ------------------------------------------------------------------------- on the board

    def _show_switches(self) -> None:
        plugged = {at: self.folder.reader(at).is_symlink() for at in self._ats}
        self.board.put("wire", self.proxies[CITY_WIRE].wire.value)
        if own := self.proxies.get(SCHOOL_WIRE):
            self.board.put("school_wire", own.wire.value)
        self.board.put("walk", self.people.walking)
        self.board.put("plugged", plugged)

    def _show_processes(self) -> None:
        self.board.put("processes", self._supervisor.shown())

    def _note_death(self, name: str, code: int, wait_s: float) -> None:
        words = f"{end_in_words(code)}; started again in {wait_s:.1f} s"
        self.board.add_news(name, "error", words)
        self._say(f"{name} {words}")
        for line in self._supervisor.last_lines(name, 3):
            self._say(f"  {line}")
