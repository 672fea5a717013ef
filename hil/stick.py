"""`moskvenok city stick`: has the reference city write a stick, and puts it into a folder.

The other end is `moskvenok lists take` on the device. What the city sends is one run of bytes, an
index and the files behind it (`hil/city/stick.py`); here they become files with plain names. What
the city keeps in the books of its first site alone, the list of who may enter museums, is asked for
there when the city says so, and put to the rest.
"""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click
import msgspec

from edge.messages import (
    MESSAGE_BYTES_MAX,
    STICK_INDEX,
    StickIndex,
    decode_json,
    encode_json,
    is_file_name,
)
from edge.model import SetupProblem
from provisioning.city import words_of

PATIENCE_S: Final = 60.0  # Our choice: 900,000 rows are read and packed in twenty.
PIECE_BYTES: Final = 256 * 1024
IN_TWO_PARTS: Final = 409  # As `hil/city/stick.py` has them, which is not loaded for three words.
ALONE, APART = "alone", "apart"


def fetch_stick(url: str, site: str, devices: tuple[str, ...], days: int, out: Path) -> StickIndex:
    """Writes the folder. `SetupProblem` with the city's own words when it does not."""
    place = urlsplit(url)
    if place.scheme != "http" or place.hostname is None:
        raise SetupProblem(f"--http {url!r:.100}: write http://HOST:PORT")
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=PATIENCE_S)
    wanted = {"site": site, "devices": list(devices), "days": days}
    try:
        try:
            index = _fetch(connection, wanted, out)
        except InTwoParts:
            # The site's part last: its root document is then no older than what it speaks for.
            museum = _fetch(connection, {"museum": ALONE, "days": days}, out)
            index = _fetch(connection, {**wanted, "museum": APART}, out)
            index = msgspec.structs.replace(index, files=(*index.files, *museum.files))
        _end(out, index)
    except (OSError, http.client.HTTPException) as error:
        raise SetupProblem(f"{url} to {out}: {error}; does the city run, is there room?") from error
    finally:
        connection.close()
    return index


class InTwoParts(Exception):
    """The city-wide list is in another site's books."""


def _fetch(connection: http.client.HTTPConnection, wanted: dict[str, Any], out: Path) -> StickIndex:
    """One answer of the city, its files written."""
    connection.request("POST", "/stick", json.dumps(wanted))
    answer = connection.getresponse()
    if answer.status != 200:
        said = "; ".join(filter(None, words_of(answer.read(MESSAGE_BYTES_MAX))))
        if answer.status == IN_TWO_PARTS and "museum" not in wanted:
            raise InTwoParts(said)
        raise SetupProblem(f"the city refuses: {said or f'HTTP {answer.status}'}")
    index = decode_json(StickIndex, answer.readline(MESSAGE_BYTES_MAX + 1).rstrip(b"\n"))
    _begin(out)
    _write_files(out, index, answer.read)
    answer.read()  # Its end: the next answer comes by the same connection.
    return index


def write_stick(out: Path, index: StickIndex, read: Callable[[int], bytes]) -> None:
    """The files, then the index: a folder with an index is whole. On the disk when this returns."""
    _begin(out)
    _write_files(out, index, read)
    _end(out, index)


def _begin(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / STICK_INDEX).unlink(missing_ok=True)


def _write_files(out: Path, index: StickIndex, read: Callable[[int], bytes]) -> None:
    for one in index.files:
        if not is_file_name(one.name):
            raise SetupProblem(
                f"the city names a file {one.name!r:.80}, which is no name of a file"
            )
        with (out / one.name).open("wb") as file:
            left = one.size_bytes
            while left:
                piece = read(min(left, PIECE_BYTES))
                if not piece:
                    raise SetupProblem(f"{out / one.name}: the city ended it early; try again")
                file.write(piece)
                left -= len(piece)
            file.flush()
            os.fsync(file.fileno())


def _end(out: Path, index: StickIndex) -> None:
    (out / STICK_INDEX).write_bytes(encode_json(index) + b"\n")
    os.sync()  # It is about to be pulled out.


@click.command("stick")
@click.option("--http", "url", required=True, help="The running reference city, http://HOST:PORT.")
@click.option("--site", default="s0001", show_default=True)
@click.option(
    "--device", "devices", multiple=True, help="Whose keys to add; repeat it. Else all of the site."
)
@click.option("--days", type=click.IntRange(1, 14), default=3, show_default=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def stick(
    url: str, site: str, devices: tuple[str, ...], days: int, out: Path, as_json: bool
) -> None:
    """Write lists, keys and settings of a site into a folder, for `moskvenok lists take`.

    The heads on it are good for --days; a device that knows the time refuses them afterwards.
    """
    index = fetch_stick(url, site, devices, days, out)
    if as_json:
        files = [json.loads(encode_json(one)) for one in index.files]
        click.echo(json.dumps({"schema": 1, "ok": True, "folder": str(out), "files": files}))
        return
    for one in index.files:
        click.echo(f"{one.size_bytes:>12}  {one.name:30}  {one.scope or one.device}")
    click.echo(f'written: {out}; on each device: "moskvenok lists take FOLDER"')
