"""Goal: what the scenarios say of the agent in virtual time is so of the process in real time.

Method: the scripts marked `live`, each on an edge process of its own with virtual pins; cards come
over virtual serial ports, bodies and requests through its socket, what it recorded is read from its
journal.
"""

from __future__ import annotations

import pytest

from hil.scenarios.live import play_live
from hil.scenarios.script import all_scripts, load

pytestmark = [pytest.mark.process, pytest.mark.slow]

LIVE = [path for path in all_scripts() if load(path).live]


@pytest.mark.parametrize("name", [path.stem for path in LIVE])
def test_scenario_live(name: str) -> None:
    (path,) = (path for path in LIVE if path.stem == name)
    played = play_live(load(path))
    assert played.problems == ()
