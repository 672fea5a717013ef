"""The photo of somebody who is on a screen of this station now: of nobody else, and to leave by the
station's own page alone."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any, Final

from edge import health
from edge.agent import Agent
from edge.model import CorruptData, Moment
from edge.offline_cache.photos import PhotoFiles
from edge.trust import unseal_bytes

COLUMN: Final = "photo"
WHOSE: Final = ("cardholder", "child")  # How screens name the person beside a `photo`.
# By what a file begins with (PNG 5.2, JFIF, RFC 9649); what is none of them is shown to nobody.
TYPES: Final = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"))


def _photo(agent: Agent, body: dict[str, Any], moment: Moment) -> dict[str, Any]:
    """`hash`, as it stands on the screen."""
    wanted = body.get("hash")
    shown = dict(_photos_in(health.screens(agent, moment)))
    keys = agent.keys_of(agent.parts.cache.scopes["people"])
    if not isinstance(wanted, str) or wanted not in shown or keys is None:
        return _nothing()
    sealed = PhotoFiles(agent.parts.settings.folders.state).get(wanted)
    if sealed is None:
        return _nothing()
    try:
        data = unseal_bytes(
            keys.seal, sealed, scope=keys.scope, row_key=shown[wanted].encode(), column=COLUMN
        )
    except CorruptData:
        agent.count("photo_unsealing_failed")
        return _nothing()
    kind = next((kind for magic, kind in TYPES if data.startswith(magic)), "")
    if not kind:
        agent.count("photo_of_no_kind")
        return _nothing()
    return {"ok": True, "type": kind, "data": base64.b64encode(data).decode()}


def _nothing() -> dict[str, Any]:
    return {"ok": False, "error": "no photo of this hash is on a screen now"}


def _photos_in(shown: object) -> Iterator[tuple[str, str]]:
    """Every hash on the screens, and whose it is."""
    if isinstance(shown, dict):
        found = shown.get("photo")
        whose = next((shown[name] for name in WHOSE if shown.get(name)), "")
        if found and whose:
            yield str(found), str(whose)
    if isinstance(shown, dict | list | tuple):
        for part in shown.values() if isinstance(shown, dict) else shown:
            yield from _photos_in(part)


HANDLERS: Final[dict[str, Callable[[Agent, dict[str, Any], Moment], dict[str, Any]]]] = {
    "photo": _photo,
}
