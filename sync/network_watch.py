"""Whether this machine's network has just come back: a cable plugged in, an address given.

The kernel says so itself, over a netlink socket (rtnetlink(7)) that costs nothing while nothing
happens, needs no rights, and hears a link that is gone and back between two looks, which reading
`/proc/net/route` once a second would not. What it says is a hint to try now and proves nothing.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Final

from edge import logs

# <linux/rtnetlink.h> and <linux/if.h>.
RTMGRP_LINK: Final = 0x1
RTMGRP_IPV4_IFADDR: Final = 0x10
RTMGRP_IPV6_IFADDR: Final = 0x100
RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_NEWADDR: Final = 20
IFF_RUNNING: Final = 0x40
HEADER: Final = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port.
IFINFO: Final = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change.
READ_BYTES: Final = 64 * 1024
READS_MAX: Final = 32  # Our choice: the rest is read at the next look.


class NetworkWatch:
    """Ask `came_back` now and then; it never blocks."""

    def __init__(self) -> None:
        self._running: dict[int, bool] = {}  # By index of the interface.
        self._socket: socket.socket | None = None
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK,
                socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
                socket.NETLINK_ROUTE,
            )
            self._socket.bind((0, RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR))
        except OSError as error:
            # Such as a container that forbids it: then the waits between attempts are all there is.
            self.close()
            logs.get("sync").warning("cannot watch the network", reason=str(error))

    def came_back(self) -> bool:
        """Whether a link or an address came since the last time."""
        back = False
        for _ in range(READS_MAX):
            if self._socket is None:
                break
            try:
                data = self._socket.recv(READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                back = True  # ENOBUFS: so much happened that some was dropped.
                break
            back |= self.take(data)
        return back

    def take(self, data: bytes) -> bool:
        """What the kernel said in one message: whether it is good news."""
        back = False
        for kind, body in _messages(data):
            if kind == RTM_NEWADDR:
                back = True
            elif kind in (RTM_NEWLINK, RTM_DELLINK) and len(body) >= IFINFO.size:
                _, _, index, flags, _ = IFINFO.unpack_from(body)
                running = kind == RTM_NEWLINK and bool(flags & IFF_RUNNING)
                back |= running and not self._running.get(index, False)
                self._running[index] = running
        return back

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and body of each message; what does not fit ends it."""
    at = 0
    while at + HEADER.size <= len(data):
        length, kind, _, _, _ = HEADER.unpack_from(data, at)
        if not HEADER.size <= length <= len(data) - at:
            return
        yield kind, data[at + HEADER.size : at + length]
        at += -(-length // 4) * 4  # NLMSG_ALIGN
