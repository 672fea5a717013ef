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
from dataclasses import replace
from pathlib import Path
from typing import Final

import uvicorn

from edge.model import SetupProblem
from hil.city.bridge import parse_endpoint
from hil.city.database import is_url
from hil.city.desk import Desk, Refused
from hil.city.faults import Faults, listing
from hil.city.intake import CityCore
from hil.city.keydesk import KeyDesk
from hil.city.keys import DEVICE_ID, CityKeys, city_client, open_keys, utc
from hil.city.lists import GATHER_MS
from hil.city.mischief import Mischief
from hil.city.mosquitto import BrokerFiles, write_broker
from hil.city.parents import ParentDesk
from hil.city.schema import FILE_NAME
from hil.city.seed import SEEDED, seed_school
from hil.city.service import Branch, Service
from hil.city.store import Store
from hil.city.web import FeedBell, make_app
from hil.world.school import make_school

WORKERS_MAX: Final = 64  # Our choice: threads share one interpreter; more wait for each other.
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
    parser.add_argument(
        "--canteen", action="store_true", help="with free meals, pre-orders and a second purse"
    )
    parser.add_argument("--site", default="s0001", help="the site, or the first of them")
    parser.add_argument("--more-site", action="append", default=[], help="a further site")
    parser.add_argument("--workers", type=int, default=2, help="threads; each has some sites")
    parser.add_argument("--database", help="postgresql://…; default: SQLite files in --folder")
    parser.add_argument("--claim", action="append", default=[], help="a code to begin with")
    parser.add_argument("--fault", action="append", default=[], help="NAME or NAME=NUMBER")
    parser.add_argument("--faults", action="store_true", help="list all faults, and end")
    parser.add_argument("--endpoint", action="append", default=[], help="told to devices")
    parser.add_argument(
        "--peer-broker",
        action="append",
        default=[],
        help="DEVICE=ENDPOINT of the first site's own network; again for its stand-by",
    )
    parser.add_argument(
        "--gather-ms", type=int, default=GATHER_MS, help="money deltas wait so long"
    )
    parser.add_argument("--mosquitto", type=Path, help="folder to keep a broker's files in")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    if "--faults" in given:
        print(listing())
        return 0
    options = parse_arguments(given)
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
    sites = tuple(dict.fromkeys((options.site, *options.more_site)))
    keys = open_keys(options.folder, options.site, utc(now_ms), more_sites=sites[1:])
    faults = Faults()
    for text in options.fault:
        faults.switch_text(text)
    endpoint = parse_endpoint(options.broker, lambda: _tls(options, keys, now_ms))
    listener = _listen(options.http)
    branches = {
        site: _open_branch(options, site, number, keys, faults, now_ms)
        for number, site in enumerate(sites)
    }
    for code in options.claim:
        branches[options.site].desk.make_claim(now_ms, code)
    bell = FeedBell(loop)
    files = _broker_files(options, keys, branches, now_ms, endpoint.port)
    service = Service(
        branches,
        endpoint,
        on_feed=bell.ring,
        workers=max(1, min(options.workers, WORKERS_MAX)),
        broker_files=files,
    )
    describe = {"city": "reference", "sites": list(sites), "broker": options.broker}
    app = make_app(service, faults, bell, describe)
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


def _open_branch(
    options: argparse.Namespace,
    site: str,
    number: int,
    keys: CityKeys,
    faults: Faults,
    now_ms: int,
) -> Branch:
    """A site's books, with a school of its own in them."""
    if not DEVICE_ID.fullmatch(site):
        raise SetupProblem(f"site {site!r}: use 1 to 64 of a-z, 0-9, -")
    if is_url(options.database):
        store = Store(options.database, schema=f"site-{site}"[:60])
    elif options.database is not None:
        raise SetupProblem(
            f"--database {options.database!r}: write postgresql://…, or leave it out"
        )
    else:
        store = Store(options.folder / (FILE_NAME if number == 0 else f"city-{site}.db"))
    core = CityCore(store, keys, site=site, gather_ms=options.gather_ms)
    seed = options.seed + number
    seed_school(core, make_school(seed, site, canteen=options.canteen), now_ms)
    held = store.meta(SEEDED)
    if held != str(seed):
        store.close()
        raise SetupProblem(
            f"{options.folder} holds the school of seed {held} for {site}, not {seed};"
            " use that seed or another folder"
        )
    if number == 0:
        _use_peer_brokers(core, options.peer_broker)
    core.start(now_ms)
    desk = Desk(core, tuple(options.endpoint) or (options.broker,))
    key_desk = KeyDesk(core, desk, options.folder)
    return Branch(
        core=core,
        desk=desk,
        key_desk=key_desk,
        parents=ParentDesk(core, desk),
        mischief=Mischief(core, faults),
    )


def _use_peer_brokers(core: CityCore, wanted: list[str]) -> None:
    """Where the stations of that site meet without the city: what was said at this start."""
    brokers = []
    for text in wanted:
        device, _, endpoint = text.partition("=")
        if not DEVICE_ID.fullmatch(device) or not endpoint:
            raise SetupProblem(f"--peer-broker {text!r}: write DEVICE=mqtts://HOST:PORT")
        brokers.append((device, endpoint))
    settings = core.registry.settings()
    if settings.peer_brokers != tuple(brokers):
        with core.store.transaction():
            core.registry.set_settings(replace(settings, peer_brokers=tuple(brokers)))


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
    options: argparse.Namespace,
    keys: CityKeys,
    branches: dict[str, Branch],
    now_ms: int,
    port: int,
) -> BrokerFiles | None:
    if options.mosquitto is None:
        return None
    return write_broker(
        options.mosquitto.absolute(),
        port,
        keys,
        utc(now_ms),
        senders=[sender for branch in branches.values() for sender in branch.desk.senders()],
        revoked=[one for branch in branches.values() for one in branch.desk.revoked_serials()],
    )


if __name__ == "__main__":
    sys.exit(main())
