"""From one reader's settings to a Reader that runs: the only place that knows all drivers.

Drivers are imported when a setting asks for them, so that an agent without a PC/SC reader needs
no pyscard and starts sooner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from edge.model import SetupProblem
from edge.readers.frame import BAUD_MIN, Frame
from edge.readers.hex_line_frame import HexLineFrame
from edge.readers.id12_frame import Id12Frame
from edge.readers.reader import Reader
from edge.readers.worker import ReaderWorker, Session, monotonic_ms
from edge.settings import ReaderSettings

FRAMES: Mapping[str, type[Frame]] = MappingProxyType({"id12": Id12Frame, "hex_line": HexLineFrame})
BAUDS = (9_600, 19_200, 38_400, 57_600, 115_200)  # What these readers can be set to.
DRIVERS = ("serial", "pcsc")

assert min(BAUDS) == BAUD_MIN


def open_reader(
    settings: ReaderSettings,
    *,
    wake: Callable[[], None],
    now_ms: Callable[[], int] = monotonic_ms,
) -> Reader:
    """Start the reader; it opens its device by itself and says LinkUp when cards count.

    `wake` is called, from the reader's thread, after something was queued for `poll`; it must
    not block. `now_ms` is the monotonic clock of `CardRead.at_ms`.

    Raises SetupProblem for settings nothing can be opened with, or a driver that is not
    installed. A device that is merely absent is no error: it is a LinkDown.
    """
    problem = settings_problem(settings)
    if problem:
        raise SetupProblem(f"reader {settings.reader_id}: {problem}")
    return ReaderWorker(
        reader_id=settings.reader_id, session=_session(settings), wake=wake, now_ms=now_ms
    )


def settings_problem(settings: ReaderSettings) -> str:
    """What is wrong with these settings and what is allowed, or ""."""
    if settings.driver not in DRIVERS:
        return f'driver is "{settings.driver}"; it can be {_listed(DRIVERS)}'
    if settings.driver == "pcsc":
        return ""
    if not settings.port:
        return "port is empty; give the device's path, such as /dev/serial/by-path/…"
    if settings.frame not in FRAMES:
        return f'frame is "{settings.frame}"; it can be {_listed(FRAMES)}'
    if settings.baud not in BAUDS:
        return f"baud is {settings.baud}; it can be {', '.join(str(baud) for baud in BAUDS)}"
    return ""


def _session(settings: ReaderSettings) -> Session:
    if settings.driver == "pcsc":
        from edge.readers.pcsc import PcscSession, load_scard

        return PcscSession(settings, scard=load_scard())
    from edge.readers.serial_port import SerialSession

    return SerialSession(settings, new_frame=FRAMES[settings.frame])


def _listed(words: Mapping[str, object] | tuple[str, ...]) -> str:
    return " or ".join(f'"{word}"' for word in words)
