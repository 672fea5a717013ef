"""Goal: at an entrance everything happens as `hil/scenarios` says, and the set leaves no reason of
a decision and no row of the passage table unvisited.

Method: one test a file, each played against the real agent in virtual time; what they reached is
put together at the end. Expectations spoilt on purpose must be found, and a file with mistakes
must name each of them with its place.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.model import AccessReason
from hil.scenarios.__main__ import main
from hil.scenarios.command import scenarios
from hil.scenarios.play import Reached, play
from hil.scenarios.script import FOLDER, BadScript, Script, all_scripts, load

SCRIPTS = {path.stem: path for path in all_scripts()}
SET_MIN = 60
LIVE_MIN = 8
_reached = Reached()
_played: set[str] = set()

pytestmark = pytest.mark.slow

SPOILT = {
    'facts = ["passage in taken p1"]': 'facts = ["passage in not_taken p1"]',
    'opens = ["in"]': "opens = []",
    'screen = { in = "taken СПАСИБО green" }': 'screen = { in = "taken СПАСИБО red" }',
    '"occupancy.school" = 1': '"occupancy.school" = 2',
    'facts = ["access in grant authorized p1"]': "",
    '"in.name" = "Имя p1"': '"in.name" = "Имя p2"',
}


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_scenario(name: str) -> None:
    played = play(load(SCRIPTS[name]))
    assert played.problems == ()
    _reached.add(played.reached)
    _played.add(name)


def test_the_set_reaches_every_reason_and_every_row() -> None:
    for name in sorted(set(SCRIPTS) - _played):  # Whatever this run left out.
        _reached.add(play(load(SCRIPTS[name])).reached)
    assert _reached.missing == []
    assert len(SCRIPTS) >= SET_MIN
    assert sum(load(path).live for path in SCRIPTS.values()) >= LIVE_MIN


def test_what_is_missing_is_told() -> None:
    reached = play(load(SCRIPTS["pupil_in"])).reached
    assert "reason lockdown" in reached.missing and "row fire / grant" in reached.missing
    assert f"access reasons reached  1 of {len(AccessReason)}" in reached.table()


@pytest.mark.parametrize("right", sorted(SPOILT))
def test_a_planted_wrong_expectation_is_found(tmp_path: Path, right: str) -> None:
    text = SCRIPTS["pupil_in"].read_text(encoding="utf-8")
    assert right in text
    spoilt = tmp_path / "spoilt.toml"
    spoilt.write_text(text.replace(right, SPOILT[right], 1), encoding="utf-8")
    assert play(load(SCRIPTS["pupil_in"])).problems == ()
    problems = play(load(spoilt)).problems
    assert len(problems) == 1 and problems[0].startswith("spoilt.toml: step "), problems


def test_the_command_fails_where_a_scenario_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pupil_in"]) == 0
    text = SCRIPTS["pupil_in"].read_text(encoding="utf-8")
    spoilt = tmp_path / "spoilt.toml"
    spoilt.write_text(text.replace('"passage in taken p1"', '"passage in forced -"'))
    assert main([str(spoilt)]) == 1
    (tmp_path / "bad.toml").write_text("title = 3\n", encoding="utf-8")
    assert main([str(tmp_path / "bad.toml"), "--show"]) == 1
    out = capsys.readouterr().out
    assert "wrong   spoilt" in out and "bad     bad" in out


def test_moskvenok_plays_them_too() -> None:
    played = CliRunner().invoke(scenarios, ["pupil_in", "--show"])
    assert played.exit_code == 0 and "as told pupil_in" in played.output
    assert "passage in taken p1" in played.output
    assert CliRunner().invoke(scenarios, ["nobody_wrote_it"]).exit_code == 1


STEP = '[[step]]\ntap = "p1"\n'
BAD = {
    "titel = 1": ("file", '"titel" is not known', "title"),
    "title = 3": ("file title", "3", "type str"),
    'title = "x"\nstation = 4': ("station", "4", "type dict"),
    'title = "x"\n[station]\nkind = "airport"': ("[station] kind", "airport", "preschool"),
    'title = "x"\n[people.p1]\ncategory = "cat"': ("[people.p1] category", "cat", "guardian"),
    'title = "x"\n[people.p1]\nschedule = "never"': ("[people.p1]", "'never'", "[schedules]"),
    'title = "x"\n[site]\npassback_mode = "loud"': ("[site] passback_mode", "loud", "SiteRow"),
    'title = "x"\n[site]\ncolour = 1': ("[site]", '"colour"', "passback_mode"),
    'title = "x"\n[schedules.a]\nwindows = ["8-9"]': ("[schedules.a]", "8-9", "mon-fri"),
    'title = "x"\n[schedules.a]\nwindows = ["mon 09:00-08:00"]': (
        "[schedules.a]",
        "mon 09:00-08:00",
        "begin before",
    ),
    'title = "x"\n[lists]\nage = "old"': ("[lists] age", "'old'", "5s"),
    'title = "x"\n[[step]]\ntap = "p1"\nwalk = "in"': ("bad.toml:2: step 1", "tap and walk", "one"),
    'title = "x"\n[[step]]\nat = "in"': ("bad.toml:2: step 1", "nothing happens", "tap"),
    'title = "x"\n[[step]]\nwalk = "in"\nage = "1s"': ("step 1", '"age" beside walk', "nothing"),
    'title = "x"\n[[step]]\nwait = "long"': ("step 1 wait", "'long'", "5s"),
    'title = "x"\n[[step]]\ntap = "p1"\nlane = "three"': ("step 1 lane", "three", "one, two"),
    'title = "x"\nlive = true\n[[step]]\ndisk = "refuses"': ("step 1", "played live", "tap"),
    'title = "x"\n[[step]\n': ("is no TOML", "line 2", "mend"),
}


@pytest.mark.parametrize("text", sorted(BAD))
def test_a_bad_file_is_told_where_what_and_what_to_do(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(f"{text}\n{STEP if 'step' not in text else ''}", encoding="utf-8")
    with pytest.raises(BadScript) as bad:
        load(path)
    said = str(bad.value)
    assert said.startswith("bad.toml")
    for words in BAD[text]:
        assert words in said, said


def test_several_mistakes_are_told_together(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('[station]\nkind = "x"\nlane = "y"\n[[step]]\nwait = "z"\n', encoding="utf-8")
    with pytest.raises(BadScript) as bad:
        load(path)
    assert len(str(bad.value).splitlines()) == 4


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadScript, match=r"none.toml: cannot be read"):
        load(tmp_path / "none.toml")


def test_the_readme_shows_a_script_that_plays(tmp_path: Path) -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    (shown,) = [part.split("```")[0] for part in text.split("```toml\n")[1:]]
    path = tmp_path / "shown.toml"
    path.write_text(shown, encoding="utf-8")
    script: Script = load(path)
    assert play(script).problems == ()
