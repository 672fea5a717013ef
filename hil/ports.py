"""Free ports, and the same ones again at the next start."""

from __future__ import annotations

import socket
import tomllib
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

HOST: Final = "127.0.0.1"


def screens_port(device_file: Path) -> int:
    """The port that the station's `device.toml` names, if it is free; else one that is."""
    try:
        known = tomllib.loads(device_file.read_text()).get("screens", {}).get("port", 0)
    except (OSError, ValueError):
        known = 0
    port = known if isinstance(known, int) and 0 < known < 1 << 16 else 0
    return _bound(port) or _bound(0)


def remembered_ports(memory: Path) -> dict[str, int]:
    """Those of the last run; none when it is not known."""
    try:
        return msgspec.json.decode(memory.read_bytes(), type=dict[str, int])
    except (OSError, msgspec.MsgspecError):
        return {}


def _bound(port: int) -> int:
    """Which port was got when asking for this one; 0: none."""
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return 0
        return int(probe.getsockname()[1])
