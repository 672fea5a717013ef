"""Runs the reference city: `python -m hil.city --folder DIR --broker URL --http 127.0.0.1:0 …`.

Prints one line of JSON on stdout when it listens: `{"http": "http://127.0.0.1:4711", "ready":
true}`. Connects to the broker whenever that is there. Ends with 0 at SIGTERM or SIGINT, with 1 and
one sentence on stderr when its set-up is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import uvicorn

from edge.model import SetupProblem
from hil.city.bridge import parse_endpoint
from hil.city.desk import Desk, Refused
from hil.city.intake import CityCore
from hil.city.keys import CityKeys, city_client, open_keys, utc
from hil.city.lists import GATHER_MS
from hil.city.mosquitto import BrokerFiles, write_broker
from hil.city.seed import SEEDED, seed_school
from hil.city.service import Service
from hil.city.store import Store
from hil.city.web import FeedBell, make_app
from hil.world.school import make_school

STOP_S: Final = 2  # Our choice: an answer under way may end; a long poll is woken.


class _Server(uvicorn.Server):
    """uvicorn without its signal handling: it would raise the signal again after a clean end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m hil.city", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="keys and database of this city")
    parser.add_argument("--broker", required=True, help="mqtt://host:port or mqtts://host:port")
    parser.add_argument("--ca", type=Path, help="trust for mqtts; default: the city's own chain")
    parser.add_argument("--cert", type=Path, help="client certificate; default: one of its own")
    parser.add_argument("--key", type=Path, help="key of --cert")
    parser.add_argument("--http", default="127.0.0.1:0", help="where to listen; port 0: any")
    parser.add_argument("--seed", type=int, default=1, help="which synthetic school")
    parser.add_argument("--site", default="s0001")
    parser.add_argument("--claim", action="append", default=[], help="a claim code to begin with")
    parser.add_argument("--endpoint", action="append", default=[], help="told to devices")
    parser.add_argument(
        "--gather-ms", type=int, default=GATHER_MS, help="money deltas wait so long"
    )
    parser.add_argument("--mosquitto", type=Path, help="folder to keep a broker's files in")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stderr)
    os.umask(0o077)
    try:
        asyncio.run(_run(options))
    except (SetupProblem, Refused) as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


async def _run(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    now_ms = time.time_ns() // 1_000_000
    keys = open_keys(options.folder, options.site, utc(now_ms))
    endpoint = parse_endpoint(options.broker, lambda: _tls(options, keys, now_ms))
    listener = _listen(options.http)
    core = _open_core(options, keys, now_ms)
    desk = Desk(core, tuple(options.endpoint) or (options.broker,))
    for code in options.claim:
        desk.make_claim(now_ms, code)
    bell = FeedBell(loop)
    files = _broker_files(options, keys, desk, now_ms, endpoint.port)
    service = Service(core, desk, endpoint, on_feed=bell.ring, broker_files=files)
    describe = {"city": "reference", "site": options.site, "broker": options.broker}
    app = make_app(service, desk, bell, describe)
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=STOP_S,
    )
    server = _Server(config)
    service.start()
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    host, port = listener.getsockname()[:2]
    print(json.dumps({"http": f"http://{host}:{port}", "ready": True}), flush=True)
    waiting = asyncio.create_task(stopping.wait())
    await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
    bell.close()
    server.should_exit = True
    await serving
    waiting.cancel()
    await asyncio.to_thread(service.stop)


def _open_core(options: argparse.Namespace, keys: CityKeys, now_ms: int) -> CityCore:
    core = CityCore(Store(options.folder / "city.db"), keys, gather_ms=options.gather_ms)
    seed_school(core, make_school(options.seed, options.site), now_ms)
    if core.store.meta(SEEDED) != str(options.seed):
        held = core.store.meta(SEEDED)
        core.store.close()
        raise SetupProblem(
            f"{options.folder} holds the school of seed {held}, not {options.seed};"
            " use that seed or another folder"
        )
    core.start(now_ms)
    return core


def _tls(options: argparse.Namespace, keys: CityKeys, now_ms: int) -> ssl.SSLContext:
    certificate, key = options.cert, options.key
    if certificate is None or key is None:
        certificate, key = city_client(keys, utc(now_ms))
    try:
        context = ssl.create_default_context(cafile=str(options.ca or keys.chain_path))
        context.load_cert_chain(certificate, key)
    except OSError as error:
        raise SetupProblem(
            f"TLS files of the city: {error}; look at --ca, --cert, --key"
        ) from error
    return context


def _listen(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    try:
        return socket.create_server((host, int(port)))
    except (OSError, ValueError, OverflowError) as error:
        raise SetupProblem(f"--http {address!r}: {error}; write host:port") from error


def _broker_files(
    options: argparse.Namespace, keys: CityKeys, desk: Desk, now_ms: int, port: int
) -> BrokerFiles | None:
    if options.mosquitto is None:
        return None
    return write_broker(
        options.mosquitto.absolute(),
        port,
        keys,
        utc(now_ms),
        senders=desk.senders(),
        revoked=desk.revoked_serials(),
    )


if __name__ == "__main__":
    sys.exit(main())
