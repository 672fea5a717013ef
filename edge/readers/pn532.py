"""PN532 readers on a serial port: the one place that knows nfcpy, with `pn532_card.py`.

nfcpy drives the chip through bounded calls, never `connect()`, which does not come back when it is
asked to. Opening is ours: nfcpy raises the chip to 921,600 baud, and one that is killed leaves a
chip that the next process cannot reach. So the line stays at the speed the chip wakes with, and a
chip that some other program left at a higher one is looked for there and brought back.

The field is looked at some ten times a second (`field.py`). Who the card belongs to is decided
elsewhere; what a card can prove is asked by a dialogue, given as `ask`.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable

import nfc.clf
from nfc.clf.pn532 import Chipset, Device

from edge.model import DeviceFault
from edge.readers.dialogue import Evidence, Failure, Tier
from edge.readers.field import Field, OneCard, SeveralCards
from edge.readers.pn532_card import ActivatedCard
from edge.readers.pn532_frame import ACK, Pn532Deframer
from edge.readers.reader import Signal
from edge.readers.serial_port import READ_SIZE_MAX, Port, faults_named, open_port
from edge.readers.worker import WAIT_SLICE_MS_MAX, ReaderWorker
from edge.settings import ReaderSettings

BAUD = 115_200  # UM0701-02: the HSU after reset; enough for a card at 106 kbit/s.
# The speeds nfcpy raises a chip to, tried after the right one, and at last the right one again
# with the patience a USB adapter on a Raspberry Pi needs for its first byte (nfcpy, pn532.init).
PROBES = ((BAUD, 100), (921_600, 100), (460_800, 100), (230_400, 100), (BAUD, 1_000))
WAKE = bytes.fromhex("5555") + bytes(14)  # UM0701-02, 7.2.11: a long preamble ends power-down.
GET_VERSION = bytes.fromhex("0000FF02FED4022A00")
IS_PN532 = bytes.fromhex("D50332")  # The answer's beginning: IC 32 is a PN532.
LIST_CARDS = 0x4A  # InListPassiveTarget, UM0701-02, 7.3.5.
UP_TO_TWO_106A = bytes([2, 0])
LIST_S_MAX = 0.5  # Our choice: ten times what two tries at two cards take.
CARD_HEAD_SIZE = 5  # Number, SENS_RES (2), SEL_RES, size of the UID.

LOOK_PAUSE_MS = 40  # Our choice: with a look of 20 ms on the air, a card waits 60 ms at most.
SLICE_S = 0.05  # The longest wait without a sign of life.
WRITE_S_MAX = 0.5  # Our choice: a frame takes 25 ms; past it nobody takes our bytes.
FAILED_LOOKS_MAX = 3  # Our choice: noise spoils one look or two, a dead chip every one.

assert SLICE_S * 1_000 <= WAIT_SLICE_MS_MAX and LIST_S_MAX * 1_000 <= WAIT_SLICE_MS_MAX

LOG = logging.getLogger("nfc")
LOG.setLevel(logging.CRITICAL + 1)  # nfcpy logs UIDs; what went wrong is told by LinkDown.

Ask = Callable[[ActivatedCard], Evidence | Failure]


def uid_alone(card: ActivatedCard) -> Evidence | Failure:
    """The number the card gave in the anticollision, nothing proved: tier 1."""
    return Evidence(uid=card.uid, tier=Tier.UID)


class HsuLink:
    """What nfcpy takes for a transport: whole frames over a port, waits with signs of life.

    nfcpy makes one error of all that goes wrong; what the port itself has to say comes out of
    `rest`, where nfcpy is not between.
    """

    TYPE = "TTY"  # As nfcpy calls it: `Device.close` then leaves the chip at 115,200 baud.

    def __init__(self, port: Port, worker: ReaderWorker) -> None:
        self._port = port
        self._worker = worker
        self._deframer = Pn532Deframer()
        self._frames: list[bytes] = []
        self._noise_told = 0
        self.patient = False  # A worker that stops waits no more, but for the last farewell.

    @property
    def baudrate(self) -> int:
        return int(self._port.baudrate)

    @baudrate.setter
    def baudrate(self, baud: int) -> None:
        if baud != self._port.baudrate:
            self._port.baudrate = baud

    def write(self, frame: bytes) -> None:
        """Send one frame. What still lay in the port answers nothing any more."""
        self._frames.clear()
        self._deframer.receive(self._waiting())
        self._deframer.drop()
        self._port.write(bytes(frame))

    def read(self, timeout: int) -> bytearray:
        """The next frame within `timeout` milliseconds. Raises OSError (ETIMEDOUT) without one."""
        until_s = time.monotonic() + timeout / 1_000
        while not self._frames:
            left_s = until_s - time.monotonic()
            if left_s <= 0 or (self._worker.stopping and not self.patient):
                raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            self._frames += self._deframer.receive(self._some(min(left_s, SLICE_S)))
            self._worker.beat()
        return bytearray(self._frames.pop(0))

    def rest(self, wait_ms: int) -> None:
        """Wait a little; a chip that was asked nothing says nothing, so what comes is noise."""
        until_s = time.monotonic() + wait_ms / 1_000
        while not self._worker.stopping and (left_s := until_s - time.monotonic()) > 0:
            self._deframer.noise_bytes += len(self._some(min(left_s, SLICE_S)))
        self._worker.noise(self._deframer.noise_bytes - self._noise_told)
        self._noise_told = self._deframer.noise_bytes

    def close(self) -> None:
        """The port is closed by whoever opened it."""

    def _some(self, wait_s: float) -> bytes:
        self._port.timeout = wait_s
        return self._port.read(1) + self._waiting()

    def _waiting(self) -> bytes:
        return self._port.read(min(self._port.in_waiting, READ_SIZE_MAX))


class Pn532Session:
    """One chip. `reset` pulses its reset line, where one is wired; it may take 100 ms."""

    def __init__(
        self,
        settings: ReaderSettings,
        *,
        ask: Ask = uid_alone,
        reset: Callable[[], None] | None = None,
    ) -> None:
        self._reader_id = settings.reader_id
        self._port = settings.port
        self._ask = ask
        self._reset = reset

    def serve(self, worker: ReaderWorker) -> None:
        with faults_named(self._reader_id, self._port):
            port = open_port(self._port, BAUD, timeout_s=SLICE_S)
            try:
                port.write_timeout = WRITE_S_MAX
                link = HsuLink(port, worker)
                device = self._wake(worker, link)
                try:
                    self._watch(worker, link, device)
                finally:
                    link.patient = True
                    self._put_to_sleep(device)
            finally:
                port.close()

    def signal(self, signal: Signal) -> None:
        """A bare chip has no lamp."""

    def _wake(self, worker: ReaderWorker, link: HsuLink) -> Device:
        """The chip, awake at its own speed and set up. Raises DeviceFault when none answers."""
        for baud, wait_ms in PROBES:
            link.baudrate = baud
            if self._answers(link, wait_ms):
                break
            if worker.stopping:
                break
        else:
            if self._reset is not None:
                self._reset()
            raise self._fault("no PN532 answers")
        try:
            chipset = Chipset(link, logger=LOG)
            if link.baudrate != BAUD:
                chipset.set_serial_baudrate(BAUD)
                link.baudrate = BAUD
            chipset.sam_configuration("normal")
            return Device(chipset, logger=LOG)
        except (OSError, Chipset.Error) as error:
            raise self._fault("the PN532 stopped answering while it was set up") from error

    def _answers(self, link: HsuLink, wait_ms: int) -> bool:
        try:
            link.write(WAKE + GET_VERSION)
            acknowledged = link.read(wait_ms) == ACK
            return acknowledged and IS_PN532 in link.read(wait_ms)
        except OSError:
            return False

    def _watch(self, worker: ReaderWorker, link: HsuLink, device: Device) -> None:
        """Look into the field until the worker stops; a card that lies there already is old."""
        frontend = nfc.clf.ContactlessFrontend()
        frontend.device = device
        field: Field | None = None
        failed_looks = 0
        while not worker.stopping:
            worker.beat()
            at_ms = worker.now_ms()
            try:
                uids = self._look(device)
                failed_looks = 0
                if field is None:
                    field = Field()
                    field.look(uids, now_ms=at_ms)
                    worker.discarded(len(uids))
                    worker.up()
                else:
                    self._report(worker, frontend, field, uids, at_ms)
            except (OSError, Chipset.Error) as error:
                failed_looks += 1
                if failed_looks == FAILED_LOOKS_MAX:
                    raise self._fault("the PN532 stopped answering") from error
            link.rest(LOOK_PAUSE_MS)

    def _report(
        self,
        worker: ReaderWorker,
        frontend: nfc.clf.ContactlessFrontend,
        field: Field,
        uids: tuple[bytes, ...],
        at_ms: int,
    ) -> None:
        match field.look(uids, now_ms=at_ms):
            case SeveralCards():
                worker.failed(Failure.TWO_CARDS, at_ms=at_ms)
            case OneCard(uid=uid):
                outcome = self._converse(frontend)
                if outcome is Failure.LEFT_FIELD and not field.left(uid, now_ms=at_ms):
                    pass  # It hovers at the edge of the field, and that was told.
                elif isinstance(outcome, Failure):
                    worker.failed(outcome, at_ms=at_ms)
                else:
                    worker.read(
                        outcome.uid,
                        at_ms=at_ms,
                        kind=outcome.uid_kind,
                        tier=outcome.tier,
                        evidence=outcome,
                    )
            case None:
                pass

    def _look(self, device: Device) -> tuple[bytes, ...]:
        """The UIDs of up to two cards, each woken anew. The field is off for a moment before."""
        device.mute()
        answer = bytes(
            device.chipset.command(LIST_CARDS, bytearray(UP_TO_TWO_106A), timeout=LIST_S_MAX) or b""
        )
        uids = parse_listed(answer)
        if uids is None:
            raise OSError(errno.EIO, "the chip listed cards in a way it never should")
        return uids

    def _converse(self, frontend: nfc.clf.ContactlessFrontend) -> Evidence | Failure:
        """Activate the one card and ask it; it may be gone by now."""
        target = frontend.sense(nfc.clf.RemoteTarget("106A"))
        if target is None or not target.sdd_res or not target.sel_res:
            return Failure.LEFT_FIELD
        return self._ask(ActivatedCard(frontend, target))

    def _put_to_sleep(self, device: Device) -> None:
        try:
            device.close()
        except (OSError, Chipset.Error, TypeError):
            pass  # It was gone before us; TypeError is nfcpy's, over an answer that never came.

    def _fault(self, found: str) -> DeviceFault:
        return DeviceFault(
            f"reader {self._reader_id}: {found} on {self._port}; check its plug and its power, "
            "and that its two switches say HSU"
        )


def parse_listed(answer: bytes) -> tuple[bytes, ...] | None:
    """The UIDs in an answer to InListPassiveTarget at 106 kbit/s type A; None for nonsense.

    There is no ATS in it: nfcpy tells the chip not to ask for one.

    >>> [uid.hex() for uid in parse_listed(bytes.fromhex("01 01 0004 08 04 DEADBEEF"))]
    ['deadbeef']
    """
    if not answer:
        return None
    uids, rest = [], answer[1:]
    for _ in range(answer[0]):
        if len(rest) < CARD_HEAD_SIZE or len(rest) < CARD_HEAD_SIZE + rest[CARD_HEAD_SIZE - 1]:
            return None
        end = CARD_HEAD_SIZE + rest[CARD_HEAD_SIZE - 1]
        uids.append(rest[CARD_HEAD_SIZE:end])
        rest = rest[end:]
    return None if rest else tuple(uids)
