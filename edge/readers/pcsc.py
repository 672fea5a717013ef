"""PC/SC readers: the one place that knows pyscard, and of it `smartcard.scard` alone.

An own loop with bounded waits, because pyscard's CardMonitor and ReaderMonitor end for good, and
without a word, when pcscd restarts. Every context is rebuilt after an error. SCardConnect can
block without limit while pcscd or a USB reader hangs: nothing inside this thread can help that,
so the watch stands outside (`worker.py`).

How a card is asked is in `proving.py` and the dialogues behind it; what its answer means for a lane
is decided elsewhere. Native frames do not go through PC/SC: Ultralight C and AES are numbers here.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from edge.model import DeviceFault, SetupProblem
from edge.readers.dialogue import Evidence, Failure, run
from edge.readers.proving import CardBook, Prover
from edge.readers.reader import Signal
from edge.readers.worker import WAIT_SLICE_MS_MAX, ReaderWorker
from edge.settings import ReaderSettings

PNP = "\\\\?PnP?\\Notification"  # pcsc-lite's pseudo-reader: wakes when a reader comes or goes.
SLICE_MS = 250  # The longest wait in pcscd: the worker's sign of life, and how fast it ends.
EVENTS_SHIFT = 16  # pcsc-lite: the upper half of a state counts insertions and removals.

assert SLICE_MS <= WAIT_SLICE_MS_MAX


class Scard(Protocol):
    """What is used of `smartcard.scard`. Results are `[code, value…]`, 0 for success."""

    SCARD_SCOPE_SYSTEM: int
    SCARD_SHARE_EXCLUSIVE: int
    SCARD_PROTOCOL_T0: int
    SCARD_PROTOCOL_T1: int
    SCARD_PCI_T0: int
    SCARD_PCI_T1: int
    SCARD_LEAVE_CARD: int
    SCARD_UNPOWER_CARD: int
    SCARD_STATE_UNAWARE: int
    SCARD_STATE_CHANGED: int
    SCARD_STATE_PRESENT: int
    SCARD_STATE_UNKNOWN: int
    SCARD_E_NO_READERS_AVAILABLE: int
    SCARD_E_NO_SMARTCARD: int
    SCARD_E_TIMEOUT: int
    SCARD_E_UNKNOWN_READER: int
    SCARD_W_REMOVED_CARD: int
    SCARD_W_RESET_CARD: int
    SCARD_W_UNPOWERED_CARD: int
    SCARD_W_UNRESPONSIVE_CARD: int

    def SCardEstablishContext(self, scope: int, /) -> Any: ...
    def SCardReleaseContext(self, context: Any, /) -> Any: ...
    def SCardListReaders(self, context: Any, groups: list[str], /) -> Any: ...
    def SCardGetStatusChange(
        self, context: Any, timeout_ms: int, states: Sequence[tuple[str, int]], /
    ) -> Any: ...
    def SCardConnect(self, context: Any, name: str, share: int, protocols: int, /) -> Any: ...
    def SCardTransmit(self, card: Any, pci: int, command: list[int], /) -> Any: ...
    def SCardDisconnect(self, card: Any, disposition: int, /) -> Any: ...
    def SCardGetErrorMessage(self, code: int, /) -> str: ...


def load_scard() -> Scard:
    """Raises SetupProblem where pyscard is not installed."""
    try:
        from smartcard import scard
    except ImportError as problem:
        raise SetupProblem(
            "a PC/SC reader is configured, but pyscard is not installed (or finds no "
            "libpcsclite); run: apt-get install gcc libpcsclite-dev pcscd, then "
            'pip install "moskvenok-edge[pcsc]"'
        ) from problem
    module: Scard = scard
    return module


class PcscSession:
    """One PC/SC reader, found by the beginning of its name. `cards` is what is held of cards."""

    def __init__(
        self,
        settings: ReaderSettings,
        *,
        scard: Scard,
        cards: CardBook | None = None,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._reader_id = settings.reader_id
        self._prefix = settings.name
        self._scard = scard
        self._prover = Prover(cards, random_bytes=random_bytes)

    def serve(self, worker: ReaderWorker) -> None:
        worker.beat()
        code, context = self._scard.SCardEstablishContext(self._scard.SCARD_SCOPE_SYSTEM)
        if code:
            raise self._fault("no PC/SC service", code)
        try:
            while not worker.stopping:
                names = self._list_readers(worker, context)
                ours = [name for name in names if name.startswith(self._prefix)]
                if ours:
                    self._watch_reader(worker, context, ours[0])
                else:
                    worker.down(self._absence(names))
                    self._wait(context, ())
        finally:
            self._scard.SCardReleaseContext(context)

    def signal(self, signal: Signal) -> None:
        """PC/SC knows no lamp; makers' own commands are not for a card reader of any make."""

    def _list_readers(self, worker: ReaderWorker, context: Any) -> list[str]:
        worker.beat()
        code, names = self._scard.SCardListReaders(context, [])
        if code == self._scard.SCARD_E_NO_READERS_AVAILABLE:
            return []
        if code:
            raise self._fault("the PC/SC service was lost", code)
        return sorted(names)

    def _absence(self, names: list[str]) -> str:
        return (
            f'reader {self._reader_id}: no PC/SC reader named "{self._prefix}…"; there is '
            f"{', '.join(names) or 'none'}; check its plug and the name in device.toml"
        )

    def _watch_reader(self, worker: ReaderWorker, context: Any, name: str) -> None:
        """Report this reader's cards until it is gone or the worker stops.

        A card that lies there when the watch begins was shown while nobody watched: it is counted
        and not read, and has to be shown again.
        """
        was: int | None = None  # The state at the last look; None before the first.
        uid = b""  # Of the card that lies there now.
        while not worker.stopping and name in self._list_readers(worker, context):
            before = self._scard.SCARD_STATE_UNAWARE if was is None else was
            state = self._wait(context, ((name, before),))
            if state is None:
                continue
            lies_there = bool(state & self._scard.SCARD_STATE_PRESENT)
            if was is None:
                worker.discarded(int(lies_there))
                worker.up()
            elif self._is_moved(was, state):
                if uid:
                    worker.still_there(uid, at_ms=worker.now_ms())
                if not lies_there:
                    self._prover.field_empty(now_ms=worker.now_ms())
                uid = self._read_card(worker, context, name) if lies_there else b""
            was = state & ~self._scard.SCARD_STATE_CHANGED

    def _is_moved(self, was: int, state: int) -> bool:
        """Whether a card came or went; one swapped between two looks shows in the counter alone."""
        presence_changed = (was ^ state) & self._scard.SCARD_STATE_PRESENT
        return bool(presence_changed) or was >> EVENTS_SHIFT != state >> EVENTS_SHIFT

    def _wait(self, context: Any, readers: tuple[tuple[str, int], ...]) -> int | None:
        """Wait for a change, at most `SLICE_MS`; the reader's state, None without one."""
        asked = [*readers, (PNP, self._scard.SCARD_STATE_UNAWARE)]
        code, states = self._scard.SCardGetStatusChange(context, SLICE_MS, asked)
        expected = (
            self._scard.SCARD_E_TIMEOUT,
            self._scard.SCARD_E_UNKNOWN_READER,  # Gone between two calls; the list will say so.
        )
        if code in expected:
            return None
        if code:
            raise self._fault("the PC/SC service was lost", code)
        if not readers or states[0][1] & self._scard.SCARD_STATE_UNKNOWN:
            return None
        return int(states[0][1])

    def _read_card(self, worker: ReaderWorker, context: Any, name: str) -> bytes:
        """Ask the card who it is and report it. The UID, or b"" where there is none."""
        worker.beat()
        at_ms, outcome = self._ask_card(worker, context, name)
        if outcome is None:  # The dialogue begins anew, once.
            worker.beat()
            at_ms, outcome = self._ask_card(worker, context, name)
        worker.beat()
        if outcome is None:
            outcome = Failure.READER_ERROR
        self._prover.concluded(outcome, now_ms=worker.now_ms())
        if isinstance(outcome, Failure):
            worker.failed(outcome, at_ms=at_ms)
            return b""
        worker.read(
            outcome.uid,
            at_ms=at_ms,
            kind=outcome.uid_kind,
            tier=outcome.tier,
            evidence=outcome,
        )
        return outcome.uid

    def _ask_card(
        self, worker: ReaderWorker, context: Any, name: str
    ) -> tuple[int, Evidence | Failure | None]:
        """One dialogue over a connection of its own: what came of it, and when.

        None when the card was reset under it, or the reader could not begin. The time is that of
        the last command: the answer may be older than it looks where this process was held up, and
        never younger.
        """
        scard = self._scard
        at_ms = worker.now_ms()
        code, card, protocol = scard.SCardConnect(
            context,
            name,
            scard.SCARD_SHARE_EXCLUSIVE,
            scard.SCARD_PROTOCOL_T0 | scard.SCARD_PROTOCOL_T1,
        )
        if code:
            failure = self._failure(code)  # Nothing was asked of the card yet: it may be again.
            return at_ms, None if failure is Failure.READER_ERROR else failure
        pci = scard.SCARD_PCI_T0 if protocol == scard.SCARD_PROTOCOL_T0 else scard.SCARD_PCI_T1
        codes: list[int] = []

        def transmit(command: bytes) -> bytes | Failure:
            nonlocal at_ms
            at_ms = worker.now_ms()
            code, answer = scard.SCardTransmit(card, pci, list(command))
            codes.append(code)
            # A card that leaves during a command gives success without an answer.
            return self._failure(code) if code or not answer else bytes(answer)

        try:
            dialogue = self._prover.dialogue(now_ms=at_ms)
            outcome = run(dialogue, transmit=transmit, now_ms=worker.now_ms)
        finally:
            # Left powered: a power-off that meets a removal can leave a reader unusable.
            scard.SCardDisconnect(card, scard.SCARD_LEAVE_CARD)
        return at_ms, (None if scard.SCARD_W_RESET_CARD in codes else outcome)

    def _failure(self, code: int) -> Failure:
        scard = self._scard
        if code in (0, scard.SCARD_W_REMOVED_CARD, scard.SCARD_E_NO_SMARTCARD):
            return Failure.LEFT_FIELD
        if code in (scard.SCARD_W_UNRESPONSIVE_CARD, scard.SCARD_W_UNPOWERED_CARD):
            return Failure.UNKNOWN_FAMILY
        return Failure.READER_ERROR

    def _fault(self, found: str, code: int) -> DeviceFault:
        return DeviceFault(
            f"reader {self._reader_id}: {found} ({self._scard.SCardGetErrorMessage(code)}); "
            "check that pcscd runs: systemctl status pcscd"
        )
