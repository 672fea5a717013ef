"""`moskvenok reader pair`: give an OSDP reader the key that this device will ask it by.

The key is made here, stands on the disk before the reader is told it, and is put in its place after
the reader has answered to it. Cut off in the middle, the same command goes on with the same key.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from edge.config import load
from edge.model import SetupProblem
from edge.settings import DeviceSettings, ReaderSettings
from provisioning.files import SECRET_MODE, make_folder, read_whole, write_whole
from provisioning.output import config_option

if TYPE_CHECKING:
    from edge.readers.osdp import Osdp

KEY_SIZE: Final = 16  # The secure channel is AES-128.
PENDING: Final = ".pairing"  # Beside the key file: a key that a reader may have been told.


@click.group("reader", context_settings={"help_option_names": ["-h", "--help"]})
def reader() -> None:
    """Look after one reader of this device."""


@reader.command("pair")
@click.argument("reader_id", required=False, metavar="[READER]")
@config_option
def pair(reader_id: str | None, config: Path) -> None:
    """Give an OSDP reader a key of its own, and write it to the reader's key_file.

    READER is its id in device.toml; without it the one that is not paired yet. Stop edge first. The
    reader must be as it was sold, or in its install mode.
    """
    from edge.readers.osdp import load_osdp

    settings = _choose(load(config), reader_id)
    click.echo(pair_reader(settings, library=load_osdp()))


def pair_reader(settings: ReaderSettings, *, library: Osdp, limit_ms: int | None = None) -> str:
    """What was done, as a sentence. SetupProblem or DeviceFault says why it was not.

    `limit_ms` is how long each question to the reader may take; None: as long as is sensible.
    """
    from edge.readers.osdp import load_key
    from edge.readers.osdp_pairing import SECURE_MS_MAX, Answered, answers_to
    from edge.readers.osdp_pairing import pair as set_key

    wait_ms = SECURE_MS_MAX if limit_ms is None else limit_ms
    place = Path(settings.key_file)
    pending = place.with_name(place.name + PENDING)
    if place.exists() and not pending.exists():
        key = load_key(settings)
        answer = answers_to(settings, key, library=library, limit_ms=wait_ms)
        if answer is Answered.SECURE:
            return f"{settings.reader_id} is paired already, by the key in {place}"
        click.echo(f"{settings.reader_id} does not answer to the key in {place}: it gets a new one")
    key = _pending_key(pending)
    set_key(settings, key, library=library, limit_ms=wait_ms)
    write_whole(place, _text(key), mode=SECRET_MODE)
    pending.unlink()
    return f"{settings.reader_id} is paired; its key is in {place}. Start edge"


def _pending_key(pending: Path) -> bytes:
    """The key of a pairing that was cut off, or a new one; on the disk either way."""
    found = read_whole(pending)
    if found is not None:
        try:
            key = bytes.fromhex(found.decode("ascii").strip())
        except ValueError:
            key = b""
        if len(key) == KEY_SIZE:
            return key
        raise SetupProblem(f"{pending}: not 32 hex digits; move it away and run this again")
    key = secrets.token_bytes(KEY_SIZE)
    if not pending.parent.is_dir():
        make_folder(pending.parent)
    write_whole(pending, _text(key), mode=SECRET_MODE)
    return key


def _text(key: bytes) -> bytes:
    return key.hex().encode("ascii") + b"\n"


def _choose(settings: DeviceSettings, reader_id: str | None) -> ReaderSettings:
    found = [one for one in settings.readers if one.driver == "osdp"]
    names = ", ".join(one.reader_id for one in found)
    if not found:
        raise SetupProblem(f"{settings.source}: no reader with driver osdp; there is none to pair")
    if reader_id is None:
        new = [one for one in found if not Path(one.key_file).exists()] or found
        if len(new) > 1:
            raise SetupProblem(f"which reader? Name one of {names}")
        return new[0]
    for one in found:
        if one.reader_id == reader_id:
            return one
    raise SetupProblem(f'no OSDP reader "{reader_id}" in {settings.source}; there is {names}')
