"""Goal: a network that comes back is heard of, from a cable or an address; what else the kernel
says is no reason to try.

Method: messages put together by rtnetlink(7), cut anywhere; and, where a private network may be
made, the real kernel with its loopback switched on.
"""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest

from sync.network_watch import (
    IFF_RUNNING,
    RTM_DELLINK,
    RTM_NEWADDR,
    RTM_NEWLINK,
    NetworkWatch,
)

RTM_DELADDR, RTM_NEWROUTE = 21, 24
ROOT = Path(__file__).parents[2]


@pytest.fixture
def watch() -> NetworkWatch:
    made = NetworkWatch()
    made.close()
    return made


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body + bytes(-len(body) % 4)


def link(index: int, *, running: bool, kind: int = RTM_NEWLINK) -> bytes:
    flags = 0x1003 | (IFF_RUNNING if running else 0)
    return message(kind, struct.pack("=BxHiII", 0, 1, index, flags, 0xFFFFFFFF) + b"attributes..")


def test_a_cable_is_news_when_it_is_plugged_in(watch: NetworkWatch) -> None:
    said = [
        watch.take(link(2, running=True)),
        watch.take(link(2, running=True)),  # Its counters changed, or a radio looked around.
        watch.take(link(2, running=False)),
        watch.take(link(3, running=False) + link(2, running=True)),
        watch.take(link(2, running=True, kind=RTM_DELLINK)),
        watch.take(link(2, running=True)),
    ]
    assert said == [True, False, False, True, False, True]


def test_an_address_is_news_when_it_is_given(watch: NetworkWatch) -> None:
    assert watch.take(message(RTM_NEWADDR, bytes(8)))
    assert not watch.take(message(RTM_DELADDR, bytes(8)) + message(RTM_NEWROUTE, bytes(12)))


def test_what_is_cut_or_no_message_is_no_news_and_no_error(watch: NetworkWatch) -> None:
    whole = link(2, running=True)
    for end in range(len(whole)):
        watch.take(whole[:end])
    for length in (0, 1, 15, 2**31):
        assert not watch.take(struct.pack("=IHHII", length, RTM_NEWADDR, 0, 0, 0))


def test_without_the_socket_nothing_is_ever_news(watch: NetworkWatch) -> None:
    assert not watch.came_back()


PROGRAM = """
import fcntl, socket, struct, sys, time
from sync.network_watch import NetworkWatch
watch = NetworkWatch()
assert not watch.came_back()
with socket.socket() as any_socket:
    flags = struct.pack("16sh", b"lo", 0x41)  # <linux/sockios.h> SIOCSIFFLAGS: IFF_UP, IFF_RUNNING
    fcntl.ioctl(any_socket, 0x8914, flags)
until = time.monotonic() + 20
while not watch.came_back():
    if time.monotonic() > until:
        sys.exit(3)
    time.sleep(0.01)
assert not watch.came_back()
watch.close()
"""


def test_the_kernel_says_when_a_link_comes_up() -> None:
    command = ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-c", PROGRAM]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    if "unshare" in done.stderr:
        pytest.skip(f"no private network here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
