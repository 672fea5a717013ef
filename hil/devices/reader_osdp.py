"""A virtual OSDP reader: libosdp's peripheral side behind a pty, with a cable that can be cut.

It needs libosdp, as the driver under test does; the two sides share the library and no code of
ours. The path stays the same while the reader's adapter is unplugged and plugged in again; a cut
cable is another thing, and leaves the adapter where it is.
"""

from __future__ import annotations

import os
import select
import threading
import time
from pathlib import Path
from typing import Any

from edge.readers import wiegand
from hil.devices.reader_serial import VirtualPort

KEY = bytes.fromhex("a5c3f09e1b2d4c6f8097867564534231")  # For benches only.
DEFAULT_KEY = bytes(range(0x30, 0x40))
REFRESH_S = 0.002
ASKED_S_MAX = 10.0


class VirtualOsdpReader(VirtualPort):
    """Plugged in when made. `key` None is a reader nobody has paired: it takes the default key."""

    def __init__(self, path: Path, *, key: bytes | None = KEY, address: int = 0) -> None:
        import osdp_sys  # An extra: benches without an OSDP reader do not need it.

        self._library = osdp_sys
        osdp_sys.set_loglevel(osdp_sys.LOG_EMERG)
        self.cut = False  # The cable between adapter and reader.
        self.commands: list[dict[str, Any]] = []  # What the panel told it.
        self.answers = 0  # What it said to the panel, so far.
        self.id = 0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._plugged = False
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

    # The person at the bench.

    def tap(self, uid: bytes) -> None:
        """Show a card: the reader keeps it until it is asked."""
        self._submit(self._library.CARD_FMT_RAW_UNSPECIFIED, 8 * len(uid), uid)

    def tap_wiegand(self, text: str) -> None:
        """Show a card whose bits are these, parity included."""
        bits = len(text)
        data = int(text.ljust(-(-bits // 8) * 8, "0"), 2).to_bytes(-(-bits // 8), "big")
        assert wiegand.bits_of(data, bits) == text
        self._submit(self._library.CARD_FMT_RAW_WIEGAND, bits, data)

    def wait_told(self, count: int) -> list[dict[str, Any]]:
        """The first `count` commands. Raises TimeoutError when they do not come."""
        until_s = time.monotonic() + ASKED_S_MAX
        while len(self.commands) < count:
            if time.monotonic() > until_s:
                raise TimeoutError(f"{self.path}: {len(self.commands)} of {count} commands came")
            time.sleep(REFRESH_S)
        return self.commands[:count]

    def wait_asked(self, count: int = 3) -> None:
        """Until it has answered so many more times. Raises TimeoutError when nobody asks."""
        enough, until_s = self.answers + count, time.monotonic() + ASKED_S_MAX
        while self.answers < enough:
            if time.monotonic() > until_s:
                raise TimeoutError(f"{self.path}: nobody asks; is the agent running?")
            time.sleep(REFRESH_S)

    def unplug(self) -> None:
        self._plugged = False
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        super().unplug()

    def replug(self) -> None:
        super().replug()
        self._plugged = True
        self._thread = threading.Thread(target=self._run, name="virtual OSDP reader", daemon=True)
        self._thread.start()

    def _submit(self, kind: int, bits: int, data: bytes) -> None:
        with self._lock:
            self._reader.submit_event(
                {
                    "event": self._library.EVENT_CARDREAD,
                    "reader_no": 0,
                    "direction": 0,
                    "format": kind,
                    "length": bits,
                    "data": data,
                }
            )

    def _told(self, command: dict[str, Any]) -> tuple[int, None]:
        self.commands.append(dict(command))
        return 0, None

    def _run(self) -> None:
        while self._plugged:
            with self._lock:
                self._reader.refresh()
            time.sleep(REFRESH_S)

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
