"""A virtual OSDP reader: libosdp's peripheral side behind a pty, with a cable that can be cut.

It needs libosdp, as the driver under test does; the two sides share the library and no code of
ours. The path stays the same while the reader's adapter is unplugged and plugged in again; a cut
cable is another thing, and leaves the adapter where it is. The reader is a process of its own
(`osdp_peripheral.py`); here is the person in front of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

from edge.readers import wiegand

KEY = bytes.fromhex("a5c3f09e1b2d4c6f8097867564534231")  # For benches only.
DEFAULT_KEY = bytes(range(0x30, 0x40))
LOOK_S = 0.005  # Our choice: how often is asked for what comes by itself.
ASKED_S_MAX = 10.0
END_S_MAX = 10.0


class VirtualOsdpReader:
    """Plugged in when made. `key` None is a reader nobody has paired: it takes the default key."""

    def __init__(self, path: Path, *, key: bytes | None = KEY, address: int = 0) -> None:
        self.path = path
        self._cut = False
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "hil.devices.osdp_peripheral"),
                *(str(path), (key or b"").hex(), str(address)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._seen = self._answered()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # The person at the bench.

    def tap(self, uid: bytes) -> None:
        """Show a card: the reader keeps it until it is asked."""
        self._ask("show", kind="CARD_FMT_RAW_UNSPECIFIED", bits=8 * len(uid), data=uid.hex())

    def tap_wiegand(self, text: str) -> None:
        """Show a card whose bits are these, parity included."""
        bits = len(text)
        data = int(text.ljust(-(-bits // 8) * 8, "0"), 2).to_bytes(-(-bits // 8), "big")
        assert wiegand.bits_of(data, bits) == text
        self._ask("show", kind="CARD_FMT_RAW_WIEGAND", bits=bits, data=data.hex())

    @property
    def cut(self) -> bool:
        """Whether the cable between adapter and reader is cut."""
        return self._cut

    @cut.setter
    def cut(self, cut: bool) -> None:
        self._cut = cut
        self._ask("cut", cut=cut)

    def unplug(self) -> None:
        self._ask("unplug")

    def replug(self) -> None:
        self._ask("replug")

    # What became of it.

    @property
    def commands(self) -> list[dict[str, Any]]:
        """What the panel told it; bytes as hex digits."""
        self._ask("look")
        commands: list[dict[str, Any]] = self._seen["commands"]
        return commands

    @property
    def answers(self) -> int:
        """How often it said something to the panel."""
        self._ask("look")
        return int(self._seen["answers"])

    def wait_told(self, count: int) -> list[dict[str, Any]]:
        """The first `count` commands. Raises TimeoutError when they do not come."""
        until_s = time.monotonic() + ASKED_S_MAX
        while len(commands := self.commands) < count:
            if time.monotonic() > until_s:
                raise TimeoutError(f"{self.path}: {len(commands)} of {count} commands came")
            time.sleep(LOOK_S)
        return commands[:count]

    def wait_asked(self, count: int = 3) -> None:
        """Until it has answered so many more times. Raises TimeoutError when nobody asks."""
        enough, until_s = self.answers + count, time.monotonic() + ASKED_S_MAX
        while self.answers < enough:
            if time.monotonic() > until_s:
                raise TimeoutError(f"{self.path}: nobody asks; is the agent running?")
            time.sleep(LOOK_S)

    def close(self) -> None:
        """The reader is gone, and its port with it. Twice is fine."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(END_S_MAX)
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()

    def _ask(self, do: str, **what: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **what}) + "\n")
        self._process.stdin.flush()
        self._seen = self._answered()

    def _answered(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"{self.path}: the virtual reader has ended"
        seen: dict[str, Any] = json.loads(line)
        return seen
