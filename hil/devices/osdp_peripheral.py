"""The process of a virtual OSDP reader: libosdp's peripheral side on a pty of its own.

A reader on a wall is a machine of its own, which answers in milliseconds whatever the panel is
busy with; a thread beside the panel would wait wherever that process waits, and answers would come
too late to count. So it is a process, before others where the system allows it.

`reader_osdp.py` starts it and tells it what happens to the reader: a line of JSON each, answered by
a line that says what the reader has seen so far. It ends with its input.
"""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from hil.devices.reader_serial import VirtualPort

REFRESH_S: Final = 0.002
PRIORITY: Final = -10  # Our choice: before everything that does not ask for the same.
REQUEST_BYTES_MAX: Final = 4_096


class Peripheral(VirtualPort):
    """The reader itself. `key` None is a reader nobody has paired: it takes the default key."""

    def __init__(self, path: Path, *, key: bytes | None, address: int) -> None:
        import osdp_sys  # An extra: benches without an OSDP reader do not need it.

        self._library = osdp_sys
        osdp_sys.set_loglevel(osdp_sys.LOG_EMERG)
        self.cut = False  # The cable between adapter and reader.
        self.commands: list[dict[str, Any]] = []  # What the panel told it.
        self.answers = 0  # What it said to the panel, so far.
        self.id = 0
        flags = 0 if key is None else osdp_sys.FLAG_ENFORCE_SECURE
        self._reader = osdp_sys.PeripheralDevice(
            {
                "name": "virtual",
                "address": address,
                "flags": flags,
                "scbk": key,
                "channel": self,
                **dict.fromkeys(
                    ("version", "model", "vendor_code", "serial_number", "firmware_version"), 1
                ),
            },
            capabilities=[
                {"function_code": code, "compliance_level": level, "num_items": 1}
                for code, level in (
                    (osdp_sys.CAP_READER_LED_CONTROL, 2),
                    (osdp_sys.CAP_READER_AUDIBLE_OUTPUT, 1),
                    (osdp_sys.CAP_READER_TEXT_OUTPUT, 1),
                    (osdp_sys.CAP_COMMUNICATION_SECURITY, 1),
                )
            ],
        )
        self._reader.set_command_callback(self._told)
        super().__init__(path)

    def step(self) -> list[int]:
        """Live on, and say what to wait for."""
        if self._ends is None:
            return []  # No power, and nobody to hear.
        self._reader.refresh()
        return [self._ends[0]]

    def show(self, *, kind: str, bits: int, data: str) -> None:
        """Show a card: the reader keeps it until it is asked."""
        self._reader.submit_event(
            {
                "event": self._library.EVENT_CARDREAD,
                "reader_no": 0,
                "direction": 0,
                "format": getattr(self._library, kind),
                "length": bits,
                "data": bytes.fromhex(data),
            }
        )

    def set_cut(self, *, cut: bool) -> None:
        self.cut = cut

    def _told(self, command: dict[str, Any]) -> tuple[int, None]:
        self.commands.append(dict(command))
        return 0, None

    # The cable, as libosdp wants it.

    def read(self, size: int) -> bytes:
        assert self._ends is not None
        if not select.select([self._ends[0]], [], [], 0)[0]:
            return b""
        data = os.read(self._ends[0], size)
        return b"" if self.cut else data

    def write(self, data: bytes) -> int:
        assert self._ends is not None
        self.answers += 1
        return len(data) if self.cut else os.write(self._ends[0], data)

    def flush(self) -> None:
        """Nothing is held back."""


def serve(reader: Peripheral) -> None:
    """Until the input ends."""
    requests: dict[str, Callable[..., None]] = {
        "show": reader.show,
        "cut": reader.set_cut,
        "unplug": reader.unplug,
        "replug": reader.replug,
        "look": lambda: None,
    }
    waiting, given = b"", sys.stdin.fileno()
    answer(reader)
    while True:
        ready = select.select([given, *reader.step()], [], [], REFRESH_S)[0]
        if given not in ready:
            continue
        if not (data := os.read(given, REQUEST_BYTES_MAX)):
            return
        *lines, waiting = (waiting + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            requests[request.pop("do")](**request)
            answer(reader)


def answer(reader: Peripheral) -> None:
    seen = {"answers": reader.answers, "commands": reader.commands}
    print(json.dumps(seen, default=bytes.hex), flush=True)


def main(path: str, key: str, address: str) -> None:
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    told = bytes.fromhex(key) or None
    with Peripheral(Path(path), key=told, address=int(address)) as reader:
        serve(reader)


if __name__ == "__main__":
    main(*sys.argv[1:])
