"""Goal: the switch in the wire takes effect at once, in both directions, and can be undone.

Method: a real echo server behind the proxy and a real client before it, on free loopback ports.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from hil.proxy import CONNECTIONS_MAX, Proxy, Wire

ANSWER_S_MAX = 5.0
SILENCE_S = 0.05  # Loopback answers within a millisecond; fifty of them are a silence.


@asynccontextmanager
async def echo_behind_proxy() -> AsyncIterator[Proxy]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(4096):
            writer.write(piece)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    proxy = Proxy(target_port=int(server.sockets[0].getsockname()[1]))
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()
        server.close()
        await server.wait_closed()


class Client:
    """One connection through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connect(cls, proxy: Proxy) -> Client:
        return cls(*await asyncio.open_connection("127.0.0.1", proxy.port))

    async def ask(self, words: bytes) -> bytes:
        self.say(words)
        return await asyncio.wait_for(self._reader.readexactly(len(words)), ANSWER_S_MAX)

    def say(self, words: bytes) -> None:
        self._writer.write(words)

    async def hears(self) -> bytes:
        return await self._reader.read(4096)

    async def gone(self) -> bool:
        """True once the other end has hung up."""
        try:
            return await asyncio.wait_for(self._reader.read(1), ANSWER_S_MAX) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        self._writer.transport.abort()


def run(test: Callable[[Proxy], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with echo_behind_proxy() as proxy:
            await test(proxy)

    asyncio.run(whole())


def test_what_goes_in_comes_out() -> None:
    async def test(proxy: Proxy) -> None:
        client = await Client.connect(proxy)
        words = bytes(range(256)) * 1024
        assert await client.ask(words) == words
        assert proxy.bytes_up == proxy.bytes_down == len(words)
        client.close()

    run(test)


def test_cut_ends_what_is_connected_and_what_comes() -> None:
    async def test(proxy: Proxy) -> None:
        before = await Client.connect(proxy)
        assert await before.ask(b"here") == b"here"
        proxy.switch(Wire.CUT)
        assert await before.gone()
        during = await Client.connect(proxy)
        assert await during.gone()
        proxy.switch(Wire.ON)
        after = await Client.connect(proxy)
        assert await after.ask(b"back") == b"back"
        for client in (before, during, after):
            client.close()

    run(test)


def test_silent_keeps_the_connection_and_what_was_said() -> None:
    async def test(proxy: Proxy) -> None:
        client = await Client.connect(proxy)
        assert await client.ask(b"here") == b"here"
        proxy.switch(Wire.SILENT)
        client.say(b"anybody?")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.hears(), SILENCE_S)
        proxy.switch(Wire.ON)
        assert await asyncio.wait_for(client.hears(), ANSWER_S_MAX) == b"anybody?"
        client.close()

    run(test)


def test_last_words_arrive_before_the_hang_up() -> None:
    async def test(proxy: Proxy) -> None:
        last_words = b"." * 8_000_000  # More than the buffers on the way hold.

        async def speak_and_go(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(last_words)
            writer.close()

        server = await asyncio.start_server(speak_and_go, "127.0.0.1", 0)
        proxy.target_port = int(server.sockets[0].getsockname()[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await asyncio.wait_for(reader.read(-1), ANSWER_S_MAX) == last_words
        writer.close()
        server.close()
        await server.wait_closed()

    run(test)


def test_nobody_behind_the_proxy_is_a_hang_up() -> None:
    async def test(proxy: Proxy) -> None:
        proxy.target_port = 1  # Nobody listens on a port of the kernel's own range here.
        client = await Client.connect(proxy)
        assert await client.gone()
        client.close()

    run(test)


def test_a_storm_of_connections_is_bounded() -> None:
    async def test(proxy: Proxy) -> None:
        clients = [await Client.connect(proxy) for _ in range(CONNECTIONS_MAX)]
        assert [await client.ask(b"1") for client in clients] == [b"1"] * CONNECTIONS_MAX
        one_more = await Client.connect(proxy)
        assert await one_more.gone()
        assert proxy.connections == CONNECTIONS_MAX
        for client in (*clients, one_more):
            client.close()

    run(test)
