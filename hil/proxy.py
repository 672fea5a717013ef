"""The wire between the stations and the broker, with a switch in it.

A TCP proxy of our own, so that a network can be taken away from real processes without touching
the machine's: `cut` is a pulled plug one notices (connections are reset, new ones refused),
`silent` is the worse one (everything stays connected and nothing arrives).
"""

from __future__ import annotations

import asyncio
from enum import StrEnum, unique
from typing import Final

PIECE_BYTES: Final = 64 * 1024  # Our choice: one message of the wire (protocol.md).
CONNECTIONS_MAX: Final = 64  # Our choice: two stations need two; more is a reconnect storm.
CONNECT_S_MAX: Final = 5.0  # Our choice: the broker is on this machine.
GOODBYE_S_MAX: Final = 2.0  # Our choice: time for the last words of the end that hung up.


@unique
class Wire(StrEnum):
    """What the wire does."""

    ON = "on"
    CUT = "cut"
    SILENT = "silent"


class Proxy:
    """Listens on `127.0.0.1:port` and hands everything to `127.0.0.1:target_port`, or does not."""

    def __init__(self, *, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self.bytes_up = 0
        self.bytes_down = 0
        self._wire = Wire.ON
        self._passing = asyncio.Event()
        self._passing.set()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def wire(self) -> Wire:
        return self._wire

    @property
    def connections(self) -> int:
        return len(self._connections)

    async def start(self, port: int = 0) -> int:
        """Listen; 0 takes a free port. Returns the port; OSError when it is taken."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self.port

    def switch(self, wire: Wire) -> None:
        """Takes effect at once, for the connections there are too."""
        self._wire = wire
        if wire is Wire.SILENT:
            self._passing.clear()
        else:
            self._passing.set()
        if wire is Wire.CUT:
            for connection in self._connections:
                connection.cancel()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._wire is Wire.CUT or len(self._connections) >= CONNECTIONS_MAX:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._carry(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # One end is gone, or the wire was cut: so is the other end, below.
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._passing.wait()
        there = asyncio.open_connection("127.0.0.1", self.target_port, limit=PIECE_BYTES)
        far_reader, far_writer = await asyncio.wait_for(there, CONNECT_S_MAX)
        ways = [
            asyncio.ensure_future(self._pour(reader, far_writer, up=True)),
            asyncio.ensure_future(self._pour(far_reader, writer, up=False)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait(ways, timeout=GOODBYE_S_MAX)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            far_writer.transport.abort()

    async def _pour(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool
    ) -> None:
        while piece := await reader.read(PIECE_BYTES):
            await self._passing.wait()  # What was on the way when the wire fell silent waits too.
            writer.write(piece)
            await writer.drain()
            if up:
                self.bytes_up += len(piece)
            else:
                self.bytes_down += len(piece)
        # The last words (a refusal, a goodbye) arrive before the hang-up does.
        writer.close()
        await writer.wait_closed()
