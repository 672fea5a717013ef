"""Finds a miniature that is running and asks it something: for the commands `tap` and `network`."""

from __future__ import annotations

import json
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from edge.model import SetupProblem

FOLDER: Final = Path(".run")
ADDRESS_FILE: Final = "address"
ADDRESS_BYTES_MAX: Final = 200  # Our choice: "http://127.0.0.1:65535" has 22.
ANSWER_BYTES_MAX: Final = 256 * 1024  # Our choice: the whole state is 20 KiB.
WAIT_S_MAX: Final = 15.0  # Our choice: a tap is waited for 3 s; a loaded machine gets more.

# A miniature is on this machine: no proxy of the environment stands between.
_OPENER: Final = build_opener(ProxyHandler({}))


def find(folder: Path) -> str:
    """The address of the miniature that runs in this folder. `SetupProblem` when none does."""
    path = folder / ADDRESS_FILE
    try:
        with path.open(encoding="ascii") as file:
            address = file.read(ADDRESS_BYTES_MAX).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SetupProblem(
            f"no miniature runs in {folder}; start one with `make run`, or name its folder "
            "with --run"
        ) from error
    return address


def ask(folder: Path, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Its answer to a request; `body` None is a GET. A no is a `SetupProblem` in its words."""
    address = find(folder)
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = Request(address + path, data=data, headers=headers)  # Ours, from our own file.
    try:
        with _OPENER.open(request, timeout=WAIT_S_MAX) as response:
            answer = response.read(ANSWER_BYTES_MAX)
    except HTTPError as error:
        with error:
            answer = error.read(ANSWER_BYTES_MAX)
        raise SetupProblem(_words(answer) or f"{address}{path}: {error}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise SetupProblem(
            f"the miniature of {folder} does not answer at {address} ({error}); start it again "
            "with `make run`"
        ) from error
    try:
        found = json.loads(answer)
    except ValueError as error:
        raise SetupProblem(f"{address}: what answers there is no miniature") from error
    assert isinstance(found, dict)
    return found


def _words(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["error"])
    except (ValueError, KeyError, TypeError):
        return ""
