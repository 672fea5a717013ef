"""Diagrams and tables of the documents, made from the code's own data.

`python -m hil.diagrams` writes them between their marks in the documents; with `--check` it only
says which are not as the code is. A test checks them too.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from edge.turnstile import passage_table, signals

ROOT: Final = Path(__file__).parent.parent
LANE: Final = ROOT / "edge" / "turnstile" / "README.md"


def signals_markdown() -> str:
    """What each lamp does for each signal."""

    def words(pattern: signals.Pattern | None) -> str:
        if pattern is None:
            return "–"
        if pattern is signals.STEADY:
            return "steady"
        rhythm = f"{pattern.on_ms} ms" + (f" on, {pattern.off_ms} off" if pattern.off_ms else "")
        return rhythm + (f", {pattern.times} ×" if pattern.times > 1 else "")

    lines = [f"| signal | {' | '.join(signals.Lamp)} |", "|---" * (len(signals.Lamp) + 1) + "|"]
    for shown in signals.Shown:
        lamps = (words(signals.PATTERNS[shown].get(lamp)) for lamp in signals.Lamp)
        lines.append(f"| {shown} | {' | '.join(lamps)} |")
    return "\n".join(lines) + "\n"


def made() -> Mapping[tuple[Path, str], str]:
    """(document, name of the mark) -> what stands between the marks."""
    return MappingProxyType(
        {
            (LANE, "passage diagram"): f"```mermaid\n{passage_table.diagram_mermaid()}```\n",
            (LANE, "passage table"): passage_table.table_markdown(),
            (LANE, "signals"): signals_markdown(),
        }
    )


def put(text: str, name: str, part: str) -> str:
    """The document with this part between its marks. `ValueError` when it has no such marks."""
    begin, end = f"<!-- made: {name} -->\n", f"<!-- end: {name} -->\n"
    found = re.subn(
        re.escape(begin) + ".*?" + re.escape(end),
        lambda _: f"{begin}{part}{end}",
        text,
        flags=re.DOTALL,
    )
    if found[1] != 1:
        raise ValueError(f"{name}: its marks stand {found[1]} times in the document, not once")
    return found[0]


def outdated() -> list[str]:
    """The parts that are not as the code is."""
    return [
        f"{path.relative_to(ROOT)}: {name}"
        for (path, name), part in made().items()
        if put(text := path.read_text(encoding="utf-8"), name, part) != text
    ]


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        found = outdated()
        for line in found:
            print(f"{line} is not as the code is; run: python -m hil.diagrams")
        return 1 if found else 0
    for (path, name), part in made().items():
        path.write_text(put(path.read_text(encoding="utf-8"), name, part), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
