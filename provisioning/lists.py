"""`moskvenok lists take`: lists, keys and settings from a stick, for a device that no network
reaches.

Looks at the stick (sizes, shapes, whether it is for this device at all), copies what is this
device's into `inbox/`, whole or not at all, and waits for what `sync` says of it. Whether a list is
good is sync's to say, by the city's signatures; nothing here believes the stick, and no database is
opened. A stick that waits there already, because sync is busy or does not run, is taken first, and
keeps its own answer.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from edge import control
from edge.config import load
from edge.messages import (
    STICK_INDEX,
    StickFile,
    StickIndex,
    StickWhat,
    encode_json,
    frame,
    read_frame,
)
from edge.model import CorruptData, DeviceFault, SetupProblem
from edge.settings import DeviceSettings
from provisioning.files import FILE_MODE, make_folder, own_open
from provisioning.output import config_option, escape, json_option, print_json, print_table
from sync.inbox_form import (
    COPYING,
    INBOX_BYTES_MAX,
    WAITING_MAX,
    Answer,
    ListAnswer,
    answer_path,
    bytes_of,
    flush_folder,
    inbox_of,
    locked,
    new_name,
    opened_file,
    read_answer,
    read_index,
    sticks,
    sweep,
)
from sync.topics import scopes_of

WAIT_S: Final = 300  # Our choice: the longest list of a city takes a small device two minutes.
LOOK_S: Final = 0.25
SCOPE_CHARS_SHOWN: Final = 80  # Our choice: any real one is shorter.
# Our choice, of the stick's bytes: the copy itself, rows unpacked to four times their chunks, WAL.
ROOM_FACTOR: Final = 6
ANEW: Final = (
    "copy the stick's folder once more; if that does not help, have the city write it anew"
)
# Reason of sync -> what it means, and what to do.
WORDS: Final[dict[str, tuple[str, str]]] = {
    "frozen": ("the city's word on it has ended", "have the city write a new stick"),
    "rollback": ("this device has had a newer one", "nothing, or bring a newer stick"),
    "list_epoch": ("its city was restored since", "bring a stick with the newest root document"),
    "invalid": ("damaged, or not signed by this device's city", ANEW),
    "mixed": ("its pieces are of different lists", ANEW),
    "chunk_hash": ("a piece is damaged", ANEW),
    "mismatch": ("its pieces do not make the list that was signed", ANEW),
    "set_digest": ("its pieces do not make the list that was signed", ANEW),
    "incomplete": ("some of it is missing", ANEW),
    "shape": ("damaged, or not of this form", ANEW),
    "wrong_scope": ("not a list of this device", "bring the stick of its site"),
    "issued": ("signed at a time that cannot be", "tell the city's operator"),
}
NO_WORDS: Final = ("", 'look at "moskvenok logs --process sync", tell the city\'s operator')


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What of a stick is for one device."""

    index: StickIndex
    left_out: tuple[str, ...]  # Scopes that are another site's, or another kind of station's.

    @property
    def size_bytes(self) -> int:
        return sum(one.size_bytes for one in self.index.files)

    @property
    def has_keys(self) -> bool:
        return any(one.what is StickWhat.KEYS for one in self.index.files)


def choose(folder: Path, settings: DeviceSettings) -> Chosen:
    """`SetupProblem` when there is no stick in the folder, or nothing on it for this device."""
    if not (folder / STICK_INDEX).exists():
        raise SetupProblem(
            f"{folder}: no {STICK_INDEX} in it; name the folder that the city wrote, not one above"
        )
    try:
        index = read_index(folder)
    except CorruptData as problem:
        raise SetupProblem(f"{problem}; {ANEW}") from problem
    scopes = scopes_of(settings.site_id, settings.station)
    lists = [one for one in index.files if one.what is StickWhat.LIST]
    if not any(one.scope in scopes for one in lists):
        there = ", ".join(sorted(_plain(one.scope) for one in lists)) or "nothing"
        raise SetupProblem(
            f"{folder}: lists of {there[:300]}; this device, an {settings.station} of site"
            f" {settings.site_id}, needs {', '.join(scopes)}: bring the stick of its site"
        )
    chosen = tuple(
        one
        for one in index.files
        if one.what is StickWhat.ROOT
        or (one.what is StickWhat.KEYS and one.device == settings.device_id)
        or (one.what is StickWhat.LIST and one.scope in scopes)
    )
    found = Chosen(
        index=msgspec.structs.replace(index, files=chosen),
        left_out=tuple(_plain(one.scope) for one in lists if one.scope not in scopes),
    )
    if found.size_bytes > INBOX_BYTES_MAX:
        raise SetupProblem(
            f"{folder}: {found.size_bytes} bytes for this device, more than {INBOX_BYTES_MAX};"
            " no list is so long: have the city write the stick anew"
        )
    return found


def _plain(scope: str) -> str:
    """Of an index that nobody has signed, as it may be shown: short, and without what would move a
    terminal's cursor."""
    return (scope if scope.isprintable() else repr(scope))[:SCOPE_CHARS_SHOWN]


def put(source: Path, chosen: Chosen, inbox: Path) -> str:
    """Copies into the inbox, whole or not at all, behind whatever waits there; the name it has
    there. `SetupProblem` when the stick or the disk does not do, or too many wait."""
    make_folder(inbox)
    sweep(inbox)
    _check_room(inbox, chosen)
    beside = inbox / (COPYING + secrets.token_hex(8))
    try:
        with _making(beside) as folder:
            for one in chosen.index.files:
                _copy(source, one, folder)
            _write(STICK_INDEX, [encode_json(chosen.index)], folder)
            flush_folder(beside)
            with locked(inbox, wait=True):  # No longer than this, whoever else brings a stick.
                _check_room(inbox, chosen, copied=True)
                name = new_name(inbox)
                beside.rename(inbox / name)
        flush_folder(inbox)
    except OSError as error:
        raise SetupProblem(
            f"{inbox}: cannot be written ({error.strerror}); check the disk, and run this as root"
        ) from error
    return name


def _check_room(inbox: Path, chosen: Chosen, *, copied: bool = False) -> None:
    """`SetupProblem` when too many wait there, or the disk is too full for all of them."""
    waiting = sticks(inbox)
    if len(waiting) >= WAITING_MAX:
        raise SetupProblem(
            f"{inbox}: {len(waiting)} sticks wait there already, so this one was not taken; sync"
            ' takes them one after the other: see by "moskvenok status" that it runs, wait until'
            " they are gone, then run this again"
        )
    needed = chosen.size_bytes * (ROOM_FACTOR - copied)
    needed += sum(map(bytes_of, waiting)) * (ROOM_FACTOR - 1)
    free = shutil.disk_usage(inbox).free
    if free < needed:
        others = ", and those that wait," if waiting else ""
        raise SetupProblem(
            f"{inbox}: {free} bytes free, and these lists{others} need {needed}; make room on the"
            " disk"
        )


@contextmanager
def _making(folder: Path) -> Iterator[int]:
    """A folder of one's own until it is renamed; gone when it never is."""
    try:
        with ExitStack() as stack:
            with locked(folder.parent, wait=True):  # Or another command would sweep it away.
                make_folder(folder)
                descriptor = stack.enter_context(locked(folder))
            yield descriptor
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy(source: Path, one: StickFile, folder: int) -> None:
    """One file, message by message: what has another shape goes no further."""
    try:
        with opened_file(source, one) as read:
            _write(one.name, map(frame, iter(lambda: read_frame(read), None)), folder)
    except CorruptData as problem:
        place = "" if str(source) in str(problem) else f"{source / one.name}: "
        raise SetupProblem(f"{place}{problem}; {ANEW}") from problem


def _write(name: str, parts: Iterable[bytes], folder: int) -> None:
    """By the open folder: its owner is not root, and could put a link in its place."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, FILE_MODE, dir_fd=folder), "wb") as file:
        os.fchmod(file.fileno(), FILE_MODE)
        own_open(file.fileno())
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())


def runs(settings: DeviceSettings) -> bool:
    """Whether sync answers."""
    try:
        control.ask(settings.socket_path("sync"), {"request": "status"})
    except DeviceFault:
        return False
    return True


def wait_for_answer(
    inbox: Path,
    name: str,
    *,
    seconds: float,
    wait: Callable[[float], None] = time.sleep,
    now_s: Callable[[], float] = time.monotonic,
) -> Answer:
    """What sync said; the answer is removed with that. `seconds` for each stick that lies before
    it, and for itself. `SetupProblem` when nothing is said."""
    until_s, before = now_s() + seconds, _before(inbox, name)
    while True:
        answer = read_answer(inbox, name)
        if answer is not None:
            with suppress(OSError):
                answer_path(inbox, name).unlink()
            return answer
        if (left := _before(inbox, name)) < before:
            until_s, before = now_s() + seconds, left
        if now_s() >= until_s:
            raise SetupProblem(
                f"sync has not answered within {seconds:.0f} s; it may still be taking the lists"
                f'{_behind(before)}: look at "moskvenok status", then at "moskvenok logs --process'
                ' sync"'
            )
        wait(LOOK_S)


def _before(inbox: Path, name: str) -> int:
    """How many are taken before it."""
    return sum(one.name < name for one in sticks(inbox))


def _behind(others: int) -> str:
    return f", behind {others} stick{'s' * (others > 1)} that came before" if others else ""


def _put_for_later(settings: DeviceSettings, inbox: Path, name: str) -> SetupProblem:
    behind = _behind(_before(inbox, name))
    return SetupProblem(
        f"sync of {settings.device_id} is not running; the lists lie in {inbox}{behind} and it"
        ' takes them as soon as it is started: start it, then look at "moskvenok status"'
    )


def _remarks(chosen: Chosen, answer: Answer, settings: DeviceSettings) -> list[str]:
    """What a technician should know beside the lists."""
    device = settings.device_id
    found = []
    if answer.problem:
        found.append(f"the stick as it lay in the inbox: {_in_words(answer.problem)}")
    if answer.root not in ("", "taken"):
        found.append(f"root document: {_in_words(answer.root)}")
    if not chosen.has_keys:
        found.append(
            f"no keys for {device} on the stick: if it has none yet, it knows no card and shows no"
            f" name; have the city write the stick for {device}, too"
        )
    elif answer.keys != "taken":
        found.append(f"keys for {device}: {_in_words(answer.keys)}")
    return found


def _in_words(reason: str) -> str:
    words, remedy = WORDS.get(reason, NO_WORDS)
    return f"{words or reason}; {remedy}"


def _version_text(one: ListAnswer) -> str:
    return "none" if one.version is None else f"{one.version.list_epoch}.{one.version.number}"


def _show(chosen: Chosen, answer: Answer, remarks: list[str]) -> None:
    rows = [
        (
            escape(one.scope),
            "in force" if one.in_force else "refused",
            _version_text(one),
            "" if one.in_force else escape(_in_words(one.reason)),
        )
        for one in answer.lists
    ]
    print_table(("list", "", "version here", ""), rows)
    for scope in chosen.left_out:
        click.echo(f"{scope}: not for this device, left out")
    for remark in remarks:
        click.echo(f"attention: {remark}")


def _as_json(
    ok: bool, name: str, chosen: Chosen, answer: Answer, remarks: list[str]
) -> dict[str, Any]:
    return {
        "ok": ok,
        "stick": name,
        "made_utc_ms": chosen.index.made_utc_ms,
        "root": answer.root,
        "keys": answer.keys,
        "lists": [
            {
                "scope": one.scope,
                "state": "in_force" if one.in_force else "refused",
                "version": None
                if one.version is None
                else [one.version.list_epoch, one.version.number],
                "reason": one.reason,
                "do": "" if one.in_force else WORDS.get(one.reason, NO_WORDS)[1],
            }
            for one in answer.lists
        ],
        "left_out": list(chosen.left_out),
        "remarks": remarks,
    }


@click.group("lists")
def lists() -> None:
    """Lists of people, money and settings, brought by hand where no network is."""


@lists.command("take")
@config_option
@json_option
@click.option(
    "--wait", "seconds", type=click.IntRange(1, 3600), default=WAIT_S, show_default=True,
    help="Seconds to wait for sync; as many again for each stick that waits already.",
)  # fmt: skip
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def take(config: Path, as_json: bool, seconds: int, folder: Path) -> int:
    """Take lists, keys and settings from the stick in FOLDER, and say what became of each.

    The running sync checks them exactly as if they had come from the city by network, and puts in
    force what is good. Needs no network. A list that is refused leaves the one in force as it is.
    A stick that still waits from before is taken first.
    """
    settings = load(config)
    chosen = choose(folder, settings)
    inbox = inbox_of(settings)
    name = put(folder, chosen, inbox)
    if not runs(settings):
        raise _put_for_later(settings, inbox, name)
    control.ring(settings.socket_path("sync"))
    answer = wait_for_answer(inbox, name, seconds=seconds)
    remarks = _remarks(chosen, answer, settings)
    ok = bool(answer.lists) and all(one.in_force for one in answer.lists)
    ok = ok and answer.keys in ("", "taken")
    if as_json:
        print_json(_as_json(ok, name, chosen, answer, remarks))
    else:
        _show(chosen, answer, remarks)
    return 0 if ok else 1
