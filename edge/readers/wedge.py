"""Readers that play a keyboard: the one place that knows Linux input devices.

The device is grabbed, so that what a card types reaches this reader alone and no console, login
or till screen. Which keys spell what is in `key_events.py`, which text is a number in the frames;
what a card may do is decided elsewhere. Needs no library beside the standard one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from edge.model import DeviceFault
from edge.readers.frame import Frame
from edge.readers.key_events import EVENT, KeyDecoder
from edge.readers.reader import Signal
from edge.readers.watch import READ_WAIT_MS, Guard, OpenGuard, arrived_ms
from edge.readers.worker import WAIT_SLICE_MS_MAX, ReaderWorker
from edge.settings import ReaderSettings

EVIOCGRAB = 0x40044590  # linux/input.h: _IOW('E', 0x90, int).
READ_SIZE_MAX = 1_024 * EVENT.size  # Our choice: more than the kernel keeps for one keyboard.

REMEDIES: Mapping[int, str] = MappingProxyType(
    {
        errno.ENOENT: "is not there; check the reader's plug and the port in device.toml",
        errno.ENXIO: "is not there; check the reader's plug and the port in device.toml",
        errno.EACCES: "may not be opened; add the agent's user to the group input",
        errno.EPERM: "may not be opened; add the agent's user to the group input",
        errno.EBUSY: "is held by another program; stop it",
        errno.ENOTTY: "is no input device; check the port in device.toml",
        errno.EINVAL: "is no input device; check the port in device.toml",
        errno.EISDIR: "is no input device; check the port in device.toml",
    }
)

assert READ_WAIT_MS <= WAIT_SLICE_MS_MAX


def grab(descriptor: int) -> None:
    """Keep the keyboard for this process alone. Raises OSError; EBUSY when another holds it."""
    fcntl.ioctl(descriptor, EVIOCGRAB, 1)


class WedgeSession:
    """One keyboard, grabbed."""

    def __init__(
        self,
        settings: ReaderSettings,
        *,
        new_frame: Callable[[], Frame],
        grab: Callable[[int], None] = grab,
    ) -> None:
        self._settings = settings
        self._new_frame = new_frame
        self._grab = grab

    def serve(self, worker: ReaderWorker) -> None:
        with self._faults_named():
            descriptor = os.open(
                self._settings.port, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            )
            try:
                self._grab(descriptor)
                if self._drop_what_was_typed(worker, descriptor):
                    worker.up()
                    self._read_cards(worker, descriptor)
            finally:
                os.close(descriptor)  # Which also lets go of the grab.

    def signal(self, signal: Signal) -> None:
        """A keyboard's lamps say Caps Lock; none of them means a card."""

    def _drop_what_was_typed(self, worker: ReaderWorker, descriptor: int) -> bool:
        """Whether the keyboard is now quiet and ours; False when the worker is stopping."""
        guard = OpenGuard(opened_ms=worker.now_ms())
        while not worker.stopping:
            data = self._read(descriptor, READ_WAIT_MS)
            worker.beat()
            match guard.look(len(data), now_ms=worker.now_ms()):
                case Guard.READY:
                    return True
                case Guard.BABBLING:
                    worker.discarded(len(data))
                    raise DeviceFault(
                        f"reader {self._settings.reader_id}: types without a pause on "
                        f"{self._settings.port}; check that no key is held down, then replug it"
                    )
                case Guard.DISCARD:
                    worker.discarded(len(data))
        return False

    def _read_cards(self, worker: ReaderWorker, descriptor: int) -> None:
        keys, frame = KeyDecoder(), self._new_frame()
        looked_ms = worker.now_ms()
        while not worker.stopping:
            noise_before = keys.noise_bytes + frame.noise_bytes
            asked_ms = worker.now_ms()
            data = self._read(descriptor, 0)
            waiting = bool(data)
            if not waiting:
                data = self._read(descriptor, READ_WAIT_MS)
            answered_ms = worker.now_ms()
            at_ms = arrived_ms(
                looked_ms=looked_ms, asked_ms=asked_ms, answered_ms=answered_ms, waiting=waiting
            )
            for read in frame.receive(keys.receive(data), now_ms=at_ms):
                worker.read(read.uid, at_ms=read.at_ms, kind=read.kind, tier=read.tier)
            worker.noise(keys.noise_bytes + frame.noise_bytes - noise_before)
            worker.beat()
            looked_ms = answered_ms

    def _read(self, descriptor: int, wait_ms: int) -> bytes:
        """What was typed within so long; b"" when nothing was. Raises OSError when it is gone."""
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        if not poller.poll(wait_ms):
            return b""
        try:
            data = os.read(descriptor, READ_SIZE_MAX)
        except BlockingIOError:
            return b""
        if not data:
            raise OSError(errno.ENODEV, "the other end is gone")
        return data

    @contextmanager
    def _faults_named(self) -> Iterator[None]:
        try:
            yield
        except OSError as fault:
            remedy = REMEDIES.get(fault.errno or 0, "was lost; check the reader's plug")
            raise DeviceFault(
                f"reader {self._settings.reader_id}: {self._settings.port} {remedy}"
            ) from fault
