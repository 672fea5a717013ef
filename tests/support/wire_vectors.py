"""The golden facts of `tests/vectors/wire/facts.json`: one of each kind, and a batch of three.

Every field has a value made from its name and type, so that a new kind or field enters by itself;
`python -m tests.support.wire_vectors` then writes the file anew. A line that changes there is a
changed wire: facts are kept for ever as they were encoded. Add kinds and fields, change none.
"""

from __future__ import annotations

import enum
import json
import types
import typing
from pathlib import Path
from typing import Any

import msgspec

from edge.messages import (
    FACT_KINDS,
    BatchHeader,
    Fact,
    Gap,
    Stream,
    digest_of,
    encode_batch,
    encode_fact,
)
from tests.support import facts

VECTORS = Path(__file__).parent.parent / "vectors" / "wire" / "facts.json"


def example(kind: Any, name: str) -> Any:
    """One recognisable value of a field's type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return example(arguments[0], name)
    if origin is tuple:
        inner = arguments[:1] if arguments[1:] == (...,) else arguments
        return tuple(example(each, name) for each in inner)
    if origin is dict:
        return {name: example(arguments[1], name)}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return next(iter(kind))  # Members are appended: the first one stays.
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = typing.get_type_hints(kind)
        return kind(**{each: example(hints[each], each) for each in kind.__struct_fields__})
    simple: dict[Any, Any] = {str: f"{name} №1", int: len(name), bool: True, bytes: name.encode()}
    return simple[kind]


def one_of_each() -> list[Fact]:
    """Every kind, each for itself: a field added to one changes no other's line."""
    header = facts.stamp(2, digest_of(b"the fact before"))
    return [msgspec.structs.replace(example(kind, ""), **header) for kind in FACT_KINDS]


def chained(kinds: tuple[type[Fact], ...] = FACT_KINDS) -> list[Fact]:
    """One of each, numbered from 1, each with the digest of the one before."""
    chain: list[Fact] = []
    previous = ""
    for sequence, kind in enumerate(kinds, start=1):
        header = facts.stamp(sequence, previous)
        chain.append(msgspec.structs.replace(example(kind, ""), **header))
        previous = digest_of(encode_fact(chain[-1]))
    return chain


def header_for(bodies: list[bytes], *, first: int = 1, gap: Gap | None = None) -> BatchHeader:
    return BatchHeader(
        device="till-1",
        stream=Stream.MAIN,
        epoch="00c0ffee00c0ffee",
        first=first,
        count=len(bodies),
        digest=digest_of(bodies[-1]) if bodies else "",
        gap=gap,
    )


def vectors() -> dict[str, object]:
    bodies = [encode_fact(fact) for fact in chained(FACT_KINDS[:3])]
    gap = Gap(source=1, target=2, digest=digest_of(bodies[1]), counts={"access": 1})
    return {
        "facts": [
            {
                "kind": str(fact.__struct_config__.tag),
                "bytes": encode_fact(fact).decode(),
                "digest": digest_of(encode_fact(fact)),
            }
            for fact in one_of_each()
        ],
        "batch": lines_of(header_for(bodies), bodies),
        "batch_behind_a_gap": lines_of(header_for(bodies[2:], first=3, gap=gap), bodies[2:]),
    }


def lines_of(header: BatchHeader, bodies: list[bytes]) -> list[str]:
    return encode_batch(header, bodies).decode().split("\n")


def main() -> None:
    VECTORS.parent.mkdir(parents=True, exist_ok=True)
    VECTORS.write_text(json.dumps(vectors(), ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
