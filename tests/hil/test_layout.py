"""Goal: the miniature's own files are ones the product takes, and `--fresh` harms nothing else.

Method: the files as made, read by the product's own reader; folders by their names.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from edge import config
from edge.model import DeviceFault, SetupProblem
from hil.city.database import schema_of
from hil.city.schema import FILE_NAME, SCHEMA_VERSION
from hil.layout import ALL_STATIONS, READERS, SETS, WIRES, Folder, device_toml, station_of_line
from hil.run import _forget, _set_aside


@pytest.mark.parametrize("station", ALL_STATIONS, ids=lambda station: str(station.name))
@pytest.mark.parametrize("root", ["/srv/mk", '/srv/a "quoted" \\ place', "/srv/школа"])
def test_the_product_takes_the_device_file(root: str, station: object) -> None:
    place = next(found for found in ALL_STATIONS if found is station)
    folder = Folder(Path(root))
    text = device_toml(place, folder, endpoint="mqtt://127.0.0.1:1883")
    settings = config.parse(text.encode(), folder.device_file(place.name))
    assert settings.device_id == place.device_id
    assert settings.endpoints == ("mqtt://127.0.0.1:1883",)
    assert [reader.port for reader in settings.readers] == [
        str(folder.reader(reader.name)) for reader in READERS if reader.station == place.name
    ]
    assert settings.socket_path("edge") == folder.runtime(place.name) / "edge.sock"
    assert settings.certificate_path == folder.certificate(place.name)


def test_every_wire_belongs_to_a_lane_and_every_reader_to_one_place() -> None:
    assert {station_of_line(wire) for wire in WIRES} == {"entrance", "preschool"}
    assert station_of_line("garden-out.rotation") == "preschool"
    with pytest.raises(DeviceFault, match="there is no wire"):
        station_of_line("south.fire")
    assert len({reader.name for reader in READERS}) == len(READERS)
    assert {reader.station for reader in READERS} == {one.name for one in ALL_STATIONS}
    assert set(SETS["few"]) < set(SETS["all"])


def test_a_folder_too_deep_for_sockets_is_refused() -> None:
    Folder(Path("/srv/" + "d" * 60)).check()
    with pytest.raises(SetupProblem, match=r"characters too long .* --folder"):
        Folder(Path("/srv/" + "d" * 120)).check()


def test_fresh_forgets_what_a_miniature_made_and_nothing_else(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    mine = tmp_path / "holiday.txt"
    mine.write_text("mine")
    for path in folder.everything():
        if path.suffix or path == folder.address:
            path.write_text("")
        else:
            path.mkdir()
            (path / "deep").mkdir()
    _forget(folder)
    assert list(tmp_path.iterdir()) == [mine]


def test_what_another_version_made_is_told_and_set_aside_whole(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    assert schema_of(folder.city / FILE_NAME) is None
    folder.city.mkdir()
    for version in (1, SCHEMA_VERSION):
        with contextlib.closing(sqlite3.connect(folder.city / FILE_NAME)) as db:
            db.execute(f"PRAGMA user_version = {version}")
        assert schema_of(folder.city / FILE_NAME) == version
    folder.memory.write_text("{}")
    for _ in range(2):
        aside = _set_aside(folder)
        assert list(tmp_path.iterdir()) == [aside]
        assert schema_of(aside / "city" / FILE_NAME) == SCHEMA_VERSION
        (aside / "city").rename(folder.city)
    (tmp_path / "city" / FILE_NAME).write_text("no database " * 99)
    assert schema_of(folder.city / FILE_NAME) is None, "its city says what is wrong with it"
