"""Goal: what the documents show of the code is what the code does.

Method: the parts made again and compared; marks that are missing or doubled are told; a changed
table is seen to change its document.
"""

from __future__ import annotations

import pytest

from edge.turnstile.passage_table import REST, TABLE, Move, State, diagram_mermaid
from hil.diagrams import LANE, made, outdated, put


def test_documents_are_as_the_code_is() -> None:
    assert outdated() == [], "run: python -m hil.diagrams"


def test_every_way_from_one_state_to_another_is_drawn() -> None:
    drawn = diagram_mermaid()
    for row in TABLE:
        target = "rest" if row.move is Move.REST else str(row.move)
        arrows = [line for line in drawn.splitlines() if f"{row.state} --> {target}:" in line]
        if row.move is Move.STAY:
            continue
        assert len(arrows) == 1 and str(row.trigger) in arrows[0].split(": ")[1].split(" / ")
    for condition, state, _ in REST:
        assert f"rest --> {state}: {condition}" in drawn
    assert all(f"{state} " in drawn for state in State)


def test_a_part_stands_between_its_marks_and_nothing_else_is_touched() -> None:
    text = "a\n<!-- made: x -->\nold\n<!-- end: x -->\nb\n"
    assert put(text, "x", "new\n") == "a\n<!-- made: x -->\nnew\n<!-- end: x -->\nb\n"
    for spoilt in ("no marks", text + text):
        with pytest.raises(ValueError, match="x: its marks stand"):
            put(spoilt, "x", "new\n")


def test_a_changed_table_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = dict(made()) | {(LANE, "signals"): "| other |\n"}
    monkeypatch.setattr("hil.diagrams.made", lambda: changed)
    assert outdated() == ["edge/turnstile/README.md: signals"]
