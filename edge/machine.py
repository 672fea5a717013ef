"""Which machine this is: what a copied image does not bring along."""

from __future__ import annotations

from pathlib import Path


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
