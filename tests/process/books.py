"""The city's database held against the journals, fact for fact, without asking either process.

For runs too long for `oracle.py`'s HTTP. Reads both sides in order and in step, so a million facts
need no memory. What is compared: the bytes and the number of every fact, the chain from the first
to the head, the cursors, and what was made of the facts: each sale one entry in the ledger, each
passage taken and each sale one line in the feed.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from edge.messages import NO_DIGEST, PassageFact, SaleFact, Stream, decode_fact, digest_of
from edge.model import Direction, PassageResult
from edge.offline_cache import outbox
from edge.offline_cache.store import FileKind, open_reader, reading

FILES = {
    Stream.MAIN: ("journal.db", FileKind.JOURNAL),
    Stream.AGENT: ("sync.db", FileKind.SYNC),
    Stream.DIAG: ("sync.db", FileKind.SYNC),
}
TOLD_MAX = 20  # Our choice: whoever reads a failure needs the first ones.
FED = ("passage", "sale")


@dataclass(kw_only=True)
class Meant:
    """What the journals' facts come to."""

    facts: Counter[str] = field(default_factory=Counter)  # By kind.
    fed: Counter[tuple[str, str]] = field(default_factory=Counter)  # (cardholder, kind).
    entries: int = 0
    spent_minor: Counter[str] = field(default_factory=Counter)  # By account.


def heads(state: Path, streams: tuple[Stream, ...] = tuple(Stream)) -> dict[tuple[str, str], int]:
    """(stream, epoch) -> head, of one device's files."""
    found: dict[tuple[str, str], int] = {}
    for stream in streams:
        name, kind = FILES[stream]
        db = open_reader(state / name, kind)
        if db is None:
            continue
        with closing(db), reading(db):
            found |= {(stream.value, x.epoch): x.head for x in outbox.lives(db, stream)}
    return found


def open_city(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)


def cursors(city: sqlite3.Connection) -> dict[tuple[str, str, str], tuple[int, str]]:
    rows = city.execute("SELECT device, stream, epoch, up_to, digest FROM cursor")
    return {(row[0], row[1], row[2]): (row[3], row[4]) for row in rows}


def problems(city_db: Path, states: dict[str, Path]) -> tuple[list[str], Meant]:
    """Everything that is not as it must be, the first of it; and what the journals hold.
    `states` is device -> folder with its databases."""
    found: list[str] = []
    meant = Meant()
    with closing(open_city(city_db)) as city:
        marks = cursors(city)
        for device, state in states.items():
            for problem in _device_problems(city, marks, device, state, meant):
                found.append(f"{device}: {problem}")
                if len(found) >= TOLD_MAX:
                    return found, meant
        found += [f"a cursor of nobody: {key}" for key in marks]
        found += _table_problems(city)
        found += _made_problems(city, meant)
    return found[:TOLD_MAX], meant


def _device_problems(
    city: sqlite3.Connection,
    marks: dict[tuple[str, str, str], tuple[int, str]],
    device: str,
    state: Path,
    meant: Meant,
) -> Iterator[str]:
    """Takes out of `marks` what it has met."""
    for stream, (name, kind) in FILES.items():
        db = open_reader(state / name, kind)
        assert db is not None, f"{state / name} is not there"
        with closing(db), reading(db):
            for life in outbox.lives(db, stream):
                mark = marks.pop((device, stream.value, life.epoch), (0, NO_DIGEST))
                if mark != (life.head, life.digest):
                    yield f"{stream} {life.epoch}: the city stands at {mark[0]} of {life.head}"
                yield from _life_problems(city, db, device, life, meant)


def _life_problems(
    city: sqlite3.Connection,
    db: sqlite3.Connection,
    device: str,
    life: outbox.Life,
    meant: Meant,
) -> Iterator[str]:
    where = f"{life.stream} {life.epoch}"
    ours = db.execute(
        "SELECT sequence, body FROM facts WHERE life = ? ORDER BY sequence", (life.life,)
    )
    theirs = city.execute(
        "SELECT sequence, bytes, digest FROM fact WHERE device = ? AND stream = ? AND epoch = ?"
        " ORDER BY sequence",
        (device, life.stream.value, life.epoch),
    )
    expected, number = NO_DIGEST, 0
    for number, (mine, its) in enumerate(zip_longest(ours, theirs), start=1):
        if mine is None or its is None or mine[0] != number or its[0] != number:
            yield f"{where}: at {number} the journal has {_first(mine)}, the city {_first(its)}"
            return
        if mine[1] != its[1]:
            yield f"{where}: {number} differs"
        fact = decode_fact(mine[1])
        if fact.sequence != number or fact.previous != expected:
            yield f"{where}: the chain breaks before {number}"
        expected = digest_of(mine[1])
        if its[2] != expected:
            yield f"{where}: the city's digest of {number} is not that of its bytes"
        _note(fact, meant)
    if (number, expected) != (life.head, life.digest):
        yield f"{where}: ends at {number}, its head says {life.head}"


def _first(row: tuple[int, ...] | None) -> int | None:
    return None if row is None else row[0]


def _note(fact: object, meant: Meant) -> None:
    if isinstance(fact, PassageFact) and fact.result is PassageResult.TAKEN:
        kind = "came" if fact.direction is Direction.IN else "left"
        meant.fed[fact.cardholder or "", kind] += 1
    elif isinstance(fact, SaleFact):
        meant.fed[fact.cardholder, "bought"] += 1
        meant.entries += 1
        meant.spent_minor[fact.account] += fact.total_minor
    meant.facts[str(type(fact).__struct_config__.tag)] += 1  # type: ignore[attr-defined]


def _table_problems(city: sqlite3.Connection) -> list[str]:
    """Nothing was lost, so nothing may be declared lost, doubted or put aside."""
    found = []
    for table in ("gap", "fork", "suspense", "restated"):
        (count,) = city.execute(f"SELECT count(*) FROM {table}").fetchone()
        if count:
            found.append(f"{count} rows in {table}")
    return found


def _made_problems(city: sqlite3.Connection, meant: Meant) -> list[str]:
    """What the city made of the facts, against what they say: a fact that was posted twice."""
    found = []
    fed = Counter[tuple[str, str]](
        {
            (cardholder, kind): count
            for cardholder, kind, count in city.execute(
                "SELECT cardholder, kind, count(*) FROM feed GROUP BY 1, 2"
            )
        }
    )
    if fed != meant.fed:
        more, less = (fed - meant.fed).total(), (meant.fed - fed).total()
        found.append(f"the feed has {more} lines too many and {less} too few")
    (entries,) = city.execute("SELECT count(*) FROM entry WHERE kind = 'sale'").fetchone()
    if entries != meant.entries:
        found.append(f"{entries} sales in the ledger, {meant.entries} in the journals")
    spent = Counter[str](
        dict(
            city.execute(
                "SELECT p.account, -sum(p.amount_minor) FROM posting p JOIN entry e"
                " ON e.id = p.entry"
                " WHERE e.kind = 'sale' AND p.account NOT LIKE 'sales:%' GROUP BY 1"
            )
        )
    )
    if spent != meant.spent_minor:
        found.append("accounts have paid something else than the journals say")
    unbalanced = city.execute(
        "SELECT count(*) FROM (SELECT entry FROM posting GROUP BY entry, purse"
        " HAVING sum(amount_minor) <> 0)"
    ).fetchone()[0]
    if unbalanced:
        found.append(f"{unbalanced} entries do not sum to zero")
    drifted = city.execute(
        "SELECT count(*) FROM balance b WHERE amount_minor <> (SELECT coalesce(sum(p.amount_minor),"
        " 0) FROM posting p WHERE p.account = b.account AND p.purse = b.purse)"
    ).fetchone()[0]
    if drifted:
        found.append(f"{drifted} balances are not the sum of their postings")
    return found
