"""Goal: whatever a lane, an admission or the guardian's screen can say makes sense and is there in
both languages.

Method: every result of a passage; every Russian text in the modules that speak, found in their
syntax trees, so that a new one cannot be forgotten.
"""

from __future__ import annotations

import ast
import inspect
import re

import pytest

from edge.model import AccessReason, Outcome, PassageResult, Tariff
from edge.turnstile import admission, guardian, officer
from edge.turnstile.english import ENGLISH, english

RUSSIAN = re.compile("[А-Яа-яЁё]")
GRANTED = officer.decided(
    Outcome.GRANT, AccessReason.AUTHORIZED, name="Аня", group="1А", passage="e.1", now_ms=0
)


def texts_of(module: object) -> set[str]:
    """Every Russian sentence or word in a module's code."""
    tree = ast.parse(inspect.getsource(module))  # type: ignore[arg-type]
    found = {
        node.value.strip()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return {text.removesuffix(".") for text in found if RUSSIAN.search(text)}


@pytest.mark.parametrize("result", list(PassageResult))
def test_every_result_has_a_screen_of_its_own(result: PassageResult) -> None:
    view = officer.passed(result, GRANTED, now_ms=1_000)
    assert view.word and view.until_ms is not None and view.until_ms > 1_000
    assert view.text or result is PassageResult.TAKEN
    others = [officer.passed(one, GRANTED, now_ms=1_000) for one in PassageResult]
    assert [one.state for one in others].count(view.state) == 1
    assert [(one.word, one.text) for one in others].count((view.word, view.text)) == 1
    alarm = result in (PassageResult.FORCED, PassageResult.HELD)
    assert (view.light is officer.Light.RED) is alarm, "red is for what somebody must look at"
    assert (view.name == "Аня") is (result is PassageResult.TAKEN)


def test_every_text_has_its_english_and_none_is_left_over() -> None:
    said = set().union(*map(texts_of, (officer, admission, guardian)))
    assert len(said) > 60
    assert {text for text in said if text not in ENGLISH} == set()
    assert set(ENGLISH) - said == set(), "no longer said"
    assert not any(RUSSIAN.search(text) for text in ENGLISH.values())


def test_english_goes_sentence_by_sentence() -> None:
    assert english("") == ""
    again = f"{admission._GRANTED[Tariff.FREE][1]}. {admission.AGAIN_TEXT}"
    assert english(again) == "Free ticket. This card was shown today already"
