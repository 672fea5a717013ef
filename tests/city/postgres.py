"""A PostgreSQL of one's own for tests: a cluster in a temporary folder, reached by its socket.

Run as root, its server runs as the user `postgres`, for it refuses root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

USER = "postgres"
WAIT_S = 30


def programs() -> Path | None:
    """Debian keeps the server's programs out of PATH, by version."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return found[-1].parent if found else None


@contextmanager
def cluster() -> Iterator[str]:
    """The URL of an empty database; the server ends and its files go with the block."""
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    bin_folder = programs()
    if bin_folder is None:
        pytest.skip("PostgreSQL's server is not installed")
    folder = Path(tempfile.mkdtemp(prefix="mk-pg-"))
    user = USER if os.geteuid() == 0 else None
    data = folder / "data"
    try:
        if user is not None:
            shutil.chown(folder, user, user)
        made = subprocess.run(
            [
                *(bin_folder / "initdb", "-D", data, "-U", USER, "-A", "trust", "-E", "UTF8"),
                *("--locale", "C", "--no-sync"),
            ],
            user=user,
            capture_output=True,
            timeout=WAIT_S,
            check=False,
            cwd=folder,
        )
        assert made.returncode == 0, made.stderr.decode()
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        start: list[str | Path] = [bin_folder / "pg_ctl", "-D", data, "-o", options]
        subprocess.run(
            [*start, "-w", "start"],
            user=user,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=WAIT_S,
            check=True,
            cwd=folder,
        )
        try:
            yield f"postgresql:///postgres?host={folder}&user={USER}"
        finally:
            subprocess.run(
                [bin_folder / "pg_ctl", "-D", data, "-m", "immediate", "stop"],
                user=user,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=WAIT_S,
                check=False,
                cwd=folder,
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
