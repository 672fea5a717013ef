"""Asks the reference city over its HTTP, without a thread: a long poll must not hold up an end."""

from __future__ import annotations

import asyncio
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import h11
import msgspec

from edge.model import DeviceFault

ANSWER_BYTES_MAX: Final = 1024 * 1024  # Our choice: fifty messages and a hundred cards are 30 KiB.
ANSWER_S_MAX: Final = 10.0  # Our choice: beside what a long poll waits for anyhow.
PIECE_BYTES: Final = 64 * 1024


class CityClient:
    """One city at `base`, such as `http://127.0.0.1:8000`. Each question has its own connection."""

    def __init__(self, base: str) -> None:
        self._host = urlsplit(base).hostname or ""
        self._port = urlsplit(base).port or 80

    async def get(self, path: str, *, wait_s: float = 0.0, **query: object) -> Any:
        """The answer's JSON. `wait_s` is what the city may take on purpose (a long poll)."""
        if wait_s:
            query["wait_s"] = round(wait_s)
        target = f"{path}?{urlencode(query)}" if query else path
        return await self._ask("GET", target, None, ANSWER_S_MAX + wait_s)

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        return await self._ask("POST", path, msgspec.json.encode(body), ANSWER_S_MAX)

    async def _ask(self, method: str, target: str, body: bytes | None, wait_s: float) -> Any:
        try:
            async with asyncio.timeout(wait_s):
                status, answer = await self._exchange(method, target, body)
        except TimeoutError as error:
            raise DeviceFault(f"the city does not answer {target} within {wait_s:.0f} s") from error
        except (OSError, h11.RemoteProtocolError) as error:
            raise DeviceFault(f"the city does not answer {target} ({error})") from error
        try:
            found = msgspec.json.decode(answer) if answer else {}
        except msgspec.MsgspecError:
            found = {"error": answer[:200].decode(errors="replace")}
        if status >= 400:
            words = found.get("error") if isinstance(found, dict) else None
            raise DeviceFault(f"the city refuses {target}: {words or status}")
        return found

    async def _exchange(self, method: str, target: str, body: bytes | None) -> tuple[int, bytes]:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            connection = h11.Connection(h11.CLIENT)
            headers = [("Host", f"{self._host}:{self._port}"), ("Connection", "close")]
            if body is not None:
                headers += [
                    ("Content-Type", "application/json"),
                    ("Content-Length", str(len(body))),
                ]
            for event in (
                h11.Request(method=method, target=target, headers=headers),
                *([h11.Data(data=body)] if body else []),
                h11.EndOfMessage(),
            ):
                writer.write(connection.send(event) or b"")
            await writer.drain()
            return await _read_answer(connection, reader)
        finally:
            writer.transport.abort()


async def _read_answer(
    connection: h11.Connection, reader: asyncio.StreamReader
) -> tuple[int, bytes]:
    status, answer = 0, bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(PIECE_BYTES))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            answer += event.data
            if len(answer) > ANSWER_BYTES_MAX:
                raise DeviceFault(f"the city answers with more than {ANSWER_BYTES_MAX} bytes")
        elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
            return status, bytes(answer)
