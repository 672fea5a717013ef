"""Goal: a snapshot whose line is cut, or whose process ends, after any of its chunks costs what was
missing and not one chunk more.

Method: exhaust where the cut comes, in virtual time with the real intake and a model city.
"""

from __future__ import annotations

from random import Random

import pytest

from edge.messages import Delta, Head, Manifest
from tests.sync.list_world import Chunk, World

PEOPLE = "s1/people"
ROWS = 26
CHUNKS = 13


class _Cut(World):
    """The line goes right after the `cut`-th chunk has been taken in."""

    def __init__(self, cut: int) -> None:
        super().__init__(Random(cut), (PEOPLE,))
        self.cut = cut
        self.taken: list[int] = []

    def take(self, what: Head | Delta | Manifest | Chunk) -> None:
        super().take(what)
        if isinstance(what, Chunk):
            self.taken.append(what.index)
            if len(self.taken) == self.cut:
                self.disconnect()


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("cut", range(1, CHUNKS + 1))
def test_a_snapshot_cut_at_each_chunk_goes_on_where_it_was(cut: int, changed: bool) -> None:
    """`changed`: the list moves on by a delta while the line is away."""
    world = _Cut(cut)
    city = world.cities[PEOPLE]
    city.change({b"%02d" % row: b"x" for row in range(ROWS)})
    city.deltas.clear()
    city.make_snapshot()
    assert len(city.chunks) == CHUNKS
    world.connect()
    for _ in range(30):
        world.run_second()
    assert len(world.taken) == cut
    if changed:
        world.change(PEOPLE, 1)
    world.connect()
    for _ in range(30):
        world.run_second()
    assert sorted(world.taken) == list(range(CHUNKS)), "each chunk once"
    assert world.device.snapshots == 1 and not world.device.refused
    world.check_current()
