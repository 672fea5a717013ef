"""One station of the miniature as seen from outside: asked through its control sockets.

Nothing here is special to the bench: what `moskvenok status` asks on a device, this asks several
times a second and puts on the board.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from edge import control
from edge.model import CorruptData, DeviceFault
from hil.board import Board, steady_ms

SCREEN_S: Final = 0.1  # Our choice: ten looks a second; a person sees the answer at once.
STATUS_S: Final = 1.0
ASK_S_MAX: Final = 2.0  # Our choice: an agent answers within a step, a stuck one not at all.
CHANGE_S_MAX: Final = 3.0  # Our choice: how long a tap waits for the screen it makes.

AT_REST: Final = ("idle", "open", None)  # A screen that waits for somebody.

Screens = list[dict[str, Any]]


class Station:
    """`name` is its word on the board; `runtime` is where its sockets are."""

    def __init__(self, name: str, device: str, runtime: Path, board: Board) -> None:
        self.name = name
        self.device = device
        self.screens: Screens = []
        self._seen: Any = None
        self._dates: dict[str, tuple[dict[str, Any], int]] = {}
        self.menu: list[dict[str, Any]] = []
        self._menu_version: Any = None
        self._runtime = runtime
        self._board = board
        self._shown: dict[str, Any] = {"device": device, "answers": False, "since_ms": _now_ms()}
        self._edge: dict[str, Any] = {}
        self._sync: dict[str, Any] = {}
        self._fresh_ms: int | None = None
        self._looked = asyncio.Event()

    async def ask(self, process: str, body: dict[str, Any]) -> dict[str, Any]:
        """One request to a process of the station. `DeviceFault` when it does not answer or
        refuses."""
        path = self._runtime / f"{process}.sock"
        answer = await asyncio.to_thread(control.ask, path, body, timeout_s=ASK_S_MAX)
        if answer.get("ok") is not True:
            raise DeviceFault(f"{self.name}: {answer.get('error', 'refused')}")
        return answer

    async def answers(self, process: str) -> bool:
        """Whether that process is up."""
        try:
            await self.ask(process, {"request": "status"})
        except (DeviceFault, CorruptData):
            return False
        return True

    async def complete(self, scopes: int) -> bool:
        """Whether it holds so many lists and all its readers are up."""
        edge, sync = await self._status("edge"), await self._status("sync")
        readers = edge.get("readers", [])
        up = bool(readers) and all(reader["up"] for reader in readers)
        return up and len(sync.get("held", {})) >= scopes

    async def watch(self, on_screens: Callable[[Screens], None]) -> None:
        """Look for ever; `on_screens` gets every look, for whoever stands before the screen."""
        status_due_s = 0.0
        while True:
            try:
                await self._look_at_screen()
            except (DeviceFault, CorruptData, KeyError, TypeError):
                self._note_silence()
            on_screens(self.screens)
            if time.monotonic() >= status_due_s:
                await self._look_at_status()
                status_due_s = time.monotonic() + STATUS_S
            self._looked.set()
            self._looked = asyncio.Event()
            await asyncio.sleep(SCREEN_S)

    def screen_at(self, place: str) -> dict[str, Any]:
        """The newest screen of an access point, or of `till`."""
        return self._dates.get(place, ({}, 0))[0]

    async def answer_at(self, place: str, before: dict[str, Any]) -> dict[str, Any] | None:
        """The screen there once it is another than `before` and not at rest; None when it is not
        in time, as when the same card is shown twice."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CHANGE_S_MAX):
                while True:
                    screen = self.screen_at(place)
                    if screen != before and screen.get("state") not in AT_REST:
                        return screen
                    await self._looked.wait()
        return None

    async def seen(self) -> None:
        """Until it was looked at for the first time."""
        while not self.screens:
            await self._looked.wait()

    async def _look_at_screen(self) -> None:
        answer = await self.ask("edge", {"request": "screen"})
        if not self._shown["answers"]:
            self._shown |= {"answers": True, "since_ms": _now_ms()}
        seen = (answer.get("number"), answer["screens"])
        if seen == self._seen:
            return
        self._seen = seen
        self.screens = answer["screens"]
        self._board.put(f"screens_{self.name}", [self._dated(screen) for screen in self.screens])

    def _dated(self, screen: dict[str, Any]) -> dict[str, Any]:
        """With the moment since which it says what it says."""
        place = str(screen.get("access_point", "till"))
        before = self._dates.get(place)
        if before is None or before[0] != screen:
            before = self._dates[place] = (screen, _now_ms())
        return {"at_ms": before[1], **screen}

    def _note_silence(self) -> None:
        if self._shown["answers"]:
            self._shown |= {"answers": False, "since_ms": _now_ms()}
            self._put()

    async def _look_at_status(self) -> None:
        self._edge = await self._status("edge")
        self._sync = await self._status("sync")
        if any(screen.get("till") for screen in self.screens):
            await self._look_at_menu()
        self._put()

    async def _status(self, process: str) -> dict[str, Any]:
        try:
            return await self.ask(process, {"request": "status"})
        except (DeviceFault, CorruptData):
            return {}

    async def _look_at_menu(self) -> None:
        version = self._sync.get("held", {}).get(f"{self._edge.get('site')}/menu")
        if self.menu and version == self._menu_version:
            return
        try:
            answer = await self.ask("edge", {"request": "menu"})
        except (DeviceFault, CorruptData):
            return
        self.menu, self._menu_version = answer.get("products", []), version
        self._board.put("menu", self.menu)

    def _put(self) -> None:
        stream = self._edge.get("stream", {})
        main = self._sync.get("streams", {}).get("main", {})
        head = stream.get("head", 0)
        acknowledged = max(stream.get("acknowledged") or 0, main.get("acknowledged") or 0)
        lists = self._edge.get("lists", {}).values()
        ages = [scope.get("age_s") for scope in lists if isinstance(scope, dict)]
        known = [age for age in ages if age is not None]
        if known:
            fresh_ms = _now_ms() - 1000 * max(known)
            self._fresh_ms = steady_ms(self._fresh_ms, fresh_ms)
        self._board.put(
            f"station_{self.name}",
            self._shown
            | {
                "head": head,
                "acknowledged": acknowledged,
                "waiting": max(0, head - acknowledged),
                "connected": bool(self._sync.get("connected")),
                "reason": self._sync.get("reason", ""),
                "clock": self._edge.get("clock", "unknown"),
                "fresh_ms": self._fresh_ms,
                "wires": {
                    line: active
                    for lane in self._edge.get("lanes", [])
                    for line, active in lane.get("lines", {}).items()
                },
                "readers": {
                    reader["reader"]: bool(reader["up"]) for reader in self._edge.get("readers", [])
                },
            },
        )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
