"""Goal: a photo leaves a station only while its person stands on a screen there.

Method: a real station with sealed photos on its disk, asked over HTTP as its page asks, before a
card is shown, while it is, and after the next person; and with a file changed or swapped.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edge.control import ask
from edge.model import Category
from hil.world.faces import face_png
from tests.support.screen_station import ScreenStation, Someone, running

pytestmark = pytest.mark.process
WAIT_S_MAX = 60.0
ANNA = Someone(id="p1", name="Смирнова Анна", photo=face_png(1))
BORIS = Someone(id="p2", name="Борисов Борис", photo=face_png(2))
NOBODY = Someone(id="p3", name="Без фото", category=Category.STAFF)


@pytest.fixture
def station(tmp_path: Path) -> Iterator[ScreenStation]:
    with running(tmp_path / "s", station="entrance", people=(ANNA, BORIS, NOBODY)) as made:
        yield made


def get(station: ScreenStation, photo: str) -> tuple[int, bytes]:
    host = station.address.removeprefix("http://")
    with closing(http.client.HTTPConnection(host, timeout=WAIT_S_MAX)) as client:
        client.request("GET", f"/photo/{photo}")
        answer = client.getresponse()
        return answer.status, answer.read()


def shown(station: ScreenStation) -> dict[str, Any]:
    screen = ask(station.settings.socket_path("edge"), {"request": "screen"})
    found = screen["screens"][0]
    assert isinstance(found, dict)
    return found


def show(station: ScreenStation, person: Someone) -> str:
    station.tap(person)
    until_s = time.monotonic() + WAIT_S_MAX
    while shown(station)["name"] != person.name:
        assert time.monotonic() < until_s
        time.sleep(0.05)
    return str(shown(station)["photo"])


def test_a_photo_is_given_while_its_person_is_on_the_screen(station: ScreenStation) -> None:
    folder = station.settings.folders.state / "photos"
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) == 2
    assert all(get(station, name)[0] == 404 for name in names), "nobody is on the screen"
    of_anna = show(station, ANNA)
    assert get(station, of_anna) == (200, face_png(1))
    (of_boris,) = set(names) - {of_anna}
    assert get(station, of_boris)[0] == 404
    station.walk()
    assert show(station, BORIS) == of_boris
    assert get(station, of_boris) == (200, face_png(2))
    assert get(station, of_anna)[0] == 404
    for path in folder.iterdir():
        assert b"PNG" not in path.read_bytes(), "sealed on the disk"


def test_a_file_that_is_not_what_its_row_named_is_shown_to_nobody(station: ScreenStation) -> None:
    folder = station.settings.folders.state / "photos"
    name = show(station, ANNA)
    (other,) = {path.name for path in folder.iterdir()} - {name}
    (folder / name).write_bytes((folder / other).read_bytes())
    assert get(station, name)[0] == 404
    (folder / name).unlink()
    assert get(station, name)[0] == 404


@pytest.mark.parametrize("name", ["A" * 43, "../state/journal.db", "", "%2e%2e", "A" * 500])
def test_what_is_no_name_of_a_photo_is_not_found(station: ScreenStation, name: str) -> None:
    show(station, ANNA)
    assert get(station, name)[0] == 404


def test_only_the_page_may_ask_for_photos(station: ScreenStation) -> None:
    """Not even the station's own `do`: a photo in JSON would be a second way out."""
    host = station.address.removeprefix("http://")
    name = show(station, ANNA)
    with closing(http.client.HTTPConnection(host, timeout=WAIT_S_MAX)) as client:
        body = json.dumps({"hash": name})
        client.request("POST", "/do/photo", body, {"Content-Type": "application/json"})
        assert client.getresponse().status == 404
