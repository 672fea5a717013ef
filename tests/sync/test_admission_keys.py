"""Goal: an admission station asks for the key its list was made with; nobody could be looked up
without it.

Method: the whole of sync in virtual time (`sync_world.py`), enrolled as each station.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.messages import Pull, decode_json
from sync.topics import CITY_SCOPE, TopicKind
from tests.sync import sync_world


@pytest.mark.parametrize("station", ["till", "admission"])
def test_a_station_asks_for_the_keys_of_its_lists_of_people(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, station: str
) -> None:
    toml = sync_world.TOML.replace('station = "till"', f'station = "{station}"')
    assert f'station = "{station}"' in toml
    monkeypatch.setattr(sync_world, "TOML", toml)
    world = sync_world.World(tmp_path)
    try:
        world.run(5_000)
        pulls = [decode_json(Pull, body) for body in world.city.of(TopicKind.PULL)]
        asked = {scope for pull in pulls for scope in pull.keys}
        lists = set(world.sync.downlink._scopes)
        keyed = {scope for scope in lists if scope.endswith("/people") or scope == CITY_SCOPE}
        assert asked == keyed and keyed
        assert set(world.sync.downlink.keys.newest()) == keyed
    finally:
        world.stop()
