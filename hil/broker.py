"""The embedded MQTT broker of the miniature: amqtt on a loopback port, in a process of its own.

It speaks MQTT 3.1.1, keeps nothing on disk and lets everybody in: it stands where a city's real
broker stands, and the product trusts neither. Prints one JSON line with its port when it listens.

    python -m hil.broker [--port N]        0 or nothing: a free port
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import signal
import sys
from typing import Final

from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
from amqtt.broker import Broker
from amqtt.session import Session

PLUGINS: Final = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
LISTENER: Final = "default"
STOP_S_MAX: Final = 2.0  # Our choice: amqtt waits for its clients to go; a broker told to stop not.
CONNECT_S_MAX: Final = 10.0  # Our choice: who says nothing for so long is no client.
CONNECT: Final = 0x10  # MQTT 3.1.1, 3.1: the first byte of the first packet.
LEVEL_AT: Final = 6  # 3.1.2.2: after the length-prefixed "MQTT".
LEVEL_5: Final = 5
# MQTT 5.0, 3.2: CONNACK, 3 bytes: no session, 0x84 Unsupported Protocol Version, no properties.
REFUSE_5: Final = bytes([0x20, 0x03, 0x00, 0x84, 0x00])


class _ReaderAgain(StreamReaderAdapter):  # type: ignore[misc]  # amqtt is not typed
    """A reader whose first bytes were read already."""

    def __init__(self, reader: asyncio.StreamReader, first: bytes) -> None:
        super().__init__(reader)
        self._first = first

    async def read(self, n: int = -1) -> bytes:
        data, self._first = (self._first, b"") if n == -1 else (self._first[:n], self._first[n:])
        if n == -1 or len(data) < n:
            data += await super().read(n if n == -1 else n - len(data))
        return data


class _Broker(Broker):  # type: ignore[misc]  # amqtt is not typed
    """amqtt 0.12 with two things put right."""

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        """amqtt drops an MQTT 5 client with a will without a word, and the client waits for it.
        A refusal in its own language makes it come back with 3.1.1 at once."""
        try:
            async with asyncio.timeout(CONNECT_S_MAX):
                first = await _first_bytes(reader)
        except (OSError, asyncio.IncompleteReadError):
            writer.close()
            return
        if first[0] == CONNECT and first[-1] == LEVEL_5:
            writer.write(REFUSE_5)
            writer.close()
            return
        await self._client_connected(
            listener_name, _ReaderAgain(reader, first), StreamWriterAdapter(writer)
        )

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        """amqtt sends a new client what is retained for everybody's subscriptions: only its own."""
        held = self._subscriptions.get(subscription[0], ())
        if any(holder is session for holder, _ in held):
            await super()._publish_retained_messages_for_subscription(subscription, session)


async def _first_bytes(reader: asyncio.StreamReader) -> bytes:
    """Up to the protocol level of a CONNECT; of anything else only as much as tells that."""
    first = await reader.readexactly(2)
    while first[-1] & 0x80 and len(first) < 5:  # 2.2.3: the length has one to four bytes.
        first += await reader.readexactly(1)
    if first[0] != CONNECT:
        return first
    return first + await reader.readexactly(LEVEL_AT + 1)


async def serve(port: int) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    broker = _Broker(
        {
            "listeners": {LISTENER: {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": PLUGINS,
        }
    )
    await broker.start()
    print(json.dumps({"port": _bound_port(broker), "ready": True}), flush=True)
    await stop.wait()
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(broker.shutdown(), timeout=STOP_S_MAX)
    return 0


def _bound_port(broker: Broker) -> int:
    server = broker._servers[LISTENER].instance  # It does not say which free port it took.
    return int(server.sockets[0].getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m hil.broker")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    sys.exit(asyncio.run(serve(arguments.port)))


if __name__ == "__main__":
    main()
