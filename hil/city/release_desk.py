"""The city's desk for releases: publish a bundle, say what there is. In the manner of `desk.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge.model import SetupProblem
from hil.city.desk import Done, Refused
from hil.city.intake import CityCore

PATH_CHARS_MAX = 4096  # <linux/limits.h>: PATH_MAX.


def publish(core: CityCore, request: dict[str, Any], now_ms: int) -> Done:
    """`{"file": a bundle on this machine, "stick": where to write one file for a stick}`."""
    try:
        release = core.releases.publish(_path(request, "file"), now_ms)
        if "stick" in request:
            core.releases.write_stick(release.sha256, _path(request, "stick"))
    except SetupProblem as problem:
        raise Refused(400, str(problem), "build it with: make release") from problem
    except OSError as error:
        raise Refused(400, f"{error.filename}: {error.strerror}", "name another file") from error
    answer = {"release": release.release, "sha256": release.sha256, "platform": release.platform}
    return Done(answer={**answer, "python": release.python, "size_bytes": release.size_bytes})


def _path(request: dict[str, Any], name: str) -> Path:
    value = request.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= PATH_CHARS_MAX or "\0" in value:
        raise Refused(400, f"{name} is missing or no path", f"send {name} as a whole path")
    path = Path(value)
    if not path.is_absolute():
        raise Refused(400, f"{name} is not a whole path", "begin it with /")
    return path
