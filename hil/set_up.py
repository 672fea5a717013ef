"""Sets one station of the miniature up as a technician would, with `moskvenok provision`.

What was set up before and still fits is left alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from edge.model import SetupProblem
from hil.layout import Folder, StationPlace, provision_arguments
from hil.supervisor import dies_with_us

SET_UP_S_MAX: Final = 60.0  # Our choice: five at once on a loaded machine take ten seconds.
LINES_SHOWN: Final = 6  # Our choice: the end of what went wrong.


def claim_of(place: StationPlace) -> str:
    """The bench's own claim code: its city is on this machine and takes no other devices."""
    return f"bench-{place.device_id}"


async def set_up(
    place: StationPlace,
    folder: Folder,
    command: tuple[str, ...],
    *,
    city: str,
    wanted: str,
    say: Callable[[str], None],
) -> None:
    """Until the station has its certificate and `wanted` as its file. `SetupProblem` says why
    not."""
    file = folder.device_file(place.name)
    if folder.certificate(place.name).exists() and file.exists() and file.read_text() == wanted:
        return
    say(f"setting up {place.device_id}")
    folder.station(place.name).mkdir(parents=True, exist_ok=True)
    folder.wanted_file(place.name).write_text(wanted)
    process = await asyncio.create_subprocess_exec(
        *command,
        *provision_arguments(place, folder, city=city, claim=claim_of(place)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        preexec_fn=dies_with_us(),
    )
    try:
        async with asyncio.timeout(SET_UP_S_MAX):
            words, _ = await process.communicate()
    except TimeoutError:
        raise SetupProblem(
            f"{place.device_id} is not set up after {SET_UP_S_MAX:.0f} s; see {folder.logs}"
        ) from None
    finally:  # Also when the whole start is called off.
        with contextlib.suppress(ProcessLookupError):
            if process.returncode is None:
                process.kill()
    (folder.logs / f"{place.name}-provision.log").write_bytes(words)
    if process.returncode != 0:
        lines = words.decode(errors="replace").strip().splitlines()[-LINES_SHOWN:]
        raise SetupProblem(f"{place.device_id} could not be set up:\n  " + "\n  ".join(lines))
