"""What the source of a message says of its fields, for the published schemas.

A comment beside a field, or right above it, is what there is to say of it: in `edge/messages` it
costs nothing at run time, and here it becomes the field's description. Of an enum each member's
comment counts so. A comment that begins with names in brackets, such as `[file, offset]`, names the
places of an array of fixed length as well.
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import textwrap
import tokenize
from enum import Enum
from functools import cache
from typing import Final

from msgspec import Struct

PLACES: Final = re.compile(r"`\[(\w+(?:, \w+)+)\]`")
COMMON: Final = {"v": "Version of the wire."}


@cache
def notes_of(kind: type) -> dict[str, str]:
    """Field, or member, -> what is said of it; those of its bases among them."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if issubclass(base, Struct | Enum) and base.__module__.startswith("edge."):
            found |= notes_in(textwrap.dedent(inspect.getsource(base)))
    return found


def places_of(note: str) -> tuple[str, ...]:
    """The names of an array's places, where the note begins with them."""
    found = PLACES.match(note)
    return () if found is None else tuple(found[1].split(", "))


def words_of(kind: type) -> str:
    """Its docstring as one paragraph after the other, each on one line."""
    if "__doc__" not in vars(kind):
        return ""  # An inherited one tells of something else.
    paragraphs = inspect.cleandoc(kind.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def notes_in(source: str) -> dict[str, str]:
    """The same of the source of one class."""
    comments = _comments(source)
    lines = source.splitlines()
    [tree] = ast.parse(source).body
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    for node in tree.body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                note = _note_at(node, comments, lines)
                found |= {name: note} if note else {}
                found |= {name: COMMON[name]} if name in COMMON else {}
            case _:
                pass  # Methods, and the docstring.
    return found


def _note_at(node: ast.stmt, comments: dict[int, tuple[int, str]], lines: list[str]) -> str:
    """Above the statement, beside it, and beside it further down."""
    assert node.end_lineno is not None

    def alone(number: int) -> bool:
        return number in comments and lines[number - 1].lstrip().startswith("#")

    first = node.lineno
    while alone(first - 1) and comments[first - 1][0] == node.col_offset:
        first -= 1
    last = node.end_lineno
    while alone(last + 1) and comments[last + 1][0] > node.col_offset:
        last += 1
    return " ".join(comments[n][1] for n in range(first, last + 1) if n in comments)


def _comments(source: str) -> dict[int, tuple[int, str]]:
    """Line -> the column where its comment begins, and what it says."""
    return {
        token.start[0]: (token.start[1], token.string.removeprefix("#").strip())
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
