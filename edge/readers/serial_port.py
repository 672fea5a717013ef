"""Serial ports of readers: the one place under `edge/readers` that knows pyserial.

It opens, reads and closes a port and hands the bytes to a frame (`frame.py`); which bytes are a
card is the frame's to say, and what a card may do is decided elsewhere. Readers that are asked
rather than listened to (`pn532.py`, `osdp.py`) get their port here. Works on a pty.
"""

from __future__ import annotations

import errno
import termios
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Protocol

import serial

from edge.model import DeviceFault
from edge.readers.frame import BAUD_MIN, Frame
from edge.readers.reader import Signal
from edge.readers.watch import READ_WAIT_MS, Guard, OpenGuard, arrived_ms
from edge.readers.worker import WAIT_SLICE_MS_MAX, ReaderWorker
from edge.settings import ReaderSettings

READ_SIZE_MAX = 4_096  # Linux's tty buffer; a babbling reader cannot fill our memory.

# What the system says of a port, and what the technician does about it.
REMEDIES: Mapping[int, str] = MappingProxyType(
    {
        errno.ENOENT: "is not there; check the reader's plug and the port in device.toml",
        errno.ENODEV: "is not there; check the reader's plug and the port in device.toml",
        errno.EACCES: "may not be opened; add the agent's user to the port's group (dialout)",
        errno.EPERM: "may not be opened; add the agent's user to the port's group (dialout)",
        errno.EBUSY: "is used by another program; stop it",
        errno.EAGAIN: "is used by another program; stop it",
    }
)

assert READ_WAIT_MS <= WAIT_SLICE_MS_MAX


class Port(Protocol):
    """What is used of an open port. Each of these may raise what `faults_named` names."""

    timeout: float | None  # Of a read, in seconds.
    write_timeout: float | None
    baudrate: int

    @property
    def in_waiting(self) -> int: ...
    def fileno(self) -> int: ...
    def read(self, size: int) -> bytes: ...
    def write(self, data: bytes) -> int | None: ...
    def close(self) -> None: ...


def open_port(path: str, baud: int, *, timeout_s: float) -> Port:
    """Open a port, 8N1, for this process alone; what the system had buffered is dropped.

    Use it and what it gives within `faults_named`.
    """
    port: Port = serial.Serial(path, baud, timeout=timeout_s, exclusive=True)
    return port


@contextmanager
def faults_named(reader_id: str, port: str) -> Iterator[None]:
    """Whatever pyserial and the system raise over a port, as one DeviceFault that says where.

    A pulled USB adapter shows as SerialException, OSError or termios.error, by where it hits.
    """
    try:
        yield
    except (OSError, termios.error) as fault:  # A SerialException is an OSError.
        number = fault.errno if isinstance(fault, OSError) else fault.args[0]
        remedy = REMEDIES.get(number or 0, "was lost; check the reader's plug")
        raise DeviceFault(f"reader {reader_id}: {port} {remedy}") from fault


class SerialSession:
    """One port, opened for this process alone."""

    def __init__(self, settings: ReaderSettings, *, new_frame: Callable[[], Frame]) -> None:
        assert settings.baud >= BAUD_MIN
        self._settings = settings
        self._new_frame = new_frame

    def serve(self, worker: ReaderWorker) -> None:
        with faults_named(self._settings.reader_id, self._settings.port):
            port = open_port(
                self._settings.port, self._settings.baud, timeout_s=READ_WAIT_MS / 1_000
            )
            try:
                if self._drop_what_was_buffered(worker, port):
                    worker.up()
                    self._read_cards(worker, port)
            finally:
                port.close()

    def signal(self, signal: Signal) -> None:
        """These families have no lamp that the wire could light."""

    def _drop_what_was_buffered(self, worker: ReaderWorker, port: Port) -> bool:
        """Whether the line is now quiet and ours; False when the worker is stopping.

        pyserial has flushed the system's buffer on opening; what an adapter or a reader held back
        comes after that.
        """
        guard = OpenGuard(opened_ms=worker.now_ms())
        while not worker.stopping:
            data = port.read(1)
            data += port.read(min(port.in_waiting, READ_SIZE_MAX)) if data else b""
            worker.beat()
            match guard.look(len(data), now_ms=worker.now_ms()):
                case Guard.READY:
                    return True
                case Guard.BABBLING:
                    worker.discarded(len(data))
                    raise DeviceFault(
                        f"reader {self._settings.reader_id}: talks without a pause on "
                        f"{self._settings.port}; check the cable, the baud rate and the frame"
                    )
                case Guard.DISCARD:
                    worker.discarded(len(data))
        return False

    def _read_cards(self, worker: ReaderWorker, port: Port) -> None:
        frame = self._new_frame()
        looked_ms = worker.now_ms()
        while not worker.stopping:
            noise_before = frame.noise_bytes
            asked_ms = worker.now_ms()
            waiting = port.in_waiting
            data = port.read(min(waiting, READ_SIZE_MAX) or 1)
            if data and not waiting:  # The first byte woke us; a USB chip brings the rest with it.
                data += port.read(min(port.in_waiting, READ_SIZE_MAX))
            answered_ms = worker.now_ms()
            at_ms = arrived_ms(
                looked_ms=looked_ms,
                asked_ms=asked_ms,
                answered_ms=answered_ms,
                waiting=bool(waiting),
            )
            for read in frame.receive(data, now_ms=at_ms):
                worker.read(read.uid, at_ms=read.at_ms, kind=read.kind, tier=read.tier)
            worker.noise(frame.noise_bytes - noise_before)
            worker.beat()
            looked_ms = answered_ms
