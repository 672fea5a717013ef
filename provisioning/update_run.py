"""The updater: looks, asks the state table, remembers, acts; until there is nothing to do.

Everything it takes from `state/updates` is checked anew here, for others may write there: the
manifest by the keys of the root document, the bundle by the manifest. It may be killed at any
point and started again.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from msgspec import structs

from edge import control
from edge.messages import Release, SignedWhat, decode_pack, decode_signed_lines, from_b64u
from edge.model import CorruptData, DeviceFault, SetupProblem
from edge.offline_cache.for_updates import newest_root, schema_versions
from edge.offline_cache.store import FileKind
from edge.settings import DeviceSettings
from edge.trust import Verifier, open_root
from provisioning.update_make import MakeFailed, Maker
from provisioning.update_place import Anchor, Place
from provisioning.update_steps import Act, Seen, State, Step, decide
from sync.release_files import Ready, ReleaseFiles, Told
from sync.release_rules import Machine, Why, judge

LOOK_S: Final = 1.0
RESTART_S_MAX: Final = 120.0  # Our choice: systemd gives a unit 90 s to stop.
SYSTEMCTL: Final = "systemctl restart moskvenok-sync.service moskvenok-edge.service"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What runs now: the release each process says it is ("" does not answer)."""

    edge: str
    sync: str
    connected: bool


class Station(Protocol):
    def look(self) -> Look:
        """Never raises for a silent process."""

    def restart(self) -> None:
        """End both in order and start what the link names now. `DeviceFault` when it cannot."""


class RunningStation:
    """Asked over its own sockets, started by whoever keeps it up."""

    def __init__(self, settings: DeviceSettings, restart: str = SYSTEMCTL) -> None:
        self._settings = settings
        self._restart = shlex.split(restart)

    def look(self) -> Look:
        edge, sync = self._ask("edge"), self._ask("sync")
        return Look(
            edge=str(edge.get("software", "")),
            sync=str(sync.get("software", "")),
            connected=sync.get("connected") is True,
        )

    def restart(self) -> None:
        try:
            done = subprocess.run(
                self._restart, capture_output=True, timeout=RESTART_S_MAX, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DeviceFault(f"{shlex.join(self._restart)}: {error}") from error
        if done.returncode != 0:
            words = done.stderr.decode(errors="replace").strip()[-200:]
            raise DeviceFault(f"{shlex.join(self._restart)}: {words}")

    def _ask(self, process: str) -> dict[str, Any]:
        try:
            return control.ask(self._settings.socket_path(process), {"request": "status"})
        except (DeviceFault, CorruptData):
            return {}


def believed(settings: DeviceSettings, place: Place) -> Verifier:
    """Whose signatures count here: the newest root document of those enrolled, taken since, and
    seen here before.

    What lies in the device's folders may be written by those who run there, and they must not
    choose what root installs. So the first root key and every newer document are pinned beside the
    releases, and no other key and no older document count after that. `CorruptData` for those.
    """
    anchor = place.anchor()
    try:
        root_text = settings.root_key_path.read_bytes().decode(errors="replace").strip()
        documents = [settings.root_document_path.read_bytes()]
    except OSError as error:
        raise SetupProblem(
            f'{error.filename}: {error.strerror}; run "moskvenok provision" first'
        ) from error
    if anchor is not None and anchor.root_public != root_text:
        raise CorruptData(
            f"{settings.root_key_path}: another root key than releases here are believed by; if"
            f" this device was enrolled in another city, delete {place.anchor_path}; else somebody"
            " has changed its identity: take it out of service and enrol it anew"
        )
    newer = newest_root(settings.sync_path)
    documents += [] if newer is None else [newer]
    documents += [] if anchor is None else [anchor.document]
    root_public = from_b64u(root_text)
    roots = [
        (open_root(root_public, decode_signed_lines(document)), document) for document in documents
    ]
    root, document = max(roots, key=lambda one: one[0].version)
    place.pin(Anchor(root_public=root_text, document=document))
    return Verifier(root)


def schemas_here(settings: DeviceSettings) -> dict[str, int]:
    """Of the databases that a release would take over. Pictures are fetched again."""
    return schema_versions(
        {FileKind.JOURNAL: settings.journal_path, FileKind.SYNC: settings.sync_path}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What the updater works with."""

    place: Place
    files: ReleaseFiles
    maker: Maker
    station: Station
    machine: Machine
    verifier: Callable[[], Verifier]
    schemas: Callable[[], Mapping[str, int]]
    boot: str
    mono_ms: Callable[[], int]
    wait: Callable[[float], None]
    say: Callable[[str], None]  # A line for the technician or the log.


class Updater:
    """One life of it."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._failed = ""
        self._detail = ""
        self._restarted = False
        self._up_ms = tools.mono_ms()
        self._judged: tuple[str, str, str] | None = None  # Token, why, detail.

    def run(self) -> State:
        """Until there is nothing to do. What came of the last update stands in the state."""
        with self._tools.place.locked():
            while True:
                state, act = self.step()
                if act is Act.NOTHING:
                    return state

    def step(self) -> tuple[State, Act]:
        """One look, one decision, one act."""
        place = self._tools.place
        before = place.state()
        seen = self._look(before)
        state, act = decide(before, seen)
        if before.step is Step.TRIAL and state.step is Step.BACK:
            # Asked of the former release itself, so only when it comes to it.
            seen = structs.replace(seen, can_go_back=self.can_go_back(before.former))
            state, act = decide(before, seen)
        if state != before:
            if state.why and not state.detail and state.step is Step.REST:
                state = structs.replace(state, detail=self._detail)
            try:
                place.keep(state)
            except DeviceFault:
                if state.step is not Step.BACK:
                    raise  # Going back is better done unnoted than not at all.
            self._say_change(before, state)
        self._tell(state)
        self._do(act, state)
        return state, act

    # ----------------------------------------------------------------------------- looking

    def _look(self, state: State) -> Seen:
        tools = self._tools
        current, ready = tools.place.current(), None
        why, up, reached = "", False, False
        if state.step is Step.REST:
            with suppress(CorruptData):
                ready = tools.files.ready()
            if ready is not None and ready.token != state.token:
                why = self._refused(ready, current)
        elif state.step is Step.TRIAL:
            look = tools.station.look()
            up = current == look.edge == look.sync
            reached = up and look.connected
            if up:
                self._up_ms = tools.mono_ms()
        return Seen(
            boot=tools.boot,
            mono_ms=tools.mono_ms(),
            current=current,
            ready=ready,
            refused=why,
            made=state.step is Step.MAKING and tools.place.made(state.release, state.sha256),
            failed=self._failed,
            restarted=self._restarted,
            up=up,
            up_ms=self._up_ms,
            reached=reached,
        )

    def _refused(self, ready: Ready, current: str) -> str:
        """Why what is ready is not taken; asked once a wish, for it hashes and verifies."""
        if self._judged is None or self._judged[0] != ready.token:
            why, detail = self._judge(ready, current)
            self._judged = ready.token, why, detail
        self._detail = self._judged[2]
        return self._judged[1]

    def _judge(self, ready: Ready, current: str) -> tuple[str, str]:
        tools = self._tools
        try:
            release = self._manifest(ready.release, ready.sha256)
        except MakeFailed as problem:
            return problem.why.value, problem.detail
        why = judge(release, machine=tools.machine, held=current or "0", schemas=tools.schemas())
        if why is None:
            return "", ""
        return why.value, f"{release.release} for {release.platform}, Python {release.python}"

    def _manifest(self, release: str, sha256: str) -> Release:
        """What was signed of a release that is ready; `MakeFailed` when it was not."""
        try:
            signed = self._tools.files.read_signed()
            payload = self._tools.verifier().open(SignedWhat.RELEASE, signed)
        except CorruptData as problem:
            raise MakeFailed(Why.BAD_SIGNATURE, str(problem)) from problem
        try:
            found = decode_pack(Release, payload)
        except CorruptData as problem:
            raise MakeFailed(Why.MALFORMED, str(problem)) from problem
        if (found.release, found.sha256) != (release, sha256):
            raise MakeFailed(Why.OTHER_RELEASE, f"signed was {found.release:.40}")
        return found

    def can_go_back(self, former: str) -> bool:
        """Whether the former release is whole, and no database is newer than it can take over."""
        if not former:
            return False
        try:
            about = self._tools.maker.ask(former)
        except MakeFailed as problem:
            self._tools.say(f"{former} cannot be gone back to: {problem}")
            return False
        try:
            here = self._tools.schemas()
        except DeviceFault:
            return True  # A file that cannot be read is set aside at the next start.
        return all(version <= about.schemas.get(kind, 0) for kind, version in here.items())

    # ------------------------------------------------------------------------------ acting

    def _do(self, act: Act, state: State) -> None:
        tools = self._tools
        match act:
            case Act.NOTHING:
                pass
            case Act.DROP:
                current, ready = tools.place.current(), tools.files.ready()
                if current and current == state.held:
                    tools.place.trust(current)  # It was kept, or gone back to by hand.
                if ready is None or ready.token == state.token:
                    tools.files.forget_ready()  # Else another came meanwhile, and is next.
                tools.place.prune({state.former, state.held})
            case Act.MAKE:
                self._make(state)
            case Act.SWITCH | Act.SWITCH_BACK:
                tools.place.switch(state.release if act is Act.SWITCH else state.former)
                self._restarted = False
            case Act.RESTART:
                try:
                    tools.station.restart()
                except DeviceFault as fault:
                    tools.say(f"restart: {fault}")  # The trial sees what came of it.
                self._restarted = True
                self._up_ms = tools.mono_ms()
            case Act.LOOK:
                tools.wait(LOOK_S)

    def _make(self, state: State) -> None:
        self._failed = self._detail = ""
        try:
            release = self._manifest(state.release, state.sha256)
            self._tools.maker.make(release, self._tools.files.bundle)
        except MakeFailed as problem:
            self._failed, self._detail = problem.why.value, problem.detail

    # ------------------------------------------------------------------------------- words

    def _tell(self, state: State) -> None:
        told = Told(
            running=state.step is not Step.REST,
            release=state.release,
            counter=state.counter,
            done=state.done,
            why=state.why if state.step is Step.REST else "",
            held=state.held,
            held_sha256=state.held_sha256,
        )
        with suppress(DeviceFault):  # Told at the next look, or at the next run.
            self._tools.files.tell(told)

    def _say_change(self, before: State, state: State) -> None:
        if state.step is not before.step or state.token != before.token:
            self._tools.say(describe(state))


def describe(state: State) -> str:
    """The state in a line."""
    if not state.release:
        return "no update yet"
    match state.step:
        case Step.MAKING:
            return f"{state.release}: being installed beside {state.former or 'nothing'}"
        case Step.SWITCHING:
            return f"{state.release}: in place of {state.former or 'nothing'}, to be started"
        case Step.TRIAL:
            return f"{state.release}: runs, and is on trial"
        case Step.BACK:
            return f"{state.release}: going back to {state.former} ({state.detail})"
        case Step.REST:
            if state.done:
                return f"{state.release}: kept"
            detail = f" ({state.detail})" if state.detail else ""
            return f"{state.release}: not kept: {state.why}{detail}"
