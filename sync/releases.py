"""A release that an order named: fetched, checked, laid ready; and what the updater made of it.

Nothing is installed here: that is `moskvenok update run`, another process, which checks everything
once more (`provisioning/update_run.py`). Shell around `sync/release_fetch.py` and the folder
`state/updates`; used in sync's thread alone.
"""

from __future__ import annotations

import platform
import shutil
import sysconfig
from collections.abc import Collection
from typing import Final

from edge import logs
from edge.messages import (
    AnyReleasePush,
    Pull,
    PushRelease,
    Release,
    Signed,
    SignedWhat,
    decode_pack,
)
from edge.model import CorruptData, DeviceFault, Moment
from edge.offline_cache.record import SOFTWARE
from edge.offline_cache.store import SCHEMA_VERSIONS
from edge.trust import Verifier
from sync.release_fetch import Chunk, ReleaseFetch
from sync.release_files import NoSpace, Ready, ReleaseFiles, Wanted
from sync.release_rules import Machine, Why, judge

# Our choice: what a release leaves free of the disk that facts are written to; several times the
# reserve that the journal puts by.
DISK_FREE_BYTES_MIN: Final = 64 * 1024 * 1024


def this_machine() -> Machine:
    """What a release for here is made for."""
    return Machine(
        platform=sysconfig.get_platform(), python=".".join(platform.python_version_tuple()[:2])
    )


class Releases:
    """Of one device."""

    def __init__(
        self, *, device: str, files: ReleaseFiles, machine: Machine, held: str = SOFTWARE
    ) -> None:
        self.files = files
        self._device = device
        self._machine = machine
        self._held = held
        self._signed: Signed | None = None
        self._wanted = files.wanted()
        self._fetch: ReleaseFetch | None = None
        self._failed: tuple[int, Why] | None = None  # Counter, and why its release does not come.
        self._log = logs.get("releases")
        if self._wanted is not None and files.ready() is not None:
            files.forget_wanted()  # The power failed between the two.
            self._wanted = None
        self._begin()

    @property
    def fetching(self) -> Wanted | None:
        return self._wanted

    def busy(self, open_orders: Collection[int] = ()) -> bool:
        """One at a time, from the order to what came of it. What was laid ready for an order whose
        time was over is in nobody's way."""
        told, ready = self.files.told(), self.files.ready()
        running = told is not None and told.running
        waits = ready is not None and (not ready.counter or ready.counter in open_orders)
        return self._wanted is not None or running or waits

    def want(self, wanted: Wanted) -> None:
        """By order. `DeviceFault` when it cannot even be noted."""
        self.files.want(wanted)
        self._wanted, self._failed = wanted, None
        self._begin()

    def is_held(self, *, release: str, sha256: str) -> bool:
        """Whether it is the one in use, as the updater has it."""
        told = self.files.told()
        return told is not None and (told.held, told.held_sha256) == (release, sha256)

    def forget(self) -> None:
        """Nobody waits for it any more."""
        self._wanted = self._fetch = self._signed = None
        self.files.forget_wanted()

    def came_of(self, counter: int) -> str | None:
        """What became of an order: "" is done, else why not; None while it is under way."""
        if self._failed is not None and self._failed[0] == counter:
            return self._failed[1].value
        if self._wanted is not None and self._wanted.counter == counter:
            return None
        ready = self.files.ready()
        if ready is not None and ready.counter == counter:
            return None  # Before what was told: that may be of another city's order so numbered.
        told = self.files.told()
        if told is not None and told.counter == counter:
            return None if told.running else ("" if told.done else told.why or Why.INSTALL_FAILED)
        return Why.RESTARTED.value

    def step(self, moment: Moment, *, connected: bool) -> Pull | None:
        """Once a second: what to ask for next. So at most 224 KiB a second are on their way, and
        facts and lists find room beside them."""
        if self._fetch is None:
            return None
        if not connected:
            self._fetch.disconnected()
            return None
        return self._fetch.pull(now_ms=moment.mono_ms)

    def take(self, push: AnyReleasePush, verifier: Verifier, moment: Moment) -> None:
        """A manifest or a chunk came. `CorruptData` when it is not what was signed."""
        fetch = self._fetch
        if fetch is None or push.sha256 != fetch.sha256:
            return  # Asked for in an earlier life, or by nobody.
        try:
            if isinstance(push, PushRelease):
                if fetch.release is None:
                    self._take_manifest(fetch, push.signed, verifier)
            elif fetch.release is not None:
                self._take_chunk(fetch, fetch.release, push.index, push.data, moment)
            if fetch.done:
                self._complete(fetch)
        except NoSpace as fault:
            self._log.error("no room for a release", reason=str(fault))
            self._fail(Why.NO_SPACE)
        except DeviceFault as fault:
            self._log.error("a release cannot be kept", reason=str(fault))
            self._fail(Why.FAILED)

    # ------------------------------------------------------------------------- helpers

    def _begin(self) -> None:
        wanted = self._wanted
        self._signed = None
        self._fetch = (
            None if wanted is None else ReleaseFetch(device=self._device, sha256=wanted.sha256)
        )

    def _take_manifest(
        self, fetch: ReleaseFetch, signed: Signed | None, verifier: Verifier
    ) -> None:
        wanted = self._wanted
        assert wanted is not None
        if signed is None:
            self._fail(Why.NO_RELEASE)
            return
        try:
            release = decode_pack(Release, verifier.open(SignedWhat.RELEASE, signed))
        except CorruptData:
            self._fail(Why.BAD_SIGNATURE)
            raise
        why: Why | None = Why.OTHER_RELEASE
        if (release.release, release.sha256) == (wanted.release, wanted.sha256):
            schemas = {kind.value: number for kind, number in SCHEMA_VERSIONS.items()}
            why = judge(release, machine=self._machine, held=self._held, schemas=schemas)
        if why is None and not self._has_room(release):
            why = Why.NO_SPACE
        if why is not None:
            self._fail(why)
            return
        self._signed = signed
        have = self.files.have(release)
        fetch.begin(release, have)
        self._log.info(
            "a release is coming", release=release.release, chunks=fetch.missing, held=len(have)
        )

    def _has_room(self, release: Release) -> bool:
        free = shutil.disk_usage(self.files.folder).free
        return free - release.size_bytes >= DISK_FREE_BYTES_MIN

    def _take_chunk(
        self, fetch: ReleaseFetch, release: Release, index: int, data: bytes, moment: Moment
    ) -> None:
        match fetch.check(index, data, now_ms=moment.mono_ms):
            case Chunk.GOOD:
                self.files.put(release, index, data)
                fetch.kept(index, now_ms=moment.mono_ms)
            case Chunk.BAD:
                raise CorruptData(
                    f"release {release.release}: chunk {index} is not what was signed"
                )
            case Chunk.NOT_ASKED:
                pass  # Came twice, or too late.

    def _complete(self, fetch: ReleaseFetch) -> None:
        wanted, signed, release = self._wanted, self._signed, fetch.release
        assert wanted is not None and signed is not None and release is not None
        ready = Ready(
            release=wanted.release,
            sha256=wanted.sha256,
            token=f"order {wanted.counter} {wanted.sha256}",
            counter=wanted.counter,
        )
        if not self.files.complete(release, signed, ready):
            have = self.files.have(release)
            if len(have) == len(release.chunk_hashes):
                self._fail(Why.MALFORMED)  # What was signed contradicts itself.
            else:
                fetch.begin(release, have)  # The disk has changed what was here.
            return
        self._log.info("a release is ready", release=release.release)
        self._wanted = self._fetch = self._signed = None

    def _fail(self, why: Why) -> None:
        wanted = self._wanted
        assert wanted is not None
        self._log.warning("a release is not taken", release=wanted.release, why=why.value)
        self._failed = wanted.counter, why
        try:
            self.forget()
        except OSError as error:
            raise DeviceFault(f"{self.files.folder}: {error.strerror}; check the disk") from error
