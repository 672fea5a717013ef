"""The words of a scenario's file: what may stand where, and of which type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# What a step may do, and what belongs to it.
VERBS: Final[Mapping[str, tuple[str, ...]]] = {
    "tap": ("at", "age", "tier", "counter"),
    "fail_read": ("at",),
    "walk": (),
    "move": ("active",),
    "lose": (),
    "wait": (),
    "ask": ("with",),
    "sign_in": ("pin",),
    "order": ("point", "after", "valid", "replay"),
    "change": (),
    "disk": (),
    "wire": ("works",),
    "reader": ("up",),
    "restart": ("away",),
    "hear": (),
    "city_time": (),
}
EXPECTED: Final = ("facts", "screen", "text", "lines", "opens", "see", "answer")
STEP_KEYS: Final = frozenset({"note", "lane", *EXPECTED})
# What real processes can be made to do; the rest needs a hand on clock, wires or disk.
LIVE_VERBS: Final = ("tap", "walk", "move", "wait", "ask", "sign_in", "order")

# Types of what is written in each place.
TOP: Final[Mapping[str, type]] = {
    "title": str,
    "live": bool,
    "start": list,
    "station": dict,
    "clock": dict,
    "lists": dict,
    "site": dict,
    "schedules": dict,
    "people": dict,
    "visitors": dict,
    "step": list,
}
STATION: Final[Mapping[str, type]] = {
    "kind": str,
    "lane": str,
    "lanes": int,
    "active": list,
    "wait": str,
}
CLOCK: Final[Mapping[str, type]] = {"local": str, "zone": str, "trusted": bool}
LISTS: Final[Mapping[str, type]] = {"age": str, "held": bool, "this_boot": bool, "keys": bool}
PERSON: Final[Mapping[str, type]] = {
    "category": str,
    "schedule": str,
    "here": bool,
    "suspended": bool,
    "hot": str,
    "cards": list,
    "tier": int,
    "valid_from": str,
    "valid_until": str,
    "wards": list,
    "barred": list,
    "pin": str,
    "roles": list,
}
STEP: Final[Mapping[str, type]] = {
    "note": str,
    "lane": str,
    "tap": str,
    "at": str,
    "age": str,
    "tier": int,
    "counter": int,
    "fail_read": str,
    "walk": str,
    "move": str,
    "active": bool,
    "lose": str,
    "wait": str,
    "ask": str,
    "with": dict,
    "sign_in": str,
    "pin": str,
    "order": str,
    "point": str,
    "after": str,
    "valid": str,
    "replay": bool,
    "change": dict,
    "disk": str,
    "wire": str,
    "works": bool,
    "reader": str,
    "up": bool,
    "restart": str,
    "away": str,
    "hear": bool,
    "city_time": str,
    "facts": list,
    "screen": dict,
    "text": dict,
    "lines": dict,
    "opens": list,
    "see": dict,
    "answer": str,
}
assert set(STEP) == {*VERBS, *(key for more in VERBS.values() for key in more), *STEP_KEYS}
