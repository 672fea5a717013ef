"""Goal: a command run by root changes owner and mode of nothing that a link names: whoever runs as
`moskvenok` may write in the folders around, and could have put one there.

Method: the functions as root sees them, on folders with and without a link; owners are changed for
real where the test itself runs as root, and else not at all.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path

import pytest

from edge.model import SetupProblem
from provisioning import files


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> int:
    """The agent's user: another one where there is a root to become it; its number."""
    user = 65534 if os.geteuid() == 0 else os.geteuid()
    group = 65534 if os.geteuid() == 0 else os.getegid()
    entry = pwd.struct_passwd(("moskvenok", "x", user, group, "", "/", "/bin/false"))
    monkeypatch.setattr(pwd, "getpwnam", lambda _name: entry)
    monkeypatch.setattr(grp, "getgrnam", lambda _name: grp.struct_group(("m", "x", group, [])))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return user


def test_a_folder_and_a_file_get_owner_and_mode(tmp_path: Path, as_root: int) -> None:
    folder = tmp_path / "updates"
    assert files.make_folder(folder) is True and files.make_folder(folder) is False
    found = folder.stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (as_root, files.FOLDER_MODE)
    files.write_whole(folder / "one", b"x")
    found = (folder / "one").stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (as_root, files.FILE_MODE)


@pytest.mark.usefixtures("as_root")
def test_what_a_link_names_stays_as_it_is(tmp_path: Path) -> None:
    system = tmp_path / "etc"
    system.mkdir(mode=0o755)
    secret = tmp_path / "shadow"
    secret.touch(mode=0o600)
    before = [(path.stat().st_uid, path.stat().st_mode) for path in (system, secret)]
    (tmp_path / "updates").symlink_to(system)
    (tmp_path / "list").symlink_to(secret)
    with pytest.raises(SetupProblem, match="updates: a link"):
        files.make_folder(tmp_path / "updates")
    with pytest.raises(SetupProblem, match="list: a link"):
        files.own(tmp_path / "list")
    assert before == [(path.stat().st_uid, path.stat().st_mode) for path in (system, secret)]
