"""Lists, keys and the root document from a stick: taken out of `inbox/`, given to the same intake.

Each message of a stick goes the way it would go had it come by wire (`Arrivals`): signature, root
version, list epoch, rollback, freeze, mix-and-match and set digest are checked there, and a refusal
is counted and told to the city as always. What is said here alone: a list begins with its head, the
head has to be taken before anything else of the list is looked at, everything behind it is of that
very scope, and the first refusal ends the list.

Some messages a step, so that facts go on leaving meanwhile; one message in memory at a time. Where
the process ends in between, the next one begins the stick again: what is there already costs
nothing. A stick is removed only when its answer is on disk, and only then is the next one begun: a
stick is never left half taken for another's sake.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge import logs
from edge.lasting import Lasting
from edge.messages import (
    AnyPush,
    Delta,
    Head,
    Manifest,
    PushChunk,
    PushDelta,
    PushKeys,
    PushManifest,
    SignedWhat,
    StickFile,
    StickIndex,
    StickWhat,
    VersionMark,
    decode_json,
    decode_pack,
    decode_push,
    decode_signed_lines,
    read_frame,
)
from edge.model import CorruptData, DeviceFault, Moment
from sync.bridge_events import Message, Token
from sync.inbox_form import (
    ANSWERS_KEPT,
    Answer,
    ListAnswer,
    Read,
    answer_path,
    answers,
    inbox_of,
    opened_file,
    read_index,
    remove,
    sticks,
    sweep,
    write_answer,
)
from sync.later import rank
from sync.parts import Parts
from sync.topics import Topic, TopicKind, is_scope, of_scope, own, scopes_of

if TYPE_CHECKING:
    from sync.loop import Sync

LOOK_MS: Final = 1_000  # house.md: a look every second.
RUNG_MS: Final = 100  # Our choice: edge rings at every tap, and a folder is no part of a tap.
MESSAGES_PER_STEP: Final = 4  # Our choice: as many chunks as a pull brings at once.
AGAIN_MS: Final = 60_000  # Our choice: a disk that refused is not asked for 13 MB every second.
NO_TOKEN: Final = Token(0, 0)  # There is no broker to tell that it is done.
OURS_IS_BAD: Final = "set_digest"  # A good head tells us so: then the list is needed all the more.
STICK: Final = "stick"  # What refusals of the stick itself are told as.

Steps = Generator[None, None, None]


class Inbox:
    """Of one `Sync`."""

    def __init__(self, sync: Sync, parts: Parts) -> None:
        settings = parts.settings
        self._sync = sync
        self._folder = inbox_of(settings)
        self._device = settings.device_id
        self._scopes = scopes_of(settings.site_id, settings.station)
        self._work: Steps | None = None
        self._looked_ms = self._not_before_ms = 0
        self._heard: list[str] = []  # Why what was just given was refused.
        self._failing = Lasting()
        self._log = logs.get("inbox")
        sweep(self._folder)

    def due_ms(self) -> int:
        """When `step` is needed: at once while a stick is under way."""
        if self._work is not None:
            return 0
        return max(self._looked_ms + LOOK_MS, self._not_before_ms)

    def step(self, moment: Moment, *, rung: bool) -> None:
        """Look once a second, or when rung; take some messages of what lies there."""
        if self._work is None:
            due_ms = self._looked_ms + (RUNG_MS if rung else LOOK_MS)
            if moment.mono_ms < max(due_ms, self._not_before_ms):
                return
            self._looked_ms = moment.mono_ms
            waiting = sticks(self._folder)
            if not waiting:
                return
            self._work = self._take(waiting[0])
        try:
            for _ in range(MESSAGES_PER_STEP):
                next(self._work)
        except StopIteration:
            self._work = None
            self._failing.over()
        except (OSError, DeviceFault) as fault:
            self._work = None  # From its beginning, later: no message is ever lost by that.
            self._not_before_ms = moment.mono_ms + AGAIN_MS
            if self._failing.is_news(str(fault), now_ms=moment.mono_ms):
                self._log.error("a stick cannot be taken now", reason=str(fault))

    # ------------------------------------------------------------------------- one stick

    def _take(self, stick: Path) -> Steps:
        if not answer_path(self._folder, stick.name).exists():  # Else only its removal was left.
            answer = yield from self._answer_to(stick)
            if not stick.exists():
                return  # Somebody took it away by hand: nobody waits for this answer.
            write_answer(self._folder, stick.name, answer)
        remove(stick)
        for old in answers(self._folder)[:-ANSWERS_KEPT]:
            with suppress(OSError):
                old.unlink()
        self._sync.load_anchor()  # Its heads may have raised the floor of time.

    def _answer_to(self, stick: Path) -> Generator[None, None, Answer]:
        try:
            index = read_index(stick)
        except CorruptData as problem:
            return Answer(problem=self._misshapen(str(problem), ""))
        self._log.info("a stick is here", files=len(index.files))
        root = yield from self._small(stick, index, StickWhat.ROOT)
        keys = yield from self._small(stick, index, StickWhat.KEYS)
        lists = []
        for one in self._by_urgency(index):
            told = yield from self._take_list(stick, one)
            self._log.info(
                "a list of the stick", scope=told.scope, taken=told.in_force, reason=told.reason
            )
            lists.append(told)
        return Answer(root=root, keys=keys, lists=tuple(lists))

    def _by_urgency(self, index: StickIndex) -> list[StickFile]:
        """As the station needs them; others last, to be refused as they would be by wire."""
        found = [one for one in index.files if one.what is StickWhat.LIST]
        places = {scope: place for place, scope in enumerate(self._scopes)}
        return sorted(found, key=lambda one: places.get(one.scope, len(places)))

    def _small(self, stick: Path, index: StickIndex, what: StickWhat) -> Generator[None, None, str]:
        """The root document, or this device's keys: files of few messages."""
        said = ""
        for one in index.files:
            if one.what is not what or (what is StickWhat.KEYS and one.device != self._device):
                continue
            try:
                with opened_file(stick, one) as read:
                    while (message := read_frame(read)) is not None:
                        said = self._take_small(what, message) or "taken"
                        yield
            except CorruptData as problem:
                said = self._misshapen(str(problem), what.value)
        return said

    def _take_small(self, what: StickWhat, message: bytes) -> str:
        if what is StickWhat.ROOT:
            return self._arrive(Topic(kind=TopicKind.ROOT).name(), message)
        if not isinstance(decode_push(message), PushKeys):
            raise CorruptData("a file of keys holds something else")
        return self._arrive(own(self._device, TopicKind.PUSH), message)

    # -------------------------------------------------------------------------- one list

    def _take_list(self, stick: Path, one: StickFile) -> Generator[None, None, ListAnswer]:
        scope = one.scope
        try:
            if not is_scope(scope):
                raise CorruptData(f"{stick / one.name}: of no scope that there is")
            with opened_file(stick, one) as read:
                return (yield from self._take_messages(scope, read))
        except CorruptData as problem:
            return self._told(scope, None, self._misshapen(str(problem), scope))

    def _take_messages(self, scope: str, read: Read) -> Generator[None, None, ListAnswer]:
        lines = read_frame(read)
        if lines is None:
            raise CorruptData("a list without anything in it")
        wanted, reason = self._take_head(scope, lines)
        yield
        if wanted is None or reason not in ("", OURS_IS_BAD):
            return self._told(scope, None, reason)
        downlink = self._sync.downlink
        whole, before = downlink.brought(scope), downlink.snapshots.get(scope, 0)
        reason = "incomplete"
        while not self._is_in_force(scope, wanted) or (
            whole and downlink.snapshots.get(scope, 0) == before
        ):
            message = read_frame(read)
            if message is None:
                break
            refused = self._take_piece(scope, message)
            yield
            if refused:
                reason = refused
                break
        else:
            reason = ""
        return self._told(scope, wanted, reason)

    def _take_head(self, scope: str, lines: bytes) -> tuple[VersionMark | None, str]:
        """The version it names, and why it is refused."""
        wanted: VersionMark | None = None
        with suppress(CorruptData):  # Then it is refused, and told, on its ordinary way.
            verifier = self._sync.downlink.verifier
            head = decode_json(Head, verifier.open(SignedWhat.HEAD, decode_signed_lines(lines)))
            wanted = head.version
            if head.scope != scope:
                return None, self._refuse(scope, "mixed")
        return wanted, self._arrive(of_scope(scope, TopicKind.HEAD), lines)

    def _take_piece(self, scope: str, message: bytes) -> str:
        """Why a message behind the head is refused; "" when it is not."""
        try:
            push = decode_push(message)
            if self._scope_of(push) != scope:
                return self._refuse(scope, "mixed")
        except CorruptData:
            pass  # Refused, and told, on its ordinary way.
        else:
            if isinstance(push, PushChunk) and not self._is_coming(push):
                return ""  # Of a snapshot that this device has no use for.
        return self._arrive(own(self._device, TopicKind.PUSH), message)

    def _is_coming(self, chunk: PushChunk) -> bool:
        builder = self._sync.downlink.builders.get(chunk.scope)
        return builder is not None and builder.manifest.snapshot_id == chunk.snapshot_id

    def _scope_of(self, push: AnyPush) -> str:
        """What a piece of a list says that it is of; "" for what is no piece of one."""
        verifier = self._sync.downlink.verifier
        match push:
            case PushManifest(signed=signed):
                return decode_pack(Manifest, verifier.open(SignedWhat.MANIFEST, signed)).scope
            case PushDelta(signed=signed):
                return decode_pack(Delta, verifier.open(SignedWhat.DELTA, signed)).scope
            case PushChunk(scope=scope):
                return scope
            case _:
                return ""

    def _is_in_force(self, scope: str, wanted: VersionMark) -> bool:
        return rank(self._sync.downlink.held().get(scope)) >= rank(wanted)

    def _told(self, scope: str, wanted: VersionMark | None, reason: str) -> ListAnswer:
        held = self._sync.downlink.held().get(scope)
        good = wanted is not None and not reason and rank(held) >= rank(wanted)
        return ListAnswer(scope=scope, in_force=good, version=held, reason=reason)

    # --------------------------------------------------------------------------- helpers

    def _arrive(self, topic: str, payload: bytes) -> str:
        """On the way of all messages; why it was refused, "" when it was not."""
        self._heard.clear()
        teller = self._sync.teller
        teller.ear = self._heard.append
        try:
            self._sync.arrivals.take(
                Message(topic=topic, payload=payload, retained=False, token=NO_TOKEN)
            )
        finally:
            teller.ear = None
        return self._heard[0] if self._heard else ""

    def _refuse(self, scope: str, reason: str) -> str:
        self._sync.teller.refuse(STICK, scope, reason)
        return reason

    def _misshapen(self, problem: str, what: str) -> str:
        """Of the stick's own form; nothing that a city has signed is at stake."""
        self._log.warning("a stick is not as it should be", reason=problem)
        self._sync.teller.refuse(STICK, what, "shape")
        return "shape"
