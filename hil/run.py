"""`make run`: one school in miniature until Ctrl-C, SIGTERM or the end of `--for`.

Prints what is being done, then one address. A taken port or folder is a sentence and exit code 1
before anything is started. Whatever way it ends, no process of it stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

import click
import uvicorn

from edge.model import DeviceFault, SetupProblem
from hil.board import Board
from hil.city.database import schema_of
from hil.city.schema import FILE_NAME, SCHEMA_VERSION
from hil.layout import SETS, Folder, Programs
from hil.miniature import Miniature, Say
from hil.page.server import make_app
from hil.remote import FOLDER

HOST: Final = "127.0.0.1"
PORT: Final = 8642
STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PAGE_STOP_S: Final = 1  # Our choice: an answer under way may end; the streams are told to.


class _Server(uvicorn.Server):
    """uvicorn without its signal handling: the miniature ends in its own order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@click.command()
@click.option("--port", type=click.IntRange(0, 65_535), default=PORT, show_default=True,
              help="Of the page; 0 takes a free one.")  # fmt: skip
@click.option(
    "--for", "seconds", type=click.FloatRange(min=0), help="End by itself after so many seconds."
)
@click.option("--folder", type=click.Path(path_type=Path), default=FOLDER, show_default=True,
              help="Where it keeps everything; a second start goes on there.")  # fmt: skip
@click.option(
    "--stations",
    type=click.Choice(tuple(SETS)),
    default="few",
    show_default=True,
    help="few: an entrance and a till. all: also a second till, a pre-school, a museum.",
)
@click.option("--fresh", is_flag=True, help="Forget what was there and begin anew.")
def run(port: int, seconds: float | None, folder: Path, stations: str, fresh: bool) -> None:
    """Run one school in miniature, with a page to play it on."""
    run_miniature(port=port, seconds=seconds, folder=folder, stations=stations, fresh=fresh)


def run_miniature(
    *,
    port: int,
    seconds: float | None,
    folder: Path,
    fresh: bool,
    stations: str = "few",
    programs: Programs | None = None,
) -> None:
    """The same as a function; `programs` lets a test play some parts itself."""
    began_s = time.monotonic()

    def say(words: str) -> None:
        print(f"[{time.monotonic() - began_s:5.1f} s] {words}", flush=True)

    home = Folder(folder.resolve())
    home.check()
    listener = _listen(port)
    with listener, _locked(home):
        if fresh and home.memory.exists():  # Else nothing in there is ours.
            _forget(home)
        elif schema_of(home.city / FILE_NAME) not in (None, SCHEMA_VERSION):
            say(
                f"{home.root} is another version's: set aside in {_set_aside(home)}, beginning anew"
            )
        board = Board()
        miniature = Miniature(
            home, programs=programs or Programs(), board=board, say=say, places=SETS[stations]
        )
        asyncio.run(_run(listener, miniature, seconds, say))


async def _run(
    listener: socket.socket, miniature: Miniature, seconds: float | None, say: Say
) -> None:
    board, home = miniature.board, miniature.folder
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if stopping.is_set():
            miniature.hurry()  # Asked twice: whoever asks does not want to wait.
        stopping.set()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop)
    server = _Server(
        uvicorn.Config(
            make_app(miniature),
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=PAGE_STOP_S,
        )
    )
    asked = asyncio.create_task(stopping.wait())
    try:
        if await _first(asyncio.create_task(miniature.start()), asked):
            page = asyncio.create_task(server.serve(sockets=[listener]))
            address = f"http://{HOST}:{listener.getsockname()[1]}"
            # Whoever waits for the file finds the address in it.
            beside = home.address.with_name(f"{home.address.name}.new")
            beside.write_text(address + "\n", encoding="ascii")
            beside.replace(home.address)
            say(f"ready; open {address} (Ctrl-C ends it)")
            if seconds is not None:
                loop.call_later(seconds, stop)
            await _first(asyncio.create_task(miniature.work()), asked)
            board.close()
            server.should_exit = True
            await page
    finally:
        home.address.unlink(missing_ok=True)
        asked.cancel()
        say("stopping")
        await miniature.stop()
        say("stopped")


async def _first(work: asyncio.Task[None], asked: asyncio.Task[bool]) -> bool:
    """Whether `work` ended before somebody asked to stop. Its error is raised."""
    await asyncio.wait((work, asked), return_when=asyncio.FIRST_COMPLETED)
    if work.done():
        work.result()
        return True
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    return False


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # As every server on this system: a port whose last connections linger is free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen()
    except (OSError, OverflowError) as error:
        listener.close()
        raise SetupProblem(
            f"port {port} cannot be used ({error}); is a miniature running already? "
            "Choose another: make run PORT=9000, or --port 9000"
        ) from error
    return listener


@contextlib.contextmanager
def _locked(home: Folder) -> Iterator[None]:
    """One miniature in one folder: two would write the same stations' files."""
    try:
        home.root.mkdir(parents=True, exist_ok=True)
        lock: IO[str] = home.lock.open("w")
    except OSError as error:
        raise SetupProblem(
            f"{home.root}: cannot be used ({error.strerror}); choose another: "
            "make run RUN_DIR=/tmp/school, or --folder"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SetupProblem(
                f"{home.root}: another miniature runs there; end it, or choose another folder: "
                "make run RUN_DIR=/tmp/school, or --folder"
            ) from error
        yield


def _forget(home: Folder) -> None:
    for path in home.everything():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _set_aside(home: Folder) -> Path:
    """What was there, whole; what had been set aside before gives way."""
    aside = home.root / "before"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    for path in home.everything():
        if path.exists() or path.is_symlink():
            path.rename(aside / path.name)
    return aside


def main() -> None:
    try:
        run(standalone_mode=True)
    except (SetupProblem, DeviceFault) as problem:
        print(f"moskvenok: {problem}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
