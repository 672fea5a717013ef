"""`python -m hil.scenarios [names]`: play scenarios in virtual time, print what they reached.

Without names the whole set is played, and must reach every reason of a decision and every row of
the passage table. Exit 1 when something was not as a scenario says.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from pathlib import Path

from edge import logs
from hil.scenarios.play import Reached, play
from hil.scenarios.script import FOLDER, BadScript, all_scripts, load


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scenarios", description=__doc__)
    parser.add_argument("name", nargs="*", help="of the set, or a file's path; default: all")
    parser.add_argument("--show", action="store_true", help="print what happened, step by step")
    asked = parser.parse_args(arguments)
    logs.set_up("scenarios", level="error", stream=io.StringIO())  # What is told is here.
    paths = [_path(name) for name in asked.name] or all_scripts()
    reached, failed, started_s = Reached(), 0, time.monotonic()
    for path in paths:
        try:
            played = play(load(path))
        except BadScript as problem:
            print(f"bad     {path.stem}\n{problem}")
            failed += 1
            continue
        reached.add(played.reached)
        failed += bool(played.problems)
        print(f"{'wrong  ' if played.problems else 'as told'} {path.stem}: {played.script.title}")
        print("".join(f"  {line}\n" for line in played.seen * asked.show), end="")
        print("".join(f"  {problem}\n" for problem in played.problems), end="")
    print(f"{len(paths)} scenarios, {failed} wrong, {time.monotonic() - started_s:.0f} s")
    print(reached.table())
    return 1 if failed or (not asked.name and reached.missing) else 0


def _path(name: str) -> Path:
    return Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"


if __name__ == "__main__":
    sys.exit(main())
