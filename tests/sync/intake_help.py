"""What the tests of the intake share: small cities, and reading answers."""

from __future__ import annotations

from edge.messages import Pull
from sync.answers import (
    IntakeAnswer,
    Refuse,
    SendPull,
)
from sync.intake import Intake
from tests.sync.list_world import DEVICE, ListCity

PEOPLE, MONEY, MENU = "s1/people", "s1/money", "s1/menu"


def city_with(changes: int, *, rows: int = 3) -> ListCity:
    city = ListCity(PEOPLE)
    city.change({b"r%d" % i: b"0" for i in range(rows)})
    city.deltas.clear()
    city.make_snapshot()
    for change in range(changes):
        city.change({b"c%d" % change: b"1"})
    return city


def told(city: ListCity) -> Intake:
    """An intake that holds the city's snapshot and knows nothing newer."""
    assert city.manifest is not None
    intake = Intake(device=DEVICE, scopes=(PEOPLE,), key_scopes=(), spread=1.0)
    intake.held(scope=PEOPLE, version=city.manifest.version, now_ms=0)
    return intake


def pulls(answers: tuple[IntakeAnswer, ...]) -> list[Pull]:
    return [answer.pull for answer in answers if isinstance(answer, SendPull)]


def refusals(answers: tuple[IntakeAnswer, ...]) -> list[tuple[str, str]]:
    return [(a.what, a.reason) for a in answers if isinstance(a, Refuse)]


def chunk(
    intake: Intake, city: ListCity, index: int, *, now_ms: int, data: bytes | None = None
) -> tuple[IntakeAnswer, ...]:
    assert city.manifest is not None
    return intake.chunk(
        scope=PEOPLE,
        snapshot_id=city.manifest.snapshot_id,
        index=index,
        data=city.chunks[index] if data is None else data,
        now_ms=now_ms,
    )
