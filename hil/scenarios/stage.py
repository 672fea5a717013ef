"""The real agent with its real files, in virtual time: what a scenario happens to.

Reader, wires, clock, disk and the PIN's worker are in the script's hand; everything between them
is the product's. Time moves when a step says so, and then in the steps the agent asks for.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from edge import health, requests
from edge.agent import Agent, Parts
from edge.clock import Anchor, Clock
from edge.control import Request
from edge.messages import AnyFact, Order, PeerBeat, Stream, decode_fact, decode_sides, encode_json
from edge.model import DeviceFault, UidKind
from edge.offline_cache import marks, outbox, peer_own, peers
from edge.offline_cache.lookup import Cache
from edge.offline_cache.record import Journal, open_journal
from edge.offline_cache.store import FileKind, Writer
from edge.readers.dialogue import Evidence, Tier
from edge.readers.reader import (
    CardRead,
    LinkDown,
    LinkUp,
    ReadFailed,
    ReadFailure,
)
from edge.trust import FileKeyStore
from edge.turnstile.relay import open_lines
from edge.wiring import wiring_of
from hil.scenarios.device import WALKING, HandReader, PinsAtOnce, Wires, make_folder
from hil.scenarios.script import (
    Script,
    Step,
    changed_people,
    changed_site,
    duration_ms,
)
from hil.scenarios.town import SITE, Town, uid_of

START_MS: Final = 1_000_000  # On the monotonic clock: the device has been on for a while.
BOOT, BOOT_BEFORE = "b00t", "b0ot"
TURN_MS: Final = 300  # hil/devices/lane.py: the arm's sensor is covered so long.
SETTLE_MS: Final = 1_100  # Past the agent's look of every second.
JUMP_MS: Final = 10 * 60_000  # Our choice: longer waits are one jump; nobody is at the lane.
TICK_MS: Final = 1_000
HEARD_MS: Final = 30_000


class Door:
    """One station of the scenario."""

    def __init__(self, script: Script, town: Town, folder: Path, device: str, time: list[int]):
        self.script, self.town, self.device = script, town, device
        self.time = time
        self.settings = make_folder(script, folder, device)
        self.clock = Clock(
            ZoneInfo(script.zone), boot=BOOT, mono_ms=lambda: time[0], wall_ms=lambda: 0, ntp=bool
        )
        self.shown = 0  # Facts looked at so far.
        self.orders = 0
        self._payload = b""  # Of the last order.
        self._now_utc_ms = town.utc_s(script.local) * 1000
        self._writer = Writer(self.settings.sync_path, FileKind.SYNC)
        self._set_time(self._now_utc_ms, trusted=script.clock_trusted)
        if script.lists_held:
            for scope in town.scopes:
                self.install(scope, issued_ms=self._now_utc_ms - script.list_age_ms)
        self._start(frozenset(script.active))

    # --------------------------------------------------------------------- what is done

    def step(self, ms: int = 0) -> None:
        self.time[0] += ms
        self.agent.step(self.clock.moment())

    def tap(self, step: Step) -> None:
        reader = step.given.get("at", "in")
        counter = step.given.get("counter")
        tier = step.given.get("tier", 1)
        self.readers[reader].waiting.append(
            CardRead(
                uid=uid_of(step.what),
                at_ms=self.time[0] - step.ms("age", 0),
                kind=UidKind.ISO14443,
                tier=tier,
                reader_id=f"r-{reader}",
                evidence=None
                if counter is None
                else Evidence(uid=uid_of(step.what), tier=Tier(tier), counter=counter),
            )
        )
        self.step()

    def fail_read(self, step: Step) -> None:
        reader = step.given.get("at", "in")
        failure = ReadFailure(step.what)
        self.readers[reader].waiting.append(
            ReadFailed(at_ms=self.time[0], failure=failure, reader_id=f"r-{reader}")
        )
        self.step()

    def move(self, line: str, active: bool) -> None:
        self.agent.move(line, active)
        self.step()

    def reader(self, name: str, up: bool) -> None:
        gone = LinkDown(reader_id=f"r-{name}", reason="unplugged")
        self.readers[name].waiting.append(LinkUp(reader_id=f"r-{name}") if up else gone)
        self.step()
        self.step(SETTLE_MS)

    def ask(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        request = Request(body={"request": name, **body})
        requests.answer(self.agent, request, self.clock.moment())
        self.step()
        answer = msgspec.json.decode(request.wait())
        assert isinstance(answer, dict)
        return answer

    def order(self, step: Step) -> None:
        """As sync leaves a verified order in the inbox."""
        now_ms = self.clock.moment().wall_ms
        again = step.given.get("replay", False)
        self.orders += 0 if again else 1
        start_ms = now_ms + step.ms("after", 0)
        point = step.given.get("point")
        order = Order(
            device=self.device,
            counter=self.orders,
            order=step.what,
            not_before_utc_ms=start_ms,
            not_after_utc_ms=start_ms + step.ms("valid", 10_000),
            access_point=point,
        )
        self._payload = self._payload if again else encode_json(order)
        marks.take_order(self._writer, self.orders, self._payload, self.clock.moment())
        self.step()

    def change(self, step: Step) -> None:
        """New versions of the lists, in force at the next look."""
        people, site = changed_people(step), changed_site(step)
        self.town.change(people, site)
        self.town.block(step.what.get("hot", {}))
        for scope in self.town.scopes:
            self.install(scope, issued_ms=self.clock.moment().wall_ms)
        self.step(SETTLE_MS)

    def city_time(self, local: str) -> None:
        self._set_time(self.town.utc_s(local) * 1000, trusted=True)
        self.step(SETTLE_MS)

    def disk(self, works: bool) -> None:
        if works:
            self.agent.parts.journal.__dict__.pop("record", None)
            self.step()
            return

        def refuse(*_: object, **__: object) -> None:
            raise DeviceFault("journal.db: disk full")

        self.agent.parts.journal.__dict__["record"] = refuse

    def restart(self, how: str, away_ms: int) -> None:
        """Ended in order, or killed: then its lines fall and no more happens."""
        if how == "kill":
            self.wires_close()
            self.agent.staff.close()
            self.agent.parts.cache.close()
            self.agent.parts.journal.close()
        else:
            self.agent.close()
        self.time[0] += away_ms
        self._start(frozenset())

    def hear(self, other: Door) -> None:
        """All that the other recorded, as this one's sync keeps it; and that it is heard."""
        journal = other.agent.parts.journal
        db = journal.writer.db
        report = peer_own.own_report(db, store="s", station=self.script.station)
        beat = PeerBeat(
            device=other.device,
            site=SITE,
            session="s",
            counter=1,
            nonce="n",
            echo={},
            lives=report.lives,
            store="s",
        )
        with self._writer.transaction() as mine:
            peers.store_report(mine, other.device, beat)
            batch = peer_own.side_batch(db, other.device, SITE, journal.epoch, 0)
            if batch is not None:
                header, facts = decode_sides(batch[0])
                peers.take_sides(mine, other.device, header.epoch, header.up_to, facts)
            peers.store_heard(mine, {other.device: self.time[0] + HEARD_MS}, BOOT)

    # --------------------------------------------------------------------- what is seen

    def facts(self) -> list[AnyFact]:
        """All of the newest life, the chain checked."""
        db = self.agent.parts.journal.writer.db
        life = outbox.lives(db, Stream.MAIN)[-1]
        problem = outbox.chain_problem(db, life)
        if problem:
            raise AssertionError(f"the chain is broken: {problem}")
        bodies = outbox.next_facts(db, life.life, 1, rows_max=10_000, bytes_max=1 << 26)
        return [decode_fact(body) for body in bodies]

    def screen(self) -> dict[str, Any]:
        return health.screens(self.agent, self.clock.moment())

    def lit(self, line_id: str) -> bool:
        assert self.wires is not None
        return self.wires.is_active(line_id)

    def opened(self) -> list[str]:
        """Relays driven since the last call."""
        if self.wires is None:
            return []
        opened, self.wires.opened = self.wires.opened, []
        return opened

    # -------------------------------------------------------------------------- inside

    def install(self, scope: str, *, issued_ms: int) -> None:
        moment = self.clock.moment()
        if not self.script.lists_this_boot:
            moment = replace(moment, boot=BOOT_BEFORE)
        self.town.install(self.settings, self._writer, scope, moment, issued_ms)

    def _set_time(self, utc_ms: int, *, trusted: bool) -> None:
        moment = self.clock.moment()
        if not trusted:
            moment = replace(moment, boot=BOOT_BEFORE)
            self.clock.floor_ms = utc_ms
        else:
            self.clock.anchor = Anchor(boot=BOOT, mono_ms=moment.mono_ms, utc_ms=utc_ms)
        marks.set_anchor(self._writer, moment, utc_ms)

    def _start(self, active: frozenset[str]) -> None:
        settings, moment = self.settings, self.clock.moment()
        journal: Journal = open_journal(
            settings.journal_path,
            device=self.device,
            site=SITE,
            station=settings.station,
            machine="bench",
            moment=moment,
        )
        wiring = wiring_of(settings)
        self.wires: Wires | None = None
        if wiring is not None:
            lines = open_lines(wiring, now_ms=self.clock.mono_ms, active_at_start=active)
            self.wires = Wires(lines, self.time)
        self.readers = {name: HandReader(f"r-{name}") for name in WALKING}
        point = "" if self.script.lane == "none" else None
        parts = Parts(
            settings=settings,
            clock=self.clock,
            journal=journal,
            cache=Cache(
                settings.folders.state, device=self.device, site=SITE, journal=journal.writer.db
            ),
            keys=FileKeyStore(settings.key_path),
            readers={
                reader.reader_id: (reader, name if point is None else point)
                for name, reader in self.readers.items()
            },
            lines=self.wires,
            ring_sync=lambda: None,
            move_line=None if self.wires is None else self.wires.move,
            pins=PinsAtOnce(),
        )
        self.agent = Agent(parts, moment)
        self.step()
        self.step(SETTLE_MS)

    def wires_close(self) -> None:
        if self.wires is not None:
            self.wires.close()

    def close(self) -> None:
        self.agent.close()
        self._writer.close()


class VirtualStage:
    """Up to two stations of one school, in one time."""

    def __init__(self, script: Script, folder: Path) -> None:
        self._time = [START_MS]
        names = {"one": "s0001-one", "two": "s0001-two"}
        devices = dict(list(names.items())[: script.lanes])
        roster = dict.fromkeys(devices.values(), script.station)
        self.doors: dict[str, Door] = {}
        for name, device in devices.items():
            town = Town(script, roster)
            self.doors[name] = Door(script, town, folder / name, device, self._time)

    def act(self, step: Step) -> dict[str, Any] | None:
        """Make it happen; a request's answer, where it is one."""
        door = self.doors[step.lane]
        match step.verb:
            case "walk":
                for active in (True, False):
                    door.move(f"{step.what}.rotation", active)
                    door.step(TURN_MS)
            case "move":
                door.move(step.what, step.given.get("active", True))
            case "lose":
                assert door.wires is not None
                door.wires.lost.add(step.what)
            case "wait":
                self._wait(duration_ms(step.what))
            case "ask":
                return door.ask(step.what, filled(step.given.get("with", {}), door.screen()))
            case "sign_in":
                return self._sign_in(door, step)
            case "disk":
                door.disk(step.what == "writes")
            case "wire":
                assert door.wires is not None
                (door.wires.broken.discard if step.given.get("works") else door.wires.broken.add)(
                    step.what
                )
                door.step(SETTLE_MS)
            case "reader":
                door.reader(step.what, step.given.get("up", False))
            case "restart":
                door.restart(step.what, step.ms("away", 0))
            case "hear":
                for one in self.doors.values():
                    for other in self.doors.values():
                        if one is not other:
                            one.hear(other)
                self._wait(SETTLE_MS)
            case "city_time":
                door.city_time(step.what)
            case verb:
                {
                    "tap": door.tap,
                    "fail_read": door.fail_read,
                    "order": door.order,
                    "change": door.change,
                }[verb](step)
        return None

    def _sign_in(self, door: Door, step: Step) -> dict[str, Any]:
        started = door.ask("sign_in_start", {"role": "officer"})
        if not started["ok"]:
            return started
        door.tap(Step(number=step.number, verb="tap", given={"tap": step.what}, expected={}))
        answer = door.ask("sign_in_pin", {"pin": step.given.get("pin", "")})
        door.step(100)
        return answer

    def _wait(self, ms: int) -> None:
        """As the agent's own loop: at its due times, and every second."""
        until_ms = self._time[0] + ms
        if ms > JUMP_MS:
            self._time[0] = until_ms
        while self._time[0] < until_ms:
            now_ms = self._time[0]
            due = [door.agent.due_ms() for door in self.doors.values()]
            wanted = [max(now_ms + 1, at_ms) for at_ms in due if at_ms is not None]
            self._time[0] = min([until_ms, now_ms + TICK_MS, *wanted])
            for door in self.doors.values():
                door.step()
        for door in self.doors.values():
            door.step()

    def close(self) -> None:
        for door in self.doors.values():
            door.close()


@contextmanager
def virtual_stage(script: Script) -> Iterator[VirtualStage]:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="scenario-"))
        stage = VirtualStage(script, Path(folder))
        stack.callback(stage.close)
        yield stage


def filled(body: Mapping[str, Any], screen: Mapping[str, Any]) -> dict[str, Any]:
    """`@` and a path stand for what is on the screens now: `@officer.referrals.0.referral`."""
    return {
        key: look(screen, value[1:]) if isinstance(value, str) and value.startswith("@") else value
        for key, value in body.items()
    }


def look(screen: Any, path: str) -> Any:
    """What stands at a path of the screen answer; `in.word` is the screen of one direction, and
    `…` behind a list's name with `#` is how many it has. None: nothing is there."""
    parts = path.split(".")
    if parts[0] in WALKING:
        found = [one for one in screen["screens"] if one["access_point"] == parts[0]]
        screen, parts = (found[0] if found else {}), parts[1:]
    for part in parts:
        if part == "#":
            return len(screen or ())
        if isinstance(screen, list):
            place = int(part)
            screen = screen[place] if place < len(screen) else None
        elif isinstance(screen, dict):
            screen = screen.get(part)
        else:
            return None
    return screen
