"""The files under `state/`: whole, of a schema this software reads, and not falling behind.

Everything is opened read-only and read in short transactions, while edge and sync go on writing.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from edge.messages import Stream
from edge.model import CorruptData, DeviceFault, SetupProblem
from edge.offline_cache import outbox
from edge.offline_cache.apply import InForce, in_force, picture_meta, picture_path
from edge.offline_cache.lookup import Cache
from edge.offline_cache.store import SCHEMA_VERSIONS, FileKind, look_over, open_reader, telling
from edge.settings import DeviceSettings
from provisioning.checks.finding import Device, Finding, attention, ok, told, wrong
from provisioning.output import age_text
from sync.topics import scopes_of

PART: Final = "databases"
WAITING_MAX: Final = 10_000  # Our choice: a lively school's two days of facts.
LIST_AGE_S_MAX: Final = 24 * 3600  # Our choice: a day without news from the city.
FREE_BYTES_MIN: Final = 200 * 1024 * 1024  # Our choice: a snapshot beside the old one, twice.
ASIDE: Final = {
    FileKind.JOURNAL: "stop edge, keep a copy of the file, start edge: it begins a new journal",
    FileKind.SYNC: "stop sync, move the file away but keep it, start sync: it fetches all again",
    FileKind.PICTURE: 'sync fetches the list again by itself; if it waits: "moskvenok connect"',
}


def examine(device: Device) -> Iterator[Finding]:
    settings = device.settings
    yield from _disk(settings.folders.state)
    with _Files(settings) as files:
        yield from files.open(settings.journal_path, FileKind.JOURNAL)
        yield from files.open(settings.sync_path, FileKind.SYNC)
        try:
            with telling(settings.folders.state):
                yield from _outbox(settings, files)
                yield from _lists(device, files)
        except (CorruptData, DeviceFault) as error:
            yield told(PART, settings.folders.state, error, ASIDE[FileKind.SYNC])


class _Files:
    """The connections of one examination, all closed at its end."""

    def __init__(self, settings: DeviceSettings) -> None:
        self.settings = settings
        self.held: dict[FileKind, Any] = {}  # Connections, as `open_reader` gives them.
        self._all: list[Any] = []

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *_: object) -> None:
        for db in self._all:
            db.close()

    def open(self, path: Path, kind: FileKind) -> Iterator[Finding]:
        """Open and check one file; `held` has its connection when it is sound."""
        try:
            exists = path.exists()
            db = open_reader(path, kind)
        except CorruptData as error:
            yield self._damaged(path, kind, error)
            return
        except (SetupProblem, DeviceFault) as problem:
            yield told(PART, path, problem, "install the release that fits")
            return
        if db is None:
            yield self._missing(path, kind, exists)
            return
        self._all.append(db)
        try:
            with telling(path):
                version, damage = look_over(db)
        except CorruptData as error:
            yield self._damaged(path, kind, error)
            return
        except DeviceFault as fault:
            yield told(PART, path, fault, "check the disk")
            return
        if damage:
            yield wrong(PART, path, f"damaged: {damage}", ASIDE[kind])
            return
        self.held[kind] = db
        if version < SCHEMA_VERSIONS[kind]:
            found = f"schema {version}, one behind this software"
            yield attention(PART, path, found, "restart the agent; it brings the file up to date")
        else:
            yield ok(PART, path, f"sound, schema {version}")

    def _damaged(self, path: Path, kind: FileKind, error: CorruptData) -> Finding:
        found = str(error).removeprefix(f"{path}: ")
        return wrong(PART, path, f"damaged: {found}", ASIDE[kind])

    def _missing(self, path: Path, kind: FileKind, exists: bool) -> Finding:
        who = "edge" if kind is FileKind.JOURNAL else "sync"
        if exists:
            found, do = "empty, or may not be read by this user", f"start {who}, or run as root"
        else:
            found, do = "not there yet", f"start {who}; it makes the file"
        if kind is FileKind.PICTURE:
            return wrong(PART, path, f"{found}, though it is in force", ASIDE[kind])
        return attention(PART, path, found, do)


def _disk(folder: Path) -> Iterator[Finding]:
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        yield wrong(PART, folder, str(error.strerror), 'run "moskvenok provision"')
        return
    mib = free // (1024 * 1024)
    if free < FREE_BYTES_MIN:
        do = "make room: look for old logs and images on this disk"
        yield wrong(PART, folder, f"{mib} MiB free, too little for a new list", do)
    else:
        yield ok(PART, folder, f"{mib} MiB free")


def _outbox(settings: DeviceSettings, files: _Files) -> Iterator[Finding]:
    """How many facts the city has not acknowledged, and whether the chain holds."""
    journal = files.held.get(FileKind.JOURNAL)
    if journal is None:
        return
    cache = Cache(
        settings.folders.state,
        device=settings.device_id,
        site=settings.site_id,
        journal=journal,
    )
    waiting = 0
    try:
        for life in outbox.lives(journal, Stream.MAIN):
            problem = outbox.chain_problem(journal, life)
            if problem:
                yield wrong(PART, settings.journal_path, problem, ASIDE[FileKind.JOURNAL])
            sound = FileKind.SYNC in files.held
            acknowledged = cache.acknowledged(Stream.MAIN.value, life.epoch) if sound else 0
            waiting += max(0, life.head - acknowledged)
    finally:
        cache.close()
    if waiting > WAITING_MAX:
        do = 'run "moskvenok doctor broker"; nothing is lost while the disk has room'
        yield attention(PART, "outbox", f"{waiting} facts wait for the city", do)
    else:
        yield ok(PART, "outbox", f"{waiting} facts wait for the city")


def _lists(device: Device, files: _Files) -> Iterator[Finding]:
    sync = files.held.get(FileKind.SYNC)
    if sync is None:
        return
    settings = device.settings
    for scope in scopes_of(settings.site_id, settings.station):
        pointer = in_force(sync, scope)
        if pointer is None:
            do = 'run "moskvenok doctor broker"; sync fetches it when it reaches the city'
            yield wrong(PART, scope, "no list yet: the device can decide nothing by it", do)
            continue
        yield from _picture(device, files, pointer)


def _picture(device: Device, files: _Files, pointer: InForce) -> Iterator[Finding]:
    path = picture_path(device.settings.folders.state, pointer.scope, pointer.generation)
    for finding in files.open(path, FileKind.PICTURE):
        if finding.do:
            yield finding
            return
    meta = picture_meta(files.held[FileKind.PICTURE])
    age_s = device.now.timestamp() - pointer.issued_utc_ms / 1000
    found = (
        f"version {meta.version.list_epoch}.{meta.version.number}, last confirmed "
        f"{age_text(max(0.0, age_s))} ago, sound"
    )
    if age_s > LIST_AGE_S_MAX:
        do = 'run "moskvenok doctor broker"; cards blocked since then still open'
        yield attention(PART, pointer.scope, found, do)
    else:
        yield ok(PART, pointer.scope, found)
