"""The machine and the process on it: what a copied image does not bring along, and how both
processes begin and end.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

from edge import logs
from edge.config import load
from edge.model import CorruptData, DeviceFault, SetupProblem
from edge.settings import DeviceSettings

STOPPED: Final = 0
YOURS: Final = 1  # Something for the technician to mend.
OURS: Final = 2  # A fault in this software. Whoever keeps the process up starts it again.
PLACES_MAX: Final = 12  # Our choice: the innermost; a log line holds no more.


def main(process: str, description: str, run: Callable[[DeviceSettings], None]) -> int:
    """Read the file, `run` until it returns, and say how that ended: the exit code."""
    if not __debug__:
        sys.exit(f"{process}: started with -O, which takes out the checks; start it without")
    parser = argparse.ArgumentParser(prog=process, description=description)
    parser.add_argument("--config", type=Path, required=True, help="the station's device.toml")
    config = parser.parse_args().config
    os.umask(0o007)  # house.md: files 0660 of the group; others see nothing.
    logs.set_up(process)
    try:
        settings = load(config)
        logs.set_up(process, level=settings.log_level)
        run(settings)
    except (SetupProblem, DeviceFault, CorruptData) as problem:
        print(f"{process}: {problem}", file=sys.stderr)  # noqa: T201  For who started it.
        return YOURS
    except Exception as error:
        # Its places and not its words: a word may be a name or a number of a card.
        kind, places = type(error).__name__, _places(error)
        logs.get(process).error("a fault in this software", fault=kind, places=places)
        print(  # noqa: T201  For who started it.
            f"{process}: a fault in this software ({kind} at {places[-1] if places else '?'}); "
            "report this line with the log",
            file=sys.stderr,
        )
        return OURS
    return STOPPED


def _places(error: BaseException) -> list[str]:
    """Where it went through, the innermost last."""
    frames = traceback.extract_tb(error.__traceback__)[-PLACES_MAX:]
    return [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]


def machine_id() -> str:
    """This board and this card, as they stand in this device's own files.

    The board's serial from the device tree (Raspberry Pi) and the root file system's card id,
    else the machine id. Hashed nowhere: it stays on this device.
    """
    parts = []
    for path in ("/proc/device-tree/serial-number", "/sys/block/mmcblk0/device/cid"):
        try:
            parts.append(Path(path).read_text().strip("\0\n "))
        except OSError:
            continue
    if not parts:
        try:
            parts.append(Path("/etc/machine-id").read_text().strip())
        except OSError:
            parts.append("unknown")
    return "/".join(parts)
