"""Goal: `moskvenok lists take` copies into the inbox what is this device's, whole or not at all,
says of everything else what was found, where and what to do, and hands on what sync answers.

Method: the command on a provisioned device (gate-1, an entrance of school-7), sticks written here,
spoilt one way at a time; sync is played by a thread that answers in the inbox, or is away. The real
one takes them in `tests/process/test_stick_process.py`.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edge.control import ControlSocket
from edge.messages import STICK_INDEX, StickFile, VersionMark
from edge.model import SetupProblem
from provisioning import lists
from sync.inbox_form import (
    COPYING,
    STICK,
    WAITING_MAX,
    Answer,
    ListAnswer,
    Read,
    locked,
    new_name,
    opened_file,
    remove,
    sticks,
    sweep,
    write_answer,
)
from tests.provisioning.conftest import Run
from tests.sync.sticks import StickMaker, framed

PEOPLE, SETTINGS = "school-7/people", "school-7/settings"


def a_stick(folder: Path) -> Path:
    made = StickMaker().put("root", framed([b"root"]), what="root")
    for device in ("gate-1", "till-1"):
        made.put(f"keys-{device}", framed([device.encode()]), what="keys", device=device)
    for scope in (PEOPLE, SETTINGS, "school-7/money"):
        made.list([b"head of " + scope.encode(), b"manifest", b"x" * 60_000], scope)
    return made.write(folder)


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    return a_stick(tmp_path / "stick")


@pytest.fixture
def inbox(installed: Path) -> Path:
    return installed.parent / "state" / "inbox"


def good(*, reasons: dict[str, str] | None = None, **more: str) -> Answer:
    told = reasons or {}
    return Answer(
        lists=tuple(
            ListAnswer(
                scope=scope,
                in_force=scope not in told,
                version=VersionMark(1, 9),
                reason=told.get(scope, ""),
            )
            for scope in (PEOPLE, SETTINGS)
        ),
        **{"root": "taken", "keys": "taken", **more},
    )


@contextmanager
def sync_that_says(installed: Path, inbox: Path, answer: Answer) -> Iterator[list[dict[str, Any]]]:
    """Answers each stick; what it found in each is kept."""
    found: list[dict[str, Any]] = []
    bell = threading.Event()
    control = ControlSocket(installed.parent / "run" / "sync.sock", bell.set)
    stopping = threading.Event()

    def serve() -> None:
        while not stopping.is_set():
            bell.wait(0.05)
            for request in control.poll():
                request.answer({"ok": True})
            for one in sticks(inbox) if control.rings else []:
                found.append({path.name: path.read_bytes() for path in one.iterdir()})
                write_answer(inbox, one.name, answer)
                remove(one)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield found
    finally:
        stopping.set()
        thread.join()
        control.close()


@pytest.fixture(autouse=True)
def runtime(installed: Path) -> None:
    (installed.parent / "run").mkdir(exist_ok=True)


def test_what_is_this_devices_is_copied_and_what_sync_says_is_told(
    run: Run, installed: Path, inbox: Path, stick: Path
) -> None:
    with sync_that_says(installed, inbox, good()) as found:
        result = run("lists", "take", "--config", installed, "--json", stick)
    assert result.exit_code == 0, result.output
    (copied,) = found
    index = json.loads(copied.pop(STICK_INDEX))
    assert set(copied) == {"root", "keys-gate-1", "list-school-7-people", "list-school-7-settings"}
    assert {one["name"]: one["size_bytes"] for one in index["files"]} == {
        name: len(data) for name, data in copied.items()
    }
    assert all(copied[name] == (stick / name).read_bytes() for name in copied)
    told = json.loads(result.output)
    assert told["lists"][0] == {
        "scope": PEOPLE, "state": "in_force", "version": [1, 9], "reason": "", "do": "",
    }  # fmt: skip
    assert (told["root"], told["keys"]) == ("taken", "taken") and told["remarks"] == []
    assert told["left_out"] == ["school-7/money"]
    assert list(inbox.iterdir()) == [], "its answer is fetched, and gone"


def test_a_refusal_is_told_in_words_with_what_to_do(
    run: Run, installed: Path, inbox: Path, stick: Path
) -> None:
    answer = good(reasons={PEOPLE: "frozen"}, keys="invalid", root="rollback")
    with sync_that_says(installed, inbox, answer):
        result = run("lists", "take", "--config", installed, stick)
        told = json.loads(run("lists", "take", "--config", installed, "--json", stick).output)
    assert result.exit_code == 1
    words = " ".join(result.output.split())
    for text in ("refused", "has ended", "new stick", "in force", "1.9", "keys for gate-1", "root"):
        assert text in words, (text, result.output)
    assert not told["ok"] and told["lists"][0]["reason"] == "frozen"
    assert told["lists"][0]["do"] == "have the city write a new stick"


def test_a_stick_without_keys_for_this_device_says_what_that_means(
    run: Run, installed: Path, inbox: Path, tmp_path: Path
) -> None:
    made = StickMaker().list([b"head"], PEOPLE).write(tmp_path / "stick")
    with sync_that_says(installed, inbox, good(keys="")):
        result = run("lists", "take", "--config", installed, made)
    assert result.exit_code == 0 and "no keys for gate-1 on the stick" in result.output


def test_keys_that_are_refused_are_not_good_though_every_list_is(
    run: Run, installed: Path, inbox: Path, stick: Path
) -> None:
    with sync_that_says(installed, inbox, good(keys="invalid")):
        result = run("lists", "take", "--config", installed, stick)
    assert result.exit_code == 1 and "keys for gate-1: damaged" in result.output


@pytest.mark.parametrize("reason", [*lists.WORDS, "something_new"])
def test_every_reason_has_words(reason: str) -> None:
    words = lists._in_words(reason)
    assert len(words) > 20 and not words.startswith(";")


def test_when_sync_does_not_run_the_lists_lie_ready_and_it_says_what_to_do(
    run: Run, installed: Path, inbox: Path, stick: Path
) -> None:
    result = run("lists", "take", "--config", installed, stick)
    assert result.exit_code == 1
    assert "sync of gate-1 is not running" in result.output and "start it" in result.output
    assert "behind" not in result.output
    (one,) = inbox.iterdir()
    assert one in sticks(inbox)
    assert stat.S_IMODE(inbox.stat().st_mode) == stat.S_IMODE(one.stat().st_mode) == 0o2770
    assert {stat.S_IMODE(path.stat().st_mode) for path in one.iterdir()} == {0o660}


def all_files(inbox: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in inbox.rglob("*") if path.is_file()}


def test_what_waits_there_already_stays_and_is_taken_first(
    run: Run, installed: Path, inbox: Path, tmp_path: Path
) -> None:
    made = [
        StickMaker().list([f"head {number}".encode()], PEOPLE).write(tmp_path / f"stick-{number}")
        for number in range(WAITING_MAX)
    ]
    before: dict[Path, bytes] = {}
    for number, one in enumerate(made[:-1]):
        result = run("lists", "take", "--config", installed, one)
        assert result.exit_code == 1 and "is not running" in result.output
        many = f"behind {number} stick{'s' * (number > 1)} that came before"
        assert (many in result.output) is bool(number), result.output
        there = all_files(inbox)
        assert before.items() < there.items() and len(sticks(inbox)) == number + 1
        before = there
    names = [one.name for one in sticks(inbox)]
    with sync_that_says(installed, inbox, good()) as found:
        result = run("lists", "take", "--config", installed, "--json", made[-1])
    assert result.exit_code == 0, result.output
    heads = [one["list-school-7-people"] for one in found]
    assert heads == [framed([f"head {number}".encode()]) for number in range(WAITING_MAX)]
    assert json.loads(result.output)["stick"] > names[-1]
    left = sorted(path.name for path in inbox.iterdir())
    assert left == [f"{name}.answer" for name in names], "the others keep their own"


def test_one_too_many_is_refused_and_changes_nothing(
    run: Run, installed: Path, inbox: Path, stick: Path
) -> None:
    for _ in range(WAITING_MAX):
        assert "is not running" in run("lists", "take", "--config", installed, stick).output
    before = all_files(inbox)
    result = run("lists", "take", "--config", installed, stick)
    words = " ".join(result.output.split())
    assert result.exit_code == 1 and f"{WAITING_MAX} sticks wait there already" in words
    assert "this one was not taken" in words and "run this again" in words
    assert all_files(inbox) == before
    remove(sticks(inbox)[0])
    assert "is not running" in run("lists", "take", "--config", installed, stick).output


def test_commands_at_once_get_a_place_each_and_no_more_than_there_are(
    installed: Path, inbox: Path, stick: Path
) -> None:
    """They meet between the copy and the name: whoever is too late is told so."""
    from edge.config import load

    chosen = lists.choose(stick, load(installed))
    children = []
    for _ in range(WAITING_MAX + 2):
        child = os.fork()
        if child == 0:
            code = 2
            with suppress(BaseException):
                try:
                    lists.put(stick, chosen, inbox)
                    code = 0
                except SetupProblem:
                    code = 1
            os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert sorted(codes) == [0] * WAITING_MAX + [1, 1]
    places = [one.name[len("stick-") : len("stick-") + 8] for one in sticks(inbox)]
    assert places == [f"{number:08x}" for number in range(1, WAITING_MAX + 1)]
    assert len(list(inbox.iterdir())) == WAITING_MAX


def test_a_place_is_given_and_a_folder_made_while_nobody_else_may(
    installed: Path, inbox: Path, stick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two with one place would be taken in any order; a folder without its lock would be swept."""
    from edge.config import load

    chosen = lists.choose(stick, load(installed))
    seen: list[str] = []

    def alone(what: str, real: Any) -> Any:
        def done(path: Path, *more: Any) -> Any:
            if path.name.startswith(COPYING) or what == "name":
                seen.append(what)
                with pytest.raises(BlockingIOError), locked(inbox):
                    pass
                before = list(inbox.iterdir())
                sweep(inbox)
                assert list(inbox.iterdir()) == before
            return real(path, *more)

        return done

    monkeypatch.setattr(lists, "new_name", alone("name", new_name))
    monkeypatch.setattr(lists, "locked", partial(_locked_after, alone("lock", lambda path: None)))
    lists.put(stick, chosen, inbox)
    assert seen == ["lock", "name"]


@contextmanager
def _locked_after(look: Any, folder: Path, *, wait: bool = False) -> Iterator[int]:
    look(folder)
    with locked(folder, wait=wait) as descriptor:
        yield descriptor


def test_each_stick_before_it_has_its_own_time(tmp_path: Path) -> None:
    names = [f"stick-{number:016x}" for number in range(1, 4)]
    for name in names:
        (tmp_path / name).mkdir()
    now = [0.0]

    def wait(seconds: float) -> None:
        now[0] += seconds
        for name, gone_s in zip(names[:2], (25, 50), strict=True):
            if now[0] == gone_s:
                (tmp_path / name).rmdir()
        if now[0] == 75:
            write_answer(tmp_path, names[2], good())

    answer = lists.wait_for_answer(tmp_path, names[2], seconds=30, wait=wait, now_s=lambda: now[0])
    assert answer == good() and now[0] == 75
    with pytest.raises(
        SetupProblem, match="30 s; it may still be taking the lists, behind 1 stick "
    ):
        lists.wait_for_answer(
            tmp_path, "stick-0000000000000009", seconds=30, wait=wait, now_s=lambda: now[0]
        )
    assert 105 <= now[0] < 106


@pytest.mark.parametrize("last", ["", "stick-00000007ffffffff", "stick-ffffffffffffffff"])
@pytest.mark.parametrize("what", ["", ".answer"])
def test_a_name_is_behind_all_that_were(tmp_path: Path, last: str, what: str) -> None:
    """After every one that waits or was answered; the very last place is shared."""
    if last:
        (tmp_path / (last + what)).mkdir()
    made = new_name(tmp_path)
    assert STICK.fullmatch(made) and (made > last or last.endswith("f" * 16))


def test_no_answer_in_time_is_said(tmp_path: Path) -> None:
    now = [0.0]
    with pytest.raises(SetupProblem, match="has not answered within 30 s"):
        lists.wait_for_answer(
            tmp_path,
            "stick-0000000000000000",
            seconds=30,
            wait=lambda s: now.__setitem__(0, now[0] + s),
            now_s=lambda: now[0],
        )
    assert 30 <= now[0] < 31


# ----------------------------------------------------------------------- sticks that do not do


def _shorter(stick: Path) -> None:
    path = stick / "list-school-7-people"
    path.write_bytes(path.read_bytes()[:-1])


def _longer(stick: Path) -> None:
    with (stick / "list-school-7-people").open("ab") as file:
        file.write(b"x")


def _frame(stick: Path) -> None:
    path = stick / "list-school-7-people"
    path.write_bytes(b"\x00\x00\x00\xff" + path.read_bytes()[4:])


def _huge_frame(stick: Path) -> None:
    path = stick / "list-school-7-people"
    path.write_bytes(b"\x7f" + path.read_bytes()[1:])


def _gone(stick: Path) -> None:
    (stick / "list-school-7-settings").unlink()


def _link(stick: Path) -> None:
    (stick / "list-school-7-settings").unlink()
    (stick / "list-school-7-settings").symlink_to("/etc/shadow")


def _pipe(stick: Path) -> None:
    (stick / "list-school-7-settings").unlink()
    os.mkfifo(stick / "list-school-7-settings")


def _folder(stick: Path) -> None:
    (stick / "list-school-7-settings").unlink()
    (stick / "list-school-7-settings").mkdir()


def _index(**changes: Any) -> Any:
    def spoil(stick: Path) -> None:
        path = stick / STICK_INDEX
        told = json.loads(path.read_bytes())
        for one in told["files"]:
            if one["name"] == "list-school-7-people":
                one.update(changes)
        path.write_text(json.dumps(told))

    return spoil


def _text(text: bytes) -> Any:
    return lambda stick: (stick / STICK_INDEX).write_bytes(text)


SPOILT = {
    "shorter": (_shorter, "list-school-7-people", "and its index says"),
    "longer": (_longer, "list-school-7-people", "and its index says"),
    "a wrong frame": (_frame, "list-school-7-people", "where 1 to 65536 are possible"),
    "a huge frame": (_huge_frame, "list-school-7-people", "where 1 to 65536 are possible"),
    "a file that is gone": (_gone, "list-school-7-settings", "cannot be read"),
    "a link": (_link, "list-school-7-settings", "cannot be read"),
    "a pipe": (_pipe, "list-school-7-settings", "not a file"),
    "a folder": (_folder, "list-school-7-settings", "not a file"),
    "no index": (lambda stick: (stick / STICK_INDEX).unlink(), str(STICK_INDEX), "name the folder"),
    "an empty index": (_text(b""), STICK_INDEX, "not an index of a stick"),
    "a deep index": (_text(b"[" * 50_000), STICK_INDEX, "not an index of a stick"),
    "a long index": (_text(b" " * 70_000), STICK_INDEX, "70000 bytes, more than"),
    "many files": (
        _text(
            json.dumps(
                {
                    "files": [
                        {"name": f"f{n}", "what": "root", "size_bytes": 1} for n in range(401)
                    ],
                    "made_utc_ms": 1,
                }
            ).encode()
        ),
        STICK_INDEX,
        "names 401 files",
    ),
    "a name that leads out": (_index(name="../../etc/shadow"), STICK_INDEX, "is no name of a file"),
    "a name in another folder": (_index(name="a/../../x"), STICK_INDEX, "is no name of a file"),
    "a name that is hidden": (_index(name=".x"), STICK_INDEX, "is no name of a file"),
    "a size of nothing": (_index(size_bytes=0), STICK_INDEX, "where 1 to"),
    "a size without end": (_index(size_bytes=10**12), STICK_INDEX, "where 1 to"),
    "a name twice": (_index(name="list-school-7-settings"), STICK_INDEX, "names a file twice"),
    "another site's": (
        lambda stick: _other_site(stick),
        "school-8/people",
        "bring the stick of its site",
    ),
}


def _other_site(stick: Path) -> None:
    path = stick / STICK_INDEX
    path.write_text(path.read_text().replace("school-7/", "school-8/"))


@pytest.mark.parametrize("what", SPOILT)
def test_a_stick_that_does_not_do_is_told_and_nothing_is_left_in_the_inbox(
    run: Run, installed: Path, inbox: Path, stick: Path, what: str
) -> None:
    spoil, place, words = SPOILT[what]
    spoil(stick)
    result = run("lists", "take", "--config", installed, stick)
    assert result.exit_code == 1 and "Traceback" not in result.output
    assert place in result.output and words in result.output, result.output
    assert not inbox.exists() or list(inbox.iterdir()) == []


def test_a_folder_that_is_not_there(run: Run, installed: Path, tmp_path: Path) -> None:
    result = run("lists", "take", "--config", installed, tmp_path / "none")
    assert result.exit_code == 1 and "none" in result.output


def test_more_than_any_list_can_be_is_not_copied(
    run: Run, installed: Path, inbox: Path, stick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "INBOX_BYTES_MAX", 100_000)
    result = run("lists", "take", "--config", installed, stick)
    assert result.exit_code == 1 and "more than 100000" in result.output
    assert not inbox.exists()


def test_a_disk_without_room_is_said_before_it_is_full(
    run: Run, installed: Path, inbox: Path, stick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(installed.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=500_000))
    result = run("lists", "take", "--config", installed, stick)
    assert result.exit_code == 1 and "500000 bytes free" in result.output
    assert list(inbox.iterdir()) == []


def test_what_waits_there_needs_its_room_too(
    run: Run, installed: Path, inbox: Path, stick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "is not running" in run("lists", "take", "--config", installed, stick).output
    usage, size = shutil.disk_usage(installed.parent), sum(map(len, all_files(inbox).values()))
    for free, words in ((size * 11 - 5000, "those that wait, need"), (size * 11, "is not running")):
        monkeypatch.setattr(
            shutil, "disk_usage", lambda _path, free=free: usage._replace(free=free)
        )
        assert words in run("lists", "take", "--config", installed, stick).output


def test_a_folder_exchanged_while_root_copies_leads_nowhere(
    installed: Path, inbox: Path, stick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inbox belongs to the agent's user, and this command is run by root."""
    from edge.config import load

    chosen = lists.choose(stick, load(installed))
    system, real = tmp_path / "etc", opened_file
    system.mkdir()

    def exchange(folder: Path, one: StickFile) -> AbstractContextManager[Read]:
        for path in inbox.glob(".copying-*"):
            if not path.is_symlink():
                path.rename(inbox / ".gone-elsewhere")
                path.symlink_to(system)
        return real(folder, one)

    monkeypatch.setattr(lists, "opened_file", exchange)
    with suppress(SetupProblem):
        lists.put(stick, chosen, inbox)
    assert list(system.iterdir()) == []


def test_what_is_locked_is_the_folder_and_not_what_a_link_names(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "copying").symlink_to(tmp_path / "etc")
    with pytest.raises(OSError), locked(tmp_path / "copying"):
        pass


def test_what_an_index_says_moves_no_cursor(installed: Path, stick: Path) -> None:
    from edge.config import load

    index = stick / STICK_INDEX
    found = json.loads(index.read_bytes())
    extra = {**found["files"][0], "name": "more", "what": "list", "scope": "\x1b[2J" + "x" * 900}
    index.write_text(json.dumps({**found, "files": [*found["files"], extra]}))
    chosen = lists.choose(stick, load(installed))
    shown = next(scope for scope in chosen.left_out if "2J" in scope)
    assert shown.isprintable() and len(shown) <= 80


def test_killed_while_it_copies_it_leaves_nothing_that_sync_would_take(
    installed: Path, inbox: Path, stick: Path
) -> None:
    """At every file it opens, one waiting there already; the next call cleans up behind it."""
    from edge.config import load

    chosen = lists.choose(stick, load(installed))
    first = lists.put(stick, chosen, inbox)
    before = all_files(inbox)
    whole = 0
    for step in range(1, 60):
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                _die_at(step)
                lists.put(stick, chosen, inbox)
                os._exit(0)
            os._exit(1)
        _, status = os.waitpid(child, 0)
        assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0
        assert sticks(inbox)[0].name == first and before.items() <= all_files(inbox).items()
        for one in sticks(inbox)[1:]:
            whole += 1
            for part in chosen.index.files:
                assert (one / part.name).read_bytes() == (stick / part.name).read_bytes()
            assert (one / STICK_INDEX).exists()
            remove(one)
        if os.WIFEXITED(status):
            break
    else:
        raise AssertionError("it never came to its end")
    assert step > 8 and whole >= 1
    assert not [path for path in inbox.iterdir() if path.name.startswith(COPYING)]


def _die_at(step: int) -> None:
    """SIGKILL at the `step`-th time this child touches a file."""
    import signal
    import sys

    left = step

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal left
        if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.chmod"):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
