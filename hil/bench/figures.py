"""A figure beside its limit measured in the same run, the table of them, and `bench.json`.

Absolute times differ between machines, so what is promised is a ratio to something bare that ran
on the same disk and processor in the same minute.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table. `goal` is in words; `ok` says whether it was reached."""

    name: str
    value: float
    unit: str
    limit: float
    limit_name: str
    ratio: float
    goal: str
    ok: bool


def figure(
    name: str, value: float, unit: str, *, limit: float, limit_name: str, goal: str, ok: bool
) -> Figure:
    ratio = value / limit if limit else 0.0
    return Figure(
        name=name,
        value=round(value, 4),
        unit=unit,
        limit=round(limit, 4),
        limit_name=limit_name,
        ratio=round(ratio, 3),
        goal=goal,
        ok=ok,
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def table(figures: Iterable[Figure]) -> str:
    """The figures as text that fits a terminal."""
    rows = [("figure", "value", "limit in this run", "ratio", "goal", "")]
    for f in figures:
        rows.append(
            (
                f.name,
                f"{f.value:g} {f.unit}",
                f"{f.limit:g} {f.unit} {f.limit_name}",
                f"{f.ratio:.2f}",
                f.goal,
                "ok" if f.ok else "MISSED",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def write(figures: Iterable[Figure], path: Path) -> None:
    path.write_text(json.dumps([asdict(f) for f in figures], indent=1, ensure_ascii=False) + "\n")
