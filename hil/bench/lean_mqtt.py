"""MQTT 3.1.1 with nothing in it: the end that listens and answers, for measuring the other end.

paho takes as long over a message as what is to be measured, and answers in bursts. This one reads
what there is, and answers each message, PUBACK and all, in one write. No retry, no window, no
reconnecting: the broker stands beside it, and what goes wrong ends the run.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from edge.model import DeviceFault
from hil.city.bridge import Endpoint
from hil.city.lists import Out

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK = 1, 2, 3, 4, 8, 9  # MQTT 3.1.1, 2.2.1.
PINGREQ: Final = b"\xc0\x00"
KEEPALIVE_S: Final = 60
ANSWER_S: Final = 30.0
TURN_S: Final = 0.05  # Our choice: how soon what another thread wants said is said.
READ_BYTES: Final = 256 * 1024
NUMBERS: Final = 60_000  # Packet identifiers go round below 65,536.

Answer = Callable[[str, bytes], Iterable[Out]]


class LeanClient:
    """Entered and left. `answer` is called in the client's thread; what it gives is published."""

    def __init__(
        self, endpoint: Endpoint, *, client_id: str, filters: tuple[str, ...], answer: Answer
    ) -> None:
        self._endpoint = endpoint
        self._client_id = client_id
        self._filters = filters
        self._answer = answer
        self._wanted: deque[Out] = deque()
        self._number = 0
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lean-mqtt", daemon=True)

    def __enter__(self) -> LeanClient:
        self._thread.start()
        if not self._ready.wait(ANSWER_S):
            raise DeviceFault("the broker does not take the lean client; look at its log")
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(ANSWER_S)

    def publish(self, outs: Iterable[Out]) -> None:
        """Soon, from any thread."""
        self._wanted.extend(outs)

    # ------------------------------------------------------------------------- the thread

    def _run(self) -> None:
        where = (self._endpoint.host, self._endpoint.port)
        assert self._endpoint.tls is not None
        with (
            socket.create_connection(where, ANSWER_S) as plain,
            self._endpoint.tls.wrap_socket(plain, server_hostname=where[0]) as link,
        ):
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            name = _text(self._client_id)
            flags = struct.pack("!BBH", 4, 2, KEEPALIVE_S)  # Version 3.1.1, clean session.
            link.sendall(_packet(CONNECT << 4, _text("MQTT") + flags + name))
            topics = b"".join(_text(one) + b"\x01" for one in self._filters)
            link.sendall(_packet(SUBSCRIBE << 4 | 2, b"\x00\x01" + topics))
            self._talk(link)

    def _talk(self, link: ssl.SSLSocket) -> None:
        came = bytearray()
        pinged_s = time.monotonic()
        while not self._stopping.is_set():
            link.settimeout(TURN_S)
            try:
                data = link.recv(READ_BYTES)
            except TimeoutError:
                data = b""
            else:
                if not data:
                    return
            came += data
            said = self._take(came)
            while self._wanted:
                said += self._publish(self._wanted.popleft())
            if time.monotonic() - pinged_s >= KEEPALIVE_S / 3:
                pinged_s = time.monotonic()
                said += PINGREQ
            if said:
                link.settimeout(ANSWER_S)
                link.sendall(said)

    def _take(self, came: bytearray) -> bytearray:
        """All whole packets from the front; what is to be said to them."""
        said = bytearray()
        while (found := _front(came)) is not None:
            start, end = found
            kind = came[0] >> 4
            if kind == PUBLISH:
                size = came[start] << 8 | came[start + 1]
                topic = came[start + 2 : start + 2 + size].decode()
                start += 2 + size
                if came[0] & 0x06:
                    said += _packet(PUBACK << 4, bytes(came[start : start + 2]))
                    start += 2
                for out in self._answer(topic, bytes(came[start:end])):
                    said += self._publish(out)
            elif kind == CONNACK and came[start + 1]:
                return said  # Refused; the broker hangs up.
            elif kind == SUBACK:
                self._ready.set()
            del came[:end]
        return said

    def _publish(self, out: Out) -> bytes:
        first = PUBLISH << 4 | out.qos << 1 | bool(out.retain)
        if not out.qos:
            return _packet(first, _text(out.topic) + out.payload)
        self._number = self._number % NUMBERS + 1
        number = struct.pack("!H", self._number)
        return _packet(first, _text(out.topic) + number + out.payload)


def _front(came: bytearray) -> tuple[int, int] | None:
    """Where the first packet's body begins and ends; None while it is not all there."""
    size = 0
    for place in range(1, min(len(came), 5)):
        size |= (came[place] & 0x7F) << 7 * (place - 1)
        if not came[place] & 0x80:
            end = place + 1 + size
            return (place + 1, end) if len(came) >= end else None
    return None


def _packet(first: int, body: bytes) -> bytes:
    size, length = bytearray(), len(body)
    while length > 0x7F:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    size.append(length)
    return bytes([first]) + size + body


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("!H", len(data)) + data
